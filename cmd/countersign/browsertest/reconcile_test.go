package browsertest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// partnersRoster knows some of the sandbox's accounts by their ids, some by their names, and some wrongly.
func partnersRoster(t *testing.T, s *service) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("ref,name,owner_email,account_id\n")
	row := func(ref int, name, owner, id string) {
		if owner == "" {
			owner = fmt.Sprintf("owner%d@shop.example", ref)
		}
		fmt.Fprintf(&b, "R-%d,%q,%s,%s\n", ref, name, owner, id)
	}
	for i, a := range s.accounts(t) {
		switch i {
		case 0, 1, 2, 3:
			row(i, a.Organization, "", a.ID)
		case 5, 6:
			row(i, strings.ToUpper(a.Organization), "", "")
		case 8:
			row(i, a.Organization, "", "a07eoldaccount0")
		case 10:
			row(i, a.Organization, "", "")
			row(90, a.Organization, "", "")
		case 12:
			row(i, "Moved and Renamed", a.login(), "")
		}
	}
	row(91, "Harbour Antiques", "", "")
	return b.String()
}

// setUpFirst sets up the first operator of a service.
func (p *tab) setUpFirst(s *service) {
	p.t.Helper()
	p.open(s.setUp)
	p.fill("E-mail", operator)
	p.fill("Your name", "Grace Hopper")
	p.fill("Password", operatorPassword)
	p.press("Create and sign in")
}

// offers finds the button or link whose words begin and end so.
func (p *tab) offers(begin, end string) string {
	p.t.Helper()
	for _, words := range p.texts("#reconcile :is(button, .button)") {
		if strings.HasPrefix(words, begin) && strings.HasSuffix(words, end) {
			return words
		}
	}
	p.t.Fatalf("%s offers no %q … %q:\n%s", p.address(), begin, end, p.text("body"))
	return ""
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := visit(t, desk)
	p.setUpFirst(s)
	s.command(t, partnersRoster(t, s), "import", "-")
	p.press("Imports")
	p.inspect("imports-beside-reconcile")
	p.press("Compare the roster with it")
	p.says("Reconcile with Constant Contact")
	p.inspect("reconcile-begin")
	p.tabThrough()

	// The provider refuses, and says why.
	s.faults(t, "api_401", 2)
	p.press("Read the provider’s list")
	p.until("the refusal", `document.querySelector("#reconcile [role=alert]")`)
	p.mentions("PARTNER_TOKEN_URL")
	p.inspect("reconcile-refused")

	s.faults(t, "api_503", 3) // It takes seven seconds then.
	p.press("Read the provider’s list")
	p.mentions("Reading the list")
	page := p.document()
	p.inspect("reconcile-reading")
	p.until("the comparison", `document.querySelector("#kinds")`)
	if p.document() != page {
		t.Error("the page was loaded anew; it should have moved by itself")
	}
	p.mentions("11 clients · 20 accounts")
	p.inspect("reconcile-compared")
	p.tabThrough()
	if got := p.texts("#account_id_missing tbody tr"); len(got) != 2 {
		t.Errorf("to be filled in: %q", got)
	}
	p.touch("Show them")
	p.until("those in both", `document.querySelector("details").open`)
	p.inspect("reconcile-both")

	p.press("Fill in 2 account ids")
	p.until("the outcome", `document.querySelector("#applied")?.innerText === "2 account ids filled in"`)
	p.inspect("reconcile-filled")
	p.pressFirst("#reconcile a[href^='/admin/imports/']")
	p.mentions("Updated 2")
	p.back()

	s.faults(t, "api_503", 3)
	p.press(p.offers("Add ", " managed accounts"))
	p.mentions("Adding managed accounts")
	p.inspect("reconcile-adding")
	p.until("the outcome", `document.querySelector("#held")`)
	p.mentions("Moved and Renamed")
	p.inspect("reconcile-added")

	download := p.offers("Download ", " missing accounts")
	missing := records(t, p.download("missing.csv", func() { p.touch(download) }))
	if want := fmt.Sprintf("Download %d missing accounts", len(missing)-1); download != want {
		t.Errorf("the button said %q, want %q", download, want)
	}
	if missing[0][1] != "owner_email" {
		t.Errorf("the columns are %q", missing[0])
	}
}

// TestReconcileOnAPhone needs no scripts.
func TestReconcileOnAPhone(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := visitWithoutScripts(t, phone)
	p.setUpFirst(s)
	s.command(t, partnersRoster(t, s), "import", "-")
	p.open(s.base + "/admin/reconcile")
	s.faults(t, "api_503", 2)
	p.press("Read the provider’s list")
	p.inspect("reconcile-reading-plain")
	wait := func(what string) {
		t.Helper()
		for len(p.texts(what)) == 0 {
			p.press("Show how far it is")
		}
	}
	wait("#kinds")
	p.press("Fill in 2 account ids")
	wait("#applied")
	p.mentions("2 account ids filled in")
	p.pressFirst("#reconcile a[href^='/admin/clients/']")
}

// TestReconcileOff: a service without partner settings says which it needs.
func TestReconcileOff(t *testing.T) {
	t.Parallel()
	s := newService(t, "COUNTERSIGN_PARTNER_")
	p := visit(t, desk)
	p.setUpFirst(s)
	p.open(s.base + "/admin/reconcile")
	p.mentions("COUNTERSIGN_PARTNER_CLIENT_ID")
	p.inspect("reconcile-off")
}

// TestReconcileDemo: the demo's provider has accounts that its roster lacks.
func TestReconcileDemo(t *testing.T) {
	t.Parallel()
	p := signIn(t, desk)
	p.openTo(http.StatusOK, p.lab.demo.console+"/admin/reconcile")
	p.press("Read the provider’s list")
	p.until("the list is compared", `document.querySelector("#kinds") !== null`)
	p.mentions("Old Pier Diner")
	p.mentions("Add 3 managed accounts") // two, and the one whose rows repeat each other
	p.inspect("reconcile-demo")
}
