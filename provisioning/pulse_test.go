package provisioning_test

import (
	"sync"
	"testing"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning"
)

// Other tests write to the same server meanwhile: that it stays while nobody does cannot be seen here.
func TestPulse(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := &provisioning.Store{DB: pool}
	pulse := func() int64 {
		t.Helper()
		n, err := store.Pulse(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec := func(sql string) {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Error(err)
		}
	}
	exec(`CREATE TABLE notes (n integer)`)

	// A transaction that began before others and ends after them is seen, too.
	slow, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), `INSERT INTO notes VALUES (0)`); err != nil {
		t.Fatal(err)
	}
	before := pulse()
	var writers sync.WaitGroup
	for range 5 {
		writers.Go(func() { exec(`INSERT INTO notes VALUES (1)`) })
	}
	writers.Wait()
	between := pulse()
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := pulse(); before+5 > between || between >= after {
		t.Errorf("the pulse went from %d to %d by five transactions, and to %d by one more", before, between, after)
	}
}
