package notify_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
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

// message returns the id of ACME's newest message.
func (f *office) message(t *testing.T) uuid.UUID {
	t.Helper()
	return ask[uuid.UUID](t, f, `SELECT id FROM messages ORDER BY created_at DESC LIMIT 1`)
}

// deliver works the job of ACME's newest message once, without the queue.
func (f *office) deliver(t *testing.T) error {
	t.Helper()
	return f.mailer.Work(t.Context(), queue.Running{Job: queue.Job{Kind: notify.JobMessage, Row: f.message(t)}})
}

// mustDeliver is deliver where the job comes to its end.
func (f *office) mustDeliver(t *testing.T) {
	t.Helper()
	if err := f.deliver(t); err != nil {
		t.Errorf("Work = %v", err)
	}
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
type senderFunc func(context.Context, *mail.Msg) error

func (s senderFunc) Send(ctx context.Context, m *mail.Msg) error { return s(ctx, m) }

// during runs do while a message is on its way.
func (f *office) during(do func()) {
	sender := f.mailer.Sender
	f.mailer.Sender = senderFunc(func(ctx context.Context, m *mail.Msg) error {
		do()
		return sender.Send(ctx, m)
	})
}

// answers are Rules that refuse everybody.
func answers(code int, enhanced smtp.EnhancedCode, text string) func(from, to string) *smtp.SMTPError {
	return func(string, string) *smtp.SMTPError {
		return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
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
	eventually(t, "all jobs end", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM river_job WHERE state = 'completed'`) == n
	})
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
		wait bool // the message waits for another attempt
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
			sink: mailsink.Options{Rules: func(string, string) *smtp.SMTPError { return mailsink.NoSuchUser() }},
			want: outcome{
				Stage: "stalled", Reason: "bounced", State: notify.StateFailed, Attempts: 1, Error: "550 5.1.1 No such user here",
				Events: "mail_refused", Counts: map[notify.Result]int{notify.ResultRefused: 1},
			},
		},
		{
			name: "refused by policy",
			sink: mailsink.Options{Rules: answers(550, smtp.EnhancedCode{5, 7, 1}, "You are on a blocklist")},
			want: outcome{
				Stage: "imported", State: notify.StateFailed, Attempts: 1, Error: "550 5.7.1 You are on a blocklist",
				Events: "mail_failed", Counts: map[notify.Result]int{notify.ResultFailed: 1},
			},
			log: "a message was given up for a cause that is not its recipient's",
		},
		{
			name: "not now",
			sink: mailsink.Options{Rules: mailsink.Greylist(1)},
			wait: true,
			want: outcome{
				Stage: "imported", State: notify.StateDeferred, Attempts: 1, Error: "451 4.7.1 Greylisted, please try again later",
				Events: "mail_deferred", Counts: map[notify.Result]int{notify.ResultDeferred: 1},
			},
		},
		{
			name: "not let in",
			sink: mailsink.Options{Username: "agency", Password: "secret"},
			wait: true,
			want: outcome{
				Stage: "imported", State: notify.StateDeferred, Attempts: 1, Error: "530 5.7.0 Authentication required",
				Events: "mail_deferred", Counts: map[notify.Result]int{notify.ResultDeferred: 1},
			},
			log: "mail cannot be sent until its settings are corrected",
		},
		{
			name: "answer lost",
			sink: mailsink.Options{Faults: once(mailsink.LoseAnswer)},
			wait: true,
			want: outcome{
				Stage: "imported", State: notify.StateDeferred, Attempts: 1, Unknown: 1, Error: "end of message", Events: "mail_deferred",
				Counts: map[notify.Result]int{notify.ResultDeferred: 1, notify.ResultRepeated: 1},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, tt.sink)
			f.imports(t, acme)
			if err := f.deliver(t); (err != nil) != tt.wait {
				t.Errorf("Work = %v", err)
			}
			f.expect(t, tt.want)
			if log := f.log.String(); !strings.Contains(log, tt.log) || tt.log == "" && log != "" {
				t.Errorf("the log says:\n%s", log)
			}
			if tt.wait {
				return
			}
			f.mustDeliver(t) // The job may come back, but there is nothing left to do.
			f.expect(t, tt.want)
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
		if err := f.deliver(t); err == nil {
			t.Error("Work = nil")
		}
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
	f.mustDeliver(t)
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
	f.mailer.Sender = senderFunc(func(context.Context, *mail.Msg) error { return nil })
	f.mustDeliver(t)
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
	f.mailer.Sender = senderFunc(func(context.Context, *mail.Msg) error {
		return &notify.SendError{Kind: notify.Temporary, Err: errors.New("short response: \x00\xff")}
	})
	if err := f.deliver(t); err == nil {
		t.Error("Work = nil")
	}
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
		f.mailer.Now = func() time.Time { return time.Now().Add(time.Duration(n * float64(24*time.Hour))) }
	}
	day(4.9)
	if err := f.deliver(t); err == nil {
		t.Error("Work = nil")
	}
	day(5.1)
	f.mustDeliver(t)
	f.expect(t, outcome{
		Stage: "imported", State: notify.StateFailed, Attempts: 2, Error: "451 4.7.1", Events: "mail_deferred mail_failed",
		Counts: map[notify.Result]int{notify.ResultDeferred: 1, notify.ResultFailed: 1},
	})
}

// TestPauses lets the queue itself run a message that is refused for now, again and again, and looks
// at the times that it sets. Only the waiting is cut short.
func TestPauses(t *testing.T) {
	t.Parallel()
	want := []time.Duration{5 * time.Second, 15 * time.Second, 45 * time.Second, 135 * time.Second}
	f := openOffice(t, mailsink.Options{Rules: mailsink.Greylist(len(want))})
	f.imports(t, acme)
	f.work(t)
	for n, pause := range want {
		eventually(t, "the message is deferred", func() bool {
			return ask[bool](t, f, `
				SELECT EXISTS (
					SELECT
					FROM messages m
					JOIN river_job j ON j.state IN ('available', 'scheduled') AND j.scheduled_at > m.attempted_at + interval '3 seconds'
					WHERE m.state = 'deferred' AND m.attempts = $1
				)`, n+1)
		})
		got := ask[time.Duration](t, f, `SELECT scheduled_at - (SELECT attempted_at FROM messages) FROM river_job`)
		// A fifth less or more, and the time that the attempt itself took.
		if got < pause*8/10 || got > pause*12/10+2*time.Second {
			t.Errorf("after attempt %d it waits for %s, want about %s", n+1, got, pause)
		}
		f.exec(t, `UPDATE river_job SET state = 'available', scheduled_at = clock_timestamp()`)
	}
	eventually(t, "the message is sent", func() bool { return f.look(t).State == notify.StateSent })
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: len(want) + 1, Events: "mail_deferred mail_accepted",
		Counts: map[notify.Result]int{notify.ResultDeferred: len(want), notify.ResultAccepted: 1},
	})
	if burnt := ask[int](t, f, `SELECT attempt FROM river_job`); burnt != 1 {
		t.Errorf("the job has used up %d attempts, want 1", burnt)
	}
	f.expectMails(t, 1)
}

func TestRetrySendsTheSameBytes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		hide func(*testing.T, *office) // what hides the outcome of the first attempt
		want outcome
	}{
		"answer lost": {
			hide: func(t *testing.T, f *office) {
				t.Helper()
				if err := f.deliver(t); err == nil {
					t.Error("Work = nil, want later")
				}
			},
			want: outcome{
				Stage: "invited", State: notify.StateSent, Attempts: 2, Unknown: 1, Events: "mail_deferred mail_accepted",
				Counts: map[notify.Result]int{notify.ResultDeferred: 1, notify.ResultRepeated: 1, notify.ResultAccepted: 1},
			},
		},
		"crash": {
			hide: func(t *testing.T, f *office) {
				t.Helper()
				crashing := *f.mailer
				crashing.Sender = senderFunc(func(ctx context.Context, m *mail.Msg) error {
					if err := f.mailer.Sender.Send(ctx, m); err != nil {
						t.Error(err)
					}
					runtime.Goexit()
					return nil
				})
				job := queue.Running{Job: queue.Job{Row: f.message(t)}}
				var worker sync.WaitGroup
				worker.Go(func() { _ = crashing.Work(t.Context(), job) })
				worker.Wait()
			},
			want: outcome{
				Stage: "invited", State: notify.StateSent, Attempts: 2, Unknown: 1, Events: "mail_repeated mail_accepted",
				Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var faults func(mailsink.Message) mailsink.Fault
			if name == "answer lost" {
				faults = once(mailsink.LoseAnswer)
			}
			f := openOffice(t, mailsink.Options{Faults: faults})
			f.imports(t, acme)
			tt.hide(t, f)
			f.mustDeliver(t)
			f.expect(t, tt.want)
			mails := f.received()
			if len(mails) != 2 {
				t.Fatalf("%d mails, want 2", len(mails))
			}
			if mails[0].MessageID == "" || !bytes.Equal(mails[0].Raw, mails[1].Raw) {
				t.Errorf("the second mail differs (-first +second):\n%s", gocmp.Diff(string(mails[0].Raw), string(mails[1].Raw)))
			}
		})
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
			func(t *testing.T, f *office) {
				t.Helper()
				f.imports(t, "ref,name,owner_email,route\nACME,Acme Bakery,maria@acme.example,manager\n")
			},
			outcome{Stage: "imported", Error: "the client is authorized by another route", Events: "updated "},
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
		for _, state := range []notify.State{notify.StateQueued, notify.StateDeferred, notify.StateSending} {
			t.Run(name+"/"+string(state), func(t *testing.T) {
				t.Parallel()
				f := openOffice(t, mailsink.Options{})
				f.imports(t, acme)
				tt.happens(t, f)
				f.exec(t, `UPDATE messages SET state = $1`, state)
				f.mustDeliver(t)
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
	f.mustDeliver(t)
	f.advance(t, provisioning.Change{
		Event: provisioning.EventDeclined, Actor: provisioning.ActorOwner, To: provisioning.StageStalled, Reason: provisioning.ReasonDeclined,
	})
	invited, err := f.inviter.Invite(t.Context(), provisioning.Selection{Clients: []string{"ref:ACME"}}, provisioning.ActorCLI, false)
	if err != nil || invited.Queued != 1 {
		t.Fatalf("Invite = %+v, %v", invited, err)
	}
	f.mustDeliver(t)
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
		rules func(from, to string) *smtp.SMTPError
		want  outcome
	}{
		"accepted": {nil, outcome{
			Stage: "imported", State: notify.StateSent, Attempts: 1, Events: "owner_changed updated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultAccepted: 1},
		}},
		"refused": {func(string, string) *smtp.SMTPError { return mailsink.NoSuchUser() }, outcome{
			Stage: "imported", State: notify.StateFailed, Attempts: 1, Error: "5.1.1", Events: "owner_changed updated mail_refused",
			Counts: map[notify.Result]int{notify.ResultRefused: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{Rules: tt.rules})
			f.imports(t, acme)
			f.during(func() { f.imports(t, strings.Replace(acme, "maria@", "new@", 1)) })
			f.mustDeliver(t)
			f.expect(t, tt.want)
		})
	}
}

func TestClientDeletedWhileTheMailIsOnItsWay(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.during(func() { f.exec(t, `DELETE FROM clients`) })
	id := f.message(t)
	for range 2 {
		if err := f.mailer.Work(t.Context(), queue.Running{Job: queue.Job{Row: id}}); err != nil {
			t.Errorf("Work = %v", err)
		}
	}
	f.expectMails(t, 1)
}

// database is the real one, but fails when it is told to.
type database struct {
	provisioning.DB

	begin  func() error // before a transaction; an error fails it
	commit func() error // after a commit; an error is what the committer gets to hear
}

func (d *database) Begin(ctx context.Context) (pgx.Tx, error) {
	if d.begin != nil {
		if err := d.begin(); err != nil {
			return nil, err
		}
	}
	tx, err := d.DB.Begin(ctx)
	return transaction{tx, d.commit}, err
}

type transaction struct {
	pgx.Tx

	commit func() error
}

func (tx transaction) Commit(ctx context.Context) error {
	err := tx.Tx.Commit(ctx)
	if tx.commit != nil {
		err = cmp.Or(err, tx.commit())
	}
	return err
}

// interrupted is the real one, in which something else happens before a statement of its own.
type interrupted struct {
	provisioning.DB

	by func()
}

func (d interrupted) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	d.by()
	return d.DB.Exec(ctx, sql, args...)
}

// TestOutcomeSurvivesTheDatabase: while the process lives, no failure of the database makes it forget
// that a mail was accepted.
func TestOutcomeSurvivesTheDatabase(t *testing.T) {
	t.Parallel()
	fails := func() func() error {
		gone := errors.New("the connection is gone")
		return func() error {
			defer func() { gone = nil }()
			return gone
		}
	}
	for name, db := range map[string]*database{
		"away":               {begin: fails()},
		"commit unconfirmed": {commit: fails()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, acme)
			db.DB = f.pool
			f.mailer.DB = db
			f.mustDeliver(t)
			want := outcome{Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted"}
			if name == "away" { // Nobody counts what nobody confirmed.
				want.Counts = map[notify.Result]int{notify.ResultAccepted: 1}
			}
			f.expect(t, want)
			f.expectMails(t, 1)
		})
	}
}

// TestAttemptOfAMessageThatHasGoneOn lets another worker send the message between the look at it and the attempt.
func TestAttemptOfAMessageThatHasGoneOn(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	other := *f.mailer
	job := queue.Running{Job: queue.Job{Row: f.message(t)}}
	f.mailer.DB = interrupted{f.pool, func() {
		if err := other.Work(t.Context(), job); err != nil {
			t.Errorf("the other worker: %v", err)
		}
	}}
	if err := f.deliver(t); err == nil {
		t.Error("Work = nil, want to look again later")
	}
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted",
		Counts: map[notify.Result]int{notify.ResultAccepted: 1},
	})
	f.expectMails(t, 1)
}
