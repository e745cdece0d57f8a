package admin

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

var (
	// ErrEmail means that an operator's address is none.
	ErrEmail = errors.New("this is no e-mail address; the form is name@example.com")
	// ErrEmailTaken means that there is already an operator with that address.
	ErrEmailTaken = errors.New("there is already an operator with this e-mail address")
	// ErrLastOperator keeps the last operator from being removed.
	ErrLastOperator = errors.New("this is the last operator and cannot be removed: add another one first")
)

// Operator is a person of the agency who may use the console.
type Operator struct {
	ID         uuid.UUID
	Email      string // any case finds it
	Name       string
	CreatedAt  time.Time
	SignedInAt *time.Time
}

// CreateOperator adds an operator. It returns ErrEmail, ErrName, ErrPassword or ErrEmailTaken.
func (s *Store) CreateOperator(ctx context.Context, email, name string, password provisioning.Secret) (Operator, error) {
	o, hash, err := s.newOperator(ctx, email, name, password)
	if err != nil {
		return Operator{}, err
	}
	if err := insertOperator(ctx, s.DB, o, hash); err != nil {
		return Operator{}, err
	}
	return o, nil
}

// newOperator checks what was typed and does the slow part, outside of any transaction.
func (s *Store) newOperator(ctx context.Context, email, name string, password provisioning.Secret) (o Operator, hash string, err error) {
	if email, err = parseEmail(email); err != nil {
		return Operator{}, "", err
	}
	if name, err = parseName(name); err != nil {
		return Operator{}, "", err
	}
	if hash, err = s.hashPassword(ctx, password); err != nil {
		return Operator{}, "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Operator{}, "", fmt.Errorf("add the operator: %w", err)
	}
	return Operator{ID: id, Email: email, Name: name, CreatedAt: s.Now().Truncate(time.Microsecond)}, hash, nil
}

// parseEmail takes a bare address, also one such as ops@localhost. It returns ErrEmail.
func parseEmail(email string) (string, error) {
	email = strings.TrimSpace(email)
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email {
		return "", ErrEmail
	}
	return email, nil
}

func insertOperator(ctx context.Context, db DB, o Operator, hash string) error {
	tag, err := db.Exec(ctx, `
		INSERT INTO operators (id, email, name, password_hash, created_at)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (lower(email)) DO NOTHING`, o.ID, o.Email, o.Name, hash, o.CreatedAt)
	if err != nil {
		return fmt.Errorf("add the operator: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrEmailTaken
	}
	return nil
}

// Operators returns all operators, by address.
func (s *Store) Operators(ctx context.Context) ([]Operator, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT
			id,
			email,
			name,
			created_at,
			signed_in_at
		FROM operators
		ORDER BY lower(email)`)
	if err != nil {
		return nil, fmt.Errorf("list the operators: %w", err)
	}
	operators, err := pgx.CollectRows(rows, pgx.RowToStructByName[Operator])
	if err != nil {
		return nil, fmt.Errorf("list the operators: %w", err)
	}
	return operators, nil
}

// AnyOperator reports whether there is an operator, that is whether set-up is over.
func (s *Store) AnyOperator(ctx context.Context) (bool, error) {
	return anyOperator(ctx, s.DB)
}

func anyOperator(ctx context.Context, db DB) (found bool, err error) {
	if err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM operators)`).Scan(&found); err != nil {
		return false, fmt.Errorf("look for operators: %w", err)
	}
	return found, nil
}

// lockOperators makes transactions that depend on how many operators there are wait for each other.
func lockOperators(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('operators', 0))`); err != nil {
		return fmt.Errorf("lock the operators: %w", err)
	}
	return nil
}

// RemoveOperator removes an operator with all sessions and links. It returns ErrNotFound, and
// ErrLastOperator if nobody would be left.
func (s *Store) RemoveOperator(ctx context.Context, email string) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if err := lockOperators(ctx, tx); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM operators WHERE lower(email) = lower($1)`, strings.TrimSpace(email))
		if err != nil {
			return fmt.Errorf("remove the operator: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("operator %q: %w", email, ErrNotFound)
		}
		left, err := anyOperator(ctx, tx)
		if err == nil && !left {
			err = ErrLastOperator
		}
		return err
	})
}

// SetPassword gives an operator another password and ends all sessions and unused links of that
// operator. It returns ErrPassword or ErrNotFound.
func (s *Store) SetPassword(ctx context.Context, email string, password provisioning.Secret) error {
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		var id uuid.UUID
		err := tx.QueryRow(ctx, `
			UPDATE operators
			SET password_hash = $2
			WHERE lower(email) = lower($1)
			RETURNING id`, strings.TrimSpace(email), hash).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("operator %q: %w", email, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("set the password: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM entry_links WHERE operator_id = $1 AND used_at IS NULL`, id); err != nil {
			return fmt.Errorf("end the links: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE operator_id = $1`, id); err != nil {
			return fmt.Errorf("end the sessions: %w", err)
		}
		return nil
	})
}
