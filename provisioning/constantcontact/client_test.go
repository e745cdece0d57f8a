package constantcontact_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

const (
	clientID     = "1bd0d75e-fc74"
	clientSecret = "s3cret:with/odd+chars"
	code         = "c0de-c0de"
	verifier     = "verifier-0123456789-0123456789-0123456789-0"
	refresh      = "r3fresh-r3fresh"
	access       = "opaque-access-token"
)

func now() time.Time { return time.Date(2026, 11, 23, 20, 30, 0, 0, time.UTC) }

// config is a complete configuration whose provider is the given server.
func config(server string) constantcontact.Config {
	return constantcontact.Config{
		ClientID:     clientID,
		ClientSecret: clientSecret,
		Scopes:       []string{"account_read", "contact_data", "offline_access"},
		PKCE:         true,
		Prompt:       "login",
		RedirectURL:  "https://countersign.example.com/oauth/callback",
		AuthorizeURL: server + "/authorize",
		TokenURL:     server + "/token",
		APIURL:       server + "/v3",
		HTTP:         &http.Client{Timeout: 5 * time.Second},
		Now:          now,
	}
}

func newClient(t *testing.T, c constantcontact.Config) *constantcontact.Client {
	t.Helper()
	client, err := constantcontact.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// provider starts a server that gives one answer to everything and a client that speaks to it.
func provider(t *testing.T, answer http.HandlerFunc) *constantcontact.Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return newClient(t, config(server.URL))
}

func answer(status int, header map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestNewReportsEveryMistake(t *testing.T) {
	t.Parallel()
	if _, err := constantcontact.New(constantcontact.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	} else {
		for _, want := range []string{"client id is empty", "PKCE", "redirect URL is empty", "authorize URL is empty", "token URL is empty", "API URL is empty"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not mention %q", err, want)
			}
		}
	}
}

func TestNewChecksURLs(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		constantcontact.DefaultTokenURL:    true,
		"https://sso.example.com:8443/t":   true,
		"https://sso.example.com/t?v=2":    true,
		"http://localhost:9001/token":      true,
		"http://127.0.0.1:9001/token":      true,
		"http://[::1]:9001/token":          true,
		"http://sso.example.com/token":     false,
		"http://127.0.0.1.example.com/t":   false,
		"http://192.0.2.7/token":           false,
		"sso.example.com/token":            false,
		"/token":                           false,
		"https://":                         false,
		"ftp://localhost/token":            false,
		"https://user:hunter2@example.com": false,
		"https://example.com/t#top":        false,
		"https://exa mple.com/hunter2":     false,
	}
	for address, good := range tests {
		c := config("https://provider.example.com")
		c.TokenURL = address
		_, err := constantcontact.New(c)
		if (err == nil) != good {
			t.Errorf("token URL %q: error %v, want good = %t", address, err, good)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %q repeats a password", err)
		}
	}
}

func TestAuthorizeURL(t *testing.T) {
	t.Parallel()
	base := url.Values{
		"client_id":     {clientID},
		"redirect_uri":  {"https://countersign.example.com/oauth/callback"},
		"response_type": {"code"},
		"scope":         {"account_read contact_data offline_access"},
		"state":         {"st+te"},
	}
	with := func(pairs ...string) url.Values {
		v := url.Values{}
		for name := range base {
			v.Set(name, base.Get(name))
		}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	tests := []struct {
		name, prompt, verifier string
		want                   url.Values
	}{
		// The pair of RFC 7636, appendix B.
		{
			"PKCE and login", "login", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
			with("prompt", "login", "code_challenge_method", "S256", "code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
		},
		{"neither", "", "", base},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := config("https://provider.example.com")
			c.Prompt, c.PKCE = test.prompt, test.verifier != ""
			client := newClient(t, c)
			if client.PKCE() != c.PKCE {
				t.Errorf("PKCE() = %t, want %t", client.PKCE(), c.PKCE)
			}
			u, err := url.Parse(client.AuthorizeURL("st+te", test.verifier))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, u.Query()); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
			if got := u.Scheme + "://" + u.Host + u.Path; got != "https://provider.example.com/authorize" {
				t.Errorf("address %q", got)
			}
			// A plus sign that is encoded itself makes the provider see one scope of that name.
			if strings.Contains(u.RawQuery, "account_read%2B") {
				t.Errorf("scopes are joined by %%2B: %s", u.RawQuery)
			}
		})
	}
}

