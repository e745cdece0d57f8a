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

func progressPage() templates.ProgressPage {
	return templates.ProgressPage{
		Console: console(), Progress: progress(), Most: 20 << 20,
		Calls: templates.Budget{PerSecond: 4, PerDay: 10_000, Used: 1588, Left: 8412, Kept: 1000},
		Mail:  templates.MailStanding{Waiting: 12, SentToday: 54, MostCounted: 10_000},
	}
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

func account() templates.AccountPage {
	return templates.AccountPage{
		Console: console(), Email: "sam@brightside.example", Name: "Sam Okafor", Role: "owner", PasswordMin: 12,
		Sessions: []templates.Session{
			{ID: "0193b1", Browser: "Firefox on Linux", Address: "192.0.2.1", Since: at(23, 8, 0), Seen: at(23, 9, 41), Current: true},
			{ID: "0193b2", Browser: "Safari on iPhone", Address: "2001:db8::7", Since: at(22, 20, 15), Seen: at(22, 20, 31)},
			{ID: "0193b3", Since: at(20, 7, 0), Seen: at(20, 7, 2)},
		},
	}
}

func keys() templates.KeysPage {
	return templates.KeysPage{
		Console: console(),
		Made:    &templates.MadeKey{Name: "crm", Secret: "csk_4kXq2mNf7Zt9Wc1sRb8Yh3", ExpiresAt: at(23, 9, 0).AddDate(0, 0, 90)},
		Keys: []templates.APIKey{
			{ID: "0193c1", Name: "crm", Scopes: []string{"read", "write"}, CreatedAt: at(12, 8, 0), CreatedBy: "sam@brightside.example", UsedAt: at(23, 9, 0), UsedFrom: "192.0.2.7", ExpiresAt: at(23, 9, 0).AddDate(0, 0, 90)},
			{ID: "0193c2", Name: "old report", Scopes: []string{"read"}, CreatedAt: at(1, 8, 0).AddDate(0, -6, 0), CreatedBy: "command line", Unused: true},
			{ID: "0193c3", Name: "trial", Scopes: []string{"links"}, CreatedAt: at(1, 8, 0), CreatedBy: "command line", ExpiresAt: at(12, 8, 0), Expired: true},
		},
		Revoked: []templates.APIKey{{ID: "0193c4", Name: "leaked", Scopes: []string{"tokens"}, CreatedAt: at(1, 8, 0), CreatedBy: "command line", RevokedAt: at(2, 8, 0), RevokedBy: "sam@brightside.example"}},
		Scopes:  []templates.KeyScope{{Name: "read", About: "see the roster and the progress"}, {Name: "write", About: "import, invite, change clients"}},
	}
}

func operators() templates.OperatorsPage {
	return templates.OperatorsPage{
		Console: console(), Role: "operator", Done: "The role is set.",
		People: []templates.Person{
			{ID: "0193c1", Email: "sam@brightside.example", Name: "Sam Okafor", Role: "owner", SecondFactor: true, SignedInAt: at(23, 8, 0), Self: true},
			{ID: "0193c2", Email: "lee@brightside.example", Name: "Lee Park", Role: "viewer"},
		},
		Invited: []templates.Invited{
			{ID: "0193d1", Email: "kim@brightside.example", Role: "operator", By: "sam@brightside.example", ExpiresAt: at(30, 9, 0)},
			{ID: "0193d2", Email: "ola@brightside.example", Role: "viewer", ExpiresAt: at(12, 9, 0), Over: true},
		},
	}
}

func auditPage() templates.AuditPage {
	all := func(words string) templates.AuditWord {
		return templates.AuditWord{Words: words, All: "/admin/audit?actor=a"}
	}
	return templates.AuditPage{
		Console: console(), Continued: true, Next: "/admin/audit?cursor=40",
		Filter: templates.AuditFilter{Actor: "operator sam@brightside.example", Action: "client", From: "2026-11-01"},
		Entries: []templates.AuditEntry{
			{
				ID: 42, At: at(23, 9, 41), Actor: all("sam@brightside.example"), Action: all("client.owner"), Object: all("client 0193a1"),
				Page: "/admin/clients/0193a1",
				Changes: []templates.AuditChange{
					{Field: "owner email", Before: "maria@acme-bakery.example", After: "info@acme-bakery.example"}, {Field: "queued", After: "1"},
				},
			},
			{ID: 41, At: at(23, 9, 40), Actor: all("API key app"), Action: all("client.pause"), Object: all("client 0193a2")},
		},
		Check: &templates.AuditCheck{Entries: 42, Head: "42:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"},
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

		{"reference", reference()},
		{"audit", auditPage()},
		{"audit-empty", templates.AuditPage{Console: console()}},
		{"audit-none", templates.AuditPage{Console: console(), Filter: templates.AuditFilter{Actor: "x"}, Head: "12", HeadError: "This is no head."}},
		{"audit-broken", templates.AuditPage{Console: console(), Check: &templates.AuditCheck{Entries: 4, Broken: 5, Why: "Its hash does not fit."}}},

		{"sign-in", templates.SignInPage{Gate: gate()}},
		{"setup", templates.SetupPage{Gate: gate(), Path: "/admin/setup/x7", PasswordMin: 12}},
		{"setup-refused", templates.SetupPage{
			Gate: gate(), Path: "/admin/setup/x7", PasswordMin: 12, Email: "sam@", Name: "",
			EmailError: "This is not an e-mail address.", NameError: "Please give a name.", PasswordError: "This is too short.",
		}},
		{"second-step", templates.SecondStepPage{Gate: gate()}},
		{"second-step-wrong", templates.SecondStepPage{Gate: gate(), Problem: templates.SignInWrong}},
		{"second-step-throttled", templates.SecondStepPage{Gate: gate(), Problem: templates.SignInThrottled}},
		{"forgot", templates.ForgotPage{Gate: gate()}},
		{"forgot-sent", templates.ForgotPage{Gate: gate(), Sent: true}},
		{"forgot-throttled", templates.ForgotPage{Gate: gate(), Problem: templates.SignInThrottled}},
		{"forgot-no-mail", templates.ForgotPage{Gate: gate(), NoMail: true}},
		{"reset", templates.ResetPage{Gate: gate(), Path: "/admin/enter/x7", Email: "sam@brightside.example", PasswordMin: 12}},
		{"reset-refused", templates.ResetPage{Gate: gate(), Path: "/admin/enter/x7", PasswordMin: 12, PasswordError: "This is too short."}},
		{"accept", templates.AcceptPage{Gate: gate(), Path: "/admin/enter/x7", Email: "sam@brightside.example", Role: "operator", PasswordMin: 12}},
		{"accept-refused", templates.AcceptPage{
			Gate: gate(), Path: "/admin/enter/x7", Role: "viewer", PasswordMin: 12, NameError: "Please give a name.", PasswordError: "This is too short.",
		}},
		{"account", account()},
		{"account-secured", templates.AccountPage{
			Console: console(), Name: "Sam Okafor", Role: "viewer", PasswordMin: 12, SecondFactor: true, CodesLeft: 9, Done: "Your name is saved.",
		}},
		{"account-refused", templates.AccountPage{
			Console: console(), Role: "viewer", PasswordMin: 12, SecondFactor: true,
			NameError: "Please give a name.", PresentError: "This is another one.", PasswordError: "This is too short.", FactorError: "This is another one.",
		}},
		{"second-factor", templates.SecondFactorPage{Console: console(), QR: "data:image/png;base64,iVBORw0KGgo=", Secret: "JBSW Y3DP"}},
		{"second-factor-refused", templates.SecondFactorPage{Console: console(), Secret: "JBSW Y3DP", Problem: "This code is wrong."}},
		{"recovery-codes", templates.RecoveryCodesPage{Console: console(), Codes: []string{"abcd-efgh-ijkl-mnop", "qrst-uvwx-yz23-4567"}}},
		{"keys", keys()},
		{"keys-none", templates.KeysPage{Console: console(), Scopes: keys().Scopes}},
		{"keys-refused", templates.KeysPage{Console: console(), Scopes: keys().Scopes, Name: "crm", NameError: "There is already an API key of this name.", ScopesError: "Name at least one."}},
		{"sign-on", templates.SignOnPage{
			Console: console(), Name: "Google", Issuer: "https://accounts.google.com", Domains: []string{"brightside.example"}, Newcomers: "viewer",
			RedirectURI: "https://connect.brightside.example/admin/sso/callback",
		}},
		{"sign-on-off", templates.SignOnPage{Console: console(), Off: true, RedirectURI: "https://connect.brightside.example/admin/sso/callback"}},
		{"sign-in-sign-on", templates.SignInPage{Gate: templates.Gate{Agency: "Brightside Marketing"}, SignOn: "Google"}},
		{"sign-on-unavailable", templates.SignOnFailedPage{SignOn: "Google", Problem: templates.SignOnUnavailable}},
		{"sign-on-stranger", templates.SignOnFailedPage{SignOn: "Google", Problem: templates.SignOnStranger}},
		{"looks", templates.ProviderPage{Console: templates.Console{Agency: "Brightside Marketing", Operator: "Vic", Role: "viewer"}, NoApp: true}},
		{"role", templates.ErrorPage{Code: 403, Need: "owner", Home: "/admin"}},
		{"operators", operators()},
		{"operators-alone", templates.OperatorsPage{Console: console(), People: operators().People[:1], NoMail: true}},
		{"operators-hand-over", templates.OperatorsPage{Console: console(), NoMail: true, HandOver: &templates.HandOver{
			Email: "kim@brightside.example", Link: "https://connect.brightside.example/admin/enter/x7", ExpiresAt: at(30, 9, 0),
		}}},
		{"operators-refused", templates.OperatorsPage{
			Console: console(), Problem: "This is the last owner.", Email: "kim@", Role: "viewer", EmailError: "This is no e-mail address.",
		}},
		{"entry", templates.EntryPage{Gate: gate(), Path: "/admin/entry/x7"}},
		{"entry-used", templates.EntryUsedPage{Gate: gate()}},

		{"progress", progressPage()},
		{"progress-empty", templates.ProgressPage{Console: console(), Most: 20 << 20}},
		{"progress-new", templates.ProgressPage{Console: console(), NoApp: true, NoMailbox: true, Mail: templates.MailStanding{NoServer: true}}},
		{"progress-done", templates.ProgressPage{Console: console(), Progress: templates.Progress{Stages: map[templates.Stage]int{"authorized": 1200}}}},
		{"clients", templates.ClientsPage{
			Console: console(), Columns: templates.UsualColumns(), Actions: templates.BulkActions(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Clients: clients(), Next: "/admin/clients?cursor=abc",
		}},
		{"clients-search", templates.ClientsPage{
			Console: console(), Columns: templates.UsualColumns(), Actions: templates.BulkActions(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Filter: templates.Filter{Q: "bakery"}, Clients: clients()[:1],
		}},
		{"clients-none", templates.ClientsPage{
			Console: console(), Columns: templates.UsualColumns(), Actions: templates.BulkActions(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Filter: templates.Filter{Q: "zzz", Stage: "stalled", Reason: "bounced"},
		}},
		{"clients-last", templates.ClientsPage{
			Console: console(), Columns: templates.UsualColumns(), Actions: templates.BulkActions(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
			Filter: templates.Filter{Stage: "stalled"}, Clients: clients()[1:2], Continued: true,
		}},
		{"clients-empty", templates.ClientsPage{Console: console()}},
	}

	all = append(all, answerSamples()...)
	all = append(all, importSamples()...)
	all = append(all, reconcileSamples()...)
	all = append(all, mailroomSamples()...)
	all = append(all, mailListSamples()...)
	all = append(all, settingsSamples()...)
	all = append(all, quarantineSamples()...)
	all = append(all, providerSamples()...)
	all = append(all, bulkSamples()...)

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
		templates.SignInWrong, templates.SignInThrottled, templates.SignInEnded, templates.SignedOut, templates.SignInChanged,
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
	p.Older, p.MayAct = "/admin/clients/0193a1?before=17", true
	p.Mails[0].ID = "0193d1"
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

func reference() templates.ReferencePage {
	return templates.ReferencePage{
		Address: "https://connect.brightside.example/api/v1", Document: "/api/v1/openapi.json",
		Sections: []templates.ReferenceSection{{Name: "clients", Operations: []templates.ReferenceOperation{{
			ID: "patch-clients-id", Method: "PATCH", Path: "/clients/{id}", Summary: "Change a client", Description: "Needs a key with the scope write.",
			Parameters: []templates.ReferenceField{{Name: "id", In: "path", Type: "string", Required: true, About: "id, or ref:"}},
			Media:      []string{"application/json"},
			Body:       []templates.ReferenceField{{Name: "paused", Type: "boolean"}},
			Status:     "200",
			Answer:     []templates.ReferenceField{{Name: "id", Type: "uuid", Required: true}},
			Curl:       "curl -X PATCH",
		}}}},
		Codes: []templates.ReferenceCode{{Code: "not-found", Status: 404, Meaning: "There is no such client."}},
	}
}
