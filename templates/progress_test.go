package templates_test

import (
	"html/template"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/templates"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	doc := render(t, progressPage())
	if got := text(one(t, doc, tag("h1"))); got != "37 of 120 connected" {
		t.Errorf("headline %q", got)
	}
	for link, want := range map[string]string{
		"/admin/clients?stage=invited":                                     "Invited 54 45 %",
		"/admin/clients?stage=stalled":                                     "Stalled 14",
		"/admin/clients?paused=yes":                                        "Paused 2",
		"/admin/clients?reason=wrong_account&stage=stalled":                "5 Wrong account",
		"/admin/bulk/new?action=invite&all=1&reason=expired&stage=stalled": "Invite again",
		"/admin/bulk/new?action=invite&all=1&stage=lapsed":                 "Send fresh links",
		"/admin/clients?from=2026-11-13&stage=authorized&until=2026-11-13": "9",
		"/admin/clients/0193a1":                                            "Acme Bakery",
	} {
		found := find(doc, tag("a"), with("href", link))
		if len(found) == 0 || text(found[0]) != want {
			t.Errorf("%d links to %s, want one that says %q", len(found), link, want)
		}
	}
	for _, vital := range []string{"31 % of the roster", "14 December 2026", "8,412 left", "of 10,000 at the provider", "12 waiting", "54 sent today"} {
		says(t, doc, vital)
	}
	hasNot(t, doc, with("id", "steps"))
	if got := len(find(one(t, doc, with("class", "days")), tag("rect"))); got != 12 {
		t.Errorf("%d days in the chart, want those since the first on which somebody was authorized", got)
	}
}

// The first day of all looks like the begin of something.
func TestChartOfANewProject(t *testing.T) {
	t.Parallel()
	var p templates.Progress
	for i := range 30 {
		p.PerDay = append(p.PerDay, templates.Day{Day: at(1, 0, 0).AddDate(0, 0, i)})
	}
	p.PerDay[29].Authorized = 1
	c := p.Chart()
	if len(c.Bars) != 7 || c.Bars[0].Day != p.PerDay[23] {
		t.Fatalf("%d bars, from %v", len(c.Bars), c.Bars[0].Day)
	}
	if last := c.Bars[6]; last.Height > float64(c.Height)/2 || last.Height <= c.Bars[5].Height {
		t.Errorf("one authorization is %g of %d high, none is %g", last.Height, c.Height, c.Bars[5].Height)
	}
}

func TestStallsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	var got []string
	for _, stall := range progress().Stalls() {
		got = append(got, string(stall.Stage)+" "+string(stall.Reason))
		if stall.Label() == "" || stall.Meaning() == "" || stall.Cure() == "" || stall.Remedy().Words == "" {
			t.Errorf("no words for %+v", stall)
		}
	}
	want := []string{
		"stalled wrong_account", "stalled conflict", "stalled bounced", "stalled declined", "stalled missing_scope",
		"stalled expired", "lapsed ", "imported ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The page replaces the inside of an element by what the fragment's address answers: they have to
// be the same, or the first update would make the page jump.
func TestFragmentIsThePartOfThePage(t *testing.T) {
	t.Parallel()
	view := progressPage()
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

// What was rendered before is taken as it is.
func TestReadyFragment(t *testing.T) {
	t.Parallel()
	doc := render(t, templates.ProgressPage{Console: console(), Ready: template.HTML("<h1>Ready</h1>"), State: "abc"})
	if got := text(one(t, one(t, doc, with("data-shown", "abc")), tag("h1"))); got != "Ready" {
		t.Errorf("the page says %q", got)
	}
}

func TestEmptyRosterTeaches(t *testing.T) {
	t.Parallel()
	doc := render(t, templates.ProgressPage{Console: console(), Most: 5 << 20, Mail: templates.MailStanding{NoServer: true}})
	says(t, doc, "countersign import roster.csv --invite")
	for _, column := range []string{"name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags"} {
		says(t, one(t, doc, tag("table")), column)
	}
	form := one(t, doc, tag("form"), with("action", "/admin/imports"), with("data-upload", "5242880"))
	one(t, form, tag("input"), with("type", "file"))
	var steps []string
	for _, step := range find(one(t, doc, with("class", "steps")), tag("li")) {
		link := ""
		for _, a := range find(step, tag("a")) {
			link, _ = attribute(a, "href")
		}
		steps = append(steps, strings.TrimSpace(text(step)+" "+link))
	}
	want := []string{
		"Done: Say which mailbox the agency has", "Done: Set up the app at the provider", "Set up a mail server /admin/mail",
		"Import the roster /admin/imports", "Invite the owners /admin/bulk/new?action=invite&all=1&stage=imported",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Error(diff)
	}
	doc = render(t, templates.ProgressPage{Console: console(), NoMailbox: true})
	hasNot(t, doc, tag("form"), with("action", "/admin/imports"))
	says(t, doc, "COUNTERSIGN_AGENCY_MAILBOX")
}

func TestVitals(t *testing.T) {
	t.Parallel()
	some := templates.Progress{Stages: map[templates.Stage]int{"authorized": 1, "invited": 1}}
	for _, tt := range []struct {
		page templates.ProgressPage
		says []string
	}{
		{templates.ProgressPage{Progress: some, NoApp: true}, []string{"Nobody knows", "no app is set up", "First steps"}},
		{templates.ProgressPage{Progress: templates.Progress{Stages: map[templates.Stage]int{"authorized": 2}}}, []string{"nobody is left", "No limit"}},
		{templates.ProgressPage{Progress: some, Calls: templates.Budget{PerSecond: 4, Used: 7}}, []string{"7 made"}},
		{templates.ProgressPage{Progress: some, Mail: templates.MailStanding{Paused: true, Waiting: 10_000, MostCounted: 10_000}}, []string{"10,000+ waiting", "paused"}},
		{templates.ProgressPage{Progress: some, Mail: templates.MailStanding{NoServer: true}}, []string{"no server"}},
	} {
		doc := render(t, tt.page)
		for _, phrase := range tt.says {
			says(t, doc, phrase)
		}
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
