package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// desk is where reminders are planned. Its mails are settled by hand.
type desk struct {
	tb        testing.TB
	pool      *pgxpool.Pool
	mailer    *notify.Mailer
	inviter   *provisioning.Inviter
	importer  *provisioning.Importer
	reminders *notify.Reminders
	now       time.Time
}

// A Monday, 15:00 in New York.
func monday() time.Time { return time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC) }

func openDesk(tb testing.TB) *desk {
	tb.Helper()
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
	d := &desk{tb: tb, pool: pgtest.New(tb), now: monday()}
	now := func() time.Time { return d.now }
	d.mailer = &notify.Mailer{DB: d.pool, Now: now}
	links := &authflow.Links{DB: d.pool, Key: bytes.Repeat([]byte{7}, 32), PublicURL: "https://connect.agency.example", Now: now}
	d.inviter = &provisioning.Inviter{DB: d.pool, Linker: links, Mailer: d.mailer}
	d.importer = &provisioning.Importer{DB: d.pool, Namer: namer, Inviter: d.inviter}
	d.reminders = &notify.Reminders{
		DB: d.pool, Mailer: d.mailer, Zone: location(tb, "America/New_York"), Now: now, Log: slog.New(slog.DiscardHandler),
	}
	return d
}

// invited imports a client with its invitation on its way.
func (d *desk) invited(ref, locale, zone string) uuid.UUID {
	d.tb.Helper()
	roster := "ref,name,owner_name,owner_email,locale,time_zone\n" +
		fmt.Sprintf("%s,Client %[1]s,Owner,%[1]s@clients.example,%s,%s\n", ref, locale, zone)
	im, err := d.importer.Import(d.tb.Context(), strings.NewReader(roster), provisioning.ImportOptions{
		FileName: "roster.csv", Actor: provisioning.ActorCLI, Invite: true,
	})
	if err != nil || im.Rejected > 0 {
		d.tb.Fatalf("import: %v, %+v", err, im.Rejects)
	}
	return first[uuid.UUID](d.tb, d.pool, `SELECT id FROM clients WHERE ref = $1`, ref)
}

// waiting is a client whose invitation has been accepted now.
func (d *desk) waiting(ref string) uuid.UUID {
	d.tb.Helper()
	client := d.invited(ref, "en-US", "America/New_York")
	if !d.deliver(client) {
		d.tb.Fatal("no invitation is on its way")
	}
	return client
}

// first returns the only value of a query.
func first[V any](tb testing.TB, db provisioning.DB, sql string, args ...any) (value V) {
	tb.Helper()
	if err := db.QueryRow(tb.Context(), sql, args...).Scan(&value); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return value
}

func (d *desk) exec(sql string, args ...any) {
	d.tb.Helper()
	if _, err := d.pool.Exec(d.tb.Context(), sql, args...); err != nil {
		d.tb.Fatalf("%s: %v", sql, err)
	}
}

// deliver has a mail server accept what is on its way to a client. It tells whether there was anything.
func (d *desk) deliver(client uuid.UUID) bool {
	d.tb.Helper()
	var sent bool
	err := pgx.BeginFunc(d.tb.Context(), d.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(d.tb.Context(), `
			UPDATE messages
			SET
				state = 'sent',
				sent_at = $2,
				ended_at = $2
			WHERE client_id = $1
				AND ended_at IS NULL
			RETURNING client_id, invitation_id, kind, number`, client, d.now)
		if err != nil {
			return err
		}
		letters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[notify.Mailed])
		if err != nil {
			return err
		}
		for _, l := range letters {
			sent = true
			ch := provisioning.Change{Client: client, Event: provisioning.EventMailAccepted, Actor: provisioning.ActorSystem}
			if l.Kind != provisioning.LetterReminder {
				ch.To = provisioning.StageInvited
			}
			if _, err := provisioning.Advance(d.tb.Context(), tx, ch); err != nil {
				return err
			}
		}
		return d.reminders.Mailed(d.tb.Context(), tx, letters)
	})
	if err != nil {
		d.tb.Fatal(err)
	}
	return sent
}

// end ends what is on its way to a client without having sent it.
func (d *desk) end(client uuid.UUID, state notify.State) {
	d.tb.Helper()
	d.exec(`UPDATE messages SET state = $2, step = NULL, ended_at = $3 WHERE client_id = $1 AND ended_at IS NULL`, client, state, d.now)
}

