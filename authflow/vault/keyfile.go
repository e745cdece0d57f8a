package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// ErrFixedKeys is returned by AddKey for a vault whose keys do not come from a file.
var ErrFixedKeys = errors.New("the vault's keys do not come from a file that can be written")

// keyFile is a file of keys, in the form that ParseKeys reads.
type keyFile struct {
	path string

	mu   sync.Mutex
	seen os.FileInfo // what was last read; nil at first
}

// OpenKeyFile reads the vault keys of a private database from a file beside it, and makes the file with
// one new key if there is none. Processes that start at the same time agree on one key, and a key that was
// returned has reached the disk. A file that others than its owner may read is refused. When the file
// changes, the vault follows: at once if it meets a key that it lacks, else with Watch.
//
// A new key has an id of its own, so that a lost file shows as a missing key and not as a wrong one.
func OpenKeyFile(path string) (*Vault, error) {
	v := &Vault{ring: new(atomic.Pointer[keyring]), file: &keyFile{path: filepath.Clean(path)}}
	err := v.follow()
	if errors.Is(err, fs.ErrNotExist) {
		if err := v.file.write(GenerateKey(newKeyID()), os.Link); err != nil {
			return nil, fmt.Errorf("make the vault's key file: %w", err)
		}
		err = v.follow()
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

func newKeyID() string { return "k" + strings.ToLower(rand.Text()[:8]) }

// follow reads the keys again if they are from a file and it has changed.
func (v *Vault) follow() error {
	if v.file == nil {
		return nil
	}
	v.file.mu.Lock()
	defer v.file.mu.Unlock()
	text, info, err := v.file.read()
	if err != nil || info == v.file.seen {
		return err
	}
	ring, err := parseKeyring(text)
	if err != nil {
		return fmt.Errorf("%s: %w", v.file.path, err)
	}
	v.ring.Store(ring)
	v.file.seen = info
	return nil
}

// read returns the keys, or none and the same info as last time if nothing has changed since.
func (f *keyFile) read() (keys string, info os.FileInfo, err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return "", nil, fmt.Errorf("read the vault's key file: %w", err)
	}
	defer func() { _ = file.Close() }()
	if info, err = file.Stat(); err != nil {
		return "", nil, fmt.Errorf("read the vault's key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", nil, fmt.Errorf("the vault's key file %s may be used by others than its owner (mode %#o): run chmod 600 %[1]s", f.path, mode)
	}
	// Whoever changes the file gives it another one's place, or at least another time.
	if f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) {
		return "", f.seen, nil
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return "", nil, fmt.Errorf("read the vault's key file: %w", err)
	}
	return strings.TrimSpace(string(text)), info, nil
}

// write writes a whole file elsewhere and then gives it its name, by os.Link or os.Rename. Its owner remains:
// an operator may be another one than the service.
func (f *keyFile) write(keys string, place func(from, to string) error) error {
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	temp, err := os.CreateTemp(dir.Name(), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	if before, err := os.Stat(f.path); err == nil {
		if owner, ok := before.Sys().(*syscall.Stat_t); ok {
			err = temp.Chown(int(owner.Uid), int(owner.Gid))
		}
		if err != nil {
			return errors.Join(err, temp.Close())
		}
	}
	_, err = temp.WriteString(keys + "\n")
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	// Should another process have been faster to link a first file, its key is as good.
	if err := place(temp.Name(), f.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return dir.Sync()
}

// AddKey makes a new key, puts it first in the key file, and seals with it from now on. It returns
// ErrFixedKeys if there is no such file.
func (v *Vault) AddKey(ctx context.Context, db provisioning.DB) error {
	if v.file == nil {
		return ErrFixedKeys
	}
	return alone(ctx, db, func(tx pgx.Tx) error {
		if err := v.rewrite(func(entries []string) []string { return slices.Insert(entries, 0, GenerateKey(newKeyID())) }); err != nil {
			return err
		}
		return v.announce(ctx, tx)
	})
}

// removeKeys takes those of the keys out of the key file that have no canary, and returns their ids. The first
// key of the file remains.
func (v *Vault) removeKeys(ctx context.Context, db provisioning.DB, ids []string) (removed []string, err error) {
	err = alone(ctx, db, func(tx pgx.Tx) error {
		needed, err := canaries(ctx, tx)
		if err != nil {
			return err
		}
		return v.rewrite(func(entries []string) []string {
			return slices.Concat(entries[:1], slices.DeleteFunc(entries[1:], func(entry string) bool {
				id, _, _ := strings.Cut(strings.TrimSpace(entry), "=")
				if !slices.Contains(ids, id) || slices.Contains(needed, id) {
					return false
				}
				removed = append(removed, id)
				return true
			}))
		})
	})
	return removed, err
}

// rewrite changes the list of keys in the file, and follows.
func (v *Vault) rewrite(change func(entries []string) []string) error {
	if err := v.follow(); err != nil { // A file that is no longer whole is not made worse.
		return err
	}
	text, err := os.ReadFile(v.file.path)
	if err == nil {
		err = v.file.write(strings.Join(change(strings.Split(strings.TrimSpace(string(text)), ",")), ","), os.Rename)
	}
	if err != nil {
		return fmt.Errorf("write the vault's key file: %w", err)
	}
	return v.follow()
}
