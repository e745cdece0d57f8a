package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/queue"
)

// Reminders sends reminders. Package notify implements it.
type Reminders interface {
	// SendAll queues the next reminder of each client, and returns those that get none.
	SendAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, actor provisioning.Actor) (provisioning.Skips, error)
}

// Letters takes letters back. Package notify implements it.
type Letters interface {
	// TakeBack cancels each client's letter that was queued at that time and not sent, and returns whose it was.
	TakeBack(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, queued []time.Time, actor provisioning.Actor) ([]uuid.UUID, error)
}

// Links lengthens the life of links. Package authflow implements it.
type Links interface {
	// ExtendAll gives the newest link of each client another life, and returns those that have none.
	ExtendAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, actor provisioning.Actor) (provisioning.Skips, error)
}

// Jobs does things to many clients.
type Jobs struct {
	DB        provisioning.DB
	Queue     *queue.Queue
	Inviter   *provisioning.Inviter
	Reminders Reminders
	Letters   Letters
	Links     Links
}

// Preview is what an order is about.
type Preview struct {
	Count   int
	Samples []provisioning.Client // the first ten, in the filter's order
}

// samples is how many clients a preview shows.
const samples = 10

// Preview tells how many clients an order is about, and shows the first. Some may be left as they are when their turn
// comes. It returns what an order is refused for.
func (b *Jobs) Preview(ctx context.Context, o Order) (p Preview, err error) {
	if o, err = o.parse(); err != nil {
		return Preview{}, err
	}
	store := &provisioning.Store{DB: b.DB}
	if o.Clients != nil {
		found, err := store.ClientsOf(ctx, o.Clients)
		return Preview{len(found), found[:min(len(found), samples)]}, err
	}
	if p.Count, err = store.CountAll(ctx, o.Filter); err != nil {
		return Preview{}, err
	}
	o.Filter.Limit, o.Filter.Cursor = samples, ""
	p.Samples, _, err = store.Clients(ctx, o.Filter)
	return p, err
}

// Start fixes the clients of an order and has a job carry it out. It returns ErrUnknownAction, ErrNobody,
// ErrUnconfirmed if clients are to be deleted and are not as many as Confirm says, or a *provisioning.FieldError.
func (b *Jobs) Start(ctx context.Context, o Order, actor provisioning.Actor) (Job, error) {
	o, err := o.parse()
	if err != nil {
		return Job{}, err
	}
	return b.start(ctx, o, nil, actor, func(tx pgx.Tx, id uuid.UUID) (int, error) {
		n, err := o.choose(ctx, tx, id)
		if err == nil && o.Action == ActionDelete && n != o.Confirm {
			err = fmt.Errorf("%w: %d were confirmed, and there are %d", ErrUnconfirmed, o.Confirm, n)
		}
		return n, err
	})
}

// choose writes the clients of an order as those of a job.
func (o Order) choose(ctx context.Context, tx pgx.Tx, job uuid.UUID) (int, error) {
	if o.Clients == nil {
		return o.Filter.InsertClients(ctx, tx, "bulk_clients", "job_id, client_id", job)
	}
	tag, err := tx.Exec(ctx, `
		INSERT INTO bulk_clients (job_id, client_id)
		SELECT $1, id
		FROM clients
		WHERE id = ANY ($2)
		ORDER BY id`, job, sorted(o.Clients))
	return int(tag.RowsAffected()), err
}

// Undo has a job take back what another one has changed and nobody has changed since. It returns ErrNotUndoable, or
// provisioning.ErrNotFound.
func (b *Jobs) Undo(ctx context.Context, id uuid.UUID, actor provisioning.Actor) (Job, error) {
	was, err := b.Job(ctx, id)
	if err != nil {
		return Job{}, err
	}
	if !was.Undoable {
		return Job{}, ErrNotUndoable
	}
	undo, err := b.start(ctx, was.Order, &id, actor, func(tx pgx.Tx, undo uuid.UUID) (int, error) {
		tag, err := tx.Exec(ctx, `
			INSERT INTO bulk_clients (job_id, client_id)
			SELECT $1, client_id
			FROM bulk_clients
			WHERE job_id = $2
				AND changed
			ORDER BY client_id`, undo, id)
		return int(tag.RowsAffected()), err
	})
	const uniqueViolation = "23505" // Somebody else has pressed the button this instant.
	if broken, ok := errors.AsType[*pgconn.PgError](err); ok && broken.Code == uniqueViolation {
		return Job{}, ErrNotUndoable
	}
	return undo, err
}

