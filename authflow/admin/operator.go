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
	"github.com/countersign/countersign/provisioning/audit"
)

var (
	// ErrEmail means that an operator's address is none.
	ErrEmail = errors.New("this is no e-mail address; the form is name@example.com")
	// ErrEmailTaken means that there is already an operator with that address.
	ErrEmailTaken = errors.New("there is already an operator with this e-mail address")
	// ErrLastOwner keeps the last owner in place.
	ErrLastOwner = errors.New("this is the last owner, who can neither be removed nor get another role: make somebody else an owner first")
)

// Operator is a person of the agency who may use the console.
type Operator struct {
	ID           uuid.UUID
	Email        string // any case finds it
	Name         string
	Role         Role
	SecondFactor bool // is asked for
	CreatedAt    time.Time
	SignedInAt   *time.Time
}

// operatorColumns are the columns of operators that make an Operator.
const operatorColumns = `
	id,
	email,
	name,
	role,
	totp_at IS NOT NULL,
	created_at,
	signed_in_at`

// actor is what the operator does things as.
func (o Operator) actor() provisioning.Actor { return provisioning.Operator(o.Email) }

// NewOperator is somebody to be let in.
type NewOperator struct {
	Email    string
	Name     string
	Role     Role
	Password provisioning.Secret
}

// CreateOperator adds an operator. It returns ErrEmail, ErrName, ErrRole, ErrPassword or ErrEmailTaken.
func (s *Store) CreateOperator(ctx context.Context, n NewOperator, actor provisioning.Actor) (Operator, error) {
	o, hash, err := s.newOperator(ctx, n)
	if err != nil {
		return Operator{}, err
	}
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if err := insertOperator(ctx, tx, o, hash); err != nil {
			return err
		}
		return recordAdded(ctx, tx, actor, o)
	})
	if err != nil {
		return Operator{}, err
	}
	return o, nil
}

// newOperator checks what was typed and does the slow part, outside of any transaction.
func (s *Store) newOperator(ctx context.Context, n NewOperator) (o Operator, hash string, err error) {
	if n.Email, err = parseEmail(n.Email); err != nil {
		return Operator{}, "", err
	}
	if n.Name, err = parseName(n.Name); err != nil {
		return Operator{}, "", err
	}
	if n.Role, err = ParseRole(string(n.Role)); err != nil {
		return Operator{}, "", err
	}
	if hash, err = s.hashPassword(ctx, n.Password); err != nil {
		return Operator{}, "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Operator{}, "", fmt.Errorf("add the operator: %w", err)
	}
	return Operator{ID: id, Email: n.Email, Name: n.Name, Role: n.Role, CreatedAt: s.Now().Truncate(time.Microsecond)}, hash, nil
}

// parseEmail takes a bare address, also one such as ops@localhost. It returns ErrEmail.
func parseEmail(email string) (string, error) {
	email = strings.TrimSpace(email)
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email {
		return "", ErrEmail
	}
	return email, nil
}

func insertOperator(ctx context.Context, tx pgx.Tx, o Operator, hash string) error {
	tag, err := tx.Exec(ctx, `
		INSERT INTO operators (id, email, name, role, password_hash, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (lower(email)) DO NOTHING`, o.ID, o.Email, o.Name, o.Role, hash, o.CreatedAt)
	if err != nil {
		return fmt.Errorf("add the operator: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrEmailTaken
	}
	return nil
}

func recordAdded(ctx context.Context, tx pgx.Tx, actor provisioning.Actor, o Operator) error {
	return record(ctx, tx, actor, "operator.add", o, nil, audit.Fields{"name": o.Name, "role": o.Role})
}

// record writes what was changed about an operator into the audit trail. It is the last statement of its transaction.
func record(ctx context.Context, tx pgx.Tx, actor provisioning.Actor, action string, o Operator, before, after any) error {
	return audit.Record(ctx, tx, audit.Entry{
		Actor: string(actor), Action: action, Object: "operator " + o.Email, Before: before, After: after,
	})
}

// Operators returns all operators, by address.
func (s *Store) Operators(ctx context.Context) ([]Operator, error) {
	rows, err := s.DB.Query(ctx, `SELECT `+operatorColumns+` FROM operators ORDER BY lower(email)`)
	if err != nil {
		return nil, fmt.Errorf("list the operators: %w", err)
	}
	operators, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Operator])
	if err != nil {
		return nil, fmt.Errorf("list the operators: %w", err)
	}
	return operators, nil
}

