package browsertest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestClientsAtWork has one operator work at the list with scripts, and without, in one service of 60 clients.
func TestClientsAtWork(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var file strings.Builder
	file.WriteString("ref,name,owner_email,tags\n")
	for i := range 60 {
		fmt.Fprintf(&file, "S-%02d,Shop %02d,shop%d@shops.example,%s\n", i, i, i, []string{"even", "odd"}[i%2])
	}
	s.command(t, file.String(), "import", "-")
	p := visit(t, desk)
	p.open(s.setUp)
	p.fill("E-mail", operator)
	p.fill("Your name", "Olga Petrova")
	p.fill("Password", operatorPassword)
	p.press("Create and sign in")
	goByKeys(p)
	workInBulk(p)
	chooseColumns(p)

	plain := visitWithoutScripts(t, desk)
	plain.open(s.base + "/admin/sign-in")
	plain.fill("E-mail", operator)
	plain.fill("Password", operatorPassword)
	plain.press("Sign in")
	changeClient(p, plain)
	workWithoutScripts(plain)
}

// take chooses an option of a select whose label is for screen readers only.
func (p *tab) take(selector, option string) {
	p.t.Helper()
	eval[chromedp.Void](p, `(selector) => document.querySelector(selector).focus()`, selector)
	run(p, chromedp.KeyEvent(option))
}

// tick clicks a checkbox.
func (p *tab) tick(selector string, modifiers ...chromedp.MouseOption) {
	p.t.Helper()
	x, y := p.spot(selector, `(selector) => [...document.querySelectorAll(selector)].slice(0, 1)`)
	run(p, chromedp.MouseClickXY(x, y, modifiers...))
}

// workInBulk pauses all that match, and takes it back, and deletes what was ticked.
func workInBulk(p *tab) {
	p.t.Helper()
	p.pressFirst(`header a[href="/admin/clients"]`)
	p.touch("More filters")
	p.fill("Tag", "odd")
	p.until("what has the tag", `document.querySelectorAll("#list tbody tr").length === 30 && document.querySelector(".chips")`)
	p.inspect("clients-tagged")
	p.tick("#all")
	p.take("#action", "Pause")
	p.press("Preview")
	p.says("Pause: 30 clients")
	p.inspect("bulk-new")
	p.press("Pause: 30 clients")
	p.until("the end of the job", `document.querySelector("#job h2").innerText === "Done"`)
	p.mentions("all that a filter selected")
	p.inspect("bulk-job")
	p.press("Undo it")
	p.says("Undo: pause")
	p.until("the end of that", `document.querySelector("#job h2").innerText === "Done"`)
	p.press("Bulk actions")
	p.inspect("bulk")

	// Some by the mouse: one, and with Shift all up to another.
	p.pressFirst(`header a[href="/admin/clients"]`)
	p.tick("#list tbody tr:nth-child(2) input")
	p.tick("#list tbody tr:nth-child(5) input", chromedp.ButtonModifiers(chromedp.ModifierShift))
	if said := p.text("[data-ticked]"); said != "4 selected" {
		p.t.Errorf("the list says %q", said)
	}
	p.take("#action", "Delete")
	p.press("Preview")
	p.says("Delete: 4 clients")
	p.fill("Type 4 to confirm that many", "5")
	p.pressTo(http.StatusUnprocessableEntity, "Delete: 4 clients")
	p.mentions("Nothing is deleted")
	p.inspect("bulk-new-delete")
	p.fill("Type 4 to confirm that many", "4")
	p.press("Delete: 4 clients")
	p.until("the end of the job", `document.querySelector("#job h2").innerText === "Done"`)
	p.pressFirst(`header a[href="/admin/clients"]`)
	p.mentions("56 of 56 clients")
}

