package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
)

// Renamer gives another username to a client whose own the provider has given to somebody else.
type Renamer struct {
	DB    DB
	Namer *Namer
}

// ErrNoLongerUsername is matched when a username was replaced before; the error tells by which.
var ErrNoLongerUsername = errors.New("it was replaced before")

// Taken replaces a username that the provider refused, because usernames are unique over all of its
// accounts, by the next candidate that nobody has or ever had. The old one stays in the client's history
// and is never given again. It returns the client as it is then; ErrNotFound if the client, or any client where
// it is uuid.Nil, neither has nor had the username; ErrNoLongerUsername, with the client as it is, if that
// happened before.
func (r *Renamer) Taken(ctx context.Context, client uuid.UUID, username string, actor Actor) (Client, error) {
	old := strings.ToLower(strings.TrimSpace(username))
	tx, err := r.DB.Begin(ctx)
	if err != nil {
		return Client{}, fmt.Errorf("replace a username: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	if err := lockRoster(ctx, tx); err != nil {
		return Client{}, err
	}
	store := &Store{DB: tx}
	id, err := usernameOwner(ctx, tx, client, old)
	if err != nil {
		return Client{}, err
	}
	c, err := store.Client(ctx, id.String())
	if err != nil {
		return Client{}, err
	}
	if c.Username != old {
		return c, fmt.Errorf("username %q of client %q: %w by %q", old, c.Name, ErrNoLongerUsername, c.Username)
	}
	next, err := nextUsername(ctx, tx, r.Namer.Parts(c.Name, text(c.Ref)))
	if err != nil {
		return Client{}, err
	}
	_, err = tx.Exec(ctx, `
		WITH kept AS (
			INSERT INTO former_usernames (username, client_id, why)
			VALUES ($2, $1, 'taken')
		)
		UPDATE clients
		SET
			username = $3,
			updated_at = now()
		WHERE id = $1`, id, old, next)
	if err != nil {
		return Client{}, fmt.Errorf("replace username %q: %w", old, err)
	}
	if err := reindex(ctx, tx, id); err != nil {
		return Client{}, err
	}
	_, err = Advance(ctx, tx, Change{
		Client: id, Event: EventUsernameTaken, Actor: actor, Detail: Detail{"username": map[string]string{"from": old, "to": string(next)}},
	})
	if err != nil {
		return Client{}, err
	}
	if c, err = store.Client(ctx, id.String()); err != nil {
		return Client{}, err
	}
	err = Audit(ctx, tx, actor, audit.Entry{
		Action: "client.username", Object: AuditObject(id), Before: audit.Fields{"username": old}, After: audit.Fields{"username": next},
	})
	if err != nil {
		return Client{}, err
	}
	if err := tx.Commit(ctx); err != nil {
		return Client{}, fmt.Errorf("replace username %q: %w", old, err)
	}
	return c, nil
}

// usernameOwner returns the client that has or had a username, and locks it. It returns ErrNotFound.
func usernameOwner(ctx context.Context, tx pgx.Tx, client uuid.UUID, username string) (id uuid.UUID, err error) {
	err = tx.QueryRow(ctx, `
		SELECT id
		FROM clients
		WHERE (username = $1 OR id = (SELECT client_id FROM former_usernames WHERE username = $1))
			AND ($2::uuid = '00000000-0000-0000-0000-000000000000' OR id = $2)
		FOR UPDATE`, username, client).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return id, fmt.Errorf("username %q: %w", username, ErrNotFound)
	}
	if err != nil {
		return id, fmt.Errorf("find username %q: %w", username, err)
	}
	return id, nil
}

// nextUsername returns the first of the usernames of p that nobody has or had. The caller holds the roster.
func nextUsername(ctx context.Context, tx pgx.Tx, p Parts) (Username, error) {
	var next *Username
	for first, n := 2, 100; next == nil && first < maxNumber; first, n = first+n, 10*n {
		err := tx.QueryRow(ctx, `
			SELECT username
			FROM (
				SELECT 1 AS k, $1::text AS username
				UNION ALL
				SELECT k, $2::text || k || $3::text FROM generate_series($4::integer, $5::integer) k
			) candidates
			WHERE NOT EXISTS (SELECT FROM clients c WHERE c.username = candidates.username)
				AND NOT EXISTS (SELECT FROM former_usernames f WHERE f.username = candidates.username)
			ORDER BY k
			LIMIT 1`, p.Wanted, p.Stem, p.Tail, first, min(first+n-1, maxNumber)).Scan(&next)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return "", fmt.Errorf("give a username: %w", err)
		}
	}
	if next == nil {
		return "", fmt.Errorf("give a username: all of %s2%s and so on are given", p.Stem, p.Tail)
	}
	return *next, nil
}
