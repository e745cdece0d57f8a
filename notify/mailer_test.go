package notify_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

// acme is a roster of one client.
const acme = "ref,name,owner_name,owner_email\nACME,Acme Bakery,Maria Lopez,maria@acme.example\n"

// outcome is what there is to see of a client and its newest message.
type outcome struct {
	Stage    provisioning.Stage
	Reason   provisioning.Reason
	State    notify.State
	Attempts int
	Unknown  int
	Error    string
	Events   string // since the message was queued
	Counts   map[notify.Result]int
}

// look returns the outcome for the client ACME.
func (f *office) look(t *testing.T) outcome {
	t.Helper()
	client, err := f.store.Client(t.Context(), "ref:ACME")
	if err != nil {
		t.Fatal(err)
	}
	messages, err := f.mailer.Messages(t.Context(), client.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) == 0 {
		t.Fatal("there is no message")
	}
	m := messages[0]
	o := outcome{Stage: client.Stage, State: m.State, Attempts: m.Attempts, Unknown: m.Unknown, Counts: f.counted()}
	if client.Reason != nil {
		o.Reason = *client.Reason
	}
	if m.Error != nil {
		o.Error = *m.Error
	}
	if sent := m.SentAt != nil; sent != (m.State == notify.StateSent) {
		t.Errorf("a message that is %s says sent: %t", m.State, sent)
	}
	events, err := f.store.Events(t.Context(), client.ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events { // newest first
		if e.Kind == provisioning.EventMailQueued {
			break
		}
		kinds = append(kinds, string(e.Kind))
	}
	slices.Reverse(kinds)
	o.Events = strings.Join(kinds, " ")
	return o
}

// expect compares the outcome for the client ACME; the error need only contain the wanted one.
func (f *office) expect(t *testing.T, want outcome) {
	t.Helper()
	got := f.look(t)
	if want.Error != "" && strings.Contains(got.Error, want.Error) {
		got.Error = want.Error
	}
	if want.Counts == nil {
		want.Counts = map[notify.Result]int{}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("outcome (-want +got):\n%s\n%s", diff, f.log)
	}
}

// deliver lets the outbox send what is due until nothing is, and brings forward what waits for its turn.
func (f *office) deliver(t *testing.T) {
	t.Helper()
	f.exec(t, `UPDATE messages SET due_at = now() - interval '1 second' WHERE ended_at IS NULL`)
	f.settle(t)
}

// settle lets the outbox send what is due until nothing is.
func (f *office) settle(t *testing.T) {
	t.Helper()
	stop := run(t, f.outbox)
	defer stop()
	eventually(t, "nothing is due", func() bool {
		return !ask[bool](t, f, `
			SELECT EXISTS (SELECT FROM messages WHERE ended_at IS NULL AND due_at <= clock_timestamp())
				OR EXISTS (SELECT FROM messages WHERE sender_id IS NOT NULL)`)
	})
}

// exec changes the database behind everybody's back.
func (f *office) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// advance lets something happen to the client ACME.
func (f *office) advance(t *testing.T, change provisioning.Change) {
	t.Helper()
	change.Client = ask[uuid.UUID](t, f, `SELECT id FROM clients WHERE ref = 'ACME'`)
	if _, err := provisioning.Advance(t.Context(), f.pool, change); err != nil {
		t.Fatal(err)
	}
}

// received returns the mails that owners have got, oldest first.
func (f *office) received() []mailsink.Message {
	messages := f.sink.Messages(mailsink.Filter{})
	slices.Reverse(messages)
	return messages
}

// expectMails fails the test unless owners have got n mails.
func (f *office) expectMails(t *testing.T, n int) {
	t.Helper()
	if got := len(f.received()); got != n {
		t.Errorf("owners have got %d mails, want %d", got, n)
	}
}

// senderFunc is a notify.Sender.
type senderFunc func(context.Context, smtp.Envelope) error

func (s senderFunc) Send(ctx context.Context, e smtp.Envelope) error { return s(ctx, e) }

// during runs do while a message is on its way.
func (f *office) during(do func()) {
	sender := f.outbox.Sender
	f.outbox.Sender = senderFunc(func(ctx context.Context, e smtp.Envelope) error {
		do()
		return sender.Send(ctx, e)
	})
}

// answers are Rules that refuse everybody.
func answers(code int, enhanced gosmtp.EnhancedCode, text string) func(from, to string) *gosmtp.SMTPError {
	return func(string, string) *gosmtp.SMTPError {
		return &gosmtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
	}
}

// once is a fault of the first message only.
func once(fault mailsink.Fault) func(mailsink.Message) mailsink.Fault {
	return func(mailsink.Message) mailsink.Fault {
		defer func() { fault = mailsink.NoFault }()
		return fault
	}
}

func TestInvitationsReachTheirOwners(t *testing.T) {
	t.Parallel()
	const n = 60
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(n))
	f.work(t)
	eventually(t, "all are sent", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == n
	})
	if left := ask[int](t, f, `SELECT count(sender_id) FROM messages`); left > 0 {
		t.Errorf("%d claims are left", left)
	}
	owners := make(map[string]int)
	for _, m := range f.received() {
		owners[m.To[0]]++
	}
	if len(owners) != n || f.sink.Stats().Repeats != 0 {
		t.Errorf("%d owners of %d have a mail, %d a second one", len(owners), n, f.sink.Stats().Repeats)
	}
	progress, err := f.store.Progress(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got := progress.Stages[provisioning.StageInvited]; got != n || progress.InvitedEver != n {
		t.Errorf("%d clients are invited, %d ever", got, progress.InvitedEver)
	}
	if diff := gocmp.Diff(map[notify.Result]int{notify.ResultAccepted: n}, f.counted()); diff != "" {
		t.Error(diff)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		sink mailsink.Options
		want outcome
		log  string // part of it; nothing if empty
	}{
		{
			name: "accepted",
			want: outcome{
				Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted",
				Counts: map[notify.Result]int{notify.ResultAccepted: 1},
			},
		},
		{
			name: "no such user",
			sink: mailsink.Options{Rules: func(string, string) *gosmtp.SMTPError { return mailsink.NoSuchUser() }},
			want: outcome{
				Stage: "stalled", Reason: "bounced", State: notify.StateFailed, Attempts: 1, Error: "550 5.1.1 No such user here",
				Events: "mail_refused", Counts: map[notify.Result]int{notify.ResultRefused: 1},
			},
		},
		{
			name: "refused by policy",
			sink: mailsink.Options{Rules: answers(550, gosmtp.EnhancedCode{5, 7, 1}, "You are on a blocklist")},
			want: outcome{
				Stage: "imported", State: notify.StateFailed, Attempts: 1, Error: "550 5.7.1 You are on a blocklist",
				Events: "mail_failed", Counts: map[notify.Result]int{notify.ResultFailed: 1},
			},
			log: "a message was given up for a cause that is not its recipient's",
		},
		{
			name: "not now",
			sink: mailsink.Options{Rules: mailsink.Greylist(1)},
			want: outcome{
				Stage: "imported", State: notify.StateDeferred, Attempts: 1, Error: "451 4.7.1 Greylisted, please try again later",
				Events: "mail_deferred", Counts: map[notify.Result]int{notify.ResultDeferred: 1},
			},
		},
		{
			name: "not let in",
			sink: mailsink.Options{Username: "agency", Password: "secret"},
			want: outcome{
				Stage: "imported", State: notify.StateDeferred, Attempts: 1, Error: "530 5.7.0 Authentication required",
				Events: "mail_deferred", Counts: map[notify.Result]int{notify.ResultDeferred: 1},
			},
			log: "the mail server does not let us in",
		},
		{
			name: "answer lost",
			sink: mailsink.Options{Faults: once(mailsink.LoseAnswer)},
			want: outcome{
				Stage: "imported", State: notify.StateUnknown, Attempts: 1, Unknown: 1, Error: "end of message", Events: "mail_deferred",
				Counts: map[notify.Result]int{notify.ResultDeferred: 1, notify.ResultRepeated: 1},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, tt.sink)
			f.imports(t, acme)
			f.deliver(t)
			f.expect(t, tt.want)
			if log := f.log.String(); !strings.Contains(log, tt.log) || tt.log == "" && log != "" {
				t.Errorf("the log says:\n%s", log)
			}
		})
	}
}

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	if err := f.sink.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.deliver(t)
	}
	f.expect(t, outcome{
		Stage: "imported", State: notify.StateDeferred, Attempts: 3, Error: "connect", Events: "mail_deferred", // once
		Counts: map[notify.Result]int{notify.ResultDeferred: 3},
	})
}

