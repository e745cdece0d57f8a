package provisioning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/roster"
)

// maxDomains is how many mail domains of one file are looked up; the others pass.
const maxDomains = 10_000

// stage copies the file into the table incoming, row by row as it is read. It returns the mail domains of
// the file, as far as they can be looked up.
func (m *merge) stage(ctx context.Context, reader *roster.Reader, namer *Namer, result *Import) (domains []string, err error) {
	// One import runs at a time, so that what it sorts and hashes may have room. Statistics of few rows do for
	// a table that is read as a whole.
	_, err = m.tx.Exec(ctx, `
		SET LOCAL work_mem = '64MB';
		SET LOCAL default_statistics_target = 10;
		CREATE TEMPORARY TABLE incoming (
			line           integer NOT NULL,
			client_id      uuid NOT NULL,
			is_new         boolean NOT NULL DEFAULT true,
			held           boolean NOT NULL DEFAULT false,
			name           text,
			owner_email    text COLLATE "C",
			ref            text COLLATE "C",
			owner_name     text,
			account_id     text COLLATE "C",
			route          text,
			site_url       text,
			locale         text,
			time_zone      text,
			tags           text[],
			extra          jsonb,
			words          text,
			username       text COLLATE "C",
			username_words text,
			stem           text COLLATE "C",
			tail           text COLLATE "C",
			changes        jsonb,
			warnings       jsonb,
			record         text,
			column_name    text,
			code           text,
			message        text
		) ON COMMIT DROP`)
	if err != nil {
		return nil, fmt.Errorf("prepare the import: %w", err)
	}
	source := &incoming{namer: namer, batches: make(chan []readRow, 2), domains: make(map[string]bool)}
	source.keys.seed = maphash.MakeSeed()
	reading, stop := context.WithCancel(ctx)
	go source.read(reading, reader)
	n, err := m.tx.CopyFrom(ctx, pgx.Identifier{"incoming"}, incomingColumns(), source)
	stop()
	for range source.batches { // When it is closed, nobody reads the file any more.
		continue
	}
	if source.err != nil {
		err = source.err // The database only repeats its words.
	}
	if err != nil {
		return nil, fmt.Errorf("read the roster file: %w", err)
	}
	// Without statistics the planner takes the table for empty. The indexes bound what a wrong guess can cost: it
	// cannot know how many rows one step leaves for the next, and might join every row with every row.
	_, err = m.tx.Exec(ctx, `
		CREATE INDEX ON incoming (line);
		CREATE INDEX ON incoming (client_id);
		ANALYZE incoming (line, client_id, is_new, held, name, owner_email, ref, account_id, code, username, stem, tail)`)
	if err != nil {
		return nil, fmt.Errorf("prepare the import: %w", err)
	}
	result.Rows = int(n)
	m.distinct, m.namesDiffer = source.keys.distinct(), source.keys.namesDiffer()
	for domain := range source.domains {
		domains = append(domains, domain)
	}
	return domains, nil
}

func incomingColumns() []string {
	return []string{
		"line", "client_id", "name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale",
		"time_zone", "tags", "extra", "words", "username", "username_words", "stem", "tail", "warnings", "record",
		"column_name", "code", "message",
	}
}

// incoming feeds COPY with the records of a file. They are read ahead of it, so that reading, sending and
// storing them take place at the same time.
type incoming struct {
	namer   *Namer
	batches chan []readRow // closed when nothing more is read; err is final then
	batch   []readRow      // of which the first is next
	values  []any

	domains map[string]bool
	keys    fileKeys
	err     error // of reading the file
	unfit   error // of a row that cannot be stored
}

// readRow is what the reader made of one record of the file.
type readRow struct {
	row    roster.Row
	reject *roster.Reject
}

// batchRows is how many rows are handed over at once.
const batchRows = 128

// read reads the file to its end or until ctx is done.
func (in *incoming) read(ctx context.Context, reader *roster.Reader) {
	defer close(in.batches)
	for more := true; more; {
		batch := make([]readRow, 0, batchRows)
		for more && len(batch) < batchRows {
			row, reject, err := reader.Next()
			switch {
			case err == nil:
				batch = append(batch, readRow{row, reject})
			case !errors.Is(err, io.EOF):
				in.err = err
				return
			default:
				more = false
			}
		}
		select {
		case in.batches <- batch:
		case <-ctx.Done():
			return
		}
	}
}

