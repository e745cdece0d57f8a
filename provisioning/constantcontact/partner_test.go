package constantcontact_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

const (
	partnerID     = "partner-id"
	partnerSecret = "partner:s3cret"
	partnerKey    = "partner-key"
	partnerHost   = "http://127.0.0.1:9"
)

// inProcess carries requests to a handler without a network, so that a test's clock may be that of a
// synctest bubble.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

// broken is a network on which nobody answers.
type broken struct{ tries int }

func (b *broken) RoundTrip(*http.Request) (*http.Response, error) {
	b.tries++
	return nil, io.ErrUnexpectedEOF
}

// interval is a budget for one client: a call each time.
type interval struct {
	every time.Duration
	mu    sync.Mutex
	next  time.Time
}

func (i *interval) Take(context.Context) (func(bool), error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	<-time.After(time.Until(i.next))
	i.next = time.Now().Add(i.every)
	return func(bool) {}, nil
}
func (*interval) Throttled(context.Context, time.Duration) {}
func (*interval) QuotaExceeded(context.Context)            {}

func newPartner(t *testing.T, transport http.RoundTripper) *constantcontact.Partner {
	t.Helper()
	p, err := constantcontact.NewPartner(constantcontact.PartnerConfig{
		ClientID:     partnerID,
		ClientSecret: partnerSecret,
		APIKey:       partnerKey,
		TokenURL:     partnerHost + "/partners/oauth2/default/v1/token",
		APIURL:       partnerHost + "/v3",
		Calls:        &interval{every: constantcontact.PartnerInterval},
		Tokens:       &interval{every: time.Second},
		HTTP:         &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }) //nolint:gochecknoglobals // making one takes a tenth of a second

// box is a sandbox with its rate limits on and these accounts of the partner.
func box(t *testing.T, accounts ...sandbox.Account) *sandbox.Sandbox {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sandbox.New(sandbox.Options{
		BaseURL:  partnerHost,
		Accounts: accounts,
		Partners: []sandbox.Partner{{ClientID: partnerID, Secret: partnerSecret, APIKey: partnerKey, AccountID: sandbox.MadePartnerID}},
		Key:      key,
		Now:      time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listAll(ctx context.Context, p *constantcontact.Partner) (accounts []provisioning.ListedAccount, err error) {
	for a, err := range p.Accounts(ctx) {
		if err != nil {
			return accounts, err
		}
		accounts = append(accounts, a)
	}
	return accounts, nil
}

func TestNewPartnerReportsEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := constantcontact.NewPartner(constantcontact.PartnerConfig{APIURL: "http://provider.example/v3"})
	if err == nil {
		t.Fatal("an empty configuration was accepted")
	}
	for _, want := range []string{"client id is empty", "secret is empty", "API key is empty", "token URL is empty", "https://"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %q", err, want)
		}
	}
}

// TestPartnerAccounts reads a list of several pages from the sandbox, whose limits are on.
func TestPartnerAccounts(t *testing.T) {
	t.Parallel()
	made := sandbox.MakeAccounts(1130, 3)
	synctest.Test(t, func(t *testing.T) {
		s := box(t, made...)
		begin := time.Now()
		got, err := listAll(t.Context(), newPartner(t, inProcess{s}))
		if err != nil {
			t.Fatal(err)
		}
		var want []provisioning.ListedAccount
		for _, managed := range []bool{false, true} {
			for _, a := range made {
				if a.Unmanaged == managed {
					continue
				}
				billing := a.BillingStatus
				if billing == "" {
					billing = "Open"
				}
				want = append(want, provisioning.ListedAccount{
					ID: a.ID, Organization: a.Organization, OwnerLogin: a.ContactEmail, BillingStatus: billing, Managed: managed,
				})
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("accounts (-want +got):\n%s", diff)
		}
		stats := s.Stats()
		if stats.Throttled != 0 || stats.APIRequests != 24 || stats.TokenRequests != 1 {
			t.Errorf("%d calls and %d token requests, %d of them throttled; want 24, 1 and 0", stats.APIRequests, stats.TokenRequests, stats.Throttled)
		}
		if took := time.Since(begin); took > 7*time.Second {
			t.Errorf("24 calls took %v, want them just below the limit of 4 a second", took)
		}
	})
}

func TestPartnerAccountsEndEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := box(t, sandbox.MakeAccounts(300, 3)...)
		for _, err := range newPartner(t, inProcess{s}).Accounts(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if calls := s.Stats().APIRequests; calls != 1 {
			t.Errorf("%d calls for one account", calls)
		}
	})
}

func TestManagedAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := box(t,
			sandbox.Account{ID: "a1", PartnerID: sandbox.MadePartnerID, Organization: "Acme", ContactEmail: "ann@acme.example", FirstName: "Ann", LastName: "Moss"},
			sandbox.Account{ID: "a2", PartnerID: sandbox.MadePartnerID, Unmanaged: true},
		)
		p := newPartner(t, inProcess{s})
		got, err := p.ManagedAccount(t.Context(), "a1")
		if err != nil {
			t.Fatal(err)
		}
		want := provisioning.Account{
			ID: "a1", PartnerID: sandbox.MadePartnerID, Organization: "Acme", ContactEmail: "ann@acme.example", FirstName: "Ann", LastName: "Moss",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("account (-want +got):\n%s", diff)
		}
		for id, status := range map[string]int{"a2": 403, "a3": 404, "a/../1": 404} {
			_, err := p.ManagedAccount(t.Context(), id)
			if refused, ok := errors.AsType[*provisioning.ProviderError](err); !ok || refused.Status != status {
				t.Errorf("account %s: error %v, want a refusal with %d", id, err, status)
			}
			if err != nil && strings.Contains(err.Error(), "PARTNER_API_KEY") {
				t.Errorf("account %s: %v blames the API key", id, err)
			}
		}
		for fault, code := range map[sandbox.Fault]string{sandbox.SummaryOfAnother: "another_account", sandbox.SummaryWithoutID: "no_account"} {
			if err := s.SetFaults(sandbox.Faults{fault: {Next: 1}}); err != nil {
				t.Fatal(err)
			}
			_, err := p.ManagedAccount(t.Context(), "a1")
			if refused, ok := errors.AsType[*provisioning.ProviderError](err); !ok || refused.Code != code {
				t.Errorf("%s: error %v, want %s", fault, err, code)
			}
		}
	})
}

