package openid_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/admin/sso"
	"github.com/countersign/countersign/authflow/admin/sso/openid"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const ann = "ann@agency.example"

// testKeys are shared, because making them takes long.
var testKeys = sync.OnceValues(func() ([2]*rsa.PrivateKey, error) { //nolint:gochecknoglobals // see above
	first, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return [2]*rsa.PrivateKey{}, err
	}
	second, err := rsa.GenerateKey(rand.Reader, 2048)
	return [2]*rsa.PrivateKey{first, second}, err
})

// hostile is an issuer that does what a test wants.
type hostile struct {
	*httptest.Server

	keys      [2]*rsa.PrivateKey
	published int // index of the key that it publishes
	signedBy  int // index of the key that it signs with
	down      bool
	refuses   int // status of the token endpoint, if not 0
	namesIss  bool
	alg       string            // of the header of a token
	claims    map[string]any    // instead of its own; nil takes one away
	info      map[string]any    // user info; nil if there is none
	asked     map[string]string // by the last authorization request
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch {
	case h.down:
		http.Error(w, "down", http.StatusBadGateway)
	case r.URL.Path == "/.well-known/openid-configuration":
		told := map[string]any{
			"issuer": h.URL, "authorization_endpoint": h.URL + "/authorize", "token_endpoint": h.URL + "/token", "jwks_uri": h.URL + "/keys",
			"id_token_signing_alg_values_supported":          []string{"RS256", "none", "HS256"},
			"authorization_response_iss_parameter_supported": h.namesIss,
		}
		if h.info != nil {
			told["userinfo_endpoint"] = h.URL + "/info"
		}
		answer(told)
	case r.URL.Path == "/keys":
		public := h.keys[h.published].PublicKey
		answer(map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": strconv.Itoa(h.published),
			"n": encode(public.N.Bytes()), "e": encode(big.NewInt(int64(public.E)).Bytes()),
		}}})
	case r.URL.Path == "/token" && h.refuses != 0:
		http.Error(w, "busy", h.refuses)
	case r.URL.Path == "/token":
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if r.PostFormValue("code") != "code" || encode(sum[:]) != h.asked["code_challenge"] {
			w.WriteHeader(http.StatusBadRequest)
			answer(map[string]any{"error": "invalid_grant"})
			return
		}
		answer(map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": h.token()})
	case r.URL.Path == "/info":
		answer(h.info)
	default:
		http.NotFound(w, r)
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token signs the claims that a good issuer would make, with what the test changes.
func (h *hostile) token() string {
	claims := map[string]any{
		"iss": h.URL, "sub": "subject", "aud": "client", "exp": now().Add(time.Hour).Unix(), "iat": now().Unix(),
		"nonce": h.asked["nonce"], "email": ann, "email_verified": true, "name": "Ann",
	}
	maps.Copy(claims, h.claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	header, _ := json.Marshal(map[string]string{"alg": h.alg, "kid": strconv.Itoa(h.signedBy)})
	payload, _ := json.Marshal(claims)
	signed := encode(header) + "." + encode(payload)
	if h.alg == "none" {
		return signed + "."
	}
	sum := sha256.Sum256([]byte(signed))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, h.keys[h.signedBy], crypto.SHA256, sum[:])
	return signed + "." + encode(signature)
}

func now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

type bundle struct {
	*sso.Door

	issuer *hostile
	later  time.Duration // that our clock is ahead
}

// setup makes a door to a hostile issuer, and Ann an operator.
func setup(t *testing.T) *bundle {
	t.Helper()
	return setupWith(t, withAnn(t))
}

func withAnn(t *testing.T) *admin.Store {
	t.Helper()
	store := admin.New(pgtest.New(t))
	if _, err := store.CreateOperator(t.Context(), admin.NewOperator{
		Email: ann, Name: "Ann", Role: admin.RoleOwner, Password: "correct horse battery",
	}, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	return store
}

// setupWith makes a door for operators that are there. Only one that has its own may move the clock.
func setupWith(t *testing.T, store *admin.Store) *bundle {
	t.Helper()
	keys, err := testKeys()
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{issuer: &hostile{keys: keys, alg: "RS256"}}
	b.issuer.Server = httptest.NewServer(b.issuer)
	t.Cleanup(b.issuer.Close)
	clock := func() time.Time { return now().Add(b.later) }
	b.Door = &sso.Door{
		Store: store, Domains: []string{"agency.example"}, Newcomers: admin.RoleViewer, Now: clock,
		Issuer: &openid.Issuer{
			Name: b.issuer.URL, ClientID: "client", ClientSecret: "secret", RedirectURL: "https://c.example/admin/sso/callback", Now: clock,
		},
	}
	return b
}

// begin goes to the issuer and returns the answer of a good one.
func (b *bundle) begin(t *testing.T) sso.Answer {
	t.Helper()
	attempt, err := b.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(attempt.URL)
	if err != nil {
		t.Fatal(err)
	}
	b.issuer.asked = map[string]string{}
	for name, values := range u.Query() {
		b.issuer.asked[name] = values[0]
	}
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "client", "code_challenge_method": "S256", "scope": "openid email profile",
		"redirect_uri": "https://c.example/admin/sso/callback",
	} {
		if got := b.issuer.asked[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	return sso.Answer{State: b.issuer.asked["state"], Code: "code", Browser: attempt.Browser}
}

func (b *bundle) end(t *testing.T, a sso.Answer) (admin.Operator, error) {
	t.Helper()
	token, o, err := b.Callback(t.Context(), a, admin.Visitor{})
	if (token == "") != (err != nil) {
		t.Errorf("error %v with a session %v", err, token != "")
	}
	return o, err
}

func TestSignOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, o, err := b.Callback(t.Context(), b.begin(t), admin.Visitor{})
	if err != nil || o.Email != ann || o.Role != admin.RoleOwner {
		t.Fatalf("%+v, %v", o, err)
	}
	if in, err := b.Store.Session(t.Context(), token); err != nil || in.ID != o.ID {
		t.Errorf("the session is of %+v, %v", in, err)
	}
	// From now on the subject counts, and not the address.
	b.issuer.claims = map[string]any{"email": "ann.new@agency.example"}
	if again, err := b.end(t, b.begin(t)); err != nil || again.ID != o.ID || again.Email != ann {
		t.Errorf("with another address: %+v, %v", again, err)
	}
	b.issuer.claims = map[string]any{"sub": "another"}
	if _, err := b.end(t, b.begin(t)); !errors.Is(err, admin.ErrOtherIdentity) {
		t.Errorf("with another subject: %v", err)
	}
}

func TestNewcomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.issuer.claims = map[string]any{"sub": "bob", "email": "bob@agency.example", "name": nil, "email_verified": "true"}
	bob, err := b.end(t, b.begin(t))
	if err != nil || bob.Role != admin.RoleViewer || bob.Name != "bob@agency.example" {
		t.Errorf("%+v, %v", bob, err)
	}
	if _, _, err := b.Store.SignIn(t.Context(), bob.Email, "", admin.Visitor{}); !errors.Is(err, admin.ErrBadCredentials) {
		t.Errorf("without a password: %v", err)
	}
	b.Newcomers = ""
	b.issuer.claims = map[string]any{"sub": "eve", "email": "eve@agency.example"}
	if _, err := b.end(t, b.begin(t)); !errors.Is(err, admin.ErrStranger) {
		t.Errorf("no operator: %v", err)
	}
	if _, err := b.Store.Invite(t.Context(), "Eve@agency.example", admin.RoleOperator, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if eve, err := b.end(t, b.begin(t)); err != nil || eve.Role != admin.RoleOperator {
		t.Errorf("invited: %+v, %v", eve, err)
	}
	if left, err := b.Store.Invitations(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("invitations left: %v, %v", left, err)
	}
}

func TestHostile(t *testing.T) {
	t.Parallel()
	store := withAnn(t)
	at := func(d time.Duration) int64 { return now().Add(d).Unix() }
	for _, test := range []struct {
		name   string
		claims map[string]any
		do     func(b *bundle)
		change func(a *sso.Answer)
		want   error
	}{
		{name: "fine", want: nil},
		{name: "clock behind", claims: map[string]any{"exp": at(-time.Minute)}},
		{name: "names itself", do: func(b *bundle) { b.issuer.namesIss = true }, change: func(a *sso.Answer) { a.Issuer = "self" }},
		{name: "several audiences and us", claims: map[string]any{"aud": []string{"client", "other"}, "azp": "client"}},
		{name: "bad signature", do: func(b *bundle) { b.issuer.signedBy = 1 }, want: sso.ErrUntrusted},
		{name: "alg none", do: func(b *bundle) { b.issuer.alg = "none" }, want: sso.ErrUntrusted},
		{name: "alg HS256", do: func(b *bundle) { b.issuer.alg = "HS256" }, want: sso.ErrUntrusted},
		{name: "wrong aud", claims: map[string]any{"aud": "other"}, want: sso.ErrUntrusted},
		{name: "wrong party", claims: map[string]any{"azp": "other"}, want: sso.ErrUntrusted},
		{name: "several audiences", claims: map[string]any{"aud": []string{"client", "other"}}, want: sso.ErrUntrusted},
		{name: "wrong iss", claims: map[string]any{"iss": "https://evil.example"}, want: sso.ErrUntrusted},
		{name: "wrong nonce", claims: map[string]any{"nonce": "other"}, want: sso.ErrUntrusted},
		{name: "no nonce", claims: map[string]any{"nonce": nil}, want: sso.ErrUntrusted},
		{name: "expired", claims: map[string]any{"exp": at(-3 * time.Minute)}, want: sso.ErrUntrusted},
		{name: "not yet", claims: map[string]any{"nbf": at(10 * time.Minute)}, want: sso.ErrUntrusted},
		{name: "nobody", claims: map[string]any{"sub": nil}, want: sso.ErrUntrusted},
		{name: "unverified", claims: map[string]any{"email_verified": false}, want: sso.ErrUnverified},
		{name: "not said to be verified", claims: map[string]any{"email_verified": nil}, want: sso.ErrUnverified},
		{name: "verified in other words", claims: map[string]any{"email_verified": "yes"}, want: sso.ErrUnverified},
		{name: "no address", claims: map[string]any{"email": nil}, want: sso.ErrDomain},
		{name: "foreign domain", claims: map[string]any{"email": "ann@evil.example"}, want: sso.ErrDomain},
		{name: "foreign domain after ours", claims: map[string]any{"email": "ann@agency.example@evil.example"}, want: sso.ErrDomain},
		{name: "subdomain", claims: map[string]any{"email": "ann@sub.agency.example"}, want: sso.ErrDomain},
		{name: "user info of another", claims: map[string]any{"email": nil}, do: func(b *bundle) {
			b.issuer.info = map[string]any{"sub": "other", "email": ann, "email_verified": true}
		}, want: sso.ErrUntrusted},
		{name: "iss of another", change: func(a *sso.Answer) { a.Issuer = "https://evil.example" }, want: sso.ErrUntrusted},
		{name: "iss kept back", do: func(b *bundle) { b.issuer.namesIss = true }, want: sso.ErrUntrusted},
		{name: "refused", change: func(a *sso.Answer) { a.Error = "access_denied" }, want: sso.ErrRefused},
		{name: "in trouble", change: func(a *sso.Answer) { a.Error = "server_error" }, want: sso.ErrUnavailable},
		{name: "away", change: func(a *sso.Answer) { a.Error = "temporarily_unavailable" }, want: sso.ErrUnavailable},
		{name: "token endpoint in trouble", do: func(b *bundle) { b.issuer.refuses = http.StatusBadGateway }, want: sso.ErrUnavailable},
		{name: "token endpoint too busy", do: func(b *bundle) { b.issuer.refuses = http.StatusTooManyRequests }, want: sso.ErrUnavailable},
		{name: "no code", change: func(a *sso.Answer) { a.Code = "" }, want: sso.ErrUntrusted},
		{name: "wrong code", change: func(a *sso.Answer) { a.Code = "other" }, want: sso.ErrRefused},
		{name: "no state", change: func(a *sso.Answer) { a.State = "" }, want: sso.ErrAttempt},
		{name: "made-up state", change: func(a *sso.Answer) { a.State = "x" }, want: sso.ErrAttempt},
		{name: "long state", change: func(a *sso.Answer) { a.State = strings.Repeat("x", 5000) }, want: sso.ErrAttempt},
		{name: "repeated", change: func(a *sso.Answer) { a.Repeated = true }, want: sso.ErrAttempt},
		{name: "other browser", change: func(a *sso.Answer) { a.Browser = "other" }, want: sso.ErrOtherBrowser},
		{name: "no browser", change: func(a *sso.Answer) { a.Browser = "" }, want: sso.ErrOtherBrowser},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setupWith(t, store)
			b.issuer.claims = test.claims
			if test.do != nil {
				test.do(b)
			}
			a := b.begin(t)
			good := a
			if test.change != nil {
				test.change(&a)
			}
			if a.Issuer == "self" {
				a.Issuer = b.issuer.URL
			}
			if _, err := b.end(t, a); !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			// Whose answer it was is spent; who has another browser can spend nothing of it.
			_, err := b.end(t, good)
			if spent := errors.Is(err, sso.ErrAttempt); spent == (a.State != good.State || a.Repeated || a.Browser != good.Browser) {
				t.Errorf("afterwards the right answer gives %v", err)
			}
		})
	}
}

func TestAttemptTakesTenMinutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.begin(t)
	b.later = sso.AttemptLife - time.Second
	if _, err := b.end(t, a); err != nil {
		t.Errorf("just in time: %v", err)
	}
	b.later = 0
	a = b.begin(t)
	b.later = sso.AttemptLife
	if _, err := b.end(t, a); !errors.Is(err, sso.ErrExpired) {
		t.Errorf("late: %v", err)
	}
}

func TestUserInfo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.issuer.claims = map[string]any{"email": nil, "email_verified": nil}
	b.issuer.info = map[string]any{"sub": "subject", "email": ann, "email_verified": true}
	if o, err := b.end(t, b.begin(t)); err != nil || o.Email != ann {
		t.Errorf("%+v, %v", o, err)
	}
}

// The program starts without the issuer, and goes on when its keys change or it is out of reach for a while.
func TestIssuerComesAndGoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.issuer.down = true
	if _, err := b.Begin(t.Context()); !errors.Is(err, sso.ErrUnavailable) {
		t.Errorf("down: %v", err)
	}
	b.issuer.down = false
	if _, err := b.end(t, b.begin(t)); err != nil {
		t.Errorf("up again: %v", err)
	}
	b.issuer.published, b.issuer.signedBy = 1, 1
	if _, err := b.end(t, b.begin(t)); err != nil {
		t.Errorf("with another key: %v", err)
	}
	b.issuer.signedBy = 0
	if _, err := b.end(t, b.begin(t)); !errors.Is(err, sso.ErrUntrusted) {
		t.Errorf("with the key that is gone: %v", err)
	}
	b.issuer.signedBy, b.later = 1, 2*time.Hour
	b.issuer.claims = map[string]any{"exp": now().Add(3 * time.Hour).Unix()}
	a := b.begin(t)
	b.issuer.down = true
	if _, err := b.end(t, a); !errors.Is(err, sso.ErrRefused) && !errors.Is(err, sso.ErrUnavailable) {
		t.Errorf("down on the way: %v", err)
	}
}
