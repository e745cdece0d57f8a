package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

var (
	// ErrBadCredentials means that address and password do not belong together, and not which is wrong.
	ErrBadCredentials = errors.New("e-mail address or password is wrong")
	// ErrNoSession means that a token opens no session, or no longer does.
	ErrNoSession = errors.New("there is no such session, or it has ended")
)

// Visitor is where somebody comes from.
type Visitor struct {
	Address netip.Addr // the zero one if it is unknown; all such visitors share one limit
	Browser string     // in words, such as Firefox on Linux
}

// SignIn begins a session and returns its token. Attempts are limited by e-mail address and by the
// network address they come from.
//
// It returns ErrBadCredentials, a *ThrottledError, which matches ErrThrottled, or ErrSecondFactor: the token is then
// one for SecondStep and opens nothing by itself.
func (s *Store) SignIn(ctx context.Context, email string, password provisioning.Secret, v Visitor) (provisioning.Secret, Operator, error) {
	if err := s.admit(email, v.Address); err != nil {
		return "", Operator{}, err
	}
	email, err := parseEmail(email)
	if err != nil {
		return "", Operator{}, ErrBadCredentials
	}
	var id uuid.UUID
	var hash string
	err = s.DB.QueryRow(ctx, `
		SELECT
			id,
			password_hash
		FROM operators
		WHERE lower(email) = lower($1)`, email).Scan(&id, &hash)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", Operator{}, fmt.Errorf("sign in: %w", err)
	}
	match, err := s.checkPassword(ctx, password, hash)
	if err != nil {
		return "", Operator{}, err
	}
	if !match {
		return "", Operator{}, ErrBadCredentials
	}
	token, o, err := s.letIn(ctx, v, func(tx pgx.Tx) (uuid.UUID, error) {
		// The password may have been changed since it was compared.
		tag, err := tx.Exec(ctx, `
			SELECT
			FROM operators
			WHERE id = $1
				AND password_hash = $2
			FOR UPDATE`, id, hash)
		if err != nil {
			return id, fmt.Errorf("sign in: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return id, ErrBadCredentials
		}
		return id, nil
	})
	if err == nil || errors.Is(err, ErrSecondFactor) {
		s.byEmail.forget(emailKey(email))
	}
	return token, o, err
}

// letIn begins a session for the operator whom prove returns, having locked their row, in one transaction with it. Of
// one with a second factor it begins the second step instead and returns ErrSecondFactor with its token.
func (s *Store) letIn(ctx context.Context, v Visitor, prove func(pgx.Tx) (uuid.UUID, error)) (token provisioning.Secret, o Operator, err error) {
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		id, err := prove(tx)
		if err != nil {
			return err
		}
		if o, err = findOperator(ctx, tx, id.String(), ""); err != nil {
			return err
		}
		if o.SecondFactor {
			token, err = s.openStep(ctx, tx, id)
		} else {
			token, o, err = s.openSession(ctx, tx, id, v)
		}
		return err
	})
	switch {
	case err != nil:
		return "", Operator{}, err
	case o.SecondFactor:
		return token, Operator{}, ErrSecondFactor
	}
	return token, o, nil
}

// openSession begins a session and clears away what has ended of the operator's.
func (s *Store) openSession(ctx context.Context, tx pgx.Tx, operator uuid.UUID, v Visitor) (provisioning.Secret, Operator, error) {
	now := s.Now()
	rows, err := tx.Query(ctx, `
		UPDATE operators
		SET signed_in_at = $2
		WHERE id = $1
		RETURNING `+operatorColumns, operator, now)
	if err != nil {
		return "", Operator{}, fmt.Errorf("open the session: %w", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Operator])
	if err != nil {
		return "", Operator{}, fmt.Errorf("open the session: %w", err)
	}
	if _, err := tx.Exec(ctx, `
		DELETE FROM sessions
		WHERE operator_id = $1
			AND (expires_at <= $2 OR seen_at <= $3)`, operator, now, now.Add(-s.Idle)); err != nil {
		return "", Operator{}, fmt.Errorf("clear ended sessions: %w", err)
	}
	if _, err := tx.Exec(ctx, `
		DELETE FROM entry_links
		WHERE operator_id = $1
			AND expires_at <= $2`, operator, now); err != nil {
		return "", Operator{}, fmt.Errorf("clear links that have run out: %w", err)
	}
	token, hash := newSecret("")
	if _, err := tx.Exec(ctx, `
		INSERT INTO sessions (token_hash, operator_id, browser, address, created_at, seen_at, expires_at)
		VALUES ($1, $2, left($3, 100), $4, $5, $5, $6)`,
		hash, operator, v.Browser, shownAddress(v.Address), now, now.Add(s.Absolute)); err != nil {
		return "", Operator{}, fmt.Errorf("open the session: %w", err)
	}
	return token, o, nil
}

// shownAddress is empty for an unknown address.
func shownAddress(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// Session returns who the session belongs to and counts as its use. It returns ErrNoSession.
func (s *Store) Session(ctx context.Context, token provisioning.Secret) (Operator, error) {
	now, hash := s.Now(), hashSecret(token)
	var o Operator
	var seen time.Time
	err := s.DB.QueryRow(ctx, `
		SELECT
			o.id,
			o.email,
			o.name,
			o.role,
			o.totp_at IS NOT NULL,
			o.created_at,
			o.signed_in_at,
			s.seen_at
		FROM sessions s
		JOIN operators o ON o.id = s.operator_id
		WHERE s.token_hash = $1
			AND s.expires_at > $2
			AND s.seen_at > $3`, hash, now, now.Add(-s.Idle),
	).Scan(&o.ID, &o.Email, &o.Name, &o.Role, &o.SecondFactor, &o.CreatedAt, &o.SignedInAt, &seen)
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, ErrNoSession
	}
	if err != nil {
		return Operator{}, fmt.Errorf("read the session: %w", err)
	}
	if now.Sub(seen) >= touchAfter {
		if _, err := s.DB.Exec(ctx, `UPDATE sessions SET seen_at = $2 WHERE token_hash = $1`, hash, now); err != nil {
			return Operator{}, fmt.Errorf("touch the session: %w", err)
		}
	}
	return o, nil
}

// SignOut ends a session. A token without a session is fine: it has ended already.
func (s *Store) SignOut(ctx context.Context, token provisioning.Secret) error {
	if _, err := s.DB.Exec(ctx, `DELETE FROM sessions WHERE token_hash = $1`, hashSecret(token)); err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}
