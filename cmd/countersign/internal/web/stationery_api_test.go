package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/authflow/admin"
)

// TestTextsByAPI writes a text as the console does, with its mistakes and with somebody else at the same text.
func TestTextsByAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	program := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	type text struct {
		Key, Title, Source string
		Own                bool
	}
	var list struct{ Texts []text }
	program.call(t, http.MethodGet, "/mail/texts", "").has(t, http.StatusOK).into(t, &list)
	if n := len(list.Texts); n < 50 || list.Texts[0].Key != "invitation.en" || list.Texts[0].Own {
		t.Fatalf("%d texts, the first is %+v", n, list.Texts[0])
	}
	read := func() (got text, tag string) {
		t.Helper()
		p := program.call(t, http.MethodGet, "/mail/texts/thanks.en", "").has(t, http.StatusOK)
		p.into(t, &got)
		return got, p.header.Get("ETag")
	}
	builtin, first := read()
	const own = `{"source": "Subject: Thank you\r\n\r\n# Thank you\r\n\r\nAll is well with {organization}."}`
	program.call(t, http.MethodPut, "/mail/texts/thanks.en", own, "If-Match", `"other"`).has(t, http.StatusPreconditionFailed).
		says(t, "urn:countersign:stationery-changed")
	program.call(t, http.MethodPut, "/mail/texts/thanks.en", own, "If-Match", first).has(t, http.StatusOK)
	written, second := read()
	if !written.Own || !strings.HasSuffix(written.Source, "All is well with {organization}.\n") || second == first {
		t.Errorf("it is written as %+v", written)
	}
	if found := b.operator(t).get(t, "/admin/mail/texts/thanks/en"); !strings.Contains(found.body, "All is well with") {
		t.Error("the console shows another text")
	}
	program.call(t, http.MethodPut, "/mail/texts/thanks.en", own, "If-Match", first).has(t, http.StatusOK) // It changes nothing.
	p := program.call(t, http.MethodDelete, "/mail/texts/thanks.en", "", "If-Match", first).has(t, http.StatusPreconditionFailed)
	if got := p.header.Get("ETag"); got != second {
		t.Errorf("the refusal names %s, want %s", got, second)
	}

	var refused struct {
		Type   string
		Errors []struct{ Message, Location string }
	}
	program.call(t, http.MethodPut, "/mail/texts/invitation.en", `{"source": "Subject: {nobody}\n\nNo link.\n"}`).
		has(t, http.StatusUnprocessableEntity).into(t, &refused)
	if refused.Type != "urn:countersign:invalid" || len(refused.Errors) != 2 || refused.Errors[0].Location != "body.source" {
		t.Errorf("a text with two mistakes: %+v", refused)
	}
	var mail struct{ Subject, Text, HTML string }
	program.call(t, http.MethodPost, "/mail/texts/thanks.en/preview", `{"source": "Subject: Draft\n\nFor {client}.\n"}`).has(t, http.StatusOK).into(t, &mail)
	if mail.Subject != "Draft" || !strings.Contains(mail.HTML, "<html") || strings.Contains(mail.Text, "{client}") {
		t.Errorf("the preview is %+v", mail)
	}
	program.call(t, http.MethodPost, "/mail/texts/invitation.en/preview", `{}`).has(t, http.StatusOK).into(t, &mail)
	program.call(t, http.MethodPost, "/mail/texts/invitation.en/preview", `{"source": ""}`).has(t, http.StatusUnprocessableEntity)

	program.call(t, http.MethodDelete, "/mail/texts/thanks.en", "").has(t, http.StatusOK)
	if back, _ := read(); back.Own || back.Source != builtin.Source {
		t.Errorf("afterwards it is %+v", back)
	}
	program.call(t, http.MethodPost, "/mail/texts/thanks.en/preview", "").has(t, http.StatusOK)
	program.call(t, http.MethodPut, "/mail/texts/thanks.en", `{"source": "Subject: Thanks\n\nA\u0000 {organization}\n"}`).problem(t, http.StatusBadRequest)
	for _, key := range []string{"nothing", "thanks.xx", "thanks"} {
		program.call(t, http.MethodGet, "/mail/texts/"+key, "").has(t, http.StatusNotFound)
	}
}

func TestLetterheadByAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	program := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	var l struct {
		Agency, Colour, Support, Phrase string
		LogoURL                         string `json:"logo_url"`
	}
	p := program.call(t, http.MethodGet, "/mail/letterhead", "").has(t, http.StatusOK)
	p.into(t, &l)
	if l.Agency != agency || l.LogoURL != "" {
		t.Errorf("%+v", l)
	}
	first := p.header.Get("ETag")
	program.call(t, http.MethodPatch, "/mail/letterhead", `{"colour": "#ffd400", "support": " 555-1234 "}`, "If-Match", first).has(t, http.StatusOK).into(t, &l)
	if l.Colour != "#ffd400" || l.Support != "555-1234" || l.Agency != agency {
		t.Errorf("%+v", l)
	}
	if p := program.call(t, http.MethodPatch, "/mail/letterhead", `{"phrase": "x"}`, "If-Match", first).has(t, http.StatusPreconditionFailed); p.header.Get("ETag") == first {
		t.Error("the refusal names the letterhead of before")
	}
	var refused struct {
		Errors []struct{ Message, Location string }
	}
	program.call(t, http.MethodPatch, "/mail/letterhead", `{"colour": "yellow"}`).has(t, http.StatusUnprocessableEntity).into(t, &refused)
	if len(refused.Errors) != 1 || refused.Errors[0].Location != "body.colour" {
		t.Errorf("%+v", refused)
	}
	program.call(t, http.MethodPatch, "/mail/letterhead", `{"support": "\u0000"}`).problem(t, http.StatusBadRequest)
	var address struct {
		Postal string `json:"postal_address"`
		Phrase string
	}
	program.call(t, http.MethodPatch, "/mail/letterhead", `{"postal_address": "1 Road\r\nTown", "phrase": "blue"}`).has(t, http.StatusOK).into(t, &address)
	if address.Postal != "1 Road\nTown" || address.Phrase != "blue" { // as a form has it, so that saving it there changes nothing
		t.Errorf("%q", address)
	}
	program.call(t, http.MethodPatch, "/mail/letterhead", `{"phrase": null}`, "Content-Type", "application/merge-patch+json").has(t, http.StatusOK).into(t, &address)
	if address.Phrase != "" || address.Postal == "" {
		t.Errorf("%q", address)
	}
	program.call(t, http.MethodPatch, "/mail/letterhead", `{"agency": null}`).has(t, http.StatusUnprocessableEntity)
	program.call(t, http.MethodPut, "/mail/letterhead/logo", "no picture", "Content-Type", "application/octet-stream").has(t, http.StatusUnprocessableEntity)
	program.call(t, http.MethodPut, "/mail/letterhead/logo", string(picture(t)), "Content-Type", "application/octet-stream").has(t, http.StatusOK).into(t, &l)
	if !strings.HasPrefix(l.LogoURL, b.PublicURL) {
		t.Errorf("the logo is at %q", l.LogoURL)
	}
	program.call(t, http.MethodDelete, "/mail/letterhead/logo", "").has(t, http.StatusOK).into(t, &l)
	if l.LogoURL != "" || l.Colour != "#ffd400" {
		t.Errorf("without a logo it is %+v", l)
	}
}

func TestSettingsByAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	doctor := &examiner{}
	b.Doctor = doctor
	program := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	var settings struct {
		Version  string
		Settings []struct{ Name, Value string }
	}
	program.call(t, http.MethodGet, "/settings", "").has(t, http.StatusOK).into(t, &settings)
	if settings.Version == "" || len(settings.Settings) == 0 || settings.Settings[0].Name == "" {
		t.Errorf("%+v", settings)
	}
	program.call(t, http.MethodGet, "/doctor", "").has(t, http.StatusNotFound)
	var report struct {
		Actor   string
		EndedAt *string `json:"ended_at"`
		Plus    bool
		Checks  []struct{ Name, Status, Cure string }
	}
	program.call(t, http.MethodPost, "/doctor", `{"plus": true}`).has(t, http.StatusAccepted).into(t, &report)
	if !report.Plus || report.EndedAt != nil || !strings.HasPrefix(report.Actor, "key ") {
		t.Errorf("while it is at work: %+v", report)
	}
	program.call(t, http.MethodPost, "/doctor", "").has(t, http.StatusAccepted)
	doctor.end()
	program.call(t, http.MethodGet, "/doctor", "").has(t, http.StatusOK).into(t, &report)
	if report.EndedAt == nil || len(report.Checks) != 1 || report.Checks[0].Status != "fail" || report.Checks[0].Cure != "start it" {
		t.Errorf("in the end: %+v", report)
	}
}

func TestReportsByAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.invites(t)
	program := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	messages, err := b.Mailer.Messages(t.Context(), b.client(t, "ACME/1").ID)
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	for _, subject := range []string{"First", "Second"} {
		_, err := b.Returns.Take(t.Context(), strings.NewReader("Delivered-To: "+b.Returns.Paths.Bounce(messages[0].ID)+
			"\r\nFrom: Ada <ada@acme.example>\r\nSubject: "+subject+"\r\n\r\nWho are you?\r\n"))
		if err != nil {
			t.Fatal(err)
		}
	}
	type report struct {
		ID, Kind, Subject, Text string
		ClientName              string  `json:"client_name"`
		ReadBy                  *string `json:"read_by"`
	}
	var list struct {
		Reports    []report
		NextCursor *string `json:"next_cursor"`
	}
	program.call(t, http.MethodGet, "/mail/reports?limit=1", "").has(t, http.StatusOK).into(t, &list)
	if len(list.Reports) != 1 || list.Reports[0].Subject != "Second" || list.Reports[0].ClientName != "Acme Bakery" || list.NextCursor == nil {
		t.Fatalf("%+v", list)
	}
	second := "/mail/reports/" + list.Reports[0].ID
	program.call(t, http.MethodGet, "/mail/reports?cursor="+*list.NextCursor, "").has(t, http.StatusOK).into(t, &list)
	if len(list.Reports) != 1 || list.Reports[0].Subject != "First" || list.NextCursor != nil {
		t.Errorf("%+v", list)
	}
	var one report
	program.call(t, http.MethodGet, second, "").has(t, http.StatusOK).into(t, &one)
	if !strings.Contains(one.Text, "Who are you?") || one.ReadBy != nil {
		t.Errorf("%+v", one)
	}
	program.call(t, http.MethodPost, second+"/aside", "").has(t, http.StatusNoContent)
	program.call(t, http.MethodGet, second, "").has(t, http.StatusOK).into(t, &one)
	if one.ReadBy == nil || !strings.HasPrefix(*one.ReadBy, "key ") {
		t.Errorf("it was put aside by %v", one.ReadBy)
	}
	program.call(t, http.MethodGet, "/mail/reports?cursor=x", "").has(t, http.StatusBadRequest)
	program.call(t, http.MethodGet, "/mail/reports/"+list.Reports[0].ID+"0", "").has(t, http.StatusUnprocessableEntity)
	b.Returns = nil
	program.call(t, http.MethodGet, "/mail/reports", "").has(t, http.StatusServiceUnavailable).says(t, "COUNTERSIGN_BOUNCE_ADDRESS")
}

// TestSentMailsByAPI reads a mail as its owner gets it, and never the secret of its link.
func TestSentMailsByAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.invites(t)
	program := b.caller(t, admin.ScopeRead)
	var list struct {
		Mails []struct{ ID, Kind, State, To string }
	}
	program.call(t, http.MethodGet, "/clients/ref:BLOOM/mails", "").has(t, http.StatusOK).into(t, &list)
	if len(list.Mails) != 1 || list.Mails[0].Kind != "invitation" || list.Mails[0].To != benLogin {
		t.Fatalf("%+v", list)
	}
	var mail struct{ ID, From, Subject, Text, HTML string }
	program.call(t, http.MethodGet, "/clients/ref:BLOOM/mails/"+list.Mails[0].ID, "").has(t, http.StatusOK).into(t, &mail)
	if mail.ID != list.Mails[0].ID || !strings.HasPrefix(mail.From, agency) || mail.Subject == "" ||
		!strings.Contains(mail.Text, "only-in-the-mail") || !strings.Contains(mail.HTML, "only-in-the-mail") {
		t.Errorf("%+v", mail)
	}
	program.call(t, http.MethodGet, "/clients/ref:ACME%2F1/mails/"+list.Mails[0].ID, "").has(t, http.StatusNotFound)
	program.call(t, http.MethodGet, "/clients/ref:NOBODY/mails", "").has(t, http.StatusNotFound)
	program.call(t, http.MethodGet, "/clients/ref:BLOOM/mails/x", "").has(t, http.StatusNotFound)
}
