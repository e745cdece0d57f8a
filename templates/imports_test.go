package templates_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/countersign/countersign/templates"
)

func imports() []templates.Import {
	return []templates.Import{
		{ID: "0193b2", FileName: "roster-corrected.csv", Actor: "sam@brightside.example", At: at(13, 9, 0), Rows: 4, Created: 3, Unchanged: 1},
		{ID: "0193b1", FileName: "roster.csv", Actor: "API key crm-sync", At: at(12, 8, 0), Rows: 12400, Created: 12396, Rejected: 4, Warned: 2},
	}
}

func upload() templates.UploadPage {
	p := templates.UploadPage{
		Console: console(), ID: "0193c1", FileName: "Kunden (März).csv", Actor: "sam@brightside.example", At: at(23, 9, 0),
		Format: "CSV in Windows-1252, separated by semicolons",
		Header: []templates.FileColumn{{Name: "Nr"}, {Name: "Firma", Field: "Name"}, {Name: "Mail", Field: "Owner email"}, {Name: "Tarif"}},
		Rows: [][]string{
			{"1001", "Acme Bakery", "maria@acme-bakery.example", "Gold"},
			{"1002", "Nordlicht Yoga & Pilates GmbH", "jens@nordlicht.example", ""},
		},
		Kept: []string{"Nr", "Tarif"},
	}
	for _, field := range []string{"name", "owner_email", "ref", "owner_name"} {
		column := templates.NewMappedField(field)
		column.Choices = []string{"Nr", "Firma", "Mail", "Tarif"}
		p.Columns = append(p.Columns, column)
	}
	p.Columns[0].Column, p.Columns[0].Samples = "Firma", []string{"Acme Bakery", "Nordlicht Yoga & Pilates GmbH"}
	p.Columns[1].Column, p.Columns[1].Samples = "Mail", []string{"maria@acme-bakery.example", "jens@nordlicht.example"}
	return p
}

func uploadProblem() templates.UploadPage {
	p := upload()
	p.Code, p.Problem = http.StatusUnprocessableEntity, "The workbook is damaged."
	p.Columns[1].Column, p.Columns[1].Samples, p.Columns[1].Problem = "", nil, "Choose the column that has it."
	return p
}

func plan() templates.PlanPage {
	return templates.PlanPage{
		Console: console(), ID: "0193c1", FileName: "Kunden (März).csv", Mapping: url.Values{"map.name": {"Firma & Co"}},
		Rows: 1204, Created: 1118, Updated: 2, Unchanged: 82, Rejected: 2, Warned: 1, Invitable: 1119,
		Updates: []templates.PlannedUpdate{
			{Line: 2, ID: "0193a1", Name: "Acme Bakery", Ref: "ACME-1", Changes: []templates.Change{
				{Field: "Owner email", From: "maria@acme-bakery.example", To: "maria.rossi@acme-bakery.example"}, {Field: "Tarif", To: "Gold"},
			}},
			{Line: 17, ID: "0193a6", Name: "Velo Café", Changes: []templates.Change{{Field: "Tags", From: "food", To: "food, east"}}},
		},
		Creations: []templates.PlannedClient{{Line: 3, Name: "Harbour Dental", Ref: "K-1", Username: "agency+harbour-dental@brightside.example"}},
		Rejects:   rejects(),
		Warnings: []templates.Warning{{
			Line: 40, Column: "Mail", Message: `"office@gmial.com" looks mistyped. Did you mean gmail.com?`,
		}},
	}
}

func rejects() []templates.Reject {
	return []templates.Reject{
		{Line: 1003, Column: "Mail", Code: "email_missing", Message: "The owner has no mail address. Fill it in."},
		{Line: 1100, Code: "bad_quotes", Message: "The quotes of this line do not match. Correct them."},
	}
}

func imported() templates.ImportPage {
	return templates.ImportPage{Console: console(), Import: imports()[1], Rejects: rejects(), Warnings: plan().Warnings}
}

