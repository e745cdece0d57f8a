//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bulkJob is a job as the command line prints it.
type bulkJob struct {
	ID, Action, State    string
	Total, Done, Changed int
	Skipped              int
	SkippedWhy           map[string]int `json:"skipped_why"`
	Undoable             bool
}

func (in *installation) bulk(t *testing.T, args ...string) (j bulkJob) {
	t.Helper()
	out := in.mustRun(t, append([]string{"bulk"}, args...)...)
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		t.Fatalf("bulk %v prints %q: %v", args, out, err)
	}
	return j
}

// importShops imports clients S-0, S-1 …, every second with the tag even.
func (in *installation) importShops(t *testing.T, clients int) {
	t.Helper()
	var roster bytes.Buffer
	roster.WriteString("ref,name,owner_email,tags\n")
	for n := range clients {
		fmt.Fprintf(&roster, "S-%d,Shop %[1]d,%s,%s\n", n, owner(n), []string{"even", "odd"}[n%2])
	}
	file := filepath.Join(t.TempDir(), "roster.csv")
	if err := os.WriteFile(file, roster.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	in.mustRun(t, "import", file)
}

func (in *installation) exported(t *testing.T, args ...string) int {
	t.Helper()
	return strings.Count(in.mustRun(t, append([]string{"export"}, args...)...), "\n") - 1
}

// TestBulkCommand shows whom it is about, does it, tells whom it left out and why, and takes it back.
func TestBulkCommand(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example")
	in.importShops(t, 20)
	out := in.mustRun(t, "bulk", "pause", "--tag", "even", "--dry-run")
	if !strings.HasPrefix(out, "pause: 10 clients.\n") || !strings.Contains(out, "  Shop 0\n") || strings.Contains(out, "Shop 1\n") {
		t.Errorf("the preview says %q", out)
	}
	if n := in.exported(t, "--paused", "yes"); n != 0 {
		t.Errorf("looking has paused %d clients", n)
	}
	in.bulk(t, "pause", "--client", "S-2", "--json")
	j := in.bulk(t, "pause", "--tag", "even", "--json")
	if j.State != "done" || j.Total != 10 || j.Changed != 9 || j.SkippedWhy["unchanged"] != 1 || !j.Undoable {
		t.Errorf("%+v", j)
	}
	if n := in.exported(t, "--paused", "yes"); n != 10 {
		t.Errorf("%d clients are paused", n)
	}
	if undo := in.bulk(t, "undo", j.ID, "--json"); undo.State != "done" || undo.Changed != 9 {
		t.Errorf("the undo: %+v", undo)
	}
	if n := in.exported(t, "--paused", "yes"); n != 1 {
		t.Errorf("%d clients are paused afterwards", n)
	}
	if list := in.mustRun(t, "bulk", "list"); strings.Count(list, "\n") < 3 || !strings.Contains(list, "undo of pause, done: 9 of 9 clients done") {
		t.Errorf("the list says %q", list)
	}
	for _, test := range []struct {
		args []string
		told string
	}{
		{[]string{"pause"}, "say whom, in one way"},
		{[]string{"pause", "--all", "--tag", "even"}, "say whom, in one way"},
		{[]string{"burn", "--all"}, "burn"},
		{[]string{"tag", "--all"}, "tag"},
		{[]string{"delete", "--all"}, "20"},
		{[]string{"pause", "--client", "S-99"}, "S-99"},
		{[]string{"undo", j.ID}, "undone"},
		{[]string{"stop", "x"}, "no job's id"},
	} {
		if _, complaints, code := in.run(t, append([]string{"bulk"}, test.args...)...); code == 0 || !strings.Contains(complaints, test.told) {
			t.Errorf("bulk %v: exit code %d, %s", test.args, code, complaints)
		}
	}
	if n := in.exported(t); n != 20 {
		t.Errorf("%d clients are left", n)
	}
}

// TestKilledWhileWorkingInBulk kills the command, and then the service that goes on with its job: in the end every client
// has had its turn, once.
func TestKilledWhileWorkingInBulk(t *testing.T) {
	t.Parallel()
	const clients = 20_000
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example", "COUNTERSIGN_LISTEN=127.0.0.1:"+freePort(t))
	in.importShops(t, clients)
	var j bulkJob
	until := func(p *process, what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !reached(); {
			if time.Now().After(deadline) {
				t.Fatalf("it does not %s: %+v\n%s", what, j, p.output)
			}
			if out := in.mustRun(t, "bulk", "list", "--json"); out != "" {
				if err := json.Unmarshal([]byte(out), &j); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	work := in.start(t, "bulk", "tag", "--set", "spring", "--all")
	// It has to be the one that starts the private server: whoever does, ends it when it ends itself.
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(in.dataDir, "run", ".s.PGSQL.5432")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it starts no database:\n%s", work.output)
		}
	}
	until(work, "begin", func() bool { return j.Done > 0 })
	work.kill()
	t.Logf("the command is killed after %d clients", j.Done)
	serve := in.serve(t)
	before := j.Done + clients/10 // The command may have done a batch more than it was seen to.
	until(serve, "go on", func() bool { return j.Done > before })
	serve.kill()
	t.Logf("the service is killed after %d clients", j.Done)
	serve = in.serve(t)
	until(serve, "end", func() bool { return j.State == "done" })
	if j.Total != clients || j.Done != clients || j.Changed != clients || j.Skipped != 0 {
		t.Errorf("%+v", j)
	}
	if n := in.exported(t, "--tag", "spring"); n != clients {
		t.Errorf("%d clients have the tag", n)
	}
	trail := in.mustRun(t, "audit", "list", "--json")
	if begun, ended := strings.Count(trail, `"bulk.start"`), strings.Count(trail, `"bulk.end"`); begun != 1 || ended != 1 {
		t.Errorf("the trail tells of %d beginnings and %d ends", begun, ended)
	}
	in.mustRun(t, "audit", "verify")
	if code := serve.terminate(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, serve.output)
	}
}
