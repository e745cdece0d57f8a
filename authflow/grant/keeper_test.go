package grant_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// The first refresh comes within the hour and proves the grant; the next ones come before day 90, for ever.
func TestKeptAlive(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	if n := o.work(t); n != 0 {
		t.Fatalf("%d refreshes at once", n)
	}
	o.clock.advance(time.Hour)
	if n := o.work(t); n != 1 {
		t.Fatalf("%d refreshes within the hour", n)
	}
	if g := o.grant(t, client); g.ProvenAt == nil || g.RefreshedAt == nil {
		t.Errorf("the grant is not proven: %+v", g)
	}
	for range 5 {
		o.clock.advance(70 * 24 * time.Hour)
		if n := o.work(t); n != 0 {
			t.Fatalf("%d refreshes after 70 days", n)
		}
		o.clock.advance(20 * 24 * time.Hour)
		if n := o.work(t); n != 1 {
			t.Fatalf("%d refreshes within 90 days", n)
		}
	}
	if g := o.grant(t, client); g.Status != grant.StatusActive {
		t.Errorf("the grant is %s", g.Status)
	}
	if diff := cmp.Diff([]provisioning.EventKind{provisioning.EventAuthorized, provisioning.EventProven}, o.events(t, client)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// Run finds by itself what is due, and ends with its context.
func TestRun(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.due(t)
	ctx, stop := context.WithCancel(t.Context())
	o.provider.after = func(<-chan struct{}, string) error {
		stop() // What has begun is finished: the answer brought a token that comes once.
		return nil
	}
	if err := o.Run(ctx); err != nil {
		t.Error(err)
	}
	if g := o.grant(t, client); g.RefreshedAt == nil {
		t.Error("the tokens of the last answer are not stored")
	}
}

// lost is what the provider's client returns when the answer does not come.
func lost() error {
	return fmt.Errorf("refresh the grant: %w: %w: EOF", provisioning.ErrProviderUnavailable, provisioning.ErrOutcomeUnknown)
}

// A lost answer has the same refresh token tried once more at once. A provider that forgives gives tokens.
func TestLostAnswerForgiven(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.provider.grace = 30 * time.Second
	var answers atomic.Int32
	o.provider.after = func(<-chan struct{}, string) error {
		if answers.Add(1) == 1 {
			return lost()
		}
		return nil
	}
	o.due(t)
	if n := o.work(t); n != 1 {
		t.Errorf("%d turns, want one", n)
	}
	if diff := cmp.Diff([]grant.Outcome{grant.Lost, grant.Refreshed}, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	o.opens(t, client)
}

// A provider that forgives nothing leaves no remedy: the grant is doubted, lapses when there is evidence, and its
// owner is asked to connect again.
func TestLostAnswerNotForgiven(t *testing.T) {
	t.Parallel()
	o := open(t)
	clients := o.authorized(t, 2)
	o.provider.after = func(_ <-chan struct{}, account string) error {
		if account == "acct-C1" {
			return lost()
		}
		return nil
	}
	o.due(t)
	o.work(t)
	if diff := cmp.Diff([]grant.Outcome{grant.Lost, grant.Refused}, o.outcomes(t, clients[0])); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	if g := o.grant(t, clients[0]); g.Status != grant.StatusActive || g.RefusedAt == nil {
		t.Errorf("after one refusal the grant is %+v", g)
	}
	o.clock.advance(2 * time.Hour)
	o.work(t)
	if diff := cmp.Diff(map[provisioning.Stage]int{provisioning.StageLapsed: 1, provisioning.StageAuthorized: 1}, o.stages(t)); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	want := []provisioning.EventKind{
		provisioning.EventAuthorized, provisioning.EventRefreshDoubt, provisioning.EventLapsed, provisioning.EventMailQueued,
	}
	if diff := cmp.Diff(want, o.events(t, clients[0])); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	letters := query[string](t, o, `SELECT kind FROM messages WHERE client_id = $1`, clients[0])
	if diff := cmp.Diff([]string{string(provisioning.LetterReconnect)}, letters); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// A second answer that is lost backs off, and a third comes later.
func TestLostTwice(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.provider.says(lost())
	o.due(t)
	if n := o.work(t); n != 1 {
		t.Errorf("%d turns, want one", n)
	}
	if diff := cmp.Diff([]grant.Outcome{grant.Lost, grant.Lost}, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	o.provider.says(nil)
	o.clock.advance(2 * time.Minute)
	o.work(t)
	o.opens(t, client)
}

// first lets something happen once, though it brings about more of the same.
type first struct{ done atomic.Bool }

func (f *first) do(what func()) {
	if !f.done.Swap(true) {
		what()
	}
}

// takenOver has the lease of the one grant run out, as when its holder is silent.
func (o *office) takenOver(t *testing.T) {
	t.Helper()
	o.exec(t, `UPDATE grants SET leased_until = clock_timestamp() WHERE lease_id IS NOT NULL`)
}

// Whoever is refused after another has stored newer tokens says nothing of the grant.
func TestLoserOfARace(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.due(t)
	winner := o.another(o.db)
	winner.Lease = time.Second
	var once first
	o.provider.before = func(<-chan struct{}, string) {
		once.do(func() {
			o.takenOver(t)
			takesOver(t, winner)
		})
	}
	o.provider.grace = -1
	o.work(t)
	g := o.grant(t, client)
	if g.Status != grant.StatusActive || g.RefusedAt != nil || g.RefreshedAt == nil {
		t.Errorf("the grant is %+v", g)
	}
	if diff := cmp.Diff([]grant.Outcome{grant.Superseded, grant.Refreshed}, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]provisioning.EventKind{provisioning.EventAuthorized, provisioning.EventProven}, o.events(t, client)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// takesOver has a Keeper refresh a grant whose lease has run out, which it does when it has reached the database for
// long enough.
func takesOver(t *testing.T, k *grant.Keeper) {
	t.Helper()
	for range 100 {
		if works(t, k) > 0 {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Error("nobody takes the lease over")
}

// Tokens that come after the lease was taken over are stored if nobody has newer ones, and dropped otherwise. Those
// that are stored are renewed at once: what the provider thinks of them is seen then.
func TestLateTokens(t *testing.T) {
	t.Parallel()
	for name, successor := range map[string]struct {
		meets error
		want  []grant.Outcome
	}{
		"the successor had no answer": {
			&provisioning.ProviderError{Op: "refresh the grant", Status: 503}, []grant.Outcome{grant.Refreshed, grant.Unavailable, grant.Refreshed},
		},
		"the successor was refused":  {invalidGrant(), []grant.Outcome{grant.Refreshed, grant.Refused, grant.Refreshed}},
		"the successor was forgiven": {nil, []grant.Outcome{grant.Superseded, grant.Refreshed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			client := o.authorized(t, 1)[0]
			o.due(t)
			o.provider.grace = time.Minute
			second := o.another(o.db)
			second.Lease = time.Second
			var once first
			o.provider.after = func(<-chan struct{}, string) error {
				once.do(func() {
					o.takenOver(t)
					o.provider.says(successor.meets)
					takesOver(t, second)
					o.provider.says(nil)
				})
				return nil
			}
			o.work(t)
			if g := o.grant(t, client); g.Status != grant.StatusActive || g.RefusedAt != nil || g.RefreshedAt == nil {
				t.Errorf("the grant is %+v", g)
			}
			if diff := cmp.Diff(successor.want, o.outcomes(t, client)); diff != "" {
				t.Errorf("attempts (-want +got):\n%s", diff)
			}
			if n := query[int](t, o, `SELECT generation FROM grants`)[0]; n != len(successor.want) {
				t.Errorf("generation %d", n)
			}
			o.opens(t, client)
		})
	}
}

// Many Keepers at once refresh every grant once, and never one at the same time.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	o := open(t)
	const grants, keepers = 12, 4
	o.authorized(t, grants)
	o.due(t)
	var mu sync.Mutex
	busy := make(map[string]bool)
	o.provider.before = func(_ <-chan struct{}, account string) {
		mu.Lock()
		defer mu.Unlock()
		if busy[account] {
			t.Errorf("%s is refreshed by two at once", account)
		}
		busy[account] = true
	}
	o.provider.after = func(_ <-chan struct{}, account string) error {
		mu.Lock()
		defer mu.Unlock()
		delete(busy, account)
		return nil
	}
	var all sync.WaitGroup
	for range keepers {
		k := o.another(o.db)
		all.Go(func() {
			for worked := true; worked; {
				var err error
				if worked, err = k.Step(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := o.provider.asked(); n != grants || o.provider.reused > 0 {
		t.Errorf("%d requests for %d grants, %d of them with a spent token", n, grants, o.provider.reused)
	}
}

// A lease is kept for as long as a call hangs, longer than its term, by somebody who is alive.
func TestLeaseIsExtended(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.Lease = 400 * time.Millisecond
	o.due(t)
	other := o.another(o.db)
	var once first
	o.provider.before = func(ended <-chan struct{}, _ string) {
		once.do(func() {
			for end := time.Now().Add(4 * o.Lease); time.Now().Before(end); {
				if n := works(t, other); n != 0 {
					t.Error("another has taken the lease")
				}
				select {
				case <-ended:
					t.Error("the holder has lost its lease")
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	o.work(t)
	if diff := cmp.Diff([]grant.Outcome{grant.Refreshed}, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

// A Keeper that cannot sign for its lease loses it, and another refreshes the grant. A call that was sent goes on:
// its answer may be all that there is.
func TestStunned(t *testing.T) {
	t.Parallel()
	for name, stun := range map[string]func(context.Context) error{
		"the database hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"the database refuses": func(context.Context) error { return errOut },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			client := o.authorized(t, 1)[0]
			o.due(t)
			other := o.another(o.db)
			db := &shaky{DB: o.db}
			stunned := o.another(db)
			other.Lease, stunned.Lease = 500*time.Millisecond, 500*time.Millisecond
			var once first
			o.provider.before = func(ended <-chan struct{}, _ string) {
				once.do(func() {
					db.stun(stun)
					for n := 0; n == 0; {
						n = works(t, other)
						select {
						case <-ended:
							t.Error("the call was cut off")
							n = 1
						case <-time.After(50 * time.Millisecond):
						}
					}
					db.stun(nil)
				})
			}
			o.provider.grace = time.Minute
			works(t, stunned)
			if diff := cmp.Diff([]grant.Outcome{grant.Superseded, grant.Refreshed}, o.outcomes(t, client)); diff != "" {
				t.Errorf("attempts (-want +got):\n%s", diff)
			}
			if n := query[int](t, o, `SELECT generation FROM grants`)[0]; n != 2 {
				t.Errorf("generation %d", n)
			}
		})
	}
}

var errOut = errors.New("the database is out of reach")

// shaky is a way to the database that can be cut. Commits can lose their answer alone.
type shaky struct {
	provisioning.DB

	mu        sync.Mutex
	stunned   func(context.Context) error
	cut       bool
	forgetful int // commits whose answer is lost
}

func (s *shaky) stun(by func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stunned, s.cut = by, by != nil
}

func (s *shaky) reach(ctx context.Context) error {
	s.mu.Lock()
	by := s.stunned
	s.mu.Unlock()
	if by != nil {
		return by(ctx)
	}
	return nil
}

func (s *shaky) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	tx, err := s.DB.Begin(ctx)
	return shakyTx{tx, s}, err
}

func (s *shaky) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := s.reach(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	return s.DB.Exec(ctx, sql, args...)
}

func (s *shaky) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	return s.DB.Query(ctx, sql, args...) //nolint:rowserrcheck // The caller does.
}

func (s *shaky) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := s.reach(ctx); err != nil {
		return noRow{err}
	}
	return s.DB.QueryRow(ctx, sql, args...)
}

type noRow struct{ err error }

func (r noRow) Scan(...any) error { return r.err }

type shakyTx struct {
	pgx.Tx

	db *shaky
}

func (tx shakyTx) Commit(ctx context.Context) error {
	err := tx.Tx.Commit(ctx)
	tx.db.mu.Lock()
	defer tx.db.mu.Unlock()
	if err == nil && tx.db.forgetful > 0 {
		tx.db.forgetful--
		return errOut
	}
	return err
}

// New tokens that the database cannot take are kept in memory until it can, and the operator is told once.
func TestStoreWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.due(t)
	db := &shaky{DB: o.db}
	k := o.another(db)
	o.provider.after = func(<-chan struct{}, string) error {
		db.stun(func(context.Context) error { return errOut })
		time.AfterFunc(time.Second, func() { db.stun(nil) })
		return nil
	}
	if n := works(t, k); n != 1 {
		t.Errorf("%d turns", n)
	}
	if n := o.log.told("kept in memory"); n != 1 {
		t.Errorf("the operator was told %d times", n)
	}
	if diff := cmp.Diff([]grant.Outcome{grant.Refreshed}, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	o.opens(t, client)
	if n := o.provider.asked(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// While new tokens wait to be stored, the lease is kept where the database allows it: nobody tries the spent token.
func TestLeaseIsKeptWhileStoring(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.due(t)
	other := o.another(o.db)
	o.Lease = 400 * time.Millisecond
	// Whoever has the client's row, as an import may, holds up the store.
	held, err := o.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(t.Context()) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := held.Exec(t.Context(), `SELECT FROM clients FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var turn sync.WaitGroup
	turn.Go(func() { o.work(t) })
	for end := time.Now().Add(4 * o.Lease); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if o.provider.asked() > 0 && works(t, other) != 0 {
			t.Error("another has taken the lease")
		}
	}
	if err := held.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	turn.Wait()
	if diff := cmp.Diff([]grant.Outcome{grant.Refreshed}, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	if o.provider.reused > 0 {
		t.Error("a spent token was tried")
	}
}

// A commit whose answer is lost has stored the tokens: it is not taken for somebody else's.
func TestCommitWithoutAnswer(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.due(t)
	var ended []grant.Outcome
	k := o.another(&shaky{DB: o.db, forgetful: 1})
	k.Count = func(o grant.Outcome) { ended = append(ended, o) }
	works(t, k)
	want := []grant.Outcome{grant.Refreshed}
	if diff := cmp.Diff(want, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, ended); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	if n := query[int](t, o, `SELECT generation FROM grants`)[0]; n != 2 {
		t.Errorf("generation %d", n)
	}
	if diff := cmp.Diff([]provisioning.EventKind{provisioning.EventAuthorized, provisioning.EventProven}, o.events(t, client)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// After k refreshes the tokens open with the present generation alone, each in its own place.
func TestGeneration(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	for k := range 4 {
		now := k + 1
		if got := query[int](t, o, `SELECT generation FROM grants`)[0]; got != now {
			t.Errorf("generation %d after %d refreshes", got, k)
		}
		g := o.grant(t, client)
		for _, kind := range []string{"access_token", "refresh_token"} {
			sealed := query[[]byte](t, o, `SELECT `+kind+` FROM grants`)[0]
			for generation := range now + 2 {
				_, err := o.Store.Vault.Open(sealed, vault.AD{Row: g.ID.String(), Kind: kind, Client: client.String(), Generation: generation})
				if (err == nil) != (generation == now) {
					t.Errorf("after %d refreshes the %s opens as generation %d: %v", k, kind, generation, err)
				}
			}
		}
		o.due(t)
		o.work(t)
	}
}

// Tokens swapped in the database are not sent to the provider, and the log says so. Other grants are kept.
func TestSwappedTokens(t *testing.T) {
	t.Parallel()
	o := open(t)
	clients := o.authorized(t, 3)
	o.exec(t, `
		UPDATE grants g
		SET refresh_token = o.refresh_token
		FROM grants o
		WHERE g.client_id = $1
			AND o.client_id = $2`, clients[0], clients[1])
	o.due(t)
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	o.work(t)
	if n := o.provider.asked(); n != 2 || strings.Count(log.String(), vault.ErrSealBroken.Error()) != 1 {
		t.Errorf("%d requests; the log has %s", n, &log)
	}
	if g := o.grant(t, clients[0]); g.Status != grant.StatusActive || g.RefusedAt != nil {
		t.Errorf("the grant is %+v", g)
	}
}

// What an answer says of scopes, or does not.
func TestScopes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		says    []string
		changed bool
		want    []string
	}{
		"unsaid":    {nil, false, []string{"account_read", "offline_access"}},
		"the same":  {[]string{"account_read", "offline_access"}, false, []string{"account_read", "offline_access"}},
		"reordered": {[]string{"offline_access", "account_read", "account_read"}, false, []string{"offline_access", "account_read", "account_read"}},
		"shrunk":    {[]string{"offline_access"}, true, []string{"offline_access"}},
		"widened":   {[]string{"account_read", "offline_access", "contact_data"}, true, []string{"account_read", "offline_access", "contact_data"}},
		"none":      {[]string{}, true, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			client := o.authorized(t, 1)[0]
			o.provider.alter = func(t *provisioning.Tokens) { t.Scopes = test.says }
			for range 2 {
				o.due(t)
				o.work(t)
			}
			if diff := cmp.Diff(test.want, o.grant(t, client).Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
			want := []provisioning.EventKind{provisioning.EventAuthorized, provisioning.EventProven}
			if test.changed {
				want = append(want, provisioning.EventScopesChanged)
			}
			if diff := cmp.Diff(want, o.events(t, client)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// An answer without a refresh token leaves the old one good: it is kept, and works again.
func TestNoNewRefreshToken(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.provider.alter = func(t *provisioning.Tokens) { t.Refresh = "" }
	for range 3 {
		o.due(t)
		o.work(t)
	}
	if diff := cmp.Diff([]grant.Outcome{grant.Refreshed, grant.Refreshed, grant.Refreshed}, o.outcomes(t, client)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	o.opens(t, client)
}

// A client that is deleted in the middle of a refresh leaves nothing, and is no error, however the refresh ends.
func TestDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{
		"refreshed":     nil,
		"refused":       invalidGrant(),
		"unavailable":   &provisioning.ProviderError{Op: "refresh the grant", Status: 503},
		"misconfigured": &provisioning.ProviderError{Op: "refresh the grant", Status: 401, Code: "invalid_client"},
		"lost":          lost(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			o.authorized(t, 1)
			o.due(t)
			o.provider.before = func(<-chan struct{}, string) { o.exec(t, `DELETE FROM clients`) }
			o.provider.says(answer)
			if n := o.work(t); n != 1 {
				t.Errorf("%d turns", n)
			}
			if n := query[int](t, o, `SELECT (SELECT count(*) FROM grants) + (SELECT count(*) FROM refreshes) + (SELECT count(*) FROM clients)`)[0]; n != 0 {
				t.Errorf("%d rows are left", n)
			}
		})
	}
}

// An owner who consents anew in the middle of a refresh has the new grant, whatever comes of the old one.
func TestConsentedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"refreshed": nil, "refused": invalidGrant(), "lost": lost()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			client := o.authorized(t, 1)[0]
			o.due(t)
			var fresh uuid.UUID
			var once first
			o.provider.before = func(<-chan struct{}, string) {
				once.do(func() {
					o.authorize(t, client)
					fresh = o.grant(t, client).ID
				})
			}
			o.provider.says(answer)
			o.work(t)
			g := o.grant(t, client)
			if g.ID != fresh || g.Status != grant.StatusActive || g.RefreshedAt != nil || g.RefusedAt != nil {
				t.Errorf("the grant is %+v", g)
			}
			if stage := o.stage(t, client); stage != provisioning.StageAuthorized {
				t.Errorf("the client is %s", stage)
			}
			if n := query[int](t, o, `SELECT count(*) FROM grants WHERE (access_token IS NOT NULL OR lease_id IS NOT NULL) AND id <> $1`, fresh)[0]; n != 0 {
				t.Error("something is left of the old grant")
			}
			o.provider.says(nil)
			o.clock.advance(time.Hour)
			o.work(t)
			o.opens(t, client)
		})
	}
}

// Lapses, imports, consents and invitations at once end without a deadlock.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	o := open(t)
	const n = 16
	clients := o.authorized(t, n)
	for i := range n / 2 {
		o.provider.revoke(fmt.Sprintf("acct-C%d", i+1))
	}
	o.due(t)
	o.work(t)
	o.clock.advance(25 * time.Hour)
	o.work(t)
	o.clock.advance(25 * time.Hour)
	o.due(t)
	inviter, ok := o.Reconnecter.(*provisioning.Inviter)
	if !ok {
		t.Fatal("no inviter")
	}
	var all sync.WaitGroup
	for range 2 {
		k := o.another(o.db)
		all.Go(func() {
			for worked := true; worked; {
				var err error
				if worked, err = k.Step(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() { o.imported(t, n) })
	all.Go(func() {
		for range 3 {
			if _, err := inviter.Invite(t.Context(), provisioning.Selection{All: true}, provisioning.ActorCLI, false); err != nil {
				t.Error(err)
			}
		}
	})
	all.Go(func() {
		for i := range n {
			o.authorize(t, clients[n-1-i])
		}
	})
	all.Wait()
	if diff := cmp.Diff(0, o.log.told("deadlock")); diff != "" {
		t.Error(diff)
	}
}

// Attempts are forgotten after 30 days.
func TestSweep(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.due(t)
	o.work(t)
	o.exec(t, `
		INSERT INTO refreshes (id, grant_id, generation, began_at, ended_at, outcome)
		SELECT gen_random_uuid(), id, 1, $1, $1, 'refreshed'
		FROM grants, generate_series(1, 2500)`, o.clock.now().Add(-31*24*time.Hour))
	o.clock.advance(29 * 24 * time.Hour)
	if err := o.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(o.outcomes(t, client)); n != 1 {
		t.Errorf("%d attempts are left after 29 days", n)
	}
	o.clock.advance(25 * time.Hour)
	if err := o.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(o.outcomes(t, client)); n != 0 {
		t.Errorf("%d attempts are left after 30 days", n)
	}
}
