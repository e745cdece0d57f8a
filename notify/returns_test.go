package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/bounce"
	"github.com/countersign/countersign/provisioning"
)

// letterbox is where mail comes back to: one client, who was sent one message.
type letterbox struct {
	pool    *pgxpool.Pool
	returns *notify.Returns
	paths   *notify.ReturnPaths
	log     *journal
	client  uuid.UUID
	message uuid.UUID

	mu      sync.Mutex
	counts  map[bounce.Kind]int
	bounces int
	broken  error // what the breaker answers
}

func openLetterbox(tb testing.TB) *letterbox {
	tb.Helper()
	paths, err := notify.NewReturnPaths("bounce@mail.agency.example", returnKey)
	if err != nil {
		tb.Fatal(err)
	}
	b := &letterbox{pool: pgtest.New(tb), paths: paths, log: &journal{}, counts: map[bounce.Kind]int{}}
	b.returns = &notify.Returns{
		DB: b.pool, Paths: paths, Control: b, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		Count: func(k bounce.Kind) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.counts[k]++
		},
	}
	b.client, b.message = b.mailed(tb, "bea@acme.example")
	return b
}

// Bounced implements notify.Breaker.
func (b *letterbox) Bounced(context.Context, pgx.Tx, uuid.UUID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bounces++
	return b.broken
}

// mailed makes an invited client and the message that was sent to the owner.
func (b *letterbox) mailed(tb testing.TB, owner string) (client, message uuid.UUID) {
	tb.Helper()
	client, message = uuid.New(), uuid.New()
	b.exec(tb, `
		INSERT INTO clients (id, name, owner_email, username, stage, invited_at, search)
		VALUES ($1, $2, $2, 'agency+' || $3 || '@agency.example', 'invited', now(), '')`, client, owner, client.String())
	b.exec(tb, `
		INSERT INTO messages (id, client_id, kind, state, to_name, to_address, client_name, domain, sent_at, ended_at)
		VALUES ($1, $2, 'invitation', 'sent', '', $3, '', 'acme.example', now(), now())`, message, client, owner)
	return client, message
}

func (b *letterbox) exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	if _, err := b.pool.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatal(err)
	}
}

func (b *letterbox) one(tb testing.TB, sql string, args ...any) (value string) {
	tb.Helper()
	if err := b.pool.QueryRow(tb.Context(), sql, args...).Scan(&value); err != nil {
		tb.Fatal(err)
	}
	return value
}

// bounce is the address of the message's reports.
func (b *letterbox) bounce() string { return b.paths.Bounce(b.message) }

