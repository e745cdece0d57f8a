package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/bulk"
	"github.com/countersign/countersign/provisioning/queue"
)

// office is the package put together with its real neighbours, on a database of its own. Mails are queued and
// never sent.
type office struct {
	*bulk.Jobs

	pool  *pgxpool.Pool
	links *authflow.Links
}

const ada = provisioning.Actor("operator ada@agency.example")

// setup is an office with so many imported clients: every third is paused, every second has the tag vip.
func setup(t *testing.T, clients int) *office {
	t.Helper()
	pool := pgtest.New(t)
	jobs, err := queue.New()
	if err != nil {
		t.Fatal(err)
	}
	links := &authflow.Links{DB: pool, Key: []byte("key of a test"), PublicURL: "http://127.0.0.1", Now: time.Now}
	mailer := &notify.Mailer{DB: pool, Now: time.Now}
	o := &office{
		Jobs: &bulk.Jobs{
			DB: pool, Queue: jobs, Letters: mailer, Links: links,
			Inviter:   &provisioning.Inviter{DB: pool, Linker: links, Mailer: mailer},
			Reminders: &notify.Reminders{DB: pool, Mailer: mailer, Now: time.Now},
		},
		pool: pool, links: links,
	}
	o.exec(t, `
		INSERT INTO clients (id, ref, name, owner_name, owner_email, username, paused, tags, search)
		SELECT
			gen_random_uuid(),
			'R' || n,
			'Acme ' || n,
			'Ann',
			'ann' || n || '@a.example',
			'agency+' || n || '@agency.example',
			n % 3 = 0,
			CASE WHEN n % 2 = 0 THEN '{vip}'::text[] ELSE '{}' END,
			''
		FROM generate_series(1, $1::int) n`, clients)
	return o
}

