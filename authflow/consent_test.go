package authflow_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning"
)

func TestBegin(t *testing.T) {
	t.Parallel()
	for _, noPKCE := range []bool{false, true} {
		t.Run(fmt.Sprintf("PKCE %t", !noPKCE), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.provider.noPKCE = noPKCE
			w := b.begin(t, b.token(t, "ACME"))
			b.isAt(t, "ACME", "started")
			b.history(t, "ACME", "started by owner → started")
			if len(w.state) < 43 || len(w.Browser.Reveal()) < 43 || w.state == w.Browser.Reveal() {
				t.Errorf("state of %d and cookie of %d characters: 256 bits have 43", len(w.state), len(w.Browser.Reveal()))
			}
			_, verifier, _ := strings.Cut(w.AuthorizeURL, "verifier=")
			if (verifier == "") != noPKCE {
				t.Errorf("the verifier is %q", verifier)
			}
			row := b.dump(t, "consents")
			for _, secret := range []string{w.state, w.Browser.Reveal(), verifier} {
				if secret != "" && (strings.Contains(row, secret) || strings.Contains(row, hex.EncodeToString([]byte(secret)))) {
					t.Error("a secret of the walk is readable in the database")
				}
			}
			b.ends(t, w.back(), authflow.OutcomeConnected)
			if n := b.count(t, `SELECT count(*) FROM consents WHERE verifier IS NOT NULL`); n != 0 {
				t.Error("the verifier is kept after the walk")
			}
		})
	}
}

func TestBeginWithoutProvider(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Provider = nil
	if _, err := b.Begin(t.Context(), b.token(t, "ACME")); !errors.Is(err, authflow.ErrNoProvider) {
		t.Errorf("error %v, want ErrNoProvider", err)
	}
	b.isAt(t, "ACME", "imported")
}

// A robot presses the button while the owner does.
func TestBeginManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if _, err := b.Begin(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)
}

func TestAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.begin(t, b.token(t, "ACME"))
	b.provider.says(stranger())
	b.ends(t, first.back(), authflow.OutcomeWrongAccount)

	again, err := b.Again(t.Context(), first.Consent)
	if err != nil {
		t.Fatal(err)
	}
	b.provider.says(acme())
	b.ends(t, walk{again, stateOf(t, again.AuthorizeURL)}.back(), authflow.OutcomeConnected)

	if _, err := b.Again(t.Context(), first.Consent); !errors.Is(err, authflow.ErrLinkSpent) {
		t.Errorf("after success: error %v, want ErrLinkSpent", err)
	}
	if _, err := b.Again(t.Context(), uuid.New()); !errors.Is(err, authflow.ErrLinkUnknown) {
		t.Errorf("of no walk: error %v, want ErrLinkUnknown", err)
	}
	b.clock.advance(authflow.InvitationLife)
	late := setup(t)
	w := late.begin(t, late.token(t, "ACME"))
	late.clock.advance(authflow.InvitationLife)
	if _, err := late.Again(t.Context(), w.Consent); !errors.Is(err, authflow.ErrLinkExpired) {
		t.Errorf("of an old link: error %v, want ErrLinkExpired", err)
	}
}

