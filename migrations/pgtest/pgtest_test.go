package pgtest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/migrations/postgres"
)

// TestMain lets the first argument "careless" run the tests without Main, as a package does that has forgotten it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "careless" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		os.Exit(m.Run())
	}
	os.Exit(pgtest.Main(m))
}

func TestNewIsMigrated(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	current, latest, err := migrations.Status(t.Context(), pool)
	if err != nil || current != latest || latest == 0 {
		t.Errorf("at version %d of %d, %v", current, latest, err)
	}
	for _, table := range []string{"clients", "river_job"} {
		if got := text(t, pool, `SELECT coalesce(to_regclass('`+table+`')::text, 'missing')`); got != table {
			t.Errorf("table %s: %s", table, got)
		}
	}
}

func TestEveryTestHasItsOwn(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			if _, err := pgtest.New(t).Exec(t.Context(), `CREATE TABLE mine ()`); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEmptyURLIsEmpty(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if got := text(t, pool, `SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'`); got != "0" {
		t.Errorf("it has %s tables", got)
	}
}

func TestDatabaseEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("the test", func(t *testing.T) {
		name = text(t, pgtest.New(t), `SELECT current_database()`)
		conn, err := pgx.Connect(context.WithoutCancel(t.Context()), pgtest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn // a forgotten connection keeps no database
	})
	if got := text(t, pgtest.New(t), `SELECT count(*)::text FROM pg_database WHERE datname = '`+name+`'`); got != "0" {
		t.Errorf("%s is still there", name)
	}
}

// TestGivenServer runs the tests above in three processes at once on a server that is not pgtest's own.
func TestGivenServer(t *testing.T) {
	t.Parallel()
	db, err := postgres.Open(t.Context(), postgres.Options{DataDir: folder(t), Throwaway: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(t.Context())) })

	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			output, err := self(t, "COUNTERSIGN_TEST_DATABASE_URL="+db.URL(), "-test.v", "-test.run=TestNewIsMigrated|TestEvery|TestEmpty|TestDatabase")
			if err != nil || !strings.Contains(output, "--- PASS: TestNewIsMigrated") {
				t.Errorf("%v: %s", err, output)
			}
		})
	}
	all.Wait()

	want := "countersign_template_" + migrations.Fingerprint()
	if got := text(t, db.Pool, `SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'countersign%'`); got != want {
		t.Errorf("afterwards there is %s, want only %s", got, want)
	}

	output, err := self(t, "COUNTERSIGN_TEST_DATABASE_URL=postgres://u:s3cret@127.0.0.1:1/x", "-test.run=TestNewIsMigrated")
	if err == nil || strings.Contains(output, "s3cret") {
		t.Errorf("with a server that is not there: %v: %s", err, output)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("a server outlives a careless process on this system")
	}
	for name, args := range map[string][]string{
		"with Main":    {"-test.run=TestNewIsMigrated"},
		"without Main": {"careless", "-test.run=TestNewIsMigrated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			if output, err := self(t, "TMPDIR="+dir, args...); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			left, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			if careless := args[0] == "careless"; !careless && len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			deadline := time.After(30 * time.Second) // the system tells a careless process's server to stop, which takes a moment
			for alive(t, dir) {
				select {
				case <-time.After(10 * time.Millisecond):
				case <-deadline:
					t.Fatal("a server is left behind")
				}
			}
		})
	}
}

// TestNoPostgreSQL hides the installed PostgreSQL from a second process.
func TestNoPostgreSQL(t *testing.T) {
	t.Parallel()
	const hide = `mount -t tmpfs none /usr/lib/postgresql`
	if output, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", hide).CombinedOutput(); err != nil {
		t.Skipf("the installed PostgreSQL cannot be hidden here: %v: %s", err, output)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for switched, want := range map[string]string{"": "--- SKIP: TestNewIsMigrated", "1": "--- FAIL: TestNewIsMigrated"} {
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", hide+` && PATH=/nowhere exec "$1" -test.v -test.run=TestNewIsMigrated`, "sh", binary)
		cmd.Env = append(cmd.Environ(), "COUNTERSIGN_TEST_DATABASE_URL=", "COUNTERSIGN_TEST_REQUIRE_DATABASE="+switched)
		output, _ := cmd.CombinedOutput()
		if !bytes.Contains(output, []byte(want)) || !bytes.Contains(output, []byte("install")) {
			t.Errorf("COUNTERSIGN_TEST_REQUIRE_DATABASE=%s: %s", switched, output)
		}
	}
}

// self runs this test binary in a second process.
func self(t *testing.T, variable string, args ...string) (output string, err error) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(cmd.Environ(), "COUNTERSIGN_TEST_DATABASE_URL=", variable)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// alive tells whether a process works in the folder.
func alive(t *testing.T, dir string) bool {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, dir) {
			return true
		}
	}
	return false
}

// folder returns a new folder that the account which runs root's servers can enter.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, open := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func text(t *testing.T, pool *pgxpool.Pool, sql string) (value string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
