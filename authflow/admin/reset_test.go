package admin_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authflow/admin"
)

// TestReset sets another password by mail: old sessions and links end, and nobody is signed in by it.
func TestReset(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	session, _, err := b.SignIn(t.Context(), ann, password, from())
	if err != nil {
		t.Fatal(err)
	}
	request := func() {
		t.Helper()
		if err := b.RequestReset(t.Context(), strings.ToUpper(ann), from()); err != nil {
			t.Fatal(err)
		}
	}
	request()
	_, first := b.last(t)
	request()
	m, second := b.last(t)
	if m.to != ann || m.kind != admin.MailReset || m.facts["expires"] != "2026-11-23T13:00:00Z" {
		t.Errorf("mail %+v", m)
	}
	if strings.Contains(b.dump(t, "entry_links"), second.Reveal()) {
		t.Error("the token is in the database")
	}
	if _, err := b.Reset(t.Context(), first, "another horse battery"); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("the earlier link: error %v, want ErrLinkUnknown", err)
	}
	if _, err := b.Reset(t.Context(), second, "short"); !errors.Is(err, admin.ErrPassword) {
		t.Errorf("error %v, want ErrPassword", err)
	}
	if _, _, err := b.Enter(t.Context(), second, from()); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("signing in by it: error %v, want ErrLinkUnknown", err)
	}
	if got, err := b.Reset(t.Context(), second, "another horse battery"); err != nil || got.ID != o.ID {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := b.Reset(t.Context(), second, "yet another battery"); !errors.Is(err, admin.ErrLinkUsed) {
		t.Errorf("once more: error %v, want ErrLinkUsed", err)
	}
	if _, err := b.Session(t.Context(), session); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("the old session: error %v, want ErrNoSession", err)
	}
	if _, _, err := b.SignIn(t.Context(), ann, "another horse battery", from()); err != nil {
		t.Error(err)
	}

	b.clock.pass(time.Hour)
	request()
	_, third := b.last(t)
	b.clock.pass(time.Hour)
	if _, err := b.Reset(t.Context(), third, password); !errors.Is(err, admin.ErrLinkExpired) {
		t.Errorf("after an hour: error %v, want ErrLinkExpired", err)
	}
}

// TestResetTellsNothing: whoever asks gets the same answer, not before the same time.
func TestResetTellsNothing(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	b.ResetTime = 200 * time.Millisecond
	for _, email := range []string{ann, "eve@agency.example", "no address", ""} {
		begun := time.Now()
		if err := b.RequestReset(t.Context(), email, from()); err != nil {
			t.Errorf("%q: %v", email, err)
		}
		if took := time.Since(begun); took < b.ResetTime {
			t.Errorf("%q: the answer came after %v", email, took)
		}
	}
	if len(b.mails.all) != 1 {
		t.Errorf("%d mails, want one", len(b.mails.all))
	}
	b.Mailer = nil
	for _, email := range []string{ann, "eve@agency.example"} {
		if err := b.RequestReset(t.Context(), email, from()); !errors.Is(err, admin.ErrNoMail) {
			t.Errorf("without a mail server: error %v, want ErrNoMail", err)
		}
	}
}

func TestResetIsThrottled(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	for i := range 3 {
		if err := b.RequestReset(t.Context(), ann, at(fmt.Sprintf("198.51.100.%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.RequestReset(t.Context(), strings.ToLower(ann), at("198.51.100.9")); !errors.Is(err, admin.ErrThrottled) {
		t.Errorf("the fourth mail: error %v, want ErrThrottled", err)
	}
	for i := range 20 {
		if err := b.RequestReset(t.Context(), fmt.Sprintf("guess%d", i), from()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.RequestReset(t.Context(), "guess", from()); !errors.Is(err, admin.ErrThrottled) {
		t.Errorf("address 21 from one place: error %v, want ErrThrottled", err)
	}
	if _, _, err := b.SignIn(t.Context(), ann, password, from()); err != nil {
		t.Errorf("signing in all the same: %v", err)
	}
	if len(b.mails.all) != 3 {
		t.Errorf("%d mails, want 3", len(b.mails.all))
	}
}
