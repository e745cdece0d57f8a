package constantcontact_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

const echo = "the secrets " + code + " " + verifier + " " + refresh + " " + access + " " + clientSecret

// calls are all questions the client asks, by the Op of their errors.
func calls(ctx context.Context, c *constantcontact.Client) map[string]error {
	_, exchange := c.Exchange(ctx, c.TokenURL(), code, verifier)
	_, refreshed := c.Refresh(ctx, refresh)
	_, account := c.Account(ctx, access)
	return map[string]error{"exchange the code": exchange, "refresh the grant": refreshed, "read the account": account}
}

func checkNoSecret(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{code, verifier, refresh, access, clientSecret} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("error %q has the secret %q in it", err, secret)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		header map[string]string
		body   string
		want   provisioning.ProviderError
	}{
		{
			"OAuth error", 400, nil, `{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}`,
			provisioning.ProviderError{Status: 400, Code: "invalid_grant", Description: "The refresh token is invalid or expired."},
		},
		{
			"OAuth error with success", 200, nil, `{"error":"invalid_client","access_token":null}`,
			provisioning.ProviderError{Status: 200, Code: "invalid_client"},
		},
		{
			"object, right after the grant", 401,
			map[string]string{"WWW-Authenticate": "Bearer realm=api.cc.email"},
			`{"error_key":"unauthorized","error_message":"Unauthorized"}`,
			provisioning.ProviderError{Status: 401, Code: "unauthorized", Description: "Unauthorized"},
		},
		{
			"array", 404, nil, `[{"error_key":"contacts.api.not_found","error_message":"No such thing."},{"error_key":"second"}]`,
			provisioning.ProviderError{Status: 404, Code: "contacts.api.not_found", Description: "No such thing."},
		},
		{
			"array with success", 200, nil, `[{"error_key":"account.api.odd"}]`,
			provisioning.ProviderError{Status: 200, Code: "account.api.odd"},
		},
		{
			"gateway", 403, nil, `{"message":"Forbidden"}`,
			provisioning.ProviderError{Status: 403, Description: "Forbidden"},
		},
		{
			"of no type", 400,
			map[string]string{"Content-Type": "text/plain"},
			`{"error":"invalid_request"}`,
			provisioning.ProviderError{Status: 400, Code: "invalid_request"},
		},
		{"empty", 401, nil, ``, provisioning.ProviderError{Status: 401}},
		{"empty array", 400, nil, `[]`, provisioning.ProviderError{Status: 400}},
		{
			"error that is no string", 400, nil, `{"error":{"code":7},"message":"Odd."}`,
			provisioning.ProviderError{Status: 400, Description: "Odd."},
		},
		{
			"words on two lines", 400, nil, `{"error":"invalid_scope","error_description":"a\r\nb\u0000"}`,
			provisioning.ProviderError{Status: 400, Code: "invalid_scope", Description: "a  b "},
		},
		{
			"many words", 400, nil, `{"error":"x","error_description":"` + strings.Repeat("é", 10_000) + `"}`,
			provisioning.ProviderError{Status: 400, Code: "x", Description: strings.Repeat("é", 300) + "…"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := provider(t, answer(test.status, test.header, test.body))
			for op, err := range calls(t.Context(), client) {
				got, ok := errors.AsType[*provisioning.ProviderError](err)
				if !ok {
					t.Errorf("%s: error %v, want a ProviderError", op, err)
					continue
				}
				want := test.want
				want.Op = op
				if diff := cmp.Diff(&want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", op, diff)
				}
				if errors.Is(err, provisioning.ErrProviderUnavailable) {
					t.Errorf("%s: %v matches ErrProviderUnavailable", op, err)
				}
			}
		})
	}
}

