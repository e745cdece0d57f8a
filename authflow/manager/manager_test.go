package manager_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// desk is a roster with clients on the route manager.
type desk struct {
	*testing.T
	*manager.Store

	db  *pgxpool.Pool
	now time.Time
}

// openDesk imports n clients, C0 and so on, on the route manager.
func openDesk(t *testing.T, n int) *desk {
	t.Helper()
	d := &desk{T: t, db: pgtest.New(t), now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}
	keys, err := vault.ParseKeys(vault.GenerateKey("k"))
	if err != nil {
		t.Fatal(err)
	}
	pattern, err := provisioning.ParsePattern("{local}+{slug}@{domain}")
	if err != nil {
		t.Fatal(err)
	}
	namer, err := provisioning.NewNamer(pattern, provisioning.Mailbox{Local: "agency", Domain: "agency.example"}, 50)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return d.now }
	d.Store = &manager.Store{DB: d.db, Vault: keys, Renamer: &provisioning.Renamer{DB: d.db, Namer: namer}, Now: clock}
	inviter := &provisioning.Inviter{
		DB: d.db, Mailer: &notify.Mailer{DB: d.db, Now: clock},
		Linker: &authflow.Links{DB: d.db, Key: []byte("key of a test"), PublicURL: "http://127.0.0.1", Now: clock},
	}
	var roster strings.Builder
	roster.WriteString("ref,name,owner_email,route\n")
	for i := range n {
		fmt.Fprintf(&roster, "C%d,Client C%d,o%d@a.example,manager\n", i, i, i)
	}
	importer := &provisioning.Importer{DB: d.db, Namer: namer, Inviter: inviter}
	if _, err := importer.Import(t.Context(), strings.NewReader(roster.String()), provisioning.ImportOptions{Actor: provisioning.ActorCLI}); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) client(ref string) provisioning.Client {
	d.Helper()
	c, err := (&provisioning.Store{DB: d.db}).Client(d.Context(), "ref:"+ref)
	if err != nil {
		d.Fatal(err)
	}
	return c
}

func (d *desk) exec(sql string) {
	d.Helper()
	if _, err := d.db.Exec(d.Context(), sql); err != nil {
		d.Fatal(err)
	}
}

// stands checks stage and reason, as "stalled no_activation".
func (d *desk) stands(ref, want string) {
	d.Helper()
	c := d.client(ref)
	got := string(c.Stage)
	if c.Reason != nil {
		got += " " + string(*c.Reason)
	}
	if got != want {
		d.Errorf("%s is %s, want %s", ref, got, want)
	}
}

// mailed is the arrival of the provider's mail for a user.
func (d *desk) mailed(to, link string) bool {
	d.Helper()
	var taken bool
	err := pgx.BeginFunc(d.Context(), d.db, func(tx pgx.Tx) (err error) {
		taken, err = d.TakeActivation(d.Context(), tx, []string{to}, "no-reply@provider.example", provisioning.Secret(link), d.now)
		return err
	})
	if err != nil {
		d.Fatal(err)
	}
	return taken
}

func (d *desk) ok(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *desk) history(ref string) string {
	d.Helper()
	events, err := (&provisioning.Store{DB: d.db}).Events(d.Context(), d.client(ref).ID, 0, 50)
	d.ok(err)
	var kinds []string
	for i := range events {
		kinds = append(kinds, string(events[len(events)-1-i].Kind))
	}
	return strings.Join(kinds, " ")
}

