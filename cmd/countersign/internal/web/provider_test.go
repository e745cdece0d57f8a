package web_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/cmd/countersign/internal/web"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// authorizes has the owner of a client consent with a login.
func (b *testBundle) authorizes(t *testing.T, ref, login string) {
	t.Helper()
	b.browser(t).walk(t, b.link(t, ref), login, sandbox.Allow).has(t, http.StatusOK)
	b.isAt(t, ref, "authorized")
}

// refreshes has a client's grant refreshed now, while something goes wrong at the provider or nothing does.
func (b *testBundle) refreshes(t *testing.T, ref string, wrong ...sandbox.Fault) {
	t.Helper()
	b.exec(t, `UPDATE grants SET refresh_at = now() - interval '1 minute' WHERE client_id = $1 AND status = 'active'`, b.client(t, ref).ID)
	b.goesWrong(t, wrong...)
	if worked, err := b.Keeper.Step(t.Context()); err != nil || !worked {
		t.Fatalf("refreshed %t, %v", worked, err)
	}
}

func (b *testBundle) goesWrong(t *testing.T, wrong ...sandbox.Fault) {
	t.Helper()
	faults := sandbox.Faults{}
	for _, f := range wrong {
		faults[f] = sandbox.Rate{Next: 2} // A refresh whose fate is not known is repeated once.
	}
	if err := b.box.SetFaults(faults); err != nil {
		t.Fatal(err)
	}
}

func TestProviderPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	op := b.operator(t)
	op.get(t, "/admin/provider").has(t, http.StatusOK).says(t,
		"Nothing stands in the way", "There is no grant to keep alive yet.", "1,000 of 1,000 left", "Kept for owners who consent 100", "None were due.",
	)

	b.authorizes(t, "ACME/1", adaLogin)
	b.authorizes(t, "BLOOM", benLogin)
	b.strays(t, "CAFE", strangeLogin)
	op.get(t, "/admin/provider").says(t, "All grants are kept alive.", "Next one", "1 to decide on")
	b.refreshes(t, "ACME/1")
	b.refreshes(t, "ACME/1", sandbox.TokenInvalidGrant)
	b.refreshes(t, "BLOOM", sandbox.TokenInvalidGrant)
	b.exec(t, `UPDATE grants SET refresh_at = now() - interval '1 minute' WHERE client_id = $1 AND status = 'active'`, b.client(t, "BLOOM").ID)
	turn, err := b.Calls.Take(t.Context(), budget.Walk)
	if err != nil {
		t.Fatal(err)
	}
	if err := turn.Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	page := op.get(t, "/admin/provider").has(t, http.StatusOK)
	page.says(t,
		"Grants are being refreshed.", "999 of 1,000 left", "Used 1", "Free 899", "Over the limit Not today", "Waiting 1 , all refreshed by about",
		"Acme Bakery Refused once since", "The provider may be out of order.", "Bloom Florist Refused once since", "It was never refreshed.",
		"1 Refreshed", "2 The grant was refused",
	)
	op.get(t, "/admin").silent(t, `class="obstacles"`)

	b.refreshes(t, "BLOOM", sandbox.TokenInvalidClient)
	b.exec(t, `UPDATE keeping SET frozen_at = now(), frozen_why = 'the provider refused to refresh 7 of 9 grants within an hour'`)
	if err := b.Calls.QuotaExceeded(t.Context()); err != nil {
		t.Fatal(err)
	}
	page = op.get(t, "/admin/provider")
	page.says(t,
		"The provider refuses this app", "invalid_client", "The provider refuses many grants at once", "7 of 9 grants within an hour",
		"The provider says that today’s calls are used up", "Over the limit Once today", "left by our own count", "1 The app was refused",
	)
	page.silent(t, "Nothing stands in the way")
	for _, path := range []string{"/admin", "/admin/progress"} {
		op.get(t, path).says(t, "The provider refuses this app.", "The provider refuses many grants at once.", "today’s calls are used up.", "What to do")
	}

	b.refreshes(t, "BLOOM")
	op.get(t, "/admin/provider").silent(t, "refuses this app", "many grants at once")
}

