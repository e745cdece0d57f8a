package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// Digests tells operators once a working day how things stand, unless nothing happened and nothing needs
// a person. A digest is about the time since the morning of the working day before, so that nobody has to
// remember the last one.
type Digests struct {
	DB         provisioning.DB
	Mailer     *Mailer
	Recipients func(context.Context) ([]string, error) // the operators' addresses
	Calendar   Calendar
	Zone       *time.Location // the agency's; UTC if nil
	Locale     string         // the agency's, for its days of rest
	Link       string         // to the console
	Now        func() time.Time
}

const (
	// digestHour is when digests are written, and digestEnd until when it is made good if nobody was there to.
	digestHour = 8
	digestEnd  = 12
	// longestChange is longer than the time from the beginning of a transaction, which events are dated by, to
	// its last event, whose id says how late it was written.
	longestChange = time.Hour
)

// Due queues the digest of the day, if it is time. Any number of processes may call it, as often as they
// like: nobody gets two.
func (d *Digests) Due(ctx context.Context) error {
	since, until, due := d.period()
	if !due {
		return nil
	}
	step := "digest " + until.Format(time.DateOnly)
	err := pgx.BeginFunc(ctx, d.DB, func(tx pgx.Tx) error {
		var done bool
		err := tx.QueryRow(ctx, `
			SELECT EXISTS (
				SELECT FROM messages
				WHERE client_id IS NULL
					AND step = $1
			)`, step).Scan(&done)
		if err != nil || done {
			return err
		}
		digest, worthwhile, err := d.collect(ctx, tx, since, until)
		if err != nil || !worthwhile {
			return err
		}
		to, err := d.Recipients(ctx)
		if err != nil {
			return err
		}
		slices.Sort(to) // Two processes at once come one after the other.
		return d.Mailer.QueueDigest(ctx, tx, to, step, digest)
	})
	if err != nil {
		return fmt.Errorf("write the digest: %w", err)
	}
	return nil
}

// period returns what the digest of this day is about, and whether it is time for it.
func (d *Digests) period() (since, until time.Time, due bool) {
	zone := d.Zone
	if zone == nil {
		zone = time.UTC
	}
	now := d.Now().In(zone)
	year, month, day := now.Date()
	morning := func(back int) time.Time { return time.Date(year, month, day-back, digestHour, 0, 0, 0, zone) }
	back := 1
	for !d.Calendar.Works(morning(back).Weekday(), d.Locale) {
		back++
	}
	return morning(back), morning(0),
		d.Calendar.Works(now.Weekday(), d.Locale) && now.Hour() >= digestHour && now.Hour() < digestEnd
}

// collect gathers what a digest says, and tells whether it is worth a mail. Its cost grows with what happened
// in the period, not with the roster or its history.
func (d *Digests) collect(ctx context.Context, tx pgx.Tx, since, until time.Time) (templates.Digest, bool, error) {
	digest := templates.Digest{Since: since, Until: until, Link: d.Link}
	progress, err := (&provisioning.Store{DB: tx}).Progress(ctx, until)
	if err != nil {
		return digest, false, err
	}
	digest.Total, digest.Authorized = int(progress.Total), int(progress.Stages[provisioning.StageAuthorized])
	for _, stage := range provisioning.Stages() {
		digest.Stages = append(digest.Stages, templates.DigestStage{
			Label: templates.Stage(stage).Label(), N: int(progress.Stages[stage]),
		})
	}
	help := progress.Stages[provisioning.StageLapsed]
	for _, reason := range provisioning.Reasons() {
		n := progress.Reasons[reason]
		if n == 0 {
			continue
		}
		// Whoever said no has answered: that is told, but does not call for anybody day by day.
		if reason != provisioning.ReasonDeclined && reason != provisioning.ReasonUnsubscribed {
			help += n
		}
		words := templates.Reason(reason)
		digest.Stalled = append(digest.Stalled, templates.DigestReason{Reason: words.Label(), Cure: words.Cure(), N: int(n)})
	}
	slices.SortStableFunc(digest.Stalled, func(a, b templates.DigestReason) int { return b.N - a.N })

	if digest.InvitedNew, digest.Reminded, err = mailedBetween(ctx, tx, since, until); err != nil {
		return digest, false, err
	}
	if digest.AuthorizedNew, digest.StalledNew, err = movedBetween(ctx, tx, since, until); err != nil {
		return digest, false, err
	}
	position, err := (&Switch{DB: tx}).Position(ctx)
	if err != nil {
		return digest, false, err
	}
	if position.PausedAt != nil {
		digest.Paused = &templates.DigestPause{}
		if position.Why != nil {
			digest.Paused.Why = *position.Why
		}
	}
	happened := digest.InvitedNew + digest.Reminded + digest.AuthorizedNew + digest.StalledNew
	return digest, happened > 0 || help > 0 || digest.Paused != nil, nil
}

// mailedBetween counts the clients whose owners were invited, and the reminders that went out.
func mailedBetween(ctx context.Context, tx pgx.Tx, since, until time.Time) (invited, reminded int, err error) {
	err = tx.QueryRow(ctx, `
		SELECT
			count(DISTINCT client_id) FILTER (WHERE kind IN ('invitation', 'reconnect')),
			count(*) FILTER (WHERE kind = 'reminder')
		FROM messages
		WHERE ended_at >= $1
			AND ended_at < $2
			AND state = 'sent'`, since, until).Scan(&invited, &reminded)
	if err != nil {
		return 0, 0, fmt.Errorf("count mails: %w", err)
	}
	return invited, reminded, nil
}

// movedBetween counts the clients that became authorized, and those that came to a standstill.
func movedBetween(ctx context.Context, tx pgx.Tx, since, until time.Time) (authorized, stalled int, err error) {
	first, err := firstEvent(ctx, tx, since.Add(-longestChange))
	if err != nil {
		return 0, 0, err
	}
	err = tx.QueryRow(ctx, `
		SELECT
			count(DISTINCT client_id) FILTER (WHERE stage = 'authorized'),
			count(DISTINCT client_id) FILTER (WHERE stage = 'stalled')
		FROM events
		WHERE id >= $1
			AND at >= $2
			AND at < $3`, first, since, until).Scan(&authorized, &stalled)
	if err != nil {
		return 0, 0, fmt.Errorf("count changes: %w", err)
	}
	return authorized, stalled, nil
}

// firstEvent returns an id that the events since t have reached. Events have no index by time, but ids that
// grow with it: a few looks at single events find the place.
func firstEvent(ctx context.Context, tx pgx.Tx, t time.Time) (int64, error) {
	var low, high int64
	err := tx.QueryRow(ctx, `
		SELECT
			coalesce(min(id), 0),
			coalesce(max(id), 0) + 1
		FROM events`).Scan(&low, &high)
	for err == nil && low < high {
		middle := low + (high-low)/2
		var id int64
		var at time.Time
		err = tx.QueryRow(ctx, `
			SELECT
				id,
				at
			FROM events
			WHERE id >= $1
			ORDER BY id
			LIMIT 1`, middle).Scan(&id, &at)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // They went with their clients.
			err, high = nil, middle
		case err == nil && at.Before(t):
			low = id + 1
		default:
			high = middle
		}
	}
	if err != nil {
		return 0, fmt.Errorf("find the first event since %s: %w", t, err)
	}
	return low, nil
}