// Find returns an operator by address or id. It returns ErrNotFound.
func (s *Store) Find(ctx context.Context, who string) (Operator, error) {
	return findOperator(ctx, s.DB, who, "")
}

// lockOperator is Find for somebody who is to be changed.
func lockOperator(ctx context.Context, tx pgx.Tx, who string) (Operator, error) {
	return findOperator(ctx, tx, who, "FOR UPDATE")
}

func findOperator(ctx context.Context, db DB, who, lock string) (Operator, error) {
	rows, err := db.Query(ctx, `
		SELECT `+operatorColumns+`
		FROM operators
		WHERE lower(email) = lower($1)
			OR id::text = lower($1)
		`+lock, strings.TrimSpace(who))
	if err != nil {
		return Operator{}, fmt.Errorf("look for the operator: %w", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Operator])
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, fmt.Errorf("operator %q: %w", who, ErrNotFound)
	}
	if err != nil {
		return Operator{}, fmt.Errorf("look for the operator: %w", err)
	}
	return o, nil
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

// keepOwner returns ErrLastOwner if the transaction has left nobody with that role. Whoever calls it has called
// lockOperators first.
func keepOwner(ctx context.Context, tx pgx.Tx) error {
	var found bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM operators WHERE role = 'owner')`).Scan(&found); err != nil {
		return fmt.Errorf("look for owners: %w", err)
	}
	if !found {
		return ErrLastOwner
	}
	return nil
}

// lockOperators makes transactions that depend on how many operators there are wait for each other.
func lockOperators(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('operators', 0))`); err != nil {
		return fmt.Errorf("lock the operators: %w", err)
	}
	return nil
}

// RemoveOperator removes an operator, given by address or id, with all sessions and links. It returns ErrNotFound, and
// ErrLastOwner if no owner would be left.
func (s *Store) RemoveOperator(ctx context.Context, who string, actor provisioning.Actor) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if err := lockOperators(ctx, tx); err != nil {
			return err
		}
		o, err := lockOperator(ctx, tx, who)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM operators WHERE id = $1`, o.ID); err != nil {
			return fmt.Errorf("remove the operator: %w", err)
		}
		if err := keepOwner(ctx, tx); err != nil {
			return err
		}
		return record(ctx, tx, actor, "operator.remove", o, audit.Fields{"name": o.Name, "role": o.Role}, nil)
	})
}

// SetRole gives an operator, given by address or id, another role. It holds from their next request on. It returns
// ErrNotFound, ErrRole, and ErrLastOwner if no owner would be left.
func (s *Store) SetRole(ctx context.Context, who string, role Role, actor provisioning.Actor) (Operator, error) {
	role, err := ParseRole(string(role))
	if err != nil {
		return Operator{}, err
	}
	var o Operator
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if err := lockOperators(ctx, tx); err != nil {
			return err
		}
		if o, err = lockOperator(ctx, tx, who); err != nil || o.Role == role {
			return err
		}
		before := o.Role
		o.Role = role
		if _, err := tx.Exec(ctx, `UPDATE operators SET role = $2 WHERE id = $1`, o.ID, role); err != nil {
			return fmt.Errorf("set the role: %w", err)
		}
		if err := keepOwner(ctx, tx); err != nil {
			return err
		}
		return record(ctx, tx, actor, "operator.role", o, audit.Fields{"role": before}, audit.Fields{"role": role})
	})
	return o, err
}

// SetName gives an operator, given by address or id, another name. It returns ErrNotFound or ErrName.
func (s *Store) SetName(ctx context.Context, who, name string, actor provisioning.Actor) error {
	name, err := parseName(name)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, who)
		if err != nil || o.Name == name {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE operators SET name = $2 WHERE id = $1`, o.ID, name); err != nil {
			return fmt.Errorf("set the name: %w", err)
		}
		return record(ctx, tx, actor, "operator.name", o, audit.Fields{"name": o.Name}, audit.Fields{"name": name})
	})
}
