package templates_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/countersign/countersign/templates"
)

var parsed = sync.OnceValues(templates.New) //nolint:gochecknoglobals // parsing takes most of the time and a Set never changes

func newSet(t *testing.T) *templates.Set {
	t.Helper()
	set, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func render(t *testing.T, v templates.View) *html.Node {
	t.Helper()
	return parse(t, renderText(t, v))
}

func renderText(t *testing.T, v templates.View) string {
	t.Helper()
	var b strings.Builder
	if err := newSet(t).Page(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What holds for every page in every state.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			page := renderText(t, s.view)
			if !strings.HasPrefix(page, "<!doctype html>") {
				t.Errorf("begins with %.40q", page)
			}
			for _, odd := range []string{"ZgotmplZ", "%!", "<no value>", "0001-01-01", "1 January 0001"} {
				if strings.Contains(page, odd) {
					t.Errorf("%q in the page", odd)
				}
			}
			doc := parse(t, page)
			has(t, doc, tag("html"), with("lang", "en"))
			if title := source(one(t, doc, tag("head"))); !strings.Contains(title, "<title>"+html.EscapeString(s.view.Title())) {
				t.Errorf("the title is not %q", s.view.Title())
			}
			one(t, doc, tag("main"), with("id", "main"))
			one(t, doc, tag("h1"))
			has(t, doc, tag("a"), with("href", "#main"))
			checkPolicy(t, doc)
			checkForms(t, doc)
			checkReferences(t, doc)
			for _, n := range find(doc, tag("time")) {
				at, _ := attribute(n, "datetime")
				if _, err := time.Parse(time.RFC3339, at); err != nil {
					t.Errorf("time for machines: %v", err)
				}
			}
		})
	}
}

// checkPolicy finds what the Content-Security-Policy would block.
func checkPolicy(t *testing.T, doc *html.Node) {
	t.Helper()
	hasNot(t, doc, tag("style", "object", "embed", "base"))
	for _, n := range find(doc, tag("iframe")) { // Only previews of mails, which can do nothing.
		address, _ := attribute(n, "src")
		if rights, boxed := attribute(n, "sandbox"); !boxed || rights != "allow-same-origin" || !strings.HasPrefix(address, "/admin/mail/preview/") && !strings.Contains(address, "/mails/") {
			t.Errorf("a frame that could do something: %s", source(n))
		}
	}
	hasNot(t, doc, having("style"))
	for _, n := range find(doc, tag("script")) {
		if _, ok := attribute(n, "src"); !ok || n.FirstChild != nil {
			t.Errorf("inline script: %s", source(n))
		}
	}
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || strings.Contains(a.Key, "hx-on") || strings.Contains(a.Val, "javascript:") || strings.Contains(a.Val, "js:") {
				t.Errorf("code in the attribute %s=%q", a.Key, a.Val)
			}
		}
	}
	for _, n := range find(doc, tag("script", "link", "img")) {
		for _, name := range []string{"src", "href"} {
			if address, ok := attribute(n, name); ok && !strings.HasPrefix(address, templates.StaticPath) && !strings.HasPrefix(address, "/logo/") && !strings.HasPrefix(address, "data:image/png;base64,") {
				t.Errorf("%s comes from elsewhere", source(n))
			}
		}
	}
}

func checkForms(t *testing.T, doc *html.Node) {
	t.Helper()
	for _, form := range find(doc, tag("form")) {
		if method, _ := attribute(form, "method"); method != "post" && method != "get" {
			t.Errorf("method %q of %s", method, source(form))
		}
		if action, _ := attribute(form, "action"); !strings.HasPrefix(action, "/") {
			t.Errorf("action %q of %s", action, source(form))
		}
		if len(find(form, tag("button"))) == 0 {
			t.Errorf("no button in %s", source(form))
		}
	}
	for _, field := range find(doc, tag("input", "select", "textarea")) {
		if kind, _ := attribute(field, "type"); kind == "hidden" {
			continue // nobody sees it
		}
		id, _ := attribute(field, "id")
		if id == "" || len(find(doc, tag("label"), with("for", id))) != 1 {
			t.Errorf("no label for %s", source(field))
		}
	}
	for _, button := range find(doc, tag("button")) {
		if text(button) == "" {
			t.Errorf("no words on %s", source(button))
		}
	}
}

