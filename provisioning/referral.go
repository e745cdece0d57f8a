package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
)

// Referral is whom the owner of a client names as the right person. Nobody is mailed by it: an operator
// accepts or dismisses it. A client has at most one that is open; a newer one takes its place under another
// id, so that nobody decides on what they have not seen.
type Referral struct {
	ID         uuid.UUID
	ClientID   uuid.UUID
	ClientName string
	At         time.Time
	Owner      Owner  // who it should be
	Note       string // what else the owner of now wrote
}

// Refer keeps whom the owner of a client names. Saying the same again changes nothing. It returns a
// *FieldError of the field name, email or note.
func Refer(ctx context.Context, db DB, client uuid.UUID, to Owner, note string) error {
	to, err := ParseOwner(to.Name, to.Email)
	if err != nil {
		return err
	}
	if note, err = parseLine("note", note, maxNote); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("refer: %w", err)
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			WITH client AS (
				SELECT id
				FROM clients
				WHERE id = $2
				FOR NO KEY UPDATE
			)
			INSERT INTO referrals AS r (id, client_id, name, email, note)
			SELECT
				$1,
				id,
				$3,
				$4,
				$5
			FROM client
			ON CONFLICT (client_id) WHERE state = 'open' DO UPDATE
			SET
				id = excluded.id,
				at = excluded.at,
				name = excluded.name,
				email = excluded.email,
				note = excluded.note
			WHERE (r.name, r.email, r.note) IS DISTINCT FROM (excluded.name, excluded.email, excluded.note)`,
			id, client, to.Name, to.Email, note)
		if err != nil {
			return fmt.Errorf("refer: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		_, err = Advance(ctx, tx, Change{
			Client: client, Event: EventReferred, Actor: ActorOwner,
			Detail: Detail{"name": to.Name, "email": to.Email, "note": note},
		})
		return err
	})
}

// AcceptReferral makes the person whom an owner names the owner, and has them invited (see ChangeOwner). It returns
// ErrNotFound if the referral is not open any more.
func (i *Inviter) AcceptReferral(ctx context.Context, id uuid.UUID, actor Actor) (result Invited, err error) {
	err = pgx.BeginFunc(ctx, i.DB, func(tx pgx.Tx) error {
		if err := lockRoster(ctx, tx); err != nil {
			return err
		}
		r, err := settle(ctx, tx, id, "accepted", EventReferralTaken, actor)
		if err != nil {
			return err
		}
		change, err := i.changeOwner(ctx, tx, r.ClientID, r.Owner, actor)
		if result = change.invited; err != nil {
			return err
		}
		return Audit(ctx, tx, actor, change.entry("referral.accept", r.ClientID))
	})
	return result, err
}

// DismissReferral leaves the owner as it is. It returns ErrNotFound if the referral is not open any more.
func DismissReferral(ctx context.Context, db DB, id uuid.UUID, actor Actor) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		r, err := settle(ctx, tx, id, "dismissed", EventReferralLeft, actor)
		if err != nil {
			return err
		}
		return Audit(ctx, tx, actor, audit.Entry{
			Action: "referral.dismiss", Object: AuditObject(r.ClientID),
			Before: audit.Fields{"owner_name": r.Owner.Name, "owner_email": r.Owner.Email},
		})
	})
}

// settle ends an open referral.
func settle(ctx context.Context, tx pgx.Tx, id uuid.UUID, state string, event EventKind, actor Actor) (Referral, error) {
	rows, err := tx.Query(ctx, `
		WITH client AS (
			SELECT
				id,
				name
			FROM clients
			WHERE id = (SELECT client_id FROM referrals WHERE id = $1)
			FOR NO KEY UPDATE
		)
		UPDATE referrals r
		SET
			state = $2,
			decided_at = now(),
			decided_by = $3
		FROM client c
		WHERE r.id = $1
			AND r.client_id = c.id
			AND r.state = 'open'
		RETURNING `+referralColumns, id, state, actor)
	if err != nil {
		return Referral{}, fmt.Errorf("settle referral %s: %w", id, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanReferral)
	if errors.Is(err, pgx.ErrNoRows) {
		return Referral{}, fmt.Errorf("no open referral %s: it is decided, or the owner has named somebody else since: %w", id, ErrNotFound)
	}
	if err != nil {
		return Referral{}, fmt.Errorf("settle referral %s: %w", id, err)
	}
	_, err = Advance(ctx, tx, Change{
		Client: r.ClientID, Event: event, Actor: actor, Detail: Detail{"name": r.Owner.Name, "email": r.Owner.Email},
	})
	return r, err
}

const referralColumns = `
	r.id,
	c.id,
	c.name,
	r.at,
	r.name,
	r.email,
	r.note`

func scanReferral(row pgx.CollectableRow) (r Referral, err error) {
	return r, row.Scan(&r.ID, &r.ClientID, &r.ClientName, &r.At, &r.Owner.Name, &r.Owner.Email, &r.Note)
}

// OpenReferral returns whom a client's owner names. It returns ErrNotFound if that is nobody, or decided.
func (s *Store) OpenReferral(ctx context.Context, client uuid.UUID) (Referral, error) {
	found, err := s.openReferrals(ctx, "r.client_id = $1", client, 1)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("open referral of client %s: %w", client, ErrNotFound)
	}
	if err != nil {
		return Referral{}, err
	}
	return found[0], nil
}

// OpenReferrals returns a page of the referrals that wait for an operator, in the order of the roster, and
// the cursor of the next page, empty if there is none. A limit of zero is 50. It returns ErrBadCursor.
func (s *Store) OpenReferrals(ctx context.Context, cursor string, limit int) (page []Referral, next string, err error) {
	if limit = min(limit, 500); limit <= 0 {
		limit = 50
	}
	after := uuid.Nil
	if cursor != "" {
		if after, err = uuid.Parse(cursor); err != nil {
			return nil, "", ErrBadCursor
		}
	}
	page, err = s.openReferrals(ctx, "r.client_id > $1", after, limit+1)
	if err != nil {
		return nil, "", err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ClientID.String()
	}
	return page, next, nil
}

func (s *Store) openReferrals(ctx context.Context, where string, client uuid.UUID, limit int) ([]Referral, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT `+referralColumns+`
		FROM referrals r
		JOIN clients c ON c.id = r.client_id
		WHERE r.state = 'open'
			AND `+where+`
		ORDER BY r.client_id
		LIMIT $2`, client, limit)
	if err != nil {
		return nil, fmt.Errorf("read referrals: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanReferral)
	if err != nil {
		return nil, fmt.Errorf("read referrals: %w", err)
	}
	return found, nil
}
