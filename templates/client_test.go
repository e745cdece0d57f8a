package templates_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/templates"
)

// clientSamples are the states of a client's page that mail makes.
func clientSamples() []sample {
	referral := &templates.Referral{ID: "0193b1", Name: "Ben Ash", Email: "ben@harbour-dental.example", Note: "I only run the front desk.", At: at(22, 9, 0)}
	optedOut := clients()[2]
	optedOut.Paused, optedOut.OptedOut, optedOut.OptedOutAt = false, "unsubscribed", at(22, 9, 0)
	named := clientPage(optedOut)
	named.Referral = referral

	late := clientPage(clients()[3])
	late.Client.Route = "owner"
	late.Reminders = reminders()
	late.Reminders.At, late.Reminders.Problem = "2020-01-01T10:00", "No reminder can be sent at a time that has passed."
	refused := clientPage(clients()[3])
	refused.Reminders = &templates.Reminders{Number: 1, Of: 3, Why: "The client is paused: resume it first.", Problem: "No reminder can be sent."}
	off := clientPage(clients()[3])
	off.Reminders = &templates.Reminders{Why: "All reminders are used up."}

	wrong := bounced()
	wrong.Owner.EmailError, wrong.Owner.NameError = "This is not a mail address.", "Please shorten it."
	held := clientPage(clients()[4])
	held.Done, held.Held = "The invitation is queued.", "Mails wait: all outgoing mail is paused."
	held.Mails[0].State = "queued"
	problem := clientPage(clients()[0])
	problem.Problem, problem.Code = "No reminder can be sent: the client is authorized.", 409
	return []sample{
		{"client-bounced", bounced()},
		{"client-bounced-wrong", wrong},
		{"client-opted-out", named},
		{"client-reminder-late", late},
		{"client-reminder-refused", refused},
		{"client-reminders-off", off},
		{"client-held", held},
		{"client-problem", problem},
	}
}

func reminders() *templates.Reminders {
	return &templates.Reminders{
		Number: 1, Of: 3, NextAt: at(26, 15, 4), PlannedBy: "olga@brightside.example", Open: true, Zone: time.FixedZone("America/New_York", -5*60*60),
	}
}

func bounced() templates.ClientPage {
	p := clientPage(clients()[1])
	p.Client.Reason = "bounced"
	p.Owner = templates.OwnerForm{Name: p.Client.OwnerName, Email: p.Client.OwnerEmail}
	p.Bounce = "The mail server of nordlicht.example says that there is no such mailbox."
	p.Mails[0].Returns = []templates.Return{{ID: "0193c1", Kind: "hard", At: at(22, 9, 0), Words: p.Bounce}}
	return p
}

