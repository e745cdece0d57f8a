package provisioning

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/roster"
)

// Export writes the clients that the filter selects, or of them those that are named if any are, as a roster file with
// their usernames and stages.
// Cells that a spreadsheet would take for formulas are neutralized; importing the file again restores
// them and changes nothing. They come in the filter's order. Memory does not grow with the roster.
func (s *Store) Export(ctx context.Context, w io.Writer, f Filter, named ...uuid.UUID) error {
	extras, err := s.extraColumns(ctx)
	if err != nil {
		return err
	}
	header := make([]string, 0, len(roster.Fields())+len(roster.ExportColumns())+len(extras))
	for _, field := range roster.Fields() {
		header = append(header, string(field))
	}
	header = append(header, roster.ExportColumns()...)
	header = append(header, extras...)
	out := csv.NewWriter(w)
	if err := writeSafe(out, header); err != nil {
		return err
	}
	where, params := f.conditions(nil)
	if len(named) > 0 {
		params = append(params, named)
		where = append(where, fmt.Sprintf("c.id = ANY($%d)", len(params)))
	}
	rows, err := s.DB.Query(ctx, fmt.Sprintf(`SELECT %s FROM clients c WHERE %s ORDER BY %s`,
		clientColumns, strings.Join(where, " AND "), f.order()), params...)
	if err != nil {
		return fmt.Errorf("export the roster: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		c, err := pgx.RowToStructByPos[Client](rows)
		if err != nil {
			return fmt.Errorf("export the roster: %w", err)
		}
		if err := writeSafe(out, c.exportRecord(extras)); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("export the roster: %w", err)
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// extraColumns returns every column that a client has beyond ours.
func (s *Store) extraColumns(ctx context.Context) ([]string, error) {
	rows, err := s.DB.Query(ctx, `SELECT DISTINCT jsonb_object_keys(extra) AS key FROM clients ORDER BY key`)
	if err != nil {
		return nil, fmt.Errorf("export the roster: %w", err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("export the roster: %w", err)
	}
	return columns, nil
}

func (c Client) exportRecord(extras []string) []string {
	var reason Reason
	if c.Reason != nil {
		reason = *c.Reason
	}
	paused := ""
	if c.Paused {
		paused = "yes"
	}
	fields := map[roster.Field]string{
		roster.FieldName:       c.Name,
		roster.FieldOwnerEmail: c.OwnerEmail,
		roster.FieldRef:        text(c.Ref),
		roster.FieldOwnerName:  c.OwnerName,
		roster.FieldAccountID:  text(c.AccountID),
		roster.FieldRoute:      string(c.Route),
		roster.FieldSiteURL:    c.SiteURL,
		roster.FieldLocale:     c.Locale,
		roster.FieldTimeZone:   c.TimeZone,
		roster.FieldTags:       strings.Join(c.Tags, ", "),
	}
	record := []string{}
	for _, field := range roster.Fields() {
		record = append(record, fields[field])
	}
	record = append(record, c.Username, string(c.Stage), string(reason), paused,
		moment(c.InvitedAt), moment(c.AuthorizedAt), moment(c.ProvenAt))
	for _, column := range extras {
		record = append(record, c.Extra[column])
	}
	return record
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Rejects returns the rejects of an import in the order of the file.
func (s *Store) Rejects(ctx context.Context, id uuid.UUID) iter.Seq2[roster.Reject, error] {
	return s.rejects(ctx, id, math.MaxInt32)
}

// rejects returns the first rejects of an import.
func (s *Store) rejects(ctx context.Context, id uuid.UUID, limit int) iter.Seq2[roster.Reject, error] {
	return func(yield func(roster.Reject, error) bool) {
		rows, err := s.DB.Query(ctx, `
			SELECT
				line,
				column_name,
				code,
				message,
				record
			FROM import_rejects
			WHERE import_id = $1
			ORDER BY line
			LIMIT $2`, id, limit)
		if err != nil {
			yield(roster.Reject{}, fmt.Errorf("read rejects: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			reject, err := pgx.RowToStructByPos[roster.Reject](rows)
			if err != nil {
				yield(roster.Reject{}, fmt.Errorf("read rejects: %w", err))
				return
			}
			if !yield(reject, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(roster.Reject{}, fmt.Errorf("read rejects: %w", err))
		}
	}
}

// WriteRejects writes the rejects of an import as a file to correct and import again: the original
// columns, then error_code and error_message, which replace those of an earlier such file. It returns
// ErrNotFound.
func (s *Store) WriteRejects(ctx context.Context, w io.Writer, id uuid.UUID) error {
	im, err := s.Import(ctx, id)
	if err != nil {
		return err
	}
	original := func(record []string) []string {
		kept := make([]string, 0, len(im.Header))
		for i, column := range im.Header {
			switch {
			case slices.Contains(roster.RejectColumns(), column):
			case i < len(record):
				kept = append(kept, record[i])
			default:
				kept = append(kept, "")
			}
		}
		return kept
	}
	out := csv.NewWriter(w)
	if err := writeSafe(out, slices.Concat(original(im.Header), roster.RejectColumns())); err != nil {
		return err
	}
	for reject, err := range s.Rejects(ctx, id) {
		if err != nil {
			return err
		}
		beyond := reject.Record[min(len(im.Header), len(reject.Record)):]
		verdict := []string{string(reject.Code), reject.Message}
		if err := writeSafe(out, slices.Concat(original(reject.Record), verdict, beyond)); err != nil {
			return err
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	return nil
}

// writeSafe writes a record that no spreadsheet will run.
func writeSafe(out *csv.Writer, record []string) error {
	safe := make([]string, len(record))
	for i, cell := range record {
		safe[i] = roster.NeutralizeFormula(cell)
	}
	if err := out.Write(safe); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
