package grant_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// office is what keeps grants, on a database of its own, with the neighbours that the program plugs in, a
// clock that the test turns, and a provider that forgets no token.
type office struct {
	*grant.Keeper

	db       *pgxpool.Pool
	clock    *clock
	provider *provider
	importer *provisioning.Importer
	log      *logbook
}

func open(t *testing.T) *office {
	t.Helper()
	db := pgtest.New(t)
	o := &office{db: db, clock: &clock{}, provider: newProvider(), log: &logbook{}}
	o.provider.now = o.clock.now
	keys, err := vault.ParseKeys(vault.GenerateKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(o.log, nil))
	links := &authflow.Links{DB: db, Key: []byte("key of the links"), PublicURL: "https://connect.example.com", Now: o.clock.now}
	mailer := &notify.Mailer{DB: db, Linker: links, Now: o.clock.now, Log: log}
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
	o.importer = &provisioning.Importer{DB: db, Namer: namer, Inviter: inviter}
	o.Keeper = &grant.Keeper{
		Store: &grant.Store{
			DB: db, Vault: keys, Thanker: inviter, Scopes: []string{"account_read", "offline_access"}, Now: o.clock.now,
		},
		Provider:    o.provider,
		Reconnecter: inviter,
		Log:         log,
		Now:         o.clock.now,
	}
	return o
}

// another is a second Keeper, as another process has it, that reaches the database its own way.
func (o *office) another(db provisioning.DB) *grant.Keeper {
	store := *o.Store
	store.DB = db
	return &grant.Keeper{
		Store: &store, Provider: o.Provider, Reconnecter: o.Reconnecter, Log: o.Log, Now: o.Now, Lease: o.Lease,
	}
}

// logbook keeps what the operator is told.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logbook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, string(line))
	return len(line), nil
}