func (o *office) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := o.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// ask returns the values of the one column that the SQL selects.
func ask[T any](t *testing.T, o *office, sql string, args ...any) []T {
	t.Helper()
	rows, err := o.pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// start begins a job and does nothing of it yet.
func (o *office) start(t *testing.T, order bulk.Order) bulk.Job {
	t.Helper()
	j, err := o.Start(t.Context(), order, ada)
	if err != nil {
		t.Fatalf("%+v: %v", order, err)
	}
	return j
}

// work does a job to its end.
func (o *office) work(t *testing.T, id uuid.UUID) bulk.Job {
	t.Helper()
	if err := o.Work(t.Context(), run(id)); err != nil {
		t.Fatal(err)
	}
	j, err := o.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// undo takes a job back.
func (o *office) undo(t *testing.T, id uuid.UUID) bulk.Job {
	t.Helper()
	j, err := o.Undo(t.Context(), id, ada)
	if err != nil {
		t.Fatal(err)
	}
	return o.work(t, j.ID)
}

func run(id uuid.UUID) queue.Running {
	return queue.Running{Job: queue.Job{Kind: bulk.JobBulk, Row: id}}
}

// outcome is what a test says of a job.
type outcome struct {
	State                bulk.State
	Total, Done, Changed int
	SkippedWhy           map[string]int
	Undoable             bool
}

func outcomeOf(j bulk.Job) outcome {
	return outcome{j.State, j.Total, j.Done, j.Changed, j.SkippedWhy, j.Undoable}
}

func check(t *testing.T, what string, got bulk.Job, want outcome) {
	t.Helper()
	if diff := cmp.Diff(want, outcomeOf(got)); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

// facts are what a job may change of the clients, in their order.
func (o *office) facts(t *testing.T) []string {
	t.Helper()
	return ask[string](t, o, `
		SELECT concat_ws(' ', ref, paused, array(SELECT unnest(tags) ORDER BY 1), owner_name, owner_email, stage)
		FROM clients
		ORDER BY ref`)
}

// TestThereAndBack does what can be undone to twelve clients, and undoes it.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	o := setup(t, 12)
	before := o.facts(t)
	for _, test := range []struct {
		order     bulk.Order
		unchanged int
		event     string
	}{
		{bulk.Order{Action: bulk.ActionPause}, 4, "paused"},
		{bulk.Order{Action: bulk.ActionResume}, 8, "resumed"},
		{bulk.Order{Action: bulk.ActionTag, Tag: "vip"}, 6, "updated"},
		{bulk.Order{Action: bulk.ActionUntag, Tag: " vip "}, 6, "updated"},
		{bulk.Order{Action: bulk.ActionOwner, Owner: provisioning.Owner{Name: "Bob", Email: "bob@b.example"}}, 0, "owner_changed"},
	} {
		o.exec(t, `TRUNCATE events`)
		skipped := map[string]int{}
		if test.unchanged > 0 {
			skipped["unchanged"] = test.unchanged
		}
		j := o.work(t, o.start(t, test.order).ID)
		want := outcome{bulk.StateDone, 12, 12, 12 - test.unchanged, skipped, true}
		check(t, string(test.order.Action), j, want)
		told := ask[string](t, o, `SELECT actor FROM events WHERE kind = $1`, test.event)
		if len(told) != want.Changed || slices.ContainsFunc(told, func(actor string) bool { return actor != string(ada) }) {
			t.Errorf("%s: %s is told as done by %q", test.order.Action, test.event, told)
		}
		undo := o.undo(t, j.ID)
		check(t, "undo "+string(test.order.Action), undo,
			outcome{bulk.StateDone, want.Changed, want.Changed, want.Changed, map[string]int{}, false})
		if *undo.UndoOf != j.ID {
			t.Errorf("undo of %s, not of %s", undo.UndoOf, j.ID)
		}
		if diff := cmp.Diff(before, o.facts(t)); diff != "" {
			t.Errorf("%s and back (-before +after)\n%s", test.order.Action, diff)
		}
		if _, err := o.Undo(t.Context(), j.ID, ada); !errors.Is(err, bulk.ErrNotUndoable) {
			t.Errorf("undone twice: %v", err)
		}
	}
	if waiting := ask[int](t, o, `SELECT count(*)::int FROM messages WHERE ended_at IS NULL`); waiting[0] != 0 {
		t.Errorf("%d mails wait for owners who are none any more", waiting[0])
	}
	var want []string
	for range 5 {
		want = append(want, "bulk.start", "bulk.end", "bulk.start", "bulk.end")
	}
	if diff := cmp.Diff(want, ask[string](t, o, `SELECT action FROM audit ORDER BY id`)); diff != "" {
		t.Errorf("the audit trail (-want +got)\n%s", diff)
	}
}

// TestUndoLeavesOthersAlone: what somebody has changed since a job stays.
func TestUndoLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	o := setup(t, 4)
	clients := ask[uuid.UUID](t, o, `SELECT id FROM clients ORDER BY ref`)
	turn := func(client uuid.UUID, paused bool) {
		if err := provisioning.SetPaused(t.Context(), o.pool, client, paused, ada); err != nil {
			t.Fatal(err)
		}
	}
	turn(clients[2], false)
	j := o.work(t, o.start(t, bulk.Order{Action: bulk.ActionPause}).ID)
	turn(clients[0], false)
	turn(clients[1], false)
	turn(clients[1], true)
	if err := (&provisioning.Store{DB: o.pool}).Delete(t.Context(), clients[3], ada); err != nil {
		t.Fatal(err)
	}
	undo := o.undo(t, j.ID)
	check(t, "undo", undo, outcome{bulk.StateDone, 4, 4, 1, map[string]int{"changed_since": 2, "gone": 1}, false})
	if diff := cmp.Diff([]bool{false, true, false}, ask[bool](t, o, `SELECT paused FROM clients ORDER BY ref`)); diff != "" {
		t.Errorf("paused (-want +got)\n%s", diff)
	}
}

// TestInvitations: a filter leaves alone who said no, naming does not, and what waits can be taken back.
func TestInvitations(t *testing.T) {
	t.Parallel()
	o := setup(t, 6) // R3 and R6 are paused.
	o.exec(t, `UPDATE clients SET stage = 'stalled', reason = 'declined' WHERE ref = 'R1'`)
	j := o.work(t, o.start(t, bulk.Order{Action: bulk.ActionInvite}).ID)
	check(t, "invite all", j, outcome{bulk.StateDone, 6, 6, 3, map[string]int{"paused": 2, "declined": 1}, true})

	o.exec(t, `UPDATE messages SET state = 'sent', ended_at = now() WHERE to_address = 'ann2@a.example'`)
	o.exec(t, `
		INSERT INTO messages (id, client_id, invitation_id, kind, step, to_name, to_address, client_name, domain, created_at)
		SELECT gen_random_uuid(), client_id, invitation_id, 'reminder', 'reminder 1', '', to_address, '', domain, now() + interval '1 day'
		FROM messages
		WHERE to_address = 'ann2@a.example'`)
	undo := o.undo(t, j.ID)
	check(t, "take them back", undo, outcome{bulk.StateDone, 3, 3, 2, map[string]int{"sent": 1}, false})
	if diff := cmp.Diff([]string{"ann2@a.example"}, ask[string](t, o, `SELECT to_address FROM messages WHERE ended_at IS NULL`)); diff != "" {
		t.Errorf("what waits (-want +got)\n%s", diff)
	}

	named := o.start(t, bulk.Order{Action: bulk.ActionInvite, Clients: ask[uuid.UUID](t, o, `SELECT id FROM clients WHERE ref IN ('R1', 'R3')`)})
	check(t, "invite two by name", o.work(t, named.ID), outcome{bulk.StateDone, 2, 2, 1, map[string]int{"paused": 1}, true})
}

// TestLinksAndReminders: both need an invitation that was mailed.
func TestLinksAndReminders(t *testing.T) {
	t.Parallel()
	o := setup(t, 3)
	clients := ask[uuid.UUID](t, o, `SELECT id FROM clients ORDER BY ref`)
	tx, err := o.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.links.Issue(t.Context(), tx, clients[:2]); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.exec(t, `INSERT INTO reminders (client_id, invitation_id, mailed_at) SELECT client_id, id, now() FROM invitations`)
	o.exec(t, `UPDATE invitations SET expires_at = now() - interval '1 day', expired_at = now() WHERE client_id = $1`, clients[0])
	o.exec(t, `UPDATE clients SET stage = 'stalled', reason = 'expired' WHERE id = $1`, clients[0])

	remind := o.work(t, o.start(t, bulk.Order{Action: bulk.ActionRemind}).ID)
	check(t, "remind", remind, outcome{bulk.StateDone, 3, 3, 1, map[string]int{"link_expired": 1, "not_mailed": 1}, false})
	extend := o.work(t, o.start(t, bulk.Order{Action: bulk.ActionExtend}).ID)
	check(t, "extend", extend, outcome{bulk.StateDone, 3, 3, 2, map[string]int{"no_link": 1}, false})
	alive := ask[int](t, o, `SELECT count(*)::int FROM invitations WHERE expires_at > now() + interval '29 days' AND expired_at IS NULL`)
	if alive[0] != 2 {
		t.Errorf("%d links live", alive[0])
	}
	if diff := cmp.Diff([]string{"invited", "imported", "imported"}, ask[string](t, o, `SELECT stage FROM clients ORDER BY ref`)); diff != "" {
		t.Errorf("stages (-want +got)\n%s", diff)
	}
	again := o.work(t, o.start(t, bulk.Order{Action: bulk.ActionRemind}).ID)
	check(t, "remind again", again, outcome{bulk.StateDone, 3, 3, 1, map[string]int{"on_its_way": 1, "not_mailed": 1}, false})
}

// TestRefused: an order that cannot be carried out leaves no job.
func TestRefused(t *testing.T) {
	t.Parallel()
	o := setup(t, 2)
	for _, test := range []struct {
		order bulk.Order
		want  error
	}{
		{bulk.Order{Action: "dance"}, bulk.ErrUnknownAction},
		{bulk.Order{Action: bulk.ActionPause, Clients: []uuid.UUID{}}, bulk.ErrNobody},
		{bulk.Order{Action: bulk.ActionPause, Filter: provisioning.Filter{Tag: "none"}}, bulk.ErrNobody},
		{bulk.Order{Action: bulk.ActionDelete}, bulk.ErrUnconfirmed},
		{bulk.Order{Action: bulk.ActionDelete, Confirm: 3}, bulk.ErrUnconfirmed},
	} {
		if _, err := o.Start(t.Context(), test.order, ada); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v, want %v", test.order, err, test.want)
		}
	}
	for _, order := range []bulk.Order{{Action: bulk.ActionTag}, {Action: bulk.ActionOwner}} {
		_, err := o.Preview(t.Context(), order)
		if field, ok := errors.AsType[*provisioning.FieldError](err); !ok {
			t.Errorf("%s: %v, %v", order.Action, field, err)
		}
	}
	if left, _, err := o.List(t.Context(), "", 0); len(left) != 0 || err != nil {
		t.Errorf("%v, %v", left, err)
	}
}

