package templates_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/templates"
)

// An owner has never heard of what we are made of, and nothing runs in the owner's browser.
func TestOwnerPagesArePlain(t *testing.T) {
	t.Parallel()
	for _, s := range samples() {
		body := find(render(t, s.view), tag("body"), with("class", "owner"))
		if len(body) == 0 {
			continue
		}
		hasNot(t, body[0].Parent, tag("script"))
		words := strings.ToLower(text(body[0]))
		for _, jargon := range []string{"oauth", "token", "scope", "grant", "api", "authoriz", "session", "cookie", "countersign"} {
			if strings.Contains(" "+words, " "+jargon) {
				t.Errorf("%s says %q: %s", s.name, jargon, words)
			}
		}
		if n := len(find(body[0], tag("button"), with("class", "primary"))); n > 1 {
			t.Errorf("%s has %d primary buttons", s.name, n)
		}
		says(t, body[0], "Brightside Marketing")
	}
}

func TestInvitation(t *testing.T) {
	t.Parallel()
	doc := render(t, invitation())
	begin := one(t, doc, tag("form"), with("method", "post"), with("action", token+"/begin"))
	says(t, begin, "Continue to Constant Contact")
	decline := one(t, doc, tag("form"), with("method", "post"), with("action", token+"/decline"))
	if decline.Parent.Data != "details" {
		t.Error("a no needs no second press")
	}
	says(t, doc, "m•••@acme-bakery.example")
	says(t, doc, "connect.brightside.example")
	says(t, doc, "constantcontact.com")
	// The link dies on the 23rd at 09:00 UTC, when it is still the 22nd in the west.
	says(t, doc, "works until 22 December 2026")
	if strings.Contains(text(doc), "maria@acme-bakery.example") {
		t.Error("the whole address is shown to whom the link was forwarded")
	}
}

func TestConnectedInvitationAsksNothing(t *testing.T) {
	t.Parallel()
	page := invitation()
	page.ConnectedAt = at(12, 9, 0)
	page.LastOutcome = templates.OutcomeDenied
	doc := render(t, page)
	says(t, doc, "Acme Bakery is connected")
	says(t, doc, "12 November 2026")
	hasNot(t, doc, tag("form"))
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	page := invitation()
	page.Scopes = []string{"account_update", "billing_data", "sms_data"}
	got := page.Permissions()
	if may := strings.Join(got.May, "\n"); !strings.Contains(may, "billing") || !strings.Contains(may, "Constant Contact calls “sms_data”") {
		t.Errorf("may:\n%s", may)
	}
	mayNot := strings.Join(got.MayNot, "\n")
	for _, want := range []string{"password", "contacts", "emails"} {
		if !strings.Contains(mayNot, want) {
			t.Errorf("%q should be promised to stay out of reach:\n%s", want, mayNot)
		}
	}
	for _, granted := range []string{"invoices", "address"} {
		if strings.Contains(mayNot, granted) {
			t.Errorf("%q is granted and promised to stay out of reach:\n%s", granted, mayNot)
		}
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	for _, outcome := range outcomes() {
		t.Run(string(outcome), func(t *testing.T) {
			t.Parallel()
			known := templates.ResultPage{Letterhead: letterhead(), Outcome: outcome, Client: "Acme Bakery", Found: "Acme Catering", Path: token}
			again := len(find(render(t, known), tag("form"), with("action", token+"/begin"))) == 1
			if again != known.Retry() {
				t.Errorf("offers another attempt: %v, want %v", again, known.Retry())
			}
			unknown := templates.ResultPage{Letterhead: letterhead(), Outcome: outcome}
			doc := render(t, unknown)
			hasNot(t, doc, tag("form"))
			if known.Title() == (templates.ResultPage{}).Title() && outcome != templates.OutcomeNone {
				t.Error("has no title of its own")
			}
		})
	}
	wrong := render(t, templates.ResultPage{Letterhead: letterhead(), Outcome: templates.OutcomeWrongAccount, Client: "Acme Bakery", Found: "Acme Catering", Path: token})
	says(t, wrong, "You signed in to the account of Acme Catering . We need the one of Acme Bakery")
}

func TestRequestForms(t *testing.T) {
	t.Parallel()
	for action, v := range map[string]templates.View{
		"/renew":       templates.LinkPage{Letterhead: letterhead(), Path: token},
		"/unsubscribe": templates.UnsubscribePage{Letterhead: letterhead(), Path: token, Client: "Acme Bakery"},
	} {
		one(t, render(t, v), tag("form"), with("method", "post"), with("action", token+action))
	}
}
