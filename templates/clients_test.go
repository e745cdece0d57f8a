package templates_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/templates"
)

// bulkSamples are the pages of what is done to many clients, and those on which one client changes.
func bulkSamples() []sample {
	filtered := templates.ClientsPage{
		Console: console(), Columns: templates.Columns(), Total: 120, Stages: progress().Stages, Reasons: progress().Reasons,
		Filter: everyFilter(), Sort: "-changed", Clients: clients(), Imports: []templates.Field{{Name: "0193f1", Value: "roster.csv, 12 Nov 2026, 08:00"}},
		Done: "The client is deleted.", Actions: templates.BulkActions(),
	}
	all := []sample{{"clients-filtered", filtered}, {"bulk-empty", templates.BulkPage{Console: console()}}}
	for _, action := range append(templates.BulkActions(), "") {
		all = append(all, sample{"bulk-new-" + string(action), bulkNew(action)})
	}
	wrong := bulkNew("owner")
	wrong.Owner = templates.OwnerForm{Name: "Ann", Email: "ann", NameError: "Please shorten it.", EmailError: "This is not a mail address."}
	untagged := bulkNew("tag")
	untagged.TagError = "Please write a tag."
	unconfirmed := bulkNew("delete")
	unconfirmed.Problem, unconfirmed.Code = "Nothing is deleted.", 422
	all = append(all, sample{"bulk-new-wrong-owner", wrong}, sample{"bulk-new-untagged", untagged}, sample{"bulk-new-unconfirmed", unconfirmed})
	jobs := []templates.BulkJob{bulkJob("queued"), bulkJob("running"), bulkJob("stopping"), bulkJob("done"), bulkJob("stopped")}
	for _, job := range jobs {
		page := templates.BulkJobPage{Console: console(), BulkJob: job, MayAct: true, Next: "/admin/bulk/0193e1?cursor=abc", Left: []templates.BulkSkipped{
			{ID: "0193a1", Name: "Acme Bakery", Ref: "ACME-1", Why: "authorized already"}, {Name: "deleted", Why: "deleted meanwhile"},
		}}
		all = append(all, sample{"bulk-job-" + job.State, page})
	}
	undo := bulkJob("done")
	undo.UndoOf, undo.Undoable, undo.Changed, undo.Skipped = "0193e1", false, 0, 0
	all = append(all,
		sample{"bulk-undo", templates.BulkJobPage{Console: console(), BulkJob: undo, Problem: "There is nothing to undo.", Code: 409}},
		sample{"bulk", templates.BulkPage{Console: console(), Jobs: jobs, Next: "/admin/bulk?cursor=abc"}},
	)

	theirs := "NORD-8"
	edit := templates.ClientEditPage{Console: console(), ID: "0193a2", Name: "Nordlicht", Version: "7", Fields: []templates.EditField{
		{Name: "name", Value: "Nordlicht", Was: "Nordlicht"},
		{Name: "ref", Value: "NORD-9", Was: "NORD-7", Theirs: &theirs},
		{Name: "owner_email", Value: "jens", Error: "This is not a mail address."},
		{Name: "route", Value: "owner", Was: "owner"},
		{Name: "tags"},
	}}
	clash := edit
	clash.Clash, clash.Code = true, 409
	link := templates.ClientLinkPage{Console: console(), ID: "0193a2", Name: "Nordlicht", Owner: "Jens Petersen"}
	made := link
	made.Link, made.ExpiresAt = "https://connect.brightside.example"+token, at(23, 9, 0)
	return append(all,
		sample{"client-edit", edit},
		sample{"client-edit-clash", clash},
		sample{"client-link", link},
		sample{"client-link-made", made},
		sample{"client-delete", templates.ClientDeletePage{Console: console(), Client: clients()[0], Connected: true, Problem: "Nothing is deleted.", Code: 422}},
		sample{"client-mail", templates.ClientMailPage{
			Console: console(), ID: "0193a2", Name: "Nordlicht", From: "Brightside Marketing <hello@brightside.example>",
			Mail:    templates.Mail{Kind: "invitation", State: "sent", To: "jens@nordlicht.example", SentAt: at(12, 8, 2)},
			Preview: templates.MailPreview{Address: "/admin/clients/0193a2/mails/0193d1/html", Subject: "Please connect", Text: "Hello Jens"},
		}},
	)
}

