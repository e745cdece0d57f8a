package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// From an import over the API to the thank-you page.
func TestWalk(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"https", "http"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			b := serve(t, scheme)
			api := b.caller(t, admin.ScopeRead, admin.ScopeWrite, admin.ScopeLinks)
			api.call(t, http.MethodPost, "/imports?invite", rosterFile, "Content-Type", "text/csv").has(t, http.StatusCreated)
			var handed struct{ URL string }
			api.call(t, http.MethodPost, "/clients/ref:ACME%2F1/link", "").has(t, http.StatusCreated).into(t, &handed)
			link := strings.TrimPrefix(handed.URL, b.PublicURL)

			owner := b.browser(t)
			invitation := owner.get(t, link).has(t, http.StatusOK)
			if got := invitation.heading(t); got != "Connect Acme Bakery to "+agency {
				t.Errorf("heading %q", got)
			}
			invitation.says(t, "Hello Ada Moss.", "Continue to Constant Contact", "a•••@acme.example")
			invitation.silent(t, adaLogin)
			if diff := cmp.Diff([]string{link + "/begin", link + "/not-me", link + "/decline"}, posts(invitation.doc(t))); diff != "" {
				t.Errorf("forms (-want +got):\n%s", diff)
			}

			begun := owner.post(t, link+"/begin", nil)
			cookie := begun.cookie(t)
			name, secure := "consent-", false
			if scheme == "https" {
				name, secure = "__Host-consent-", true
			}
			if !strings.HasPrefix(cookie.Name, name) || cookie.Secure != secure || !cookie.HttpOnly ||
				cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge != 3600 {
				t.Errorf("cookie %s", cookie)
			}
			provider, err := url.Parse(begun.leads(t))
			if err != nil {
				t.Fatal(err)
			}
			q := provider.Query()
			if q.Get("code_challenge_method") != "S256" || q.Get("prompt") != "login" || len(q.Get("state")) < 43 {
				t.Errorf("the owner is sent to %s", provider)
			}
			b.isAt(t, "ACME/1", "started")

			back, err := sandbox.Consent(t.Context(), owner.Client, provider.String(), adaLogin, password, sandbox.Allow)
			if err != nil {
				t.Fatal(err)
			}
			returned := owner.get(t, back)
			if got := returned.header.Get("Referrer-Policy"); got != "no-referrer" {
				t.Errorf("the address with the code has Referrer-Policy %q", got)
			}
			if hsts := returned.header.Get("Strict-Transport-Security"); (hsts != "") != secure {
				t.Errorf("Strict-Transport-Security %q", hsts)
			}
			clean := returned.leads(t)
			if want := "/consent/" + strings.TrimPrefix(cookie.Name, name); clean != want {
				t.Errorf("the callback leads to %q, want %q", clean, want)
			}
			for range 2 { // a reload tells the same
				thanks := owner.get(t, clean).has(t, http.StatusOK)
				if got := thanks.heading(t); got != "Connected, thank you" {
					t.Errorf("heading %q", got)
				}
				thanks.says(t, "Acme Bakery", "What "+agency+" may do now")
				if forms := posts(thanks.doc(t)); forms != nil {
					t.Errorf("nothing is left to do, but there are forms %v", forms)
				}
			}
			if got := owner.get(t, back).leads(t); got != clean {
				t.Errorf("the address with the code, loaded again, leads to %q", got)
			}
			b.isAt(t, "ACME/1", "authorized")
			b.clock.advance(24 * time.Hour) // A phone loads it again when its browser is opened the next day, without the cookie.
			later := b.browser(t).get(t, clean).has(t, http.StatusOK)
			if got := later.heading(t); got != "Connected, thank you" {
				t.Errorf("the next day the page says %q", got)
			}
			later.silent(t, "Acme")
			owner.get(t, link).has(t, http.StatusOK).says(t, "Acme Bakery is connected")
			owner.post(t, link+"/begin", nil).has(t, http.StatusOK).says(t, "Connected, thank you")
			if strings.Contains(b.log.String(), strings.TrimPrefix(link, "/i/")) || strings.Contains(b.log.String(), q.Get("state")) {
				t.Errorf("the log has secrets: %s", b.log)
			}
		})
	}
}

