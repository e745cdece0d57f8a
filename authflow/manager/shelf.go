package manager

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// Shelf is the vault.Shelf of the links of activation mails.
type Shelf struct{}

// Name implements vault.Shelf.
func (Shelf) Name() string { return "activations" }

// Keys implements vault.Shelf.
func (Shelf) Keys(ctx context.Context, db provisioning.DB) (map[string]int, error) {
	return vault.CountKeys(ctx, db, `SELECT activation_link FROM managers`)
}

// sealedLink is a row of managers, as Shelf reads it.
type sealedLink struct {
	Client uuid.UUID
	Link   []byte
}

// Reseal implements vault.Shelf.
func (Shelf) Reseal(ctx context.Context, db provisioning.DB, v *vault.Vault, after string, limit int) (vault.Batch, error) {
	rows, err := db.Query(ctx, `
		SELECT
			client_id,
			activation_link
		FROM managers
		WHERE client_id > coalesce(nullif($1, ''), '00000000-0000-0000-0000-000000000000')::uuid
			AND substring(activation_link FOR length($2::bytea)) <> $2::bytea
		ORDER BY client_id
		LIMIT $3`, after, v.Header(), limit)
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the activation links: %w", err)
	}
	links, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sealedLink])
	if err != nil {
		return vault.Batch{}, fmt.Errorf("read the activation links: %w", err)
	}
	var b vault.Batch
	var ids []uuid.UUID
	var fresh, were [][]byte
	for _, l := range links {
		b.Last = l.Client.String()
		if sealed, n := b.Reseal(v, l.Link, linkAD(l.Client)); n > 0 {
			ids, fresh, were = append(ids, l.Client), append(fresh, sealed), append(were, l.Link)
		}
	}
	// One that a mail or an operator is at work on is passed by: the next pass finds it.
	tag, err := db.Exec(ctx, `
		WITH unchanged AS (
			SELECT
				m.client_id,
				r.link
			FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS r (client_id, link, was)
			JOIN managers m USING (client_id)
			WHERE m.activation_link = r.was
			FOR NO KEY UPDATE OF m SKIP LOCKED
		)
		UPDATE managers m
		SET activation_link = u.link
		FROM unchanged u
		WHERE m.client_id = u.client_id`, ids, fresh, were)
	if err != nil {
		return vault.Batch{}, fmt.Errorf("store the activation links sealed anew: %w", err)
	}
	b.Resealed = int(tag.RowsAffected())
	return b, nil
}