func TestMessageThatCannotBeComposed(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.exec(t, `UPDATE messages SET to_address = 'maria@acme.example>'`)
	f.exec(t, `UPDATE clients SET owner_email = 'maria@acme.example>'`)
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "imported", State: notify.StateFailed, Attempts: 1, Error: `recipient "maria@acme.example>"`, Events: "mail_failed",
		Counts: map[notify.Result]int{notify.ResultFailed: 1},
	})
}

// TestCapitalsBeyondASCII: an address whose capitals only Unicode knows is still the owner's own.
func TestCapitalsBeyondASCII(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.exec(t, `UPDATE messages SET to_address = 'JÖRG@acme.example'`)
	f.exec(t, `UPDATE clients SET owner_email = 'JÖRG@acme.example'`)
	f.outbox.Sender = senderFunc(func(context.Context, smtp.Envelope) error { return nil })
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted",
		Counts: map[notify.Result]int{notify.ResultAccepted: 1},
	})
}

// TestErrorThatADatabaseRefuses has a server answer with bytes that PostgreSQL keeps in no text.
func TestErrorThatADatabaseRefuses(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.outbox.Sender = senderFunc(func(context.Context, smtp.Envelope) error {
		return &smtp.Error{Kind: smtp.Temporary, Step: "RCPT TO", Err: errors.New("short response: \x00\xff")}
	})
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "imported", State: notify.StateDeferred, Attempts: 1, Error: "short response: ??", Events: "mail_deferred",
		Counts: map[notify.Result]int{notify.ResultDeferred: 1},
	})
}

