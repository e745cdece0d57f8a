package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

var (
	// ErrStranger means that somebody is known to the issuer of single sign-on, and nobody here.
	ErrStranger = errors.New("there is no operator with this e-mail address: ask an owner for an invitation")
	// ErrOtherIdentity means that an operator is bound to another account at the issuer than the one that came.
	ErrOtherIdentity = errors.New("the operator with this e-mail address has signed in with another account of the same issuer before")
)

// Identity is who somebody is, by the word of an issuer that was verified: package sso does that.
type Identity struct {
	Issuer, Subject string
	Email           string // verified by the issuer
	Name            string // may be empty
}

// SignInAs begins a session for whoever an issuer vouches for. The issuer's subject decides who that is. Where it is new,
// the address does, and the subject is bound to that operator; an address that nobody has makes an operator with the role
// of their invitation, or else with the newcomers' role. A second factor is not asked for: signing in is the issuer's
// matter then, and so is a second factor.
//
// It returns ErrStranger if nobody here is meant and newcomers is empty, ErrOtherIdentity, or ErrEmail.
func (s *Store) SignInAs(ctx context.Context, id Identity, newcomers Role, v Visitor) (token provisioning.Secret, o Operator, err error) {
	if id.Email, err = parseEmail(id.Email); err != nil {
		return "", Operator{}, err
	}
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		// Two windows of a person who comes for the first time wait for each other.
		if err := lockOperators(ctx, tx); err != nil {
			return err
		}
		action := ""
		if o, action, err = s.identify(ctx, tx, id, newcomers); err != nil {
			return err
		}
		if token, o, err = s.openSession(ctx, tx, o.ID, v); err != nil || action == "" {
			return err
		}
		return record(ctx, tx, o.actor(), action, o, nil, audit.Fields{
			"name": o.Name, "role": o.Role, "issuer": id.Issuer, "subject": id.Subject,
		})
	})
	if err != nil {
		return "", Operator{}, err
	}
	return token, o, nil
}

// identify returns the operator whom an identity means, locked, and what the audit trail calls the change, if there was one.
func (s *Store) identify(ctx context.Context, tx pgx.Tx, id Identity, newcomers Role) (o Operator, action string, err error) {
	var known uuid.UUID
	err = tx.QueryRow(ctx, `
		SELECT operator_id
		FROM identities
		WHERE issuer = $1
			AND subject = $2`, id.Issuer, id.Subject).Scan(&known)
	if err == nil {
		o, err = lockOperator(ctx, tx, known.String())
		return o, "", err
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, "", fmt.Errorf("look for the identity: %w", err)
	}
	action = "operator.identify"
	o, err = lockOperator(ctx, tx, id.Email)
	if errors.Is(err, ErrNotFound) {
		action = "operator.add"
		o, err = s.admitNewcomer(ctx, tx, id, newcomers)
	}
	if err != nil {
		return Operator{}, "", err
	}
	tag, err := tx.Exec(ctx, `
		INSERT INTO identities (issuer, subject, operator_id, created_at)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (operator_id, issuer) DO NOTHING`, id.Issuer, id.Subject, o.ID, s.Now())
	if err != nil {
		return Operator{}, "", fmt.Errorf("bind the identity: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return Operator{}, "", ErrOtherIdentity
	}
	return o, action, nil
}

// admitNewcomer makes an operator without a password. An invitation that waits for the address is used up. Nobody comes in
// like this before set-up is over: the first operator is its owner.
func (s *Store) admitNewcomer(ctx context.Context, tx pgx.Tx, id Identity, role Role) (Operator, error) {
	if found, err := anyOperator(ctx, tx); err != nil {
		return Operator{}, err
	} else if !found {
		return Operator{}, ErrStranger
	}
	now := s.Now().Truncate(time.Microsecond)
	err := tx.QueryRow(ctx, `
		UPDATE entry_links
		SET used_at = $2
		WHERE purpose = 'invitation'
			AND lower(email) = lower($1)
			AND used_at IS NULL
			AND expires_at > $2
		RETURNING role`, id.Email, now).Scan(&role)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, fmt.Errorf("look for an invitation: %w", err)
	}
	if role == "" {
		return Operator{}, ErrStranger
	}
	name, err := parseName(id.Name)
	if err != nil {
		name = id.Email
	}
	key, err := uuid.NewV7()
	if err != nil {
		return Operator{}, fmt.Errorf("add the operator: %w", err)
	}
	const noPassword = "" // which no password matches
	o := Operator{ID: key, Email: id.Email, Name: name, Role: role, CreatedAt: now}
	return o, insertOperator(ctx, tx, o, noPassword)
}
