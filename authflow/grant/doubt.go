package grant

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning"
)

// A refresh token that the provider refuses need not be gone: the provider may be out of order, for hours, and for
// some grants only. Nothing that one request says ends an authorization, for that cannot be undone, while a grant
// that is gone loses nothing by waiting. The less there is to go by, the longer it takes:
//
//	an hour      a second refusal; the grant's own access token is refused too, while another grant's is taken
//	eight hours  a second refusal; another grant was refreshed since the first
//	a week       a third refusal
//
// While so many grants are refused that it looks like an outage, verdicts are frozen, and only the week counts.
// Refused grants are tried again meanwhile, and heal by themselves.
const (
	doubtRejected = time.Hour
	doubtWitness  = 8 * time.Hour
	doubtAlone    = 7 * 24 * time.Hour

	// A wave: in the last hour of answers at least so many grants were refused, and such a share of all.
	waveLeast = 5
	waveShare = 0.2
)

// refused notes that the provider refuses the refresh token, and believes it if there is more to it.
func (k *Keeper) refused(ctx context.Context, l *lease, answer error) (Outcome, error) {
	detail := clip(answer.Error())
	since, current, err := k.doubt(ctx, l)
	if err != nil {
		return Refused, err
	}
	if !current {
		return Superseded, k.note(ctx, k.Store.DB, l, Superseded, detail)
	}
	if err := k.note(ctx, k.Store.DB, l, Refused, detail); err != nil {
		return Refused, err
	}
	frozen, err := k.frozen(ctx)
	if err != nil {
		return Refused, err
	}
	why, err := k.evidence(ctx, l, since, frozen)
	if err != nil {
		return Refused, err
	}
	if why == "" {
		return Refused, k.keepDoubting(ctx, l, since, detail)
	}
	return Refused, k.lapse(ctx, l, since, why, detail)
}

// doubt reads the grant again before a refusal is believed: whoever stored newer tokens meanwhile has used up
// the one that was refused. It returns since when the present one is refused.
func (k *Keeper) doubt(ctx context.Context, l *lease) (since time.Time, current bool, err error) {
	err = k.Store.DB.QueryRow(ctx, `
		UPDATE grants
		SET
			refusals = refusals + 1,
			refused_at = coalesce(refused_at, $4::timestamptz, clock_timestamp())
		WHERE id = $1
			AND lease_id = $2
			AND generation = $3
		RETURNING refused_at, refusals`, l.Grant, l.ID, l.Generation, k.now()).Scan(&since, &l.Refusals)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("doubt a grant: %w", err)
	}
	return since, true, nil
}

// evidence returns in words why the refusal is to be believed, empty if it is not.
func (k *Keeper) evidence(ctx context.Context, l *lease, since time.Time, frozen bool) (string, error) {
	var age time.Duration
	var witness bool
	err := k.Store.DB.QueryRow(ctx, `
		SELECT
			coalesce($3::timestamptz, clock_timestamp()) - $1::timestamptz,
			coalesce((
				SELECT true
				FROM refreshes
				WHERE outcome = 'refreshed'
					AND ended_at > $1
					AND grant_id <> $2
				ORDER BY ended_at DESC
				LIMIT 1
			), false)`, since, l.Grant, k.now()).Scan(&age, &witness)
	switch {
	case err != nil:
		return "", fmt.Errorf("weigh a refusal: %w", err)
	case l.Refusals >= 3 && age >= doubtAlone:
		return "the provider has refused it for a week", nil
	case l.Refusals < 2 || age < doubtRejected || frozen:
		return "", nil
	case age >= doubtWitness && witness:
		return "the provider has refused it for hours, in which it refreshed another client's", nil
	}
	rejected, err := k.rejectedAlone(ctx, l.Grant)
	if err != nil || !rejected {
		return "", err
	}
	return "the provider refuses its access token as well, and takes another client's", nil
}

// rejectedAlone tells whether the provider's API refuses a grant's access token before its time, and takes another
// grant's, the one that was made or refreshed last: an API that takes nobody's says nothing about anybody's.
func (k *Keeper) rejectedAlone(ctx context.Context, id uuid.UUID) (bool, error) {
	own, err := k.accepts(ctx, id)
	if err != nil || own != rejected {
		return false, err
	}
	var control uuid.UUID
	err = k.Store.DB.QueryRow(ctx, `
		SELECT id
		FROM grants
		WHERE status = 'active'
			AND refused_at IS NULL
			AND id <> $1
		ORDER BY access_expires_at DESC
		LIMIT 1`, id).Scan(&control)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find another grant to compare with: %w", err)
	}
	other, err := k.accepts(ctx, control)
	return other == accepted, err
}

// opinion is what the provider's API says of an access token.
type opinion int

const (
	unknown  opinion = iota // there is none that has not expired, or no answer
	accepted                // it opens the account
	rejected                // 401
)