func TestGivenUpAfterFiveDays(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{Rules: mailsink.Greylist(100)})
	f.imports(t, acme)
	day := func(n float64) {
		f.outbox.Now = func() time.Time { return time.Now().Add(time.Duration(n * float64(24*time.Hour))) }
	}
	day(4.9)
	f.deliver(t)
	day(5.1)
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "imported", State: notify.StateFailed, Attempts: 2, Error: "451 4.7.1", Events: "mail_deferred mail_failed",
		Counts: map[notify.Result]int{notify.ResultDeferred: 1, notify.ResultFailed: 1},
	})
}

// TestPauses has a message refused for now, again and again, and looks for how long it waits. Only the
// waiting is cut short.
func TestPauses(t *testing.T) {
	t.Parallel()
	want := []time.Duration{5 * time.Second, 15 * time.Second, 45 * time.Second, 135 * time.Second}
	f := openOffice(t, mailsink.Options{Rules: mailsink.Greylist(len(want))})
	f.imports(t, acme)
	for n, pause := range want {
		f.deliver(t)
		got := ask[time.Duration](t, f, `SELECT due_at - attempted_at FROM messages WHERE state = 'deferred'`)
		if got < pause*8/10 || got > pause*12/10 { // A fifth less or more.
			t.Errorf("after attempt %d it waits for %s, want about %s", n+1, got, pause)
		}
	}
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: len(want) + 1, Events: "mail_deferred mail_accepted",
		Counts: map[notify.Result]int{notify.ResultDeferred: len(want), notify.ResultAccepted: 1},
	})
	f.expectMails(t, 1)
}

