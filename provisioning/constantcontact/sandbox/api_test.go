package sandbox_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	access := b.grant(acmeManager).Access
	want := map[string]any{
		"encoded_account_id": acme, "encoded_partner_id": agency, "organization_name": "Acme Bakery", "organization_phone": "",
		"first_name": "Ada", "last_name": "Moss", "contact_email": "ada@acme.example", "contact_phone": "802-555-0101",
		"country_code": "US", "state_code": "VT", "time_zone_id": "US/Eastern", "website": "https://www.acme.example",
	}
	if diff := cmp.Diff(want, b.call("/v3/account/summary", access).json(t)); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	want["physical_address"] = map[string]any{
		"address_line1": "1 Main Street", "city": "Burlington", "state_code": "VT", "postal_code": "05401", "country_code": "US",
	}
	if diff := cmp.Diff(want, b.call("/v3/account/summary?extra_fields=physical_address", access).json(t)); diff != "" {
		t.Errorf("with address (-want +got):\n%s", diff)
	}
	want["company_logo"] = map[string]any{"url": "https://www.acme.example/logo.png", "external_url": "", "internal_id": ""}
	if diff := cmp.Diff(want, b.call("/v3/account/summary?extra_fields=company_logo,physical_address", access).json(t)); diff != "" {
		t.Errorf("with both (-want +got):\n%s", diff)
	}
	bad := b.call("/v3/account/summary?extra_fields=users", access)
	if bad.status != http.StatusBadRequest || !strings.HasPrefix(bad.body, `[{"error_key":"contacts.api.validation.error"`) {
		t.Errorf("unknown extra field: answer %d %s", bad.status, bad.body)
	}
}

func TestPrivileges(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	for login, want := range map[string]map[string]bool{
		acmeOwner:   {"campaign:create": true, "account:read": true, "contacts:read": true, "contacts:write": true, "account:update": true},
		acmeManager: {"campaign:create": true, "account:read": true, "contacts:read": true, "contacts:write": true, "account:update": false},
		acmeCreator: {"campaign:create": true, "contacts:lists:read": true, "account:read": false, "contacts:read": false, "contacts:write": false, "account:update": false, "campaign:send": false},
	} {
		code := b.consent(b.authorizeURL("scope", "offline_access"), login).Get("code")
		got := b.call("/v3/account/user/privileges", b.exchange(code).tokens(t).Access)
		var privileges []struct {
			ID   int    `json:"privilege_id"`
			Name string `json:"privilege_name"`
		}
		if err := json.Unmarshal([]byte(got.body), &privileges); err != nil {
			t.Fatalf("%s: %s: %v", login, got.body, err)
		}
		has := map[string]bool{}
		for _, p := range privileges {
			has[p.Name] = true
			if p.Name == "campaign:create" && p.ID != 30 {
				t.Errorf("campaign:create is %d, want the documented 30", p.ID)
			}
		}
		for name, expected := range want {
			if has[name] != expected {
				t.Errorf("%s: %s is %v", login, name, has[name])
			}
		}
	}
}

