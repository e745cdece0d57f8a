package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// TokenShelf keeps a token of ours where all replicas find it, sealed. One that is sealed with a key that is gone is asked
// for anew: it lives an hour.
type TokenShelf struct {
	DB    provisioning.DB
	Vault *Vault
	Name  string // of whose it is and where it comes from
	Now   func() time.Time
}

const (
	// tokenLease is longer than a request for a token takes; a replica that dies meanwhile costs the others that long.
	tokenLease = 30 * time.Second
	tokenLook  = 200 * time.Millisecond
)

// Token returns the token on the shelf if it is good for at least margin and not the one that was refused. Else it has
// fetch get another, for one caller at a time over all replicas, and keeps that; the others wait for it.
func (s *TokenShelf) Token(
	ctx context.Context, margin time.Duration, refused provisioning.Secret, fetch func(context.Context) (provisioning.Tokens, error),
) (provisioning.Secret, error) {
	if _, err := s.DB.Exec(ctx, `INSERT INTO partner_tokens (name) VALUES ($1) ON CONFLICT DO NOTHING`, s.Name); err != nil {
		return "", fmt.Errorf("look for the partner's token: %w", err)
	}
	for {
		token, err := s.read(ctx, margin, refused)
		if token != "" || err != nil {
			return token, err
		}
		lease := uuid.New()
		tag, err := s.DB.Exec(ctx, `
			UPDATE partner_tokens
			SET
				leased_by = $2,
				leased_till = $3
			WHERE name = $1
				AND leased_till <= $4`, s.Name, lease, s.Now().Add(tokenLease), s.Now())
		if err != nil {
			return "", fmt.Errorf("look for the partner's token: %w", err)
		}
		if tag.RowsAffected() == 1 {
			return s.renew(ctx, lease, margin, refused, fetch)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(tokenLook):
		}
	}
}

// read returns the token on the shelf; empty if there is none that is good.
func (s *TokenShelf) read(ctx context.Context, margin time.Duration, refused provisioning.Secret) (provisioning.Secret, error) {
	var sealed []byte
	err := s.DB.QueryRow(ctx, `
		SELECT sealed
		FROM partner_tokens
		WHERE name = $1
			AND expires_at > $2`, s.Name, s.Now().Add(margin)).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the partner's token: %w", err)
	}
	token, err := s.Vault.Open(sealed, s.ad())
	if err != nil || provisioning.Secret(token) == refused {
		return "", nil //nolint:nilerr // Another one is asked for.
	}
	return provisioning.Secret(token), nil
}

func (s *TokenShelf) ad() AD { return AD{Row: s.Name, Kind: "partner_token"} }

// renew gets another token and lets the others have it. The lease ends whatever comes of it.
func (s *TokenShelf) renew(
	ctx context.Context, lease uuid.UUID, margin time.Duration, refused provisioning.Secret, fetch func(context.Context) (provisioning.Tokens, error),
) (provisioning.Secret, error) {
	token, err := s.read(ctx, margin, refused) // Somebody may have been faster.
	if token != "" || err != nil {
		return token, errors.Join(err, s.release(ctx, lease))
	}
	tokens, err := fetch(ctx)
	if err != nil {
		return "", errors.Join(err, s.release(context.WithoutCancel(ctx), lease))
	}
	_, err = s.DB.Exec(ctx, `
		UPDATE partner_tokens
		SET
			sealed = $3,
			expires_at = $4,
			leased_by = NULL,
			leased_till = '-infinity'
		WHERE name = $1
			AND leased_by = $2`, s.Name, lease, s.Vault.Seal([]byte(tokens.Access.Reveal()), s.ad()), tokens.ExpiresAt)
	if err != nil {
		return "", fmt.Errorf("keep the partner's token: %w", err)
	}
	return tokens.Access, nil
}

func (s *TokenShelf) release(ctx context.Context, lease uuid.UUID) error {
	_, err := s.DB.Exec(ctx, `
		UPDATE partner_tokens
		SET
			leased_by = NULL,
			leased_till = '-infinity'
		WHERE name = $1
			AND leased_by = $2`, s.Name, lease)
	if err != nil {
		return fmt.Errorf("let others ask for the partner's token: %w", err)
	}
	return nil
}
