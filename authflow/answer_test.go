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
	b.optedOut(t, "ACME", "declined")
	b.history(t, "ACME", "declined by owner → stalled/declined")
	// People change their minds. A press of Continue is not yet proof: a robot may have pressed.
	walk := b.begin(t, token)
	b.optedOut(t, "ACME", "declined")
	b.ends(t, walk.back(), authflow.OutcomeConnected)
	b.optedOut(t, "ACME", "")

	b.takesNoAnswers(t, token, authflow.ErrLinkSpent)
	b.isAt(t, "ACME", "authorized")
	late := b.token(t, "BLOOM")
	b.clock.advance(authflow.InvitationLife)
	b.takesNoAnswers(t, late, authflow.ErrLinkExpired)
	b.takesNoAnswers(t, "made-up", authflow.ErrLinkUnknown)
	b.isAt(t, "BLOOM", "imported")
}

// takesNoAnswers checks that the link takes none but that its owner wants no mails.
func (b *testBundle) takesNoAnswers(t *testing.T, token string, want error) {
	t.Helper()
	_, decline := b.Decline(t.Context(), token)
	_, notMe := b.NotMe(t.Context(), token)
	_, refer := b.Refer(t.Context(), token, provisioning.Owner{Email: "eve@yoga.example"}, "")
	_, undo := b.Undo(t.Context(), token, time.Time{})
	for name, err := range map[string]error{"Decline": decline, "NotMe": notMe, "Refer": refer, "Undo": undo} {
		if !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
	}
	if n := b.count(t, `SELECT count(*) FROM referrals`); n > 0 {
		t.Errorf("%d referrals", n)
	}
}

// optedOut checks how the owner of a client opted out.
func (b *testBundle) optedOut(t *testing.T, ref string, want provisioning.OptedOut) {
	t.Helper()
	c := b.client(t, ref)
	if (c.OptedOut == nil) != (want == "") || c.OptedOut != nil && *c.OptedOut != want {
		t.Errorf("the owner of %s opted out as %v, want %q", ref, c.OptedOut, want)
	}
}

func TestNotMe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	if _, err := b.NotMe(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	b.optedOut(t, "ACME", "declined")
	if _, err := b.Refer(t.Context(), token, provisioning.Owner{Email: "eve@yoga.example"}, ""); err != nil {
		t.Fatal(err)
	}
	b.history(t, "ACME", "not_me by owner → stalled/declined", "referred by owner")
	b.mails(t)
	// The link may have been passed on to the right person.
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)
}

// A no at the provider calls for other words, not for silence.
func TestDeniedIsNotOptedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	denied := b.begin(t, token).back()
	denied.Code, denied.Error = "", "access_denied"
	b.ends(t, denied, authflow.OutcomeDeclined)
	b.isAt(t, "ACME", "stalled/declined")
	b.optedOut(t, "ACME", "")
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
	if _, err := b.Decline(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	b.ends(t, b.begin(t, acme).back(), authflow.OutcomeConnected)
	b.optedOut(t, "ACME", "unsubscribed") // Consent is about the account, not about mails.

	// A link that is spent is still in the mails that it came by.
	spent := b.token(t, "YOGA-2")
	b.provider.says(provisioning.Account{ID: "acct-fay", ContactEmail: "fay@yoga.example"})
	b.ends(t, b.begin(t, spent).back(), authflow.OutcomeConnected)
	for _, again := range []bool{false, true} {
		answered, err := b.Unsubscribe(t.Context(), spent)
		if err != nil || !answered.Undo.IsZero() {
			t.Errorf("after success, again %t: %+v, %v", again, answered, err)
		}
	}
	b.isAt(t, "YOGA-2", "authorized")
	b.optedOut(t, "YOGA-2", "unsubscribed")

	// Who has the mail to an earlier address does not speak for the owner.
	b.imports(t, "ref,name,owner_email\nCAFE,Café Lumière,cora@chain.example\n")
	if inv, err := b.Unsubscribe(t.Context(), cafe); err != nil || inv.ClientName != "Café Lumière" {
		t.Errorf("revoked: %+v, %v", inv, err)
	}
	b.isAt(t, "CAFE", "imported")
	b.optedOut(t, "CAFE", "")

	b.clock.advance(2 * authflow.InvitationLife)
	if answered, err := b.Unsubscribe(t.Context(), bloom); err != nil || !answered.Undo.IsZero() {
		t.Errorf("too late for anything else: %+v, %v", answered, err)
	}
	b.isAt(t, "BLOOM", "stalled/unsubscribed")
	if _, err := b.Unsubscribe(t.Context(), "made-up"); !errors.Is(err, authflow.ErrLinkUnknown) {
		t.Errorf("made up: error %v, want ErrLinkUnknown", err)
	}
}