func (d *desk) due() {
	d.tb.Helper()
	if err := d.reminders.Due(d.tb.Context()); err != nil {
		d.tb.Fatal(err)
	}
}

// onItsWay returns the step of the letter that is on its way to a client; empty if none is.
func (d *desk) onItsWay(client uuid.UUID) string {
	d.tb.Helper()
	return first[string](d.tb, d.pool, `
		SELECT coalesce((SELECT step || ' ' || situation FROM messages WHERE client_id = $1 AND ended_at IS NULL), '')`, client)
}

func (d *desk) state(client uuid.UUID) notify.ReminderState {
	d.tb.Helper()
	state, err := d.reminders.State(d.tb.Context(), client)
	if err != nil {
		d.tb.Fatal(err)
	}
	return state
}

// advance records what happened to a client.
func (d *desk) advance(client uuid.UUID, event provisioning.EventKind, to provisioning.Stage, reason provisioning.Reason) {
	d.tb.Helper()
	ch := provisioning.Change{Client: client, Event: event, Actor: provisioning.ActorOwner, To: to, Reason: reason}
	if _, err := provisioning.Advance(d.tb.Context(), d.pool, ch); err != nil {
		d.tb.Fatal(err)
	}
}

// walk is one walk of an owner through the provider, with its outcome if it has one.
func (d *desk) walk(client uuid.UUID, outcome authflow.Outcome) {
	d.tb.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		d.tb.Fatal(err)
	}
	d.exec(`
		INSERT INTO consents (id, client_id, invitation_id, state_hash, browser_hash, token_url, expires_at, outcome)
		SELECT $1, $2, id, $3, '', '', now(), nullif($4, '')
		FROM invitations
		WHERE client_id = $2
		ORDER BY id DESC
		LIMIT 1`, id, client, id[:], outcome)
}

func (d *desk) optOut(client uuid.UUID, kind provisioning.OptedOut) {
	d.tb.Helper()
	if err := provisioning.OptOut(d.tb.Context(), d.pool, client, kind, provisioning.ActorOwner, nil); err != nil {
		d.tb.Fatal(err)
	}
}

// invite has a client invited by name.
func (d *desk) invite(client uuid.UUID) {
	d.tb.Helper()
	sel := provisioning.Selection{Clients: []string{client.String()}}
	if _, err := d.inviter.Invite(d.tb.Context(), sel, provisioning.ActorCLI, false); err != nil {
		d.tb.Fatal(err)
	}
}