// take takes a mail and returns what it came to.
func (b *letterbox) take(tb testing.TB, mail string) notify.Return {
	tb.Helper()
	got, err := b.returns.Take(tb.Context(), strings.NewReader(mail))
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// state is what is known of the client and the message.
type state struct {
	Stage, Events, Returned, OptedOut string
	Stored                            int
}

func (b *letterbox) state(tb testing.TB) (s state) {
	tb.Helper()
	err := b.pool.QueryRow(tb.Context(), `
		SELECT
			concat_ws('/', c.stage, c.reason),
			coalesce((SELECT string_agg(kind, ' ' ORDER BY id) FROM events WHERE client_id = c.id), ''),
			coalesce((SELECT returned FROM messages WHERE id = $2), ''),
			coalesce(c.opted_out, ''),
			(SELECT count(*) FROM returns)
		FROM clients c
		WHERE c.id = $1`, b.client, b.message).Scan(&s.Stage, &s.Events, &s.Returned, &s.OptedOut, &s.Stored)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (b *letterbox) expect(tb testing.TB, want state) {
	tb.Helper()
	if diff := gocmp.Diff(want, b.state(tb)); diff != "" {
		tb.Errorf("(-want +got):\n%s", diff)
	}
}

// dsn is a delivery report to an address, about recipients: an action, a status, what was said, and the address.
func dsn(to string, recipients ...[4]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Return-Path: <>\r\nFrom: MAILER-DAEMON@relay.example\r\nTo: %s\r\nSubject: Undelivered\r\nAuto-Submitted: auto-replied\r\n"+
		"Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n"+
		"--x\r\n\r\nIt did not work.\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n", to)
	for _, r := range recipients {
		fmt.Fprintf(&b, "\r\nFinal-Recipient: rfc822; %s\r\nAction: %s\r\nStatus: %s\r\nDiagnostic-Code: smtp; %s\r\n", r[3], r[0], r[1], r[2])
	}
	return b.String() + "\r\n--x--\r\n"
}

func hard(to string) string {
	return dsn(to, [4]string{"failed", "5.1.1", "550 5.1.1 User unknown", "bea@acme.example"})
}

func mailTo(to, headers, body string) string {
	return "Return-Path: <>\r\nDelivered-To: " + to + "\r\nFrom: Bea <bea@acme.example>\r\n" + headers + "\r\n" + body + "\r\n"
}

func complaint(to, sender string) string {
	return "From: feedback@isp.example\r\nTo: " + to + "\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=x\r\n\r\n" +
		"--x\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\nOriginal-Mail-From: <" + sender + ">\r\n" +
		"--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: Please\r\n\r\n--x--\r\n"
}

func TestReturns(t *testing.T) {
	t.Parallel()
	untouched := state{Stage: "invited"}
	for name, test := range map[string]struct {
		mail func(b *letterbox) string
		kind bounce.Kind
		want state
		read bool // kept for reading
	}{
		"hard": {
			func(b *letterbox) string { return hard(b.bounce()) },
			bounce.Hard,
			state{Stage: "stalled/bounced", Events: "bounced", Returned: "bounced", Stored: 1},
			false,
		},
		"hard, in capitals": {
			func(b *letterbox) string { return hard(strings.ToUpper(b.bounce())) },
			bounce.Hard,
			state{Stage: "stalled/bounced", Events: "bounced", Returned: "bounced", Stored: 1},
			false,
		},
		"policy": {
			func(b *letterbox) string {
				return dsn(b.bounce(), [4]string{"failed", "5.7.1", "554 5.7.1 blocked using bl.example", "bea@acme.example"})
			},
			bounce.Policy,
			state{Stage: "invited", Events: "mail_objected", Returned: "refused", Stored: 1},
			false,
		},
		"soft": {
			func(b *letterbox) string {
				return dsn(b.bounce(), [4]string{"failed", "5.2.2", "552 5.2.2 Over quota", "bea@acme.example"})
			},
			bounce.Soft,
			state{Stage: "invited", Events: "mail_delayed", Stored: 1},
			false,
		},
		"delayed": {
			func(b *letterbox) string {
				return dsn(b.bounce(), [4]string{"delayed", "4.4.1", "timed out", "bea@acme.example"})
			},
			bounce.Delayed,
			state{Stage: "invited", Events: "mail_delayed", Stored: 1},
			false,
		},
		"delivered": {
			func(b *letterbox) string {
				return dsn(b.bounce(), [4]string{"delivered", "2.1.5", "250 Ok", "bea@acme.example"})
			},
			bounce.Delivered,
			state{Stage: "invited", Stored: 1},
			false,
		},
		"several recipients": {
			func(b *letterbox) string {
				return dsn(b.bounce(), [4]string{"delivered", "2.1.5", "250 Ok", "other@acme.example"},
					[4]string{"failed", "5.1.1", "550 5.1.1 User unknown", "BEA@acme.example"})
			},
			bounce.Hard,
			state{Stage: "stalled/bounced", Events: "bounced", Returned: "bounced", Stored: 1},
			false,
		},
		"out of office": {
			func(b *letterbox) string {
				return mailTo(b.bounce(), "Subject: Out of office\r\nAuto-Submitted: auto-replied\r\n", "Away.")
			},
			bounce.AutoReply,
			state{Stage: "invited", Events: "auto_reply", Stored: 1},
			false,
		},
		"challenge": {
			func(b *letterbox) string {
				return mailTo(b.bounce(), "Subject: Please confirm your message\r\nAuto-Submitted: auto-replied\r\n", "Click.")
			},
			bounce.Challenge,
			state{Stage: "invited", Events: "auto_reply", Stored: 1},
			true,
		},
		"complaint": {
			func(b *letterbox) string { return complaint(b.bounce(), "bounce@mail.agency.example") },
			bounce.Complaint,
			state{
				Stage: "stalled/unsubscribed", Events: "complained unsubscribed", Returned: "complained", OptedOut: "unsubscribed", Stored: 1,
			},
			false,
		},
		"complaint to the address for complaints": {
			func(b *letterbox) string { return complaint("fbl@agency.example", b.bounce()) },
			bounce.Complaint,
			state{
				Stage: "stalled/unsubscribed", Events: "complained unsubscribed", Returned: "complained", OptedOut: "unsubscribed", Stored: 1,
			},
			false,
		},
		"unsubscribe": {
			func(b *letterbox) string {
				return mailTo(b.paths.Unsubscribe(b.message), "Subject: unsubscribe\r\n", "")
			},
			notify.KindUnsubscribe,
			state{Stage: "stalled/unsubscribed", Events: "unsubscribed", OptedOut: "unsubscribed", Stored: 1},
			false,
		},
		"unsubscribe, written by a program": {
			func(b *letterbox) string {
				return mailTo(b.paths.Unsubscribe(b.message), "Subject: unsubscribe\r\nAuto-Submitted: auto-generated\r\n", "")
			},
			notify.KindUnsubscribe,
			state{Stage: "stalled/unsubscribed", Events: "unsubscribed", OptedOut: "unsubscribed", Stored: 1},
			false,
		},
		"a person": {
			func(b *letterbox) string { return mailTo(b.bounce(), "Subject: Re: Please\r\n", "Who are you?") },
			bounce.Reply,
			state{Stage: "invited", Stored: 1},
			true,
		},
		"no sense": {
			func(b *letterbox) string {
				return mailTo(b.bounce(), "Content-Type: multipart/report; boundary=x\r\n", "--x\r\n")
			},
			bounce.Unparsed,
			state{Stage: "invited", Stored: 1},
			true,
		},
		"a report without a tag": {
			func(*letterbox) string { return hard("bounce@mail.agency.example") },
			notify.KindUnmatched,
			state{Stage: "invited", Stored: 1},
			true,
		},
		"a person who knows the bounce address": {
			func(*letterbox) string { return mailTo("bounce@mail.agency.example", "Subject: Buy\r\n", "Buy!") },
			notify.KindForeign, untouched, false,
		},
		"somebody else's mail": {
			func(*letterbox) string { return mailTo("agency+acme@agency.example", "Subject: Hello\r\n", "Hello") },
			notify.KindForeign, untouched, false,
		},
		"a report to somebody else that names the message": {
			func(b *letterbox) string {
				return strings.Replace(hard("agency@agency.example"), "\r\n--x--", "\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n"+
					"Message-ID: <"+b.message.String()+"@agency.example>\r\nReturn-Path: <"+b.bounce()+">\r\n\r\n--x--", 1)
			},
			notify.KindForeign, untouched, false,
		},
		"forged": {
			func(b *letterbox) string { return hard(forge(b.bounce())) },
			notify.KindForged, untouched, false,
		},
		"forged, through the bare mailbox": {
			func(b *letterbox) string {
				return "Delivered-To: bounce@mail.agency.example\r\n" + hard(forge(b.bounce()))
			},
			notify.KindForged, untouched, false,
		},
		"a forged complaint": {
			func(b *letterbox) string { return complaint("bounce@mail.agency.example", forge(b.bounce())) },
			notify.KindForged, untouched, false,
		},
		"a report to the address for unsubscribing": {
			func(b *letterbox) string { return hard(b.paths.Unsubscribe(b.message)) },
			notify.KindForeign, untouched, false,
		},
		"a message that is gone": {
			func(b *letterbox) string { return hard(b.paths.Bounce(uuid.New())) },
			notify.KindForeign, untouched, false,
		},
		"nothing": {func(*letterbox) string { return "" }, notify.KindForeign, untouched, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openLetterbox(t)
			got := b.take(t, test.mail(b))
			if got.Kind != test.kind || got.Readable != test.read {
				t.Errorf("taken as %s, readable %t; want %s, %t", got.Kind, got.Readable, test.kind, test.read)
			}
			b.expect(t, test.want)
			unread, err := b.returns.Unread(t.Context(), uuid.Nil, 10)
			if err != nil {
				t.Fatal(err)
			}
			if (len(unread) == 1) != test.read {
				t.Errorf("unread: %+v", unread)
			}
			if b.counts[test.kind] != 1 || len(b.counts) != 1 {
				t.Errorf("counted %v", b.counts)
			}
			if want := map[bool]int{true: 1}[test.kind == bounce.Hard]; b.bounces != want {
				t.Errorf("the breaker was told %d times, want %d", b.bounces, want)
			}
			if warned := strings.Contains(b.log.String(), "level=WARN"); warned != (test.kind == bounce.Policy) {
				t.Errorf("log: %s", b.log)
			}
		})
	}
}

