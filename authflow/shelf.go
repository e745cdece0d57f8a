package authflow

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// Shelf is the vault.Shelf of the PKCE verifiers of walks that have not ended.
type Shelf struct{}

// Name implements vault.Shelf.
func (Shelf) Name() string { return "verifiers" }

// Keys implements vault.Shelf.
func (Shelf) Keys(ctx context.Context, db provisioning.DB) (map[string]int, error) {
	return vault.CountKeys(ctx, db, `SELECT verifier FROM consents`)
}

// sealedVerifier is a row of consents, as Shelf reads it.
type sealedVerifier struct {
	ID       uuid.UUID
	Verifier []byte
}

// Reseal implements vault.Shelf. It is one pass over the consents in the order of their ids.
func (Shelf) Reseal(ctx context.Context, db provisioning.DB, v *vault.Vault, after string, limit int) (vault.Batch, error) {
	rows, err := db.Query(ctx, `
		SELECT
			id,
			verifier
		FROM consents
		WHERE id > coalesce(nullif($1, ''), '00000000-0000-0000-0000-000000000000')::uuid
			AND substring(verifier FOR length($2::bytea)) <> $2::bytea
		ORDER BY id
		LIMIT $3`, after, v.Header(), limit)
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the verifiers: %w", err)
	}
	consents, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sealedVerifier])
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the verifiers: %w", err)
	}
	var b vault.Batch
	var ids []uuid.UUID
	var verifiers, were [][]byte
	for _, c := range consents {
		b.Last = c.ID.String()
		if fresh, n := b.Reseal(v, c.Verifier, verifierAD(c.ID)); n > 0 {
			ids, verifiers, were = append(ids, c.ID), append(verifiers, fresh), append(were, c.Verifier)
		}
	}
	// A walk that somebody holds is passed by: to wait for it, while holding others, could be a deadlock.
	tag, err := db.Exec(ctx, `
		WITH unchanged AS (
			SELECT
				c.id,
				r.verifier
			FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS r (id, verifier, was)
			JOIN consents c ON c.id = r.id
			WHERE c.verifier = r.was
			FOR NO KEY UPDATE OF c SKIP LOCKED
		)
		UPDATE consents c
		SET verifier = u.verifier
		FROM unchanged u
		WHERE c.id = u.id`, ids, verifiers, were)
	if err != nil {
		return vault.Batch{}, fmt.Errorf("store the verifiers sealed anew: %w", err)
	}
	b.Resealed = int(tag.RowsAffected())
	return b, nil
}
