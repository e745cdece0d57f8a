// Package partner authorizes the clients of the route partner, whose accounts the agency manages as the provider's
// partner: the partner's own token acts for them, and nobody has to consent.
//
//	imported ──► asked inside the account ──► it is the expected one ──► authorized ── asked again, for ever
//	                      │                                                  │
//	                      ├── it is not managed, or not known: stalled/unmanaged
//	                      ├── another account answers: stalled/wrong_account ▼
//	                      └── no account id in the roster: stalled/no_account      refused twice, an hour apart: lapsed
//
// What the provider cannot answer says nothing. A client is asked for anew as soon as its route or its account id changes,
// and one that is refused now and then too: accounts become managed once their owners approve it.
//
// Whether the token is taken at all is package constantcontact's; how often it may ask, package budget's.
package partner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// Provider looks into accounts with the partner's token. *constantcontact.Partner implements it.
type Provider interface {
	// ManagedAccount asks for an account by acting inside it. It returns a *provisioning.ProviderError if the provider
	// refuses this account or tells of another one.
	ManagedAccount(ctx context.Context, id string) (provisioning.Account, error)
}

const (
	// leastPause is how long an account that opened is left alone at least, and refusedPause one that did not.
	leastPause   = 24 * time.Hour
	refusedPause = 24 * time.Hour
	// secondLook is when an authorized account that is refused is asked for once more, before it counts as lost.
	secondLook = time.Hour
	// share is the part of a day's calls, one in so many, that looking again may take.
	share = 4
	// lease is how long a client is left to a Checker that has fallen silent: longer than any call with its retries.
	lease = 10 * time.Minute
)

// ErrOtherRoute is matched when a client is not on the route partner.
var ErrOtherRoute = errors.New("the partner's token is not used for this client: its route is another")

// Checker asks which accounts the partner's token opens. Any number of them work on one database.
type Checker struct {
	DB       provisioning.DB
	Provider Provider
	PerDay   int // calls that the provider allows the partner; 0 sets no limit
	Now      func() time.Time
	Log      *slog.Logger
}

// candidate is a client whose account is to be asked for.
type candidate struct {
	ID       uuid.UUID
	Account  *string
	Stage    provisioning.Stage
	Refusals int
}