// TestSteps: every step is told once, whoever repeats it.
func TestSteps(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 1)
	c := d.client("C0")
	for range 2 {
		d.ok(d.Claim(t.Context(), c.ID))
		d.stands("C0", "started")
	}
	d.now = d.now.Add(time.Hour)
	if !d.mailed(c.Username, "https://provider.example/a1") || !d.mailed(c.Username, "https://provider.example/a2") {
		t.Error("the mail is nobody's")
	}
	if link, err := d.Link(t.Context(), c.ID); err != nil || link.Reveal() != "https://provider.example/a2" {
		t.Errorf("link %q, %v", link.Reveal(), err)
	}
	var sealed []byte
	d.ok(d.db.QueryRow(t.Context(), `SELECT activation_link FROM managers`).Scan(&sealed))
	if strings.Contains(string(sealed), "provider.example") {
		t.Error("the link is not sealed")
	}
	for range 2 {
		d.ok(d.Activate(t.Context(), c.ID, provisioning.Operator("ann@agency.example")))
	}
	if _, err := d.Link(t.Context(), c.ID); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("the link is still there: %v", err)
	}
	if d.mailed(c.Username, "https://provider.example/a3") {
		t.Error("a mail after the activation counts")
	}
	if got, want := d.history("C0"), "imported claimed activation activation active"; got != want {
		t.Errorf("history %q, want %q", got, want)
	}
	state, err := d.State(t.Context(), c.ID)
	started := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	later := started.Add(time.Hour)
	want := manager.State{ClaimedAt: &started, ActivationAt: &later, ActivationFrom: "no-reply@provider.example", ActiveAt: &later}
	if diff := cmp.Diff(want, state, cmp.Transformer("UTC", func(t time.Time) time.Time { return t.UTC() })); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

// TestMissed: no mail in two days stalls a client; it, or the owner's word, brings it on.
func TestMissed(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 3)
	for _, ref := range []string{"C0", "C1"} {
		d.ok(d.Claim(t.Context(), d.client(ref).ID))
	}
	d.now = d.now.Add(manager.Patience - time.Second)
	d.ok(d.Sweep(t.Context()))
	d.stands("C0", "started")
	d.now = d.now.Add(time.Second)
	for range 2 {
		d.ok(d.Sweep(t.Context()))
	}
	d.stands("C0", "stalled no_activation")
	d.stands("C1", "stalled no_activation")
	d.stands("C2", "imported")
	if got, want := d.history("C0"), "imported claimed no_activation"; got != want {
		t.Errorf("history %q, want %q", got, want)
	}
	d.ok(d.Claim(t.Context(), d.client("C0").ID))
	d.stands("C0", "started")
	d.mailed(d.client("C1").Username, "https://provider.example/a")
	d.stands("C1", "started")
	d.now = d.now.Add(manager.Patience)
	d.ok(d.Sweep(t.Context()))
	d.stands("C0", "stalled no_activation")
	d.stands("C1", "started")
}

// TestTaken: a username that the provider refuses is replaced, a few times.
func TestTaken(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 1)
	id := d.client("C0").ID
	first := d.client("C0").Username
	for range 2 { // A press that is repeated is one.
		d.ok(d.Taken(t.Context(), id, first))
		if got := d.client("C0").Username; got != "agency+client-c0-2@agency.example" {
			t.Errorf("username %s", got)
		}
	}
	for d.client("C0").Stage != provisioning.StageStalled {
		d.ok(d.Taken(t.Context(), id, d.client("C0").Username))
	}
	d.stands("C0", "stalled username_taken")
	if got, want := d.client("C0").Username, fmt.Sprintf("agency+client-c0-%d@agency.example", 1+manager.MostNames); got != want {
		t.Errorf("username %s, want %s", got, want)
	}
	d.ok(d.Claim(t.Context(), id))
	d.stands("C0", "started")
	d.ok(d.Limit(t.Context(), id))
	d.stands("C0", "stalled user_limit")
	d.ok(d.Claim(t.Context(), id)) // They have found a way since.
	d.stands("C0", "started")
}

// TestOtherRoute: what an owner says counts only while it is asked.
func TestOtherRoute(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 2)
	d.exec(`UPDATE clients SET route = 'owner' WHERE ref = 'C0'`)
	d.exec(`UPDATE clients SET stage = 'authorized' WHERE ref = 'C1'`)
	for _, ref := range []string{"C0", "C1"} {
		c := d.client(ref)
		for what, err := range map[string]error{
			"claim": d.Claim(t.Context(), c.ID), "unclaim": d.Unclaim(t.Context(), c.ID), "limit": d.Limit(t.Context(), c.ID),
			"taken": d.Taken(t.Context(), c.ID, c.Username), "active": d.Activate(t.Context(), c.ID, provisioning.ActorCLI),
		} {
			if !errors.Is(err, manager.ErrOtherRoute) {
				t.Errorf("%s, %s: %v", ref, what, err)
			}
		}
		if d.mailed(c.Username, "https://provider.example/a") {
			t.Errorf("%s: the mail counts", ref)
		}
		if got := d.history(ref); got != "imported" {
			t.Errorf("%s: history %q", ref, got)
		}
	}
	if err := d.Claim(t.Context(), uuid.New()); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// TestUnclaim takes the owner's word back, unless the mail has come.
