//go:build linux || darwin

package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// makeDataDir makes the data folder and returns its path without links in it, so that the same folder has the
// same name for everybody. The account that runs the server must be able to pass through a folder of root's.
func makeDataDir(path string) (string, error) {
	if path == "" {
		return "", errors.New("no data folder: set COUNTERSIGN_DATA_DIR, or COUNTERSIGN_DATABASE_URL to use a server that already runs")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if err := makeDir(path, mode); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// makeDir makes the folder and those above it as far as they are missing, with exactly this mode whatever the
// umask, and leaves alone what exists.
func makeDir(path string, mode fs.FileMode) error {
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(path), mode); err != nil {
			return err
		}
		err = os.Mkdir(path, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// canEnter checks that the account may pass through the folder and all those above it.
func (a account) canEnter(path string) error {
	if !a.other {
		return nil
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		need := fs.FileMode(0o001)
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			switch {
			case int(stat.Uid) == a.uid:
				need = 0o100
			case int(stat.Gid) == a.gid:
				need = 0o010
			}
		}
		if info.Mode()&need == 0 {
			return fmt.Errorf("the account %s, which runs the server because PostgreSQL refuses to run as root, cannot enter %s: "+
				"use a folder that it can reach, such as /var/lib/countersign, or open the way with chmod a+x %[2]s", a.name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// socketName is the name that PostgreSQL gives to the socket of port 5432.
const socketName = ".s.PGSQL.5432"

// makeSocketDir returns the folder for the server's socket, which nobody but the account can enter: that is the
// server's whole access control. The folder is in the data folder, unless the path gets too long for a socket.
// Then it is a new one among the temporary files, to which the link in the data folder leads everybody else.
func makeSocketDir(dataDir string, owner account) (string, error) {
	dir := filepath.Join(dataDir, "run")
	if canHoldSocket(dir) {
		return dir, makePrivate(dir, owner)
	}
	// The name tells whose it is, so that a copy of the data folder does not share the socket of the original.
	sum := sha256.Sum256([]byte(dataDir))
	prefix := "countersign-" + hex.EncodeToString(sum[:4]) + "-"
	link := dir
	if dir, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(dir), prefix) {
		if makePrivate(dir, owner) == nil { // made again at its old place after a reboot has emptied the temporary files
			return dir, nil
		}
	}
	parent := os.TempDir()
	if !canHoldSocket(filepath.Join(parent, prefix+"0123456789")) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return "", err
	}
	if err := owner.own(dir); err != nil {
		return "", err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return dir, os.Symlink(dir, link)
}

// canHoldSocket tells whether a socket in the folder has a path that the system and a database URL can express:
// the system limits its length, and in a URL a comma divides hosts.
func canHoldSocket(dir string) bool {
	longest := 107
	if runtime.GOOS == "darwin" {
		longest = 103
	}
	return len(filepath.Join(dir, socketName)) <= longest && !strings.Contains(dir, ",")
}

// makePrivate makes a folder that only the account can enter, or checks that an existing one is such a folder.
func makePrivate(dir string, owner account) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	trusted := ok && (int(stat.Uid) == owner.uid || int(stat.Uid) == os.Geteuid())
	if !trusted || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s is not a folder that only the account that runs the server can enter: move it away", dir)
	}
	return owner.own(dir)
}
