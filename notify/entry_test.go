package notify_test

import (
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
)

// TestEntry mails one-time links to operators, whose tokens are not in the database, and leaves out those that no longer work.
func TestEntry(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	people := admin.New(f.pool)
	people.PublicURL, people.LinkKey, people.Mailer = "https://connect.agency.example", []byte("a key"), f.mailer
	people.ResetTime = 0
	f.mailer.Entries = people

	const ann, bob, eve = "ann@agency.example", "bob@agency.example", "eve@agency.example"
	n := admin.NewOperator{Email: ann, Name: "Ann", Role: admin.RoleOwner, Password: "correct horse battery"}
	if _, err := people.CreateOperator(t.Context(), n, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	invite := func(email string) admin.Invited {
		t.Helper()
		invited, err := people.Invite(t.Context(), email, admin.RoleViewer, provisioning.Operator(ann))
		if err != nil {
			t.Fatal(err)
		}
		return invited
	}
	invite(bob)
	last := invite(bob)
	if err := people.TakeBack(t.Context(), invite(eve).ID, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := people.RequestReset(t.Context(), ann, admin.Visitor{}); err != nil {
			t.Fatal(err)
		}
	}
	f.deliver(t)

	subjects := map[string]string{}
	for _, m := range f.sink.Messages(mailsink.Filter{}) {
		subjects[m.To[0]] += m.Subject
		if m.To[0] == bob && !slices.Equal(m.Links, []string{people.LinkURL(last.ID)}) {
			t.Errorf("the invitation leads to %q", m.Links)
		}
		if m.HeaderValue("List-Unsubscribe") != "" {
			t.Errorf("%q can be unsubscribed from", m.Subject)
		}
	}
	want := map[string]string{ann: "Set another password for Agency’s console", bob: "You are invited to Agency’s console"}
	if diff := gocmp.Diff(want, subjects); diff != "" {
		t.Errorf("mails (-want +got):\n%s", diff)
	}
	if n := ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'cancelled' AND error = 'its link no longer works'`); n != 3 {
		t.Errorf("%d mails with dead links were left out, want 3", n)
	}
	token := strings.TrimPrefix(people.LinkURL(last.ID), people.PublicURL)
	if kept := ask[string](t, f, `SELECT string_agg(m::text, ' ') FROM messages m`); strings.Contains(kept, token[len("/admin/enter/"):]) {
		t.Error("the token is in the database")
	}
	if got := notify.KindOperatorInvitation; got != admin.MailInvitation || notify.KindPasswordReset != admin.MailReset {
		t.Errorf("the rooms disagree about the names of mails, such as %q", got)
	}
}
