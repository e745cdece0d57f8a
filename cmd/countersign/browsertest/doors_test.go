package browsertest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"
)

const (
	viewer         = "vera@northwind.example"
	viewerPassword = "looking is all that is allowed"
)

// TestViewer: who may only look is shown every page, and on none of them something that would be refused.
func TestViewer(t *testing.T) {
	t.Parallel()
	d := newDemo(t, "--walk")
	d.command(t, 0, viewerPassword+"\n", "admin", "add", viewer, "--name", "Vera Lind", "--role", "viewer")
	p := visit(t, desk)
	p.open(d.console + "/admin/sign-in")
	p.fill("E-mail", viewer)
	p.fill("Password", viewerPassword)
	p.press("Sign in")
	for _, room := range []struct {
		path    string
		inspect string // as what it is looked at, if it is another page than for operators
	}{
		{"/admin", "progress-viewer"},
		{"/admin/clients", "clients-viewer"},
		{"/admin/quarantine", "quarantine-viewer"},
		{"/admin/imports", "imports-viewer"},
		{"/admin/reconcile", "reconcile-viewer"},
		{"/admin/mail", "mail-viewer"},
		{"/admin/mail/queue", ""},
		{"/admin/mail/suppressed", ""},
		{"/admin/mail/reports", ""},
		{"/admin/mail/texts", ""},
		{"/admin/mail/texts/invitation/en", "mail-text-viewer"},
		{"/admin/mail/letterhead", "letterhead-viewer"},
		{"/admin/provider", ""},
		{"/admin/settings", ""},
		{"/admin/settings/doctor", "doctor-viewer"},
	} {
		p.open(d.console + room.path)
		p.mentions("your role is viewer")
		p.offersNothing()
		if room.inspect != "" {
			p.inspect(room.inspect)
		}
	}
	p.open(d.console + "/admin/clients")
	p.pressFirst("#list tbody th a")
	p.inspect("client-viewer")
	p.offersNothing()
	p.openTo(http.StatusForbidden, d.console+"/admin/settings/operators")
	p.troubles.ignore()
	p.inspect("forbidden")
}

// offersNothing fails the test if something on the page would be refused to a viewer.
func (p *tab) offersNothing() {
	p.t.Helper()
	offered := eval[[]string](p, `[...document.querySelectorAll("main form[method=post] button, main summary")].filter((e) => e.checkVisibility() && !e.closest(".pick, [action='/admin/clients/columns']")).map((e) => e.innerText)`)
	folded := []string{"All columns", "Day by day", "More filters"}
	if offered = slices.DeleteFunc(offered, func(words string) bool { return slices.Contains(folded, words) }); len(offered) > 0 {
		p.t.Errorf("%s offers %q", p.address().Path, offered)
	}
}

// TestKeys makes a key for a program, reads what the program can do with it, and revokes it.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := visit(t, desk)
	p.setUpFirst(s)
	p.press("Settings")
	p.press("API keys")
	p.fill("What is it for?", "Nightly import")
	p.pressTo(http.StatusUnprocessableEntity, "Make the key")
	p.inspect("keys-mistake")
	p.tick("#scope-write")
	p.press("Make the key")
	p.mentions("it is shown only this once")
	p.inspect("keys")
	p.tabThrough()
	secret := p.text(".copyable code")
	p.press("the API, operation by operation")
	p.mentions("Idempotency-Key")
	p.inspect("reference")
	p.tabThrough()

	ask := func(want int) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/api/v1/mail/hurry", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+secret)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != want {
			t.Errorf("the key's program is answered %s, want %d; %v", response.Status, want, err)
		}
	}
	ask(http.StatusOK)
	p.open(s.base + "/admin/settings/keys")
	p.touch("Revoke Nightly import")
	p.press("Revoke this key : Nightly import")
	p.mentions("1 revoked key")
	p.inspect("keys-revoked")
	ask(http.StatusUnauthorized)
}

// issuer is a small OpenID Connect provider where one person is signed in, who is asked nothing.
type issuer struct {
	*httptest.Server

	key    *rsa.PrivateKey
	email  string
	down   bool
	nonces map[string]string // by code
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key, nonces: map[string]string{}}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer(map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	case "/keys":
		answer(map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1",
			"n": base64url(i.key.N.Bytes()), "e": base64url(big.NewInt(int64(i.key.E)).Bytes()),
		}}})
	case "/authorize":
		q := r.URL.Query()
		code := rand.Text()
		i.nonces[code] = q.Get("nonce")
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusSeeOther) //nolint:gosec // as issuers do, and this one knows one client only
	case "/token":
		if i.down {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		answer(map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": i.token(i.nonces[r.PostFormValue("code")])})
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) token(nonce string) string {
	header, _ := json.Marshal(map[string]string{"alg": "RS256", "kid": "1"})
	claims, _ := json.Marshal(map[string]any{
		"iss": i.URL, "sub": i.email, "aud": "countersign", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"nonce": nonce, "email": i.email, "email_verified": true, "name": "Ines Sousa",
	})
	signed := base64url(header) + "." + base64url(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	return signed + "." + base64url(signature)
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// TestSignOn comes in by single sign-on, is refused, and finds the issuer down.
func TestSignOn(t *testing.T) {
	t.Parallel()
	at := newIssuer(t)
	s := newService(t)
	if err := s.process.stop(); err != nil {
		t.Fatal(err)
	}
	s.settings = append(s.settings, "COUNTERSIGN_SSO_ISSUER="+at.URL, "COUNTERSIGN_SSO_CLIENT_ID=countersign",
		"COUNTERSIGN_SSO_CLIENT_SECRET=hunter2", "COUNTERSIGN_SSO_DOMAINS=northwind.example", "COUNTERSIGN_SSO_NAME=Northwind Login")
	s.process = s.start(t, "Countersign serves")

	boss := visit(t, desk)
	boss.setUpFirst(s) // Before the first operator is there, nobody is let in.
	p := visit(t, desk)
	p.open(s.base + "/admin/sign-in")
	p.inspect("sign-in-sso")
	at.email = "ines@elsewhere.example"
	p.pressTo(http.StatusForbidden, "Sign in with Northwind Login")
	p.inspect("sign-on-refused")
	at.email, at.down = "ines@northwind.example", true
	p.pressTo(http.StatusServiceUnavailable, "Sign in with Northwind Login")
	p.inspect("sign-on-unavailable")
	at.down = false
	p.press("Sign in with Northwind Login")
	p.mentions("Ines Sousa")
	p.mentions("your role is viewer")
	p.press("Ines Sousa")
	p.inspect("account-sso")

	boss.open(s.base + "/admin/settings/sign-in")
	boss.mentions("northwind.example")
	boss.inspect("settings-sign-in")
	boss.open(s.base + "/admin/settings/operators")
	boss.mentions("Ines Sousa")
}
