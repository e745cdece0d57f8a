package browsertest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestPartner: the partner's token authorizes managed accounts by itself, and says of others why it does not.
func TestPartner(t *testing.T) {
	t.Parallel()
	const partner = "a37csandboxpt0" // of the sandbox
	var accounts []map[string]any
	for id, unmanaged := range map[string]bool{"a07emanaged1": false, "a07ereferred1": true} {
		accounts = append(accounts, map[string]any{
			"encoded_account_id": id, "encoded_partner_id": partner, "organization_name": "Organization " + id, "unmanaged": unmanaged,
			"users": []map[string]string{{"login": id + "@clients.example", "password": "amber-harbor-27", "role": "owner"}},
		})
	}
	content, err := json.Marshal(accounts)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "accounts.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServiceAt(t, []string{"--accounts", file}, []string{"COUNTERSIGN_MAIL_DOMAIN_CHECK=off"})
	s.command(t, "ref,name,owner_email,route,account_id\n"+
		"ACME-1,Acme Bakery,maria@acme.example,partner,a07emanaged1\n"+
		"BELL-2,Bell Tower,ben@bell.example,partner,a07ereferred1\n"+
		"CAFE-3,Café Lumière,cleo@cafe.example,partner,\n", "import", "-")
	p := visit(t, desk)
	p.setUpFirst(s)
	p.open(s.base + "/admin/clients")
	p.press("Acme Bakery")
	p.press("Try it now")
	p.mentions("The provider was asked.")
	p.mentions("The partner’s token opens the account. Nobody has to consent.")
	p.mentions("organization: Organization a07emanaged1")
	p.inspect("client-partner")
	p.open(s.base + "/admin/clients")
	p.press("Bell Tower")
	p.press("Try it now")
	p.mentions("it is none that you manage")
	p.mentions("Have the owner approve your request for access at the provider")
	p.inspect("client-unmanaged")
	p.open(s.base + "/admin/clients")
	p.press("Café Lumière")
	p.press("Try it now")
	p.mentions("The partner’s token needs the account id")
	p.open(s.base + "/admin")
	p.mentions("1 of 3 connected")
	p.open(s.link(t, "ACME-1"))
	p.says("There is nothing left to do")
}