// Work asks for all accounts that are due, those first that were never asked for. It ends early if the provider does not
// take the partner's token at all, or has no calls left: the next Work goes on.
func (c *Checker) Work(ctx context.Context) error {
	for ctx.Err() == nil {
		next, err := c.take(ctx, `
			SELECT id
			FROM clients
			WHERE route = 'partner'
				AND NOT paused
				AND check_at <= $1
			ORDER BY check_at, id
			LIMIT 1
			FOR NO KEY UPDATE SKIP LOCKED`, c.Now())
		if err != nil || next == nil {
			return err
		}
		err = c.ask(ctx, *next, provisioning.ActorSystem)
		if errors.Is(err, provisioning.ErrProviderUnavailable) || ctx.Err() != nil {
			return nil //nolint:nilerr // The next Work goes on.
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Check asks for the account of one client now. It returns provisioning.ErrNotFound, ErrOtherRoute, or what kept the
// provider from answering. That it said no is no error: the client's stage tells.
func (c *Checker) Check(ctx context.Context, client uuid.UUID, actor provisioning.Actor) error {
	next, err := c.take(ctx, `SELECT id FROM clients WHERE id = $1 AND route = 'partner' FOR NO KEY UPDATE`, client)
	if err != nil {
		return err
	}
	if next == nil {
		return ErrOtherRoute
	}
	return c.ask(ctx, *next, actor)
}

// take leases the client that a query names, so that nobody else asks for it meanwhile; nil if it names none.
func (c *Checker) take(ctx context.Context, which string, arg any) (*candidate, error) {
	rows, err := c.DB.Query(ctx, `
		WITH next AS (`+which+`)
		UPDATE clients c
		SET check_at = $2
		FROM next
		WHERE c.id = next.id
		RETURNING c.id, c.account_id, c.stage, c.refusals`, arg, c.Now().Add(lease))
	if err != nil {
		return nil, fmt.Errorf("take the next account to ask for: %w", err)
	}
	next, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[candidate])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take the next account to ask for: %w", err)
	}
	return next, nil
}

// ask asks for a client's account and writes down what it means.
func (c *Checker) ask(ctx context.Context, next candidate, actor provisioning.Actor) error {
	if next.Account == nil {
		return c.note(ctx, next, verdict{
			event: provisioning.EventRefused, to: provisioning.StageStalled, reason: provisioning.ReasonNoAccount, pause: refusedPause,
			why: "the roster does not say which account it is",
		}, actor)
	}
	account, err := c.Provider.ManagedAccount(ctx, *next.Account)
	if err == nil {
		return c.note(ctx, next, verdict{event: provisioning.EventAuthorized, to: provisioning.StageAuthorized, organization: account.Organization}, actor)
	}
	refused, ok := errors.AsType[*provisioning.ProviderError](err)
	switch {
	case !ok || errors.Is(err, provisioning.ErrProviderUnavailable):
		return err
	case refused.Code == "another_account":
		return c.note(ctx, next, verdict{
			event: provisioning.EventRefused, to: provisioning.StageStalled, reason: provisioning.ReasonWrongAccount, why: refused.Error(),
		}, actor)
	case refused.Status == http.StatusNotFound, refused.Status == http.StatusForbidden && refused.Code != "":
		return c.note(ctx, next, verdict{
			event: provisioning.EventRefused, to: provisioning.StageStalled, reason: provisioning.ReasonUnmanaged,
			why: "the account is none that you manage: its owner has to approve your request for access first (" + refused.Error() + ")",
		}, actor)
	}
	c.Log.ErrorContext(ctx, "the provider does not take the partner's token, so that no client of the route partner can be looked after", "err", err)
	return err
}

// verdict is what an answer means.
type verdict struct {
	event        provisioning.EventKind
	to           provisioning.Stage
	reason       provisioning.Reason
	why          string
	organization string
	pause        time.Duration
}

// note writes a verdict down. That an account opens, as it did before, is no news; that it does not, is believed when it is
// said twice.
func (c *Checker) note(ctx context.Context, next candidate, v verdict, actor provisioning.Actor) error {
	err := pgx.BeginFunc(ctx, c.DB, func(tx pgx.Tx) error {
		var stage provisioning.Stage
		var account *string
		var total int
		// Only a client that is still what was asked for is told of.
		err := tx.QueryRow(ctx, `
			SELECT
				stage,
				account_id,
				(SELECT coalesce(sum(n), 0) FROM tally WHERE metric = 'route' AND label LIKE 'partner/%')
			FROM clients
			WHERE id = $1
				AND route = 'partner'
				AND account_id IS NOT DISTINCT FROM $2
			FOR NO KEY UPDATE`, next.ID, next.Account).Scan(&stage, &account, &total)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		now := c.Now()
		refusals, pause := next.Refusals+1, refusedPause
		ch := provisioning.Change{Client: next.ID, Event: v.event, Actor: actor, To: v.to, Reason: v.reason, Detail: provisioning.Detail{"why": v.why}}
		switch {
		case v.to == provisioning.StageAuthorized:
			refusals, pause = 0, c.pause(total)
			ch.Detail = provisioning.Detail{"account_id": *account, "organization": v.organization, "evidence": "the partner's token opens the account"}
			if stage == provisioning.StageAuthorized {
				ch.Event = ""
			}
		case stage == provisioning.StageAuthorized && refusals < 2:
			pause, ch.To, ch.Reason = secondLook, "", ""
		case stage == provisioning.StageAuthorized:
			ch.Event, ch.To, ch.Reason = provisioning.EventLapsed, provisioning.StageLapsed, ""
		case stage == provisioning.StageLapsed && refusals > 2, stage == provisioning.StageStalled && refusals > 1:
			ch.Event = "" // It was told, and stays so.
		}
		if ch.Event != "" {
			if _, err := provisioning.Advance(ctx, tx, ch); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `
			UPDATE clients
			SET
				checked_at = $2,
				check_at = $3,
				refusals = $4
			WHERE id = $1`, next.ID, now, now.Add(pause), min(refusals, 1000))
		return err
	})
	if err != nil {
		return fmt.Errorf("note whether the partner's token opens the account: %w", err)
	}
	return nil
}

// pause is how long an account that opens is left alone, so that looking at all of them takes no more than its share of
// the calls.
func (c *Checker) pause(clients int) time.Duration {
	if c.PerDay == 0 {
		return leastPause
	}
	return max(leastPause, time.Duration(float64(24*time.Hour)*float64(clients)/float64(max(1, c.PerDay/share))))
}

// State is what is known of a client's account.
type State struct {
	CheckedAt *time.Time // when the provider last answered; nil if it never did
	NextAt    *time.Time // nil: as soon as can be
}

// State returns what is known of a client's account. It returns provisioning.ErrNotFound.
func (c *Checker) State(ctx context.Context, client uuid.UUID) (State, error) {
	rows, err := c.DB.Query(ctx, `SELECT checked_at, nullif(check_at, '-infinity') FROM clients WHERE id = $1`, client)
	if err != nil {
		return State{}, fmt.Errorf("read when the account was asked for: %w", err)
	}
	state, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[State])
	if errors.Is(err, pgx.ErrNoRows) {
		return State{}, fmt.Errorf("client %s: %w", client, provisioning.ErrNotFound)
	}
	if err != nil {
		return State{}, fmt.Errorf("read when the account was asked for: %w", err)
	}
	return state, nil
}
