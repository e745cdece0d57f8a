package provisioning_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
)

// ways are the changes of stage there are.
const ways = `
	imported   invited started authorized stalled
	invited    imported started authorized stalled
	started    imported authorized stalled
	authorized lapsed
	lapsed     invited started authorized stalled
	stalled    imported invited started authorized stalled`

func possible(from, to provisioning.Stage) bool {
	for way := range strings.Lines(ways) {
		if stages := strings.Fields(way); len(stages) > 0 && stages[0] == string(from) {
			return slices.Contains(stages[1:], string(to))
		}
	}
	return false
}

func TestCanBecome(t *testing.T) {
	t.Parallel()
	for _, from := range provisioning.Stages() {
		for _, to := range append(provisioning.Stages(), "") {
			if got, want := from.CanBecome(to), possible(from, to); got != want {
				t.Errorf("%s can become %q: %v", from, to, got)
			}
		}
	}
}

func TestParseWords(t *testing.T) {
	t.Parallel()
	for _, s := range provisioning.Stages() {
		if got, err := provisioning.ParseStage(string(s)); got != s || err != nil {
			t.Error(s, got, err)
		}
	}
	for _, r := range provisioning.Reasons() {
		if got, err := provisioning.ParseReason(string(r)); got != r || err != nil {
			t.Error(r, got, err)
		}
	}
	if got, err := provisioning.ParseRoute("partner"); got != provisioning.RoutePartner || err != nil {
		t.Error(got, err)
	}
	_, stage := provisioning.ParseStage("Imported")
	_, reason := provisioning.ParseReason("")
	_, route := provisioning.ParseRoute("owner ")
	for _, err := range []error{stage, reason, route} {
		if !errors.Is(err, provisioning.ErrUnknownWord) {
			t.Error(err)
		}
	}
}

// change draws something that can happen, sensible or not.
func change() *rapid.Generator[provisioning.Change] {
	return rapid.Custom(func(t *rapid.T) provisioning.Change {
		ch := provisioning.Change{
			Actor: provisioning.ActorSystem,
			Event: rapid.SampledFrom([]provisioning.EventKind{
				provisioning.EventMailAccepted, provisioning.EventStarted, provisioning.EventAuthorized, provisioning.EventExpired,
			}).Draw(t, "event"),
			To: rapid.SampledFrom(append(provisioning.Stages(), "")).Draw(t, "stage"),
		}
		if ch.To == provisioning.StageStalled {
			ch.Reason = rapid.SampledFrom(provisioning.Reasons()).Draw(t, "reason")
		}
		return ch
	})
}