// What is not this walk's own callback touches nothing: the code is not redeemed, and the owner's own
// callback succeeds afterwards.
func TestCallbackOfAnother(t *testing.T) {
	t.Parallel()
	shared := setup(t)
	tests := []struct {
		name string
		want authflow.Outcome
		cb   func(own walk) authflow.Callback
	}{
		{"no state", authflow.OutcomeUnknown, func(own walk) authflow.Callback {
			cb := own.back()
			cb.State = ""
			return cb
		}},
		{"an endless state", authflow.OutcomeUnknown, func(own walk) authflow.Callback {
			cb := own.back()
			cb.State = strings.Repeat(cb.State, 1000)
			return cb
		}},
		{"a made-up state", authflow.OutcomeUnknown, func(own walk) authflow.Callback {
			cb := own.back()
			cb.State = strings.ToLower(cb.State)
			return cb
		}},
		{"a browser without cookie", authflow.OutcomeOtherBrowser, func(own walk) authflow.Callback {
			cb := own.back()
			cb.Browser = func(uuid.UUID) provisioning.Secret { return "" }
			return cb
		}},
		{"a browser with a made-up cookie", authflow.OutcomeOtherBrowser, func(own walk) authflow.Callback {
			cb := own.back()
			cb.Browser = func(uuid.UUID) provisioning.Secret { return "made-up" }
			return cb
		}},
		{"a browser that began another walk of this client", authflow.OutcomeOtherBrowser, func(own walk) authflow.Callback {
			other := shared.begin(t, shared.token(t, "ACME"))
			cb := own.back()
			cb.Browser = func(uuid.UUID) provisioning.Secret { return other.Browser }
			return cb
		}},
		{"a browser that began a walk of another client", authflow.OutcomeOtherBrowser, func(own walk) authflow.Callback {
			other := shared.begin(t, shared.token(t, "BLOOM"))
			cb := own.back()
			cb.Browser = other.cookie
			return cb
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := shared.alone()
			own := b.begin(t, b.token(t, "ACME"))
			id := b.ends(t, test.cb(own), test.want)
			if (id == uuid.Nil) != (test.want == authflow.OutcomeUnknown) {
				t.Errorf("the consent is %s", id)
			}
			if n := b.provider.exchanges.Load(); n != 0 {
				t.Errorf("%d codes were redeemed", n)
			}
			b.ends(t, own.back(), authflow.OutcomeConnected)
		})
	}
}

func TestCallbackInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	w := b.begin(t, token)
	b.clock.advance(authflow.ConsentLife)
	b.ends(t, w.back(), authflow.OutcomeExpired)
	if n := b.provider.exchanges.Load(); n != 0 {
		t.Error("a late code was redeemed")
	}
	w = b.begin(t, token)
	b.clock.advance(authflow.ConsentLife - 10*time.Second)
	b.ends(t, w.back(), authflow.OutcomeConnected)
}

func TestCallbackComesAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, b.token(t, "ACME"))
	first := b.ends(t, w.back(), authflow.OutcomeConnected)
	b.clock.advance(time.Hour)
	if again := b.ends(t, w.back(), authflow.OutcomeConnected); again != first {
		t.Error("the second callback leads elsewhere")
	}
	if n := b.provider.exchanges.Load(); n != 1 {
		t.Errorf("the code was redeemed %d times", n)
	}
	b.history(t, "ACME", "started by owner → started", "authorized by owner → authorized")
}

// All callbacks but one come while that one speaks to the provider.
func TestCallbackManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, b.token(t, "ACME"))
	const others = 15
	back, twice := make(chan struct{}, others+1), make(chan struct{})
	giveUp := sync.OnceFunc(func() { close(twice) })
	b.provider.tokens = func(_ context.Context, code string) (provisioning.Tokens, error) {
		if b.provider.exchanges.Load() > 1 {
			giveUp()
		}
		for range others {
			select {
			case <-back:
			case <-twice:
			}
		}
		return tokensFor(code), nil
	}
	var mu sync.Mutex
	outcomes := map[authflow.Outcome]int{}
	var wg sync.WaitGroup
	for range others + 1 {
		wg.Go(func() {
			_, outcome, err := b.Callback(t.Context(), w.back())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			outcomes[outcome]++
			mu.Unlock()
			back <- struct{}{}
		})
	}
	wg.Wait()
	if outcomes[authflow.OutcomeConnected] != 1 || outcomes[authflow.OutcomeChecking] != others {
		t.Errorf("outcomes %v", outcomes)
	}
	if n := b.provider.exchanges.Load(); n != 1 {
		t.Errorf("the code was redeemed %d times", n)
	}
	b.holds(t, "ACME", "active acct-acme")
}

// A reload of the page ends the request that redeems the code.
func TestCallbackOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, b.token(t, "ACME"))
	ctx, leave := context.WithCancel(t.Context())
	b.provider.tokens = func(ctx context.Context, code string) (provisioning.Tokens, error) {
		leave()
		return tokensFor(code), ctx.Err()
	}
	_, outcome, err := b.Callback(ctx, w.back())
	if err != nil || outcome != authflow.OutcomeConnected {
		t.Errorf("outcome %q, error %v", outcome, err)
	}
	b.isAt(t, "ACME", "authorized")
}