// cookie is the only one that the answer sets.
func (p page) cookie(t *testing.T) *http.Cookie {
	t.Helper()
	lines := p.header["Set-Cookie"]
	if len(lines) != 1 {
		t.Fatalf("%s sets the cookies %q", p.name, lines)
	}
	cookie, err := http.ParseSetCookie(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

// Every way a walk can end has its page, with what to do next.
func TestEndings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	tests := []struct {
		name     string
		link     string // whose
		login    string
		decision sandbox.Decision
		fault    sandbox.Fault
		heading  string
		says     []string
		stage    string
		again    string // what the invitation says the next time
	}{
		{
			name: "denied", link: "ACME/1", login: adaLogin, decision: sandbox.Deny,
			heading: "Nothing was connected", says: []string{"press Allow at the end", "Start again"}, stage: "stalled/declined",
			again: "Last time Constant Contact reported that access was not allowed.",
		},
		{
			name: "wrong account", link: "ACME/1", login: "who@else.example", decision: sandbox.Allow,
			heading: "That was another account", says: []string{strange, "Acme Bakery", "Try again"}, stage: "stalled/wrong_account",
			again: "Last time another account was signed in.",
		},
		{
			name: "conflict", link: "CAFE", login: adaLogin, decision: sandbox.Allow,
			heading: "This account is connected already", says: []string{"The account of Acme Bakery", "Café Lumière"}, stage: "stalled/conflict",
			again: "Last time an account was signed in that is connected already.",
		},
		{
			name: "missing scope", link: "ACME/1", login: adaLogin, decision: sandbox.Allow, fault: sandbox.TokenNarrowScope,
			heading: "A permission is missing", says: []string{"What is missing"}, stage: "stalled/missing_scope",
			again: "Last time a permission was missing.",
		},
		{
			name: "provider unavailable", link: "BLOOM", login: benLogin, decision: sandbox.Allow, fault: sandbox.Token503,
			heading: "Constant Contact does not answer right now", says: []string{"That is not your fault"}, stage: "started",
			again: "Last time Constant Contact did not answer.",
		},
		{
			name: "provider refuses", link: "BLOOM", login: benLogin, decision: sandbox.Allow, fault: sandbox.SummaryWithoutID,
			heading: "That did not work", says: []string{"Please try again"}, stage: "started",
			again: "Last time it was not finished.",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.fault != "" {
				if err := b.box.SetFaults(sandbox.Faults{test.fault: {Next: 1}}); err != nil {
					t.Fatal(err)
				}
			}
			link, owner := b.link(t, test.link), b.browser(t)
			end := owner.get(t, owner.consent(t, link+"/begin", test.login, test.decision)).leads(t)
			page := owner.get(t, end).has(t, http.StatusOK)
			if got := page.heading(t); got != test.heading {
				t.Errorf("heading %q, want %q", got, test.heading)
			}
			page.says(t, test.says...)
			b.isAt(t, test.link, test.stage)
			if diff := cmp.Diff([]string{end + "/begin"}, posts(page.doc(t))); diff != "" {
				t.Errorf("forms (-want +got):\n%s", diff)
			}
			other := b.browser(t).get(t, end).has(t, http.StatusOK)
			if got := other.heading(t); got != "Please start again here" {
				t.Errorf("another browser reads %q", got)
			}
			other.silent(t, "Acme", "Bloom", "Lumi", strange)

			note := owner.get(t, link).has(t, http.StatusOK)
			note.says(t, test.again)
			note.silent(t, strange)

			if test.name == "conflict" {
				return // Nobody at the provider has an account for it.
			}
			right := map[string]string{"ACME/1": adaLogin, "BLOOM": benLogin}[test.link]
			back := owner.consent(t, end+"/begin", right, sandbox.Allow)
			if got := owner.get(t, owner.get(t, back).leads(t)).heading(t); got != "Connected, thank you" {
				t.Errorf("the second attempt ends with %q", got)
			}
			b.startAnew(t)
		})
	}
}

// startAnew makes the roster as it was imported.
func (b *testBundle) startAnew(t *testing.T) {
	t.Helper()
	b.empty(t)
	b.imports(t, rosterFile)
}

