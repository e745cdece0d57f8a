package admin

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
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

// Purpose is what a one-time link is good for.
type Purpose string

const (
	ForSetUp      Purpose = "set_up"      // makes the first operator: SetUp
	ForSignIn     Purpose = "sign_in"     // signs its operator in: Enter
	ForInvitation Purpose = "invitation"  // makes an operator: Accept
	ForReset      Purpose = "reset"       // gives its operator another password: Reset
	forSecondStep Purpose = "second_step" // no link but the token of SecondStep; PeekLink does not know it
)

// Link is a one-time link that can still be used.
type Link struct {
	Purpose   Purpose
	Email     string // of its operator, or of whom is invited; empty before set-up
	Role      Role   // of an invitation
	ExpiresAt time.Time
}

// URL returns where the link of a token leads.
func (s *Store) URL(token provisioning.Secret) string {
	return s.PublicURL + "/admin/enter/" + token.Reveal()
}

// LinkURL returns the link of that id, one that is mailed. It is the same at every call.
func (s *Store) LinkURL(id uuid.UUID) string { return s.URL(s.mailedToken(id)) }

// mailedToken derives the token of a link that is mailed from its id, so that neither the link nor the mail has to be
// kept in clear, and a mail that is sent once more says the same.
func (s *Store) mailedToken(id uuid.UUID) provisioning.Secret {
	mac := hmac.New(sha256.New, s.LinkKey)
	mac.Write([]byte("entry link"))
	mac.Write(id[:])
	return provisioning.Secret(base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}

// SetupLink makes a link that sets up the first operator. It returns ErrSetUp if there is one.
func (s *Store) SetupLink(ctx context.Context) (provisioning.Secret, error) {
	token, hash := newSecret("")
	now := s.Now()
	tag, err := s.DB.Exec(ctx, `
		INSERT INTO entry_links (token_hash, purpose, created_at, expires_at)
		SELECT $1, 'set_up', $2, $3
		WHERE NOT EXISTS (SELECT FROM operators)`, hash, now, now.Add(s.LinkLife))
	if err != nil {
		return "", fmt.Errorf("make a set-up link: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return "", ErrSetUp
	}
	return token, nil
}

// SignInLink makes a link that signs an operator in, given by address or id. It returns ErrNotFound.
func (s *Store) SignInLink(ctx context.Context, who string, actor provisioning.Actor) (token provisioning.Secret, err error) {
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, who)
		if err != nil {
			return err
		}
		if token, err = s.insertLink(ctx, tx, ForSignIn, o.ID, s.LinkLife); err != nil {
			return err
		}
		return record(ctx, tx, actor, "operator.sign_in_link", o, nil, nil)
	})
	return token, err
}

// insertLink makes a one-time link of an operator with a random token.
func (s *Store) insertLink(ctx context.Context, tx pgx.Tx, p Purpose, operator uuid.UUID, life time.Duration) (provisioning.Secret, error) {
	token, hash := newSecret("")
	now := s.Now()
	if _, err := tx.Exec(ctx, `
		INSERT INTO entry_links (token_hash, purpose, operator_id, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5)`, hash, p, operator, now, now.Add(life)); err != nil {
		return "", fmt.Errorf("make a link of purpose %s: %w", p, err)
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
			l.purpose,
			coalesce(o.email, l.email, ''),
			coalesce(l.role, ''),
			l.expires_at,
			l.used_at IS NOT NULL,
			EXISTS (SELECT FROM operators)
		FROM entry_links l
		LEFT JOIN operators o ON o.id = l.operator_id
		WHERE l.token_hash = $1`, hashSecret(token),
	).Scan(&l.Purpose, &l.Email, &l.Role, &l.ExpiresAt, &used, &operators)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && l.Purpose == forSecondStep:
		return Link{}, ErrLinkUnknown
	case err != nil:
		return Link{}, fmt.Errorf("read the link: %w", err)
	case used || l.Purpose == ForSetUp && operators:
		return Link{}, ErrLinkUsed
	case !s.Now().Before(l.ExpiresAt):
		return Link{}, ErrLinkExpired
	}
	return l, nil
}

// peekFor is PeekLink for a link that is to be of a purpose. It returns ErrLinkUnknown if it is of another.
func (s *Store) peekFor(ctx context.Context, token provisioning.Secret, p Purpose) (Link, error) {
	link, err := s.PeekLink(ctx, token)
	if err == nil && link.Purpose != p {
		err = ErrLinkUnknown
	}
	return link, err
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

// lockByLink locks the operator whose link it is. It returns ErrLinkUnknown if there is none any more.
func lockByLink(ctx context.Context, tx pgx.Tx, token provisioning.Secret) (Operator, error) {
	var id uuid.UUID
	err := tx.QueryRow(ctx, `
		SELECT o.id
		FROM operators o
		JOIN entry_links l ON l.operator_id = o.id
		WHERE l.token_hash = $1
		FOR UPDATE OF o`, hashSecret(token)).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, ErrLinkUnknown // It went with its operator, or with their password, in this instant.
	}
	if err != nil {
		return Operator{}, fmt.Errorf("use the link: %w", err)
	}
	return findOperator(ctx, tx, id.String(), "")
}

// SetUp uses a set-up link: it makes the first operator, an owner whatever n says, and signs in. It returns
// ErrLinkUnknown, ErrLinkUsed or ErrLinkExpired, and ErrEmail, ErrName or ErrPassword, after which the link is still good.
func (s *Store) SetUp(ctx context.Context, token provisioning.Secret, n NewOperator, v Visitor) (provisioning.Secret, Operator, error) {
	if _, err := s.peekFor(ctx, token, ForSetUp); err != nil {
		return "", Operator{}, err
	}
	n.Role = RoleOwner
	o, hash, err := s.newOperator(ctx, n)
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
		if session, o, err = s.openSession(ctx, tx, o.ID, v); err != nil {
			return err
		}
		return recordAdded(ctx, tx, o.actor(), o)
	})
	if err != nil {
		return "", Operator{}, err
	}
	return session, o, nil
}

// Enter uses a sign-in link. It returns ErrLinkUnknown, ErrLinkUsed or ErrLinkExpired, or ErrSecondFactor as SignIn
// does.
func (s *Store) Enter(ctx context.Context, token provisioning.Secret, v Visitor) (provisioning.Secret, Operator, error) {
	if _, err := s.peekFor(ctx, token, ForSignIn); err != nil {
		return "", Operator{}, err
	}
	return s.letIn(ctx, v, func(tx pgx.Tx) (uuid.UUID, error) {
		o, err := lockByLink(ctx, tx, token)
		if err != nil {
			return uuid.Nil, err
		}
		return o.ID, s.useLink(ctx, tx, token)
	})
}
