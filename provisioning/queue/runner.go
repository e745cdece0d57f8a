package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
)

// jobLimit is when a handler's context is cancelled, unless the Handler has a limit of its own.
const jobLimit = 2 * time.Minute

// Running is a job while it runs. One that is made by hand belongs to no Runner: it is always held, and
// to complete it does nothing.
type Running struct {
	Job
	river *river.Job[args]
}

// Complete ends the job in tx's transaction, so that its result and its end are one fact. The
// handler returns nil after the commit. A job that is no longer held is left to who has it now.
func (r Running) Complete(ctx context.Context, tx pgx.Tx) error {
	if r.river == nil {
		return nil
	}
	_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, r.river)
	if err != nil && !errors.Is(err, rivertype.ErrNotFound) {
		return fmt.Errorf("end the job: %w", err)
	}
	return nil
}

// Held tells whether the job is still this replica's, and keeps it so until tx's transaction ends. A
// replica that was silent for too long has lost its jobs to others. A handler asks before it repeats
// what another run of the job seems to have begun: that run may be the one that goes on elsewhere.
func (r Running) Held(ctx context.Context, tx pgx.Tx) (bool, error) {
	if r.river == nil {
		return true, nil
	}
	tag, err := tx.Exec(ctx, `SELECT FROM river_job WHERE id = $1 AND state = 'running' FOR UPDATE`, r.river.ID)
	if err != nil {
		return false, fmt.Errorf("look whether the job is held: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// Handler does the jobs of one kind.
type Handler struct {
	Work    func(context.Context, Running) error
	Workers int           // at once in this process; 1 if zero
	Every   time.Duration // if set, a job about no row is also started this often, by one replica

	// Limit is when the context of a run is cancelled; two minutes if zero. Nobody waits for a run that may
	// take longer: its context is cancelled as soon as the Runner stops, too. It returns Later(0) then and is
	// begun again, here or elsewhere.
	Limit time.Duration
}

// Runner works jobs in this process.
type Runner struct {
	Pool     *pgxpool.Pool
	Handlers map[Kind]Handler
	Log      *slog.Logger
	// DeadAfter is the silence after which a replica's jobs are given to others; 15 seconds if zero.
	DeadAfter time.Duration

	id      string
	client  *river.Client[pgx.Tx]
	endLong func() // ends the runs that nobody waits for
	cancel  context.CancelFunc
	done    chan struct{}
}

// Start begins to work jobs and returns at once. Cancelling ctx does not stop it; Stop does.
func (r *Runner) Start(ctx context.Context) error {
	r.id = uuid.NewString()
	r.DeadAfter = cmp.Or(r.DeadAfter, 15*time.Second)
	stopping := make(chan struct{})
	r.endLong = sync.OnceFunc(func() { close(stopping) })
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{handlers: r.Handlers, stopping: stopping})
	config := &river.Config{
		ID:                   r.id,
		ErrorHandler:         complaints{r.Log},
		FetchCooldown:        10 * time.Millisecond,
		FetchPollInterval:    time.Second,
		JobTimeout:           jobLimit,
		RescueStuckJobsAfter: 2 * jobLimit,
		Logger:               slog.New(riverLog{r.Log.Handler(), stopping}),
		Queues:               make(map[string]river.QueueConfig),
		Workers:              workers,
	}
	for kind, h := range r.Handlers {
		config.Queues[string(kind)] = river.QueueConfig{MaxWorkers: max(h.Workers, 1)}
		if h.Every > 0 {
			config.PeriodicJobs = append(config.PeriodicJobs, river.NewPeriodicJob(
				river.PeriodicInterval(h.Every),
				func() (river.JobArgs, *river.InsertOpts) {
					return args{}, &river.InsertOpts{
						Queue:      string(kind),
						UniqueOpts: river.UniqueOpts{ByQueue: true, ByState: unfinished()},
					}
				},
				&river.PeriodicJobOpts{RunOnStart: true},
			))
		}
	}
	client, err := river.NewClient(riverpgxv5.New(r.Pool), config)
	if err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	// The first sign comes before the first job: a replica that is not in the table counts as dead.
	if err := r.sign(ctx); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := client.Start(ctx); err != nil {
		r.cancel()
		return fmt.Errorf("start the job queue: %w", err)
	}
	r.client = client
	r.done = make(chan struct{})
	go r.keepPresent(ctx)
	return nil
}

// Stop takes no more jobs and waits for those that run, but for those with a Limit. When ctx ends first,
// they are cancelled; they run again elsewhere or after the next start.
func (r *Runner) Stop(ctx context.Context) error {
	r.endLong()
	err := r.client.Stop(ctx)
	if err != nil {
		hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, r.client.StopAndCancel(hard))
	}
	r.cancel()
	<-r.done
	if err != nil {
		return fmt.Errorf("stop the job queue: %w", err)
	}
	return nil
}

// keepPresent signs this replica's presence and gives away the jobs of replicas that fell silent.
func (r *Runner) keepPresent(ctx context.Context) {
	defer close(r.done)
	beat := r.DeadAfter / 5
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	last := wallClock()
	since := last
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := r.sign(ctx)
		now := wallClock()
		if err == nil {
			// When the database was away, or this machine slept, everybody looks silent. Only who could
			// sign all the time may conclude that another could have, too.
			if now.Sub(last) > 2*beat {
				since = now
			}
			last = now
			if now.Sub(since) >= r.DeadAfter {
				err = r.giveAway(ctx)
			}
		}
		if err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "this replica cannot sign its presence; its jobs may be repeated elsewhere", "err", err)
		}
	}
}

