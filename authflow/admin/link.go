package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

var (
	// ErrSetUp means that there is an operator, so that there is nothing to set up.
	ErrSetUp = errors.New("there is already an operator: sign in, or add one with: countersign admin add")
	// ErrLinkUnknown means that there is no such link, or not of this kind.
	ErrLinkUnknown = errors.New("no link has this token")
	// ErrLinkUsed means that the link did its work, or that another set-up link did.
	ErrLinkUsed = errors.New("this link has been used")
	// ErrLinkExpired means that the link is too old.
	ErrLinkExpired = errors.New("this link has expired")
)

// Link is what a one-time link is good for.
type Link struct {
	SetUp     bool   // it makes the first operator; otherwise it signs one in
	Email     string // of the operator whom it signs in
	ExpiresAt time.Time
}

// SetupLink makes a link that sets up the first operator. It returns ErrSetUp if there is one.
func (s *Store) SetupLink(ctx context.Context) (provisioning.Secret, error) {
	token, hash := newSecret("")
	now := s.Now()
	tag, err := s.DB.Exec(ctx, `
		INSERT INTO entry_links (token_hash, created_at, expires_at)
		SELECT $1, $2, $3
		WHERE NOT EXISTS (SELECT FROM operators)`, hash, now, now.Add(s.LinkLife))
	if err != nil {
		return "", fmt.Errorf("make a set-up link: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return "", ErrSetUp
	}
	return token, nil
}

// SignInLink makes a link that signs an operator in. It returns ErrNotFound.
func (s *Store) SignInLink(ctx context.Context, operator uuid.UUID) (provisioning.Secret, error) {
	token, hash := newSecret("")
	now := s.Now()
	tag, err := s.DB.Exec(ctx, `
		INSERT INTO entry_links (token_hash, operator_id, created_at, expires_at)
		SELECT $1, id, $3, $4
		FROM operators
		WHERE id = $2`, hash, operator, now, now.Add(s.LinkLife))
	if err != nil {
		return "", fmt.Errorf("make a sign-in link: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return "", fmt.Errorf("operator %s: %w", operator, ErrNotFound)
	}
	return token, nil
}

// PeekLink tells what a link is good for and leaves it as it is. It returns ErrLinkUnknown,
// ErrLinkUsed or ErrLinkExpired if it is good for nothing.
func (s *Store) PeekLink(ctx context.Context, token provisioning.Secret) (Link, error) {
	var l Link
	var used, operators bool
	err := s.DB.QueryRow(ctx, `
		SELECT
			l.operator_id IS NULL,
			coalesce(o.email, ''),
			l.expires_at,
			l.used_at IS NOT NULL,
			EXISTS (SELECT FROM operators)
		FROM entry_links l
		LEFT JOIN operators o ON o.id = l.operator_id
		WHERE l.token_hash = $1`, hashSecret(token),
	).Scan(&l.SetUp, &l.Email, &l.ExpiresAt, &used, &operators)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Link{}, ErrLinkUnknown
	case err != nil:
		return Link{}, fmt.Errorf("read the link: %w", err)
	case used || l.SetUp && operators:
		return Link{}, ErrLinkUsed
	case !s.Now().Before(l.ExpiresAt):
		return Link{}, ErrLinkExpired
	}
	return l, nil
}

// useLink is the one place where a link is used up. Only one of several at once succeeds; the others
// get ErrLinkUsed.
func (s *Store) useLink(ctx context.Context, tx pgx.Tx, token provisioning.Secret) error {
	tag, err := tx.Exec(ctx, `
		UPDATE entry_links
		SET used_at = $2
		WHERE token_hash = $1
			AND used_at IS NULL`, hashSecret(token), s.Now())
	if err != nil {
		return fmt.Errorf("use the link: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrLinkUsed
	}
	return nil
}

// SetUp uses a set-up link: it makes the first operator and signs in. It returns ErrLinkUnknown,
// ErrLinkUsed or ErrLinkExpired, and ErrEmail, ErrName or ErrPassword, after which the link is still good.
func (s *Store) SetUp(ctx context.Context, token provisioning.Secret, email, name string, password provisioning.Secret) (provisioning.Secret, Operator, error) {
	link, err := s.PeekLink(ctx, token)
	if err != nil {
		return "", Operator{}, err
	}
	if !link.SetUp {
		return "", Operator{}, ErrLinkUnknown
	}
	o, hash, err := s.newOperator(ctx, email, name, password)
	if err != nil {
		return "", Operator{}, err
	}
	var session provisioning.Secret
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if err := lockOperators(ctx, tx); err != nil {
			return err
		}
		if found, err := anyOperator(ctx, tx); err != nil {
			return err
		} else if found {
			return ErrLinkUsed
		}
		if err := s.useLink(ctx, tx, token); err != nil {
			return err
		}
		if err := insertOperator(ctx, tx, o, hash); err != nil {
			return err
		}
		session, o, err = s.openSession(ctx, tx, o.ID)
		return err
	})
	if err != nil {
		return "", Operator{}, err
	}
	return session, o, nil
}

// Enter uses a sign-in link. It returns ErrLinkUnknown, ErrLinkUsed or ErrLinkExpired.
func (s *Store) Enter(ctx context.Context, token provisioning.Secret) (provisioning.Secret, Operator, error) {
	link, err := s.PeekLink(ctx, token)
	if err != nil {
		return "", Operator{}, err
	}
	if link.SetUp {
		return "", Operator{}, ErrLinkUnknown
	}
	var session provisioning.Secret
	var o Operator
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		var id uuid.UUID
		err := tx.QueryRow(ctx, `
			SELECT o.id
			FROM operators o
			JOIN entry_links l ON l.operator_id = o.id
			WHERE l.token_hash = $1
			FOR UPDATE OF o`, hashSecret(token)).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrLinkUnknown // It went with its operator in this instant.
		}
		if err != nil {
			return fmt.Errorf("use the link: %w", err)
		}
		if err := s.useLink(ctx, tx, token); err != nil {
			return err
		}
		session, o, err = s.openSession(ctx, tx, id)
		return err
	})
	if err != nil {
		return "", Operator{}, err
	}
	return session, o, nil
}
