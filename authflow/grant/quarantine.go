package grant

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

// Accept, Discard and Move return an error that matches ErrRefused, in words and with the cure, if the grant
// stays in quarantine, and ErrNotFound if it is not there any more: somebody has decided, or the owner has
// consented anew. An error has changed nothing.
var (
	ErrRefused = errors.New("the grant stays in quarantine")
	// ErrConflict: the account belongs to another client, or the client to another account.
	ErrConflict = fmt.Errorf("%w", ErrRefused)
	// ErrConnected: the client is connected with another account, which works.
	ErrConnected = fmt.Errorf("%w", ErrRefused)
	// ErrUnkeepable: nothing could keep the grant alive.
	ErrUnkeepable = fmt.Errorf("%w: it has no refresh token and would end within a day; discard it, and ask the owner to connect again", ErrRefused)
)

// Held is a grant in quarantine: what was found, beside the client whose link led to it and what was
// expected of it.
type Held struct {
	Grant

	ClientRef  *string
	ClientName string
	OwnerEmail string
	Expected   *string // account id; nil if the roster has none
	// The client that the account belongs to, and so the grant; nil if there is none.
	HolderID   *uuid.UUID
	HolderRef  *string
	HolderName *string
}

// Quarantine returns a page of the grants in quarantine, the longest there first, and the cursor of the
// next page, empty if there is none. A limit of zero is 50. It returns provisioning.ErrBadCursor.
func (s *Store) Quarantine(ctx context.Context, cursor string, limit int) (page []Held, next string, err error) {
	if limit = min(limit, 500); limit <= 0 {
		limit = 50
	}
	after := uuid.Nil
	if cursor != "" {
		if after, err = uuid.Parse(cursor); err != nil {
			return nil, "", provisioning.ErrBadCursor
		}
	}
	page, err = s.held(ctx, "g.id > $1", after, limit+1)
	if err != nil {
		return nil, "", err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID.String()
	}
	return page, next, nil
}

// Held returns one grant in quarantine. It returns ErrNotFound.
func (s *Store) Held(ctx context.Context, id uuid.UUID) (Held, error) {
	found, err := s.held(ctx, "g.id = $1", id, 1)
	if err != nil {
		return Held{}, err
	}
	if len(found) == 0 {
		return Held{}, notHeld(id)
	}
	return found[0], nil
}

// HeldOf returns a client's grants in quarantine.
func (s *Store) HeldOf(ctx context.Context, client uuid.UUID) ([]Held, error) {
	return s.held(ctx, "g.client_id = $1", client, 100)
}

func (s *Store) held(ctx context.Context, where string, id uuid.UUID, limit int) ([]Held, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT `+grantColumns+`,
			c.ref,
			c.name,
			c.owner_email,
			c.account_id,
			o.id,
			o.ref,
			o.name
		FROM grants g
		JOIN clients c ON c.id = g.client_id
		LEFT JOIN clients o ON o.account_id = g.account_id AND o.id <> c.id
		WHERE g.status = 'quarantined'
			AND `+where+`
		ORDER BY g.id
		LIMIT $2`, id, limit)
	if err != nil {
		return nil, fmt.Errorf("read the quarantine: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Held])
	if err != nil {
		return nil, fmt.Errorf("read the quarantine: %w", err)
	}
	return found, nil
}

func notHeld(id uuid.UUID) error {
	return fmt.Errorf("the grant %s is not in quarantine: somebody has decided on it, or the owner has consented anew: %w", id, ErrNotFound)
}

// Accept takes the account that consented for the client's: the client learns its account id and is
// authorized, and the owner is told. It returns the client.
func (s *Store) Accept(ctx context.Context, id uuid.UUID, actor provisioning.Actor) (client uuid.UUID, err error) {
	err = s.decide(ctx, id, nil, func(tx pgx.Tx, g confined) error {
		client = g.ClientID
		err := s.release(ctx, tx, g, client, provisioning.Change{Event: provisioning.EventAccepted, Actor: actor})
		if err != nil {
			return err
		}
		return provisioning.Audit(ctx, tx, actor, g.entry("quarantine.accept"))
	})
	return client, err
}

// Discard shreds the grant. The client stays where it is.
func (s *Store) Discard(ctx context.Context, id uuid.UUID, actor provisioning.Actor) error {
	return s.decide(ctx, id, nil, func(tx pgx.Tx, g confined) error {
		_, err := provisioning.Advance(ctx, tx, provisioning.Change{
			Client: g.ClientID, Event: provisioning.EventDiscarded, Actor: actor, Detail: g.detail(),
		})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE grants
			SET
				status = 'discarded',
				access_token = NULL,
				refresh_token = NULL,
				ended_at = $2
			WHERE id = $1`, id, s.Now())
		if err != nil {
			return fmt.Errorf("discard the grant: %w", err)
		}
		return provisioning.Audit(ctx, tx, actor, g.entry("quarantine.discard"))
	})
}

