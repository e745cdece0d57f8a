package templates_test

import (
	"time"

	"github.com/countersign/countersign/templates"
)

// sample is one state of a page that an owner or an operator can meet.
type sample struct {
	name string
	view templates.View
}

func letterhead() templates.Letterhead {
	return templates.Letterhead{
		Agency:       "Brightside Marketing",
		ReplyTo:      "hello@brightside.example",
		Provider:     "Constant Contact",
		ProviderHost: "constantcontact.com",
		Host:         "connect.brightside.example",
	}
}

func at(day, hour, minute int) time.Time {
	return time.Date(2026, time.November, day, hour, minute, 0, 0, time.UTC)
}

const token = "/i/4kXq2mNf7Zt9Wc1sRb8Yh3"

func scopes() []string {
	return []string{"account_read", "contact_data", "campaign_data", "offline_access"}
}

func invitation() templates.InvitationPage {
	return templates.InvitationPage{
		Letterhead: letterhead(), Path: token, Client: "Acme Bakery", OwnerName: "Maria Rossi",
		OwnerEmail: "maria@acme-bakery.example", Scopes: scopes(), ExpiresAt: at(23, 9, 0).AddDate(0, 0, 30),
	}
}

func clients() []templates.Client {
	return []templates.Client{
		{
			ID: "0193a1", Ref: "ACME-1", Name: "Acme Bakery", OwnerName: "Maria Rossi", OwnerEmail: "maria@acme-bakery.example",
			AccountID: "a07e1lxqqqo0", Username: "agency+acme-bakery@brightside.example", Route: "owner", Stage: "authorized",
			SiteURL: "https://acme-bakery.example", Locale: "en-US", TimeZone: "America/New_York", Tags: []string{"food", "east"},
			Extra:     []templates.Field{{Name: "Plan", Value: "Gold"}},
			CreatedAt: at(12, 8, 0), ChangedAt: at(23, 9, 41), InvitedAt: at(12, 8, 2), StartedAt: at(23, 9, 40), AuthorizedAt: at(23, 9, 41),
		},
		{
			ID: "0193a2", Ref: "NORD-7", Name: "Nordlicht Yoga & Pilates GmbH", OwnerName: "Jens Petersen", OwnerEmail: "jens@nordlicht.example",
			AccountID: "a07e1lyyyyy1", Username: "agency+nordlicht-yoga-pilates@brightside.example", Route: "owner", Stage: "stalled", Reason: "wrong_account",
			CreatedAt: at(12, 8, 0), ChangedAt: at(22, 17, 3), InvitedAt: at(12, 8, 2), StartedAt: at(22, 17, 1),
		},
		{
			ID: "0193a3", Name: "Harbour Dental", OwnerEmail: "office@harbour-dental.example",
			Username: "agency+harbour-dental@brightside.example", Route: "owner", Stage: "invited", Paused: true,
			CreatedAt: at(12, 8, 0), ChangedAt: at(12, 8, 2), InvitedAt: at(12, 8, 2),
		},
		{
			ID: "0193a4", Ref: "K-2201", Name: "Kowalski & Sons Roofing", OwnerName: "Anna Kowalski", OwnerEmail: "anna@kowalski-roofing.example",
			Username: "agency+kowalski-sons-roofing@brightside.example", Route: "manager", Stage: "started", ChangedAt: at(23, 9, 12), CreatedAt: at(12, 8, 0),
		},
		{
			ID: "0193a5", Ref: "K-2202", Name: "Little Oaks Nursery", OwnerName: "Priya Nair", OwnerEmail: "priya@littleoaks.example",
			Username: "agency+little-oaks-nursery@brightside.example", Route: "owner", Stage: "imported", ChangedAt: at(12, 8, 0), CreatedAt: at(12, 8, 0),
		},
		{
			ID: "0193a6", Ref: "K-2203", Name: "Velo Café", OwnerName: "Luc Moreau", OwnerEmail: "luc@velo-cafe.example",
			Username: "agency+velo-cafe@brightside.example", Route: "owner", Stage: "lapsed", ChangedAt: at(20, 11, 30), CreatedAt: at(12, 8, 0),
		},
	}
}

func console() templates.Console {
	return templates.Console{Agency: "Brightside Marketing", Operator: "Sam Okafor"}
}

