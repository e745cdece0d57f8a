//go:build linux

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMailLists(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example", "COUNTERSIGN_MAIL_DOMAIN_CHECK=off")
	file := filepath.Join(t.TempDir(), "roster.csv")
	if err := os.WriteFile(file, []byte("ref,name,owner_email\nA,Acme,ann@a.example\nB,Bloom,ben@b.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in.mustRun(t, "import", file, "--invite")
	var list struct {
		Mails []struct{ To, State, Kind string }
	}
	if err := json.Unmarshal([]byte(in.mustRun(t, "mail", "queue", "--json", "--limit", "1")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Mails) != 1 || list.Mails[0].State != "queued" || list.Mails[0].Kind != "invitation" {
		t.Errorf("%+v", list)
	}
	for _, told := range []struct {
		args  []string
		words string
	}{
		{[]string{"mail", "queue", "--limit", "1"}, "There are more"},
		{[]string{"mail", "queue", "--show", "failed"}, "No such mail."},
		{[]string{"mail", "hurry"}, "0 mails"},
		{[]string{"mail", "suppressed"}, "Everybody may be mailed."},
		{[]string{"mail", "let-in", "A"}, "Acme may be mailed again."},
	} {
		if out := in.mustRun(t, told.args...); !strings.Contains(out, told.words) {
			t.Errorf("countersign %s: %s", strings.Join(told.args, " "), out)
		}
	}
	if _, complaints, code := in.run(t, "mail", "queue", "--show", "sent"); code != 1 || !strings.Contains(complaints, "choose waiting, delayed or failed") {
		t.Errorf("exit code %d, %s", code, complaints)
	}
}
