package provisioning

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
)

// What SetPaused records.
const (
	EventPaused  EventKind = "paused"  // an operator stopped the client's mail
	EventResumed EventKind = "resumed" // and let it go again
)

// SetPaused turns the switch beside a client's stage. While it is on, nobody is invited or reminded: what is
// queued is cancelled when its turn comes, and reminders are put off. Turning it to where it stands changes
// nothing. It returns ErrNotFound.
func SetPaused(ctx context.Context, db DB, client uuid.UUID, paused bool, actor Actor) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var turned bool
		err := tx.QueryRow(ctx, `
			WITH before AS (
				SELECT
					id,
					paused <> $2 AS turns
				FROM clients
				WHERE id = $1
				FOR NO KEY UPDATE
			),
			after AS (
				UPDATE clients c
				SET
					paused = $2,
					updated_at = now()
				FROM before b
				WHERE c.id = b.id
					AND b.turns
			)
			SELECT turns FROM before`, client, paused).Scan(&turned)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("client %s: %w", client, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("pause or resume client %s: %w", client, err)
		}
		if !turned {
			return nil
		}
		event, action := EventPaused, "client.pause"
		if !paused {
			event, action = EventResumed, "client.resume"
		}
		if _, err := Advance(ctx, tx, Change{Client: client, Event: event, Actor: actor}); err != nil {
			return err
		}
		return Audit(ctx, tx, actor, audit.Entry{Action: action, Object: AuditObject(client)})
	})
}
