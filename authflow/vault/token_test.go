package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning"
)

func TestTokenShelf(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	shelf := func(keys ...string) *vault.TokenShelf {
		return &vault.TokenShelf{DB: db, Vault: parseKeys(t, keys...), Name: "partner", Now: func() time.Time { return now }}
	}
	var mu sync.Mutex
	fetched := 0
	fetch := func(context.Context) (provisioning.Tokens, error) {
		mu.Lock()
		defer mu.Unlock()
		fetched++
		return provisioning.Tokens{Access: provisioning.Secret(fmt.Sprintf("token-%d", fetched)), ExpiresAt: now.Add(time.Hour)}, nil
	}
	take := func(s *vault.TokenShelf, refused, want string) {
		t.Helper()
		got, err := s.Token(context.WithoutCancel(t.Context()), time.Minute, provisioning.Secret(refused), fetch)
		if err != nil || got.Reveal() != want {
			t.Errorf("got %s, %v, want %s", got.Reveal(), err, want)
		}
	}
	var wait sync.WaitGroup
	for range 8 { // replicas at once
		wait.Go(func() { take(shelf(k1), "", "token-1") })
	}
	wait.Wait()
	take(shelf(k1), "another", "token-1")
	for range 2 { // Two who were refused with the same token get one other.
		take(shelf(k1), "token-1", "token-2")
	}
	now = now.Add(59*time.Minute + time.Second)
	take(shelf(k1), "", "token-3")
	take(shelf(k2, k1), "", "token-3")
	take(shelf(k2), "", "token-4") // The key that it was sealed with is gone.

	now = now.Add(2 * time.Hour)
	broken := errors.New("the provider is away")
	if _, err := shelf(k2).Token(t.Context(), time.Minute, "", func(context.Context) (provisioning.Tokens, error) { return provisioning.Tokens{}, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	take(shelf(k2), "", "token-5") // Nobody waits for who has failed.
}
