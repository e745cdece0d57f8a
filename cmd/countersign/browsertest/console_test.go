package browsertest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// signIn opens the shared demo's console.
func signIn(t *testing.T, s screen) *tab {
	t.Helper()
	p := visit(t, s)
	p.signInAtConsole()
	return p
}

func (p *tab) signInAtConsole() {
	p.t.Helper()
	p.open(p.lab.demo.console + "/admin/sign-in")
	p.fill("E-mail", operator)
	p.fill("Password", operatorPassword)
	p.press("Sign in")
	if at := p.address(); at.Path != "/admin" {
		p.t.Fatalf("signing in leads to %s, want /admin", at)
	}
}

func TestSetUp(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := visit(t, desk)
	p.open(s.setUp)
	p.says("Set up the first operator")
	p.inspect("set-up")
	p.fill("E-mail", operator)
	p.fill("Your name", "  ")
	p.fill("Password", operatorPassword)
	p.pressTo(http.StatusUnprocessableEntity, "Create and sign in")
	if invalid := p.texts("[aria-invalid=true]"); len(invalid) != 1 || p.text("#name-error") == "" {
		t.Errorf("the page does not say what is wrong:\n%s", p.text("body"))
	}
	p.inspect("set-up-mistake")
	p.fill("Your name", "Olga Petrova")
	p.fill("Password", operatorPassword)
	p.press("Create and sign in")
	p.says("Import your roster")
	p.inspect("progress-empty")
	page := p.document()

	other := visit(t, desk)
	other.openTo(http.StatusNotFound, s.setUp)
	other.says("This link was used or has expired")
	other.inspect("entry-used")
	other.press("Sign in with a password")
	other.inspect("sign-in")
	other.fill("E-mail", operator)
	other.fill("Password", "not the password")
	other.pressTo(http.StatusUnauthorized, "Sign in")
	other.mentions("The e-mail address or the password is wrong.")
	other.inspect("sign-in-wrong")
	other.fill("Password", operatorPassword)
	other.press("Sign in")
	other.says("Import your roster")
	other.press("Clients")
	other.mentions("There are no clients yet.")
	other.inspect("clients-empty")
	other.press("Imports")
	other.mentions("Nothing was imported yet.")
	other.inspect("imports-empty")
	other.press("Sign out")
	other.mentions("You are signed out.")
	other.open(s.base + "/admin/clients")
	other.says("Sign in")

	s.command(t, "name,owner_email\nAcme Bakery,maria@acme-bakery.example\n", "import", "-")
	p.until("the first client", `document.querySelector("h1").textContent === "0 of 1 connected"`)
	p.inspect("progress-imported")

	// The service goes, and comes back.
	if err := s.process.stop(); err != nil {
		t.Fatal(err)
	}
	p.until("the news that the connection is lost", `!document.querySelector("[data-lost]").hidden`)
	p.inspect("progress-lost")
	s.start(t, "Countersign serves")
	p.until("the end of that", `document.querySelector("[data-lost]").hidden`)
	p.troubles.take() // Of course requests failed meanwhile.
	if p.document() != page {
		t.Error("the page was reloaded; it should have moved by itself")
	}

	// A session that ends takes the page to the door.
	eval[chromedp.Void](p, `void fetch("/admin/sign-out", { method: "POST" })`)
	p.until("the sign-in page", `location.pathname === "/admin/sign-in"`)
}

