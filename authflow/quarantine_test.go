package authflow_test

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

const olga = provisioning.Actor("operator olga@example.com")

func bloom() provisioning.Account {
	return provisioning.Account{ID: "acct-bloom", Organization: "Bloom Florist", ContactEmail: "ben@bloom.example"}
}

// confined returns the one grant of a client that is in quarantine.
func (b *testBundle) confined(t *testing.T, ref string) grant.Held {
	t.Helper()
	held, err := b.Grants.HeldOf(t.Context(), b.client(t, ref).ID)
	if err != nil || len(held) != 1 {
		t.Fatalf("%s has %d grants in quarantine, %v", ref, len(held), err)
	}
	return held[0]
}

// strays lets an owner consent as an unexpected account and returns the grant.
func (b *testBundle) strays(t *testing.T, ref string, a provisioning.Account, want authflow.Outcome) uuid.UUID {
	t.Helper()
	b.connect(t, ref, a, want)
	return b.confined(t, ref).ID
}

// opens checks that the tokens of a grant open for the client, in this generation.
func (b *testBundle) opens(t *testing.T, id uuid.UUID, ref string, generation int) {
	t.Helper()
	var access, refresh []byte
	if err := b.db.QueryRow(t.Context(), `SELECT access_token, refresh_token FROM grants WHERE id = $1`, id).Scan(&access, &refresh); err != nil {
		t.Fatal(err)
	}
	for kind, sealed := range map[string][]byte{"access_token": access, "refresh_token": refresh} {
		ad := vault.AD{Row: id.String(), Kind: kind, Client: b.client(t, ref).ID.String(), Generation: generation}
		if plain, err := b.Vault.Open(sealed, ad); err != nil || string(plain) != strings.ReplaceAll(kind, "_", "-")+"-for-c0de" {
			t.Errorf("the %s opens as %q, %v", kind, plain, err)
		}
	}
}

// state is everything that a decision may change.
func (b *testBundle) state(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, table := range []string{"clients", "grants", "events", "invitations", "messages"} {
		all[table] = b.dump(t, table)
	}
	return all
}