// TestRemindersGoTheirWay follows one owner who never answers to the end.
func TestRemindersGoTheirWay(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	start := d.now
	for i, day := range []int{3, 10, 24} {
		state := d.state(client)
		if state.NextAt == nil || !state.NextAt.Equal(start.AddDate(0, 0, day)) {
			t.Fatalf("reminder %d is planned at %v, want it on day %d", i+1, state.NextAt, day)
		}
		d.now = state.NextAt.Add(-time.Second)
		d.due()
		if got := d.onItsWay(client); got != "" {
			t.Fatalf("%s goes out early", got)
		}
		d.now = *state.NextAt
		d.due()
		d.due()
		if got, want := d.onItsWay(client), fmt.Sprintf("reminder %d unseen", i+1); got != want {
			t.Fatalf("on its way is %q, want %q", got, want)
		}
		if got := d.state(client).Why; got != notify.ObstacleOnItsWay {
			t.Errorf("the client's page says %q", got)
		}
		d.deliver(client)
	}
	want := notify.ReminderState{Number: 3, Of: 3, Why: notify.ObstacleDone}
	if diff := cmp.Diff(want, d.state(client)); diff != "" {
		t.Error(diff)
	}
	d.now = d.now.AddDate(1, 0, 0)
	d.due()
	if got := first[int](t, d.pool, `SELECT count(*) FROM messages`); got != 4 {
		t.Errorf("%d mails, want 4", got)
	}
	got := first[[]string](t, d.pool, `
		SELECT array_agg(concat(actor, ' ', detail ->> 'letter', ' ', detail ->> 'number') ORDER BY id)
		FROM events
		WHERE kind = 'mail_queued'`)
	if diff := cmp.Diff([]string{"command line  ", "system reminder 1", "system reminder 2", "system reminder 3"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRemindersAreAsManyAsSet(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	d.reminders.Days = []int{}
	client := d.waiting("none")
	if diff := cmp.Diff(notify.ReminderState{Why: notify.ObstacleNone}, d.state(client)); diff != "" {
		t.Error(diff)
	}
	d.reminders.Days = []int{1, 1}
	client = d.waiting("two")
	d.reminders.Days = []int{1}
	for range 5 {
		d.now = d.now.AddDate(0, 0, 3)
		d.due()
		d.deliver(client)
	}
	if diff := cmp.Diff(notify.ReminderState{Number: 1, Of: 1, Why: notify.ObstacleDone}, d.state(client)); diff != "" {
		t.Error(diff)
	}
}

// TestRemindersStop commits what stops an owner's mail right before the reminder is due.
func TestRemindersStop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		why  notify.Obstacle
		stop func(*desk, uuid.UUID)
	}{
		{notify.ObstacleAuthorized, func(d *desk, c uuid.UUID) {
			d.advance(c, provisioning.EventAuthorized, provisioning.StageAuthorized, "")
		}},
		{notify.ObstacleBounced, func(d *desk, c uuid.UUID) {
			d.advance(c, provisioning.EventBounced, provisioning.StageStalled, provisioning.ReasonBounced)
		}},
		{notify.ObstacleConflict, func(d *desk, c uuid.UUID) {
			d.advance(c, provisioning.EventConflict, provisioning.StageStalled, provisioning.ReasonConflict)
		}},
		{notify.ObstacleDeclined, func(d *desk, c uuid.UUID) { d.optOut(c, provisioning.OptedOutDeclined) }},
		{notify.ObstacleUnsubscribed, func(d *desk, c uuid.UUID) { d.optOut(c, provisioning.OptedOutUnsubscribed) }},
		{notify.ObstacleUnsubscribed, func(d *desk, c uuid.UUID) {
			// A robot presses Continue afterwards.
			d.optOut(c, provisioning.OptedOutUnsubscribed)
			d.advance(c, provisioning.EventStarted, provisioning.StageStarted, "")
		}},
		{notify.ObstacleRoute, func(d *desk, c uuid.UUID) {
			d.exec(`UPDATE clients SET route = 'partner' WHERE id = $1`, c)
		}},
		{notify.ObstacleNewRoute, func(d *desk, c uuid.UUID) {
			d.exec(`UPDATE clients SET route = 'manager', stage = 'imported', invited_at = now() WHERE id = $1`, c)
		}},
		{notify.ObstacleAddress, func(d *desk, c uuid.UUID) {
			d.exec(`UPDATE invitations SET revoked_at = now() WHERE client_id = $1`, c)
		}},
		{notify.ObstacleUsed, func(d *desk, c uuid.UUID) {
			d.exec(`UPDATE invitations SET spent_at = now() WHERE client_id = $1`, c)
		}},
		{notify.ObstacleExpired, func(d *desk, c uuid.UUID) {
			d.exec(`UPDATE invitations SET expires_at = $2 WHERE client_id = $1`, c, d.now.Add(24*time.Hour))
		}},
	}
	for _, test := range tests {
		t.Run(string(test.why), func(t *testing.T) {
			t.Parallel()
			d := openDesk(t)
			client := d.waiting("acme")
			d.now = d.now.AddDate(0, 0, 3)
			test.stop(d, client)
			if diff := cmp.Diff(notify.ReminderState{Of: 3, Why: test.why}, d.state(client)); diff != "" {
				t.Error(diff)
			}
			err := d.reminders.SendNow(t.Context(), client, provisioning.ActorCLI)
			if !errors.Is(err, notify.ErrNoReminder) || !strings.Contains(err.Error(), test.why.Words()) {
				t.Errorf("SendNow returned %v", err)
			}
			d.due()
			if got := d.onItsWay(client); got != "" {
				t.Errorf("%s is on its way", got)
			}
			if got := first[string](t, d.pool, `SELECT concat(why, next_at) FROM reminders`); got != string(test.why) {
				t.Errorf("the row says %q", got)
			}
		})
	}
}

// TestRemindersOfManagers: an owner who has said that the user is added is left alone until its mail is missed.
func TestRemindersOfManagers(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	d.exec(`UPDATE clients SET route = 'manager', username = 'agency+acme@agency.example' WHERE id = $1`, client)
	d.now = d.now.AddDate(0, 0, 3)
	d.exec(`INSERT INTO managers (client_id, open, claimed_at) VALUES ($1, true, now())`, client)
	d.advance(client, provisioning.EventClaimed, provisioning.StageStarted, "")
	if got := d.state(client); got.Why != notify.ObstacleOurTurn {
		t.Errorf("after the owner's word: %+v", got)
	}
	d.due()
	if got := d.onItsWay(client); got != "" {
		t.Errorf("%s is on its way", got)
	}
	d.advance(client, provisioning.EventUserLimit, provisioning.StageStalled, provisioning.ReasonUserLimit)
	d.exec(`UPDATE managers SET claimed_at = NULL WHERE client_id = $1`, client)
	if got := d.state(client); got.Why != notify.ObstacleOurTurn {
		t.Errorf("after they told that their plan allows no more users: %+v", got)
	}
	d.advance(client, provisioning.EventStarted, provisioning.StageStarted, "")
	if got := d.state(client); got.Why != "" {
		t.Errorf("after they took their word back: %+v", got)
	}
	d.exec(`UPDATE managers SET claimed_at = now(), missed = true WHERE client_id = $1`, client)
	d.advance(client, provisioning.EventNoActivation, provisioning.StageStalled, provisioning.ReasonNoActivation)
	d.now = d.now.AddDate(0, 0, 1)
	d.due()
	if got := d.onItsWay(client); got != "reminder 1 no_activation" {
		t.Errorf("%q is on its way", got)
	}
	d.deliver(client)
	if got := d.state(client); got.Number != 1 {
		t.Errorf("afterwards: %+v", got)
	}
}

func TestRemindersKnowTheSituation(t *testing.T) {
	t.Parallel()
	press := func(d *desk, c uuid.UUID) {
		d.advance(c, provisioning.EventStarted, provisioning.StageStarted, "")
		d.walk(c, "")
	}
	stall := func(reason provisioning.Reason, outcome authflow.Outcome) func(*desk, uuid.UUID) {
		return func(d *desk, c uuid.UUID) {
			press(d, c)
			d.walk(c, outcome)
			d.advance(c, provisioning.EventKind(reason), provisioning.StageStalled, reason)
		}
	}
	again := func(before func(*desk, uuid.UUID)) func(*desk, uuid.UUID) {
		return func(d *desk, c uuid.UUID) {
			before(d, c)
			d.invite(c)
			d.deliver(c) // moves a stalled client to invited
		}
	}
	denied := stall(provisioning.ReasonDeclined, authflow.OutcomeDeclined)
	tests := []struct {
		name   string
		before func(*desk, uuid.UUID)
		want   provisioning.Situation
	}{
		{"nothing happened", func(*desk, uuid.UUID) {}, provisioning.SituationUnseen},
		{"pressed Continue", press, provisioning.SituationUnfinished},
		{"denied", denied, provisioning.SituationDenied},
		{"denied, pressed again", func(d *desk, c uuid.UUID) { denied(d, c); press(d, c) }, provisioning.SituationUnfinished},
		{"denied, invited again", again(denied), provisioning.SituationDenied},
		{"wrong account", stall(provisioning.ReasonWrongAccount, authflow.OutcomeWrongAccount), provisioning.SituationWrongAccount},
		{"missing scope, invited again", again(stall(provisioning.ReasonMissingScope, authflow.OutcomeMissingScope)), provisioning.SituationWrongAccount},
		{"denied by an earlier owner", func(d *desk, c uuid.UUID) {
			denied(d, c)
			if _, err := d.inviter.ChangeOwner(t.Context(), c, provisioning.Owner{Email: "new@clients.example"}, provisioning.ActorCLI); err != nil {
				t.Fatal(err)
			}
			d.deliver(c)
		}, provisioning.SituationUnseen},
		{"lapsed and invited again", again(func(d *desk, c uuid.UUID) {
			d.walk(c, authflow.OutcomeConnected)
			d.advance(c, provisioning.EventAuthorized, provisioning.StageAuthorized, "")
			d.exec(`UPDATE invitations SET spent_at = now() WHERE client_id = $1`, c)
			d.advance(c, "lapsed", provisioning.StageLapsed, "")
		}), provisioning.SituationUnseen},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := openDesk(t)
			client := d.waiting("acme")
			test.before(d, client)
			d.now = d.now.AddDate(0, 0, 3)
			d.due()
			if got, want := d.onItsWay(client), "reminder 1 "+string(test.want); got != want {
				t.Errorf("on its way is %q, want %q", got, want)
			}
		})
	}
}

