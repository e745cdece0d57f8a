package notify_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// story is what a test knows of one client without asking Reminders.
type story struct {
	desk   *desk
	client uuid.UUID

	authorized bool
	bounced    bool
	optedOut   provisioning.OptedOut
	paused     bool
	link       uuid.UUID // of the last invitation that was accepted
	linkEnds   time.Time
	linkDead   bool // used, or sent to an address that is no longer the owner's
	used       int  // reminders of that invitation
	planned    bool // by an operator
	owners     int  // who came after the first

	sent map[string]bool // invitation and number of each reminder
}

// stopped tells that no reminder may go out.
func (s *story) stopped() bool {
	return s.authorized || s.bounced || s.optedOut != "" || s.paused || s.linkDead ||
		!s.linkEnds.After(s.desk.now.Add(24*time.Hour)) || s.used >= 3
}

func (s *story) working() bool {
	t := s.desk.now.In(s.desk.reminders.Zone)
	return t.Weekday() != time.Saturday && t.Weekday() != time.Sunday && t.Hour() >= 9 && t.Hour() < 17
}

// TestRemindersProperty lets things happen to a client in any order. Whatever the order, no reminder is queued
// after a stop that was committed before; there are as many as set, each at most once an invitation; and what
// no operator asked for goes out in working time.
func TestRemindersProperty(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		d.now = monday()
		s := &story{desk: d, client: d.invited(fmt.Sprintf("C%d", n), "en-US", "America/New_York"), sent: make(map[string]bool)}
		defer d.exec(`DELETE FROM clients WHERE id = $1`, s.client)
		s.deliver(t, rt)
		const operator = provisioning.Actor("operator ann@agency.example")
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) { s.check(t, rt) },
			"wait hours": func(rt *rapid.T) {
				d.now = d.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour)
			},
			"wait until it is due": func(rt *rapid.T) {
				next := first[*time.Time](t, d.pool, `SELECT next_at FROM reminders WHERE client_id = $1`, s.client)
				if next == nil || !next.After(d.now) {
					rt.Skip()
				}
				d.now = *next
			},
			"due":    func(rt *rapid.T) { s.due(t, rt) },
			"accept": func(rt *rapid.T) { s.deliver(t, rt) },
			"take back": func(*rapid.T) {
				d.end(s.client, notify.StateCancelled)
			},
			"fail": func(*rapid.T) {
				if strings.HasPrefix(d.onItsWay(s.client), "reminder") {
					s.used++
				}
				d.end(s.client, notify.StateFailed)
			},
			"authorize": func(*rapid.T) {
				if s.authorized {
					return
				}
				d.advance(s.client, provisioning.EventAuthorized, provisioning.StageAuthorized, "")
				d.exec(`UPDATE invitations SET spent_at = now() WHERE client_id = $1 AND revoked_at IS NULL`, s.client)
				s.authorized, s.bounced, s.linkDead = true, false, true
				if s.optedOut == provisioning.OptedOutDeclined {
					s.optedOut = ""
				}
			},
			"lapse": func(*rapid.T) {
				if s.authorized {
					d.advance(s.client, "lapsed", provisioning.StageLapsed, "")
					s.authorized = false
				}
			},
			"press": func(*rapid.T) {
				if !s.authorized {
					d.advance(s.client, provisioning.EventStarted, provisioning.StageStarted, "")
					d.walk(s.client, "")
					s.bounced = false // Whoever pressed has the mail.
				}
			},
			"deny": func(*rapid.T) {
				if !s.authorized {
					d.advance(s.client, provisioning.EventDeclined, provisioning.StageStalled, provisioning.ReasonDeclined)
					d.walk(s.client, "declined")
					s.bounced = false
				}
			},
			"bounce": func(*rapid.T) {
				if !s.authorized {
					d.advance(s.client, provisioning.EventBounced, provisioning.StageStalled, provisioning.ReasonBounced)
					s.bounced = true
				}
			},
			"opt out": func(rt *rapid.T) {
				kind := rapid.SampledFrom([]provisioning.OptedOut{provisioning.OptedOutDeclined, provisioning.OptedOutUnsubscribed}).Draw(rt, "kind")
				d.optOut(s.client, kind)
				if s.optedOut != provisioning.OptedOutUnsubscribed {
					s.optedOut = kind
				}
				s.bounced = false // The stage tells one reason; this one stops as well.
			},
			"pause": func(*rapid.T) {
				d.exec(`UPDATE clients SET paused = true WHERE id = $1`, s.client)
				s.paused = true
			},
			"resume": func(*rapid.T) {
				d.exec(`UPDATE clients SET paused = false WHERE id = $1`, s.client)
				s.paused = false
			},
			"invite": func(*rapid.T) { d.invite(s.client) },
			"change the address": func(rt *rapid.T) {
				s.owners++
				to := provisioning.Owner{Email: fmt.Sprintf("owner%d@clients.example", s.owners)}
				if _, err := d.inviter.ChangeOwner(t.Context(), s.client, to, provisioning.ActorCLI); err != nil {
					rt.Fatal(err)
				}
				s.linkDead, s.optedOut = true, ""
				s.bounced = false
			},
			"plan": func(rt *rapid.T) {
				at := d.now.Add(time.Duration(rapid.IntRange(1, 400).Draw(rt, "hours")) * time.Hour)
				if s.wish(t, rt, at.After(s.linkEnds.Add(-24*time.Hour)), d.reminders.Plan(t.Context(), s.client, at, operator)) {
					s.planned = true
				}
			},
			"skip": func(rt *rapid.T) {
				if s.wish(t, rt, false, d.reminders.Skip(t.Context(), s.client, operator)) {
					s.used++
					s.planned = false
				}
			},
			"send now": func(rt *rapid.T) {
				before := d.onItsWay(s.client)
				err := d.reminders.SendNow(t.Context(), s.client, operator)
				after := d.onItsWay(s.client)
				if (err == nil) != (before == "" && strings.HasPrefix(after, "reminder")) {
					rt.Fatalf("SendNow returned %v; before it %q, after it %q is on its way", err, before, after)
				}
				if err == nil && s.stopped() {
					rt.Fatal("SendNow sends after a stop")
				}
				if err == nil {
					s.planned = false
				}
			},
		})
	})
}

