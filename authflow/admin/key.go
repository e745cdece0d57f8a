package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

var (
	// ErrBadKey means that a presented key is none of ours, or was revoked.
	ErrBadKey = errors.New("this API key is not valid")
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

func (s Scope) known() bool {
	return slices.Contains([]Scope{ScopeRead, ScopeWrite, ScopeLinks, ScopeTokens, ScopeAdmin}, s)
}

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
		if !s.known() {
			return fmt.Errorf("%w, and not %q", ErrScopes, string(s))
		}
	}
	return nil
}

// keyPrefix makes keys known at sight, to people and to programs that look for leaked ones.
const keyPrefix = "csk_"

// Key is an API key, without the key itself.
type Key struct {
	ID        uuid.UUID
	Name      string
	Scopes    []Scope
	CreatedAt time.Time
	UsedAt    *time.Time // to the minute
	RevokedAt *time.Time
}

// May reports whether the key has the scope.
func (k Key) May(s Scope) bool { return slices.Contains(k.Scopes, s) }

// CreateKey makes an API key and returns it this once. It returns ErrName, ErrScopes or
// ErrKeyNameTaken.
func (s *Store) CreateKey(ctx context.Context, name string, scopes []Scope) (provisioning.Secret, Key, error) {
	name, err := parseName(name)
	if err != nil {
		return "", Key{}, err
	}
	if err := checkScopes(scopes); err != nil {
		return "", Key{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", Key{}, fmt.Errorf("make an API key: %w", err)
	}
	k := Key{
		ID:        id,
		Name:      name,
		Scopes:    slices.Compact(slices.Sorted(slices.Values(scopes))),
		CreatedAt: s.Now().Truncate(time.Microsecond),
	}
	secret, hash := newSecret(keyPrefix)
	tag, err := s.DB.Exec(ctx, `
		INSERT INTO api_keys (id, name, key_hash, scopes, created_at)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING`, k.ID, k.Name, hash, k.Scopes, k.CreatedAt)
	if err != nil {
		return "", Key{}, fmt.Errorf("make an API key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return "", Key{}, ErrKeyNameTaken
	}
	return secret, k, nil
}

// Keys returns all API keys, revoked ones included, oldest first.
func (s *Store) Keys(ctx context.Context) ([]Key, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT
			id,
			name,
			scopes,
			created_at,
			used_at,
			revoked_at
		FROM api_keys
		ORDER BY created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list the API keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByName[Key])
	if err != nil {
		return nil, fmt.Errorf("list the API keys: %w", err)
	}
	return keys, nil
}

// RevokeKey ends an API key, given by name or id. It returns ErrNotFound if none in use is meant.
func (s *Store) RevokeKey(ctx context.Context, nameOrID string) error {
	tag, err := s.DB.Exec(ctx, `
		UPDATE api_keys
		SET revoked_at = $2
		WHERE revoked_at IS NULL
			AND (name = $1 OR id::text = $1)`, strings.TrimSpace(nameOrID), s.Now())
	if err != nil {
		return fmt.Errorf("revoke the API key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		// What was asked for is not repeated: people mistake the key for its name.
		return fmt.Errorf("an API key in use of this name or id: %w", ErrNotFound)
	}
	return nil
}

// Key returns the key that a program presents and counts as its use. It returns ErrBadKey.
func (s *Store) Key(ctx context.Context, presented provisioning.Secret) (Key, error) {
	if !strings.HasPrefix(presented.Reveal(), keyPrefix) {
		return Key{}, ErrBadKey
	}
	rows, err := s.DB.Query(ctx, `
		SELECT
			id,
			name,
			scopes,
			created_at,
			used_at,
			revoked_at
		FROM api_keys
		WHERE key_hash = $1
			AND revoked_at IS NULL`, hashSecret(presented))
	if err != nil {
		return Key{}, fmt.Errorf("read the API key: %w", err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Key])
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, ErrBadKey
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the API key: %w", err)
	}
	if now := s.Now(); k.UsedAt == nil || now.Sub(*k.UsedAt) >= touchAfter {
		if _, err := s.DB.Exec(ctx, `UPDATE api_keys SET used_at = $2 WHERE id = $1`, k.ID, now); err != nil {
			return Key{}, fmt.Errorf("touch the API key: %w", err)
		}
	}
	return k, nil
}
