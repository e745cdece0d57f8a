package grant_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
)

// TestDoubt has a grant refused again and again, and tells when that is believed.
func TestDoubt(t *testing.T) {
	t.Parallel()
	const (
		anHour     = 61 * time.Minute
		eightHours = 8*time.Hour + time.Minute
		aWeek      = 7*24*time.Hour + time.Minute
	)
	moments := []time.Duration{
		0, 10 * time.Minute, 59 * time.Minute, anHour, 7 * time.Hour, eightHours, 23 * time.Hour, 6 * 24 * time.Hour, aWeek,
	}
	revoked := func(o *office) { o.provider.revoke("acct-C1") }
	disowned := func(o *office) { o.provider.set(func(p *provider) { p.disown("acct-C1") }) }
	api := func(says func(account string) error) func(*office) {
		return func(o *office) {
			revoked(o)
			o.provider.api = says
		}
	}
	for name, test := range map[string]struct {
		clients int
		begin   func(*office)
		witness bool // another grant is refreshed before each refusal
		life    time.Duration
		lapses  time.Duration
		why     string
	}{
		"its access token is refused too, another's is taken": {2, revoked, false, 48 * time.Hour, anHour, "refuses its access token as well"},
		"its access token works":                              {2, disowned, true, 48 * time.Hour, eightHours, "in which it refreshed another"},
		"its access token works, nobody else was refreshed":   {2, disowned, false, 48 * time.Hour, aWeek, "for a week"},
		"its access token has expired":                        {2, revoked, true, 30 * time.Minute, eightHours, "in which it refreshed another"},
		"its access token has expired, nobody was refreshed":  {2, revoked, false, 30 * time.Minute, aWeek, "for a week"},
		"there is no other grant":                             {1, revoked, false, 48 * time.Hour, aWeek, "for a week"},
		"the API is down": {
			2, api(func(string) error { return &provisioning.ProviderError{Op: "read the account", Status: 503} }),
			false, 48 * time.Hour, aWeek, "for a week",
		},
		"the API is down for others": {
			2, api(func(account string) error {
				if account == "acct-C2" {
					return &provisioning.ProviderError{Op: "read the account", Status: 503}
				}
				return unauthorized()
			}),
			false, 48 * time.Hour, aWeek, "for a week",
		},
		"the API refuses everybody": {2, api(func(string) error { return unauthorized() }), false, 48 * time.Hour, aWeek, "for a week"},
		"the API refuses everybody, another was refreshed": {
			2, api(func(string) error { return unauthorized() }), true, 48 * time.Hour, eightHours, "in which it refreshed another",
		},
		"the API forbids it, which is no word on the token": {
			2, func(o *office) {
				disowned(o)
				o.provider.api = func(account string) error {
					if account == "acct-C1" {
						return &provisioning.ProviderError{Op: "read the account", Status: 403, Code: "forbidden"}
					}
					return nil
				}
			},
			false, 48 * time.Hour, aWeek, "for a week",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			o.provider.life = test.life
			clients := o.authorized(t, test.clients)
			test.begin(o)
			begun := o.clock.now()
			for _, moment := range moments {
				o.clock.advance(moment - o.clock.now().Sub(begun).Truncate(time.Minute))
				o.exec(t, `UPDATE grants SET refresh_at = NULL WHERE status = 'active'`)
				if test.witness {
					o.exec(t, `UPDATE grants SET refresh_at = $1 WHERE account_id = 'acct-C2'`, o.clock.now().Add(-time.Minute))
				}
				o.exec(t, `UPDATE grants SET refresh_at = $1 WHERE account_id = 'acct-C1' AND status = 'active'`, o.clock.now())
				o.work(t)
				lapsed := o.grant(t, clients[0]).Status == grant.StatusLapsed
				if want := moment >= test.lapses; lapsed != want {
					t.Fatalf("lapsed after %v: %t", moment, lapsed)
				}
				if lapsed {
					break
				}
			}
			if evidence := query[string](t, o, `SELECT detail->>'evidence' FROM events WHERE kind = 'lapsed'`)[0]; !strings.Contains(evidence, test.why) {
				t.Errorf("the evidence is %q", evidence)
			}
			want := []provisioning.EventKind{
				provisioning.EventAuthorized, provisioning.EventRefreshDoubt, provisioning.EventLapsed, provisioning.EventMailQueued,
			}
			if diff := cmp.Diff(want, o.events(t, clients[0])); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if n := query[int](t, o, `
				SELECT count(*)
				FROM grants
				WHERE status = 'lapsed'
					AND access_token IS NULL
					AND refresh_token IS NULL
					AND ended_at IS NOT NULL`)[0]; n != 1 {
				t.Error("the tokens of the lapsed grant are not gone")
			}
		})
	}
}

