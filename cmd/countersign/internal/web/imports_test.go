package web_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/provisioning/roster"
)

const (
	mostUpload = 1 << 20
	germanFile = "Nr;Firma;E-Mail-Adresse;Vorname;Nachname;Tarif;Mail 2\n" +
		"A;Acme Bäckerei;ada@acme.example;Ada;Moss;Gold;x@acme.example\n" +
		"B;Bloom;ben@bloom.example;Ben;Ash;;\n"
)

// asForm is a file as a browser sends it.
func asForm(t *testing.T, name, file string) (contentType string, body *bytes.Buffer) {
	t.Helper()
	body = &bytes.Buffer{}
	form := multipart.NewWriter(body)
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(part, file); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	return form.FormDataContentType(), body
}

// sends uploads a file.
func (b *browser) sends(t *testing.T, name, file string) page {
	t.Helper()
	contentType, body := asForm(t, name, file)
	return b.do(t, http.MethodPost, "/admin/imports", body, "Content-Type", contentType)
}

// columns reads which column each field has on the page, and what is said against it.
func (p page) columns(t *testing.T) (chosen url.Values, problems map[string]string) {
	t.Helper()
	chosen, problems = url.Values{}, map[string]string{}
	doc := p.doc(t)
	for _, choice := range find(doc, tag("select")) {
		name := attribute(choice, "name")
		for _, option := range find(choice, tag("option")) {
			if hasAttribute(option, "selected") {
				chosen.Set(name, attribute(option, "value"))
			}
		}
		if said := text(find(doc, with("id", attribute(choice, "id")+"-problem"))[0]); said != "" {
			problems[strings.TrimPrefix(name, "map.")] = said
		}
	}
	return chosen, problems
}

