package budget_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/provisioning/budget"
)

func TestFinish(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	midnight := noon.Add(12 * time.Hour)
	standard := budget.Limits{PerSecond: 4, PerDay: 10_000, Reserve: 1000}
	const each = 1255 * time.Millisecond / 4 // a slot's second, and the call itself
	tests := []struct {
		name   string
		limits budget.Limits
		used   int
		held   time.Time
		calls  int
		want   time.Time // zero: never
	}{
		{"nothing to do", standard, 0, time.Time{}, 0, noon},
		{"no limits", budget.Limits{}, 0, time.Time{}, 1_000_000, noon},
		{"at once", standard, 0, time.Time{}, 100, noon.Add(100 * each)},
		{"all of today", standard, 1000, time.Time{}, 8000, noon.Add(8000 * each)},
		{"one more than today", standard, 1000, time.Time{}, 8001, midnight.Add(each)},
		{"today's are used up", standard, 9500, time.Time{}, 9000, midnight.Add(9000 * each)},
		{"100,000 accounts", standard, 9000, time.Time{}, 100_000, midnight.Add(11*24*time.Hour + 1000*each)},
		{"no limit a day", budget.Limits{PerSecond: 4}, 50_000, time.Time{}, 1000, noon.Add(1000 * each)},
		{"held for a while", standard, 0, noon.Add(time.Hour), 100, noon.Add(time.Hour + 100*each)},
		{"held until midnight", standard, 0, midnight, 100, midnight.Add(100 * each)},
		{"more than a day's seconds", budget.Limits{PerSecond: 1, PerDay: 250_000}, 0, time.Time{}, 5, noon.Add(5 * 1255 * time.Millisecond)},
		{"all is kept for owners", budget.Limits{PerSecond: 4, PerDay: 100, Reserve: 100}, 0, time.Time{}, 1, time.Time{}},
	}
	for _, test := range tests {
		s := budget.State{Limits: test.limits, At: noon, DayEnds: midnight, Used: test.used, HeldUntil: test.held}
		got, ok := s.Finish(test.calls)
		if diff := got.Sub(test.want).Abs(); ok == test.want.IsZero() || diff > 10*time.Millisecond {
			t.Errorf("%s: finished at %v (%t), want %v", test.name, got, ok, test.want)
		}
	}
}
