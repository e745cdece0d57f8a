package once

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning"
)

var (
	// ErrRunning means that the first request with this key is being carried out.
	ErrRunning = errors.New("the first request with this Idempotency-Key is being carried out: send it again in a while for its answer")
	// ErrOther means that the key came with something else before.
	ErrOther = errors.New("this Idempotency-Key was sent with another request before: take a new one for each new request")
	// ErrLost means that the request was carried out, at least in part, and its answer was lost in a crash.
	ErrLost = errors.New("the first request with this Idempotency-Key made its changes, and its answer was lost in a crash:" +
		" read how things stand; what is then still to be done needs a new key")
)

const (
	lease    = time.Minute // after which a silent process counts as dead
	holding  = 15 * time.Second
	lifetime = 24 * time.Hour
)

// DB is what this package asks of a database.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Store keeps what was sent with a key.
type Store struct {
	DB DB
}

// Request names a request: the same names are the same request.
type Request struct {
	Holder uuid.UUID // id of the API key that it came with
	Route  string    // such as "POST /imports"
	Key    string    // of the program's choice
	Secret provisioning.Secret
}

// Run is a request that is carried out.
type Run struct {
	db DB
	id uuid.UUID
	r  Request
}

// Begin returns a run, for the caller to carry the request out and then to End or to Forget it; or the answer that
// it got before. It returns ErrRunning or ErrLost.
func (s *Store) Begin(ctx context.Context, r Request) (*Run, *Answer, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, nil, fmt.Errorf("begin a request: %w", err)
	}
	tag, err := s.DB.Exec(ctx, `
		INSERT INTO requests AS q (key_id, route, key, run_id, leased_until)
		VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval)
		ON CONFLICT (key_id, route, key) DO UPDATE
		SET
			run_id = excluded.run_id,
			leased_until = excluded.leased_until
		WHERE q.answer IS NULL
			AND q.changed_at IS NULL
			AND q.leased_until < clock_timestamp()`, r.Holder, r.Route, r.Key, id, lease)
	if err != nil {
		return nil, nil, fmt.Errorf("begin a request: %w", err)
	}
	if tag.RowsAffected() == 1 {
		return &Run{s.DB, id, r}, nil, nil
	}
	a := &Answer{r: r}
	var running bool
	err = s.DB.QueryRow(ctx, `
		SELECT
			leased_until >= clock_timestamp(),
			fingerprint,
			answer
		FROM requests
		WHERE key_id = $1
			AND route = $2
			AND key = $3`, r.Holder, r.Route, r.Key).Scan(&running, &a.fingerprint, &a.sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // It was forgotten this instant.
		return nil, nil, ErrRunning
	case err != nil:
		return nil, nil, fmt.Errorf("begin a request: %w", err)
	case a.sealed != nil:
		return nil, a, nil
	case running:
		return nil, nil, ErrRunning
	}
	return nil, nil, ErrLost
}

// Mark notes in tx that the run changes something. It returns ErrRunning if it was taken for dead meanwhile and
// another run carries the request out.
func (run *Run) Mark(ctx context.Context, tx pgx.Tx) error {
	return run.write(ctx, tx, `changed_at = coalesce(changed_at, clock_timestamp())`)
}

// Hold keeps others from taking the run for dead, until ctx ends.
func (run *Run) Hold(ctx context.Context) {
	beat := time.NewTicker(holding)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			// A beat that fails is made up for by the next one; a run that lost its request cannot change anything.
			_ = run.write(ctx, run.db, `leased_until = clock_timestamp() + $5::interval`, lease)
		}
	}
}

// End keeps the answer to what has the fingerprint.
func (run *Run) End(ctx context.Context, fingerprint, answer []byte) error {
	sealed, err := run.r.seal(answer)
	if err != nil {
		return err
	}
	return run.write(ctx, run.db, `fingerprint = $5, answer = $6`, fingerprint, sealed)
}

// Forget lets the request be sent again, unless it has changed something: then its answer is lost.
func (run *Run) Forget(ctx context.Context) error {
	tag, err := run.db.Exec(ctx, `
		DELETE FROM requests
		WHERE key_id = $1
			AND route = $2
			AND key = $3
			AND run_id = $4
			AND changed_at IS NULL`, run.r.Holder, run.r.Route, run.r.Key, run.id)
	if err != nil {
		return fmt.Errorf("forget a request: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return run.write(ctx, run.db, `leased_until = '-infinity'`)
	}
	return nil
}

// write changes the row of the run, if it still is one.
func (run *Run) write(ctx context.Context, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, set string, args ...any,
) error {
	tag, err := db.Exec(ctx, `
		UPDATE requests
		SET `+set+`
		WHERE key_id = $1
			AND route = $2
			AND key = $3
			AND run_id = $4`, append([]any{run.r.Holder, run.r.Route, run.r.Key, run.id}, args...)...)
	if err != nil {
		return fmt.Errorf("note how a request stands: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrRunning
	}
	return nil
}

// Sweep forgets what is a day old. Any number of processes may call it at any time.
func (s *Store) Sweep(ctx context.Context) error {
	_, err := s.DB.Exec(ctx, `
		DELETE FROM requests
		WHERE began_at < clock_timestamp() - $1::interval
			AND leased_until < clock_timestamp()`, lifetime)
	if err != nil {
		return fmt.Errorf("forget old requests: %w", err)
	}
	return nil
}
