package grant

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// Shelf is the vault.Shelf of tokens. To seal them anew does not change their generation: whoever has read them
// under the old key may go on with them.
type Shelf struct{}

// Name implements vault.Shelf.
func (Shelf) Name() string { return "tokens" }

// Keys implements vault.Shelf.
func (Shelf) Keys(ctx context.Context, db provisioning.DB) (map[string]int, error) {
	return vault.CountKeys(ctx, db, `SELECT unnest(ARRAY[access_token, refresh_token]) FROM grants`)
}

// sealedTokens is a row of grants, as Shelf reads it.
type sealedTokens struct {
	ID         uuid.UUID
	ClientID   uuid.UUID
	Generation int
	Access     []byte
	Refresh    []byte
}

// Reseal implements vault.Shelf. It reads grants in the order of their ids, which is that of their age: one pass
// over the table, whatever share of it is still to be done.
func (Shelf) Reseal(ctx context.Context, db provisioning.DB, v *vault.Vault, after string, limit int) (vault.Batch, error) {
	rows, err := db.Query(ctx, `
		SELECT
			id,
			client_id,
			generation,
			access_token,
			refresh_token
		FROM grants
		WHERE id > coalesce(nullif($1, ''), '00000000-0000-0000-0000-000000000000')::uuid
			AND (substring(access_token FOR length($2::bytea)) <> $2::bytea OR substring(refresh_token FOR length($2::bytea)) <> $2::bytea)
		ORDER BY id
		LIMIT $3`, after, v.Header(), limit)
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the tokens: %w", err)
	}
	grants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sealedTokens])
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the tokens: %w", err)
	}
	var b vault.Batch
	var ids []uuid.UUID
	var generations []int
	var access, refresh, wasAccess, wasRefresh [][]byte
	fresh := make(map[uuid.UUID]int) // tokens sealed anew
	for _, g := range grants {
		b.Last = g.ID.String()
		newAccess, n := b.Reseal(v, g.Access, tokenAD(g.ClientID, g.ID, kindAccess, g.Generation))
		newRefresh, m := b.Reseal(v, g.Refresh, tokenAD(g.ClientID, g.ID, kindRefresh, g.Generation))
		if n+m == 0 {
			continue
		}
		ids, generations = append(ids, g.ID), append(generations, g.Generation)
		access, wasAccess = append(access, newAccess), append(wasAccess, g.Access)
		refresh, wasRefresh = append(refresh, newRefresh), append(wasRefresh, g.Refresh)
		fresh[g.ID] = n + m
	}
	// A grant that somebody holds is passed by: to wait for it, while holding others, could be a deadlock with
	// a consent that has waited for one of these.
	rows, err = db.Query(ctx, `
		WITH unchanged AS (
			SELECT
				g.id,
				r.access_token,
				r.refresh_token
			FROM unnest($1::uuid[], $2::integer[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])
				AS r (id, generation, access_token, was_access, refresh_token, was_refresh)
			JOIN grants g ON g.id = r.id
			WHERE g.generation = r.generation
				AND g.access_token IS NOT DISTINCT FROM r.was_access
				AND g.refresh_token IS NOT DISTINCT FROM r.was_refresh
			FOR NO KEY UPDATE OF g SKIP LOCKED
		)
		UPDATE grants g
		SET
			access_token = u.access_token,
			refresh_token = u.refresh_token
		FROM unchanged u
		WHERE g.id = u.id
		RETURNING g.id`, ids, generations, access, wasAccess, refresh, wasRefresh)
	if err != nil {
		return vault.Batch{}, fmt.Errorf("store the tokens sealed anew: %w", err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return vault.Batch{}, fmt.Errorf("store the tokens sealed anew: %w", err)
	}
	for _, id := range stored {
		b.Resealed += fresh[id]
	}
	return b, nil
}
