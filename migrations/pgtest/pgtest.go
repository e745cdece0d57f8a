// Package pgtest gives a test a migrated database of its own.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestImport(t *testing.T) {
//		t.Parallel()
//		pool := pgtest.New(t) // or pgtest.URL(t), for a process
//
// The first test that asks starts a private PostgreSQL server (package migrations/postgres) in a temporary folder,
// which lives as long as the test binary, and migrates one database there as a template. Every test then gets a
// copy of it, some 20 ms later, so that no test sees what another one does and all can run at the same time.
//
// With COUNTERSIGN_TEST_DATABASE_URL set, that server is used instead: any PostgreSQL from version 15 on, and an
// account there that may create databases. The template stays there for the next run, named countersign_template_
// and the fingerprint of the numbered migrations: drop it after an update of the job queue's library.
//
// Where no PostgreSQL is to be had, tests that ask for a database are skipped; they fail when
// COUNTERSIGN_TEST_REQUIRE_DATABASE is set, so that a green run of a build server means that SQL was tested.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/provisioning/queue"
)

// maxConns is the size of a test's pool. The private server has room for fifty such pools at a time.
const maxConns = 10

// lockKey is the key of the advisory lock that is held while the template is made.
const lockKey = migrations.LockKey + 1

// shared is what all tests of the binary use.
//
//nolint:gochecknoglobals // a test brings nothing along that could hold it
var shared struct {
	once   sync.Once
	server *server
	err    error
}

// Main runs the tests of a package, and afterwards stops the server and removes its folder. A binary without it
// leaves the folder behind, but no server, at least on Linux.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.server == nil {
		return code
	}
	if err := shared.server.close(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// New returns a pool on a new migrated database, which lives as long as the test.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	db, err := postgres.Open(tb.Context(), postgres.Options{URL: URL(tb), MaxConns: maxConns})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close(context.WithoutCancel(tb.Context())) }) // it has nothing to stop but the pool
	return db.Pool
}

// URL returns the address of a new migrated database, which lives as long as the test.
func URL(tb testing.TB) string {
	tb.Helper()
	server := need(tb)
	return server.create(tb, " TEMPLATE "+server.template+" STRATEGY FILE_COPY")
}

// EmptyURL returns the address of a new database with nothing in it, for tests of the migrations themselves.
func EmptyURL(tb testing.TB) string {
	tb.Helper()
	return need(tb).create(tb, "")
}

// server is where the databases are.
type server struct {
	db       *postgres.Database // a database there that is not a test's
	dir      string             // of the private server, empty for another one
	template string
}

// need returns the server, which it starts for the first test.
func need(tb testing.TB) *server {
	tb.Helper()
	shared.once.Do(func() { shared.server, shared.err = start(context.WithoutCancel(tb.Context())) })
	switch {
	case errors.Is(shared.err, postgres.ErrNoServer) && os.Getenv("COUNTERSIGN_TEST_REQUIRE_DATABASE") == "":
		tb.Skip(shared.err)
	case shared.err != nil:
		tb.Fatal(shared.err)
	}
	return shared.server
}

func start(ctx context.Context) (*server, error) {
	s := &server{template: "countersign_template_" + migrations.Fingerprint()}
	o := postgres.Options{
		URL:       os.Getenv("COUNTERSIGN_TEST_DATABASE_URL"),
		Throwaway: true,
		Log:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	var err error
	if o.URL == "" {
		if s.dir, err = os.MkdirTemp("", "countersign-pgtest-"); err != nil {
			return nil, err
		}
		o.DataDir = s.dir
		err = os.Chmod(s.dir, 0o755) //nolint:gosec // root's server runs as another account, which has to get in
	}
	if err == nil {
		s.db, err = postgres.Open(ctx, o)
	}
	if err == nil {
		err = s.makeTemplate(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *server) close(ctx context.Context) error {
	var err error
	if s.db != nil {
		err = s.db.Close(ctx)
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// makeTemplate makes the template unless it is there. It gets its name when it is complete. Several test binaries
// may use the server at once, so that all of it is done under a lock.
func (s *server) makeTemplate(ctx context.Context) error {
	tx, err := s.db.Pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // which frees the lock
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey); err != nil {
		return err
	}
	var exists bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, s.template).Scan(&exists)
	if err != nil || exists {
		return err
	}

	unfinished := s.template + "_unfinished"
	if err := s.exec(ctx, `DROP DATABASE IF EXISTS `+unfinished, `CREATE DATABASE `+unfinished); err != nil {
		return err
	}
	if err := s.migrate(ctx, unfinished); err != nil {
		return err
	}
	return s.exec(ctx,
		`ALTER DATABASE `+unfinished+` ALLOW_CONNECTIONS false`, // a database that somebody is in cannot be copied
		`ALTER DATABASE `+unfinished+` RENAME TO `+s.template)
}

func (s *server) migrate(ctx context.Context, name string) error {
	address, err := s.url(name)
	if err != nil {
		return err
	}
	db, err := postgres.Open(ctx, postgres.Options{URL: address})
	if err != nil {
		return err
	}
	return errors.Join(migrations.Up(ctx, db.Pool, queue.Migrate), db.Close(ctx))
}

// create creates a database for the test, which is dropped after it, and returns its address.
func (s *server) create(tb testing.TB, how string) string {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	name := "countersign_test_" + strings.ToLower(rand.Text())
	if err := s.exec(ctx, `CREATE DATABASE `+name+how); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.exec(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
			tb.Error(err)
		}
	})
	address, err := s.url(name)
	if err != nil {
		tb.Fatal(err)
	}
	return address
}

// url returns the address of a database of the server.
func (s *server) url(name string) (string, error) {
	address, err := url.Parse(s.db.URL())
	if err != nil || address.Scheme == "" {
		return "", errors.New("COUNTERSIGN_TEST_DATABASE_URL does not look like postgres://USER:PASSWORD@HOST:5432/DATABASE")
	}
	address.Path = "/" + name
	return address.String(), nil
}

// exec executes statements about databases, which PostgreSQL does one by one, outside of a transaction.
func (s *server) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := s.db.Pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
