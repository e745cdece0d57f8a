package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

var (
	// ErrBadKey means that a presented key is none of ours, was revoked, or has expired.
	ErrBadKey = errors.New("this API key is not valid")
	// ErrExpiry means that a key's end cannot be read, or has passed.
	ErrExpiry = errors.New("a key ends in days, such as 90d, or with a day to come, such as 2027-01-31")
	// ErrMoreThanOwn means that a key was to give another more than it has itself.
	ErrMoreThanOwn = errors.New("a key can give no scope that it lacks, and no time beyond its own end")
	// ErrKeyNameTaken means that another key of that name is in use.
	ErrKeyNameTaken = errors.New("there is already an API key of this name: revoke it first or take another name")
	// ErrScopes means that scopes are missing or unknown; its text names them all.
	ErrScopes = errors.New("name at least one of the scopes read, write, links, tokens, admin, separated by commas")
)

// Scope is what an API key may do. No scope includes another.
type Scope string

const (
	ScopeRead   Scope = "read"   // see roster and progress
	ScopeWrite  Scope = "write"  // import, invite, change clients
	ScopeLinks  Scope = "links"  // get fresh invitation URLs
	ScopeTokens Scope = "tokens" // use grants
	ScopeAdmin  Scope = "admin"  // manage operators and keys
)

// ParseScopes reads "read,write". It returns ErrScopes if there is none or an unknown one.
func ParseScopes(list string) ([]Scope, error) {
	var scopes []Scope
	for name := range strings.SplitSeq(list, ",") {
		scopes = append(scopes, Scope(strings.TrimSpace(name)))
	}
	return scopes, checkScopes(scopes)
}

func checkScopes(scopes []Scope) error {
	if len(scopes) == 0 {
		return ErrScopes
	}
	for _, s := range scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("%w, and not %q", ErrScopes, string(s))
		}
	}
	return nil
}

// Scopes returns all scopes, the harmless ones first.
func Scopes() []Scope { return []Scope{ScopeRead, ScopeWrite, ScopeLinks, ScopeTokens, ScopeAdmin} }

// About says what the scope is for.
func (s Scope) About() string {
	switch s {
	case ScopeRead:
		return "see the roster and the progress"
	case ScopeWrite:
		return "import, invite, change clients"
	case ScopeLinks:
		return "get fresh invitation links"
	case ScopeTokens:
		return "get access tokens for clients’ accounts"
	case ScopeAdmin:
		return "manage operators and keys"
	}
	return ""
}

// keyPrefix makes keys known at sight, to people and to programs that look for leaked ones.
const keyPrefix = "csk_"

// ParseExpiry reads when a key is to end: so many days from now, as 90d, or with a day, as 2027-01-31 in UTC. An empty
// text is nil: it does not end by itself. It returns ErrExpiry.
func ParseExpiry(text string, now time.Time) (*time.Time, error) {
	const longest = 36_500 // days; beyond it, time.Time is not what PostgreSQL stores
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil //nolint:nilnil // No end is not a mistake.
	}
	end := now
	if number, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.Atoi(number)
		if err != nil || days < 1 || days > longest {
			return nil, fmt.Errorf("%w, and not %q", ErrExpiry, text)
		}
		end = now.AddDate(0, 0, days)
	} else {
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return nil, fmt.Errorf("%w, and not %q", ErrExpiry, text)
		}
		end = day.AddDate(0, 0, 1) // The last day counts.
	}
	if !end.After(now) {
		return nil, fmt.Errorf("%w: %s is over", ErrExpiry, text)
	}
	return &end, nil
}

// Key is an API key, without the key itself.
type Key struct {
	ID        uuid.UUID
	Name      string
	Scopes    []Scope
	CreatedAt time.Time
	CreatedBy provisioning.Actor
	ExpiresAt *time.Time // nil if it does not end by itself
	UsedAt    *time.Time // to the minute
	UsedFrom  string     // network address of the last use; may be empty
	RevokedAt *time.Time
	RevokedBy *provisioning.Actor
}

// keyColumns are the columns of api_keys that make a Key.
const keyColumns = `
	id,
	name,
	scopes,
	created_at,
	created_by,
	expires_at,
	used_at,
	used_from,
	revoked_at,
	revoked_by`

// May reports whether the key has the scope.
func (k Key) May(s Scope) bool { return slices.Contains(k.Scopes, s) }

// Works reports whether the key opens anything at that time.
func (k Key) Works(now time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || now.Before(*k.ExpiresAt))
}

// forgotten is how long a key is unused before somebody should ask whether it is still needed.
const forgotten = 90 * 24 * time.Hour

// Unused reports whether a key that works was not used for 90 days.
func (k Key) Unused(now time.Time) bool {
	last := k.CreatedAt
	if k.UsedAt != nil {
		last = *k.UsedAt
	}
	return k.Works(now) && now.Sub(last) >= forgotten
}

