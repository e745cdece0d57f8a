package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

// Session is one place where an operator is signed in.
type Session struct {
	ID        uuid.UUID
	Browser   string // as the Visitor brought it; may be empty
	Address   string // likewise
	CreatedAt time.Time
	SeenAt    time.Time // to the minute
	Current   bool      // it is the one that asks
}

// Sessions returns where an operator is signed in, last used first. The token is that of the session that asks.
func (s *Store) Sessions(ctx context.Context, operator uuid.UUID, current provisioning.Secret) ([]Session, error) {
	now := s.Now()
	rows, err := s.DB.Query(ctx, `
		SELECT
			id,
			browser,
			address,
			created_at,
			seen_at,
			token_hash = $2
		FROM sessions
		WHERE operator_id = $1
			AND expires_at > $3
			AND seen_at > $4
		ORDER BY seen_at DESC, id`, operator, hashSecret(current), now, now.Add(-s.Idle))
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	sessions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Session])
	if err != nil {
		return nil, fmt.Errorf("list the sessions: %w", err)
	}
	return sessions, nil
}

// EndSession ends one session of an operator's own. One that is not there is fine: it has ended already.
func (s *Store) EndSession(ctx context.Context, o Operator, id uuid.UUID) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM sessions WHERE operator_id = $1 AND id = $2`, o.ID, id)
		if err != nil {
			return fmt.Errorf("end the session: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		return recordEnd(ctx, tx, o.actor(), o, 1)
	})
}

// EndSessions ends all sessions of an operator, given by address or id, but that of a token, and returns how many these
// were. An empty token keeps none. It returns ErrNotFound.
func (s *Store) EndSessions(ctx context.Context, who string, keep provisioning.Secret, actor provisioning.Actor) (ended int, err error) {
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, who)
		if err != nil {
			return err
		}
		if ended, err = endSessions(ctx, tx, o, keep); err != nil || ended == 0 {
			return err
		}
		return recordEnd(ctx, tx, actor, o, ended)
	})
	return ended, err
}

func endSessions(ctx context.Context, tx pgx.Tx, o Operator, keep provisioning.Secret) (ended int, err error) {
	tag, err := tx.Exec(ctx, `DELETE FROM sessions WHERE operator_id = $1 AND token_hash <> $2`, o.ID, hashSecret(keep))
	if err != nil {
		return 0, fmt.Errorf("end the sessions: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

func recordEnd(ctx context.Context, tx pgx.Tx, actor provisioning.Actor, o Operator, ended int) error {
	return record(ctx, tx, actor, "operator.sign_out", o, audit.Fields{"sessions": ended}, nil)
}
