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

// InvitationLife is how long somebody who is invited has time to come.
const InvitationLife = 7 * 24 * time.Hour

// MailInvitation is the mail with the link of an invitation.
const MailInvitation provisioning.LetterKind = "operator_invitation"

// Mailer queues a mail with a one-time link, in the transaction of its cause. The mail asks for the link's URL when it
// is written (LinkURL). Package notify implements it.
type Mailer interface {
	QueueEntry(ctx context.Context, tx pgx.Tx, to string, kind provisioning.LetterKind, link uuid.UUID, facts map[string]string) error
}

// Invitation is somebody who was invited and has not come yet.
type Invitation struct {
	ID        uuid.UUID
	Email     string
	Role      Role
	InvitedBy provisioning.Actor
	CreatedAt time.Time
	ExpiresAt time.Time // may be over
}

// Invited is an invitation that was made.
type Invited struct {
	Invitation
	Link string // to hand over; empty if it was mailed
}

// Invite asks somebody to become an operator: by mail, or without a mail server by the link that it returns this once.
// Whoever was invited before is invited anew, and the earlier link no longer works. It returns ErrEmail, ErrRole or
// ErrEmailTaken.
func (s *Store) Invite(ctx context.Context, email string, role Role, actor provisioning.Actor) (Invited, error) {
	email, err := parseEmail(email)
	if err != nil {
		return Invited{}, err
	}
	if role, err = ParseRole(string(role)); err != nil {
		return Invited{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Invited{}, fmt.Errorf("invite an operator: %w", err)
	}
	now := s.Now().Truncate(time.Microsecond)
	in := Invited{Invitation: Invitation{
		ID: id, Email: email, Role: role, InvitedBy: actor, CreatedAt: now, ExpiresAt: now.Add(InvitationLife),
	}}
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error { return s.invite(ctx, tx, in.Invitation) })
	if err != nil {
		return Invited{}, err
	}
	if s.Mailer == nil {
		in.Link = s.LinkURL(id)
	}
	return in, nil
}

func (s *Store) invite(ctx context.Context, tx pgx.Tx, in Invitation) error {
	tag, err := tx.Exec(ctx, `
		INSERT INTO entry_links (id, token_hash, purpose, email, role, made_by, created_at, expires_at)
		SELECT $1, $2, 'invitation', $3, $4, $5, $6, $7
		WHERE NOT EXISTS (SELECT FROM operators WHERE lower(email) = lower($3))
		ON CONFLICT (lower(email)) WHERE purpose = 'invitation' AND used_at IS NULL DO UPDATE
		SET
			id = excluded.id,
			token_hash = excluded.token_hash,
			email = excluded.email,
			role = excluded.role,
			made_by = excluded.made_by,
			created_at = excluded.created_at,
			expires_at = excluded.expires_at`,
		in.ID, hashSecret(s.mailedToken(in.ID)), in.Email, in.Role, in.InvitedBy, in.CreatedAt, in.ExpiresAt)
	if err != nil {
		return fmt.Errorf("invite an operator: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrEmailTaken
	}
	if s.Mailer != nil {
		err := s.Mailer.QueueEntry(ctx, tx, in.Email, MailInvitation, in.ID, map[string]string{
			"by":      string(in.InvitedBy),
			"role":    string(in.Role),
			"expires": in.ExpiresAt.Format(time.RFC3339),
		})
		if err != nil {
			return err
		}
	}
	return audit.Record(ctx, tx, audit.Entry{
		Actor: string(in.InvitedBy), Action: "operator.invite", Object: "operator " + in.Email, After: audit.Fields{"role": in.Role},
	})
}

// InviteAgain is Invite for somebody who was invited before. It returns ErrNotFound if there is no such invitation any
// more.
func (s *Store) InviteAgain(ctx context.Context, id uuid.UUID, actor provisioning.Actor) (Invited, error) {
	var email string
	var role Role
	err := s.DB.QueryRow(ctx, `
		SELECT
			email,
			role
		FROM entry_links
		WHERE id = $1
			AND purpose = 'invitation'
			AND used_at IS NULL`, id).Scan(&email, &role)
	if errors.Is(err, pgx.ErrNoRows) {
		return Invited{}, fmt.Errorf("invitation %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Invited{}, fmt.Errorf("read the invitation: %w", err)
	}
	return s.Invite(ctx, email, role, actor)
}

// Invitations returns who was invited and has neither come nor been taken back, by address.
func (s *Store) Invitations(ctx context.Context) ([]Invitation, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT
			id,
			email,
			role,
			made_by,
			created_at,
			expires_at
		FROM entry_links
		WHERE purpose = 'invitation'
			AND used_at IS NULL
		ORDER BY lower(email)`)
	if err != nil {
		return nil, fmt.Errorf("list the invitations: %w", err)
	}
	invitations, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Invitation])
	if err != nil {
		return nil, fmt.Errorf("list the invitations: %w", err)
	}
	return invitations, nil
}

// TakeBack ends an invitation: its link no longer works. It returns ErrNotFound if it is over already.
func (s *Store) TakeBack(ctx context.Context, id uuid.UUID, actor provisioning.Actor) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		var email string
		err := tx.QueryRow(ctx, `
			DELETE FROM entry_links
			WHERE id = $1
				AND purpose = 'invitation'
				AND used_at IS NULL
			RETURNING email`, id).Scan(&email)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("invitation %s: %w", id, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("take the invitation back: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{Actor: string(actor), Action: "operator.uninvite", Object: "operator " + email})
	})
}

// Accept uses the link of an invitation: it makes the operator and signs in. It returns ErrLinkUnknown, ErrLinkUsed or
// ErrLinkExpired, ErrEmailTaken if the operator was added otherwise, and ErrName or ErrPassword, after which the link
// is still good.
func (s *Store) Accept(ctx context.Context, token provisioning.Secret, name string, password provisioning.Secret, v Visitor) (provisioning.Secret, Operator, error) {
	link, err := s.peekFor(ctx, token, ForInvitation)
	if err != nil {
		return "", Operator{}, err
	}
	o, hash, err := s.newOperator(ctx, NewOperator{Email: link.Email, Name: name, Role: link.Role, Password: password})
	if err != nil {
		return "", Operator{}, err
	}
	var session provisioning.Secret
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
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
