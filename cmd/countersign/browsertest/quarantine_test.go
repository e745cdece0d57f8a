package browsertest_test

import (
	"net/http"
	"strings"
	"testing"
)

// strays walks with a fresh link of a client as the owner of an account that is not surely the client's.
func (s *service) strays(t *testing.T, ref string, a account) {
	t.Helper()
	p := visit(t, phone)
	p.open(s.link(t, ref))
	p.press("Continue to Constant Contact")
	p.signIn(a)
	p.press("Allow")
	p.mentions(a.Organization)
	p.mentions("Try again")
}

// newQuarantine is a service to whose quarantine two owners have come by other clients' links: the one of a client
// of the roster, the other a stranger.
func newQuarantine(t *testing.T) *service {
	t.Helper()
	s := newService(t)
	known, stranger := s.accounts(t)[1], s.accounts(t)[2]
	s.command(t, "ref,name,owner_email,account_id\n"+
		"ACME-1,The Acme Bakery and Confectionery of Springfield,maria.rossi.montgomery@acme-bakery-and-confectionery.example,\n"+
		"KNOWN-2,\""+known.Organization+"\",ben@known.example,"+known.ID+"\n"+
		"CAFE-3,Café Lumière,cleo@cafe.example,a07eexpected0\n"+
		"NOIR-4,Café Noir,noel@cafe.example,\n", "import", "-")
	s.strays(t, "ACME-1", known)
	s.strays(t, "CAFE-3", stranger)
	return s
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	s := newQuarantine(t)
	known, stranger := s.accounts(t)[1], s.accounts(t)[2]
	p := visit(t, desk)
	p.setUpFirst(s)
	p.inspect("progress-quarantine")
	p.pressFirst(`a[href="/admin/quarantine"]`)
	p.says("Quarantine")
	p.mentions(stranger.ID)
	p.inspect("quarantine")
	p.tabThrough()
	for _, summary := range []string{"Accept " + stranger.Organization + " for Café Lumière", "Move to another client : " + stranger.Organization, "Discard " + stranger.Organization} {
		p.touch(summary)
	}
	p.mentions("gets the account " + stranger.ID + " instead of a07eexpected0")
	p.inspect("quarantine-open")

	p.fill("Ref or name of the client", "caf")
	p.pressTo(http.StatusUnprocessableEntity, "Move it there")
	p.says("Quarantine")
	p.mentions("Which client is meant by “caf”?")
	p.inspect("quarantine-choices")
	p.press("Quarantine")

	p.press("Move it to " + known.Organization)
	p.mentions("The grant is moved")
	p.press("Café Lumière")
	p.mentions("Another account consented")
	p.inspect("client-in-quarantine")
	p.touch("Accept " + stranger.Organization + " for Café Lumière")
	p.press("Accept this account for Café Lumière")
	p.mentions("The account is accepted")
	p.mentions("account id: a07eexpected0 → " + stranger.ID)
	p.inspect("client-accepted")
	p.open(s.base + "/admin/quarantine")
	p.mentions("Nothing is in quarantine.")
	p.inspect("quarantine-empty")
}

// TestQuarantineOnAPhone needs no scripts, and meets decisions that cannot be carried out, or that somebody else
// has made at the command line.
func TestQuarantineOnAPhone(t *testing.T) {
	t.Parallel()
	s := newQuarantine(t)
	known, stranger := s.accounts(t)[1], s.accounts(t)[2]
	p := visitWithoutScripts(t, phone)
	p.setUpFirst(s)
	p.open(s.base + "/admin/quarantine")
	p.touch("Move to another client : " + stranger.Organization)
	p.fill("Ref or name of the client", "KNOWN-2")
	p.pressTo(http.StatusConflict, "Move it there")
	p.mentions("is " + known.ID + "; correct account_id in the roster first")
	p.inspect("quarantine-refused")
	p.press("Quarantine")

	list := s.command(t, "", "quarantine")
	for _, want := range []string{"Café Lumière (CAFE-3)", "expected  a07eexpected0, owner cleo@cafe.example", "found     " + stranger.ID, "belongs   to " + known.Organization + " (KNOWN-2)"} {
		if !strings.Contains(list, want) {
			t.Errorf("the command does not say %q:\n%s", want, list)
		}
	}
	ids := strings.Fields(list)
	s.command(t, "", "quarantine", "move", ids[0], "--client", "KNOWN-2")
	p.press("Move it to " + known.Organization)
	p.mentions("Nothing was changed: somebody has decided on this grant already")
	p.touch("Discard " + stranger.Organization)
	p.press("Discard this grant of " + stranger.Organization)
	p.mentions("The grant is discarded.")
	p.mentions("Nothing is in quarantine.")
	if out := s.command(t, "", "quarantine"); out != "Nothing is in quarantine.\n" {
		t.Errorf("the command says %q", out)
	}
	if out := s.command(t, "", "quarantine", "--json"); out != `{"grants":[],"next_cursor":null}`+"\n" {
		t.Errorf("the command says %s", out)
	}
}