// PKCE is a setting: there are providers that refuse it from an app with a secret, and others that demand it.
func TestWalkWithoutPKCE(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	if err := b.box.SetFaults(sandbox.Faults{sandbox.AuthorizeRefusesPKCE: {Next: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.Consent(t.Context(), owner.Client, owner.post(t, link+"/begin", nil).leads(t), adaLogin, password, sandbox.Allow); err == nil {
		t.Fatal("the provider takes PKCE")
	}
	b.app.PKCE = false
	var err error
	if b.Flow.Provider, err = constantcontact.New(b.app); err != nil {
		t.Fatal(err)
	}
	if err := b.box.SetFaults(sandbox.Faults{sandbox.AuthorizeRefusesPKCE: {Next: 100}}); err != nil {
		t.Fatal(err)
	}
	if got := owner.walk(t, link, adaLogin, sandbox.Allow).heading(t); got != "Connected, thank you" {
		t.Errorf("the walk ends with %q", got)
	}
	b.isAt(t, "ACME/1", "authorized")
}

// An answer in which a parameter comes twice, or that names another issuer, redeems nothing.
func TestCallbackIsMadeUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	for _, more := range []string{
		"&state=again", "&code=other", "&error=access_denied&error=server_error", "&iss=" + b.app.TokenURL + "&iss=" + b.app.TokenURL,
		"&iss=https://evil.example", "&error=access_denied&iss=https://evil.example",
	} {
		back := owner.consent(t, link+"/begin", adaLogin, sandbox.Allow)
		if got := owner.get(t, owner.get(t, back+more).leads(t)).heading(t); got != "That did not work" {
			t.Errorf("%s: heading %q", more, got)
		}
		if got := owner.get(t, owner.get(t, back).leads(t)).heading(t); got != "That did not work" {
			t.Errorf("%s: the walk goes on and ends with %q", more, got)
		}
	}
	if n := b.box.Stats().TokenRequests; n != 0 {
		t.Errorf("%d codes were redeemed", n)
	}
	b.isAt(t, "ACME/1", "started")
	if got := owner.walk(t, link, adaLogin, sandbox.Allow).heading(t); got != "Connected, thank you" {
		t.Errorf("the owner's walk ends with %q", got)
	}
}

// Who keeps no cookies would be sent round in circles by "start again here".
func TestWithoutCookies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, provider, owner := b.link(t, "ACME/1"), b.browser(t), b.browser(t)
	owner.Jar = nil
	for range 2 {
		back, err := sandbox.Consent(t.Context(), provider.Client, owner.post(t, link+"/begin", nil).leads(t), adaLogin, password, sandbox.Allow)
		if err != nil {
			t.Fatal(err)
		}
		told := owner.get(t, owner.get(t, back).leads(t)).has(t, http.StatusOK)
		if got := told.heading(t); got != "Please use another browser" {
			t.Errorf("heading %q", got)
		}
		told.says(t, "Open the link in your mail again", "allow cookies for connect.brightside.example")
		told.silent(t, "Acme", strings.TrimPrefix(link, "/i/"))
		again := posts(told.doc(t))
		if len(again) != 1 || !strings.HasPrefix(again[0], "/consent/") {
			t.Fatalf("forms %v", again)
		}
		link = strings.TrimSuffix(again[0], "/begin")
	}
	if n := b.box.Stats().TokenRequests; n != 0 {
		t.Errorf("%d codes were redeemed", n)
	}
	// Once cookies are allowed, the button of that page leads to the end.
	if got := b.browser(t).walk(t, link, adaLogin, sandbox.Allow).heading(t); got != "Connected, thank you" {
		t.Errorf("heading %q", got)
	}
}

// However often Continue is pressed in one browser, its cookies stay few, and the newest walks can be finished.
func TestCookiesStayFew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	for range 60 {
		owner.post(t, link+"/begin", nil).leads(t)
	}
	back := owner.consent(t, link+"/begin", adaLogin, sandbox.Allow)
	for range 5 {
		owner.post(t, link+"/begin", nil).leads(t)
	}
	u, err := url.Parse(b.PublicURL)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(owner.Jar.Cookies(u)); n > 12 {
		t.Errorf("the browser has %d cookies", n)
	}
	if got := owner.get(t, owner.get(t, back).leads(t)).heading(t); got != "Connected, thank you" {
		t.Errorf("heading %q", got)
	}
}

// What belongs to no walk of this browser is not redeemed, and leads to a page that helps.
func TestCallbackOfNoWalk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	for _, query := range []string{"", "?state=", "?state=&code=x", "?state=made-up&code=x", "?code=x", "?error=access_denied", "?state=%00%ff"} {
		if got := owner.get(t, "/oauth/callback"+query).leads(t); got != "/consent" {
			t.Errorf("%q leads to %q", query, got)
		}
	}
	lost := owner.get(t, "/consent").has(t, http.StatusOK)
	if got := lost.heading(t); got != "Please start again" {
		t.Errorf("heading %q", got)
	}
	lost.says(t, "Open the link in your mail again")

	back := owner.consent(t, link+"/begin", adaLogin, sandbox.Allow)
	stranger := b.browser(t)
	elsewhere := stranger.get(t, stranger.get(t, back).leads(t)).has(t, http.StatusOK)
	if got := elsewhere.heading(t); got != "Please start again here" {
		t.Errorf("another browser reads %q", got)
	}
	if n := b.box.Stats().TokenRequests; n != 0 {
		t.Errorf("%d codes were redeemed", n)
	}
	// Whoever has it may start again there, and the own browser still finishes.
	again := stranger.get(t, stranger.consent(t, posts(elsewhere.doc(t))[0], "who@else.example", sandbox.Allow)).leads(t)
	if got := stranger.get(t, again).heading(t); got != "That was another account" {
		t.Errorf("heading %q", got)
	}
	if got := owner.get(t, owner.get(t, back).leads(t)).heading(t); got != "Connected, thank you" {
		t.Errorf("heading %q", got)
	}

	for _, path := range []string{"/consent/made-up", "/consent/00000000-0000-0000-0000-000000000000"} {
		want := http.StatusOK
		if path == "/consent/made-up" {
			want = http.StatusNotFound
		}
		owner.get(t, path).has(t, want)
		owner.post(t, path+"/begin", nil).has(t, want)
	}
}

