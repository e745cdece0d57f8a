package provisioning_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
)

// optOut is provisioning.OptOut by the owner.
func (o *office) optOut(tb fataler, client uuid.UUID, kind provisioning.OptedOut) {
	tb.Helper()
	if err := provisioning.OptOut(context.Background(), o.DB, client, kind, provisioning.ActorOwner, nil); err != nil {
		tb.Fatal(err)
	}
}

// standing is where the client stands, and whether its owner opted out.
func (o *office) standing(tb fataler, client uuid.UUID) string {
	tb.Helper()
	return ask[string](tb, o, `SELECT concat_ws(' ', concat_ws('/', stage, reason), opted_out) FROM clients WHERE id = $1`, client)
}

// In whatever stage an owner opts out and changes their mind, nothing is lost but the opt-out.
func TestOptOutAndIn(t *testing.T) {
	t.Parallel()
	o := setup(t)
	type standing struct {
		stage  provisioning.Stage
		reason provisioning.Reason
	}
	all := []standing{}
	for _, stage := range provisioning.Stages() {
		if stage != provisioning.StageStalled {
			all = append(all, standing{stage, ""})
		}
	}
	for _, reason := range []provisioning.Reason{provisioning.ReasonBounced, provisioning.ReasonWrongAccount, provisioning.ReasonExpired} {
		all = append(all, standing{provisioning.StageStalled, reason})
	}
	for _, s := range all {
		for _, kind := range []provisioning.OptedOut{provisioning.OptedOutDeclined, provisioning.OptedOutUnsubscribed} {
			o.inTx(t, func(o *office) {
				o.imports(t, "name,owner_email\nAcme,ann@a.example")
				id := o.client(t, "Acme").ID
				if s.stage == provisioning.StageLapsed {
					o.advance(t, id, provisioning.EventAuthorized, provisioning.StageAuthorized, "")
				}
				o.advance(t, id, provisioning.EventUpdated, s.stage, s.reason)
				before := o.standing(t, id)

				o.optOut(t, id, kind)
				want := "stalled/" + string(kind) + " " + string(kind)
				if s.stage == provisioning.StageAuthorized {
					want = "authorized " + string(kind)
				}
				if got := o.standing(t, id); got != want {
					t.Errorf("%s opts %s at %s, want %s", before, kind, got, want)
				}
				if err := provisioning.OptIn(t.Context(), o.DB, id, provisioning.Operator("sam")); err != nil {
					t.Fatal(err)
				}
				if s.stage == provisioning.StageLapsed { // No way leads back; the next mail takes it on.
					before = want[:len("stalled/")+len(kind)]
				}
				if got := o.standing(t, id); got != before {
					t.Errorf("%s comes back as %s", before, got)
				}
				last := ask[string](t, o, `SELECT kind || ' by ' || actor FROM events ORDER BY id DESC LIMIT 1`)
				if last != "opted_in by operator sam" {
					t.Errorf("the history ends with %s", last)
				}
			})
		}
	}
}