// Next makes the values of the next row.
func (in *incoming) Next() bool {
	for len(in.batch) == 0 {
		var ok bool
		if in.batch, ok = <-in.batches; !ok {
			return false
		}
	}
	next := in.batch[0]
	in.batch = in.batch[1:]
	var err error
	if in.values, err = in.record(next.row, next.reject); err != nil {
		in.unfit = err
		return false
	}
	return true
}

// Values returns what Next made.
func (in *incoming) Values() ([]any, error) { return in.values, nil }

// Err is asked when Next has returned false.
func (in *incoming) Err() error { return in.unfit }

// record returns the values of a row beside incomingColumns.
func (in *incoming) record(row roster.Row, reject *roster.Reject) ([]any, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	values := make([]any, len(incomingColumns()))
	if reject != nil {
		values[0], values[1] = reject.Line, [16]byte(id)
		copy(values[len(values)-4:], []any{joinCells(reject.Record), reject.Column, string(reject.Code), reject.Message})
		return values, nil
	}
	if _, domain, _ := strings.Cut(row.OwnerEmail, "@"); len(in.domains) < maxDomains && !roster.IsReservedDomain(domain) {
		in.domains[domain] = true
	}
	name, parts := foldText(row.Name), in.namer.Parts(row.Name, row.Ref)
	in.keys.add(row, name, parts.Wanted)
	warnings, err := knownJSON(row.Warnings, len(row.Warnings))
	if err != nil {
		return nil, err
	}
	extra, err := knownJSON(row.Extra, len(row.Extra))
	if err != nil {
		return nil, err
	}
	copy(values, []any{
		row.Line, [16]byte(id), row.Name, row.OwnerEmail, known(row.Ref), known(row.OwnerName), known(row.AccountID), known(row.Route),
		known(row.SiteURL), known(row.Locale), known(row.TimeZone), row.Tags, extra,
		searchText(name, row.Ref, row.OwnerName, row.OwnerEmail, row.AccountID),
		string(parts.Wanted), searchText(string(parts.Wanted)), parts.Stem, parts.Tail,
		warnings, joinCells(row.Record),
	})
	return values, nil
}

// fileKeys remembers, in eight bytes each, what a row of the file could have in common with another one.
// That shows, in a hundredth of the time that a database takes, that all rows of a file are different clients
// that want different usernames; where it does not, because they are not or because two keys happen to have the
// same hash, the database looks closely.
type fileKeys struct {
	seed                              maphash.Seed
	refs, accounts, owners, usernames []uint64
}

func (k *fileKeys) add(row roster.Row, foldedName string, wanted Username) {
	if row.Ref != "" {
		k.refs = append(k.refs, maphash.String(k.seed, row.Ref))
	}
	if row.AccountID != "" {
		k.accounts = append(k.accounts, maphash.String(k.seed, row.AccountID))
	}
	k.usernames = append(k.usernames, maphash.String(k.seed, string(wanted)))
	k.owners = append(k.owners, maphash.String(k.seed, foldedName+"\n"+foldText(row.OwnerEmail)))
}

// distinct tells that certainly no two rows name the same client.
func (k *fileKeys) distinct() bool {
	rows := len(k.owners)
	keyed := len(k.refs) == rows || len(k.accounts) == rows
	return unique(k.refs) && unique(k.accounts) && (keyed || unique(k.owners))
}

// namesDiffer tells that certainly no two rows want the same username.
func (k *fileKeys) namesDiffer() bool { return unique(k.usernames) }

// unique sorts the keys and spoils them.
func unique(keys []uint64) bool {
	slices.Sort(keys)
	return len(slices.Compact(keys)) == len(keys)
}

// cellSeparator stands between the cells of a record that is kept for the file of rejects.
const cellSeparator = "\x1f"

// joinCells writes a record as one text, NULL if it could not be taken apart.
func joinCells(record []string) any {
	if record == nil {
		return nil
	}
	joined := strings.Join(record, cellSeparator)
	if strings.Count(joined, cellSeparator) == len(record)-1 {
		return joined
	}
	cells := make([]string, len(record))
	for i, cell := range record {
		cells[i] = strings.ReplaceAll(cell, cellSeparator, "\uFFFD")
	}
	return strings.Join(cells, cellSeparator)
}

// knownJSON writes a value of n elements, NULL if that is none.
func knownJSON(value any, n int) (any, error) {
	if n == 0 {
		return nil, nil
	}
	return json.Marshal(value)
}

// known makes an empty cell NULL, which says nothing about the client.
func known(cell string) any {
	if cell == "" {
		return nil
	}
	return cell
}
