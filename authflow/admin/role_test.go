package admin_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func TestMay(t *testing.T) {
	t.Parallel()
	for i, has := range admin.Roles() {
		for j, need := range admin.Roles() {
			if may := (admin.Operator{Role: has}).May(need); may != (i <= j) {
				t.Errorf("%s where %s is needed: %t", has, need, may)
			}
		}
	}
	if (admin.Operator{}).May(admin.RoleViewer) || (admin.Operator{Role: "root"}).May(admin.RoleViewer) {
		t.Error("who has no role may look")
	}
}

// TestRoles gives roles, which hold at once, and keeps the last owner.
func TestRoles(t *testing.T) {
	t.Parallel()
	b, ann := withAnn(t)
	for name, try := range map[error]struct{ who, role string }{
		admin.ErrRole:      {ann.Email, "root"},
		admin.ErrNotFound:  {"eve@agency.example", "owner"},
		admin.ErrLastOwner: {ann.Email, "viewer"},
	} {
		if _, err := b.SetRole(t.Context(), try.who, admin.Role(try.role), provisioning.ActorCLI); !errors.Is(err, name) {
			t.Errorf("error %v, want %v", err, name)
		}
	}
	n := owner("bob@agency.example", "Bob", password)
	n.Role = admin.RoleViewer
	bob, err := b.CreateOperator(t.Context(), n, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := b.SignIn(t.Context(), bob.Email, password, from())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveOperator(t.Context(), ann.Email, provisioning.ActorCLI); !errors.Is(err, admin.ErrLastOwner) {
		t.Errorf("the last owner beside a viewer: error %v, want ErrLastOwner", err)
	}
	if _, err := b.SetRole(t.Context(), bob.ID.String(), admin.RoleOwner, provisioning.Operator(ann.Email)); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Session(t.Context(), token); err != nil || got.Role != admin.RoleOwner {
		t.Errorf("his session has the role %q, %v", got.Role, err)
	}
	if got := b.audited(t, "operator.role"); !slices.Equal(got, []string{"operator Ann@Agency.example: operator bob@agency.example"}) {
		t.Errorf("the audit trail says %q", got)
	}

	// Of two owners who take each other's role away, one stays.
	var wg sync.WaitGroup
	for _, who := range []string{ann.Email, bob.Email} {
		wg.Go(func() {
			if _, err := b.SetRole(t.Context(), who, admin.RoleOperator, provisioning.ActorCLI); err != nil && !errors.Is(err, admin.ErrLastOwner) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left, err := b.Operators(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if owners := slices.DeleteFunc(left, func(o admin.Operator) bool { return o.Role != admin.RoleOwner }); len(owners) != 1 {
		t.Errorf("%d owners are left, want one", len(owners))
	}
}

func TestSetName(t *testing.T) {
	t.Parallel()
	b, ann := withAnn(t)
	if err := b.SetName(t.Context(), ann.Email, " \n", provisioning.ActorCLI); !errors.Is(err, admin.ErrName) {
		t.Errorf("error %v, want ErrName", err)
	}
	for range 2 { // The second time there is nothing to change.
		if err := b.SetName(t.Context(), ann.ID.String(), " Ann Lee ", provisioning.ActorCLI); err != nil {
			t.Fatal(err)
		}
	}
	got, err := b.Find(t.Context(), strings.ToUpper(ann.Email))
	if err != nil {
		t.Fatal(err)
	}
	ann.Name = "Ann Lee"
	if diff := cmp.Diff(ann, got); diff != "" {
		t.Errorf("operator (-want +got):\n%s", diff)
	}
	if got := b.audited(t, "operator.name"); len(got) != 1 {
		t.Errorf("the audit trail says %q", got)
	}
}
