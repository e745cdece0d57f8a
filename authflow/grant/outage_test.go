package grant_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

const (
	frozenWords = "which looks like an outage"
	thawedWords = "the provider refreshes grants again"
)

// refuses has the provider refuse these accounts.
func (p *provider) refuses(accounts ...string) {
	p.set(func(p *provider) {
		p.answer = func(account string) error {
			if slices.Contains(accounts, account) {
				return invalidGrant()
			}
			return nil
		}
	})
}

// accounts are those of the first n clients.
func accounts(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("acct-C%d", i+1))
	}
	return names
}

func (o *office) frozen(t *testing.T) bool {
	t.Helper()
	v, err := o.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if (v.FrozenAt == nil) != (v.FrozenWhy == nil) {
		t.Errorf("frozen at %v, why: %v", v.FrozenAt, v.FrozenWhy)
	}
	return v.FrozenAt != nil
}

// Five of ten refused within an hour look like an outage. One of several Keepers says so, once; nothing is believed
// until it is over, and then what is truly gone lapses.
func TestWave(t *testing.T) {
	t.Parallel()
	o := open(t)
	clients := o.authorized(t, 10)
	o.provider.refuses(accounts(5)...)
	o.provider.revoke("acct-C1")
	keepers := []*grant.Keeper{o.Keeper, o.another(o.db), o.another(o.db)}
	together := func() {
		var all sync.WaitGroup
		for _, k := range keepers {
			all.Go(func() {
				for worked := true; worked; {
					var err error
					if worked, err = k.Step(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	for range 4 { // six hours
		o.due(t)
		together()
		if !o.frozen(t) {
			t.Error("a wave does not freeze")
		}
		o.clock.advance(2 * time.Hour)
	}
	if n := o.log.told(frozenWords); n != 1 {
		t.Errorf("told %d times of the outage", n)
	}
	o.clock.advance(2 * time.Hour)
	if diff := cmp.Diff(map[provisioning.Stage]int{provisioning.StageAuthorized: 10}, o.stages(t)); diff != "" {
		t.Errorf("stages in the outage (-want +got):\n%s", diff)
	}
	o.provider.says(nil)
	o.due(t)
	together()
	if o.frozen(t) || o.log.told(thawedWords) != 1 {
		t.Errorf("frozen: %t, told %d times that it is over", o.frozen(t), o.log.told(thawedWords))
	}
	o.due(t)
	together()
	if diff := cmp.Diff(map[provisioning.Stage]int{provisioning.StageAuthorized: 9, provisioning.StageLapsed: 1}, o.stages(t)); diff != "" {
		t.Errorf("stages after it (-want +got):\n%s", diff)
	}
	if stage := o.stage(t, clients[0]); stage != provisioning.StageLapsed {
		t.Errorf("the client whose grant is gone is %s", stage)
	}
}

// Few refusals, or few of many, are no wave.
func TestNoWave(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ clients, refused int }{
		"four of four":      {4, 4},
		"five of thirty":    {30, 5},
		"one, very often":   {6, 1},
		"nobody is refused": {8, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			o.authorized(t, test.clients)
			o.provider.refuses(accounts(test.refused)...)
			o.due(t)
			// Those that work come first, as the share is of what was answered so far.
			o.exec(t, `UPDATE grants SET refresh_at = refresh_at - interval '1 minute' WHERE substring(account_id FROM 7)::int > $1`, test.refused)
			o.work(t)
			for range 6 {
				o.clock.advance(time.Minute)
				o.exec(t, `UPDATE grants SET refresh_at = $1 WHERE refused_at IS NOT NULL`, o.clock.now())
				o.work(t)
			}
			if o.frozen(t) || o.log.told(frozenWords) > 0 {
				t.Error("frozen")
			}
		})
	}
}

// An outage of which nobody hears any more is over when the sweep comes by.
func TestThawedBySweep(t *testing.T) {
	t.Parallel()
	o := open(t)
	o.authorized(t, 6)
	o.provider.refuses(accounts(6)...)
	o.due(t)
	o.work(t)
	if !o.frozen(t) {
		t.Fatal("not frozen")
	}
	if err := o.Sweep(t.Context()); err != nil || !o.frozen(t) {
		t.Errorf("thawed although nothing was refreshed: %v", err)
	}
	o.provider.says(nil)
	o.due(t)
	o.work(t)
	o.clock.advance(2 * time.Hour)
	if err := o.Sweep(t.Context()); err != nil || o.frozen(t) {
		t.Errorf("still frozen: %v", err)
	}
}

// Many grants that are truly gone, as when they were all made through a partner's login, look like an outage, but
// not for ever: after a week they lapse.
func TestMassDeath(t *testing.T) {
	t.Parallel()
	o := open(t)
	const dead, fine = 60, 10
	o.authorized(t, dead+fine)
	o.provider.set(func(p *provider) {
		for _, account := range accounts(dead) {
			p.disown(account)
		}
	})
	for hour := 0; hour <= 8*24; hour += 48 {
		o.due(t)
		o.work(t)
		want := map[provisioning.Stage]int{provisioning.StageAuthorized: dead + fine}
		if hour > 7*24 {
			want = map[provisioning.Stage]int{provisioning.StageAuthorized: fine, provisioning.StageLapsed: dead}
		}
		if diff := cmp.Diff(want, o.stages(t)); diff != "" {
			t.Errorf("stages after %d hours (-want +got):\n%s", hour, diff)
		}
		if !o.frozen(t) {
			t.Errorf("not frozen after %d hours", hour)
		}
		o.clock.advance(48 * time.Hour)
	}
}

// Where nothing at all is refreshed any more, nobody is taken for lapsed, however long it takes.
func TestEverybodyRefused(t *testing.T) {
	t.Parallel()
	o := open(t)
	o.authorized(t, 6)
	o.provider.says(invalidGrant())
	for range 10 {
		o.due(t)
		o.work(t)
		o.clock.advance(8 * time.Hour)
	}
	if diff := cmp.Diff(map[provisioning.Stage]int{provisioning.StageAuthorized: 6}, o.stages(t)); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}

// TestOutages has a provider out of order for six hours, once a day and each time in another way, while 10,000
// accounts are kept. None is taken for lapsed; what was due is refreshed in the hours after, and what was revoked
// meanwhile lapses.
func TestOutages(t *testing.T) {
	t.Parallel()
	unavailable := &provisioning.ProviderError{Op: "refresh the grant", Status: 503}
	even := func(account string) bool {
		return account != "" && strings.ContainsAny(account[len(account)-1:], "02468")
	}
	dice := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time
	heads := func(string) bool { return dice.IntN(2) == 0 }
	all := func(string) bool { return true }
	// when has an error be the answer to some.
	when := func(some func(account string) bool, err error) func(string) error {
		return func(account string) error {
			if some(account) {
				return err
			}
			return nil
		}
	}
	outages := []struct {
		name       string
		token, api func(account string) error
		frozen     bool
	}{
		{"503 and time-outs", func(account string) error {
			if heads(account) {
				return lost()
			}
			return unavailable
		}, when(all, unavailable), false},
		{"every grant and every token is refused", when(all, invalidGrant()), when(all, unauthorized()), true},
		{"the app is refused", when(all, &provisioning.ProviderError{Op: "refresh the grant", Status: 401, Code: "invalid_client"}), nil, false},
		{"half of the answers are wrong", when(heads, invalidGrant()), when(heads, unauthorized()), true},
		{"half of the accounts are refused", when(even, invalidGrant()), when(even, unauthorized()), true},
	}
	const grants, fresh, length = 10_000, 300, 6 * time.Hour
	o := open(t)
	o.provider.life = time.Duration(len(outages)+1) * 24 * time.Hour // as if each day's consents were made on it
	o.populate(t, grants, fresh, len(outages))
	begun := o.clock.now()
	var gone []string
	for _, outage := range outages {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Errorf(outage.name+": "+format, args...)
		}
		o.live(t, begun)
		o.provider.set(func(p *provider) { p.answer, p.api = outage.token, outage.api })
		due := query[string](t, o, `SELECT account_id FROM grants WHERE refresh_at BETWEEN $1 AND $2`, begun, begun.Add(length))
		if len(due) < fresh+20 {
			fail("%d grants are due", len(due))
		}
		// Some owners withdraw their consent meanwhile: of fresh grants, and of such as are due.
		revoked := query[string](t, o, `
			(SELECT account_id FROM grants WHERE refresh_at > $1 AND proven_at IS NULL ORDER BY refresh_at LIMIT 3)
			UNION
			(SELECT account_id FROM grants WHERE refresh_at > $1 AND proven_at IS NOT NULL ORDER BY refresh_at LIMIT 3)`, begun)
		for _, account := range revoked {
			o.provider.revoke(account)
		}
		told := o.log.told(frozenWords)
		o.live(t, begun.Add(length))
		if lapsed := query[string](t, o, `SELECT account_id FROM grants WHERE status = 'lapsed' AND NOT account_id = ANY ($1)`, slices.Concat(gone, revoked)); len(lapsed) > 0 {
			fail("taken for lapsed: %v", lapsed)
		}
		if frozen := o.log.told(frozenWords) > told; frozen != outage.frozen {
			fail("the operator was told of it: %t", frozen)
		}

		o.provider.set(func(p *provider) { p.answer, p.api = nil, nil })
		o.live(t, begun.Add(length+5*time.Hour))
		slices.Sort(revoked)
		late := query[string](t, o, `
			SELECT account_id
			FROM grants
			WHERE account_id = ANY ($1)
				AND (refreshed_at IS NULL OR refreshed_at < $2)
			ORDER BY account_id COLLATE "C"`, due, begun)
		if diff := cmp.Diff(revoked, late); diff != "" {
			fail("not refreshed within five hours of its end (-revoked +got):\n%s", diff)
		}
		// A grant rests for up to four and a half hours between two attempts: it is refused for the first time that long
		// after the end, and asked for the last time that long after the eight hours for which it is doubted.
		o.live(t, begun.Add(length+(2*4+1+8)*time.Hour+30*time.Minute))
		gone = append(gone, revoked...)
		slices.Sort(gone)
		if diff := cmp.Diff(gone, query[string](t, o, `SELECT account_id FROM grants WHERE status = 'lapsed' ORDER BY account_id COLLATE "C"`)); diff != "" {
			fail("lapsed (-revoked +got):\n%s", diff)
		}
		if o.frozen(t) {
			fail("still frozen")
		}
		if doubted := query[string](t, o, `SELECT account_id FROM grants WHERE refused_at IS NOT NULL AND status = 'active'`); len(doubted) > 0 {
			fail("still doubted: %v", doubted)
		}
		if n := o.provider.reused; n > 0 {
			fail("%d spent tokens were sent", n)
		}
		begun = begun.Add(24 * time.Hour)
	}
}

// populate makes clients with a grant each. Their refreshes are spread over the calendar, but for some on each of the
// next days whose consents are fresh then, and to be proven.
func (o *office) populate(t *testing.T, grants, fresh, days int) {
	t.Helper()
	o.exec(t, `
		INSERT INTO clients (id, ref, name, owner_email, account_id, username, stage, search)
		SELECT gen_random_uuid(), 'C' || n, 'Client ' || n, 'owner' || n || '@client.example', 'acct-C' || n, 'agency+c' || n || '@agency.example', 'authorized', ''
		FROM generate_series(1, $1) n`, grants)
	clients := query[uuid.UUID](t, o, `SELECT id FROM clients ORDER BY substring(ref FROM 2)::int`)
	now := o.clock.now()
	const calendar = 82 * 24 * time.Hour
	_, err := o.db.CopyFrom(t.Context(), pgx.Identifier{"grants"}, []string{
		"id", "client_id", "account_id", "organization", "contact_email", "subject", "scopes", "status", "generation",
		"access_token", "access_expires_at", "refresh_token", "created_at", "refreshed_at", "proven_at", "refresh_at",
	}, pgx.CopyFromSlice(len(clients), func(i int) ([]any, error) {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		account := fmt.Sprintf("acct-C%d", i+1)
		tokens := o.provider.consent(account)
		seal := func(kind string, token provisioning.Secret) []byte {
			return o.Store.Vault.Seal([]byte(token.Reveal()), vault.AD{Row: id.String(), Kind: kind, Client: clients[i].String(), Generation: 1})
		}
		refreshAt := now.Add(calendar / time.Duration(grants) * time.Duration(i))
		refreshedAt := new(refreshAt.Add(-calendar))
		expiresAt := refreshedAt.Add(24 * time.Hour)
		if from := grants - fresh*days; i >= from {
			day := (i - from) / fresh
			refreshAt, refreshedAt, expiresAt = now.Add(time.Duration(day)*24*time.Hour+time.Duration(i%fresh)*8*time.Second), nil, tokens.ExpiresAt
		}
		return []any{
			id, clients[i], account, "Client", "owner@client.example", "", o.Store.Scopes, "active", 1,
			seal("access_token", tokens.Access), expiresAt, seal("refresh_token", tokens.Refresh), now.Add(-calendar), refreshedAt, refreshedAt, refreshAt,
		}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	o.exec(t, `ANALYZE`)
}

// live runs a Keeper until then, as Run does, at a provider that takes one request a second.
func (o *office) live(t *testing.T, until time.Time) {
	t.Helper()
	last := time.Time{}
	o.provider.before = func(<-chan struct{}, string) {
		if now := o.clock.now(); now.Sub(last) < time.Second {
			o.clock.advance(time.Second - now.Sub(last))
		}
		last = o.clock.now()
	}
	for o.clock.now().Before(until) {
		worked, err := o.Step(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case worked && o.Trouble():
			o.clock.advance(30 * time.Second)
		case !worked:
			next := until
			if v := query[*time.Time](t, o, `SELECT min(refresh_at) FROM grants WHERE refresh_at IS NOT NULL AND lease_id IS NULL`)[0]; v != nil && v.Before(until) {
				next = *v
			}
			o.clock.advance(max(next.Sub(o.clock.now()), 2*time.Second))
		}
	}
}
