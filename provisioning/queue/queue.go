// Package queue puts a job into the transaction of the fact that causes it and runs it once. It is
// the only package that knows River.
//
//	Queue.Put(ctx, tx, jobs…)      the cause: no fact without its job, no job without its fact
//	Runner.Start(ctx)              works jobs, up to Workers of a kind at once in a process
//	    handler returns nil        done
//	    handler returns Later(d)   not now: tried again after d, however often
//	    handler returns an error   tried again with growing pauses, for about three weeks
//	Running.Complete(ctx, tx)      the effect: ends the job in the transaction that stores its result
//	Migrate(ctx, pool)             brings River's own tables up to date (called by package migrations)
//
// A job names a kind and a row; whatever else it needs, its handler reads from the database, so that
// a job can never carry stale facts. Jobs run at least once: a handler must stand being repeated. A job
// whose kind no running process handles waits for one that does.
//
// Every working process is a replica that signs its presence in the table replicas. Jobs that ran in
// a replica that has fallen silent are given to others, by whoever notices first. If it was only
// stunned, it finds on waking that they are no longer its own: Running.Held and Running.Complete.
package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Kind names what a job does and which of a Runner's handlers does it.
type Kind string

// Job is one piece of work: a kind, and the row that it is about.
type Job struct {
	Kind Kind
	Row  uuid.UUID // zero for work about no single row
	At   time.Time // not before this time; zero means as soon as possible
}

// Queue puts jobs into transactions. It holds no connection and is safe for concurrent use.
type Queue struct {
	client *river.Client[pgx.Tx]
}

// New returns a Queue. It fails only if the program is put together wrongly.
func New() (*Queue, error) {
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return &Queue{client}, nil
}

// Put adds jobs to tx's transaction: they exist if it commits, and start only then.
func (q *Queue) Put(ctx context.Context, tx pgx.Tx, jobs ...Job) error {
	if len(jobs) == 0 {
		return nil
	}
	params := make([]river.InsertManyParams, len(jobs))
	for i, j := range jobs {
		params[i] = river.InsertManyParams{
			Args:       args{Row: j.Row},
			InsertOpts: &river.InsertOpts{Queue: string(j.Kind), ScheduledAt: j.At},
		}
	}
	if _, err := q.client.InsertManyFastTx(ctx, tx, params); err != nil {
		return fmt.Errorf("queue %d jobs: %w", len(jobs), err)
	}
	return nil
}

// Later is what a handler returns when the time has not come: the job is tried again after pause, and
// that does not count as a failure. The cause is for the log of whoever wraps the handler.
func Later(pause time.Duration) error { return river.JobSnooze(pause) }

// Migrate brings River's tables up to the version this program needs. The caller holds the lock that
// keeps two processes from doing so at once.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return fmt.Errorf("migrate the job queue: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate the job queue: %w", err)
	}
	return nil
}

// args is the only kind of job River knows of: our kinds are told apart by River's queues, which
// gives each its own share of workers.
type args struct {
	Row uuid.UUID `json:"row"`
}

func (args) Kind() string { return "countersign" }