// told returns how many lines have these words.
func (b *logbook) told(words string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.lines {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}

// clock is the real time, put forward by the test.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// provider rotates refresh tokens and takes each once, or again within its grace; a token that comes later
// ends all of its account's. What it does can be changed by its fields, which are set before it is asked.
type provider struct {
	mu        sync.Mutex
	newest    map[string]string // account by its newest refresh token
	spent     map[string]spent  // refresh tokens that were traded
	access    map[provisioning.Secret]string
	issued    int
	refreshes int // asked for
	reused    int

	answer func(account string) error                        // asked first; an error is the answer
	before func(ended <-chan struct{}, account string)       // the request is on its way
	after  func(ended <-chan struct{}, account string) error // the answer is on its way, and may be lost
	alter  func(t *provisioning.Tokens)                      // what the answer says
	api    func(account string) error                        // asked first about accounts; an error is the answer
	grace  time.Duration                                     // in which a spent token is taken again
	life   time.Duration                                     // of an access token
	now    func() time.Time
}

type spent struct {
	account string
	at      time.Time
}

func newProvider() *provider {
	return &provider{
		newest: make(map[string]string), spent: make(map[string]spent), access: make(map[provisioning.Secret]string),
		life: 24 * time.Hour, now: time.Now,
	}
}

func (p *provider) issue(account string) provisioning.Tokens {
	p.issued++
	t := provisioning.Tokens{
		Access:    provisioning.Secret(fmt.Sprintf("access-%s-%d", account, p.issued)),
		Refresh:   provisioning.Secret(fmt.Sprintf("refresh-%s-%d", account, p.issued)),
		ExpiresAt: p.now().Add(p.life),
	}
	p.newest[t.Refresh.Reveal()] = account
	p.access[t.Access] = account
	return t
}

// consent is a consent that became tokens.
func (p *provider) consent(account string) provisioning.Tokens {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.issue(account)
}

func (p *provider) Refresh(ctx context.Context, refresh provisioning.Secret) (provisioning.Tokens, error) {
	p.mu.Lock()
	account := p.newest[refresh.Reveal()] + p.spent[refresh.Reveal()].account
	before, after := p.before, p.after
	p.mu.Unlock()
	if before != nil {
		before(ctx.Done(), account)
	}
	tokens, err := p.trade(refresh.Reveal(), account)
	if err == nil && after != nil {
		err = after(ctx.Done(), account)
	}
	if err != nil {
		return provisioning.Tokens{}, err
	}
	return tokens, nil
}

func (p *provider) trade(refresh, account string) (provisioning.Tokens, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refreshes++
	if p.answer != nil {
		if err := p.answer(account); err != nil {
			return provisioning.Tokens{}, err
		}
	}
	was, again := p.spent[refresh]
	_, good := p.newest[refresh]
	switch {
	case again && p.now().Sub(was.at) < p.grace:
	case again:
		p.reused++
		p.end(account)
		return provisioning.Tokens{}, invalidGrant()
	case !good:
		return provisioning.Tokens{}, invalidGrant()
	}
	tokens := p.issue(account)
	if p.alter != nil {
		p.alter(&tokens)
	}
	if tokens.Refresh != "" && !again {
		delete(p.newest, refresh)
		p.spent[refresh] = spent{account, p.now()}
	}
	return tokens, nil
}

func (p *provider) Account(_ context.Context, access provisioning.Secret) (provisioning.Account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	account, ok := p.access[access]
	if p.api != nil {
		if err := p.api(account); err != nil {
			return provisioning.Account{}, err
		}
	}
	if !ok {
		return provisioning.Account{}, unauthorized()
	}
	return provisioning.Account{ID: account}, nil
}

// set changes what the provider does.
func (p *provider) set(change func(*provider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// asked returns how many refreshes were asked for.
func (p *provider) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refreshes
}

// says makes every refresh fail; nil makes it work again.
func (p *provider) says(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = nil
	if err != nil {
		p.answer = func(string) error { return err }
	}
}

// revoke ends an account's grants, access tokens included.
func (p *provider) revoke(account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(account)
}

func (p *provider) end(account string) {
	p.disown(account)
	for token, of := range p.access {
		if of == account {
			delete(p.access, token)
		}
	}
}

// disown ends an account's refresh tokens alone.
func (p *provider) disown(account string) {
	for token, of := range p.newest {
		if of == account {
			delete(p.newest, token)
		}
	}
}

func unauthorized() error {
	return &provisioning.ProviderError{Op: "read the account", Status: 401, Code: "unauthorized"}
}

func invalidGrant() error {
	return &provisioning.ProviderError{
		Op: "refresh the grant", Status: 400, Code: "invalid_grant", Description: "The refresh token is invalid or expired.",
	}
}

// clients makes n clients, C1 and so on.
func (o *office) clients(t *testing.T, n int) []uuid.UUID {
	t.Helper()
	o.imported(t, n)
	return query[uuid.UUID](t, o, `SELECT id FROM clients ORDER BY substring(ref FROM 2)::int`)
}

func (o *office) imported(t *testing.T, n int) {
	t.Helper()
	var file strings.Builder
	file.WriteString("ref,name,owner_email\n")
	for i := range n {
		fmt.Fprintf(&file, "C%d,Client %d,owner%d@client.example\n", i+1, i+1, i+1)
	}
	if _, err := o.importer.Import(t.Context(), strings.NewReader(file.String()), provisioning.ImportOptions{
		FileName: "roster.csv", Actor: provisioning.ActorCLI,
	}); err != nil {
		t.Error(err)
	}
}

// authorize gives a client a grant of its own account, as a walk does.
func (o *office) authorize(t *testing.T, client uuid.UUID) {
	t.Helper()
	c, err := (&provisioning.Store{DB: o.db}).Client(t.Context(), client.String())
	if err != nil {
		t.Fatal(err)
	}
	o.consent(t, client, provisioning.Account{ID: "acct-" + *c.Ref, Organization: c.Name, ContactEmail: c.OwnerEmail})
}

// consent has an account consent by a client's link.
func (o *office) consent(t *testing.T, client uuid.UUID, account provisioning.Account) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), o.db, func(tx pgx.Tx) error {
		ids, err := o.Reconnecter.(*provisioning.Inviter).Linker.Issue(t.Context(), tx, []uuid.UUID{client})
		if err != nil {
			return err
		}
		v, err := o.Store.Take(t.Context(), tx, grant.Consented{
			Client: client, Invitation: &ids[0], Tokens: o.provider.consent(account.ID), Account: account,
		})
		if err != nil {
			return err
		}
		change := provisioning.Change{Client: client, Event: v.Event, Actor: provisioning.ActorOwner, To: provisioning.StageAuthorized}
		if v.Status != grant.StatusActive {
			change.To, change.Reason = provisioning.StageStalled, v.Reason
		}
		_, err = provisioning.Advance(t.Context(), tx, change)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// work refreshes all that is due now and returns how many attempts that were.
func (o *office) work(t *testing.T) (n int) {
	t.Helper()
	return works(t, o.Keeper)
}

func works(t *testing.T, k *grant.Keeper) (n int) {
	t.Helper()
	for {
		worked, err := k.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !worked {
			return n
		}
		n++
	}
}

// grant returns a client's newest grant.
func (o *office) grant(t *testing.T, client uuid.UUID) grant.Grant {
	t.Helper()
	grants, err := o.Store.Of(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	return grants[0]
}

// stage returns a client's stage.
func (o *office) stage(t *testing.T, client uuid.UUID) provisioning.Stage {
	t.Helper()
	c, err := (&provisioning.Store{DB: o.db}).Client(t.Context(), client.String())
	if err != nil {
		t.Fatal(err)
	}
	return c.Stage
}

// events returns the kinds of a client's events, oldest first, after its import.
func (o *office) events(t *testing.T, client uuid.UUID) []provisioning.EventKind {
	t.Helper()
	rows, err := o.db.Query(t.Context(), `SELECT kind FROM events WHERE client_id = $1 AND kind <> 'imported' ORDER BY id`, client)
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := pgx.CollectRows(rows, pgx.RowTo[provisioning.EventKind])
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// outcomes returns how a client's attempts ended, oldest first.
func (o *office) outcomes(t *testing.T, client uuid.UUID) []grant.Outcome {
	t.Helper()
	return query[grant.Outcome](t, o, `
		SELECT coalesce(r.outcome, 'running')
		FROM refreshes r
		JOIN grants g ON g.id = r.grant_id
		WHERE g.client_id = $1
		ORDER BY r.id`, client)
}

// query returns the rows of one column.
func query[T any](t *testing.T, o *office, sql string, args ...any) []T {
	t.Helper()
	rows, err := o.db.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (o *office) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := o.db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// due makes every active grant due now.
func (o *office) due(t *testing.T) {
	t.Helper()
	o.exec(t, `UPDATE grants SET refresh_at = $1 WHERE status = 'active'`, o.clock.now())
}

// authorized gives n clients a grant each.
func (o *office) authorized(t *testing.T, n int) []uuid.UUID {
	t.Helper()
	clients := o.clients(t, n)
	for _, c := range clients {
		o.authorize(t, c)
	}
	return clients
}

// opens checks that the token which the agency's app gets for the first client opens its account at the provider.
func (o *office) opens(t *testing.T, client uuid.UUID) {
	t.Helper()
	token, err := o.Token(t.Context(), client)
	if err != nil {
		t.Errorf("no token: %v", err)
		return
	}
	if got, err := o.provider.Account(t.Context(), token.Access); err != nil || got.ID != "acct-C1" {
		t.Errorf("the token opens %q: %v", got.ID, err)
	}
}

// stages returns how many clients are at each stage.
func (o *office) stages(t *testing.T) map[provisioning.Stage]int {
	t.Helper()
	counts := make(map[provisioning.Stage]int)
	for _, stage := range query[provisioning.Stage](t, o, `SELECT stage FROM clients`) {
		counts[stage]++
	}
	return counts
}
