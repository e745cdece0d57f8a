package notify_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
)

// TestNoReminderAfterAStop stops clients whose reminders are queued: some before an outbox begins, others while
// it works. What was not claimed when a stop had been committed is not sent any more.
func TestNoReminderAfterAStop(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	now := time.Now()
	reminders := &notify.Reminders{
		DB: f.pool, Mailer: f.mailer, Now: func() time.Time { return now }, Log: f.mailer.Log,
	}
	f.outbox.Planner = reminders
	f.outbox.Connections = 1
	const clients = 400
	f.imports(t, many(clients))
	stop := run(t, f.outbox)
	eventually(t, "all invitations are accepted", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM reminders WHERE next_at IS NOT NULL`) == clients
	})
	stop()
	// A working moment, and after a weekend if the third day is in one.
	now = notify.Calendar{}.Next(now.AddDate(0, 0, 6), time.UTC, "", uuid.Nil)
	if err := reminders.Due(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := f.pool.Query(t.Context(), `SELECT client_id FROM messages WHERE kind = 'reminder' AND ended_at IS NULL ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	queued, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(queued) != clients {
		t.Fatalf("%d reminders are queued, want %d: %v", len(queued), clients, err)
	}

	stops := []func(uuid.UUID) error{
		func(c uuid.UUID) error {
			_, err := provisioning.Advance(t.Context(), f.pool, provisioning.Change{
				Client: c, Event: provisioning.EventAuthorized, Actor: provisioning.ActorOwner, To: provisioning.StageAuthorized,
			})
			return err
		},
		func(c uuid.UUID) error {
			_, err := provisioning.Advance(t.Context(), f.pool, provisioning.Change{
				Client: c, Event: provisioning.EventBounced, Actor: provisioning.ActorSystem,
				To: provisioning.StageStalled, Reason: provisioning.ReasonBounced,
			})
			return err
		},
		func(c uuid.UUID) error {
			return provisioning.OptOut(t.Context(), f.pool, c, provisioning.OptedOutDeclined, provisioning.ActorOwner, nil)
		},
		func(c uuid.UUID) error {
			return provisioning.OptOut(t.Context(), f.pool, c, provisioning.OptedOutUnsubscribed, provisioning.ActorOwner, nil)
		},
		func(c uuid.UUID) error {
			_, err := f.pool.Exec(t.Context(), `UPDATE clients SET paused = true WHERE id = $1`, c)
			return err
		},
		func(c uuid.UUID) error {
			to := provisioning.Owner{Email: fmt.Sprintf("new+%s@clients.example", c)}
			_, err := f.inviter.ChangeOwner(t.Context(), c, to, provisioning.ActorCLI)
			return err
		},
	}
	stopped := make(map[uuid.UUID]int) // before the claim, by the number of the stop
	halt := func(n int, client uuid.UUID) {
		t.Helper()
		if err := stops[n%len(stops)](client); err != nil {
			t.Fatal(err)
		}
		if !ask[bool](t, f, `
			SELECT state = 'sent' OR sender_id IS NOT NULL
			FROM messages m
			WHERE client_id = $1
				AND kind = 'reminder'`, client) {
			stopped[client] = n % len(stops)
		}
	}
	for n, client := range queued[:clients/10] {
		halt(n, client)
	}
	f.work(t)
	for n := range clients / 2 {
		halt(n, queued[clients-1-n]) // The outbox comes from the other side.
	}
	eventually(t, "nothing is left to send", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE ended_at IS NULL`) == 0
	})
	if len(stopped) < clients/10 {
		t.Fatalf("%d clients stopped in time", len(stopped))
	}
	rows, err = f.pool.Query(t.Context(), `SELECT client_id FROM messages WHERE kind = 'reminder' AND state = 'sent'`)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range sent {
		if n, ok := stopped[client]; ok {
			t.Errorf("client %s got a reminder after stop %d", client, n)
		}
	}
	if len(sent) < clients*4/10 || len(sent) > clients-len(stopped) {
		t.Errorf("%d reminders were sent, %d stopped in time, of %d", len(sent), len(stopped), clients)
	}
}