// Without an app at the provider the page says what to set, and nothing else fails.
func TestNoProvider(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.Keeper, b.Calls, b.Tokens = nil, nil, nil
	op, api := b.operator(t), b.caller(t, admin.ScopeRead, admin.ScopeTokens)
	op.get(t, "/admin/provider").has(t, http.StatusOK).says(t, "No app at the provider is set up.", "COUNTERSIGN_OAUTH_CLIENT_ID")
	op.get(t, "/admin").has(t, http.StatusOK)
	for _, told := range []problem{
		api.call(t, http.MethodGet, "/provider", "").problem(t, http.StatusServiceUnavailable),
		api.call(t, http.MethodPost, "/clients/ref:CAFE/token", "").problem(t, http.StatusServiceUnavailable),
	} {
		if !strings.Contains(told.Detail, "COUNTERSIGN_OAUTH_CLIENT_ID") {
			t.Errorf("told %q", told.Detail)
		}
	}
}

func TestProviderAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.authorizes(t, "ACME/1", adaLogin)
	b.refreshes(t, "ACME/1")
	b.refreshes(t, "ACME/1", sandbox.TokenInvalidGrant)
	if err := b.Calls.Throttled(t.Context(), time.Hour); err != nil { // before the first call there is nothing to hold
		t.Fatal(err)
	}
	for range 3 {
		if _, err := b.Calls.Take(t.Context(), budget.Walk); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Calls.Throttled(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	api := b.caller(t, admin.ScopeRead)
	var got web.ProviderStanding
	api.call(t, http.MethodGet, "/provider", "").has(t, http.StatusOK).into(t, &got)
	if want := got.Calls; want.PerSecond != 4 || *want.PerDay != 1000 || want.Used != 3 || *want.Left != 997 || want.Kept != 100 || want.Throttled != 1 {
		t.Errorf("calls %+v", want)
	}
	if hold := got.Calls.Hold; hold == nil || hold.Why != "throttled" || time.Until(hold.Until) < 14*time.Minute {
		t.Errorf("hold %+v", hold)
	}
	if r := got.TokenRequests; r.PerDay != nil || r.Left != nil || r.Hold != nil || r.PerSecond != 1 {
		t.Errorf("token requests %+v", r)
	}
	k := got.Keeping
	if diff := cmp.Diff(map[string]int{"refreshed": 1, "refused": 1}, k.Refreshes); diff != "" {
		t.Errorf("refreshes (-want +got):\n%s", diff)
	}
	if k.Due != 0 || k.DoneAt != nil || k.NextAt == nil || k.AppRefused != nil || k.Frozen != nil || k.Doubted != 1 || len(k.Doubtful) != 1 {
		t.Fatalf("keeping %+v", k)
	}
	if d := k.Doubtful[0]; d.ClientName != "Acme Bakery" || !d.Proven || d.Refusals != 1 || d.NextAt == nil {
		t.Errorf("doubtful %+v", d)
	}

	// By our own count background work waits before owners do.
	b.exec(t, `UPDATE meters SET hold_until = NULL, hold_why = NULL, used = 950`)
	api.call(t, http.MethodGet, "/provider", "").into(t, &got)
	if got.Calls.Hold == nil || got.Calls.Hold.Why != "share_used" || *got.Calls.Left != 50 || got.Calls.Kept != 50 {
		t.Errorf("with 50 left: %+v, %+v", got.Calls, got.Calls.Hold)
	}
	b.exec(t, `UPDATE meters SET used = 1000`)
	api.call(t, http.MethodGet, "/provider", "").into(t, &got)
	if got.Calls.Hold.Why != "day_used" || !got.Calls.Hold.Until.Equal(got.Calls.DayEnds) {
		t.Errorf("with nothing left: %+v", got.Calls.Hold)
	}
}

// token is the answer of the API.
type token struct {
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	ExpiresAt   time.Time `json:"expires_at"`
	AccountID   string    `json:"account_id"`
	Scopes      []string  `json:"scopes"`
}

func TestToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.authorizes(t, "ACME/1", adaLogin)
	api := b.caller(t, admin.ScopeTokens)
	ask := func(c caller) token {
		t.Helper()
		answer := c.call(t, http.MethodPost, "/clients/ref:ACME%2F1/token", "").has(t, http.StatusOK)
		if got := answer.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control %q", got)
		}
		var got token
		answer.into(t, &got)
		return got
	}
	first := ask(api)
	if first.TokenType != "Bearer" || first.AccountID != "acct-acme" || !slices.Contains(first.Scopes, "contact_data") || time.Until(first.ExpiresAt) < time.Hour {
		t.Errorf("got %+v", first)
	}
	if account, err := b.Keeper.Provider.Account(t.Context(), provisioning.Secret(first.AccessToken)); err != nil || account.ID != "acct-acme" {
		t.Errorf("the token opens %q, %v", account.ID, err)
	}
	if diff := cmp.Diff(first, ask(api)); diff != "" {
		t.Errorf("a token that lives was not given again (-first +second):\n%s", diff)
	}

	// One that has run out is refreshed before it is given.
	b.exec(t, `UPDATE grants SET access_expires_at = now() - interval '1 hour'`)
	second := ask(b.caller(t, admin.ScopeTokens))
	if second.AccessToken == first.AccessToken || time.Until(second.ExpiresAt) < time.Hour {
		t.Errorf("got %+v", second)
	}

	// The history tells it once a day and key; the list of what happened last is not full of it.
	given := func() (actors []string) {
		t.Helper()
		events, err := b.Store.Events(t.Context(), b.client(t, "ACME/1").ID, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if text, err := json.Marshal(e); err != nil || strings.Contains(string(text), first.AccessToken) {
				t.Errorf("an event has the token: %s, %v", e.Kind, err)
			}
			if e.Kind == provisioning.EventTokenGiven {
				actors = append(actors, string(e.Actor))
			}
		}
		return actors
	}
	if actors := given(); len(actors) != 2 || actors[0] == actors[1] || !strings.HasPrefix(actors[0], "key ") {
		t.Errorf("given to %q", actors)
	}
	b.exec(t, `UPDATE events SET at = at - interval '32 days' WHERE kind = 'token_given'`)
	ask(api)
	ask(api)
	if actors := given(); len(actors) != 3 {
		t.Errorf("a month later given to %q", actors)
	}
	events, err := b.Store.RecentEvents(t.Context(), 100)
	if err != nil || len(events) == 0 || slices.ContainsFunc(events, func(e provisioning.Event) bool { return e.Kind == provisioning.EventTokenGiven }) {
		t.Errorf("what happened last: %v, %v", events, err)
	}
	for _, secret := range []string{first.AccessToken, second.AccessToken} {
		if strings.Contains(b.log.String(), secret) {
			t.Error("the log has a token")
		}
	}
}

func TestNoToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.authorizes(t, "ACME/1", adaLogin)
	b.authorizes(t, "BLOOM", benLogin)
	b.strays(t, "CAFE", strangeLogin)
	b.exec(t, `UPDATE grants SET access_expires_at = now() - interval '1 hour'`)
	api := b.caller(t, admin.ScopeTokens)
	for _, test := range []struct {
		name, client string
		wrong        []sandbox.Fault
		status       int
		kind         string
		least, most  time.Duration // of Retry-After
	}{
		{"unknown", uuid.NewString(), nil, http.StatusNotFound, "urn:countersign:not-found", 0, 0},
		{"in quarantine", "ref:CAFE", nil, http.StatusConflict, "urn:countersign:client-not-authorized", 0, 0},
		{"outage", "ref:ACME%2F1", []sandbox.Fault{sandbox.Token503}, http.StatusServiceUnavailable, "urn:countersign:provider-unavailable", time.Minute, time.Minute},
		{"a moment later", "ref:ACME%2F1", nil, http.StatusServiceUnavailable, "urn:countersign:provider-unavailable", time.Minute, time.Minute},
		{"refused", "ref:BLOOM", []sandbox.Fault{sandbox.TokenInvalidGrant}, http.StatusServiceUnavailable, "urn:countersign:grant-doubtful", time.Minute, 2 * time.Minute},
		{"still refused", "ref:BLOOM", nil, http.StatusServiceUnavailable, "urn:countersign:grant-doubtful", 3*time.Hour - time.Minute, 3 * time.Hour},
	} {
		b.goesWrong(t, test.wrong...)
		b.exec(t, `UPDATE grants SET refresh_at = now() + interval '3 hours' WHERE refused_at IS NOT NULL`)
		answer := api.call(t, http.MethodPost, "/clients/"+test.client+"/token", "")
		var told struct{ Type, Detail string }
		answer.problem(t, test.status)
		answer.into(t, &told)
		if told.Type != test.kind || told.Detail == "" {
			t.Errorf("%s: told %+v", test.name, told)
		}
		seconds, _ := strconv.Atoi(answer.header.Get("Retry-After"))
		if after := time.Duration(seconds) * time.Second; after < test.least || after > test.most {
			t.Errorf("%s: Retry-After %s", test.name, after)
		}
	}
	var events int
	if err := b.db.QueryRow(t.Context(), `SELECT count(*) FROM events WHERE kind = 'token_given'`).Scan(&events); err != nil || events != 0 {
		t.Errorf("%d events of tokens that were not given, %v", events, err)
	}
}
