package provisioning

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/roster"
)

// ErrChanged is matched when a client is no longer what somebody saw when they decided to change it.
var ErrChanged = errors.New("the client has changed since it was read: read it again, and then change it if you still want to")

// Edit says what is new about a client. A nil field stays as it is; an empty one clears what may be empty. The
// username and the stage are nobody's to edit.
type Edit struct {
	Name       *string
	OwnerName  *string
	OwnerEmail *string
	Ref        *string
	AccountID  *string
	Route      *string // empty for RouteOwner
	SiteURL    *string
	Locale     *string
	TimeZone   *string
	Tags       *[]string
	ClearExtra bool               // removes all columns before Extra is heeded
	Extra      map[string]*string // columns to add or to change, nil to remove
	Paused     *bool
}

// maxExtras is how many columns an edit may give to one client: each is one of every export.
const maxExtras = 200

// Edit changes what the roster says of a client, by the rules for a roster file, and tells its history. With a
// version, from Client.Version, it changes only the client that had it. It returns the client as it is then;
// a *FieldError, ErrNotFound or ErrChanged.
//
// Another address of the owner has the client start over, as ChangeOwner does: earlier links are void and waiting
// mails are cancelled. The new owner is mailed if the one before was, or was to be; one whom nobody has invited yet
// stays so. Another route has the client begin anew on that one; its links stay good. The account of an authorized
// client is known from its grant and cannot be edited.
func (i *Inviter) Edit(ctx context.Context, client uuid.UUID, version string, e Edit, actor Actor) (c Client, err error) {
	if e, err = e.parse(); err != nil {
		return Client{}, err
	}
	err = pgx.BeginFunc(ctx, i.DB, func(tx pgx.Tx) error {
		// Imports look at these before they write; and who invites holds the roster before a client.
		if e.Ref != nil || e.AccountID != nil || e.OwnerEmail != nil {
			if err := lockRoster(ctx, tx); err != nil {
				return err
			}
		}
		c, err = i.edit(ctx, tx, client, version, e, actor)
		return err
	})
	if err != nil {
		return Client{}, err
	}
	return c, nil
}

func (i *Inviter) edit(ctx context.Context, tx pgx.Tx, client uuid.UUID, version string, e Edit, actor Actor) (Client, error) {
	rows, err := tx.Query(ctx, `SELECT `+clientColumns+` FROM clients c WHERE c.id = $1 FOR UPDATE`, client)
	if err != nil {
		return Client{}, fmt.Errorf("edit client %s: %w", client, err)
	}
	from, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Client])
	if errors.Is(err, pgx.ErrNoRows) {
		return Client{}, fmt.Errorf("client %s: %w", client, ErrNotFound)
	}
	if err != nil {
		return Client{}, fmt.Errorf("edit client %s: %w", client, err)
	}
	if version != "" && version != from.Version() {
		return Client{}, ErrChanged
	}
	to, err := e.apply(from)
	if err != nil {
		return Client{}, err
	}
	changes, before, after := compareClients(from, to)
	if len(after) == 0 {
		return from, nil
	}
	moves := !strings.EqualFold(from.OwnerEmail, to.OwnerEmail)
	mailed := false
	if moves {
		if mailed, err = wasInvited(ctx, tx, client); err != nil {
			return Client{}, err
		}
		if err := i.startOver(ctx, tx, []uuid.UUID{client}, actor); err != nil {
			return Client{}, err
		}
	}
	if from.Route != to.Route {
		if err := i.reroute(ctx, tx, []rerouted{{client, from.Route, to.Route}}, actor); err != nil {
			return Client{}, err
		}
	}
	if err := writeEdit(ctx, tx, to); err != nil {
		return Client{}, err
	}
	if err := tellEdit(ctx, tx, client, changes, actor); err != nil {
		return Client{}, err
	}
	if moves && mailed {
		if _, err := i.invite(ctx, tx, "c.id = $3", []any{true, true, client}, actor); err != nil {
			return Client{}, err
		}
	}
	edited, err := (&Store{DB: tx}).Client(ctx, client.String())
	if err != nil {
		return Client{}, err
	}
	return edited, Audit(ctx, tx, actor, audit.Entry{Action: "client.edit", Object: AuditObject(client), Before: before, After: after})
}

// parse brings every field into the form in which it is stored.
func (e Edit) parse() (Edit, error) {
	for _, f := range []struct {
		field roster.Field
		value **string
	}{
		{roster.FieldName, &e.Name},
		{roster.FieldOwnerName, &e.OwnerName},
		{roster.FieldOwnerEmail, &e.OwnerEmail},
		{roster.FieldRef, &e.Ref},
		{roster.FieldAccountID, &e.AccountID},
		{roster.FieldRoute, &e.Route},
		{roster.FieldSiteURL, &e.SiteURL},
		{roster.FieldLocale, &e.Locale},
		{roster.FieldTimeZone, &e.TimeZone},
	} {
		if *f.value == nil {
			continue
		}
		value, err := roster.ParseValue(f.field, **f.value)
		if err != nil {
			return Edit{}, &FieldError{string(f.field), err.Error()}
		}
		*f.value = &value
	}
	if e.Tags != nil {
		tags, err := roster.ParseTags(*e.Tags)
		if err != nil {
			return Edit{}, &FieldError{string(roster.FieldTags), err.Error()}
		}
		e.Tags = &tags
	}
	extra := make(map[string]*string, len(e.Extra))
	for header, typed := range e.Extra {
		if typed == nil {
			extra[header] = nil
			continue
		}
		column, value, err := roster.ParseExtra(header, *typed)
		if err != nil {
			return Edit{}, &FieldError{"extra." + header, err.Error()}
		}
		extra[column] = &value
	}
	e.Extra = extra
	return e, nil
}

