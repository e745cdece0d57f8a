package provisioning

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/roster"
)

// Verdict is what an import makes of one row of the file.
type Verdict string

// The verdicts of an import.
const (
	VerdictCreated   Verdict = "created"
	VerdictUpdated   Verdict = "updated"
	VerdictUnchanged Verdict = "unchanged"
	VerdictRejected  Verdict = "rejected"
)

// PlannedRow is what an import does, or would do, with one row of the file.
type PlannedRow struct {
	Line     int                 `json:"line" doc:"line of the file on which the record starts"`
	Verdict  Verdict             `json:"verdict" enum:"created,updated,unchanged,rejected"`
	ClientID *uuid.UUID          `json:"client_id,omitempty" doc:"absent for a row that is rejected, or that is yet to be created"`
	Ref      string              `json:"ref,omitempty"`
	Name     string              `json:"name,omitempty"`
	Username string              `json:"username,omitempty" doc:"the client's own, or the one that a new client gets"`
	Changes  map[string]Revision `json:"changes,omitempty" doc:"what an updated client changes, by field"`
	Code     roster.RejectCode   `json:"code,omitempty"`
	Message  string              `json:"message,omitempty"`
}

// Revision is the value of a field before and after: text, a list of tags, or the extra columns.
type Revision struct {
	From any `json:"from"`
	To   any `json:"to"`
}

// plan hands every row of the file to each, in the order of the file, or only the first ones that do not
// stay as they are. It is called before anything else of the transaction is read.
func (m *merge) plan(ctx context.Context, first int, each func(PlannedRow) error) error {
	where, limit := "true", any(nil)
	if first > 0 {
		where, limit = "NOT (i.code IS NULL AND NOT i.is_new AND i.changes IS NULL)", first
	}
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := m.tx.Query(ctx, `
		SELECT
			i.line,
			CASE
				WHEN i.code IS NOT NULL THEN 'rejected'
				WHEN i.is_new THEN 'created'
				WHEN i.changes IS NOT NULL THEN 'updated'
				ELSE 'unchanged'
			END,
			CASE WHEN i.code IS NULL AND NOT (i.is_new AND $2) THEN i.client_id END,
			coalesce(i.ref, c.ref, ''),
			coalesce(i.name, ''),
			CASE WHEN i.code IS NULL THEN coalesce(c.username, i.username) ELSE '' END,
			i.changes,
			coalesce(i.code, ''),
			coalesce(i.message, '')
		FROM incoming i
		LEFT JOIN clients c ON c.id = i.client_id
		WHERE `+where+`
		ORDER BY i.line
		LIMIT $1`, limit, m.dryRun)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var row PlannedRow
	_, err = pgx.ForEachRow(rows, []any{
		&row.Line, &row.Verdict, &row.ClientID, &row.Ref, &row.Name, &row.Username, &row.Changes, &row.Code, &row.Message,
	}, func() error {
		planned := row
		row = PlannedRow{}
		return each(planned)
	})
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	return nil
}