func TestSearch(t *testing.T) {
	t.Parallel()
	p := signIn(t, desk)
	p.press("Clients")
	p.inspect("clients")
	page := p.document()
	p.fill("Search", "lum bik")
	p.until("what was searched", `[...document.querySelectorAll("#list tbody th a")].map((e) => e.innerText).join() === "Café Lumière Bike Shop"`)
	if q := p.address().Query().Get("q"); q != "lum bik" {
		t.Errorf("the address says %q, want the search, for the back button", q)
	}
	p.inspect("clients-found")
	run(p, chromedp.KeyEvent(" nobody"))
	p.until("the news that nobody matches", `document.querySelector("#list").innerText.includes("No client matches.")`)
	p.inspect("clients-none")
	if typed := eval[string](p, "document.activeElement.value"); typed != "lum bik nobody" {
		t.Errorf("the search field has lost the focus or what was typed: %q", typed)
	}
	if p.document() != page {
		t.Error("the search reloaded the page")
	}
	p.reload()
	p.mentions("No client matches.")
	p.pressFirst("#list a")
	if rows := p.texts("#list tbody tr"); len(rows) != 50 {
		t.Errorf("%d clients are listed, want a page of 50", len(rows))
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	var bounced []string
	for _, row := range roster(t) {
		if strings.HasSuffix(row[3], closed) {
			bounced = append(bounced, row[1])
		}
	}
	p := signIn(t, desk)
	p.until("the bounces", `(n) => [...document.querySelectorAll(".stalls a")].some((e) => e.innerText.replace(/\s+/g, " ").trim() === n + " Bounced")`, len(bounced))
	p.press("Clients")
	p.choose("Stage", "Stalled")
	p.until("those that are stalled", `[...document.querySelectorAll("#list .state .stage")].every((e) => e.innerText === "Stalled")`)
	p.choose("Stalled because", "Bounced")
	p.until("those whose mail came back", `(n) => document.querySelectorAll("#list tbody tr").length === n`, len(bounced))
	if got := p.texts("#list tbody th a"); !slices.Equal(got, bounced) {
		t.Errorf("the list shows %q, want %q", got, bounced)
	}
	p.until("the filter in the address", `location.search === "?stage=stalled&reason=bounced"`)
	p.pressFirst("#list tbody th a")
	p.mentions("The owner’s address takes no mail.")
	p.inspect("client-bounced")
}

func TestPagesOfClients(t *testing.T) {
	t.Parallel()
	p := signIn(t, desk)
	p.press("Clients")
	listed := pagesOfClients(p)
	if len(listed) < 120 {
		t.Errorf("the pages list %d clients, want all 120", len(listed))
	}
	p.inspect("clients-last")
	p.press("First page")
	if first := p.texts("#list tbody th a"); first[0] != listed[0] {
		t.Errorf("the first page begins with %q, want %q", first[0], listed[0])
	}
}

// pagesOfClients goes on to the last page and returns the names in their order.
func pagesOfClients(p *tab) (names []string) {
	p.t.Helper()
	seen := map[string]bool{}
	for {
		for _, link := range eval[[]string](p, `[...document.querySelectorAll("#list tbody th a")].map((e) => e.href + " " + e.innerText)`) {
			address, name, _ := strings.Cut(link, " ")
			if seen[address] {
				p.t.Errorf("%s is on two pages", name)
			}
			seen[address] = true
			names = append(names, name)
		}
		if !eval[bool](p, `document.querySelector("a[rel=next]") !== null`) {
			return names
		}
		p.press("Next page")
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	const owner, username = "daniel@fitzgeraldbikeshop.example", "agency+lodz-pierogi@northwind.example"
	d.links(t, owner)
	p := signIn(t, desk)
	p.open(d.console + "/admin/clients/ref:MB-1111")
	p.says("Łódź Pierogi")
	p.inspect("client")
	for _, want := range []string{username, owner, "Daniel Fitzgerald", "a07ehwjtpvqn6", "US/Eastern", "retail", "Standard", "Sent"} {
		p.mentions(want)
	}
	call(p, browser.SetPermission, browser.SetPermissionParams{
		Permission:       &browser.PermissionDescriptor{Name: "clipboard-read"},
		Setting:          browser.PermissionSettingGranted,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	p.touch("Copy the username")
	p.until("the copy", `document.querySelector("[data-copy]").innerText === "Copied"`)
	if got := run(p, chromedp.Evaluate[string]("navigator.clipboard.readText()", chromedp.EvalAwaitPromise)); got != username {
		t.Errorf("the clipboard has %q, want %q", got, username)
	}
	p.until("the button's own words", `document.querySelector("[data-copy]").innerText !== "Copied"`)

	p.openTo(http.StatusNotFound, d.console+"/admin/clients/ref:nobody")
	p.says("Page not found")
	p.inspect("not-found")
	p.press("Go to the first page")
	p.mentions("What waits for you")
}

func TestNotFoundForAnybody(t *testing.T) {
	t.Parallel()
	p := visit(t, phone)
	p.openTo(http.StatusNotFound, p.lab.demo.console+"/nowhere")
	p.says("Page not found")
	if links := p.texts("main a"); len(links) > 0 {
		t.Errorf("an owner is sent to %q", links)
	}
}

func TestConsoleWithoutScripts(t *testing.T) {
	t.Parallel()
	p := visitWithoutScripts(t, desk)
	p.signInAtConsole()
	p.mentions("What waits for you")
	p.press("Clients")
	if listed := pagesOfClients(p); len(listed) < 120 {
		t.Errorf("the pages list %d clients, want all 120", len(listed))
	}
	p.press("First page")
	p.fill("Search", "lum bik")
	p.press("Show")
	p.press("Café Lumière Bike Shop")
	p.mentions("Invitation queued")
	if copies := eval[int](p, `[...document.querySelectorAll("[data-copy]")].filter((e) => e.checkVisibility()).length`); copies != 0 {
		t.Error("a button shows that cannot work without scripts")
	}
	p.press("Imports")
	p.mentions("roster.csv")
	p.press("Sign out")
	p.says("Sign in")
}
