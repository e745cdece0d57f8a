package budget

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// apart is how long a slot rests after its call: a second, and what two clocks may differ in one.
	apart = 1005 * time.Millisecond

	// lateness is how late a process may make the call that it has a turn for. The answer of the database that gives
	// the turn is a part of it.
	lateness = 5 * time.Second

	// shortestPause and longestPause are between two looks for a slot. As a slot can be taken a second ahead, no
	// call is lost by a pause.
	shortestPause = 200 * time.Millisecond
	longestPause  = 400 * time.Millisecond

	// urgency is how long a walk that found no slot keeps the background away: until it has looked again.
	urgency = 2 * longestPause

	// statementTimeout bounds the statements that outlive their context, because what they write has to be known.
	statementTimeout = lateness

	// shortHold is the longest hold that is waited for.
	shortHold = time.Minute
)

// DB is where the meters are. A pool is one; a transaction would keep turns from everybody else until it ends.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Limits are what the provider allows.
type Limits struct {
	PerSecond int // calls in any second; 0 sets no limits at all, and calls touch no database
	PerDay    int // calls a day, which begins at 00:00 UTC; 0 sets no limit
	Reserve   int // of PerDay: kept for walks

	// CallTimeout is within what time of its turn a call is over for sure. The turn of a process that died is free
	// then. 15 s by default.
	CallTimeout time.Duration
}

// Priority says who comes first.
type Priority int

// Priorities.
const (
	Background Priority = iota // nobody waits for it
	Walk                       // an owner does
)

// Meter is one key at one door of the provider. Make one a process with New; it is safe for concurrent use.
type Meter struct {
	db     DB
	name   string
	limits Limits
	lines  map[Priority]chan struct{} // whoever looks for a slot holds its line; others wait in the order they came

	mu        sync.Mutex
	strikes   int // how often in a row the provider throttled this process
	heldUntil time.Time
}

// New returns the meter of this name. All replicas have to agree on its limits; while they are changed, the
// old ones and the new ones may add up for a second.
func New(db DB, name string, limits Limits) *Meter {
	if limits.CallTimeout == 0 {
		limits.CallTimeout = 15 * time.Second
	}
	return &Meter{
		db:     db,
		name:   name,
		limits: limits,
		lines:  map[Priority]chan struct{}{Walk: make(chan struct{}, 1), Background: make(chan struct{}, 1)},
	}
}

// Name names the meter of a key at a door. It does not give the key away. Who shares a key shares its meters.
func Name(key, door string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8]) + "/" + door
}

// perDay returns how many of the day's calls are open to a priority.
func (l Limits) perDay(p Priority) int {
	switch {
	case l.PerDay == 0:
		return math.MaxInt32
	case p == Background:
		return max(0, l.PerDay-l.Reserve)
	}
	return l.PerDay
}

// occupied is how long after its begin a turn that nobody ends occupies its slot.
func (l Limits) occupied() time.Duration { return lateness + l.CallTimeout + apart }

// Take waits until a call may be sent, which has to be done at once. The caller ends the turn it gets.
//
// It returns an [*Exhausted] if it is known that there are no turns for a while, or not before ctx ends, and
// what ended ctx if that came first.
func (m *Meter) Take(ctx context.Context, p Priority) (*Turn, error) {
	if m.limits.PerSecond == 0 {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		return &Turn{meter: m}, nil
	}
	for {
		t, wait, err := m.reserve(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("wait for a turn: %w", err)
		}
		if wait <= 0 {
			return t, nil
		}
		good := false
		if err = sleep(ctx, wait); err == nil {
			good, err = t.good(ctx)
		}
		if good {
			return t, nil
		}
		// If this fails, the slot is free when the turn counts as dead.
		_ = t.giveBack(ctx, 0)
		if err != nil {
			return nil, fmt.Errorf("wait for a turn: %w", err)
		}
	}
}

