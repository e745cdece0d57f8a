package authflow_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning"
)

var errKilled = errors.New("killed")

// life is that of a process, which does so many steps, at the database or the provider, and then none.
type life struct {
	steps   int64
	used    atomic.Int64
	answers bool // the last step is done, and only its answer is not heard
}

// step does what the process lives to do.
func (l *life) step(do func() error) error {
	used := l.used.Add(1)
	switch {
	case used <= l.steps:
		return do()
	case used == l.steps+1 && l.answers:
		_ = do() // Nobody hears of it.
	}
	return errKilled
}

func (l *life) over() bool { return l.used.Load() > l.steps }

// mortalDB is the database of a process that is killed.
type mortalDB struct {
	provisioning.DB

	life *life
}

func (m mortalDB) Begin(ctx context.Context) (tx pgx.Tx, err error) {
	err = m.life.step(func() (err error) {
		tx, err = m.DB.Begin(ctx)
		return err
	})
	if err != nil && tx != nil {
		_ = tx.Rollback(ctx) // as the server does when the connection is gone
	}
	return mortalTx{tx, m.life}, err
}

func (m mortalDB) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = m.life.step(func() (err error) {
		tag, err = m.DB.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}

// mortalTx is a transaction of such a process. Reading is no step of it.
type mortalTx struct {
	pgx.Tx

	life *life
}

func (m mortalTx) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = m.life.step(func() (err error) {
		tag, err = m.Tx.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}

func (m mortalTx) Commit(ctx context.Context) error {
	return m.life.step(func() error { return m.Tx.Commit(ctx) })
}

// mortalProvider is the provider, as such a process reaches it.
type mortalProvider struct {
	*provider

	life *life
}

func (m mortalProvider) Exchange(ctx context.Context, tokenURL, code, verifier string) (tokens provisioning.Tokens, err error) {
	err = m.life.step(func() (err error) {
		tokens, err = m.provider.Exchange(ctx, tokenURL, code, verifier)
		return err
	})
	return tokens, err
}

func (m mortalProvider) Account(ctx context.Context, access provisioning.Secret) (account provisioning.Account, err error) {
	err = m.life.step(func() (err error) {
		account, err = m.provider.Account(ctx, access)
		return err
	})
	return account, err
}

// A process that is killed at any step of a callback costs the owner one more try, with the same link, and
// leaves no half of anything behind.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, answers := range []bool{false, true} {
		steps := int64(0)
		for ; ; steps++ {
			ref := fmt.Sprintf("KILL-%t-%d", answers, steps)
			b.imports(t, fmt.Sprintf("ref,name,owner_email,account_id\n%s,Client %s,owner@client.example,acct-%s\n", ref, ref, ref))
			b.provider.says(provisioning.Account{ID: "acct-" + ref, Organization: "Client " + ref})
			token := b.token(t, ref)
			w := b.begin(t, token)

			mortal := &life{steps: steps, answers: answers}
			flow := *b.Flow
			flow.DB, flow.Provider = mortalDB{b.db, mortal}, mortalProvider{b.provider, mortal}
			_, outcome, err := flow.Callback(t.Context(), w.back())
			if !mortal.over() {
				if outcome != authflow.OutcomeConnected || err != nil {
					t.Errorf("a process that lives ends the walk as %q, %v", outcome, err)
				}
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatalf("killed after %d steps, the process says %q, %v", steps, outcome, err)
			}

			_, outcome, err = b.Callback(t.Context(), w.back()) // The owner loads the page again.
			if err != nil {
				t.Fatal(err)
			}
			if outcome == authflow.OutcomeChecking {
				b.holds(t, ref, "")
				b.clock.advance(4 * time.Minute)
				b.sweep(t)
				b.sweep(t)
				b.history(t, ref, "started by owner → started", "consent_failed by system")
				if ending, err := b.Ending(t.Context(), w.Consent, w.Browser); err != nil || ending.Outcome != authflow.OutcomeFailed {
					t.Errorf("after %d steps the page tells %+v, %v", steps, ending, err)
				}
				outcome = b.outcome(t, b.begin(t, token).back())
			}
			if outcome != authflow.OutcomeConnected {
				t.Errorf("after %d steps the owner's next try ends as %q", steps, outcome)
			}
			b.isAt(t, ref, "authorized")
			b.holds(t, ref, "active acct-"+ref)
			if n := b.count(t, `SELECT count(*) FROM invitations WHERE spent_at IS NULL`); n != 0 {
				t.Errorf("after %d steps the link is not spent", steps)
			}
		}
		if steps < 8 {
			t.Errorf("a callback has only %d steps", steps)
		}
	}
}

func (b *testBundle) outcome(t *testing.T, cb authflow.Callback) authflow.Outcome {
	t.Helper()
	_, outcome, err := b.Callback(t.Context(), cb)
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}
