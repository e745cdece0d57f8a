//go:build linux

package main_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
)

// mailing is an installation that is about to send invitations.
type mailing struct {
	*installation

	sink    *mailsink.Sink
	metrics string // host:port
	clients int
}

// invite makes an installation that has imported and invited so many clients, and serves not yet.
func invite(t *testing.T, clients int) *mailing {
	t.Helper()
	sink, address := startSink(t)
	metrics := "127.0.0.1:" + freePort(t)
	in := install(t,
		"COUNTERSIGN_LISTEN=127.0.0.1:"+freePort(t),
		"COUNTERSIGN_METRICS_LISTEN="+metrics,
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
		"COUNTERSIGN_AGENCY_NAME=Agency",
		"COUNTERSIGN_SMTP_URL=smtp://"+address+"?tls=none",
	)
	var roster bytes.Buffer
	roster.WriteString("ref,name,owner_name,owner_email\n")
	for n := range clients {
		fmt.Fprintf(&roster, "%d,Client %[1]d,Owner %[1]d,%s\n", n, owner(n))
	}
	file := filepath.Join(t.TempDir(), "roster.csv")
	if err := os.WriteFile(file, roster.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	in.mustRun(t, "import", file, "--invite")
	return &mailing{in, sink, metrics, clients}
}

func owner(n int) string { return fmt.Sprintf("owner%d@clients.example", n) }

// waitForMail waits until the n-th mail has come.
func (m *mailing) waitForMail(t *testing.T, serve *process, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := m.sink.Wait(ctx, func(m mailsink.Message) bool { return m.ID >= int64(n) }); err != nil {
		t.Fatalf("waiting for mail %d: %v\n%s", n, err, serve.output)
	}
}

// waitForAll waits until every owner has a mail and the program knows it. Mails that are repeated must
// be the same as the first.
func (m *mailing) waitForAll(t *testing.T, serve *process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	waiting := make(map[string]bool)
	for n := range m.clients {
		waiting[owner(n)] = true
	}
	_, err := m.sink.Wait(ctx, func(m mailsink.Message) bool {
		delete(waiting, m.To[0])
		return len(waiting) == 0
	})
	if err != nil {
		t.Fatalf("%d owners have no mail: %v\n%s", len(waiting), err, serve.output)
	}
	for progress := m.progress(t); progress.Stages[provisioning.StageInvited] < int64(m.clients); progress = m.progress(t) {
		select {
		case <-ctx.Done():
			t.Fatalf("not all are invited: %+v\n%s", progress, serve.output)
		case <-time.After(100 * time.Millisecond):
		}
	}
	firsts := make(map[string]string)
	for _, mail := range m.sink.Messages(mailsink.Filter{}) {
		to := mail.To[0]
		if first, again := firsts[to]; again && first != string(mail.Raw) {
			t.Errorf("the two mails to %s are not the same", to)
		}
		firsts[to] = string(mail.Raw)
	}
	if stats := m.sink.Stats(); stats.Accepted != int64(m.clients)+stats.Repeats {
		t.Errorf("%d mails of which %d are repeats, for %d owners", stats.Accepted, stats.Repeats, m.clients)
	}
}

// repeatsInLog counts what a process has told of mails whose outcome is unknown.
func repeatsInLog(p *process) (sum int) {
	told := regexp.MustCompile(`what it had begun to send is sent again" messages=(\d+)`)
	for _, match := range told.FindAllStringSubmatch(p.output.String(), -1) {
		n, err := strconv.Atoi(match[1])
		if err != nil {
			panic(err) // digits
		}
		sum += n
	}
	return sum
}

// TestKilledWhileImporting kills countersign import at random instants, and its private database server with
// it: each time the file is in the roster as a whole or not at all. Afterwards it is imported once more.
func TestKilledWhileImporting(t *testing.T) {
	t.Parallel()
	const clients, kills = 20_000, 6
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example")
	var roster bytes.Buffer
	roster.WriteString("ref,name,owner_email\n")
	for n := range clients {
		fmt.Fprintf(&roster, "%d,Client %d,%s\n", n, n/2, owner(n))
	}
	file := filepath.Join(t.TempDir(), "roster.csv")
	if err := os.WriteFile(file, roster.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	in.mustRun(t, "import", file, "--dry-run")
	whole := time.Since(began)
	for range kills {
		im := in.start(t, "import", file)
		select {
		case <-time.After(rand.N(whole)): //nolint:gosec // any instant will do
		case <-im.ended:
		}
		im.kill()
		if n := in.progress(t).Total; n != 0 && n != clients {
			t.Fatalf("%d of %d clients are in the roster", n, clients)
		}
	}
	in.mustRun(t, "import", file)
	if n := in.progress(t).Total; n != clients {
		t.Errorf("%d clients in the end", n)
	}
	usernames := make(map[string]bool)
	exported, err := csv.NewReader(strings.NewReader(in.mustRun(t, "export"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range exported[1:] {
		usernames[record[slices.Index(exported[0], "username")]] = true
	}
	if len(usernames) != clients {
		t.Errorf("%d usernames", len(usernames))
	}
}

// TestInterruptedWhileReading tells an import to end whose file does not come to its end.
func TestInterruptedWhileReading(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example")
	in.mustRun(t, "migrate")
	cmd := exec.CommandContext(t.Context(), in.program, "import", "-")
	var complaints bytes.Buffer
	cmd.Env, cmd.Stderr = in.env, &complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds, so that it has been read when it is written.
	if _, err := io.WriteString(stdin, "name,owner_email\n"+strings.Repeat("Acme,ann@a.example\n", 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // The state tells.
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(complaints.String(), "context canceled") {
		t.Errorf("exit code %d, %s", code, &complaints)
	}
	if n := in.progress(t).Total; n != 0 {
		t.Errorf("%d clients", n)
	}
}

// TestKilledWhileSending kills countersign serve three times, in the midst of two thousand invitations.
// In the end every owner has a mail. Nobody has two, but for those whose mail server took the first in
// the instant of a kill; the program has counted at least as many.
func TestKilledWhileSending(t *testing.T) {
	t.Parallel()
	const clients, kills = 2000, 3
	m := invite(t, clients)
	serve := m.serve(t)
	repeated := 0 // as the logs tell
	for n := range kills {
		m.waitForMail(t, serve, (n+1)*clients/(kills+1)-rand.IntN(clients/(kills+1)/2)) //nolint:gosec // any instant will do
		serve.kill()
		t.Logf("killed after %d mails", m.sink.Stats().Accepted)
		repeated += repeatsInLog(serve)
		serve = m.serve(t)
	}
	m.waitForAll(t, serve)
	repeated += repeatsInLog(serve)
	counted := metric(t, m.metrics, `countersign_mail_attempts_total{result="repeated"}`)
	unknown := m.unknown(t)
	repeats := int(m.sink.Stats().Repeats)
	t.Logf("%d repeats; counted: %d in the database, %d in the logs, %d by the last process", repeats, unknown, repeated, counted)
	if repeats > unknown || repeated > unknown || counted > repeated {
		t.Error("more repeats than were counted")
	}
	if code := serve.terminate(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, serve.output)
	}
}

// TestToldToEndWhileSending ends countersign serve in the midst of sending as a service manager does. That costs nobody a
// second mail.
func TestToldToEndWhileSending(t *testing.T) {
	t.Parallel()
	m := invite(t, 600)
	serve := m.serve(t)
	m.waitForMail(t, serve, 200)
	if code := serve.terminate(t); code != 0 || strings.Contains(serve.output.String(), "level=ERROR") {
		t.Errorf("exit code %d:\n%s", code, serve.output)
	}
	serve = m.serve(t)
	m.waitForAll(t, serve)
	if repeats, unknown := m.sink.Stats().Repeats, m.unknown(t); repeats != 0 || unknown != 0 {
		t.Errorf("%d repeats, %d counted", repeats, unknown)
	}
}

// TestDatabaseKilledWhileSending kills the private database server under countersign serve, which
// starts it again and remembers meanwhile what was accepted. That costs nobody a second mail.
func TestDatabaseKilledWhileSending(t *testing.T) {
	t.Parallel()
	m := invite(t, 600)
	serve := m.serve(t)
	m.waitForMail(t, serve, 200)
	pids, err := os.ReadFile(filepath.Join(m.dataDir, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(pids), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.waitForAll(t, serve)
	if repeats := m.sink.Stats().Repeats; repeats != 0 {
		t.Errorf("%d repeats:\n%s", repeats, serve.output)
	}
}

// unknown adopts the database for a look at how many attempts had no known end.
func (m *mailing) unknown(t *testing.T) (sum int) {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{DataDir: m.dataDir})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Pool.QueryRow(t.Context(), `SELECT sum(unknown) FROM messages`).Scan(&sum)
	if err := errors.Join(err, db.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestServeEndsCleanly uses another command beside the service, which adopts its database server and
// leaves it running, and then ends the service.
func TestServeEndsCleanly(t *testing.T) {
	t.Parallel()
	address := "127.0.0.1:" + freePort(t)
	in := install(t, "COUNTERSIGN_LISTEN="+address)
	serve := in.serve(t)
	for range 2 {
		if p := in.progress(t); p.Total != 0 || len(p.PerDay) == 0 {
			t.Errorf("progress: %+v", p)
		}
	}
	if status, _ := get(t, "http://"+address+"/readyz"); status != http.StatusOK {
		t.Errorf("after another command has come and gone, /readyz answers %d:\n%s", status, serve.output)
	}
	if code := serve.terminate(t); code != 0 || strings.Contains(serve.output.String(), "level=ERROR") {
		t.Errorf("exit code %d:\n%s", code, serve.output)
	}
	in.expectNoServer(t)

	again := in.serve(t) // and finds everything in order
	if strings.Contains(again.output.String(), "level=ERROR") {
		t.Errorf("the second start says:\n%s", again.output)
	}
	again.kill()
}

func TestServeTellsAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	in := install(t,
		"COUNTERSIGN_LISTEN=8080",
		"COUNTERSIGN_PUBLIC_URL=http://connect.agency.example",
		"COUNTERSIGN_METRICS_LISTEN=everywhere",
		"COUNTERSIGN_VAULT_KEYS=first=c2hvcnQ=",
		"COUNTERSIGN_AGENCY_MAILBOX=agency",
		"COUNTERSIGN_SMTP_URL=http://user:s3cret@mail.example",
		"COUNTERSIGN_MAIL_REPLY_TO=nobody",
		"COUNTERSIGN_OAUTH_PKCE=maybe",
	)
	out, complaints, code := in.run(t, "serve")
	if code != 1 || out != "" {
		t.Errorf("exit code %d, printed %q", code, out)
	}
	for _, name := range []string{
		"LISTEN", "PUBLIC_URL", "METRICS_LISTEN", "VAULT_KEYS", "AGENCY_MAILBOX", "SMTP_URL", "MAIL_REPLY_TO", "OAUTH_PKCE",
	} {
		if !strings.Contains(complaints, "COUNTERSIGN_"+name+": ") {
			t.Errorf("%s is not mentioned", name)
		}
	}
	if t.Failed() || strings.Contains(complaints, "s3cret") || strings.Contains(complaints, "c2hvcnQ") {
		t.Errorf("it says:\n%s", complaints)
	}
	if _, err := os.Stat(in.dataDir); !os.IsNotExist(err) {
		t.Errorf("it has made its data folder all the same: %v", err)
	}
}

// progress is what countersign status says.
func (in *installation) progress(t *testing.T) (p provisioning.Progress) {
	t.Helper()
	out := in.mustRun(t, "status", "--json")
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return p
}

// expectNoServer fails the test if a process works in the installation's data folder, a moment after
// the program has ended.
func (in *installation) expectNoServer(t *testing.T) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		var alive []string
		links, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, in.dataDir) {
				alive = append(alive, filepath.Base(filepath.Dir(link)))
			}
		}
		if len(alive) == 0 {
			return
		}
		select {
		case <-deadline:
			t.Errorf("these processes are left behind: %v", alive)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// startSink runs a mail server that keeps what it gets, until the test ends.
func startSink(t *testing.T) (sink *mailsink.Sink, address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink = mailsink.New(mailsink.Options{})
	served := make(chan error, 1)
	go func() { served <- sink.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(sink.Shutdown(context.WithoutCancel(t.Context())), <-served); err != nil {
			t.Error(err)
		}
	})
	return sink, l.Addr().String()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// metric returns a counter of a running process, 0 if it has not begun to count.
func metric(t *testing.T, address, name string) int {
	t.Helper()
	_, text := get(t, "http://"+address+"/metrics")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\d+)$`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
