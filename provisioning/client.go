package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/text/unicode/norm"
)

// ErrNotFound is matched when no row has the id or ref asked for.
var ErrNotFound = errors.New("not found")

// DB is what this package asks of a database: a pool, or a transaction of the caller.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Route is how a client gets authorized.
type Route string

const (
	RouteOwner    Route = "owner"    // the owner consents by link
	RouteManager  Route = "manager"  // an operator consents, signed in as the plus-addressed Account Manager
	RoutePartner  Route = "partner"  // the provider's partner token acts for the managed account
	RouteExternal Route = "external" // another product holds its own grant; a person confirms
)

// Client is one child account to be authorized.
type Client struct {
	ID           uuid.UUID
	Ref          *string // the agency's own key
	Name         string
	OwnerName    string
	OwnerEmail   string
	AccountID    *string // the provider's encoded account id, expected or learnt
	Username     string
	Route        Route
	Stage        Stage
	Reason       *Reason // why it stalled; nil unless Stage is StageStalled
	Paused       bool
	SiteURL      string
	Locale       string
	TimeZone     string
	Tags         []string
	Extra        map[string]string // columns of the roster file that are not ours
	CreatedAt    time.Time
	UpdatedAt    time.Time
	StageAt      time.Time
	InvitedAt    *time.Time // first mail accepted
	StartedAt    *time.Time // last time that somebody pressed Continue
	AuthorizedAt *time.Time // first verified grant
	ProvenAt     *time.Time // first refresh that worked
	OptedOut     *OptedOut  // nil if the owner takes mails
	OptedOutAt   *time.Time
}

const clientColumns = `
	c.id,
	c.ref,
	c.name,
	c.owner_name,
	c.owner_email,
	c.account_id,
	c.username,
	c.route,
	c.stage,
	c.reason,
	c.paused,
	c.site_url,
	c.locale,
	c.time_zone,
	c.tags,
	c.extra,
	c.created_at,
	c.updated_at,
	c.stage_at,
	c.invited_at,
	c.started_at,
	c.authorized_at,
	c.proven_at,
	c.opted_out,
	c.opted_out_at`

// Store reads the roster.
type Store struct {
	DB DB
}

// Client finds a client by its id, or by "ref:" and the agency's own key. It returns ErrNotFound.
func (s *Store) Client(ctx context.Context, key string) (Client, error) {
	where, arg := "c.id = $1", any(nil)
	if ref, ok := strings.CutPrefix(key, "ref:"); ok {
		where, arg = "c.ref = $1", storedText(ref)
	} else {
		id, err := uuid.Parse(key)
		if err != nil {
			return Client{}, fmt.Errorf("client %q: %w", key, ErrNotFound)
		}
		arg = id
	}
	rows, err := s.DB.Query(ctx, `SELECT `+clientColumns+` FROM clients c WHERE `+where, arg)
	if err != nil {
		return Client{}, fmt.Errorf("read client %q: %w", key, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Client])
	if errors.Is(err, pgx.ErrNoRows) {
		return Client{}, fmt.Errorf("client %q: %w", key, ErrNotFound)
	}
	if err != nil {
		return Client{}, fmt.Errorf("read client %q: %w", key, err)
	}
	return c, nil
}

// Delete removes a client with all that is its own: its history, links, mails and sealed tokens. Its username is
// never given again. It returns ErrNotFound.
func (s *Store) Delete(ctx context.Context, client uuid.UUID) error {
	tag, err := s.DB.Exec(ctx, `DELETE FROM clients WHERE id = $1`, client)
	if err != nil {
		return fmt.Errorf("delete client %s: %w", client, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("client %s: %w", client, ErrNotFound)
	}
	return nil
}

// BindAccount notes which of the provider's accounts a client is, as its verified grant showed. The caller
// has locked the client.
func BindAccount(ctx context.Context, db DB, client uuid.UUID, account string) error {
	tag, err := db.Exec(ctx, `UPDATE clients SET account_id = $2 WHERE id = $1 AND account_id IS DISTINCT FROM $2`, client, account)
	if err != nil {
		return fmt.Errorf("bind the account: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	return reindex(ctx, db, client)
}

// Filter selects clients; a zero field does not restrict.
type Filter struct {
	Stage  Stage
	Reason Reason
	Route  Route
	Tag    string
	Query  string // words; each must begin a word of the name, ref, account id, owner or username
	Limit  int    // of a page; 50 if zero, at most 500
	Cursor string // NextCursor of the page before
}

// ErrBadCursor is matched when a cursor did not come from an earlier page.
var ErrBadCursor = errors.New("the cursor is not one that an earlier page gave: start again without it")

// planned has a query planned for its values each time: what is right for a frequent tag would read all
// of the roster for a rare one.
const planned = pgx.QueryExecModeCacheDescribe

// Clients returns a page of clients in the order they were imported, and the cursor of the next page,
// empty if there is none. It returns ErrBadCursor. Its cost grows with the page, not with the roster.
func (s *Store) Clients(ctx context.Context, f Filter) (page []Client, next string, err error) {
	limit := min(f.Limit, 500)
	if limit <= 0 {
		limit = 50
	}
	where, params := f.conditions(nil)
	if f.Cursor != "" {
		after, err := uuid.Parse(f.Cursor)
		if err != nil {
			return nil, "", ErrBadCursor
		}
		params = append(params, after)
		where = append(where, fmt.Sprintf("c.id > $%d", len(params)))
	}
	params = append(params, limit+1)
	sql := fmt.Sprintf(`SELECT %s FROM clients c WHERE %s ORDER BY c.id LIMIT $%d`,
		clientColumns, strings.Join(where, " AND "), len(params))
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
		next = page[limit-1].ID.String()
	}
	return page, next, nil
}

// conditions says which clients c the filter selects, as SQL over params, which it extends.
func (f Filter) conditions(params []any) ([]string, []any) {
	where := []string{"true"}
	add := func(condition string, value any) {
		params = append(params, value)
		where = append(where, fmt.Sprintf(condition, len(params)))
	}
	if f.Stage != "" {
		add("c.stage = $%d", f.Stage)
	}
	if f.Reason != "" {
		add("c.reason = $%d", f.Reason)
	}
	if f.Route != "" {
		add("c.route = $%d", f.Route)
	}
	if f.Tag != "" {
		add("c.tags @> ARRAY[$%d::text]", storedText(f.Tag))
	}
	if strings.TrimSpace(f.Query) != "" {
		add("c.search @@ $%d::tsquery", searchQuery(f.Query))
	}
	return where, params
}

// storedText writes what a person typed as the roster has it: in Unicode's normal form C, and with
// U+FFFD, which is nowhere in it, for what a database refuses.
func storedText(typed string) string {
	return norm.NFC.String(strings.ReplaceAll(strings.ToValidUTF8(typed, "\uFFFD"), "\x00", "\uFFFD"))
}
