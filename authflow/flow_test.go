package authflow_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// testBundle is the owner's walk on a database of its own, with the neighbours that the program plugs
// in, and a provider that does what the test says.
type testBundle struct {
	*authflow.Flow

	db       *pgxpool.Pool
	clock    *clock
	importer *provisioning.Importer
	provider *provider
	log      *logBook
}

// logBook keeps what is logged.
type logBook struct {
	mu  sync.Mutex
	all strings.Builder
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

// roster is who the tests are about: Acme's account is known beforehand, the others' are not.
const roster = "ref,name,owner_email,account_id\n" +
	"ACME,Acme Bakery,ada@acme.example,acct-acme\n" +
	"BLOOM,Bloom Florist,ben@bloom.example,\n" +
	"CAFE,Café Lumière,cleo@chain.example,\n" +
	"DELI,Corner Deli,cleo@chain.example,\n" +
	"YOGA-1,Yoga Studio,eve@yoga.example,\n" +
	"YOGA-2,yoga studio,fay@yoga.example,\n"

func setup(t *testing.T) *testBundle {
	t.Helper()
	db := pgtest.New(t)
	clock := &clock{}
	keys, err := vault.ParseKeys(vault.GenerateKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	links := &authflow.Links{DB: db, Key: []byte("key of the links"), PublicURL: "https://connect.example.com", Now: clock.now}
	mailer := &notify.Mailer{DB: db, Linker: links, Now: clock.now, Log: slog.New(slog.DiscardHandler)}
	inviter := &provisioning.Inviter{DB: db, Linker: links, Mailer: mailer}
	mailbox, err := provisioning.ParseMailbox("agency@example.com")
	if err != nil {
		t.Fatal(err)
	}
	pattern, err := provisioning.ParsePattern("{local}+{slug}@{domain}")
	if err != nil {
		t.Fatal(err)
	}
	namer, err := provisioning.NewNamer(pattern, mailbox, 50)
	if err != nil {
		t.Fatal(err)
	}
	b := &testBundle{
		db:       db,
		clock:    clock,
		importer: &provisioning.Importer{DB: db, Namer: namer, Inviter: inviter},
		provider: &provider{},
		log:      &logBook{},
	}
	scopes := []string{"account_read", "contact_data", "offline_access"}
	b.Flow = &authflow.Flow{
		DB:       db,
		Vault:    keys,
		Grants:   &grant.Store{DB: db, Vault: keys, Thanker: inviter, Scopes: scopes, Now: clock.now},
		Links:    links,
		Provider: b.provider,
		Inviter:  inviter,
		Scopes:   scopes,
		Issuers:  authflow.Origins("https://provider.example/authorize", "https://provider.example/token"),
		Now:      clock.now,
		Log:      slog.New(slog.NewTextHandler(b.log, nil)),
	}
	b.imports(t, roster)
	return b
}

// alone is the bundle with a provider and a log of its own, for one of several tests on one database.
func (b *testBundle) alone() *testBundle {
	own, flow := *b, *b.Flow
	own.provider, own.log = &provider{}, &logBook{}
	flow.Provider, flow.Log = own.provider, slog.New(slog.NewTextHandler(own.log, nil))
	own.Flow = &flow
	return &own
}

// anew makes the database as setup left it, for the next of several tests.
func (b *testBundle) anew(t *testing.T) {
	t.Helper()
	if _, err := b.db.Exec(t.Context(), `DELETE FROM clients`); err != nil {
		t.Fatal(err)
	}
	b.clock.ahead.Store(0)
	b.imports(t, roster)
}

// clock is the real time, put forward by the test.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// provider answers what the test says, by default with a whole grant of Acme's account.
type provider struct {
	tokens    func(ctx context.Context, code string) (provisioning.Tokens, error)
	account   func() (provisioning.Account, error)
	noPKCE    bool
	prompt    string
	exchanges atomic.Int32
}

func (p *provider) AuthorizeURL(state, verifier string) string {
	q := url.Values{"state": {state}, "verifier": {verifier}}
	if p.prompt != "" {
		q.Set("prompt", p.prompt)
	}
	return "https://provider.example/authorize?" + q.Encode()
}

func (p *provider) PKCE() bool { return !p.noPKCE }

func (p *provider) TokenURL() string { return "https://provider.example/token" }

func (p *provider) Exchange(ctx context.Context, tokenURL, code, verifier string) (provisioning.Tokens, error) {
	p.exchanges.Add(1)
	if tokenURL != p.TokenURL() || (verifier == "") != p.noPKCE {
		return provisioning.Tokens{}, fmt.Errorf("token URL %q, verifier %q", tokenURL, verifier)
	}
	if p.tokens != nil {
		return p.tokens(ctx, code)
	}
	return tokensFor(code), nil
}

func (p *provider) Account(context.Context, provisioning.Secret) (provisioning.Account, error) {
	if p.account != nil {
		return p.account()
	}
	return acme(), nil
}

// says makes the provider answer that this account has consented.
func (p *provider) says(a provisioning.Account) {
	p.account = func() (provisioning.Account, error) { return a, nil }
}

func acme() provisioning.Account {
	return provisioning.Account{ID: "acct-acme", Organization: "Acme Bakery", ContactEmail: "ada@acme.example"}
}

func stranger() provisioning.Account {
	return provisioning.Account{ID: "acct-stranger", Organization: "Somebody Else", ContactEmail: "who@else.example"}
}

func tokensFor(code string) provisioning.Tokens {
	return provisioning.Tokens{
		Access:    provisioning.Secret("access-token-for-" + code),
		Refresh:   provisioning.Secret("refresh-token-for-" + code),
		ExpiresAt: time.Now().Add(24 * time.Hour),
		Subject:   "ada",
	}
}

func (b *testBundle) imports(t *testing.T, file string) {
	t.Helper()
	im, err := b.importer.Import(t.Context(), strings.NewReader(file), provisioning.ImportOptions{
		FileName: "roster.csv", Actor: provisioning.ActorCLI,
	})
	if err != nil {
		t.Fatal(err)
	}
	if im.Rejected > 0 {
		t.Fatalf("rows were rejected: %v", im.Rejects)
	}
}

func (b *testBundle) client(t *testing.T, ref string) provisioning.Client {
	t.Helper()
	c, err := (&provisioning.Store{DB: b.db}).Client(t.Context(), "ref:"+ref)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issue makes an invitation without a mail and returns its id and token.
func (b *testBundle) issue(t *testing.T, ref string) (uuid.UUID, string) {
	t.Helper()
	var ids []uuid.UUID
	err := pgx.BeginFunc(t.Context(), b.db, func(tx pgx.Tx) (err error) {
		ids, err = b.Links.Issue(t.Context(), tx, []uuid.UUID{b.client(t, ref).ID})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids[0], b.Links.Token(ids[0])
}

func (b *testBundle) token(t *testing.T, ref string) string {
	t.Helper()
	_, token := b.issue(t, ref)
	return token
}

// walk is a consent that has begun, and the state that the provider was given.
type walk struct {
	authflow.Walk

	state string
}

func (b *testBundle) begin(t *testing.T, token string) walk {
	t.Helper()
	w, err := b.Begin(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return walk{w, stateOf(t, w.AuthorizeURL)}
}

func stateOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("state")
}

// back is what the owner's browser brings back from the provider.
func (w walk) back() authflow.Callback {
	return authflow.Callback{State: w.state, Code: "c0de", Browser: w.cookie}
}

func (w walk) cookie(consent uuid.UUID) provisioning.Secret {
	if consent == w.Consent {
		return w.Browser
	}
	return ""
}

// ends lets the callback come and checks how the walk ended.
func (b *testBundle) ends(t *testing.T, cb authflow.Callback, want authflow.Outcome) uuid.UUID {
	t.Helper()
	id, got, err := b.Callback(t.Context(), cb)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("the walk ended as %q, want %q", got, want)
	}
	return id
}

// connect walks with a fresh link and checks how it ended.
func (b *testBundle) connect(t *testing.T, ref string, a provisioning.Account, want authflow.Outcome) {
	t.Helper()
	b.provider.says(a)
	b.ends(t, b.begin(t, b.token(t, ref)).back(), want)
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

// history checks a client's events but for its import, oldest first, as "kind by actor → stage/reason".
func (b *testBundle) history(t *testing.T, ref string, want ...string) {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `
		SELECT e.kind || ' by ' || e.actor || coalesce(' → ' || e.stage || coalesce('/' || e.reason, ''), '')
		FROM events e
		JOIN clients c ON c.id = e.client_id
		WHERE c.ref = $1
			AND e.kind <> 'imported'
		ORDER BY e.id`, ref)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events of %s (-want +got):\n%s", ref, diff)
	}
}

// detail returns what the latest event of a kind tells, as JSON.
func (b *testBundle) detail(t *testing.T, ref string, kind provisioning.EventKind) string {
	t.Helper()
	var detail string
	err := b.db.QueryRow(t.Context(), `
		SELECT e.detail::text
		FROM events e
		JOIN clients c ON c.id = e.client_id
		WHERE c.ref = $1
			AND e.kind = $2
		ORDER BY e.id DESC
		LIMIT 1`, ref, kind).Scan(&detail)
	if err != nil {
		t.Fatal(err)
	}
	return detail
}

// holds checks a client's grants, oldest first, as "status account", with commas between.
func (b *testBundle) holds(t *testing.T, ref, want string) {
	t.Helper()
	grants, err := b.Grants.Of(t.Context(), b.client(t, ref).ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range slices.Backward(grants) {
		got = append(got, string(g.Status)+" "+g.AccountID)
	}
	if got := strings.Join(got, ", "); got != want {
		t.Errorf("%s holds %q, want %q", ref, got, want)
	}
}

// dump returns a table as text, with what it holds as bytes in hexadecimal digits.
func (b *testBundle) dump(t *testing.T, table string) string {
	t.Helper()
	var text string
	err := b.db.QueryRow(t.Context(), `SELECT coalesce(string_agg(t::text, E'\n'), '') FROM `+pgx.Identifier{table}.Sanitize()+` t`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (b *testBundle) count(t *testing.T, sql string) int {
	t.Helper()
	var n int
	if err := b.db.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
