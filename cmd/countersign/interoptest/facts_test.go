package interoptest_test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

// fact is something that servers do, each in its way. It is seen through the program's own client, and
// the program must be at home with all of it.
type fact struct {
	what         string
	see          func(*testing.T, *server) string
	oidcProvider string
	zitadel      string
}

func facts() []fact {
	return []fact{
		// RFC 9207: it is checked where it is there, and its absence is no reason for doubt.
		{"iss in the callback", seeIssuer, "names the server", "absent"},
		// Whether a grant lasts is told by the refresh token: a consent without one is not taken for a success.
		{"offline_access, consent not prompted for", seeOffline, "no refresh token", "refresh token"},
		// Servers say nothing of what they ignore: what was granted has to be compared with what was asked.
		{"a scope that the server does not know", seeUnknownScope, "ignored", "ignored"},
		// Of one and the same mistake, one server makes an error in the callback and the other a grant of less.
		{"a scope that the app is not registered for", seeForeignScope, "invalid_scope", "ignored"},
		// The owner stays on the server's page: no callback tells the program.
		{"an unregistered redirect URI", seeForeignRedirect, "400 text/html", "400 text/plain"},
		{"PKCE off", seeNoPKCE, "works", "works"},
		// RFC 9700, 4.8.2: nobody can strip the challenge off unseen.
		{"a verifier for a walk without a challenge", seeStrippedChallenge, "invalid_grant", "invalid_request"},
		// Neither burns the code: whoever steals one and has no verifier, or no secret, cannot spoil the owner's walk.
		{"a code after a wrong verifier", seeWrongVerifier, "invalid_grant, then works", "invalid_grant, then works"},
		{"a code after a wrong secret", seeWrongSecret, "invalid_client, then works", "invalid_client, then works"},
		// RFC 6749, 4.1.2: exactly one callback may redeem a code, as a second one may end the grant of the first.
		{"a code that comes again", seeCodeAgain, "invalid_grant; the grant is gone", "invalid_grant; the grant lives"},
		// The token that the agency's app holds may die of a refresh, long before its time.
		{"the access token of before a refresh", seeOldAccess, "works", "unauthorized"},
		// RFC 9700, 4.14.2: a rotated token that comes again may take the newest one along. That its answer was lost is
		// no excuse at either server.
		{"a rotated refresh token that comes again", seeReuse, "invalid_grant; the grant is gone", "invalid_grant; the grant lives"},
		// Why there is one refresher a grant over all replicas: the loser's request may end the winner's grant.
		{"two refreshes with one token at once", seeRace, "one works; the grant is gone", "one works; the grant lives"},
		{"a refresh token that is none", seeNonsense, "invalid_grant", "invalid_grant"},
		// Our app is refused, and the grant lives. One server takes that for an accident of its own (500).
		{"a refresh by an app that is not registered", seeForeignApp, "invalid_client", "no usable answer"},
		// An address that was mistyped says nothing about a grant: one server knows none there, the other redirects.
		{"the address for signing out, taken for the token endpoint", seeSignOut, "404", "no usable answer"},
	}
}

// TestFacts notes what each server does.
func TestFacts(t *testing.T) {
	t.Parallel()
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s := m.start(t, app{redirectURL: nowhere})
			for _, f := range facts() {
				t.Run(f.what, func(t *testing.T) {
					t.Parallel()
					want := map[string]string{"oidc-provider": f.oidcProvider, "zitadel": f.zitadel}[m.name]
					if got := f.see(t, s); got != want {
						t.Errorf("%s: %s; it was %s", f.what, got, want)
					}
				})
			}
		})
	}
}

// nowhere is a callback at which nobody is.
const nowhere = "http://127.0.0.1:1/oauth/callback"

// walk is somebody's way to a server and back to nowhere, with or without a code.
type walk struct {
	t        *testing.T
	client   *constantcontact.Client
	verifier string
	back     page
}