func TestBusyOrBroken(t *testing.T) {
	t.Parallel()
	after := func(v string) map[string]string { return map[string]string{"Retry-After": v} }
	html := map[string]string{"Content-Type": "text/html"}
	const throttled = `{"error_key":"throttled","error_message":"Too Many Requests"}`
	tests := []struct {
		name   string
		status int
		header map[string]string
		body   string
		want   time.Duration
	}{
		{"429 bare", 429, nil, throttled, 0},
		{"429 with seconds", 429, after("7"), throttled, 7 * time.Second},
		{"429 with a date", 429, after("Mon, 23 Nov 2026 20:30:05 GMT"), throttled, 5 * time.Second},
		{"429 with a past date", 429, after("Mon, 23 Nov 2026 20:00:00 GMT"), throttled, 0},
		{"429 with a far date", 429, after("Mon, 23 Nov 2076 20:00:00 GMT"), throttled, 24 * time.Hour},
		{"429 with negative seconds", 429, after("-7"), throttled, 0},
		{"429 with endless seconds", 429, after("9223372036854775807"), throttled, 24 * time.Hour},
		{"429 with nonsense", 429, after("soon"), throttled, 0},
		{"429 with a web page", 429, html, "<h1>slow down</h1>", 0},
		{"the day's quota", 429, nil, `[{"error_key":"quota_exceeded","error_message":"Limit Exceeded"}]`, 3*time.Hour + 30*time.Minute},
		{"500", 500, nil, `{"error_key":"internal"}`, 0},
		{"502 with a web page", 502, html, strings.Repeat("<p>", 100_000), 0},
		{"503 with seconds", 503, after("60"), ``, time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := provider(t, answer(test.status, test.header, test.body))
			for op, err := range calls(t.Context(), client) {
				if !errors.Is(err, provisioning.ErrProviderUnavailable) {
					t.Errorf("%s: error %v, want ErrProviderUnavailable", op, err)
				}
				got, ok := errors.AsType[*provisioning.ProviderError](err)
				if !ok {
					t.Errorf("%s: error %v, want a ProviderError", op, err)
				} else if got.Status != test.status || got.RetryAfter != test.want {
					t.Errorf("%s: status %d, retry after %v; want %d, %v", op, got.Status, got.RetryAfter, test.status, test.want)
				}
			}
		})
	}
}

func TestNotTheProvider(t *testing.T) {
	t.Parallel()
	kind := func(v string) map[string]string { return map[string]string{"Content-Type": v} }
	const good = `{"access_token":"a","token_type":"Bearer","encoded_account_id":"p07"}`
	tests := []struct {
		name  string
		serve http.HandlerFunc
		words string
		spent bool // a code or a refresh token may be
	}{
		{"web page with success", answer(200, kind("text/html; charset=utf-8"), "<html>"+echo), "web page", true},
		{"web page of a firewall", answer(403, kind("text/html"), "<html>"+echo), "web page", false},
		{"form body", answer(200, kind("application/x-www-form-urlencoded"), "access_token=a"), "content type", true},
		{"JSON by another name", answer(200, kind("text/plain; "+code), good), "content type", true},
		{"no JSON", answer(200, nil, echo), "not understood", true},
		{"cut short", answer(200, nil, good[:20]), "not understood", true},
		{"no content", answer(204, nil, ""), "not understood", true},
		{"a list", answer(200, nil, `[]`), "not understood", true},
		{"10 MB", answer(200, nil, `{"access_token":"`+strings.Repeat("a", 10<<20)+`"}`), "longer than", true},
		{"redirect", answer(302, map[string]string{"Location": "https://elsewhere.example.com/?" + echo}, ""), "redirect", false},
		{"redirect that keeps the body", answer(307, map[string]string{"Location": "/token2"}, ""), "redirect", false},
		{"broken redirect", answer(302, map[string]string{"Location": ":// " + echo}, ""), "redirect", false},
		{"hang-up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", true},
		{"hang-up amid the body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(good))
		}, "EOF", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			requests := make(chan string, 100)
			client := provider(t, func(w http.ResponseWriter, r *http.Request) {
				requests <- r.URL.Path
				test.serve(w, r)
			})
			for op, err := range calls(t.Context(), client) {
				if !errors.Is(err, provisioning.ErrProviderUnavailable) {
					t.Errorf("%s: error %v, want ErrProviderUnavailable", op, err)
					continue
				}
				if !strings.Contains(err.Error(), op) || !strings.Contains(err.Error(), test.words) {
					t.Errorf("error %q does not mention %q and %q", err, op, test.words)
				}
				if errors.Is(err, provisioning.ErrOutcomeUnknown) != test.spent {
					t.Errorf("%s: that %v matches ErrOutcomeUnknown is %t, want %t", op, err, !test.spent, test.spent)
				}
				checkNoSecret(t, err)
			}
			if n := len(requests); n != 3 {
				t.Errorf("%d requests were made for three calls", n)
			}
		})
	}
}

