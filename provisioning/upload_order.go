package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/provisioning/roster"
)

// JobImport is the kind of the jobs that import what was ordered, which Uploads.Work does.
const JobImport queue.Kind = "import_upload"

// tellEvery is how often an import that is at work tells how far it is.
const tellEvery = 250 * time.Millisecond

// UploadOrder is a file that is to be imported, or was.
type UploadOrder struct {
	Upload

	Invite  bool
	Ordered time.Time
	Size    int64 // of the file, in bytes
	Read    int64 // of them
	Rows    *int  // of the file, once it is read: comparing and writing them takes as long again
	Problem *string
}

// Order has a file imported by a job, unless that is ordered already. It returns ErrNotFound, and a *roster.Error if the
// file lacks columns.
func (u *Uploads) Order(ctx context.Context, id uuid.UUID, o ImportOptions) error {
	up, err := u.Upload(ctx, id)
	if err != nil || up.Import != nil {
		return err
	}
	if err := u.check(ctx, id, o.Map); err != nil {
		return err
	}
	mapping := o.Map
	if mapping == nil {
		mapping = map[roster.Field]string{}
	}
	err = pgx.BeginFunc(ctx, u.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO upload_orders (upload_id, actor, mapping, invite, size)
			SELECT
				id,
				$2,
				$3,
				$4,
				(SELECT coalesce(sum(length(content)), 0) FROM upload_parts WHERE upload_id = id)
			FROM uploads
			WHERE id = $1
				AND import_id IS NULL
			ON CONFLICT (upload_id) DO UPDATE
			SET
				actor = excluded.actor,
				mapping = excluded.mapping,
				invite = excluded.invite,
				at = now(),
				read = 0,
				rows = NULL,
				problem = NULL
			WHERE upload_orders.problem IS NOT NULL`, id, o.Actor, mapping, o.Invite)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return u.jobs.Put(ctx, tx, queue.Job{Kind: JobImport, Row: id})
	})
	if err != nil {
		return fmt.Errorf("order the import of upload %s: %w", id, err)
	}
	return nil
}

// check reads a file's header.
func (u *Uploads) check(ctx context.Context, id uuid.UUID, mapping map[roster.Field]string) error {
	file, err := u.Open(ctx, id)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // It was only read.
	reader, err := roster.NewReader(file, roster.Options{Map: mapping, Agency: u.importer.Mailbox.String()})
	if err != nil {
		return err
	}
	return reader.Close()
}

// Ordered returns how far the import of a file is. It returns ErrNotFound if none was ordered.
func (u *Uploads) Ordered(ctx context.Context, id uuid.UUID) (UploadOrder, error) {
	o, _, err := u.order(ctx, id)
	return o, err
}

func (u *Uploads) order(ctx context.Context, id uuid.UUID) (o UploadOrder, options ImportOptions, err error) {
	err = u.db.QueryRow(ctx, `
		SELECT
			u.id,
			u.file_name,
			o.actor,
			u.at,
			u.import_id,
			o.mapping,
			o.invite,
			o.at,
			o.size,
			o.read,
			o.rows,
			o.problem
		FROM upload_orders o
		JOIN uploads u ON u.id = o.upload_id
		WHERE o.upload_id = $1`, id).Scan(&o.ID, &o.FileName, &o.Actor, &o.At, &o.Import,
		&options.Map, &o.Invite, &o.Ordered, &o.Size, &o.Read, &o.Rows, &o.Problem)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return o, options, fmt.Errorf("order of upload %s: %w", id, err)
	}
	options.Actor, options.Invite = o.Actor, o.Invite
	return o, options, nil
}

// Await returns what Ordered does as soon as the import has ended, or when patience has.
func (u *Uploads) Await(ctx context.Context, id uuid.UUID, patience time.Duration) (UploadOrder, error) {
	const look = 50 * time.Millisecond
	for end := time.Now().Add(patience); ; {
		o, err := u.Ordered(ctx, id)
		if err != nil || o.Import != nil || o.Problem != nil || !time.Now().Before(end) {
			return o, err
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

// Work does a job of JobImport. One that dies is done anew elsewhere, and imports the file once.
func (u *Uploads) Work(ctx context.Context, job queue.Running) error {
	ordered, o, err := u.order(ctx, job.Row)
	if errors.Is(err, ErrNotFound) {
		return nil // It was discarded.
	}
	if err == nil && ordered.Import == nil {
		told := u.teller(ctx, ordered)
		o.Bytes, o.Read = told, told.rows
		_, err = u.Commit(ctx, job.Row, o)
	}
	if wrong, ok := errors.AsType[*roster.Error](err); ok {
		return u.refuse(ctx, job.Row, wrong)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return queue.Later(0) // The process ends, not the job.
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

func (u *Uploads) refuse(ctx context.Context, id uuid.UUID, why error) error {
	if _, err := u.db.Exec(ctx, `UPDATE upload_orders SET problem = $2 WHERE upload_id = $1`, id, why.Error()); err != nil {
		return fmt.Errorf("note why upload %s is not imported: %w", id, err)
	}
	return nil
}

// teller is told of the bytes that are read. It writes how far the import is by a connection of its own, so that others see
// it; that this fails does not concern the import.
type teller struct {
	tell func(read int64, rows *int)
	read int64
	last time.Time
}

func (u *Uploads) teller(ctx context.Context, o UploadOrder) *teller {
	return &teller{tell: func(read int64, rows *int) {
		_, _ = u.db.Exec(ctx, `UPDATE upload_orders SET read = $2, rows = $3 WHERE upload_id = $1`, o.ID, read, rows)
	}}
}

// Write implements io.Writer.
func (t *teller) Write(b []byte) (int, error) {
	t.read += int64(len(b))
	if now := time.Now(); now.Sub(t.last) >= tellEvery {
		t.last = now
		t.tell(t.read, nil)
	}
	return len(b), nil
}

func (t *teller) rows(n int) { t.tell(t.read, &n) }
