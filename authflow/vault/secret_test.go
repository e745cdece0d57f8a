package vault_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

func TestSecret(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	v := parseKeys(t, vault.GenerateKey("k1"))

	const processes = 8
	got := make([][]byte, processes)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = v.Secret(t.Context(), db, "links", 32); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, secret := range got {
		if len(secret) != 32 || !bytes.Equal(secret, got[0]) {
			t.Errorf("process %d got %x, process 0 %x", i, secret, got[0])
		}
	}
	if again, err := v.Secret(t.Context(), db, "links", 32); err != nil || !bytes.Equal(again, got[0]) {
		t.Errorf("asked again: %x, %v", again, err)
	}
	if other, err := v.Secret(t.Context(), db, "bounces", 32); err != nil || bytes.Equal(other, got[0]) {
		t.Errorf("another name: %x, %v", other, err)
	}
	if _, err := v.Secret(t.Context(), db, "links", 16); err == nil {
		t.Error("a secret of another size was taken")
	}

	if _, err := db.Exec(t.Context(), `
		UPDATE secrets
		SET sealed = (SELECT sealed FROM secrets WHERE name = 'bounces')
		WHERE name = 'links'`); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Secret(t.Context(), db, "links", 32); !errors.Is(err, vault.ErrSealBroken) {
		t.Errorf("a swapped secret: error %v, want ErrSealBroken", err)
	}
}

func TestSecretIsPartOfATransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	v := parseKeys(t, vault.GenerateKey("k1"))
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	within, err := v.Secret(t.Context(), tx, "links", 32)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, err := v.Secret(t.Context(), db, "links", 32); err != nil || bytes.Equal(after, within) {
		t.Errorf("after the rollback: %x, %v", after, err)
	}
}