func refused(status int, code string) error {
	return &provisioning.ProviderError{Op: "exchange the code", Status: status, Code: code}
}

// Every way a walk can end: what the owner is told, what the operator sees, what is kept.
func TestEndings(t *testing.T) {
	t.Parallel()
	with := func(change func(*authflow.Callback)) func(authflow.Callback) authflow.Callback {
		return func(cb authflow.Callback) authflow.Callback {
			change(&cb)
			return cb
		}
	}
	says := func(code string) func(authflow.Callback) authflow.Callback {
		return with(func(cb *authflow.Callback) { cb.Error, cb.Code = code, "" })
	}
	issuer := func(iss string) func(authflow.Callback) authflow.Callback {
		return with(func(cb *authflow.Callback) { cb.Issuer = iss })
	}
	gives := func(change func(*provisioning.Tokens)) func(context.Context, string) (provisioning.Tokens, error) {
		return func(_ context.Context, code string) (provisioning.Tokens, error) {
			tokens := tokensFor(code)
			change(&tokens)
			return tokens, nil
		}
	}
	fails := func(err error) func(context.Context, string) (provisioning.Tokens, error) {
		return func(context.Context, string) (provisioning.Tokens, error) { return provisioning.Tokens{}, err }
	}
	cannot := func(err error) func() (provisioning.Account, error) {
		return func() (provisioning.Account, error) { return provisioning.Account{}, err }
	}
	const failed, stays = "consent_failed by owner", "started"
	tests := []struct {
		name    string
		cb      func(authflow.Callback) authflow.Callback
		tokens  func(context.Context, string) (provisioning.Tokens, error)
		account func() (provisioning.Account, error)

		want   authflow.Outcome
		stage  string
		event  string
		detail string // a part of the event's
		codes  int32  // redeemed
		grant  string
	}{
		{
			name: "right account", want: authflow.OutcomeConnected, stage: "authorized",
			event: "authorized by owner → authorized", detail: "account id is the expected one", codes: 1, grant: "active",
		},
		{
			name: "issuer is the provider", cb: issuer("https://provider.example/oauth2/default"), want: authflow.OutcomeConnected, stage: "authorized",
			event: "authorized by owner → authorized", codes: 1, grant: "active",
		},
		{
			name: "scopes in another order, and more", tokens: gives(func(t *provisioning.Tokens) {
				t.Scopes = []string{"offline_access", "account_update", "contact_data", "account_read"}
			}), want: authflow.OutcomeConnected, stage: "authorized",
			event: "authorized by owner → authorized", detail: `"unasked_scopes": ["account_update"]`, codes: 1, grant: "active",
		},
		{
			name: "scope that keeps a grant alive is not named but given", tokens: gives(func(t *provisioning.Tokens) {
				t.Scopes = []string{"contact_data", "account_read"}
			}), want: authflow.OutcomeConnected, stage: "authorized",
			event: "authorized by owner → authorized", codes: 1, grant: "active",
		},

		{
			name: "issuer is another", cb: issuer("https://evil.example/oauth2/default"), want: authflow.OutcomeFailed, stage: stays,
			event: failed, detail: "evil.example",
		},
		{
			name: "issuer's origin only looks like the provider's", cb: issuer("https://provider.example.evil.example/"), want: authflow.OutcomeFailed,
			stage: stays, event: failed,
		},
		{name: "issuer is another scheme", cb: issuer("http://provider.example"), want: authflow.OutcomeFailed, stage: stays, event: failed},
		{name: "issuer is no address", cb: issuer("provider.example"), want: authflow.OutcomeFailed, stage: stays, event: failed},
		{name: "issuer is another, with an error", cb: func(cb authflow.Callback) authflow.Callback {
			return issuer("https://evil.example")(says("access_denied")(cb))
		}, want: authflow.OutcomeFailed, stage: stays, event: failed},

		{
			name: "denied", cb: says("access_denied"), want: authflow.OutcomeDeclined, stage: "stalled/declined",
			event: "declined by owner → stalled/declined",
		},
		{
			name: "denied, and yet a code", cb: with(func(cb *authflow.Callback) { cb.Error = "access_denied" }),
			want: authflow.OutcomeDeclined, stage: "stalled/declined", event: "declined by owner → stalled/declined",
		},
		{
			name: "provider is busy", cb: says("temporarily_unavailable"), want: authflow.OutcomeUnavailable, stage: stays,
			event: failed, detail: "temporarily_unavailable",
		},
		{name: "provider is broken", cb: says("server_error"), want: authflow.OutcomeUnavailable, stage: stays, event: failed},
		{
			name: "unknown error", cb: func(cb authflow.Callback) authflow.Callback {
				cb = says("interaction_required")(cb)
				cb.Description = "The user has\nto act."
				return cb
			}, want: authflow.OutcomeFailed, stage: stays,
			event: failed, detail: "interaction_required: The user has to act.",
		},
		{
			name: "unknown error, and yet a code", cb: with(func(cb *authflow.Callback) { cb.Error = "interaction_required" }),
			want: authflow.OutcomeFailed, stage: stays, event: failed,
		},
		{
			name: "two codes", cb: with(func(cb *authflow.Callback) { cb.Repeated = "code" }), want: authflow.OutcomeFailed, stage: stays,
			event: failed, detail: "more than one code",
		},
		{
			name: "two states, and denied", cb: func(cb authflow.Callback) authflow.Callback {
				cb.Repeated = "state"
				return says("access_denied")(cb)
			}, want: authflow.OutcomeFailed, stage: stays, event: failed, detail: "more than one state",
		},
		{
			name: "endless code", cb: with(func(cb *authflow.Callback) { cb.Code = provisioning.Secret(strings.Repeat("x", 5000)) }),
			want: authflow.OutcomeFailed, stage: stays, event: failed, detail: "5000 characters",
		},
		{
			name: "error that no database stores", cb: says("nul\x00 and \xff" + strings.Repeat("é", 1<<12)), want: authflow.OutcomeFailed, stage: stays,
			event: failed, detail: "nul  and",
		},
		{
			name: "neither code nor error", cb: with(func(cb *authflow.Callback) { cb.Code = "" }), want: authflow.OutcomeFailed, stage: stays,
			event: failed, detail: "neither",
		},

		{
			name: "token endpoint is down", tokens: fails(fmt.Errorf("dial: %w", provisioning.ErrProviderUnavailable)),
			want: authflow.OutcomeUnavailable, stage: stays, event: failed, codes: 1,
		},
		{name: "token endpoint answers 429", tokens: fails(refused(429, "throttled")), want: authflow.OutcomeUnavailable, stage: stays, event: failed, codes: 1},
		{
			name: "code is not good", tokens: fails(refused(400, "invalid_grant")), want: authflow.OutcomeFailed, stage: stays,
			event: failed, detail: "invalid_grant", codes: 1,
		},
		{
			name: "a scope is missing", tokens: gives(func(t *provisioning.Tokens) { t.Scopes = []string{"account_read", "offline_access"} }),
			want: authflow.OutcomeMissingScope, stage: "stalled/missing_scope", event: "missing_scope by owner → stalled/missing_scope",
			detail: `"missing": ["contact_data"]`, codes: 1,
		},
		{
			name: "no scope at all", tokens: gives(func(t *provisioning.Tokens) { t.Scopes = []string{} }),
			want: authflow.OutcomeMissingScope, stage: "stalled/missing_scope", event: "missing_scope by owner → stalled/missing_scope",
			detail: `["account_read", "contact_data"]`, codes: 1,
		},
		{
			name: "no refresh token", tokens: gives(func(t *provisioning.Tokens) { t.Refresh = "" }),
			want: authflow.OutcomeMissingScope, stage: "stalled/missing_scope", event: "missing_scope by owner → stalled/missing_scope",
			detail: `"missing": ["offline_access"]`, codes: 1,
		},

		{
			name: "account cannot be read now", account: cannot(provisioning.ErrProviderUnavailable), want: authflow.OutcomeUnavailable, stage: stays,
			event: failed, codes: 1,
		},
		{
			name: "account may not be read", account: cannot(refused(401, "unauthorized")), want: authflow.OutcomeFailed, stage: stays,
			event: failed, codes: 1,
		},
		{
			name: "another account", account: func() (provisioning.Account, error) { return stranger(), nil },
			want: authflow.OutcomeWrongAccount, stage: "stalled/wrong_account", event: "wrong_account by owner → stalled/wrong_account",
			detail: "expected acct-", codes: 1, grant: "quarantined acct-stranger",
		},
	}
	shared := setup(t)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := shared.alone()
			ref := fmt.Sprintf("CASE-%d", i)
			b.imports(t, fmt.Sprintf("ref,name,owner_email,account_id\n%s,Client %d,owner@client.example,acct-%d\n", ref, i, i))
			right := provisioning.Account{ID: fmt.Sprintf("acct-%d", i), Organization: "Any Name"}
			token := b.token(t, ref)
			w := b.begin(t, token)
			b.provider.says(right)
			b.provider.tokens = test.tokens
			if test.account != nil {
				b.provider.account = test.account
			}
			cb := w.back()
			if test.cb != nil {
				cb = test.cb(cb)
			}
			b.ends(t, cb, test.want)
			b.isAt(t, ref, test.stage)
			b.history(t, ref, "started by owner → started", test.event)
			kind, _, _ := strings.Cut(test.event, " ")
			detail := b.detail(t, ref, provisioning.EventKind(kind))
			if !strings.Contains(detail, test.detail) || len(detail) > 1000 {
				t.Errorf("the event's detail is %s, want %s in it", detail, test.detail)
			}
			if n := b.provider.exchanges.Load(); n != test.codes {
				t.Errorf("%d codes were redeemed, want %d", n, test.codes)
			}
			grant := test.grant
			if grant == "active" {
				grant += " " + right.ID
			}
			b.holds(t, ref, grant)

			// The page after it tells the same, to this browser.
			ending, err := b.Ending(t.Context(), w.Consent, w.Browser)
			if err != nil || ending.Outcome != test.want || ending.ClientName != fmt.Sprintf("Client %d", i) {
				t.Errorf("the page tells %+v, %v", ending, err)
			}
			if test.want == authflow.OutcomeConnected {
				if _, err := b.Links.Find(t.Context(), token); !errors.Is(err, authflow.ErrLinkSpent) {
					t.Errorf("the link after success: error %v, want ErrLinkSpent", err)
				}
				return
			}
			inv, err := b.Links.Find(t.Context(), token)
			if err != nil || inv.LastOutcome == nil || *inv.LastOutcome != test.want {
				t.Errorf("the link after it: %+v, %v", inv, err)
			}
			b.provider.says(right)
			b.provider.tokens = nil
			b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)
			b.isAt(t, ref, "authorized")
		})
	}
}

