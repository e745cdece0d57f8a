package vault_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

func openKeyFile(t *testing.T, path string) *vault.Vault {
	t.Helper()
	v, err := vault.OpenKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "vault.key")
	ad := vault.AD{Row: "row", Kind: "kind"}
	sealed := openKeyFile(t, path).Seal([]byte("secret"), ad)
	if opened, err := openKeyFile(t, path).Open(sealed, ad); err != nil || string(opened) != "secret" {
		t.Errorf("the next start reads another key: %q, %v", opened, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("%d files are in the folder, want the key file alone", len(entries))
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %#o, want 0600", mode)
	}
}

func TestProcessesAgreeOnAKeyFile(t *testing.T) {
	t.Parallel()
	for range 50 {
		path := filepath.Join(t.TempDir(), "vault.key")
		start := make(chan struct{})
		var got [8]string
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				<-start
				v, err := vault.OpenKeyFile(path)
				if err != nil {
					t.Error(err)
					return
				}
				got[i] = v.KeyIDs()[0]
			})
		}
		close(start)
		wg.Wait()
		for i, id := range got {
			if id != got[0] {
				t.Fatalf("process %d got another key than process 0", i)
			}
		}
	}
}

func TestKeyFileHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	one, other := openKeyFile(t, filepath.Join(t.TempDir(), "vault.key")), openKeyFile(t, filepath.Join(t.TempDir(), "vault.key"))
	if one.KeyIDs()[0] == other.KeyIDs()[0] {
		t.Error("two new key files have keys of the same id")
	}
}

func TestKeyFileRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		path := filepath.Join(t.TempDir(), "vault.key")
		if err := os.WriteFile(path, []byte(vault.GenerateKey("k1")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := vault.OpenKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %#o: error %v, want one with the cure", mode, err)
		}
	}
	path := filepath.Join(t.TempDir(), "vault.key")
	if err := os.WriteFile(path, []byte("k1=short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.OpenKeyFile(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names the file", err)
	}
}

func TestKeyFileNeedsItsFolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "absent", "vault.key")
	if _, err := vault.OpenKeyFile(path); err == nil || !strings.Contains(err.Error(), path[:len(path)-len("/vault.key")]) {
		t.Errorf("error %v, want one that names the folder", err)
	}
}

// A process that has read the file before meets what another one has sealed with a new key.
func TestKeyFileIsFollowed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	path := filepath.Join(t.TempDir(), "vault.key")
	running, rotating := openKeyFile(t, path), openKeyFile(t, path)
	before := running.KeyIDs()
	if err := rotating.AddKey(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	ad := vault.AD{Row: "row", Kind: "kind"}
	sealed := rotating.Seal([]byte("secret"), ad)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if opened, err := running.Open(sealed, ad); err != nil || string(opened) != "secret" {
				t.Errorf("%q, %v", opened, err)
			}
			if _, err := running.Open(running.Seal(nil, ad), ad); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(rotating.KeyIDs(), running.KeyIDs()); diff != "" {
		t.Errorf("the running process has other keys (-want +got):\n%s", diff)
	}
	if after := running.KeyIDs(); len(after) != 2 || after[1] != before[0] {
		t.Errorf("keys %v, then %v: want one more, before the other", before, after)
	}

	foreign := parseKeys(t, vault.GenerateKey("foreign")).Seal(nil, ad)
	if _, err := running.Open(foreign, ad); !errors.Is(err, vault.ErrUnknownKey) {
		t.Errorf("error %v, want ErrUnknownKey", err)
	}
	// A file that is not whole takes no key away.
	if err := os.WriteFile(path, []byte("k1=short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := running.Open(foreign, ad); !errors.Is(err, vault.ErrUnknownKey) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ErrUnknownKey and the file", err)
	}
	if err := running.AddKey(t.Context(), db); err == nil || readFile(t, path) != "k1=short" {
		t.Errorf("a file that is not whole was written over: %v", err)
	}
	if _, err := running.Open(sealed, ad); err != nil {
		t.Error(err)
	}
}

func TestKeysAreAddedToTheFileAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	path := filepath.Join(t.TempDir(), "vault.key")
	first := openKeyFile(t, path)
	original := strings.TrimSpace(readFile(t, path))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			v, err := vault.OpenKeyFile(path)
			if err == nil {
				err = v.AddKey(t.Context(), db)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text := strings.TrimSpace(readFile(t, path))
	if n := strings.Count(text, ",") + 1; n != 7 || !strings.HasSuffix(text, ","+original) {
		t.Errorf("the file has %d keys, want the 6 new ones before the first", n)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := first.Check(t.Context(), db); err != nil {
		t.Errorf("a process from before: %v", err)
	}
	if err := parseKeys(t, vault.GenerateKey("k1")).AddKey(t.Context(), db); !errors.Is(err, vault.ErrFixedKeys) {
		t.Errorf("error %v, want ErrFixedKeys", err)
	}
}
