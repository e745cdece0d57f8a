//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// unfinished begins the names of clusters in the making.
const unfinished = "initdb-"

// clusterVersion returns the major version of the PostgreSQL that made the cluster, zero if there is none yet.
func clusterVersion(cluster string) (int, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(cluster); err == nil {
			return 0, fmt.Errorf("%s is there, but is no PostgreSQL cluster (it has no PG_VERSION): move it away, or restore it from a backup", cluster)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("version of the cluster %s: %w", cluster, err)
	}
	return version, nil
}

// makeCluster makes the cluster. It is made under another name and renamed when it is complete, so that a
// crash leaves either no cluster or a whole one. The caller holds the file lock.
func (s *server) makeCluster(ctx context.Context, found binaries) error {
	leftovers, err := filepath.Glob(filepath.Join(s.dir, unfinished+"*"))
	if err != nil {
		return err
	}
	for _, dir := range leftovers {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what an interrupted initdb has left: %w", err)
		}
	}
	dir, err := os.MkdirTemp(s.dir, unfinished)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // after the rename it is not there
	if err := s.account.own(dir); err != nil {
		return err
	}

	args := []string{"-D", dir, "--username=" + superuser, "--auth=trust", "--encoding=UTF8", "--data-checksums", "--no-instructions"}
	if s.throwaway {
		args = append(args, "--no-sync")
	}
	output, err := s.run(ctx, found.program("initdb"), append(args, "--locale=C.UTF-8")...)
	if err != nil && ctx.Err() == nil && strings.Contains(output, "locale") { // an older system, which has no such locale
		_, err = s.run(ctx, found.program("initdb"), append(args, "--locale=C")...)
	}
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := os.Rename(dir, s.cluster); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// syncDir makes a rename in the folder last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