func TestRetrySendsTheSameBytes(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{Faults: once(mailsink.LoseAnswer)})
	f.imports(t, acme)
	f.deliver(t)
	if wait := ask[time.Duration](t, f, `SELECT due_at - attempted_at FROM messages`); wait < 30*time.Second {
		t.Errorf("it waits for %s, want at least half a minute: the server may still be at work with it", wait)
	}
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: 2, Unknown: 1, Events: "mail_deferred mail_accepted",
		Counts: map[notify.Result]int{notify.ResultDeferred: 1, notify.ResultRepeated: 1, notify.ResultAccepted: 1},
	})
	mails := f.received()
	if len(mails) != 2 {
		t.Fatalf("%d mails, want 2", len(mails))
	}
	if mails[0].MessageID == "" || !bytes.Equal(mails[0].Raw, mails[1].Raw) {
		t.Errorf("the second mail differs (-first +second):\n%s", gocmp.Diff(string(mails[0].Raw), string(mails[1].Raw)))
	}
}

func TestUnwantedMessageIsCancelled(t *testing.T) {
	t.Parallel()
	stalled := func(r provisioning.Reason, e provisioning.EventKind) func(*testing.T, *office) {
		return func(t *testing.T, f *office) {
			t.Helper()
			f.advance(t, provisioning.Change{Event: e, Actor: provisioning.ActorOwner, To: provisioning.StageStalled, Reason: r})
		}
	}
	tests := map[string]struct {
		happens func(*testing.T, *office)
		want    outcome
	}{
		"paused": {
			func(t *testing.T, f *office) { t.Helper(); f.exec(t, `UPDATE clients SET paused = true`) },
			outcome{Stage: "imported", Error: "the client is paused"},
		},
		"authorized": {
			func(t *testing.T, f *office) {
				t.Helper()
				f.advance(t, provisioning.Change{Event: provisioning.EventAuthorized, To: provisioning.StageAuthorized})
			},
			outcome{Stage: "authorized", Error: "the client is authorized", Events: "authorized "},
		},
		"other route": {
			func(t *testing.T, f *office) { t.Helper(); f.exec(t, `UPDATE clients SET route = 'manager'`) },
			outcome{Stage: "imported", Error: "the client is authorized by another route"},
		},
		"declined": {
			stalled(provisioning.ReasonDeclined, provisioning.EventDeclined),
			outcome{Stage: "stalled", Reason: "declined", Error: "the owner declined", Events: "declined "},
		},
		"unsubscribed": {
			stalled(provisioning.ReasonUnsubscribed, provisioning.EventUnsubscribed),
			outcome{Stage: "stalled", Reason: "unsubscribed", Error: "the owner unsubscribed", Events: "unsubscribed "},
		},
		"address changed": {
			func(t *testing.T, f *office) {
				t.Helper()
				f.exec(t, `UPDATE clients SET owner_email = 'new@acme.example'`)
			},
			outcome{Stage: "imported", Error: "the owner's address changed"},
		},
		"link revoked": {
			func(t *testing.T, f *office) { t.Helper(); f.exec(t, `UPDATE invitations SET revoked_at = now()`) },
			outcome{Stage: "imported", Error: "the owner's address changed"},
		},
		"link run out": {
			func(t *testing.T, f *office) { t.Helper(); f.exec(t, `UPDATE invitations SET expires_at = now()`) },
			outcome{Stage: "imported", Error: "its link has run out"},
		},
	}
	for name, tt := range tests {
		for _, state := range []notify.State{notify.StateQueued, notify.StateDeferred, notify.StateUnknown} {
			t.Run(name+"/"+string(state), func(t *testing.T) {
				t.Parallel()
				f := openOffice(t, mailsink.Options{})
				f.imports(t, acme)
				tt.happens(t, f)
				f.exec(t, `UPDATE messages SET state = $1`, state)
				f.deliver(t)
				want := tt.want
				want.State = notify.StateCancelled
				want.Events += "mail_cancelled"
				f.expect(t, want)
				f.expectMails(t, 0)
			})
		}
	}
}

