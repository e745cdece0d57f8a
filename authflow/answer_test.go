package authflow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning"
)

func TestDecline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	inv, err := b.Decline(t.Context(), token)
	if err != nil || inv.ClientName != "Acme Bakery" {
		t.Fatalf("%+v, %v", inv, err)
	}
	b.isAt(t, "ACME", "stalled/declined")
	b.history(t, "ACME", "declined by owner → stalled/declined")
	// People change their minds.
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)

	if _, err := b.Decline(t.Context(), token); !errors.Is(err, authflow.ErrLinkSpent) {
		t.Errorf("after success: error %v, want ErrLinkSpent", err)
	}
	b.isAt(t, "ACME", "authorized")
	late := b.token(t, "BLOOM")
	b.clock.advance(authflow.InvitationLife)
	if _, err := b.Decline(t.Context(), late); !errors.Is(err, authflow.ErrLinkExpired) {
		t.Errorf("too late: error %v, want ErrLinkExpired", err)
	}
	if _, err := b.Decline(t.Context(), "made-up"); !errors.Is(err, authflow.ErrLinkUnknown) {
		t.Errorf("made up: error %v, want ErrLinkUnknown", err)
	}
	b.isAt(t, "BLOOM", "imported")
}

func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, bloom, cafe := b.token(t, "ACME"), b.token(t, "BLOOM"), b.token(t, "CAFE")
	for range 2 { // A mail program may press twice.
		if _, err := b.Unsubscribe(t.Context(), acme); err != nil {
			t.Fatal(err)
		}
	}
	b.isAt(t, "ACME", "stalled/unsubscribed")
	b.history(t, "ACME", "unsubscribed by owner → stalled/unsubscribed", "unsubscribed by owner")
	b.ends(t, b.begin(t, acme).back(), authflow.OutcomeConnected)
	if _, err := b.Unsubscribe(t.Context(), acme); !errors.Is(err, authflow.ErrLinkSpent) {
		t.Errorf("after success: error %v, want ErrLinkSpent", err)
	}

	// Who has the mail to an earlier address does not speak for the owner.
	b.imports(t, "ref,name,owner_email\nCAFE,Café Lumière,cora@chain.example\n")
	if inv, err := b.Unsubscribe(t.Context(), cafe); err != nil || inv.ClientName != "Café Lumière" {
		t.Errorf("revoked: %+v, %v", inv, err)
	}
	b.isAt(t, "CAFE", "imported")

	b.clock.advance(2 * authflow.InvitationLife)
	if _, err := b.Unsubscribe(t.Context(), bloom); err != nil {
		t.Errorf("too late for anything else: %v", err)
	}
	b.isAt(t, "BLOOM", "stalled/unsubscribed")
	if _, err := b.Unsubscribe(t.Context(), "made-up"); !errors.Is(err, authflow.ErrLinkUnknown) {
		t.Errorf("made up: error %v, want ErrLinkUnknown", err)
	}
}