// Whoever has just pressed can take it back; whatever presses later cannot take back what a person meant.
func TestUndo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	b.begin(t, token)
	for _, answer := range []func(context.Context, string) (authflow.Answered, error){b.Decline, b.NotMe, b.Unsubscribe} {
		answered, err := answer(t.Context(), token)
		if err != nil || answered.Undo.IsZero() {
			t.Fatalf("%+v, %v", answered, err)
		}
		for range 2 { // The page may be sent again.
			inv, err := b.Undo(t.Context(), token, answered.Undo)
			if err != nil || inv.OptedOut != nil {
				t.Errorf("%+v, %v", inv, err)
			}
		}
		b.isAt(t, "ACME", "started")
	}
	meant, err := b.Decline(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range []func(context.Context, string) (authflow.Answered, error){b.Decline, b.NotMe, b.Unsubscribe} {
		robot, err := answer(t.Context(), token)
		if err != nil || !robot.Undo.IsZero() {
			t.Errorf("a robot is shown the way back: %+v, %v", robot, err)
		}
	}
	inv, err := b.Undo(t.Context(), token, meant.Undo)
	if err != nil || inv.OptedOut == nil || *inv.OptedOut != provisioning.OptedOutUnsubscribed {
		t.Errorf("an answer that came after is taken back: %+v, %v", inv, err)
	}
	b.optedOut(t, "ACME", "unsubscribed")
}

// mails checks the messages that are queued or sent, oldest first, as "client: address".
func (b *testBundle) mails(t *testing.T, want ...string) {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `SELECT client_name || ': ' || to_address FROM messages WHERE kind <> 'thanks' ORDER BY id`)
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
	if _, err := b.db.Exec(t.Context(), `UPDATE messages SET state = 'sent', ended_at = now()`); err != nil {
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
	pass := func(pause time.Duration) {
		t.Helper()
		if _, err := b.db.Exec(t.Context(), `UPDATE events SET at = at - $1::interval`, pause); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 * authflow.RenewsADay {
		pass(authflow.RenewPause)
		renew(token)
	}
	if n := b.count(t, `SELECT count(*) FROM messages`); n != authflow.RenewsADay {
		t.Errorf("%d mails on one day", n)
	}
	pass(24 * time.Hour)
	renew(token)
	if n := b.count(t, `SELECT count(*) FROM messages`); n != authflow.RenewsADay+1 {
		t.Errorf("%d mails on two days", n)
	}
}

// Who opted out may ask for a link all the same, and stays opted out. To an address that bounced nothing is sent.
func TestRenewForWhom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	unsubscribed, declined, bounced := b.token(t, "ACME"), b.token(t, "BLOOM"), b.token(t, "CAFE")
	if _, err := b.Unsubscribe(t.Context(), unsubscribed); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Decline(t.Context(), declined); err != nil {
		t.Fatal(err)
	}
	if _, err := provisioning.Advance(t.Context(), b.db, provisioning.Change{
		Client: b.client(t, "CAFE").ID, Event: provisioning.EventBounced, Actor: provisioning.ActorSystem,
		To: provisioning.StageStalled, Reason: provisioning.ReasonBounced,
	}); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(authflow.InvitationLife)
	for _, token := range []string{unsubscribed, declined, bounced} {
		if err := b.Renew(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	b.mails(t, "Acme Bakery: ada@acme.example", "Bloom Florist: ben@bloom.example")
	b.optedOut(t, "ACME", "unsubscribed")
	b.optedOut(t, "BLOOM", "declined")
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