// TestOptedOut leads an owner, robots that press what they find, and an operator along random ways, and
// compares every step with the rules.
func TestOptedOut(t *testing.T) {
	t.Parallel()
	o := setup(t)
	rapid.Check(t, func(t *rapid.T) {
		id := uuid.New()
		o.exec(t, `INSERT INTO clients (id, name, owner_email, username, search) VALUES ($1, 'Acme', 'ann@a.example', $2, '')`, id, id.String())
		var want provisioning.OptedOut
		var last, earlier time.Time // when the owner opted out
		for _, step := range rapid.SliceOfN(rapid.SampledFrom([]string{
			"decline", "not me", "unsubscribe", "continue", "consent", "lapse", "opt in", "undo", "undo an earlier one",
		}), 1, 12).Draw(t, "steps") {
			notes, optsOut := 1, false
			events := ask[int](t, o, `SELECT count(*) FROM events WHERE client_id = $1`, id)
			var err error
			switch step {
			case "decline", "not me":
				optsOut = true
				if step == "decline" {
					o.optOut(t, id, provisioning.OptedOutDeclined)
				} else {
					err = provisioning.NotMe(context.Background(), o.DB, id)
				}
				if want == "" {
					want = provisioning.OptedOutDeclined
				}
			case "unsubscribe":
				optsOut = true
				o.optOut(t, id, provisioning.OptedOutUnsubscribed)
				want = provisioning.OptedOutUnsubscribed
			case "continue":
				o.advance(t, id, provisioning.EventStarted, provisioning.StageStarted, "")
			case "consent":
				if o.advance(t, id, provisioning.EventAuthorized, provisioning.StageAuthorized, "") && want == provisioning.OptedOutDeclined {
					want = ""
				}
			case "lapse":
				o.advance(t, id, provisioning.EventConsentFailed, provisioning.StageLapsed, "")
			case "opt in", "undo":
				if want == "" {
					notes = 0
				}
				if want = ""; step == "undo" {
					err = provisioning.UndoOptOut(context.Background(), o.DB, id, last)
				} else {
					err = provisioning.OptIn(context.Background(), o.DB, id, provisioning.Operator("sam"))
				}
			case "undo an earlier one":
				notes = 0
				err = provisioning.UndoOptOut(context.Background(), o.DB, id, earlier)
			}
			if err != nil {
				t.Fatal(err)
			}
			c, err := o.Client(context.Background(), id.String())
			if err != nil {
				t.Fatal(err)
			}
			if optsOut {
				earlier, last = last, *c.OptedOutAt
				if !last.After(earlier) {
					t.Fatalf("%s is dated %s, and the one before %s", step, last, earlier)
				}
			}
			if (c.OptedOut == nil) != (want == "") || c.OptedOut != nil && *c.OptedOut != want {
				t.Fatalf("after %s the owner opted out as %v, want %q", step, c.OptedOut, want)
			}
			if n := ask[int](t, o, `SELECT count(*) FROM events WHERE client_id = $1`, id) - events; n != notes {
				t.Fatalf("%s is noted %d times, want %d", step, n, notes)
			}
		}
	})
}

// Whoever opted out is mailed only by name, however far a press of a button has taken the client since.
func TestInvitePassesOverWhoOptedOut(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\nB,Bell,bob@b.example\nC,Cole,cy@c.example")
	o.optOut(t, o.client(t, "Acme").ID, provisioning.OptedOutUnsubscribed)
	o.optOut(t, o.client(t, "Bell").ID, provisioning.OptedOutDeclined)
	for _, name := range []string{"Acme", "Bell", "Cole"} {
		o.advance(t, o.client(t, name).ID, provisioning.EventStarted, provisioning.StageStarted, "")
	}
	for _, test := range []struct {
		selection provisioning.Selection
		want      provisioning.Invited
	}{
		{
			provisioning.Selection{Stage: provisioning.StageStarted},
			provisioning.Invited{Matched: 3, Queued: 1, Skipped: map[provisioning.SkipReason]int{"unsubscribed": 1, "declined": 1}},
		},
		{
			provisioning.Selection{Clients: []string{"A", "B"}},
			provisioning.Invited{Matched: 2, Queued: 2, Skipped: map[provisioning.SkipReason]int{}},
		},
	} {
		got, err := o.inviter.Invite(t.Context(), test.selection, provisioning.ActorCLI, true)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%+v: %v (-want +got)\n%s", test.selection, err, diff)
		}
	}
}

func TestOptOutNobody(t *testing.T) {
	t.Parallel()
	o := setup(t)
	for name, err := range map[string]error{
		"OptOut":     provisioning.OptOut(t.Context(), o.DB, uuid.New(), provisioning.OptedOutDeclined, provisioning.ActorOwner, nil),
		"NotMe":      provisioning.NotMe(t.Context(), o.DB, uuid.New()),
		"OptIn":      provisioning.OptIn(t.Context(), o.DB, uuid.New(), provisioning.ActorCLI),
		"UndoOptOut": provisioning.UndoOptOut(t.Context(), o.DB, uuid.New(), time.Now()),
	} {
		if !errors.Is(err, provisioning.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