// Move gives the grant to the client whose account it is, or, as the operator knows, to one whose account id
// is not known: that client learns it, is authorized, and its owner is told. A grant of the same account that it
// has is replaced: the provider may have ended that one with this consent. The client whose link led to the
// grant stays where it is, until its owner tries again.
func (s *Store) Move(ctx context.Context, id, to uuid.UUID, actor provisioning.Actor) error {
	return s.decide(ctx, id, &to, func(tx pgx.Tx, g confined) error {
		if g.ClientID == to {
			return fmt.Errorf("%w: it came by this client's own link; accept it instead", ErrRefused)
		}
		detail := g.detail()
		detail["moved_to"] = g.names[to]
		_, err := provisioning.Advance(ctx, tx, provisioning.Change{
			Client: g.ClientID, Event: provisioning.EventMoved, Actor: actor, Detail: detail,
		})
		if err != nil {
			return err
		}
		err = s.release(ctx, tx, g, to, provisioning.Change{
			Event: provisioning.EventReceived, Actor: actor, Detail: provisioning.Detail{"moved_from": g.names[g.ClientID]},
		})
		if err != nil {
			return err
		}
		e := g.entry("quarantine.move")
		e.After = audit.Fields{"client": provisioning.AuditObject(to)}
		return provisioning.Audit(ctx, tx, actor, e)
	})
}

// confined is a grant in quarantine that nobody else can decide on now.
type confined struct {
	ID           uuid.UUID
	ClientID     uuid.UUID
	AccountID    string
	Organization string
	Evidence     string
	InvitationID *uuid.UUID
	Generation   int
	Access       []byte
	Refresh      []byte

	names map[uuid.UUID]string // of the clients that are locked with it
}

func (g confined) detail() provisioning.Detail {
	return provisioning.Detail{"account_id": g.AccountID, "organization": g.Organization, "evidence": g.Evidence}
}

// entry is a decision as the audit trail tells it.
func (g confined) entry(action string) audit.Entry {
	return audit.Entry{
		Action: action,
		Object: provisioning.AuditObject(g.ClientID),
		Before: audit.Fields{"grant": g.ID, "account_id": g.AccountID, "organization": g.Organization},
	}
}

// decide carries out a decision in a transaction of its own, which has locked the grant's client, the other
// one, if any, and the grant. It is tried again after a collision with a consent or an import that writes to the
// same rows: what collided is to be seen then.
func (s *Store) decide(ctx context.Context, id uuid.UUID, other *uuid.UUID, do func(pgx.Tx, confined) error) error {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
			g, err := confine(ctx, tx, id, other)
			if err != nil {
				return err
			}
			return do(tx, g)
		})
		if attempt == attempts || !provisioning.Collided(err) {
			return err
		}
	}
}

// confine locks clients before what hangs on them, and in the order of their ids, as everybody does.
func confine(ctx context.Context, tx pgx.Tx, id uuid.UUID, other *uuid.UUID) (confined, error) {
	rows, err := tx.Query(ctx, `
		SELECT
			id,
			name
		FROM clients
		WHERE id = ANY (ARRAY(SELECT client_id FROM grants WHERE id = $1) || $2::uuid)
		ORDER BY id
		FOR UPDATE`, id, other)
	if err != nil {
		return confined{}, fmt.Errorf("lock the clients of the grant: %w", err)
	}
	clients, err := pgx.CollectRows(rows, pgx.RowToStructByPos[provisioning.Namesake])
	if err != nil {
		return confined{}, fmt.Errorf("lock the clients of the grant: %w", err)
	}
	ids, names := make([]uuid.UUID, len(clients)), make(map[uuid.UUID]string, len(clients))
	for i, c := range clients {
		ids[i], names[c.ID] = c.ID, c.Name
	}
	rows, err = tx.Query(ctx, `
		SELECT
			id,
			client_id,
			account_id,
			organization,
			evidence,
			invitation_id,
			generation,
			access_token,
			refresh_token
		FROM grants
		WHERE id = $1
			AND client_id = ANY ($2)
			AND status = 'quarantined'
		FOR UPDATE`, id, ids)
	if err != nil {
		return confined{}, fmt.Errorf("lock the grant: %w", err)
	}
	g, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[confined])
	if errors.Is(err, pgx.ErrNoRows) {
		return confined{}, notHeld(id)
	}
	if err != nil {
		return confined{}, fmt.Errorf("lock the grant: %w", err)
	}
	g.names = names
	return g, nil
}

