package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// office is an agency's whole mail: a database, a mailer, and the mail server of all owners.
type office struct {
	pool       *pgxpool.Pool
	store      *provisioning.Store
	inviter    *provisioning.Inviter
	importer   *provisioning.Importer
	stationery *notify.Stationery
	mailer     *notify.Mailer
	outbox     *notify.Outbox
	sink       *mailsink.Sink
	log        *journal

	mu     sync.Mutex
	counts map[notify.Result]int
}

func openOffice(tb testing.TB, o mailsink.Options) *office {
	tb.Helper()
	set, err := templates.New()
	if err != nil {
		tb.Fatal(err)
	}
	mailbox, err := provisioning.ParseMailbox("agency@agency.example")
	if err != nil {
		tb.Fatal(err)
	}
	pattern, err := provisioning.ParsePattern("{local}+{slug}@{domain}")
	if err != nil {
		tb.Fatal(err)
	}
	namer, err := provisioning.NewNamer(pattern, mailbox, 50)
	if err != nil {
		tb.Fatal(err)
	}
	pool := pgtest.New(tb)
	f := &office{
		pool: pool, store: &provisioning.Store{DB: pool}, sink: mailsink.New(o), log: &journal{},
		counts: make(map[notify.Result]int),
	}
	transport, err := smtp.New(smtp.Options{URL: f.serve(tb), MaxConns: 10, Hello: "tester.example"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := transport.Close(context.WithoutCancel(tb.Context())); err != nil {
			tb.Error(err)
		}
	})
	links := &authflow.Links{DB: pool, Key: bytes.Repeat([]byte{7}, 32), PublicURL: "https://connect.agency.example", Now: time.Now}
	f.stationery = &notify.Stationery{
		DB:        pool,
		Templates: set,
		Scopes:    []string{"account_read", "contact_data", "offline_access"},
		Settings: templates.Letterhead{
			Agency: "Agency", ReplyTo: "help@agency.example", Provider: "Constant Contact",
			ProviderHost: "constantcontact.com", Host: "connect.agency.example",
		},
		PublicURL: "https://connect.agency.example",
	}
	f.mailer = &notify.Mailer{
		DB:         pool,
		Linker:     links,
		Stationery: f.stationery,
		From:       "hello@agency.example",
		Reminders:  3,
		Now:        time.Now,
		Log:        slog.New(slog.NewTextHandler(f.log, nil)),
	}
	f.outbox = &notify.Outbox{
		DB:          pool,
		Mailer:      f.mailer,
		Sender:      transport,
		Connections: 10,
		Now:         time.Now,
		Log:         f.mailer.Log,
		Count: func(r notify.Result) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.counts[r]++
		},
	}
	f.inviter = &provisioning.Inviter{DB: pool, Linker: links, Mailer: f.mailer}
	f.importer = &provisioning.Importer{DB: pool, Namer: namer, Inviter: f.inviter}
	return f
}

// serve runs the mail server until the test ends and returns its URL.
func (f *office) serve(tb testing.TB) string {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.sink.Serve(l) }()
	tb.Cleanup(func() {
		if err := errors.Join(f.sink.Shutdown(context.WithoutCancel(tb.Context())), <-served); err != nil {
			tb.Error(err)
		}
	})
	return "smtp://" + l.Addr().String() + "?tls=none"
}

// counted returns how attempts ended so far.
func (f *office) counted() map[notify.Result]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// imports imports a roster and queues invitations.
func (f *office) imports(tb testing.TB, roster string) {
	tb.Helper()
	im, err := f.importer.Import(tb.Context(), strings.NewReader(roster), provisioning.ImportOptions{
		FileName: "roster.csv", Actor: provisioning.ActorCLI, Invite: true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	if im.Rejected > 0 {
		tb.Fatalf("rejected: %+v", im.Rejects)
	}
}

// many is a roster of n clients.
func many(n int) string {
	var b strings.Builder
	b.WriteString("ref,name,owner_name,owner_email\n")
	for i := range n {
		fmt.Fprintf(&b, "C%d,Client %[1]d,Owner %[1]d,owner%[1]d@clients.example\n", i)
	}
	return b.String()
}

// work sends mail until the test ends.
func (f *office) work(tb testing.TB) {
	tb.Helper()
	tb.Cleanup(run(tb, f.outbox))
}

// run runs an outbox until the function that it returns is called, which waits for its end.
func run(tb testing.TB, o *notify.Outbox) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
}

// ask returns the only value of a query.
func ask[V any](tb testing.TB, f *office, sql string, args ...any) (value V) {
	tb.Helper()
	if err := f.pool.QueryRow(tb.Context(), sql, args...).Scan(&value); err != nil {
		tb.Fatal(err)
	}
	return value
}

// journal is a log.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func eventually(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	const patience = time.Minute
	deadline := time.After(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !so() {
		select {
		case <-deadline:
			tb.Fatalf("not within %s: %s", patience, what)
		case <-ticker.C:
		}
	}
}