// A provider that says who it is says so every time, letter by letter (RFC 9207, 2.4).
func TestAnnouncedIssuer(t *testing.T) {
	t.Parallel()
	const issuer = "https://provider.example/tenant"
	shared := setup(t)
	for name, iss := range map[string]string{
		"absent": "", "another path": "https://provider.example/other", "a slash more": issuer + "/", "upper case": "https://PROVIDER.example/tenant",
		"another server": "https://evil.example/tenant", "its origin": "https://provider.example",
	} {
		for _, denied := range []string{"", "access_denied"} {
			t.Run(name+" "+denied, func(t *testing.T) {
				b := shared.alone()
				b.Issuer = issuer
				w := b.begin(t, b.token(t, "ACME"))
				cb := w.back()
				cb.Issuer, cb.Error = iss, denied
				b.ends(t, cb, authflow.OutcomeFailed)
				if n := b.provider.exchanges.Load(); n != 0 {
					t.Error("the code was redeemed")
				}
				b.isAt(t, "ACME", "started")
				if log := b.log.String(); !strings.Contains(log, "COUNTERSIGN_PROVIDER_ISSUER") {
					t.Errorf("nobody is told of the setting: %s", log)
				}
			})
		}
	}
	b := shared.alone()
	b.Issuer = issuer
	cb := b.begin(t, b.token(t, "ACME")).back()
	cb.Issuer = issuer
	b.ends(t, cb, authflow.OutcomeConnected)
}

