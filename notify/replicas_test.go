package notify_test

import (
	"context"
	"flag"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/templates"
)

//nolint:gochecknoglobals // as the testing package's own flags
var (
	replica = flag.String("replica", "", "be a sender of mail on this database, for another test process")
	server  = flag.String("server", "", "the mail server of a -replica")
	mails   = flag.Int("mails", 4000, "how many mails TestReplicasKilledWhileSending sends")
)

// beReplica sends mail until it is killed.
func beReplica() error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, *replica)
	if err != nil {
		return err
	}
	set, err := templates.New()
	if err != nil {
		return err
	}
	transport, err := smtp.New(smtp.Options{URL: *server, MaxConns: 10, Hello: "tester.example"})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return (&notify.Outbox{
		DB: pool,
		Mailer: &notify.Mailer{
			DB: pool, Linker: theLink, From: "hello@agency.example", Reminders: 3, Now: time.Now, Log: log,
			Stationery: &notify.Stationery{DB: pool, Templates: set, Settings: templates.Letterhead{
				Agency: "Agency", ReplyTo: "help@agency.example", Provider: "Constant Contact", Host: "connect.agency.example",
			}},
		},
		Sender: transport, Connections: 10, Now: time.Now, Log: log, DeadAfter: 2 * time.Second, UnknownPause: time.Second,
	}).Run(ctx)
}

// TestReplicasKilledWhileSending has eight processes send at once, and kills one of them again and again. In the end
// every owner has a mail. Somebody has two only if the first was accepted in the instant of a kill, before that
// could be written down; and each such message counts as one whose outcome was unknown.
func TestReplicasKilledWhileSending(t *testing.T) {
	const processes = 8
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(*mails))
	var mu sync.Mutex
	deliveries := make(map[string]int) // by Message-ID
	sink := mailsink.New(mailsink.Options{MaxMessages: 1, Faults: func(m mailsink.Message) mailsink.Fault {
		mu.Lock()
		defer mu.Unlock()
		deliveries[strings.Trim(m.MessageID, "<>")]++
		return mailsink.NoFault
	}})
	url := serveSink(t, sink)

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, "-replica="+f.pool.Config().ConnString(), "-server="+url)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	running := make([]*exec.Cmd, processes)
	for i := range running {
		running[i] = start()
	}
	kill := func(i int) {
		_ = running[i].Process.Kill()
		_ = running[i].Wait() // It was killed, which is an error.
	}
	defer func() {
		for i := range running {
			kill(i)
		}
	}()
	left := func() int { return ask[int](t, f, `SELECT count(*) FROM messages WHERE ended_at IS NULL`) }
	kills := 0
	deadline := time.Now().Add(10 * time.Minute)
	for n := left(); n > 0 && time.Now().Before(deadline); n = left() {
		// At the end somebody has to live long enough to find what the dead have left.
		if n > *mails/20 {
			victim := rand.IntN(processes) //nolint:gosec // any will do
			kill(victim)
			running[victim] = start()
			kills++
		}
		<-time.After(rand.N(time.Second)) //nolint:gosec // any instant will do
	}

	rows, err := f.pool.Query(t.Context(), `SELECT id, state, unknown FROM messages`)
	if err != nil {
		t.Fatal(err)
	}
	type ended struct {
		ID      uuid.UUID
		State   notify.State
		Unknown int
	}
	messages, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ended])
	if err != nil {
		t.Fatal(err)
	}
	lost, repeats, unknown := 0, 0, 0
	mu.Lock()
	defer mu.Unlock()
	for _, m := range messages {
		n := deliveries[m.ID.String()+"@agency.example"]
		if n == 0 || m.State != notify.StateSent {
			lost++
		}
		if n > 1+m.Unknown {
			t.Errorf("message %s was sent %d times and its outcome was unknown %d times", m.ID, n, m.Unknown)
		}
		repeats += n - 1
		unknown += m.Unknown
	}
	t.Logf("%d mails, %d kills: %d lost, %d repeats, %d times the outcome was unknown", len(messages), kills, lost, repeats, unknown)
	if lost > 0 || len(messages) != *mails || kills == 0 {
		t.Errorf("%d of %d mails are lost after %d kills", lost, len(messages), kills)
	}
}

// serveSink runs a mail server until the test ends and returns its URL.
func serveSink(tb testing.TB, sink *mailsink.Sink) string {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() { _ = sink.Serve(l) }()
	tb.Cleanup(func() { _ = sink.Shutdown(context.WithoutCancel(tb.Context())) })
	return "smtp://" + l.Addr().String() + "?tls=none"
}