// release makes the grant the client's active one, whosever it was, with all that follows from a verified
// grant: the client is bound to the account, its links are spent, it is authorized by the change, its owner is told,
// and the grant is to be proven soon.
func (s *Store) release(ctx context.Context, tx pgx.Tx, g confined, client uuid.UUID, ch provisioning.Change) error {
	before, err := s.fits(ctx, tx, g, client)
	if err != nil {
		return err
	}
	tokens, err := s.openAll(g)
	if err != nil {
		return err
	}
	if err := s.replace(ctx, tx, client, StatusActive, g.AccountID); err != nil {
		return err
	}
	generation := g.Generation + 1
	access, refresh := s.seal(client, g.ID, generation, tokens)
	_, err = tx.Exec(ctx, `
		UPDATE grants
		SET
			client_id = $2,
			status = 'active',
			generation = $3,
			access_token = $4,
			refresh_token = $5,
			refresh_at = $6,
			ended_at = NULL
		WHERE id = $1`, g.ID, client, generation, access, refresh, proofDue(s.Now()))
	if err != nil {
		return fmt.Errorf("make the grant active: %w", err)
	}
	if err := s.bind(ctx, tx, client, g.AccountID); err != nil {
		return err
	}
	detail := g.detail()
	if before == nil || *before != g.AccountID {
		detail["account_id"] = map[string]any{"from": before, "to": g.AccountID}
	}
	maps.Copy(detail, ch.Detail)
	ch.Client, ch.To, ch.Detail = client, provisioning.StageAuthorized, detail
	if _, err := provisioning.Advance(ctx, tx, ch); err != nil {
		return err
	}
	return s.thank(ctx, tx, g, client)
}

// fits returns the account id that the client has now, unless the grant cannot become its active one.
func (s *Store) fits(ctx context.Context, tx pgx.Tx, g confined, client uuid.UUID) (expected *string, err error) {
	if g.Refresh == nil {
		return nil, ErrUnkeepable
	}
	var name string
	var connected *string // with another account than the grant's
	err = tx.QueryRow(ctx, `
		SELECT
			name,
			account_id,
			(
				SELECT account_id
				FROM grants
				WHERE client_id = clients.id
					AND status = 'active'
					AND account_id <> $2
			)
		FROM clients
		WHERE id = $1`, client, g.AccountID).Scan(&name, &expected, &connected)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("client %s: %w", client, provisioning.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the client of the grant: %w", err)
	}
	holder, err := holderOf(ctx, tx, g.AccountID, client)
	switch {
	case err != nil:
		return nil, err
	case holder != nil && holder.ID == g.ClientID:
		return nil, fmt.Errorf("%w: the account belongs to %q itself; accept it there", ErrConflict, holder.Name)
	case holder != nil:
		return nil, fmt.Errorf("%w: the account belongs to the client %q; move the grant there, or discard it", ErrConflict, holder.Name)
	case connected != nil:
		return nil, fmt.Errorf(
			"%w: %q is connected with the account %s; if that is the wrong one, correct account_id in the roster and have the owner connect again",
			ErrConnected, name, *connected)
	case client != g.ClientID && expected != nil && *expected != g.AccountID:
		return nil, fmt.Errorf("%w: the account of %q is %s; correct account_id in the roster first if that is wrong", ErrConflict, name, *expected)
	}
	return expected, nil
}

// openAll opens the grant's tokens where they are.
func (s *Store) openAll(g confined) (t provisioning.Tokens, err error) {
	if t.Access, err = s.open(g.ClientID, g.ID, kindAccess, g.Generation, g.Access); err != nil {
		return t, err
	}
	t.Refresh, err = s.open(g.ClientID, g.ID, kindRefresh, g.Generation, g.Refresh)
	return t, err
}

// thank tells the owner on record by the link that led to the consent or, where that is another client's, by the
// latest of their own. Whoever was never invited does not expect a mail.
func (s *Store) thank(ctx context.Context, tx pgx.Tx, g confined, client uuid.UUID) error {
	var invitation uuid.UUID
	err := tx.QueryRow(ctx, `
		SELECT id
		FROM invitations
		WHERE client_id = $1
		ORDER BY id IS NOT DISTINCT FROM $2 DESC, id DESC
		LIMIT 1`, client, g.InvitationID).Scan(&invitation)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the link to thank by: %w", err)
	}
	return s.Thanker.Thank(ctx, tx, client, invitation, g.Organization)
}
