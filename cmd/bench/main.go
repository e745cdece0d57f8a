// Command bench measures what the README states, on the machine at hand and in one run, so that its figures
// can be compared with each other:
//
//	go run ./cmd/bench import    rows a second into the roster, beside a plain COPY of the same rows
//	go run ./cmd/bench mail      mails a second to a sink, beside a bare loop that writes the same bytes
//	go run ./cmd/bench consent   invitation pages and whole walks a second, beside a bare handler and a bare insert
//	go run ./cmd/bench console   the console's pages, searches and the export, while the roster grows
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
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

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
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	server := flags.String("database", "", "URL of a PostgreSQL server, instead of a private one")
	profile := flags.String("cpuprofile", "", "file to write a CPU profile of this process to")
	var measure func(pool *pgxpool.Pool, folder string) error
	switch args[0] {
	case "import":
		rows := flags.Int("rows", 100_000, "how many rows of 12 columns to import")
		more := flags.Int("more", 1_000, "how many to add to them afterwards")
		measure = func(pool *pgxpool.Pool, folder string) error {
			return benchImport(ctx, out, pool, folder, *rows, *more)
		}
	case "mail":
		o := mailOptions{connections: []int{1, 4, 10, 32}}
		flags.IntVar(&o.mails, "mails", 20_000, "how many mails to send in each run")
		flags.Func("connections", "over how many connections, a run each (default 1,4,10,32)", func(s string) (err error) {
			o.connections, err = parseNumbers(s)
			return err
		})
		flags.StringVar(&o.sink, "sink", "", "host:port of a server that takes mails, instead of one of our own")
		flags.DurationVar(&o.delay, "delay", 20*time.Millisecond, "how late each answer comes in the last runs")
		flags.IntVar(&o.delayed, "delayed", 2_000, "how many mails to send in them")
		measure = func(pool *pgxpool.Pool, folder string) error { return benchMail(ctx, out, pool, folder, o) }
	case "consent":
		var o consentOptions
		flags.IntVar(&o.clients, "clients", 10_000, "how many clients have an owner who walks")
		flags.IntVar(&o.pages, "pages", 100_000, "how many invitation pages to look at")
		flags.IntVar(&o.connections, "connections", 64, "over how many connections")
		flags.IntVar(&o.walkers, "walkers", 16, "how many owners walk at the same time")
		measure = func(pool *pgxpool.Pool, folder string) error { return benchConsent(ctx, out, pool, folder, o) }
	case "console":
		o := consoleOptions{clients: []int{10_000, 100_000, 1_000_000}}
		flags.Func("clients", "how large the roster is, one after the other (default 10000,100000,1000000)", func(s string) (err error) {
			o.clients, err = parseNumbers(s)
			return err
		})
		flags.IntVar(&o.events, "events", 10, "how many events a client has")
		flags.IntVar(&o.looks, "looks", 1_000, "how often to look at each kind of page")
		flags.IntVar(&o.connections, "connections", 2, "how many operators look at the same time")
		measure = func(pool *pgxpool.Pool, folder string) error { return benchConsole(ctx, out, pool, folder, o) }
	case "sink": // what bench mail starts
		return serveSink(ctx, out)
	case "bare": // what bench consent starts
		return serveBare(ctx, out, args[1:])
	default:
		return errUsage
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if *profile != "" {
		file, err := os.Create(*profile) //nolint:gosec // who calls this says where
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // A profile that is cut short says so when it is read.
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	folder, err := os.MkdirTemp("", "countersign-bench-")
	if err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // root's server runs as another account, which has to get in
		return err
	}
	err = withDatabase(ctx, *server, folder, func(pool *pgxpool.Pool) error { return measure(pool, folder) })
	return errors.Join(err, os.RemoveAll(folder))
}

var errUsage = errors.New("say what to measure: bench import, bench mail, bench consent or bench console")

// parseNumbers reads numbers with commas between them.
func parseNumbers(s string) (numbers []int, err error) {
	for field := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a list of numbers such as 1,10", s)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
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
