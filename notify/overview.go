package notify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Overview is how outgoing mail stands. Its cost grows with what waits and with what was sent today, not
// with all that was ever sent: of failures it knows those among the last mails, and of causes those of the
// first thousand mails that have them.
type Overview struct {
	Queued    int       `json:"queued" doc:"mails that wait for their turn"`
	Sending   int       `json:"sending" doc:"mails whose attempt is under way"`
	Deferred  int       `json:"deferred" doc:"mails that were refused for now and are tried again by themselves"`
	Unknown   int       `json:"unknown" doc:"mails of which nobody knows whether an attempt was accepted; they are sent again with the same Message-ID"`
	Today     MailDay   `json:"today" doc:"since midnight UTC"`
	Deferrals []Trouble `json:"deferrals" doc:"why mails wait, the commonest cause first"`
	Failures  []Trouble `json:"failures" doc:"why mails of late were given up whose clients were sent nothing since, the commonest cause first"`
	Refusals  []Refusal `json:"refusals" doc:"what was refused in the last 14 days for our sake and not for its address, as reports say, by domain"`
	Unread    int       `json:"unread" doc:"mails that came back for a person to read; 1000 stands for more"`

	ramp struct{ days, spent int }
}

// MailDay is what became of mails on one day.
type MailDay struct {
	Sent      int `json:"sent" doc:"accepted by a mail server"`
	Failed    int `json:"failed" doc:"given up"`
	Cancelled int `json:"cancelled" doc:"no longer wanted when their turn came"`
}

// Refusal is what a domain refused for our sake.
type Refusal struct {
	Domain string    `json:"domain"`
	N      int       `json:"n" doc:"mails"`
	Last   time.Time `json:"last" doc:"when the newest report came"`
	Said   string    `json:"said" doc:"what the newest report says"`
}

const (
	// mostTroubled bounds the mails that causes are looked for in.
	mostTroubled = 1000
	// lateMails is how many of the mails that came to an end last are looked through for failures.
	lateMails = 10_000
	// refusalsCount is for how long a refusal counts: when the cause has been mended, nothing else ends it.
	refusalsCount = 14 * 24 * time.Hour
)

// Quota returns how many mails a ramp lets go on this day (UTC) and how many it has. The ramp limits nothing
// if ok is false.
func (o Overview) Quota(p Pace) (most, spent int, ok bool) {
	if p.Ramp > 0 {
		most = p.quota(o.ramp.days)
	}
	return most, o.ramp.spent, most > 0 && most < math.MaxInt
}

// Overview reads how outgoing mail stands. Package provisioning's progress tells of the clients whose addresses
// bounced or whose owners want no mail.
func (m *Mailer) Overview(ctx context.Context) (o Overview, err error) {
	o.Deferrals, o.Failures, o.Refusals = []Trouble{}, []Trouble{}, []Refusal{}
	for _, read := range []func(context.Context, *Overview) error{
		m.countWaiting, m.countToday, m.readRamp, m.findDeferrals, m.findFailures, m.findRefusals, m.countUnread,
	} {
		if err := read(ctx, &o); err != nil {
			return Overview{}, fmt.Errorf("look over the mail: %w", err)
		}
	}
	return o, nil
}

func (m *Mailer) countWaiting(ctx context.Context, o *Overview) error {
	return m.countStates(ctx, map[State]*int{
		StateQueued: &o.Queued, StateSending: &o.Sending, StateDeferred: &o.Deferred, StateUnknown: &o.Unknown,
	}, `
		SELECT
			CASE WHEN sender_id IS NOT NULL THEN 'sending' ELSE state END,
			count(*)
		FROM messages
		WHERE ended_at IS NULL
		GROUP BY 1`)
}

func (m *Mailer) countToday(ctx context.Context, o *Overview) error {
	return m.countStates(ctx, map[State]*int{
		StateSent: &o.Today.Sent, StateFailed: &o.Today.Failed, StateCancelled: &o.Today.Cancelled,
	}, `
		SELECT
			state,
			count(*)
		FROM messages
		WHERE ended_at >= date_trunc('day', now(), 'UTC')
		GROUP BY 1`)
}

