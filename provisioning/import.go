package provisioning

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/roster"
)

// Importer merges roster files into the roster.
type Importer struct {
	DB      DB
	Namer   *Namer
	Inviter *Inviter
	Mailbox Mailbox             // the agency's, about which a row is warned
	Domains *roster.MailDomains // finds mail domains that cannot receive mail; nil looks up none
}

// ImportOptions says how to import a file.
type ImportOptions struct {
	FileName string
	Actor    Actor
	Map      map[roster.Field]string
	DryRun   bool // tell what would happen and change nothing
	Strict   bool // import nothing if a row is rejected
	Invite   bool // queue an invitation for every client of the file that was not mailed before

	PlanRows int // how many rows the plan of a dry run has; ShownRows if zero

	// Bytes, if it is set, gets the bytes of the file as they are read.
	Bytes io.Writer

	// Read, if it is set, is told how many rows the file has once it is read: what follows takes as long again.
	Read func(rows int)

	// EachRow, if it is set, is told of every row of the file in the order of the file, before the import
	// is final. Its error undoes the import.
	EachRow func(PlannedRow) error
}

// Import is the outcome of importing a file, as a program reads it.
type Import struct {
	ID        uuid.UUID       `json:"id"`
	FileName  string          `json:"file_name"`
	At        time.Time       `json:"at,omitzero" doc:"absent if nothing was written"`
	Actor     Actor           `json:"actor"`
	DryRun    bool            `json:"dry_run"`
	Header    []string        `json:"-"`
	Rows      int             `json:"rows"`
	Created   int             `json:"created"`
	Updated   int             `json:"updated"`
	Unchanged int             `json:"unchanged"`
	Rejected  int             `json:"rejected"`
	Rejects   []roster.Reject `json:"rejects" doc:"the first 100"`

	Warned   int              `json:"warned" doc:"rows that were taken and yet look doubtful"`
	Warnings []roster.Warning `json:"warnings" doc:"the first 100"`
	Plan     []PlannedRow     `json:"plan,omitempty" doc:"of a dry run: the first rows that would be created, updated or rejected"`
	Invited  *Invited         `json:"invited,omitempty" doc:"present if invitations were asked for"`
}

// ShownRows is how many rejects, warnings and planned rows an Import shows. All rejects are kept and can be
// read by Store.Rejects; ImportOptions.EachRow is told the whole plan.
const ShownRows = 100

// ErrRejected is returned, with the Import that would have been, when a strict import has a reject.
var ErrRejected = errors.New("rows were rejected, so nothing was imported: correct them, or import without strict")

// Import reads a roster file and merges it in one transaction: it is done as a whole or not at all.
// Importing a file again changes nothing. An empty cell leaves what is known of a client alone.
//
// A row is the same client again when its ref, else its account id, else name and owner address agree
// and nothing contradicts. It returns a *roster.Error if the file as a whole cannot be read, and
// ErrRejected if a strict import has rejects.
func (im *Importer) Import(ctx context.Context, file io.Reader, o ImportOptions) (Import, error) {
	if o.Bytes != nil {
		file = io.TeeReader(file, o.Bytes)
	}
	reader, err := roster.NewReader(file, roster.Options{Map: o.Map, Agency: im.Mailbox.String()})
	if err != nil {
		return Import{}, err
	}
	result, err := im.importRows(ctx, reader, o)
	return result, errors.Join(err, reader.Close())
}