// checkReferences follows every id that something in the page points to.
func checkReferences(t *testing.T, doc *html.Node) {
	t.Helper()
	ids := map[string]bool{}
	for _, n := range find(doc, having("id")) {
		id, _ := attribute(n, "id")
		if ids[id] {
			t.Errorf("the id %q stands twice", id)
		}
		ids[id] = true
	}
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			switch {
			case a.Key == "href" && strings.HasPrefix(a.Val, "#"), a.Key == "data-hx-target":
				if !ids[strings.TrimPrefix(a.Val, "#")] {
					t.Errorf("%s=%q points nowhere", a.Key, a.Val)
				}
			case a.Key == "aria-labelledby", a.Key == "aria-describedby", a.Key == "for":
				for id := range strings.FieldsSeq(a.Val) {
					if !ids[id] {
						t.Errorf("%s=%q points nowhere", a.Key, a.Val)
					}
				}
			}
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		view templates.View
		want int
	}{
		{invitation(), http.StatusOK},
		{templates.LinkPage{}, http.StatusNotFound},
		{templates.ResultPage{Outcome: templates.OutcomeWrongAccount}, http.StatusOK},
		{templates.ResultPage{Outcome: templates.OutcomeThrottled}, http.StatusTooManyRequests},
		{templates.SignInPage{}, http.StatusOK},
		{templates.SignInPage{Problem: templates.SignInWrong}, http.StatusUnauthorized},
		{templates.SignInPage{Problem: templates.SignInThrottled}, http.StatusTooManyRequests},
		{templates.SetupPage{}, http.StatusOK},
		{templates.SetupPage{PasswordError: "too short"}, http.StatusUnprocessableEntity},
		{templates.SecondStepPage{Problem: templates.SignInWrong}, http.StatusUnauthorized},
		{templates.ForgotPage{Problem: templates.SignInThrottled}, http.StatusTooManyRequests},
		{templates.ResetPage{PasswordError: "too short"}, http.StatusUnprocessableEntity},
		{templates.AccountPage{}, http.StatusOK},
		{templates.AccountPage{FactorError: "another one"}, http.StatusUnprocessableEntity},
		{templates.OperatorsPage{Problem: "the last owner"}, http.StatusConflict},
		{templates.EntryUsedPage{}, http.StatusNotFound},
		{templates.ErrorPage{Code: http.StatusForbidden}, http.StatusForbidden},
		{templates.ErrorPage{}, http.StatusInternalServerError},
		{templates.ProgressPage{}, http.StatusOK},
	} {
		if got := tt.view.Status(); got != tt.want {
			t.Errorf("%T: status %d, want %d", tt.view, got, tt.want)
		}
	}
}

type stranger struct{ templates.Gate }

func (stranger) Title() string { return "Stranger" }