func TestKnowinglyInvitedAgain(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.deliver(t)
	f.advance(t, provisioning.Change{
		Event: provisioning.EventDeclined, Actor: provisioning.ActorOwner, To: provisioning.StageStalled, Reason: provisioning.ReasonDeclined,
	})
	invited, err := f.inviter.Invite(t.Context(), provisioning.Selection{Clients: []string{"ref:ACME"}}, provisioning.ActorCLI, false)
	if err != nil || invited.Queued != 1 {
		t.Fatalf("Invite = %+v, %v", invited, err)
	}
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted",
		Counts: map[notify.Result]int{notify.ResultAccepted: 2},
	})
	f.expectMails(t, 2)
}

// TestOwnerChangesWhileTheMailIsOnItsWay: neither the old address's acceptance nor its refusal says
// anything about the new one.
func TestOwnerChangesWhileTheMailIsOnItsWay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rules func(from, to string) *gosmtp.SMTPError
		want  outcome
	}{
		"accepted": {nil, outcome{
			Stage: "imported", State: notify.StateSent, Attempts: 1, Events: "owner_changed updated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultAccepted: 1},
		}},
		"refused": {func(string, string) *gosmtp.SMTPError { return mailsink.NoSuchUser() }, outcome{
			Stage: "imported", State: notify.StateFailed, Attempts: 1, Error: "5.1.1", Events: "owner_changed updated mail_refused",
			Counts: map[notify.Result]int{notify.ResultRefused: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{Rules: tt.rules})
			f.imports(t, acme)
			f.during(func() { f.imports(t, strings.Replace(acme, "maria@", "new@", 1)) })
			f.deliver(t)
			f.expect(t, tt.want)
		})
	}
}

func TestClientDeletedWhileTheMailIsOnItsWay(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.during(func() { f.exec(t, `DELETE FROM clients`) })
	f.deliver(t)
	f.expectMails(t, 1)
	if log := f.log.String(); log != "" {
		t.Errorf("the log says:\n%s", log)
	}
}

// database is the real one, but fails once when it is told to.
type database struct {
	provisioning.DB

	begin  atomic.Bool // the next transaction cannot begin
	commit atomic.Bool // the next commit happens, but nobody gets to hear of it
}

var errGone = errors.New("the connection is gone")

func (d *database) Begin(ctx context.Context) (pgx.Tx, error) {
	if d.begin.CompareAndSwap(true, false) {
		return nil, errGone
	}
	tx, err := d.DB.Begin(ctx)
	return transaction{tx, d}, err
}

type transaction struct {
	pgx.Tx

	db *database
}

func (tx transaction) Commit(ctx context.Context) error {
	err := tx.Tx.Commit(ctx)
	if tx.db.commit.CompareAndSwap(true, false) {
		err = cmp.Or(err, errGone)
	}
	return err
}

// TestOutcomeSurvivesTheDatabase: while the process lives, no failure of the database makes it forget
// that a mail was accepted.
func TestOutcomeSurvivesTheDatabase(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*database){
		"away":               func(d *database) { d.begin.Store(true) },
		"commit unconfirmed": func(d *database) { d.commit.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, acme)
			db := &database{DB: f.pool}
			f.outbox.DB, f.outbox.Connections = db, 1
			f.during(func() {
				// What is claimed meanwhile must not be what fails.
				f.exec(t, `UPDATE mail_switch SET paused_at = now()`)
				fail(db)
			})
			f.deliver(t)
			want := outcome{Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted"}
			if name == "away" { // Nobody counts what nobody confirmed.
				want.Counts = map[notify.Result]int{notify.ResultAccepted: 1}
			}
			f.expect(t, want)
			f.expectMails(t, 1)
		})
	}
}