func TestUnclaim(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 1)
	c := d.client("C0")
	for range 2 {
		d.ok(d.Claim(t.Context(), c.ID))
		d.ok(d.Unclaim(t.Context(), c.ID))
	}
	d.ok(d.Claim(t.Context(), c.ID))
	d.mailed(c.Username, "https://provider.example/a")
	d.ok(d.Unclaim(t.Context(), c.ID))
	if got, want := d.history("C0"), "imported claimed unclaimed claimed unclaimed claimed activation"; got != want {
		t.Errorf("history %q, want %q", got, want)
	}
}

// TestShelf seals the links anew, but for those that are gone.
func TestShelf(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 3)
	for i := range 3 {
		d.mailed(d.client(fmt.Sprintf("C%d", i)).Username, fmt.Sprintf("https://provider.example/%d", i))
	}
	d.ok(d.Activate(t.Context(), d.client("C2").ID, provisioning.ActorCLI))
	ids := d.Vault.KeyIDs()
	if got, err := (manager.Shelf{}).Keys(t.Context(), d.db); err != nil || got[ids[0]] != 2 {
		t.Errorf("sealed with %v, %v", got, err)
	}
	if b, err := (manager.Shelf{}).Reseal(t.Context(), d.db, d.Vault, "", 10); err != nil || b.Resealed != 0 {
		t.Errorf("sealed anew with the same key: %+v, %v", b, err)
	}
}

var _ notify.ActivationTaker = (*manager.Store)(nil)

// ready makes clients ready for a run, in this order.
func (d *desk) ready(refs ...string) {
	d.Helper()
	for _, ref := range refs {
		d.now = d.now.Add(time.Minute)
		d.ok(d.Activate(d.Context(), d.client(ref).ID, provisioning.ActorCLI))
	}
}

func (d *desk) next(operator provisioning.Actor) string {
	d.Helper()
	run, err := d.Next(d.Context(), operator)
	d.ok(err)
	return d.turn(run)
}

func (d *desk) turn(run manager.Run) string {
	d.Helper()
	if run.Turn == nil {
		return ""
	}
	c, err := (&provisioning.Store{DB: d.db}).Client(d.Context(), run.Turn.String())
	d.ok(err)
	return *c.Ref
}

func (d *desk) authorize(ref string) {
	d.Helper()
	_, err := provisioning.Advance(d.Context(), d.db, provisioning.Change{
		Client: d.client(ref).ID, Event: provisioning.EventAuthorized, Actor: provisioning.ActorCLI, To: provisioning.StageAuthorized,
	})
	d.ok(err)
}

// TestRun takes clients in the order in which they became ready.
func TestRun(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 5)
	ann := provisioning.Operator("ann@agency.example")
	if got := d.next(ann); got != "" {
		t.Errorf("nobody is ready, and it is the turn of %s", got)
	}
	d.ok(d.End(t.Context(), ann))
	d.ready("C3", "C1", "C4", "C0")
	if n, err := d.Waiting(t.Context()); n != 4 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	for range 2 { // Looking again changes nothing.
		if got := d.next(ann); got != "C3" {
			t.Errorf("first it is the turn of %s", got)
		}
	}
	d.authorize("C3")
	if got := d.next(ann); got != "C1" {
		t.Errorf("then of %s", got)
	}
	d.ok(d.Skip(t.Context(), ann, d.client("C1").ID, "  the phone is elsewhere "))
	if err := d.Skip(t.Context(), ann, d.client("C1").ID, "again"); !errors.Is(err, manager.ErrNoTurn) {
		t.Errorf("passed over twice: %v", err)
	}
	d.exec(`UPDATE clients SET paused = true WHERE ref = 'C4'`)
	if got := d.next(ann); got != "C0" {
		t.Errorf("then of %s", got)
	}
	d.authorize("C0")
	if got := d.next(ann); got != "" {
		t.Errorf("at last of %s", got)
	}
	run, err := d.Current(t.Context(), ann)
	if err != nil || run.Done != 2 || run.Skipped != 1 {
		t.Errorf("%+v, %v", run, err)
	}
	d.ok(d.End(t.Context(), ann))
	if got := d.next(ann); got != "C1" {
		t.Errorf("the next run begins with %s, want the one that was passed over", got)
	}
	if got := d.history("C1"); !strings.HasSuffix(got, "active skipped") {
		t.Errorf("history %q", got)
	}
}