// TestBreakOff: a job whose process ends at any instant goes on where it stood and does nothing twice. It is about the
// clients of its beginning, whatever becomes of the roster, and can be stopped between two batches.
func TestBreakOff(t *testing.T) {
	t.Parallel()
	const clients = 1200 // more than two batches
	o := setup(t, clients)
	j := o.start(t, bulk.Order{Action: bulk.ActionTag, Tag: "spring", Filter: provisioning.Filter{Tag: "vip"}})
	o.exec(t, `UPDATE clients SET tags = '{vip}' WHERE ref = 'R1'`) // too late to be one of them
	broken := *o.Jobs
	broken.DB = &breaking{DB: o.pool, after: 3}
	ended := false
	for tries := 0; !ended; tries++ {
		var err error
		if ended, err = broken.Step(t.Context(), run(j.ID)); err != nil && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if tries > 100 {
			t.Fatal("it does not end")
		}
	}
	got, err := o.Job(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "tag", got, outcome{bulk.StateDone, 600, 600, 600, map[string]int{}, true})
	if told := ask[int](t, o, `SELECT count(*)::int FROM events WHERE detail->>'tag_added' = 'spring'`); told[0] != 600 {
		t.Errorf("%d clients were tagged", told[0])
	}

	stopped := o.start(t, bulk.Order{Action: bulk.ActionDelete, Confirm: clients})
	if _, err := o.Step(t.Context(), run(stopped.ID)); err != nil {
		t.Fatal(err)
	}
	if err := o.Stop(t.Context(), stopped.ID, ada); err != nil {
		t.Fatal(err)
	}
	check(t, "stop", o.work(t, stopped.ID), outcome{bulk.StateStopped, clients, 500, 500, map[string]int{}, false})
	if left := ask[int](t, o, `SELECT count(*)::int FROM clients`); left[0] != clients-500 {
		t.Errorf("%d clients are left", left[0])
	}
	undo := o.undo(t, j.ID) // Some of its clients are gone.
	if undo.State != bulk.StateDone || undo.Changed+undo.SkippedWhy["gone"] != 600 || undo.SkippedWhy["gone"] == 0 {
		t.Errorf("%+v", undo)
	}
	page, next, err := o.Skipped(t.Context(), undo.ID, "", 10)
	if err != nil || len(page) != 10 || next == "" || page[0].Why != "gone" {
		t.Errorf("%v, next %q, %v", page, next, err)
	}
	var file strings.Builder
	if err := o.WriteSkipped(t.Context(), &file, undo.ID); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(file.String(), "\n"); lines != 1+undo.Skipped {
		t.Errorf("a file of %d lines for %d clients", lines, undo.Skipped)
	}
}

