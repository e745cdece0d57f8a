package sandbox_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// The apps and people of every test. Acme and Bloom are clients of the agency.
const (
	clientID     = "3f0c7b52-8f1e-4a3b-9f59-0a4c5d7e9b11"
	clientSecret = "s3cret/with+odd=characters"
	publicID     = "0d9d7a6e-1c55-4a8c-8b0e-5a0c3e0f7d42"
	longLivedID  = "b1a7f9d4-63b2-4c63-a6dd-2d6c6a1d7c90"
	privateID    = "77a1c0de-0000-4000-8000-000000000001"
	redirectURI  = "https://app.example/oauth/callback"
	allScopes    = "account_read contact_data campaign_data offline_access"

	acme   = "a07e1lacme00"
	bloom  = "a07e1lbloom0"
	agency = "a37cagency00"

	acmeOwner, bloomOwner, partnerLogin = "Ada@acme.example", "ben@bloom.example", "ops@agency.example"
	acmeManager, acmeCreator            = "agency+acme@agency.example", "art@acme.example"
	password                            = "correct-horse-1"
)

// testKey is shared, because making one takes a tenth of a second.
var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }) //nolint:gochecknoglobals // see above

func accounts() []sandbox.Account {
	return []sandbox.Account{
		{
			ID: acme, PartnerID: agency, Organization: "Acme Bakery", FirstName: "Ada", LastName: "Moss",
			ContactEmail: "ada@acme.example", ContactPhone: "802-555-0101", Country: "US", State: "VT", TimeZone: "US/Eastern",
			Website:         "https://www.acme.example",
			PhysicalAddress: &sandbox.Address{Line1: "1 Main Street", City: "Burlington", State: "VT", PostalCode: "05401", Country: "US"},
			CompanyLogo:     &sandbox.Logo{URL: "https://www.acme.example/logo.png"},
			Users: []sandbox.User{
				{Login: acmeOwner, Password: password, Role: sandbox.RoleOwner, PlatformUserID: "5b1d2f3c-9a77-4c1e-8a55-1234567890ab"},
				{Login: acmeManager, Password: password, Role: sandbox.RoleManager},
				{Login: acmeCreator, Password: password, Role: sandbox.RoleCampaignCreator},
			},
		},
		{
			ID: bloom, PartnerID: agency, Organization: "Bloom Florist", FirstName: "Ben", LastName: "Ash",
			Users: []sandbox.User{{Login: bloomOwner, Password: password, Role: sandbox.RoleOwner}},
		},
		{
			ID: agency, Organization: "The Agency",
			Users: []sandbox.User{{Login: partnerLogin, Password: password, Role: sandbox.RolePartnerManager}},
		},
		{
			ID: "a07e1lother0", Organization: "Somebody Else's",
			Users: []sandbox.User{{Login: "eve@else.example", Password: password, Role: sandbox.RoleOwner}},
		},
	}
}

func apps() []sandbox.App {
	uris := []string{redirectURI, "https://*.sites.example/cb"}
	return []sandbox.App{
		{ClientID: clientID, Secret: clientSecret, Name: "Agency Connect", RedirectURIs: uris},
		{ClientID: publicID, Name: "Plug-in", RedirectURIs: uris},
		{ClientID: longLivedID, Secret: clientSecret, RedirectURIs: uris, LongLived: true},
		{ClientID: privateID, Secret: clientSecret, RedirectURIs: uris, PrivateTo: acme, RequirePKCE: true},
	}
}

// bundle is a sandbox behind a real server, with a clock that only tests move.
type bundle struct {
	*sandbox.Sandbox
	t      testing.TB
	base   string
	client *http.Client // without cookies; a server that closes breaks whoever uses http.DefaultClient

	mu  sync.Mutex
	now time.Time
}

// start serves a sandbox that has the accounts and apps above and no rate limits;
// change may alter that.
func start(tb testing.TB, change func(*sandbox.Options)) *bundle {
	tb.Helper()
	key, err := testKey()
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	b := &bundle{t: tb, base: "http://" + server.Listener.Addr().String(), now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	options := sandbox.Options{
		BaseURL: b.base, Apps: apps(), Accounts: accounts(), Unlimited: true, Key: key, Now: b.clock,
	}
	if change != nil {
		change(&options)
	}
	if b.Sandbox, err = sandbox.New(options); err != nil {
		tb.Fatal(err)
	}
	server.Config.Handler = b.Sandbox
	server.Start()
	b.client = server.Client()
	tb.Cleanup(server.Close)
	return b
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bundle) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// authorizeURL is a valid authorize URL of the confidential app; changes are
// name, value pairs, and an empty value leaves the parameter out.
func (b *bundle) authorizeURL(changes ...string) string {
	query := url.Values{
		"client_id": {clientID}, "redirect_uri": {redirectURI}, "response_type": {"code"}, "scope": {allScopes}, "state": {"st&te"},
	}
	for i := 0; i < len(changes); i += 2 {
		if query.Set(changes[i], changes[i+1]); changes[i+1] == "" {
			query.Del(changes[i])
		}
	}
	return b.base + "/oauth2/default/v1/authorize?" + query.Encode()
}

// reply is an HTTP answer that has been read.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(r.body), &fields); err != nil {
		t.Fatalf("answer %d %q is not a JSON object: %v", r.status, r.body, err)
	}
	return fields
}

