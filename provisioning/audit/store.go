package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// DB is what this package asks of a database to read the trail: a pool, or a transaction of the caller.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Store reads the trail.
type Store struct {
	DB DB
}

// Line is an entry that was recorded.
type Line struct {
	ID     int64
	At     time.Time
	Actor  string
	Action string
	Object string
	Before json.RawMessage // nil if there is nothing to tell
	After  json.RawMessage // likewise
	Hash   []byte
}

// Filter selects entries; a zero field does not restrict.
type Filter struct {
	Actor  string
	Action string // the action, or what it begins with up to a dot: "client" finds "client.pause"
	Object string
	From   time.Time
	Until  time.Time // exclusive
	Limit  int       // of a page; 50 if zero, at most 500
	Cursor string    // next of the page before
}

// ErrBadCursor is matched when a cursor did not come from an earlier page.
var ErrBadCursor = errors.New("the cursor is not one that an earlier page gave: start again without it")

// planned has a query planned for its values each time: what is right for a frequent actor would read all of the
// trail for a rare one.
const planned = pgx.QueryExecModeCacheDescribe

// List returns a page of entries, newest first, and the cursor of the next page, empty if there is none. It returns
// ErrBadCursor.
func (s *Store) List(ctx context.Context, f Filter) (page []Line, next string, err error) {
	limit := min(f.Limit, 500)
	if limit <= 0 {
		limit = 50
	}
	where, params := []string{"true"}, []any{planned}
	add := func(condition string, value any) {
		where = append(where, fmt.Sprintf(condition, len(params)))
		params = append(params, value)
	}
	if f.Actor != "" {
		add("actor = $%d", f.Actor)
	}
	if f.Action != "" {
		add("(action = $%[1]d OR action >= $%[1]d::text || '.' AND action < $%[1]d::text || '/')", f.Action) // '/' follows '.'
	}
	if f.Object != "" {
		add("object = $%d", f.Object)
	}
	if !f.From.IsZero() {
		add("at >= $%d", f.From)
	}
	if !f.Until.IsZero() {
		add("at < $%d", f.Until)
	}
	if f.Cursor != "" {
		before, err := strconv.ParseInt(f.Cursor, 10, 64)
		if err != nil {
			return nil, "", ErrBadCursor
		}
		add("id < $%d", before)
	}
	params = append(params, limit+1)
	rows, err := s.DB.Query(ctx, fmt.Sprintf(`
		SELECT
			id,
			at,
			actor,
			action,
			object,
			before,
			after,
			hash
		FROM audit
		WHERE %s
		ORDER BY id DESC
		LIMIT $%d`, strings.Join(where, " AND "), len(params)-1), params...)
	if err != nil {
		return nil, "", fmt.Errorf("read the audit trail: %w", err)
	}
	page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Line])
	if err != nil {
		return nil, "", fmt.Errorf("read the audit trail: %w", err)
	}
	if len(page) > limit {
		page = page[:limit]
		next = strconv.FormatInt(page[limit-1].ID, 10)
	}
	return page, next, nil
}
