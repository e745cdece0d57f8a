package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/queue"
)

// pretend has a replica that exists on paper only take a job, which runs there from now on.
func (b *bundle) pretend(t *testing.T, replica string, seen time.Duration) uuid.UUID {
	t.Helper()
	row := uuid.New()
	b.put(t, queue.Job{Kind: "work", Row: row})
	b.sign(t, replica, seen)
	if _, err := b.pool.Exec(t.Context(), `
		UPDATE river_job
		SET
			state = 'running',
			attempt = 1,
			attempted_at = clock_timestamp(),
			attempted_by = ARRAY['an earlier one', $1]
		WHERE args ->> 'row' = $2`, replica, row.String()); err != nil {
		t.Fatal(err)
	}
	return row
}

// sign says that the replica was seen so long ago.
func (b *bundle) sign(t *testing.T, replica string, seen time.Duration) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), `
		INSERT INTO replicas (id, seen_at)
		VALUES ($1, clock_timestamp() - make_interval(secs => $2))
		ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`, replica, seen.Seconds()); err != nil {
		t.Fatal(err)
	}
}

func TestJobsOfDeadReplicasAreGivenToOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := map[uuid.UUID]bool{
		b.pretend(t, "dead", time.Hour):                true,
		b.pretend(t, "dead, too", deadAfter):           true,
		b.pretend(t, "never in the table", -time.Hour): true,
	}
	if _, err := b.pool.Exec(t.Context(), `DELETE FROM replicas WHERE id = 'never in the table'`); err != nil {
		t.Fatal(err)
	}
	b.pretend(t, "alive", -time.Hour)
	b.start(t, done)
	got := make(map[uuid.UUID]bool)
	for range want {
		got[b.next(t).Row] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if by := ask[string](t, b, `SELECT attempted_by[2] FROM river_job WHERE state = 'running'`); by != "alive" {
		t.Errorf("the job that still runs is that of the replica %q", by)
	}
	if n := ask[int](t, b, `SELECT count(*) FROM replicas`); n != 2 {
		t.Errorf("%d replicas in the table, want the living one and this one", n)
	}
	if !strings.Contains(b.log.String(), "a replica fell silent") {
		t.Errorf("the log does not tell:\n%s", b.log)
	}
}

// TestStunnedReplicaHasLostItsJobs lets two replicas run the same job at once: the first signed its
// presence only once, as if it had been stopped in the midst of the job, and wakes while the second is
// at it. Whatever the first then says of the job must not touch the second's run.
func TestStunnedReplicaHasLostItsJobs(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]error{
		"done":   nil,
		"later":  queue.Later(0),
		"failed": errors.New("the connection is gone"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			wake := make(chan struct{})
			stunned := &queue.Runner{
				Pool: b.pool, Log: slog.New(slog.DiscardHandler), DeadAfter: time.Hour,
				Handlers: map[queue.Kind]queue.Handler{"work": {Work: func(ctx context.Context, job queue.Running) error {
					b.runs <- job
					<-wake
					err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
						held, err := job.Held(ctx, tx)
						if held {
							t.Error("the first replica still holds its job")
						}
						return errors.Join(err, job.Complete(ctx, tx))
					})
					if err != nil {
						t.Error(err)
					}
					return says
				}}},
			}
			if err := stunned.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.put(t, queue.Job{Kind: "work"})
			b.next(t)

			release := make(chan struct{})
			b.start(t, func(ctx context.Context, job queue.Running) error {
				<-release
				return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
					held, err := job.Held(ctx, tx)
					if !held {
						t.Error("the second replica does not hold the job")
					}
					return errors.Join(err, job.Complete(ctx, tx))
				})
			})
			b.next(t)
			close(wake)
			if err := stunned.Stop(t.Context()); err != nil { // waits until all is written that it has to say
				t.Error(err)
			}
			if state := ask[string](t, b, `SELECT string_agg(state::text, ' ') FROM river_job`); state != "running" {
				t.Errorf("the second replica's job is %s", state)
			}
			close(release)
			if diff := cmp.Diff(map[string]int{"completed": 1}, b.states(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOutageIsNobodysSilence has the database refuse all signs for long. Afterwards one replica comes
// back later than this one: nobody has died.
func TestOutageIsNobodysSilence(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.pretend(t, "neighbour", 0)
	b.start(t, done)
	signed := func() bool {
		return ask[bool](t, b, `SELECT bool_or(seen_at > clock_timestamp() - make_interval(secs => $1)) FROM replicas WHERE id <> 'neighbour'`,
			deadAfter.Seconds()/2)
	}
	outage := 2 * deadAfter
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE replicas IN EXCLUSIVE MODE`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `SELECT pg_sleep($1)`, outage.Seconds())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "this replica signs again", signed)
	end := time.After(2 * deadAfter)
	for {
		select {
		case <-time.After(deadAfter / 4): // so long after the outage, at first
			b.sign(t, "neighbour", 0)
			continue
		case job := <-b.runs:
			t.Errorf("the neighbour's job runs here: %v\n%s", job.Job, b.log)
		case <-end:
		}
		break
	}
	eventually(t, "the neighbour falls silent", func() bool { return len(b.runs) == 1 })
}