// TestPartnerToken renews the token before its end, and once when it is refused.
func TestPartnerToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := box(t, sandbox.MakeAccounts(1, 3)...)
		p := newPartner(t, inProcess{s})
		step := func(what string, wait time.Duration, faults sandbox.Faults, tokens, calls int) {
			t.Helper()
			time.Sleep(wait) //nolint:forbidigo // The bubble's clock.
			if err := s.SetFaults(faults); err != nil {
				t.Fatal(err)
			}
			before := s.Stats()
			_, err := listAll(t.Context(), p)
			after := s.Stats()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := after.TokenRequests - before.TokenRequests; got != tokens {
				t.Errorf("%s: %d token requests, want %d", what, got, tokens)
			}
			if got := after.APIRequests - before.APIRequests; got != calls {
				t.Errorf("%s: %d calls, want %d", what, got, calls)
			}
		}
		step("first", 0, nil, 1, 2)
		step("again", 50*time.Minute, nil, 0, 2)
		step("before its end", 9*time.Minute+30*time.Second, nil, 1, 2)
		step("refused", time.Minute, sandbox.Faults{sandbox.API401: {Next: 1}}, 1, 2) // a fault's answer is no counted call

		if err := s.SetFaults(sandbox.Faults{sandbox.API401: {Next: 2}}); err != nil {
			t.Fatal(err)
		}
		_, err := listAll(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), "PARTNER_TOKEN_URL") {
			t.Errorf("refused twice: error %v, want one that names the setting", err)
		}
	})
}

// TestPartnerTriesAgain has the provider fail and recover.
func TestPartnerTriesAgain(t *testing.T) {
	t.Parallel()
	for _, fault := range []sandbox.Fault{
		sandbox.API500, sandbox.API503, sandbox.Token500, sandbox.Token503, sandbox.Token429, sandbox.Token429RetryAfter, sandbox.TokenHTML,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := box(t, sandbox.MakeAccounts(60, 3)...)
				p := newPartner(t, inProcess{s})
				if err := s.SetFaults(sandbox.Faults{fault: {Next: 3}}); err != nil {
					t.Fatal(err)
				}
				if got, err := listAll(t.Context(), p); err != nil || len(got) != 60 {
					t.Errorf("%d accounts, error %v", len(got), err)
				}
				if err := s.SetFaults(sandbox.Faults{fault: {Probability: 1}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) //nolint:forbidigo // The bubble's clock: the token has to be renewed.
				begin := time.Now()
				_, err := listAll(t.Context(), p)
				if !errors.Is(err, provisioning.ErrProviderUnavailable) {
					t.Errorf("error %v, want ErrProviderUnavailable", err)
				}
				if took := time.Since(begin); took < 5*time.Second || took > 2*time.Minute {
					t.Errorf("given up after %v", took)
				}
			})
		})
	}
}

func TestPartnerWithoutNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := &broken{}
		_, err := listAll(t.Context(), newPartner(t, network))
		if !errors.Is(err, provisioning.ErrProviderUnavailable) || network.tries < 2 {
			t.Errorf("error %v after %d tries", err, network.tries)
		}
	})
}

func TestPartnerGivesWayToItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := listAll(ctx, newPartner(t, &broken{}))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
	})
}

// script is a provider that gives a token and then these answers to the calls, the last one for ever.
type script struct {
	answers []http.HandlerFunc
	calls   []*http.Request
	forms   []url.Values // of token requests
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/token") {
		_ = r.ParseForm()
		s.forms = append(s.forms, r.PostForm)
		answer(200, nil, `{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}`)(w, r)
		return
	}
	next := s.answers[min(len(s.calls), len(s.answers)-1)]
	s.calls = append(s.calls, r)
	next(w, r)
}

// pageOf is a page of the list with one account.
func pageOf(id, next string) http.HandlerFunc {
	links := "null"
	if next != "" {
		links = fmt.Sprintf(`{"next":{"href":%q}}`, next)
	}
	return answer(200, nil, fmt.Sprintf(`{"site_owner_list":[{"encoded_account_id":%q,"last_login_date":null}],"_links":%s}`, id, links))
}

func TestPartnerFollowsLinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []http.HandlerFunc{
			pageOf("a", "/v3/partner/accounts?offset=MTA*&limit=10"),
			pageOf("b", partnerHost+"/v3/partner/accounts?offset=a%2Bb*&account_type=unmanaged"),
			pageOf("c", "accounts/more"),
			pageOf("d", ""),
			pageOf("e", ""),
		}}
		got, err := listAll(t.Context(), newPartner(t, inProcess{s}))
		if err != nil {
			t.Fatal(err)
		}
		var ids, addresses []string
		for _, a := range got {
			ids = append(ids, a.ID)
		}
		for _, r := range s.calls {
			addresses = append(addresses, r.URL.RequestURI())
			if r.Header.Get("Authorization") != "Bearer t0ken" || r.Header.Get("X-Api-Key") != partnerKey {
				t.Errorf("headers %v", r.Header)
			}
		}
		if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, ids); diff != "" {
			t.Errorf("accounts (-want +got):\n%s", diff)
		}
		want := []string{
			"/v3/partner/accounts?limit=50&account_type=unmanaged",
			"/v3/partner/accounts?offset=MTA*&limit=10&account_type=unmanaged",
			"/v3/partner/accounts?offset=a%2Bb*&account_type=unmanaged",
			"/v3/accounts/more?account_type=unmanaged",
			"/v3/partner/accounts?limit=50&account_type=managed",
		}
		if diff := cmp.Diff(want, addresses); diff != "" {
			t.Errorf("addresses (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]url.Values{{"grant_type": {"client_credentials"}, "scope": {"v3api/general.partner"}}}, s.forms); diff != "" {
			t.Errorf("token requests (-want +got):\n%s", diff)
		}
	})
}