// do sends a request and follows no redirect.
func (b *bundle) do(client *http.Client, r *http.Request) reply {
	b.t.Helper()
	quiet := *client
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := quiet.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(body)}
}

func (b *bundle) get(client *http.Client, target string) reply {
	b.t.Helper()
	return b.do(client, b.request(http.MethodGet, target, ""))
}

func (b *bundle) request(method, target, body string) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// consent walks as an owner and returns the query of the callback.
func (b *bundle) consent(authorizeURL, login string) url.Values {
	b.t.Helper()
	return b.consentWith(b.client, authorizeURL, login)
}

func (b *bundle) consentWith(client *http.Client, authorizeURL, login string) url.Values {
	b.t.Helper()
	callback, err := sandbox.Consent(b.t.Context(), client, authorizeURL, login, password, sandbox.Allow)
	if err != nil {
		b.t.Fatal(err)
	}
	return query(b.t, callback)
}

func query(tb testing.TB, callback string) url.Values {
	tb.Helper()
	u, err := url.Parse(callback)
	if err != nil {
		tb.Fatal(err)
	}
	return u.Query()
}

// tokenRequest is a good token request of the confidential app; fields are name, value pairs.
func (b *bundle) tokenRequest(fields ...string) *http.Request {
	b.t.Helper()
	r := b.request(http.MethodPost, b.base+"/oauth2/default/v1/token", pairs(fields).Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(clientSecret))
	return r
}

func pairs(fields []string) url.Values {
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return form
}

func (b *bundle) token(fields ...string) reply {
	b.t.Helper()
	return b.do(b.client, b.tokenRequest(fields...))
}

func (b *bundle) exchange(code string) reply {
	b.t.Helper()
	return b.token("grant_type", "authorization_code", "code", code, "redirect_uri", redirectURI)
}

func (b *bundle) refresh(token string) reply {
	b.t.Helper()
	return b.token("grant_type", "refresh_token", "refresh_token", token)
}

// tokens are those of one good answer.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Scope   string `json:"scope"`
}

func (r reply) tokens(tb testing.TB) tokens {
	tb.Helper()
	var got tokens
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != http.StatusOK || got.Access == "" {
		tb.Fatalf("no tokens in answer %d %s", r.status, r.body)
	}
	return got
}

// grant makes a grant of the confidential app.
func (b *bundle) grant(login string) tokens {
	b.t.Helper()
	return b.exchange(b.consent(b.authorizeURL(), login).Get("code")).tokens(b.t)
}

func (b *bundle) call(path, accessToken string) reply {
	b.t.Helper()
	r := b.request(http.MethodGet, b.base+path, "")
	r.Header.Set("Authorization", "Bearer "+accessToken)
	return b.do(b.client, r)
}

// endings are those of all grants, oldest first.
func (b *bundle) endings() []sandbox.Ending {
	var endings []sandbox.Ending
	for _, g := range b.Grants() {
		endings = append(endings, g.Ended)
	}
	return endings
}

// wantError checks an OAuth error of the token endpoint.
func (r reply) wantError(t *testing.T, status int, problem string) {
	t.Helper()
	if got := r.json(t)["error"]; r.status != status || got != problem {
		t.Errorf("answer %d %s, want %d %s", r.status, r.body, status, problem)
	}
}

// newBrowser keeps cookies.
func (b *bundle) newBrowser() *http.Client {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return &http.Client{Transport: b.client.Transport, Jar: jar}
}

