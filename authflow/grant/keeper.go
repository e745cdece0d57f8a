package grant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/singleflight"

	"github.com/countersign/countersign/provisioning"
)

// Provider is what a Keeper asks of the provider. Package constantcontact implements it.
type Provider interface {
	// Refresh trades a refresh token for new tokens; Tokens.Refresh is empty if the old one stays good. It
	// returns a *provisioning.ProviderError, an error that matches provisioning.ErrProviderUnavailable, or one
	// that also matches provisioning.ErrOutcomeUnknown: the refresh token may be spent. It asks
	// provisioning.LastLook before it sends, and returns its error.
	Refresh(ctx context.Context, refresh provisioning.Secret) (provisioning.Tokens, error)
	// Account asks which account a token opens.
	Account(ctx context.Context, access provisioning.Secret) (provisioning.Account, error)
}

// Turns says when a refresh may be sent. budget.Share implements it.
type Turns interface {
	// Take waits for a turn. The caller says when the call is over, and whether it was sent.
	Take(ctx context.Context) (done func(sent bool), err error)
}

// Reconnecter asks an owner to connect again. *provisioning.Inviter implements it.
type Reconnecter interface {
	// Reconnect records the change that ends a client's authorization and has its owner asked to connect
	// again, in tx's transaction.
	Reconnect(ctx context.Context, tx pgx.Tx, ch provisioning.Change) error
}

// Keeper keeps grants alive. Any number of them work on one database.
type Keeper struct {
	Store       *Store
	Provider    Provider
	Turns       Turns // a refresh takes one before it leases a grant; nil: there is always one
	Reconnecter Reconnecter
	Log         *slog.Logger
	Count       func(Outcome) // is told how every attempt ended; may be nil

	// Lease is how long a grant is left to a Keeper that has fallen silent; 10 seconds if zero.
	Lease time.Duration
	// Now puts another clock in the place of the database's, which rules so that replicas need not agree on the time.
	Now func() time.Time

	missed atomic.Int32       // attempts in a row that did not bring tokens
	wanted singleflight.Group // by grant: the refreshes that Token makes
	reach  reach
}

// now is nil where the database's clock rules.
func (k *Keeper) now() *time.Time {
	if k.Now == nil {
		return nil
	}
	return new(k.Now())
}

const (
	look = 2 * time.Second  // between two looks for work, while there is none
	rest = 30 * time.Second // between two attempts while none succeeds
)

