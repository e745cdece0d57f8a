package grant_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
)

// TestAnswers goes through all that a provider may answer. Only invalid_grant says something about a grant, and
// once says too little; nothing moves the client.
func TestAnswers(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 1)[0]
	answers := func(status int, code string) error {
		return &provisioning.ProviderError{Op: "refresh the grant", Status: status, Code: code}
	}
	unavailable := fmt.Errorf("refresh the grant: %w: it answered 200 with a web page", provisioning.ErrProviderUnavailable)
	for _, test := range []struct {
		name    string
		answer  error
		outcome grant.Outcome
	}{
		{"tokens", nil, grant.Refreshed},
		{"invalid_grant", invalidGrant(), grant.Refused},
		{"invalid_grant, wrapped", fmt.Errorf("at noon: %w", invalidGrant()), grant.Refused},
		{"invalid_grant, joined", errors.Join(errors.New("at noon"), invalidGrant()), grant.Refused},
		{"invalid_grant with 401", answers(401, "invalid_grant"), grant.Refused},
		{"invalid_client", answers(401, "invalid_client"), grant.Misconfigured},
		{"invalid_client, wrapped", fmt.Errorf("at noon: %w", answers(401, "invalid_client")), grant.Misconfigured},
		{"unauthorized_client", answers(400, "unauthorized_client"), grant.Misconfigured},
		{"unsupported_grant_type", answers(400, "unsupported_grant_type"), grant.Misconfigured},
		{"invalid_scope", answers(400, "invalid_scope"), grant.Misconfigured},
		{"403 without a word", answers(403, ""), grant.Misconfigured},
		{"429", answers(429, ""), grant.Unavailable},
		{"429, and what it says is not believed", answers(429, "invalid_grant"), grant.Unavailable},
		{"500", answers(500, ""), grant.Unavailable},
		{"503, and what it says is not believed", answers(503, "invalid_grant"), grant.Unavailable},
		{"503, wrapped", fmt.Errorf("at noon: %w", answers(503, "")), grant.Unavailable},
		{"a web page", unavailable, grant.Unavailable},
		{"no turn in time", fmt.Errorf("%w: %w", provisioning.ErrProviderUnavailable, context.DeadlineExceeded), grant.Unavailable},
		{"an error of ours", errors.New("the address is not one"), grant.Unavailable},
		{"no answer", lost(), grant.Lost},
		{"no answer, wrapped", fmt.Errorf("at noon: %w", lost()), grant.Lost},
	} {
		o.exec(t, `DELETE FROM refreshes`)
		o.exec(t, `UPDATE keeping SET refused_at = NULL, refused_why = NULL`)
		o.exec(t, `UPDATE grants SET failures = 0, refusals = 0, refused_at = NULL`)
		o.provider.says(test.answer)
		o.due(t)
		if n := o.work(t); n != 1 {
			t.Errorf("%s: %d turns", test.name, n)
		}
		outcomes := o.outcomes(t, client)
		if got := outcomes[len(outcomes)-1]; got != test.outcome {
			t.Errorf("%s: %s, want %s", test.name, got, test.outcome)
		}
		g := o.grant(t, client)
		if g.Status != grant.StatusActive || o.stage(t, client) != provisioning.StageAuthorized {
			t.Errorf("%s: the grant is %s, the client %s", test.name, g.Status, o.stage(t, client))
		}
		if refused := g.RefusedAt != nil; refused != (test.outcome == grant.Refused) {
			t.Errorf("%s: refused is %t", test.name, refused)
		}
		if failed := query[int](t, o, `SELECT failures FROM grants`)[0]; (failed > 0) != (test.outcome != grant.Refreshed && test.outcome != grant.Refused) {
			t.Errorf("%s: %d failures", test.name, failed)
		}
		if app := query[bool](t, o, `SELECT refused_at IS NOT NULL FROM keeping`)[0]; app != (test.outcome == grant.Misconfigured) {
			t.Errorf("%s: the app is refused: %t", test.name, app)
		}
		if pause := g.RefreshAt.Sub(o.clock.now()); test.answer != nil && (pause > 90*time.Second || pause < 10*time.Second) {
			t.Errorf("%s: tried again after %v", test.name, pause)
		}
		if n := query[int](t, o, `SELECT count(*) FROM grants WHERE lease_id IS NOT NULL`)[0]; n != 0 {
			t.Errorf("%s: the lease is not given back", test.name)
		}
	}
}

// However often the provider cannot answer, nobody is taken for lapsed, and it is asked again within hours.
func TestUnavailableForWeeks(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.authorized(t, 2)[0]
	o.provider.says(&provisioning.ProviderError{Op: "refresh the grant", Status: 503})
	o.due(t)
	const times = 60
	for range times {
		o.work(t)
		o.clock.advance(4*time.Hour + 31*time.Minute)
	}
	if n := len(o.outcomes(t, client)); n != times {
		t.Errorf("%d attempts in %d times four hours and a half", n, times)
	}
	o.provider.says(nil)
	o.work(t)
	o.opens(t, client)
	if diff := cmp.Diff(map[provisioning.Stage]int{provisioning.StageAuthorized: 2}, o.stages(t)); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]provisioning.EventKind{provisioning.EventAuthorized, provisioning.EventProven}, o.events(t, client)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A provider that refuses our app is told to the operator once, by one of many, until it works again.
func TestAppRefused(t *testing.T) {
	t.Parallel()
	o := open(t)
	o.authorized(t, 3)
	second := o.another(o.db)
	const words = "the provider refuses this app"
	for round := 1; round <= 2; round++ {
		o.provider.says(&provisioning.ProviderError{Op: "refresh the grant", Status: 401, Code: "invalid_client", Description: "Client authentication failed."})
		for range 3 {
			o.due(t)
			o.work(t)
			o.due(t)
			works(t, second)
		}
		if n := o.log.told(words); n != round {
			t.Errorf("told %d times in outage %d", n, round)
		}
		v, err := o.Overview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v.RefusedAt == nil || v.RefusedWhy == nil || v.FrozenAt != nil {
			t.Errorf("the overview says %+v", v)
		}
		o.provider.says(nil)
		o.due(t)
		works(t, second)
		if v, err = o.Overview(t.Context()); err != nil || v.RefusedAt != nil || v.RefusedWhy != nil {
			t.Errorf("after it works again the overview says %+v, %v", v, err)
		}
	}
	if diff := cmp.Diff(map[provisioning.Stage]int{provisioning.StageAuthorized: 3}, o.stages(t)); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}