func TestCallback(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link := b.link(t, "ACME/1")
	t.Run("lost in a crash", func(t *testing.T) {
		owner := b.browser(t)
		owner.consent(t, link+"/begin", adaLogin, sandbox.Allow)
		var id string
		if err := b.db.QueryRow(t.Context(), `UPDATE consents SET claimed_at = now() RETURNING id::text`).Scan(&id); err != nil {
			t.Fatal(err)
		}
		b.clock.advance(4 * time.Minute)
		page := owner.get(t, "/consent/"+id).has(t, http.StatusOK)
		if got := page.heading(t); got != "That did not work" {
			t.Errorf("heading %q", got)
		}
		if diff := cmp.Diff([]string{"/consent/" + id + "/begin"}, posts(page.doc(t))); diff != "" {
			t.Errorf("forms (-want +got):\n%s", diff)
		}
	})
	t.Run("without provider", func(t *testing.T) {
		provider := b.Flow.Provider
		b.Flow.Provider = nil
		b.browser(t).post(t, link+"/begin", nil).has(t, http.StatusOK).says(t, "Constant Contact does not answer right now")
		if !strings.Contains(b.log.String(), "COUNTERSIGN_OAUTH_CLIENT_ID") {
			t.Errorf("nobody is told: %s", b.log)
		}
		b.Flow.Provider = provider
	})
	t.Run("too late", func(t *testing.T) {
		link, owner := b.link(t, "BLOOM"), b.browser(t)
		back := owner.consent(t, link+"/begin", benLogin, sandbox.Allow)
		b.clock.advance(authflow.ConsentLife)
		end := owner.get(t, back).leads(t)
		page := owner.get(t, end).has(t, http.StatusOK)
		page.says(t, "Please start again", "more than ten minutes have passed")
		if diff := cmp.Diff([]string{end + "/begin"}, posts(page.doc(t))); diff != "" {
			t.Errorf("forms (-want +got):\n%s", diff)
		}
		// After the link's life the way back is the mail.
		b.clock.advance(authflow.InvitationLife)
		dead := owner.post(t, end+"/begin", nil).has(t, http.StatusOK)
		dead.says(t, "Open the link in your mail again")
		if forms := posts(dead.doc(t)); forms != nil {
			t.Errorf("forms %v", forms)
		}
	})
	// Two tabs, or a double click: the others wait for what the first finds out.
	t.Run("four at once", func(t *testing.T) {
		before := b.box.Stats().TokenRequests
		owner := b.browser(t)
		back := owner.consent(t, b.link(t, "ACME/1")+"/begin", adaLogin, sandbox.Allow)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got := owner.get(t, owner.get(t, back).leads(t)).heading(t); got != "Connected, thank you" {
					t.Errorf("one reads %q", got)
				}
			})
		}
		wg.Wait()
		if n := b.box.Stats().TokenRequests - before; n != 1 {
			t.Errorf("the code was redeemed %d times", n)
		}
	})
}

// Unknown, expired and revoked links look the same and offer the same.
func TestDeadLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	old, revoked := b.link(t, "ACME/1"), b.link(t, "BLOOM")
	b.imports(t, "ref,name,owner_email\nBLOOM,Bloom Florist,bea@bloom.example\n")
	b.clock.advance(authflow.InvitationLife)
	owner := b.browser(t)
	var seen []string
	for _, link := range []string{"/i/made-up", old, revoked} {
		page := owner.get(t, link).has(t, http.StatusNotFound)
		if got := page.heading(t); got != "This link does not work" {
			t.Errorf("heading %q", got)
		}
		if diff := cmp.Diff([]string{link + "/renew"}, posts(page.doc(t))); diff != "" {
			t.Errorf("forms (-want +got):\n%s", diff)
		}
		for _, button := range []string{"/begin", "/decline", "/not-me", "/refer", "/undo"} {
			pressed := owner.post(t, link+button, url.Values{"email": {"eve@acme.example"}, "at": {time.Now().Format(time.RFC3339)}})
			if pressed.has(t, http.StatusNotFound).body != page.body {
				t.Errorf("the button %s of %s answers otherwise", button, link)
			}
		}
		if refer := owner.get(t, link+"/refer").has(t, http.StatusNotFound); refer.body != page.body {
			t.Errorf("the form of %s answers otherwise", link)
		}
		renewed := owner.post(t, link+"/renew", nil).has(t, http.StatusOK)
		if got := renewed.heading(t); got != "Look into your mailbox" {
			t.Errorf("heading %q", got)
		}
		seen = append(seen, strings.ReplaceAll(page.body, link, "")+renewed.body)
	}
	if seen[0] != seen[1] || seen[0] != seen[2] {
		t.Error("an unknown link can be told from an old or a revoked one")
	}
	var to []string
	if err := b.db.QueryRow(t.Context(), `SELECT array_agg(to_address ORDER BY id) FROM messages`).Scan(&to); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ada@acme.example", "bea@bloom.example"}, to); diff != "" {
		t.Errorf("fresh links (-want +got):\n%s", diff)
	}
}

func TestDeclineByOddLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	// What mail programs make of a link works, down to the buttons.
	for _, typed := range []string{strings.ToUpper(link[3:]), link[3:] + ".", link[3:] + "%E2%80%9D", link[3:] + "%3F", link[3:] + "%3E"} {
		page := owner.get(t, "/i/"+typed).has(t, http.StatusOK)
		owner.post(t, posts(page.doc(t))[0], nil).has(t, http.StatusSeeOther)
	}
	if got := owner.get(t, link+"/").has(t, http.StatusMovedPermanently).header.Get("Location"); got != link {
		t.Errorf("with a slash behind it, it leads to %q", got)
	}

	page := owner.post(t, link+"/decline", nil).has(t, http.StatusOK)
	if got := page.heading(t); got != "Thank you for telling us" {
		t.Errorf("heading %q", got)
	}
	b.isAt(t, "ACME/1", "stalled/declined")
	owner.get(t, link).says(t, "Somebody with this link told us no.")
	owner.walk(t, link, adaLogin, sandbox.Deny)
	owner.get(t, link).says(t, "Last time Constant Contact reported that access was not allowed.")
	owner.walk(t, link, adaLogin, sandbox.Allow).says(t, "Connected, thank you")
}

// optedOut checks how the owner of a client opted out.
func (b *testBundle) optedOut(t *testing.T, ref string, want provisioning.OptedOut) {
	t.Helper()
	c := b.client(t, ref)
	if (c.OptedOut == nil) != (want == "") || c.OptedOut != nil && *c.OptedOut != want {
		t.Errorf("the owner of %s opted out as %v, want %q", ref, c.OptedOut, want)
	}
}

func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	ask := owner.get(t, link+"/unsubscribe").has(t, http.StatusOK)
	ask.says(t, "Stop reminders?", "Acme Bakery")
	if diff := cmp.Diff([]string{link + "/unsubscribe"}, posts(ask.doc(t))); diff != "" {
		t.Errorf("forms (-want +got):\n%s", diff)
	}
	b.isAt(t, "ACME/1", "imported")
	owner.get(t, "/i/made-up/unsubscribe").has(t, http.StatusOK).says(t, "Stop reminders?")

	done := owner.post(t, link+"/unsubscribe", nil).has(t, http.StatusOK)
	done.says(t, "No more reminders", "Acme Bakery")
	b.optedOut(t, "ACME/1", "unsubscribed")
	// The page of who has just pressed leads back. Later ones have nothing that a robot could press.
	if diff := cmp.Diff([]string{link + "/undo"}, posts(done.doc(t))); diff != "" {
		t.Errorf("forms (-want +got):\n%s", diff)
	}
	for _, later := range []page{owner.get(t, link+"/unsubscribe"), owner.post(t, link+"/unsubscribe", nil)} {
		later.has(t, http.StatusOK).says(t, "No more reminders")
		if forms := posts(later.doc(t)); forms != nil {
			t.Errorf("%s offers %v", later.name, forms)
		}
	}
}

