package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// TestTokenFaults lets each fault strike once and checks that the same request works
// afterwards.
func TestTokenFaults(t *testing.T) {
	t.Parallel()
	json200 := func(field string, want any) func(*testing.T, reply) {
		return func(t *testing.T, got reply) {
			t.Helper()
			if value := got.json(t)[field]; got.status != http.StatusOK || value != want {
				t.Errorf("answer %d with %s %v, want %v", got.status, field, value, want)
			}
		}
	}
	status := func(want int, contentType string) func(*testing.T, reply) {
		return func(t *testing.T, got reply) {
			t.Helper()
			if got.status != want || !strings.HasPrefix(got.header.Get("Content-Type"), contentType) {
				t.Errorf("answer %d %s, want %d %s", got.status, got.header.Get("Content-Type"), want, contentType)
			}
		}
	}
	claim := func(name string, want any) func(*testing.T, reply) {
		return func(t *testing.T, got reply) {
			t.Helper()
			if claims := got.claims(t); claims[name] != want {
				t.Errorf("claims %v, want %s %v", claims, name, want)
			}
		}
	}
	nine := float64(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC).Unix())
	tests := map[sandbox.Fault]struct {
		check func(*testing.T, reply)
		spent bool // the code was redeemed all the same
	}{
		sandbox.TokenHTML:         {status(200, "text/html"), false},
		sandbox.TokenErrorWith200: {json200("error", "server_error"), false},
		sandbox.Token500:          {status(500, "application/json"), false},
		sandbox.Token503:          {status(503, "text/html"), false},
		sandbox.Token429:          {status(429, "application/json"), false},
		sandbox.Token429RetryAfter: {func(t *testing.T, got reply) {
			t.Helper()
			if got.status != 429 || got.header.Get("Retry-After") != "2" {
				t.Errorf("answer %d %v", got.status, got.header)
			}
		}, false},
		sandbox.TokenRedirect: {func(t *testing.T, got reply) {
			t.Helper()
			if got.status != 307 || got.header.Get("Location") != "/oauth2/default/v1/token" {
				t.Errorf("answer %d %v", got.status, got.header)
			}
		}, false},
		sandbox.TokenHuge: {func(t *testing.T, got reply) {
			t.Helper()
			if len(got.body) < 10<<20 || !json.Valid([]byte(got.body)) {
				t.Errorf("%d bytes", len(got.body))
			}
		}, false},
		sandbox.TokenEmpty:         {json200("access_token", nil), false},
		sandbox.TokenInvalidGrant:  {func(t *testing.T, got reply) { t.Helper(); got.wantError(t, 400, "invalid_grant") }, false},
		sandbox.TokenInvalidClient: {func(t *testing.T, got reply) { t.Helper(); got.wantError(t, 401, "invalid_client") }, false},
		sandbox.TokenRedirectAway: {func(t *testing.T, got reply) {
			t.Helper()
			if got.status != 307 || got.header.Get("Location") != "https://elsewhere.invalid/oauth2/default/v1/token" {
				t.Errorf("answer %d %v", got.status, got.header)
			}
		}, false},
		sandbox.TokenGzipBomb: {func(t *testing.T, got reply) {
			t.Helper()
			if got.header.Get("Content-Length") != "" || len(got.body) < 10<<20 || !json.Valid([]byte(got.body)) {
				t.Errorf("%d bytes, %v", len(got.body), got.header)
			}
		}, false},
		sandbox.TokenDuplicateKeys: {func(t *testing.T, got reply) {
			t.Helper()
			if n := strings.Count(got.body, `"access_token":`); n != 2 || !json.Valid([]byte(got.body)) {
				t.Errorf("%d access tokens in %s", n, got.body)
			}
		}, true},
		sandbox.TokenNotUTF8: {func(t *testing.T, got reply) {
			t.Helper()
			if utf8.ValidString(got.body) || len(got.tokens(t).Refresh) < 43 {
				t.Errorf("answer %q", got.body)
			}
		}, true},
		sandbox.TokenControlCharacters: {func(t *testing.T, got reply) {
			t.Helper()
			if !strings.Contains(got.tokens(t).Access, "\r\n") {
				t.Errorf("answer %s", got.body)
			}
		}, true},
		sandbox.TokenTypeOdd:         {json200("token_type", "mac"), true},
		sandbox.TokenTypeAbsent:      {json200("token_type", nil), true},
		sandbox.TokenTypeCase:        {json200("token_type", "BEARER"), true},
		sandbox.TokenExpiresFloat:    {json200("expires_in", 86399.5), true},
		sandbox.TokenExpiresNull:     {json200("expires_in", nil), true},
		sandbox.TokenScopeAbsent:     {json200("scope", nil), true},
		sandbox.TokenScopeReordered:  {json200("scope", "offline_access campaign_data contact_data account_read"), true},
		sandbox.TokenScopeTwice:      {json200("scope", allScopes+" "+allScopes), true},
		sandbox.TokenScopeOdd:        {json200("scope", allScopes+" <b>\x00\""), true},
		sandbox.TokenOtherClient:     {claim("cid", "another-app"), true},
		sandbox.TokenOddSubject:      {claim("sub", "<b>\x00"+acmeOwner), true},
		sandbox.TokenClockAhead:      {claim("iat", nine+600), true},
		sandbox.TokenClockBehind:     {claim("exp", nine+86400-600), true},
		sandbox.TokenContentType:     {status(200, "text/html"), true},
		sandbox.TokenExpiresAbsent:   {json200("expires_in", nil), true},
		sandbox.TokenExpiresNegative: {json200("expires_in", -86400.0), true},
		sandbox.TokenExpiresString:   {json200("expires_in", "86400"), true},
		sandbox.TokenExpiresHuge:     {json200("expires_in", 1e300), true},
		sandbox.TokenNoRefreshToken:  {json200("refresh_token", nil), true},
		sandbox.TokenNarrowScope:     {json200("scope", "account_read campaign_data offline_access"), true},
		sandbox.TokenWideScope:       {json200("scope", allScopes+" account_update"), true},
		sandbox.TokenUnassigned:      {claim("platform_user_id", "UNASSIGNED"), true},
	}
	for name, test := range tests {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			b := start(t, func(o *sandbox.Options) { o.Faults = sandbox.Faults{name: {Next: 1}} })
			code := b.consent(b.authorizeURL(), acmeOwner).Get("code")
			test.check(t, b.exchange(code))
			if b.Stats().Faults[name] != 1 || len(b.Faults()) != 0 {
				t.Errorf("struck %v, left %v", b.Stats().Faults, b.Faults())
			}
			if len(b.Grants()) == 1 != test.spent {
				t.Errorf("%d grants", len(b.Grants()))
			}
			if !test.spent {
				b.exchange(code).tokens(t)
			}
		})
	}
}

