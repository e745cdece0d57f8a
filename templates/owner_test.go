package templates_test

import (
	"net/http"
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
			if jargon == "cookie" && strings.HasSuffix(s.name, "-no_cookies") {
				continue // Whose browser keeps none has to find the switch, which is called so.
			}
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
	for _, no := range []string{"/decline", "/not-me"} {
		if form := one(t, doc, tag("form"), with("method", "post"), with("action", token+no)); form.Parent.Data != "details" {
			t.Errorf("%s needs no second press", no)
		}
	}
	one(t, doc, tag("a"), with("href", token+"/refer"))
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
	throttled := templates.ResultPage{Letterhead: letterhead(), Outcome: templates.OutcomeThrottled, Back: token}
	one(t, render(t, throttled), tag("a"), with("href", token))
	wrong := render(t, templates.ResultPage{Letterhead: letterhead(), Outcome: templates.OutcomeWrongAccount, Client: "Acme Bakery", Found: "Acme Catering", Path: token})
	says(t, wrong, "You signed in to the account of Acme Catering . We need the one of Acme Bakery")
}

func TestRequestForms(t *testing.T) {
	t.Parallel()
	for action, v := range map[string]templates.View{
		"/renew":       templates.LinkPage{Letterhead: letterhead(), Path: token},
		"/unsubscribe": templates.UnsubscribePage{Letterhead: letterhead(), Path: token, Client: "Acme Bakery"},
		"/refer":       templates.ReferPage{Letterhead: letterhead(), Path: token, Client: "Acme Bakery"},
	} {
		one(t, render(t, v), tag("form"), with("method", "post"), with("action", token+action))
	}
}

func answerSamples() []sample {
	no := invitation()
	no.SaidNo = true
	wrong := referPage()
	wrong.Name, wrong.Email, wrong.Note = "Eve Moss", "eve@", "She does our mailings."
	wrong.NameError = "It has 201 characters. Please shorten it to 200."
	wrong.EmailError = "This is not a mail address: the domain is empty. Please write one such as ann@example.com."
	wrong.NoteError = "Some characters in it cannot be read. Please type it anew."
	all := []sample{{"invitation-said-no", no}, {"refer", referPage()}, {"refer-wrong", wrong}}
	for _, answer := range answers() {
		page := templates.AnswerPage{Letterhead: letterhead(), Answer: answer, Path: token, Client: "Acme Bakery", Named: "eve@acme-bakery.example"}
		all = append(all, sample{"answer-" + string(answer), page})
		page.Undo = "2026-11-23T09:41:00.123456Z"
		all = append(all, sample{"answer-undo-" + string(answer), page})
	}
	return all
}

func answers() []templates.Answer {
	return []templates.Answer{
		templates.AnswerDeclined, templates.AnswerNotMe, templates.AnswerReferred, templates.AnswerUnsubscribed, templates.AnswerUndone,
	}
}

func referPage() templates.ReferPage {
	return templates.ReferPage{Letterhead: letterhead(), Path: token, Client: "Acme Bakery"}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	for _, answer := range answers() {
		page := templates.AnswerPage{Letterhead: letterhead(), Answer: answer, Path: token, Client: "Acme Bakery", Named: "eve@acme-bakery.example"}
		if page.Title() == (templates.AnswerPage{}).Title() {
			t.Errorf("%s has no title of its own", answer)
		}
		doc := render(t, page)
		says(t, doc, "Acme Bakery")
		hasNot(t, doc, tag("form"))
		page.Undo = "2026-11-23T09:41:00.123456Z"
		undo := one(t, render(t, page), tag("form"), with("method", "post"), with("action", token+"/undo"))
		one(t, undo, tag("input"), with("name", "at"), with("value", page.Undo))
	}
	referred := render(t, templates.AnswerPage{Letterhead: letterhead(), Answer: templates.AnswerReferred, Path: token, Client: "Acme Bakery", Named: "eve@acme-bakery.example"})
	says(t, referred, "No mail has been sent to them")
}

// What was typed is not lost, and what is wrong with it stands where a screen reader reads it with the field.
func TestReferWrong(t *testing.T) {
	t.Parallel()
	page := referPage()
	page.Name, page.Email, page.Note = "Eve", "eve@", "She does our mailings."
	page.EmailError = "It has no domain."
	doc := render(t, page)
	if page.Status() != http.StatusUnprocessableEntity || referPage().Status() != http.StatusOK {
		t.Error("status", page.Status(), referPage().Status())
	}
	one(t, doc, tag("input"), with("name", "name"), with("value", "Eve"))
	one(t, doc, tag("input"), with("name", "email"), with("value", "eve@"), with("aria-invalid", "true"), with("aria-describedby", "email-error"))
	one(t, doc, having("aria-invalid"))
	says(t, one(t, doc, tag("textarea"), with("name", "note")), "She does our mailings.")
	says(t, one(t, doc, with("id", "email-error")), "It has no domain.")
}