// request is what a test wants to know of a request.
type request struct {
	Method, Path, Basic, Bearer, ContentType, Accept string
	Form                                             url.Values
}

func TestRequests(t *testing.T) {
	t.Parallel()
	const redirect = "https://countersign.example.com/oauth/callback"
	basic := url.QueryEscape(clientID) + " " + url.QueryEscape(clientSecret)
	tests := []struct {
		name   string
		public bool
		call   func(*constantcontact.Client, string) error
		want   request
	}{
		{
			"exchange", false,
			func(c *constantcontact.Client, server string) error {
				_, err := c.Exchange(t.Context(), server+"/token", code, verifier)
				return err
			},
			request{
				Method: "POST", Path: "/token", Basic: basic, ContentType: "application/x-www-form-urlencoded",
				Form: url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}},
			},
		},
		{
			"exchange without PKCE at the stored token URL", false,
			func(c *constantcontact.Client, server string) error {
				_, err := c.Exchange(t.Context(), server+"/stored", code, "")
				return err
			},
			request{
				Method: "POST", Path: "/stored", Basic: basic, ContentType: "application/x-www-form-urlencoded",
				Form: url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}},
			},
		},
		{
			"exchange of a public app", true,
			func(c *constantcontact.Client, server string) error {
				_, err := c.Exchange(t.Context(), server+"/token", code, verifier)
				return err
			},
			request{
				Method: "POST", Path: "/token", ContentType: "application/x-www-form-urlencoded",
				Form: url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}, "client_id": {clientID}},
			},
		},
		{
			"refresh", false,
			func(c *constantcontact.Client, _ string) error {
				_, err := c.Refresh(t.Context(), refresh)
				return err
			},
			request{
				Method: "POST", Path: "/token", Basic: basic, ContentType: "application/x-www-form-urlencoded",
				Form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}},
			},
		},
		{
			"account", false,
			func(c *constantcontact.Client, _ string) error {
				_, err := c.Account(t.Context(), access)
				return err
			},
			request{Method: "GET", Path: "/v3/account/summary", Bearer: access, Form: url.Values{}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got request
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil {
					t.Error(err)
				}
				got = request{Method: r.Method, Path: r.URL.Path, ContentType: r.Header.Get("Content-Type"), Accept: r.Header.Get("Accept"), Form: r.Form}
				if user, password, ok := r.BasicAuth(); ok {
					got.Basic = user + " " + password
				}
				got.Bearer, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
				if got.Basic != "" {
					got.Bearer = ""
				}
				answer(200, nil, `{"access_token":"a","token_type":"Bearer","encoded_account_id":"p07e1l8cdif9dl"}`)(w, r)
			}))
			defer server.Close()
			c := config(server.URL)
			c.APIURL += "/"
			if test.public {
				c.ClientSecret = ""
			}
			if err := test.call(newClient(t, c), server.URL); err != nil {
				t.Fatal(err)
			}
			test.want.Accept = "application/json"
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExchangeRefusesAnInsecureTokenURL(t *testing.T) {
	t.Parallel()
	client := newClient(t, config("https://provider.example.com"))
	if _, err := client.Exchange(t.Context(), "http://provider.example.com/token", code, verifier); err == nil || !strings.Contains(err.Error(), "https://") {
		t.Errorf("error %v, want one that asks for https", err)
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	client := provider(t, answer(200, nil, `{
		"encoded_account_id": "p07e1l8cdif9dl", "encoded_partner_id": "a37cranviy95el",
		"organization_name": "Acme Bakery", "contact_email": "ann@acme.example",
		"first_name": "Ann", "last_name": "Baker", "country_code": "US", "time_zone_id": "US/Eastern"
	}`))
	got, err := client.Account(t.Context(), access)
	if err != nil {
		t.Fatal(err)
	}
	want := provisioning.Account{
		ID: "p07e1l8cdif9dl", PartnerID: "a37cranviy95el", Organization: "Acme Bakery",
		ContactEmail: "ann@acme.example", FirstName: "Ann", LastName: "Baker",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
}