// claims reads the access token of a good answer.
func (r reply) claims(t *testing.T) map[string]any {
	t.Helper()
	return reply{body: decodePart(t, strings.Split(r.tokens(t).Access, ".")[1])}.json(t)
}

func TestTokenLost(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	first := b.grant(acmeOwner)
	b.set(sandbox.Faults{sandbox.TokenLost: {Next: 1}})
	response, err := b.client.Do(b.tokenRequest("grant_type", "refresh_token", "refresh_token", first.Refresh))
	if err == nil {
		_ = response.Body.Close()
		t.Fatal("there was an answer")
	}
	if g := b.Grants()[0]; g.Refreshes != 1 {
		t.Errorf("grant %+v: the work was not done", g)
	}
	b.refresh(first.Refresh).wantError(t, 400, "invalid_grant")
}

// TestSilence waits for answers that do not come.
func TestSilence(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	wait := func(r *http.Request, fault sandbox.Fault) string {
		t.Helper()
		b.set(sandbox.Faults{fault: {Next: 1}})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		response, err := b.client.Do(r.WithContext(ctx))
		var body []byte
		if err == nil {
			body, err = io.ReadAll(response.Body)
			_ = response.Body.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: error %v, want a time-out", fault, err)
		}
		return string(body)
	}
	exchange := func(code string) *http.Request {
		return b.tokenRequest("grant_type", "authorization_code", "code", code, "redirect_uri", redirectURI)
	}
	code := b.consent(b.authorizeURL(), acmeOwner).Get("code")
	wait(exchange(code), sandbox.TokenHang)
	access := b.exchange(code).tokens(t).Access
	summary := b.request(http.MethodGet, b.base+"/v3/account/summary", "")
	summary.Header.Set("Authorization", "Bearer "+access)
	wait(summary, sandbox.APIHang)
	if got := wait(exchange(b.consent(b.authorizeURL(), bloomOwner).Get("code")), sandbox.TokenDrip); len(got) > 1 {
		t.Errorf("the answer %q came all at once", got)
	}
	if n := len(b.Grants()); n != 2 {
		t.Errorf("%d grants, want that of the slow answer too", n)
	}
}