func TestPartnerRefusesAnswers(t *testing.T) {
	t.Parallel()
	const web = `<!DOCTYPE html><title>Email marketing</title>`
	tests := map[string]struct {
		answers []http.HandlerFunc
		calls   int
		want    string
	}{
		"a link to another host":     {[]http.HandlerFunc{pageOf("a", "https://evil.example/v3/partner/accounts")}, 1, "another host"},
		"a link without scheme":      {[]http.HandlerFunc{pageOf("a", "//evil.example/v3/partner/accounts")}, 1, "another host"},
		"a link with another scheme": {[]http.HandlerFunc{pageOf("a", "https://127.0.0.1:9/v3/partner/accounts")}, 1, "another host"},
		"a link to itself":           {[]http.HandlerFunc{pageOf("a", "/v3/partner/accounts?limit=50&account_type=unmanaged")}, 1, "leads back"},
		"a ring of links": {
			[]http.HandlerFunc{pageOf("a", "/v3/partner/accounts?offset=1"), pageOf("b", "/v3/partner/accounts?offset=2"), pageOf("c", "/v3/partner/accounts?offset=1")},
			3, "leads back",
		},
		"a web page":                {[]http.HandlerFunc{answer(200, map[string]string{"Content-Type": "text/html"}, web)}, 4, "web page"},
		"an answer that is no list": {[]http.HandlerFunc{answer(200, nil, `{}`)}, 4, "no site_owner_list"},
		"an account without id":     {[]http.HandlerFunc{answer(200, nil, `{"site_owner_list":[{}]}`)}, 4, "no encoded_account_id"},
		"a bad API key":             {[]http.HandlerFunc{answer(403, nil, `{"message":"Forbidden"}`)}, 1, "PARTNER_API_KEY"},
		"a refusal in words":        {[]http.HandlerFunc{answer(400, nil, `[{"error_key":"partner.bad","error_message":"Odd."}]`)}, 1, "partner.bad: Odd."},
		"too many calls for ever":   {[]http.HandlerFunc{answer(429, nil, `[{"error_key":"throttled","error_message":"Too Many Requests"}]`)}, 6, "throttled"},
		"too many calls for long": {
			[]http.HandlerFunc{answer(429, map[string]string{"Retry-After": "3600"}, `[{"error_key":"throttled"}]`)}, 1, "throttled",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: test.answers}
				_, err := listAll(t.Context(), newPartner(t, inProcess{s}))
				if err == nil || !strings.Contains(err.Error(), test.want) || len(s.calls) != test.calls {
					t.Errorf("error %v after %d calls, want %q after %d", err, len(s.calls), test.want, test.calls)
				}
				for _, secret := range []string{partnerSecret, partnerKey, "t0ken"} {
					if err != nil && strings.Contains(err.Error(), secret) {
						t.Errorf("error %q has the secret %q in it", err, secret)
					}
				}
			})
		})
	}
}

func TestPartnerWaitsWhenThrottled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttled := answer(429, nil, `[{"error_key":"throttled","error_message":"Too Many Requests"}]`)
		s := &script{answers: []http.HandlerFunc{throttled, throttled, pageOf("a", ""), pageOf("b", "")}}
		begin := time.Now()
		got, err := listAll(t.Context(), newPartner(t, inProcess{s}))
		if err != nil || len(got) != 2 {
			t.Errorf("%d accounts, error %v", len(got), err)
		}
		if took := time.Since(begin); took < 3*time.Second {
			t.Errorf("waited %v in all, want at least 1 s and 2 s", took)
		}
	})
}

func TestPartnerQuotaStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// A bubble begins at midnight UTC.
		time.Sleep(21 * time.Hour) //nolint:forbidigo // The bubble's clock.
		s := &script{answers: []http.HandlerFunc{answer(429, nil, `[{"error_key":"quota_exceeded","error_message":"Limit Exceeded"}]`)}}
		_, err := listAll(t.Context(), newPartner(t, inProcess{s}))
		if err == nil || !strings.Contains(err.Error(), "00:00 UTC, in 3h0m") || len(s.calls) != 1 {
			t.Errorf("error %v after %d calls, want one that says when there are new calls", err, len(s.calls))
		}
		if !errors.Is(err, provisioning.ErrProviderUnavailable) {
			t.Errorf("%v does not match ErrProviderUnavailable", err)
		}
	})
}

func TestPartnerCredentialsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := box(t)
		for name, test := range map[string]struct {
			change func(*constantcontact.PartnerConfig)
			want   string
		}{
			"id":      {func(c *constantcontact.PartnerConfig) { c.ClientID = "nobody" }, "PARTNER_CLIENT_ID"},
			"secret":  {func(c *constantcontact.PartnerConfig) { c.ClientSecret = "hunter2" }, "PARTNER_CLIENT_SECRET"},
			"API key": {func(c *constantcontact.PartnerConfig) { c.APIKey = "hunter2" }, "PARTNER_API_KEY"},
			"token address": {
				func(c *constantcontact.PartnerConfig) { c.TokenURL = partnerHost + "/v3/nothing" }, "PARTNER_TOKEN_URL",
			},
		} {
			c := constantcontact.PartnerConfig{
				ClientID: partnerID, ClientSecret: partnerSecret, APIKey: partnerKey,
				TokenURL: partnerHost + "/oauth2/token", APIURL: partnerHost + "/v3/", HTTP: &http.Client{Transport: inProcess{s}},
			}
			test.change(&c)
			p, err := constantcontact.NewPartner(c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = listAll(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: error %v, want one that names %s", name, err, test.want)
			}
		}
	})
}