// thanked counts the mails that tell a client's owner of an organisation.
func (b *testBundle) thanked(t *testing.T, ref, organization string) (n int) {
	t.Helper()
	err := b.db.QueryRow(t.Context(), `
		SELECT count(*)
		FROM messages
		WHERE client_id = $1
			AND kind = 'thanks'
			AND facts ->> 'organization' = $2`, b.client(t, ref).ID, organization).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(t, "BLOOM", bloom(), authflow.OutcomeConnected)
	b.connect(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
	b.connect(t, "DELI", bloom(), authflow.OutcomeConflict)
	first, next, err := b.Grants.Quarantine(t.Context(), "", 1)
	if err != nil || len(first) != 1 || next == "" {
		t.Fatalf("the first page has %d grants, then %q, %v", len(first), next, err)
	}
	second, last, err := b.Grants.Quarantine(t.Context(), next, 1)
	if err != nil || len(second) != 1 || last != "" {
		t.Fatalf("the second page has %d grants, then %q, %v", len(second), last, err)
	}
	if all, _, err := b.Grants.Quarantine(t.Context(), "", 0); err != nil || len(all) != 2 {
		t.Errorf("%d grants are in quarantine, %v", len(all), err)
	}
	got := first[0]
	if *got.ClientRef != "ACME" || got.ClientName != "Acme Bakery" || got.OwnerEmail != "ada@acme.example" || *got.Expected != "acct-acme" ||
		got.AccountID != "acct-stranger" || got.Organization != "Somebody Else" || got.ContactEmail != "who@else.example" || got.Subject != "ada" ||
		*got.Reason != provisioning.ReasonWrongAccount || got.HolderID != nil {
		t.Errorf("in quarantine: %+v", got)
	}
	want := "another account than the expected acct-acme; the organization does not have the client's name; its contact address is not the owner's"
	if got.Evidence != want {
		t.Errorf("evidence %q, want %q", got.Evidence, want)
	}
	got = second[0]
	if got.Expected != nil || *got.Reason != provisioning.ReasonConflict || *got.HolderID != b.client(t, "BLOOM").ID || *got.HolderRef != "BLOOM" ||
		*got.HolderName != "Bloom Florist" {
		t.Errorf("in conflict: %+v", got)
	}
	if _, _, err := b.Grants.Quarantine(t.Context(), "made up", 1); !errors.Is(err, provisioning.ErrBadCursor) {
		t.Errorf("error %v, want ErrBadCursor", err)
	}
	if _, err := b.Grants.Held(t.Context(), uuid.New()); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	id := b.strays(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
	client, err := b.Grants.Accept(t.Context(), id, olga)
	if err != nil || client != b.client(t, "ACME").ID {
		t.Fatalf("accepted for %s, %v", client, err)
	}
	b.isAt(t, "ACME", "authorized")
	b.holds(t, "ACME", "active acct-stranger")
	b.opens(t, id, "ACME", 2)
	if c := b.client(t, "ACME"); *c.AccountID != "acct-stranger" || c.AuthorizedAt == nil {
		t.Errorf("the client has the account %s since %v", *c.AccountID, c.AuthorizedAt)
	}
	found, _, err := (&provisioning.Store{DB: b.db}).Clients(t.Context(), provisioning.Filter{Query: "acct stranger"})
	if err != nil || len(found) != 1 {
		t.Errorf("by its account %d clients are found, %v", len(found), err)
	}
	detail := b.detail(t, "ACME", provisioning.EventAccepted)
	for _, want := range []string{`{"to": "acct-stranger", "from": "acct-acme"}`, "Somebody Else", "its contact address is not the owner's"} {
		if !strings.Contains(detail, want) {
			t.Errorf("the event tells %s, without %s", detail, want)
		}
	}
	b.history(
		t, "ACME",
		"started by owner → started", "wrong_account by owner → stalled/wrong_account", "accepted by operator olga@example.com → authorized",
	)
	if _, err := b.Links.Find(t.Context(), token); !errors.Is(err, authflow.ErrLinkSpent) {
		t.Errorf("the client's link: %v, want ErrLinkSpent", err)
	}
	if n := b.thanked(t, "ACME", "Somebody Else"); n != 1 {
		t.Errorf("the owner is told %d times", n)
	}
	grants, err := b.Grants.Of(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if due := grants[0].RefreshAt; due == nil || time.Until(*due) < 5*time.Minute || time.Until(*due) > time.Hour || grants[0].EndedAt != nil {
		t.Errorf("the grant is refreshed at %v and ended at %v", due, grants[0].EndedAt)
	}
	before := b.state(t)
	if _, err := b.Grants.Accept(t.Context(), id, olga); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("once more: %v, want ErrNotFound", err)
	}
	if diff := cmp.Diff(before, b.state(t)); diff != "" {
		t.Error("a refused decision has changed something")
	}
}

// What is accepted takes the place of all that the client has: of other accounts in quarantine, and of a grant of
// the same account that an import has made a stranger's.
func TestAcceptReplaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(t, "BLOOM", bloom(), authflow.OutcomeConnected)
	b.exec(t, `UPDATE clients SET account_id = 'acct-new' WHERE ref = 'BLOOM'`)
	id := b.strays(t, "BLOOM", bloom(), authflow.OutcomeWrongAccount)
	b.connect(t, "BLOOM", stranger(), authflow.OutcomeWrongAccount)
	if _, err := b.Grants.Accept(t.Context(), id, olga); err != nil {
		t.Fatal(err)
	}
	b.holds(t, "BLOOM", "replaced acct-bloom, active acct-bloom, replaced acct-stranger")
	b.onlyLiveTokens(t)
	b.isAt(t, "BLOOM", "authorized")
}

func (b *testBundle) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := b.db.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// A decision that cannot be carried out says why, and changes nothing.
func TestDecisionsRefused(t *testing.T) {
	t.Parallel()
	accept := func(b *testBundle, id, _ uuid.UUID) error {
		_, err := b.Grants.Accept(context.Background(), id, olga)
		return err
	}
	move := func(b *testBundle, id, to uuid.UUID) error { return b.Grants.Move(context.Background(), id, to, olga) }
	tests := []struct {
		name    string
		prepare func(t *testing.T, b *testBundle) uuid.UUID
		decide  func(b *testBundle, id, to uuid.UUID) error
		to      string
		want    error
		words   string
	}{
		{
			"accept another client's account",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				return b.strays(t, "DELI", acme(), authflow.OutcomeConflict)
			},
			accept, "ACME", grant.ErrConflict, `belongs to the client "Acme Bakery"; move the grant there`,
		},
		{
			"accept an account that another client is connected with, whatever the roster says now",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				b.connect(t, "BLOOM", bloom(), authflow.OutcomeConnected)
				b.exec(t, `UPDATE clients SET account_id = 'acct-new' WHERE ref = 'BLOOM'`)
				b.exec(t, `UPDATE clients SET account_id = 'acct-bloom' WHERE ref = 'DELI'`)
				return b.strays(t, "DELI", bloom(), authflow.OutcomeConflict)
			},
			accept, "ACME", grant.ErrConflict, `belongs to the client "Bloom Florist"`,
		},
		{
			"accept for a client that is connected with another",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				b.connect(t, "ACME", acme(), authflow.OutcomeConnected)
				return b.strays(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
			},
			accept, "ACME", grant.ErrConnected, `"Acme Bakery" is connected with the account acct-acme`,
		},
		{
			"accept what would end",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				id := b.strays(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
				b.exec(t, `UPDATE grants SET refresh_token = NULL`)
				return id
			},
			accept, "ACME", grant.ErrUnkeepable, "no refresh token",
		},
		{
			"accept what somebody has exchanged",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				id := b.strays(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
				b.connect(t, "BLOOM", bloom(), authflow.OutcomeConnected)
				b.exec(t, `UPDATE grants g SET refresh_token = (SELECT refresh_token FROM grants o WHERE o.id <> g.id)`)
				return id
			},
			accept, "ACME", vault.ErrSealBroken, "",
		},
		{
			"move to the client itself",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				return b.strays(t, "DELI", stranger(), authflow.OutcomeWrongAccount)
			},
			move, "DELI", grant.ErrRefused, "accept it instead",
		},
		{
			"move to a client of another account",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				return b.strays(t, "DELI", stranger(), authflow.OutcomeWrongAccount)
			},
			move, "ACME", grant.ErrConflict, `the account of "Acme Bakery" is acct-acme`,
		},
		{
			"move a third client's account",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				return b.strays(t, "DELI", acme(), authflow.OutcomeConflict)
			},
			move, "BLOOM", grant.ErrConflict, `belongs to the client "Acme Bakery"`,
		},
		{
			"move what has become the client's own account",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				id := b.strays(t, "DELI", stranger(), authflow.OutcomeWrongAccount)
				b.exec(t, `UPDATE clients SET account_id = 'acct-stranger' WHERE ref = 'DELI'`)
				return id
			},
			move, "BLOOM", grant.ErrConflict, `belongs to "Corner Deli" itself`,
		},
		{
			"move to a client that is connected with another",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				b.connect(t, "BLOOM", bloom(), authflow.OutcomeConnected)
				return b.strays(t, "DELI", stranger(), authflow.OutcomeWrongAccount)
			},
			move, "BLOOM", grant.ErrConnected, "is connected with the account acct-bloom",
		},
		{
			"move what is not there", func(*testing.T, *testBundle) uuid.UUID { return uuid.New() },
			move, "BLOOM", grant.ErrNotFound, "somebody has decided on it",
		},
		{
			"discard what is used",
			func(t *testing.T, b *testBundle) uuid.UUID {
				t.Helper()
				id := b.strays(t, "DELI", stranger(), authflow.OutcomeWrongAccount)
				if _, err := b.Grants.Accept(t.Context(), id, olga); err != nil {
					t.Fatal(err)
				}
				return id
			},
			func(b *testBundle, id, _ uuid.UUID) error { return b.Grants.Discard(context.Background(), id, olga) },
			"DELI", grant.ErrNotFound, "",
		},
	}
	b := setup(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.anew(t)
			id := test.prepare(t, b)
			before := b.state(t)
			err := test.decide(b, id, b.client(t, test.to).ID)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) {
				t.Errorf("error %v, want %v with %q", err, test.want, test.words)
			}
			if diff := cmp.Diff(before, b.state(t)); diff != "" {
				t.Errorf("a refused decision has changed something:\n%s", diff)
			}
		})
	}
	b.anew(t)
	id := b.strays(t, "CAFE", stranger(), authflow.OutcomeWrongAccount)
	if err := b.Grants.Move(t.Context(), id, uuid.New(), olga); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("to nobody: %v, want ErrNotFound", err)
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	id := b.strays(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
	if err := b.Grants.Discard(t.Context(), id, olga); err != nil {
		t.Fatal(err)
	}
	b.holds(t, "ACME", "discarded acct-stranger")
	if n := b.count(t, `SELECT count(*) FROM grants WHERE access_token IS NOT NULL OR refresh_token IS NOT NULL OR ended_at IS NULL`); n != 0 {
		t.Errorf("%d grants have tokens or no end", n)
	}
	b.isAt(t, "ACME", "stalled/wrong_account")
	b.history(
		t, "ACME",
		"started by owner → started", "wrong_account by owner → stalled/wrong_account", "discarded by operator olga@example.com",
	)
	// The owner can still try again.
	b.provider.says(acme())
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)
}