func TestTokenCut(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) { o.Faults = sandbox.Faults{sandbox.TokenCut: {Next: 1}} })
	code := b.consent(b.authorizeURL(), acmeOwner).Get("code")
	response, err := b.client.Do(b.tokenRequest("grant_type", "authorization_code", "code", code, "redirect_uri", redirectURI))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(body) < 500 {
		t.Errorf("%d bytes, error %v", len(body), err)
	}
	b.exchange(code).wantError(t, 400, "invalid_grant")
}

// TestEndless reads more than anybody should.
func TestEndless(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	for fault, r := range map[sandbox.Fault]*http.Request{
		sandbox.TokenEndless: b.tokenRequest(),
		sandbox.APIEndless:   b.request(http.MethodGet, b.base+"/v3/account/summary", ""),
	} {
		b.set(sandbox.Faults{fault: {Next: 1}})
		response, err := b.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyN(io.Discard, response.Body, 20<<20)
		if err != nil {
			t.Errorf("%s: %d bytes, then %v", fault, n, err)
		}
		_ = response.Body.Close()
	}
}

func TestRefreshWithoutNewToken(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	first := b.grant(acmeOwner)
	b.set(sandbox.Faults{sandbox.TokenNoRefreshToken: {Next: 1}})
	if second := b.refresh(first.Refresh).tokens(t); second.Refresh != "" {
		t.Errorf("refresh token %q", second.Refresh)
	}
	b.refresh(first.Refresh).tokens(t)
}

func TestAPIFaults(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	access := b.grant(acmeOwner).Access
	for fault, want := range map[sandbox.Fault]int{
		sandbox.API500: 500, sandbox.API503: 503, sandbox.API401: 401, sandbox.APIThrottled: 429, sandbox.APIQuotaExceeded: 429,
		sandbox.APIRedirectAway: 302,
	} {
		b.set(sandbox.Faults{fault: {Next: 2}})
		for _, status := range []int{want, want, http.StatusOK} {
			if got := b.call("/v3/account/summary", access); got.status != status {
				t.Errorf("%s: answer %d, want %d", fault, got.status, status)
			}
		}
	}
	b.set(sandbox.Faults{sandbox.APIHTML: {Next: 1}})
	if got := b.call("/v3/account/summary", access); got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("answer %d %v", got.status, got.header)
	}
	for fault, want := range map[sandbox.Fault]any{
		sandbox.SummaryWithoutID: nil, sandbox.SummaryOfAnother: bloom, sandbox.SummaryOddID: acme + "\x00\r\n<b>'é",
	} {
		b.set(sandbox.Faults{fault: {Next: 1}})
		for _, id := range []any{want, acme} {
			if got := b.call("/v3/account/summary", access); got.status != http.StatusOK || got.json(t)["encoded_account_id"] != id {
				t.Errorf("%s: answer %d %s, want %v", fault, got.status, got.body, id)
			}
		}
	}
}

