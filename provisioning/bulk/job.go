package bulk

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

// State says how far a job is.
type State string

const (
	StateQueued   State = "queued"   // waits for a process to begin, since Start
	StateRunning  State = "running"  // a batch or more is done
	StateStopping State = "stopping" // no further batch begins, since Stop
	StateDone     State = "done"     // every client had its turn
	StateStopped  State = "stopped"  // the others are as they were
)

// Ended reports whether nothing will be done any more.
func (s State) Ended() bool { return s == StateDone || s == StateStopped }

// Job is an order that is carried out.
type Job struct {
	Order

	ID         uuid.UUID
	Actor      provisioning.Actor
	State      State
	Total      int
	Done       int // had their turn
	Changed    int
	Skipped    int
	SkippedWhy map[string]int // how many of them, by reason
	CreatedAt  time.Time
	EndedAt    *time.Time
	Undoable   bool
	UndoOf     *uuid.UUID // the job whose changes this one takes back; its Action is that one's
}

const jobColumns = `
	j.id,
	j.action,
	j.filter,
	j.tag,
	j.owner_name,
	j.owner_email,
	j.actor,
	j.state,
	j.total,
	j.done,
	j.changed,
	j.skipped_why,
	j.created_at,
	j.ended_at,
	j.undo_of,
	EXISTS (SELECT FROM bulk_jobs u WHERE u.undo_of = j.id)`

func scanJob(row pgx.CollectableRow) (j Job, err error) {
	var filter *provisioning.Filter
	var undone bool
	err = row.Scan(&j.ID, &j.Action, &filter, &j.Tag, &j.Owner.Name, &j.Owner.Email, &j.Actor, &j.State,
		&j.Total, &j.Done, &j.Changed, &j.SkippedWhy, &j.CreatedAt, &j.EndedAt, &j.UndoOf, &undone)
	if filter != nil {
		j.Filter = *filter
	} else {
		j.Clients = []uuid.UUID{} // They were named; WriteSkipped and the clients' histories tell of them.
	}
	for _, n := range j.SkippedWhy {
		j.Skipped += n
	}
	j.Undoable = j.State.Ended() && j.Action.Undoable() && j.Changed > 0 && j.UndoOf == nil && !undone
	return j, err
}

// Job returns a job. Of clients that were named one by one its Order has none. It returns provisioning.ErrNotFound.
func (b *Jobs) Job(ctx context.Context, id uuid.UUID) (Job, error) { return readJob(ctx, b.DB, id, "") }

func readJob(ctx context.Context, db provisioning.DB, id uuid.UUID, lock string) (Job, error) {
	rows, err := db.Query(ctx, `SELECT `+jobColumns+` FROM bulk_jobs j WHERE j.id = $1 `+lock, id)
	if err != nil {
		return Job{}, fmt.Errorf("read bulk job %s: %w", id, err)
	}
	j, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		err = provisioning.ErrNotFound
	}
	if err != nil {
		return Job{}, fmt.Errorf("bulk job %s: %w", id, err)
	}
	return j, nil
}

// List returns a page of jobs, newest first, and the cursor of the next page, empty if there is none. A limit of zero
// is 50. It returns provisioning.ErrBadCursor.
func (b *Jobs) List(ctx context.Context, cursor string, limit int) (page []Job, next string, err error) {
	if limit = min(limit, 500); limit <= 0 {
		limit = 50
	}
	before := uuid.Max
	if cursor != "" {
		if before, err = uuid.Parse(cursor); err != nil {
			return nil, "", provisioning.ErrBadCursor
		}
	}
	rows, err := b.DB.Query(ctx, `SELECT `+jobColumns+` FROM bulk_jobs j WHERE j.id < $1 ORDER BY j.id DESC LIMIT $2`, before, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list bulk jobs: %w", err)
	}
	if page, err = pgx.CollectRows(rows, scanJob); err != nil {
		return nil, "", fmt.Errorf("list bulk jobs: %w", err)
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID.String()
	}
	return page, next, nil
}

// Skip is a client that a job has left as it was.
type Skip struct {
	Client uuid.UUID
	Ref    string // empty if it has none, or is gone
	Name   string // empty if it is gone
	Why    string
}

// Skipped returns a page of the clients that a job has left as they were, in the order of the roster, and the cursor of
// the next page, empty if there is none. A limit of zero is 50. It returns provisioning.ErrBadCursor.
func (b *Jobs) Skipped(ctx context.Context, id uuid.UUID, cursor string, limit int) (page []Skip, next string, err error) {
	if limit = min(limit, 500); limit <= 0 {
		limit = 50
	}
	after := uuid.Nil
	if cursor != "" {
		if after, err = uuid.Parse(cursor); err != nil {
			return nil, "", provisioning.ErrBadCursor
		}
	}
	if page, err = b.skipped(ctx, id, after, limit+1); err != nil {
		return nil, "", err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].Client.String()
	}
	return page, next, nil
}

func (b *Jobs) skipped(ctx context.Context, id, after uuid.UUID, limit int) ([]Skip, error) {
	rows, err := b.DB.Query(ctx, `
		SELECT
			s.client_id,
			coalesce(c.ref, ''),
			coalesce(c.name, ''),
			s.why
		FROM bulk_clients s
		LEFT JOIN clients c ON c.id = s.client_id
		WHERE s.job_id = $1
			AND s.client_id > $2
			AND s.why IS NOT NULL
		ORDER BY s.client_id
		LIMIT $3`, id, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read skipped clients: %w", err)
	}
	page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Skip])
	if err != nil {
		return nil, fmt.Errorf("read skipped clients: %w", err)
	}
	return page, nil
}

// WriteSkipped writes all clients that a job has left as they were as CSV that no spreadsheet will run.
func (b *Jobs) WriteSkipped(ctx context.Context, w io.Writer, id uuid.UUID) error {
	const page = 1000
	out := csv.NewWriter(w)
	records := [][]string{{"id", "ref", "name", "reason"}}
	for after, more := uuid.Nil, true; more; {
		found, err := b.skipped(ctx, id, after, page)
		if err != nil {
			return err
		}
		for _, s := range found {
			records = append(records, []string{
				s.Client.String(), roster.NeutralizeFormula(s.Ref), roster.NeutralizeFormula(s.Name), s.Why,
			})
			after = s.Client
		}
		if err := out.WriteAll(records); err != nil {
			return fmt.Errorf("write skipped clients: %w", err)
		}
		records, more = records[:0], len(found) == page
	}
	return nil
}

// why counts skips by reason, over those of a job so far.
func why(so map[string]int, skips provisioning.Skips) map[string]int {
	so = maps.Clone(so)
	for _, reason := range skips {
		so[string(reason)]++
	}
	return so
}

// sorted returns ids in the order of the roster.
func sorted(ids []uuid.UUID) []uuid.UUID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}
