package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning"
)

// TurnLife is how long a client is left to an operator who does nothing: enough for a second factor that is not at hand.
const TurnLife = 30 * time.Minute

// MostCounted bounds how many clients are counted as waiting.
const MostCounted = 10_000

// mostWhy bounds what an operator may say when they pass a client over, in characters.
const mostWhy = 200

// ErrNoTurn is matched when an operator has no run, or not this client in it (any more): it took too long and the client
// was given to somebody else, or the same run is open in another window.
var ErrNoTurn = errors.New("this client is not your turn any more")

// Run is an operator's way through the clients that are ready. An operator has one at a time.
type Run struct {
	ID        uuid.UUID
	StartedAt time.Time
	Done      int // clients authorized in it
	Skipped   int
	Turn      *uuid.UUID // the client that it is at; nil if there was no other
}

// Current returns the run of an operator; the zero Run if there is none. It changes nothing.
func (s *Store) Current(ctx context.Context, operator provisioning.Actor) (Run, error) {
	return current(ctx, s.DB, operator)
}

func current(ctx context.Context, db provisioning.DB, operator provisioning.Actor) (Run, error) {
	rows, err := db.Query(ctx, `
		SELECT
			r.id,
			r.started_at,
			(SELECT count(*) FROM run_turns t WHERE t.run_id = r.id AND t.outcome = 'authorized'),
			(SELECT count(*) FROM run_turns t WHERE t.run_id = r.id AND t.outcome = 'skipped'),
			(SELECT t.client_id FROM run_turns t WHERE t.run_id = r.id AND t.ended_at IS NULL)
		FROM runs r
		WHERE r.operator = $1
			AND r.ended_at IS NULL`, operator)
	if err != nil {
		return Run{}, fmt.Errorf("read the run: %w", err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Run])
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Run{}, fmt.Errorf("read the run: %w", err)
	}
	return run, nil
}

// Waiting counts the clients that are ready for a run and in nobody's turn, up to MostCounted.
func (s *Store) Waiting(ctx context.Context) (n int, err error) {
	err = s.DB.QueryRow(ctx, `
		SELECT count(*)
		FROM (
			SELECT
			FROM managers m
			WHERE m.open
				AND m.ready_at IS NOT NULL
				AND NOT EXISTS (SELECT FROM run_turns t WHERE t.client_id = m.client_id AND t.ended_at IS NULL AND t.until > $2)
			LIMIT $1
		) waiting`, MostCounted, s.Now()).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count who is ready: %w", err)
	}
	return n, nil
}

// Next sees what became of the run's client and, if that is done, takes the next one that is ready, of those that came
// first. Where there is no run it starts one. The client stays the operator's for TurnLife from now on.
func (s *Store) Next(ctx context.Context, operator provisioning.Actor) (Run, error) {
	for try := 1; ; try++ {
		run, err := s.next(ctx, operator)
		taken, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || taken.ConstraintName != "run_turns_open" || try == mostTries {
			return run, err
		}
	}
}

// mostTries is how often Next looks again when others have been faster: as many would have to come in one instant.
const mostTries = 20

func (s *Store) next(ctx context.Context, operator provisioning.Actor) (run Run, err error) {
	err = s.inRun(ctx, operator, true, func(tx pgx.Tx, id uuid.UUID) error {
		if err := s.settle(ctx, tx, id, false); err != nil {
			return err
		}
		if err := s.take(ctx, tx, id); err != nil {
			return err
		}
		run, err = current(ctx, tx, operator)
		return err
	})
	return run, err
}

// settle sees what became of the run's client: its turn is over if nothing is left to do for it, or if the run is over.
// Who has consented can sign in, and needs no link for that any more.
func (s *Store) settle(ctx context.Context, tx pgx.Tx, run uuid.UUID, over bool) error {
	_, err := tx.Exec(ctx, `
		WITH ended AS (
			UPDATE run_turns t
			SET
				ended_at = $2,
				outcome = CASE WHEN c.stage = 'authorized' THEN 'authorized' ELSE 'left' END
			FROM clients c
			WHERE t.run_id = $1
				AND t.ended_at IS NULL
				AND c.id = t.client_id
				AND (c.stage = 'authorized' OR c.route <> 'manager' OR c.paused OR $3)
			RETURNING
				t.client_id,
				t.outcome
		)
		UPDATE managers m
		SET
			active_at = coalesce(m.active_at, $2),
			activation_link = NULL
		FROM ended e
		WHERE m.client_id = e.client_id
			AND e.outcome = 'authorized'`, run, s.Now(), over)
	if err != nil {
		return fmt.Errorf("see what became of the client: %w", err)
	}
	return nil
}

