package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// refer is provisioning.Refer.
func (o *office) refer(tb fataler, client uuid.UUID, name, email string) {
	tb.Helper()
	if err := provisioning.Refer(context.Background(), o.DB, client, provisioning.Owner{Name: name, Email: email}, ""); err != nil {
		tb.Fatal(err)
	}
}

// named returns the open referrals, in the order of the roster.
func (o *office) named(tb fataler) []provisioning.Referral {
	tb.Helper()
	page, next, err := o.OpenReferrals(context.Background(), "", 0)
	if err != nil || next != "" {
		tb.Fatal(next, err)
	}
	return page
}

// history is what happened to a client, newest last.
func (o *office) history(tb fataler, client uuid.UUID) []string {
	tb.Helper()
	return askAll[string](tb, o, `
		SELECT concat_ws(' ', kind, 'by', actor, '→ ' || stage || coalesce('/' || reason, ''))
		FROM events WHERE client_id = $1 ORDER BY id`, client)
}

func TestRefer(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example\nBell,bob@b.example")
	acme := o.client(t, "Acme")
	o.refer(t, acme.ID, "", "first@a.example")
	first := o.named(t)[0]
	o.refer(t, acme.ID, "", "first@A.example ")
	if got := o.named(t); len(got) != 1 || got[0].ID != first.ID {
		t.Errorf("the same person again is another referral: %+v", got)
	}
	err := provisioning.Refer(t.Context(), o.DB, acme.ID, provisioning.Owner{Name: " Eve \t Moss", Email: "Eve@müller.example"}, "Ask her\r\nafter noon\u200b.")
	if err != nil {
		t.Fatal(err)
	}
	want := provisioning.Referral{
		ClientID: acme.ID, ClientName: "Acme",
		Owner: provisioning.Owner{Name: "Eve Moss", Email: "Eve@xn--mller-kva.example"}, Note: "Ask her after noon.",
	}
	got, err := o.OpenReferral(t.Context(), acme.ID)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(want, "ID", "At")); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if got.ID == first.ID {
		t.Error("another person stands under the id of the first")
	}
	if diff := cmp.Diff([]string{"imported by command line → imported", "referred by owner", "referred by owner"}, o.history(t, acme.ID)); diff != "" {
		t.Errorf("history (-want +got)\n%s", diff)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM messages`); n > 0 || o.standing(t, acme.ID) != "imported" {
		t.Errorf("%d mails, and the client is %s", n, o.standing(t, acme.ID))
	}
	if _, err := o.OpenReferral(t.Context(), o.client(t, "Bell").ID); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("the owner of another client has named nobody: %v", err)
	}
	o.refer(t, uuid.New(), "", "eve@a.example") // a client that was deleted meanwhile
}

func TestReferRefuses(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example")
	id := o.client(t, "Acme").ID
	for _, test := range []struct{ name, email, note, field, says string }{
		{"", "", "", "email", "missing"},
		{"", " \t", "", "email", "missing"},
		{"", "eve", "", "email", "it has no @"},
		{"", "eve@a.example, bob@b.example", "", "email", "more than one @"},
		{"", "Eve Moss <eve@a.example>", "", "email", "a space"},
		{"", "eve@a.example\r\nBcc: bob@b.example", "", "email", "more than one @"},
		{"", "eve@localhost", "", "email", "no dot"},
		{"", strings.Repeat("x", 300) + "@a.example", "", "email", "shorten"},
		{"", "eve\x00@a.example", "", "email", "cannot be read"},
		{"", "eve\xff@a.example", "", "email", "cannot be read"},
		{"Eve\x1b[2J", "eve@a.example", "", "name", "cannot be read"},
		{strings.Repeat("é", 201), "eve@a.example", "", "name", "201 characters"},
		{"Eve", "eve@a.example", strings.Repeat("x", 1001), "note", "1001 characters"},
		{"Eve", "eve@a.example", "\x07", "note", "cannot be read"},
	} {
		err := provisioning.Refer(t.Context(), o.DB, id, provisioning.Owner{Name: test.name, Email: test.email}, test.note)
		wrong, ok := errors.AsType[*provisioning.FieldError](err)
		if !ok || wrong.Field != test.field || !strings.Contains(wrong.Message, test.says) || !strings.HasSuffix(wrong.Message, ".") {
			t.Errorf("%q %q %.20q: %v, want %s %q", test.name, test.email, test.note, err, test.field, test.says)
		}
	}
	if n := len(o.named(t)); n > 0 {
		t.Errorf("%d referrals are kept", n)
	}
}

// A robot that fills in every form leaves one referral, and nobody is mailed.
func TestReferManyAtOnce(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example")
	id := o.client(t, "Acme").ID
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 5 {
				if err := provisioning.Refer(t.Context(), o.pool, id, provisioning.Owner{Email: fmt.Sprintf("r%d-%d@a.example", n, i)}, ""); err != nil {
					t.Error(err)
				}
				for _, r := range o.named(t) {
					if err := provisioning.DismissReferral(t.Context(), o.pool, r.ID, provisioning.ActorCLI); err != nil && !errors.Is(err, provisioning.ErrNotFound) {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	o.refer(t, id, "", "eve@a.example")
	if n := len(o.named(t)); n != 1 {
		t.Errorf("%d referrals are open", n)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM messages`); n > 0 {
		t.Errorf("%d mails", n)
	}
}

