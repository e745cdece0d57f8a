package authflow_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/authflow"
)

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "vault.key")
	first, err := authflow.LoadOrCreateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authflow.ParseVaultKeys(first); err != nil {
		t.Error(err)
	}
	if again, err := authflow.LoadOrCreateKeyFile(path); err != nil || again != first {
		t.Errorf("the next start reads another key: %v", err)
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
		got := make([]string, 8)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				<-start
				var err error
				if got[i], err = authflow.LoadOrCreateKeyFile(path); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		for i, keys := range got {
			if keys != got[0] {
				t.Fatalf("process %d got another key than process 0", i)
			}
		}
	}
}

func TestKeyFileHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for range 2 {
		keys, err := authflow.LoadOrCreateKeyFile(filepath.Join(t.TempDir(), "vault.key"))
		if err != nil {
			t.Fatal(err)
		}
		id, _, _ := strings.Cut(keys, "=")
		ids[id] = true
	}
	if len(ids) != 2 {
		t.Error("two new key files have keys of the same id")
	}
}

func TestKeyFileRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		path := filepath.Join(t.TempDir(), "vault.key")
		if err := os.WriteFile(path, []byte(authflow.GenerateVaultKey("k1")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := authflow.LoadOrCreateKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %#o: error %v, want one with the cure", mode, err)
		}
	}
}

func TestKeyFileNeedsItsFolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "absent", "vault.key")
	if _, err := authflow.LoadOrCreateKeyFile(path); err == nil || !strings.Contains(err.Error(), path[:len(path)-len("/vault.key")]) {
		t.Errorf("error %v, want one that names the folder", err)
	}
}
