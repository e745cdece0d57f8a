package admin_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

const bob = "bob@agency.example"

// TestInvitation invites, looks, refuses what was typed, and lets in once.
func TestInvitation(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	actor := provisioning.Operator(o.Email)
	invited, err := b.Invite(t.Context(), " "+bob+" ", admin.RoleViewer, actor)
	if err != nil {
		t.Fatal(err)
	}
	if invited.Link != "" {
		t.Error("a link that was mailed is returned")
	}
	m, token := b.last(t)
	if diff := cmp.Diff(map[string]string{"by": string(actor), "role": "viewer", "expires": "2026-11-30T12:00:00Z"}, m.facts); diff != "" || m.to != bob || m.kind != admin.MailInvitation {
		t.Errorf("mail %s to %q (-want +got):\n%s", m.kind, m.to, diff)
	}
	if strings.Contains(b.dump(t, "entry_links"), token.Reveal()) {
		t.Error("the token is in the database")
	}
	waiting, err := b.Invitations(t.Context())
	if diff := cmp.Diff([]admin.Invitation{invited.Invitation}, waiting); diff != "" || err != nil {
		t.Errorf("error %v, invitations (-want +got):\n%s", err, diff)
	}
	want := admin.Link{Purpose: admin.ForInvitation, Email: bob, Role: admin.RoleViewer, ExpiresAt: b.clock.now().Add(admin.InvitationLife)}
	for range 2 {
		got, err := b.PeekLink(t.Context(), token)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("error %v, link (-want +got):\n%s", err, diff)
		}
	}
	for want, try := range map[error]struct {
		name     string
		password provisioning.Secret
	}{
		admin.ErrName:     {"", password},
		admin.ErrPassword: {"Bob", "short"},
	} {
		if _, _, err := b.Accept(t.Context(), token, try.name, try.password, from()); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	}
	if _, err := b.Reset(t.Context(), token, password); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("another password by an invitation: error %v, want ErrLinkUnknown", err)
	}

	session, made, err := b.Accept(t.Context(), token, "Bob", password, from())
	if err != nil {
		t.Fatal(err)
	}
	if made.Email != bob || made.Name != "Bob" || made.Role != admin.RoleViewer {
		t.Errorf("made %+v", made)
	}
	if got, err := b.Session(t.Context(), session); err != nil || got.ID != made.ID {
		t.Errorf("the session is of %+v, %v", got, err)
	}
	if _, _, err := b.Accept(t.Context(), token, "Eve", password, from()); !errors.Is(err, admin.ErrLinkUsed) {
		t.Errorf("once more: error %v, want ErrLinkUsed", err)
	}
	if waiting, err := b.Invitations(t.Context()); err != nil || len(waiting) != 0 {
		t.Errorf("still invited: %+v, %v", waiting, err)
	}
	if _, err := b.Invite(t.Context(), strings.ToUpper(bob), admin.RoleOwner, actor); !errors.Is(err, admin.ErrEmailTaken) {
		t.Errorf("an operator: error %v, want ErrEmailTaken", err)
	}
	if diff := cmp.Diff([]string{"operator Ann@Agency.example: operator bob@agency.example"}, b.audited(t, "operator.invite")); diff != "" {
		t.Errorf("the audit trail (-want +got):\n%s", diff)
	}
}

// TestInviteAgain: the newest link is the only one that works, and none does once it was taken back or is too old.
func TestInviteAgain(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	b.Mailer = nil // Then links are returned.
	dead := func(what, link string, want error) {
		t.Helper()
		if _, _, err := b.Accept(t.Context(), b.token(t, link), "Bob", password, from()); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}
	first, err := b.Invite(t.Context(), bob, admin.RoleViewer, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	b.clock.pass(admin.InvitationLife)
	dead("after 7 days", first.Link, admin.ErrLinkExpired)
	second, err := b.InviteAgain(t.Context(), first.ID, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	if second.Email != bob || second.Role != admin.RoleViewer {
		t.Errorf("invited again: %+v", second)
	}
	dead("the earlier link", first.Link, admin.ErrLinkUnknown)
	b.clock.pass(admin.InvitationLife - time.Second)
	if _, err := b.PeekLink(t.Context(), b.token(t, second.Link)); err != nil {
		t.Errorf("a second before the end: %v", err)
	}
	if _, err := b.InviteAgain(t.Context(), first.ID, provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("the earlier one again: error %v, want ErrNotFound", err)
	}
	if err := b.TakeBack(t.Context(), second.ID, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	dead("taken back", second.Link, admin.ErrLinkUnknown)
	if err := b.TakeBack(t.Context(), second.ID, provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("taken back twice: error %v, want ErrNotFound", err)
	}
	for want, email := range map[error]string{admin.ErrEmail: "bob", admin.ErrEmailTaken: ann} {
		if _, err := b.Invite(t.Context(), email, admin.RoleViewer, provisioning.ActorCLI); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", email, err, want)
		}
	}
	if _, err := b.Invite(t.Context(), bob, "root", provisioning.ActorCLI); !errors.Is(err, admin.ErrRole) {
		t.Errorf("error %v, want ErrRole", err)
	}

	// Somebody who was added otherwise meanwhile is not added twice.
	third, err := b.Invite(t.Context(), bob, admin.RoleViewer, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CreateOperator(t.Context(), owner(bob, "Bob", password), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	dead("an operator already", third.Link, admin.ErrEmailTaken)
}
