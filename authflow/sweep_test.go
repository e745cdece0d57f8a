package authflow_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning"
)

// Walks that never came back are forgotten after a week, others after a quarter of a year.
func TestSweepForgets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	abandoned, wrong := b.begin(t, token), b.begin(t, token)
	b.provider.says(stranger())
	b.ends(t, wrong.back(), authflow.OutcomeWrongAccount)
	const day = 24 * time.Hour
	for _, test := range []struct {
		after time.Duration
		left  int
	}{{0, 2}, {7 * day, 2}, {authflow.ConsentLife, 1}, {82 * day, 1}, {day, 0}} {
		b.clock.advance(test.after)
		b.sweep(t)
		if n := b.count(t, `SELECT count(*) FROM consents`); n != test.left {
			t.Errorf("after another %s there are %d, want %d", test.after, n, test.left)
		}
	}
	for _, w := range []walk{abandoned, wrong} {
		b.ends(t, w.back(), authflow.OutcomeUnknown)
	}
	b.history(t, "ACME", "started by owner → started", "started by owner", "wrong_account by owner → stalled/wrong_account")
}

func (b *testBundle) sweep(t *testing.T) {
	t.Helper()
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// More walks than fit into one transaction, swept by several processes.
func TestSweepManyByManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.begin(t, b.token(t, "ACME"))
	const more = 1200
	if _, err := b.db.Exec(t.Context(), `
		INSERT INTO consents (id, client_id, invitation_id, state_hash, browser_hash, token_url, created_at, expires_at, claimed_at)
		SELECT gen_random_uuid(), client_id, invitation_id, sha256(n::text::bytea), browser_hash, token_url, created_at, expires_at,
			CASE WHEN n % 2 = 0 THEN created_at END
		FROM consents, generate_series(1, $1) n`, more); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(8 * 24 * time.Hour)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := b.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.sweep(t) // What several left to each other.
	if n := b.count(t, `SELECT count(*) FROM consents WHERE outcome IS NULL`); n != 0 {
		t.Errorf("%d walks are left", n)
	}
	if n := b.count(t, `SELECT count(*) FROM consents WHERE outcome = 'failed' AND verifier IS NULL`); n != more/2 {
		t.Errorf("%d walks count as cut off, want %d", n, more/2)
	}
}

// A walk that is still at work says itself how it ended, whatever was believed meanwhile.
func TestSweepIsTooEarly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, b.token(t, "ACME"))
	b.provider.account = func() (provisioning.Account, error) {
		b.sweep(t)
		b.isAt(t, "ACME", "started")
		b.clock.advance(4 * time.Minute)
		b.sweep(t)
		return acme(), nil
	}
	b.ends(t, w.back(), authflow.OutcomeConnected)
	b.sweep(t)
	b.history(t, "ACME", "started by owner → started", "consent_failed by system", "authorized by owner → authorized")
	if ending, err := b.Ending(t.Context(), w.Consent, w.Browser); err != nil || ending.Outcome != authflow.OutcomeConnected {
		t.Errorf("the page tells %+v, %v", ending, err)
	}
	if detail := b.detail(t, "ACME", provisioning.EventConsentFailed); !strings.Contains(detail, "the owner can try again") {
		t.Errorf("the history tells %s", detail)
	}
}