// Mail providers press for their users, without cookies, in every form that RFC 8058 allows and beyond it, and
// once more.
func TestOneClick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const plain, multipart = "List-Unsubscribe=One-Click",
		"--=_x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--=_x--\r\n"
	for _, test := range []struct {
		name, body string
		header     []string
	}{
		{"urlencoded", plain, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"multipart", multipart, []string{"Content-Type", `multipart/form-data; boundary="=_x"`}},
		{"multipart without its boundary", multipart, []string{"Content-Type", "multipart/form-data"}},
		{"with a charset", plain, []string{"Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"}},
		{"with a type that is none", plain, []string{"Content-Type", "application/x-www-form-urlencoded; charset"}},
		{"without a type", plain, nil},
		{"without a body", "", nil},
		{"with a body that is no form", "%zz", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"from web mail", plain, []string{
			"Content-Type", "application/x-www-form-urlencoded",
			"Origin", "https://mail.example", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Referer", "https://mail.example/",
		}},
		{"from a frame of web mail", plain, []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", "null", "Sec-Fetch-Site", "cross-site"}},
		{"from an app", plain, []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", "null"}},
	} {
		b.startAnew(t)
		bare := &browser{&http.Client{
			Transport:     b.server.Client().Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}, b.server.URL}
		link := b.link(t, "ACME/1")
		for range 2 {
			answer := bare.do(t, http.MethodPost, link+"/unsubscribe", strings.NewReader(test.body), test.header...)
			if answer.status != http.StatusOK || answer.header["Set-Cookie"] != nil {
				t.Errorf("%s: answered %d, with cookies %q", test.name, answer.status, answer.header["Set-Cookie"])
			}
		}
		b.isAt(t, "ACME/1", "stalled/unsubscribed")
		b.optedOut(t, "ACME/1", "unsubscribed")
	}
}

func TestUnsubscribeByOldLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	spent, old, owner := b.link(t, "ACME/1"), b.link(t, "BLOOM"), b.browser(t)
	owner.walk(t, spent, adaLogin, sandbox.Allow)
	b.clock.advance(2 * authflow.InvitationLife)
	for ref, link := range map[string]string{"ACME/1": spent, "BLOOM": old} {
		owner.get(t, link+"/unsubscribe").has(t, http.StatusOK).says(t, "Stop reminders?")
		for range 2 {
			page := owner.post(t, link+"/unsubscribe", nil).has(t, http.StatusOK)
			page.says(t, "No more reminders")
			if forms := posts(page.doc(t)); forms != nil {
				t.Errorf("a link that does not work offers %v", forms)
			}
		}
		b.optedOut(t, ref, "unsubscribed")
	}
	b.isAt(t, "ACME/1", "authorized")
	b.isAt(t, "BLOOM", "stalled/unsubscribed")
	owner.post(t, "/i/made-up/unsubscribe", nil).has(t, http.StatusNotFound)
}

// One mail provider presses for very many owners from one address; one link it need not press that often.
func TestThrottleOfOneClick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const presses = 400
	for i := range presses {
		if got := b.press(t, fmt.Sprintf("/i/made-up-%d/unsubscribe", i), "203.0.113.1:1000"); got != http.StatusNotFound {
			t.Fatalf("press %d is answered %d", i, got)
		}
	}
	throttled := false
	for i := 0; i < presses && !throttled; i++ {
		throttled = b.press(t, "/i/"+strings.Repeat("x", 64+i)+"/unsubscribe", "203.0.113."+strconv.Itoa(i%200)+":1000") == http.StatusTooManyRequests
	}
	if !throttled {
		t.Error("one link is never stopped")
	}
}

// Each answer says what it has done, and whoever has just given it can take it back.
func TestAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	for _, answer := range []struct{ button, heading string }{
		{"/decline", "Thank you for telling us"}, {"/not-me", "Thank you for telling us"}, {"/unsubscribe", "No more reminders"},
	} {
		page := owner.post(t, link+answer.button, nil).has(t, http.StatusOK)
		if got := page.heading(t); got != answer.heading {
			t.Errorf("%s: heading %q", answer.button, got)
		}
		page.says(t, "will not remind you", "Acme Bakery")
		b.isAt(t, "ACME/1", map[bool]string{true: "stalled/unsubscribed", false: "stalled/declined"}[answer.button == "/unsubscribe"])
		at := url.Values{"at": {attribute(find(page.doc(t), tag("input"), with("name", "at"))[0], "value")}}
		for range 2 {
			undone := owner.post(t, link+"/undo", at).has(t, http.StatusOK)
			if got := undone.heading(t); got != "All is as before" {
				t.Errorf("%s: heading %q", answer.button, got)
			}
		}
		b.isAt(t, "ACME/1", "imported")
		b.optedOut(t, "ACME/1", "")
		owner.post(t, link+answer.button, nil).has(t, http.StatusOK)
		owner.post(t, link+"/undo", at).has(t, http.StatusOK).says(t, "will not remind you", answer.heading)
		b.isAt(t, "ACME/1", map[bool]string{true: "stalled/unsubscribed", false: "stalled/declined"}[answer.button == "/unsubscribe"])
		b.startAnew(t)
		link = b.link(t, "ACME/1")
	}
	owner.post(t, link+"/undo", nil).has(t, http.StatusBadRequest)

	// Once the account is connected the invitation says so, and how to undo that.
	owner.walk(t, link, adaLogin, sandbox.Allow)
	for _, button := range []string{"/decline", "/not-me", "/refer", "/undo"} {
		form := url.Values{"email": {"eve@acme.example"}, "at": {time.Now().Format(time.RFC3339)}}
		if got := owner.post(t, link+button, form).leads(t); got != link {
			t.Errorf("%s leads to %q", button, got)
		}
	}
	if got := owner.get(t, link+"/refer").leads(t); got != link {
		t.Errorf("the form leads to %q", got)
	}
	b.isAt(t, "ACME/1", "authorized")
	b.optedOut(t, "ACME/1", "")
}

