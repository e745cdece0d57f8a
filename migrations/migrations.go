// Package migrations brings a database to the schema that this program knows.
//
// The schema is written in the numbered files 00001_….sql beside this one, in goose's format. They are part
// of the program, applied in order, each exactly once and never changed after a release; the table
// goose_db_version says how far a database is.
//
//	older database   Up applies what is missing
//	same             Up changes nothing, in a few milliseconds
//	newer database   Up refuses with ErrNewer: this program could misread what a newer one has written
//
// Package migrations/postgres opens the database, cmd/countersign calls Up before anything else reads it, and
// hands in the job queue's own migration as a Step. Package migrations/pgtest keeps migrated databases for
// tests, named by Fingerprint.
package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed *.sql
var files embed.FS

// LockKey is the key of the PostgreSQL advisory lock that Up holds, in the database that it migrates. Whoever
// changes the schema by other means beside running replicas takes it too: SELECT pg_advisory_lock(7165074649429406323).
const LockKey int64 = 0x636f_756e_7465_7273 // "counters" in ASCII

// lockPause is the time between two attempts to take the lock.
const lockPause = 50 * time.Millisecond

// closeTimeout is how long a server may take to say goodbye.
const closeTimeout = 5 * time.Second

// undefinedTable is PostgreSQL's error code for a table that does not exist.
const undefinedTable = "42P01"

// ErrNewer says that a newer version of the program has migrated the database.
var ErrNewer = errors.New("the database is newer than this program: " +
	"start the newer version of the program, or restore the backup made before the upgrade")

// Step is a migration that another package brings along, such as the job queue's own tables. Like the numbered
// files it must do nothing when there is nothing to do.
type Step func(ctx context.Context, pool *pgxpool.Pool) error

// Up applies what is missing, first the numbered files, then the steps. Any number of replicas may call it at
// once: one migrates, the others wait and find nothing left to do. When it fails, the files before the failed
// one stay applied, and the next Up goes on from there. The error matches ErrNewer when the database belongs to
// a newer program.
func Up(ctx context.Context, pool *pgxpool.Pool, also ...Step) error {
	unlock, err := lock(ctx, pool)
	if err != nil {
		return fmt.Errorf("lock the database for its migration: %w", err)
	}
	defer unlock()

	current, latest, err := Status(ctx, pool)
	switch {
	case err != nil:
		return err
	case current > latest:
		return fmt.Errorf("migrate from version %d, the last one known here being %d: %w", current, latest, ErrNewer)
	case current < latest:
		if err := apply(ctx, pool); err != nil {
			return err
		}
	}
	for _, step := range also {
		if err := step(ctx, pool); err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
	}
	return nil
}

// Status returns the version of the database, zero for an empty one, and the latest version known here. It
// changes nothing.
func Status(ctx context.Context, pool *pgxpool.Pool) (current, latest int64, err error) {
	for _, name := range names() {
		if latest, err = goose.NumericComponent(name); err != nil {
			return 0, 0, fmt.Errorf("number of migration %s: %w", name, err)
		}
	}
	err = pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&current)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == undefinedTable {
		return 0, latest, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the version of the database: %w", err)
	}
	return current, latest, nil
}

// Fingerprint identifies the schema: it differs as soon as a byte of the numbered files differs.
func Fingerprint() string {
	sum := sha256.New()
	for _, name := range names() {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err) // an embedded file that was just listed can be read
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(text))
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// names lists the numbered files in their order.
func names() []string {
	list, err := fs.Glob(files, "*.sql")
	if err != nil {
		panic(err) // the pattern is constant and well formed
	}
	return list
}

func apply(ctx context.Context, pool *pgxpool.Pool) error {
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }() // the pool stays open, there is nothing that could be lost

	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

// lock waits until no other process migrates this database. Three choices make it safe everywhere. It lives on a
// connection of its own, so that a pool of one connection suffices. It belongs to a transaction, so that it also
// holds behind a PgBouncer that pools transactions, and ends with its connection, however that ends. And it is
// asked for again and again instead of waited for, because a waiting statement keeps a snapshot, for which the
// CREATE INDEX CONCURRENTLY of the process that migrates would wait in turn, forever.
func lock(ctx context.Context, pool *pgxpool.Pool) (unlock func(), err error) {
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		return nil, err
	}
	unlock = func() { // the end of the connection is the end of its transaction, and that frees the lock
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = conn.Close(closing)
	}

	if err := acquire(ctx, conn); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func acquire(ctx context.Context, conn *pgx.Conn) error {
	// A managed server may end transactions that are idle for long, which this one is during a long migration.
	if _, err := conn.Exec(ctx, `BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return err
	}
	for {
		var locked bool
		// In the extended protocol a transaction keeps its last portal, and with it a snapshot.
		err := conn.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, pgx.QueryExecModeSimpleProtocol, LockKey).Scan(&locked)
		if err != nil || locked {
			return err
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
