package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/text/unicode/norm"

	"github.com/countersign/countersign/provisioning/audit"
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

// Routes lists all routes.
func Routes() []Route { return []Route{RouteOwner, RouteManager, RoutePartner, RouteExternal} }

// Consents tells whether a grant of ours authorizes the client, whoever consents to it.
func (r Route) Consents() bool { return r == RouteOwner || r == RouteManager }

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
	Revision     uint32 // the database's mark of the transaction that wrote the client last
}

// Version tells one state of a client from every other: whatever changes anything of it changes this too.
func (c Client) Version() string { return strconv.FormatUint(uint64(c.Revision), 36) }

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
	c.opted_out_at,
	c.xmin`

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
// never given again. The audit trail keeps what it was: its names, addresses and keys. It returns ErrNotFound.
func (s *Store) Delete(ctx context.Context, client uuid.UUID, actor Actor) error {
	err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `DELETE FROM clients c WHERE id = $1 RETURNING `+clientColumns, client)
		if err != nil {
			return err
		}
		c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Client])
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		return Audit(ctx, tx, actor, audit.Entry{Action: "client.delete", Object: AuditObject(client), Before: c.facts()})
	})
	if err != nil {
		return fmt.Errorf("delete client %s: %w", client, err)
	}
	return nil
}

// facts are what the audit trail keeps of a client.
func (c Client) facts() audit.Fields {
	return audit.Fields{
		"name":        c.Name,
		"ref":         c.Ref,
		"owner_name":  c.OwnerName,
		"owner_email": c.OwnerEmail,
		"account_id":  c.AccountID,
		"username":    c.Username,
		"route":       c.Route,
		"stage":       c.Stage,
		"reason":      c.Reason,
		"tags":        c.Tags,
		"created_at":  c.CreatedAt,
	}
}

// BindAccount notes which of the provider's accounts a client is, as its verified grant showed. The caller
// has locked the client.
func BindAccount(ctx context.Context, db DB, client uuid.UUID, account string) error {
	tag, err := db.Exec(ctx, `
		UPDATE clients
		SET
			account_id = $2,
			updated_at = now()
		WHERE id = $1
			AND account_id IS DISTINCT FROM $2`, client, account)
	if err != nil {
		return fmt.Errorf("bind the account: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	return reindex(ctx, db, client)
}

// storedText writes what a person typed as the roster has it: in Unicode's normal form C, and with
// U+FFFD, which is nowhere in it, for what a database refuses.
func storedText(typed string) string {
	return norm.NFC.String(strings.ReplaceAll(strings.ToValidUTF8(typed, "\uFFFD"), "\x00", "\uFFFD"))
}
