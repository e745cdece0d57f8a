package provisioning

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Filter selects clients, and says in which order; a zero field does not restrict.
type Filter struct {
	Stage      Stage     `json:"stage,omitempty"`
	Reason     Reason    `json:"reason,omitempty"`
	Route      Route     `json:"route,omitempty"`
	Tag        string    `json:"tag,omitempty"`
	Query      string    `json:"q,omitempty"` // words; each must begin a word of the name, ref, account id, owner or username
	Import     uuid.UUID `json:"import,omitzero"`
	Paused     *bool     `json:"paused,omitempty"`
	From       time.Time `json:"from,omitzero"`  // of the last change of stage
	Until      time.Time `json:"until,omitzero"` // likewise, exclusive
	Sort       Sort      `json:"sort,omitempty"`
	Descending bool      `json:"descending,omitempty"`
	Limit      int       `json:"-"` // of a page; 50 if zero, at most 500
	Cursor     string    `json:"-"` // the next of the page before
}

// Sort is what clients are put in order by.
type Sort string

const (
	// SortImported is the order in which clients came into the roster; so is the empty Sort.
	SortImported Sort = "imported"
	// SortName is by name without regard to case, character by character and not by the rules of a language.
	SortName Sort = "name"
	// SortChanged is by the last change of stage.
	SortChanged Sort = "changed"
)

// Sorts lists all orders.
func Sorts() []Sort { return []Sort{SortImported, SortName, SortChanged} }

// ParseSort returns the order of that name, or an error that lists them.
func ParseSort(s string) (Sort, error) { return parseWord(s, "sort", Sorts()) }

// Restricts reports whether there may be clients that the filter does not select.
func (f Filter) Restricts() bool {
	f.Sort, f.Descending, f.Limit, f.Cursor = "", false, 0, ""
	return f != Filter{}
}

// ErrBadCursor is matched when a cursor did not come from an earlier page, or from one in another order.
var ErrBadCursor = errors.New("the cursor is not one that an earlier page gave: start again without it")

// planned has a query planned for its values each time: what is right for a frequent tag would read all
// of the roster for a rare one.
const planned = pgx.QueryExecModeCacheDescribe

// Clients returns a page of clients in the filter's order, and the cursor of the next page, empty if there is none.
// It returns ErrBadCursor. Its cost grows with the page, not with the roster: the order is that of an index, or the
// filter has one by which few clients are found and then sorted.
func (s *Store) Clients(ctx context.Context, f Filter) (page []Client, next string, err error) {
	limit := min(f.Limit, 500)
	if limit <= 0 {
		limit = 50
	}
	where, params, err := s.conditions(ctx, f, limit+1)
	if err != nil {
		return nil, "", err
	}
	params = append(params, limit+1)
	sql := fmt.Sprintf(`SELECT %s FROM clients c WHERE %s ORDER BY %s LIMIT $%d`,
		clientColumns, strings.Join(where, " AND "), f.order(), len(params))
	rows, err := s.DB.Query(ctx, sql, append([]any{planned}, params...)...)
	if err != nil {
		return nil, "", fmt.Errorf("list clients: %w", err)
	}
	page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Client])
	if err != nil {
		return nil, "", fmt.Errorf("list clients: %w", err)
	}
	if len(page) > limit {
		page = page[:limit]
		next = f.cursor(page[limit-1])
	}
	return page, next, nil
}

// Count tells how many clients the filter selects, and does not count beyond most: then more is true.
func (s *Store) Count(ctx context.Context, f Filter, most int) (n int, more bool, err error) {
	where, params, err := s.conditions(ctx, f.inRosterOrder(), most+1)
	if err != nil {
		return 0, false, err
	}
	params = append(params, most+1)
	// In the order of the roster, as for a page: without one, all of it might be read for a rare match.
	sql := fmt.Sprintf(`SELECT count(*) FROM (SELECT FROM clients c WHERE %s ORDER BY %s LIMIT $%d) matches`,
		strings.Join(where, " AND "), f.inRosterOrder().order(), len(params))
	if err := s.DB.QueryRow(ctx, sql, append([]any{planned}, params...)...).Scan(&n); err != nil {
		return 0, false, fmt.Errorf("count clients: %w", err)
	}
	return min(n, most), n > most, nil
}