// mails checks the messages that are queued or sent, oldest first, as "client: address".
func (b *testBundle) mails(t *testing.T, want ...string) {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `SELECT client_name || ': ' || to_address FROM messages ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("mails %q, want %q", got, want)
	}
}

// sent does as if all mails had gone out.
func (b *testBundle) sent(t *testing.T) {
	t.Helper()
	if _, err := b.db.Exec(t.Context(), `UPDATE messages SET state = 'sent'`); err != nil {
		t.Fatal(err)
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	b.clock.advance(authflow.InvitationLife)
	renew := func(token string) {
		t.Helper()
		if err := b.Renew(t.Context(), token); err != nil {
			t.Error(err)
		}
		b.sent(t)
	}
	renew(token)
	b.mails(t, "Acme Bakery: ada@acme.example")
	b.history(t, "ACME", "mail_queued by owner", "renewed by owner")
	var fresh authflow.Invitation
	if err := b.db.QueryRow(t.Context(), `SELECT invitation_id FROM messages`).Scan(&fresh.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Links.Find(t.Context(), b.Links.Token(fresh.ID)); err != nil {
		t.Errorf("the fresh link: %v", err)
	}

	renew(token)
	renew(b.Links.Token(fresh.ID))
	b.mails(t, "Acme Bakery: ada@acme.example")
	if _, err := b.db.Exec(t.Context(), `UPDATE events SET at = at - $1::interval`, authflow.RenewPause); err != nil {
		t.Fatal(err)
	}
	renew(token)
	b.mails(t, "Acme Bakery: ada@acme.example", "Acme Bakery: ada@acme.example")
}

// Whoever presses, and with whatever link: the mail goes to the address on record, and the answer is
// the same.
func TestRenewIsNoWayToLearnOrToSend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, open, spent := b.token(t, "BLOOM"), b.token(t, "DELI"), b.token(t, "ACME")
	b.connect(t, "ACME", acme(), authflow.OutcomeConnected)
	b.imports(t, "ref,name,owner_email\nBLOOM,Bloom Florist,bea@bloom.example\n")
	for _, token := range []string{"", "made-up", spent} {
		if err := b.Renew(t.Context(), token); err != nil {
			t.Errorf("%q: %v", token, err)
		}
	}
	b.mails(t)
	for _, token := range []string{old, open} {
		if err := b.Renew(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	b.mails(t, "Bloom Florist: bea@bloom.example", "Corner Deli: cleo@chain.example")
}

func TestRenewManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := tx.Exec(t.Context(), `SELECT FROM clients WHERE ref = 'ACME' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	const presses = 8
	var wg sync.WaitGroup
	for range presses {
		wg.Go(func() {
			if err := b.Renew(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	b.waits(t, presses)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	b.mails(t, "Acme Bakery: ada@acme.example")
	b.history(t, "ACME", "mail_queued by owner", "renewed by owner")
}

// An import that holds the roster is on its way to the client of whom a fresh link is wanted.
func TestRenewDuringAnImport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "BLOOM")
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := tx.Exec(t.Context(), `SELECT FROM clients WHERE ref = 'ACME' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		const file = "ref,name,owner_email\nACME,Acme Bakery,ann@acme.example\nBLOOM,Bloom Flowers,ben@bloom.example\n"
		if _, err := b.importer.Import(t.Context(), strings.NewReader(file), provisioning.ImportOptions{Actor: provisioning.ActorCLI}); err != nil {
			t.Error(err)
		}
	})
	b.waits(t, 1)
	wg.Go(func() {
		if err := b.Renew(t.Context(), token); err != nil {
			t.Error(err)
		}
	})
	b.waits(t, 2)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	b.mails(t, "Bloom Flowers: ben@bloom.example")
}

func TestExpire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.reaches(t, "BLOOM", provisioning.StageInvited)
	b.reaches(t, "CAFE", provisioning.StageInvited)
	b.token(t, "ACME")  // only imported: nobody has the link, or by hand
	b.token(t, "BLOOM") // two that run out
	b.token(t, "BLOOM")
	b.token(t, "CAFE")
	declined, begun := b.token(t, "DELI"), b.token(t, "YOGA-1")
	if _, err := b.Decline(t.Context(), declined); err != nil {
		t.Fatal(err)
	}
	b.begin(t, begun)
	b.connect(t, "YOGA-2", provisioning.Account{ID: "acct-fay", ContactEmail: "fay@yoga.example"}, authflow.OutcomeConnected)
	b.token(t, "YOGA-2") // a link that a client which is connected does not need
	expire := func() {
		t.Helper()
		if err := b.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expire()
	b.isAt(t, "BLOOM", "invited")

	b.clock.advance(24 * time.Hour)
	b.token(t, "CAFE") // a fresh one
	b.clock.advance(authflow.InvitationLife - 24*time.Hour)
	for range 2 {
		expire()
	}
	b.isAt(t, "ACME", "imported")
	b.isAt(t, "BLOOM", "stalled/expired")
	b.isAt(t, "CAFE", "invited")
	b.isAt(t, "DELI", "stalled/declined")
	b.isAt(t, "YOGA-1", "stalled/expired")
	b.isAt(t, "YOGA-2", "authorized")
	b.history(t, "BLOOM", "mail_accepted by system → invited", "expired by system → stalled/expired")
	b.history(t, "CAFE", "mail_accepted by system → invited")
	b.history(t, "YOGA-1", "started by owner → started", "expired by system → stalled/expired")

	b.clock.advance(24 * time.Hour)
	expire()
	b.isAt(t, "CAFE", "stalled/expired")
	b.history(t, "CAFE", "mail_accepted by system → invited", "expired by system → stalled/expired")
}

// reaches moves a client as the mailer does.
func (b *testBundle) reaches(t *testing.T, ref string, stage provisioning.Stage) {
	t.Helper()
	if _, err := provisioning.Advance(t.Context(), b.db, provisioning.Change{
		Client: b.client(t, ref).ID, Event: provisioning.EventMailAccepted, Actor: provisioning.ActorSystem, To: stage,
	}); err != nil {
		t.Fatal(err)
	}
}

func TestExpireManyByManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const clients = 1200 // more than two batches
	var file strings.Builder
	file.WriteString("ref,name,owner_email\n")
	for i := range clients {
		fmt.Fprintf(&file, "R-%d,Client %d,owner%d@client.example\n", i, i, i)
	}
	b.imports(t, file.String())
	err := pgx.BeginFunc(t.Context(), b.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), `SELECT id FROM clients WHERE ref LIKE 'R-%'`)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		if _, err := provisioning.AdvanceAll(t.Context(), tx, ids, provisioning.Change{
			Event: provisioning.EventMailAccepted, Actor: provisioning.ActorSystem, To: provisioning.StageInvited,
		}); err != nil {
			return err
		}
		_, err = b.Links.Issue(t.Context(), tx, ids)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.clock.advance(authflow.InvitationLife)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := b.Expire(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// Those whom one sweep held while another passed are left to the next.
	if err := b.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := b.count(t, `SELECT count(*) FROM clients WHERE stage = 'stalled' AND reason = 'expired'`); n != clients {
		t.Errorf("%d clients are expired, want %d", n, clients)
	}
	if n := b.count(t, `SELECT count(*) FROM events WHERE kind = 'expired'`); n != clients {
		t.Errorf("%d times it was noted, want %d", n, clients)
	}
}

// A consent at work holds its client: the sweep neither waits for it nor ends it.
func TestExpireLeavesThoseAtWorkAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.begin(t, b.token(t, "ACME"))
	b.clock.advance(authflow.InvitationLife)
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := tx.Exec(t.Context(), `SELECT FROM clients WHERE ref = 'ACME' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.Expire(ctx); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.isAt(t, "ACME", "started")
	if err := b.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.isAt(t, "ACME", "stalled/expired")
}