var errBroken = errors.New("the process has died")

// breaking is a database of which every transaction but each so-manieth is lost before its commit.
type breaking struct {
	provisioning.DB

	after, began int
}

func (b *breaking) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := b.DB.Begin(ctx)
	if b.began++; err != nil || b.began%b.after == 0 {
		return tx, err
	}
	return lost{tx}, nil
}

type lost struct{ pgx.Tx }

func (l lost) Commit(ctx context.Context) error { return errors.Join(errBroken, l.Rollback(ctx)) }

// TestPreview counts all and shows ten in the order asked for.
func TestPreview(t *testing.T) {
	t.Parallel()
	o := setup(t, 30)
	p, err := o.Preview(t.Context(), bulk.Order{
		Action: bulk.ActionPause, Filter: provisioning.Filter{Tag: "vip", Sort: provisioning.SortName, Descending: true},
	})
	if err != nil || p.Count != 15 || len(p.Samples) != 10 {
		t.Fatalf("%d, %d samples, %v", p.Count, len(p.Samples), err)
	}
	if !slices.IsSortedFunc(p.Samples, func(a, b provisioning.Client) int { return strings.Compare(b.Name, a.Name) }) {
		t.Error(fmt.Sprint(p.Samples))
	}
}

// TestSweep: what ended long ago is forgotten, but not while it is being undone.
func TestSweep(t *testing.T) {
	t.Parallel()
	o := setup(t, 10)
	sweep := func(left int) {
		t.Helper()
		if err := o.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := ask[int](t, o, `SELECT count(*) FROM bulk_jobs`)[0]; n != left {
			t.Errorf("%d jobs are left, want %d", n, left)
		}
	}
	const age = `UPDATE bulk_jobs SET created_at = created_at - interval '91 days', ended_at = ended_at - interval '91 days'`
	tagged := o.work(t, o.start(t, bulk.Order{Action: bulk.ActionTag, Tag: "late"}).ID)
	sweep(1)
	o.exec(t, age)
	undo, err := o.Undo(t.Context(), tagged.ID, ada)
	if err != nil {
		t.Fatal(err)
	}
	sweep(2)
	if done := o.work(t, undo.ID); done.State != bulk.StateDone || done.Changed != 10 {
		t.Errorf("the undo ends as %+v", done)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM clients WHERE tags @> '{late}'`)[0]; n > 0 {
		t.Errorf("%d clients keep the tag", n)
	}
	sweep(2)
	o.exec(t, age)
	sweep(0)
}
