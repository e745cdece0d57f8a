package templates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/templates"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	doc := render(t, templates.ProgressPage{Console: console(), Progress: progress()})
	if got := text(one(t, doc, tag("h1"))); got != "37 of 120 connected" {
		t.Errorf("headline %q", got)
	}
	for link, want := range map[string]string{
		"/admin/clients?stage=invited":                      "Invited 54 45 %",
		"/admin/clients?stage=stalled":                      "Stalled 14",
		"/admin/clients?stage=stalled&reason=wrong_account": "5 Wrong account",
	} {
		if got := text(one(t, doc, tag("a"), with("href", link))); got != want {
			t.Errorf("%s says %q, want %q", link, got, want)
		}
	}
	says(t, doc, "countersign invite --stage lapsed")
	one(t, doc, tag("a"), with("href", "/admin/clients/0193a4"))
	chart := one(t, doc, tag("svg"), with("role", "img"))
	if got := len(find(chart, tag("rect"))); got != 14 {
		t.Errorf("%d days in the chart", got)
	}
	if words, _ := attribute(chart, "aria-label"); !strings.Contains(words, "13 Nov 9") {
		t.Errorf("the chart reads %q", words)
	}
}

func TestStallsBeginWithTheLargest(t *testing.T) {
	t.Parallel()
	var got []string
	for _, stall := range progress().Stalls() {
		got = append(got, string(stall.Stage)+" "+string(stall.Reason))
	}
	want := []string{
		"stalled wrong_account", "stalled bounced", "stalled declined", "stalled expired",
		"stalled conflict", "stalled missing_scope", "lapsed ", "imported ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The page replaces the inside of an element by what the fragment's address answers: they have to
// be the same, or the first poll would make the page jump.
func TestFragmentIsThePartOfThePage(t *testing.T) {
	t.Parallel()
	view := templates.ProgressPage{Console: console(), Progress: progress()}
	var b strings.Builder
	if err := newSet(t).Fragment(&b, view); err != nil {
		t.Fatal(err)
	}
	polled := one(t, render(t, view), with("data-hx-get", "/admin/progress"))
	var inside strings.Builder
	for n := range polled.ChildNodes() {
		inside.WriteString(source(n))
	}
	fragment := one(t, parse(t, b.String()), tag("body"))
	var alone strings.Builder
	for n := range fragment.ChildNodes() {
		alone.WriteString(source(n))
	}
	if diff := cmp.Diff(strings.TrimSpace(inside.String()), strings.TrimSpace(alone.String())); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyRosterExplainsTheImport(t *testing.T) {
	t.Parallel()
	doc := render(t, templates.ProgressPage{Console: console()})
	says(t, doc, "countersign import roster.csv --invite")
	for _, column := range []string{"name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags"} {
		says(t, one(t, doc, tag("table")), column)
	}
}

func TestSharesFillTheBar(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := templates.Progress{Stages: map[templates.Stage]int{}}
		for _, stage := range (templates.ClientsPage{}).StageOptions() {
			p.Stages[stage] = rapid.IntRange(0, 200_000).Draw(t, string(stage))
		}
		end := 0.0
		for _, share := range p.Shares() {
			if diff := share.From - end; diff > 1e-9 || diff < -1e-9 {
				t.Fatalf("%s begins at %g, not at %g", share.Stage, share.From, end)
			}
			end = share.From + share.Width
			percent := share.Percent()
			if (percent == 0) != (share.N == 0) || (percent == 100) != (share.N > 0 && share.N == p.Total()) {
				t.Fatalf("%d of %d is said to be %d %%", share.N, p.Total(), percent)
			}
		}
		if p.Total() > 0 && (end < 100-1e-9 || end > 100+1e-9) {
			t.Fatalf("the bar ends at %g", end)
		}
		for _, bar := range p.Chart().Bars {
			if bar.Y < 0 || bar.Height <= 0 {
				t.Fatalf("bar %+v", bar)
			}
		}
	})
}

func TestClients(t *testing.T) {
	t.Parallel()
	page := templates.ClientsPage{
		Console: console(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
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
