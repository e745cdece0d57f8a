package web_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/cmd/countersign/internal/web"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
	"github.com/countersign/countersign/provisioning/once"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/templates"
)

const (
	password   = "correct-horse-1"
	adaLogin   = "ada@acme.example"
	benLogin   = "ben@bloom.example"
	rosterFile = "ref,name,owner_name,owner_email,account_id,tags,Plan\n" + acmeRow + bloomRow + cafeRow
	acmeRow    = "ACME/1,Acme Bakery,Ada Moss,ada@acme.example,acct-acme,\"food, east\",Gold\n"
	bloomRow   = "BLOOM,Bloom Florist,Ben Ash,ben@bloom.example,acct-bloom,food,\n"
	cafeRow    = "CAFE,Café Lumière,,cleo@cafe.example,,,\n"
	strange    = "Somebody Else"
	agency     = "Brightside Marketing"
	userAgent  = "Mozilla/5.0 (iPhone) countersign-test"
)

// testBundle is the whole edge on real rooms: a database, the imitated provider, a server.
type testBundle struct {
	*web.Server

	db       *pgxpool.Pool
	clock    *clock
	box      *sandbox.Sandbox
	app      constantcontact.Config // at the imitated provider
	server   *httptest.Server
	log      *logBook
	outgoing outgoing
}

// clock is the real time, put forward by the test.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// outgoing keeps the mails that are sent at once.
type outgoing struct {
	mu      sync.Mutex
	mails   []smtp.Envelope
	refusal error // what Send answers
}

func (o *outgoing) Send(_ context.Context, e smtp.Envelope) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mails = append(o.mails, e)
	return o.refusal
}

// logBook keeps what is logged.
type logBook struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logBook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(line)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// testKey is shared, because making one takes a tenth of a second.
var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }) //nolint:gochecknoglobals // see above

// setup serves by https, as the program does behind a proxy.
func setup(t *testing.T) *testBundle {
	t.Helper()
	return serve(t, "https")
}

func serve(t *testing.T, scheme string) *testBundle {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	publicURL := scheme + "://" + server.Listener.Addr().String()
	b := &testBundle{db: pgtest.New(t), clock: &clock{}, server: server, log: &logBook{}}
	b.Server = b.wire(t, publicURL)
	handler, err := b.Handler()
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = handler
	if scheme == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return b
}