// To accept a referral is all that its operator has to do, whatever the old owner or their address said.
func TestAcceptReferral(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_name,owner_email\nA,Acme,Ann,ann@a.example\nB,Bell,Bob,bob@b.example", invite)
	acme, bell := o.client(t, "Acme").ID, o.client(t, "Bell").ID
	o.advance(t, acme, provisioning.EventMailAccepted, provisioning.StageInvited, "")
	if err := provisioning.NotMe(t.Context(), o.DB, acme); err != nil {
		t.Fatal(err)
	}
	o.refer(t, acme, "Old", "old@a.example")
	seen := o.named(t)[0]
	o.refer(t, acme, "Eve", "eve@a.example")
	o.refer(t, bell, "Joe", "joe@b.example")
	if _, err := o.inviter.AcceptReferral(t.Context(), seen.ID, provisioning.ActorCLI); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("a referral that was replaced is accepted: %v", err)
	}
	eve := o.named(t)[0]
	got, err := o.inviter.AcceptReferral(t.Context(), eve.ID, provisioning.Operator("sam"))
	want := provisioning.Invited{Matched: 1, Queued: 1, Skipped: map[provisioning.SkipReason]int{}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%v (-want +got)\n%s", err, diff)
	}
	c := o.client(t, "Acme")
	if c.OwnerName != "Eve" || c.OwnerEmail != "eve@a.example" || o.standing(t, acme) != "imported" {
		t.Errorf("the owner is %s <%s>, the client %s", c.OwnerName, c.OwnerEmail, o.standing(t, acme))
	}
	if found, _, err := o.Clients(t.Context(), provisioning.Filter{Query: "eve"}); err != nil || len(found) != 1 {
		t.Errorf("a search for the new owner finds %d clients, %v", len(found), err)
	}
	mails := askAll[string](t, o, `SELECT to_name || ' ' || to_address || ' ' || state FROM messages WHERE client_id = $1 ORDER BY id`, acme)
	if diff := cmp.Diff([]string{"Ann ann@a.example cancelled", "Eve eve@a.example queued"}, mails); diff != "" {
		t.Errorf("mails (-want +got)\n%s", diff)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM invitations WHERE client_id = $1 AND revoked_at IS NULL`, acme); n != 1 {
		t.Errorf("%d links work", n)
	}
	if diff := cmp.Diff([]string{
		"referral_taken by operator sam", "owner_changed by operator sam → imported", "updated by operator sam", "mail_queued by operator sam",
	}, o.history(t, acme)[6:]); diff != "" {
		t.Errorf("history (-want +got)\n%s", diff)
	}

	left := o.named(t)
	if len(left) != 1 || left[0].ClientID != bell {
		t.Fatalf("open: %+v", left)
	}
	before := o.state(t, "clients", "messages", "invitations")
	if err := provisioning.DismissReferral(t.Context(), o.DB, left[0].ID, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, o.state(t, "clients", "messages", "invitations")); diff != "" {
		t.Errorf("to dismiss a referral changes (-before +after)\n%s", diff)
	}
	for _, id := range []uuid.UUID{left[0].ID, eve.ID, uuid.New()} {
		err := provisioning.DismissReferral(t.Context(), o.DB, id, provisioning.ActorCLI)
		if _, again := o.inviter.AcceptReferral(t.Context(), id, provisioning.ActorCLI); !errors.Is(err, provisioning.ErrNotFound) || !errors.Is(again, provisioning.ErrNotFound) {
			t.Errorf("a referral that is not open is dismissed, %v, or accepted, %v", err, again)
		}
	}
	decided := askAll[string](t, o, `SELECT email || ' ' || state || ' ' || decided_by FROM referrals ORDER BY id`)
	if diff := cmp.Diff([]string{"eve@a.example accepted operator sam", "joe@b.example dismissed command line"}, decided); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// An import that brings another owner forgets what the one before said.
func TestImportForgetsAnswers(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\nB,Bell,bob@b.example")
	for _, name := range []string{"Acme", "Bell"} {
		o.optOut(t, o.client(t, name).ID, provisioning.OptedOutUnsubscribed)
		o.refer(t, o.client(t, name).ID, "", "eve@a.example")
	}
	o.imports(t, "ref,name,owner_email\nA,Acme,amy@a.example\nB,Bell,bob@b.example")
	if got := o.standing(t, o.client(t, "Acme").ID); got != "imported" {
		t.Errorf("with another owner the client is %s", got)
	}
	if got := o.standing(t, o.client(t, "Bell").ID); got != "stalled/unsubscribed unsubscribed" {
		t.Errorf("with the same owner the client is %s", got)
	}
	if got := o.named(t); len(got) != 1 || got[0].ClientName != "Bell" {
		t.Errorf("open: %+v", got)
	}
}

func TestOpenReferrals(t *testing.T) {
	t.Parallel()
	o := setup(t)
	var roster strings.Builder
	roster.WriteString("name,owner_email\n")
	for i := range 7 {
		fmt.Fprintf(&roster, "C%d,ann@a.example\n", i)
	}
	o.imports(t, roster.String())
	for i := range 7 {
		o.refer(t, o.client(t, fmt.Sprint("C", 6-i)).ID, "", "eve@a.example")
	}
	if err := provisioning.DismissReferral(t.Context(), o.DB, o.named(t)[3].ID, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	var got []string
	for cursor, first := "", true; cursor != "" || first; first = false {
		page, next, err := o.OpenReferrals(t.Context(), cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			got = append(got, r.ClientName)
		}
		got, cursor = append(got, "|"), next
	}
	if diff := cmp.Diff("C0 C1 | C2 C4 | C5 C6 |", strings.Join(got, " ")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, _, err := o.OpenReferrals(t.Context(), "made-up", 0); !errors.Is(err, provisioning.ErrBadCursor) {
		t.Error(err)
	}
}
