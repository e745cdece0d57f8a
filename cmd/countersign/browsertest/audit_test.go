package browsertest_test

import "testing"

// TestAudit looks at the audit trail, filters it, and checks it against a head that was noted.
func TestAudit(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := visit(t, desk)
	p.setUpFirst(s)
	s.command(t, "ref,name,owner_email\nA,Acme Bakery,ada@acme.example\n", "import", "-")
	s.command(t, "", "mail", "pause", "--why", "The texts are being rewritten.")
	p.press("Settings")
	p.press("Audit trail")
	p.says("Audit trail")
	p.mentions("roster.import")
	p.inspect("audit")
	p.press("Check the trail")
	p.mentions("This is the head of the trail.")
	p.inspect("audit-checked")
	p.press("mail.pause")
	p.mentions("The texts are being rewritten.")
	p.press("Show all")
	p.mentions("roster.import")
}