// MayGive returns ErrMoreThanOwn if whoever has the key must not make that one with it.
func (k Key) MayGive(n NewKey) error {
	for _, s := range n.Scopes {
		if !k.May(s) {
			return ErrMoreThanOwn
		}
	}
	if k.ExpiresAt != nil && (n.ExpiresAt == nil || n.ExpiresAt.After(*k.ExpiresAt)) {
		return ErrMoreThanOwn
	}
	return nil
}

// NewKey is a key to be made.
type NewKey struct {
	Name      string
	Scopes    []Scope
	ExpiresAt *time.Time // nil if it is not to end by itself
}

// CreateKey makes an API key and returns it this once. It returns ErrName, ErrScopes, ErrExpiry or
// ErrKeyNameTaken.
func (s *Store) CreateKey(ctx context.Context, n NewKey, actor provisioning.Actor) (provisioning.Secret, Key, error) {
	name, err := parseName(n.Name)
	if err != nil {
		return "", Key{}, err
	}
	if err := checkScopes(n.Scopes); err != nil {
		return "", Key{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", Key{}, fmt.Errorf("make an API key: %w", err)
	}
	k := Key{
		ID:        id,
		Name:      name,
		Scopes:    slices.Compact(slices.Sorted(slices.Values(n.Scopes))),
		CreatedAt: s.Now().Truncate(time.Microsecond),
		CreatedBy: actor,
	}
	if n.ExpiresAt != nil {
		end := n.ExpiresAt.Truncate(time.Microsecond)
		k.ExpiresAt = &end
	}
	if !k.Works(k.CreatedAt) {
		return "", Key{}, ErrExpiry
	}
	secret, hash := newSecret(keyPrefix)
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO api_keys (id, name, key_hash, scopes, created_at, created_by, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING`, k.ID, k.Name, hash, k.Scopes, k.CreatedAt, k.CreatedBy, k.ExpiresAt)
		if err != nil {
			return fmt.Errorf("make an API key: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrKeyNameTaken
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: string(actor), Action: "key.create", Object: "key " + k.Name,
			After: audit.Fields{"id": k.ID, "scopes": k.Scopes, "expires_at": k.ExpiresAt},
		})
	})
	if err != nil {
		return "", Key{}, err
	}
	return secret, k, nil
}

// Keys returns all API keys, expired and revoked ones included, oldest first.
func (s *Store) Keys(ctx context.Context) ([]Key, error) {
	rows, err := s.DB.Query(ctx, `SELECT `+keyColumns+` FROM api_keys ORDER BY created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list the API keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
	if err != nil {
		return nil, fmt.Errorf("list the API keys: %w", err)
	}
	return keys, nil
}

// RevokeKey ends an API key, given by name or id. It returns ErrNotFound if none in use is meant.
func (s *Store) RevokeKey(ctx context.Context, nameOrID string, actor provisioning.Actor) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		var id uuid.UUID
		var name string
		err := tx.QueryRow(ctx, `
			UPDATE api_keys
			SET
				revoked_at = $2,
				revoked_by = $3
			WHERE id = (
				SELECT id
				FROM api_keys
				WHERE revoked_at IS NULL
					AND (name = $1 OR id::text = $1)
				ORDER BY id::text = $1 DESC
				LIMIT 1
				FOR UPDATE
			)
			RETURNING
				id,
				name`, strings.TrimSpace(nameOrID), s.Now(), actor).Scan(&id, &name)
		if errors.Is(err, pgx.ErrNoRows) {
			// What was asked for is not repeated: people mistake the key for its name.
			return fmt.Errorf("an API key in use of this name or id: %w", ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("revoke the API key: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: string(actor), Action: "key.revoke", Object: "key " + name, Before: audit.Fields{"id": id},
		})
	})
}

// Key returns the key that a program presents and counts as its use. It returns ErrBadKey.
func (s *Store) Key(ctx context.Context, presented provisioning.Secret, from netip.Addr) (Key, error) {
	if !strings.HasPrefix(presented.Reveal(), keyPrefix) {
		return Key{}, ErrBadKey
	}
	rows, err := s.DB.Query(ctx, `
		SELECT `+keyColumns+`
		FROM api_keys
		WHERE key_hash = $1`, hashSecret(presented))
	if err != nil {
		return Key{}, fmt.Errorf("read the API key: %w", err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Key])
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, ErrBadKey
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the API key: %w", err)
	}
	now := s.Now()
	if !k.Works(now) {
		return Key{}, ErrBadKey
	}
	if k.UsedAt == nil || now.Sub(*k.UsedAt) >= touchAfter {
		if _, err := s.DB.Exec(ctx, `
			UPDATE api_keys
			SET
				used_at = $2,
				used_from = $3
			WHERE id = $1`, k.ID, now, shownAddress(from)); err != nil {
			return Key{}, fmt.Errorf("touch the API key: %w", err)
		}
	}
	return k, nil
}