// Run refreshes what is due until ctx ends, and then finishes what it has begun. It returns nil: trouble is
// logged, and overcome by trying again.
func (k *Keeper) Run(ctx context.Context) error {
	if err := k.adopt(ctx); err != nil && ctx.Err() == nil {
		k.Log.ErrorContext(ctx, "it is not known which grants are this app's", "err", err)
	}
	for ctx.Err() == nil {
		pause := time.Duration(0)
		worked, err := k.Step(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errNoTurn): // The console tells of it.
			pause = rest
		case err != nil:
			k.Log.ErrorContext(ctx, "grants cannot be refreshed; trying again", "err", err)
			pause = rest
		case !worked:
			pause = look
		case k.Trouble():
			pause = rest
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// adopt takes the grants of before there was an app's name on them for this app's, and tells of those that are
// another's.
func (k *Keeper) adopt(ctx context.Context) error {
	if _, err := k.Store.DB.Exec(ctx, `
		UPDATE grants
		SET app = $1
		WHERE app = ''
			AND refresh_at IS NOT NULL
			AND lease_id IS NULL`, k.Store.App); err != nil {
		return fmt.Errorf("name the app of a grant: %w", err)
	}
	var others bool
	err := k.Store.DB.QueryRow(ctx, `
		SELECT
			EXISTS (SELECT FROM grants WHERE app < $1 AND refresh_at IS NOT NULL AND lease_id IS NULL)
			OR EXISTS (SELECT FROM grants WHERE app > $1 AND refresh_at IS NOT NULL AND lease_id IS NULL)`, k.Store.App).Scan(&others)
	if err != nil {
		return fmt.Errorf("look for grants of other apps: %w", err)
	}
	if others {
		k.Log.WarnContext(ctx, "there are grants that were made with another app at the provider: they are kept and not refreshed",
			"cure", "set COUNTERSIGN_OAUTH_CLIENT_ID to that app again, or have their owners connect anew")
	}
	return nil
}

// Step refreshes one grant if one is due, and tells whether it did.
func (k *Keeper) Step(ctx context.Context) (worked bool, err error) {
	found, err := k.work(ctx)
	if err != nil || !found {
		return false, err
	}
	err = k.refresh(ctx, k.next)
	if errors.Is(err, errHeld) {
		return false, nil // Others were faster.
	}
	return err == nil, err
}

// errNoTurn is returned by refresh if nothing was begun, as the provider takes no more for now.
var errNoTurn = errors.New("there is no turn at the provider")

// refresh waits for a turn at the provider, leases the grant that find finds then, asks for new tokens and stores
// what comes of it. It returns errHeld if there was none, and errNoTurn. While it waits it has nothing and
// ends with ctx; an attempt that has begun is finished even if ctx ends: its answer may be a token that comes
// once. A lost answer has the same refresh token tried once more at once, while a provider that forgives that
// still does.
func (k *Keeper) refresh(ctx context.Context, find func(context.Context) (*lease, error)) error {
	done, err := k.turn(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoTurn, err)
	}
	ctx = context.WithoutCancel(ctx)
	l, err := find(ctx)
	if err != nil {
		done(false)
		return err
	}
	stop := k.hold(ctx, l)
	defer stop()
	token, err := k.Store.open(l.Client, l.Grant, kindRefresh, l.Generation, l.Refresh)
	if err != nil {
		done(false)
		k.count(Unavailable)
		k.Log.ErrorContext(ctx, "a grant cannot be refreshed", "err", err)
		return k.postpone(ctx, l, Unavailable, err)
	}
	tokens, outcome, answer := k.ask(ctx, l, token, done)
	if outcome == Lost {
		k.count(Lost)
		if done, err = k.turn(ctx); err != nil {
			return k.postpone(ctx, l, Lost, answer)
		}
		if err := k.repeat(ctx, l, clip(answer.Error())); err != nil {
			done(false)
			if errors.Is(err, errHeld) {
				return nil // Whoever has it now tries the token again.
			}
			return err
		}
		tokens, outcome, answer = k.ask(ctx, l, token, done)
	}
	outcome, err = k.settle(ctx, l, outcome, token, tokens, answer)
	k.count(outcome)
	return err
}

func (k *Keeper) turn(ctx context.Context) (done func(sent bool), err error) {
	if k.Turns == nil {
		return func(bool) {}, context.Cause(ctx)
	}
	return k.Turns.Take(ctx)
}

// ask makes one attempt in its turn.
func (k *Keeper) ask(ctx context.Context, l *lease, token provisioning.Secret, done func(sent bool)) (provisioning.Tokens, Outcome, error) {
	defer done(true)
	tokens, err := k.Provider.Refresh(provisioning.WithLastLook(ctx, l.inTime), token)
	if errors.Is(err, errHeld) {
		return provisioning.Tokens{}, Superseded, err
	}
	return tokens, classify(err), err
}

// settle stores how an attempt ended, and returns what that was in the end.
func (k *Keeper) settle(
	ctx context.Context, l *lease, o Outcome, sent provisioning.Secret, t provisioning.Tokens, answer error,
) (Outcome, error) {
	switch o {
	case Refreshed:
		if t.Refresh == "" {
			t.Refresh = sent
		}
		return k.store(ctx, l, t)
	case Refused:
		return k.refused(ctx, l, answer)
	case Misconfigured:
		return o, errors.Join(k.postpone(ctx, l, o, answer), k.appRefused(ctx, answer))
	case Unavailable, Lost, Superseded:
	}
	return o, k.postpone(ctx, l, o, answer)
}

const (
	storeFor  = 10 * time.Minute       // that new tokens are kept in memory while the database cannot take them
	storeLook = 100 * time.Millisecond // between two attempts to store them: another Keeper that finds the lease overdue would try the spent token
)

// storeTry is how long one attempt to store tokens may take.
func (k *Keeper) storeTry() time.Duration { return k.leaseTime() / 5 }

// store keeps new tokens if those that they came of are still the current ones. The lease need not be ours
// any more: tokens that came late are as good, and nobody has newer ones. They come once: should the database be
// out of reach, they are kept in memory until it is back.
func (k *Keeper) store(ctx context.Context, l *lease, t provisioning.Tokens) (Outcome, error) {
	access, refresh := k.Store.seal(l.Client, l.Grant, l.Generation+1, t)
	began := time.Now()
	for attempt := 1; ; attempt++ {
		outcome, err := k.put(ctx, l, t, access, refresh)
		switch {
		case err == nil && outcome == Refreshed:
			k.tell(ctx, l, t)
			return outcome, k.healed(ctx)
		case err == nil:
			return outcome, nil
		case time.Since(began) >= storeFor, refusesForGood(err):
			return Lost, fmt.Errorf("the new tokens of client %s are given up, and its owner will have to connect again: %w", l.Client, err)
		case attempt == 1:
			k.Log.ErrorContext(ctx, "new tokens cannot be stored; they are kept in memory until they can: do not stop this process",
				"client", l.Client, "err", err)
		}
		select {
		case <-ctx.Done():
			return Lost, ctx.Err()
		case <-time.After(storeLook):
		}
	}
}

// refusesForGood tells whether the database has answered that it will not take this, now or later.
func refusesForGood(err error) bool {
	_, answered := errors.AsType[*pgconn.PgError](err)
	return answered && !provisioning.Passing(err) && !provisioning.Collided(err)
}

// put stores the tokens, which are sealed for the next generation. It waits for no client's row, which an import may
// hold. Should somebody else have begun to try the same refresh token, the provider may have ended the grant
// for that, or these tokens live on only in its grace: they are renewed before all that is due.
func (k *Keeper) put(ctx context.Context, l *lease, t provisioning.Tokens, access, refresh []byte) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, k.storeTry())
	defer cancel()
	var stored bool
	err := k.Store.DB.QueryRow(ctx, `
		WITH clock AS (SELECT coalesce($7::timestamptz, clock_timestamp()) AS now),
		stored AS (
			UPDATE grants
			SET
				generation = generation + 1,
				access_token = $3,
				access_expires_at = $4,
				refresh_token = $5,
				subject = coalesce(nullif($6, ''), subject),
				refreshed_at = clock.now,
				refresh_at = clock.now + CASE WHEN lease_id = $9 THEN $8::interval ELSE - $8::interval END,
				lease_id = NULL,
				leased_until = NULL,
				failures = 0,
				refused_at = NULL,
				refusals = 0
			FROM clock
			WHERE id = $1
				AND generation = $2
				AND status = 'active'
			RETURNING grants.id
		),
		noted AS (
			-- Whoever has taken the lease over meanwhile tries in vain, and may be dead.
			UPDATE refreshes r
			SET
				outcome = CASE WHEN r.id = $9 THEN 'refreshed' ELSE 'superseded' END,
				ended_at = clock.now
			FROM stored, clock
			WHERE r.grant_id = stored.id
				AND (r.id = $9 OR r.outcome IS NULL)
		)
		SELECT EXISTS (SELECT FROM stored)`,
		l.Grant, l.Generation, access, t.ExpiresAt, refresh, t.Subject, k.now(), idle(), l.ID).Scan(&stored)
	switch {
	case err != nil:
		return Lost, fmt.Errorf("store the refreshed grant: %w", err)
	case !stored:
		return k.superseded(ctx, l)
	}
	return Refreshed, nil
}

