package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/queue"
)

// Reconciliations let an operator reconcile in the console, which takes longer than a request: jobs do it,
// one at a time over all replicas, and what they find stays in the database for a day.
//
//	Start ──► reading ──► compared ──► applying ──► done
//	             │             ▲        │  ▲         │
//	             │           Apply ─────┘  └─ Apply ─┤
//	             └────────────► failed ──────────────┘  with Found: what could be applied was
//
// A job that dies, or whose process ends, begins again elsewhere: it reads the list anew, or applies what is
// left.
type Reconciliations struct {
	DB         DB
	Jobs       *queue.Queue
	Reconciler *Reconciler
}

// JobReconcile is the kind of the jobs, which Work does. It takes a second for every 190 accounts of the
// list, and one for every four owners that are asked for.
const JobReconcile queue.Kind = "reconcile"

const (
	reconciliationLife = 24 * time.Hour

	// After so many accounts the progress is written: about once a second.
	readStep = 200
	askStep  = 4
)

// RunState says how far a ReconcileRun is.
type RunState string

// The states of a ReconcileRun.
const (
	RunReading  RunState = "reading"  // a job reads the provider's list, since Start
	RunCompared RunState = "compared" // Found says what can be applied
	RunApplying RunState = "applying" // a job does the last of Steps, since Apply
	RunDone     RunState = "done"     // Outcome says what the step did, Found what is left
	RunFailed   RunState = "failed"   // Error says why; with Found, it was the step that ended early
)

// ReconcileStep is something that can be applied.
type ReconcileStep string

// The steps, which are methods of Reconciler.
const (
	StepFill ReconcileStep = "fill"
	StepAdd  ReconcileStep = "add"
)

// ReconcileRun is one reading of the provider's list and what came of it.
type ReconcileRun struct {
	ID        uuid.UUID
	Actor     Actor // who had the list read
	At        time.Time
	State     RunState
	Done      int  // accounts that the job at work has read, or asked for their owners
	Total     *int // how many there will be, if that is known
	Steps     []ReconcileStep
	AppliedBy *Actor
	AppliedAt *time.Time // when the last of Steps was begun
	Found     *Reconciliation
	Outcome   *ReconcileOutcome // of the last of Steps
	Error     *string           // with the cure
}

// Running reports whether a job is at work.
func (r ReconcileRun) Running() bool { return r.State == RunReading || r.State == RunApplying }

// Step is the last of Steps, empty if there is none.
func (r ReconcileRun) Step() ReconcileStep {
	if len(r.Steps) == 0 {
		return ""
	}
	return r.Steps[len(r.Steps)-1]
}

// ReconcileOutcome is what a step did.
type ReconcileOutcome struct {
	Imports []Import  `json:"imports"` // without their rejects
	Held    int       `json:"held"`    // accounts that were not added for a reason of their own
	Holds   []Finding `json:"holds"`   // the first 100 of them, with the reason
}

// Start has the provider's list read and compared, unless a job is at work already.
func (r *Reconciliations) Start(ctx context.Context, actor Actor) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("start to reconcile: %w", err)
	}
	err = pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO reconciliations (id, actor, total)
			VALUES ($1, $2, (SELECT (found->>'accounts')::integer FROM reconciliations WHERE found IS NOT NULL ORDER BY id DESC LIMIT 1))
			ON CONFLICT DO NOTHING`, id, actor)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return r.Jobs.Put(ctx, tx, queue.Job{Kind: JobReconcile, Row: id})
	})
	if err != nil {
		return fmt.Errorf("start to reconcile: %w", err)
	}
	return nil
}

// Apply has a step done to the latest run, which the caller has seen with so many Steps. If it is another
// one by now, or a job is at work already, nothing happens: a second press of a button is not a second
// step. It applies what the comparison finds then, of the list as it was read.
func (r *Reconciliations) Apply(ctx context.Context, id uuid.UUID, seen int, step ReconcileStep, actor Actor) error {
	const uniqueViolation = "23505" // Another job has begun this instant.
	err := pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE reconciliations
			SET
				state = 'applying',
				done = 0,
				total = CASE $3 WHEN 'add' THEN (found->>'addable')::integer END,
				steps = steps || $3::text,
				applied_by = $4,
				applied_at = now(),
				outcome = NULL,
				error = NULL,
				ended_at = NULL
			WHERE id = $1
				AND cardinality(steps) = $2
				AND found IS NOT NULL
				AND state IN ('compared', 'done', 'failed')
				AND NOT EXISTS (SELECT FROM reconciliations WHERE id > $1)`, id, seen, step, actor)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if err := r.Jobs.Put(ctx, tx, queue.Job{Kind: JobReconcile, Row: id}); err != nil {
			return err
		}
		return Audit(ctx, tx, actor, audit.Entry{
			Action: "reconcile." + string(step), Object: "reconciliation " + id.String(), After: audit.Fields{"step": seen + 1},
		})
	})
	if broken, ok := errors.AsType[*pgconn.PgError](err); ok && broken.Code == uniqueViolation {
		return nil
	}
	if err != nil {
		return fmt.Errorf("apply a reconciliation: %w", err)
	}
	return nil
}

