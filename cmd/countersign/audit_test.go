//go:build linux

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/migrations/pgtest"
)

// What the command line does is in the trail, and what is done to the trail by others is found.
func TestAudit(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	in := install(t, "COUNTERSIGN_DATABASE_URL="+address, "COUNTERSIGN_VAULT_KEYS=k1="+strings.Repeat("A", 43)+"=",
		"COUNTERSIGN_AGENCY_MAILBOX=agency@brightside.example", "COUNTERSIGN_MAIL_DOMAIN_CHECK=off")
	if out := in.mustRun(t, "audit", "verify"); !strings.Contains(out, "All 0 entries fit.") {
		t.Errorf("an empty trail: %s", out)
	}
	file := filepath.Join(t.TempDir(), "roster.csv")
	if err := os.WriteFile(file, []byte("ref,name,owner_email\nA,Acme,ada@acme.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in.mustRun(t, "import", file)
	in.mustRun(t, "mail", "pause", "--why", "holidays")
	head := regexp.MustCompile(`2:[0-9a-f]{64}`).FindString(in.mustRun(t, "audit", "verify"))
	in.mustRun(t, "mail", "resume")

	var entry struct {
		ID                    int
		Actor, Action, Object string
		After                 struct{ Why string }
	}
	if err := json.Unmarshal([]byte(in.mustRun(t, "audit", "list", "--json", "--action", "mail.pause")), &entry); err != nil {
		t.Fatal(err)
	}
	if entry.ID != 2 || entry.Actor != "command line" || entry.Object != "mail" || entry.After.Why != "holidays" {
		t.Errorf("the trail has %+v", entry)
	}
	lines := strings.Split(strings.TrimSpace(in.mustRun(t, "audit", "list", "--from", "2020-01-01", "--limit", "2")), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], "3 ") || !strings.Contains(lines[2], "mail.pause") {
		t.Errorf("the list is %q", lines)
	}

	in.mustRun(t, "audit", "verify", "--head", head)
	if _, complaint, code := in.run(t, "audit", "verify", "--head", "2"); code != 1 || !strings.Contains(complaint, "no head of an audit trail") {
		t.Errorf("with a head that is none: %d, %s", code, complaint)
	}
	if out, _, code := in.run(t, "audit", "verify", "--head", "2:"+strings.Repeat("0", 64)); code != 1 || !strings.Contains(out, "Entry 2 does not fit.") {
		t.Errorf("with another head: %d, %s", code, out)
	}
	conn := connect(t, address)
	if _, err := conn.Exec(t.Context(), `ALTER TABLE audit DISABLE TRIGGER USER; UPDATE audit SET action = 'mail.hold' WHERE id = 2`); err != nil {
		t.Fatal(err)
	}
	out, _, code := in.run(t, "audit", "verify", "--json")
	var verdict struct {
		Entries int
		Broken  struct{ ID int }
	}
	if err := json.Unmarshal([]byte(out), &verdict); err != nil || code != 1 || verdict.Entries != 1 || verdict.Broken.ID != 2 {
		t.Errorf("a trail that was changed: %d, %s, %v", code, out, err)
	}
}