// A refusal that is taken back leaves nothing behind: the next one is doubted anew.
func TestDoubtHeals(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 2)[0]
	for range 4 {
		o.provider.says(invalidGrant())
		o.due(t)
		o.work(t)
		o.clock.advance(20 * time.Hour)
		o.provider.says(nil)
		o.work(t)
	}
	g := o.grant(t, client)
	if refusals := query[int](t, o, `SELECT max(refusals) FROM grants`)[0]; g.Status != grant.StatusActive || g.RefusedAt != nil || refusals != 0 {
		t.Errorf("%d refusals of %+v", refusals, g)
	}
	if stage := o.stage(t, client); stage != provisioning.StageAuthorized {
		t.Errorf("the client is %s", stage)
	}
}

// The first refresh, within the hour, proves the grant; a new consent after a lapse has to be proven anew.
func TestProof(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 2)[0]
	proven := func() bool {
		t.Helper()
		c, err := (&provisioning.Store{DB: o.db}).Client(t.Context(), client.String())
		if err != nil {
			t.Fatal(err)
		}
		return c.ProvenAt != nil && o.grant(t, client).ProvenAt != nil
	}
	if proven() {
		t.Error("proven at once")
	}
	o.clock.advance(40 * time.Minute)
	o.work(t)
	if !proven() {
		t.Error("not proven within the hour")
	}
	o.provider.revoke("acct-C1")
	for range 2 {
		o.due(t)
		o.work(t)
		o.clock.advance(9 * time.Hour)
	}
	if stage := o.stage(t, client); stage != provisioning.StageLapsed {
		t.Fatalf("the client is %s", stage)
	}
	o.authorize(t, client)
	if c, err := (&provisioning.Store{DB: o.db}).Client(t.Context(), client.String()); err != nil || c.ProvenAt != nil {
		t.Errorf("the new consent is proven already: %v, %v", c.ProvenAt, err)
	}
	o.clock.advance(40 * time.Minute)
	o.work(t)
	if !proven() {
		t.Error("the new consent is not proven within the hour")
	}
}

// A grant made through a partner's login works, and cannot be refreshed once. The operator is told so in words
// within the hour, and again when it has lapsed.
func TestPartnerLogin(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 2)[0]
	o.provider.set(func(p *provider) { p.disown("acct-C1") })
	o.clock.advance(40 * time.Minute)
	o.work(t)
	hint := func(kind provisioning.EventKind) string {
		t.Helper()
		hints := query[string](t, o, `SELECT coalesce(detail->>'hint', '') FROM events WHERE client_id = $1 AND kind = $2`, client, kind)
		if len(hints) != 1 {
			t.Fatalf("%d events %s", len(hints), kind)
		}
		return hints[0]
	}
	const words = "made through a partner's login"
	if h := hint(provisioning.EventRefreshDoubt); !strings.Contains(h, words) {
		t.Errorf("the hint within the hour is %q", h)
	}
	o.opens(t, client)
	o.clock.advance(9 * time.Hour)
	o.due(t)
	o.exec(t, `UPDATE grants SET refresh_at = refresh_at - interval '1 minute' WHERE account_id = 'acct-C2'`)
	o.work(t)
	if stage := o.stage(t, client); stage != provisioning.StageLapsed {
		t.Fatalf("the client is %s", stage)
	}
	if h := hint(provisioning.EventLapsed); !strings.Contains(h, words) {
		t.Errorf("the hint is %q", h)
	}
}

// When the same account has consented on another client's link, which ended the grant, the operator is told where
// the new one waits.
func TestEndedByAnotherConsent(t *testing.T) {
	t.Parallel()
	o := open(t)
	clients := o.authorized(t, 3)
	o.provider.revoke("acct-C1")
	o.consent(t, clients[1], provisioning.Account{ID: "acct-C1", Organization: "Client 1", ContactEmail: "owner1@client.example"})
	for range 2 {
		o.due(t)
		o.work(t)
		o.clock.advance(2 * time.Hour)
	}
	hints := query[string](t, o, `SELECT detail->>'hint' FROM events WHERE kind = 'lapsed' AND client_id = $1`, clients[0])
	if len(hints) != 1 || !strings.Contains(hints[0], `"Client 2"`) || !strings.Contains(hints[0], "quarantine") {
		t.Errorf("the hints are %q", hints)
	}
}

// A grant in quarantine is never refreshed, nor given out, nor used as a measure for others.
func TestQuarantineIsLeftAlone(t *testing.T) {
	t.Parallel()
	o := open(t)
	clients := o.clients(t, 2)
	o.authorize(t, clients[0])
	o.consent(t, clients[1], provisioning.Account{ID: "acct-C1", Organization: "Client 1", ContactEmail: "owner1@client.example"})
	held := o.grant(t, clients[1])
	if held.Status != grant.StatusQuarantined {
		t.Fatalf("the grant is %s", held.Status)
	}
	o.provider.before = func(_ <-chan struct{}, account string) {
		if account != "acct-C1" {
			t.Errorf("%s is refreshed", account)
		}
	}
	for range 4 {
		o.clock.advance(90 * 24 * time.Hour)
		o.work(t)
	}
	if n := o.provider.asked(); n != 4 {
		t.Errorf("%d refreshes, want those of the other grant", n)
	}
	if _, err := o.Token(t.Context(), clients[1]); err == nil {
		t.Error("a token of the quarantine is given out")
	}
}