// accepts asks whether the provider's API takes a grant's access token.
func (k *Keeper) accepts(ctx context.Context, grant uuid.UUID) (opinion, error) {
	var client uuid.UUID
	var generation int
	var sealed []byte
	err := k.Store.DB.QueryRow(ctx, `
		SELECT
			client_id,
			generation,
			access_token
		FROM grants
		WHERE id = $1
			AND status = 'active'
			AND access_expires_at > coalesce($2::timestamptz, clock_timestamp()) + interval '1 minute'`, grant, k.now(),
	).Scan(&client, &generation, &sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return unknown, nil
	}
	if err != nil {
		return unknown, fmt.Errorf("read an access token: %w", err)
	}
	access, err := k.Store.open(client, grant, kindAccess, generation, sealed)
	if err != nil {
		return unknown, err
	}
	_, err = k.Provider.Account(ctx, access)
	if err == nil {
		return accepted, nil
	}
	if refusal, ok := errors.AsType[*provisioning.ProviderError](err); ok && refusal.Status == http.StatusUnauthorized {
		return rejected, nil
	}
	return unknown, nil
}

// keepDoubting gives the grant back to be tried again. The operator is told once.
func (k *Keeper) keepDoubting(ctx context.Context, l *lease, since time.Time, detail string) error {
	change := provisioning.Change{
		Client: l.Client,
		Event:  provisioning.EventRefreshDoubt,
		Actor:  provisioning.ActorSystem,
		Detail: provisioning.Detail{"error": detail, "since": since},
	}
	if err := k.hint(ctx, l, change.Detail); err != nil {
		return err
	}
	tx, err := k.Store.DB.Begin(ctx)
	if err != nil {
		return fmt.Errorf("doubt a grant: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	if l.Refusals == 1 {
		if _, err := provisioning.Advance(ctx, tx, change); err != nil {
			return gone(err)
		}
	}
	_, err = tx.Exec(ctx, `
		UPDATE grants
		SET
			refresh_at = coalesce($3::timestamptz, clock_timestamp()) + $4::interval,
			lease_id = NULL,
			leased_until = NULL
		WHERE id = $1
			AND lease_id = $2`, l.Grant, l.ID, k.now(), again(l.Refusals))
	if err != nil {
		return fmt.Errorf("doubt a grant: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("doubt a grant: %w", err)
	}
	return nil
}

// lapse ends the grant, shreds its tokens and has the owner asked to connect again.
func (k *Keeper) lapse(ctx context.Context, l *lease, since time.Time, why, detail string) error {
	change := provisioning.Change{
		Client: l.Client,
		Event:  provisioning.EventLapsed,
		Actor:  provisioning.ActorSystem,
		To:     provisioning.StageLapsed,
		Detail: provisioning.Detail{"error": detail, "evidence": why},
	}
	if err := k.hint(ctx, l, change.Detail); err != nil {
		return err
	}
	tx, err := k.Store.DB.Begin(ctx)
	if err != nil {
		return fmt.Errorf("end a grant: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	// An import may hold the roster for minutes: the verdict can wait for longer than this process can.
	if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '3s'`); err != nil {
		return fmt.Errorf("end a grant: %w", err)
	}
	if err := k.Reconnecter.Reconnect(ctx, tx, change); lockTimedOut(err) {
		return errors.Join(tx.Rollback(ctx), k.keepDoubting(ctx, l, since, detail))
	} else if err != nil {
		return gone(err)
	}
	tag, err := tx.Exec(ctx, `
		UPDATE grants
		SET
			status = 'lapsed',
			access_token = NULL,
			refresh_token = NULL,
			refresh_at = NULL,
			lease_id = NULL,
			leased_until = NULL,
			ended_at = coalesce($4::timestamptz, clock_timestamp())
		WHERE id = $1
			AND lease_id = $2
			AND generation = $3
			AND status = 'active'`, l.Grant, l.ID, l.Generation, k.now())
	if err != nil {
		return fmt.Errorf("end a grant: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil // Somebody else has it now, or the owner has consented again.
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("end a grant: %w", err)
	}
	return nil
}

func lockTimedOut(err error) bool {
	const lockNotAvailable = "55P03"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == lockNotAvailable
}

// hint says in words what the likely cause is and what helps, as far as that is known.
func (k *Keeper) hint(ctx context.Context, l *lease, detail provisioning.Detail) error {
	var elsewhere *string
	err := k.Store.DB.QueryRow(ctx, `
		SELECT (
			SELECT c.name
			FROM grants g
			JOIN clients c ON c.id = g.client_id
			WHERE g.account_id = $1
				AND g.status = 'quarantined'
			LIMIT 1
		)`, l.Account).Scan(&elsewhere)
	switch {
	case err != nil:
		return fmt.Errorf("look for the cause of a refusal: %w", err)
	case elsewhere != nil:
		detail["hint"] = fmt.Sprintf("the same account consented on the link of the client %q, which may have ended this grant: "+
			"move that grant from the quarantine to this client", *elsewhere)
	case l.ProvenAt == nil:
		detail["hint"] = "it worked once and could not be refreshed a single time: so it is with a grant that was made through a partner's login. " +
			"The owner, or the Account Manager user, has to sign in with a login of the account itself"
	}
	return nil
}