func TestOddSummary(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	access := b.grant(acmeOwner).Access
	b.set(sandbox.Faults{sandbox.SummaryLongID: {Next: 1}, sandbox.SummaryOddName: {Next: 1}})
	got := b.call("/v3/account/summary", access).json(t)
	if id, _ := got["encoded_account_id"].(string); len(id) < 30_000 || len(id) > 32_000 {
		t.Errorf("an id of %d characters", len(id))
	}
	if name, _ := got["organization_name"].(string); !strings.Contains(name, "\x00<script>") {
		t.Errorf("name %q", name)
	}
}

// TestLandings changes what the browser brings back to the app.
func TestLandings(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) { o.Switches.SendIssuer = true })
	issuer := b.base + "/identity/oauth2/aus1lm3ry9mF7x2Ja0h8"
	for fault, right := range map[sandbox.Fault]func(url.Values) bool{
		sandbox.AuthorizeWrongIssuer:   func(v url.Values) bool { return v.Get("iss") == "https://other.example" },
		sandbox.AuthorizeSiblingIssuer: func(v url.Values) bool { return v.Get("iss") == issuer+"-of-others" },
		sandbox.AuthorizeNoIssuer:      func(v url.Values) bool { return !v.Has("iss") && v.Get("code") != "" },
		sandbox.AuthorizeEmptyCode:     func(v url.Values) bool { return v.Has("code") && v.Get("code") == "" },
		sandbox.AuthorizeCodeTwice:     func(v url.Values) bool { return len(v["code"]) == 2 && v["code"][0] != v["code"][1] },
		sandbox.AuthorizeCodeAndError:  func(v url.Values) bool { return v.Get("code") != "" && v.Get("error") == "access_denied" },
		sandbox.AuthorizeStateAltered:  func(v url.Values) bool { return v.Get("state") == "sta&te" },
		sandbox.AuthorizeStateDropped:  func(v url.Values) bool { return !v.Has("state") },
		sandbox.AuthorizeStateTwice:    func(v url.Values) bool { return len(v["state"]) == 2 && v["state"][0] == "STA&te" },
		sandbox.AuthorizeMarkup: func(v url.Values) bool {
			return !v.Has("code") && strings.HasPrefix(v.Get("error"), "<script>") && strings.HasPrefix(v.Get("error_description"), "<img")
		},
	} {
		b.set(sandbox.Faults{fault: {Next: 1}})
		if answer := b.consent(b.authorizeURL("state", "STA&te"), acmeOwner); !right(answer) {
			t.Errorf("%s: callback %v", fault, answer)
		}
	}
}

func TestAuthorizeFaults(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	for fault, want := range map[sandbox.Fault]string{
		sandbox.AuthorizeUnavailable: "temporarily_unavailable", sandbox.AuthorizeServerError: "server_error",
		sandbox.AuthorizeUnknownError: "out_of_paper",
	} {
		b.set(sandbox.Faults{fault: {Next: 1}})
		if answer := b.consent(b.authorizeURL(), acmeOwner); answer.Get("error") != want || answer.Get("state") != "st&te" {
			t.Errorf("%s: callback %v", fault, answer)
		}
		if answer := b.consent(b.authorizeURL(), acmeOwner); !answer.Has("code") {
			t.Errorf("%s strikes again: callback %v", fault, answer)
		}
	}
	b.set(sandbox.Faults{sandbox.AuthorizeRefusesPKCE: {Probability: 1}})
	pkce := []string{"code_challenge", challenge("v"), "code_challenge_method", "S256"}
	for name, test := range map[string]struct {
		target string
		want   int
	}{
		"confidential with PKCE": {b.authorizeURL(pkce...), 400},
		"confidential without":   {b.authorizeURL(), 200},
		"public with PKCE":       {b.authorizeURL(append(pkce, "client_id", publicID)...), 200},
	} {
		if got := b.get(b.client, test.target); got.status != test.want {
			t.Errorf("%s: answer %d, want %d", name, got.status, test.want)
		}
	}
}