func progress() templates.Progress {
	p := templates.Progress{
		Stages: map[templates.Stage]int{
			"imported": 8, "invited": 54, "started": 6, "authorized": 37, "lapsed": 1, "stalled": 14,
		},
		Reasons: map[templates.Reason]int{"bounced": 3, "wrong_account": 5, "declined": 2, "expired": 2, "missing_scope": 1, "conflict": 1},
		Paused:  2, InvitedEver: 112, ETA: at(23, 0, 0).AddDate(0, 0, 21),
		Events: []templates.Event{
			{At: at(23, 9, 41), ClientID: "0193a1", Client: "Acme Bakery", What: "Connected", Actor: "Owner", Stage: "authorized"},
			{At: at(23, 9, 40), ClientID: "0193a1", Client: "Acme Bakery", What: "Pressed Continue", Actor: "Owner", Stage: "started"},
			{At: at(23, 9, 12), ClientID: "0193a4", Client: "Kowalski & Sons Roofing", What: "Pressed Continue", Actor: "Owner", Stage: "started"},
			{At: at(22, 17, 3), ClientID: "0193a2", Client: "Nordlicht Yoga & Pilates GmbH", What: "Signed in to another account than expected", Actor: "Owner", Stage: "stalled", Reason: "wrong_account"},
			{At: at(22, 15, 0), ClientID: "0193a9", Client: "Maple Street Books", What: "Mail refused: the address does not work", Actor: "Countersign", Stage: "stalled", Reason: "bounced"},
			{At: at(21, 8, 0), What: "Imported", Actor: "Sam Okafor"},
		},
	}
	for i, n := range []int{0, 0, 4, 9, 6, 3, 0, 1, 5, 2, 3, 1, 0, 3} {
		p.PerDay = append(p.PerDay, templates.Day{Day: at(10+i, 0, 0), Authorized: n})
	}
	return p
}

func clientPage(client templates.Client) templates.ClientPage {
	return templates.ClientPage{
		Console: console(), Provider: "Constant Contact", Client: client, CanRename: true,
		Mails: []templates.Mail{{
			Kind: "invitation", State: "sent", To: client.OwnerEmail, QueuedAt: at(12, 8, 1), TriedAt: at(12, 8, 2), SentAt: at(12, 8, 2), Attempts: 1,
		}},
		Events: []templates.Event{
			{At: at(23, 9, 40), What: "Pressed Continue", Actor: "Owner", Stage: "started"},
			{At: at(12, 8, 2), What: "Invitation sent", Actor: "Countersign", Stage: "invited"},
			{At: at(12, 8, 0), What: "Imported", Actor: "Sam Okafor", Stage: "imported"},
		},
	}
}