// superseded notes that the tokens came too late, unless it is these that are stored: the answer to the commit was lost.
func (k *Keeper) superseded(ctx context.Context, l *lease) (Outcome, error) {
	var stored bool
	err := k.Store.DB.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT
			FROM refreshes
			WHERE id = $1
				AND outcome = 'refreshed'
		)`, l.ID).Scan(&stored)
	switch {
	case err != nil:
		return Lost, fmt.Errorf("store the refreshed grant: %w", err)
	case stored:
		return Refreshed, nil
	}
	return Superseded, k.note(ctx, k.Store.DB, l, Superseded, "")
}

// tell writes into the client's history what is new: that the grant is proven, or that its scopes changed. What it
// could not tell because the client's row was held, Sweep or the next refresh tells.
func (k *Keeper) tell(ctx context.Context, l *lease, t provisioning.Tokens) {
	changed := t.Scopes != nil && !sameSet(t.Scopes, l.Scopes)
	if l.ProvenAt != nil && !changed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, k.storeTry())
	defer cancel()
	err := pgx.BeginFunc(ctx, k.Store.DB, func(tx pgx.Tx) error {
		change := provisioning.Change{Client: l.Client, Actor: provisioning.ActorSystem}
		if l.ProvenAt == nil {
			change.Event = provisioning.EventProven
			if _, err := provisioning.Advance(ctx, tx, change); err != nil {
				return gone(err)
			}
		}
		if changed {
			change.Event = provisioning.EventScopesChanged
			change.Detail = provisioning.Detail{"from": l.Scopes, "to": t.Scopes}
			if _, err := provisioning.Advance(ctx, tx, change); err != nil {
				return gone(err)
			}
		}
		_, err := tx.Exec(ctx, `
			UPDATE grants
			SET
				proven_at = coalesce(proven_at, refreshed_at),
				scopes = coalesce($2, scopes)
			WHERE id = $1
				AND status = 'active'`, l.Grant, t.Scopes)
		return err
	})
	if err != nil {
		k.Log.WarnContext(ctx, "the history will tell of a refreshed grant later", "client", l.Client, "err", err)
	}
}

// proveLate tells of grants that were refreshed for the first time while their clients' rows were held.
func (k *Keeper) proveLate(ctx context.Context) error {
	rows, err := k.Store.DB.Query(ctx, `
		SELECT
			id,
			client_id,
			scopes
		FROM grants
		WHERE refreshed_at IS NOT NULL
			AND proven_at IS NULL
			AND status = 'active'
		LIMIT $1`, sweepBatch)
	if err != nil {
		return fmt.Errorf("find grants that are proven: %w", err)
	}
	type proven struct {
		Grant, Client uuid.UUID
		Scopes        []string
	}
	late, err := pgx.CollectRows(rows, pgx.RowToStructByPos[proven])
	if err != nil {
		return fmt.Errorf("find grants that are proven: %w", err)
	}
	for _, p := range late {
		k.tell(ctx, &lease{Grant: p.Grant, Client: p.Client, Scopes: p.Scopes}, provisioning.Tokens{})
	}
	return nil
}

// gone takes the deletion of a client for no error: its grant went with it.
func gone(err error) error {
	if errors.Is(err, provisioning.ErrNotFound) {
		return nil
	}
	return err
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// postpone gives the grant back after an attempt that says nothing about it, if it is still ours.
func (k *Keeper) postpone(ctx context.Context, l *lease, o Outcome, answer error) error {
	_, err := k.Store.DB.Exec(ctx, `
		WITH noted AS (
			UPDATE refreshes
			SET
				outcome = $5,
				ended_at = coalesce($3::timestamptz, clock_timestamp()),
				detail = $6
			WHERE id = $2
				AND outcome IS NULL
		)
		UPDATE grants
		SET
			failures = failures + 1,
			refresh_at = coalesce($3::timestamptz, clock_timestamp()) + $4::interval,
			lease_id = NULL,
			leased_until = NULL
		WHERE id = $1
			AND lease_id = $2`, l.Grant, l.ID, k.now(), again(l.Failures+1), o, clip(answer.Error()))
	if err != nil {
		return fmt.Errorf("give back a grant: %w", err)
	}
	return nil
}

// note ends the attempt's row.
func (k *Keeper) note(ctx context.Context, db provisioning.DB, l *lease, o Outcome, detail string) error {
	_, err := db.Exec(ctx, `
		UPDATE refreshes
		SET
			outcome = $2,
			ended_at = coalesce($4::timestamptz, clock_timestamp()),
			detail = $3
		WHERE id = $1`, l.ID, o, detail, k.now())
	if err != nil {
		return fmt.Errorf("note how a refresh ended: %w", err)
	}
	return nil
}

func (k *Keeper) count(o Outcome) {
	if o == Refreshed {
		k.missed.Store(0)
	} else {
		k.missed.Add(1)
	}
	if k.Count != nil {
		k.Count(o)
	}
}

// clip bounds what the provider said.
func clip(s string) string {
	const most = 500
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

const sweepBatch = 1000

// Sweep forgets attempts of more than 30 days ago, tells what could not be told, and looks whether an outage is over that nobody has asked
// about since. Any number of processes may call it at once.
func (k *Keeper) Sweep(ctx context.Context) error {
	if _, err := k.frozen(ctx); err != nil {
		return err
	}
	if err := k.proveLate(ctx); err != nil {
		return err
	}
	for {
		tag, err := k.Store.DB.Exec(ctx, `
			DELETE FROM refreshes
			WHERE id = ANY (ARRAY(
				SELECT id
				FROM refreshes
				WHERE coalesce(ended_at, began_at) < (SELECT coalesce($1::timestamptz, clock_timestamp()) - interval '30 days')
				ORDER BY coalesce(ended_at, began_at)
				LIMIT $2
				FOR UPDATE SKIP LOCKED
			))`, k.now(), sweepBatch)
		if err != nil {
			return fmt.Errorf("forget old refreshes: %w", err)
		}
		if tag.RowsAffected() < sweepBatch {
			return nil
		}
	}
}
