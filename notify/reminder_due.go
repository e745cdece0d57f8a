package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning"
)

// dueBatch is how many clients Due holds at a time.
const dueBatch = 500

// Due queues the reminders whose time has come. Any number of processes may call it at once: a client is
// passed over while somebody else is at work on it, and comes up at the next call.
func (r *Reminders) Due(ctx context.Context) error {
	for {
		n, err := r.dueSome(ctx)
		if lockNotAvailable(err) {
			r.Log.InfoContext(ctx, "reminders wait for somebody who is mailing the same clients")
			return nil
		}
		if err != nil {
			return fmt.Errorf("queue reminders: %w", err)
		}
		if n < dueBatch {
			return nil
		}
	}
}

// lockNotAvailable tells that lockPatience has run out.
func lockNotAvailable(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "55P03"
}

// dueSome decides about clients whose reminders are due, and returns how many it held.
func (r *Reminders) dueSome(ctx context.Context) (int, error) {
	tx, err := r.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	// A share of an invitation or a message, as a foreign key takes it of the client, is not in the way.
	rows, err := tx.Query(ctx, `
		SELECT c.id
		FROM reminders r
		JOIN clients c ON c.id = r.client_id
		WHERE r.next_at <= $1
		ORDER BY r.next_at
		LIMIT $2
		FOR NO KEY UPDATE OF c SKIP LOCKED`, r.Now(), dueBatch)
	if err != nil {
		return 0, err
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, err
	}
	// Now that nobody changes them, they are read as they are after the last change, which may have been
	// committed after the search began.
	due, err := r.read(ctx, tx, held, true)
	if err != nil {
		return 0, err
	}
	var letters []provisioning.Letter
	plans := make([]plan, len(due))
	zones := r.zones()
	for i, s := range due {
		letter, p := r.decide(s, place{s.Client, zones.find(s.TimeZone), s.Locale})
		plans[i] = p
		if letter {
			letters = append(letters, s.letter())
		}
	}
	if _, err := r.queue(ctx, tx, letters, provisioning.ActorSystem); err != nil {
		return 0, err
	}
	if err := writePlans(ctx, tx, plans); err != nil {
		return 0, err
	}
	return len(held), tx.Commit(ctx)
}

// decide says what becomes of a row that is due, and whether a letter goes out.
func (r *Reminders) decide(s standing, p place) (letter bool, _ plan) {
	now := r.Now()
	at := func(next time.Time) plan { return plan{client: s.Client, number: s.Number, nextAt: &next} }
	switch {
	case s.Obstacle != "" && !s.Obstacle.passes():
		return false, plan{client: s.Client, number: s.Number, why: s.Obstacle}
	case s.Obstacle == ObstacleOnItsWay:
		return false, at(now.Add(lookAgain))
	case s.EndedAt != nil:
		return false, at(*r.following(s.Number, *s.EndedAt, p))
	case s.Obstacle == ObstaclePaused, s.Obstacle == ObstacleOurTurn:
		return false, at(*r.tomorrow(p))
	}
	if open := r.Calendar.Next(now, p.zone, p.locale, p.client); s.PlannedBy == "" && open.After(now) {
		return false, at(open)
	}
	return true, at(now.Add(lookAgain))
}

// letter is the reminder that is next.
func (s standing) letter() provisioning.Letter {
	return provisioning.Letter{
		Client:     s.Client,
		Invitation: s.Invitation,
		Kind:       provisioning.LetterReminder,
		Number:     s.Number + 1,
		Situation:  s.Situation,
		Route:      s.Route,
		Username:   s.Username,
		ToName:     s.ToName,
		ToAddress:  s.ToAddress,
		ClientName: s.ClientName,
		Locale:     s.Locale,
	}
}

// queue hands letters to the mailer and notes those that were new to it, for clients that tx holds. It
// returns how many they were.
func (r *Reminders) queue(
	ctx context.Context, tx pgx.Tx, letters []provisioning.Letter, actor provisioning.Actor,
) (int, error) {
	if len(letters) == 0 {
		return 0, nil
	}
	already, err := r.Mailer.Queue(ctx, tx, letters)
	if err != nil {
		return 0, err
	}
	queued := make(map[int][]uuid.UUID)
	for _, l := range letters {
		if !slices.Contains(already, l.Client) {
			queued[l.Number] = append(queued[l.Number], l.Client)
		}
	}
	for number, clients := range queued {
		_, err := provisioning.AdvanceAll(ctx, tx, clients, provisioning.Change{
			Event: provisioning.EventMailQueued, Actor: actor,
			Detail: provisioning.Detail{"letter": string(provisioning.LetterReminder), "number": number},
		})
		if err != nil {
			return 0, err
		}
	}
	return len(letters) - len(already), nil
}
