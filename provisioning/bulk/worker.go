package bulk

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/queue"
)

// JobBulk is the kind of the jobs, which Work does.
const JobBulk queue.Kind = "bulk"

// batch is how many clients are done in one transaction: it takes about as long as somebody at the roster may have to
// wait.
const batch = 500

// Work does a job of JobBulk, to its end or until ctx ends. Several processes may work the same job at once: they take
// turns, batch by batch.
func (b *Jobs) Work(ctx context.Context, job queue.Running) error {
	for {
		ended, err := b.Step(ctx, job)
		if err != nil && ctx.Err() != nil {
			return queue.Later(0) // The process ends, not the job.
		}
		if ended || err != nil {
			return err
		}
	}
}

// Step does the next batch of a job, and tells whether the job has ended by it, or before.
func (b *Jobs) Step(ctx context.Context, job queue.Running) (ended bool, err error) {
	err = pgx.BeginFunc(ctx, b.DB, func(tx pgx.Tx) error {
		held, err := job.Held(ctx, tx)
		if err != nil {
			return err
		}
		if !held {
			ended = true // for this process
			return nil
		}
		// The roster comes before the job's row, so that nobody who stops the job waits for an import.
		if err := provisioning.LockRoster(ctx, tx); err != nil {
			return err
		}
		ended, err = b.step(ctx, tx, job)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("do bulk job %s: %w", job.Row, err)
	}
	return ended, nil
}

func (b *Jobs) step(ctx context.Context, tx pgx.Tx, job queue.Running) (ended bool, err error) {
	j, err := readJob(ctx, tx, job.Row, "FOR UPDATE")
	if err != nil {
		return false, err
	}
	if j.State.Ended() {
		return true, job.Complete(ctx, tx)
	}
	if j.State == StateStopping {
		return true, b.end(ctx, tx, job, j, StateStopped)
	}
	turns, err := nextTurns(ctx, tx, j)
	if err != nil {
		return false, err
	}
	if len(turns) == 0 {
		return true, b.end(ctx, tx, job, j, StateDone)
	}
	skips, before, err := b.do(ctx, tx, j, turns)
	if err != nil {
		return false, err
	}
	return false, note(ctx, tx, j, turns, skips, before)
}

// turn is a client of a job.
type turn struct {
	Client uuid.UUID
	Since  bool                // of an undo: it has changed since
	At     *time.Time          // of an undo: when it was changed
	Before *provisioning.Owner // of an undo of another owner
}

// nextTurns returns the clients whose turn it is. Of an undo it tells what the job that it undoes has left of each, and
// whether a later event is of the same matter.
func nextTurns(ctx context.Context, tx pgx.Tx, j Job) ([]turn, error) {
	rows, err := tx.Query(ctx, `
		SELECT
			b.client_id,
			EXISTS (
				SELECT FROM events e
				WHERE e.client_id = b.client_id
					AND e.id > was.event_id
					AND CASE
						WHEN $3 IN ('pause', 'resume') THEN e.kind IN ('paused', 'resumed') OR e.detail ? 'paused'
						WHEN $3 IN ('tag', 'untag') THEN e.detail ?| ARRAY['tags', 'tag_added', 'tag_removed']
						WHEN $3 = 'owner' THEN e.detail ?| ARRAY['owner_name', 'owner_email']
						ELSE false
					END
			),
			was.at,
			was.before
		FROM bulk_clients b
		JOIN bulk_jobs j ON j.id = b.job_id
		LEFT JOIN bulk_clients was ON was.job_id = j.undo_of AND was.client_id = b.client_id
		WHERE b.job_id = $1
			AND b.client_id > j.reached
		ORDER BY b.client_id
		LIMIT $2`, j.ID, batch, j.Action)
	if err != nil {
		return nil, fmt.Errorf("read the next clients: %w", err)
	}
	turns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[turn])
	if err != nil {
		return nil, fmt.Errorf("read the next clients: %w", err)
	}
	return turns, nil
}

// do carries out a job for some of its clients, and returns those that were left as they were, and whom the others
// belonged to before.
func (b *Jobs) do(ctx context.Context, tx pgx.Tx, j Job, turns []turn) (skips provisioning.Skips, before map[uuid.UUID]provisioning.Owner, err error) {
	if j.UndoOf != nil {
		skips, err = b.undo(ctx, tx, j, turns)
		return skips, nil, err
	}
	clients := make([]uuid.UUID, len(turns))
	for i, t := range turns {
		clients[i] = t.Client
	}
	switch j.Action {
	case ActionInvite:
		// Whoever names clients, or a stage, means those who were mailed before as well.
		named := j.Clients != nil
		skips, err = b.invite(ctx, tx, clients, named, named || j.Filter.Stage != "", j.Actor)
	case ActionRemind:
		skips, err = b.Reminders.SendAll(ctx, tx, clients, j.Actor)
	case ActionPause, ActionResume:
		skips, err = provisioning.PauseAll(ctx, tx, clients, j.Action == ActionPause, j.Actor)
	case ActionTag, ActionUntag:
		skips, err = provisioning.TagAll(ctx, tx, clients, j.Tag, j.Action == ActionTag, j.Actor)
	case ActionOwner:
		skips, before, err = b.Inviter.ChangeOwners(ctx, tx, clients, j.Owner, j.Actor)
	case ActionExtend:
		skips, err = b.Links.ExtendAll(ctx, tx, clients, j.Actor)
	case ActionDelete:
		skips, err = provisioning.DeleteAll(ctx, tx, clients, j.Actor)
	}
	return skips, before, err
}

