package provisioning_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// TestUsernameTaken replaces usernames that the provider refused, and sees that none is given twice, not
// even after its client is gone.
func TestUsernameTaken(t *testing.T) {
	t.Parallel()
	o := setup(t)
	renamer := &provisioning.Renamer{DB: o.pool, Namer: o.importer.Namer}
	o.imports(t, "name,owner_email,ref\nAcme,ann@a.example,A\nAcme,bob@b.example,B\nAcme 4,cy@c.example,C\n")

	acme, err := renamer.Taken(t.Context(), uuid.Nil, " Agency+Acme@agency.example ", provisioning.Operator("olga@agency.example"))
	if err != nil || acme.Username != "agency+acme-3@agency.example" {
		t.Fatalf("acme and acme-2 and acme-4 are given: %q, %v", acme.Username, err)
	}
	again, err := renamer.Taken(t.Context(), uuid.Nil, "agency+acme@agency.example", provisioning.ActorCLI)
	if !errors.Is(err, provisioning.ErrNoLongerUsername) || again.Username != acme.Username {
		t.Errorf("reported twice: %q, %v", again.Username, err)
	}
	if acme, err = renamer.Taken(t.Context(), uuid.Nil, acme.Username, provisioning.ActorCLI); err != nil || acme.Username != "agency+acme-5@agency.example" {
		t.Errorf("the next one is taken as well: %q, %v", acme.Username, err)
	}
	if _, err := renamer.Taken(t.Context(), uuid.Nil, "agency+bell@agency.example", provisioning.ActorCLI); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("a username of nobody: %v", err)
	}

	if _, err := renamer.Taken(t.Context(), o.client(t, "Acme 4").ID, acme.Username, provisioning.ActorCLI); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("the username of another client: %v", err)
	}

	events, err := o.Events(t.Context(), acme.ID, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var history []any
	for _, e := range events {
		if e.Kind == provisioning.EventUsernameTaken {
			history = append(history, e.Detail["username"], string(e.Actor))
		}
	}
	want := []any{
		map[string]any{"from": "agency+acme-3@agency.example", "to": "agency+acme-5@agency.example"},
		"command line",
		map[string]any{"from": "agency+acme@agency.example", "to": "agency+acme-3@agency.example"},
		"operator olga@agency.example",
	}
	if diff := cmp.Diff(want, history); diff != "" {
		t.Errorf("the history (-want +got)\n%s", diff)
	}
	if got := o.names(t, provisioning.Filter{Query: "acme-5"}); len(got) != 1 {
		t.Errorf("found by its new username: %v", got)
	}

	o.exec(t, `DELETE FROM clients`)
	o.imports(t, "name,owner_email,ref\nAcme,ann@a.example,A\nAcme,bob@b.example,B\nAcme,cy@c.example,C\n")
	got := askAll[string](t, o, `SELECT username FROM clients ORDER BY ref`)
	fresh := []string{"agency+acme-6@agency.example", "agency+acme-7@agency.example", "agency+acme-8@agency.example"}
	if diff := cmp.Diff(fresh, got); diff != "" {
		t.Errorf("after all clients were deleted (-want +got)\n%s", diff)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT FROM clients c WHERE c.id = e.client_id)`); n > 0 {
		t.Errorf("%d events of clients that are gone", n)
	}
}

// TestUsernamesTakenAtOnce: reports and imports that run at once give every client a username of its own,
// and none of those that were refused.
func TestUsernamesTakenAtOnce(t *testing.T) {
	t.Parallel()
	o := setup(t)
	renamer := &provisioning.Renamer{DB: o.pool, Namer: o.importer.Namer}
	const refused = "agency+acme@agency.example"
	o.imports(t, "name,owner_email,ref\nAcme,ann@a.example,A\n")
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			_, err := renamer.Taken(t.Context(), uuid.Nil, refused, provisioning.ActorCLI)
			if err != nil && !errors.Is(err, provisioning.ErrNoLongerUsername) {
				t.Error(err)
			}
		})
	}
	for _, file := range []string{"name,owner_email,ref\nAcme,bob@b.example,B\n", "name,owner_email,ref\nAcme,cy@c.example,C\nAcme,di@d.example,D\n"} {
		work.Go(func() {
			if _, err := o.tryImport(file); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	got := askAll[string](t, o, `SELECT username FROM clients ORDER BY username`)
	want := []string{"agency+acme-2@agency.example", "agency+acme-3@agency.example", "agency+acme-4@agency.example", "agency+acme-5@agency.example"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
