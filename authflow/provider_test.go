package authflow_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

const (
	callbackURL = "https://connect.example.com/oauth/callback"
	password    = "correct-horse-1"
)

// testKey is shared, because making one takes a tenth of a second.
var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }) //nolint:gochecknoglobals // see above

// sandboxed plugs the real client and the imitated provider in.
func (b *testBundle) sandboxed(t *testing.T, switches sandbox.Switches, timeout time.Duration) (*sandbox.Sandbox, *http.Client) {
	t.Helper()
	key, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	base := "http://" + server.Listener.Addr().String()
	box, err := sandbox.New(sandbox.Options{
		BaseURL: base,
		Apps:    []sandbox.App{{ClientID: "app", Secret: "app-secret", RedirectURIs: []string{callbackURL}, RequirePKCE: true}},
		Accounts: []sandbox.Account{
			{ID: "acct-acme", Organization: "Acme Bakery", ContactEmail: "ada@acme.example", Users: []sandbox.User{
				{Login: "ada@acme.example", Password: password, Role: sandbox.RoleOwner},
				{Login: "agency+acme-bakery@example.com", Password: password, Role: sandbox.RoleManager},
			}},
			{ID: "acct-stranger", Organization: "Somebody Else", Users: []sandbox.User{
				{Login: "who@else.example", Password: password, Role: sandbox.RoleOwner},
			}},
		},
		Switches:  switches,
		Unlimited: true,
		Key:       key,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = box
	server.Start()
	t.Cleanup(server.Close)
	config := constantcontact.Config{
		ClientID:     "app",
		ClientSecret: "app-secret",
		Scopes:       b.Scopes,
		PKCE:         true,
		Prompt:       "login",
		RedirectURL:  callbackURL,
		AuthorizeURL: base + "/oauth2/default/v1/authorize",
		TokenURL:     base + "/oauth2/default/v1/token",
		APIURL:       base + "/v3",
		HTTP:         &http.Client{Transport: server.Client().Transport, Timeout: timeout},
	}
	if b.Provider, err = constantcontact.New(config); err != nil {
		t.Fatal(err)
	}
	b.Issuers = authflow.Origins(config.AuthorizeURL, config.TokenURL)
	return box, server.Client()
}

// visit is an owner's walk: from Continue over the provider's pages and back.
func (b *testBundle) visit(t *testing.T, browser *http.Client, token, login string, d sandbox.Decision) authflow.Callback {
	t.Helper()
	w := b.begin(t, token)
	address, err := sandbox.Consent(t.Context(), browser, w.AuthorizeURL, login, password, d)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	return authflow.Callback{
		State: q.Get("state"), Code: provisioning.Secret(q.Get("code")), Error: q.Get("error"), Issuer: q.Get("iss"), Browser: w.cookie,
	}
}

// The whole way with the real client: right at once, and right in the end whatever went wrong before.
func TestWalkThroughTheProvider(t *testing.T) {
	t.Parallel()
	const owner = "ada@acme.example"
	tests := []struct {
		name     string
		fault    sandbox.Fault
		login    string
		decision sandbox.Decision
		switches sandbox.Switches
		want     authflow.Outcome
	}{
		{name: "owner", want: authflow.OutcomeConnected},
		{name: "manager", login: "agency+acme-bakery@example.com", want: authflow.OutcomeConnected},
		{name: "provider names itself", switches: sandbox.Switches{SendIssuer: true}, want: authflow.OutcomeConnected},
		{name: "denied", decision: sandbox.Deny, want: authflow.OutcomeDeclined},
		{name: "another account", login: "who@else.example", want: authflow.OutcomeWrongAccount},

		{fault: sandbox.AuthorizeUnavailable, want: authflow.OutcomeUnavailable},
		{fault: sandbox.AuthorizeServerError, want: authflow.OutcomeUnavailable},
		{fault: sandbox.AuthorizeWrongIssuer, want: authflow.OutcomeFailed},
		{fault: sandbox.TokenHTML, want: authflow.OutcomeUnavailable},
		{fault: sandbox.TokenErrorWith200, want: authflow.OutcomeFailed},
		{fault: sandbox.Token500, want: authflow.OutcomeUnavailable},
		{fault: sandbox.Token503, want: authflow.OutcomeUnavailable},
		{fault: sandbox.Token429, want: authflow.OutcomeUnavailable},
		{fault: sandbox.Token429RetryAfter, want: authflow.OutcomeUnavailable},
		{fault: sandbox.TokenRedirect, want: authflow.OutcomeUnavailable},
		{fault: sandbox.TokenHuge, want: authflow.OutcomeUnavailable},
		{fault: sandbox.TokenLost, want: authflow.OutcomeUnavailable},
		{fault: sandbox.TokenContentType, want: authflow.OutcomeUnavailable},
		{fault: sandbox.TokenExpiresAbsent, want: authflow.OutcomeConnected},
		{fault: sandbox.TokenExpiresNegative, want: authflow.OutcomeConnected},
		{fault: sandbox.TokenExpiresString, want: authflow.OutcomeConnected},
		{fault: sandbox.TokenExpiresHuge, want: authflow.OutcomeConnected},
		{fault: sandbox.TokenNoRefreshToken, want: authflow.OutcomeMissingScope},
		{fault: sandbox.TokenNarrowScope, want: authflow.OutcomeMissingScope},
		{fault: sandbox.TokenWideScope, want: authflow.OutcomeConnected},
		{fault: sandbox.TokenUnassigned, want: authflow.OutcomeFailed},
		{fault: sandbox.API500, want: authflow.OutcomeUnavailable},
		{fault: sandbox.API503, want: authflow.OutcomeUnavailable},
		{fault: sandbox.API401, want: authflow.OutcomeFailed},
		{fault: sandbox.SummaryWithoutID, want: authflow.OutcomeFailed},
		{fault: sandbox.SummaryOfAnother, want: authflow.OutcomeWrongAccount},
	}
	b := setup(t)
	for _, test := range tests {
		t.Run(cmp.Or(test.name, string(test.fault)), func(t *testing.T) {
			b.anew(t)
			box, browser := b.sandboxed(t, test.switches, time.Minute)
			token := b.token(t, "ACME")
			if test.fault != "" {
				if err := box.SetFaults(sandbox.Faults{test.fault: {Next: 1}}); err != nil {
					t.Fatal(err)
				}
			}
			login, decision := cmp.Or(test.login, owner), cmp.Or(test.decision, sandbox.Allow)
			cb := b.visit(t, browser, token, login, decision)
			b.ends(t, cb, test.want)
			if struck := box.Stats().Faults[test.fault]; test.fault != "" && struck != 1 {
				t.Errorf("the fault struck %d times", struck)
			}
			b.ends(t, cb, test.want) // the same again, as after a reload
			if test.want != authflow.OutcomeConnected {
				cb := b.visit(t, browser, token, owner, sandbox.Allow)
				b.ends(t, cb, authflow.OutcomeConnected)
			}
			b.isAt(t, "ACME", "authorized")
			live := 0
			for _, g := range box.Grants() {
				if g.AccountID == "acct-acme" && g.Ended == sandbox.Live && g.Offline {
					live++
				}
			}
			if live != 1 {
				t.Errorf("the provider keeps %d grants of the account: %+v", live, box.Grants())
			}
		})
	}
}

func TestTokenEndpointHangs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	box, browser := b.sandboxed(t, sandbox.Switches{}, 200*time.Millisecond)
	if err := box.SetFaults(sandbox.Faults{sandbox.TokenHang: {Next: 1}}); err != nil {
		t.Fatal(err)
	}
	cb := b.visit(t, browser, b.token(t, "ACME"), "ada@acme.example", sandbox.Allow)
	b.ends(t, cb, authflow.OutcomeUnavailable)
	b.isAt(t, "ACME", "started")
}

// A code from another walk does not fit this walk's verifier (RFC 7636).
func TestCodeOfAnotherWalk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, browser := b.sandboxed(t, sandbox.Switches{}, time.Minute)
	token := b.token(t, "ACME")
	mine := b.visit(t, browser, token, "ada@acme.example", sandbox.Allow)
	other := b.visit(t, browser, token, "ada@acme.example", sandbox.Allow)
	mixed := mine
	mixed.Code = other.Code
	b.ends(t, mixed, authflow.OutcomeFailed)
	b.ends(t, other, authflow.OutcomeConnected)
}

