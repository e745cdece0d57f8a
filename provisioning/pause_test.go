package provisioning_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// The switch says once that it was turned, and nobody is invited while it is on.
func TestPause(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\nB,Bell,bob@b.example\n")
	id := o.client(t, "Acme").ID
	olga := provisioning.Operator("olga")
	for _, step := range []struct {
		paused bool
		queued int
	}{{false, 1}, {true, 0}, {true, 0}, {false, 1}} {
		if err := provisioning.SetPaused(t.Context(), o.DB, id, step.paused, olga); err != nil {
			t.Fatal(err)
		}
		if got := o.client(t, "Acme").Paused; got != step.paused {
			t.Errorf("paused: %t", got)
		}
		result, err := o.inviter.Invite(t.Context(), provisioning.Selection{Clients: []string{"A"}}, olga, true)
		if err != nil {
			t.Fatal(err)
		}
		want := provisioning.Invited{Matched: 1, Queued: step.queued, Skipped: map[provisioning.SkipReason]int{}}
		if step.paused {
			want.Skipped[provisioning.SkipPaused] = 1
		}
		if diff := cmp.Diff(want, result); diff != "" {
			t.Errorf("an invitation (-want +got):\n%s", diff)
		}
	}
	events := askAll[string](t, o, `SELECT kind || ' by ' || actor FROM events WHERE client_id = $1 ORDER BY id`, id)
	if got, want := strings.Join(events, ", "), "imported by command line, paused by operator olga, resumed by operator olga"; got != want {
		t.Errorf("the history is %s, want %s", got, want)
	}
	if o.client(t, "Bell").Paused {
		t.Error("another client is paused")
	}
	if err := provisioning.SetPaused(t.Context(), o.DB, uuid.New(), true, olga); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("nobody is paused: %v", err)
	}
}