// The owner of Bloom has consented on the link of Café. The grant goes where it belongs, and both links stay good for
// what they are for.
func TestMove(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cafe, own := b.token(t, "CAFE"), b.token(t, "BLOOM")
	id := b.strays(t, "CAFE", bloom(), authflow.OutcomeWrongAccount)
	if err := b.Grants.Move(t.Context(), id, b.client(t, "BLOOM").ID, olga); err != nil {
		t.Fatal(err)
	}
	b.isAt(t, "BLOOM", "authorized")
	b.holds(t, "BLOOM", "active acct-bloom")
	b.opens(t, id, "BLOOM", 2)
	b.isAt(t, "CAFE", "stalled/wrong_account")
	b.holds(t, "CAFE", "")
	if c := b.client(t, "BLOOM"); *c.AccountID != "acct-bloom" {
		t.Errorf("Bloom has the account %s", *c.AccountID)
	}
	if c := b.client(t, "CAFE"); c.AccountID != nil {
		t.Errorf("Café has the account %s", *c.AccountID)
	}
	b.history(t, "BLOOM", "received by operator olga@example.com → authorized")
	b.history(
		t, "CAFE",
		"started by owner → started", "wrong_account by owner → stalled/wrong_account", "moved by operator olga@example.com",
	)
	if detail := b.detail(t, "CAFE", provisioning.EventMoved); !strings.Contains(detail, `"moved_to": "Bloom Florist"`) {
		t.Errorf("the one event tells %s", detail)
	}
	if detail := b.detail(t, "BLOOM", provisioning.EventReceived); !strings.Contains(detail, `"moved_from": "Café Lumière"`) ||
		!strings.Contains(detail, `{"to": "acct-bloom", "from": null}`) {
		t.Errorf("the other event tells %s", detail)
	}
	if n := b.thanked(t, "BLOOM", "Bloom Florist"); n != 1 {
		t.Errorf("the owner of Bloom is told %d times", n)
	}
	if n := b.thanked(t, "CAFE", "Bloom Florist"); n != 0 {
		t.Errorf("the owner of Café is told %d times", n)
	}
	if _, err := b.Links.Find(t.Context(), own); !errors.Is(err, authflow.ErrLinkSpent) {
		t.Errorf("the link of Bloom: %v, want ErrLinkSpent", err)
	}
	b.provider.says(provisioning.Account{ID: "acct-cafe", Organization: "Cafe Lumiere"})
	b.ends(t, b.begin(t, cafe).back(), authflow.OutcomeConnected)
	b.isAt(t, "CAFE", "authorized")
}