func TestUndeclaredTypeWritesNothing(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := newSet(t).Page(&b, stranger{}); err == nil {
		t.Error("a type outside the table was rendered")
	}
	if err := newSet(t).Fragment(&b, invitation()); err == nil {
		t.Error("a page without a fragment gave one")
	}
	if b.Len() > 0 {
		t.Errorf("wrote %q", b.String())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestPageReportsTheWriter(t *testing.T) {
	t.Parallel()
	if err := newSet(t).Page(fullDisk{}, invitation()); err == nil {
		t.Error("a failed write was kept quiet")
	}
}

// Names come from other people's files and from the provider.
func TestNamesStayText(t *testing.T) {
	t.Parallel()
	const evil = `"'><script>alert(1)</script><a href=javascript:alert(2) onclick=x style=y>{{.}}</a>`
	head := templates.Letterhead{Agency: evil, ReplyTo: evil, Provider: evil, ProviderHost: evil, Host: evil}
	client := templates.Client{
		ID: evil, Ref: evil, Name: evil, OwnerName: evil, OwnerEmail: evil, AccountID: evil, Username: evil, Route: evil,
		Stage: evil, Reason: evil, SiteURL: "javascript:alert(1)", Locale: evil, TimeZone: evil, Tags: []string{evil},
		Extra: []templates.Field{{Name: evil, Value: evil}},
	}
	grant := templates.Grant{Organization: evil, AccountID: evil, ContactEmail: evil, Subject: evil, Scopes: []string{evil}}
	held := templates.Held{
		ID: evil, Client: templates.ClientName{ID: evil, Name: evil}, Ref: evil, OwnerEmail: evil, Expected: evil, Reason: evil, Evidence: evil,
		Organization: evil, AccountID: evil, ContactEmail: evil, Subject: evil, PartnerID: evil,
	}
	claimed := held
	claimed.Belongs = templates.Choice{ClientName: held.Client, Ref: evil}
	event := templates.Event{What: evil, Actor: evil, Detail: evil, ClientID: evil, Client: evil, Stage: evil}
	frame := templates.Console{Agency: evil, Operator: evil}
	found := templates.Finding{
		ClientID: evil, Client: evil, Ref: evil, OwnerEmail: evil, AccountID: evil, Organization: evil, Status: evil, Why: evil,
	}
	for _, v := range []templates.View{
		templates.InvitationPage{Letterhead: head, Path: evil, Client: evil, OwnerName: evil, OwnerEmail: evil, Scopes: []string{evil}, Found: evil, LastOutcome: templates.OutcomeWrongAccount},
		templates.ReferPage{Letterhead: head, Path: evil, Client: evil, Name: evil, Email: evil, Note: evil, NameError: evil, EmailError: evil, NoteError: evil},
		templates.AnswerPage{Letterhead: head, Answer: templates.AnswerReferred, Path: evil, Client: evil, Named: evil, Undo: evil},
		templates.ResultPage{Letterhead: head, Outcome: templates.OutcomeWrongAccount, Client: evil, Found: evil, Path: evil, Scopes: []string{evil}},
		templates.ClientsPage{Console: frame, Clients: []templates.Client{client}, Filter: templates.Filter{Q: evil}, Next: evil, Continued: true},
		templates.ClientPage{
			Console: frame, Client: client, Grant: &grant, Quarantined: []templates.Held{held}, Events: []templates.Event{event},
			Mails: []templates.Mail{{Kind: evil, State: evil, To: evil, LastError: evil, Returns: []templates.Return{{ID: evil, Kind: evil, Words: evil, Readable: true}}}},
			Done:  evil, Problem: evil, Bounce: evil, Held: evil,
			Owner:     templates.OwnerForm{Name: evil, Email: evil, NameError: evil, EmailError: evil},
			Referral:  &templates.Referral{ID: evil, Name: evil, Email: evil, Note: evil},
			Reminders: &templates.Reminders{Of: 3, Why: evil, PlannedBy: evil, Open: true, At: evil, Problem: evil},
		},
		templates.QuarantinePage{
			Console: frame, Done: evil, Problem: evil, Held: []templates.Held{held}, Typed: evil, Next: evil,
			Choices: []templates.Choice{claimed.Belongs},
		},
		templates.QuarantinePage{Console: frame, Held: []templates.Held{claimed}},
		templates.ImportsPage{Console: frame, Problem: evil, Imports: []templates.Import{{ID: evil, FileName: evil, Actor: evil, Rejected: 1}}},
		templates.UploadPage{
			Console: frame, ID: evil, FileName: evil, Actor: evil, Format: evil, Problem: evil, Kept: []string{evil}, Rows: [][]string{{evil}},
			Columns: []templates.MappedField{{Column: evil, Choices: []string{evil}, Samples: []string{evil}, Problem: evil}},
			Header:  []templates.FileColumn{{Name: evil, Field: evil}},
		},
		templates.PlanPage{
			Console: frame, ID: evil, FileName: evil, Mapping: url.Values{"map.name": {evil}}, Created: 1,
			Updates:   []templates.PlannedUpdate{{ID: evil, Name: evil, Ref: evil, Changes: []templates.Change{{Field: evil, From: evil, To: evil}}}},
			Creations: []templates.PlannedClient{{Name: evil, Ref: evil, Username: evil}},
			Rejects:   []templates.Reject{{Column: evil, Code: evil, Message: evil}}, Warnings: []templates.Warning{{Column: evil, Message: evil}},
		},
		templates.ImportingPage{Console: frame, ID: evil, FileName: evil, Actor: evil, Problem: evil},
		templates.ImportPage{Console: frame, Import: templates.Import{ID: evil, FileName: evil, Actor: evil, Rejected: 1}, Rejects: []templates.Reject{{Message: evil}}},
		templates.ReconcilePage{
			Console: frame, Provider: evil, ID: evil, Actor: evil, Problem: evil, NoImport: evil, Applied: templates.StepAdd, By: evil,
			Kinds:   []templates.Findings{{Kind: evil, N: 1, Rows: []templates.Finding{found}}},
			Imports: []templates.Import{{ID: evil, Rejected: 1}}, Held: 1, Holds: []templates.Finding{found},
		},
		templates.ProgressPage{Console: frame, Progress: templates.Progress{Stages: map[templates.Stage]int{"stalled": 1}, Events: []templates.Event{event}}},
		templates.SignInPage{Gate: templates.Gate{Agency: evil}, Email: evil},
	} {
		doc := render(t, v)
		for _, n := range find(doc, tag("script")) {
			if n.FirstChild != nil {
				t.Errorf("%T: %s", v, source(n))
			}
		}
		hasNot(t, doc, having("onclick"))
		hasNot(t, doc, having("style"))
		for _, n := range find(doc, tag("a")) {
			if href, _ := attribute(n, "href"); strings.HasPrefix(href, "javascript:") {
				t.Errorf("%T: %s", v, source(n))
			}
		}
		says(t, doc, "<script>alert(1)</script>")
	}
}
