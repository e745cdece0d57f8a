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

const (
	// MailReset is the mail with a link to set another password.
	MailReset provisioning.LetterKind = "password_reset"

	// resetLife is how long such a link works.
	resetLife = time.Hour
)

// ErrNoMail means that there is no mail server, which the link would have to go through.
var ErrNoMail = errors.New("no mail server is set up: countersign admin sign-in-link lets an operator in")

// RequestReset mails an operator a link to set another password. Earlier ones no longer work. It tells nobody whether
// there is such an operator: it returns nil all the same, and not before ResetTime has passed. It returns ErrNoMail or a
// *ThrottledError.
func (s *Store) RequestReset(ctx context.Context, email string, v Visitor) error {
	if s.Mailer == nil {
		return ErrNoMail
	}
	now := s.Now()
	wait := s.resetsByAddress.take(addressKey(v.Address), now)
	if wait == 0 {
		wait = s.resetsByEmail.take(emailKey(email), now)
	}
	if wait > 0 {
		return &ThrottledError{RetryAfter: wait}
	}
	answer := time.NewTimer(s.ResetTime)
	defer answer.Stop()
	if err := s.mailReset(ctx, email); err != nil {
		return err
	}
	select {
	case <-answer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("request another password: %w", context.Cause(ctx))
	}
}

// mailReset does nothing for an address that is no operator's.
func (s *Store) mailReset(ctx context.Context, email string) error {
	email, err := parseEmail(email)
	if err != nil {
		return nil //nolint:nilerr // It is no operator's.
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("mail a link to set another password: %w", err)
	}
	now := s.Now()
	expires := now.Add(resetLife)
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, email)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			DELETE FROM entry_links
			WHERE operator_id = $1
				AND purpose = 'reset'
				AND used_at IS NULL`, o.ID); err != nil {
			return fmt.Errorf("end earlier links: %w", err)
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO entry_links (id, token_hash, purpose, operator_id, created_at, expires_at)
			VALUES ($1, $2, 'reset', $3, $4, $5)`, id, hashSecret(s.mailedToken(id)), o.ID, now, expires); err != nil {
			return fmt.Errorf("make a link to set another password: %w", err)
		}
		return s.Mailer.QueueEntry(ctx, tx, o.Email, MailReset, id, map[string]string{"expires": expires.Format(time.RFC3339)})
	})
}

// Reset uses a link to set another password, and ends all sessions and other links of its operator. It signs nobody in:
// a second factor is still asked for. It returns ErrLinkUnknown, ErrLinkUsed or ErrLinkExpired, and ErrPassword, after
// which the link is still good.
func (s *Store) Reset(ctx context.Context, token, password provisioning.Secret) (Operator, error) {
	if _, err := s.peekFor(ctx, token, ForReset); err != nil {
		return Operator{}, err
	}
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return Operator{}, err
	}
	var o Operator
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if o, err = lockByLink(ctx, tx, token); err != nil {
			return err
		}
		if err := s.useLink(ctx, tx, token); err != nil {
			return err
		}
		return setPassword(ctx, tx, o, hash, "", o.actor())
	})
	return o, err
}
