package templates_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/templates"
)

// compared is a comparison that found something of each kind.
func compared() templates.ReconcilePage {
	p := templates.ReconcilePage{
		Console: console(), Provider: "Constant Contact", ID: "0193d1", Actor: "sam@brightside.example", At: at(23, 9, 0),
		Clients: 1240, Accounts: 1310, AddTakes: 40 * time.Second,
	}
	client := templates.Finding{
		ClientID: "0193a1", Client: "Acme Bakery", Ref: "ACME-1", OwnerEmail: "maria@acme-bakery.example", Why: "The provider lists no account of this name.",
	}
	account := templates.Finding{AccountID: "a07e1lxqqqo0", Organization: "ACME BAKERY", Status: "Open", Why: "The account is managed."}
	both := client
	both.AccountID, both.Organization, both.Status, both.Why = account.AccountID, account.Organization, "Trial End", "Both have this name."
	for _, kind := range templates.FindingKinds() {
		found := templates.Findings{Kind: kind, N: 1, Rows: []templates.Finding{both}}
		switch kind {
		case templates.FindingAddable:
			found = templates.Findings{Kind: kind, N: 150, Rows: []templates.Finding{account}}
		case templates.FindingProviderOnly:
			found.Rows = nil // none of them is among the first
		case "roster_only":
			found.Rows = []templates.Finding{client}
		case "ambiguous":
			found = templates.Findings{Kind: kind, N: 2, Rows: []templates.Finding{client, account}}
		}
		p.Kinds = append(p.Kinds, found)
	}
	return p
}

// added is compared after accounts were added.
func added() templates.ReconcilePage {
	p := compared()
	p.Steps, p.Applied, p.By, p.ByAt = 2, templates.StepAdd, "ada@brightside.example", at(23, 9, 30)
	p.Imports = []templates.Import{{ID: "0193b3", Rows: 500, Created: 498, Rejected: 2}, {ID: "0193b4", Rows: 20, Created: 20}}
	p.Held, p.Holds = 2, p.Kinds[1].Rows
	return p
}

func reading() templates.ReconcilePage {
	p := compared()
	p.Kinds, p.Reading, p.Done = nil, true, 2400
	return p
}

func reconcileSamples() []sample {
	filled, adding, failed, equal, locked, rereading := added(), compared(), added(), compared(), compared(), reading()
	filled.Applied, filled.Held, filled.Imports = templates.StepFill, 0, []templates.Import{{ID: "0193b3", Rows: 1, Updated: 1}}
	adding.Applying, adding.Done, adding.Total, adding.By, adding.ByAt = templates.StepAdd, 12, 40, "Sam", at(23, 9, 30)
	adding.Left = 3 * time.Hour
	failed.Problem = "The calls of today are used up."
	equal.Kinds = equal.Kinds[len(equal.Kinds)-1:]
	locked.NoImport = "Nothing can be applied yet."
	rereading.Total, rereading.Left = 6000, 75*time.Second
	refused := templates.ReconcilePage{Console: console(), Provider: "Constant Contact", ID: "0193d1", At: at(23, 9, 0), Problem: "The key is wrong."}
	return []sample{
		{"reconcile", templates.ReconcilePage{Console: console(), Provider: "Constant Contact"}},
		{"reconcile-off", templates.ReconcilePage{Console: console(), Provider: "Constant Contact", Settings: []string{"COUNTERSIGN_PARTNER_CLIENT_ID"}}},
		{"reconcile-reading", reading()},
		{"reconcile-reading-again", rereading},
		{"reconcile-refused", refused},
		{"reconcile-compared", compared()},
		{"reconcile-equal", equal},
		{"reconcile-locked", locked},
		{"reconcile-adding", adding},
		{"reconcile-filled", filled},
		{"reconcile-added", added()},
		{"reconcile-failed", failed},
	}
}

func TestReconcileShowsHowFarItIs(t *testing.T) {
	t.Parallel()
	doc := render(t, reading())
	frame := one(t, doc, with("id", "reconcile"), with("data-hx-get", "/admin/reconcile"), with("data-hx-select", "#reconcile"))
	says(t, frame, "2,400 accounts so far")
	hasNot(t, frame, tag("form", "progress"))
	one(t, frame, tag("noscript"))

	p := reading()
	p.Total, p.Left = 6000, 75*time.Second
	doc = render(t, p)
	one(t, doc, tag("progress"), with("value", "2400"), with("max", "6000"))
	says(t, doc, "2,400 of about 6,000")
	says(t, doc, "It takes about 80 seconds more.")

	hasNot(t, render(t, compared()), having("data-hx-get"))
}

func TestReconcileOffersWhatCanBeDone(t *testing.T) {
	t.Parallel()
	doc := render(t, added())
	for action, words := range map[string]string{
		"/admin/reconcile/0193d1/fill?seen=2": "Fill in 1 account id",
		"/admin/reconcile/0193d1/add?seen=2":  "Add 150 managed accounts",
		"/admin/reconcile":                    "Read the list again",
	} {
		form := one(t, doc, tag("form"), with("action", action), with("method", "post"))
		if got := text(one(t, form, tag("button"))); got != words {
			t.Errorf("%s says %q, want %q", action, got, words)
		}
	}
	download := one(t, doc, tag("a"), with("href", "/admin/reconcile/0193d1/missing.csv"), having("download"))
	if got := text(download); got != "Download 151 missing accounts" {
		t.Errorf("the download says %q", got)
	}
	one(t, doc, tag("button"), with("class", "primary"))
	says(t, doc, "which takes about 40 seconds")
	says(t, doc, "Only at the provider, managed: the first 1 of 150")
	says(t, doc, "They are in the file of missing accounts.")
	says(t, doc, "518 clients added")
	says(t, doc, "Held back: the first 1 of 2 accounts")
	one(t, doc, tag("a"), with("href", "/admin/imports/0193b3/rejects.csv"), having("download"))

	p := compared()
	p.NoImport = "Nothing can be applied yet."
	doc = render(t, p)
	says(t, doc, "Nothing can be applied yet.")
	if forms := find(one(t, doc, tag("main")), tag("form")); len(forms) != 1 {
		t.Errorf("%d forms, want the one to read again", len(forms))
	}
}

func TestReconcileHasWordsForEveryKind(t *testing.T) {
	t.Parallel()
	for _, kind := range templates.FindingKinds() {
		if kind.Label() == "" || kind.Meaning() == "" {
			t.Errorf("no words for %s", kind)
		}
	}
	if got := templates.FindingKind("half_listed").Label(); got != "Half listed" {
		t.Errorf("a new kind is called %q", got)
	}
}
