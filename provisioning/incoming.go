package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// stage copies the file into the table incoming, row by row as it is read.
func (m merge) stage(ctx context.Context, reader *RosterReader, namer *Namer) (rows int, err error) {
	_, err = m.tx.Exec(ctx, `
		CREATE TEMPORARY TABLE incoming (
			line        integer NOT NULL,
			client_id   uuid NOT NULL,
			is_new      boolean NOT NULL DEFAULT true,
			name        text,
			owner_email text,
			ref         text,
			owner_name  text,
			account_id  text,
			route       text,
			site_url    text,
			locale      text,
			time_zone   text,
			tags        text[],
			extra       jsonb,
			username    text,
			stem        text,
			tail        text,
			record      text[] NOT NULL,
			column_name text,
			code        text,
			message     text
		) ON COMMIT DROP`)
	if err != nil {
		return 0, fmt.Errorf("prepare the import: %w", err)
	}
	source := &incoming{reader: reader, namer: namer}
	columns := []string{
		"line", "client_id", "name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale",
		"time_zone", "tags", "extra", "username", "stem", "tail", "record", "column_name", "code", "message",
	}
	n, err := m.tx.CopyFrom(ctx, pgx.Identifier{"incoming"}, columns, source)
	if source.err != nil {
		err = source.err // The database only repeats its words.
	}
	if err != nil {
		return 0, fmt.Errorf("read the roster file: %w", err)
	}
	// Without statistics the planner takes the table for empty and joins it row by row.
	_, err = m.tx.Exec(ctx, `
		ANALYZE incoming (line, client_id, is_new, name, owner_email, ref, account_id, code, username, stem, tail)`)
	if err != nil {
		return 0, fmt.Errorf("prepare the import: %w", err)
	}
	return int(n), nil
}

// incoming feeds COPY with the records of a file.
type incoming struct {
	reader *RosterReader
	namer  *Namer
	values []any
	err    error
}

func (in *incoming) Next() bool {
	row, reject, err := in.reader.Next()
	if errors.Is(err, io.EOF) {
		return false
	}
	if err != nil {
		in.err = err
		return false
	}
	id, err := uuid.NewV7()
	if err != nil {
		in.err = err
		return false
	}
	if reject != nil {
		record := reject.Record
		if record == nil {
			record = []string{}
		}
		in.values = []any{
			reject.Line, id, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
			record, reject.Column, reject.Code, reject.Message,
		}
		return true
	}
	parts := in.namer.Parts(row.Name, row.Ref)
	in.values = []any{
		row.Line, id, row.Name, row.OwnerEmail, known(row.Ref), known(row.OwnerName), known(row.AccountID), known(row.Route),
		known(row.SiteURL), known(row.Locale), known(row.TimeZone), knownTags(row.Tags), row.Extra,
		string(parts.Wanted), parts.Stem, parts.Tail, row.Record, nil, nil, nil,
	}
	return true
}

func (in *incoming) Values() ([]any, error) { return in.values, nil }

func (in *incoming) Err() error { return in.err }

// known makes an empty cell NULL, which says nothing about the client.
func known(cell string) *string {
	if cell == "" {
		return nil
	}
	return &cell
}

func knownTags(tags []string) []string {
	if len(tags) == 0 {
		return nil
	}
	return tags
}
