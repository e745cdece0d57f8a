package once_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning/once"
)

// desk is a store with a request of an API key.
type desk struct {
	once.Store

	pool    *pgxpool.Pool
	request once.Request
}

func setup(t *testing.T) *desk {
	t.Helper()
	pool := pgtest.New(t)
	d := &desk{once.Store{DB: pool}, pool, once.Request{Holder: uuid.New(), Route: "POST /imports", Key: "k1", Secret: "csk_secret"}}
	d.exec(t, `INSERT INTO api_keys (id, name, key_hash, scopes, created_at, created_by) VALUES ($1, 'app', '\x00', '{read}', now(), 'test')`, d.request.Holder)
	return d
}

func (d *desk) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := d.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// begin begins the request anew and checks what comes of it.
func (d *desk) begin(t *testing.T, want error) (*once.Run, *once.Answer) {
	t.Helper()
	run, answer, err := d.Begin(t.Context(), d.request)
	if !errors.Is(err, want) || (run == nil) == (err == nil && answer == nil) {
		t.Fatalf("%v, %v, %v, want %v", run, answer, err, want)
	}
	return run, answer
}

// dies lets the time pass after which a silent process counts as dead.
func (d *desk) dies(t *testing.T) {
	t.Helper()
	d.exec(t, `UPDATE requests SET leased_until = clock_timestamp() - interval '1 s'`)
}

func (d *desk) marks(t *testing.T, run *once.Run) error {
	t.Helper()
	return pgx.BeginFunc(context.WithoutCancel(t.Context()), d.pool, func(tx pgx.Tx) error { return run.Mark(t.Context(), tx) })
}

func TestAnswerIsGivenAgain(t *testing.T) {
	t.Parallel()
	d := setup(t)
	run, _ := d.begin(t, nil)
	d.begin(t, once.ErrRunning)
	other := d.request
	other.Route = "POST /invitations"
	if another, _, err := d.Begin(t.Context(), other); another == nil || err != nil {
		t.Errorf("another route: %v", err)
	}
	if err := d.marks(t, run); err != nil {
		t.Fatal(err)
	}
	d.begin(t, once.ErrRunning)
	if err := run.End(t.Context(), []byte("print"), []byte("a token")); err != nil {
		t.Fatal(err)
	}
	_, answer := d.begin(t, nil)
	if got, err := answer.Open([]byte("print")); string(got) != "a token" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := answer.Open([]byte("another")); !errors.Is(err, once.ErrOther) {
		t.Error(err)
	}
	d.request.Secret = "csk_guess"
	_, answer = d.begin(t, nil)
	if got, err := answer.Open([]byte("print")); err == nil {
		t.Errorf("opened without the key: %q", got)
	}
	d.exec(t, `UPDATE requests SET began_at = began_at - interval '25 hours', leased_until = '-infinity' WHERE route = 'POST /imports'`)
	if err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.begin(t, nil)
}

func TestRefusedRequestIsSentAgain(t *testing.T) {
	t.Parallel()
	d := setup(t)
	run, _ := d.begin(t, nil)
	if err := run.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	run, _ = d.begin(t, nil)
	if err := d.marks(t, run); err != nil {
		t.Fatal(err)
	}
	if err := run.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.begin(t, once.ErrLost)
}

// A process that dies leaves either nothing, and then the next one does it, or a change, and then nobody does.
func TestCrash(t *testing.T) {
	t.Parallel()
	d := setup(t)
	slow, _ := d.begin(t, nil)
	d.dies(t)
	run, _ := d.begin(t, nil)
	if err := d.marks(t, slow); !errors.Is(err, once.ErrRunning) {
		t.Errorf("a run that was taken for dead makes changes: %v", err)
	}
	if err := slow.End(t.Context(), []byte("print"), []byte("answer")); !errors.Is(err, once.ErrRunning) {
		t.Errorf("and answers: %v", err)
	}
	if err := d.marks(t, run); err != nil {
		t.Fatal(err)
	}
	d.dies(t)
	d.begin(t, once.ErrLost)
}