// wallClock returns a time that goes on while the machine sleeps.
func wallClock() time.Time { return time.Now().Round(0) }

func (r *Runner) sign(ctx context.Context) error {
	// A connection that hangs must not keep others from being tried.
	ctx, cancel := context.WithTimeout(ctx, r.DeadAfter/3)
	defer cancel()
	_, err := r.Pool.Exec(ctx, `
		INSERT INTO replicas (id, seen_at)
		VALUES ($1, clock_timestamp())
		ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`, r.id)
	if err != nil {
		return fmt.Errorf("sign the replica's presence: %w", err)
	}
	return nil
}

// giveAway makes the jobs of silent replicas available under new numbers. A replica that was only
// stunned can then no longer end or postpone them while they run elsewhere.
func (r *Runner) giveAway(ctx context.Context) error {
	tag, err := r.Pool.Exec(ctx, `
		WITH silent AS (
			DELETE FROM replicas
			WHERE seen_at < clock_timestamp() - make_interval(secs => $1)
		)
		UPDATE river_job
		SET
			id = nextval(pg_get_serial_sequence('river_job', 'id')),
			state = 'available',
			scheduled_at = clock_timestamp()
		WHERE state = 'running'
			AND NOT EXISTS (
				SELECT FROM replicas
				WHERE id = attempted_by[array_upper(attempted_by, 1)]
					AND seen_at >= clock_timestamp() - make_interval(secs => $1)
			)`, r.DeadAfter.Seconds())
	if err != nil {
		return fmt.Errorf("give away the jobs of silent replicas: %w", err)
	}
	if n := tag.RowsAffected(); n > 0 {
		r.Log.WarnContext(ctx, "a replica fell silent; its jobs are given to others", "jobs", n)
	}
	return nil
}

type worker struct {
	river.WorkerDefaults[args]

	handlers map[Kind]Handler
	stopping <-chan struct{} // closed when the Runner stops
}

// Timeout is River's word for Limit.
func (w *worker) Timeout(job *river.Job[args]) time.Duration {
	return w.handlers[Kind(job.Queue)].Limit
}

// Work finds a handler for every job, as only the queues of those kinds are read that have one.
func (w *worker) Work(ctx context.Context, job *river.Job[args]) error {
	kind := Kind(job.Queue)
	h := w.handlers[kind]
	if h.Limit > 0 {
		long, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-w.stopping:
				cancel()
			case <-long.Done():
			}
		}()
		ctx = long
	}
	return h.Work(ctx, Running{Job{Kind: kind, Row: job.Args.Row}, job})
}

// complaints tells the log of failed jobs: River itself keeps their errors in its table.
type complaints struct{ log *slog.Logger }

func (c complaints) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	c.log.WarnContext(ctx, "a job failed and will be tried again",
		"kind", job.Queue, "job", string(job.EncodedArgs), "attempt", job.Attempt, "err", err)
	return nil
}

func (c complaints) HandlePanic(ctx context.Context, job *rivertype.JobRow, cause any, trace string) *river.ErrorHandlerResult {
	c.log.ErrorContext(ctx, "a job panicked and will be tried again",
		"kind", job.Queue, "job", string(job.EncodedArgs), "attempt", job.Attempt, "panic", cause, "trace", trace)
	return nil
}

// unfinished are the states in which a periodic job stands for its next run too.
func unfinished() []rivertype.JobState {
	return []rivertype.JobState{
		rivertype.JobStateAvailable,
		rivertype.JobStatePending,
		rivertype.JobStateRetryable,
		rivertype.JobStateRunning,
		rivertype.JobStateScheduled,
	}
}

// riverLog drops River's routine messages and keeps its warnings, but for those of work that was broken off because the
// Runner stops: whatever that was is begun again elsewhere or after the next start.
type riverLog struct {
	slog.Handler

	stopping <-chan struct{}
}

func (h riverLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (h riverLog) Handle(ctx context.Context, record slog.Record) error {
	select {
	case <-h.stopping:
	default:
		return h.Handler.Handle(ctx, record)
	}
	brokenOff := false
	record.Attrs(func(a slog.Attr) bool {
		brokenOff = strings.Contains(a.Value.String(), context.Canceled.Error())
		return !brokenOff
	})
	if brokenOff {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}