func TestRemindersWaitWhilePaused(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	d.exec(`UPDATE clients SET paused = true`)
	for range 10 { // over a weekend
		d.now = d.now.AddDate(0, 0, 1)
		d.due()
		if got := d.state(client); got.Why != notify.ObstaclePaused || d.onItsWay(client) != "" {
			t.Fatalf("%+v, on its way %q", got, d.onItsWay(client))
		}
	}
	d.exec(`UPDATE clients SET paused = false`)
	state := d.state(client)
	if state.NextAt == nil || !state.NextAt.After(d.now) {
		t.Fatalf("planned at %v, want a moment after %s", state.NextAt, d.now)
	}
	d.now = *state.NextAt
	d.due()
	if got := d.onItsWay(client); got != "reminder 1 unseen" {
		t.Errorf("on its way is %q", got)
	}
}

// TestRemindersKeepHours: whoever comes late, after an outage say, does not send at night.
func TestRemindersKeepHours(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ locale, zone, in string }{
		{"ja-JP", "Asia/Tokyo", "Asia/Tokyo"},
		{"", "", "America/New_York"}, // the agency's
	} {
		t.Run(test.in, func(t *testing.T) {
			t.Parallel()
			d := openDesk(t)
			client := d.invited("acme", test.locale, test.zone)
			d.deliver(client)
			zone := location(t, test.in)
			d.now = time.Date(2026, 12, 1, 2, 0, 0, 0, zone)
			d.due()
			if got := d.onItsWay(client); got != "" {
				t.Fatalf("%s is on its way at night", got)
			}
			next := d.state(client).NextAt.In(zone)
			if next.Format(time.DateOnly) != "2026-12-01" || next.Hour() < 9 || next.Hour() > 10 {
				t.Errorf("planned at %s", next)
			}
		})
	}
}