// reserve waits for a turn that is known to come, and returns how long that takes yet.
func (m *Meter) reserve(ctx context.Context, p Priority) (*Turn, time.Duration, error) {
	line := m.lines[p]
	select {
	case line <- struct{}{}:
		defer func() { <-line }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	for {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		found, err := m.look(ctx, p)
		if err != nil {
			return nil, 0, err
		}
		if found.turn != nil {
			return found.turn, found.wait, nil
		}
		pause := shortestPause + rand.N(longestPause-shortestPause) //nolint:gosec // A pause is no secret.
		if ex := found.exhausted; ex != nil {
			if deadline, ok := ctx.Deadline(); ex.Wait > shortHold || ok && time.Until(deadline) < ex.Wait {
				return nil, 0, ex
			}
			pause = ex.Wait + rand.N(longestPause) //nolint:gosec // As above.
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, 0, err
		}
	}
}

// found is what a look for a slot has found: a turn and how long until it begins, or why there will be none for a
// while, or nothing.
type found struct {
	turn      *Turn
	wait      time.Duration
	exhausted *Exhausted
}

// look takes a slot and counts the call, in one statement, if there is one to take: of those that are free, or
// will be, the first. Whoever takes one holds the meter's row for the moment, so that the count is exact. A look
// that finds nothing locks nothing and writes nothing, but that a walk waits.
//
// At the begin of a day its count is that of the calls that are under way, for nobody knows to which of the two days
// the provider counts them.
//
// The statement outlives ctx: cut off, it might leave a slot taken by nobody.
func (m *Meter) look(ctx context.Context, p Priority) (found, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	t := &Turn{meter: m, id: uuid.New()}
	var (
		slot       *int16
		freeAt     *time.Time
		slots      int
		now        time.Time
		tomorrow   time.Time
		used       int
		heldUntil  *time.Time
		heldReason *Reason
	)
	err := m.db.QueryRow(ctx, `
		WITH clock AS MATERIALIZED (
			SELECT
				clock_timestamp() AS now,
				(clock_timestamp() AT TIME ZONE 'UTC')::date AS today,
				(
					SELECT count(*)
					FROM meter_slots
					WHERE meter = $1 AND turn_id IS NOT NULL AND free_at > clock_timestamp()
				) AS under_way
		), open AS MATERIALIZED (
			SELECT m.name
			FROM meters m, clock c
			WHERE
				m.name = $1
				AND CASE WHEN m.day < c.today THEN c.under_way ELSE m.used END < $3
				AND (m.hold_until IS NULL OR m.hold_until <= c.now)
				AND ($4 OR (
					(m.urgent_until IS NULL OR m.urgent_until <= c.now)
					AND EXISTS (
						SELECT
						FROM meter_slots
						WHERE meter = $1 AND slot < $2 AND (turn_id IS NULL OR free_at <= clock_timestamp())
					)
				))
			FOR UPDATE OF m
		), free AS MATERIALIZED (
			SELECT
				s.slot,
				-- A slot at rest is free within moments, unless the database's clock was set back.
				least(s.free_at, clock_timestamp() + interval '2 seconds') AS free_at
			FROM open o
			JOIN meter_slots s ON s.meter = o.name
			WHERE s.slot < $2 AND (s.turn_id IS NULL OR s.free_at <= clock_timestamp())
			ORDER BY s.free_at
			LIMIT 1
			FOR UPDATE OF s SKIP LOCKED
		), taken AS (
			UPDATE meter_slots s
			SET
				turn_id = $5,
				free_at = greatest(f.free_at, clock_timestamp()) + make_interval(secs => $6)
			FROM free f
			WHERE s.meter = $1 AND s.slot = f.slot
		), counted AS (
			UPDATE meters m
			SET
				day = greatest(m.day, c.today),
				used = CASE WHEN m.day < c.today THEN c.under_way ELSE m.used END + CASE WHEN f.slot IS NULL THEN 0 ELSE 1 END,
				throttled = CASE WHEN m.day < c.today THEN 0 ELSE m.throttled END,
				urgent_until = CASE WHEN f.slot IS NULL THEN c.now + make_interval(secs => $7) ELSE m.urgent_until END
			FROM open o
			CROSS JOIN clock c
			LEFT JOIN free f ON true
			WHERE m.name = o.name AND ($4 OR f.slot IS NOT NULL)
		)
		SELECT
			f.slot,
			f.free_at,
			(SELECT count(*) FROM meter_slots WHERE meter = $1 AND slot < $2),
			c.now,
			(c.today + 1)::timestamp AT TIME ZONE 'UTC',
			CASE WHEN m.day < c.today THEN 0 ELSE m.used END,
			m.hold_until,
			m.hold_why
		FROM meters m
		CROSS JOIN clock c
		LEFT JOIN free f ON true
		WHERE m.name = $1`,
		m.name, m.limits.PerSecond, m.limits.perDay(p), p == Walk, t.id, m.limits.occupied().Seconds(), urgency.Seconds(),
	).Scan(&slot, &freeAt, &slots, &now, &tomorrow, &used, &heldUntil, &heldReason)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && slot == nil && slots < m.limits.PerSecond:
		return found{}, m.make(ctx)
	case err != nil:
		return found{}, err
	case slot != nil:
		t.slot = *slot
		return found{turn: t, wait: freeAt.Sub(now)}, nil
	case heldUntil != nil && heldReason != nil && heldUntil.After(now):
		return found{exhausted: &Exhausted{Reason: *heldReason, Until: *heldUntil, Wait: heldUntil.Sub(now)}}, nil
	case used >= m.limits.perDay(p):
		reason := DayUsed
		if used < m.limits.PerDay {
			reason = ShareUsed
		}
		return found{exhausted: &Exhausted{Reason: reason, Until: tomorrow, Wait: tomorrow.Sub(now)}}, nil
	}
	return found{}, nil
}

// make makes the rows that are missing.
func (m *Meter) make(ctx context.Context) error {
	_, err := m.db.Exec(ctx, `
		WITH meter AS (
			INSERT INTO meters (name, day)
			VALUES ($1, (clock_timestamp() AT TIME ZONE 'UTC')::date)
			ON CONFLICT DO NOTHING
		)
		INSERT INTO meter_slots (meter, slot, free_at)
		SELECT
			$1,
			slot,
			clock_timestamp()
		FROM generate_series(0, $2 - 1) slot
		ON CONFLICT DO NOTHING`, m.name, m.limits.PerSecond)
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
