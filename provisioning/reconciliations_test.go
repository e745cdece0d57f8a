package provisioning_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
)

// slowPartner does something before it tells of an account.
type slowPartner struct {
	*partner
	before func(ctx context.Context, id string) error
}

func (p slowPartner) Accounts(ctx context.Context) iter.Seq2[provisioning.ListedAccount, error] {
	return func(yield func(provisioning.ListedAccount, error) bool) {
		for a, err := range p.partner.Accounts(ctx) {
			if err == nil {
				err = p.before(ctx, a.ID)
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

func (p slowPartner) ManagedAccount(ctx context.Context, id string) (provisioning.Account, error) {
	if err := p.before(ctx, id); err != nil {
		return provisioning.Account{}, err
	}
	return p.partner.ManagedAccount(ctx, id)
}

// reconciliations are those of the office.
func (o *office) reconciliations(tb testing.TB, p provisioning.Partner) *provisioning.Reconciliations {
	tb.Helper()
	jobs, err := queue.New()
	if err != nil {
		tb.Fatal(err)
	}
	return &provisioning.Reconciliations{
		DB: o.pool, Jobs: jobs, Reconciler: &provisioning.Reconciler{DB: o.pool, Partner: p, Importer: o.importer},
	}
}

// pending lists the rows whose jobs were queued since it was asked last.
func (o *office) pending(tb testing.TB) []uuid.UUID {
	tb.Helper()
	ids := askAll[uuid.UUID](tb, o, `SELECT (args->>'row')::uuid FROM river_job WHERE queue = $1 ORDER BY id`, string(provisioning.JobReconcile))
	o.exec(tb, `DELETE FROM river_job`)
	return ids
}

// works does the one job that was queued and returns the latest run.
func (o *office) works(t *testing.T, r *provisioning.Reconciliations) provisioning.ReconcileRun {
	t.Helper()
	ids := o.pending(t)
	if len(ids) != 1 {
		t.Fatalf("%d jobs, want 1", len(ids))
	}
	if err := r.Work(t.Context(), queue.Running{Job: queue.Job{Kind: provisioning.JobReconcile, Row: ids[0]}}); err != nil {
		t.Fatal(err)
	}
	return latest(t, r)
}

func latest(t *testing.T, r *provisioning.Reconciliations) provisioning.ReconcileRun {
	t.Helper()
	run, err := r.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func begin(t *testing.T, r *provisioning.Reconciliations) {
	t.Helper()
	if err := r.Start(t.Context(), "operator sam"); err != nil {
		t.Fatal(err)
	}
}

func apply(t *testing.T, r *provisioning.Reconciliations, run provisioning.ReconcileRun, step provisioning.ReconcileStep) {
	t.Helper()
	if err := r.Apply(t.Context(), run.ID, len(run.Steps), step, "operator ada"); err != nil {
		t.Fatal(err)
	}
}

// is checks where a run stands.
func is(t *testing.T, run provisioning.ReconcileRun, state provisioning.RunState, steps ...provisioning.ReconcileStep) {
	t.Helper()
	if run.State != state || fmt.Sprint(run.Steps) != fmt.Sprint(steps) {
		t.Fatalf("%s after %v, want %s after %v; its error: %v", run.State, run.Steps, state, steps, run.Error)
	}
}

// atOnce does the same several times at the same time.
func atOnce(t *testing.T, do func() error) {
	t.Helper()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestReconciliationsFromStartToEnd(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email,account_id\nAcme,ann@a.example,X\nBloom,ben@b.example,\nOld Name,cy@c.example,\n")
	p := &partner{
		accounts: listed("X|Acme", "Y|bloom", "N|New||managed", "H|Held||managed", "U|Unmanaged"),
		owners:   map[string]string{"N": "new@n.example", "H": "cy@c.example"},
	}
	r := o.reconciliations(t, p)
	if _, err := r.Latest(t.Context()); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("before the first: error %v", err)
	}

	atOnce(t, func() error { return r.Start(t.Context(), "operator sam") })
	is(t, latest(t, r), provisioning.RunReading)
	run := o.works(t, r)
	is(t, run, provisioning.RunCompared)
	if run.Actor != "operator sam" || run.Done != 5 || run.Running() || run.Step() != "" {
		t.Errorf("run %+v", run)
	}
	if _, want := findings(t, r.Reconciler, p.accounts); !cmp.Equal(&want, run.Found) {
		t.Errorf("found (-compared +stored):\n%s", cmp.Diff(&want, run.Found))
	}

	p.accounts = nil // It is not read again.
	atOnce(t, func() error { return r.Apply(t.Context(), run.ID, 0, provisioning.StepFill, "operator ada") })
	is(t, latest(t, r), provisioning.RunApplying, provisioning.StepFill)
	begin(t, r) // It starts nothing: a job is at work.
	filled := o.works(t, r)
	is(t, filled, provisioning.RunDone, provisioning.StepFill)
	if filled.ID != run.ID || *filled.AppliedBy != "operator ada" || len(filled.Outcome.Imports) != 1 || filled.Outcome.Imports[0].Updated != 1 {
		t.Errorf("filled %+v", filled.Outcome)
	}
	if c := o.client(t, "Bloom"); c.AccountID == nil || *c.AccountID != "Y" || filled.Found.Counts[provisioning.FindingMissing] != 0 {
		t.Errorf("client %+v, left %v", c, filled.Found.Counts)
	}

	apply(t, r, run, provisioning.StepFill) // The second press comes late.
	if jobs := o.pending(t); len(jobs) != 0 {
		t.Errorf("%d jobs, want none", len(jobs))
	}

	apply(t, r, filled, provisioning.StepAdd)
	if waiting := latest(t, r); *waiting.Total != 2 || waiting.Done != 0 || waiting.Outcome != nil {
		t.Errorf("before it adds: %+v", waiting)
	}
	added := o.works(t, r)
	is(t, added, provisioning.RunDone, provisioning.StepFill, provisioning.StepAdd)
	if im := added.Outcome.Imports; len(im) != 1 || im[0].Created != 1 || added.Outcome.Held != 1 || added.Outcome.Holds[0].Account.ID != "H" {
		t.Errorf("added %+v", added.Outcome)
	}
	o.client(t, "New")

	var missing bytes.Buffer
	if err := r.WriteMissing(t.Context(), added.ID, &missing); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(missing.String(), "\n"); n != 3 || !strings.Contains(missing.String(), "Unmanaged,,,U,") {
		t.Errorf("missing:\n%s", &missing)
	}

	// A new list takes the place of the old one.
	p.accounts = listed("X|Acme")
	begin(t, r)
	if reading := latest(t, r); *reading.Total != 5 {
		t.Errorf("the list will have %d accounts", *reading.Total)
	}
	apply(t, r, added, provisioning.StepAdd)
	o.works(t, r)
	if n := ask[int](t, o, `SELECT count(*) FROM reconciliation_accounts`); n != 1 {
		t.Errorf("%d accounts are kept, want 1", n)
	}
	if err := r.WriteMissing(t.Context(), added.ID, &missing); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("the old list: error %v", err)
	}
}

func TestReconciliationsTellWhatTheProviderRefuses(t *testing.T) {
	t.Parallel()
	o := setup(t)
	p := &partner{
		accounts: listed("A|A||managed", "B|B||managed"), owners: map[string]string{"A": "a@a.example", "B": "b@b.example"},
		broken: fmt.Errorf("%w: check the key", &provisioning.ProviderError{Op: "list the accounts", Status: 403}),
	}
	r := o.reconciliations(t, p)
	begin(t, r)
	refused := o.works(t, r)
	is(t, refused, provisioning.RunFailed)
	if refused.Found != nil || *refused.Error != p.broken.Error() {
		t.Errorf("run %+v", refused)
	}
	apply(t, r, refused, provisioning.StepAdd) // There is nothing to apply.
	if jobs := o.pending(t); len(jobs) != 0 {
		t.Errorf("%d jobs, want none", len(jobs))
	}

	p.broken = nil
	begin(t, r)
	run := o.works(t, r)
	is(t, run, provisioning.RunCompared)
	p.fails = map[string]error{"B": fmt.Errorf("tomorrow: %w", &provisioning.ProviderError{Status: 429, Code: "quota_exceeded"})}
	apply(t, r, run, provisioning.StepAdd)
	half := o.works(t, r)
	is(t, half, provisioning.RunFailed, provisioning.StepAdd)
	if half.Outcome.Imports[0].Created != 1 || half.Found.Addable != 1 || !strings.HasPrefix(*half.Error, "tomorrow") {
		t.Errorf("error %q, outcome %+v, %d left", *half.Error, half.Outcome, half.Found.Addable)
	}

	p.fails = nil
	apply(t, r, half, provisioning.StepAdd)
	if whole := o.works(t, r); whole.Found.Addable != 0 || whole.Error != nil {
		t.Errorf("then %+v", whole)
	}
}

// TestReconciliationsOutliveTheirProcess ends a process while it reads, and another while it adds.
func TestReconciliationsOutliveTheirProcess(t *testing.T) {
	t.Parallel()
	o := setup(t)
	p := &partner{owners: map[string]string{}}
	for i := range 600 {
		id := fmt.Sprintf("A%03d", i)
		p.accounts = append(p.accounts, listed(id+"|Account "+id+"||managed")...)
		p.owners[id] = id + "@a.example"
	}
	reached := make(chan string, 1)
	stuck := slowPartner{p, func(ctx context.Context, id string) error {
		if id != "A550" {
			return nil
		}
		reached <- id
		<-ctx.Done()
		return ctx.Err()
	}}
	// process works jobs until it is ended.
	process := func(p provisioning.Partner) (end func()) {
		log := &bytes.Buffer{}
		runner := &queue.Runner{
			Pool: o.pool, Log: slog.New(slog.NewTextHandler(log, nil)),
			Handlers: map[queue.Kind]queue.Handler{
				provisioning.JobReconcile: {Limit: time.Hour, Work: o.reconciliations(t, p).Work},
			},
		}
		if err := runner.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := runner.Stop(context.WithoutCancel(t.Context())); err != nil || log.Len() > 0 {
				t.Errorf("the process ended with %v\n%s", err, log)
			}
		}
	}
	r := o.reconciliations(t, p)
	comesTo := func(state provisioning.RunState) provisioning.ReconcileRun {
		deadline := time.After(30 * time.Second)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			run := latest(t, r)
			if run.State == state {
				return run
			}
			select {
			case <-ticker.C:
			case <-deadline:
				t.Fatalf("it is %s, want %s", run.State, state)
			}
		}
	}

	begin(t, r)
	end := process(stuck)
	<-reached
	if run := latest(t, r); run.State != provisioning.RunReading || run.Done != 400 {
		t.Errorf("it is %s and has read %d", run.State, run.Done)
	}
	end()
	end = process(p)
	run := comesTo(provisioning.RunCompared)
	end()
	if run.Found.Addable != 600 {
		t.Errorf("%d accounts to add", run.Found.Addable)
	}

	apply(t, r, run, provisioning.StepAdd)
	end = process(stuck)
	<-reached
	if run := latest(t, r); run.State != provisioning.RunApplying || run.Done != 548 {
		t.Errorf("it is %s and has asked for %d", run.State, run.Done)
	}
	end()
	end = process(p)
	run = comesTo(provisioning.RunDone)
	end()
	created := 0
	for _, im := range run.Outcome.Imports {
		created += im.Created
	}
	if created != 600 || len(run.Outcome.Imports) != 2 || run.Outcome.Held != 0 {
		t.Errorf("%d imports with %d clients, %d held", len(run.Outcome.Imports), created, run.Outcome.Held)
	}
	if n := ask[int](t, o, `SELECT count(DISTINCT account_id) FROM clients`); n != 600 {
		t.Errorf("%d clients", n)
	}
}

// TestReconciliationsOfDeadProcesses has a process fall silent while it reads, as a killed one does, and
// wake when another has read the list in its place: what it then says comes too late.
func TestReconciliationsOfDeadProcesses(t *testing.T) {
	t.Parallel()
	o := setup(t)
	reached, wake := make(chan struct{}), make(chan struct{})
	stunned := slowPartner{&partner{accounts: listed("OLD|Old")}, func(context.Context, string) error {
		close(reached)
		<-wake
		return nil
	}}
	process := func(p provisioning.Partner, deadAfter time.Duration) *queue.Runner {
		runner := &queue.Runner{
			Pool: o.pool, Log: slog.New(slog.DiscardHandler), DeadAfter: deadAfter,
			Handlers: map[queue.Kind]queue.Handler{provisioning.JobReconcile: {Work: o.reconciliations(t, p).Work}},
		}
		if err := runner.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return runner
	}
	stop := func(runner *queue.Runner) {
		if err := runner.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	r := o.reconciliations(t, nil)
	begin(t, r)
	first := process(stunned, time.Hour) // It signs its presence once.
	<-reached
	second := process(&partner{accounts: listed("X|Acme", "Y|Bloom")}, time.Second)
	deadline := time.After(30 * time.Second)
	for latest(t, r).Running() {
		select {
		case <-deadline:
			t.Fatal("nobody goes on")
		case <-time.After(20 * time.Millisecond):
		}
	}
	close(wake)
	stop(first) // It has said then what it has to say.
	stop(second)
	run := latest(t, r)
	if run.State != provisioning.RunCompared || run.Found.Accounts != 2 || ask[int](t, o, `SELECT count(*) FROM reconciliation_accounts`) != 2 {
		t.Errorf("it is %s, of %d accounts", run.State, run.Found.Accounts)
	}
}

func TestReconciliationsAreForgotten(t *testing.T) {
	t.Parallel()
	o := setup(t)
	r := o.reconciliations(t, &partner{accounts: listed("X|Acme")})
	begin(t, r)
	run := o.works(t, r)
	for _, test := range []struct{ hours, kept int }{{23, 1}, {25, 0}} {
		o.exec(t, `UPDATE reconciliations SET ended_at = now() - make_interval(hours => $1)`, test.hours)
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := ask[int](t, o, `SELECT count(*) FROM reconciliation_accounts`); n != test.kept {
			t.Errorf("after %d hours, %d accounts are kept", test.hours, n)
		}
	}
	if err := r.Work(t.Context(), queue.Running{Job: queue.Job{Row: run.ID}}); err != nil {
		t.Errorf("a job about nothing: %v", err)
	}
}