func (b *Jobs) start(
	ctx context.Context, o Order, undoOf *uuid.UUID, actor provisioning.Actor, choose func(pgx.Tx, uuid.UUID) (int, error),
) (j Job, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Job{}, fmt.Errorf("start a bulk job: %w", err)
	}
	var filter *provisioning.Filter
	if o.Clients == nil {
		filter = &o.Filter
	}
	err = pgx.BeginFunc(ctx, b.DB, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO bulk_jobs (id, action, filter, tag, owner_name, owner_email, actor, total, undo_of)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8)`,
			id, o.Action, filter, o.Tag, o.Owner.Name, o.Owner.Email, actor, undoOf)
		if err != nil {
			return err
		}
		total, err := choose(tx, id)
		if err != nil {
			return err
		}
		if total == 0 {
			return ErrNobody
		}
		if _, err := tx.Exec(ctx, `UPDATE bulk_jobs SET total = $2 WHERE id = $1`, id, total); err != nil {
			return err
		}
		if err := b.Queue.Put(ctx, tx, queue.Job{Kind: JobBulk, Row: id}); err != nil {
			return err
		}
		if j, err = readJob(ctx, tx, id, ""); err != nil {
			return err
		}
		return record(ctx, tx, "bulk.start", actor, j, audit.Fields{"total": total, "filter": filter, "tag": o.Tag, "owner_email": o.Owner.Email})
	})
	if err != nil {
		return Job{}, fmt.Errorf("start to %s clients: %w", o.Action, err)
	}
	return j, nil
}

// Stop has no further batch of a job begin. What is done stays done. A job that has ended stays as it is. It returns
// provisioning.ErrNotFound.
func (b *Jobs) Stop(ctx context.Context, id uuid.UUID, actor provisioning.Actor) error {
	err := pgx.BeginFunc(ctx, b.DB, func(tx pgx.Tx) error {
		j, err := readJob(ctx, tx, id, "FOR UPDATE")
		if err != nil || j.State.Ended() || j.State == StateStopping {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE bulk_jobs SET state = 'stopping' WHERE id = $1`, id); err != nil {
			return err
		}
		return record(ctx, tx, "bulk.stop", actor, j, audit.Fields{"done": j.Done})
	})
	if err != nil {
		return fmt.Errorf("stop a bulk job: %w", err)
	}
	return nil
}

// record tells the audit trail of a job.
func record(ctx context.Context, tx pgx.Tx, action string, actor provisioning.Actor, j Job, after audit.Fields) error {
	after["action"] = j.Action
	if j.UndoOf != nil {
		after["undo_of"] = *j.UndoOf
	}
	return provisioning.Audit(ctx, tx, actor, audit.Entry{Action: action, Object: "bulk " + j.ID.String(), After: after})
}

// life is how long a job that has ended can be looked at and undone.
const life = 90 * 24 * time.Hour

// Sweep forgets jobs that ended long ago. One that is being undone stays as long as the job that undoes it.
func (b *Jobs) Sweep(ctx context.Context) error {
	_, err := b.DB.Exec(ctx, `
		DELETE FROM bulk_jobs j
		WHERE j.ended_at < now() - $1::interval
			AND NOT EXISTS (
				SELECT FROM bulk_jobs u
				WHERE u.undo_of = j.id
					AND (u.ended_at IS NULL OR u.ended_at >= now() - $1::interval)
			)`, life)
	if err != nil {
		return fmt.Errorf("forget old bulk jobs: %w", err)
	}
	return nil
}
