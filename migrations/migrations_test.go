package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/migrations/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestNumbersHaveNoGapAndNoDouble(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for i, name := range names { // in their order
		if want := fmt.Sprintf("%05d_", i+1); !strings.HasPrefix(name, want) {
			t.Errorf("%s stands where the name should begin with %s", name, want)
		}
	}
}

func TestUp(t *testing.T) {
	t.Parallel()
	pool := empty(t)
	checkStatus(t, pool, 0)
	if got := tables(t, pool); got != 0 {
		t.Errorf("Status made %d tables", got)
	}
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	_, latest, err := migrations.Status(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	checkStatus(t, pool, latest)
	if got := tables(t, pool); got < 2 {
		t.Errorf("there are %d tables", got)
	}

	begin := time.Now()
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	t.Logf("with nothing to do: %v", time.Since(begin))
}

// TestUpKeepsWhatIsFound brings a roster of the first version up to date: its clients are found by words of
// any script, with and without accents.
func TestUpKeepsWhatIsFound(t *testing.T) {
	t.Parallel()
	pool := empty(t)
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	first, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("."), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	_, err = pool.Exec(t.Context(), `
		INSERT INTO clients (id, ref, name, owner_email, username)
		VALUES (gen_random_uuid(), 'MÜ-1', 'Ресторан «Заря» Café', 'JÖRG@a.example', 'agency+x@agency.example')`)
	if err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	var words []string
	if err := pool.QueryRow(t.Context(), `SELECT tsvector_to_array(search) FROM clients`).Scan(&words); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ресторан", "заря", "cafe", "mu", "1", "jorg", "agency"} {
		if !slices.Contains(words, want) {
			t.Errorf("not found by %q: %q", want, words)
		}
	}
}

func TestFiveReplicasAtOnce(t *testing.T) {
	t.Parallel()
	address := pgtest.EmptyURL(t)
	var inside, calls atomic.Int32
	step := func(ctx context.Context, pool *pgxpool.Pool) error {
		defer inside.Add(-1)
		if inside.Add(1) > 1 {
			t.Error("two replicas migrate at the same time")
		}
		calls.Add(1)
		_, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS brought_along ()`)
		return err
	}
	var all sync.WaitGroup
	for range 5 {
		pool := connect(t, address)
		all.Go(func() {
			if err := migrations.Up(t.Context(), pool, step); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	if got := calls.Load(); got != 5 {
		t.Errorf("the step was called %d times", got)
	}
	pool := connect(t, address)
	var twice int
	err := pool.QueryRow(t.Context(), `SELECT count(*) - count(DISTINCT version_id) FROM goose_db_version`).Scan(&twice)
	if err != nil || twice != 0 {
		t.Errorf("%d migrations were applied twice, %v", twice, err)
	}
}

// TestLockLetsIndexesBeBuilt builds an index in the way that waits for every statement that is older than it,
// while another replica waits for the lock.
func TestLockLetsIndexesBeBuilt(t *testing.T) {
	t.Parallel()
	address := pgtest.EmptyURL(t)
	pool, waiting := connect(t, address), connect(t, address)
	var all sync.WaitGroup
	err := migrations.Up(t.Context(), pool, func(ctx context.Context, pool *pgxpool.Pool) error {
		all.Go(func() {
			if err := migrations.Up(ctx, waiting); err != nil {
				t.Error(err)
			}
		})
		if err := waitForWaiting(ctx, pool); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, `CREATE INDEX CONCURRENTLY ON clients (name)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
}

// waitForWaiting waits until a second connection has asked for the lock.
func waitForWaiting(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		var asking int
		err := pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE '%pg_try_advisory_xact_lock%' AND pid <> pg_backend_pid()`).Scan(&asking)
		if err != nil || asking >= 2 {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestUpWithOneConnection(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Error(err)
	}
}

func TestWaitForLockEndsWithItsContext(t *testing.T) {
	t.Parallel()
	address := pgtest.EmptyURL(t)
	conn, err := connect(t, address).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, migrations.LockKey); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := migrations.Up(ctx, connect(t, address)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Up says %v", err)
	}
}

func TestFailedStepIsReported(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	err := migrations.Up(t.Context(), empty(t), func(context.Context, *pgxpool.Pool) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("Up says %v", err)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`); err != nil {
		t.Fatal(err)
	}
	err := migrations.Up(t.Context(), pool, func(context.Context, *pgxpool.Pool) error {
		t.Error("a step was applied to a newer database")
		return nil
	})
	if !errors.Is(err, migrations.ErrNewer) || !strings.Contains(err.Error(), "99999") {
		t.Errorf("Up says %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	got := migrations.Fingerprint()
	if len(got) != 16 || strings.Trim(got, "0123456789abcdef") != "" || got != migrations.Fingerprint() {
		t.Errorf("the fingerprint is %q", got)
	}
}

func checkStatus(t *testing.T, pool *pgxpool.Pool, want int64) {
	t.Helper()
	current, latest, err := migrations.Status(t.Context(), pool)
	if err != nil || current != want || latest < 1 {
		t.Errorf("Status says %d of %d, %v; want %d", current, latest, err, want)
	}
}

func tables(t *testing.T, pool *pgxpool.Pool) (count int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

func empty(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return connect(t, pgtest.EmptyURL(t))
}

func connect(t *testing.T, address string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