func TestRefer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.browser(t)
	if got := find(owner.get(t, link).doc(t), tag("a"), with("href", link+"/refer")); len(got) != 1 {
		t.Errorf("%d links to the form", len(got))
	}
	notMe := owner.post(t, link+"/not-me", nil).has(t, http.StatusOK)
	ask := owner.get(t, attribute(find(notMe.doc(t), tag("a"), with("href", link+"/refer"))[0], "href")).has(t, http.StatusOK)
	if got := ask.heading(t); got != "Who should do this?" {
		t.Errorf("heading %q", got)
	}
	ask.says(t, "Acme Bakery", agency+" decides")

	wrong := owner.post(t, link+"/refer", url.Values{"name": {"Eve Moss"}, "email": {"eve"}, "note": {"She knows."}}).has(t, http.StatusUnprocessableEntity)
	wrong.says(t, "This is not a mail address: it has no @.", "She knows.")
	for name, value := range map[string]string{"name": "Eve Moss", "email": "eve"} {
		if got := attribute(find(wrong.doc(t), tag("input"), with("name", name))[0], "value"); got != value {
			t.Errorf("the field %s has %q", name, got)
		}
	}
	long := url.Values{"name": {strings.Repeat("x", 300)}, "email": {"eve@acme.example"}}
	owner.post(t, link+"/refer", long).has(t, http.StatusUnprocessableEntity).says(t, "Please shorten it to 200.")
	long = url.Values{"note": {"\x00"}, "email": {"eve@acme.example"}}
	owner.post(t, link+"/refer", long).has(t, http.StatusUnprocessableEntity).says(t, "Please type it anew.")

	client := b.client(t, "ACME/1").ID
	for _, email := range []string{"joe@acme.example", "eve@acme.example"} { // as robots do, and people who mistyped
		thanks := owner.post(t, link+"/refer", url.Values{"name": {"Eve Moss"}, "email": {email}}).has(t, http.StatusOK)
		if got := thanks.heading(t); got != "Thank you, that helps" {
			t.Errorf("heading %q", got)
		}
		thanks.says(t, email, "No mail has been sent to them")
		named, err := b.Store.OpenReferral(t.Context(), client)
		if want := (provisioning.Owner{Name: "Eve Moss", Email: email}); named.Owner != want || err != nil {
			t.Errorf("named %+v, %v", named, err)
		}
	}
	var n int
	if err := b.db.QueryRow(t.Context(), `SELECT count(*) FROM messages`).Scan(&n); err != nil || n > 0 {
		t.Errorf("%d mails, %v", n, err)
	}
}

// Scanners fetch with HEAD and GET and press buttons, from many places, before the owner comes.
func TestRobotsComeFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link := b.link(t, "ACME/1")
	for i := range 50 {
		robot := b.browser(t)
		robot.do(t, http.MethodHead, link, nil).has(t, http.StatusOK)
		robot.get(t, link).has(t, http.StatusOK)
		robot.post(t, link+"/begin", nil).has(t, http.StatusSeeOther)
		if i%10 > 0 { // If all of them pressed all there is, the throttle would stop them.
			continue
		}
		for _, button := range []string{"/decline", "/not-me", "/unsubscribe"} {
			robot.pressOn(t, robot.post(t, link+button, nil).has(t, http.StatusOK))
		}
		robot.post(t, link+"/refer", url.Values{"email": {"robot@scanner.example"}}).has(t, http.StatusOK)
	}
	b.isAt(t, "ACME/1", "started")
	b.optedOut(t, "ACME/1", "") // Whoever presses everything presses the way back.
	if referrals, _, err := b.Store.OpenReferrals(t.Context(), "", 0); len(referrals) != 1 || err != nil {
		t.Errorf("%d referrals, %v", len(referrals), err)
	}
	if got := b.browser(t).walk(t, link, adaLogin, sandbox.Allow).heading(t); got != "Connected, thank you" {
		t.Errorf("the owner's walk ends with %q", got)
	}
	b.isAt(t, "ACME/1", "authorized")
}

// A scanner in the owner's own company presses all there is, fifty times within a second, from the address that
// the owner comes from. If the owner is stopped, it is for ten seconds, and they are told so.
func TestRobotFromTheOwnersAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	begin := time.Now() // However slow the machine, the robot is quick.
	b.Now = func() time.Time { return begin.Add(time.Duration(b.clock.ahead.Load())) }
	link, robot, owner := b.link(t, "ACME/1"), b.browser(t), b.browser(t)
	stopped := 0
	for range 50 {
		for _, button := range []string{"/begin", "/decline", "/not-me", "/unsubscribe", "/renew", "/refer"} {
			if robot.post(t, link+button, url.Values{"email": {"robot@scanner.example"}}).status == http.StatusTooManyRequests {
				stopped++
			}
		}
	}
	if stopped == 0 {
		t.Error("the robot is never stopped")
	}
	page := owner.post(t, link+"/begin", nil).has(t, http.StatusTooManyRequests)
	if got := page.heading(t); got != "Please wait ten seconds" {
		t.Errorf("heading %q", got)
	}
	if got := page.header.Get("Retry-After"); got != "10" {
		t.Errorf("Retry-After %q", got)
	}
	back := find(page.doc(t), tag("a"), with("class", "button wide"))
	if len(back) != 1 || attribute(back[0], "href") != link {
		t.Fatalf("the way back is not %s: %s", link, page.body)
	}
	b.clock.advance(10 * time.Second)
	owner.get(t, link).has(t, http.StatusOK).says(t, "Continue to Constant Contact")
	if got := owner.walk(t, link, adaLogin, sandbox.Allow).heading(t); got != "Connected, thank you" {
		t.Errorf("the owner's walk ends with %q", got)
	}
	b.isAt(t, "ACME/1", "authorized")
}

