package notify_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
)

// Of two replicas in the tests below, the first is stunned: it signed its presence once and then no
// more, as if its machine had been frozen in the midst of a job. The second takes the job over, and
// then the first goes on where it was.
const (
	stunned   = time.Hour
	impatient = time.Second
)

// TestReplicaStunnedBeforeItsAttempt wakes while the second replica sends. It must not send, too.
func TestReplicaStunnedBeforeItsAttempt(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	taken, wake := make(chan struct{}), make(chan struct{})
	first := f.replica(t, stunned, 1, func(ctx context.Context, job queue.Running) error {
		close(taken)
		<-wake
		return f.mailer.Work(ctx, job)
	})
	<-taken

	sending, release := make(chan struct{}), make(chan struct{})
	mailer := *f.mailer
	mailer.Sender = senderFunc(func(ctx context.Context, m *mail.Msg) error {
		close(sending)
		<-release
		return f.mailer.Sender.Send(ctx, m)
	})
	f.replica(t, impatient, 1, mailer.Work)
	<-sending
	close(wake)
	if err := first.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	f.expectMails(t, 0)
	close(release)
	eventually(t, "the message is sent", func() bool { return f.look(t).State == notify.StateSent })
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted",
		Counts: map[notify.Result]int{notify.ResultAccepted: 1},
	})
	f.expectMails(t, 1)
}

// TestReplicaStunnedDuringItsAttempt has its verdict while the second replica repeats the message, or
// when that has ended.
func TestReplicaStunnedDuringItsAttempt(t *testing.T) {
	t.Parallel()
	refused := &notify.SendError{Kind: notify.Permanent, Step: "RCPT TO", Code: 550, Text: "No such user"}
	deferred := &notify.SendError{Kind: notify.Temporary, Step: "RCPT TO", Code: 451, Text: "Not now"}
	for name, tt := range map[string]struct {
		first, second error
		secondIsFirst bool // to have its verdict
		want          outcome
	}{
		"both accepted": {nil, nil, false, outcome{
			Stage: "invited", State: notify.StateSent, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"accepted, then deferred": {nil, deferred, false, outcome{
			Stage: "invited", State: notify.StateSent, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"deferred by the first, then accepted": {deferred, nil, false, outcome{
			Stage: "invited", State: notify.StateSent, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"accepted, late refusal by the first": {refused, nil, true, outcome{
			Stage: "invited", State: notify.StateSent, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"refused, late acceptance by the first": {nil, refused, true, outcome{
			Stage: "invited", State: notify.StateSent, Events: "mail_repeated mail_refused mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultRefused: 1, notify.ResultAccepted: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, acme)
			first, second := f.held(tt.first), f.held(tt.second)
			early := f.replica(t, stunned, 1, first.Work)
			<-first.sending
			f.replica(t, impatient, 1, second.Work)
			<-second.sending
			wakeFirst := func() {
				close(first.verdict)
				if err := early.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if !tt.secondIsFirst {
				wakeFirst()
			}
			close(second.verdict)
			eventually(t, "the second replica's job ends", func() bool {
				return ask[int](t, f, `SELECT count(*) FROM river_job WHERE state IN ('available', 'running')`) == 0
			})
			if tt.secondIsFirst {
				wakeFirst()
			}
			tt.want.Attempts, tt.want.Unknown = 2, 1
			f.expect(t, tt.want)
		})
	}
}

// held is a mailer whose sender waits with its verdict.
type held struct {
	notify.Mailer

	sending chan struct{}
	verdict chan struct{}
}

func (f *office) held(verdict error) *held {
	h := &held{Mailer: *f.mailer, sending: make(chan struct{}), verdict: make(chan struct{})}
	h.Sender = senderFunc(func(context.Context, *mail.Msg) error {
		close(h.sending)
		<-h.verdict
		return verdict
	})
	return h
}

// TestInviterAndMailerDoNotWaitCrosswise has an inviter hold the client while a mail to it is accepted,
// and then look whether there is a mail on its way.
func TestInviterAndMailerDoNotWaitCrosswise(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	client := ask[uuid.UUID](t, f, `SELECT id FROM clients`)
	invitation := ask[uuid.UUID](t, f, `SELECT id FROM invitations`)
	job := queue.Running{Job: queue.Job{Row: f.message(t)}}
	worked := make(chan error, 1)
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM clients FOR UPDATE`); err != nil {
			return err
		}
		go func() { worked <- f.mailer.Work(t.Context(), job) }()
		eventually(t, "the mailer waits for the inviter", func() bool {
			return ask[bool](t, f, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
				OR NOT granted AND locktype = 'transactionid' AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database()))`)
		})
		already, err := f.mailer.Queue(t.Context(), tx, []provisioning.Letter{{
			Client: client, Invitation: invitation, Kind: provisioning.LetterInvitation, ToAddress: "maria@acme.example", ClientName: "Acme Bakery",
		}})
		if len(already) != 1 {
			t.Errorf("Queue = %v, want the client: a mail is on its way", already)
		}
		return err
	})
	if err := errors.Join(err, <-worked); err != nil {
		t.Error(err)
	}
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: 1, Events: "mail_accepted",
		Counts: map[notify.Result]int{notify.ResultAccepted: 1},
	})
}

func TestQueueSkipsClientsWithAMailOnItsWay(t *testing.T) {
	t.Parallel()
	for state, pending := range map[notify.State]bool{
		notify.StateQueued: true, notify.StateSending: true, notify.StateDeferred: true,
		notify.StateSent: false, notify.StateFailed: false, notify.StateCancelled: false,
	} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, acme)
			f.exec(t, `UPDATE messages SET state = $1`, state)
			f.imports(t, acme+"NEW,New Shop,,owner@new.example\n")
			want := 3
			if pending {
				want = 2
			}
			if got := ask[int](t, f, `SELECT count(*) FROM messages`); got != want {
				t.Errorf("%d messages, want %d", got, want)
			}
			if jobs := ask[int](t, f, `SELECT count(*) FROM river_job`); jobs != want {
				t.Errorf("%d jobs, want %d", jobs, want)
			}
		})
	}
}

func TestCancelLeavesWhatHasBegun(t *testing.T) {
	t.Parallel()
	for state, want := range map[notify.State]notify.State{
		notify.StateQueued: notify.StateCancelled, notify.StateDeferred: notify.StateCancelled,
		notify.StateSending: notify.StateSending, notify.StateSent: notify.StateSent, notify.StateFailed: notify.StateFailed,
	} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, acme+"OTHER,Other Shop,,owner@other.example\n")
			f.exec(t, `UPDATE messages SET state = $1`, state)
			client := ask[uuid.UUID](t, f, `SELECT id FROM clients WHERE ref = 'ACME'`)
			err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
				return f.mailer.Cancel(t.Context(), tx, []uuid.UUID{client})
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := ask[notify.State](t, f, `SELECT state FROM messages WHERE client_id = $1`, client); got != want {
				t.Errorf("it is %s, want %s", got, want)
			}
			if got := ask[notify.State](t, f, `SELECT state FROM messages WHERE client_id <> $1`, client); got != state {
				t.Errorf("the other client's is %s", got)
			}
		})
	}
}