// forge changes the last character of an address's tag.
func forge(address string) string {
	local, domain, _ := strings.Cut(address, "@")
	last := "a"
	if strings.HasSuffix(local, last) {
		last = "b"
	}
	return local[:len(local)-1] + last + "@" + domain
}

// TestReturnInWords looks at what an operator gets to see of a bounce.
func TestReturnInWords(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	b.take(t, hard(b.bounce()))
	list, err := b.returns.OfClient(t.Context(), b.client)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	got := list[0]
	want := "The mail server of acme.example says that there is no such mailbox. The report says: 550 5.1.1 User unknown"
	if got.Diagnostic != want || got.Status != "5.1.1" || got.Recipient != "bea@acme.example" || *got.ClientName != "bea@acme.example" || got.Source != notify.SourcePipe {
		t.Errorf("%+v", got)
	}
	detail := b.one(t, `SELECT detail::text FROM events WHERE kind = 'bounced'`)
	for _, part := range []string{"says that there is no such mailbox.", "550 5.1.1 User unknown", "bea@acme.example"} {
		if !strings.Contains(detail, part) {
			t.Errorf("the event says %s", detail)
		}
	}
}

// TestTakenBefore: the same mail changes nothing again, wherever it comes from; another one of the same kind has no effect.
func TestTakenBefore(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	b.take(t, hard(b.bounce()))
	if _, err := b.returns.Take(t.Context(), strings.NewReader(hard(b.bounce()))); !errors.Is(err, notify.ErrTakenBefore) {
		t.Errorf("once more: %v", err)
	}
	if err := b.returns.TakeFrom(t.Context(), "imaps://bounce@mail", 1, 7, []byte(hard(b.bounce())), false); err != nil {
		t.Error(err)
	}
	want := state{Stage: "stalled/bounced", Events: "bounced", Returned: "bounced", Stored: 1}
	b.expect(t, want)
	b.take(t, "X-Other: copy\r\n"+hard(b.bounce()))
	want.Stored = 2
	b.expect(t, want)
	if b.bounces != 1 || b.counts[bounce.Hard] != 2 {
		t.Errorf("the breaker was told %d times, counted %v", b.bounces, b.counts)
	}
}

