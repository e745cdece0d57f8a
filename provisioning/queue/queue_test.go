package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning/queue"
)

const (
	// patience bounds every wait; what is waited for takes River six seconds at most.
	patience = 30 * time.Second
	// deadAfter is shorter than the real one, so that tests see replicas die.
	deadAfter = time.Second
)

// bundle is a database with a queue, and what the jobs of kind "work" did.
type bundle struct {
	pool *pgxpool.Pool
	jobs *queue.Queue
	log  *buffer
	runs chan queue.Running // every run of a job of kind "work"
}

func setup(t *testing.T) *bundle {
	t.Helper()
	jobs, err := queue.New()
	if err != nil {
		t.Fatal(err)
	}
	return &bundle{pool: pgtest.New(t), jobs: jobs, log: &buffer{}, runs: make(chan queue.Running, 100)}
}

// put queues jobs in a transaction of their own.
func (b *bundle) put(t *testing.T, jobs ...queue.Job) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error { return b.jobs.Put(t.Context(), tx, jobs...) })
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a Runner until the test ends. Its jobs of kind "work" tell of every run and then do work.
func (b *bundle) start(t *testing.T, work func(context.Context, queue.Running) error) *queue.Runner {
	t.Helper()
	return b.startWith(t, map[queue.Kind]queue.Handler{"work": {Work: func(ctx context.Context, job queue.Running) error {
		b.runs <- job
		return work(ctx, job)
	}}})
}

func (b *bundle) startWith(t *testing.T, handlers map[queue.Kind]queue.Handler) *queue.Runner {
	t.Helper()
	runner := &queue.Runner{
		Pool: b.pool, Handlers: handlers, Log: slog.New(slog.NewTextHandler(b.log, nil)), DeadAfter: deadAfter,
	}
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := runner.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return runner
}

// next returns the next run.
func (b *bundle) next(t *testing.T) queue.Running {
	t.Helper()
	select {
	case job := <-b.runs:
		return job
	case <-time.After(patience):
		t.Fatalf("no job runs:\n%s", b.log)
		panic("unreachable")
	}
}

// ask returns the only value of a query.
func ask[V any](t *testing.T, b *bundle, sql string, args ...any) (value V) {
	t.Helper()
	if err := b.pool.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// states waits until no job runs or waits to run, and returns how many ended in which state.
func (b *bundle) states(t *testing.T) map[string]int {
	t.Helper()
	eventually(t, "the jobs end", func() bool {
		return ask[int](t, b, `SELECT count(*) FROM river_job WHERE finalized_at IS NULL`) == 0
	})
	return ask[map[string]int](t, b, `
		SELECT coalesce(jsonb_object_agg(state, n), '{}')
		FROM (SELECT state, count(*) AS n FROM river_job GROUP BY state) ended`)
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-ticker.C:
		}
	}
}

// buffer is a log.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func done(context.Context, queue.Running) error { return nil }

func TestJobSharesTheFateOfItsCause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cause := errors.New("the cause did not happen")
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		return errors.Join(b.jobs.Put(t.Context(), tx, queue.Job{Kind: "work", Row: uuid.New()}), cause)
	})
	if !errors.Is(err, cause) {
		t.Fatal(err)
	}
	row := uuid.New()
	b.put(t, queue.Job{Kind: "work", Row: row})
	b.put(t) // nothing
	b.start(t, done)
	if diff := cmp.Diff(queue.Job{Kind: "work", Row: row}, b.next(t).Job); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"completed": 1}, b.states(t)); diff != "" {
		t.Error(diff)
	}
	if len(b.runs) > 0 {
		t.Errorf("there was another run: %v", <-b.runs)
	}
}

func TestManyJobsRunOnceEach(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := make(map[uuid.UUID]int)
	jobs := make([]queue.Job, 500)
	for i := range jobs {
		jobs[i] = queue.Job{Kind: "work", Row: uuid.New()}
		want[jobs[i].Row] = 1
	}
	b.put(t, jobs...)
	var mu sync.Mutex
	got := make(map[uuid.UUID]int)
	handlers := map[queue.Kind]queue.Handler{"work": {Workers: 5, Work: func(_ context.Context, job queue.Running) error {
		mu.Lock()
		defer mu.Unlock()
		got[job.Row]++
		return nil
	}}}
	for range 3 {
		b.startWith(t, handlers)
	}
	b.states(t)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAtWaitsForItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t, done)
	at := time.Now().Add(time.Second)
	b.put(t, queue.Job{Kind: "work", At: at})
	b.next(t)
	if early := time.Until(at); early > 0 {
		t.Errorf("it ran %s too early", early)
	}
}

