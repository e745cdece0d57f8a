package browsertest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// atProvider takes an owner to the provider's sign-in page.
func atProvider(t *testing.T, d *demo, o owner) *tab {
	t.Helper()
	p := visit(t, phone)
	link, _ := d.links(t, o.email)
	p.open(link)
	p.press("Continue to Constant Contact")
	p.says("Sign in")
	return p
}

// finish signs in and allows.
func (p *tab) finish(login string) {
	p.t.Helper()
	p.signInAtProvider(login)
	p.press("Allow")
	p.says("Connected, thank you")
}

func TestDeny(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	p := atProvider(t, d, o)
	p.signInAtProvider(o.email)
	p.press("Deny")
	p.says("Nothing was connected")
	p.inspect("denied")

	again := visit(t, phone)
	link, _ := d.links(t, o.email)
	again.open(link)
	again.mentions("Last time Constant Contact reported that access was not allowed.")
	again.inspect("invitation-denied")

	p.press("Start again")
	p.finish(o.email)
}

func TestWrongAccount(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	p := atProvider(t, d, o)
	p.signInAtProvider(stranger)
	p.press("Allow")
	p.says("That was another account")
	p.mentions("You signed in to the account of Somewhere Else Ltd.")
	p.mentions("We need the one of " + o.client)
	p.inspect("wrong-account")

	console := signIn(t, desk)
	console.open(d.console + "/admin/clients?q=" + o.ref)
	console.press(o.client)
	console.mentions("Wrong account")
	for _, want := range []string{"Another account consented", "Somewhere Else Ltd.", "a07esomewhere", o.account} {
		if text := console.text(".quarantine"); !strings.Contains(text, want) {
			t.Errorf("the quarantine does not mention %q: %s", want, text)
		}
	}
	console.inspect("client-quarantined")

	p.press("Try again")
	p.says("Sign in") // The provider's session is that of the wrong account and must not sign in by itself.
	p.finish(o.email)
}

func TestUnknownLink(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	p := visit(t, phone)
	p.openTo(http.StatusNotFound, d.console+"/i/"+strings.Repeat("a", 32))
	p.says("This link does not work")
	p.inspect("link")
	p.press("Send me a fresh link")
	p.says("Look into your mailbox")
	p.inspect("renewed")
}

func TestReplacedLink(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	old, _ := d.links(t, o.email)
	moved := "new." + o.email
	d.command(t, 0, asCSV(t, "ref,name,owner_name,owner_email", o.ref, o.client, o.name, moved), "import", "-")

	p := visit(t, phone)
	p.openTo(http.StatusNotFound, old)
	p.says("This link does not work")
	p.press("Send me a fresh link")
	p.says("Look into your mailbox")

	fresh, _ := d.links(t, moved)
	p.open(fresh)
	p.press("Continue to Constant Contact")
	p.finish(o.email)
}

func TestDecline(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	link, _ := d.links(t, o.email)
	p := visit(t, phone)
	p.open(link)
	p.touch("I don’t want this")
	p.press("No, do not connect")
	p.says("Thank you for telling us")
	p.inspect("declined")

	p.open(link) // A change of mind needs no new mail.
	p.press("Continue to Constant Contact")
	p.finish(o.email)
}

func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	link, unsubscribe := d.links(t, o.email)
	p := visit(t, phone)
	p.open(unsubscribe)
	p.says("Stop reminders?")
	p.inspect("unsubscribe")
	p.press("Stop reminders")
	p.says("No more reminders")
	p.inspect("unsubscribed")

	p.open(link)
	p.says("Connect " + o.client + " to " + agency)
}

func TestBackAfterSuccess(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	p := consent(t, d, o)
	p.reload()
	p.says("Connected, thank you")
	p.back()
	p.says("Allow access?")
	p.press("Allow")
	p.says("Connected, thank you")

	link, _ := d.links(t, o.email)
	p.open(link)
	p.says(o.client + " is connected")
	p.inspect("invitation-connected")
}

