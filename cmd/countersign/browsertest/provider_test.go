package browsertest_test

import (
	"strings"
	"testing"
)

// TestProvider has an owner connect, and another one meet the end of the provider's day, while the page looks on.
func TestProvider(t *testing.T) {
	t.Parallel()
	s := newService(t)
	first, second := s.accounts(t)[0], s.accounts(t)[1]
	s.command(t, "ref,name,owner_email,account_id\n"+
		"A,"+first.Organization+","+first.login()+","+first.ID+"\n"+
		"B,"+second.Organization+","+second.login()+","+second.ID+"\n", "import", "-")

	p := visit(t, desk)
	p.setUpFirst(s)
	p.press("Provider")
	p.says("Provider")
	p.mentions("There is no grant to keep alive yet.")
	p.mentions("10,000 of 10,000 left")
	p.inspect("provider-new")
	p.tabThrough()
	page := p.document()

	owner := visit(t, phone)
	owner.open(s.link(t, "A"))
	owner.press("Continue to Constant Contact")
	owner.signIn(first)
	owner.press("Allow")
	owner.says("Connected, thank you")
	p.until("the call to be counted", `document.querySelector("#standing").innerText.includes("Used 1")`)
	p.mentions("All grants are kept alive.")
	p.inspect("provider")

	s.fault(t, "api_quota_exceeded")
	owner = visit(t, phone)
	owner.open(s.link(t, "B"))
	owner.press("Continue to Constant Contact")
	owner.signIn(second)
	owner.press("Allow")
	owner.says("Constant Contact does not answer right now")
	p.until("the warning", `document.querySelector("#standing .obstacle")`)
	p.mentions("The provider says that today’s calls are used up")
	if p.document() != page {
		t.Error("the page was loaded anew; it should have moved by itself")
	}
	p.inspect("provider-quota")
	p.press("Progress")
	p.mentions("today’s calls are used up.")
	p.inspect("progress-quota")
	p.press("What to do")
	p.says("Provider")

	told := s.command(t, "", "provider")
	for _, want := range []string{"10000 calls left today", "the provider says that those of today are used up", "are refused by the provider and tried again"} {
		if !strings.Contains(told, want) {
			t.Errorf("the command does not say %q:\n%s", want, told)
		}
	}
}

// TestNoProviderOnAPhone needs no scripts.
func TestNoProviderOnAPhone(t *testing.T) {
	t.Parallel()
	s := newService(t, "COUNTERSIGN_OAUTH", "COUNTERSIGN_PROVIDER")
	p := visitWithoutScripts(t, phone)
	p.setUpFirst(s)
	p.press("Provider")
	p.mentions("No app at the provider is set up.")
	p.mentions("COUNTERSIGN_OAUTH_CLIENT_ID")
	p.inspect("provider-off")
}