// pressOn presses every button of a page, and of the pages behind them.
func (b *browser) pressOn(t *testing.T, p page) {
	t.Helper()
	for _, form := range find(p.doc(t), tag("form")) {
		values := url.Values{}
		for _, field := range find(form, tag("input")) {
			values.Set(attribute(field, "name"), attribute(field, "value"))
		}
		b.pressOn(t, b.post(t, attribute(form, "action"), values).has(t, http.StatusOK))
	}
}

// What an owner meant stands, whatever robots press afterwards.
func TestRobotsComeLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	for _, answer := range []struct {
		button string
		want   provisioning.OptedOut
	}{{"/decline", "declined"}, {"/not-me", "declined"}, {"/unsubscribe", "unsubscribed"}} {
		link := b.link(t, "ACME/1")
		b.browser(t).post(t, link+answer.button, nil).has(t, http.StatusOK)
		robot := b.browser(t)
		for range 2 {
			if page := robot.get(t, link+"/unsubscribe").has(t, http.StatusOK); answer.button == "/unsubscribe" {
				robot.pressOn(t, page)
			}
			robot.pressOn(t, robot.post(t, link+answer.button, nil).has(t, http.StatusOK))
			robot.post(t, link+"/begin", nil).has(t, http.StatusSeeOther)
		}
		b.optedOut(t, "ACME/1", answer.want)
		b.startAnew(t)
	}
}

// HEAD answers as GET does, without a body, and neither changes anything.
func TestHead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, operator := b.link(t, "ACME/1"), b.operator(t)
	entry, err := b.Admin.SignInLink(t.Context(), operatorEmail, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	back := operator.consent(t, link+"/begin", adaLogin, sandbox.Allow)
	before := b.dump(t)
	for _, path := range []string{
		"/", "/healthz", "/readyz", link, "/i/made-up", link + "/unsubscribe", link + "/refer", "/i/made-up/refer", "/consent", "/consent/made-up",
		"/admin", "/admin/progress", "/admin/clients", "/admin/clients?stage=invited", "/admin/clients/" + b.client(t, "BLOOM").ID.String(),
		"/admin/imports", "/admin/sign-in", "/admin/enter/" + entry.Reveal(), "/admin/enter/made-up", "/admin/made-up", "/made-up",
	} {
		head, get := operator.do(t, http.MethodHead, path, nil), operator.get(t, path)
		if head.status != get.status || head.body != "" {
			t.Errorf("HEAD %s answers %d with %d bytes, GET %d", path, head.status, len(head.body), get.status)
		}
		for name := range get.header {
			if name != "Date" && name != "Content-Length" && !slices.Equal(head.header[name], get.header[name]) {
				t.Errorf("HEAD %s has %s %q, GET %q", path, name, head.header[name], get.header[name])
			}
		}
	}
	for _, button := range []string{"/begin", "/decline", "/not-me", "/undo", "/renew"} { // as after a reload
		if got := operator.get(t, link+button).leads(t); got != link {
			t.Errorf("the address of the button %s leads to %q", button, got)
		}
	}
	// The code is for the browser's own request.
	if got := operator.do(t, http.MethodHead, back, nil).leads(t); got != "/consent" {
		t.Errorf("HEAD of the callback leads to %q", got)
	}
	if diff := cmp.Diff(before, b.dump(t)); diff != "" {
		t.Errorf("looking changed the database (-before +after):\n%s", diff)
	}
	if got := operator.get(t, operator.get(t, back).leads(t)).heading(t); got != "Connected, thank you" {
		t.Errorf("heading %q", got)
	}
}

// dump is all that looking must not change.
func (b *testBundle) dump(t *testing.T) string {
	t.Helper()
	var all []string
	for _, table := range []string{"clients", "events", "invitations", "consents", "grants", "messages", "referrals", "entry_links"} {
		var rows string
		if err := b.db.QueryRow(t.Context(), `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM `+table+` t`).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		all = append(all, table, rows)
	}
	return strings.Join(all, "\n")
}
