package provisioning_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// holders are the clients that have a grant.
type holders []uuid.UUID

func (h holders) Holding(context.Context, pgx.Tx, []uuid.UUID) ([]uuid.UUID, error) { return h, nil }

// TestRouteChanges has clients in every stage take every other route, by an edit and by a roster file.
func TestRouteChanges(t *testing.T) {
	t.Parallel()
	stages := []provisioning.Stage{
		provisioning.StageImported, provisioning.StageInvited, provisioning.StageStarted,
		provisioning.StageAuthorized, provisioning.StageLapsed, provisioning.StageStalled,
	}
	for _, from := range provisioning.Routes() {
		for _, to := range provisioning.Routes() {
			if from == to {
				continue
			}
			for _, file := range []bool{false, true} {
				for _, granted := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s to %s, file %v, grant %v", from, to, file, granted), func(t *testing.T) {
						t.Parallel()
						o := setup(t)
						var roster strings.Builder
						roster.WriteString("ref,name,owner_email,route\n")
						for i, stage := range stages {
							fmt.Fprintf(&roster, "%s,Client %d,o%d@a.example,%s\n", stage, i, i, from)
						}
						o.imports(t, roster.String())
						o.exec(t, `UPDATE clients SET stage = ref, reason = CASE ref WHEN 'stalled' THEN 'expired' END`)
						if granted {
							o.inviter.Grants = holders(askAll[uuid.UUID](t, o, `SELECT id FROM clients`))
						}
						if file {
							o.imports(t, strings.ReplaceAll(roster.String(), ","+string(from)+"\n", ","+string(to)+"\n"))
						} else {
							for _, id := range askAll[uuid.UUID](t, o, `SELECT id FROM clients`) {
								word := string(to)
								if _, err := o.inviter.Edit(t.Context(), id, "", provisioning.Edit{Route: &word}, provisioning.ActorCLI); err != nil {
									t.Fatal(err)
								}
							}
						}
						want := provisioning.StageImported
						if granted && to.Consents() {
							want = provisioning.StageAuthorized
						}
						for _, stage := range stages {
							c, err := o.Client(t.Context(), "ref:"+string(stage))
							if err != nil || c.Stage != want || c.Reason != nil || c.Route != to {
								t.Errorf("%s became %s %v on route %s (%v), want %s on %s", stage, c.Stage, c.Reason, c.Route, err, want, to)
							}
							events, err := o.Events(t.Context(), c.ID, 0, 10)
							if err != nil || len(events) == 0 || events[len(events)-1].Kind != provisioning.EventImported {
								t.Errorf("%s: history %+v (%v)", stage, events, err)
							}
						}
						o.checkProgress(t, time.Now())
					})
				}
			}
		}
	}
}

// TestRouteTakesMailBack: what was to be asked on the old route is not, and can be asked on the new one.
func TestRouteTakesMailBack(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\n", invite)
	c, err := o.Client(t.Context(), "ref:A")
	if err != nil {
		t.Fatal(err)
	}
	route := string(provisioning.RouteManager)
	if _, err := o.inviter.Edit(t.Context(), c.ID, "", provisioning.Edit{Route: &route}, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if _, err := o.inviter.Invite(t.Context(), provisioning.Selection{}, provisioning.ActorCLI, false); err != nil {
		t.Fatal(err)
	}
	got := askAll[string](t, o, `SELECT state || ' ' || coalesce(facts ->> 'route', '-') || ' ' || coalesce(facts ->> 'username', '-') FROM messages ORDER BY created_at, id`)
	if diff := cmp.Diff([]string{"cancelled - -", "queued manager " + c.Username}, got); diff != "" {
		t.Errorf("mails (-want +got)\n%s", diff)
	}
	if open := askAll[int](t, o, `SELECT count(*) FROM invitations WHERE revoked_at IS NULL`); open[0] != 2 {
		t.Errorf("%d links are open, want 2: the first leads to what is asked now", open[0])
	}
}

// TestReconnectByRoute: an owner is asked again for a grant that is gone only where it was theirs to give.
func TestReconnectByRoute(t *testing.T) {
	t.Parallel()
	for route, want := range map[provisioning.Route]struct {
		stage provisioning.Stage
		mails int
	}{
		provisioning.RouteOwner:    {provisioning.StageLapsed, 1},
		provisioning.RouteManager:  {provisioning.StageLapsed, 0},
		provisioning.RoutePartner:  {provisioning.StageAuthorized, 0},
		provisioning.RouteExternal: {provisioning.StageAuthorized, 0},
	} {
		o := setup(t)
		o.imports(t, "ref,name,owner_email,route\nA,Acme,ann@a.example,"+string(route)+"\n")
		o.exec(t, `UPDATE clients SET stage = 'authorized'`)
		c, err := o.Client(t.Context(), "ref:A")
		if err != nil {
			t.Fatal(err)
		}
		err = pgx.BeginFunc(t.Context(), o.pool, func(tx pgx.Tx) error {
			return o.inviter.Reconnect(t.Context(), tx, provisioning.Change{
				Client: c.ID, Event: provisioning.EventLapsed, Actor: provisioning.ActorSystem, To: provisioning.StageLapsed,
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if c, err = o.Client(t.Context(), "ref:A"); err != nil || c.Stage != want.stage {
			t.Errorf("%s: %s, %v", route, c.Stage, err)
		}
		if mails := askAll[int](t, o, `SELECT count(*) FROM messages`); mails[0] != want.mails {
			t.Errorf("%s: %d mails", route, mails[0])
		}
	}
}