// A consent on another client's link may have ended the grant that works. Moving the new one cures that, and asks
// nobody anew; a client that was never invited gets no mail.
func TestMoveRenews(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(t, "BLOOM", bloom(), authflow.OutcomeConnected)
	id := b.strays(t, "CAFE", bloom(), authflow.OutcomeConflict)
	if err := b.Grants.Move(t.Context(), id, b.client(t, "BLOOM").ID, olga); err != nil {
		t.Fatal(err)
	}
	b.holds(t, "BLOOM", "replaced acct-bloom, active acct-bloom")
	b.onlyLiveTokens(t)
	b.isAt(t, "BLOOM", "authorized")
	b.isAt(t, "CAFE", "stalled/conflict")
	b.opens(t, id, "BLOOM", 2)
	if detail := b.detail(t, "BLOOM", provisioning.EventReceived); !strings.Contains(detail, `"account_id": "acct-bloom"`) {
		t.Errorf("the event tells %s", detail)
	}

	id = b.strays(t, "CAFE", stranger(), authflow.OutcomeWrongAccount)
	if err := b.Grants.Move(t.Context(), id, b.client(t, "DELI").ID, olga); err != nil {
		t.Fatal(err)
	}
	b.isAt(t, "DELI", "authorized")
	if n := b.thanked(t, "DELI", "Somebody Else"); n != 0 {
		t.Errorf("the owner is told %d times", n)
	}
}