func importSamples() []sample {
	nothing := templates.PlanPage{Console: console(), FileName: "roster.csv", Rows: 3, Unchanged: 3}
	done := templates.ImportPage{Console: console(), Import: imports()[0], Inviting: true}
	return []sample{
		{"imports", templates.ImportsPage{Console: console(), Most: 256 << 20, Next: "/admin/imports?cursor=abc", Imports: imports()}},
		{"imports-empty", templates.ImportsPage{Console: console(), Most: 256 << 20}},
		{"imports-refused", templates.ImportsPage{Console: console(), Code: http.StatusUnprocessableEntity, Problem: "The file is empty."}},
		{"imports-off", templates.ImportsPage{Console: console(), Off: "No file can be imported yet."}},
		{"upload", upload()},
		{"upload-problem", uploadProblem()},
		{"plan", plan()},
		{"plan-nothing", nothing},
		{"importing", templates.ImportingPage{Console: console(), ID: "0193c1", FileName: "roster.csv", Actor: "Olga", At: at(23, 9, 0), Size: 1000, Read: 420}},
		{"importing-rows", templates.ImportingPage{Console: console(), ID: "0193c1", FileName: "roster.csv", Actor: "Olga", At: at(23, 9, 0), Size: 1000, Read: 1000, Rows: 12400}},
		{"importing-problem", templates.ImportingPage{Console: console(), ID: "0193c1", FileName: "roster.csv", Actor: "Olga", At: at(23, 9, 0), Problem: "The file is damaged."}},
		{"import", imported()},
		{"import-done", done},
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	doc := render(t, templates.ImportsPage{Console: console(), Most: 256 << 20, Imports: imports()})
	says(t, doc, "12,400")
	says(t, doc, "up to 256 MB")
	for href, words := range map[string]string{
		"/admin/imports/0193b1/rejects.csv": "4 rejected rows as a file",
		"/admin/imports/0193b1":             "roster.csv",
		"/admin/imports/template.csv":       "Download a template",
	} {
		if got := text(one(t, doc, tag("a"), with("href", href))); got != words {
			t.Errorf("%s says %q, want %q", href, got, words)
		}
	}
	form := one(t, doc, tag("form"), with("action", "/admin/imports"), with("method", "post"), with("enctype", "multipart/form-data"))
	one(t, form, tag("input"), with("type", "file"), with("name", "file"), having("required"))
	hasNot(t, form, having("aria-invalid"))

	doc = render(t, templates.ImportsPage{Console: console(), Problem: "The file is empty."})
	problem := one(t, doc, with("role", "alert"))
	if text(problem) != "The file is empty." {
		t.Errorf("the problem is %q", text(problem))
	}
	one(t, doc, tag("input"), with("aria-invalid", "true"))

	doc = render(t, templates.ImportsPage{Console: console(), Off: "Not yet."})
	hasNot(t, doc, tag("input"))
}

func TestUploadShowsWhatIsChosen(t *testing.T) {
	t.Parallel()
	doc := render(t, upload())
	choice := one(t, doc, tag("select"), with("name", "map.owner_email"), having("required"))
	if selected := one(t, choice, tag("option"), having("selected")); text(selected) != "Mail" {
		t.Errorf("%q is chosen", text(selected))
	}
	optional := one(t, doc, tag("select"), with("name", "map.ref"))
	hasNot(t, optional, having("selected"))
	if first := find(optional, tag("option"))[0]; text(first) != "Not in this file" {
		t.Errorf("the first choice is %q", text(first))
	}
	says(t, doc, "Kept with each client as they are, and exported again: Nr Tarif")
	form := one(t, doc, tag("form"), with("method", "get"), with("action", "/admin/uploads/0193c1/plan"))
	one(t, form, tag("button"), with("formmethod", "post"), with("formaction", "/admin/uploads/0193c1/discard"))

	doc = render(t, uploadProblem())
	if got := text(one(t, doc, with("id", "map-owner_email-problem"))); got != "Choose the column that has it." {
		t.Errorf("at its field stands %q", got)
	}
	one(t, doc, tag("select"), with("name", "map.owner_email"), with("aria-invalid", "true"))
	says(t, doc, "The workbook is damaged.")
}

func TestPlan(t *testing.T) {
	t.Parallel()
	doc := render(t, plan())
	says(t, doc, "Owner email maria@acme-bakery.example → maria.rossi@acme-bakery.example")
	says(t, doc, "Tarif empty → Gold")
	says(t, doc, "Updated: 2 clients")
	says(t, doc, "Created: the first 1 of 1,118 clients")
	says(t, doc, "Invite the owners now: 1,119 mails go out")
	form := one(t, doc, tag("form"), with("action", "/admin/uploads/0193c1/import?map.name=Firma+%26+Co"))
	if got := text(one(t, form, tag("button"), with("class", "primary"))); got != "Import 1,118 and update 2 clients" {
		t.Errorf("the button says %q", got)
	}
	for words, p := range map[string]templates.PlanPage{
		"Import 118 clients": {Created: 118},
		"Import 1 client":    {Created: 1},
		"Update 5 clients":   {Updated: 5},
	} {
		if p.Button() != words {
			t.Errorf("the button says %q, want %q", p.Button(), words)
		}
	}
	for words, p := range map[string]templates.PlanPage{
		"The file has no clients, only a header.":                              {},
		"Nothing would change: the roster has all of this already.":            {Rows: 2, Unchanged: 2},
		"Every row is rejected. Correct the file and upload it again.":         {Rows: 2, Rejected: 2},
		"Nothing would change: what is not rejected is in the roster already.": {Rows: 2, Unchanged: 1, Rejected: 1},
	} {
		doc := render(t, p)
		says(t, doc, words)
		has(t, doc, tag("button"), having("disabled"))
		hasNot(t, doc, with("id", "invite"))
	}
}

func TestImportSaysWhatToDoNext(t *testing.T) {
	t.Parallel()
	doc := render(t, imported())
	if got := text(one(t, doc, tag("a"), having("download"))); got != "Download 4 rejected rows" {
		t.Errorf("the download says %q", got)
	}
	one(t, doc, tag("a"), with("href", "/admin/clients?import=0193b1&stage=imported"))
	says(t, doc, "Rejected: the first 2 of 4")
	says(t, doc, "Show the 12,396 clients that this import created or changed")

	p := imported()
	p.Import, p.Rejects, p.Inviting = imports()[0], nil, true
	doc = render(t, p)
	hasNot(t, doc, having("download"))
	says(t, doc, "They are on their way.")
}

// TestEveryFieldHasWords: a field of the roster that this package does not know yet is shown by its name.
func TestEveryFieldHasWords(t *testing.T) {
	t.Parallel()
	fields := templates.ImportsPage{}.Fields()
	for _, f := range fields {
		if got := templates.NewMappedField(f.Name); got.RosterField != f || f.Label == "" || f.Meaning == "" {
			t.Errorf("%+v, %+v", f, got)
		}
	}
	if !slices.IsSortedFunc(fields, func(a, b templates.RosterField) int {
		return map[bool]int{true: 0, false: 1}[a.Required] - map[bool]int{true: 0, false: 1}[b.Required]
	}) {
		t.Error("the required fields are not the first")
	}
	if got := templates.NewMappedField("billing_code").Label; got != "Billing code" {
		t.Errorf("a new field is called %q", got)
	}
}
