//go:build linux

package main_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlanAndUsernames follows a roster from the preview of its usernames and the plan of its import to a
// username that the provider refuses.
func TestPlanAndUsernames(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example")
	roster := func(content string) string {
		path := filepath.Join(t.TempDir(), "roster.csv")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := roster("ref,name,owner_email\nA-1,Café Zürich,ann@a.example\nA-2,Café Zürich,bob@b.example\n")
	preview := in.mustRun(t, "usernames", "--preview", "{local}+{ref}@{domain}", first)
	for _, want := range []string{"2  agency+a-1@agency.example ", "3  agency+a-2@agency.example ", "Café Zürich\n"} {
		if !strings.Contains(preview, want) {
			t.Errorf("the preview lacks %q:\n%s", want, preview)
		}
	}
	in.mustRun(t, "import", first)

	next := roster("ref,name,owner_email\nA-1,Café Zürich,new@a.example\nA-2,Café Zürich,bob@b.example\nA-3,=Acme,cy@c.example\nA-4,Bell,\n")
	plan := filepath.Join(t.TempDir(), "plan.csv")
	out, complaints, code := in.run(t, "import", next, "--dry-run", "--plan", plan)
	if code != 3 || !strings.Contains(out, "owner_email: ann@a.example → new@a.example") {
		t.Errorf("the plan: exit code %d\n%s%s", code, out, complaints)
	}
	content, err := os.ReadFile(plan)
	if err != nil {
		t.Fatal(err)
	}
	got, err := csv.NewReader(strings.NewReader(string(content))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"line", "verdict", "ref", "name", "username", "changes", "code", "message"},
		{"2", "updated", "A-1", "Café Zürich", "agency+cafe-zurich@agency.example", "owner_email: ann@a.example → new@a.example", "", ""},
		{"3", "unchanged", "A-2", "Café Zürich", "agency+cafe-zurich-2@agency.example", "", "", ""},
		{"4", "created", "A-3", "'=Acme", "agency+acme@agency.example", "", "", ""},
		{"5", "rejected", "", "", "", "", "email_missing", "The owner has no mail address. Fill it in."},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the plan (-want +got)\n%s", diff)
	}

	if told := in.mustRun(t, "usernames", "--taken", "agency+cafe-zurich@agency.example"); told != "Café Zürich now has the username agency+cafe-zurich-3@agency.example\n" {
		t.Errorf("a username that is taken: %s", told)
	}
	if _, told, code := in.run(t, "usernames", "--taken", "agency+cafe-zurich@agency.example"); code != 1 || !strings.Contains(told, "agency+cafe-zurich-3@agency.example") {
		t.Errorf("once more: exit code %d, %s", code, told)
	}
	if _, told, code := in.run(t, "usernames"); code != 1 || !strings.Contains(told, "--preview PATTERN FILE or --taken USERNAME") {
		t.Errorf("without saying what: exit code %d, %s", code, told)
	}
}