// TestAdvance takes clients along random ways and compares every step with the rules.
func TestAdvance(t *testing.T) {
	t.Parallel()
	o := setup(t)
	rapid.Check(t, func(t *rapid.T) {
		id := uuid.New()
		o.exec(t, `INSERT INTO clients (id, name, owner_email, username, search) VALUES ($1, 'Acme', 'ann@a.example', $2, '')`, id, id.String())
		events := 0
		for _, ch := range rapid.SliceOfN(change(), 1, 8).Draw(t, "changes") {
			ch.Client = id
			before, err := o.Client(context.Background(), id.String())
			if err != nil {
				t.Fatal(err)
			}
			moved, err := provisioning.Advance(context.Background(), o.pool, ch)
			if err != nil {
				t.Fatal(err)
			}
			after, err := o.Client(context.Background(), id.String())
			if err != nil {
				t.Fatal(err)
			}
			at := after.UpdatedAt
			want := before
			sameReason := before.Reason != nil && *before.Reason == ch.Reason
			wantMoved := possible(before.Stage, ch.To) && !sameReason
			if wantMoved {
				// The stage is dated when the row is written: a transaction may have waited long for it.
				want.Stage, want.Reason, want.StageAt = ch.To, nil, after.StageAt
				if after.StageAt.Before(at) {
					t.Fatalf("%+v: stage_at %s is before the transaction, %s", ch, after.StageAt, at)
				}
				if ch.Reason != "" {
					want.Reason = &ch.Reason
				}
			}
			if ch.Event == provisioning.EventMailAccepted && want.InvitedAt == nil {
				want.InvitedAt = &at
			}
			if ch.Event == provisioning.EventStarted {
				want.StartedAt = &at
			}
			if wantMoved && ch.To == provisioning.StageAuthorized && want.AuthorizedAt == nil {
				want.AuthorizedAt = &at
			}
			if wantMoved || ch.Event == provisioning.EventMailAccepted || ch.Event == provisioning.EventStarted {
				want.UpdatedAt, want.Revision = at, after.Revision
				if after.Version() == before.Version() {
					t.Fatalf("%+v leaves the version", ch)
				}
				if !at.After(before.UpdatedAt) {
					t.Fatalf("%+v does not touch updated_at", ch)
				}
			}
			if diff := cmp.Diff(want, after); diff != "" || moved != wantMoved {
				t.Fatalf("%+v moved %v (-want +got)\n%s", ch, moved, diff)
			}
			history, err := o.Events(context.Background(), id, 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			if events++; len(history) != events {
				t.Fatalf("%d events after %d changes", len(history), events)
			}
			wantEvent := provisioning.Event{
				ID: history[0].ID, ClientID: id, ClientName: "Acme", At: history[0].At,
				Kind: ch.Event, Actor: ch.Actor, Detail: provisioning.Detail{},
			}
			if wantMoved {
				wantEvent.Stage, wantEvent.Reason = &want.Stage, want.Reason
			}
			if diff := cmp.Diff(wantEvent, history[0]); diff != "" {
				t.Fatalf("the event (-want +got)\n%s", diff)
			}
		}
	})
}

func TestAdvanceNobody(t *testing.T) {
	t.Parallel()
	o := setup(t)
	ch := provisioning.Change{Client: uuid.New(), Event: provisioning.EventStarted, Actor: provisioning.ActorOwner, To: provisioning.StageStarted}
	if moved, err := provisioning.Advance(t.Context(), o.pool, ch); moved || !errors.Is(err, provisioning.ErrNotFound) {
		t.Error(moved, err)
	}
	for _, clients := range [][]uuid.UUID{nil, {}, {uuid.New()}} {
		if moved, err := provisioning.AdvanceAll(t.Context(), o.pool, clients, ch); moved != 0 || err != nil {
			t.Error(moved, err)
		}
	}
	if n := ask[int](t, o, `SELECT count(*) FROM events`); n > 0 {
		t.Errorf("%d events", n)
	}
}

func TestAdvanceAll(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example\nBell,bob@b.example\nCole,cy@c.example")
	ids := askAll[uuid.UUID](t, o, `SELECT id FROM clients ORDER BY name`)
	o.advance(t, ids[1], provisioning.EventAuthorized, provisioning.StageAuthorized, "")
	given := []uuid.UUID{ids[2], ids[1], ids[0], ids[0], uuid.New()}
	moved, err := provisioning.AdvanceAll(t.Context(), o.pool, given, provisioning.Change{
		Event: provisioning.EventMailAccepted, Actor: provisioning.APIKey("crm"), To: provisioning.StageInvited,
		Detail: provisioning.Detail{"server": "mx"},
	})
	if moved != 2 || err != nil {
		t.Errorf("moved %d, %v", moved, err)
	}
	got := askAll[string](t, o, `SELECT concat_ws(' ', name, stage, invited_at IS NOT NULL) FROM clients ORDER BY name`)
	if diff := cmp.Diff([]string{"Acme invited t", "Bell authorized t", "Cole invited t"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	got = askAll[string](t, o, `
		SELECT concat_ws(' ', c.name, e.actor, e.stage, e.detail ->> 'server')
		FROM events e JOIN clients c ON c.id = client_id WHERE kind = 'mail_accepted' ORDER BY 1`)
	if diff := cmp.Diff([]string{"Acme key crm invited mx", "Bell key crm mx", "Cole key crm invited mx"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestAdvanceAtOnce: of changes that come at once to one client, each is judged by what the one before it
// has made of the client, and nobody waits for ever.
func TestAdvanceAtOnce(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example")
	id := o.client(t, "Acme").ID
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 10 {
				// What refers to the client is written before, as an owner's walk does.
				tx, err := o.pool.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				ch := provisioning.Change{Client: id, Event: provisioning.EventStarted, Actor: provisioning.ActorOwner}
				ch.To = provisioning.Stages()[(n+i)%5]
				_, err = o.links.Issue(t.Context(), tx, []uuid.UUID{id})
				if err == nil {
					_, err = provisioning.Advance(t.Context(), tx, ch)
				}
				if err := errors.Join(err, tx.Commit(t.Context())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	history, err := o.Events(t.Context(), id, 0, 1000)
	if err != nil || len(history) != 81 {
		t.Fatalf("%d events, %v", len(history), err)
	}
	slices.Reverse(history)
	// Events of one client are written under its lock, so that their order is that of its changes.
	stage := provisioning.Stage("")
	for _, e := range history {
		if e.Stage == nil {
			continue
		}
		if stage != "" && !possible(stage, *e.Stage) {
			t.Errorf("from %s to %s", stage, *e.Stage)
		}
		stage = *e.Stage
	}
	if got := o.client(t, "Acme").Stage; got != stage {
		t.Errorf("the client is %s, its history says %s", got, stage)
	}
}