// Latest returns the latest run. It returns ErrNotFound if there is none of the last day.
func (r *Reconciliations) Latest(ctx context.Context) (ReconcileRun, error) {
	return r.run(ctx, `ORDER BY id DESC LIMIT 1`)
}

func (r *Reconciliations) run(ctx context.Context, clause string, args ...any) (ReconcileRun, error) {
	rows, err := r.DB.Query(ctx, `
		SELECT
			id,
			actor,
			at,
			state,
			done,
			total,
			steps,
			applied_by,
			applied_at,
			found,
			outcome,
			error
		FROM reconciliations `+clause, args...)
	if err != nil {
		return ReconcileRun{}, fmt.Errorf("read a reconciliation: %w", err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[ReconcileRun])
	if errors.Is(err, pgx.ErrNoRows) {
		return ReconcileRun{}, fmt.Errorf("reconciliation: %w", ErrNotFound)
	}
	if err != nil {
		return ReconcileRun{}, fmt.Errorf("read a reconciliation: %w", err)
	}
	return run, nil
}

// WriteMissing writes the accounts of a run's list that the roster lacks now, as Reconciler.WriteMissing
// does. It returns ErrNotFound.
func (r *Reconciliations) WriteMissing(ctx context.Context, id uuid.UUID, w io.Writer) error {
	run, err := r.run(ctx, `WHERE id = $1 AND found IS NOT NULL`, id)
	if err != nil {
		return err
	}
	accounts, err := r.accounts(ctx, run.ID)
	if err != nil {
		return err
	}
	_, err = r.Reconciler.WriteMissing(ctx, accounts, w)
	return err
}

// Sweep forgets the runs that ended a day ago. One that was begun a day ago and has not ended is given up.
func (r *Reconciliations) Sweep(ctx context.Context) error {
	_, err := r.DB.Exec(ctx, `
		DELETE FROM reconciliations
		WHERE coalesce(ended_at, applied_at, at) < now() - $1::interval`, reconciliationLife)
	if err != nil {
		return fmt.Errorf("forget old reconciliations: %w", err)
	}
	return nil
}

// Work does a job of JobReconcile.
func (r *Reconciliations) Work(ctx context.Context, job queue.Running) error {
	run, err := r.run(ctx, `WHERE id = $1`, job.Row)
	switch {
	case errors.Is(err, ErrNotFound): // It is too old.
		return nil
	case err != nil:
	case run.State == RunReading:
		err = r.read(ctx, job)
	case run.State == RunApplying:
		err = r.apply(ctx, job, run)
	}
	if err != nil && ctx.Err() != nil {
		return queue.Later(0) // The process ends, not the job.
	}
	return err
}

// read reads the list and compares it.
func (r *Reconciliations) read(ctx context.Context, job queue.Running) error {
	accounts, err := r.Reconciler.Accounts(ctx, func(read int) {
		if read%readStep == 0 {
			r.progress(ctx, job, read)
		}
	})
	if err != nil {
		return r.end(ctx, job, func(tx pgx.Tx) error { return fail(ctx, tx, job, err) })
	}
	found, err := r.Reconciler.Compare(ctx, accounts, nil)
	if err != nil {
		return err
	}
	return r.end(ctx, job, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"reconciliation_accounts"},
			[]string{"reconciliation_id", "account_id", "organization", "owner_login", "billing_status", "managed"},
			pgx.CopyFromSlice(len(accounts), func(i int) ([]any, error) {
				a := accounts[i]
				return []any{
					job.Row, storedText(a.ID), storedText(a.Organization), storedText(a.OwnerLogin), storedText(a.BillingStatus), a.Managed,
				}, nil
			}))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE reconciliations
			SET
				state = 'compared',
				done = $2,
				total = $2,
				found = $3,
				ended_at = now()
			WHERE id = $1`, job.Row, len(accounts), found)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM reconciliations WHERE id < $1`, job.Row)
		return err
	})
}

