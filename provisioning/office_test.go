package provisioning_test

import (
	"context"
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// office is the package put together with its real neighbours, on a database of its own. Mails are
// queued and never sent.
type office struct {
	provisioning.Store

	pool     *pgxpool.Pool
	importer *provisioning.Importer
	inviter  *provisioning.Inviter
	links    *authflow.Links
}

const pattern = "{local}+{slug}@{domain}"

func setup(tb testing.TB) *office {
	tb.Helper()
	pool := pgtest.New(tb)
	o := &office{
		Store: provisioning.Store{DB: pool},
		pool:  pool,
		links: &authflow.Links{DB: pool, Key: []byte("key of a test"), PublicURL: "http://127.0.0.1", Now: time.Now},
	}
	o.inviter = &provisioning.Inviter{DB: pool, Linker: o.links, Mailer: &notify.Mailer{DB: pool, Now: time.Now}}
	o.importer = &provisioning.Importer{DB: pool, Namer: newNamer(tb, pattern, 50), Inviter: o.inviter}
	return o
}

// inTx is the office inside a transaction that ends with nothing done.
func (o *office) inTx(tb fataler, do func(*office)) {
	tb.Helper()
	ctx := context.Background()
	tx, err := o.pool.Begin(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // The pool ends with the test.
	inviter := *o.inviter
	inviter.DB = tx
	importer := *o.importer
	importer.DB, importer.Inviter = tx, &inviter
	do(&office{Store: provisioning.Store{DB: tx}, pool: o.pool, importer: &importer, inviter: &inviter, links: o.links})
}

// imports imports a file that has nothing wrong as a whole.
func (o *office) imports(tb fataler, file string, options ...func(*provisioning.ImportOptions)) provisioning.Import {
	tb.Helper()
	im, err := o.tryImport(file, options...)
	if err != nil {
		tb.Fatalf("import: %v", err)
	}
	return im
}

func (o *office) tryImport(file string, options ...func(*provisioning.ImportOptions)) (provisioning.Import, error) {
	opts := provisioning.ImportOptions{FileName: "roster.csv", Actor: provisioning.ActorCLI}
	for _, set := range options {
		set(&opts)
	}
	return o.importer.Import(context.Background(), strings.NewReader(file), opts)
}

func dryRun(o *provisioning.ImportOptions) { o.DryRun = true }
func strict(o *provisioning.ImportOptions) { o.Strict = true }
func invite(o *provisioning.ImportOptions) { o.Invite = true }

// exec runs SQL that no function of the package stands for.
func (o *office) exec(tb fataler, sql string, args ...any) {
	tb.Helper()
	if _, err := o.DB.Exec(context.Background(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// ask returns the one value that the SQL selects.
func ask[T any](tb fataler, o *office, sql string, args ...any) T {
	tb.Helper()
	return askAll[T](tb, o, sql, args...)[0]
}

// askAll returns the values of the one column that the SQL selects.
func askAll[T any](tb fataler, o *office, sql string, args ...any) []T {
	tb.Helper()
	rows, err := o.DB.Query(context.Background(), sql, args...)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return values
}

// state is everything that the database holds, or these tables do, by table.
func (o *office) state(tb fataler, tables ...string) map[string]string {
	tb.Helper()
	if len(tables) == 0 {
		tables = askAll[string](tb, o, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	}
	state := make(map[string]string)
	for _, table := range tables {
		state[table] = ask[string](tb, o, `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM `+table+` t`)
	}
	return state
}

// client returns the one client of that name.
func (o *office) client(tb fataler, name string) provisioning.Client {
	tb.Helper()
	id := ask[uuid.UUID](tb, o, `SELECT id FROM clients WHERE name = $1`, name)
	c, err := o.Client(context.Background(), id.String())
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// advance is provisioning.Advance by the system.
func (o *office) advance(
	tb fataler, client uuid.UUID, event provisioning.EventKind, to provisioning.Stage, reason provisioning.Reason,
) (moved bool) {
	tb.Helper()
	moved, err := provisioning.Advance(context.Background(), o.DB, provisioning.Change{
		Client: client, Event: event, Actor: provisioning.ActorSystem, To: to, Reason: reason,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return moved
}

// file writes a roster file of these records, the header first.
func file(records ...[]string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	if err := w.WriteAll(records); err != nil {
		panic(err) // a strings.Builder takes everything
	}
	return b.String()
}

// fataler is what *testing.T and *rapid.T share.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}
