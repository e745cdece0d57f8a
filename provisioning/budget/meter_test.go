package budget_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning/budget"
)

const name = "a key/api"

// connect opens a replica's own connections.
func connect(t *testing.T, url string, conns int32) *pgxpool.Pool {
	t.Helper()
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = conns
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func take(t *testing.T, m *budget.Meter, p budget.Priority) *budget.Turn {
	t.Helper()
	turn, err := m.Take(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

func state(t *testing.T, m *budget.Meter) budget.State {
	t.Helper()
	s, err := m.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// exec changes a meter's rows, for what would take too long to come about.
func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	tag, err := pool.Exec(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	if tag.RowsAffected() == 0 {
		t.Fatalf("no row changed by %s", sql)
	}
}

// await waits until something is so in the database.
func await(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	for is := false; !is; <-time.After(time.Millisecond) {
		if err := pool.QueryRow(t.Context(), sql).Scan(&is); err != nil {
			t.Fatal(err)
		}
	}
}

// impatient is a context for turns that should not come.
func impatient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestName(t *testing.T) {
	t.Parallel()
	api, token, other := budget.Name("s3cret", "api"), budget.Name("s3cret", "token"), budget.Name("s3cret2", "api")
	if api == token || api == other || api != budget.Name("s3cret", "api") {
		t.Errorf("names %q, %q, %q", api, token, other)
	}
	if strings.Contains(api, "s3cret") {
		t.Errorf("name %q gives the key away", api)
	}
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	m := budget.New(nil, name, budget.Limits{})
	for range 100 {
		turn := take(t, m, budget.Background)
		check(t, m.Throttled(t.Context(), time.Hour))
		check(t, m.QuotaExceeded(t.Context()))
		check(t, turn.Done(t.Context()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Take(ctx, budget.Walk); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the context has ended", err)
	}
}

func TestSlotRests(t *testing.T) {
	t.Parallel()
	m := budget.New(pgtest.New(t), name, budget.Limits{PerSecond: 1})
	turn := take(t, m, budget.Background)
	answered := time.Now()
	check(t, turn.Done(t.Context()))
	for range 2 {
		turn = take(t, m, budget.Background)
		if rested := time.Since(answered); rested < time.Second {
			t.Errorf("the next call came %v after the one before was answered", rested)
		}
		answered = time.Now()
		check(t, turn.Done(t.Context()))
	}
	if used := state(t, m).Used; used != 3 {
		t.Errorf("%d calls are counted, want 3", used)
	}
}

func TestTurnOfTheDead(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	m := budget.New(pool, name, budget.Limits{PerSecond: 1, CallTimeout: 10 * time.Second})
	dead := take(t, m, budget.Background)
	if _, err := m.Take(impatient(t), budget.Walk); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v, want none but one turn", err)
	}
	// Five seconds to begin, ten for the call, one of rest.
	exec(t, pool, `UPDATE meter_slots SET free_at = free_at - interval '14 seconds'`)
	if _, err := m.Take(impatient(t), budget.Walk); err == nil {
		t.Fatal("the slot was given away while its call might be under way")
	}
	exec(t, pool, `UPDATE meter_slots SET free_at = free_at - interval '2 seconds'`)
	turn := take(t, m, budget.Walk)
	if err := dead.Done(t.Context()); err == nil {
		t.Error("the dead one ended its turn")
	}
	if _, err := m.Take(impatient(t), budget.Walk); err == nil {
		t.Error("the dead one gave the slot of another away")
	}
	check(t, turn.Done(t.Context()))
}

// TestLateForItsTurn has somebody sleep until after the turn was to begin.
func TestLateForItsTurn(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	m := budget.New(pool, name, budget.Limits{PerSecond: 1})
	check(t, take(t, m, budget.Walk).Done(t.Context()))
	late := make(chan error, 1)
	go func() {
		_, err := m.Take(t.Context(), budget.Walk)
		late <- err
	}()
	await(t, pool, `SELECT count(turn_id) > 0 FROM meter_slots`)
	exec(t, pool, `UPDATE meter_slots SET free_at = free_at - interval '7 seconds'`)
	check(t, <-late)
	var remaining float64
	check(t, pool.QueryRow(t.Context(), `SELECT extract(epoch FROM free_at - clock_timestamp()) FROM meter_slots`).Scan(&remaining))
	if remaining < 18 {
		t.Errorf("its slot is free in %v s: it made its call in a turn that was over", remaining)
	}
	if used := state(t, m).Used; used != 2 {
		t.Errorf("%d calls are counted, want 2: the turn not used is none", used)
	}
}

func TestDoneAfterTheContext(t *testing.T) {
	t.Parallel()
	m := budget.New(pgtest.New(t), name, budget.Limits{PerSecond: 1})
	ctx, cancel := context.WithCancel(t.Context())
	turn, err := m.Take(ctx, budget.Walk)
	check(t, err)
	cancel()
	check(t, turn.Done(ctx))
	check(t, take(t, m, budget.Walk).Done(t.Context()))
}

// TestGivenUp has somebody give up a turn that was taken ahead, and a call that could not be sent.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	m := budget.New(pool, name, budget.Limits{PerSecond: 1})
	check(t, take(t, m, budget.Walk).Done(t.Context()))
	if _, err := m.Take(impatient(t), budget.Walk); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v, want that there was no time", err)
	}
	if used := state(t, m).Used; used != 1 {
		t.Errorf("%d calls are counted, want 1", used)
	}
	turn := take(t, m, budget.Walk)
	unsent := time.Now()
	check(t, turn.Unused(t.Context()))
	if used := state(t, m).Used; used != 1 {
		t.Errorf("%d calls are counted, want 1", used)
	}
	check(t, take(t, m, budget.Walk).Done(t.Context()))
	if rested := time.Since(unsent); rested < time.Second {
		t.Errorf("the next call came %v after one that could not be sent", rested)
	}
}

// TestWalksOvertake has an owner come when many calls of the background wait already.
func TestWalksOvertake(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	limits := budget.Limits{PerSecond: 1}
	here, there := budget.New(pool, name, limits), budget.New(pool, name, limits)
	first := take(t, here, budget.Background)

	var mu sync.Mutex
	var order []budget.Priority
	var wg sync.WaitGroup
	wait := func(m *budget.Meter, p budget.Priority) {
		wg.Go(func() {
			turn, err := m.Take(t.Context(), p)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, p)
			mu.Unlock()
			check(t, turn.Done(t.Context()))
		})
	}
	wait(here, budget.Background)
	wait(there, budget.Background)
	<-time.After(100 * time.Millisecond) // They look for a slot now.
	wait(there, budget.Walk)
	await(t, pool, `SELECT urgent_until IS NOT NULL FROM meters`)
	check(t, first.Done(t.Context()))
	wg.Wait()
	want := []budget.Priority{budget.Walk, budget.Background, budget.Background}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// TestDay has sixteen replicas take all that a day has.
func TestDay(t *testing.T) {
	t.Parallel()
	const replicas, perDay, reserve = 16, 200, 50
	url := pgtest.URL(t)
	limits := budget.Limits{PerSecond: 1000, PerDay: perDay, Reserve: reserve}
	var meters []*budget.Meter
	for range replicas {
		meters = append(meters, budget.New(connect(t, url, 2), name, limits))
	}
	drain := func(p budget.Priority) (taken int64, reasons map[budget.Reason]bool) {
		var n atomic.Int64
		var mu sync.Mutex
		reasons = make(map[budget.Reason]bool)
		var wg sync.WaitGroup
		for i := range 2 * replicas {
			wg.Go(func() {
				for {
					turn, err := meters[i%replicas].Take(t.Context(), p)
					if ex, ok := errors.AsType[*budget.Exhausted](err); ok {
						mu.Lock()
						reasons[ex.Reason] = true
						mu.Unlock()
						if ex.Wait <= 0 || ex.Wait > 24*time.Hour || ex.Until.UTC().Format(time.TimeOnly) != "00:00:00" {
							t.Errorf("%v, in %v", ex, ex.Wait)
						}
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					n.Add(1)
					check(t, turn.Done(t.Context()))
				}
			})
		}
		wg.Wait()
		return n.Load(), reasons
	}
	step := func(p budget.Priority, want int64, reason budget.Reason) {
		t.Helper()
		got, reasons := drain(p)
		if diff := cmp.Diff(map[budget.Reason]bool{reason: true}, reasons); got != want || diff != "" {
			t.Errorf("%d calls, want %d; reasons (-want +got):\n%s", got, want, diff)
		}
	}
	step(budget.Background, perDay-reserve, budget.ShareUsed)
	step(budget.Walk, reserve, budget.DayUsed)
	step(budget.Background, 0, budget.DayUsed)
	s := state(t, meters[0])
	if s.Used != perDay || s.Remaining(budget.Walk) != 0 || s.Remaining(budget.Background) != 0 {
		t.Errorf("state %+v", s)
	}

	pool := connect(t, url, 2)
	exec(t, pool, `UPDATE meters SET day = day - 1, throttled = 7`)
	if s := state(t, meters[0]); s.Used != 0 || s.Throttled != 0 {
		t.Errorf("state of the new day before its first call %+v", s)
	}
	exec(t, pool, `UPDATE meter_slots SET free_at = clock_timestamp()`)
	step(budget.Walk, perDay, budget.DayUsed)
}

// TestCallsAcrossMidnight are counted on both days, as the provider may count them on either.
func TestCallsAcrossMidnight(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	m := budget.New(pool, name, budget.Limits{PerSecond: 4, PerDay: 10})
	unused, under := take(t, m, budget.Walk), take(t, m, budget.Walk)
	exec(t, pool, `UPDATE meters SET day = day - 1, used = 10`)
	check(t, take(t, m, budget.Walk).Done(t.Context()))
	if used := state(t, m).Used; used != 3 {
		t.Errorf("%d calls are counted, want 3: two of them were under way", used)
	}
	check(t, under.Done(t.Context()))
	check(t, unused.Unused(t.Context()))
	if used := state(t, m).Used; used != 2 {
		t.Errorf("%d calls are counted, want 2", used)
	}
}

func TestOtherNumberOfSlots(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for _, perSecond := range []int{2, 4, 1} {
		m := budget.New(pool, name, budget.Limits{PerSecond: perSecond})
		var turns []*budget.Turn
		for range perSecond {
			turns = append(turns, take(t, m, budget.Walk))
		}
		if _, err := m.Take(impatient(t), budget.Walk); err == nil {
			t.Errorf("%d slots have one more", perSecond)
		}
		for _, turn := range turns {
			check(t, turn.Done(t.Context()))
		}
		exec(t, pool, `UPDATE meter_slots SET free_at = clock_timestamp()`)
	}
}

// BenchmarkTurn takes and ends a turn that is free at once.
func BenchmarkTurn(b *testing.B) {
	pool := pgtest.New(b)
	m := budget.New(pool, name, budget.Limits{PerSecond: 4, PerDay: 1_000_000_000})
	for b.Loop() {
		turn, err := m.Take(b.Context(), budget.Walk)
		if err != nil {
			b.Fatal(err)
		}
		if err := turn.Done(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := pool.Exec(b.Context(), `UPDATE meter_slots SET free_at = clock_timestamp()`); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