func TestManyAutoRepliesAreOneEvent(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	for i := range 3 {
		b.take(t, mailTo(b.bounce(), fmt.Sprintf("Subject: Away %d\r\nAuto-Submitted: auto-replied\r\n", i), "Away."))
	}
	b.expect(t, state{Stage: "invited", Events: "auto_reply", Stored: 3})
}

// TestOldAddress: what an address says that is no longer the owner's moves nobody.
func TestOldAddress(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mail func(b *letterbox) string
		want state
	}{
		"hard": {
			func(b *letterbox) string { return hard(b.bounce()) },
			state{Stage: "invited", Events: "bounced", Returned: "bounced", Stored: 1},
		},
		"complaint": {
			func(b *letterbox) string { return complaint(b.bounce(), "") },
			state{Stage: "invited", Events: "complained", Returned: "complained", Stored: 1},
		},
		"unsubscribe": {
			func(b *letterbox) string { return mailTo(b.paths.Unsubscribe(b.message), "", "") },
			state{Stage: "invited", Stored: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openLetterbox(t)
			b.exec(t, `UPDATE clients SET owner_email = 'new@acme.example'`)
			b.take(t, test.mail(b))
			b.expect(t, test.want)
		})
	}
	t.Run("the same in capitals", func(t *testing.T) {
		t.Parallel()
		b := openLetterbox(t)
		b.exec(t, `UPDATE clients SET owner_email = 'BEA@Acme.example'`)
		b.take(t, hard(b.bounce()))
		b.expect(t, state{Stage: "stalled/bounced", Events: "bounced", Returned: "bounced", Stored: 1})
	})
}

// TestAuthorizedStays: a late bounce moves nobody who has consented.
func TestAuthorizedStays(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	b.exec(t, `UPDATE clients SET stage = 'authorized', authorized_at = now()`)
	b.take(t, hard(b.bounce()))
	b.expect(t, state{Stage: "authorized", Events: "bounced", Returned: "bounced", Stored: 1})
}

// TestDigestReturns: a digest has no client.
func TestDigestReturns(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	digest := uuid.New()
	b.exec(t, `
		INSERT INTO messages (id, kind, step, state, to_name, to_address, client_name, domain)
		VALUES ($1, 'digest', 'today', 'sent', '', 'op@agency.example', '', 'agency.example')`, digest)
	for _, mail := range []string{hard(b.paths.Bounce(digest)), complaint(b.paths.Bounce(digest), ""), mailTo(b.paths.Unsubscribe(digest), "", "")} {
		b.take(t, mail)
	}
	b.expect(t, state{Stage: "invited", Stored: 3})
	if got := b.one(t, `SELECT returned FROM messages WHERE kind = 'digest'`); got != "bounced" {
		t.Error(got)
	}
	if !strings.Contains(b.log.String(), "digest could not be delivered") {
		t.Errorf("log: %s", b.log)
	}
}

