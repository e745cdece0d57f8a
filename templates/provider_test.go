package templates_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/templates"
)

// troubled is a provider at which everything goes wrong that can.
func troubled() templates.ProviderPage {
	return templates.ProviderPage{
		Console: console(),
		Obstacles: []templates.Obstacle{
			{Kind: templates.ObstacleAppRefused, Since: at(23, 9, 0), Why: "refresh the tokens: the provider answered 401 invalid_client: The client secret is invalid."},
			{Kind: templates.ObstacleFrozen, Since: at(23, 8, 0), Why: "the provider refused to refresh 7 of 9 grants within an hour"},
			{Kind: templates.ObstacleQuotaExceeded, Until: at(24, 0, 0)},
			{Kind: templates.ObstacleThrottled, Until: at(23, 9, 41), Requests: true},
		},
		Calls:         templates.Budget{PerSecond: 4, PerDay: 10_000, Used: 1_234, Left: 8_766, Kept: 1_000, DayEnds: at(24, 0, 0), Throttled: 1, Denied: true},
		TokenRequests: templates.Budget{PerSecond: 1, Used: 57, DayEnds: at(24, 0, 0), Throttled: 12},
		Due:           10_000, DoneAt: at(23, 13, 11), NextAt: at(23, 9, 40), Doubted: 23, Quarantined: 2, MostCounted: 10_000,
		Doubtful: []templates.DoubtfulGrant{
			{Client: templates.ClientName{ID: "0193a1", Name: "Acme Bakery"}, Since: at(22, 15, 0), Refusals: 3, NextAt: at(23, 15, 0), Proven: true},
			{Client: templates.ClientName{ID: "0193a2", Name: "Nordlicht Yoga & Pilates GmbH"}, Since: at(23, 9, 0), Refusals: 1},
		},
		Refreshes: map[templates.RefreshOutcome]int{
			"refreshed": 1_204, "refused": 31, "unavailable": 4, "misconfigured": 1, "lost": 2, "superseded": 1,
		},
	}
}

func providerSamples() []sample {
	return []sample{
		{"provider", templates.ProviderPage{
			Console: console(), NextAt: at(23, 10, 2), Refreshes: map[templates.RefreshOutcome]int{"refreshed": 3},
			Calls:         templates.Budget{PerSecond: 4, PerDay: 10_000, Used: 96, Left: 9_904, Kept: 1_000, DayEnds: at(24, 0, 0)},
			TokenRequests: templates.Budget{PerSecond: 1, Used: 51, DayEnds: at(24, 0, 0)},
		}},
		{"provider-troubled", troubled()},
		{"provider-unlimited", templates.ProviderPage{Console: console(), Due: 3}},
		{"provider-off", templates.ProviderPage{Console: console(), NoApp: true}},
		{"progress-troubled", templates.ProgressPage{Console: console(), Progress: progress(), Obstacles: troubled().Obstacles}},
	}
}

func TestProvider(t *testing.T) {
	t.Parallel()
	doc := render(t, troubled())
	for _, phrase := range []string{
		"The provider refuses this app", "401 invalid_client", "Compare COUNTERSIGN_OAUTH_CLIENT_ID and COUNTERSIGN_OAUTH_CLIENT_SECRET",
		"The provider refuses many grants at once", "7 of 9 grants within an hour",
		"The provider says that today’s calls are used up", "Token requests pause", "COUNTERSIGN_PROVIDER_TOKEN_RATE is too high",
		"8,766 of 10,000 left by our own count", "Used 1,234", "Free 7,766", "Kept for owners who consent 1,000", "At most 4 a second", "Over the limit Once today",
		"10,000 or more , all refreshed by about", "Token requests 57 , at most 1 a second", "Over the limit 12 times today", "2 to decide on",
		"Acme Bakery", "Refused 3 times since", "The provider may be out of order.",
		"Refused once since", "It is being tried again.", "It was never refreshed. Perhaps whoever consented had come in through a partner’s login",
		"There are 23 in all", "1,204 Refreshed", "31 The grant was refused", "1 The app was refused", "4 The provider could not answer", "2 The answer was lost", "1 Came too late",
	} {
		says(t, doc, phrase)
	}
	one(t, doc, tag("a"), with("href", "/admin/clients/0193a1"))
	one(t, doc, tag("a"), with("href", "/admin/quarantine"))
	hasNot(t, doc, with("class", "banner authorized"))

	calm := render(t, templates.ProviderPage{Console: console(), NextAt: at(23, 10, 2)})
	says(t, calm, "Nothing stands in the way")
	says(t, calm, "All grants are kept alive.")
	says(t, calm, "Next one 23 Nov 2026, 10:02 UTC")
	says(t, calm, "No limits are set, so that calls are not counted.")
	off := render(t, templates.ProviderPage{Console: console(), NoApp: true})
	says(t, off, "No app at the provider is set up.")
	hasNot(t, off, with("id", "standing"))
}

// The bar never says more than there is, whatever the limits were before.
func TestBudgetShares(t *testing.T) {
	t.Parallel()
	for _, b := range []templates.Budget{
		{},
		{PerDay: 100, Used: 20, Left: 80, Kept: 10},
		{PerDay: 100, Used: 95, Left: 5, Kept: 5},
		{PerDay: 100, Used: 250},
	} {
		shares := b.Shares()
		if shares.Used < 0 || shares.Kept < 0 || shares.Used > shares.KeptFrom || shares.KeptFrom+shares.Kept != 100 || b.Free() < 0 {
			t.Errorf("%+v has the shares %+v", b, shares)
		}
	}
}

// The page of the progress says what stands in the way, and leads to where it is explained.
func TestProgressWarns(t *testing.T) {
	t.Parallel()
	p := templates.ProgressPage{Console: console(), Progress: progress(), Obstacles: troubled().Obstacles}
	doc := render(t, p)
	notes := find(one(t, doc, with("class", "obstacles")), tag("li"))
	if len(notes) != len(p.Obstacles) {
		t.Fatalf("%d warnings, want %d", len(notes), len(p.Obstacles))
	}
	for i, o := range p.Obstacles {
		class, _ := attribute(notes[i], "class")
		if alarm := strings.Contains(class, "bad"); alarm != o.Alarm() {
			t.Errorf("%s is an alarm: %t", o.Kind, alarm)
		}
		says(t, notes[i], o.Heading())
		one(t, notes[i], tag("a"), with("href", "/admin/provider"))
	}
	hasNot(t, render(t, templates.ProgressPage{Console: console(), Progress: progress()}), with("class", "obstacles"))
}
