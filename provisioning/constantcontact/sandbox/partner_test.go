package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

const (
	partnerID        = "partner-id"
	partnerSecret    = "partner/s3cret"
	partnerKey       = "partner-key"
	partnerTokenPath = "/partners/oauth2/default/v1/token"
)

func withPartner(o *sandbox.Options) {
	o.Partners = []sandbox.Partner{{ClientID: partnerID, Secret: partnerSecret, APIKey: partnerKey, AccountID: agency}}
}

// partnerTokenRequest is a good one; fields are name, value pairs.
func (b *bundle) partnerTokenRequest(path string, fields ...string) *http.Request {
	b.t.Helper()
	r := b.request(http.MethodPost, b.base+path, pairs(fields).Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(partnerID, url.QueryEscape(partnerSecret))
	return r
}

// partnerToken returns a partner's token.
func (b *bundle) partnerToken() string {
	b.t.Helper()
	r := b.partnerTokenRequest(partnerTokenPath, "grant_type", "client_credentials", "scope", "v3api/general.partner")
	return b.do(b.client, r).tokens(b.t).Access
}

// asPartner makes a call with the partner's API key.
func (b *bundle) asPartner(method, path, body, token string) reply {
	b.t.Helper()
	r := b.request(method, b.base+path, body)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Api-Key", partnerKey)
	r.Header.Set("Content-Type", "application/json")
	return b.do(b.client, r)
}

func TestPartnerToken(t *testing.T) {
	t.Parallel()
	b := start(t, withPartner)
	for _, path := range []string{partnerTokenPath, "/oauth2/token"} {
		got := b.do(b.client, b.partnerTokenRequest(path, "grant_type", "client_credentials")).json(t)
		if got["expires_in"] != 3600.0 || got["token_type"] != "Bearer" || got["refresh_token"] != nil || strings.Count(fmt.Sprint(got["access_token"]), ".") != 2 {
			t.Errorf("%s: answer %v", path, got)
		}
		b.do(b.client, b.partnerTokenRequest(path+"?grant_type=client_credentials&scope=v3api%2Fgeneral.partner")).tokens(t)

		bare := b.partnerTokenRequest(path, "grant_type", "client_credentials")
		bare.Header.Del("Content-Type")
		b.do(b.client, bare).wantError(t, http.StatusUnsupportedMediaType, "invalid_request")

		stranger := b.partnerTokenRequest(path, "grant_type", "client_credentials")
		stranger.SetBasicAuth(clientID, url.QueryEscape(clientSecret)) // an app is no partner
		b.do(b.client, stranger).wantError(t, http.StatusUnauthorized, "invalid_client")

		wrong := b.partnerTokenRequest(path, "grant_type", "client_credentials")
		wrong.SetBasicAuth(partnerID, "wrong")
		b.do(b.client, wrong).wantError(t, http.StatusUnauthorized, "invalid_client")

		b.do(b.client, b.partnerTokenRequest(path, "grant_type", "refresh_token")).wantError(t, http.StatusBadRequest, "unsupported_grant_type")
		b.do(b.client, b.partnerTokenRequest(path, "grant_type", "client_credentials", "scope", "account_read")).
			wantError(t, http.StatusBadRequest, "invalid_scope")
	}
}

func TestPartnerTokenLivesAnHour(t *testing.T) {
	t.Parallel()
	b := start(t, withPartner)
	token := b.partnerToken()
	b.pass(time.Hour)
	if got := b.asPartner(http.MethodGet, "/v3/partner/accounts", "", token); got.status != http.StatusOK {
		t.Errorf("after an hour: answer %d %s", got.status, got.body)
	}
	b.pass(time.Second)
	if got := b.asPartner(http.MethodGet, "/v3/partner/accounts", "", token); got.status != http.StatusUnauthorized {
		t.Errorf("after more than an hour: answer %d %s", got.status, got.body)
	}
}

func TestPartnerRefusals(t *testing.T) {
	t.Parallel()
	b := start(t, withPartner)
	token := b.partnerToken()
	const unauthorized = `{"error_key":"unauthorized","error_message":"Unauthorized"}`
	for name, test := range map[string]struct {
		token, key string
		status     int
		body       string
	}{
		"no token":              {"", partnerKey, 401, unauthorized},
		"a token of an app":     {b.grant(acmeOwner).Access, partnerKey, 401, unauthorized},
		"a token and no key":    {token, "", 403, `{"message":"Forbidden"}`},
		"a token and a bad key": {token, "other", 403, `{"message":"Forbidden"}`},
	} {
		r := b.request(http.MethodGet, b.base+"/v3/partner/accounts", "")
		r.Header.Set("Authorization", "Bearer "+test.token)
		r.Header.Set("X-Api-Key", test.key)
		if got := b.do(b.client, r); got.status != test.status || got.body != test.body {
			t.Errorf("%s: answer %d %s, want %d %s", name, got.status, got.body, test.status, test.body)
		}
	}
	if got := b.call("/v3/account/summary", token); got.status != http.StatusUnauthorized {
		t.Errorf("a partner's token outside the partner API: answer %d %s", got.status, got.body)
	}
}

// page is an answer of the partner's list.
type page struct {
	SiteOwners []map[string]any `json:"site_owner_list"`
	Links      *struct {
		Next struct {
			Href string `json:"href"`
		} `json:"next"`
	} `json:"_links"`
}

func (b *bundle) page(path, token string) page {
	b.t.Helper()
	got := b.asPartner(http.MethodGet, path, "", token)
	var p page
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != http.StatusOK {
		b.t.Fatalf("%s: answer %d %s", path, got.status, got.body)
	}
	return p
}

func TestPartnerList(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) {
		withPartner(o)
		o.Partners[0].AccountID = sandbox.MadePartnerID
		o.Accounts = append(o.Accounts, sandbox.MakeAccounts(120, 1)...)
	})
	token := b.partnerToken()

	// A limit beyond its bounds is ignored; the last page has no links at all.
	for limit, want := range map[string]int{"": 50, "9": 50, "10": 10, "20": 20, "50": 50, "51": 50, "-1": 50, "many": 50} {
		path, pages, seen := "/v3/partner/accounts?limit="+limit, 0, map[any]bool{}
		for path != "" {
			p := b.page(path, token)
			for _, o := range p.SiteOwners {
				seen[o["encoded_account_id"]] = true
			}
			pages++
			path = ""
			if p.Links != nil {
				path = p.Links.Next.Href
				if len(p.SiteOwners) != want {
					t.Errorf("limit %q: a page of %d, want %d", limit, len(p.SiteOwners), want)
				}
			}
		}
		if len(seen) != 120 || pages != (120+want-1)/want {
			t.Errorf("limit %q: %d accounts on %d pages", limit, len(seen), pages)
		}
	}
	if href := b.page("/v3/partner/accounts?limit=10&account_type=managed", token).Links.Next.Href; href != "/v3/partner/accounts?offset=MTA*&limit=10" {
		t.Errorf("next page at %q, want it as documented", href)
	}

	counts := map[string]int{}
	for _, kind := range []string{"managed", "unmanaged", "all"} {
		for offset := 0; offset < 120; offset += 50 {
			path := fmt.Sprintf("/v3/partner/accounts?account_type=%s&offset=%s", kind, []string{"", "NTA*", "MTAw"}[offset/50])
			counts[kind] += len(b.page(path, token).SiteOwners)
		}
	}
	if diff := cmp.Diff(map[string]int{"managed": 96, "unmanaged": 24, "all": 120}, counts); diff != "" {
		t.Errorf("accounts by type (-want +got):\n%s", diff)
	}
	for _, path := range []string{"/v3/partner/accounts?account_type=some", "/v3/partner/accounts?offset=%C2%A7"} {
		if got := b.asPartner(http.MethodGet, path, "", token); got.status != http.StatusBadRequest || !strings.HasPrefix(got.body, `[{"error_key":`) {
			t.Errorf("%s: answer %d %s", path, got.status, got.body)
		}
	}
}