// TestBrokenBreaker: nothing is stored unless all of it is.
func TestBrokenBreaker(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	b.broken = errors.New("broken")
	err := b.returns.TakeFrom(t.Context(), "mailbox", 1, 5, []byte(hard(b.bounce())), false)
	if !errors.Is(err, b.broken) {
		t.Errorf("%v", err)
	}
	b.expect(t, state{Stage: "invited"})
	if validity, uid, err := notify.Bookmark(t.Context(), b.returns.DB, "mailbox"); validity != 0 || uid != 0 || err != nil {
		t.Error(validity, uid, err)
	}
	b.broken = nil
	if err := b.returns.TakeFrom(t.Context(), "mailbox", 1, 5, []byte(hard(b.bounce())), false); err != nil {
		t.Error(err)
	}
	b.expect(t, state{Stage: "stalled/bounced", Events: "bounced", Returned: "bounced", Stored: 1})
}

func TestBookmark(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	const most = 1<<32 - 1
	for _, step := range []struct{ validity, uid, wantValidity, want uint32 }{
		{7, 10, 7, 10},
		{7, 9, 7, 10}, // a reader that has fallen behind
		{7, 11, 7, 11},
		{8, 3, 8, 3}, // the mailbox numbers its messages anew
		{8, most, 8, most},
		{most, 1, most, 1},
	} {
		if err := b.returns.TakeFrom(t.Context(), "a", step.validity, step.uid, []byte("Subject: none of ours\r\n\r\n"), false); err != nil {
			t.Fatal(err)
		}
		validity, uid, err := notify.Bookmark(t.Context(), b.returns.DB, "a")
		if err != nil || validity != step.wantValidity || uid != step.want {
			t.Errorf("after %+v: %d, %d, %v", step, validity, uid, err)
		}
	}
	if err := b.returns.TakeFrom(t.Context(), "a", most, 2, nil, true); err != nil {
		t.Error(err)
	}
	if !strings.Contains(b.log.String(), "could not be read") {
		t.Errorf("log: %s", b.log)
	}
	if validity, uid, err := notify.Bookmark(t.Context(), b.returns.DB, "b"); validity != 0 || uid != 0 || err != nil {
		t.Error("another mailbox:", validity, uid, err)
	}
}