// CountAll tells how many clients the filter selects. Its cost grows with their number.
func (s *Store) CountAll(ctx context.Context, f Filter) (n int, err error) {
	where, params := f.conditions(nil)
	sql := `SELECT count(*) FROM clients c WHERE ` + strings.Join(where, " AND ")
	if err := s.DB.QueryRow(ctx, sql, append([]any{planned}, params...)...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count clients: %w", err)
	}
	return n, nil
}

// InsertClients copies the ids of the clients that the filter selects into a table of the caller, behind a constant
// value, and returns how many they are. Table and columns are the caller's own words.
func (f Filter) InsertClients(ctx context.Context, tx pgx.Tx, table, columns string, value any) (n int, err error) {
	where, params := f.conditions([]any{value})
	tag, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO %s (%s) SELECT $1, c.id FROM clients c WHERE %s ORDER BY c.id`,
		table, columns, strings.Join(where, " AND ")), append([]any{planned}, params...)...)
	if err != nil {
		return 0, fmt.Errorf("select clients: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

func (f Filter) inRosterOrder() Filter {
	f.Sort, f.Descending, f.Cursor = "", false, ""
	return f
}

const (
	// mostFound is how many clients a search or a time may select that are then looked for by their ids.
	mostFound = 5000
	// nearby is how many of the next clients are looked at before an index of words is asked.
	nearby = 2000
	// A word that more than this part of them has is looked for among those whom an index finds by the others.
	commonShare = 3
)

// conditions is Filter.conditions for a page of so many clients behind the filter's cursor. How many clients a word begins
// the planner does not know, nor that those of one time were imported together: for a few it may read all of the
// roster, and for many an index gathers them all. So it is told which clients they are, unless they are so many that a page
// of them is seldom far.
func (s *Store) conditions(ctx context.Context, f Filter, page int) (where []string, params []any, err error) {
	alone := Filter{Import: f.Import, Sort: f.Sort, Descending: f.Descending, Limit: f.Limit, Cursor: f.Cursor}
	if f == alone && f.Import != uuid.Nil && f.rosterOrder() {
		return s.imported(ctx, f, page)
	}
	few := f.selective()
	if few == (Filter{}) {
		where, params = f.conditions(nil)
		return f.behind(where, params)
	}
	rest := f
	if rest.Query = ""; f.Sort != SortChanged {
		rest.From, rest.Until = time.Time{}, time.Time{}
	}
	which, of := few.conditions([]any{mostFound + 1})
	if words := searchTerms(f.Query); len(words) > 0 {
		n, counts, ids, err := s.look(ctx, rest, few, words, page)
		if err != nil {
			return nil, nil, err
		}
		if n < nearby || len(ids) >= page { // That was all of them, or enough.
			return []string{"c.id = ANY ($1)"}, []any{ids}, nil
		}
		if rare, common := parted(words, counts, n); len(rare) > 0 && len(common) > 0 {
			few.Query = strings.Join(rare, " ")
			which, of = few.conditions([]any{mostFound + 1})
			of = append(of, searchQuery(strings.Join(common, " ")))
			which = append(which, fmt.Sprintf("ts_match_vq(c.search, $%d::tsquery)", len(of)))
		}
	}
	rows, err := s.DB.Query(ctx, fmt.Sprintf(`SELECT c.id FROM clients c WHERE %s LIMIT $1`, strings.Join(which, " AND ")), append([]any{planned}, of...)...)
	if err != nil {
		return nil, nil, fmt.Errorf("search clients: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, nil, fmt.Errorf("search clients: %w", err)
	}
	if len(found) > mostFound {
		where, params = f.conditions(nil)
		return f.behind(where, params)
	}
	where, params = rest.conditions([]any{found})
	return f.behind(append(where, "c.id = ANY ($1)"), params)
}

// imported are the clients of a page that shows an import and nothing else, in the order of the roster. They may stand behind
// all others, whom a join in that order would read first.
func (s *Store) imported(ctx context.Context, f Filter, page int) ([]string, []any, error) {
	where, params, err := f.behind([]string{"c.import_id = $1"}, []any{f.Import})
	if err != nil {
		return nil, nil, err
	}
	params = append(params, page)
	rows, err := s.DB.Query(ctx, fmt.Sprintf(`
		SELECT c.id
		FROM (SELECT import_id, client_id AS id FROM import_clients) c
		WHERE %s
			AND EXISTS (SELECT FROM clients WHERE id = c.id OFFSET 0)
		ORDER BY %s
		LIMIT $%d`, strings.Join(where, " AND "), f.order(), len(params)), append([]any{planned}, params...)...)
	if err != nil {
		return nil, nil, fmt.Errorf("list the clients of an import: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, nil, fmt.Errorf("list the clients of an import: %w", err)
	}
	return []string{"c.id = ANY ($1)"}, []any{ids}, nil
}

// rosterOrder reports whether clients come in the order in which they came into the roster.
func (f Filter) rosterOrder() bool { return f.Sort == "" || f.Sort == SortImported }

// selective is the part of the filter by which few clients may be found, and the planner does not know how many.
func (f Filter) selective() (few Filter) {
	if strings.TrimSpace(f.Query) != "" {
		few.Query = f.Query
	}
	if f.Sort != SortChanged {
		few.From, few.Until = f.From, f.Until
	}
	return few
}

// look tells of the next clients behind the filter's cursor how many there are, up to nearby; how many of them have each of
// the words; and which are selected by all, the first that make a page.
func (s *Store) look(ctx context.Context, rest, few Filter, words []string, page int) (n int, counts []int, ids []uuid.UUID, err error) {
	where, params := rest.conditions(nil)
	if where, params, err = rest.behind(where, params); err != nil {
		return 0, nil, nil, err
	}
	hits, numbers := make([]string, len(words)), make([]string, len(words))
	for i, word := range words {
		params = append(params, searchQuery(word))
		hits[i] = fmt.Sprintf("ts_match_vq(c.search, $%d::tsquery)", len(params))
		numbers[i] = fmt.Sprintf("count(*) FILTER (WHERE hit[%d])", i+1)
	}
	few.Query = ""
	within, params := few.conditions(params)
	params = append(params, nearby, page)
	sql := fmt.Sprintf(`
		WITH near AS MATERIALIZED (
			SELECT
				c.id,
				ARRAY[%s] AS hit,
				%s AS within
			FROM clients c
			WHERE %s
			ORDER BY %s
			LIMIT $%d
		)
		SELECT
			count(*),
			ARRAY[%s],
			(array_agg(id ORDER BY place) FILTER (WHERE within AND true = ALL (hit)))[1:$%d]
		FROM (SELECT *, row_number() OVER () AS place FROM near) near`,
		strings.Join(hits, ", "), strings.Join(within, " AND "), strings.Join(where, " AND "), rest.order(), len(params)-1,
		strings.Join(numbers, ", "), len(params))
	if err := s.DB.QueryRow(ctx, sql, append([]any{planned}, params...)...).Scan(&n, &counts, &ids); err != nil {
		return 0, nil, nil, fmt.Errorf("search the next clients: %w", err)
	}
	return n, counts, ids, nil
}

// parted tells the words that few of n clients have from those that many have.
func parted(words []string, counts []int, n int) (rare, common []string) {
	for i, word := range words {
		if counts[i]*commonShare > n {
			common = append(common, word)
		} else {
			rare = append(rare, word)
		}
	}
	return rare, common
}

// behind adds the condition that selects what comes after the filter's cursor, if it has one.
func (f Filter) behind(where []string, params []any) ([]string, []any, error) {
	if f.Cursor == "" {
		return where, params, nil
	}
	after, params, err := f.after(params)
	return append(where, after), params, err
}

// conditions says which clients c the filter selects, as SQL over params, which it extends.
func (f Filter) conditions(params []any) ([]string, []any) {
	where := []string{"true"}
	add := func(condition string, value any) {
		params = append(params, value)
		where = append(where, fmt.Sprintf(condition, len(params)))
	}
	lead := f.lead()
	for _, word := range []struct{ column, value string }{
		{"c.stage", string(f.Stage)}, {"c.reason", string(f.Reason)}, {"c.route", string(f.Route)},
	} {
		switch word.value {
		case "":
		case lead.value:
			add(word.column+" BETWEEN $%[1]d AND $%[1]d", word.value)
		default:
			add(word.column+" = $%d", word.value)
		}
	}
	if f.Tag != "" {
		add("c.tags @> ARRAY[$%d::text]", storedText(f.Tag))
	}
	if strings.TrimSpace(f.Query) != "" {
		add("c.search @@ $%d::tsquery", searchQuery(f.Query))
	}
	if f.Import != uuid.Nil {
		add("c.id IN (SELECT client_id FROM import_clients WHERE import_id = $%d)", f.Import)
	}
	switch {
	case f.Paused == nil:
	case *f.Paused:
		where = append(where, "c.paused")
	default:
		where = append(where, "NOT c.paused")
	}
	if !f.From.IsZero() {
		add("c.stage_at >= $%d", f.From)
	}
	if !f.Until.IsZero() {
		add("c.stage_at < $%d", f.Until)
	}
	return where, params
}

// lead is a column that the filter fixes, and that leads the index of its order; empty if there is none. Clients in
// one stage stand together, where they were imported or changed at the same time: whoever looks for them in an index
// without the stage may meet all others first, which the planner does not know. Said as a range, the column is part
// of the order, which no other index has.
func (f Filter) lead() (lead struct{ column, value string }) {
	switch {
	case f.Sort == SortName:
	case f.Sort == SortChanged && f.Stage != "":
		lead.column, lead.value = "c.stage", string(f.Stage)
	case f.Sort == SortChanged:
	case f.Reason != "":
		lead.column, lead.value = "c.reason", string(f.Reason)
	case f.Stage != "":
		lead.column, lead.value = "c.stage", string(f.Stage)
	case f.Route != "":
		lead.column, lead.value = "c.route", string(f.Route)
	}
	return lead
}

// keys are what comes before the id in the filter's order, as the indexes have it.
func (f Filter) keys() []string {
	var keys []string
	if lead := f.lead(); lead.column != "" {
		keys = append(keys, lead.column)
	}
	switch f.Sort {
	case SortName:
		return append(keys, `lower(c.name) COLLATE "C"`, `lower(c.owner_email)`)
	case SortChanged:
		return append(keys, `c.stage_at`)
	case SortImported, "":
	}
	return keys
}

// order is the filter's order as SQL.
func (f Filter) order() string {
	keys := append(f.keys(), "c.id")
	if f.Descending {
		for i := range keys {
			keys[i] += " DESC"
		}
	}
	return strings.Join(keys, ", ")
}

// place is where a page ended: its order, and what the last client was put in order by.
type place struct {
	Sort       Sort      `json:"s"`
	Descending bool      `json:"d"`
	ID         uuid.UUID `json:"i"`
	Name       string    `json:"n,omitempty"`
	OwnerEmail string    `json:"o,omitempty"`
	StageAt    time.Time `json:"t,omitzero"`
}

// cursor writes the place of the last client of a page.
func (f Filter) cursor(last Client) string {
	p := place{Sort: cmp.Or(f.Sort, SortImported), Descending: f.Descending, ID: last.ID}
	switch p.Sort {
	case SortName:
		p.Name, p.OwnerEmail = last.Name, last.OwnerEmail
	case SortChanged:
		p.StageAt = last.StageAt
	case SortImported:
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // Text, numbers and a time of the database can be written.
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// after selects the clients behind the filter's cursor, as SQL over params, which it extends.
func (f Filter) after(params []any) (string, []any, error) {
	var p place
	raw, err := base64.RawURLEncoding.DecodeString(f.Cursor)
	if err != nil || json.Unmarshal(raw, &p) != nil || p.Sort != cmp.Or(f.Sort, SortImported) || p.Descending != f.Descending {
		return "", nil, ErrBadCursor
	}
	var values []string
	if lead := f.lead(); lead.column != "" {
		params = append(params, lead.value)
		values = append(values, fmt.Sprintf("$%d::text", len(params)))
	}
	n := len(params)
	switch p.Sort {
	case SortName:
		// In lower case by the rules of the columns, as the index has them.
		values = append(values,
			fmt.Sprintf(`lower($%d::text COLLATE "default") COLLATE "C"`, n+1), fmt.Sprintf(`lower($%d::text COLLATE "C")`, n+2))
		params = append(params, storedText(p.Name), storedText(p.OwnerEmail))
	case SortChanged:
		values = append(values, fmt.Sprintf("$%d::timestamptz", n+1))
		params = append(params, p.StageAt)
	case SortImported:
	}
	params = append(params, p.ID)
	values = append(values, fmt.Sprintf("$%d::uuid", len(params)))
	than := ">"
	if f.Descending {
		than = "<"
	}
	columns := slices.Concat(f.keys(), []string{"c.id"})
	return fmt.Sprintf("(%s) %s (%s)", strings.Join(columns, ", "), than, strings.Join(values, ", ")), params, nil
}
