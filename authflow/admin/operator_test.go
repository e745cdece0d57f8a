package admin_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func TestOperators(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if found, err := b.AnyOperator(t.Context()); err != nil || found {
		t.Errorf("before: any operator %t, %v", found, err)
	}
	bob, err := b.CreateOperator(t.Context(), owner(" bob@agency.example ", " Bob ", password), provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	ann, err := b.CreateOperator(t.Context(), owner(ann, "Ann", password), provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := b.AnyOperator(t.Context()); err != nil || !found {
		t.Errorf("after: any operator %t, %v", found, err)
	}
	got, err := b.Operators(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]admin.Operator{ann, bob}, got); diff != "" {
		t.Errorf("operators (-want +got):\n%s", diff)
	}
	if ann.Email != "Ann@Agency.example" || bob.Email != "bob@agency.example" || bob.Name != "Bob" {
		t.Errorf("made %+v and %+v", ann, bob)
	}
	if dump := b.dump(t, "operators"); strings.Contains(dump, password) || strings.Count(dump, "$argon2id$v=19$m=19456,t=2,p=1$") != 2 {
		t.Errorf("stored:\n%s", dump)
	}
}

func TestCreateOperatorRefuses(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	tests := []struct {
		name, email, operator string
		password              provisioning.Secret
		want                  error
	}{
		{"taken", ann, "Ann", password, admin.ErrEmailTaken},
		{"taken in another case", "aNN@agency.EXAMPLE", "Ann", password, admin.ErrEmailTaken},
		{"no address", "", "Bob", password, admin.ErrEmail},
		{"no domain", "bob", "Bob", password, admin.ErrEmail},
		{"address with a name", "Bob <bob@agency.example>", "Bob", password, admin.ErrEmail},
		{"two addresses", "bob@agency.example, eve@agency.example", "Bob", password, admin.ErrEmail},
		{"address with a zero byte", "bob\x00@agency.example", "Bob", password, admin.ErrEmail},
		{"no name", "bob@agency.example", " ", password, admin.ErrName},
		{"name of two lines", "bob@agency.example", "Bob\nEve", password, admin.ErrName},
		{"name with a zero byte", "bob@agency.example", "Bob\x00", password, admin.ErrName},
		{"name that is no text", "bob@agency.example", "Bob\xff", password, admin.ErrName},
		{"long name", "bob@agency.example", strings.Repeat("ö", 101), password, admin.ErrName},
		{"no password", "bob@agency.example", "Bob", "", admin.ErrPassword},
		{"short password", "bob@agency.example", "Bob", provisioning.Secret(strings.Repeat("ö", 11)), admin.ErrPassword},
		{"long password", "bob@agency.example", "Bob", provisioning.Secret(strings.Repeat("ö", 257)), admin.ErrPassword},
	}
	for _, test := range tests {
		if _, err := b.CreateOperator(t.Context(), owner(test.email, test.operator, test.password), provisioning.ActorCLI); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
	}
	for _, length := range []int{12, 256} {
		p := provisioning.Secret(strings.Repeat("ö", length))
		if err := b.SetPassword(t.Context(), ann, p, provisioning.ActorCLI); err != nil {
			t.Errorf("a password of %d characters: %v", length, err)
		} else if _, _, err := b.SignIn(t.Context(), ann, p, from()); err != nil {
			t.Errorf("sign-in with a password of %d characters: %v", length, err)
		}
	}
}

func TestRemoveOperator(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	if err := b.RemoveOperator(t.Context(), ann, provisioning.ActorCLI); !errors.Is(err, admin.ErrLastOwner) {
		t.Errorf("the last: error %v, want ErrLastOwner", err)
	}
	if err := b.RemoveOperator(t.Context(), "bob@agency.example", provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("unknown: error %v, want ErrNotFound", err)
	}
	token, _, err := b.SignIn(t.Context(), ann, password, from())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CreateOperator(t.Context(), owner("bob@agency.example", "Bob", password), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveOperator(t.Context(), strings.ToUpper(ann), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Session(t.Context(), token); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("session of the removed: error %v, want ErrNoSession", err)
	}
}

// Operators who remove each other at the same time do not leave the console without any, and neither
// blocks the other, signing in, or setting a password for good.
func TestOperatorsRemoveEachOther(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	emails := []string{ann, "bob@agency.example", "eve@agency.example"}
	for _, email := range emails[1:] {
		if _, err := b.CreateOperator(t.Context(), owner(email, "Name", password), provisioning.ActorCLI); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, err error, allowed ...error) {
		for _, a := range allowed {
			if errors.Is(err, a) {
				return
			}
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	var wg sync.WaitGroup
	for _, email := range emails {
		for range 3 {
			wg.Go(func() {
				_, _, err := b.SignIn(t.Context(), email, password, from())
				expect("sign in", err, admin.ErrBadCredentials)
			})
			wg.Go(func() {
				expect("set password", b.SetPassword(t.Context(), email, password, provisioning.ActorCLI), admin.ErrNotFound)
			})
		}
		wg.Go(func() {
			expect("remove", b.RemoveOperator(t.Context(), email, provisioning.ActorCLI), admin.ErrLastOwner)
		})
	}
	wg.Wait()
	if left, err := b.Operators(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("%d operators are left, %v", len(left), err)
	}
}

func TestSetPassword(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	if _, err := b.CreateOperator(t.Context(), owner("bob@agency.example", "Bob", password), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	hers, _, err := b.SignIn(t.Context(), ann, password, from())
	if err != nil {
		t.Fatal(err)
	}
	his, _, err := b.SignIn(t.Context(), "bob@agency.example", password, from())
	if err != nil {
		t.Fatal(err)
	}
	link, err := b.SignInLink(t.Context(), o.Email, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}

	if err := b.SetPassword(t.Context(), ann, "short", provisioning.ActorCLI); !errors.Is(err, admin.ErrPassword) {
		t.Errorf("short: error %v, want ErrPassword", err)
	}
	if err := b.SetPassword(t.Context(), "eve@agency.example", password, provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("unknown: error %v, want ErrNotFound", err)
	}
	if err := b.SetPassword(t.Context(), strings.ToLower(ann), "another horse battery", provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}

	if _, err := b.Session(t.Context(), hers); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("her session: error %v, want ErrNoSession", err)
	}
	if _, err := b.PeekLink(t.Context(), link); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("her link: error %v, want ErrLinkUnknown", err)
	}
	if _, err := b.Session(t.Context(), his); err != nil {
		t.Errorf("his session: %v", err)
	}
	if _, _, err := b.SignIn(t.Context(), ann, password, from()); !errors.Is(err, admin.ErrBadCredentials) {
		t.Errorf("the old password: error %v, want ErrBadCredentials", err)
	}
	if _, _, err := b.SignIn(t.Context(), ann, "another horse battery", from()); err != nil {
		t.Errorf("the new password: %v", err)
	}
}