// wish checks how an operator's wish ended, and tells whether it was fulfilled.
func (s *story) wish(t *testing.T, rt *rapid.T, late bool, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, notify.ErrNoReminder) {
		rt.Fatal(err)
	}
	if refused := s.stopped() || late || s.desk.onItsWay(s.client) != ""; refused != (err != nil) {
		rt.Fatalf("an operator's wish came to %v; should it be refused: %t; %+v", err, refused, s)
	}
	return err == nil
}

func (s *story) due(t *testing.T, rt *rapid.T) {
	t.Helper()
	before := s.desk.onItsWay(s.client)
	s.desk.due()
	after := s.desk.onItsWay(s.client)
	if after == before {
		return
	}
	switch {
	case before != "":
		rt.Fatalf("%q took the place of %q", after, before)
	case s.stopped():
		rt.Fatalf("%q is queued after a stop: %+v", after, s)
	case !s.working() && !s.planned:
		rt.Fatalf("%q is queued at %s", after, s.desk.now.In(s.desk.reminders.Zone))
	case after[:len("reminder 1")] != fmt.Sprintf("reminder %d", s.used+1):
		rt.Fatalf("%q is queued after %d", after, s.used)
	}
	s.planned = false
}

// deliver has what is on its way accepted.
func (s *story) deliver(t *testing.T, rt *rapid.T) {
	t.Helper()
	step := s.desk.onItsWay(s.client)
	if !s.desk.deliver(s.client) {
		return
	}
	s.planned = false
	invitation := first[uuid.UUID](t, s.desk.pool, `
		SELECT invitation_id
		FROM messages
		WHERE client_id = $1
			AND state = 'sent'
		ORDER BY sent_at DESC, id DESC
		LIMIT 1`, s.client)
	if !strings.HasPrefix(step, "reminder") {
		s.link, s.used, s.bounced = invitation, 0, s.bounced && s.authorized
		s.linkEnds = first[time.Time](t, s.desk.pool, `SELECT expires_at FROM invitations WHERE id = $1`, invitation)
		s.linkDead = first[bool](t, s.desk.pool, `SELECT spent_at IS NOT NULL OR revoked_at IS NOT NULL FROM invitations WHERE id = $1`, invitation)
		return
	}
	key := invitation.String() + step[:len("reminder 1")]
	if s.sent[key] {
		rt.Fatalf("%s goes out twice", step)
	}
	s.sent[key] = true
	if invitation == s.link {
		s.used++
	}
}

// check compares the client's page with the story.
func (s *story) check(t *testing.T, rt *rapid.T) {
	t.Helper()
	state := s.desk.state(s.client)
	switch {
	case (state.NextAt == nil) != (state.Why != ""):
		rt.Fatalf("the page says %+v", state)
	case s.desk.onItsWay(s.client) != "":
	case s.stopped() != (state.Why != "" && state.Why != notify.ObstacleGone):
		rt.Fatalf("the page says %+v: %+v", state, s)
	}
}