// An issuer may live elsewhere than the endpoints; then it is known as a whole.
func TestKnownIssuer(t *testing.T) {
	t.Parallel()
	const issuer = "https://identity.example/oauth2/main"
	shared := setup(t)
	for iss, want := range map[string]authflow.Outcome{
		issuer: authflow.OutcomeConnected, "https://identity.example/oauth2/other": authflow.OutcomeFailed, "https://identity.example": authflow.OutcomeFailed,
	} {
		b := shared.alone()
		b.Issuers = append(authflow.Origins("https://provider.example/authorize"), issuer)
		cb := b.begin(t, b.token(t, "ACME")).back()
		cb.Issuer = iss
		b.ends(t, cb, want)
	}
}

// What the provider holds against our app stops every owner: the log tells it, with the cure, once a walk.
func TestAppIsRefused(t *testing.T) {
	t.Parallel()
	shared := setup(t)
	for _, test := range []struct {
		name, code, description string
		status                  int // of the token endpoint; 0 if the provider said it to the browser
		cure                    string
	}{
		{"wrong secret", "invalid_client", "", 401, "COUNTERSIGN_OAUTH_CLIENT_SECRET"},
		{"wrong secret, oddly told", "unauthorized", "", 401, "COUNTERSIGN_OAUTH_CLIENT_SECRET"},
		{"flow is not allowed", "unauthorized_client", "", 400, "authorization code flow"},
		{"flow is not allowed from the first", "unauthorized_client", "", 0, "authorization code flow"},
		{"scope of another app", "invalid_scope", "", 0, "COUNTERSIGN_OAUTH_SCOPES"},
		{"another address", "invalid_grant", "The 'redirect_uri' does not match.", 400, "https://connect.example.com/oauth/callback"},
		{"without PKCE", "invalid_request", "PKCE code challenge is required.", 0, "COUNTERSIGN_OAUTH_PKCE"},
		{"only the code is not good", "invalid_grant", "The code is not good.", 400, ""},
		{"only this owner", "interaction_required", "", 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := shared.alone()
			cb := b.begin(t, b.token(t, "ACME")).back()
			if test.status == 0 {
				cb.Error, cb.Description, cb.Code = test.code, test.description, ""
			}
			b.provider.tokens = func(context.Context, string) (provisioning.Tokens, error) {
				return provisioning.Tokens{}, &provisioning.ProviderError{Op: "exchange the code", Status: test.status, Code: test.code, Description: test.description}
			}
			for range 2 { // as after a reload
				b.ends(t, cb, authflow.OutcomeFailed)
			}
			log, want := b.log.String(), 1
			if test.cure == "" {
				want = 0
			}
			if n := strings.Count(log, "level=ERROR"); n != want || !strings.Contains(log, test.cure) {
				t.Errorf("%d errors are logged, want %d with %q: %s", n, want, test.cure, log)
			}
			if strings.Contains(log, cb.State) {
				t.Errorf("the log has the state: %s", log)
			}
		})
	}
}

