package admin

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// Shelf is the vault.Shelf of the secrets of second factors.
type Shelf struct{}

// Name implements vault.Shelf.
func (Shelf) Name() string { return "factors" }

// Keys implements vault.Shelf.
func (Shelf) Keys(ctx context.Context, db provisioning.DB) (map[string]int, error) {
	return vault.CountKeys(ctx, db, `SELECT totp FROM operators`)
}

// sealedFactor is a row of operators, as Shelf reads it.
type sealedFactor struct {
	ID     uuid.UUID
	Sealed []byte
}

// Reseal implements vault.Shelf.
func (Shelf) Reseal(ctx context.Context, db provisioning.DB, v *vault.Vault, after string, limit int) (vault.Batch, error) {
	rows, err := db.Query(ctx, `
		SELECT
			id,
			totp
		FROM operators
		WHERE id > coalesce(nullif($1, ''), '00000000-0000-0000-0000-000000000000')::uuid
			AND substring(totp FOR length($2::bytea)) <> $2::bytea
		ORDER BY id
		LIMIT $3`, after, v.Header(), limit)
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the second factors: %w", err)
	}
	factors, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sealedFactor])
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the second factors: %w", err)
	}
	var b vault.Batch
	for _, f := range factors {
		b.Last = f.ID.String()
		fresh, n := b.Reseal(v, f.Sealed, factorAD(f.ID))
		if n == 0 {
			continue
		}
		tag, err := db.Exec(ctx, `
			UPDATE operators
			SET totp = $3
			WHERE id = $1
				AND totp = $2`, f.ID, f.Sealed, fresh)
		if err != nil {
			return vault.Batch{}, fmt.Errorf("second factor of operator %s: %w", f.ID, err)
		}
		b.Resealed += int(tag.RowsAffected())
	}
	return b, nil
}