func TestLaterIsNoFailure(t *testing.T) {
	t.Parallel()
	const pause = 300 * time.Millisecond
	b := setup(t)
	var times []time.Time
	b.start(t, func(context.Context, queue.Running) error {
		if times = append(times, time.Now()); len(times) < 4 {
			return queue.Later(pause)
		}
		return nil
	})
	b.put(t, queue.Job{Kind: "work"})
	if diff := cmp.Diff(map[string]int{"completed": 1}, b.states(t)); diff != "" {
		t.Error(diff)
	}
	if attempts := ask[int](t, b, `SELECT attempt FROM river_job`); attempts != 1 || len(times) != 4 {
		t.Errorf("%d runs burnt %d attempts, want 4 and 1", len(times), attempts)
	}
	for i := range times[1:] {
		if waited := times[i+1].Sub(times[i]); waited < pause {
			t.Errorf("run %d came after %s, want %s", i+2, waited, pause)
		}
	}
	if b.log.String() != "" {
		t.Errorf("it is no news, but the log says:\n%s", b.log)
	}
}

func TestFailureIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("the roof leaks") },
		"panic": func() error { panic("the roof leaks") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			first := true
			b.start(t, func(context.Context, queue.Running) error {
				if first {
					first = false
					return fail()
				}
				return nil
			})
			row := uuid.New()
			b.put(t, queue.Job{Kind: "work", Row: row})
			if diff := cmp.Diff(map[string]int{"completed": 1}, b.states(t)); diff != "" {
				t.Error(diff)
			}
			if attempts := ask[int](t, b, `SELECT attempt FROM river_job`); attempts != 2 {
				t.Errorf("%d attempts, want 2", attempts)
			}
			for _, word := range []string{"the roof leaks", row.String(), "kind=work"} {
				if !strings.Contains(b.log.String(), word) {
					t.Errorf("the log does not tell %q:\n%s", word, b.log)
				}
			}
		})
	}
}

func TestCompleteIsOneFactWithTheResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.pool.Exec(t.Context(), `CREATE TABLE results (n integer)`); err != nil {
		t.Fatal(err)
	}
	runs := 0
	b.start(t, func(ctx context.Context, job queue.Running) error {
		runs++
		tx, err := b.pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
		if _, err := tx.Exec(ctx, `INSERT INTO results VALUES ($1)`, runs); err != nil {
			return err
		}
		if err := job.Complete(ctx, tx); err != nil {
			return err
		}
		if runs == 1 {
			return errors.New("the commit fails") // neither the result nor the end remains
		}
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		return errors.New("what happens after the commit") // comes too late
	})
	b.put(t, queue.Job{Kind: "work"})
	if diff := cmp.Diff(map[string]int{"completed": 1}, b.states(t)); diff != "" {
		t.Error(diff)
	}
	if results := ask[[]int](t, b, `SELECT array_agg(n) FROM results`); !cmp.Equal(results, []int{2}) {
		t.Errorf("results of runs %v, want of the second alone", results)
	}
}

func TestRunningMadeByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		job := queue.Running{Job: queue.Job{Kind: "work"}}
		held, err := job.Held(t.Context(), tx)
		if !held {
			t.Error("it is not held")
		}
		return errors.Join(err, job.Complete(t.Context(), tx))
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEveryIsNotPiledUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const every = time.Second
	gate := make(chan struct{})
	handlers := map[queue.Kind]queue.Handler{"sweep": {Every: every, Work: func(_ context.Context, job queue.Running) error {
		<-gate
		b.runs <- job
		return nil
	}}}
	b.startWith(t, handlers)
	b.startWith(t, handlers)                         // another replica
	t.Cleanup(sync.OnceFunc(func() { close(gate) })) // before the replicas are stopped
	eventually(t, "the first run lasts longer than the interval, several times", func() bool {
		return ask[int](t, b, `SELECT count(*) FROM river_job WHERE state = 'running' AND attempted_at < clock_timestamp() - make_interval(secs => $1)`,
			3*every.Seconds()) == 1
	})
	if n := ask[int](t, b, `SELECT count(*) FROM river_job`); n != 1 {
		t.Errorf("%d jobs are piled up, want the running one alone", n)
	}
	for range 3 {
		gate <- struct{}{}
		if diff := cmp.Diff(queue.Job{Kind: "sweep"}, b.next(t).Job); diff != "" {
			t.Error(diff)
		}
	}
}

func TestUnknownKindWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	row := uuid.New()
	b.put(t, queue.Job{Kind: "future", Row: row}, queue.Job{Kind: "work"})
	b.start(t, done)
	b.next(t)
	if state := ask[string](t, b, `SELECT state::text FROM river_job WHERE queue = 'future'`); state != "available" {
		t.Errorf("a job that nobody here can do is %s", state)
	}
	found := make(chan queue.Running, 1)
	b.startWith(t, map[queue.Kind]queue.Handler{"future": {Work: func(_ context.Context, job queue.Running) error {
		found <- job
		return nil
	}}})
	select {
	case job := <-found:
		if job.Row != row || job.Kind != "future" {
			t.Errorf("got %v", job.Job)
		}
	case <-time.After(patience):
		t.Error("the program that can do it does not")
	}
}

func TestStopWaitsForTheRunningJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release, ended := make(chan struct{}), false
	runner := b.start(t, func(ctx context.Context, _ queue.Running) error {
		<-release
		ended = true
		return ctx.Err()
	})
	b.put(t, queue.Job{Kind: "work"}, queue.Job{Kind: "work"})
	b.next(t)
	stopped := make(chan error, 1)
	go func() { stopped <- runner.Stop(t.Context()) }()
	select {
	case err := <-stopped:
		t.Fatalf("it stopped in the midst of a job: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	if err := <-stopped; err != nil || !ended {
		t.Errorf("stopped with %v, the job had ended: %t", err, ended)
	}
	rows := ask[[]string](t, b, `SELECT array_agg(state::text ORDER BY id) FROM river_job`)
	if diff := cmp.Diff([]string{"completed", "available"}, rows); diff != "" {
		t.Errorf("the jobs (-want +got):\n%s", diff)
	}
}

// TestStopEndsALongJob: it goes on in another process, and neither is that a failure nor does anybody wait.
func TestStopEndsALongJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	handlers := func(work func(context.Context, queue.Running) error) map[queue.Kind]queue.Handler {
		return map[queue.Kind]queue.Handler{"long": {Limit: time.Hour, Work: func(ctx context.Context, job queue.Running) error {
			b.runs <- job
			return work(ctx, job)
		}}}
	}
	runner := b.startWith(t, handlers(func(ctx context.Context, _ queue.Running) error {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) < 30*time.Minute {
			t.Errorf("it has to end by %v", deadline)
		}
		<-ctx.Done()
		return queue.Later(0)
	}))
	b.put(t, queue.Job{Kind: "long"})
	b.next(t)
	if err := runner.Stop(t.Context()); err != nil {
		t.Errorf("Stop = %v", err)
	}
	b.startWith(t, handlers(done))
	b.next(t)
	if diff := cmp.Diff(map[string]int{"completed": 1}, b.states(t)); diff != "" || b.log.String() != "" {
		t.Errorf("%s\nthe log says %s", diff, b.log)
	}
}

func TestStopLosesPatience(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runner := b.start(t, func(ctx context.Context, _ queue.Running) error {
		<-ctx.Done()
		return ctx.Err()
	})
	b.put(t, queue.Job{Kind: "work"})
	b.next(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := runner.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop = %v", err)
	}
	if state := ask[string](t, b, `SELECT state::text FROM river_job`); state == "running" || state == "completed" {
		t.Errorf("the job is left %s", state)
	}
}

func TestStopLeavesNoGoroutine(t *testing.T) { //nolint:paralleltest // It counts goroutines.
	b := setup(t)
	before := goleak.IgnoreCurrent()
	runner := b.start(t, done)
	b.put(t, queue.Job{Kind: "work"})
	b.next(t)
	if err := runner.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.pool.Reset()
	goleak.VerifyNone(t, before)
}
