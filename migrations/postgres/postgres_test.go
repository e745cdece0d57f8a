//go:build linux || darwin

package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/countersign/countersign/migrations/postgres"
)

// TestMain makes the test binary its own second process: "hold FOLDER" opens the private server of the folder,
// says so, and closes it when its standard input ends.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[1] != "hold" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	db, err := postgres.Open(ctx, postgres.Options{DataDir: os.Args[2], CacheDir: filepath.Join(os.Args[2], "cache")})
	if err != nil {
		_, _ = io.WriteString(os.Stdout, err.Error()+"\n")
		os.Exit(1)
	}
	_, _ = io.WriteString(os.Stdout, "open\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := db.Close(ctx); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func TestColdThenWarm(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)

	begin := time.Now()
	db := open(t, dir)
	t.Logf("cold start: %v", time.Since(begin))
	if !db.Private {
		t.Error("the database does not say that it is private")
	}
	execute(t, db, `CREATE TABLE kept (n int)`)
	execute(t, db, `INSERT INTO kept VALUES (7)`)
	closeNow(t, db)
	checkNobodyIn(t, dir)

	begin = time.Now()
	db = open(t, dir)
	t.Logf("warm start: %v", time.Since(begin))
	if got := query(t, db, `SELECT n::text FROM kept`); got != "7" {
		t.Errorf("after a restart the table has %q", got)
	}

	begin = time.Now()
	adopter := open(t, dir)
	t.Logf("adoption: %v", time.Since(begin))
	closeNow(t, adopter)
}

func TestServerSettings(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	db := open(t, dir)

	for name, want := range map[string]string{
		"fsync":              "on",
		"synchronous_commit": "on",
		"full_page_writes":   "on",
		"data_checksums":     "on",
		"listen_addresses":   "",
		"jit":                "off",
		"TimeZone":           "UTC",
		"server_encoding":    "UTF8",
		"application_name":   "countersign",
	} {
		if got := query(t, db, `SELECT current_setting('`+name+`')`); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := query(t, db, `SELECT lower('ÄÖÉ')`); got != "äöé" {
		t.Errorf("lower-case ÄÖÉ is %q: the locale is not UTF-8", got)
	}
	if got := db.Pool.Config().MaxConns; got != 20 {
		t.Errorf("the pool may have %d connections", got)
	}
	for _, name := range []string{"run", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", name, info.Mode())
		}
	}
}

func TestManyAtOnceMakeOneServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	started := make([]string, 5)
	var all sync.WaitGroup
	for i := range started {
		all.Go(func() {
			db, err := postgres.Open(t.Context(), postgres.Options{DataDir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { closeNow(t, db) })
			if err := db.Pool.QueryRow(t.Context(), `SELECT pg_postmaster_start_time()::text`).Scan(&started[i]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, at := range started {
		if at != started[0] {
			t.Errorf("there was more than one server, started at %v", started)
			break
		}
	}
}

func TestSecondProcessAdopts(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	owner := hold(t, dir)
	began := func(db *postgres.Database) string { return query(t, db, `SELECT pg_postmaster_start_time()::text`) }

	first := open(t, dir)
	start := began(first)
	closeNow(t, first)
	second := open(t, dir)
	if got := began(second); got != start {
		t.Errorf("the server of %s was replaced at %s, when a process that had adopted it closed it", start, got)
	}
	closeNow(t, second)
	owner.end(t)
	checkNobodyIn(t, dir)
}

func TestServerComesBackUnderAnAdopter(t *testing.T) {
	t.Parallel()
	for _, loss := range []string{"owner ends", "owner killed", "postmaster killed"} {
		t.Run(loss, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			owner := hold(t, dir)
			db := open(t, dir)
			execute(t, db, `CREATE TABLE kept AS SELECT 7 AS n`)
			before := query(t, db, `SELECT pg_postmaster_start_time()::text`)

			switch loss {
			case "owner ends":
				owner.end(t)
			case "owner killed":
				owner.kill(t)
			case "postmaster killed":
				killPostmaster(t, dir)
			}
			checkReplaced(t, db, before)
		})
	}
}

func TestServerComesBackUnderItsOwner(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	db := open(t, dir)
	execute(t, db, `CREATE TABLE kept AS SELECT 7 AS n`)
	before := query(t, db, `SELECT pg_postmaster_start_time()::text`)

	killPostmaster(t, dir)
	checkReplaced(t, db, before)

	closeNow(t, db)
	checkNobodyIn(t, dir)
}

// checkReplaced checks that the database comes to be on another server than the one of before, with its data.
func checkReplaced(t *testing.T, db *postgres.Database, before string) {
	t.Helper()
	eventually(t, func() error {
		var after string
		var n int
		err := db.Pool.QueryRow(t.Context(), `SELECT pg_postmaster_start_time()::text, n FROM kept`).Scan(&after, &n)
		switch {
		case err != nil:
			return err
		case after == before:
			return errors.New("the old server still answers")
		case n != 7:
			return fmt.Errorf("the table has %d", n)
		}
		return nil
	})
}

func TestOpenAfterKill(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	owner := hold(t, dir)
	db := open(t, dir)
	execute(t, db, `CREATE TABLE kept AS SELECT 7 AS n`)
	closeNow(t, db)

	for range 3 {
		owner.kill(t)
		begin := time.Now()
		owner = hold(t, dir)
		t.Logf("start after a kill: %v", time.Since(begin))
	}
	db = open(t, dir)
	if got := query(t, db, `SELECT n::text FROM kept`); got != "7" {
		t.Errorf("after a kill the table has %q", got)
	}
}

func TestOpenAfterKillInInitdb(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	cmd := holdCommand(t, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if made, _ := filepath.Glob(filepath.Join(dir, "initdb-*", "base")); len(made) == 0 {
			return errors.New("initdb has not begun")
		}
		return nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := os.Stat(filepath.Join(dir, "postgres")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the kill came too late, there is a cluster: %v", err)
	}

	db := open(t, dir)
	execute(t, db, `CREATE TABLE works ()`)
	if left, _ := filepath.Glob(filepath.Join(dir, "initdb-*")); len(left) > 0 {
		t.Errorf("%v was left over", left)
	}
}

func TestPidFileOfAStranger(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a stranger from a server")
	}
	dir := dataDir(t)
	closeNow(t, open(t, dir))

	cluster := filepath.Join(dir, "postgres")
	info, err := os.Stat(cluster)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("the cluster has no owner")
	}
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	stranger.Dir = "/"
	if os.Geteuid() == 0 {
		stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Wait() }) // the context ends it
	pidFile := filepath.Join(cluster, "postmaster.pid")
	text := fmt.Sprintf("%d\n%s\n1700000000\n5432\n%s\n\n  5432001    32768\nready   \n", stranger.Process.Pid, cluster, filepath.Join(dir, "run"))
	if err := os.WriteFile(pidFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(pidFile, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir)
}

func TestOddPaths(t *testing.T) {
	t.Parallel()
	for name, folder := range map[string]string{
		"long":   strings.Repeat("long/", 30),
		"spaces": `a b+c&d=e%20#f"g'h`,
		"comma":  "a,b",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(dataDir(t), folder)
			owner := hold(t, dir)
			execute(t, open(t, dir), `CREATE TABLE works ()`)
			// Where the socket is elsewhere, the link to it survives the folder that it leads to.
			owner.kill(t)
			if short, err := os.Readlink(filepath.Join(dir, "run")); err == nil {
				t.Cleanup(func() { _ = os.RemoveAll(short) })
			}
			execute(t, open(t, dir), `CREATE TABLE works_again ()`)
		})
	}
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	db := open(t, dir)
	execute(t, db, `CREATE TABLE kept AS SELECT 7 AS n`)
	closeNow(t, db)

	file := filepath.Join(dir, "postgres", "PG_VERSION")
	version, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	_, err = postgres.Open(t.Context(), postgres.Options{DataDir: dir})
	if err == nil {
		t.Fatal("a cluster of version 9 was opened")
	}
	for _, part := range []string{"made by PostgreSQL 9", dir, "pg_dumpall", "install"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not speak of %q: %v", part, err)
		}
	}
	if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
		t.Errorf("the refused Open changed files (-before +after):\n%s", diff)
	}

	if err := os.WriteFile(file, version, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := query(t, open(t, dir), `SELECT n::text FROM kept`); got != "7" {
		t.Errorf("with the version back the table has %q", got)
	}
}

