package budget

import (
	"context"
	"fmt"
	"time"
)

// State is how much of a day's budget is left.
type State struct {
	Limits

	At        time.Time // by the database's clock, as all times here
	DayEnds   time.Time
	Used      int       // calls of the day
	Throttled int       // how often the provider said today that it was too much
	HeldUntil time.Time // zero unless everybody is held
	HeldWhy   Reason    // empty unless everybody is held
}

// State returns what is left, without changing it.
func (m *Meter) State(ctx context.Context) (State, error) {
	s := State{Limits: m.limits}
	var heldUntil *time.Time
	var heldWhy *Reason
	err := m.db.QueryRow(ctx, `
		SELECT
			c.now,
			(c.today + 1)::timestamp AT TIME ZONE 'UTC',
			coalesce(CASE WHEN m.day >= c.today THEN m.used END, 0),
			coalesce(CASE WHEN m.day >= c.today THEN m.throttled END, 0),
			m.hold_until,
			m.hold_why
		FROM (SELECT clock_timestamp() AS now, (clock_timestamp() AT TIME ZONE 'UTC')::date AS today) c
		LEFT JOIN meters m ON m.name = $1`, m.name,
	).Scan(&s.At, &s.DayEnds, &s.Used, &s.Throttled, &heldUntil, &heldWhy)
	if err != nil {
		return State{}, fmt.Errorf("read the budget: %w", err)
	}
	if heldUntil != nil && heldWhy != nil && heldUntil.After(s.At) {
		s.HeldUntil, s.HeldWhy = *heldUntil, *heldWhy
	}
	return s, nil
}

// Remaining returns how many of today's calls are left to a priority. It is meaningless without a limit a day.
func (s State) Remaining(p Priority) int { return max(0, s.perDay(p)-s.Used) }

// usualCall is how long a call takes at the provider, for estimates: so long its slot does nothing else.
const usualCall = 250 * time.Millisecond

// Finish estimates when so many calls in the background will be made, if nothing else is going on. It reports false
// if they never will, because all calls are kept for walks.
func (s State) Finish(calls int) (time.Time, bool) {
	at := s.At
	if s.HeldUntil.After(at) {
		at = s.HeldUntil
	}
	if calls <= 0 || s.PerSecond == 0 {
		return at, true
	}
	each := (apart + usualCall) / time.Duration(s.PerSecond)
	const day = 24 * time.Hour
	daily := min(s.perDay(Background), int(day/each))
	if daily == 0 {
		return time.Time{}, false
	}
	today := 0
	if left := s.DayEnds.Sub(at); left > 0 {
		today = min(s.Remaining(Background), int(left/each))
	}
	if calls <= today {
		return at.Add(time.Duration(calls) * each), true
	}
	if at.Before(s.DayEnds) {
		at = s.DayEnds
	}
	calls -= today
	full := (calls - 1) / daily
	return at.Add(time.Duration(full)*day + time.Duration(calls-full*daily)*each), true
}