// TestInviterAndOutboxDoNotWaitCrosswise has an inviter hold a client to whom a mail is due.
func TestInviterAndOutboxDoNotWaitCrosswise(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme+"OTHER,Other Shop,,owner@other.example\n")
	client := ask[uuid.UUID](t, f, `SELECT id FROM clients WHERE ref = 'ACME'`)
	invitation := ask[uuid.UUID](t, f, `SELECT id FROM invitations WHERE client_id = $1`, client)
	f.work(t)
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM clients WHERE id = $1 FOR UPDATE`, client); err != nil {
			return err
		}
		f.exec(t, `UPDATE messages SET due_at = now()`)
		eventually(t, "others have their mail", func() bool {
			return ask[bool](t, f, `SELECT EXISTS (SELECT FROM messages WHERE to_address = 'owner@other.example' AND state = 'sent')`)
		})
		already, err := f.mailer.Queue(t.Context(), tx, []provisioning.Letter{{
			Client: client, Invitation: invitation, Kind: provisioning.LetterInvitation, ToAddress: "maria@acme.example", ClientName: "Acme Bakery",
		}})
		if len(already) != 1 {
			t.Errorf("Queue = %v, want the client: a mail is on its way", already)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	eventually(t, "the message is sent", func() bool { return f.look(t).State == notify.StateSent })
}

func TestQueueSkipsClientsWithAMailOnItsWay(t *testing.T) {
	t.Parallel()
	for state, pending := range map[notify.State]bool{
		notify.StateQueued: true, notify.StateUnknown: true, notify.StateDeferred: true,
		notify.StateSent: false, notify.StateFailed: false, notify.StateCancelled: false,
	} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, acme)
			f.exec(t, `UPDATE messages SET state = $1, ended_at = CASE WHEN $1 IN ('sent', 'failed', 'cancelled') THEN now() END`, state)
			f.imports(t, acme+"NEW,New Shop,,owner@new.example\n")
			want := 3
			if pending {
				want = 2
			}
			if got := ask[int](t, f, `SELECT count(*) FROM messages`); got != want {
				t.Errorf("%d messages, want %d", got, want)
			}
		})
	}
}

// TestAStepIsTakenOnce: an invitation is mailed once, and each of its reminders.
func TestAStepIsTakenOnce(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.deliver(t)
	letter := provisioning.Letter{
		Client: ask[uuid.UUID](t, f, `SELECT id FROM clients`), Invitation: ask[uuid.UUID](t, f, `SELECT id FROM invitations`),
		ToAddress: "maria@acme.example", ClientName: "Acme Bakery",
	}
	queue := func(kind provisioning.LetterKind, number int) (stored bool) {
		t.Helper()
		letter.Kind, letter.Number = kind, number
		err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
			already, err := f.mailer.Queue(t.Context(), tx, []provisioning.Letter{letter})
			stored = len(already) == 0
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	cancel := func() {
		t.Helper()
		err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
			return f.mailer.Cancel(t.Context(), tx, []uuid.UUID{letter.Client})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if queue(provisioning.LetterInvitation, 0) {
		t.Error("an invitation was mailed and is queued again")
	}
	if !queue(provisioning.LetterReminder, 1) {
		t.Error("the first reminder is not queued")
	}
	cancel()
	if !queue(provisioning.LetterReminder, 1) {
		t.Error("a reminder was cancelled and cannot be queued again")
	}
	if !queue(provisioning.LetterThanks, 0) {
		t.Error("a thank-you waits for a reminder")
	}
	cancel()
	if kinds := ask[[]string](t, f, `SELECT array_agg(kind) FROM messages WHERE ended_at IS NULL`); len(kinds) != 1 || kinds[0] != "thanks" {
		t.Errorf("what is left to send: %v, want thanks", kinds)
	}
}

func TestCancelLeavesWhatHasBegun(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme+"OTHER,Other Shop,,owner@other.example\n")
	f.exec(t, `UPDATE messages SET sender_id = gen_random_uuid() WHERE to_address = 'owner@other.example'`)
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		return f.mailer.Cancel(t.Context(), tx, ask[[]uuid.UUID](t, f, `SELECT array_agg(id) FROM clients`))
	})
	if err != nil {
		t.Fatal(err)
	}
	f.expect(t, outcome{Stage: "imported", State: notify.StateCancelled})
	if got := ask[notify.State](t, f, `SELECT state FROM messages WHERE to_address = 'owner@other.example'`); got != notify.StateQueued {
		t.Errorf("the message on its way is %s", got)
	}
}
