package browsertest_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// One client with an account at the sandbox, and one row that an import rejects.
const roster2 = "ref,name,owner_name,owner_email,account_id\n" +
	"NEW-1,Somewhere Else Ltd.,Elsa Wherry," + stranger + ",a07esomewhere\n" +
	"NEW-2,No Address Inc.,Nobody,nobody at nowhere,\n"

func TestWholeWalk(t *testing.T) {
	t.Parallel()
	d := newDemo(t)

	console := visit(t, desk)
	enterConsole(console, d.entry)
	console.says("0 of 120 connected")
	page := console.document()

	out := d.command(t, 3, roster2, "import", "--invite", "-")
	for _, want := range []string{"1 created", "1 rejected", "1 invitations queued"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("the import does not say %q:\n%s", want, out)
		}
	}
	console.until("the imported client", `document.querySelector("h1").textContent === "0 of 121 connected"`)

	mail := visit(t, phone)
	mail.open(d.mail)
	mail.inspect("mail-list")
	mail.until("the mail", `(to) => [...document.querySelectorAll(".mails .to")].some((e) => e.innerText === to)`, stranger)
	mail.fill("Search by recipient, sender or subject", stranger)
	mail.press("Search")
	mail.pressFirst(".mails a")
	mail.says(agency + " asks you to connect Somewhere Else Ltd. on Constant Contact")
	mail.inspect("mail")

	owner := mail.follow(func() { mail.touchInFrame("See what is asked and continue") })
	owner.says("Connect Somewhere Else Ltd. to " + agency)
	owner.mentions("Hello Elsa Wherry.")
	link := owner.address()
	if !regexp.MustCompile(`^/i/[a-z2-7]{32}$`).MatchString(link.Path) || link.RawQuery != "" {
		t.Errorf("the invitation is at %s", link)
	}
	owner.inspect("invitation")

	owner.press("Continue to Constant Contact")
	owner.says("Sign in")
	owner.inspect("sandbox-sign-in")
	owner.signInAtProvider(stranger)
	owner.inspect("sandbox-consent")
	owner.press("Allow")
	owner.says("Connected, thank you")
	owner.mentions(agency + " now has access to the Constant Contact account of Somewhere Else Ltd.")
	if at := owner.address(); !regexp.MustCompile(`^/consent/[0-9a-f-]{36}$`).MatchString(at.Path) || at.RawQuery != "" || at.Fragment != "" {
		t.Errorf("the thank-you page is not at a clean address: %s", at)
	}
	token := strings.TrimPrefix(link.Path, "/i/")
	if html := eval[string](owner, "document.documentElement.outerHTML"); strings.Contains(html, token) {
		t.Error("the thank-you page holds the token of the invitation")
	}
	owner.inspect("connected")

	console.until("the first consent", `document.querySelector("h1").textContent === "1 of 121 connected"`)
	consent(t, d, reachable(t)[0])
	console.until("the second consent", `document.querySelector("h1").textContent === "2 of 121 connected"`)
	if console.document() != page {
		t.Error("the progress page was reloaded; it should have moved by itself")
	}

	console.press("Clients")
	console.fill("Search", "somewhere")
	console.until("the one client", `document.querySelectorAll("#list tbody tr").length === 1`)
	console.press("Somewhere Else Ltd.")
	console.says("Somewhere Else Ltd.")
	if banner := console.text(".banner"); !strings.HasPrefix(banner, "Authorized") {
		t.Errorf("the client's page says %q, want Authorized", banner)
	}
	// The thank-you goes out meanwhile.
	history := slices.DeleteFunc(console.texts(".events li p"), func(line string) bool { return strings.HasPrefix(line, "Thank-you") })
	want := []string{"Connected", "Pressed Continue", "Invitation sent", "Invitation queued", "Imported"}
	if !slices.EqualFunc(history, want, strings.HasPrefix) {
		t.Errorf("the history is %q, want %q", history, want)
	}
	console.inspect("client-authorized")

	var status struct {
		Total  int
		Stages map[string]int
	}
	if err := json.Unmarshal([]byte(d.command(t, 0, "", "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	if status.Total != 121 || status.Stages["authorized"] != 2 {
		t.Errorf("status --json says %+v, want 2 of 121 authorized", status)
	}

	provider := visit(t, desk)
	provider.open(d.sandbox)
	provider.inspect("sandbox-control")
}

// enterConsole signs in by a one-time link, which the page's script presses.
func enterConsole(p *tab, link string) {
	p.t.Helper()
	p.arrives(200, func() {
		p.start(link)
		p.until("the console", `location.pathname === "/admin"`)
	})
}

// signInAtProvider fills in the provider's sign-in page and arrives at its question.
func (p *tab) signInAtProvider(login string) {
	p.t.Helper()
	p.fill("Username", login)
	p.fill("Password", sandboxPassword)
	p.press("Sign in")
	p.says("Allow access?")
}

// consent is an owner's straight way, in a browser of their own.
func consent(t *testing.T, d *demo, o owner) *tab {
	t.Helper()
	p := visit(t, phone)
	link, _ := d.links(t, o.email)
	p.open(link)
	p.press("Continue to Constant Contact")
	p.signInAtProvider(o.email)
	p.press("Allow")
	p.says("Connected, thank you")
	return p
}