func TestRefusedFolders(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, dir string, parts ...string) {
		t.Helper()
		_, err := postgres.Open(t.Context(), postgres.Options{DataDir: dir})
		if err == nil {
			t.Fatal("it was opened")
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not speak of %q: %v", part, err)
			}
		}
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		refused(t, "", "COUNTERSIGN_DATA_DIR")
	})
	t.Run("no cluster", func(t *testing.T) {
		t.Parallel()
		dir := dataDir(t)
		if err := os.MkdirAll(filepath.Join(dir, "postgres", "precious"), 0o700); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(filepath.Join(dir, "postgres"), 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, dir, "no PostgreSQL cluster", "move it away")
		if _, err := os.Stat(filepath.Join(dir, "postgres", "precious")); err != nil {
			t.Error(err)
		}
	})
	t.Run("closed to the account", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("only root's server runs as another account")
		}
		closed := filepath.Join(dataDir(t), "closed")
		if err := os.Mkdir(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, filepath.Join(closed, "data"), "cannot enter "+closed, "chmod a+x")
	})
	t.Run("another account's", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() == 0 {
			t.Skip("root may use everybody's")
		}
		refused(t, "/proc/1/countersign", "/proc/1")
	})
}

func TestCloseUnderUse(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	db := open(t, dir)
	conn, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Close(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Close says %v", err)
	}
	checkNobodyIn(t, dir)
}

func TestCancelledOpenLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	for _, patience := range []time.Duration{200 * time.Millisecond, time.Minute, 30 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		db, err := postgres.Open(ctx, postgres.Options{DataDir: dir})
		if err == nil {
			closeNow(t, db)
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open says %v", err)
		}
		cancel()
		checkNobodyIn(t, dir)
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	private := open(t, dataDir(t))

	t.Run("connects", func(t *testing.T) {
		t.Parallel()
		db, err := postgres.Open(t.Context(), postgres.Options{URL: private.URL() + "&pool_max_conns=3&application_name=mine"})
		if err != nil {
			t.Fatal(err)
		}
		if db.Private || db.Pool.Config().MaxConns != 3 || query(t, db, `SHOW application_name`) != "mine" {
			t.Errorf("the URL is not obeyed: private %v, %d connections", db.Private, db.Pool.Config().MaxConns)
		}
		closeNow(t, db)
		if got := query(t, private, `SELECT 'still here'`); got != "still here" {
			t.Errorf("closing a database at a URL stopped its server: %q", got)
		}
	})

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobodyThere := listener.Addr().String()
	_ = listener.Close()
	old := serveVersion(t, 140_011)
	for name, test := range map[string]struct{ url, want string }{
		"nobody there":  {"postgres://u:s3cret@" + nobodyThere + "/x", "check the host and the port"},
		"no database":   {strings.Replace(private.URL(), "/postgres?", "/missing?", 1), "create the database"},
		"no such user":  {strings.Replace(private.URL(), "//countersign@", "//stranger:s3cret@", 1), "check the user and the password"},
		"unreadable":    {"postgres://u:s3cret%zz@localhost:port/x", "percent-encoded"},
		"not a URL":     {"s3cret", "postgres://USER"},
		"an old server": {"postgres://u:s3cret@" + old + "/x?sslmode=disable&default_query_exec_mode=simple_protocol", "PostgreSQL 14"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.Open(t.Context(), postgres.Options{URL: test.url})
			if err == nil {
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error does not speak of %q: %v", test.want, err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip(err)
	}
	for _, test := range []struct{ xdg, want string }{
		{"", filepath.Join(home, ".local/share/countersign")},
		{"relative/is/ignored", filepath.Join(home, ".local/share/countersign")},
		{"/data", "/data/countersign"},
	} {
		want := test.want
		if os.Geteuid() == 0 {
			want = "/var/lib/countersign"
		}
		if got, err := postgres.DefaultDataDir(test.xdg); err != nil || got != want {
			t.Errorf("DefaultDataDir(%q) is %q, %v; want %q", test.xdg, got, err, want)
		}
	}
}

// TestAsOrdinaryUser runs the other tests again as the user nobody, when they have just run as root.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("this is an ordinary user, or one run is enough")
	}
	dir := dataDir(t)
	binary := copySelf(t, dir)
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.timeout=5m")
	cmd.Dir = home
	cmd.Env = append(cmd.Environ(), "HOME="+home, "TMPDIR="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as nobody: %v\n%s", err, output)
	}
	if testing.Verbose() {
		t.Logf("%s", output)
	}
}