func hasAttribute(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

// tally reads the numbers of a plan or an import.
func (p page) tally(t *testing.T) map[string]string {
	t.Helper()
	numbers := map[string]string{}
	for _, list := range find(p.doc(t), tag("dl"), with("class", "tally")) {
		for _, row := range find(list, tag("div")) {
			numbers[text(find(row, tag("dt"))[0])] = text(find(row, tag("dd"))[0])
		}
	}
	return numbers
}

// button is the one that does what the page is for.
func (p page) button(t *testing.T) *html.Node {
	t.Helper()
	found := find(p.doc(t), tag("button"), with("class", "primary"))
	if len(found) != 1 {
		t.Fatalf("%s has %d such buttons", p.name, len(found))
	}
	return found[0]
}

func (p page) action(t *testing.T) string {
	t.Helper()
	for _, form := range find(p.doc(t), tag("form")) {
		if len(find(form, tag("button"), with("class", "primary"))) > 0 {
			return attribute(form, "action")
		}
	}
	t.Fatalf("%s has no form", p.name)
	return ""
}

// worker carries out the imports that are ordered, as the program does.
func (b *testBundle) worker(t *testing.T) {
	t.Helper()
	runner := &queue.Runner{
		Pool: b.db, Log: b.Log, Handlers: map[queue.Kind]queue.Handler{provisioning.JobImport: {Work: b.Uploads.Work}},
	}
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runner.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestImportWalk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.worker(t)
	b.imports(t, "ref,name,owner_email,Tarif\nA,Acme,ada@acme.example,Lite\n")
	operator := b.operator(t)

	home := operator.get(t, "/admin/imports").has(t, http.StatusOK)
	home.says(t, "Drag a file here", "owner_email", "roster.csv")
	upload := operator.sends(t, `C:\Kunden\kunden.csv`, germanFile).leads(t)
	if !strings.HasPrefix(upload, "/admin/uploads/") {
		t.Fatalf("uploading leads to %q", upload)
	}

	columns := operator.get(t, upload).has(t, http.StatusOK)
	columns.says(t, "Acme Bäckerei", "Ada Moss", "Kept with each client as they are, and exported again: Nr Tarif Mail 2", operatorEmail)
	if got := columns.heading(t); got != "kunden.csv" {
		t.Errorf("the heading is %q", got)
	}
	chosen, problems := columns.columns(t)
	want := url.Values{"map.name": {"Firma"}, "map.owner_email": {"E-Mail-Adresse"}, "map.owner_name": {"Vorname + Nachname"}}
	if diff := cmp.Diff(want, chosen); diff != "" || len(problems) > 0 {
		t.Errorf("%v (-want +got)\n%s", problems, diff)
	}

	chosen.Set("map.ref", "Nr")
	changed := operator.get(t, upload+"?"+chosen.Encode()).has(t, http.StatusOK)
	changed.says(t, "Kept with each client as they are, and exported again: Tarif Mail 2")
	if got, _ := changed.columns(t); !cmp.Equal(chosen, got) {
		t.Errorf("the page shows %v, want %v", got, chosen)
	}

	before := [3]int{b.count(t, "clients"), b.count(t, "events"), b.count(t, "imports")}
	plan := operator.get(t, changed.action(t)+"?"+chosen.Encode()).has(t, http.StatusOK)
	plan.says(t, "Name Acme → Acme Bäckerei", "Owner name empty → Ada Moss", "Tarif Lite → Gold", "Mail 2 empty → x@acme.example",
		"Bloom B agency+bloom@brightside.example", "Invite the owners now: 2 mails go out")
	numbers := map[string]string{"Created": "1", "Updated": "1", "Unchanged": "0", "Rejected": "0", "Doubtful": "0"}
	if diff := cmp.Diff(numbers, plan.tally(t)); diff != "" {
		t.Errorf("plan (-want +got)\n%s", diff)
	}
	if got := text(plan.button(t)); got != "Import 1 and update 1 client" {
		t.Errorf("the button says %q", got)
	}
	if after := [3]int{b.count(t, "clients"), b.count(t, "events"), b.count(t, "imports")}; after != before {
		t.Error("looking changed something")
	}

	result := operator.post(t, plan.action(t), url.Values{"invite": {"yes"}}).leads(t)
	for range 2 {
		if again := operator.post(t, plan.action(t), url.Values{"invite": {"yes"}}).leads(t); again != result {
			t.Errorf("another press leads to %s, want %s", again, result)
		}
	}
	done := operator.get(t, result).has(t, http.StatusOK)
	done.says(t, "Follow the invitations", operatorEmail)
	if diff := cmp.Diff(numbers, done.tally(t)); diff != "" {
		t.Errorf("import (-want +got)\n%s", diff)
	}
	if acme := b.client(t, "A"); acme.Name != "Acme Bäckerei" || acme.Extra["Tarif"] != "Gold" || acme.OwnerName != "Ada Moss" {
		t.Errorf("%+v", acme)
	}
	if n := b.count(t, "messages"); n != 2 {
		t.Errorf("%d mails, want 2", n)
	}
	if n := b.count(t, "imports"); n != 2 {
		t.Errorf("%d imports, want 2", n)
	}

	// The file is gone, and its pages lead to what it became.
	address, _, _ := strings.Cut(result, "?")
	for _, path := range []string{"", "/plan"} {
		if got := operator.get(t, upload+path).leads(t); got != address {
			t.Errorf("%s leads to %s, want %s", path, got, address)
		}
	}
	if found := find(operator.get(t, "/admin/imports").doc(t), tag("a"), with("href", address)); len(found) != 1 || text(found[0]) != "kunden.csv" {
		t.Errorf("the history has %d links to the import", len(found))
	}
}

// TestImportThatTakesLong: a page tells how far it is, and everything leads there until it has ended.
func TestImportThatTakesLong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	upload := operator.sends(t, "roster.csv", rosterFile).leads(t)
	if got := operator.get(t, upload+"/importing").leads(t); got != upload {
		t.Errorf("before it is ordered it leads to %s", got)
	}
	importing := operator.post(t, upload+"/import", url.Values{"invite": {"yes"}}).leads(t) // Nobody works yet.
	for _, path := range []string{upload, upload + "/plan"} {
		if got := operator.get(t, path).leads(t); got != importing {
			t.Errorf("%s leads to %s", path, got)
		}
	}
	operator.get(t, importing).has(t, http.StatusOK).says(t, "Reading the file", "0 %", "You may leave the page", operatorEmail)
	b.exec(t, `UPDATE upload_orders SET read = size / 2`)
	operator.get(t, importing).has(t, http.StatusOK).says(t, "Reading the file", "49 %")
	b.exec(t, `UPDATE upload_orders SET read = size, rows = 3`)
	operator.get(t, importing).has(t, http.StatusOK).says(t, "Comparing and writing 3 rows")
	b.exec(t, `UPDATE upload_orders SET problem = 'the file is damaged: copy it again'`)
	operator.get(t, importing).has(t, http.StatusOK).says(t, "Nothing was imported", "The file is damaged: copy it again.", "Back to the columns")
	operator.get(t, upload).has(t, http.StatusOK).says(t, "Acme Bakery")
	b.worker(t)
	result := operator.post(t, upload+"/import", url.Values{"invite": {"yes"}}).leads(t)
	if got := operator.get(t, importing).leads(t); got != result || !strings.HasPrefix(got, "/admin/imports/") || !strings.HasSuffix(got, "?invited") {
		t.Errorf("in the end it leads to %s, want %s", got, result)
	}
}

