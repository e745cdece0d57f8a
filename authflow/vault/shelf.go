package vault

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// Shelf is what one room keeps sealed in the database. Its methods may run in any number of processes, while
// others read, write and delete the same rows.
type Shelf interface {
	// Name is what stands on it, in the plural, such as grants.
	Name() string
	// Keys counts the values by the id of the key that they are sealed with: see CountKeys.
	Keys(ctx context.Context, db provisioning.DB) (map[string]int, error)
	// Reseal goes through at most limit rows with a value that does not begin with the vault's Header, in
	// the order of their ids and from the one after that id on; an empty one is before all. What opens is
	// sealed anew for the same place. A row that somebody else has changed or holds stays as it is: a later
	// round finds it, if it is still there. No lock is held from one statement to the next.
	Reseal(ctx context.Context, db provisioning.DB, v *Vault, after string, limit int) (Batch, error)
}

// Batch is what came of some rows of a shelf.
type Batch struct {
	Last     string // id of the last row; empty if there was none
	Values   int    // that were to be sealed anew
	Resealed int    // of these; the others are broken, or were changed or held by somebody else
	Broken   []error
}

// Reseal opens a value that belongs at a place and returns it sealed anew, and 1. What is nil, begins with
// the vault's header or does not open is returned as it is, with 0.
func (b *Batch) Reseal(v *Vault, sealed []byte, ad AD) (fresh []byte, n int) {
	if sealed == nil || bytes.HasPrefix(sealed, v.Header()) {
		return sealed, 0
	}
	b.Values++
	plaintext, err := v.Open(sealed, ad)
	if err != nil {
		b.Broken = append(b.Broken, err)
		return sealed, 0
	}
	return v.Seal(plaintext, ad), 1
}

// CountKeys counts sealed values by the id of the key that they are sealed with. The query selects them, as
// its one column; it may select NULL beside them. An id that cannot be read is empty.
func CountKeys(ctx context.Context, db provisioning.DB, query string) (map[string]int, error) {
	// An envelope is a version byte, the key's id, a zero byte, and what only the key opens.
	rows, err := db.Query(ctx, `
		SELECT
			encode(substring(head FROM 2 FOR greatest(position('\x00'::bytea IN head) - 2, 0)), 'escape'),
			count(*)
		FROM (SELECT substring(sealed FOR `+strconv.Itoa(1+keyIDSize+1)+`) FROM (`+query+`) AS of_shelf (sealed)) AS heads (head)
		WHERE head IS NOT NULL
		GROUP BY 1`)
	if err != nil {
		return nil, fmt.Errorf("count by key: %w", err)
	}
	counted, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Key    string
		Values int
	}])
	if err != nil {
		return nil, fmt.Errorf("count by key: %w", err)
	}
	counts := make(map[string]int, len(counted))
	for _, c := range counted {
		counts[c.Key] = c.Values
	}
	return counts, nil
}

// Secrets is the Shelf of the installation's own secrets. Canaries are not on it.
type Secrets struct{}

// Name implements Shelf.
func (Secrets) Name() string { return "secrets" }

// Keys implements Shelf.
func (Secrets) Keys(ctx context.Context, db provisioning.DB) (map[string]int, error) {
	return CountKeys(ctx, db, `SELECT sealed FROM secrets WHERE NOT starts_with(name, '`+canaryPrefix+`')`)
}

// Reseal implements Shelf.
func (Secrets) Reseal(ctx context.Context, db provisioning.DB, v *Vault, after string, limit int) (Batch, error) {
	rows, err := db.Query(ctx, `
		SELECT
			name,
			sealed
		FROM secrets
		WHERE name > $1
			AND NOT starts_with(name, $2)
			AND substring(sealed FOR length($3::bytea)) <> $3::bytea
		ORDER BY name
		LIMIT $4`, after, canaryPrefix, v.Header(), limit)
	if err != nil {
		return Batch{}, fmt.Errorf("read the secrets: %w", err)
	}
	secrets, err := pgx.CollectRows(rows, pgx.RowToStructByPos[secret])
	if err != nil {
		return Batch{}, fmt.Errorf("read the secrets: %w", err)
	}
	var b Batch
	for _, s := range secrets {
		b.Last = s.Name
		fresh, n := b.Reseal(v, s.Sealed, secretAD(s.Name))
		if n == 0 {
			continue
		}
		tag, err := db.Exec(ctx, `
			UPDATE secrets
			SET sealed = $3
			WHERE name = $1
				AND sealed = $2`, s.Name, s.Sealed, fresh)
		if err != nil {
			return Batch{}, fmt.Errorf("secret %q: %w", s.Name, err)
		}
		b.Resealed += int(tag.RowsAffected())
	}
	return b, nil
}