func (m *Mailer) countStates(ctx context.Context, numbers map[State]*int, sql string) error {
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := m.DB.Query(ctx, sql)
	if err != nil {
		return err
	}
	var state State
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		if number := numbers[state]; number != nil {
			*number = n
		}
		return nil
	})
	return err
}

func (m *Mailer) readRamp(ctx context.Context, o *Overview) error {
	err := m.DB.QueryRow(ctx, `
		SELECT
			days + CASE WHEN day < today AND sent_today > 0 THEN 1 ELSE 0 END,
			CASE WHEN day < today THEN 0 ELSE sent_today END
		FROM
			mail_pace,
			date(now() AT TIME ZONE 'UTC') today
		WHERE domain = $1`, everywhere).Scan(&o.ramp.days, &o.ramp.spent)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // Nothing has been paced yet.
	}
	return err
}

func (m *Mailer) findDeferrals(ctx context.Context, o *Overview) error {
	if o.Deferred+o.Unknown == 0 {
		return nil
	}
	rows, err := m.DB.Query(ctx, `
		SELECT
			client_id,
			client_name,
			error,
			false
		FROM messages
		WHERE ended_at IS NULL
			AND error IS NOT NULL
		ORDER BY due_at
		LIMIT $1`, mostTroubled)
	o.Deferrals, err = collectTroubles(rows, err, false)
	return err
}

// findFailures asks for each failure by itself what came after it: there are few, and joins would read all
// messages when they seem to be many.
func (m *Mailer) findFailures(ctx context.Context, o *Overview) error {
	rows, err := m.DB.Query(ctx, `
		SELECT
			client_id,
			client_name,
			coalesce(error, ''),
			coalesce(returned = 'bounced', false)
		FROM (
			SELECT
				client_id,
				client_name,
				state,
				created_at,
				ended_at,
				returned,
				error
			FROM messages
			WHERE ended_at IS NOT NULL
			ORDER BY ended_at DESC
			LIMIT $1
		) m
		WHERE state = 'failed'
			AND created_at = (SELECT max(created_at) FROM messages WHERE client_id = m.client_id)
			AND (SELECT stage FROM clients WHERE id = m.client_id) <> 'authorized'
		ORDER BY ended_at DESC
		LIMIT $2`, lateMails, mostTroubled)
	o.Failures, err = collectTroubles(rows, err, true)
	return err
}

func (m *Mailer) findRefusals(ctx context.Context, o *Overview) error {
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := m.DB.Query(ctx, `
		SELECT
			recipient,
			at,
			diagnostic
		FROM returns
		WHERE kind = 'policy'
			AND id >= $1
		ORDER BY id DESC
		LIMIT $2`, firstID(m.Now().Add(-refusalsCount)), mostTroubled)
	if err != nil {
		return err
	}
	places := map[string]int{}
	var recipient, said string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&recipient, &at, &said}, func() error {
		domain := domainOf(recipient)
		place, known := places[domain]
		if !known {
			place, places[domain] = len(o.Refusals), len(o.Refusals)
			o.Refusals = append(o.Refusals, Refusal{Domain: domain, Last: at, Said: said})
		}
		o.Refusals[place].N++
		return nil
	})
	sortByNumber(o.Refusals, func(r Refusal) int { return r.N })
	return err
}

// firstID is the least UUID, of version 7, that a row made since t can have.
func firstID(t time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(t.UnixMilli())<<16)
	return id
}

func (m *Mailer) countUnread(ctx context.Context, o *Overview) error {
	return m.DB.QueryRow(ctx, `
		SELECT count(*)
		FROM (
			SELECT
			FROM returns
			WHERE content IS NOT NULL
				AND read_at IS NULL
			LIMIT $1
		) unread`, mostTroubled).Scan(&o.Unread)
}