// TestRemindersLookAfterTheirLetters: what was taken back goes out later, and what failed is used up.
func TestRemindersLookAfterTheirLetters(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	d.now = d.now.AddDate(0, 0, 3)
	d.due()
	d.now = d.now.Add(30 * time.Minute)
	d.end(client, notify.StateCancelled)
	d.now = d.now.Add(time.Hour)
	d.due()
	if got := d.onItsWay(client); got != "reminder 1 unseen" {
		t.Fatalf("after it was taken back, on its way is %q", got)
	}
	d.now = d.now.AddDate(0, 0, 1)
	d.due()
	d.end(client, notify.StateFailed)
	failed := d.now
	d.now = d.now.Add(time.Hour)
	d.due()
	if got := d.onItsWay(client); got != "" {
		t.Fatalf("after it failed, on its way is %q", got)
	}
	state := d.state(client)
	if state.Number != 1 || state.NextAt == nil || !state.NextAt.Equal(failed.AddDate(0, 0, 7)) {
		t.Errorf("after it failed: %+v, planned at %v", state, state.NextAt)
	}
}

func TestMailed(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	earlier := first[uuid.UUID](t, d.pool, `SELECT invitation_id FROM reminders`)
	d.now = d.now.AddDate(0, 0, 3)
	d.due()
	d.deliver(client)
	d.invite(client)
	d.deliver(client)
	later := first[uuid.UUID](t, d.pool, `SELECT invitation_id FROM reminders`)
	if later == earlier || d.state(client).Number != 0 {
		t.Fatalf("an invitation does not start anew: %+v", d.state(client))
	}
	planned := first[time.Time](t, d.pool, `SELECT next_at FROM reminders`)
	d.now = d.now.AddDate(0, 0, 1)
	mailed := func(letters ...notify.Mailed) {
		t.Helper()
		err := pgx.BeginFunc(t.Context(), d.pool, func(tx pgx.Tx) error { return d.reminders.Mailed(t.Context(), tx, letters) })
		if err != nil {
			t.Fatal(err)
		}
	}
	mailed()
	mailed(
		notify.Mailed{Client: client, Invitation: earlier, Kind: provisioning.LetterReminder, Number: 2},
		notify.Mailed{Client: client, Invitation: later, Kind: provisioning.LetterThanks},
	)
	mailed(notify.Mailed{Client: client, Invitation: earlier, Kind: provisioning.LetterInvitation})
	if got := first[time.Time](t, d.pool, `SELECT next_at FROM reminders`); !got.Equal(planned) {
		t.Errorf("letters of earlier invitations and thanks moved the plan from %s to %s", planned, got)
	}
	// Twice in one batch.
	mailed(
		notify.Mailed{Client: client, Invitation: later, Kind: provisioning.LetterReconnect},
		notify.Mailed{Client: client, Invitation: later, Kind: provisioning.LetterReminder, Number: 1},
	)
	if got := d.state(client).Number; got != 1 {
		t.Errorf("number is %d, want 1", got)
	}
}