// inRun locks the operator's run. Where there is none it starts one, or returns ErrNoTurn.
func (s *Store) inRun(ctx context.Context, operator provisioning.Actor, start bool, do func(pgx.Tx, uuid.UUID) error) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if start {
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("start a run: %w", err)
			}
			_, err = tx.Exec(ctx, `
				INSERT INTO runs (id, operator, started_at)
				VALUES ($1, $2, $3)
				ON CONFLICT DO NOTHING`, id, operator, s.Now())
			if err != nil {
				return fmt.Errorf("start a run: %w", err)
			}
		}
		var id uuid.UUID
		err := tx.QueryRow(ctx, `
			SELECT id
			FROM runs
			WHERE operator = $1
				AND ended_at IS NULL
			FOR UPDATE`, operator).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoTurn
		}
		if err != nil {
			return fmt.Errorf("hold the run: %w", err)
		}
		return do(tx, id)
	})
}

// take gives the run a client unless it has one, and that for longer.
func (s *Store) take(ctx context.Context, tx pgx.Tx, run uuid.UUID) error {
	until := s.Now().Add(TurnLife)
	tag, err := tx.Exec(ctx, `UPDATE run_turns SET until = $2 WHERE run_id = $1 AND ended_at IS NULL`, run, until)
	if err != nil || tag.RowsAffected() > 0 {
		return err
	}
	// A turn that somebody else has let run out is over. Turns are few: one an operator.
	_, err = tx.Exec(ctx, `
		WITH late AS (
			SELECT
				run_id,
				client_id
			FROM run_turns
			WHERE ended_at IS NULL
				AND until <= $1
			FOR UPDATE SKIP LOCKED
		)
		UPDATE run_turns t
		SET
			ended_at = $1,
			outcome = 'left'
		FROM late
		WHERE t.run_id = late.run_id
			AND t.client_id = late.client_id`, s.Now())
	if err != nil {
		return fmt.Errorf("take clients from who has fallen silent: %w", err)
	}
	// Two who come at once find different clients, as each locks the one that it takes. Who finds one that was taken
	// an instant ago is stopped by the index of open turns: Next looks again.
	_, err = tx.Exec(ctx, `
		WITH next AS (
			SELECT m.client_id
			FROM managers m
			JOIN clients c ON c.id = m.client_id
			WHERE m.open
				AND m.ready_at IS NOT NULL
				AND NOT c.paused
				AND NOT EXISTS (SELECT FROM run_turns t WHERE t.client_id = m.client_id AND (t.ended_at IS NULL OR t.run_id = $1 AND t.outcome = 'skipped'))
			ORDER BY m.ready_at, m.client_id
			LIMIT 1
			FOR NO KEY UPDATE OF c SKIP LOCKED
		)
		INSERT INTO run_turns (run_id, client_id, taken_at, until)
		SELECT $1, client_id, $2, $3
		FROM next
		ON CONFLICT (run_id, client_id) DO UPDATE
		SET
			taken_at = excluded.taken_at,
			until = excluded.until,
			ended_at = NULL,
			outcome = NULL`, run, s.Now(), until)
	if err != nil {
		return fmt.Errorf("take the next client: %w", err)
	}
	return nil
}

// Keep has the client stay the operator's for another TurnLife. It returns ErrNoTurn if it is not.
func (s *Store) Keep(ctx context.Context, operator provisioning.Actor, client uuid.UUID) error {
	return s.inRun(ctx, operator, false, func(tx pgx.Tx, run uuid.UUID) error {
		tag, err := tx.Exec(ctx, `
			UPDATE run_turns
			SET until = $3
			WHERE run_id = $1
				AND client_id = $2
				AND ended_at IS NULL`, run, client, s.Now().Add(TurnLife))
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoTurn
		}
		return err
	})
}

// Skip passes the run's client over, and tells its history why. It does not come again in this run. It returns
// ErrNoTurn.
func (s *Store) Skip(ctx context.Context, operator provisioning.Actor, client uuid.UUID, why string) error {
	reason := []rune(strings.TrimSpace(why))
	reason = reason[:min(len(reason), mostWhy)]
	return s.inRun(ctx, operator, false, func(tx pgx.Tx, run uuid.UUID) error {
		_, err := provisioning.Advance(ctx, tx, provisioning.Change{
			Client: client, Event: provisioning.EventSkipped, Actor: operator, Detail: provisioning.Detail{"why": string(reason)},
		})
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			UPDATE run_turns
			SET
				ended_at = $3,
				outcome = 'skipped',
				why = $4
			WHERE run_id = $1
				AND client_id = $2
				AND ended_at IS NULL`, run, client, s.Now(), string(reason))
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoTurn
		}
		return err
	})
}

// End ends the operator's run; the client that it is at is free for others. Without a run it does nothing.
func (s *Store) End(ctx context.Context, operator provisioning.Actor) error {
	err := s.inRun(ctx, operator, false, func(tx pgx.Tx, run uuid.UUID) error {
		if err := s.settle(ctx, tx, run, true); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE runs SET ended_at = $2 WHERE id = $1`, run, s.Now()); err != nil {
			return fmt.Errorf("end the run: %w", err)
		}
		return nil
	})
	if errors.Is(err, ErrNoTurn) {
		return nil
	}
	return err
}