// chooseColumns chooses the columns of the list, which stay so, and sorts by one.
func chooseColumns(p *tab) {
	p.t.Helper()
	p.pressFirst(`header a[href="/admin/clients"]`)
	p.touch("Columns")
	p.tick("#column-tags")
	p.tick("#column-username")
	p.press("Show these")
	p.press("Progress")
	p.pressFirst(`header a[href="/admin/clients"]`)
	if heads := p.texts("#list thead th"); !slices.Equal(heads, []string{"Client", "Stage", "Owner", "Tags", "Last change"}) {
		p.t.Errorf("the columns are %q", heads)
	}
	p.press("Client")
	p.press("Client ↑")
	if first := p.texts("#list tbody th a")[0]; first != "Shop 59" {
		p.t.Errorf("sorted by name backwards, the list begins with %q", first)
	}
	p.inspect("clients-sorted")
}

// goByKeys goes through the list by its keys.
func goByKeys(p *tab) {
	p.t.Helper()
	p.pressFirst(`header a[href="/admin/clients"]`)
	press := func(keys string) { run(p, chromedp.KeyEvent(keys)) }
	press("/")
	if at := eval[string](p, "document.activeElement.id"); at != "q" {
		p.t.Errorf("the slash leads to %q", at)
	}
	eval[chromedp.Void](p, "document.activeElement.select()")
	press("jx?") // is typed, as no key works there
	if typed := eval[string](p, "document.activeElement.value"); typed != "jx?" {
		p.t.Errorf("the search has %q", typed)
	}
	p.until("the news that nobody matches", `document.querySelector("#list").innerText.includes("No client matches.")`)
	p.press("Show all 60")
	press("j")
	press("j")
	press("j")
	press("j")
	press("k")
	press("x")
	if ticked := p.texts("tr:has(:checked) th a"); !slices.Equal(ticked, []string{"Shop 02"}) {
		p.t.Errorf("x has selected %q", ticked)
	}
	press("?")
	p.until("the keys", `document.querySelector("#keys").open`)
	p.inspect("clients-keys")
	p.touch("Close")
	p.until("the end of the keys", `!document.querySelector("#keys").open`)
	press("k")
	press("j")
	p.arrives(http.StatusOK, func() { press("\r") })
	p.says("Shop 02")
}

// changeClient edits a client, hands a link over, reads a mail, and deletes it. Somebody else edits it, too.
func changeClient(p, other *tab) {
	p.t.Helper()
	p.pressFirst(`header a[href="/admin/clients"]`)
	p.press("Shop 00")
	p.press("Edit")
	p.inspect("client-edit")
	p.fill("Name", "Shop One")
	other.open(p.address().String())
	other.fill("Name", "Shop Uno")
	other.press("Save")
	other.mentions("The changes are saved.")
	p.pressTo(http.StatusConflict, "Save")
	p.mentions("Theirs: Shop Uno")
	p.inspect("client-edit-clash")
	p.press("Save")
	p.says("Shop One")
	p.press("Hand a link over")
	p.press("Make a link")
	p.mentions("This link is shown once.")
	p.inspect("client-link")
	p.press("Back to Shop One")
	p.press("Send the invitation")
	p.press("Invitation")
	p.mentions("The secret part of the owner’s link is left out here.")
	p.inspect("client-mail")
	p.press("Shop One")
	p.press("Delete")
	p.inspect("client-delete")
	p.tick("#sure")
	p.press("Delete the client")
	p.mentions("The client is deleted.")
}

// workWithoutScripts does the like with nothing but forms.
func workWithoutScripts(p *tab) {
	p.t.Helper()
	p.pressFirst(`header a[href="/admin/clients"]`)
	p.touch("Columns")
	p.tick("#column-route")
	p.press("Show these")
	p.tick("#list tbody tr:nth-child(1) input")
	p.take("#action", "Add a tag")
	p.press("Preview")
	p.fill("Tag", "harbour")
	p.press("Add a tag: 1 client")
	p.until("the end of the job", `document.querySelector("#job h2")?.innerText === "Done" || (location.reload(), false)`)
	p.pressFirst(`header a[href="/admin/clients"]`)
	p.pressFirst("#list tbody th a")
	p.mentions("harbour")
	p.press("Edit")
	p.fill("Tags, with a comma between them", "quay")
	p.press("Save")
	p.mentions("quay")
}
