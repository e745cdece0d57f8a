package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/provisioning/roster"
)

// Uploads keeps roster files in the database while an operator looks at them, so that every replica can go
// on with one and a restart forgets none.
//
//	Save ──► Preview ──► Plan ──► Order ──► Work   becomes an Import, once
//	               (as often as wanted)
//	                          └─► Discard, or Sweep a day later
type Uploads struct {
	db       DB
	jobs     *queue.Queue
	importer *Importer
	maxSize  int64

	// An import holds a connection and reads the file by another one. If several did, each could wait for
	// the connection that the others hold; they would wait for each other at the roster anyway.
	turn chan struct{}
}

// NewUploads makes Uploads that import by importer. The database has to be a pool, since a file is read
// while another connection writes it. A file has at most maxSize bytes.
func NewUploads(pool DB, jobs *queue.Queue, importer *Importer, maxSize int64) *Uploads {
	return &Uploads{db: pool, jobs: jobs, importer: importer, maxSize: maxSize, turn: make(chan struct{}, 1)}
}

// MaxUpload is how many bytes a roster file has at most when it is sent by a browser.
const MaxUpload = 256 << 20

const (
	uploadPart = 256 << 10 // bytes kept in a row, and held in memory
	uploadLife = 24 * time.Hour
)

// ErrUploadTooLarge is matched when a file is larger than Uploads take.
var ErrUploadTooLarge = errors.New("the file is too large: split it into several, each with the header")

// Upload is a roster file that was sent and not yet imported.
type Upload struct {
	ID       uuid.UUID
	FileName string
	Actor    Actor
	At       time.Time
	Import   *uuid.UUID // what it became
}

// MaxSize is how many bytes a file has at most.
func (u *Uploads) MaxSize() int64 { return u.maxSize }

// Save keeps a file until it is imported, discarded or a day old. It is kept as a whole or not at all. It
// returns ErrUploadTooLarge.
func (u *Uploads) Save(ctx context.Context, fileName string, actor Actor, file io.Reader) (Upload, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Upload{}, fmt.Errorf("keep the file: %w", err)
	}
	saved := Upload{ID: id, FileName: fileName, Actor: actor}
	err = pgx.BeginFunc(ctx, u.db, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			INSERT INTO uploads (id, file_name, actor)
			VALUES ($1, $2, $3)
			RETURNING at`, id, fileName, actor).Scan(&saved.At)
		if err != nil {
			return err
		}
		return u.saveParts(ctx, tx, id, file)
	})
	if err != nil {
		return Upload{}, fmt.Errorf("keep the file: %w", err)
	}
	return saved, nil
}

func (u *Uploads) saveParts(ctx context.Context, tx pgx.Tx, id uuid.UUID, file io.Reader) error {
	buffer := make([]byte, uploadPart)
	left := u.maxSize
	for part := 0; ; part++ {
		n, err := fill(file, buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if left -= int64(n); left < 0 {
			return ErrUploadTooLarge
		}
		if n == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO upload_parts (upload_id, part, content)
			VALUES ($1, $2, $3)`, id, part, buffer[:n])
		if err != nil {
			return err
		}
	}
}

// fill reads until the buffer is full or the reader fails. Unlike io.ReadFull it tells the end of the file
// from a sender who broke off.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

// Upload returns what is known of a file. It returns ErrNotFound.
func (u *Uploads) Upload(ctx context.Context, id uuid.UUID) (Upload, error) {
	return upload(ctx, u.db, id, "")
}

func upload(ctx context.Context, db DB, id uuid.UUID, lock string) (Upload, error) {
	rows, err := db.Query(ctx, `
		SELECT
			id,
			file_name,
			actor,
			at,
			import_id
		FROM uploads
		WHERE id = $1 `+lock, id)
	if err != nil {
		return Upload{}, fmt.Errorf("read upload %s: %w", id, err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Upload])
	if errors.Is(err, pgx.ErrNoRows) {
		return Upload{}, fmt.Errorf("upload %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Upload{}, fmt.Errorf("read upload %s: %w", id, err)
	}
	return found, nil
}

// Open reads a file part by part, each in a query of its own: in between it holds no connection. Reading
// fails with ErrNotFound once the file is imported or gone, so that the rest never seems to be its end.
func (u *Uploads) Open(ctx context.Context, id uuid.UUID) (io.ReadCloser, error) {
	parts := &uploadReader{next: func(part int) (content []byte, err error) {
		err = u.db.QueryRow(ctx, `
			SELECT p.content
			FROM uploads u
			LEFT JOIN upload_parts p ON p.upload_id = u.id AND p.part = $2
			WHERE u.id = $1 AND u.import_id IS NULL`, id, part).Scan(&content)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil, fmt.Errorf("upload %s: %w", id, ErrNotFound)
		case err != nil:
			return nil, fmt.Errorf("read upload %s: %w", id, err)
		case content == nil:
			return nil, io.EOF
		}
		return content, nil
	}}
	return parts, parts.advance()
}

