package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// candidate is a client that may or may not be mailed.
type candidate struct {
	id     uuid.UUID
	ref    string
	stage  provisioning.Stage
	reason provisioning.Reason
	route  provisioning.Route
	paused bool
	vip    bool
}

// candidates adds a client of every kind to the roster.
func (o *office) candidates(tb fataler) []candidate {
	tb.Helper()
	var all []candidate
	add := func(stage provisioning.Stage, reason provisioning.Reason) {
		for _, route := range []provisioning.Route{
			provisioning.RouteOwner, provisioning.RouteManager, provisioning.RoutePartner, provisioning.RouteExternal,
		} {
			for _, paused := range []bool{false, true} {
				ref := fmt.Sprintf("%s%s-%s-%v", stage, reason, route, paused)
				all = append(all, candidate{uuid.New(), ref, stage, reason, route, paused, len(all)%3 == 0})
			}
		}
	}
	for _, stage := range provisioning.Stages() {
		if stage != provisioning.StageStalled {
			add(stage, "")
		}
	}
	for _, reason := range provisioning.Reasons() {
		add(provisioning.StageStalled, reason)
	}
	for _, c := range all {
		tags := []string{}
		if c.vip {
			tags = []string{"other", "vip"}
		}
		o.exec(tb, `
			INSERT INTO clients (id, ref, name, owner_email, username, stage, reason, route, paused, tags, search)
			VALUES ($1, $2, $2, 'ann@a.example', lower($2), $3, nullif($4, ''), $5, $6, $7, '')`,
			c.id, c.ref, c.stage, string(c.reason), c.route, c.paused, tags)
	}
	return all
}

// skip is the rule of the comment on Selection.
func (c candidate) skip(named, again bool) provisioning.SkipReason {
	saidNo := []provisioning.Reason{
		provisioning.ReasonBounced, provisioning.ReasonDeclined, provisioning.ReasonUnsubscribed, provisioning.ReasonConflict,
	}
	switch {
	case c.paused:
		return provisioning.SkipPaused
	case c.stage == provisioning.StageAuthorized:
		return provisioning.SkipAuthorized
	case c.route != provisioning.RouteOwner && c.route != provisioning.RouteManager:
		return provisioning.SkipRoute
	case named:
		return ""
	case slices.Contains(saidNo, c.reason):
		return provisioning.SkipReason(c.reason)
	case !again && (c.stage == provisioning.StageInvited || c.stage == provisioning.StageStarted):
		return provisioning.SkipInvited
	}
	return ""
}

// TestInviteWhom selects among clients of every kind in every way.
func TestInviteWhom(t *testing.T) {
	t.Parallel()
	o := setup(t)
	all := o.candidates(t)
	refs, keys := []string{}, []string{}
	for i, c := range all {
		if i%2 == 0 {
			refs = append(refs, c.ref)
			keys = append(keys, []string{c.ref, "ref:" + c.ref, c.id.String(), strings.ToUpper(c.id.String())}[i/2%4])
		}
	}
	type selection struct {
		provisioning.Selection

		selects      func(candidate) bool
		named, again bool
	}
	selections := []selection{
		{Selection: provisioning.Selection{}, selects: func(c candidate) bool { return c.stage == provisioning.StageImported }},
		{Selection: provisioning.Selection{All: true}, selects: func(candidate) bool { return true }},
		{Selection: provisioning.Selection{Tag: "vip"}, selects: func(c candidate) bool { return c.vip }},
		{Selection: provisioning.Selection{Tag: "none"}, selects: func(candidate) bool { return false }},
		{Selection: provisioning.Selection{Clients: append(keys, keys[0])}, selects: func(c candidate) bool { return slices.Contains(refs, c.ref) }, named: true},
		{Selection: provisioning.Selection{Clients: []string{}}, selects: func(candidate) bool { return false }, named: true},
		{
			Selection: provisioning.Selection{Stage: provisioning.StageInvited, Tag: "vip"}, again: true,
			selects: func(c candidate) bool { return c.vip && c.stage == provisioning.StageInvited },
		},
	}
	for _, stage := range provisioning.Stages() {
		selections = append(selections, selection{
			Selection: provisioning.Selection{Stage: stage}, again: true,
			selects: func(c candidate) bool { return c.stage == stage },
		})
	}
	for _, reason := range provisioning.Reasons() {
		selections = append(selections, selection{
			Selection: provisioning.Selection{Reason: reason},
			selects:   func(c candidate) bool { return c.reason == reason },
		})
	}
	for _, s := range selections {
		want := provisioning.Invited{Skipped: make(map[provisioning.SkipReason]int)}
		mailed := []string{}
		for _, c := range all {
			if !s.selects(c) {
				continue
			}
			want.Matched++
			if why := c.skip(s.named, s.again); why != "" {
				want.Skipped[why]++
			} else {
				want.Queued++
				mailed = append(mailed, c.ref)
			}
		}
		o.inTx(t, func(o *office) {
			before := o.state(t)
			plan, err := o.inviter.Invite(t.Context(), s.Selection, provisioning.ActorCLI, true)
			if diff := cmp.Diff(want, plan); diff != "" || err != nil {
				t.Errorf("%+v: dry run, %v (-want +got)\n%s", s.Selection, err, diff)
			}
			if diff := cmp.Diff(before, o.state(t)); diff != "" {
				t.Errorf("%+v: a dry run changes (-before +after)\n%s", s.Selection, diff)
			}
			done, err := o.inviter.Invite(t.Context(), s.Selection, provisioning.ActorCLI, false)
			if diff := cmp.Diff(want, done); diff != "" || err != nil {
				t.Errorf("%+v: %v (-want +got)\n%s", s.Selection, err, diff)
			}
			slices.Sort(mailed)
			for what, sql := range map[string]string{
				"mails":       `SELECT ref FROM messages JOIN clients c ON c.id = client_id`,
				"events":      `SELECT ref FROM events JOIN clients c ON c.id = client_id WHERE kind = 'mail_queued' AND events.stage IS NULL`,
				"invitations": `SELECT ref FROM invitations i JOIN clients c ON c.id = client_id JOIN messages m ON m.invitation_id = i.id`,
			} {
				got := askAll[string](t, o, sql)
				slices.Sort(got)
				if diff := cmp.Diff(mailed, got); diff != "" {
					t.Errorf("%+v: %s (-want +got)\n%s", s.Selection, what, diff)
				}
			}
			if before["clients"] != o.state(t, "clients")["clients"] {
				t.Errorf("%+v: it changes clients", s.Selection)
			}
			again, err := o.inviter.Invite(t.Context(), s.Selection, provisioning.ActorCLI, false)
			if again.Queued != 0 || again.Skipped[provisioning.SkipQueued] != want.Queued || err != nil {
				t.Errorf("%+v: again %+v, %v", s.Selection, again, err)
			}
		})
	}
}