// TestRejectsAreCorrected goes round until the roster is complete.
func TestRejectsAreCorrected(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.worker(t)
	operator := b.operator(t)
	const file = "ref,name,owner_email\nA,Acme,ada@acme.example\nB,Bloom,nobody\nC,,cleo@gmial.com\nD,Dell,office@gmial.com\n"
	plan := operator.get(t, operator.sends(t, "roster.csv", file).leads(t)+"/plan").has(t, http.StatusOK)
	plan.says(t, "Line 3 owner_email", "email_invalid", "Line 4 name", "name_missing", "Line 5 owner_email", "Did you mean gmail.com?",
		"2 rejected rows are left out")
	result := operator.post(t, plan.action(t), nil).leads(t)
	done := operator.get(t, result).has(t, http.StatusOK)
	done.says(t, "Download 2 rejected rows", "Line 3 owner_email", "Did you mean gmail.com?", "Invite the owners")
	if n := b.count(t, "messages"); n > 0 {
		t.Errorf("%d mails, though nobody asked for them", n)
	}
	rejects := operator.get(t, result+"/rejects.csv").has(t, http.StatusOK).body
	corrected := strings.NewReplacer("nobody", "ben@bloom.example", "C,,", "C,Café,").Replace(rejects)
	upload := operator.sends(t, "rejects.csv", corrected).leads(t)
	columns := operator.get(t, upload).has(t, http.StatusOK)
	columns.silent(t, `<option value="error_code"`, "Kept with each client")
	plan = operator.get(t, upload+"/plan").has(t, http.StatusOK)
	if got := text(plan.button(t)); got != "Import 2 clients" {
		t.Errorf("the button says %q", got)
	}
	operator.post(t, plan.action(t), nil).leads(t)
	if n := b.count(t, "clients"); n != 4 {
		t.Errorf("%d clients, want 4", n)
	}

	plan = operator.get(t, operator.sends(t, "roster.csv", corrected).leads(t)+"/plan").has(t, http.StatusOK)
	plan.says(t, "Nothing would change: the roster has all of this already.")
	if !hasAttribute(plan.button(t), "disabled") {
		t.Error("the button can be pressed for nothing")
	}
}

