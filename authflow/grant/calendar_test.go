package grant_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
)

// TestCalendar: whatever happens to a grant, it is refreshed for the first time within the hour, and then never
// rests for longer than 90 days, nor is it asked for before day 75 unless somebody wants it. After a failure it is tried
// again within hours, and not at once.
func TestCalendar(t *testing.T) {
	t.Parallel()
	o := open(t)
	client := o.clients(t, 1)[0]
	const (
		day         = 24 * time.Hour
		least, most = 30 * time.Second, 4*time.Hour + 30*time.Minute
	)
	rapid.Check(t, func(r *rapid.T) {
		o.authorize(t, client)
		pause := func() time.Duration { return o.grant(t, client).RefreshAt.Sub(o.clock.now()) }
		if p := pause(); p < 5*time.Minute || p > 40*time.Minute {
			r.Fatalf("the first refresh is due after %v", p)
		}
		failures := 0
		for range rapid.IntRange(1, 6).Draw(r, "turns") {
			o.clock.advance(pause() + time.Duration(rapid.IntRange(0, int(time.Hour)).Draw(r, "late")))
			switch rapid.SampledFrom([]grant.Outcome{grant.Refreshed, grant.Unavailable, grant.Misconfigured, grant.Lost}).Draw(r, "answer") {
			case grant.Unavailable:
				o.provider.says(&provisioning.ProviderError{Op: "refresh the grant", Status: 503})
			case grant.Misconfigured:
				o.provider.says(&provisioning.ProviderError{Op: "refresh the grant", Status: 401, Code: "invalid_client"})
			case grant.Lost:
				o.provider.says(lost())
			case grant.Refreshed, grant.Refused, grant.Superseded:
				o.provider.says(nil)
				failures = -1
			}
			failures++
			if n := o.work(t); n != 1 {
				r.Fatalf("%d turns when it is due", n)
			}
			p := pause()
			switch {
			case failures == 0 && (p < 75*day-time.Minute || p > 90*day):
				r.Fatalf("after a refresh it rests for %v", p)
			case failures > 0 && (p < least-time.Second || p > most):
				r.Fatalf("after %d failures it is tried again after %v", failures, p)
			case failures > 1 && p > 90*time.Second<<(failures-1):
				r.Fatalf("after only %d failures it is tried again after %v", failures, p)
			}
		}
		o.provider.says(nil)
	})
}

// Grants made at one moment, as after a large mailing, do not come back on one day, nor in one minute.
func TestCalendarIsSpread(t *testing.T) {
	t.Parallel()
	o := open(t)
	const grants = 600
	clients := o.clients(t, grants)
	for _, c := range clients {
		o.authorize(t, c)
	}
	most := func(unit string) int {
		t.Helper()
		return query[int](t, o, `SELECT max(n) FROM (SELECT count(*) AS n FROM grants GROUP BY date_trunc($1, refresh_at)) x`, unit)[0]
	}
	// 30 minutes: 20 a minute in the mean. The bound is one that chance does not reach.
	if n := most("minute"); n > 60 {
		t.Errorf("%d of %d first refreshes are due in one minute", n, grants)
	}
	o.clock.advance(time.Hour)
	if n := o.work(t); n != grants {
		t.Errorf("%d of %d are refreshed within the hour", n, grants)
	}
	// 15 days: 40 a day in the mean.
	if n := most("day"); n > 90 {
		t.Errorf("%d of %d are due on one day", n, grants)
	}
	if late := query[uuid.UUID](t, o, `SELECT id FROM grants WHERE refresh_at > refreshed_at + interval '90 days'`); len(late) > 0 {
		t.Errorf("after day 90: %s", fmt.Sprint(late))
	}
}
