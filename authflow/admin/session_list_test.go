package admin_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	signIn := func(v admin.Visitor) provisioning.Secret {
		t.Helper()
		token, _, err := b.SignIn(t.Context(), ann, password, v)
		if err != nil {
			t.Fatal(err)
		}
		b.clock.pass(time.Hour)
		return token
	}
	list := func(current provisioning.Secret) []admin.Session {
		t.Helper()
		sessions, err := b.Sessions(t.Context(), o.ID, current)
		if err != nil {
			t.Fatal(err)
		}
		return sessions
	}
	start := b.clock.now()
	hers := signIn(from())
	phone := signIn(admin.Visitor{})
	third := signIn(at("::ffff:198.51.100.7"))
	want := []admin.Session{
		{Browser: "Firefox on Linux", Address: "198.51.100.7", CreatedAt: start.Add(2 * time.Hour), SeenAt: start.Add(2 * time.Hour)},
		{CreatedAt: start.Add(time.Hour), SeenAt: start.Add(time.Hour)},
		{Browser: "Firefox on Linux", Address: "192.0.2.1", CreatedAt: start, SeenAt: start, Current: true},
	}
	got := list(hers)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(admin.Session{}, "ID"), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
	ended := func(what string, token provisioning.Secret, want error) {
		t.Helper()
		if _, err := b.Session(t.Context(), token); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}

	eve, err := b.CreateOperator(t.Context(), owner("eve@agency.example", "Eve", password), provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	for who, id := range map[*admin.Operator]uuid.UUID{&eve: got[1].ID, &o: uuid.New()} {
		if err := b.EndSession(t.Context(), *who, id); err != nil {
			t.Error(err)
		}
	}
	ended("somebody else's", phone, nil)
	if err := b.EndSession(t.Context(), o, got[1].ID); err != nil {
		t.Fatal(err)
	}
	ended("the one that was named", phone, admin.ErrNoSession)
	ended("another", third, nil)

	if n, err := b.EndSessions(t.Context(), ann, hers, provisioning.Operator(ann)); err != nil || n != 1 {
		t.Errorf("%d ended, %v", n, err)
	}
	ended("all others", third, admin.ErrNoSession)
	ended("the one that asks", hers, nil)
	if n, err := b.EndSessions(t.Context(), o.ID.String(), "", provisioning.ActorCLI); err != nil || n != 1 {
		t.Errorf("%d ended, %v", n, err)
	}
	ended("every one", hers, admin.ErrNoSession)
	if _, err := b.EndSessions(t.Context(), bob, "", provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	if got := b.audited(t, "operator.sign_out"); len(got) != 3 {
		t.Errorf("the audit trail says %q", got)
	}
	if left := list(hers); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

// TestChangePassword needs the present one, and ends all sessions but the one that asks.
func TestChangePassword(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	hers, _, err := b.SignIn(t.Context(), ann, password, from())
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := b.SignIn(t.Context(), ann, password, from())
	if err != nil {
		t.Fatal(err)
	}
	change := func(present, fresh provisioning.Secret) error {
		return b.ChangePassword(t.Context(), o, hers, present, fresh, from())
	}
	if err := change("not the password", "another horse battery"); !errors.Is(err, admin.ErrPresentPassword) {
		t.Errorf("error %v, want ErrPresentPassword", err)
	}
	if err := change(password, "short"); !errors.Is(err, admin.ErrPassword) {
		t.Errorf("error %v, want ErrPassword", err)
	}
	if err := change(password, "another horse battery"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Session(t.Context(), hers); err != nil {
		t.Errorf("the session that asks: %v", err)
	}
	if _, err := b.Session(t.Context(), other); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("the other session: error %v, want ErrNoSession", err)
	}
	if _, _, err := b.SignIn(t.Context(), ann, "another horse battery", from()); err != nil {
		t.Error(err)
	}
	for range 10 {
		if err := change("not the password", password); !errors.Is(err, admin.ErrPresentPassword) {
			t.Fatal(err)
		}
	}
	if err := change("another horse battery", password); !errors.Is(err, admin.ErrThrottled) {
		t.Errorf("attempt 11: error %v, want ErrThrottled", err)
	}
}
