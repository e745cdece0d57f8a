package budget

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Reason says why there are no turns.
type Reason string

// Reasons. The first two are the provider's words, the others are of our own counting.
const (
	Throttled     Reason = "throttled"      // too many calls in a second
	QuotaExceeded Reason = "quota_exceeded" // too many calls in a day
	DayUsed       Reason = "day_used"       // all of the day's calls
	ShareUsed     Reason = "share_used"     // those that work in the background may have; owners have some left
)

// Exhausted says that there are no turns for a while.
type Exhausted struct {
	Reason Reason
	Until  time.Time     // by the database's clock
	Wait   time.Duration // from now on
}

func (e *Exhausted) Error() string {
	var why string
	switch e.Reason {
	case Throttled:
		why = "it has had too many calls at once"
	case QuotaExceeded:
		why = "it says that today's calls are used up"
	case DayUsed:
		why = "today's calls are used up"
	case ShareUsed:
		why = "today's calls for work in the background are used up, and the rest is kept for owners"
	}
	return fmt.Sprintf("no calls to the provider before %s UTC, in %s: %s",
		e.Until.UTC().Format(time.TimeOnly), e.Wait.Round(time.Second), why)
}

// RetryAfter returns how long to wait before the next try.
func (e *Exhausted) RetryAfter() time.Duration { return e.Wait }

const (
	// firstHold is the shortest back-off from throttling; each further one in a row is twice as long, up to longestHold,
	// and up to a half longer by chance.
	firstHold   = time.Second
	longestHold = 32 * time.Second

	// calm is how long after a hold the next throttling counts as the first one.
	calm = 30 * time.Second
)

// Throttled tells everybody to hold, for a second at least and for longer each time it happens again, or for
// as long as the provider asks for (after). Like the end of a turn it works with a context that has ended.
func (m *Meter) Throttled(ctx context.Context, after time.Duration) error {
	if m.limits.PerSecond == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	_, err := m.db.Exec(ctx, `
		UPDATE meters
		SET
			throttled = throttled + 1,
			hold_until = greatest(hold_until, clock_timestamp() + make_interval(secs => $2)),
			hold_why = CASE WHEN hold_until > clock_timestamp() + make_interval(secs => $2) THEN hold_why ELSE $3 END
		WHERE name = $1`, m.name, max(m.backOff(), after).Seconds(), Throttled)
	if err != nil {
		return fmt.Errorf("hold the calls to the provider: %w", err)
	}
	return nil
}

// backOff returns for how long to hold. Calls that were under way together are throttled together: they count once.
func (m *Meter) backOff() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch {
	case now.Before(m.heldUntil):
		return m.heldUntil.Sub(now)
	case now.Sub(m.heldUntil) > calm:
		m.strikes = 0
	}
	hold := min(firstHold<<min(m.strikes, 10), longestHold)
	hold += rand.N(hold / 2) //nolint:gosec // A pause is no secret.
	m.strikes++
	m.heldUntil = now.Add(hold)
	return hold
}

// QuotaExceeded tells everybody to hold until the day is over. So soon after its begin that nobody can have
// made that many calls, the provider means the day before, for its clock is not ours: then the hold is a minute.
// Like the end of a turn it works with a context that has ended.
func (m *Meter) QuotaExceeded(ctx context.Context) error {
	if m.limits.PerSecond == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	_, err := m.db.Exec(ctx, `
		WITH clock AS MATERIALIZED (
			SELECT
				clock_timestamp() AS now,
				(clock_timestamp() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' AS midnight
		)
		UPDATE meters
		SET
			throttled = throttled + 1,
			hold_until = greatest(hold_until, CASE
				WHEN now < midnight + make_interval(secs => $2) THEN now + interval '1 minute'
				ELSE midnight + interval '1 day'
			END),
			hold_why = $3
		FROM clock
		WHERE name = $1`, m.name, float64(m.limits.PerDay)/float64(m.limits.PerSecond), QuotaExceeded)
	if err != nil {
		return fmt.Errorf("hold the calls to the provider: %w", err)
	}
	return nil
}