func TestFaultRates(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	access := b.grant(acmeOwner).Access
	count := func(requests int) (failed int) {
		for range requests {
			if b.call("/v3/account/summary", access).status == http.StatusInternalServerError {
				failed++
			}
		}
		return failed
	}
	b.set(sandbox.Faults{sandbox.API500: {Next: 3, Probability: 1}})
	if failed := count(5); failed != 5 {
		t.Errorf("%d of 5 failed, want all", failed)
	}
	if diff := cmp.Diff(sandbox.Faults{sandbox.API500: {Probability: 1}}, b.Faults()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	b.set(sandbox.Faults{sandbox.API500: {Probability: 0.5}})
	if failed := count(200); failed < 50 || failed > 150 {
		t.Errorf("%d of 200 failed, want about half", failed)
	}
	if err := b.SetFaults(sandbox.Faults{"gremlins": {}}); err == nil || len(b.Faults()) != 1 {
		t.Errorf("error %v, faults %v: an unknown fault must change nothing", err, b.Faults())
	}
	b.set(nil)
	if failed := count(5); failed != 0 {
		t.Errorf("%d of 5 failed, want none", failed)
	}
}

func (b *bundle) set(faults sandbox.Faults) {
	b.t.Helper()
	if err := b.SetFaults(faults); err != nil {
		b.t.Fatal(err)
	}
}

func TestControlDoor(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) { o.Control = true })
	if got := b.get(b.client, b.base+"/"); got.header.Get("Location") != "/_sandbox/" {
		t.Errorf("the front door leads to %q", got.header.Get("Location"))
	}
	access := b.grant(acmeOwner).Access
	page := b.get(b.client, b.base+"/_sandbox/")
	for _, want := range []string{"Bloom Florist", bloomOwner, password, "token_hang", "summary_of_another", "1 live", "4 of 4 shown"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("page lacks %q", want)
		}
	}
	found := b.get(b.client, b.base+"/_sandbox/?search=BLOOM")
	if strings.Contains(found.body, "Acme Bakery") || !strings.Contains(found.body, "1 of 1 shown") {
		t.Error("the search finds too much or too little")
	}
	loaded, err := sandbox.LoadAccounts(strings.NewReader(b.get(b.client, b.base+"/_sandbox/accounts?search=ben@").body))
	if err != nil || len(loaded) != 1 || loaded[0].ID != bloom {
		t.Errorf("accounts %+v: %v", loaded, err)
	}

	post := func(path string, fields ...string) reply {
		r := b.request(http.MethodPost, b.base+path, pairs(fields).Encode())
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return b.do(b.client, r)
	}
	got := post("/_sandbox/faults", "next.token_500", "2", "probability.api_401", "0.25", "next.api_500", "", "probability.api_500", "0")
	want := sandbox.Faults{sandbox.Token500: {Next: 2}, sandbox.API401: {Probability: 0.25}}
	if diff := cmp.Diff(want, b.Faults()); diff != "" || got.status != http.StatusSeeOther {
		t.Errorf("answer %d, faults (-want +got):\n%s", got.status, diff)
	}
	for _, fields := range [][]string{{"next.token_500", "x"}, {"probability.token_500", "2"}} {
		if got := post("/_sandbox/faults", fields...); got.status != http.StatusBadRequest || !strings.Contains(got.body, `role="alert"`) {
			t.Errorf("%v: answer %d", fields, got.status)
		}
	}
	if diff := cmp.Diff(want, b.Faults()); diff != "" {
		t.Errorf("a bad form changed the faults (-want +got):\n%s", diff)
	}

	put := func(body string) reply {
		return b.do(b.client, b.request(http.MethodPut, b.base+"/_sandbox/faults", body))
	}
	if got := put(`{"api_503":{"next":1}}`); got.status != http.StatusOK || got.body != `{"api_503":{"next":1,"probability":0}}` {
		t.Errorf("answer %d %s", got.status, got.body)
	}
	for _, body := range []string{`{"gremlins":{"next":1}}`, `[]`} {
		if got := put(body); got.status != http.StatusBadRequest {
			t.Errorf("%s: answer %d", body, got.status)
		}
	}
	if body := b.get(b.client, b.base+"/_sandbox/faults").body; body != `{"api_503":{"next":1,"probability":0}}` {
		t.Errorf("faults %s", body)
	}
	b.set(nil)

	if got := post("/_sandbox/revoke", "account", acme); got.status != http.StatusSeeOther {
		t.Errorf("answer %d", got.status)
	}
	if got := b.call("/v3/account/summary", access); got.status != http.StatusUnauthorized {
		t.Errorf("after revoking: answer %d", got.status)
	}
	var grants []sandbox.Grant
	if err := json.Unmarshal([]byte(b.get(b.client, b.base+"/_sandbox/grants").body), &grants); err != nil ||
		len(grants) != 1 || grants[0].Ended != sandbox.Revoked {
		t.Errorf("grants %+v: %v", grants, err)
	}
	var stats sandbox.Stats
	if err := json.Unmarshal([]byte(b.get(b.client, b.base+"/_sandbox/stats").body), &stats); err != nil || stats.Exchanges != 1 {
		t.Errorf("stats %+v: %v", stats, err)
	}

	evil := b.request(http.MethodPost, b.base+"/_sandbox/revoke", "account="+acme)
	evil.Header.Set("Sec-Fetch-Site", "cross-site")
	if got := b.do(b.client, evil); got.status != http.StatusForbidden {
		t.Errorf("from another site: answer %d", got.status)
	}
}