// TestRunForgetsLinks: the link of an activation mail stays until its user has consented.
func TestRunForgetsLinks(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 2)
	ann := provisioning.Operator("ann@agency.example")
	for _, ref := range []string{"C0", "C1"} {
		d.now = d.now.Add(time.Minute)
		d.mailed(d.client(ref).Username, "https://provider.example/"+ref)
	}
	has := func(ref string) bool {
		t.Helper()
		state, err := d.State(t.Context(), d.client(ref).ID)
		d.ok(err)
		return state.HasLink
	}
	if got := d.next(ann); got != "C0" || !has("C0") {
		t.Errorf("the turn of %s, and its link is there: %v", got, has("C0"))
	}
	d.authorize("C0")
	if got := d.next(ann); got != "C1" || has("C0") || !has("C1") {
		t.Errorf("the turn of %s; links: %v %v", got, has("C0"), has("C1"))
	}
	d.ok(d.End(t.Context(), ann))
	if !has("C1") {
		t.Error("a client that was left has lost its link")
	}
}

// TestRunOfTheSilent gives a client that nobody does anything for to somebody else.
func TestRunOfTheSilent(t *testing.T) {
	t.Parallel()
	d := openDesk(t, 2)
	ann, ben := provisioning.Operator("ann@agency.example"), provisioning.Operator("ben@agency.example")
	d.ready("C0")
	d.next(ann)
	if got := d.next(ben); got != "" {
		t.Errorf("two have %s", got)
	}
	d.now = d.now.Add(manager.TurnLife - time.Second)
	d.ok(d.Keep(t.Context(), ann, d.client("C0").ID))
	d.now = d.now.Add(manager.TurnLife - time.Second)
	if got := d.next(ben); got != "" {
		t.Errorf("%s was taken from somebody at work", got)
	}
	d.now = d.now.Add(2 * time.Second)
	if got := d.next(ben); got != "C0" {
		t.Errorf("%q was left to the silent", got)
	}
	if err := d.Keep(t.Context(), ann, d.client("C0").ID); !errors.Is(err, manager.ErrNoTurn) {
		t.Errorf("the silent still has it: %v", err)
	}
}

// TestRunsAtOnce has many operators run at once: nobody gets a client that another has, and all are done.
func TestRunsAtOnce(t *testing.T) {
	t.Parallel()
	const clients, operators = 60, 8
	d := openDesk(t, clients)
	d.exec(`INSERT INTO managers (client_id, open, active_at) SELECT id, true, now() FROM clients`)
	d.now = time.Now().Add(time.Minute)
	type done struct {
		ref string
		err error
	}
	results := make(chan done)
	for o := range operators {
		go func() {
			ctx := context.WithoutCancel(t.Context())
			operator := provisioning.Operator(fmt.Sprintf("op%d@agency.example", o))
			for {
				run, err := d.Next(ctx, operator)
				if err != nil || run.Turn == nil {
					results <- done{"", err}
					return
				}
				_, err = provisioning.Advance(ctx, d.db, provisioning.Change{
					Client: *run.Turn, Event: provisioning.EventAuthorized, Actor: operator, To: provisioning.StageAuthorized,
				})
				results <- done{run.Turn.String(), err}
			}
		}()
	}
	seen := map[string]int{}
	for ended := 0; ended < operators; {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		if r.ref == "" {
			ended++
			continue
		}
		seen[r.ref]++
	}
	for ref, n := range seen {
		if n != 1 {
			t.Errorf("client %s had %d turns", ref, n)
		}
	}
	if len(seen) != clients {
		t.Errorf("%d clients had a turn, want %d", len(seen), clients)
	}
}