func challenge(verifier string) string {
	hash := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

func TestNewReportsEveryMistake(t *testing.T) {
	t.Parallel()
	user := sandbox.User{Login: "x@x.example", Password: "p", Role: sandbox.RoleOwner}
	tests := map[string]struct {
		change func(*sandbox.Options)
		want   []string
	}{
		"the provider's own host": {
			func(o *sandbox.Options) { o.BaseURL = "https://authz.constantcontact.com" },
			[]string{"provider's own hosts"},
		},
		"base URL with a path": {func(o *sandbox.Options) { o.BaseURL = "http://127.0.0.1/x" }, []string{"scheme and host alone"}},
		"no base URL":          {func(o *sandbox.Options) { o.BaseURL = "" }, []string{"scheme and host alone"}},
		"issuer":               {func(o *sandbox.Options) { o.Issuer = "nowhere" }, []string{`issuer "nowhere"`}},
		"accounts": {
			func(o *sandbox.Options) {
				o.Accounts = []sandbox.Account{
					{ID: "a", Users: []sandbox.User{user, {Login: "X@X.EXAMPLE", Password: "p", Role: sandbox.RoleOwner}}},
					{ID: "a", Organization: "Twin"},
					{ID: "b", Users: []sandbox.User{{Login: "y", Role: sandbox.RoleOwner}, {Login: "z", Password: "p", Role: "king"}}},
				}
			},
			[]string{"login is taken", "(Twin): every account needs an id", "give a login and a password", `role "king"`},
		},
		"apps": {
			func(o *sandbox.Options) {
				o.Apps = []sandbox.App{
					{},
					{ClientID: "a", RedirectURIs: []string{"/relative", "https://x.example/#f", "https://a.*.example/", "https://*.*.example/", "ftp://x.example/"}},
					{ClientID: "a"},
					{ClientID: "b", PrivateTo: "nobody"},
				}
			},
			[]string{
				`app ""`, `"/relative": give an absolute`, "#f\": fragments", `"https://a.*.example/": only the first label`,
				`"https://*.*.example/": only the first label`, `"ftp://x.example/": give an absolute`, `app "a": every app`, `account "nobody"`,
			},
		},
		"faults": {
			func(o *sandbox.Options) {
				o.Faults = sandbox.Faults{"gremlins": {Next: 1}, sandbox.Token500: {Next: -1}, sandbox.Token503: {Probability: 2}}
			},
			[]string{`fault "gremlins" does not exist`, `fault "token_500"`, `fault "token_503"`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := sandbox.Options{BaseURL: "http://127.0.0.1:9090"}
			test.change(&options)
			_, err := sandbox.New(options)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestWhatTheProviderDoesNotHave(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	for _, target := range []string{
		"GET /", "GET /.well-known/openid-configuration", "GET /.well-known/oauth-authorization-server",
		"GET /oauth2/default/.well-known/openid-configuration", "POST /oauth2/default/v1/revoke", "POST /oauth2/default/v1/authorize",
		"GET /oauth2/default/v1/token", "GET /_sandbox/", "GET /_sandbox/accounts", "PUT /_sandbox/faults",
	} {
		method, path, _ := strings.Cut(target, " ")
		if got := b.do(b.client, b.request(method, b.base+path, "")); got.status != http.StatusNotFound || got.body != "" {
			t.Errorf("%s: answer %d %q, want an empty 404", target, got.status, got.body)
		}
	}
}

func TestLoadAccounts(t *testing.T) {
	t.Parallel()
	made := sandbox.MakeAccounts(25, 7)
	file, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := sandbox.LoadAccounts(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(loaded)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, file) {
		t.Errorf("accounts changed on the way through a file:\n%s\n%s", file, again)
	}
	for _, broken := range []string{`{}`, `[{"encoded_acount_id":"a"}]`, `[`} {
		if _, err := sandbox.LoadAccounts(strings.NewReader(broken)); err == nil {
			t.Errorf("LoadAccounts(%s): no error", broken)
		}
	}
}

func TestMakeAccounts(t *testing.T) {
	t.Parallel()
	made := sandbox.MakeAccounts(3000, 1)
	// New finds ids or logins that come twice.
	if _, err := sandbox.New(sandbox.Options{BaseURL: "http://127.0.0.1", Accounts: made}); err != nil {
		t.Fatal(err)
	}
	roles := map[sandbox.Role]int{}
	for _, account := range made {
		for _, field := range []string{
			account.ID, account.PartnerID, account.Organization, account.FirstName, account.LastName,
			account.ContactEmail, account.ContactPhone, account.Country, account.State, account.TimeZone, account.Website,
		} {
			if field == "" {
				t.Fatalf("empty field in %+v", account)
			}
		}
		for _, u := range account.Users {
			roles[u.Role]++
			if len(u.Password) < 12 {
				t.Errorf("password %q has fewer than 12 characters", u.Password)
			}
		}
	}
	if roles[sandbox.RoleOwner] != 3000 || roles[sandbox.RoleManager] != 750 || roles[sandbox.RoleCampaignCreator] != 300 {
		t.Errorf("roles %v", roles)
	}
	same, other := sandbox.MakeAccounts(3, 1), sandbox.MakeAccounts(3, 2)
	if same[2].ID != made[2].ID || other[2].ID == made[2].ID {
		t.Error("the seed does not decide the accounts")
	}
}