func TestSampleLogins(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) {
		o.Control, o.Accounts = true, append(accounts(), sandbox.MakeAccounts(20, 3)...)
	})
	page := b.get(b.client, b.authorizeURL("prompt", "login"))
	for _, want := range []string{`value="` + acmeOwner + `"`, `value="` + bloomOwner + `"`, "and 16 more accounts"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("login page lacks %s", want)
		}
	}
	filled := b.get(b.client, b.authorizeURL("prompt", "login", "sandbox_login", bloomOwner, "sandbox_search", "bloom"))
	for _, want := range []string{`id="login" name="login" value="` + bloomOwner + `"`, `value="` + password + `"`, `type="search" value="bloom"`} {
		if !strings.Contains(filled.body, want) {
			t.Errorf("filled login page lacks %s", want)
		}
	}
	if none := b.get(b.client, b.authorizeURL("sandbox_search", "zzz")); !strings.Contains(none.body, "No login matches “zzz”") {
		t.Error("a search without hits does not say so")
	}
	// A person may choose a sample and go on.
	code := b.consent(b.authorizeURL("sandbox_login", bloomOwner), bloomOwner).Get("code")
	b.exchange(code).tokens(t)
}

func TestStats(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	got := b.grant(acmeOwner)
	b.refresh(got.Refresh).tokens(t)
	b.refresh("x").wantError(t, 400, "invalid_grant")
	b.call("/v3/account/summary", got.Access)
	b.call("/v3/account/summary", "x")
	if _, err := sandbox.Consent(t.Context(), b.client, b.authorizeURL(), acmeOwner, password, sandbox.Deny); err != nil {
		t.Fatal(err)
	}
	want := sandbox.Stats{
		Authorizations: 2, SignIns: 2, Allowed: 1, Denied: 1, TokenRequests: 3, Exchanges: 1, Refreshes: 1, APIRequests: 1,
		Faults: map[sandbox.Fault]int{},
	}
	if diff := cmp.Diff(want, b.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// BenchmarkWalk is one owner's whole walk with the exchange and the account's name.
func BenchmarkWalk(b *testing.B) {
	bundle := start(b, nil)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			callback, err := sandbox.Consent(b.Context(), bundle.client, bundle.authorizeURL(), acmeOwner, password, sandbox.Allow)
			if err != nil {
				b.Error(err)
				return
			}
			u, err := url.Parse(callback)
			if err != nil {
				b.Error(err)
				return
			}
			bundle.exchange(u.Query().Get("code"))
		}
	})
}
