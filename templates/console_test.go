package templates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/countersign/countersign/templates"
)

func TestClients(t *testing.T) {
	t.Parallel()
	page := templates.ClientsPage{
		Console: console(), Columns: templates.UsualColumns(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
		Filter: templates.Filter{Stage: "stalled", Reason: "wrong_account"}, Clients: clients()[1:2], Next: "/admin/clients?cursor=abc&stage=stalled", Continued: true,
	}
	doc := render(t, page)
	one(t, doc, tag("form"), with("method", "get"), with("action", "/admin/clients"))
	var chosen []string
	for _, option := range find(doc, tag("option"), having("selected")) {
		chosen = append(chosen, text(option))
	}
	if diff := cmp.Diff([]string{"Stalled (14)", "Wrong account (5)"}, chosen); diff != "" {
		t.Error(diff)
	}
	row := one(t, one(t, doc, tag("tbody")), tag("tr"))
	for _, want := range []string{"Nordlicht Yoga & Pilates GmbH", "NORD-7", "Jens Petersen", "jens@nordlicht.example", "agency+nordlicht-yoga-pilates@brightside.example", "Stalled", "Wrong account"} {
		says(t, row, want)
	}
	one(t, row, tag("a"), with("href", "/admin/clients/0193a2"))
	one(t, row, tag("use"), with("href", "#i-stalled"))
	one(t, doc, tag("a"), with("rel", "next"), with("href", page.Next))
	one(t, doc, tag("a"), with("href", "/admin/clients?reason=wrong_account&stage=stalled"))
}

func TestMatching(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		filter templates.Filter
		want   int
	}{
		{templates.Filter{}, 120},
		{templates.Filter{Stage: "invited"}, 54},
		{templates.Filter{Reason: "bounced"}, 3},
		{templates.Filter{Stage: "stalled", Reason: "bounced"}, 3},
		{templates.Filter{Stage: "invited", Reason: "bounced"}, 0},
		{templates.Filter{Q: "a", Stage: "invited"}, -1},
	} {
		page := templates.ClientsPage{Filter: tt.filter, Total: 120, Stages: progress().Stages, Reasons: progress().Reasons}
		if got := page.Matching(); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.filter, got, tt.want)
		}
	}
}

// Whatever stands still or moves is explained, and each stage has a shape to tell it by.
func TestWordsAreComplete(t *testing.T) {
	t.Parallel()
	page := templates.ClientsPage{Console: console()}
	doc := render(t, page)
	for _, stage := range page.StageOptions() {
		if stage.Label() == "" || stage.Meaning() == "" {
			t.Errorf("no words for %s", stage)
		}
		one(t, doc, tag("symbol"), with("id", "i-"+string(stage)))
	}
	for _, reason := range page.ReasonOptions() {
		if reason.Label() == "" || reason.Meaning() == "" || reason.Cure() == "" {
			t.Errorf("no words for %s", reason)
		}
	}
	if got := templates.Stage("brand_new").Label(); got != "Brand new" {
		t.Errorf("an unknown stage is labelled %q", got)
	}
}

func TestNavigationMarksTheSection(t *testing.T) {
	t.Parallel()
	for section, v := range map[string]templates.View{
		"Progress": templates.ProgressPage{Console: console()},
		"Clients":  clientPage(clients()[0]),
		"Imports":  templates.ImportsPage{Console: console()},
	} {
		doc := render(t, v)
		if got := text(one(t, doc, with("aria-current", "page"))); got != section {
			t.Errorf("%T stands under %q", v, got)
		}
		one(t, doc, tag("form"), with("method", "post"), with("action", "/admin/sign-out"))
		says(t, doc, "Sam Okafor")
	}
}

func TestSignInFields(t *testing.T) {
	t.Parallel()
	names := func(doc *html.Node) (names []string) {
		for _, field := range find(doc, tag("input")) {
			name, _ := attribute(field, "name")
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	if diff := cmp.Diff([]string{"email", "password"}, names(render(t, templates.SignInPage{Gate: gate()}))); diff != "" {
		t.Error(diff)
	}
	setup := render(t, templates.SetupPage{Gate: gate(), Path: "/admin/setup/x", PasswordMin: 12, NameError: "Please give a name."})
	if diff := cmp.Diff([]string{"email", "name", "password"}, names(setup)); diff != "" {
		t.Error(diff)
	}
	one(t, setup, with("aria-describedby", "name-help name-error"), with("aria-invalid", "true"))
	entry := render(t, templates.EntryPage{Gate: gate(), Path: "/admin/entry/x"})
	one(t, entry, tag("form"), having("data-submit"), with("method", "post"), with("action", "/admin/entry/x"))
}

func TestErrorPageKeepsTheNumberToItself(t *testing.T) {
	t.Parallel()
	says(t, render(t, templates.ErrorPage{Gate: gate(), Code: 500, ID: "01JD8W2K"}), "01JD8W2K")
	missing := render(t, templates.ErrorPage{Gate: gate(), Code: 404, ID: "01JD8W2K"})
	if strings.Contains(text(missing), "01JD8W2K") {
		t.Error("a page that is not found is nobody's error")
	}
	hasNot(t, missing, tag("a"), with("href", "/admin"))
}
