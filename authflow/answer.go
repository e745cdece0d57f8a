package authflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// RenewPause is how long an owner has to wait between two fresh links.
const RenewPause = 10 * time.Minute

// Decline records that the owner said no on the invitation page. The link keeps working: people
// change their minds. It returns ErrLinkUnknown, ErrLinkExpired or ErrLinkSpent.
func (f *Flow) Decline(ctx context.Context, token string) (Invitation, error) {
	return f.answer(ctx, token, provisioning.EventDeclined, provisioning.ReasonDeclined)
}

// Unsubscribe records that the owner wants no more mails. An expired link still does that (RFC 8058
// knows no expiry). A revoked one changes nothing: to the address that has it no mail goes any more,
// and it does not speak for the owner. It returns ErrLinkUnknown or ErrLinkSpent.
func (f *Flow) Unsubscribe(ctx context.Context, token string) (Invitation, error) {
	return f.answer(ctx, token, provisioning.EventUnsubscribed, provisioning.ReasonUnsubscribed)
}

func (f *Flow) answer(
	ctx context.Context, token string, event provisioning.EventKind, reason provisioning.Reason,
) (Invitation, error) {
	inv, err := f.Links.Find(ctx, token)
	late := errors.Is(err, ErrLinkExpired) && event == provisioning.EventUnsubscribed
	if err != nil && !late {
		return inv, err
	}
	if inv.RevokedAt != nil {
		return inv, nil
	}
	_, err = provisioning.Advance(ctx, f.DB, provisioning.Change{
		Client: inv.ClientID, Event: event, Actor: provisioning.ActorOwner,
		To: provisioning.StageStalled, Reason: reason,
	})
	return inv, err
}

// Renew mails a fresh link to the address on record, at most one in RenewPause. It tells nobody
// whether it did: the answer to a made-up token is the same.
func (f *Flow) Renew(ctx context.Context, token string) error {
	inv, err := f.Links.Find(ctx, token)
	switch {
	case errors.Is(err, ErrLinkUnknown), errors.Is(err, ErrLinkSpent):
		return nil
	case err != nil && !errors.Is(err, ErrLinkExpired):
		return err
	}
	tx, err := f.DB.Begin(ctx)
	if err != nil {
		return fmt.Errorf("renew the invitation: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	// The lock is our own and not the client's row: Invite locks the roster, which comes before rows.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('renew ' || $1, 0))`, inv.ClientID.String()); err != nil {
		return fmt.Errorf("renew the invitation: %w", err)
	}
	var recent bool
	err = tx.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM events
			WHERE client_id = $1
				AND kind = 'renewed'
				AND at > now() - make_interval(secs => $2)
		)`, inv.ClientID, RenewPause.Seconds()).Scan(&recent)
	if err != nil {
		return fmt.Errorf("renew the invitation: %w", err)
	}
	if recent {
		return nil
	}
	inviter := *f.Inviter
	inviter.DB = tx
	sel := provisioning.Selection{Clients: []string{inv.ClientID.String()}}
	if _, err := inviter.Invite(ctx, sel, provisioning.ActorOwner, false); err != nil {
		return err
	}
	if _, err := provisioning.Advance(ctx, tx, provisioning.Change{
		Client: inv.ClientID, Event: provisioning.EventRenewed, Actor: provisioning.ActorOwner,
	}); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("renew the invitation: %w", err)
	}
	return nil
}

// expireBatch is how many invitations Expire notes in one transaction.
const expireBatch = 500

// Expire notes the invitations that ran out: a client all of whose links have run out stands still
// until somebody sends a new one. Any number of processes may call it at once.
func (f *Flow) Expire(ctx context.Context) error {
	for {
		n, err := f.expireSome(ctx)
		if err != nil {
			return fmt.Errorf("expire invitations: %w", err)
		}
		if n < expireBatch {
			return nil
		}
	}
}

func (f *Flow) expireSome(ctx context.Context) (int, error) {
	tx, err := f.DB.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	// A client that another transaction is at work on is left to the next call: to wait here for one
	// that waits for us would end both.
	rows, err := tx.Query(ctx, `
		WITH due AS (
			SELECT i.id
			FROM invitations i
			JOIN clients c ON c.id = i.client_id
			WHERE i.expires_at <= $1
				AND i.spent_at IS NULL
				AND i.revoked_at IS NULL
				AND i.expired_at IS NULL
			ORDER BY i.expires_at
			LIMIT $2
			FOR UPDATE SKIP LOCKED
		)
		UPDATE invitations i
		SET expired_at = $1
		FROM due
		WHERE i.id = due.id
		RETURNING i.client_id`, f.Now(), expireBatch)
	if err != nil {
		return 0, err
	}
	clients, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, err
	}
	rows, err = tx.Query(ctx, `
		SELECT c.id
		FROM clients c
		WHERE c.id = ANY ($1)
			AND c.stage IN ('invited', 'started')
			AND NOT EXISTS (
				SELECT FROM invitations i
				WHERE i.client_id = c.id
					AND i.spent_at IS NULL
					AND i.revoked_at IS NULL
					AND i.expires_at > $2
			)`, clients, f.Now())
	if err != nil {
		return 0, err
	}
	waiting, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, err
	}
	if _, err := provisioning.AdvanceAll(ctx, tx, waiting, provisioning.Change{
		Event: provisioning.EventExpired, Actor: provisioning.ActorSystem,
		To: provisioning.StageStalled, Reason: provisioning.ReasonExpired,
	}); err != nil {
		return 0, err
	}
	return len(clients), tx.Commit(ctx)
}
