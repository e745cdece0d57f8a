package authflow

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// How long a walk is remembered: one that never came back is of no use to anybody, one that ended tells
// the owner's next visit and the operator's questions how.
const (
	abandonedLife = 7 * 24 * time.Hour
	endedLife     = 90 * 24 * time.Hour
)

// sweepBatch is how many walks Sweep deals with in one transaction.
const sweepBatch = 500

// Sweep ends the walks whose process died before it could, so that the client's history tells of them, and
// forgets old ones. Any number of processes may call it at once.
func (f *Flow) Sweep(ctx context.Context) error {
	for _, some := range []func(context.Context) (int, error){f.endCutOff, f.forgetAbandoned, f.forgetEnded} {
		for n := sweepBatch; n == sweepBatch; {
			var err error
			if n, err = some(ctx); err != nil {
				return fmt.Errorf("sweep consents: %w", err)
			}
		}
	}
	return nil
}

// endCutOff ends walks that were claimed and have no outcome. Should one of them be at work all the same,
// its own outcome takes the place of this one.
func (f *Flow) endCutOff(ctx context.Context) (int, error) {
	tx, err := f.DB.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	// What another transaction is at work on is left to the next call, as in expireSome.
	rows, err := tx.Query(ctx, `
		WITH cut AS (
			SELECT s.id
			FROM consents s
			JOIN clients c ON c.id = s.client_id
			WHERE s.claimed_at <= $1
				AND s.outcome IS NULL
			ORDER BY s.claimed_at
			LIMIT $2
			FOR NO KEY UPDATE SKIP LOCKED
		)
		UPDATE consents s
		SET
			outcome = 'failed',
			verifier = NULL
		FROM cut
		WHERE s.id = cut.id
		RETURNING s.client_id`, f.Now().Add(-checkTime), sweepBatch)
	if err != nil {
		return 0, err
	}
	clients, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, err
	}
	if _, err := provisioning.AdvanceAll(ctx, tx, clients, provisioning.Change{
		Event:  provisioning.EventConsentFailed,
		Actor:  provisioning.ActorSystem,
		Detail: provisioning.Detail{"error": "the walk was cut off; the owner can try again with the same link"},
	}); err != nil {
		return 0, err
	}
	return len(clients), tx.Commit(ctx)
}

// forgetAbandoned forgets walks that no callback has claimed, with their verifiers.
func (f *Flow) forgetAbandoned(ctx context.Context) (int, error) {
	tag, err := f.DB.Exec(ctx, `
		WITH old AS (
			SELECT id
			FROM consents
			WHERE claimed_at IS NULL
				AND expires_at <= $1
			LIMIT $2
			FOR UPDATE SKIP LOCKED
		)
		DELETE FROM consents s
		USING old
		WHERE s.id = old.id`, f.Now().Add(-abandonedLife), sweepBatch)
	return int(tag.RowsAffected()), err
}

// forgetEnded forgets whatever is so old that nobody asks.
func (f *Flow) forgetEnded(ctx context.Context) (int, error) {
	tag, err := f.DB.Exec(ctx, `
		WITH old AS (
			SELECT id
			FROM consents
			WHERE created_at <= $1
			LIMIT $2
			FOR UPDATE SKIP LOCKED
		)
		DELETE FROM consents s
		USING old
		WHERE s.id = old.id`, f.Now().Add(-endedLife), sweepBatch)
	return int(tag.RowsAffected()), err
}
