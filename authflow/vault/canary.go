package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

const (
	canaryPrefix = "canary:" // of the name of a key's canary; the key's id follows

	// beat is how often Watch looks.
	beat = 2 * time.Second

	// Settling is how long it takes until every process that runs has followed a new key file, and one that
	// seals with a key has put that key's canary back. It is to be three beats.
	Settling = 3 * beat
)

// Check finds out at the start whether this vault belongs to this database: it opens all secrets, the
// canaries of all keys that anything may be sealed with among them. After that it leaves a canary of the
// key that this vault seals with. It returns the errors of Open, with the cure.
func (v *Vault) Check(ctx context.Context, db provisioning.DB) error {
	return alone(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT
				name,
				sealed
			FROM secrets
			ORDER BY NOT starts_with(name, $1), name`, canaryPrefix)
		if err != nil {
			return fmt.Errorf("read the secrets: %w", err)
		}
		secrets, err := pgx.CollectRows(rows, pgx.RowToStructByPos[secret])
		if err != nil {
			return fmt.Errorf("read the secrets: %w", err)
		}
		for _, s := range secrets {
			_, err := v.Open(s.Sealed, secretAD(s.Name))
			switch {
			case errors.Is(err, ErrUnknownKey):
				return fmt.Errorf("%w: this database was sealed with it; add the key to COUNTERSIGN_VAULT_KEYS, or restore the key file in the data directory from the backup", err)
			case err != nil && strings.HasPrefix(s.Name, canaryPrefix):
				return fmt.Errorf("%w: a key of this id was replaced by another one; put the earlier one back into COUNTERSIGN_VAULT_KEYS or the key file", err)
			case err != nil:
				return fmt.Errorf("%w: it was changed in the database; restore this row of the table secrets from the backup", err)
			}
		}
		return v.announce(ctx, tx)
	})
}

// Watch keeps the canary of the key that this process seals with in the database, and follows the key
// file, until it is told to stop: what drains after the end of ctx still seals. So nobody who rotates keys takes one for unused that a process seals with.
func (v *Vault) Watch(ctx context.Context, db provisioning.DB, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		failing := false
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			err := errors.Join(v.follow(), v.announce(ctx, db))
			if err != nil && !failing && ctx.Err() == nil {
				log.WarnContext(ctx, "the vault's keys cannot be watched", "error", err)
			}
			failing = err != nil
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// announce leaves a canary of the key that this vault seals with.
func (v *Vault) announce(ctx context.Context, db provisioning.DB) error {
	ring := v.ring.Load()
	name := canaryPrefix + ring.ids[0]
	return offer(ctx, db, name, ring.seal(nil, secretAD(name)))
}

// canaries returns the ids of the keys that have one.
func canaries(ctx context.Context, db provisioning.DB) ([]string, error) {
	rows, err := db.Query(ctx, `
		SELECT substring(name FROM length($1) + 1)
		FROM secrets
		WHERE starts_with(name, $1)
		ORDER BY name`, canaryPrefix)
	if err != nil {
		return nil, fmt.Errorf("read the canaries: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the canaries: %w", err)
	}
	return ids, nil
}

// alone runs a change to canaries or the key file in a transaction, one at a time over all processes.
func alone(ctx context.Context, db provisioning.DB, change func(tx pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("change the vault's keys: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('vault', 0))`); err != nil {
		return fmt.Errorf("change the vault's keys: %w", err)
	}
	if err := change(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("change the vault's keys: %w", err)
	}
	return nil
}
