package notify_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
)

func (f *office) overview(t *testing.T) notify.Overview {
	t.Helper()
	o, err := f.mailer.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// put changes the message to the client with the ref.
func (f *office) put(t *testing.T, ref, set string, args ...any) {
	t.Helper()
	f.exec(t, `UPDATE messages SET `+set+` WHERE client_id = (SELECT id FROM clients WHERE ref = '`+ref+`')`, args...)
}

const (
	deferred = `state = 'deferred', attempts = 1, error = $1`
	failed   = `state = 'failed', step = NULL, ended_at = clock_timestamp(), error = $1, returned = $2`
	noUser   = "mail server mx.example:25: RCPT TO answered 550 5.1.1 no such user"
	spam     = "mail server mx.example:25: end of message answered 550 5.7.1 looks like spam"
)

func TestOverview(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	nothing := notify.Overview{Deferrals: []notify.Trouble{}, Failures: []notify.Trouble{}, Refusals: []notify.Refusal{}}
	known := []gocmp.Option{cmpopts.IgnoreUnexported(notify.Overview{}), cmpopts.IgnoreFields(notify.Refusal{}, "Last")}
	if diff := gocmp.Diff(nothing, f.overview(t), known...); diff != "" {
		t.Errorf("of an empty office (-want +got):\n%s", diff)
	}
	f.imports(t, many(12))
	client := func(ref string) notify.TroubledClient {
		c, err := f.store.Client(t.Context(), "ref:"+ref)
		if err != nil {
			t.Fatal(err)
		}
		return notify.TroubledClient{ID: c.ID, Name: c.Name}
	}
	full := "mail server mx.example:25: RCPT TO answered 452 4.2.2 over quota"
	f.exec(t, `UPDATE messages SET sender_id = gen_random_uuid() WHERE client_id = (SELECT id FROM clients WHERE ref = 'C1')`)
	f.put(t, "C2", deferred, full)
	f.put(t, "C3", deferred, full)
	f.put(t, "C4", `state = 'unknown', attempts = 1, error = $1`, "mail server mx.example:25: end of message: EOF")
	f.put(t, "C5", failed, noUser, "bounced")
	f.put(t, "C6", failed, spam, nil)
	f.put(t, "C7", failed, spam, nil)
	f.put(t, "C8", `state = 'sent', sent_at = now(), ended_at = now()`)
	f.put(t, "C9", `state = 'sent', sent_at = now(), ended_at = now() - interval '25 hours'`)
	f.put(t, "C10", `state = 'cancelled', step = NULL, ended_at = now()`)
	for i, r := range []struct {
		kind, recipient, said string
		age                   time.Duration
	}{
		{"policy", "ann@Busy.example", "too new", time.Hour},
		{"policy", "bob@strict.example", "blocked", 3 * time.Hour},
		{"policy", "cleo@strict.example", "blocked again", 2 * time.Hour},
		{"policy", "dan@strict.example", "long ago", 15 * 24 * time.Hour},
		{"unparsed", "", "", 0},
		{"reply", "", "", 0},
		{"hard", "eve@strict.example", "no such user", 0},
	} {
		at := time.Now().Add(-r.age)
		f.exec(t, `INSERT INTO returns (id, at, digest, source, kind, recipient, diagnostic, content)
			VALUES ($1::uuid, $2, $3, 'pipe', $4, $5, $6, CASE WHEN $4 IN ('unparsed', 'reply') THEN '\x00'::bytea END)`,
			fmt.Sprintf("%012x70008000%012d", at.UnixMilli(), i),
			at, []byte{byte(i)}, r.kind, r.recipient, r.said)
	}
	got := f.overview(t)
	want := notify.Overview{
		Queued: 2, Sending: 1, Deferred: 2, Unknown: 1,
		Today: notify.MailDay{Sent: 1, Failed: 3, Cancelled: 1},
		Deferrals: []notify.Trouble{
			{Cause: notify.CauseMailbox, N: 2, Said: full, Clients: []notify.TroubledClient{client("C2"), client("C3")}},
			{Cause: notify.CauseBroken, N: 1, Said: "mail server mx.example:25: end of message: EOF", Clients: []notify.TroubledClient{client("C4")}},
		},
		Failures: []notify.Trouble{
			{Cause: notify.CauseUs, N: 2, Said: spam, Clients: []notify.TroubledClient{client("C7"), client("C6")}},
			{Cause: notify.CauseAddress, N: 1, Said: noUser, Clients: []notify.TroubledClient{client("C5")}},
		},
		Refusals: []notify.Refusal{{Domain: "strict.example", N: 2, Said: "blocked again"}, {Domain: "busy.example", N: 1, Said: "too new"}},
		Unread:   2,
	}
	opts := append(known, cmpopts.IgnoreFields(notify.Trouble{}, "Words", "Cure"))
	if diff := gocmp.Diff(want, got, opts...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// A failure is past when something else was sent, or nothing needs to be.
	if _, err := f.inviter.Invite(t.Context(), provisioning.Selection{Clients: []string{"C6"}}, provisioning.ActorCLI, false); err != nil {
		t.Fatal(err)
	}
	f.exec(t, `UPDATE clients SET stage = 'authorized', reason = NULL WHERE ref = 'C5'`)
	got = f.overview(t)
	if len(got.Failures) != 1 || got.Failures[0].N != 1 || got.Failures[0].Clients[0] != client("C7") {
		t.Errorf("failures that are left: %+v", got.Failures)
	}
}

// TestCauses reads what senders write down.
func TestCauses(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(1))
	const server = "mail server mx.example:25: "
	for said, want := range map[string]notify.Cause{
		server + "connect: dial tcp: connection refused":                       notify.CauseServer,
		server + "greeting answered 554 go away":                               notify.CauseServer,
		server + "TLS: certificate has expired":                                notify.CauseServer,
		server + "waiting for a connection: context deadline exceeded":         notify.CauseServer,
		server + "AUTH answered 535 5.7.8 wrong password":                      notify.CauseSignIn,
		server + "RCPT TO answered 530 5.7.0 authentication required":          notify.CauseSignIn,
		server + "MAIL FROM answered 553 5.7.1 sender address rejected":        notify.CauseSender,
		server + "RCPT TO answered 554 5.7.1 Relay access denied":              notify.CauseSender,
		server + "RCPT TO answered 550 5.1.8 sender's domain does not exist":   notify.CauseSender,
		server + "MAIL FROM answered 421 4.7.0 too many connections":           notify.CauseBusy,
		server + "RCPT TO answered 450 4.7.1 greylisted":                       notify.CauseBusy,
		server + "DATA answered 451 try again later":                           notify.CauseBusy,
		server + "RCPT TO answered 450 4.1.2 domain not found":                 notify.CauseRoute,
		server + "RCPT TO answered 451 4.4.1 no answer from host":              notify.CauseRoute,
		server + "RCPT TO answered 452 4.2.2 over quota":                       notify.CauseMailbox,
		server + "end of message answered 552 mailbox full":                    notify.CauseMailbox,
		server + "RCPT TO answered 450 4.2.1 mailbox disabled":                 notify.CauseMailbox,
		server + "end of message answered 550 5.7.26 unauthenticated":          notify.CauseUs,
		server + "end of message answered 552 5.3.4 message too big":           notify.CauseUs,
		server + "RCPT TO answered 550 5.1.1 no such user":                     notify.CauseAddress,
		server + "RCPT TO answered 554 transaction failed":                     notify.CauseOther,
		server + "end of message: unexpected EOF":                              notify.CauseBroken,
		"recipient \"x\": mail: missing '@' or angle-addr":                     notify.CauseText,
		"mail server [2001:db8::1]:25: RCPT TO answered 450 4.7.1 greylisted ": notify.CauseBusy,
	} {
		f.put(t, "C0", deferred, said)
		got := f.overview(t).Deferrals
		if len(got) != 1 || got[0].Cause != want || got[0].Said != said {
			t.Errorf("%s is %+v, want %s", said, got, want)
			continue
		}
		if !strings.Contains(got[0].Cure, "by themselves") && want != notify.CauseAddress || got[0].Words == "" {
			t.Errorf("%s in words: %+v", said, got[0])
		}
	}
	f.put(t, "C0", failed, spam, nil)
	if got := f.overview(t).Failures; len(got) != 1 || strings.Contains(got[0].Cure, "by themselves") {
		t.Errorf("given up, in words: %+v", got)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	pace := notify.Pace{Ramp: 100}
	expect := func(p notify.Pace, most, spent int, limited bool) {
		t.Helper()
		m, s, ok := f.overview(t).Quota(p)
		if ok != limited || ok && (m != most || s != spent) {
			t.Errorf("%d of %d, limited: %t; want %d of %d, %t", s, m, ok, spent, most, limited)
		}
	}
	expect(notify.Pace{}, 0, 0, false)
	expect(pace, 100, 0, true)
	f.exec(t, `INSERT INTO mail_pace VALUES ('*', now(), now(), (now() AT TIME ZONE 'UTC')::date, 2, 7)`)
	expect(pace, 400, 7, true)
	f.exec(t, `UPDATE mail_pace SET day = day - 1`)
	expect(pace, 800, 0, true)
	f.exec(t, `UPDATE mail_pace SET days = 100`)
	expect(pace, 0, 0, false)
}

// explainer explains what is asked before it asks.
type explainer struct {
	*pgxpool.Pool

	t     *testing.T
	plans []string
}

func (e *explainer) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	e.explain(ctx, sql, args)
	return e.Pool.Query(ctx, sql, args...) //nolint:rowserrcheck // The caller does.
}

func (e *explainer) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	e.explain(ctx, sql, args)
	return e.Pool.QueryRow(ctx, sql, args...)
}

