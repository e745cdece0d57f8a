package grant_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
)

// A token that lives for a while is given out without a request; one that does not is refreshed first.
func TestToken(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	token, err := o.Token(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if token.AccountID != "acct-C1" || len(token.Scopes) != 2 || token.ExpiresAt.Sub(o.clock.now()) < 23*time.Hour {
		t.Errorf("the token is %+v", token)
	}
	o.clock.advance(23*time.Hour + 44*time.Minute)
	o.opens(t, client)
	if n := o.provider.asked(); n != 0 {
		t.Errorf("%d requests for fresh tokens", n)
	}
	o.clock.advance(2 * time.Minute)
	o.opens(t, client)
	o.opens(t, client)
	if n := o.provider.asked(); n != 1 {
		t.Errorf("%d requests for a stale token", n)
	}
	if g := o.grant(t, client); g.ProvenAt == nil || g.RefreshAt.Sub(o.clock.now()) < 74*24*time.Hour {
		t.Errorf("a refresh on demand is not one: %+v", g)
	}
}

// Fifty who want a stale token at once, of two Keepers, get the same fresh one, of one request.
func TestTokenForMany(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.clock.advance(25 * time.Hour)
	keepers := []*grant.Keeper{o.Keeper, o.another(o.db)}
	var mu sync.Mutex
	tokens := make(map[provisioning.Secret]int)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			token, err := keepers[i%2].Token(t.Context(), client)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			tokens[token.Access]++
		})
	}
	all.Wait()
	if n := o.provider.asked(); n != 1 || len(tokens) != 1 {
		t.Errorf("%d requests, %d tokens", n, len(tokens))
	}
}

// Short-lived tokens are given out for the first half of their life.
func TestShortLivedToken(t *testing.T) {
	t.Parallel()
	o := open(t)
	o.provider.life = time.Minute
	client := o.authorized(t, 1)[0]
	for range 3 {
		before := o.provider.asked()
		o.clock.advance(20 * time.Second)
		o.opens(t, client)
		if n := o.provider.asked() - before; n != 0 {
			t.Errorf("%d requests in the first half", n)
		}
		o.clock.advance(15 * time.Second)
		o.opens(t, client)
		if n := o.provider.asked() - before; n != 1 {
			t.Errorf("%d requests in the second half", n)
		}
	}
}

// TestNoToken says why there is none.
func TestNoToken(t *testing.T) {
	t.Parallel()
	down := &provisioning.ProviderError{Op: "refresh the grant", Status: 503}
	expired := func(_ *testing.T, o *office, _ uuid.UUID) { o.clock.advance(25 * time.Hour) }
	for name, test := range map[string]struct {
		begin  func(t *testing.T, o *office, client uuid.UUID)
		answer error
		want   error
		asked  int // requests, for two who want a token one after the other
	}{
		"never authorized": {func(t *testing.T, o *office, _ uuid.UUID) {
			t.Helper()
			o.exec(t, `DELETE FROM grants`)
		}, nil, grant.ErrNoGrant, 0},
		"the client is deleted": {func(t *testing.T, o *office, client uuid.UUID) {
			t.Helper()
			o.exec(t, `DELETE FROM clients WHERE id = $1`, client)
		}, nil, grant.ErrNoGrant, 0},
		"the grant has lapsed": {func(t *testing.T, o *office, _ uuid.UUID) {
			t.Helper()
			o.provider.revoke("acct-C1")
			for range 4 {
				o.due(t)
				o.work(t)
				o.clock.advance(80 * time.Hour)
			}
			o.provider.set(func(p *provider) { p.refreshes = 0 })
		}, nil, grant.ErrNoGrant, 0},
		"refused at the moment":        {expired, invalidGrant(), grant.ErrDoubtful, 1},
		"the provider is down":         {expired, down, provisioning.ErrProviderUnavailable, 1},
		"the answer is lost, twice":    {expired, lost(), provisioning.ErrProviderUnavailable, 2},
		"the provider refuses our app": {expired, &provisioning.ProviderError{Status: 401, Code: "invalid_client"}, provisioning.ErrProviderUnavailable, 1},
		"there is no refresh token": {func(t *testing.T, o *office, _ uuid.UUID) {
			t.Helper()
			o.exec(t, `UPDATE grants SET refresh_token = NULL, refresh_at = NULL`)
			o.clock.advance(25 * time.Hour)
		}, nil, grant.ErrNoGrant, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			client := o.authorized(t, 1)[0]
			test.begin(t, o, client)
			o.provider.says(test.answer)
			for range 2 {
				if token, err := o.Token(t.Context(), client); !errors.Is(err, test.want) || token.Access != "" {
					t.Errorf("got %v, want %v", err, test.want)
				}
			}
			if n := o.provider.asked(); n != test.asked {
				t.Errorf("%d requests, want %d", n, test.asked)
			}
		})
	}
}

// A token that still lives is better than none: it is given out while a refresh fails.
func TestTokenInHand(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{
		"down": &provisioning.ProviderError{Status: 503}, "refused": invalidGrant(), "lost": lost(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			client := o.authorized(t, 1)[0]
			o.provider.says(answer)
			o.clock.advance(23*time.Hour + 50*time.Minute)
			for range 3 {
				o.opens(t, client)
			}
			if n := o.provider.asked(); n > 2 {
				t.Errorf("%d requests in one minute", n)
			}
			o.exec(t, `UPDATE grants SET refresh_token = NULL, refresh_at = NULL`)
			o.opens(t, client)
		})
	}
}

// A grant that rests after a long outage is tried when somebody wants a token, though not every time.
func TestTokenAfterAnOutage(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 2)[0]
	o.clock.advance(25 * time.Hour)
	o.provider.says(&provisioning.ProviderError{Status: 503})
	for range 12 { // Its pauses grow to hours.
		o.due(t)
		o.work(t)
		o.clock.advance(2 * time.Minute)
	}
	o.provider.says(nil)
	if pause := o.grant(t, client).RefreshAt.Sub(o.clock.now()); pause < time.Hour {
		t.Fatalf("it rests for %v", pause)
	}
	before := o.provider.asked()
	if _, err := o.Token(t.Context(), client); !errors.Is(err, provisioning.ErrProviderUnavailable) {
		t.Errorf("while nothing succeeds: %v", err)
	}
	if n := o.provider.asked() - before; n != 0 {
		t.Errorf("%d requests while nothing succeeds", n)
	}
	o.exec(t, `UPDATE grants SET refresh_at = $1 WHERE account_id = 'acct-C2'`, o.clock.now())
	o.work(t)
	o.opens(t, client)
}

// Whoever waits for another's refresh gets the token in hand if that lives, should it take too long.
func TestTokenWhileAnotherRefreshes(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	o.exec(t, `UPDATE grants SET lease_id = gen_random_uuid(), leased_until = clock_timestamp() + interval '1 hour'`)
	for _, test := range []struct {
		name string
		age  time.Duration
		want error
	}{
		{"it lives", 23*time.Hour + 50*time.Minute, nil},
		{"it has expired", 25 * time.Hour, provisioning.ErrProviderUnavailable},
	} {
		o.clock.ahead.Store(int64(test.age))
		var token grant.Token
		var err error
		for range 5 { // The time may be up while the database is asked, which is an error of that.
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			token, err = o.Token(ctx, client)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				break
			}
		}
		if !errors.Is(err, test.want) || (token.Access == "") != (test.want != nil) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if n := o.provider.asked(); n != 0 {
		t.Errorf("%d requests", n)
	}
}