func TestClientInQuarantine(t *testing.T) {
	t.Parallel()
	doc := render(t, quarantined())
	card := one(t, doc, tag("section"), with("aria-label", "Another account"))
	var rows []string
	for _, row := range find(card, tag("tr")) {
		rows = append(rows, text(row))
	}
	want := []string{
		"Expected Found",
		"Organization Nordlicht Yoga & Pilates GmbH Nordlicht Verein e.V.",
		"Account a07e1lyyyyy1 a07e1lzzzzz9",
		"Address jens@nordlicht.example verein@nordlicht.example",
		"Signed in as vera.holm",
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
	says(t, doc, "451 4.7.1 Greylisted")
	says(t, doc, "may have more than one copy")
	has(t, doc, tag("button"), with("data-copy", "agency+nordlicht-yoga-pilates@brightside.example"))
}

// buttons lists what the buttons of a client's page do, and which of them is the primary one.
func buttons(t *testing.T, p templates.ClientPage) (actions []string) {
	t.Helper()
	for _, button := range find(one(t, render(t, p), tag("main")), tag("button")) {
		action, _ := attribute(button, "formaction")
		for form := button; action == "" && form != nil; form = form.Parent {
			action, _ = attribute(form, "action")
		}
		name, ok := strings.CutPrefix(action, "/admin/clients/"+p.Client.ID+"/")
		if !ok || name == "username" {
			continue
		}
		if class, _ := attribute(button, "class"); class == "primary" {
			name += "!"
		}
		actions = append(actions, name)
	}
	slices.Sort(actions)
	return actions
}

// Every state offers what helps in it, and one thing above all.
func TestClientButtons(t *testing.T) {
	t.Parallel()
	in := func(stage templates.Stage, reason templates.Reason, change ...func(*templates.ClientPage)) templates.ClientPage {
		p := templates.ClientPage{Client: templates.Client{ID: "1", Name: "Acme", Route: "owner", Stage: stage, Reason: reason}}
		for _, c := range change {
			c(&p)
		}
		return p
	}
	paused := func(p *templates.ClientPage) { p.Client.Paused = true }
	route := func(route string) func(*templates.ClientPage) {
		return func(p *templates.ClientPage) { p.Client.Route = route }
	}
	managed := func(m templates.Manager) func(*templates.ClientPage) {
		return func(p *templates.ClientPage) { p.Client.Route, p.MayAct, p.Manager = "manager", true, &m }
	}
	now := time.Now()
	optedOut := func(p *templates.ClientPage) { p.Client.OptedOut = "declined" }
	onItsWay := func(p *templates.ClientPage) { p.Mails = []templates.Mail{{Kind: "invitation", State: "unknown"}} }
	thanked := func(p *templates.ClientPage) { p.Mails = []templates.Mail{{Kind: "thanks", State: "queued"}} }
	named := func(p *templates.ClientPage) { p.Referral = &templates.Referral{ID: "2", Email: "ben@b.example"} }
	planned := func(p *templates.ClientPage) { p.Reminders = reminders() }
	ended := func(p *templates.ClientPage) {
		p.Reminders = &templates.Reminders{Number: 3, Of: 3, Why: "All are used up."}
	}
	for name, test := range map[string]struct {
		page templates.ClientPage
		want []string
	}{
		"imported":             {in("imported", ""), []string{"invite!", "owner", "pause"}},
		"imported, on its way": {in("imported", "", onItsWay), []string{"owner", "pause"}},
		"imported, thanked":    {in("imported", "", thanked), []string{"invite!", "owner", "pause"}},
		"imported, paused":     {in("imported", "", paused), []string{"owner", "resume"}},
		"imported, manager":    {in("imported", "", route("manager")), []string{"invite!", "owner", "pause"}},
		"imported, partner":    {in("imported", "", route("partner")), []string{"owner", "pause"}},
		"added, manager":       {in("started", "", managed(templates.Manager{ClaimedAt: now})), []string{"active", "owner", "pause"}},
		"mailed, manager":      {in("started", "", managed(templates.Manager{ActivationAt: now, Link: "https://provider.example/a"})), []string{"active!", "owner", "pause"}},
		"active, manager":      {in("started", "", managed(templates.Manager{ActiveAt: now})), []string{"owner", "pause"}},
		"imported, named":      {in("imported", "", named), []string{"invite", "owner", "pause", "referral/accept!", "referral/dismiss"}},
		"invited, planned":     {in("invited", "", planned), []string{"owner", "pause", "reminder/plan", "reminder/send", "reminder/skip"}},
		"invited, ended":       {in("invited", "", ended), []string{"invite", "owner", "pause"}},
		"ended, on its way":    {in("invited", "", ended, onItsWay), []string{"owner", "pause"}},
		"opted out":            {in("stalled", "declined", optedOut), []string{"invite", "opt-in", "owner", "pause"}},
		"opted out, paused":    {in("stalled", "declined", optedOut, paused), []string{"opt-in", "owner", "resume"}},
		"bounced":              {in("stalled", "bounced"), []string{"owner!", "pause"}},
		"bounced, named":       {in("stalled", "bounced", named), []string{"owner", "pause", "referral/accept!", "referral/dismiss"}},
		"expired":              {in("stalled", "expired"), []string{"invite!", "owner", "pause"}},
		"lapsed":               {in("lapsed", ""), []string{"invite!", "owner", "pause"}},
		"conflict":             {in("stalled", "conflict", ended), []string{"owner", "pause"}},
		"authorized":           {in("authorized", ""), []string{"owner"}},
		"authorized, paused":   {in("authorized", "", paused), []string{"owner", "resume"}},
	} {
		if diff := cmp.Diff(test.want, buttons(t, test.page)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestClientBounced(t *testing.T) {
	t.Parallel()
	doc := render(t, bounced())
	banner := one(t, doc, tag("section"), with("aria-label", "Stage"))
	says(t, banner, "no such mailbox")
	one(t, banner, tag("input"), with("name", "email"), with("value", "jens@nordlicht.example"))
	mail := one(t, one(t, doc, tag("ul"), with("class", "mails")), tag("li"))
	if got, want := text(mail), "Invitation Came back to jens@nordlicht.example, sent 12 Nov 2026, 08:02 UTC Bounced 22 Nov 2026, 09:00 UTC"; got != want {
		t.Errorf("the mail is told of as %q, want %q", got, want)
	}
}

func TestClientReminders(t *testing.T) {
	t.Parallel()
	p := clientPage(clients()[3])
	p.Reminders = reminders()
	doc := render(t, p)
	row := one(t, doc, with("id", "reminders"))
	says(t, row, "Reminder 2 of 3 goes out 26 Nov 2026, 15:04 UTC , as olga@brightside.example chose. For the owner that is Thu 26 Nov, 10:04 (America/New_York).")
	one(t, row, tag("input"), with("name", "at"), with("value", "2026-11-26T10:04"))
	hasNot(t, row, having("aria-invalid"))
}

func TestMailWords(t *testing.T) {
	t.Parallel()
	for want, mail := range map[string]templates.Mail{
		"Invitation: Waits to be sent":                           {Kind: "invitation", State: "queued"},
		"Reminder 2: Is being sent":                              {Kind: "reminder", Number: 2, State: "sending"},
		"Request to connect again: Put off, will be tried again": {Kind: "reconnect", State: "deferred"},
		"Thank-you: Perhaps sent, will be sent again":            {Kind: "thanks", State: "unknown"},
		"Invitation: Sent":                                       {Kind: "invitation", State: "sent", Returns: []templates.Return{{Kind: "auto_reply"}, {Kind: "delayed"}}},
		"Invitation: Came back":                                  {Kind: "invitation", State: "sent", Returns: []templates.Return{{Kind: "auto_reply"}, {Kind: "policy"}}},
		"Invitation: Not sent":                                   {Kind: "invitation", State: "failed"},
		"Invitation: Cancelled":                                  {Kind: "invitation", State: "cancelled"},
	} {
		if got := mail.Label() + ": " + mail.Words(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
