package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/roster"
)

// Owner is whom a client belongs to.
type Owner struct {
	Name  string // may be empty
	Email string
}

// FieldError says what is wrong with a field of a form, to whoever filled it in.
type FieldError struct {
	Field   string // such as "email"
	Message string // sentences that end with the cure
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// The longest that a person may type, in characters. A name and an address are bounded as in a roster file.
const (
	maxOwnerName  = 200
	maxOwnerEmail = 254
	maxNote       = 1000
)

// ParseOwner reads an owner as a person types one. It returns a *FieldError of the field name or email.
func ParseOwner(name, email string) (o Owner, err error) {
	if o.Name, err = parseLine("name", name, maxOwnerName); err != nil {
		return Owner{}, err
	}
	if o.Email, err = parseLine("email", email, maxOwnerEmail); err != nil {
		return Owner{}, err
	}
	if o.Email == "" {
		return Owner{}, &FieldError{"email", "The mail address is missing. Please fill it in."}
	}
	local, domain, err := roster.ParseAddress(o.Email)
	if err != nil {
		return Owner{}, &FieldError{"email", "This is not a mail address: " + err.Error() + ". Please write one such as ann@example.com."}
	}
	o.Email = local + "@" + domain
	return o, nil
}

// parseLine reads a field as one line, as text is stored in the roster.
func parseLine(field, typed string, limit int) (string, error) {
	line, err := roster.CleanText(typed, true)
	if err != nil {
		return "", &FieldError{field, "Some characters in it cannot be read. Please type it anew."}
	}
	if n := utf8.RuneCountInString(line); n > limit {
		return "", &FieldError{field, fmt.Sprintf("It has %d characters. Please shorten it to %d.", n, limit)}
	}
	return line, nil
}

// ChangeOwner corrects who a client's owner is, and has an invitation mailed to them even if they were
// mailed before: the operator means it. With another address the client starts over as after an import
// that brings one: earlier links are void, waiting mails are cancelled, and it is past that the old address
// bounced or opted out. It returns a *FieldError or ErrNotFound.
//
// Who cannot be invited, such as the owner of an authorized client, is not mailed; Invited says why.
func (i *Inviter) ChangeOwner(ctx context.Context, client uuid.UUID, to Owner, actor Actor) (result Invited, err error) {
	if to, err = ParseOwner(to.Name, to.Email); err != nil {
		return Invited{}, err
	}
	err = pgx.BeginFunc(ctx, i.DB, func(tx pgx.Tx) error {
		if err := lockRoster(ctx, tx); err != nil {
			return err
		}
		change, err := i.changeOwner(ctx, tx, client, to, actor)
		if result = change.invited; err != nil || change.nothing() {
			return err
		}
		return Audit(ctx, tx, actor, change.entry("client.owner", client))
	})
	return result, err
}

// ownerChange is what became of a client's owner.
type ownerChange struct {
	from, to Owner
	invited  Invited
}

// nothing tells that all is as before.
func (c ownerChange) nothing() bool { return c.from == c.to && c.invited.Queued == 0 }

// entry is the change as the audit trail tells it.
func (c ownerChange) entry(action string, client uuid.UUID) audit.Entry {
	before, after := audit.Fields{}, audit.Fields{"queued": c.invited.Queued}
	if c.from.Name != c.to.Name {
		before["owner_name"], after["owner_name"] = c.from.Name, c.to.Name
	}
	if c.from.Email != c.to.Email {
		before["owner_email"], after["owner_email"] = c.from.Email, c.to.Email
	}
	return audit.Entry{Action: action, Object: AuditObject(client), Before: before, After: after}
}

// changeOwner is ChangeOwner in tx, whose caller holds the roster and records the change.
func (i *Inviter) changeOwner(ctx context.Context, tx pgx.Tx, client uuid.UUID, to Owner, actor Actor) (ownerChange, error) {
	from, err := i.setOwner(ctx, tx, client, to, actor)
	if err != nil {
		return ownerChange{}, err
	}
	invited, err := i.invite(ctx, tx, "c.id = $3", []any{true, true, client}, actor)
	return ownerChange{from, to, invited}, err
}

// setOwner is changeOwner without a mail. It returns whom the client belonged to.
func (i *Inviter) setOwner(ctx context.Context, tx pgx.Tx, client uuid.UUID, to Owner, actor Actor) (from Owner, err error) {
	err = tx.QueryRow(ctx, `
		SELECT
			owner_name,
			owner_email
		FROM clients
		WHERE id = $1
		FOR UPDATE`, client).Scan(&from.Name, &from.Email)
	if errors.Is(err, pgx.ErrNoRows) {
		return Owner{}, fmt.Errorf("client %s: %w", client, ErrNotFound)
	}
	if err != nil {
		return Owner{}, fmt.Errorf("change the owner: %w", err)
	}
	changes := Detail{}
	if from.Name != to.Name {
		changes["owner_name"] = map[string]string{"from": from.Name, "to": to.Name}
	}
	if from.Email != to.Email {
		changes["owner_email"] = map[string]string{"from": from.Email, "to": to.Email}
	}
	if len(changes) == 0 {
		return from, nil
	}
	if !strings.EqualFold(from.Email, to.Email) {
		if err := i.startOver(ctx, tx, []uuid.UUID{client}, actor); err != nil {
			return Owner{}, err
		}
	}
	if err := writeOwner(ctx, tx, client, to); err != nil {
		return Owner{}, err
	}
	_, err = Advance(ctx, tx, Change{Client: client, Event: EventUpdated, Actor: actor, Detail: changes})
	return from, err
}

func writeOwner(ctx context.Context, tx pgx.Tx, client uuid.UUID, o Owner) error {
	_, err := tx.Exec(ctx, `
		UPDATE clients
		SET
			owner_name = $2,
			owner_email = $3,
			updated_at = now()
		WHERE id = $1`, client, o.Name, o.Email)
	if err != nil {
		return fmt.Errorf("change the owner: %w", err)
	}
	return reindex(ctx, tx, client)
}

// startOver lets clients whose owners get another address begin anew: what was sent went to somebody
// else, and so did what came back. An authorized client stays so.
func (i *Inviter) startOver(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, actor Actor) error {
	// This locks the clients, which comes before what hangs on them.
	if _, err := AdvanceAll(ctx, tx, clients, Change{Event: EventOwnerChanged, Actor: actor, To: StageImported}); err != nil {
		return err
	}
	if err := i.Linker.Revoke(ctx, tx, clients); err != nil {
		return err
	}
	if err := i.Mailer.Cancel(ctx, tx, clients); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		WITH settled AS (
			UPDATE referrals
			SET
				state = 'dismissed',
				decided_at = now(),
				decided_by = $2
			WHERE client_id = ANY ($1)
				AND state = 'open'
		)
		UPDATE clients
		SET
			opted_out = NULL,
			opted_out_at = NULL,
			updated_at = now()
		WHERE id = ANY ($1)
			AND opted_out IS NOT NULL`, clients, actor)
	if err != nil {
		return fmt.Errorf("forget what the owners before said: %w", err)
	}
	return nil
}