// The tokens that are kept are those that work at the provider.
func TestKeptTokensWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, browser := b.sandboxed(t, sandbox.Switches{}, time.Minute)
	cb := b.visit(t, browser, b.token(t, "ACME"), "ada@acme.example", sandbox.Allow)
	b.ends(t, cb, authflow.OutcomeConnected)
	var id, client string
	var access, refresh []byte
	if err := b.db.QueryRow(t.Context(), `SELECT id::text, client_id::text, access_token, refresh_token FROM grants`).Scan(&id, &client, &access, &refresh); err != nil {
		t.Fatal(err)
	}
	open := func(sealed []byte, kind string) provisioning.Secret {
		t.Helper()
		plain, err := b.Vault.Open(sealed, vault.AD{Row: id, Kind: kind, Client: client, Generation: 1})
		if err != nil {
			t.Fatal(err)
		}
		return provisioning.Secret(plain)
	}
	if account, err := b.Provider.Account(t.Context(), open(access, "access_token")); err != nil || account.ID != "acct-acme" {
		t.Errorf("the access token opens %+v, %v", account, err)
	}
	refresher := b.Provider.(interface {
		Refresh(ctx context.Context, refresh provisioning.Secret) (provisioning.Tokens, error)
	})
	if _, err := refresher.Refresh(t.Context(), open(refresh, "refresh_token")); err != nil {
		t.Errorf("the refresh token: %v", err)
	}
}