func (im *Importer) importRows(ctx context.Context, reader *roster.Reader, o ImportOptions) (Import, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Import{}, fmt.Errorf("import: %w", err)
	}
	tx, err := im.DB.Begin(ctx)
	if err != nil {
		return Import{}, fmt.Errorf("import: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	m := &merge{tx: tx, actor: o.Actor, dryRun: o.DryRun, inviter: im.Inviter, columns: reader.Mapping()}
	result := Import{ID: id, FileName: o.FileName, Actor: o.Actor, DryRun: o.DryRun, Header: reader.Header()}
	domains, err := m.stage(ctx, reader, im.Namer, &result)
	if err != nil {
		return Import{}, err
	}
	if o.Read != nil {
		o.Read(result.Rows)
	}
	if im.Domains != nil {
		if err := m.lookUp(ctx, im.Domains, domains); err != nil {
			return Import{}, err
		}
	}
	if err := m.run(ctx, &result); err != nil {
		return Import{}, err
	}
	if o.DryRun {
		result.Plan = []PlannedRow{}
		err := m.plan(ctx, cmp.Or(o.PlanRows, ShownRows), func(row PlannedRow) error { result.Plan = append(result.Plan, row); return nil })
		if err != nil {
			return Import{}, err
		}
	}
	if o.EachRow != nil {
		if err := m.plan(ctx, 0, o.EachRow); err != nil {
			return Import{}, err
		}
	}
	if o.Invite {
		invited, err := im.Inviter.invite(ctx, tx,
			`c.id IN (SELECT client_id FROM incoming WHERE code IS NULL)`, []any{false, false}, o.Actor)
		if err != nil {
			return Import{}, err
		}
		result.Invited = &invited
	}
	if o.Strict && result.Rejected > 0 {
		return result, ErrRejected
	}
	if o.DryRun {
		return result, nil
	}
	if err := m.record(ctx, &result); err != nil {
		return Import{}, fmt.Errorf("record the import: %w", err)
	}
	if err := Audit(ctx, tx, o.Actor, result.entry()); err != nil {
		return Import{}, err
	}
	if err := tx.Commit(ctx); err != nil {
		return Import{}, fmt.Errorf("import: %w", err)
	}
	return result, nil
}

// entry is the import as the audit trail tells it.
func (im *Import) entry() audit.Entry {
	after := audit.Fields{
		"file_name": im.FileName,
		"rows":      im.Rows,
		"created":   im.Created,
		"updated":   im.Updated,
		"unchanged": im.Unchanged,
		"rejected":  im.Rejected,
	}
	if im.Invited != nil {
		after["queued"] = im.Invited.Queued
	}
	return audit.Entry{Action: "roster.import", Object: "import " + im.ID.String(), After: after}
}

// Imports returns a page of imports, newest first and without their rejects, and the cursor of the next page, empty if
// there is none. A limit of zero is 50. It returns ErrBadCursor.
func (s *Store) Imports(ctx context.Context, cursor string, limit int) (page []Import, next string, err error) {
	if limit = min(limit, 500); limit <= 0 {
		limit = 50
	}
	before := uuid.Max
	if cursor != "" {
		if before, err = uuid.Parse(cursor); err != nil {
			return nil, "", ErrBadCursor
		}
	}
	if page, err = s.imports(ctx, `WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, limit+1); err != nil {
		return nil, "", err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID.String()
	}
	return page, next, nil
}

// Import returns an import with its first rejects. It returns ErrNotFound.
func (s *Store) Import(ctx context.Context, id uuid.UUID) (Import, error) {
	found, err := s.imports(ctx, `WHERE id = $1`, id)
	if err != nil {
		return Import{}, err
	}
	if len(found) == 0 {
		return Import{}, fmt.Errorf("import %s: %w", id, ErrNotFound)
	}
	im := found[0]
	for reject, err := range s.rejects(ctx, id, ShownRows) {
		if err != nil {
			return Import{}, err
		}
		im.Rejects = append(im.Rejects, reject)
	}
	return im, nil
}

func (s *Store) imports(ctx context.Context, clause string, args ...any) ([]Import, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT
			id,
			file_name,
			actor,
			at,
			header,
			rows,
			created,
			updated,
			unchanged,
			rejected,
			warned,
			warnings
		FROM imports `+clause, args...)
	if err != nil {
		return nil, fmt.Errorf("read imports: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (im Import, err error) {
		im.Rejects = []roster.Reject{}
		err = row.Scan(&im.ID, &im.FileName, &im.Actor, &im.At, &im.Header,
			&im.Rows, &im.Created, &im.Updated, &im.Unchanged, &im.Rejected, &im.Warned, &im.Warnings)
		return im, err
	})
	if err != nil {
		return nil, fmt.Errorf("read imports: %w", err)
	}
	return found, nil
}