func bulkNew(action templates.BulkAction) templates.BulkNewPage {
	return templates.BulkNewPage{
		Console: console(), Action: action, All: true, Back: "/admin/clients?stage=invited", Count: 120, Samples: clients(),
		Fields: []templates.Field{{Name: "stage", Value: "invited"}, {Name: "all", Value: "1"}, {Name: "action", Value: string(action)}},
	}
}

func bulkJob(state string) templates.BulkJob {
	return templates.BulkJob{
		ID: "0193e1", Action: "tag", Tag: "east", About: "all that a filter selected", State: state, Actor: "sam@brightside.example",
		Total: 120, Done: 40, Changed: 38, Skipped: 2, CreatedAt: at(23, 9, 0), Undoable: state == "done",
		Why: []templates.BulkSkips{{Words: "authorized already", N: 1}, {Words: "deleted meanwhile", N: 1}},
	}
}

func everyFilter() templates.Filter {
	return templates.Filter{
		Q: "a & b", Stage: "stalled", Reason: "bounced", Route: "owner", Tag: "east", Import: "0193f1", Paused: "yes", From: "2026-11-01", Until: "2026-11-23",
	}
}

// Each chip says one condition, and leads to the list without it and with all others.
func TestChips(t *testing.T) {
	t.Parallel()
	page := templates.ClientsPage{Filter: everyFilter(), Sort: "-name", Imports: []templates.Field{{Name: "0193f1", Value: "roster.csv"}}}
	var words []string
	for _, chip := range page.Chips() {
		words = append(words, chip.Words)
		if got, want := strings.Count(chip.Without, "="), strings.Count(page.FirstPage(), "=")-1; got != want {
			t.Errorf("%s leads to %s", chip.Words, chip.Without)
		}
	}
	want := []string{
		"“a & b”", "Stage: Stalled", "Stalled because: Bounced", "Route: Owner", "Tag: east", "Import: roster.csv", "Paused",
		"Changed from 2026-11-01", "Changed until 2026-11-23",
	}
	if diff := cmp.Diff(want, words); diff != "" {
		t.Error(diff)
	}
	if got := (templates.ClientsPage{}).Chips(); got != nil {
		t.Errorf("without a filter: %v", got)
	}
}

// A heading sorts by its column, and once more the other way round; the list says which way it is sorted.
func TestHeads(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sort templates.Sort
		want templates.Head
	}{
		{"", templates.Head{Label: "Client", URL: "/admin/clients?sort=name&stage=invited"}},
		{"name", templates.Head{Label: "Client", URL: "/admin/clients?sort=-name&stage=invited", Aria: "ascending"}},
		{"-name", templates.Head{Label: "Client", URL: "/admin/clients?sort=name&stage=invited", Aria: "descending"}},
	} {
		page := templates.ClientsPage{Sort: tt.sort, Filter: templates.Filter{Stage: "invited"}}
		if diff := cmp.Diff(tt.want, page.NameHead()); diff != "" {
			t.Errorf("sorted by %q: %s", tt.sort, diff)
		}
	}
	if got := (templates.ClientsPage{}).Head("owner"); got.URL != "" {
		t.Errorf("the owners sort the list by %s", got.URL)
	}
}

// Whoever may only look is offered nothing to do.
func TestViewersSeeNoActions(t *testing.T) {
	t.Parallel()
	page := templates.ClientsPage{Console: console(), Total: 1, Clients: clients()[:1], Columns: templates.UsualColumns()}
	hasNot(t, render(t, page), tag("input"), with("name", "client"))
	hasNot(t, render(t, clientPage(clients()[0])), tag("a"), with("href", "/admin/clients/0193a1/delete"))
	job := render(t, templates.BulkJobPage{Console: console(), BulkJob: bulkJob("done")})
	hasNot(t, job, tag("form"), with("action", "/admin/bulk/0193e1/undo"))
}

func TestBulkActionsAreExplained(t *testing.T) {
	t.Parallel()
	for _, action := range templates.BulkActions() {
		if action.Label() == "" || action.Meaning() == "" {
			t.Errorf("no words for %s", action)
		}
		page := renderText(t, bulkNew(action))
		if got := strings.Contains(page, `name="confirm"`); got != (action == "delete") {
			t.Errorf("%s: whether a number is asked for: %t", action, got)
		}
		if got := strings.Contains(page, `name="new_tag"`); got != (action == "tag" || action == "untag") {
			t.Errorf("%s: whether a tag is asked for: %t", action, got)
		}
	}
}
