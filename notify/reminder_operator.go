package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

// ErrNoReminder is matched when an operator's wish cannot be fulfilled. The error says why, and what to do.
var ErrNoReminder = errors.New("no reminder can be sent")

// ReminderState is where a client is in the row of reminders.
type ReminderState struct {
	Number    int                // used up, sent or skipped
	Of        int                // how many there are at most
	NextAt    *time.Time         // when the next one is due; nil if none is planned
	PlannedBy provisioning.Actor // who chose NextAt, if it was an operator
	Why       Obstacle           // why none goes out; empty if one is planned
}

func refusal(o Obstacle) error { return fmt.Errorf("%w: %s", ErrNoReminder, o.Words()) }

// State returns where a client is. It returns provisioning.ErrNotFound.
func (r *Reminders) State(ctx context.Context, client uuid.UUID) (ReminderState, error) {
	state := ReminderState{Of: len(r.days())}
	found, err := r.read(ctx, r.DB, []uuid.UUID{client}, false)
	if err != nil {
		return state, err
	}
	if len(found) == 0 {
		var stage provisioning.Stage
		err := r.DB.QueryRow(ctx, `SELECT stage FROM clients WHERE id = $1`, client).Scan(&stage)
		if errors.Is(err, pgx.ErrNoRows) {
			err = provisioning.ErrNotFound
		}
		if err != nil {
			return state, fmt.Errorf("reminders of client %s: %w", client, err)
		}
		state.Why = ObstacleNotMailed
		if stage == provisioning.StageAuthorized {
			state.Why = ObstacleAuthorized
		}
		return state, nil
	}
	s := found[0]
	state.Number, state.Why = s.Number, s.Obstacle
	switch {
	case state.Why != "":
	case s.NextAt == nil:
		state.Why = ObstacleGone
	default:
		state.NextAt, state.PlannedBy = s.NextAt, s.PlannedBy
	}
	return state, nil
}

// Plan has the next reminder go out at a time that an operator chose, be it in working time or not. It
// returns provisioning.ErrNotFound, or an error that matches ErrNoReminder.
func (r *Reminders) Plan(ctx context.Context, client uuid.UUID, at time.Time, actor provisioning.Actor) error {
	return r.change(ctx, client, actor, "reminder.plan", func(tx pgx.Tx, s standing) (plan, error) {
		latest := s.ExpiresAt.Add(-leastLife)
		switch {
		case !at.After(r.Now()):
			return plan{}, fmt.Errorf("%w at a time that has passed: choose a later one, or send it now", ErrNoReminder)
		case at.After(latest):
			return plan{}, fmt.Errorf("%w so late, because its link runs out at %s: choose a time before %s, or invite the client again",
				ErrNoReminder, s.ExpiresAt.UTC().Format(time.RFC3339), latest.UTC().Format(time.RFC3339))
		}
		_, err := provisioning.Advance(ctx, tx, provisioning.Change{
			Client: client, Event: provisioning.EventReminderMoved, Actor: actor,
			Detail: provisioning.Detail{"number": s.Number + 1, "at": at.UTC().Format(time.RFC3339)},
		})
		return plan{client: client, number: s.Number, nextAt: &at, by: actor}, err
	})
}

// Skip leaves the next reminder out and plans the one after it, counted from the last mail, but not before
// tomorrow. It returns the errors of Plan.
func (r *Reminders) Skip(ctx context.Context, client uuid.UUID, actor provisioning.Actor) error {
	return r.change(ctx, client, actor, "reminder.skip", func(tx pgx.Tx, s standing) (plan, error) {
		where := place{client, r.zones().find(s.TimeZone), s.Locale}
		p := plan{client: client, number: s.Number + 1, why: ObstacleDone}
		if next := r.following(p.number, s.MailedAt, where); next != nil {
			p.nextAt, p.why = next, ""
			if soonest := r.tomorrow(where); next.Before(*soonest) {
				p.nextAt = soonest
			}
		}
		_, err := provisioning.Advance(ctx, tx, provisioning.Change{
			Client: client, Event: provisioning.EventReminderSkip, Actor: actor,
			Detail: provisioning.Detail{"number": p.number},
		})
		return p, err
	})
}

// SendNow queues the next reminder at once, be it in working time or not. It returns the errors of Plan.
func (r *Reminders) SendNow(ctx context.Context, client uuid.UUID, actor provisioning.Actor) error {
	return r.change(ctx, client, actor, "reminder.send", func(tx pgx.Tx, s standing) (plan, error) {
		queued, err := r.queue(ctx, tx, []provisioning.Letter{s.letter()}, actor)
		if err == nil && queued == 0 {
			err = refusal(ObstacleOnItsWay)
		}
		next := r.Now().Add(lookAgain)
		return plan{client: client, number: s.Number, nextAt: &next}, err
	})
}

// change carries out what an operator wants of a client's reminders, unless something is in the way. The audit trail
// calls it action.
func (r *Reminders) change(
	ctx context.Context, client uuid.UUID, actor provisioning.Actor, action string, wish func(pgx.Tx, standing) (plan, error),
) error {
	err := r.changeHeld(ctx, client, func(tx pgx.Tx, s standing) error {
		p, err := wish(tx, s)
		if err != nil {
			return err
		}
		if err := writePlans(ctx, tx, []plan{p}); err != nil {
			return err
		}
		return provisioning.Audit(ctx, tx, actor, audit.Entry{
			Action: action,
			Object: provisioning.AuditObject(client),
			Before: audit.Fields{"used_up": s.Number, "next_at": s.NextAt},
			After:  audit.Fields{"used_up": p.number, "next_at": p.nextAt},
		})
	})
	switch {
	case lockNotAvailable(err):
		return fmt.Errorf("%w at this moment, because somebody else is changing the client: try again", ErrNoReminder)
	case errors.Is(err, ErrNoReminder):
		return err
	case err != nil:
		return fmt.Errorf("reminders of client %s: %w", client, err)
	}
	return nil
}

// changeHeld has a client changed that nobody else changes meanwhile.
func (r *Reminders) changeHeld(ctx context.Context, client uuid.UUID, do func(pgx.Tx, standing) error) error {
	tx, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	tag, err := tx.Exec(ctx, `SELECT FROM clients WHERE id = $1 FOR NO KEY UPDATE`, client)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return provisioning.ErrNotFound
	}
	found, err := r.read(ctx, tx, []uuid.UUID{client}, false)
	if err != nil {
		return err
	}
	obstacle := ObstacleNotMailed
	if len(found) == 1 {
		obstacle = found[0].Obstacle
	}
	if obstacle != "" {
		return refusal(obstacle)
	}
	if err := do(tx, found[0]); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