// Whoever comes first decides.
func TestDecisionsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.strays(t, "CAFE", stranger(), authflow.OutcomeWrongAccount)
	deli, yoga := b.client(t, "DELI").ID, b.client(t, "YOGA-1").ID
	decisions := []func() error{
		func() error { _, err := b.Grants.Accept(t.Context(), id, olga); return err },
		func() error { return b.Grants.Discard(t.Context(), id, olga) },
		func() error { return b.Grants.Move(t.Context(), id, deli, olga) },
		func() error { return b.Grants.Move(t.Context(), id, yoga, olga) },
	}
	if won := atOnce(t, grant.ErrNotFound, append(decisions, decisions...)...); won != 1 {
		t.Errorf("%d decisions were carried out", won)
	}
	if n := b.count(t, `SELECT count(*) FROM events WHERE kind IN ('accepted', 'discarded', 'moved')`); n != 1 {
		t.Errorf("%d decisions were noted", n)
	}
	if n := b.count(t, `SELECT count(*) FROM grants WHERE status IN ('active', 'discarded')`); n != 1 {
		t.Errorf("%d grants were decided on", n)
	}
}

// atOnce makes all the attempts at the same time and counts those that succeed. The others have to fail for a reason.
func atOnce(t *testing.T, reason error, attempts ...func() error) (won int) {
	t.Helper()
	errs := make([]error, len(attempts))
	var wg sync.WaitGroup
	for i, attempt := range attempts {
		wg.Go(func() { errs[i] = attempt() })
	}
	wg.Wait()
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, reason):
			t.Errorf("error %v, want %v", err, reason)
		}
	}
	return won
}

// One account, which says nothing of whose it is, waits for two clients, and two operators accept it at once: one
// client gets it, and the other operator is told.
func TestOneAccountAcceptedTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 5 {
		b.anew(t)
		first := b.strays(t, "CAFE", stranger(), authflow.OutcomeWrongAccount)
		second := b.strays(t, "DELI", stranger(), authflow.OutcomeWrongAccount)
		won := atOnce(
			t, grant.ErrConflict,
			func() error { _, err := b.Grants.Accept(t.Context(), first, olga); return err },
			func() error { _, err := b.Grants.Accept(t.Context(), second, olga); return err },
		)
		if won != 1 {
			t.Errorf("%d clients got the account", won)
		}
		if n := b.count(t, `SELECT count(*) FROM clients WHERE account_id = 'acct-stranger' AND stage = 'authorized'`); n != 1 {
			t.Errorf("%d clients have the account", n)
		}
	}
}

