package admin_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func TestSetUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, err := b.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if dump := b.dump(t, "entry_links"); strings.Contains(dump, first.Reveal()) {
		t.Error("the token is in the database")
	}
	want := admin.Link{Purpose: admin.ForSetUp, ExpiresAt: b.clock.now().Add(24 * time.Hour)}
	for range 3 {
		for _, link := range []provisioning.Secret{first, second} {
			got, err := b.PeekLink(t.Context(), link)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("link (-want +got):\n%s", diff)
			}
		}
	}

	for want, try := range map[error]struct {
		email, name string
		password    provisioning.Secret
	}{
		admin.ErrEmail:    {"ann", "Ann", password},
		admin.ErrName:     {ann, "", password},
		admin.ErrPassword: {ann, "Ann", "short"},
	} {
		if _, _, err := b.SetUp(t.Context(), first, owner(try.email, try.name, try.password), from()); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	}
	if _, _, err := b.Enter(t.Context(), first, from()); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("entering by a set-up link: error %v, want ErrLinkUnknown", err)
	}

	session, o, err := b.SetUp(t.Context(), second, owner(ann, "Ann", password), from())
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Session(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o, got); diff != "" {
		t.Errorf("operator (-want +got):\n%s", diff)
	}
	if _, _, err := b.SignIn(t.Context(), ann, password, from()); err != nil {
		t.Errorf("signing in with the password: %v", err)
	}
	for _, link := range []provisioning.Secret{first, second} {
		if _, err := b.PeekLink(t.Context(), link); !errors.Is(err, admin.ErrLinkUsed) {
			t.Errorf("peeking again: error %v, want ErrLinkUsed", err)
		}
		if _, _, err := b.SetUp(t.Context(), link, owner("eve@agency.example", "Eve", password), from()); !errors.Is(err, admin.ErrLinkUsed) {
			t.Errorf("setting up again: error %v, want ErrLinkUsed", err)
		}
	}
	if _, err := b.SetupLink(t.Context()); !errors.Is(err, admin.ErrSetUp) {
		t.Errorf("another link: error %v, want ErrSetUp", err)
	}
}

func TestSetUpAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	links := make([]provisioning.Secret, 3)
	for i := range links {
		var err error
		if links[i], err = b.SetupLink(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			email := fmt.Sprintf("operator%d@agency.example", i)
			_, _, err := b.SetUp(t.Context(), links[i%3], owner(email, "Somebody", password), from())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, admin.ErrLinkUsed) {
				t.Errorf("error %v, want ErrLinkUsed", err)
			}
		})
	}
	wg.Wait()
	operators, err := b.Operators(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if won != 1 || len(operators) != 1 {
		t.Errorf("%d set-ups succeeded and made %d operators, want one", won, len(operators))
	}
}

func TestLinksExpire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	setUp, err := b.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.clock.pass(24*time.Hour - time.Second)
	if _, err := b.PeekLink(t.Context(), setUp); err != nil {
		t.Errorf("a second before the end: %v", err)
	}
	b.clock.pass(time.Second)
	if _, _, err := b.SetUp(t.Context(), setUp, owner(ann, "Ann", password), from()); !errors.Is(err, admin.ErrLinkExpired) {
		t.Errorf("set-up: error %v, want ErrLinkExpired", err)
	}

	o, err := b.CreateOperator(t.Context(), owner(ann, "Ann", password), provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	enter, err := b.SignInLink(t.Context(), o.Email, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	b.clock.pass(24 * time.Hour)
	if _, _, err := b.Enter(t.Context(), enter, from()); !errors.Is(err, admin.ErrLinkExpired) {
		t.Errorf("sign-in: error %v, want ErrLinkExpired", err)
	}
}

func TestEnter(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	link, err := b.SignInLink(t.Context(), o.Email, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.PeekLink(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(admin.Link{Purpose: admin.ForSignIn, Email: ann, ExpiresAt: b.clock.now().Add(24 * time.Hour)}, got); diff != "" {
		t.Errorf("link (-want +got):\n%s", diff)
	}
	if _, _, err := b.SetUp(t.Context(), link, owner("eve@agency.example", "Eve", password), from()); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("setting up by a sign-in link: error %v, want ErrLinkUnknown", err)
	}

	// All have seen that the link is good before the first of them may use it.
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM operators FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	sessions := make(chan provisioning.Secret, 5)
	var wg sync.WaitGroup
	for range cap(sessions) {
		wg.Go(func() {
			session, _, err := b.Enter(t.Context(), link, from())
			if err == nil {
				sessions <- session
			} else if !errors.Is(err, admin.ErrLinkUsed) {
				t.Errorf("error %v, want ErrLinkUsed", err)
			}
		})
	}
	b.awaitBlocked(t, cap(sessions))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(sessions) != 1 {
		t.Fatalf("%d of %d got in, want one", len(sessions), cap(sessions))
	}
	entered, err := b.Session(t.Context(), <-sessions)
	if err != nil {
		t.Fatal(err)
	}
	if entered.ID != o.ID {
		t.Errorf("entered as %+v", entered)
	}
	if _, err := b.PeekLink(t.Context(), link); !errors.Is(err, admin.ErrLinkUsed) {
		t.Errorf("peeking again: error %v, want ErrLinkUsed", err)
	}
}

func TestUnknownLinks(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	for _, token := range []provisioning.Secret{"", "x", provisioning.Secret(strings.Repeat("A", 43))} {
		if _, err := b.PeekLink(t.Context(), token); !errors.Is(err, admin.ErrLinkUnknown) {
			t.Errorf("peek %q: error %v", token.Reveal(), err)
		}
		if _, _, err := b.Enter(t.Context(), token, from()); !errors.Is(err, admin.ErrLinkUnknown) {
			t.Errorf("enter %q: error %v", token.Reveal(), err)
		}
		if _, _, err := b.SetUp(t.Context(), token, owner(ann, "Ann", password), from()); !errors.Is(err, admin.ErrLinkUnknown) {
			t.Errorf("set up %q: error %v", token.Reveal(), err)
		}
	}
	if _, err := b.SignInLink(t.Context(), uuid.NewString(), provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("for nobody: error %v, want ErrNotFound", err)
	}

	link, err := b.SignInLink(t.Context(), o.Email, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CreateOperator(t.Context(), owner("bob@agency.example", "Bob", password), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveOperator(t.Context(), ann, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Enter(t.Context(), link, from()); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("of a removed operator: error %v, want ErrLinkUnknown", err)
	}
}