func TestPartnerListShows(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) {
		withPartner(o)
		o.Accounts[0].BillingStatus, o.Accounts[0].Subscribers = "Trial End", 7
		o.Accounts[1].Unmanaged = true
	})
	want := []map[string]any{
		{
			"encoded_account_id": acme, "subscriber_count": 7.0, "organization_name": "Acme Bakery",
			"site_owner_name": acmeOwner, "billing_status": "Trial End",
		},
		{
			"encoded_account_id": bloom, "subscriber_count": 0.0, "organization_name": "Bloom Florist",
			"site_owner_name": bloomOwner, "billing_status": "Open",
		},
	}
	if diff := cmp.Diff(want, b.page("/v3/partner/accounts", b.partnerToken()).SiteOwners); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
}

func TestPartnerOperation(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) {
		withPartner(o)
		o.Accounts[0].BillingStatus = "Trial"
		o.Accounts[1].Unmanaged = true
	})
	token := b.partnerToken()
	operate := func(account, body string) reply {
		return b.asPartner(http.MethodPost, "/v3/partner/accounts/"+account+"/account_operations/sync", body, token)
	}
	const summary = `{"account_operation_url":"/account/summary","account_operation_method":"GET"}`

	got := operate(acme, summary).json(t)
	if got["encoded_account_id"] != acme || got["contact_email"] != "ada@acme.example" || got["billing_status"] != nil || got["physical_address"] != nil {
		t.Errorf("summary %v", got)
	}
	withAddress := operate(acme, `{"account_operation_url":"/account/summary","account_operation_method":"GET",
		"account_operation_query_parameters":[{"query_param_key":"extra_fields","query_param_value":"physical_address"}]}`).json(t)
	if withAddress["physical_address"] == nil {
		t.Errorf("summary with extra fields %v", withAddress)
	}

	for name, test := range map[string]struct {
		account, body string
		status        int
	}{
		"an unmanaged account":          {bloom, summary, 403},
		"an account of somebody else":   {"a07e1lother0", summary, 404},
		"an account that is nowhere":    {"a07enowhere0", summary, 404},
		"the partner's own method":      {acme, `{"account_operation_url":"/partner/accounts","account_operation_method":"GET"}`, 403},
		"a method that is not there":    {acme, `{"account_operation_url":"/contacts","account_operation_method":"GET"}`, 404},
		"no method":                     {acme, `{"account_operation_url":"/account/summary"}`, 400},
		"no JSON":                       {acme, `account`, 400},
		"a bad parameter, passed along": {acme, strings.Replace(summary, "}", `,"account_operation_query_parameters":[{"query_param_key":"extra_fields","query_param_value":"users"}]}`, 1), 400},
	} {
		if got := operate(test.account, test.body); got.status != test.status {
			t.Errorf("%s: answer %d %s, want %d", name, got.status, got.body, test.status)
		}
	}
	r := b.request(http.MethodPost, b.base+"/v3/partner/accounts/"+acme+"/account_operations/sync", summary)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Api-Key", partnerKey)
	if got := b.do(b.client, r); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("without content type: answer %d %s", got.status, got.body)
	}
}