// Whoever was signed in at the provider when it went wrong is not signed in silently once more.
func TestRetrySignsInAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	prompt := func(w walk) string {
		u, err := url.Parse(w.AuthorizeURL)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query().Get("prompt")
	}
	acme, bloom := b.token(t, "ACME"), b.token(t, "BLOOM")
	w := b.begin(t, acme)
	if got := prompt(w); got != "" {
		t.Errorf("the first attempt has prompt %q", got)
	}
	b.provider.tokens = func(context.Context, string) (provisioning.Tokens, error) {
		return provisioning.Tokens{}, provisioning.ErrProviderUnavailable
	}
	b.ends(t, w.back(), authflow.OutcomeUnavailable)
	w = b.begin(t, acme)
	if got := prompt(w); got != "" {
		t.Errorf("after an outage: prompt %q", got)
	}
	b.provider.tokens = nil
	b.provider.says(stranger())
	b.ends(t, w.back(), authflow.OutcomeWrongAccount)
	for configured, want := range map[string]string{"": "login", "consent": "consent login", "none": "login", "login consent": "login consent"} {
		b.provider.prompt = configured
		if w = b.begin(t, acme); prompt(w) != want {
			t.Errorf("with prompt %q, the next attempt has %q, want %q", configured, prompt(w), want)
		}
		if w.state == "" {
			t.Error("the state is lost")
		}
	}
	b.provider.prompt = ""
	again, err := b.Again(t.Context(), w.Consent)
	if err != nil {
		t.Fatal(err)
	}
	if got := prompt(walk{Walk: again}); got != "login" {
		t.Errorf("from the page after it: prompt %q", got)
	}
	if got := prompt(b.begin(t, bloom)); got != "" {
		t.Errorf("another client's attempt has prompt %q", got)
	}
}