// uploadReader hands out one part after the other.
type uploadReader struct {
	next func(part int) ([]byte, error) // io.EOF after the last
	part int
	rest []byte
	err  error // sticky; comes after rest
}

// advance fetches the next part and returns what kept it from that, but for the end.
func (r *uploadReader) advance() error {
	r.rest, r.err = r.next(r.part)
	r.part++
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// Read implements io.Reader.
func (r *uploadReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		_ = r.advance() // It keeps its error, which is returned here.
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *uploadReader) Close() error {
	r.rest, r.err = nil, io.ErrClosedPipe
	return nil
}

// Preview reads the beginning of a file, with the columns that mapping gives to fields. It returns
// ErrNotFound, and a *roster.Error as roster.ReadPreview does.
func (u *Uploads) Preview(ctx context.Context, id uuid.UUID, mapping map[roster.Field]string) (roster.Preview, error) {
	file, err := u.Open(ctx, id)
	if err != nil {
		return roster.Preview{}, err
	}
	defer file.Close() //nolint:errcheck // It was only read.
	return roster.ReadPreview(file, roster.Options{Map: mapping, Agency: u.importer.Mailbox.String()})
}

// Plan says exactly what Commit would do with the same options, and changes nothing. Its Plan has the first
// ShownRows rows that would be updated and then as many that would be created. It returns what Commit does.
func (u *Uploads) Plan(ctx context.Context, id uuid.UUID, o ImportOptions) (Import, error) {
	up, err := u.Upload(ctx, id)
	if err != nil {
		return Import{}, err
	}
	var updated, created []PlannedRow
	o.DryRun, o.EachRow = true, func(row PlannedRow) error {
		switch {
		case row.Verdict == VerdictUpdated && len(updated) < ShownRows:
			updated = append(updated, row)
		case row.Verdict == VerdictCreated && len(created) < ShownRows:
			created = append(created, row)
		}
		return nil
	}
	leave, err := u.enter(ctx)
	if err != nil {
		return Import{}, err
	}
	defer leave()
	result, err := u.importFile(ctx, u.db, up, o)
	result.Plan = slices.Concat(updated, created)
	return result, err
}

// Commit imports a file. Whoever commits it again, at the same time or later, gets the Import that it has
// become: it is imported once, even if a replica dies meanwhile. It returns ErrNotFound, ErrRejected and a
// *roster.Error as Importer.Import does.
func (u *Uploads) Commit(ctx context.Context, id uuid.UUID, o ImportOptions) (result Import, err error) {
	leave, err := u.enter(ctx)
	if err != nil {
		return Import{}, err
	}
	defer leave()
	err = pgx.BeginFunc(ctx, u.db, func(tx pgx.Tx) error {
		up, err := upload(ctx, tx, id, "FOR NO KEY UPDATE")
		if err != nil {
			return err
		}
		if up.Import != nil {
			result, err = (&Store{DB: tx}).Import(ctx, *up.Import)
			return err
		}
		o.DryRun = false
		if result, err = u.importFile(ctx, tx, up, o); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE uploads SET import_id = $2 WHERE id = $1`, id, result.ID); err != nil {
			return fmt.Errorf("close upload %s: %w", id, err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM upload_parts WHERE upload_id = $1`, id); err != nil {
			return fmt.Errorf("close upload %s: %w", id, err)
		}
		return nil
	})
	return result, err
}

// importFile imports by db, which may be a transaction of ours, while the file is read by the pool.
func (u *Uploads) importFile(ctx context.Context, db DB, up Upload, o ImportOptions) (Import, error) {
	file, err := u.Open(ctx, up.ID)
	if err != nil {
		return Import{}, err
	}
	defer file.Close() //nolint:errcheck // It was only read.
	importer := *u.importer
	importer.DB = db
	o.FileName = up.FileName
	return importer.Import(ctx, file, o)
}

// enter waits until no other import of an upload is at work in this process.
func (u *Uploads) enter(ctx context.Context) (leave func(), err error) {
	select {
	case u.turn <- struct{}{}:
		return func() { <-u.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another import: %w", ctx.Err())
	}
}

// Discard forgets a file. One that is imported, or being imported, or gone already, is left alone.
func (u *Uploads) Discard(ctx context.Context, id uuid.UUID) error {
	return u.remove(ctx, `id = $1 AND import_id IS NULL`, id)
}

// Sweep forgets the files that came more than a day ago.
func (u *Uploads) Sweep(ctx context.Context) error {
	return u.remove(ctx, `at < now() - $1::interval`, uploadLife)
}

// remove waits for nobody: who commits holds the row of the upload.
func (u *Uploads) remove(ctx context.Context, where string, arg any) error {
	_, err := u.db.Exec(ctx, `
		DELETE FROM uploads
		WHERE id IN (SELECT id FROM uploads WHERE `+where+` FOR UPDATE SKIP LOCKED)`, arg)
	if err != nil {
		return fmt.Errorf("remove uploads: %w", err)
	}
	return nil
}