func TestInviteUnknown(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email,ref\nAcme,ann@a.example,A\nBell,bob@b.example,\nCole,cy@c.example,0123456789abcdef0123456789abcdef")
	before := o.state(t)
	id := o.client(t, "Bell").ID.String()
	gone := uuid.NewString()
	tests := []struct {
		clients []string
		missing string // empty if all are known
	}{
		{[]string{"A", "ref:A", id}, ""},
		{[]string{"0123456789abcdef0123456789abcdef"}, ""}, // a ref that could be an id
		{[]string{"A", "B", id, gone, "ref:C"}, `"B", "` + gone + `", "ref:C"`},
		{[]string{"", id}, `""`},
		{[]string{"ref:", id}, `"ref:"`},
		{[]string{"a"}, `"a"`},
		{[]string{"A\x00", "A\xff"}, `"A\x00", "A\xff"`},
	}
	for _, test := range tests {
		invited, err := o.inviter.Invite(t.Context(), provisioning.Selection{Clients: test.clients}, provisioning.ActorCLI, true)
		switch {
		case test.missing == "":
			if err != nil || invited.Queued == 0 {
				t.Errorf("%q: %+v, %v", test.clients, invited, err)
			}
		case !errors.Is(err, provisioning.ErrNotFound) || !strings.Contains(err.Error(), test.missing+":"):
			t.Errorf("%q: %v", test.clients, err)
		}
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}

// TestInviteAtOnce: of several runs at once over more clients than one batch, each client gets one mail.
func TestInviteAtOnce(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const clients = 4100 // more than two batches
	var roster strings.Builder
	roster.WriteString("name,owner_email\n")
	for i := range clients {
		fmt.Fprintf(&roster, "Acme %d,ann@a.example\n", i)
	}
	o.imports(t, roster.String())
	var runs sync.WaitGroup
	results := make([]provisioning.Invited, 2)
	for i := range results {
		runs.Go(func() {
			var err error
			if results[i], err = o.inviter.Invite(t.Context(), provisioning.Selection{}, provisioning.ActorCLI, false); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	queued, already := 0, 0
	for _, r := range results {
		queued += r.Queued
		already += r.Skipped[provisioning.SkipQueued]
		if r.Matched != clients {
			t.Errorf("%+v", r)
		}
	}
	if queued != clients || already != clients {
		t.Errorf("%d queued, %d queued already", queued, already)
	}
	for what, sql := range map[string]string{
		"mails":  `SELECT count(DISTINCT client_id) FROM messages`,
		"all":    `SELECT count(*) FROM messages`,
		"events": `SELECT count(*) FROM events WHERE kind = 'mail_queued'`,
	} {
		if n := ask[int](t, o, sql); n != clients {
			t.Errorf("%d %s", n, what)
		}
	}
}

// TestInviteLeavesOwnersAlone: an owner who is at work while a run queues mails does not wait for its end,
// though both write rows that refer to the client.
func TestInviteLeavesOwnersAlone(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example")
	acme := o.client(t, "Acme").ID
	inviter := *o.inviter
	inviter.Mailer = meanwhileMailer{inviter.Mailer, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		moved, err := provisioning.Advance(ctx, o.pool, provisioning.Change{
			Client: acme, Event: provisioning.EventStarted, Actor: provisioning.ActorOwner, To: provisioning.StageStarted,
		})
		if !moved || err != nil {
			t.Errorf("the owner could not start: %v", err)
		}
	}}
	invited, err := inviter.Invite(t.Context(), provisioning.Selection{}, provisioning.ActorCLI, false)
	if invited.Queued != 1 || err != nil {
		t.Errorf("%+v, %v", invited, err)
	}
}

// meanwhileMailer lets something happen when letters are queued and not yet committed.
type meanwhileMailer struct {
	provisioning.Mailer

	happen func()
}

func (m meanwhileMailer) Queue(ctx context.Context, tx pgx.Tx, letters []provisioning.Letter) ([]uuid.UUID, error) {
	already, err := m.Mailer.Queue(ctx, tx, letters)
	m.happen()
	return already, err
}
