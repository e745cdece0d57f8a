package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

const (
	// breakerWindow and breakerLimit: too many of the last mails bounced, that is 3 %. Receivers look at
	// that number too, and stop believing a sender whose addresses are bad.
	breakerWindow = 500
	breakerLimit  = 15
	// actorBreaker is who paused the mail if no operator did.
	actorBreaker provisioning.Actor = "breaker"
)

// Switch stops and starts all outgoing mail. Senders notice within a second.
type Switch struct {
	DB  provisioning.DB
	Log *slog.Logger
}

// Position is how the switch stands.
type Position struct {
	PausedAt *time.Time // nil while mail goes
	PausedBy *provisioning.Actor
	Why      *string
	Breaker  bool // the breaker did it
}

// Position reads how the switch stands.
func (s *Switch) Position(ctx context.Context) (Position, error) {
	var p Position
	err := s.DB.QueryRow(ctx, `
		SELECT
			paused_at,
			paused_by,
			why,
			coalesce(paused_by = $1, false)
		FROM mail_switch`, actorBreaker).Scan(&p.PausedAt, &p.PausedBy, &p.Why, &p.Breaker)
	if err != nil {
		return Position{}, fmt.Errorf("read the switch of outgoing mail: %w", err)
	}
	return p, nil
}

// Pause stops all mail but what is already on the wire. If it is paused, it stays as it is.
func (s *Switch) Pause(ctx context.Context, why string, actor provisioning.Actor) error {
	err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		paused, err := pauseMail(ctx, tx, why, actor)
		if err != nil || !paused {
			return err
		}
		return provisioning.Audit(ctx, tx, actor, audit.Entry{Action: "mail.pause", Object: "mail", After: audit.Fields{"why": why}})
	})
	if err != nil {
		return err
	}
	s.Log.InfoContext(ctx, "outgoing mail is paused", "by", string(actor))
	return nil
}

// Resume lets mail go again. The breaker begins to count anew.
func (s *Switch) Resume(ctx context.Context, actor provisioning.Actor) error {
	err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE mail_switch
			SET
				paused_at = NULL,
				paused_by = NULL,
				why = NULL,
				watched_at = clock_timestamp()
			WHERE paused_at IS NOT NULL`)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return provisioning.Audit(ctx, tx, actor, audit.Entry{Action: "mail.resume", Object: "mail"})
	})
	if err != nil {
		return fmt.Errorf("resume outgoing mail: %w", err)
	}
	s.Log.InfoContext(ctx, "outgoing mail goes again", "by", string(actor))
	return nil
}

// Bounced is called in the transaction that records that a message bounced. It stops all mail when too many of
// those did that ended in the same stretch: a report may come when hundreds of others have been sent since.
func (s *Switch) Bounced(ctx context.Context, tx pgx.Tx, message uuid.UUID) error {
	var bounced int
	err := tx.QueryRow(ctx, `
		WITH it AS (
			SELECT
				coalesce(ended_at, clock_timestamp()) AS ended_at,
				(SELECT watched_at FROM mail_switch) AS watched_at
			FROM messages
			WHERE id = $2
		)
		SELECT greatest(
			(
				SELECT count(*) FILTER (WHERE returned = 'bounced')
				FROM (
					SELECT m.returned
					FROM messages m
					WHERE m.ended_at <= (SELECT ended_at FROM it)
						AND m.ended_at >= (SELECT watched_at FROM it)
						AND m.state IN ('sent', 'failed')
						AND m.client_id IS NOT NULL
					ORDER BY m.ended_at DESC
					LIMIT $1
				) before
			),
			(
				SELECT count(*) FILTER (WHERE returned = 'bounced')
				FROM (
					SELECT m.returned
					FROM messages m
					WHERE m.ended_at >= greatest((SELECT ended_at FROM it), (SELECT watched_at FROM it))
						AND m.state IN ('sent', 'failed')
						AND m.client_id IS NOT NULL
					ORDER BY m.ended_at
					LIMIT $1
				) after
			)
		)`, breakerWindow, message).Scan(&bounced)
	if err != nil {
		return fmt.Errorf("count bounces: %w", err)
	}
	if bounced < breakerLimit {
		return nil
	}
	why := fmt.Sprintf("%d of %d mails in a row bounced. Receivers stop believing a sender with so many bad addresses: "+
		"correct the addresses of the stalled clients before you let mail go again.", bounced, breakerWindow)
	tripped, err := pauseMail(ctx, tx, why, actorBreaker)
	if tripped {
		s.Log.ErrorContext(ctx, "outgoing mail is paused: too many addresses bounce", "bounced", bounced, "of", breakerWindow)
	}
	return err
}

// pauseMail tells whether it was this call that paused it.
func pauseMail(ctx context.Context, tx pgx.Tx, why string, actor provisioning.Actor) (bool, error) {
	var paused bool
	err := tx.QueryRow(ctx, `
		UPDATE mail_switch
		SET
			paused_at = clock_timestamp(),
			paused_by = $2,
			why = $1
		WHERE paused_at IS NULL
		RETURNING single`, why, actor).Scan(&paused)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("pause outgoing mail: %w", err)
	}
	return paused, nil
}
