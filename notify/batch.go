package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// SendAll is SendNow for a batch of clients, in tx's transaction, which holds the roster. It returns those to whom no
// reminder goes out, and what is in the way.
func (r *Reminders) SendAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, actor provisioning.Actor) (provisioning.Skips, error) {
	held, skips, err := provisioning.HoldAll(ctx, tx, clients)
	if err != nil {
		return nil, err
	}
	for _, client := range held {
		skips[client] = provisioning.SkipReason(ObstacleNotMailed)
	}
	found, err := r.read(ctx, tx, held, false)
	if err != nil {
		return nil, err
	}
	next := r.Now().Add(lookAgain)
	var letters []provisioning.Letter
	var plans []plan
	for _, s := range found {
		if s.Obstacle != "" {
			skips[s.Client] = provisioning.SkipReason(s.Obstacle)
			continue
		}
		// Nothing is on its way, since the client is held: each letter is new to the mailer.
		delete(skips, s.Client)
		letters = append(letters, s.letter())
		plans = append(plans, plan{client: s.Client, number: s.Number, nextAt: &next})
	}
	if _, err := r.queue(ctx, tx, letters, actor); err != nil {
		return nil, err
	}
	return skips, writePlans(ctx, tx, plans)
}

// TakeBack cancels letters that have not been sent, in tx's transaction, which holds their clients: of each client
// the one that was queued at that time, and no other. It returns the clients whose letter was taken back.
func (m *Mailer) TakeBack(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, queued []time.Time, actor provisioning.Actor) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, `
		UPDATE messages m
		SET
			state = 'cancelled',
			step = NULL,
			ended_at = clock_timestamp()
		FROM unnest($1::uuid[], $2::timestamptz[]) AS l (client_id, at)
		WHERE m.client_id = l.client_id
			AND m.created_at = l.at
			AND m.ended_at IS NULL
			AND m.kind <> 'thanks'
			AND m.sender_id IS NULL
		RETURNING m.client_id`, clients, queued)
	if err != nil {
		return nil, fmt.Errorf("take letters back: %w", err)
	}
	taken, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("take letters back: %w", err)
	}
	_, err = provisioning.AdvanceAll(ctx, tx, taken, provisioning.Change{Event: provisioning.EventMailCancelled, Actor: actor})
	return taken, err
}