// Two clients get each other's grant: both operators lock the same clients, and nobody waits crosswise.
func TestMoveCrosswise(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := provisioning.Account{ID: "acct-other", Organization: "Other"}
	for range 5 {
		b.anew(t)
		first := b.strays(t, "CAFE", stranger(), authflow.OutcomeWrongAccount)
		second := b.strays(t, "DELI", other, authflow.OutcomeWrongAccount)
		cafe, deli := b.client(t, "CAFE").ID, b.client(t, "DELI").ID
		won := atOnce(
			t, grant.ErrNotFound,
			func() error { return b.Grants.Move(t.Context(), first, deli, olga) },
			func() error { return b.Grants.Move(t.Context(), second, cafe, olga) },
		)
		// What a client has in quarantine ends with the grant that it gets.
		if active := b.count(t, `SELECT count(*) FROM grants WHERE status = 'active'`); active != won || won == 0 {
			t.Errorf("%d moved, %d active", won, active)
		}
	}
}

// The owner consents with the right account while an operator accepts the wrong one.
func TestAcceptWhileTheOwnerConsents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 5 {
		b.anew(t)
		id := b.strays(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
		w := b.begin(t, b.token(t, "ACME"))
		b.provider.says(acme())
		var outcome authflow.Outcome
		accepted := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if _, outcome, err = b.Callback(t.Context(), w.back()); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			accepted = atOnce(t, grant.ErrNotFound, func() error { _, err := b.Grants.Accept(t.Context(), id, olga); return err })
		})
		wg.Wait()
		b.isAt(t, "ACME", "authorized")
		switch {
		case accepted == 0 && outcome == authflow.OutcomeConnected:
			b.holds(t, "ACME", "replaced acct-stranger, active acct-acme")
		case accepted == 1 && outcome == authflow.OutcomeWrongAccount:
			b.holds(t, "ACME", "active acct-stranger, quarantined acct-acme")
		default:
			t.Errorf("accepted %d times, and the walk ended as %q", accepted, outcome)
		}
	}
}

// What another transaction does to the client or its account in that instant decides.
func TestAcceptMeetsAChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, test := range []struct {
		name, sql string
		want      error
		words     string
	}{
		{
			"an import gives the account to another client", `UPDATE clients SET account_id = 'acct-stranger' WHERE ref = 'DELI'`,
			grant.ErrConflict, `belongs to the client "Corner Deli"`,
		},
		{"the client is deleted", `DELETE FROM clients WHERE ref = 'ACME'`, grant.ErrNotFound, "not in quarantine"},
		{"the client is connected", `SELECT 1 FROM clients WHERE ref = 'ACME' FOR UPDATE`, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.anew(t)
			id := b.strays(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
			tx, err := b.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // After a commit there is nothing to roll back.
			if _, err := tx.Exec(t.Context(), test.sql); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := b.Grants.Accept(t.Context(), id, olga)
				if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.words) {
					t.Errorf("error %v, want %v with %q", err, test.want, test.words)
				}
			})
			b.waits(t, 1)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
		})
	}
}

// Deleting a client shreds its grant: nothing sealed of it is left anywhere.
func TestDeletedClientLeavesNothingSealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(t, "ACME", acme(), authflow.OutcomeConnected)
	b.connect(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
	b.begin(t, b.token(t, "ACME"))
	rows, err := b.db.Query(t.Context(), `
		SELECT access_token FROM grants WHERE access_token IS NOT NULL
		UNION ALL SELECT refresh_token FROM grants WHERE refresh_token IS NOT NULL
		UNION ALL SELECT verifier FROM consents WHERE verifier IS NOT NULL`)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil || len(sealed) != 5 {
		t.Fatalf("%d things are sealed, %v", len(sealed), err)
	}
	found := func() (n int) {
		rows, err := b.db.Query(t.Context(), `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'`)
		if err != nil {
			t.Fatal(err)
		}
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(tables) < 10 {
			t.Fatalf("%d tables, %v", len(tables), err)
		}
		for _, table := range tables {
			text := b.dump(t, table)
			for _, s := range sealed {
				n += strings.Count(text, hex.EncodeToString(s))
			}
		}
		return n
	}
	if n := found(); n != len(sealed) {
		t.Fatalf("%d of %d are found while the client is there", n, len(sealed))
	}
	b.exec(t, `DELETE FROM clients WHERE ref = 'ACME'`)
	if n := found(); n != 0 {
		t.Errorf("%d sealed things are left", n)
	}
}