func TestColumnsThatDoNotFit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	const choose = "Choose the column that has it."
	for name, test := range map[string]struct {
		file     string
		query    string
		problems map[string]string
		says     string
	}{
		"missing": {
			"What,Where\nAcme,ada@acme.example\n", "",
			map[string]string{"name": choose, "owner_email": choose},
			"",
		},
		"taken away": {
			"name,owner_email\nAcme,ada@acme.example\n", "map.name=&map.owner_email=owner_email",
			map[string]string{"name": choose},
			"",
		},
		"several": {
			"name,Email,Email\nAcme,ada@acme.example,\n", "",
			map[string]string{"owner_email": "More than one column can be it: Email (1), Email (2). Choose the right one."},
			"",
		},
		"twice": {
			"name,owner_email,x\nAcme,ada@acme.example,\n", "map.name=x&map.owner_email=owner_email&map.ref=x",
			map[string]string{
				"name": "This column is chosen for Ref as well. Each needs one of its own.",
				"ref":  "This column is chosen for Name as well. Each needs one of its own.",
			},
			"",
		},
		"unknown": {
			"name,owner_email\nAcme,ada@acme.example\n", "map.name=Firm", nil, `The file has no column "Firm" to map to name`,
		},
	} {
		upload := operator.sends(t, "roster.csv", test.file).leads(t)
		for path, status := range map[string]int{"": http.StatusOK, "/plan": http.StatusUnprocessableEntity} {
			page := operator.get(t, upload+path+"?"+test.query).has(t, status)
			_, problems := page.columns(t)
			if diff := cmp.Diff(test.problems, problems, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s%s: (-want +got)\n%s", name, path, diff)
			}
			page.says(t, test.says)
		}
		page := operator.post(t, upload+"/import?"+test.query, nil).has(t, http.StatusUnprocessableEntity)
		page.says(t, test.says)
		if got := operator.get(t, upload+"/import?"+test.query).leads(t); got != strings.TrimSuffix(upload+"?"+test.query, "?") {
			t.Errorf("%s: after an error, a reload leads to %s", name, got)
		}
	}
	if n := b.count(t, "clients"); n > 0 {
		t.Errorf("%d clients", n)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	for name, test := range map[string]struct {
		file   string
		status int
		says   string
	}{
		"nothing":   {"", http.StatusUnprocessableEntity, "The file is empty"},
		"a page":    {"<!doctype html><title>Sign in</title>", http.StatusUnprocessableEntity, "web page"},
		"no header": {"Acme,ada@acme.example\n", http.StatusUnprocessableEntity, "The file has no header"},
		"too large": {"name,owner_email\n" + strings.Repeat("x", mostUpload), http.StatusRequestEntityTooLarge, "The file is too large: split it"},
		"far too large": {
			"name,owner_email\n" + strings.Repeat("x", 3*mostUpload), http.StatusRequestEntityTooLarge, "The file is too large: split it",
		},
	} {
		page := operator.sends(t, "roster.csv", test.file).has(t, test.status)
		found := find(page.doc(t), with("id", "file-problem"))
		if len(found) != 1 || !strings.Contains(text(found[0]), test.says) {
			t.Errorf("%s: %q", name, text(page.doc(t)))
		}
		if input := find(page.doc(t), with("id", "file")); attribute(input[0], "aria-invalid") != "true" {
			t.Errorf("%s: nothing points at the file", name)
		}
	}

	var empty bytes.Buffer
	form := multipart.NewWriter(&empty)
	if _, err := form.CreateFormFile("file", ""); err != nil { // as a browser without a chosen file sends it
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	operator.do(t, http.MethodPost, "/admin/imports", &empty, "Content-Type", form.FormDataContentType()).
		has(t, http.StatusUnprocessableEntity).says(t, "Choose a file first.")

	contentType, whole := asForm(t, "roster.csv", rosterFile)
	half := bytes.NewReader(whole.Bytes()[:whole.Len()-100])
	operator.do(t, http.MethodPost, "/admin/imports", half, "Content-Type", contentType).has(t, http.StatusBadRequest)
	operator.post(t, "/admin/imports", url.Values{"file": {rosterFile}}).has(t, http.StatusBadRequest)
	if n := b.count(t, "uploads"); n > 0 {
		t.Errorf("%d files are kept", n)
	}
	if log := b.log.String(); strings.Contains(log, "ERROR") {
		t.Errorf("what visitors do wrong is logged as ours: %s", log)
	}
}

func TestUploadedFileNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	for sent, want := range map[string]string{
		"../../etc/passwd":              "passwd",
		`C:\Users\Olga\roster.csv`:      "roster.csv",
		"a\u202egnp.csv":                "agnp.csv",
		"bad\xffname.csv":               "badname.csv",
		"<b>.csv":                       "<b>.csv",
		strings.Repeat("ü", 300):        strings.Repeat("ü", 120),
		"\u200b \u200b":                 "roster",
		"Kunden (Stand März 2026).xlsx": "Kunden (Stand März 2026).xlsx",
	} {
		upload := operator.sends(t, sent, "name,owner_email\nAcme,ada@acme.example\n").leads(t)
		if got := operator.get(t, upload).heading(t); got != want {
			t.Errorf("%q is shown as %q, want %q", sent, got, want)
		}
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	upload := operator.sends(t, "roster.csv", rosterFile).leads(t)
	for range 2 {
		if got := operator.post(t, upload+"/discard", nil).leads(t); got != "/admin/imports" {
			t.Errorf("it leads to %s", got)
		}
	}
	for _, path := range []string{"", "/plan"} {
		operator.get(t, upload+path).has(t, http.StatusNotFound)
	}
	operator.post(t, upload+"/import", nil).has(t, http.StatusNotFound)
	for _, id := range []string{"x", uuid.NewString()} {
		operator.get(t, "/admin/uploads/"+id).has(t, http.StatusNotFound)
		operator.get(t, "/admin/imports/"+id).has(t, http.StatusNotFound)
	}
}

func TestTemplateCanBeImported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	file := operator.get(t, "/admin/imports/template.csv").has(t, http.StatusOK)
	if got := file.header.Get("Content-Disposition"); got != `attachment; filename="roster.csv"` {
		t.Errorf("it is sent as %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
	if err != nil || len(rows) != 2 || len(rows[0]) != len(roster.Fields()) {
		t.Fatalf("%q, %v", rows, err)
	}
	im := b.imports(t, file.body)
	if im.Created != 1 || im.Warned > 0 {
		t.Errorf("%+v", im)
	}
}

// TestImportActionsAreGuarded: only for operators, only from our own pages, and not without a mailbox.
func TestImportActionsAreGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	upload := operator.sends(t, "roster.csv", rosterFile).leads(t)
	contentType, file := asForm(t, "roster.csv", rosterFile)
	for _, path := range []string{"/admin/imports", upload + "/import", upload + "/discard"} {
		send := func(who *browser, header ...string) page {
			return who.do(t, http.MethodPost, path, bytes.NewReader(file.Bytes()), append(header, "Content-Type", contentType)...)
		}
		if got := send(b.browser(t)).leads(t); got != "/admin/sign-in" {
			t.Errorf("%s leads a stranger to %s", path, got)
		}
		send(operator, "Sec-Fetch-Site", "cross-site").has(t, http.StatusForbidden)
		send(operator, "Origin", "https://evil.example").has(t, http.StatusForbidden)
	}
	for _, path := range []string{upload, upload + "/plan", "/admin/imports/" + uuid.NewString(), "/admin/imports/template.csv"} {
		if got := b.browser(t).get(t, path).leads(t); got != "/admin/sign-in" {
			t.Errorf("%s leads a stranger to %s", path, got)
		}
	}
	if n := b.count(t, "clients") + b.count(t, "uploads"); n != 1 {
		t.Errorf("%d clients and uploads, want the one upload", n)
	}

	b.Importer, b.Uploads = nil, nil
	page := operator.get(t, "/admin/imports").has(t, http.StatusOK)
	page.says(t, "set COUNTERSIGN_AGENCY_MAILBOX")
	page.silent(t, `type="file"`)
	operator.sends(t, "roster.csv", rosterFile).has(t, http.StatusServiceUnavailable)
	operator.get(t, upload).has(t, http.StatusServiceUnavailable)
}
