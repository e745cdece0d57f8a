package templates_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/templates"
)

// held is a grant of another account than the expected one.
func held() templates.Held {
	return templates.Held{
		ID: "0193d1", Client: templates.ClientName{ID: "0193a2", Name: "Nordlicht Yoga & Pilates GmbH"}, Ref: "NORD-7",
		OwnerEmail: "jens@nordlicht.example", Expected: "a07e1lyyyyy1", Reason: "wrong_account",
		Evidence:     "Another account than the expected a07e1lyyyyy1; the organization does not have the client's name.",
		Organization: "Nordlicht Verein e.V.", AccountID: "a07e1lzzzzz9", ContactEmail: "verein@nordlicht.example", Subject: "vera.holm", At: at(22, 17, 3),
	}
}

// claimed is one whose account belongs to another client.
func claimed() templates.Held {
	h := held()
	h.ID, h.Client, h.Ref, h.Expected, h.Reason = "0193d2", templates.ClientName{ID: "0193a6", Name: "Velo Café"}, "", "", "conflict"
	h.Belongs = templates.Choice{ClientName: templates.ClientName{ID: "0193a1", Name: "Acme Bakery"}, Ref: "ACME-1"}
	h.Organization, h.AccountID, h.ContactEmail, h.Subject = "Acme Bakery", "a07e1lxqqqo0", "", ""
	return h
}

func quarantineSamples() []sample {
	choices := []templates.Choice{claimed().Belongs, {ClientName: templates.ClientName{ID: "0193a9", Name: "Acme Books"}}}
	return []sample{
		{"quarantine", templates.QuarantinePage{Console: console(), Held: []templates.Held{held(), claimed()}, Next: "/admin/quarantine?after=x", Done: "It is discarded."}},
		{"quarantine-empty", templates.QuarantinePage{Console: console()}},
		{"quarantine-last", templates.QuarantinePage{Console: console(), Held: []templates.Held{claimed()}, Continued: true}},
		{"quarantine-refused", templates.QuarantinePage{Console: console(), Held: []templates.Held{held()}, One: true, Code: 409, Problem: "The grant stays in quarantine."}},
		{"quarantine-choices", templates.QuarantinePage{Console: console(), Held: []templates.Held{held()}, One: true, Typed: "acme", Choices: choices}},
	}
}

// What can be done depends on whose account it is.
func TestQuarantineButtons(t *testing.T) {
	t.Parallel()
	doc := render(t, templates.QuarantinePage{Console: console(), Held: []templates.Held{held(), claimed()}})
	var actions []string
	for _, form := range find(one(t, doc, tag("main")), tag("form")) {
		action, _ := attribute(form, "action")
		actions = append(actions, action)
	}
	slices.Sort(actions)
	want := []string{
		"/admin/quarantine/0193d1/accept", "/admin/quarantine/0193d1/discard", "/admin/quarantine/0193d1/move",
		"/admin/quarantine/0193d2/discard", "/admin/quarantine/0193d2/move",
	}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("forms (-want +got):\n%s", diff)
	}
	one(t, doc, tag("input"), with("name", "client"), with("value", "0193a1"))
	hasNot(t, doc, tag("input"), with("name", "from"))
	for _, phrase := range []string{
		"Nordlicht Yoga & Pilates GmbH gets the account a07e1lzzzzz9 instead of a07e1lyyyyy1 and is authorized with it.",
		"jens@nordlicht.example is told that Nordlicht Verein e.V. is connected", "Move it to Acme Bakery", "The account of another client consented",
		"Its tokens are destroyed",
	} {
		says(t, doc, phrase)
	}
	one(t, render(t, quarantined()), tag("form"), with("action", "/admin/quarantine/0193d1/accept"))
	if fields := find(render(t, quarantined()), tag("input"), with("name", "from"), with("value", "client")); len(fields) != 3 {
		t.Errorf("%d forms lead back to the client", len(fields))
	}
}
