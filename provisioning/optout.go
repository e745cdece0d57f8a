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

// OptedOut says that an owner wants no more mails, and how they said so. It stands beside the stage, because a
// press of Continue moves the stage, and a robot may have pressed. While it is set nothing is mailed but
// what somebody asks for after it: the owner a fresh link, or an operator who names the client.
//
// It goes with the address that it came from (see Inviter.ChangeOwner). A verified grant takes
// OptedOutDeclined back, since whoever consents has changed their mind, and leaves OptedOutUnsubscribed,
// which is about mails and not about the account.
type OptedOut string

const (
	// OptedOutDeclined: "no" or "not me" on our own pages. A "no" at the provider is none: it stalls the
	// client, and reminders with other words may follow.
	OptedOutDeclined OptedOut = "declined"
	// OptedOutUnsubscribed: the link in a mail's header or foot, or a complaint. Declining later does not
	// weaken it.
	OptedOutUnsubscribed OptedOut = "unsubscribed"
)

// EventOptedIn says that an opt-out was lifted, by an operator, or by the owner who had pressed by mistake.
const EventOptedIn EventKind = "opted_in"

// OptOut records that a client's owner wants no more mails, as an event of that name, and stalls the client
// for that reason if its stage allows it: an authorized one stays so. Repeating it is harmless, and
// stops what was asked for since. It returns ErrNotFound if the client is gone.
func OptOut(ctx context.Context, db DB, client uuid.UUID, kind OptedOut, actor Actor, detail Detail) error {
	event := EventDeclined
	if kind == OptedOutUnsubscribed {
		event = EventUnsubscribed
	}
	return optOut(ctx, db, kind, Change{Client: client, Event: event, Actor: actor, Detail: detail})
}

// NotMe records that whoever has the mail says that it is not for them. Their address is opted out as
// declined. It returns ErrNotFound if the client is gone.
func NotMe(ctx context.Context, db DB, client uuid.UUID) error {
	return optOut(ctx, db, OptedOutDeclined, Change{Client: client, Event: EventNotMe, Actor: ActorOwner})
}

func optOut(ctx context.Context, db DB, kind OptedOut, ch Change) error {
	ch.To, ch.Reason = StageStalled, Reason(kind)
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := Advance(ctx, tx, ch); err != nil {
			return err
		}
		// The clock and not the transaction's time: what was queued while this waited is older.
		_, err := tx.Exec(ctx, `
			UPDATE clients
			SET
				opted_out = CASE WHEN opted_out = 'unsubscribed' THEN opted_out ELSE $2 END,
				opted_out_at = clock_timestamp(),
				updated_at = now()
			WHERE id = $1`, ch.Client, kind)
		if err != nil {
			return fmt.Errorf("opt client %s out: %w", ch.Client, err)
		}
		return nil
	})
}

// OptIn lifts an opt-out, which an operator does knowingly: the owner has told them by other means. A client
// that it has stalled goes back to where it stood before. Without an opt-out nothing happens. It
// returns ErrNotFound if the client is gone.
func OptIn(ctx context.Context, db DB, client uuid.UUID, actor Actor) error {
	return optIn(ctx, db, client, nil, actor)
}

// UndoOptOut is OptIn by the owner who had just pressed by mistake. It lifts the opt-out that was made at
// that very time and no other, so that a robot that presses everything cannot lift what a person meant.
func UndoOptOut(ctx context.Context, db DB, client uuid.UUID, made time.Time) error {
	return optIn(ctx, db, client, &made, ActorOwner)
}

func optIn(ctx context.Context, db DB, client uuid.UUID, made *time.Time, actor Actor) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var lifted bool
		var said *OptedOut
		err := tx.QueryRow(ctx, `
			WITH before AS (
				SELECT
					id,
					opted_out,
					coalesce(opted_out_at = coalesce($2, opted_out_at), false) AS lifts
				FROM clients
				WHERE id = $1
				FOR NO KEY UPDATE
			),
			after AS (
				UPDATE clients c
				SET
					opted_out = NULL,
					opted_out_at = NULL,
					updated_at = now()
				FROM before b
				WHERE c.id = b.id
					AND b.lifts
			)
			SELECT
				lifts,
				opted_out
			FROM before`, client, made).Scan(&lifted, &said)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("client %s: %w", client, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("opt client %s in: %w", client, err)
		}
		if !lifted {
			return nil
		}
		ch, err := back(ctx, tx, client)
		if err != nil {
			return fmt.Errorf("opt client %s in: %w", client, err)
		}
		ch.Client, ch.Event, ch.Actor = client, EventOptedIn, actor
		if _, err := Advance(ctx, tx, ch); err != nil {
			return err
		}
		return Audit(ctx, tx, actor, audit.Entry{
			Action: "client.opt_in", Object: AuditObject(client), Before: audit.Fields{"opted_out": said}, After: audit.Fields{"opted_out": nil},
		})
	})
}

// back tells where a client stood before its owner's answer stalled it; nowhere if it did not.
func back(ctx context.Context, tx pgx.Tx, client uuid.UUID) (Change, error) {
	rows, err := tx.Query(ctx, `
		SELECT
			e.stage,
			coalesce(e.reason, '')
		FROM clients c
		JOIN events e ON e.client_id = c.id
		WHERE c.id = $1
			AND c.reason IN ('declined', 'unsubscribed')
			AND e.stage IS NOT NULL
			AND coalesce(e.reason, '') NOT IN ('declined', 'unsubscribed')
		ORDER BY e.id DESC
		LIMIT 1`, client)
	if err != nil {
		return Change{}, err
	}
	ch, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (ch Change, err error) {
		return ch, row.Scan(&ch.To, &ch.Reason)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Change{}, nil
	}
	return ch, err
}