func TestDoubleClick(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	link, _ := d.links(t, o.email)
	p := visit(t, phone)
	p.open(link)
	p.doubleTouch("Continue to Constant Contact")
	p.until("the provider", `document.querySelector("h1")?.innerText === "Sign in" && document.readyState === "complete"`)
	p.signInAtProvider(o.email)
	p.doubleTouch("Allow")
	p.until("the end", `location.pathname.startsWith("/consent/") && document.readyState === "complete"`)
	p.says("Connected, thank you")
}

func TestOtherBrowser(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	mailApp := atProvider(t, d, o)

	phoneBrowser := visit(t, phone)
	phoneBrowser.open(mailApp.address().String())
	phoneBrowser.signInAtProvider(o.email)
	phoneBrowser.press("Allow")
	phoneBrowser.says("Please start again here")
	phoneBrowser.inspect("other-browser")
	if text := phoneBrowser.text("body"); strings.Contains(text, o.client) {
		t.Errorf("a browser that did not begin is told whom this is about:\n%s", text)
	}
	phoneBrowser.press("Start again")
	phoneBrowser.finish(o.email)

	mailApp.finish(o.email) // The first browser was not robbed of its walk.
}

// Who opens the link in two tabs finishes in both.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	link, _ := d.links(t, o.email)
	first := visit(t, phone)
	first.open(link)
	second := first.another()
	second.open(link)
	first.press("Continue to Constant Contact")
	second.press("Continue to Constant Contact")
	second.finish(o.email)
	first.finish(o.email)

	third := first.another() // The address of the thank-you page may be loaded again at any time.
	third.open(first.address().String())
	third.says("Connected, thank you")
}

// another opens one more tab of the same browser.
func (p *tab) another() *tab {
	p.t.Helper()
	next := &tab{t: p.t, lab: p.lab, screen: p.screen, scripts: p.scripts, troubles: newTroubles()}
	next.attach(p.ctx)
	return next
}

// A browser that keeps none of our cookies is told so, in place of being sent round in circles.
func TestWithoutCookies(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ann := s.accounts(t)[0]
	s.command(t, "ref,name,owner_name,owner_email,account_id\nA,"+ann.Organization+",Ann,"+ann.login()+","+ann.ID+"\n", "import", "-")
	need(t).keepNoCookies(t, s.base)
	p := visit(t, phone)
	p.open(s.link(t, "A"))
	p.press("Continue to Constant Contact")
	for _, button := range []string{"Allow", "Start again"} {
		if button == "Start again" {
			p.press(button)
		}
		p.signIn(ann)
		p.press("Allow")
		p.says("Please use another browser")
		p.mentions("allow cookies for " + p.address().Host)
		if text := p.text("main"); strings.Contains(text, ann.Organization) {
			t.Errorf("a browser that did not begin is told whom this is about:\n%s", text)
		}
	}
	p.inspect("no-cookies")
	if html := eval[string](p, "document.documentElement.outerHTML"); strings.Contains(html, "/i/") {
		t.Error("the page holds the address of the invitation")
	}
}

// keepNoCookies has Chromium refuse the cookies of one address, as its settings page does.
func (l *lab) keepNoCookies(t *testing.T, address string) {
	t.Helper()
	p := &tab{t: t, lab: l, screen: desk, scripts: true, troubles: newTroubles()}
	ctx, end := chromedp.NewContext(l.chromium)
	defer end()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	p.ctx = ctx
	p.start("chrome://settings/content/cookies")
	p.until("the settings", `typeof chrome.send === "function" && document.readyState === "complete"`)
	eval[chromedp.Void](p, `(address) => chrome.send("setCategoryPermissionForPattern", [address, "", "cookies", "block", false])`, address)
}

