package authflow

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// LoadOrCreateKeyFile reads the vault keys of a private database from a file beside it, and makes
// the file with one new key if there is none. Processes that start at the same time agree on one
// key, and a key that was returned has reached the disk. A file that others than its owner may read
// is refused.
//
// A new key has an id of its own, so that a lost file shows as a missing key and not as a wrong one.
func LoadOrCreateKeyFile(path string) (keys string, err error) {
	keys, err = loadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if err := createKeyFile(path, GenerateVaultKey("k"+strings.ToLower(rand.Text()[:8]))); err != nil {
		return "", fmt.Errorf("make the vault's key file: %w", err)
	}
	return loadKeyFile(path)
}

func loadKeyFile(path string) (string, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", fmt.Errorf("read the vault's key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read the vault's key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("the vault's key file %s may be used by others than its owner (mode %#o): run chmod 600 %s", path, mode, path)
	}
	keys, err := io.ReadAll(f)
	if err != nil {
		return "", fmt.Errorf("read the vault's key file: %w", err)
	}
	return strings.TrimSpace(string(keys)), nil
}

// createKeyFile writes a whole file elsewhere and then gives it its name, unless another process was
// faster: its key is as good.
func createKeyFile(path, keys string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	temp, err := os.CreateTemp(dir.Name(), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.WriteString(keys + "\n")
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return dir.Sync()
}