// TestReading follows a mail of a person to an operator.
func TestReading(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	first := b.take(t, mailTo(b.bounce(), "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n", "Who are you?\r\n"+strings.Repeat("long ", 100_000)))
	second := b.take(t, mailTo(b.bounce(), "Subject: Two\r\n", "Hello\x00?"))
	list := func(before uuid.UUID) (ids []uuid.UUID) {
		unread, err := b.returns.Unread(t.Context(), before, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range unread {
			ids = append(ids, r.ID)
		}
		return ids
	}
	if diff := gocmp.Diff([]uuid.UUID{second.ID}, list(uuid.Nil)); diff != "" {
		t.Error(diff)
	}
	if diff := gocmp.Diff([]uuid.UUID{first.ID}, list(second.ID)); diff != "" {
		t.Error(diff)
	}
	got, text, err := b.returns.Read(t.Context(), first.ID)
	if err != nil || got.Subject != "Grüße" || !strings.HasPrefix(text, "Who are you?\nlong long") || *got.ClientID != b.client {
		t.Errorf("%+v %.40q %v", got, text, err)
	}
	if kept := b.one(t, `SELECT length(content)::text FROM returns WHERE id = $1`, first.ID); kept != "65536" {
		t.Errorf("%s bytes are kept", kept)
	}
	for _, who := range []string{"ada@agency.example", "eve@agency.example"} {
		if err := b.returns.PutAside(t.Context(), second.ID, provisioning.Operator(who)); err != nil {
			t.Error(err)
		}
	}
	if got, _, err = b.returns.Read(t.Context(), second.ID); err != nil || got.ReadAt == nil || *got.ReadBy != "operator ada@agency.example" {
		t.Errorf("%+v %v", got, err)
	}
	if diff := gocmp.Diff([]uuid.UUID{first.ID}, list(uuid.Nil)); diff != "" {
		t.Error(diff)
	}
	if _, _, err := b.returns.Read(t.Context(), uuid.New()); !errors.Is(err, provisioning.ErrNotFound) {
		t.Error(err)
	}
	if err := b.returns.PutAside(t.Context(), uuid.New(), provisioning.ActorCLI); !errors.Is(err, provisioning.ErrNotFound) {
		t.Error(err)
	}
}

// TestReadingTellsNoLink: whoever may read what people answer may not act as the owner, or as the operator, whose mail they quote.
func TestReadingTellsNoLink(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	const owners, operators = "r23tykmjyjghyrbawbv4xnul3a7cnzhg", "r9-_kmJYjghyrbawbv4xnul3a7cnzhgABCDEFGHIJK4"
	got := b.take(t, mailTo(b.bounce(), "Subject: Re: Hello\r\n", "Is this real?\r\n"+
		"> https://connect.example.com/i/"+owners+"/unsubscribe\r\n"+
		"> https://connect.example.com/i/"+owners[:20]+"\r\n> "+owners[20:]+"\r\n"+
		"> https://guard.example.com/?url=https%3A%2F%2Fconnect.example.com%2Fi%2F"+owners+"\r\n"+
		"> https://connect.example.com/admin/enter/"+operators+"\r\n"+
		"> https://connect.example.com/i/see-you\r\n"))
	_, text, err := b.returns.Read(t.Context(), got.ID)
	if err != nil {
		t.Fatal(err)
	}
	const want = `Is this real?
> https://connect.example.com/i/only-in-the-mail/unsubscribe
> https://connect.example.com/i/only-in-the-mail
> https://guard.example.com/?url=https%3A%2F%2Fconnect.example.com%2Fi%2Fonly-in-the-mail
> https://connect.example.com/admin/enter/only-in-the-mail
> https://connect.example.com/i/see-you`
	if diff := gocmp.Diff(want, text); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestPipeIsReadToItsEnd: the mail server that writes into it would take anything else for a failure.
func TestPipeIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	mail := &io.LimitedReader{R: io.MultiReader(strings.NewReader(hard(b.bounce())), endlessly{}), N: 10 << 20}
	if got, err := b.returns.Take(t.Context(), mail); err != nil || got.Kind != bounce.Hard || mail.N != 0 {
		t.Errorf("%s, %v, %d bytes left", got.Kind, err, mail.N)
	}
	long := mailTo(b.bounce(), "Content-Type: multipart/report; boundary=x\r\n", "--x\r\n\r\n") + strings.Repeat("x", 2<<20)
	if got := b.take(t, long); !strings.Contains(got.Diagnostic, "Only its beginning was read") {
		t.Errorf("%+v", got)
	}
}

type endlessly struct{}

func (endlessly) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

// TestReplicasTakeTheSame: many read the same mails at once, beside senders who write to the same clients.
func TestReplicasTakeTheSame(t *testing.T) {
	t.Parallel()
	b := openLetterbox(t)
	const replicas, mails = 4, 20
	clients := make([]uuid.UUID, mails)
	letters := make([]string, mails)
	for i := range mails {
		client, message := b.mailed(t, fmt.Sprintf("o%d@acme.example", i))
		clients[i], letters[i] = client, dsn(b.paths.Bounce(message), [4]string{"failed", "5.1.1", "550 5.1.1 User unknown", fmt.Sprintf("o%d@acme.example", i)})
	}
	var all sync.WaitGroup
	for range replicas {
		all.Go(func() {
			for i, letter := range letters {
				if err := b.returns.TakeFrom(t.Context(), "mailbox", 1, uint32(i+1), []byte(letter), false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 10 {
			err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
				_, err := provisioning.AdvanceAll(t.Context(), tx, clients, provisioning.Change{Event: provisioning.EventMailQueued, Actor: provisioning.ActorSystem})
				if err == nil {
					_, err = tx.Exec(t.Context(), `UPDATE messages SET attempts = attempts + 1 WHERE client_id = ANY ($1)`, clients)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if got := b.one(t, `SELECT count(*)::text FROM events WHERE kind = 'bounced'`); got != "20" {
		t.Errorf("%s events", got)
	}
	if got := b.one(t, `SELECT count(*)::text FROM returns`); got != "20" || b.bounces != mails {
		t.Errorf("%s returns, the breaker was told %d times", got, b.bounces)
	}
	if _, uid, err := notify.Bookmark(t.Context(), b.returns.DB, "mailbox"); err != nil || uid != mails {
		t.Error(uid, err)
	}
}