func TestPartnerLimits(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) {
		withPartner(o)
		o.Unlimited = false
	})
	token := b.partnerToken()
	again := b.do(b.client, b.partnerTokenRequest(partnerTokenPath, "grant_type", "client_credentials"))
	if again.status != http.StatusTooManyRequests {
		t.Errorf("second token in a second: answer %d %s", again.status, again.body)
	}
	list := func() reply { return b.asPartner(http.MethodGet, "/v3/partner/accounts", "", token) }
	for i := range 10_000 {
		if i%4 == 0 {
			b.pass(time.Second)
		}
		if i%3000 == 0 {
			token = b.partnerToken()
		}
		if got := list(); got.status != http.StatusOK {
			t.Fatalf("call %d: answer %d %s", i, got.status, got.body)
		}
	}
	if got := list(); got.status != http.StatusTooManyRequests || !strings.Contains(got.body, `"throttled"`) {
		t.Errorf("fifth call in a second: answer %d %s", got.status, got.body)
	}
	b.pass(time.Second)
	if got := list(); got.status != http.StatusTooManyRequests || !strings.Contains(got.body, `"quota_exceeded"`) {
		t.Errorf("call 10,001 of the day: answer %d %s", got.status, got.body)
	}
	b.pass(24 * time.Hour)
	token = b.partnerToken()
	if got := list(); got.status != http.StatusOK {
		t.Errorf("next day: answer %d %s", got.status, got.body)
	}
}

func TestPartnersAreChecked(t *testing.T) {
	t.Parallel()
	good := sandbox.Partner{ClientID: "p", Secret: "s", APIKey: "k", AccountID: "a"}
	_, err := sandbox.New(sandbox.Options{
		BaseURL: "http://127.0.0.1:9090", Partners: []sandbox.Partner{good, good, {ClientID: "q"}},
	})
	if err == nil || !strings.Contains(err.Error(), `partner "p"`) || !strings.Contains(err.Error(), `partner "q"`) {
		t.Errorf("error %v, want one that names both", err)
	}
}
