package admin

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

const (
	minPassword, maxPassword = 12, 256

	// hashers is how many passwords are hashed at a time. Each takes 19 MiB of memory; the others wait.
	hashers = 4
)

var (
	// ErrPassword means that a new password breaks the rules, which its text names.
	ErrPassword = errors.New("a password needs 12 to 256 characters; four or five words that do not belong together are easy to remember")
	// ErrPresentPassword means that somebody who is signed in does not know the password.
	ErrPresentPassword = errors.New("this is not your present password")
)

// argon2Params is the least memory that OWASP recommends for argon2id.
func argon2Params() *argon2id.Params {
	return &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// hashPassword returns ErrPassword if the password breaks the rules.
func (s *Store) hashPassword(ctx context.Context, password provisioning.Secret) (string, error) {
	if n := utf8.RuneCountInString(password.Reveal()); n < minPassword || n > maxPassword {
		return "", ErrPassword
	}
	if err := s.hashing.Acquire(ctx, 1); err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	defer s.hashing.Release(1)
	return argon2id.CreateHash(password.Reveal(), argon2Params())
}

// checkPassword compares with a stored hash. An empty one matches nothing and takes as long as any,
// so that the time does not tell who is an operator.
func (s *Store) checkPassword(ctx context.Context, password provisioning.Secret, hash string) (bool, error) {
	if err := s.hashing.Acquire(ctx, 1); err != nil {
		return false, fmt.Errorf("check the password: %w", err)
	}
	defer s.hashing.Release(1)
	if hash == "" {
		_, err := argon2id.CreateHash(password.Reveal(), argon2Params())
		return false, err
	}
	return argon2id.ComparePasswordAndHash(password.Reveal(), hash)
}

// confirm asks somebody who is signed in for the password once more, before what a borrowed session must not do. It
// returns ErrPresentPassword or a *ThrottledError.
func (s *Store) confirm(ctx context.Context, o Operator, password provisioning.Secret, v Visitor) error {
	_, err := s.presentHash(ctx, o, password, v)
	return err
}

// presentHash is confirm for whoever has to know later that it was this password.
func (s *Store) presentHash(ctx context.Context, o Operator, password provisioning.Secret, v Visitor) (hash string, err error) {
	if err := s.admit(o.Email, v.Address); err != nil {
		return "", err
	}
	if err := s.DB.QueryRow(ctx, `SELECT password_hash FROM operators WHERE id = $1`, o.ID).Scan(&hash); err != nil {
		return "", fmt.Errorf("check the password: %w", err)
	}
	match, err := s.checkPassword(ctx, password, hash)
	if err != nil {
		return "", err
	}
	if !match {
		return "", ErrPresentPassword
	}
	s.byEmail.forget(emailKey(o.Email))
	return hash, nil
}

// SetPassword gives an operator, given by address or id, another password and ends all sessions and unused links of
// that operator. It returns ErrPassword or ErrNotFound.
func (s *Store) SetPassword(ctx context.Context, who string, password provisioning.Secret, actor provisioning.Actor) error {
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, who)
		if err != nil {
			return err
		}
		return setPassword(ctx, tx, o, hash, "", actor)
	})
}

// ChangePassword is SetPassword by the operator, who knows the present password. The session of the token goes on. It
// returns ErrPresentPassword, ErrPassword or a *ThrottledError.
func (s *Store) ChangePassword(ctx context.Context, o Operator, session, present, password provisioning.Secret, v Visitor) error {
	was, err := s.presentHash(ctx, o, present, v)
	if err != nil {
		return err
	}
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, o.ID.String())
		if err != nil {
			return err
		}
		// It may have been reset since it was compared.
		var same bool
		if err := tx.QueryRow(ctx, `SELECT password_hash = $2 FROM operators WHERE id = $1`, o.ID, was).Scan(&same); err != nil {
			return fmt.Errorf("check the password: %w", err)
		}
		if !same {
			return ErrPresentPassword
		}
		return setPassword(ctx, tx, o, hash, session, o.actor())
	})
}

// setPassword ends what the old password has led to, but for the session of the token. The operator is locked.
func setPassword(ctx context.Context, tx pgx.Tx, o Operator, hash string, keep provisioning.Secret, actor provisioning.Actor) error {
	if _, err := tx.Exec(ctx, `UPDATE operators SET password_hash = $2 WHERE id = $1`, o.ID, hash); err != nil {
		return fmt.Errorf("set the password: %w", err)
	}
	if _, err := tx.Exec(ctx, `DELETE FROM entry_links WHERE operator_id = $1 AND used_at IS NULL`, o.ID); err != nil {
		return fmt.Errorf("end the links: %w", err)
	}
	if _, err := endSessions(ctx, tx, o, keep); err != nil {
		return err
	}
	return record(ctx, tx, actor, "operator.password", o, nil, nil)
}
