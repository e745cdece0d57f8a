//go:build linux

package main_test

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// partnerSettings serves a provider with these accounts of a partner and returns the settings that use it.
func partnerSettings(t *testing.T, accounts ...sandbox.Account) []string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	base := "http://" + server.Listener.Addr().String()
	for i := range accounts {
		accounts[i].PartnerID = sandbox.MadePartnerID
	}
	box, err := sandbox.New(sandbox.Options{
		BaseURL:  base,
		Accounts: accounts,
		Partners: []sandbox.Partner{{ClientID: "id", Secret: "s3cret", APIKey: "k3y", AccountID: sandbox.MadePartnerID}},
		Now:      time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = box
	server.Start()
	t.Cleanup(server.Close)
	return []string{
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
		"COUNTERSIGN_PARTNER_CLIENT_ID=id",
		"COUNTERSIGN_PARTNER_CLIENT_SECRET=s3cret",
		"COUNTERSIGN_PARTNER_API_KEY=k3y",
		"COUNTERSIGN_PARTNER_TOKEN_URL=" + base + "/partners/oauth2/default/v1/token",
		"COUNTERSIGN_PROVIDER_API_URL=" + base + "/v3",
	}
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	in := install(t, partnerSettings(
		t,
		sandbox.Account{ID: "a1", Organization: "Acme Bakery", ContactEmail: "ann@acme.example"},
		sandbox.Account{ID: "a2", Organization: "BLOOM  florist", ContactEmail: "ben@bloom.example"},
		sandbox.Account{ID: "a3", Organization: "Corner Shop", ContactEmail: "cy@corner.example"},
		sandbox.Account{ID: "a4", Organization: "New Here", ContactEmail: "new@here.example", FirstName: "Nell", LastName: "Hart"},
		sandbox.Account{ID: "a5", Organization: "Referred", ContactEmail: "hidden@referred.example", Unmanaged: true},
		sandbox.Account{ID: "a6", Organization: "Gone", BillingStatus: "Canceled"},
		sandbox.Account{ID: "a7", Organization: "Nobody Answers"},
	)...)
	dir := t.TempDir()
	roster, missing := filepath.Join(dir, "roster.csv"), filepath.Join(dir, "missing.csv")
	err := os.WriteFile(roster, []byte("ref,name,owner_email,account_id\nA,Acme Bakery,ann@acme.example,a1\n"+
		"B,Bloom Florist,ben@bloom.example,\nC,Corner Shop,cy@corner.example,old\nD,Elsewhere,d@else.example,\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	in.mustRun(t, "import", roster)
	exported := in.mustRun(t, "export")

	preview := in.mustRun(t, "reconcile")
	for _, want := range []string{
		"The roster has 4 clients, the provider lists 7 accounts.", "1  in both", "1  account_id missing", "1  account_id different",
		"1  only in the roster", "3  only at the provider", "1  canceled at the provider",
		`"Bloom Florist" (ref B) – account a2 "BLOOM florist", Open`, "account id old", "--fill fills in: 1.",
		"--add makes clients of: 2, after one call each for the owner's address (about 1s)", "to fill in owner_email and import: 3.", "Nothing was changed.",
	} {
		if !strings.Contains(preview, want) {
			t.Errorf("the preview lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("it is:\n%s", preview)
	}
	if after := in.mustRun(t, "export"); after != exported {
		t.Errorf("the preview changed the roster:\n%s", cmp.Diff(exported, after))
	}

	out, complaints, code := in.run(t, "reconcile", "--fill", "--add", "--missing", missing, "--json")
	if code != 3 { // a7 has no address
		t.Fatalf("exit code %d\n%s%s", code, out, complaints)
	}
	if !strings.Contains(complaints, "one call each: 2 managed accounts, about 1s") {
		t.Errorf("it did not say beforehand what --add takes: %q", complaints)
	}
	var got struct {
		provisioning.Reconciliation

		Filled  provisioning.Import
		Added   provisioning.Added
		Missing int
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if got.Filled.Updated != 1 || got.Added.Created != 1 || got.Added.Held != 1 || got.Missing != 2 {
		t.Errorf("filled %d, added %d, held %d, missing %d", got.Filled.Updated, got.Added.Created, got.Added.Held, got.Missing)
	}
	want := map[provisioning.FindingKind]int{
		provisioning.FindingBoth: 3, provisioning.FindingMissing: 0, provisioning.FindingDifferent: 1, provisioning.FindingAmbiguous: 0,
		provisioning.FindingRosterOnly: 1, provisioning.FindingProviderOnly: 2, provisioning.FindingCanceled: 1,
	}
	if diff := cmp.Diff(want, got.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	content, err := os.ReadFile(missing)
	if err != nil || !strings.Contains(string(content), "Nobody Answers,,,a7,") || !strings.Contains(string(content), "Referred,,,a5,") ||
		strings.Contains(string(content), "@") {
		t.Errorf("the file of what is missing, error %v:\n%s", err, content)
	}
	after := in.mustRun(t, "export")
	for _, want := range []string{
		"Bloom Florist,ben@bloom.example,B,,a2,", "New Here,new@here.example,,Nell Hart,a4,", "Corner Shop,cy@corner.example,C,,old,", "agency+new-here@agency.example",
	} {
		if !strings.Contains(after, want) {
			t.Errorf("the roster lacks %q:\n%s", want, after)
		}
	}

	out, _, code = in.run(t, "reconcile", "--fill", "--add", "--missing", "-")
	if code != 3 || !strings.HasPrefix(out, "name,owner_email,") {
		t.Errorf("again: exit code %d\n%s", code, out)
	}
	if out := in.mustRun(t, "reconcile", "--fill"); !strings.Contains(out, "There is no account id to fill in.") {
		t.Errorf("again:\n%s", out)
	}
	if again := in.mustRun(t, "export"); again != after {
		t.Errorf("the second time changed the roster:\n%s", cmp.Diff(after, again))
	}
}

func TestReconcileTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	settings := partnerSettings(t)
	tests := map[string]struct {
		settings []string
		args     []string
		want     []string
	}{
		"no partner": {
			nil, nil, []string{"COUNTERSIGN_PARTNER_CLIENT_ID", "COUNTERSIGN_PARTNER_CLIENT_SECRET", "COUNTERSIGN_PARTNER_API_KEY"},
		},
		"half a partner": {
			[]string{"COUNTERSIGN_PARTNER_CLIENT_ID=id"},
			nil,
			[]string{"COUNTERSIGN_PARTNER_CLIENT_SECRET: is needed", "COUNTERSIGN_PARTNER_API_KEY: is needed"},
		},
		"an address in the clear": {
			append(settings[1:4:4], "COUNTERSIGN_PARTNER_TOKEN_URL=http://partner.example/token"), nil, []string{"COUNTERSIGN_PARTNER_TOKEN_URL", "https://"},
		},
		"no mailbox": {settings[1:], []string{"--add"}, []string{"COUNTERSIGN_AGENCY_MAILBOX"}},
		"a wrong secret": {
			append(append(settings[:2:2], "COUNTERSIGN_PARTNER_CLIENT_SECRET=wr0ng"), settings[3:]...), nil, []string{"PARTNER_CLIENT_SECRET", "invalid_client"},
		},
		"a wrong API key": {
			append(append(settings[:3:3], "COUNTERSIGN_PARTNER_API_KEY=wr0ng"), settings[4:]...), nil, []string{"PARTNER_API_KEY"},
		},
		"two things on standard output": {settings, []string{"--missing", "-", "--json"}, []string{"standard output"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, complaints, code := install(t, test.settings...).run(t, append([]string{"reconcile"}, test.args...)...)
			if code != 1 || out != "" {
				t.Errorf("exit code %d, printed %q", code, out)
			}
			for _, want := range test.want {
				if !strings.Contains(complaints, want) {
					t.Errorf("it does not mention %q", want)
				}
			}
			if t.Failed() || strings.Contains(complaints, "wr0ng") || strings.Contains(complaints, "s3cret") {
				t.Errorf("it says:\n%s", complaints)
			}
		})
	}
}
