package interoptest_test

import (
	"net/http"
	"regexp"
	"testing"
)

// ending is where an owner's walk ends: the page's title, and the client's stage and reason.
type ending string

const (
	connected ending = "Connected, thank you: authorized"
	declined  ending = "Nothing was connected: stalled declined"
	another   ending = "That was another account: stalled wrong_account"
	missing   ending = "A permission is missing: stalled missing_scope"
	refused   ending = "That did not work: started"
)

// TestOwner walks owners through the program and the servers' own pages.
func TestOwner(t *testing.T) {
	t.Parallel()
	program := build(t)
	for _, m := range makers() {
		for _, pkce := range []string{"on", "off"} {
			t.Run(m.name+", PKCE "+pkce, func(t *testing.T) {
				t.Parallel()
				listen := freeAddress(t)
				s := m.start(t, app{redirectURL: "http://" + listen + "/oauth/callback", pkce: pkce == "on"})
				service := startService(t, program, listen, s, "COUNTERSIGN_OAUTH_PKCE="+pkce)

				service.end(t, "A", connected, s.signIn(newVisitor(t, "").open(service.link(t, "A")).press(nil), maria))
				service.end(t, "C", another, s.signIn(newVisitor(t, "").open(service.link(t, "C")).press(nil), stranger))

				page := newVisitor(t, "").open(service.link(t, "B"))
				if s.decline != nil {
					page = s.decline(page.press(nil), jonas)
					service.end(t, "B", declined, page)
				}
				// The browser is still signed in, but the owner is asked again: that is what prompt is for.
				service.end(t, "B", connected, s.signIn(page.press(nil), jonas))
			})
		}
		for _, test := range mistakes() {
			t.Run(m.name+", "+test.what, func(t *testing.T) {
				t.Parallel()
				listen := freeAddress(t)
				s := m.start(t, app{redirectURL: "http://" + listen + "/oauth/callback", pkce: true})
				service := startService(t, program, listen, s, test.setting)
				page := newVisitor(t, "").open(service.link(t, "A")).press(nil)
				if page.address.Host != listen {
					page = s.signIn(page, maria)
				}
				want := map[string]ending{"oidc-provider": test.oidcProvider, "zitadel": test.zitadel}[m.name]
				service.end(t, "A", want, page)
			})
		}
	}
}

// mistake is a setting that a server may take amiss. Nothing is connected then that would not last, and the owner is
// told in words.
type mistake struct {
	what         string
	setting      string
	oidcProvider ending
	zitadel      ending
}

func mistakes() []mistake {
	return []mistake{
		{"consent not prompted for", "COUNTERSIGN_OAUTH_PROMPT=login", missing, connected},
		{"a scope too many", "COUNTERSIGN_OAUTH_SCOPES=" + otherScope + " " + appScopes, refused, missing},
		{"PKCE off though demanded", "COUNTERSIGN_OAUTH_PKCE=off", refused, connected},
		{"another secret", "COUNTERSIGN_OAUTH_CLIENT_SECRET=wrong", refused, refused},
	}
}

// end checks where a walk ended: at a page of the program with a clean address.
func (v *service) end(t *testing.T, ref string, want ending, p page) {
	t.Helper()
	title := regexp.MustCompile(`<h1>([^<]*)</h1>`).FindStringSubmatch(p.body)
	if p.status != http.StatusOK || title == nil {
		t.Fatalf("%s answered %d:\n%s", p.address, p.status, p.body)
	}
	if got := ending(title[1] + ": " + v.standing(t, ref)); got != want {
		t.Fatalf("the walk of client %s ends with %q; want %q", ref, got, want)
	}
	if p.address.RawQuery != "" || "http://"+p.address.Host != v.url {
		t.Errorf("the walk of client %s ends at %s", ref, p.address)
	}
}