// invite invites those of the clients that there are still.
func (b *Jobs) invite(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, named, again bool, actor provisioning.Actor) (provisioning.Skips, error) {
	there, skips, err := provisioning.HoldAll(ctx, tx, clients)
	if err != nil {
		return nil, err
	}
	left, err := b.Inviter.InviteAll(ctx, tx, there, named, again, actor)
	maps.Copy(skips, left)
	return skips, err
}

// undo takes back what a job has done to clients that have not changed since.
func (b *Jobs) undo(ctx context.Context, tx pgx.Tx, j Job, turns []turn) (skips provisioning.Skips, err error) {
	var clients []uuid.UUID
	var queued []time.Time
	since := make(provisioning.Skips)
	owners := make(map[uuid.UUID]provisioning.Owner)
	for _, t := range turns {
		if t.Since || t.At == nil {
			since[t.Client] = provisioning.SkipSince
			continue
		}
		clients, queued = append(clients, t.Client), append(queued, *t.At)
		if t.Before != nil {
			owners[t.Client] = *t.Before
		}
	}
	switch j.Action {
	case ActionInvite:
		skips, err = b.takeBack(ctx, tx, clients, queued, j.Actor)
	case ActionPause, ActionResume:
		skips, err = provisioning.PauseAll(ctx, tx, clients, j.Action == ActionResume, j.Actor)
	case ActionTag, ActionUntag:
		skips, err = provisioning.TagAll(ctx, tx, clients, j.Tag, j.Action == ActionUntag, j.Actor)
	case ActionOwner:
		skips, err = b.Inviter.RestoreOwners(ctx, tx, owners, j.Actor)
	case ActionRemind, ActionExtend, ActionDelete: // Undo has refused them.
	}
	if err != nil {
		return nil, err
	}
	maps.Copy(skips, since)
	return skips, nil
}

// SkipSent says that a letter cannot be taken back: it has gone out, or is going.
const SkipSent provisioning.SkipReason = "sent"

func (b *Jobs) takeBack(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, queued []time.Time, actor provisioning.Actor) (provisioning.Skips, error) {
	held, skips, err := provisioning.HoldAll(ctx, tx, clients)
	if err != nil {
		return nil, err
	}
	for _, client := range held {
		skips[client] = SkipSent
	}
	taken, err := b.Letters.TakeBack(ctx, tx, clients, queued, actor)
	for _, client := range taken {
		delete(skips, client)
	}
	return skips, err
}

// note stores what became of a batch, and how far the job is by it.
func note(ctx context.Context, tx pgx.Tx, j Job, turns []turn, skips provisioning.Skips, before map[uuid.UUID]provisioning.Owner) error {
	n := len(turns)
	clients, reasons, owners := make([]uuid.UUID, n), make([]*provisioning.SkipReason, n), make([]*provisioning.Owner, n)
	for i, t := range turns {
		clients[i] = t.Client
		if reason, ok := skips[t.Client]; ok {
			reasons[i] = &reason
		} else if owner, ok := before[t.Client]; ok {
			owners[i] = &owner
		}
	}
	_, err := tx.Exec(ctx, `
		UPDATE bulk_clients b
		SET
			changed = d.why IS NULL,
			why = d.why,
			before = d.before,
			at = CASE WHEN d.why IS NULL THEN now() END,
			event_id = CASE WHEN d.why IS NULL THEN (SELECT max(e.id) FROM events e WHERE e.client_id = b.client_id) END
		FROM unnest($2::uuid[], $3::text[], $4::jsonb[]) AS d (client_id, why, before)
		WHERE b.job_id = $1
			AND b.client_id = d.client_id`, j.ID, clients, reasons, owners)
	if err != nil {
		return fmt.Errorf("note what was done: %w", err)
	}
	_, err = tx.Exec(ctx, `
		UPDATE bulk_jobs
		SET
			state = 'running',
			reached = $2,
			done = done + $3,
			changed = changed + $4,
			skipped_why = $5
		WHERE id = $1`, j.ID, clients[n-1], n, n-len(skips), why(j.SkippedWhy, skips))
	if err != nil {
		return fmt.Errorf("note what was done: %w", err)
	}
	return nil
}

// end ends a job, together with the one of the queue.
func (b *Jobs) end(ctx context.Context, tx pgx.Tx, job queue.Running, j Job, state State) error {
	_, err := tx.Exec(ctx, `UPDATE bulk_jobs SET state = $2, ended_at = clock_timestamp() WHERE id = $1`, j.ID, state)
	if err != nil {
		return err
	}
	if err := job.Complete(ctx, tx); err != nil {
		return err
	}
	return record(ctx, tx, "bulk.end", j.Actor, j,
		audit.Fields{"state": state, "done": j.Done, "changed": j.Changed, "skipped": j.SkippedWhy})
}