// A session that somebody has at the provider signs in silently if nothing is sent against it. Then the account
// is found to be another one, and the next attempt asks who signs in.
func TestSilentSession(t *testing.T) {
	t.Parallel()
	s := newService(t)
	accounts := s.accounts(t)
	ann, eve := accounts[0], accounts[1]
	s.command(t, "ref,name,owner_name,owner_email,account_id\nA,"+ann.Organization+",Ann,"+ann.login()+","+ann.ID+"\n", "import", "-")
	p := visit(t, phone)
	p.open(s.link(t, "A"))
	p.press("Continue to Constant Contact")
	p.signIn(eve) // And away, before anything is allowed.
	p.open(s.link(t, "A"))
	p.press("Continue to Constant Contact")
	p.says("Sign in") // The setting's default sees to it.

	if err := s.process.stop(); err != nil {
		t.Fatal(err)
	}
	s.settings = append(s.settings, "COUNTERSIGN_OAUTH_PROMPT=")
	s.start(t, "Countersign serves")
	p.open(s.link(t, "A"))
	p.press("Continue to Constant Contact")
	p.says("Allow access?")
	p.press("Allow")
	p.says("That was another account")
	p.mentions("You signed in to the account of " + eve.Organization)
	p.press("Try again")
	p.says("Sign in")
	p.signIn(ann)
	p.press("Allow")
	p.says("Connected, thank you")
}

func TestForgottenCookie(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	p := atProvider(t, d, o)
	p.signInAtProvider(o.email)
	for _, cookie := range call(p, network.GetCookies, network.GetCookiesParams{URLs: []string{d.console}}).Cookies {
		if strings.HasPrefix(cookie.Name, "consent-") {
			call(p, network.DeleteCookies, network.DeleteCookiesParams{Name: cookie.Name, URL: d.console})
		}
	}
	p.press("Allow")
	p.says("Please start again here")
	p.press("Start again")
	p.finish(o.email)
}

func TestCallbackOfNobody(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	p := visit(t, phone)
	for _, query := range []string{"", "?state=made-up&code=made-up", "?error=access_denied"} {
		p.open(d.console + "/oauth/callback" + query)
		p.says("Please start again")
		if at := p.address(); at.Path != "/consent" || at.RawQuery != "" {
			t.Errorf("the page is at %s, want /consent", at)
		}
	}
	p.inspect("stale")
}

func TestOwnerWithoutScripts(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	d.links(t, o.email)
	mail := visitWithoutScripts(t, phone)
	mail.open(d.mail)
	mail.fill("Search by recipient, sender or subject", o.email)
	mail.press("Search")
	mail.pressFirst(".mails a")
	mail.press("Text")
	link, _ := d.links(t, o.email)
	p := mail.follow(func() { mail.touch(link) })
	p.touch("Is this genuine?")
	p.mentions("Not sure?")
	p.press("Continue to Constant Contact")
	p.finish(o.email)
}

func TestProviderTrouble(t *testing.T) {
	t.Parallel()
	s := newService(t)
	accounts := s.accounts(t)
	first, second := accounts[0], accounts[1]
	s.command(t, "ref,name,owner_name,owner_email,account_id\n"+
		"A,"+first.Organization+",Ann,"+first.login()+","+first.ID+"\n"+
		"B,"+second.Organization+",Ben,"+second.login()+",\n", "import", "-")

	p := visit(t, phone)
	p.open(s.link(t, "A"))
	for _, trouble := range []struct{ fault, press, heading, name string }{
		{"authorize_unavailable", "Continue to Constant Contact", "Constant Contact does not answer right now", "unavailable"},
		{"token_narrow_scope", "Try again", "A permission is missing", "missing-scope"},
		{"authorize_wrong_issuer", "Try again", "That did not work", "failed"},
		{"token_503", "Try again", "Constant Contact does not answer right now", "unavailable"},
	} {
		s.fault(t, trouble.fault)
		p.press(trouble.press)
		if p.text("h1") == "Sign in" {
			p.signIn(first)
			p.press("Allow")
		}
		p.says(trouble.heading)
		p.inspect(trouble.name)
	}
	p.press("Try again")
	p.signIn(first)
	p.press("Allow")
	p.says("Connected, thank you")

	p.open(s.link(t, "B"))
	p.press("Continue to Constant Contact")
	p.signIn(first)
	p.press("Allow")
	p.says("This account is connected already")
	p.inspect("conflict")
	p.press("Try again")
	p.signIn(second)
	p.press("Allow")
	p.says("Connected, thank you")
}
