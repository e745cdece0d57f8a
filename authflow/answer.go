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

// An owner waits RenewPause between two fresh links and gets RenewsADay of them within 24 hours: whoever
// has an old link can press, and every press is a mail to the owner on record.
const (
	RenewPause = 10 * time.Minute
	RenewsADay = 4
)

// Answered is an invitation after its owner has answered otherwise than by consent.
type Answered struct {
	Invitation

	// Undo names the opt-out for Flow.Undo. It is zero unless this very answer made it, by a link that works.
	Undo time.Time
}

// Decline records that the owner said no on the invitation page, and opts them out. The link keeps
// working: people change their minds. It returns ErrLinkUnknown, ErrLinkExpired or ErrLinkSpent.
func (f *Flow) Decline(ctx context.Context, token string) (Answered, error) {
	return f.answer(ctx, token, false, func(client uuid.UUID) error {
		return provisioning.OptOut(ctx, f.DB, client, provisioning.OptedOutDeclined, provisioning.ActorOwner, nil)
	})
}

// NotMe records that whoever has the link says that it is not for them, and opts their address out. The
// link keeps working. It returns the errors of Decline.
func (f *Flow) NotMe(ctx context.Context, token string) (Answered, error) {
	return f.answer(ctx, token, false, func(client uuid.UUID) error {
		return provisioning.NotMe(ctx, f.DB, client)
	})
}

// Unsubscribe records that the owner wants no more mails. A link that has expired or is spent still does
// that (RFC 8058 knows no expiry). A revoked one changes nothing: to the address that has it no mail goes
// any more, and it does not speak for the owner. It returns ErrLinkUnknown.
func (f *Flow) Unsubscribe(ctx context.Context, token string) (Answered, error) {
	return f.answer(ctx, token, true, func(client uuid.UUID) error {
		return provisioning.OptOut(ctx, f.DB, client, provisioning.OptedOutUnsubscribed, provisioning.ActorOwner, nil)
	})
}

// answer takes an answer by a link that works, or if late, by one that did.
func (f *Flow) answer(ctx context.Context, token string, late bool, take func(client uuid.UUID) error) (Answered, error) {
	inv, err := f.Links.Find(ctx, token)
	works := err == nil
	if late && (errors.Is(err, ErrLinkExpired) || errors.Is(err, ErrLinkSpent)) {
		err = nil
	}
	answered := Answered{Invitation: inv}
	if err != nil || inv.RevokedAt != nil {
		return answered, err
	}
	if err := take(inv.ClientID); err != nil {
		return answered, err
	}
	// Who was opted out before meant it: a robot that presses everything must not be offered the way back.
	if !works || inv.OptedOut != nil {
		return answered, nil
	}
	after, err := f.Links.Find(ctx, token)
	if err == nil && after.OptedOutAt != nil {
		answered.Undo = *after.OptedOutAt
	}
	return answered, err
}

// Undo takes back the opt-out that an answer has named, and no other. It returns the invitation as it is
// then, and the errors of Decline.
func (f *Flow) Undo(ctx context.Context, token string, made time.Time) (Invitation, error) {
	inv, err := f.Links.Find(ctx, token)
	if err != nil {
		return inv, err
	}
	if err := provisioning.UndoOptOut(ctx, f.DB, inv.ClientID, made); err != nil {
		return inv, err
	}
	return f.Links.Find(ctx, token)
}

// Refer keeps whom the owner names as the right person, for an operator to decide; nobody is mailed by
// it. It returns the errors of Decline and of provisioning.Refer.
func (f *Flow) Refer(ctx context.Context, token string, to provisioning.Owner, note string) (Invitation, error) {
	inv, err := f.Links.Find(ctx, token)
	if err != nil {
		return inv, err
	}
	return inv, provisioning.Refer(ctx, f.DB, inv.ClientID, to, note)
}

// Renew mails a fresh link to the address on record, as often as RenewPause and RenewsADay allow, also to
// an owner who opted out: now somebody asks. An address that bounced gets none. Nobody is told whether a
// mail goes out: the answer to a made-up token is the same.
func (f *Flow) Renew(ctx context.Context, token string) error {
	inv, err := f.Links.Find(ctx, token)
	switch {
	case errors.Is(err, ErrLinkUnknown), errors.Is(err, ErrLinkSpent):
		return nil
	case err != nil && !errors.Is(err, ErrLinkExpired):
		return err
	case inv.Reason != nil && *inv.Reason == provisioning.ReasonBounced:
		return nil
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
	var enough bool
	err = tx.QueryRow(ctx, `
		SELECT count(*) >= $3 OR coalesce(max(at) > now() - make_interval(secs => $2), false)
		FROM events
		WHERE client_id = $1
			AND kind = 'renewed'
			AND at > now() - interval '24 hours'`, inv.ClientID, RenewPause.Seconds(), RenewsADay).Scan(&enough)
	if err != nil {
		return fmt.Errorf("renew the invitation: %w", err)
	}
	if enough {
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