// apply returns the client as it is to be.
func (e Edit) apply(c Client) (Client, error) {
	set := func(field *string, value *string) {
		if value != nil {
			*field = *value
		}
	}
	set(&c.Name, e.Name)
	set(&c.OwnerName, e.OwnerName)
	set(&c.OwnerEmail, e.OwnerEmail)
	set(&c.SiteURL, e.SiteURL)
	set(&c.Locale, e.Locale)
	set(&c.TimeZone, e.TimeZone)
	if e.Ref != nil {
		c.Ref = orNil(*e.Ref)
	}
	if e.AccountID != nil && *e.AccountID != text(c.AccountID) {
		if c.Stage == StageAuthorized {
			return Client{}, &FieldError{string(roster.FieldAccountID), fmt.Sprintf("The client is authorized by a grant of the account %q,"+
				" which proves whose it is. Have the owner consent with the other account, and then accept that from the quarantine.",
				text(c.AccountID))}
		}
		c.AccountID = orNil(*e.AccountID)
	}
	if e.Route != nil {
		c.Route = RouteOwner
		if *e.Route != "" {
			c.Route = Route(*e.Route)
		}
	}
	if e.Tags != nil {
		c.Tags = *e.Tags
	}
	if e.Paused != nil {
		c.Paused = *e.Paused
	}
	extra := make(map[string]string, len(c.Extra))
	if !e.ClearExtra {
		maps.Copy(extra, c.Extra)
	}
	for column, value := range e.Extra {
		if value == nil || strings.TrimSpace(*value) == "" {
			delete(extra, column)
			continue
		}
		extra[column] = *value
	}
	if len(extra) > max(maxExtras, len(c.Extra)) {
		return Client{}, &FieldError{"extra", fmt.Sprintf("The client would have %d columns of its own. Keep at most %d.", len(extra), maxExtras)}
	}
	c.Extra = extra
	return c, nil
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// compareClients tells what an edit changes: as an event's detail tells it, and before and after.
func compareClients(from, to Client) (changes Detail, before, after audit.Fields) {
	changes, before, after = Detail{}, audit.Fields{}, audit.Fields{}
	for _, f := range []struct {
		name     string
		from, to any
	}{
		{"name", from.Name, to.Name},
		{"owner_name", from.OwnerName, to.OwnerName},
		{"owner_email", from.OwnerEmail, to.OwnerEmail},
		{"ref", from.Ref, to.Ref},
		{"account_id", from.AccountID, to.AccountID},
		{"route", from.Route, to.Route},
		{"site_url", from.SiteURL, to.SiteURL},
		{"locale", from.Locale, to.Locale},
		{"time_zone", from.TimeZone, to.TimeZone},
		{"tags", from.Tags, to.Tags},
		{"extra", from.Extra, to.Extra},
		{"paused", from.Paused, to.Paused},
	} {
		if !reflect.DeepEqual(f.from, f.to) {
			changes[f.name] = map[string]any{"from": f.from, "to": f.to}
			before[f.name], after[f.name] = f.from, f.to
		}
	}
	return changes, before, after
}

// wasInvited tells whether an invitation was ever queued for a client.
func wasInvited(ctx context.Context, tx pgx.Tx, client uuid.UUID) (was bool, err error) {
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM events WHERE client_id = $1 AND kind = 'mail_queued')`, client).Scan(&was)
	if err != nil {
		return false, fmt.Errorf("find whether client %s was invited: %w", client, err)
	}
	return was, nil
}

// writeEdit writes all that an edit may have changed.
func writeEdit(ctx context.Context, tx pgx.Tx, c Client) error {
	_, err := tx.Exec(ctx, `
		UPDATE clients
		SET
			name = $2,
			owner_name = $3,
			owner_email = $4,
			ref = $5,
			account_id = $6,
			route = $7,
			site_url = $8,
			locale = $9,
			time_zone = $10,
			tags = $11,
			extra = $12,
			paused = $13,
			updated_at = now()
		WHERE id = $1`,
		c.ID, c.Name, c.OwnerName, c.OwnerEmail, c.Ref, c.AccountID, c.Route, c.SiteURL, c.Locale, c.TimeZone, c.Tags, c.Extra, c.Paused)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.ConstraintName {
		case "clients_ref":
			return &FieldError{string(roster.FieldRef), fmt.Sprintf("Another client has the ref %q. Choose another one, or change that client first.", text(c.Ref))}
		case "clients_account_id":
			return &FieldError{string(roster.FieldAccountID), fmt.Sprintf("Another client has the account %q. Change that client first.", text(c.AccountID))}
		}
	}
	if err != nil {
		return fmt.Errorf("edit client %s: %w", c.ID, err)
	}
	return reindex(ctx, tx, c.ID)
}

// tellEdit writes the event: that mail was paused or resumed has one of its own.
func tellEdit(ctx context.Context, tx pgx.Tx, client uuid.UUID, changes Detail, actor Actor) error {
	ch := Change{Client: client, Event: EventUpdated, Actor: actor, Detail: changes}
	if turned, ok := changes["paused"].(map[string]any); ok && len(changes) == 1 {
		ch.Event, ch.Detail = EventResumed, nil
		if turned["to"] == true {
			ch.Event = EventPaused
		}
	}
	_, err := Advance(ctx, tx, ch)
	return err
}