func TestOperatorPlans(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	const operator = provisioning.Actor("operator ann@agency.example")
	refused := func(err error, words string) {
		t.Helper()
		if !errors.Is(err, notify.ErrNoReminder) || !strings.Contains(err.Error(), words) {
			t.Errorf("the error is %v, want one that says %q", err, words)
		}
	}
	refused(d.reminders.Plan(t.Context(), client, d.now, operator), "has passed")
	refused(d.reminders.Plan(t.Context(), client, d.now.AddDate(0, 0, 29).Add(time.Second), operator), "2026-12-23T20:00:00Z")
	sunday := time.Date(2026, 11, 29, 5, 0, 0, 0, time.UTC)
	if err := d.reminders.Plan(t.Context(), client, sunday, operator); err != nil {
		t.Fatal(err)
	}
	want := notify.ReminderState{Of: 3, NextAt: &sunday, PlannedBy: operator}
	if diff := cmp.Diff(want, d.state(client), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
	d.now = sunday
	d.due()
	if got := d.onItsWay(client); got != "reminder 1 unseen" {
		t.Fatalf("on its way is %q", got)
	}
	refused(d.reminders.SendNow(t.Context(), client, operator), "on its way")
	d.deliver(client)
	if got := d.state(client); got.PlannedBy != "" || got.NextAt == nil {
		t.Errorf("after that: %+v", got)
	}
	d.now = d.now.Add(time.Hour) // still Sunday, at night
	if err := d.reminders.SendNow(t.Context(), client, operator); err != nil {
		t.Fatal(err)
	}
	d.deliver(client)
	if err := d.reminders.Skip(t.Context(), client, operator); err != nil {
		t.Fatal(err)
	}
	refused(d.reminders.Skip(t.Context(), client, operator), "used up")
	if diff := cmp.Diff(notify.ReminderState{Number: 3, Of: 3, Why: notify.ObstacleDone}, d.state(client)); diff != "" {
		t.Error(diff)
	}
	got := first[[]string](t, d.pool, `
		SELECT array_agg(concat(kind, ' ', detail ->> 'number', ' ', detail ->> 'at') ORDER BY id)
		FROM events
		WHERE actor = $1`, operator)
	if diff := cmp.Diff([]string{"reminder_moved 1 2026-11-29T05:00:00Z", "mail_queued 2 ", "reminder_skip 3 "}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOperatorSkips(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	if err := d.reminders.Skip(t.Context(), client, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	// The second one goes out seven days after the last mail.
	if got := d.state(client); got.Number != 1 || !got.NextAt.Equal(monday().AddDate(0, 0, 7)) {
		t.Errorf("%+v, planned at %v", got, got.NextAt)
	}
	d.now = monday().AddDate(0, 0, 20)
	if err := d.reminders.Skip(t.Context(), client, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if got := d.state(client); got.Number != 2 || !got.NextAt.Equal(d.now.AddDate(0, 0, 1)) {
		t.Errorf("what would be in the past is not tomorrow: %+v, planned at %v", got, got.NextAt)
	}
}

func TestOperatorAsksForTheImpossible(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	if err := d.reminders.SendNow(t.Context(), uuid.New(), provisioning.ActorCLI); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("SendNow to nobody returned %v", err)
	}
	if _, err := d.reminders.State(t.Context(), uuid.New()); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("State of nobody returned %v", err)
	}
	client := d.invited("acme", "", "")
	if got := d.state(client).Why; got != notify.ObstacleNotMailed {
		t.Errorf("before the first mail the state is %q", got)
	}
	if err := d.reminders.Skip(t.Context(), client, provisioning.ActorCLI); !errors.Is(err, notify.ErrNoReminder) {
		t.Errorf("Skip before the first mail returned %v", err)
	}
}

// TestDueInManyReplicas has several processes at work on many clients while owners answer: nobody gets two,
// whoever answered gets none, and nobody waits crosswise.
func TestDueInManyReplicas(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	const clients = 1200
	var roster strings.Builder
	roster.WriteString("ref,name,owner_email\n")
	for i := range clients {
		fmt.Fprintf(&roster, "C%d,Client %[1]d,owner%[1]d@clients.example\n", i)
	}
	_, err := d.importer.Import(t.Context(), strings.NewReader(roster.String()), provisioning.ImportOptions{
		FileName: "roster.csv", Actor: provisioning.ActorCLI, Invite: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := d.pool.Query(t.Context(), `
		UPDATE messages
		SET
			state = 'sent',
			ended_at = $1
		RETURNING client_id, invitation_id, kind, number`, d.now)
	if err != nil {
		t.Fatal(err)
	}
	letters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[notify.Mailed])
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(t.Context(), d.pool, func(tx pgx.Tx) error { return d.reminders.Mailed(t.Context(), tx, letters) })
	if err != nil {
		t.Fatal(err)
	}
	d.now = d.now.AddDate(0, 0, 3)
	answered := make(map[uuid.UUID]bool)
	for _, l := range letters[:clients/3] {
		answered[l.Client] = true
		d.optOut(l.Client, provisioning.OptedOutDeclined)
	}
	var replicas sync.WaitGroup
	for range 4 {
		replicas.Go(func() {
			if err := d.reminders.Due(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Go(func() {
		for _, l := range letters[clients/3 : clients/2] {
			if err := provisioning.OptOut(t.Context(), d.pool, l.Client, provisioning.OptedOutUnsubscribed, provisioning.ActorOwner, nil); err != nil {
				t.Error(err)
			}
		}
	})
	replicas.Wait()
	d.due() // those that were passed over
	queued := make(map[uuid.UUID]int)
	rows, err = d.pool.Query(t.Context(), `SELECT client_id FROM messages WHERE kind = 'reminder'`)
	if err != nil {
		t.Fatal(err)
	}
	reminded, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range reminded {
		queued[client]++
		if queued[client] > 1 || answered[client] {
			t.Errorf("client %s: %d reminders, answered before: %t", client, queued[client], answered[client])
		}
	}
	if len(queued) < clients/2 {
		t.Errorf("%d clients are reminded, want at least the %d who did not answer", len(queued), clients/2)
	}
	if got := first[int](t, d.pool, `SELECT count(*) FROM reminders WHERE next_at <= $1`, d.now); got != 0 {
		t.Errorf("%d rows are still due", got)
	}
	if got := first[int](t, d.pool, `SELECT count(*) FROM events WHERE kind = 'mail_queued' AND detail ->> 'number' = '1'`); got != len(reminded) {
		t.Errorf("%d events tell of %d reminders", got, len(reminded))
	}
}

// TestDueGivesWay: an inviter writes a client's message and then wants the client, while Due holds the client
// and then wants to write a message. Due is the one that gives way.
func TestDueGivesWay(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	d.now = d.now.AddDate(0, 0, 3)
	inviter, err := d.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer inviter.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // After a commit there is nothing to roll back.
	invitations, err := d.inviter.Linker.Issue(t.Context(), inviter, []uuid.UUID{client})
	if err != nil {
		t.Fatal(err)
	}
	letter := provisioning.Letter{Client: client, Invitation: invitations[0], Kind: provisioning.LetterInvitation, ToAddress: "acme@clients.example"}
	if _, err := d.mailer.Queue(t.Context(), inviter, []provisioning.Letter{letter}); err != nil {
		t.Fatal(err)
	}
	var due sync.WaitGroup
	due.Go(func() {
		if err := d.reminders.Due(t.Context()); err != nil {
			t.Error(err)
		}
	})
	eventuallyWaits(t, d.pool)
	_, err = provisioning.AdvanceAll(t.Context(), inviter, []uuid.UUID{client}, provisioning.Change{
		Event: provisioning.EventMailQueued, Actor: provisioning.ActorCLI,
	})
	if err != nil {
		t.Fatal(err)
	}
	due.Wait()
	if err := inviter.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.due()
	if got := d.onItsWay(client); got != "invitation " {
		t.Errorf("on its way is %q", got)
	}
	if got := first[bool](t, d.pool, `SELECT next_at > $1 FROM reminders`, d.now); !got {
		t.Error("the reminder is not looked at again")
	}
}

// eventuallyWaits returns when some session of the database waits for another one.
func eventuallyWaits(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for range 10000 {
		if first[bool](t, pool, `
			SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`) {
			return
		}
	}
	t.Fatal("nobody waits")
}