// apply does the last of the run's steps, or what another run of the job has left of it.
func (r *Reconciliations) apply(ctx context.Context, job queue.Running, run ReconcileRun) error {
	accounts, err := r.accounts(ctx, run.ID)
	if err != nil {
		return err
	}
	outcome := ReconcileOutcome{Holds: []Finding{}}
	switch run.Step() {
	case StepFill:
		_, err = r.Reconciler.Fill(ctx, accounts, *run.AppliedBy)
	case StepAdd:
		var added Added
		added, err = r.Reconciler.Add(ctx, accounts, *run.AppliedBy, func(done, _ int) {
			if done%askStep == 0 {
				r.progress(ctx, job, done)
			}
		})
		outcome.Held, outcome.Holds = added.Held, added.Holds
	}
	_, refused := errors.AsType[*ProviderError](err)
	refused = refused || errors.Is(err, ErrProviderUnavailable)
	if err != nil && !refused {
		return err
	}
	found, failed := r.Reconciler.Compare(ctx, accounts, nil)
	if failed != nil {
		return failed
	}
	return r.end(ctx, job, func(tx pgx.Tx) (failed error) {
		// Runs of the job that died have made imports as well.
		outcome.Imports, failed = (&Store{DB: tx}).imports(ctx, `WHERE file_name = $1 AND actor = $2 AND at >= $3 ORDER BY id`,
			reconcileFile, *run.AppliedBy, *run.AppliedAt)
		if failed != nil {
			return failed
		}
		_, failed = tx.Exec(ctx, `
			UPDATE reconciliations
			SET
				state = 'done',
				found = $2,
				outcome = $3,
				ended_at = now()
			WHERE id = $1`, job.Row, found, outcome)
		if failed != nil || !refused {
			return failed
		}
		return fail(ctx, tx, job, err)
	})
}

// fail ends a run for a reason that an operator can read.
func fail(ctx context.Context, tx pgx.Tx, job queue.Running, reason error) error {
	_, err := tx.Exec(ctx, `
		UPDATE reconciliations
		SET
			state = 'failed',
			error = $2,
			ended_at = now()
		WHERE id = $1`, job.Row, storedText(reason.Error()))
	return err
}

// end stores what a job has done and ends it, if it is still this replica's to end.
func (r *Reconciliations) end(ctx context.Context, job queue.Running, store func(pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) error {
		held, err := job.Held(ctx, tx)
		if err != nil || !held {
			return err
		}
		if err := store(tx); err != nil {
			return err
		}
		return job.Complete(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("store a reconciliation: %w", err)
	}
	return nil
}

// progress writes how far a job is. If that fails, there will be another time.
func (r *Reconciliations) progress(ctx context.Context, job queue.Running, done int) {
	_, _ = r.DB.Exec(ctx, `UPDATE reconciliations SET done = $2 WHERE id = $1`, job.Row, done)
}

// accounts returns a run's list.
func (r *Reconciliations) accounts(ctx context.Context, id uuid.UUID) ([]ListedAccount, error) {
	rows, err := r.DB.Query(ctx, `
		SELECT
			account_id,
			organization,
			owner_login,
			billing_status,
			managed
		FROM reconciliation_accounts
		WHERE reconciliation_id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read the provider's list again: %w", err)
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ListedAccount])
	if err != nil {
		return nil, fmt.Errorf("read the provider's list again: %w", err)
	}
	return accounts, nil
}
