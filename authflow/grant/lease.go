package grant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// defaultLease is how long a grant is left to whoever refreshes it and has fallen silent. A provider that
// forgives a rotated refresh token that comes again does so for half a minute (constant-contact.md, 1.6):
// a successor has to be there well before.
const defaultLease = 10 * time.Second

// lease is a grant while this process refreshes it: nobody else does. Its id names the attempt, which is
// committed in the same statement.
type lease struct {
	ID         uuid.UUID // of the lease, and of its attempt
	Grant      uuid.UUID
	Client     uuid.UUID
	Account    string
	Scopes     []string
	Generation int
	Refresh    []byte
	ProvenAt   *time.Time
	Failures   int
	Refusals   int
	until      atomic.Pointer[time.Time] `db:"-"` // when it runs out by this process's clock, read before the database was asked
}

// errHeld is returned for a grant that somebody else refreshes.
var errHeld = errors.New("another process refreshes this grant")

// Which grants may be leased. A lease that has run out comes first: its refresh token may be spent. The clock is
// read by a subquery, once: no index is searched for what changes from row to row.
const (
	overdue = `g.leased_until <= (SELECT clock_timestamp()) ORDER BY g.leased_until`
	due     = `g.refresh_at <= (SELECT coalesce($3::timestamptz, clock_timestamp())) AND g.lease_id IS NULL ORDER BY g.refresh_at`
)

// work tells whether there is a grant that next would lease, as far as can be seen without a lock.
func (k *Keeper) work(ctx context.Context) (found bool, err error) {
	err = k.Store.DB.QueryRow(ctx, `
		SELECT
			coalesce((
				SELECT min(leased_until)
				FROM grants
				WHERE app = $2
					AND leased_until IS NOT NULL
			) <= clock_timestamp(), false)
			OR coalesce((
				SELECT min(refresh_at)
				FROM grants
				WHERE app = $2
					AND refresh_at IS NOT NULL
					AND lease_id IS NULL
			) <= coalesce($1::timestamptz, clock_timestamp()), false)`, k.now(), k.Store.App).Scan(&found)
	k.reach.note(err)
	if err != nil {
		return false, fmt.Errorf("look for grants to refresh: %w", err)
	}
	return found, nil
}

// next leases the grant that is most in need of it. It returns errHeld if there is none.
func (k *Keeper) next(ctx context.Context) (*lease, error) {
	l, err := k.lease(ctx, overdue)
	if errors.Is(err, errHeld) {
		l, err = k.lease(ctx, due)
	}
	return l, err
}

// lease takes the first of the grants that which selects, whose parameters begin at $6, and notes the
// attempt that is about to be made, in one statement. It returns errHeld if there is none that is free. Only
// the database's clock decides whose lease has run out: the processes' clocks may differ. And only who could reach
// the database for a while takes over: whoever had the lease while nobody could may have new tokens to store.
func (k *Keeper) lease(ctx context.Context, which string, params ...any) (*lease, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("lease a grant: %w", err)
	}
	began := time.Now()
	rows, err := k.Store.DB.Query(ctx, `
		WITH free AS (
			SELECT
				g.id,
				g.lease_id AS dead
			FROM grants g
			WHERE (g.lease_id IS NULL OR $5 AND g.leased_until <= (SELECT clock_timestamp()))
				AND g.status = 'active'
				AND g.refresh_token IS NOT NULL
				AND g.app = $4
				AND `+which+`
			LIMIT 1
			FOR NO KEY UPDATE SKIP LOCKED
		),
		taken AS (
			UPDATE grants g
			SET
				lease_id = $1,
				leased_until = clock_timestamp() + $2::interval
			FROM free
			WHERE g.id = free.id
			RETURNING g.*, free.dead
		),
		lost AS (
			UPDATE refreshes r
			SET
				outcome = 'lost',
				ended_at = coalesce($3::timestamptz, clock_timestamp())
			FROM taken
			WHERE r.id = taken.dead
				AND r.outcome IS NULL
		),
		begun AS (
			INSERT INTO refreshes (id, grant_id, generation, began_at)
			SELECT
				$1,
				id,
				generation,
				coalesce($3::timestamptz, clock_timestamp())
			FROM taken
		)
		SELECT
			lease_id,
			id,
			client_id,
			account_id,
			scopes,
			generation,
			refresh_token,
			proven_at,
			failures,
			refusals
		FROM taken`, append([]any{id, k.leaseTime(), k.now(), k.Store.App, k.reach.lasts(k.storeTry() + storeLook)}, params...)...)
	if err != nil {
		return nil, fmt.Errorf("lease a grant: %w", err)
	}
	l, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[lease])
	k.reach.note(err)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errHeld
	}
	if err != nil {
		return nil, fmt.Errorf("lease a grant: %w", err)
	}
	l.until.Store(new(began.Add(k.leaseTime())))
	return l, nil
}