func TestUselessAnswers(t *testing.T) {
	t.Parallel()
	client := provider(t, answer(200, nil, `{"token_type":"Bearer","refresh_token":"r2","organization_name":"Acme Bakery"}`))
	if _, err := client.Refresh(t.Context(), refresh); !errors.Is(err, provisioning.ErrProviderUnavailable) || !strings.Contains(err.Error(), "access_token") {
		t.Errorf("no access token: error %v", err)
	}
	_, err := client.Account(t.Context(), access)
	if _, refused := errors.AsType[*provisioning.ProviderError](err); !refused || !errors.Is(err, constantcontact.ErrNoAccount) {
		t.Errorf("no account id: error %v, want ErrNoAccount, a ProviderError", err)
	}
	client = provider(t, answer(200, nil, `{"access_token":"a","token_type":"mac"}`))
	if _, err := client.Refresh(t.Context(), refresh); !errors.Is(err, provisioning.ErrProviderUnavailable) || !strings.Contains(err.Error(), `"mac"`) {
		t.Errorf("token of another type: error %v", err)
	}
}

func TestNoSecretIsRepeated(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"error":"` + code + `","error_description":"` + echo + `"}`,
		`[{"error_key":"` + access + refresh + `","error_message":"` + echo + `"}]`,
		`{"message":"` + echo + `"}`,
	} {
		client := provider(t, func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			// Only what the request carried: no server can repeat what it was not told.
			mine := body
			for name, secret := range map[string]string{"code": code, "code_verifier": verifier, "refresh_token": refresh} {
				if r.Form.Get(name) == "" {
					mine = strings.ReplaceAll(mine, secret, "")
				}
			}
			if r.Method == http.MethodPost {
				mine = strings.ReplaceAll(mine, access, "")
			} else {
				mine = strings.ReplaceAll(mine, clientSecret, "")
			}
			answer(400, nil, mine)(w, r)
		})
		for _, err := range calls(t.Context(), client) {
			if err == nil {
				t.Fatal("no error")
			}
			checkNoSecret(t, err)
			if !strings.Contains(err.Error(), "[redacted]") {
				t.Errorf("error %q has lost the place of the secret", err)
			}
		}
	}
}

func TestNoSecretIsRepeatedAsContentType(t *testing.T) {
	t.Parallel()
	client := provider(t, answer(200, map[string]string{"Content-Type": "text/" + code}, ``))
	_, err := client.Exchange(t.Context(), client.TokenURL(), code, verifier)
	if err == nil || !strings.Contains(err.Error(), "text/[redacted]") {
		t.Errorf("error %v, want text/[redacted]", err)
	}
}

// hang is a transport that never answers.
type hang struct{}

func (hang) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestTimeLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := config("https://provider.example.com")
		c.HTTP = &http.Client{Transport: hang{}}
		client := newClient(t, c)
		begin := time.Now()
		_, err := client.Refresh(t.Context(), refresh)
		if !errors.Is(err, provisioning.ErrProviderUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want ErrProviderUnavailable and DeadlineExceeded", err)
		}
		if took := time.Since(begin); took != 15*time.Second {
			t.Errorf("gave up after %v, want 15s", took)
		}
	})
}

func TestTimeLimitCoversTheBody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	c := config(server.URL)
	c.HTTP = &http.Client{Timeout: 50 * time.Millisecond}
	_, err := newClient(t, c).Account(t.Context(), access)
	if !errors.Is(err, provisioning.ErrProviderUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want ErrProviderUnavailable and DeadlineExceeded", err)
	}
}
