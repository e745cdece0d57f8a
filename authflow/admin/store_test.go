package admin_test

import (
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/migrations/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	ann      = "Ann@Agency.example"
	password = "correct horse battery"
)

// from is the network address that tests sign in from.
func from() netip.Addr { return netip.MustParseAddr("192.0.2.1") }

// clock is a time that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).Add(time.Duration(c.offset.Load()))
}

func (c *clock) pass(d time.Duration) { c.offset.Add(int64(d)) }

type bundle struct {
	*admin.Store
	pool  *pgxpool.Pool
	clock *clock
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{pool: pgtest.New(t), clock: &clock{}}
	b.Store = admin.New(b.pool)
	b.Now = b.clock.now
	return b
}

// withAnn adds an operator.
func withAnn(t *testing.T) (bundle, admin.Operator) {
	t.Helper()
	b := setup(t)
	o, err := b.CreateOperator(t.Context(), ann, "Ann", password)
	if err != nil {
		t.Fatal(err)
	}
	return b, o
}

// dump returns the whole content of a table, as whoever steals the database reads it.
func (b bundle) dump(t *testing.T, table string) string {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `SELECT t::text FROM `+table+` t`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 {
		t.Fatalf("%s is empty", table)
	}
	return strings.Join(lines, "\n")
}

// queryTime returns the one time that a query gives.
func (b bundle) queryTime(t *testing.T, sql string) time.Time {
	t.Helper()
	var at time.Time
	if err := b.pool.QueryRow(t.Context(), sql).Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

// awaitBlocked returns when n statements wait for a lock.
func (b bundle) awaitBlocked(t *testing.T, n int) {
	t.Helper()
	for blocked := 0; blocked < n; {
		if err := b.pool.QueryRow(t.Context(), `
			SELECT count(*)
			FROM pg_stat_activity
			WHERE datname = current_database()
				AND wait_event_type = 'Lock'`).Scan(&blocked); err != nil {
			t.Fatal(err)
		}
	}
}