// repeat ends the lease's attempt as lost and begins another one with the same refresh token. It returns
// errHeld if the lease is no longer ours, or the tokens have changed.
func (k *Keeper) repeat(ctx context.Context, l *lease, why string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("repeat a refresh: %w", err)
	}
	began := time.Now()
	tag, err := k.Store.DB.Exec(ctx, `
		WITH taken AS (
			UPDATE grants
			SET
				lease_id = $1,
				leased_until = clock_timestamp() + $2::interval
			WHERE id = $3
				AND lease_id = $4
				AND generation = $5
			RETURNING id, generation
		),
		lost AS (
			UPDATE refreshes
			SET
				outcome = 'lost',
				ended_at = coalesce($7::timestamptz, clock_timestamp()),
				detail = $6
			WHERE id = $4
				AND outcome IS NULL
		)
		INSERT INTO refreshes (id, grant_id, generation, began_at)
		SELECT
			$1,
			id,
			generation,
			coalesce($7::timestamptz, clock_timestamp())
		FROM taken`, id, k.leaseTime(), l.Grant, l.ID, l.Generation, why, k.now())
	if err != nil {
		return fmt.Errorf("repeat a refresh: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errHeld
	}
	l.ID = id
	l.until.Store(new(began.Add(k.leaseTime())))
	return nil
}

func (k *Keeper) leaseTime() time.Duration {
	if k.Lease > 0 {
		return k.Lease
	}
	return defaultLease
}

// inTime returns errHeld if the lease may have been taken over: then a refresh token must not be sent any more.
// The clock on the wall is asked as well, for the other one may stand still while the machine sleeps.
func (l *lease) inTime() error {
	now, until := time.Now(), *l.until.Load()
	if now.Before(until) && now.Round(0).Before(until.Round(0)) {
		return nil
	}
	return errHeld
}

// hold signs for the lease until the function that it returns is called.
func (k *Keeper) hold(ctx context.Context, l *lease) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var heart sync.WaitGroup
	heart.Go(func() {
		ticker := time.NewTicker(k.leaseTime() / 4)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			// What went wrong is known when the lease runs out.
			if mine, err := k.sign(ctx, l); err == nil && !mine {
				return
			}
		}
	})
	return func() {
		cancel()
		heart.Wait()
	}
}

// sign extends the lease, and tells whether it is still ours and about the same tokens.
func (k *Keeper) sign(ctx context.Context, l *lease) (mine bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.leaseTime()/2)
	defer cancel()
	began := time.Now()
	tag, err := k.Store.DB.Exec(ctx, `
		UPDATE grants
		SET leased_until = clock_timestamp() + $4::interval
		WHERE id = $1
			AND lease_id = $2
			AND generation = $3`, l.Grant, l.ID, l.Generation, k.leaseTime())
	k.reach.note(err)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	l.until.Store(new(began.Add(k.leaseTime())))
	return true, nil
}

// reach is since when this process has reached the database without a gap.
type reach struct {
	mu          sync.Mutex
	since, last time.Time
}

// gap is for how long a process may have nothing to ask before it cannot say whether the database was there.
const gap = 3 * look

// note takes down that the database was asked, and whether it answered.
func (r *reach) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		r.since = time.Time{}
	case r.since.IsZero() || now.Sub(r.last) > gap:
		r.since = now
	}
	r.last = now
}

// lasts tells whether the database has been within reach for so long.
func (r *reach) lasts(d time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.since.IsZero() && time.Since(r.last) <= gap && time.Since(r.since) >= d
}