func (s *server) walk(t *testing.T, change ...func(*constantcontact.Config)) *walk {
	t.Helper()
	return s.walkAs(t, stranger, change...)
}

func (s *server) walkAs(t *testing.T, login string, change ...func(*constantcontact.Config)) *walk {
	t.Helper()
	w := &walk{t: t, client: s.client(t, change...)}
	if w.client.PKCE() {
		w.verifier = oauth2.GenerateVerifier()
	}
	w.back = newVisitor(t, nowhere).open(w.client.AuthorizeURL("state", w.verifier))
	if w.back.status == http.StatusOK {
		w.back = s.signIn(w.back, login)
	}
	return w
}

// answered returns a parameter of the callback.
func (w *walk) answered(name string) string { return w.back.address.Query().Get(name) }

// exchange redeems the code, with the client and the verifier that the walk had unless told otherwise.
func (w *walk) exchange() (provisioning.Tokens, error) {
	return w.client.Exchange(w.t.Context(), w.client.TokenURL(), w.answered("code"), w.verifier)
}

// tokens redeems the code, which has to work.
func (w *walk) tokens() provisioning.Tokens {
	w.t.Helper()
	tokens, err := w.exchange()
	if err != nil {
		w.t.Fatal(err)
	}
	return tokens
}

func (w *walk) refresh(tokens provisioning.Tokens) (provisioning.Tokens, error) {
	return w.client.Refresh(w.t.Context(), tokens.Refresh)
}

// refreshed is refresh, which has to work and to rotate the token.
func (w *walk) refreshed(tokens provisioning.Tokens) provisioning.Tokens {
	w.t.Helper()
	next, err := w.refresh(tokens)
	if err != nil {
		w.t.Fatal(err)
	}
	if next.Refresh == "" || next.Refresh == tokens.Refresh {
		w.t.Fatal("the refresh token was not rotated")
	}
	return next
}

// fate tells whether a grant is still there, by its newest tokens: both must agree.
func (w *walk) fate(newest provisioning.Tokens) string {
	w.t.Helper()
	account, err := w.client.Account(w.t.Context(), newest.Access)
	opens := err == nil && account.ID == accounts()[stranger].ID
	if !opens && verdict(err) != "unauthorized" {
		w.t.Errorf("the newest access token opens %+v, %v", account, err)
	}
	_, err = w.refresh(newest)
	switch word := verdict(err); {
	case opens && word == "works":
		return "the grant lives"
	case !opens && word == "invalid_grant":
		return "the grant is gone"
	default:
		w.t.Errorf("the newest access token is taken: %t; refresh with the newest refresh token: %v", opens, err)
		return "one half of the grant is gone"
	}
}

// verdict puts what a server answered into a word.
func verdict(err error) string {
	refusal, refused := errors.AsType[*provisioning.ProviderError](err)
	switch {
	case err == nil:
		return "works"
	case errors.Is(err, provisioning.ErrProviderUnavailable):
		return "no usable answer"
	case refused && refusal.Code != "":
		return refusal.Code
	case refused:
		return strconv.Itoa(refusal.Status)
	}
	return err.Error()
}

func seeIssuer(t *testing.T, s *server) string {
	t.Helper()
	switch issuer := s.walk(t).answered("iss"); {
	case issuer == "":
		return "absent"
	case strings.HasPrefix(s.authorizeURL, issuer+"/"):
		return "names the server"
	default:
		return issuer
	}
}

func seeOffline(t *testing.T, s *server) string {
	t.Helper()
	tokens := s.walk(t, func(c *constantcontact.Config) { c.Prompt = "login" }).tokens()
	if named := slices.Contains(tokens.Scopes, "offline_access"); named != (tokens.Refresh != "") {
		t.Errorf("offline_access is granted: %t; a refresh token came: %t", named, tokens.Refresh != "")
	}
	if tokens.Refresh == "" {
		return "no refresh token"
	}
	return "refresh token"
}

func seeUnknownScope(t *testing.T, s *server) string {
	t.Helper()
	return s.seeScope(t, "unheard_of")
}