func (e *explainer) explain(ctx context.Context, sql string, args []any) {
	e.t.Helper()
	rows, err := e.Pool.Query(ctx, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+sql, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		e.t.Fatal(err)
	}
	e.plans = append(e.plans, strings.Join(lines, "\n"))
}

// TestOverviewOfManyMails: what was sent long ago is not read.
func TestOverviewOfManyMails(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(100))
	// Every tenth failed, so that it is tempting to read all of them.
	f.exec(t, `
		INSERT INTO messages (id, client_id, invitation_id, kind, state, to_name, to_address, domain, client_name, error, created_at, sent_at, ended_at)
		SELECT gen_random_uuid(), client_id, invitation_id, kind, CASE n % 10 WHEN 0 THEN 'failed' ELSE 'sent' END, to_name, to_address,
			domain, client_name, $1, now() - make_interval(mins => n + 1440), now(), now() - make_interval(mins => n + 1440)
		FROM messages, generate_series(1, 400) n`, spam)
	f.exec(t, `INSERT INTO returns (id, digest, source, kind)
		SELECT gen_random_uuid(), uuid_send(gen_random_uuid()), 'pipe', 'hard' FROM generate_series(1, 20000)`)
	f.put(t, "C1", deferred, spam)
	f.exec(t, `ANALYZE`)
	e := &explainer{Pool: f.pool, t: t}
	f.mailer.DB = e
	if o := f.overview(t); o.Queued != 99 || o.Deferred != 1 {
		t.Errorf("%+v", o)
	}
	for _, plan := range e.plans {
		if regexp.MustCompile(`Seq Scan on (messages|returns)`).MatchString(plan) {
			t.Errorf("all is read:\n%s", plan)
		}
	}
}
