// Command bench measures what the README states, on the machine at hand and in one run, so that its figures
// can be compared with each other:
//
//	go run ./cmd/bench import    rows a second into the roster, beside a plain COPY of the same rows
//
// It uses a private PostgreSQL server of its own, with the settings of the program's, in a temporary folder;
// --database names another server, on which it makes and drops a database of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/provisioning/queue"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "import" {
		return errors.New("say what to measure: bench import")
	}
	flags := flag.NewFlagSet("bench import", flag.ContinueOnError)
	rows := flags.Int("rows", 100_000, "how many rows of 12 columns to import")
	more := flags.Int("more", 1_000, "how many to add to them afterwards")
	server := flags.String("database", "", "URL of a PostgreSQL server, instead of a private one")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "countersign-bench-")
	if err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // root's server runs as another account, which has to get in
		return err
	}
	err = withDatabase(ctx, *server, folder, func(pool *pgxpool.Pool) error {
		return benchImport(ctx, out, pool, folder, *rows, *more)
	})
	return errors.Join(err, os.RemoveAll(folder))
}

// withDatabase hands over a migrated database that is gone afterwards.
func withDatabase(ctx context.Context, server, folder string, do func(*pgxpool.Pool) error) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	options := postgres.Options{DataDir: filepath.Join(folder, "postgres"), Log: log}
	if server != "" {
		made, drop, err := makeDatabase(ctx, server)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
		options = postgres.Options{URL: made, Log: log}
	}
	db, err := postgres.Open(ctx, options)
	if err != nil {
		return err
	}
	if err = migrations.Up(ctx, db.Pool, queue.Migrate); err == nil {
		err = do(db.Pool)
	}
	return errors.Join(err, db.Close(context.WithoutCancel(ctx)))
}

// makeDatabase makes a database beside the one that the URL names, and returns its URL.
func makeDatabase(ctx context.Context, server string) (made string, drop func(context.Context) error, err error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", nil, errors.New("--database is not a URL such as postgres://user@host/database")
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", nil, err
	}
	name := "countersign_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+name); err != nil {
		return "", nil, errors.Join(err, conn.Close(ctx))
	}
	drop = func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`)
		return errors.Join(err, conn.Close(ctx))
	}
	u.Path = "/" + name
	return u.String(), drop, nil
}