// wire plugs the rooms together as the program does.
func (b *testBundle) wire(t *testing.T, publicURL string) *web.Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(b.log, nil))
	set, err := templates.New()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := vault.ParseKeys(vault.GenerateKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	pattern, err := provisioning.ParsePattern("{local}+{slug}@{domain}")
	if err != nil {
		t.Fatal(err)
	}
	namer, err := provisioning.NewNamer(pattern, provisioning.Mailbox{Local: "agency", Domain: "brightside.example"}, 50)
	if err != nil {
		t.Fatal(err)
	}
	scopes := []string{"account_read", "contact_data", "campaign_data", "offline_access"}
	config := b.provider(t, publicURL, scopes)
	b.app = config
	client, err := constantcontact.New(config)
	if err != nil {
		t.Fatal(err)
	}
	letterhead := templates.Letterhead{
		Agency: agency, ReplyTo: "hello@brightside.example", Provider: "Constant Contact", ProviderHost: "constantcontact.com",
		Host: "connect.brightside.example",
	}
	links := &authflow.Links{DB: b.db, Key: []byte("key of the links"), PublicURL: publicURL, Now: b.clock.now}
	stationery := &notify.Stationery{DB: b.db, Templates: set, Settings: letterhead, Scopes: scopes, PublicURL: publicURL}
	mailer := &notify.Mailer{
		DB: b.db, Linker: links, Stationery: stationery, From: "hello@brightside.example", Reminders: 3, Now: b.clock.now, Log: log,
	}
	paths, err := notify.NewReturnPaths("bounce@brightside.example", bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	mailSwitch := &notify.Switch{DB: b.db, Log: log}
	jobs, err := queue.New()
	if err != nil {
		t.Fatal(err)
	}
	inviter := &provisioning.Inviter{DB: b.db, Linker: links, Mailer: mailer}
	importer := &provisioning.Importer{DB: b.db, Namer: namer, Inviter: inviter}
	grants := &grant.Store{DB: b.db, Vault: keys, Thanker: inviter, Scopes: scopes, Now: b.clock.now}
	return &web.Server{
		Store:    &provisioning.Store{DB: b.db},
		Grants:   grants,
		Keeper:   &grant.Keeper{Store: grants, Provider: client, Reconnecter: inviter, Log: log, Now: b.clock.now},
		Calls:    budget.New(b.db, "app/api", budget.Limits{PerSecond: 4, PerDay: 1000, Reserve: 100}),
		Tokens:   budget.New(b.db, "app/token", budget.Limits{PerSecond: 1}),
		Inviter:  inviter,
		Importer: importer,
		Uploads:  provisioning.NewUploads(b.db, jobs, importer, mostUpload),
		Renamer:  &provisioning.Renamer{DB: b.db, Namer: importer.Namer},
		Links:    links,
		Flow: &authflow.Flow{
			DB: b.db, Vault: keys, Grants: grants, Links: links, Provider: client, Inviter: inviter, Scopes: scopes,
			Issuers: authflow.Origins(config.AuthorizeURL, config.TokenURL), Now: b.clock.now, Log: log,
		},
		Managers: &manager.Store{
			DB: b.db, Vault: keys, Renamer: &provisioning.Renamer{DB: b.db, Namer: importer.Namer}, Now: b.clock.now,
		},
		PasswordLink: "https://passwords.example/search?q={username}",

		Mailer:     mailer,
		Sender:     &b.outgoing,
		Stationery: stationery,
		Switch:     mailSwitch,
		Reminders:  &notify.Reminders{DB: b.db, Mailer: mailer, Now: b.clock.now, Log: log},
		Returns:    &notify.Returns{DB: b.db, Paths: paths, Control: mailSwitch, Log: log},
		Admin:      admin.New(b.db),
		Audit:      &audit.Store{DB: b.db},
		Once:       &once.Store{DB: b.db},
		Templates:  set,
		Scopes:     scopes,
		PublicURL:  publicURL,
		Proxies:    []string{"10.0.0.0/8"},
		Version:    "test",
		Settings:   []templates.SettingGroup{{Title: "Agency", Settings: []templates.Setting{{Name: "COUNTERSIGN_AGENCY_NAME", Label: "Name", Value: agency}}}},
		Doctor:     &examiner{},
		Ready:      b.db.Ping,
		Now:        b.clock.now,
		Log:        log,
	}
}

// provider starts the imitated provider.
func (b *testBundle) provider(t *testing.T, publicURL string, scopes []string) constantcontact.Config {
	t.Helper()
	key, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	base := "http://" + server.Listener.Addr().String()
	user := func(login string) []sandbox.User {
		return []sandbox.User{{Login: login, Password: password, Role: sandbox.RoleOwner}}
	}
	b.box, err = sandbox.New(sandbox.Options{
		BaseURL: base,
		Apps:    []sandbox.App{{ClientID: "app", Secret: "app-secret", RedirectURIs: []string{publicURL + "/oauth/callback"}}},
		Accounts: []sandbox.Account{
			{ID: "acct-acme", Organization: "Acme Bakery", ContactEmail: adaLogin, Users: user(adaLogin)},
			{ID: "acct-bloom", Organization: "Bloom Florist", ContactEmail: benLogin, Users: user(benLogin)},
			{ID: "acct-strange", Organization: strange, ContactEmail: "who@else.example", Users: user("who@else.example")},
		},
		Unlimited: true,
		Key:       key,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = b.box
	server.Start()
	t.Cleanup(server.Close)
	return constantcontact.Config{
		ClientID:     "app",
		ClientSecret: "app-secret",
		Scopes:       scopes,
		PKCE:         true,
		Prompt:       "login",
		RedirectURL:  publicURL + "/oauth/callback",
		AuthorizeURL: base + "/oauth2/default/v1/authorize",
		TokenURL:     base + "/oauth2/default/v1/token",
		APIURL:       base + "/v3",
		HTTP:         server.Client(),
	}
}

// browser keeps cookies and follows no redirect by itself.
type browser struct {
	*http.Client

	base string
}

func (b *testBundle) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{
		Transport:     b.server.Client().Transport,
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, b.server.URL}
}

// page is an answer.
type page struct {
	name   string // for messages
	status int
	header http.Header
	body   string
}

// do sends a request; header has names and values in turn.
func (b *browser) do(t *testing.T, method, address string, body io.Reader, header ...string) page {
	t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.base + address
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", userAgent)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := b.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return page{method + " " + request.URL.Path, response.StatusCode, response.Header, string(text)}
}

func (b *browser) get(t *testing.T, address string) page {
	t.Helper()
	return b.do(t, http.MethodGet, address, nil)
}

func (b *browser) post(t *testing.T, address string, form url.Values) page {
	t.Helper()
	return b.do(t, http.MethodPost, address, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// has checks the status.
func (p page) has(t *testing.T, status int) page {
	t.Helper()
	if p.status != status {
		t.Fatalf("%s answered %d, want %d: %s", p.name, p.status, status, p.body)
	}
	return p
}

// leads checks that the answer is a redirect and returns where it leads.
func (p page) leads(t *testing.T) string {
	t.Helper()
	return p.has(t, http.StatusSeeOther).header.Get("Location")
}

// consent walks from Continue over the provider's pages and returns the address at which the browser
// comes back.
func (b *browser) consent(t *testing.T, begin, login string, d sandbox.Decision) string {
	t.Helper()
	back, err := sandbox.Consent(t.Context(), b.Client, b.post(t, begin, nil).leads(t), login, password, d)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// walk is the whole walk; it returns the page at its end.
func (b *browser) walk(t *testing.T, link, login string, d sandbox.Decision) page {
	t.Helper()
	return b.get(t, b.get(t, b.consent(t, link+"/begin", login, d)).leads(t))
}

// imports brings clients into the roster.
func (b *testBundle) imports(t *testing.T, file string) provisioning.Import {
	t.Helper()
	im, err := b.Importer.Import(t.Context(), strings.NewReader(file), provisioning.ImportOptions{FileName: "roster.csv", Actor: provisioning.ActorCLI})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func (b *testBundle) client(t *testing.T, ref string) provisioning.Client {
	t.Helper()
	c, err := b.Store.Client(t.Context(), "ref:"+ref)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// isAt checks a client's stage, with the reason behind it if there is one.
func (b *testBundle) isAt(t *testing.T, ref, want string) {
	t.Helper()
	c := b.client(t, ref)
	got := string(c.Stage)
	if c.Reason != nil {
		got += "/" + string(*c.Reason)
	}
	if got != want {
		t.Errorf("%s is at %s, want %s", ref, got, want)
	}
}

// link makes an invitation and returns the path of its link.
func (b *testBundle) link(t *testing.T, ref string) string {
	t.Helper()
	link, _, err := b.Links.HandOver(t.Context(), b.client(t, ref).ID, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(link, b.PublicURL)
}

// caller is a program with an API key.
type caller struct {
	*browser

	key provisioning.Secret
}

// caller makes a key with the scopes.
func (b *testBundle) caller(t *testing.T, scopes ...admin.Scope) caller {
	t.Helper()
	key, _, err := b.Admin.CreateKey(t.Context(), admin.NewKey{Name: "key " + uuid.NewString(), Scopes: scopes}, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	return caller{b.browser(t), key}
}

// call sends a request with the key; header has names and values in turn.
func (c caller) call(t *testing.T, method, path, body string, header ...string) page {
	t.Helper()
	return c.do(t, method, "/api/v1"+path, strings.NewReader(body), append(header, "Authorization", "Bearer "+c.key.Reveal())...)
}

// into decodes the answer.
func (p page) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.body), v); err != nil {
		t.Fatalf("%s: %v in %s", p.name, err, p.body)
	}
}