// holder is a second process that has opened the private server.
type holder struct {
	cmd   *exec.Cmd
	input io.Closer
}

func holdCommand(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(context.WithoutCancel(t.Context()), self, "hold", dir) // it is ended in the clean-up
}

// hold starts a second process and returns when it has opened the private server.
func hold(t *testing.T, dir string) *holder {
	t.Helper()
	cmd := holdCommand(t, dir)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || line != "open\n" {
		t.Fatalf("second process: %s%v", line, err)
	}
	h := &holder{cmd: cmd, input: input}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			h.end(t)
		}
	})
	return h
}

func (h *holder) end(t *testing.T) {
	t.Helper()
	_ = h.input.Close()
	if err := h.cmd.Wait(); err != nil {
		t.Errorf("second process: %v", err)
	}
}

func (h *holder) kill(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = h.cmd.Wait()
}

func killPostmaster(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// dataDir returns a new folder that the account which runs root's servers can enter.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, open := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string) *postgres.Database {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{
		DataDir: dir,
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, db) })
	return db
}

func closeNow(t *testing.T, db *postgres.Database) {
	t.Helper()
	if err := db.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func execute(t *testing.T, db *postgres.Database, sql string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, db *postgres.Database, sql string) (value string) {
	t.Helper()
	if err := db.Pool.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// checkNobodyIn checks that no process is left that works in the cluster.
func checkNobodyIn(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "postgres", "postmaster.pid")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the server was not stopped cleanly: %v", err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, dir+"/") {
			t.Errorf("%s is left behind in %s", filepath.Dir(link), at)
		}
	}
}

// eventually tries until it succeeds, for as long as a slow machine may need.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

// listing maps every file of a folder to its size and time, but for the lock.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func copySelf(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "postgres.test")
	// A process that is forked meanwhile would inherit the file, open for writing: nobody could run it ("text file busy").
	syscall.ForkLock.RLock()
	err = os.WriteFile(path, binary, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serveVersion is a server that knows nothing but its version. It returns its address.
func serveVersion(t *testing.T, version int) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerVersion(conn, version)
		}
	}()
	return listener.Addr().String()
}

func answerVersion(conn net.Conn, version int) {
	defer func() { _ = conn.Close() }()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	backend.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for backend.Flush() == nil {
		message, err := backend.Receive()
		if err != nil {
			return
		}
		if _, ok := message.(*pgproto3.Query); ok {
			backend.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("v"), DataTypeOID: 23, DataTypeSize: 4}}})
			backend.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(strconv.Itoa(version))}})
			backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
			backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		}
	}
}
