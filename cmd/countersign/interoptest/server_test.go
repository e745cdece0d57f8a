package interoptest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/provisioning/constantcontact"
)

// What every server knows.
const (
	maria    = "maria@acme.example"
	jonas    = "jonas@bikes.example"
	stranger = "hello@stranger.example"
	password = "any"

	// Both have to be escaped before they are sent as user and password (RFC 6749, 2.3.1).
	clientID, clientSecret = "countersign:test", "s%cret+with/signs"

	appScopes  = "account_read contact_data campaign_data offline_access"
	otherScope = "billing_read" // of the server, that the app is not registered for

	// OpenID Connect Core, 11: offline_access is ignored unless consent is prompted for.
	prompt = "login consent"
)

// summary is what the API tells of an account, as Constant Contact words it.
type summary struct {
	ID           string `json:"encoded_account_id"`
	Organization string `json:"organization_name"`
	Email        string `json:"contact_email"`
}

// accounts returns the account of each login.
func accounts() map[string]summary {
	return map[string]summary{
		maria:    {ID: "a01acme", Organization: "Acme Bakery", Email: maria},
		jonas:    {ID: "a02bikes", Organization: "Jonas Bikes", Email: jonas},
		stranger: {ID: "a99else", Organization: "Somebody Else", Email: stranger},
	}
}

// app is how the program is registered at a server.
type app struct {
	redirectURL string
	pkce        bool // the server demands it
}

// maker is a make of authorization server.
type maker struct {
	name  string
	start func(*testing.T, app) *server
}

func makers() []maker {
	return []maker{{"oidc-provider", startOIDCProvider}, {"zitadel", startZitadel}}
}

// server is an authorization server at work, with an API beside it.
type server struct {
	app          app
	authorizeURL string
	tokenURL     string
	apiURL       string
	signOutURL   string

	// signIn takes a person from the server's first page through all of them, to where it sends the browser.
	signIn func(page, string) page
	// decline does as much for somebody who says no. It is nil where nobody is asked.
	decline func(page, string) page
}

// client returns the program's own client for the server.
func (s *server) client(t *testing.T, change ...func(*constantcontact.Config)) *constantcontact.Client {
	t.Helper()
	config := constantcontact.Config{
		ClientID:     clientID,
		ClientSecret: clientSecret,
		Scopes:       strings.Fields(appScopes),
		PKCE:         true,
		Prompt:       prompt,
		RedirectURL:  s.app.redirectURL,
		AuthorizeURL: s.authorizeURL,
		TokenURL:     s.tokenURL,
		APIURL:       s.apiURL,
	}
	for _, c := range change {
		c(&config)
	}
	client, err := constantcontact.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// startAPI answers for the server's access tokens which account they open, with what Constant Contact
// answers. It asks the server about each (RFC 7662), so that a token that the server ended opens nothing.
func startAPI(t *testing.T, introspectURL string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v3/account/summary", func(w http.ResponseWriter, r *http.Request) {
		token, err := introspect(r, introspectURL)
		scopes := strings.Fields(token.Scope)
		switch {
		case err != nil:
			t.Error(err)
			answer(w, http.StatusInternalServerError, apiError("server_error"))
		case !token.Active:
			answer(w, http.StatusUnauthorized, apiError("unauthorized"))
		case !slices.Contains(scopes, "account_read"):
			answer(w, http.StatusForbidden, apiError("access_denied"))
		default:
			answer(w, http.StatusOK, accounts()[token.Subject])
		}
	})
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)
	return api.URL + "/v3"
}

// introspection is what a server says about a token.
type introspection struct {
	Active  bool   `json:"active"`
	Subject string `json:"sub"`
	Scope   string `json:"scope"`
}

func introspect(r *http.Request, introspectURL string) (introspection, error) {
	form := url.Values{"token": {strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, introspectURL, strings.NewReader(form.Encode()))
	if err != nil {
		return introspection{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(clientSecret))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return introspection{}, err
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	var token introspection
	return token, json.NewDecoder(response.Body).Decode(&token)
}

func apiError(key string) map[string]string { return map[string]string{"error_key": key} }

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // Nobody is left to tell.
}
