package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
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
			if diff := cmp.Diff([]string{link + "/begin", link + "/decline"}, posts(invitation.doc(t))); diff != "" {
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
			b.browser(t).get(t, clean).has(t, http.StatusOK).silent(t, "Acme")
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
		b.clock.advance(2 * time.Minute)
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
		begin, decline := owner.post(t, link+"/begin", nil).has(t, http.StatusNotFound), owner.post(t, link+"/decline", nil).has(t, http.StatusNotFound)
		if begin.body != page.body || decline.body != page.body {
			t.Errorf("the buttons of %s answer otherwise", link)
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
	owner.get(t, link).says(t, "You told us that you do not want this.")
	owner.walk(t, link, adaLogin, sandbox.Deny)
	owner.get(t, link).says(t, "Last time Constant Contact reported that access was not allowed.")
	owner.walk(t, link, adaLogin, sandbox.Allow).says(t, "Connected, thank you")
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

	// A mail program has no cookies and sends none of a browser's headers (RFC 8058).
	bare := &browser{&http.Client{Transport: b.server.Client().Transport}, b.server.URL}
	for _, kind := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		b.startAnew(t)
		body := "List-Unsubscribe=One-Click"
		if strings.HasPrefix(kind, "multipart") {
			body = "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n"
		}
		page := bare.do(t, http.MethodPost, b.link(t, "ACME/1")+"/unsubscribe", strings.NewReader(body), "Content-Type", kind).has(t, http.StatusOK)
		page.says(t, "No more reminders")
		b.isAt(t, "ACME/1", "stalled/unsubscribed")
	}
	old := b.link(t, "BLOOM")
	b.clock.advance(2 * authflow.InvitationLife)
	bare.do(t, http.MethodPost, old+"/unsubscribe", nil).has(t, http.StatusOK).says(t, "No more reminders")
	b.isAt(t, "BLOOM", "stalled/unsubscribed")
	bare.do(t, http.MethodPost, "/i/made-up/unsubscribe", nil).has(t, http.StatusNotFound)
}

// Scanners fetch with HEAD and GET and press buttons, from many places, before the owner comes.
func TestRobotsComeFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link := b.link(t, "ACME/1")
	for range 50 {
		robot := b.browser(t)
		robot.do(t, http.MethodHead, link, nil).has(t, http.StatusOK)
		robot.get(t, link).has(t, http.StatusOK)
		robot.post(t, link+"/begin", nil).has(t, http.StatusSeeOther)
	}
	b.isAt(t, "ACME/1", "started")
	if got := b.browser(t).walk(t, link, adaLogin, sandbox.Allow).heading(t); got != "Connected, thank you" {
		t.Errorf("the owner's walk ends with %q", got)
	}
	b.isAt(t, "ACME/1", "authorized")
}

// HEAD answers as GET does, without a body, and neither changes anything.
func TestHead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, operator := b.link(t, "ACME/1"), b.operator(t)
	entry, err := b.Admin.SignInLink(t.Context(), b.operatorID(t))
	if err != nil {
		t.Fatal(err)
	}
	back := operator.consent(t, link+"/begin", adaLogin, sandbox.Allow)
	before := b.dump(t)
	for _, path := range []string{
		"/", "/healthz", "/readyz", link, "/i/made-up", link + "/unsubscribe", "/consent", "/consent/made-up",
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
	for _, button := range []string{"/begin", "/decline", "/renew"} { // as after a reload
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
	for _, table := range []string{"clients", "events", "invitations", "consents", "grants", "messages", "entry_links"} {
		var rows string
		if err := b.db.QueryRow(t.Context(), `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM `+table+` t`).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		all = append(all, table, rows)
	}
	return strings.Join(all, "\n")
}
