package grant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// Token is an access token for the agency's app.
type Token struct {
	Access    provisioning.Secret
	ExpiresAt time.Time
	AccountID string
	Scopes    []string
}

var (
	// ErrNoGrant is returned for a client that has no active grant.
	ErrNoGrant = errors.New("the client is not authorized")
	// ErrDoubtful is returned while the provider refuses to refresh a grant and it is not known whether for good.
	ErrDoubtful = errors.New("the provider refuses to refresh the grant at the moment; it is tried again")
)

const (
	tokenMargin = 15 * time.Minute       // that a token given out still lives, if it lives long
	tokenRest   = time.Minute            // between two attempts, however often a token is wanted
	tokenWait   = 25 * time.Second       // for a turn at the provider, or a refresh that another process makes
	tokenLook   = 200 * time.Millisecond // between two looks whether it has ended
)

// Token returns an access token for a client that lives for a while yet, and refreshes the grant for it if the
// one in hand does not. It returns ErrNoGrant, ErrDoubtful or an error that matches
// provisioning.ErrProviderUnavailable.
func (k *Keeper) Token(ctx context.Context, client uuid.UUID) (Token, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	for tried := false; ; {
		h, err := k.inHand(ctx, client)
		switch {
		case err != nil && ctx.Err() == nil:
			return Token{}, err
		case err != nil:
			return Token{}, fmt.Errorf("%w: %w", provisioning.ErrProviderUnavailable, err)
		case h.Fresh || h.Usable && (tried || h.Resting):
			return k.openToken(h, client)
		case tried || h.Resting:
			return Token{}, k.whyStale(ctx, h.Grant)
		}
		tried, err = k.freshen(ctx, h)
		if err == nil {
			continue
		}
		if h.Usable {
			return k.openToken(h, client)
		}
		return Token{}, fmt.Errorf("%w: %w", provisioning.ErrProviderUnavailable, err)
	}
}

// freshen refreshes a grant, or waits a moment if somebody else does. Of all who want its token in this process, one
// waits for a turn at the provider, and as long as the last of them likes.
func (k *Keeper) freshen(ctx context.Context, h inHand) (tried bool, err error) {
	ended := k.wanted.DoChan(h.Grant.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenWait)
		defer cancel()
		// Somebody may have refreshed it since it was read.
		return nil, k.refresh(ctx, func(ctx context.Context) (*lease, error) {
			return k.lease(ctx, `g.id = $6 AND g.generation = $7`, h.Grant, h.Generation)
		})
	})
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case result := <-ended:
		err = result.Err
	}
	if !errors.Is(err, errHeld) {
		return true, err
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(tokenLook):
		return false, nil
	}
}

// inHand is the token that a client has.
type inHand struct {
	Grant      uuid.UUID
	Generation int
	Access     []byte
	ExpiresAt  time.Time
	AccountID  string
	Scopes     []string
	Fresh      bool // lives for a while yet
	Usable     bool // lives
	Resting    bool // it is not refreshed at the moment: it cannot be, or that failed a moment ago
}

func (k *Keeper) inHand(ctx context.Context, client uuid.UUID) (inHand, error) {
	rows, err := k.Store.DB.Query(ctx, `
		WITH clock AS (SELECT coalesce($3::timestamptz, clock_timestamp()) AS now)
		SELECT
			id,
			generation,
			access_token,
			access_expires_at,
			account_id,
			scopes,
			access_expires_at > clock.now + least($2::interval, (access_expires_at - coalesce(refreshed_at, created_at)) / 2),
			access_expires_at > clock.now,
			refresh_token IS NULL OR lease_id IS NULL AND failures + refusals > 0 AND refresh_at > clock.now AND (refusals > 0 OR $5 OR EXISTS (
				SELECT
				FROM refreshes
				WHERE grant_id = grants.id
					AND ended_at > clock.now - $4::interval
			))
		FROM grants, clock
		WHERE client_id = $1
			AND status = 'active'`, client, tokenMargin, k.now(), tokenRest, k.Trouble())
	if err != nil {
		return inHand{}, fmt.Errorf("read the token: %w", err)
	}
	h, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[inHand])
	if errors.Is(err, pgx.ErrNoRows) {
		return inHand{}, ErrNoGrant
	}
	if err != nil {
		return inHand{}, fmt.Errorf("read the token: %w", err)
	}
	return h, nil
}

func (k *Keeper) openToken(h inHand, client uuid.UUID) (Token, error) {
	access, err := k.Store.open(client, h.Grant, kindAccess, h.Generation, h.Access)
	return Token{Access: access, ExpiresAt: h.ExpiresAt, AccountID: h.AccountID, Scopes: h.Scopes}, err
}

// whyStale says why a refresh that was just made did not bring a token.
func (k *Keeper) whyStale(ctx context.Context, grant uuid.UUID) error {
	var outcome Outcome
	var detail string
	err := k.Store.DB.QueryRow(ctx, `
		SELECT
			coalesce(outcome, 'unavailable'),
			detail
		FROM refreshes
		WHERE grant_id = $1
		ORDER BY id DESC
		LIMIT 1`, grant).Scan(&outcome, &detail)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w any more: its token has run out, and the provider gave none to refresh it with; its owner has to connect again", ErrNoGrant)
	case err != nil:
		return fmt.Errorf("read how the refresh ended: %w", err)
	case outcome == Refused:
		return fmt.Errorf("%w: %s", ErrDoubtful, detail)
	}
	return fmt.Errorf("refresh the grant: %w: %s", provisioning.ErrProviderUnavailable, detail)
}
