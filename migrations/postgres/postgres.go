// Package postgres opens the database: the one at a URL, or a private PostgreSQL server of our own.
//
//	Open(URL)   connects, and refuses a server older than PostgreSQL 15
//	Open("")    adopts the private server of the data folder if it runs, otherwise starts it:
//
//	                    first Open                      every later Open
//	   (no cluster) ───────────────► initdb ─► start ◄──────────────────── (cluster)
//	                                             │
//	       a process that started it ◄───────────┴──────────► processes that adopted it
//	       Close stops the server                             Close leaves it alone
//
// The private server lives with the process that started it. When it goes away under other processes, because
// that process ended or someone killed it, each of them notices at once and one starts it again; their pools
// recover by themselves. A file lock in the data folder is held around finding, making and starting, so that two
// servers never work on the same data. Data is never deleted.
//
// The data folder holds
//
//	lock           the file lock
//	postgres       the cluster; its PG_VERSION decides which binaries may run it
//	postgres.log   what the server had to say, and postgres.log.1 before that
//	run            the folder of its socket, or a link to a short one where this path is too long
//
//	private.go     adopting, starting, watching, stopping
//	process.go     the server process and its settings
//	cluster.go     initdb, safe against a crash at any instant
//	folders.go     the data folder, the socket folder, who may enter them
//	account.go     the account that runs the server when we are root
//	binaries.go    finding an installed PostgreSQL
//	bundle.go      fetching one through npm when none is installed
//	install.go     the command that installs one
//	system_*.go    what Linux and macOS do differently; elsewhere there is no private server (private_other.go)
//
// Package migrations then brings the database to the current schema.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// oldest is the oldest major version whose SQL we may rely on.
const oldest = 15

// defaultMaxConns is the size of a pool for which nobody asked for another. The private server allows 100
// connections, which is room for several processes.
const defaultMaxConns = 20

// connectTimeout bounds one attempt to connect where the URL sets no connect_timeout.
const connectTimeout = 10 * time.Second

// ErrNoServer says that no URL is given and that a private server is not to be had on this system, because
// PostgreSQL is not installed or because it cannot be run privately here. The error's text has the cure.
var ErrNoServer = errors.New("no PostgreSQL server")

// Options say which database to open.
type Options struct {
	// URL of the database, as a postgres:// URL or in the keyword=value form. Whatever pgx understands in it is
	// obeyed, such as pool_max_conns, or default_query_exec_mode=exec behind a PgBouncer that pools transactions
	// and has max_prepared_statements=0. Empty asks for the private server.
	URL string

	// DataDir is the folder of the private server; see DefaultDataDir. Made when it does not exist.
	DataDir string

	// CacheDir is where a PostgreSQL fetched through npm is kept. Empty is /var/cache/countersign for root, and
	// countersign in the user's cache folder for everybody else.
	CacheDir string

	// MaxConns is the size of the pool. Zero leaves it to pool_max_conns in the URL, or else is 20.
	MaxConns int32

	// Throwaway gives up what protects data when the machine stops, for a server that lives as long as a test.
	Throwaway bool

	// Log hears what becomes of the private server. Nil is silence.
	Log *slog.Logger
}

// Database is an open database.
type Database struct {
	Pool    *pgxpool.Pool
	Private bool // on a private server of ours

	stop func(context.Context) error // nil without a private server
}

// Open opens the database that the options describe and returns when it has answered. The error matches
// ErrNoServer when a private server is asked for but not to be had. The context bounds only the opening.
func Open(ctx context.Context, o Options) (*Database, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.URL != "" {
		pool, err := connect(ctx, o)
		if err != nil {
			return nil, err
		}
		return &Database{Pool: pool}, nil
	}

	url, stop, err := private(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("private PostgreSQL server: %w", err)
	}
	o.URL = url
	pool, err := connect(ctx, o)
	if err != nil {
		return nil, errors.Join(err, stop(context.WithoutCancel(ctx)))
	}
	return &Database{Pool: pool, Private: true, stop: stop}, nil
}

// URL returns the address of the database, with the password if it has one.
func (d *Database) URL() string { return d.Pool.Config().ConnString() }

// Close closes the pool, waiting for the connections in use, and stops the private server if this process
// started it. When the context ends first, it stops the server under them: committed data is safe either way.
// A second Close does nothing.
func (d *Database) Close(ctx context.Context) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		d.Pool.Close()
	}()
	var err error
	select {
	case <-closed:
	case <-ctx.Done():
		err = fmt.Errorf("close the database while connections are in use: %w", ctx.Err())
	}
	if d.stop == nil {
		return err
	}
	return errors.Join(err, d.stop(ctx))
}

// DefaultDataDir returns where the private server keeps its data unless someone says otherwise:
// /var/lib/countersign for root, whose home is closed to the account that has to run the server, and otherwise
// countersign in xdgDataHome, the value of XDG_DATA_HOME, or ~/.local/share when that is no absolute path.
func DefaultDataDir(xdgDataHome string) (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/countersign", nil
	}
	if filepath.IsAbs(xdgDataHome) {
		return filepath.Join(xdgDataHome, "countersign"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the database: %w: set COUNTERSIGN_DATA_DIR", err)
	}
	return filepath.Join(home, ".local", "share", "countersign"), nil
}

func connect(ctx context.Context, o Options) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		// What pgx says may repeat a part of the URL, and that part may be a password.
		return nil, errors.New("the database URL cannot be read: it looks like postgres://USER:PASSWORD@HOST:5432/DATABASE, " +
			"and special characters in the password are percent-encoded")
	}
	switch {
	case o.MaxConns > 0:
		config.MaxConns = o.MaxConns
	case !strings.Contains(o.URL, "pool_max_conns"):
		config.MaxConns = defaultMaxConns
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	config.MaxConnLifetimeJitter = config.MaxConnLifetime / 10 // not all connections at once
	params := config.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "countersign"
	}
	params["timezone"] = "UTC" // a day is the same day whichever server the database is on

	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	var version int
	if err := pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open the database: %w: %s", err, cure(err))
	}
	if major := version / 10_000; major < oldest {
		pool.Close()
		return nil, fmt.Errorf("open the database: its server is PostgreSQL %d, and version %d or newer is needed", major, oldest)
	}
	return pool, nil
}

// cure says what to do about an error of connecting.
func cure(err error) string {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && pgErr.Code == "3D000": // invalid_catalog_name
		return "create the database first, or name another one in the database URL"
	case ok && strings.HasPrefix(pgErr.Code, "28"): // invalid authorization
		return "check the user and the password in the database URL"
	case ok && pgErr.Code == "53300": // too_many_connections
		return "raise the server's max_connections, or lower the pool_max_conns of those who use it"
	default:
		return "check the host and the port in the database URL, and that the server there runs and can be reached"
	}
}