func TestAPIRefusals(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	good := b.grant(acmeOwner)
	creator := b.grant(acmeCreator)
	narrow := b.exchange(b.consent(b.authorizeURL("scope", "contact_data"), bloomOwner).Get("code")).tokens(t)

	const (
		unauthorized = `{"error_key":"unauthorized","error_message":"Unauthorized"}`
		forbidden    = `{"message":"Forbidden"}`
	)
	tests := map[string]struct {
		path, authorization string
		status              int
		body                string
	}{
		"no token":                  {"/v3/account/summary", "", 401, unauthorized},
		"another scheme":            {"/v3/account/summary", "Basic " + good.Access, 401, unauthorized},
		"a refresh token":           {"/v3/account/summary", "Bearer " + good.Refresh, 401, unauthorized},
		"an altered token":          {"/v3/account/summary", "Bearer " + good.Access + "x", 401, unauthorized},
		"unknown path":              {"/v3/nothing", "Bearer " + good.Access, 403, forbidden},
		"unknown path and no token": {"/v3/account/summary/", "", 403, forbidden},
		"missing scope": {
			"/v3/account/summary", "Bearer " + narrow.Access, 403,
			`{"error_key":"access_denied","error_message":"Request forbidden due to insufficient scope."}`,
		},
		"missing privilege": {
			"/v3/account/summary", "Bearer " + creator.Access, 403,
			`{"error_key":"access_denied","error_message":"Request forbidden due to insufficient user privileges."}`,
		},
		"scheme in lower case": {"/v3/account/user/privileges", "bearer " + narrow.Access, 200, ""},
	}
	for name, test := range tests {
		r := b.request(http.MethodGet, b.base+test.path, "")
		r.Header.Set("Authorization", test.authorization)
		got := b.do(b.client, r)
		if got.status != test.status || test.body != "" && got.body != test.body || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: answer %d %s, want %d %s", name, got.status, got.body, test.status, test.body)
		}
		if test.status == 401 && (got.header.Get("WWW-Authenticate") != "Bearer realm=api.cc.email" ||
			got.header.Get("x-amzn-ErrorType") != "UnauthorizedException" || len(got.body) != 59) {
			t.Errorf("%s: headers %v, body of %d bytes", name, got.header, len(got.body))
		}
	}
	if got := b.do(b.client, b.request(http.MethodPut, b.base+"/v3/account/summary", "{}")); got.body != forbidden {
		t.Errorf("PUT: answer %d %s", got.status, got.body)
	}
	b.pass(24*time.Hour + time.Second)
	if got := b.call("/v3/account/summary", good.Access); got.status != http.StatusUnauthorized {
		t.Errorf("expired token: answer %d", got.status)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	limited := func(o *sandbox.Options) { o.Unlimited = false }

	t.Run("one token request a second", func(t *testing.T) {
		t.Parallel()
		b := start(t, limited)
		first := b.grant(acmeOwner)
		b.pass(999 * time.Millisecond)
		got := b.refresh(first.Refresh)
		if got.status != http.StatusTooManyRequests || got.body != `{"error_key":"throttled","error_message":"Too Many Requests"}` || got.header.Get("Retry-After") != "" {
			t.Errorf("answer %d %s %v", got.status, got.body, got.header)
		}
		other := b.tokenRequest("grant_type", "refresh_token", "refresh_token", first.Refresh)
		other.SetBasicAuth(longLivedID, "x")
		b.do(b.client, other).wantError(t, 401, "invalid_client") // another app has its own second
		b.pass(time.Millisecond)
		b.refresh(first.Refresh).tokens(t) // the throttled request spent nothing
	})

	t.Run("four API requests a second, over all accounts", func(t *testing.T) {
		t.Parallel()
		b := start(t, limited)
		one := b.grant(acmeOwner).Access
		b.pass(time.Second)
		two := b.grant(bloomOwner).Access
		for i, access := range []string{one, two, one, two} {
			if i == 3 {
				b.pass(900 * time.Millisecond)
			}
			if got := b.call("/v3/account/summary", access); got.status != http.StatusOK {
				t.Fatalf("request %d: answer %d", i+1, got.status)
			}
		}
		got := b.call("/v3/account/user/privileges", one)
		if got.status != http.StatusTooManyRequests || got.body != `[{"error_key":"throttled","error_message":"Too Many Requests"}]` {
			t.Errorf("answer %d %s", got.status, got.body)
		}
		b.pass(100 * time.Millisecond) // the first three are a second old, the fourth is not
		for i, want := range []int{200, 200, 200, 429} {
			if got := b.call("/v3/account/summary", one); got.status != want {
				t.Errorf("request %d: answer %d, want %d", i+1, got.status, want)
			}
		}
		if stats := b.Stats(); stats.Throttled != 2 || stats.APIRequests != 9 {
			t.Errorf("stats %+v", stats)
		}
	})

	t.Run("ten thousand a day, until midnight UTC", func(t *testing.T) {
		t.Parallel()
		b := start(t, limited) // at 09:00 UTC
		access := b.grant(acmeOwner).Access
		for i := range 10_000 {
			if i%4 == 0 {
				b.pass(time.Second)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v3/account/user/privileges", http.NoBody)
			r.Header.Set("Authorization", "Bearer "+access)
			got := httptest.NewRecorder()
			if b.ServeHTTP(got, r); got.Code != http.StatusOK {
				t.Fatalf("request %d: answer %d %s", i+1, got.Code, got.Body)
			}
		}
		b.pass(time.Hour)
		got := b.call("/v3/account/user/privileges", access)
		if got.status != http.StatusTooManyRequests || got.body != `[{"error_key":"quota_exceeded","error_message":"Limit Exceeded"}]` {
			t.Errorf("answer %d %s", got.status, got.body)
		}
		b.pass(b.clock().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(b.clock()))
		if got := b.call("/v3/account/user/privileges", access); got.status != http.StatusOK {
			t.Errorf("after midnight: answer %d %s", got.status, got.body)
		}
	})
}
