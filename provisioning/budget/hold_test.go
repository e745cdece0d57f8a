package budget_test

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning/budget"
)

func exhausted(t *testing.T, err error) *budget.Exhausted {
	t.Helper()
	ex, ok := errors.AsType[*budget.Exhausted](err)
	if !ok {
		t.Fatalf("error %v, want an Exhausted", err)
	}
	return ex
}

// TestThrottled has two replicas be told to slow down.
func TestThrottled(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	limits := budget.Limits{PerSecond: 4}
	here, there := budget.New(pool, name, limits), budget.New(pool, name, limits)
	check(t, take(t, here, budget.Background).Done(t.Context()))

	// hold has somebody be throttled and checks how long the other one is held: between these two and for as long
	// as the database took.
	hold := func(shortest, longest time.Duration, throttle ...func() error) {
		t.Helper()
		exec(t, pool, `UPDATE meters SET hold_until = NULL, hold_why = NULL`)
		before := state(t, there)
		for _, tell := range throttle {
			check(t, tell())
		}
		s := state(t, there)
		held := s.HeldUntil.Sub(before.At)
		if s.HeldWhy != budget.Throttled || held < shortest || held > longest+s.At.Sub(before.At) {
			t.Errorf("a hold of %v (%s), want %v to %v", held, s.HeldWhy, shortest, longest)
		}
		if got, want := s.Throttled-before.Throttled, len(throttle); got != want {
			t.Errorf("throttled %d times, want %d", got, want)
		}
	}
	throttled := func(after time.Duration) func() error {
		return func() error { return here.Throttled(t.Context(), after) }
	}
	begin := time.Now()
	hold(time.Second, 1500*time.Millisecond, throttled(0))
	over := time.After(1500 * time.Millisecond)
	check(t, take(t, there, budget.Background).Done(t.Context()))
	if held := time.Since(begin); held < time.Second {
		t.Errorf("the next call came after %v", held)
	}
	<-over
	hold(2*time.Second, 3*time.Second, throttled(0), throttled(0)) // both under way together
	hold(45*time.Second, 45*time.Second, throttled(45*time.Second), throttled(0))
	// Nobody waits for what comes too late.
	if ex := exhausted(t, errOf(there.Take(impatient(t), budget.Walk))); ex.Reason != budget.Throttled {
		t.Errorf("%v", ex)
	}
	hold(time.Hour, time.Hour, throttled(time.Hour))
	if ex := exhausted(t, errOf(there.Take(t.Context(), budget.Walk))); ex.RetryAfter() < 59*time.Minute {
		t.Errorf("a hold of %v, want an hour", ex.RetryAfter())
	}
}

// TestHeldInTurn has everybody be told to hold while somebody has a turn that is yet to begin.
func TestHeldInTurn(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	m := budget.New(pool, name, budget.Limits{PerSecond: 1})
	check(t, take(t, m, budget.Background).Done(t.Context()))
	var later error
	done := make(chan struct{})
	go func() {
		defer close(done)
		later = errOf(m.Take(t.Context(), budget.Background))
	}()
	await(t, pool, `SELECT count(turn_id) > 0 FROM meter_slots`)
	check(t, m.Throttled(t.Context(), time.Hour))
	<-done
	if ex := exhausted(t, later); ex.Reason != budget.Throttled {
		t.Errorf("%v", ex)
	}
	if used := state(t, m).Used; used != 1 {
		t.Errorf("%d calls are counted, want 1", used)
	}
}

func TestQuotaExceeded(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	// Without a limit of ours a day the provider's word counts at any hour.
	m := budget.New(pool, name, budget.Limits{PerSecond: 4})
	turn := take(t, m, budget.Walk)
	check(t, m.QuotaExceeded(t.Context()))
	check(t, m.Throttled(t.Context(), 0))
	check(t, turn.Done(t.Context()))
	s := state(t, m)
	if s.HeldWhy != budget.QuotaExceeded || !s.HeldUntil.Equal(s.DayEnds) || s.Throttled != 2 {
		t.Errorf("state %+v, want a hold until the day ends", s)
	}
	for _, p := range []budget.Priority{budget.Walk, budget.Background} {
		ex := exhausted(t, errOf(m.Take(t.Context(), p)))
		if ex.Reason != budget.QuotaExceeded || !ex.Until.Equal(s.DayEnds) {
			t.Errorf("%v", ex)
		}
	}

	// A day that is too short for its calls: it is still that of yesterday at the provider.
	exec(t, pool, `UPDATE meters SET hold_until = NULL, hold_why = NULL`)
	m = budget.New(pool, name, budget.Limits{PerSecond: 1, PerDay: 24 * 60 * 60})
	check(t, m.QuotaExceeded(t.Context()))
	s = state(t, m)
	if hold := s.HeldUntil.Sub(s.At); hold < 30*time.Second || hold > time.Minute {
		t.Errorf("a hold of %v, want a minute", hold)
	}
}

func errOf(_ *budget.Turn, err error) error { return err }
