package vault_test

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

// secrets returns the names of all rows of secrets.
func secrets(t *testing.T, db *pgxpool.Pool) (names []string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SELECT array_agg(name ORDER BY name) FROM secrets`).Scan(&names); err != nil {
		t.Fatal(err)
	}
	return names
}

func exec(t *testing.T, db *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2, k3 := vault.GenerateKey("k1"), vault.GenerateKey("k2"), vault.GenerateKey("k3")
	steps := []struct {
		name string
		keys []string
		want error
		cure string
	}{
		{"first start", []string{k1}, nil, ""},
		{"next start", []string{k1}, nil, ""},
		{"other keys alone", []string{k2}, vault.ErrUnknownKey, `"k1"`},
		{"known, not yet first", []string{k1, k2}, nil, ""},
		{"first on one replica", []string{k2, k1}, nil, ""},
		{"another replica that knows it", []string{k1, k2}, nil, ""},
		{"another replica that does not", []string{k1}, vault.ErrUnknownKey, `"k2"`},
		{"old key missing", []string{k2, k3}, vault.ErrUnknownKey, `"k1"`},
		{"cure for a missing key", []string{k2}, vault.ErrUnknownKey, "add the key to COUNTERSIGN_VAULT_KEYS"},
		{"old key replaced", []string{k2, vault.GenerateKey("k1")}, vault.ErrSealBroken, "canary:k1"},
		{"first key replaced", []string{vault.GenerateKey("k2"), k1}, vault.ErrSealBroken, "canary:k2"},
		{"cure for a replaced key", []string{vault.GenerateKey("k2"), k1}, vault.ErrSealBroken, "put the earlier one back into COUNTERSIGN_VAULT_KEYS"},
	}
	for _, step := range steps {
		err := parseKeys(t, step.keys...).Check(t.Context(), db)
		if !errors.Is(err, step.want) {
			t.Errorf("%s: error %v, want %v", step.name, err, step.want)
		}
		if err != nil && !strings.Contains(err.Error(), step.cure) {
			t.Errorf("%s: error %q does not mention %s", step.name, err, step.cure)
		}
	}
	// Who was refused has left nothing.
	if diff := cmp.Diff([]string{"canary:k1", "canary:k2"}, secrets(t, db)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// A database of a program without canaries has secrets all the same.
func TestCheckWithoutCanaries(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	if _, err := parseKeys(t, k1).Secret(t.Context(), db, "link", 32); err != nil {
		t.Fatal(err)
	}
	if err := parseKeys(t, k2).Check(t.Context(), db); !errors.Is(err, vault.ErrUnknownKey) || !strings.Contains(err.Error(), `"k1"`) {
		t.Errorf("error %v, want ErrUnknownKey", err)
	}
	exec(t, db, `UPDATE secrets SET sealed = sealed || '\x00' WHERE name = 'link'`)
	if err := parseKeys(t, k2, k1).Check(t.Context(), db); !errors.Is(err, vault.ErrSealBroken) || !strings.Contains(err.Error(), "secret of link") {
		t.Errorf("error %v, want ErrSealBroken and the secret's name", err)
	}
}

// Of processes with different keys that start at once on a new database, one wins, and the others learn its key's name.
func TestProcessesAgreeOnAKey(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for range 10 {
		exec(t, db, `DELETE FROM secrets`)
		var errs [6]error
		var wg sync.WaitGroup
		for i := range errs {
			v := parseKeys(t, vault.GenerateKey("k"+string(rune('0'+i))))
			wg.Go(func() { errs[i] = v.Check(t.Context(), db) })
		}
		wg.Wait()
		started := 0
		for _, err := range errs {
			switch {
			case err == nil:
				started++
			case !errors.Is(err, vault.ErrUnknownKey):
				t.Error(err)
			}
		}
		if rows := secrets(t, db); started != 1 || len(rows) != 1 {
			t.Errorf("%d processes have started, and there are %v", started, rows)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	path := filepath.Join(t.TempDir(), "vault.key")
	running, rotating := openKeyFile(t, path), openKeyFile(t, path)
	if err := running.Check(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	stop := running.Watch(t.Context(), db, slog.New(slog.DiscardHandler))
	defer stop()
	old := "canary:" + running.KeyIDs()[0]
	exec(t, db, `DELETE FROM secrets WHERE name = $1`, old)
	until(t, func() bool { rows := secrets(t, db); return len(rows) == 1 && rows[0] == old })

	if err := rotating.AddKey(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `DELETE FROM secrets`)
	want := "canary:" + rotating.KeyIDs()[0]
	until(t, func() bool { rows := secrets(t, db); return len(rows) == 1 && rows[0] == want })

	stop()
	exec(t, db, `DELETE FROM secrets`)
	if rows := secrets(t, db); rows != nil {
		t.Errorf("watched after the end: %v", rows)
	}
}

// until waits until something has come about.
func until(t *testing.T, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("it does not come about")
		}
	}
}
