//go:build linux || darwin

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postmaster is a server process that this process started.
type postmaster struct {
	process *os.Process
	ended   chan struct{}
	said    func() string // the end of what it has logged since it was started
}

// start starts the server on the cluster. It returns as soon as there is a process, which then needs a moment
// until it answers, or else ends and has said why.
func (s *server) start(ctx context.Context, found binaries) (*postmaster, error) {
	log, err := openLog(s.logFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the server has its own copy
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}

	cmd := s.command(context.WithoutCancel(ctx), syscall.SIGINT, found.program("postgres"), s.settings()...)
	cmd.Stdout, cmd.Stderr = log, log
	p := &postmaster{
		ended: make(chan struct{}),
		said:  func() string { return tail(s.logFile, begin) },
	}
	started := make(chan error)
	go func() {
		// The signal at the parent's death is sent when the thread that started the server ends, not the process.
		// So this thread stays here as long as the server does, and is not used again after that.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // why it ended is in its log
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.process = cmd.Process
	return p, nil
}

// settings are all that this server is told, so that its configuration files need no change: they stay as
// initdb has written them.
func (s *server) settings() []string {
	settings := []string{
		"listen_addresses=", // no network, only the socket
		`unix_socket_directories="` + strings.ReplaceAll(s.socketDir, `"`, `""`) + `"`,
		"port=5432",
		"max_connections=100",
		"shared_buffers=128MB",
		"max_wal_size=1GB", // which bounds the time that recovery takes after a crash, and lets an import end before the next checkpoint
		"min_wal_size=64MB",
		"wal_compression=on",
		"max_parallel_workers_per_gather=0", // they need more shared memory than a container gives
		"jit=off",
		"fsync=on",
		"synchronous_commit=on",
		"timezone=UTC",
		"log_timezone=UTC",
		"log_line_prefix=%m [%p] ",
		"log_min_messages=log", // not the errors of statements, which their callers report, and which have personal data
		"log_checkpoints=off",
	}
	if s.throwaway {
		settings = append(settings, "max_connections=500", "fsync=off", "synchronous_commit=off", "full_page_writes=off",
			"wal_level=minimal", "max_wal_senders=0")
	}
	args := []string{"-D", s.cluster}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return args
}

// command prepares a program that runs as the account, apart from the terminal. Its environment has nothing of
// ours, which has secrets and may have PostgreSQL's own variables.
func (s *server) command(ctx context.Context, atParentsDeath syscall.Signal, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // a program of the PostgreSQL that was found
	cmd.Dir = "/"                                     // the account may be unable to enter ours
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = s.account.attributes(atParentsDeath)
	return cmd
}

// run runs a program to its end and returns what it printed, which is part of the error as well.
func (s *server) run(ctx context.Context, program string, args ...string) (string, error) {
	runtime.LockOSThread() // or the program could be killed when its thread ends before it
	defer runtime.UnlockOSThread()

	output, err := s.command(ctx, syscall.SIGKILL, program, args...).CombinedOutput()
	output = bytes.TrimSpace(output)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil && len(output) > 0:
		err = fmt.Errorf("%w: %s", err, output)
	}
	return string(output), err
}

// alive tells whether the process runs; there may be none.
func (p *postmaster) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// patience is how long a server may take to stop at once, and one that starts to open its socket.
const patience = 30 * time.Second

// stop stops the server: cleanly, and when the context ends before it has, at once, which costs the next start a
// moment of recovery and no data.
func (p *postmaster) stop(ctx context.Context) error {
	_ = p.process.Signal(syscall.SIGINT) // fast shutdown; an error says that it has ended already
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
	}
	_ = p.process.Signal(syscall.SIGQUIT) // immediate shutdown
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the private PostgreSQL server (process %d) does not stop: end it by hand", p.process.Pid)
	}
}

// lingers tells whether a process still works in the cluster of a server that this process could not start. On a
// system that cannot tell, the answer is yes. The server's own file postmaster.pid cannot: after a crash it is
// left over, and its process id may by now be that of anything, in a container even that of one of our threads.
func lingers(cluster string) bool {
	if runtime.GOOS != "linux" {
		return true
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return true
	}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		// All processes of a server work in its cluster.
		if dir, err := os.Readlink("/proc/" + entry.Name() + "/cwd"); err == nil && dir == cluster {
			return true
		}
	}
	return false
}

// logSize is the size that the server's log may have when a server starts. It is written to rarely: at starts
// and stops, and when something breaks.
const logSize = 8 << 20

func openLog(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > logSize {
		err = os.Rename(path, path+".1")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// tail returns the last of what the log has from the offset on.
func tail(path string, from int64) string {
	text, err := os.ReadFile(path)
	if err != nil || int64(len(text)) < from {
		return "nothing to be read in " + path
	}
	text = text[from:]
	return string(bytes.TrimSpace(text[max(0, len(text)-2000):]))
}