// samples are all pages in all their states.
func samples() []sample {
	all := []sample{
		{"invitation", invitation()},
		{"link", templates.LinkPage{Letterhead: letterhead(), Path: token}},
		{"renewed", templates.RenewedPage{Letterhead: letterhead()}},
		{"unsubscribe", templates.UnsubscribePage{Letterhead: letterhead(), Path: token, Client: "Acme Bakery"}},
		{"unsubscribe-unknown", templates.UnsubscribePage{Letterhead: letterhead(), Path: token}},

		{"sign-in", templates.SignInPage{Gate: gate()}},
		{"setup", templates.SetupPage{Gate: gate(), Path: "/admin/setup/x7", PasswordMin: 12}},
		{"setup-refused", templates.SetupPage{
			Gate: gate(), Path: "/admin/setup/x7", PasswordMin: 12, Email: "sam@", Name: "",
			EmailError: "This is not an e-mail address.", NameError: "Please give a name.", PasswordError: "This is too short.",
		}},
		{"entry", templates.EntryPage{Gate: gate(), Path: "/admin/entry/x7"}},
		{"entry-used", templates.EntryUsedPage{Gate: gate()}},

		{"progress", templates.ProgressPage{Console: console(), Progress: progress()}},
		{"progress-empty", templates.ProgressPage{Console: console()}},
		{"progress-done", templates.ProgressPage{Console: console(), Progress: templates.Progress{Stages: map[templates.Stage]int{"authorized": 1200}}}},
		{"clients", templates.ClientsPage{
			Console: console(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Clients: clients(), Next: "/admin/clients?cursor=abc",
		}},
		{"clients-search", templates.ClientsPage{
			Console: console(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Filter: templates.Filter{Q: "bakery"}, Clients: clients()[:1],
		}},
		{"clients-none", templates.ClientsPage{
			Console: console(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Filter: templates.Filter{Q: "zzz", Stage: "stalled", Reason: "bounced"},
		}},
		{"clients-last", templates.ClientsPage{
			Console: console(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Filter: templates.Filter{Stage: "stalled"}, Clients: clients()[1:2], Continued: true,
		}},
		{"clients-empty", templates.ClientsPage{Console: console()}},
	}

	all = append(all, answerSamples()...)
	all = append(all, importSamples()...)
	all = append(all, reconcileSamples()...)
	all = append(all, mailroomSamples()...)
	all = append(all, quarantineSamples()...)
	all = append(all, providerSamples()...)

	connected := invitation()
	connected.ConnectedAt = at(12, 9, 0)
	all = append(all, sample{"invitation-connected", connected})
	for _, outcome := range outcomes() {
		again := invitation()
		again.LastOutcome, again.Found = outcome, "Acme Catering"
		result := templates.ResultPage{Letterhead: letterhead(), Outcome: outcome, Client: "Acme Bakery", Found: "Acme Catering", Scopes: scopes(), Path: token}
		unknown := templates.ResultPage{Letterhead: letterhead(), Outcome: outcome}
		all = append(
			all,
			sample{"invitation-after-" + string(outcome), again},
			sample{"result-" + string(outcome), result},
			sample{"result-unknown-browser-" + string(outcome), unknown},
		)
	}

	for _, problem := range []templates.SignInProblem{
		templates.SignInWrong, templates.SignInThrottled, templates.SignInEnded, templates.SignedOut,
	} {
		all = append(all, sample{"sign-in-" + string(problem), templates.SignInPage{Gate: gate(), Email: "sam@brightside.example", Problem: problem}})
	}
	for _, client := range clients() {
		all = append(all, sample{"client-" + string(client.Stage), clientPage(client)})
	}
	all = append(all, sample{"client-full", fullClient()}, sample{"client-quarantined", quarantined()})
	all = append(all, clientSamples()...)
	for code, name := range map[int]string{
		400: "bad", 403: "forbidden", 404: "not-found", 405: "method", 413: "too-large", 429: "throttled", 500: "internal", 503: "unavailable",
	} {
		all = append(all, sample{"error-" + name, templates.ErrorPage{Gate: gate(), Code: code, ID: "01JD8W2K", Home: "/admin"}})
	}
	return all
}

func outcomes() []templates.Outcome {
	return []templates.Outcome{
		templates.OutcomeNone, templates.OutcomeConnected, templates.OutcomeDenied,
		templates.OutcomeWrongAccount, templates.OutcomeMissingScope, templates.OutcomeConflict,
		templates.OutcomeUnavailable, templates.OutcomeOtherBrowser, templates.OutcomeNoCookies, templates.OutcomeStale,
		templates.OutcomeFailed, templates.OutcomeUnfinished, templates.OutcomeThrottled,
	}
}

func gate() templates.Gate { return templates.Gate{Agency: "Brightside Marketing"} }

func fullClient() templates.ClientPage {
	p := clientPage(clients()[0])
	p.Grant = &templates.Grant{
		Organization: "Acme Bakery LLC", AccountID: "a07e1lxqqqo0", ContactEmail: "maria@acme-bakery.example",
		Subject: "maria.rossi", Scopes: scopes(), GrantedAt: at(23, 9, 41),
	}
	p.Events = append([]templates.Event{{At: at(23, 9, 41), What: "Connected", Actor: "Owner", Stage: "authorized"}}, p.Events...)
	p.MoreEvents = true
	return p
}

func quarantined() templates.ClientPage {
	p := clientPage(clients()[1])
	p.Quarantined = []templates.Held{held()}
	p.Quarantined[0].OnClient = true
	p.Mails = append([]templates.Mail{{
		Kind: "invitation", State: "deferred", To: "jens@nordlicht.example", QueuedAt: at(22, 18, 0), TriedAt: at(22, 18, 1), Attempts: 3, Unknown: 1,
		LastError: "451 4.7.1 Greylisted, please try again in 300 seconds",
	}}, p.Mails...)
	p.Events = append([]templates.Event{{
		At: at(22, 17, 3), What: "Signed in to another account than expected", Detail: "found account: a07e1lzzzzz9 · found organization: Nordlicht Verein e.V.", Actor: "Owner", Stage: "stalled", Reason: "wrong_account",
	}}, p.Events...)
	return p
}