func seeForeignScope(t *testing.T, s *server) string {
	t.Helper()
	return s.seeScope(t, otherScope)
}

// seeScope asks for one more scope than the app usually does.
func (s *server) seeScope(t *testing.T, scope string) string {
	t.Helper()
	w := s.walk(t, func(c *constantcontact.Config) { c.Scopes = append(c.Scopes, scope) })
	if refused := w.answered("error"); refused != "" {
		return refused
	}
	if strings.Join(w.tokens().Scopes, " ") == appScopes {
		return "ignored"
	}
	return "granted"
}

func seeForeignRedirect(t *testing.T, s *server) string {
	t.Helper()
	page := s.walk(t, func(c *constantcontact.Config) { c.RedirectURL += "/other" }).back
	kind, _, _ := strings.Cut(page.kind, ";")
	return strconv.Itoa(page.status) + " " + kind
}

func seeNoPKCE(t *testing.T, s *server) string {
	t.Helper()
	_, err := s.walk(t, withoutPKCE).exchange()
	return verdict(err)
}

func withoutPKCE(c *constantcontact.Config) { c.PKCE = false }

func seeStrippedChallenge(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t, withoutPKCE)
	w.verifier = oauth2.GenerateVerifier()
	_, err := w.exchange()
	return verdict(err)
}

func seeWrongVerifier(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t)
	wrong := *w
	wrong.verifier = oauth2.GenerateVerifier()
	_, first := wrong.exchange()
	_, then := w.exchange()
	return verdict(first) + ", then " + verdict(then)
}

func seeWrongSecret(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t)
	wrong := *w
	wrong.client = s.client(t, func(c *constantcontact.Config) { c.ClientSecret = "wrong" })
	_, first := wrong.exchange()
	_, then := w.exchange()
	return verdict(first) + ", then " + verdict(then)
}

func seeCodeAgain(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t)
	tokens := w.tokens()
	_, err := w.exchange()
	return verdict(err) + "; " + w.fate(tokens)
}

func seeOldAccess(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t)
	first := w.tokens()
	second := w.refreshed(first)
	if account, err := w.client.Account(t.Context(), second.Access); err != nil || account.ID != accounts()[stranger].ID {
		t.Errorf("after the refresh the account is %+v, %v", account, err)
	}
	_, err := w.client.Account(t.Context(), first.Access)
	return verdict(err)
}

func seeReuse(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t)
	first := w.tokens()
	newest := w.refreshed(w.refreshed(first))
	_, err := w.refresh(first)
	return verdict(err) + "; " + w.fate(newest)
}

func seeRace(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t)
	first := w.tokens()
	won := make(chan *provisioning.Tokens)
	for range 2 {
		go func() {
			tokens, err := w.refresh(first)
			if err != nil {
				won <- nil
				return
			}
			won <- &tokens
		}()
	}
	one, other := <-won, <-won
	switch {
	case one != nil && other != nil:
		return "both work"
	case one == nil:
		one = other
	}
	if one == nil {
		return "neither works"
	}
	return "one works; " + w.fate(*one)
}

func seeNonsense(t *testing.T, s *server) string {
	t.Helper()
	_, err := s.client(t).Refresh(t.Context(), "nonsense")
	return verdict(err)
}

func seeForeignApp(t *testing.T, s *server) string {
	t.Helper()
	w := s.walk(t)
	tokens := w.tokens()
	_, err := s.client(t, func(c *constantcontact.Config) { c.ClientID = "nobody" }).Refresh(t.Context(), tokens.Refresh)
	if fate := w.fate(tokens); fate != "the grant lives" {
		t.Error(fate)
	}
	return verdict(err)
}

func seeSignOut(t *testing.T, s *server) string {
	t.Helper()
	_, err := s.client(t, func(c *constantcontact.Config) { c.TokenURL = s.signOutURL }).Refresh(t.Context(), "any")
	return verdict(err)
}
