//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// superuser is who everybody is in the private server. The database is the one that initdb makes anyway.
const (
	superuser = "countersign"
	database  = "postgres"
)

// poll is the time between two looks at a server that is about to answer; crowded between two attempts to start
// one while processes of its predecessor still end, and crowdedFor how long we try. retry is the time between
// two attempts to bring back a server that went away.
const (
	poll       = 5 * time.Millisecond
	crowded    = 50 * time.Millisecond
	crowdedFor = 15 * time.Second
	retry      = time.Second
)

// server is the private server as this process knows it.
type server struct {
	dir       string // the data folder
	cluster   string
	logFile   string
	socketDir string
	account   account
	cacheDir  string
	throwaway bool
	log       *slog.Logger

	// postmaster is nil unless this process started the server. It belongs to the goroutine that watches, and
	// after that to stop.
	postmaster *postmaster
}

// private adopts or starts the private server, and keeps it going until stop. The context bounds only the start.
func private(ctx context.Context, o Options) (address string, stop func(context.Context) error, err error) {
	s := &server{cacheDir: o.CacheDir, throwaway: o.Throwaway, log: o.Log}
	if s.dir, err = makeDataDir(o.DataDir); err != nil {
		return "", nil, err
	}
	s.cluster = filepath.Join(s.dir, "postgres")
	s.logFile = filepath.Join(s.dir, "postgres.log")

	conn, err := s.ensure(ctx)
	if err != nil {
		return "", nil, errors.Join(err, s.stop(ctx))
	}
	address = s.url()
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.watch(watching, conn)
	}()
	stop = func(ctx context.Context) error {
		cancel()
		<-done
		return s.stop(ctx)
	}
	return address, stop, nil
}

// stop stops the server if this process started it.
func (s *server) stop(ctx context.Context) error {
	if !s.postmaster.alive() {
		return nil
	}
	return s.postmaster.stop(ctx)
}

// watch holds a connection, which breaks at the instant the server goes away, whoever runs it. Then it sees to
// it that there is a server again.
func (s *server) watch(ctx context.Context, conn *pgx.Conn) {
	for {
		_, err := conn.WaitForNotification(ctx) // nobody notifies: it returns when the connection breaks
		_ = conn.Close(context.WithoutCancel(ctx))
		if ctx.Err() != nil {
			return
		}
		s.log.WarnContext(ctx, "the private PostgreSQL server went away", "data_dir", s.dir, "error", err)
		for {
			if conn, err = s.ensure(ctx); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			s.log.ErrorContext(ctx, "the private PostgreSQL server cannot be brought back yet", "data_dir", s.dir, "error", err)
			_ = pause(ctx, retry)
		}
	}
}

// ensure returns a connection to the server, which it starts if it does not run.
func (s *server) ensure(ctx context.Context) (*pgx.Conn, error) {
	unlock, err := lockFile(ctx, filepath.Join(s.dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()

	if s.account, err = accountFor(s.cluster); err != nil {
		return nil, err
	}
	if err := s.account.canEnter(s.dir); err != nil {
		return nil, err
	}
	if s.socketDir, err = makeSocketDir(s.dir, s.account); err != nil {
		return nil, err
	}

	begin := time.Now()
	var mine *postmaster // the one that this call has started
	for {
		conn, err := s.connect(ctx)
		switch {
		case err == nil:
			s.log.InfoContext(ctx, "the private PostgreSQL server answers",
				"data_dir", s.dir, "started", mine != nil, "after", time.Since(begin).Round(time.Millisecond))
			return conn, nil
		case isBusy(err):
			// It starts, recovers or stops. Recovery takes as long as it takes.
		case !isAbsent(err):
			return nil, err
		case s.postmaster.alive():
			if time.Since(begin) > patience {
				return nil, fmt.Errorf("the server does not open its socket: %w: its log is %s", err, s.logFile)
			}
		default:
			if mine != nil {
				if err := s.mayTryAgain(ctx, mine, begin); err != nil {
					return nil, err
				}
			}
			if mine, err = s.launch(ctx); err != nil {
				return nil, err
			}
			s.postmaster = mine
		}
		if err := pause(ctx, poll); err != nil {
			return nil, fmt.Errorf("wait for the server to answer: %w", err)
		}
	}
}

// launch starts a server on the cluster, which it makes if there is none.
func (s *server) launch(ctx context.Context) (*postmaster, error) {
	version, err := clusterVersion(s.cluster)
	if err != nil {
		return nil, err
	}
	found, err := s.findBinaries(ctx, version)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		s.log.InfoContext(ctx, "making a private PostgreSQL database", "data_dir", s.dir, "binaries", found.dir, "version", found.major)
		if err := s.makeCluster(ctx, found); err != nil {
			return nil, err
		}
	}
	return s.start(ctx, found)
}

// mayTryAgain looks at a server that ended instead of starting, and returns nil if another attempt may succeed:
// after a kill, processes of the killed server can linger in the cluster for a moment.
func (s *server) mayTryAgain(ctx context.Context, ended *postmaster, begin time.Time) error {
	pidFile := filepath.Join(s.cluster, "postmaster.pid")
	if _, err := os.Stat(pidFile); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the server does not start: %s", ended.said())
	}
	if time.Since(begin) > crowdedFor {
		return fmt.Errorf("the server does not start, because an earlier one has not ended: %s", ended.said())
	}
	if !lingers(s.cluster) {
		// The file is left over, and its process id belongs to a stranger now.
		if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return pause(ctx, crowded)
}

func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.url())
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams = map[string]string{"application_name": "countersign watch"}
	return pgx.ConnectConfig(ctx, config)
}

// url returns the address of the database. It names everything for which the environment of a process could
// have another default.
func (s *server) url() string {
	query := url.Values{"host": {s.socketDir}, "port": {"5432"}, "sslmode": {"disable"}}.Encode()
	return "postgres://" + superuser + "@/" + database + "?" + strings.ReplaceAll(query, "+", "%20")
}

// isAbsent tells whether an error of connecting says that no server listens.
func isAbsent(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// isBusy tells whether an error of connecting says that a server is starting or stopping: it says so itself
// (class 57P), or hangs up.
func isBusy(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pgErr.Code, "57P")
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