// An error that is ours is no outcome; the owner may begin again.
func TestCallbackFailsForUs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	w := b.begin(t, token)
	broken := errors.New("broken")
	b.provider.tokens = func(context.Context, string) (provisioning.Tokens, error) { return provisioning.Tokens{}, broken }
	id, outcome, err := b.Callback(t.Context(), w.back())
	if id != w.Consent || outcome != "" || !errors.Is(err, broken) {
		t.Errorf("%s, %q, %v", id, outcome, err)
	}
	b.provider.tokens = nil
	b.ends(t, w.back(), authflow.OutcomeChecking)
	for ahead, want := range map[time.Duration]authflow.Outcome{0: authflow.OutcomeChecking, 4 * time.Minute: authflow.OutcomeFailed} {
		late := *b.Flow
		late.Now = func() time.Time { return b.clock.now().Add(ahead) }
		if ending, err := late.Ending(t.Context(), w.Consent, w.Browser); err != nil || ending.Outcome != want {
			t.Errorf("after %s the page tells %q, %v", ahead, ending.Outcome, err)
		}
	}
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)
}

func TestEndingIsForItsBrowser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, b.token(t, "ACME"))
	if ending, err := b.Ending(t.Context(), w.Consent, w.Browser); err != nil || ending.Outcome != authflow.OutcomeExpired {
		t.Errorf("before it has ended: %+v, %v", ending, err)
	}
	b.provider.says(stranger())
	b.ends(t, w.back(), authflow.OutcomeWrongAccount)
	if ending, err := b.Ending(t.Context(), w.Consent, w.Browser); err != nil || ending.FoundOrganization != "Somebody Else" {
		t.Errorf("it is told %+v, %v", ending, err)
	}
	for _, cookie := range []provisioning.Secret{"", "made-up"} {
		ending, err := b.Ending(t.Context(), w.Consent, cookie)
		if err != nil || ending.Outcome != authflow.OutcomeOtherBrowser || ending.ClientName != "" || ending.FoundOrganization != "" {
			t.Errorf("another browser is told %+v, %v", ending, err)
		}
	}
	b.provider.says(acme())
	w = b.begin(t, b.token(t, "ACME"))
	b.ends(t, w.back(), authflow.OutcomeConnected)
	if ending, err := b.Ending(t.Context(), w.Consent, ""); err != nil || ending.Outcome != authflow.OutcomeConnected || ending.ClientName != "" {
		t.Errorf("days later the owner is told %+v, %v", ending, err)
	}
	if _, err := b.Ending(t.Context(), uuid.New(), w.Browser); !errors.Is(err, authflow.ErrLinkUnknown) {
		t.Errorf("of no walk: error %v, want ErrLinkUnknown", err)
	}
}

// A robot follows every link and presses every button 50 times before the owner comes.
func TestRobotsComeFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	for range 50 {
		if _, err := b.Links.Find(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		b.begin(t, token)
		if _, err := b.Decline(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	b.isAt(t, "ACME", "stalled/declined")
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)
	b.isAt(t, "ACME", "authorized")
}
