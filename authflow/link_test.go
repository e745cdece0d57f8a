package authflow_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning"
)

func TestTokenIsDerived(t *testing.T) {
	t.Parallel()
	links := &authflow.Links{Key: []byte("key of the links"), PublicURL: "https://connect.example.com"}
	id := uuid.MustParse("0193a1c0-0000-7000-8000-000000000001")
	// A mail that is sent again must carry the same link, also after an update of the program.
	const want = "2rpecuoi3nq3p3ealvf7hfhkm7ld33f3"
	if got := links.Token(id); got != want {
		t.Errorf("token %s, want %s", got, want)
	}
	if got := links.URL(id); got != "https://connect.example.com/i/"+want {
		t.Errorf("link %s", got)
	}
	other := &authflow.Links{Key: []byte("another key")}
	if other.Token(id) == want || links.Token(uuid.New()) == want {
		t.Error("another key or another invitation has the same token")
	}
}

func TestFindTakesWhatMailProgramsMakeOfALink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, token := b.issue(t, "ACME")
	for _, typed := range []string{
		token, strings.ToUpper(token), token + ".", token + ").", token + ">", token + "\u201d", " " + token + "\n", "<" + token + "…",
	} {
		inv, err := b.Links.Find(t.Context(), typed)
		if err != nil {
			t.Fatalf("%q: %v", typed, err)
		}
		if inv.ID != id || inv.ClientName != "Acme Bakery" || inv.OwnerEmail != "ada@acme.example" {
			t.Errorf("%q is the invitation %+v", typed, inv)
		}
	}
	for _, made := range []string{"", ".", token[1:], token + "a", token + "/" + token, "\x00", "\xff", strings.Repeat("a", 1<<16)} {
		if _, err := b.Links.Find(t.Context(), made); !errors.Is(err, authflow.ErrLinkUnknown) {
			t.Errorf("%.40q: error %v, want ErrLinkUnknown", made, err)
		}
	}
	if dump := b.dump(t, "invitations"); strings.Contains(dump, token) {
		t.Error("the token is in the database")
	}
}

// Scanners come before the owner, and often.
func TestFindChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	state := func() []string {
		var all []string
		for _, table := range []string{"invitations", "clients", "events", "consents"} {
			all = append(all, b.dump(t, table))
		}
		return all
	}
	before := state()
	for range 50 {
		if _, err := b.Links.Find(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("looking at a link changed the database (-before +after):\n%s", diff)
	}
}

func TestLinkEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	revoke := func() { b.imports(t, "ref,name,owner_email\nACME,Acme Bakery,ann@acme.example\n") }
	connect := func() { b.connect(t, "ACME", acme(), authflow.OutcomeConnected) }
	lapse := func() {
		if _, err := provisioning.Advance(t.Context(), b.db, provisioning.Change{
			Client: b.client(t, "ACME").ID, Event: "lapsed", Actor: provisioning.ActorSystem, To: provisioning.StageLapsed,
		}); err != nil {
			t.Fatal(err)
		}
	}
	after := func(d time.Duration) func() { return func() { b.clock.advance(d) } }
	tests := []struct {
		name  string
		steps []func()
		want  error
	}{
		{"just before its time", []func(){after(authflow.InvitationLife - time.Minute)}, nil},
		{"its time is over", []func(){after(authflow.InvitationLife)}, authflow.ErrLinkExpired},
		{"revoked", []func(){revoke}, authflow.ErrLinkExpired},
		{"spent", []func(){connect}, authflow.ErrLinkSpent},
		{"spent, after its time", []func(){connect, after(authflow.InvitationLife)}, authflow.ErrLinkSpent},
		// What went to another address does not tell its reader that the client has connected.
		{"revoked, then connected by the owner", []func(){revoke, connect}, authflow.ErrLinkExpired},
		// The next mail asks to connect again; the old one cannot.
		{"spent, and the grant is gone", []func(){connect, lapse}, authflow.ErrLinkExpired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.anew(t)
			id, token := b.issue(t, "ACME")
			for _, step := range test.steps {
				step()
			}
			inv, err := b.Links.Find(t.Context(), token)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if inv.ID != id {
				t.Errorf("the invitation does not come with the error: %+v", inv)
			}
			if _, err := b.Begin(t.Context(), token); !errors.Is(err, test.want) {
				t.Errorf("begin: error %v, want %v", err, test.want)
			}
		})
	}
}

func TestIssueLeavesEarlierLinksAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.token(t, "ACME"), b.token(t, "ACME")
	if first == second {
		t.Fatal("two invitations have one token")
	}
	for _, token := range []string{first, second} {
		if _, err := b.Links.Find(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
}

func TestIssueKeepsTheOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	clients := []uuid.UUID{b.client(t, "DELI").ID, b.client(t, "ACME").ID, b.client(t, "BLOOM").ID}
	err := pgx.BeginFunc(t.Context(), b.db, func(tx pgx.Tx) error {
		ids, err := b.Links.Issue(t.Context(), tx, clients)
		if err != nil {
			return err
		}
		for i, id := range ids {
			var client uuid.UUID
			if err := tx.QueryRow(t.Context(), `SELECT client_id FROM invitations WHERE id = $1`, id).Scan(&client); err != nil {
				return err
			}
			if client != clients[i] {
				t.Errorf("invitation %d is of another client", i)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHandOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	link, expires, err := b.Links.HandOver(t.Context(), b.client(t, "ACME").ID, provisioning.APIKey("crm"))
	if err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix(link, "https://connect.example.com/i/")
	if !ok {
		t.Fatalf("link %s", link)
	}
	inv, err := b.Links.Find(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if d := inv.ExpiresAt.Sub(expires).Abs(); inv.ClientName != "Acme Bakery" || d > time.Minute {
		t.Errorf("the link is of %s and lives %s longer than told", inv.ClientName, d)
	}
	b.history(t, "ACME", "link_issued by key crm")
	b.isAt(t, "ACME", "imported")
	if _, _, err := b.Links.HandOver(t.Context(), uuid.New(), provisioning.ActorCLI); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("for nobody: error %v, want ErrNotFound", err)
	}
}
