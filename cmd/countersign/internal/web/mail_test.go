package web_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// invites queues a mail to every client.
func (b *testBundle) invites(t *testing.T) {
	t.Helper()
	if _, err := b.Inviter.Invite(t.Context(), provisioning.Selection{All: true}, provisioning.ActorCLI, false); err != nil {
		t.Fatal(err)
	}
}

func (b *testBundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// mailOf changes the message to a client.
func (b *testBundle) mailOf(t *testing.T, ref, set string) {
	t.Helper()
	b.exec(t, `UPDATE messages SET `+set+` WHERE client_id = (SELECT id FROM clients WHERE ref = '`+ref+`')`)
}

// refers has a client's owner name somebody else.
func (b *testBundle) refers(t *testing.T, ref, name, email, note string) {
	t.Helper()
	err := provisioning.Refer(t.Context(), b.db, b.client(t, ref).ID, provisioning.Owner{Name: name, Email: email}, note)
	if err != nil {
		t.Fatal(err)
	}
}

// field is what stands in a field of the page's forms.
func (p page) field(t *testing.T, name string) string {
	t.Helper()
	found := find(p.doc(t), tag("input", "textarea"), with("name", name))
	if len(found) == 0 {
		t.Fatalf("%s has no field %s", p.name, name)
	}
	if found[0].Data == "input" {
		return attribute(found[0], "value")
	}
	if found[0].FirstChild == nil {
		return ""
	}
	return found[0].FirstChild.Data
}

func TestMailPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	home := operator.get(t, "/admin/mail").has(t, http.StatusOK)
	home.says(t, "Mail goes out", "As fast as the mail server takes it", "Nothing. No mail is on its way either", "Nobody has said so.")
	if diff := cmp.Diff(map[string]string{"Waiting": "0", "Being sent": "0", "Put off": "0", "Perhaps sent": "0", "Sent today": "0"}, home.tally(t)); diff != "" {
		t.Error(diff)
	}

	b.imports(t, rosterFile)
	b.invites(t)
	b.mailOf(t, "ACME/1", `state = 'deferred', attempts = 1, error = 'mail server mx:25: RCPT TO answered 450 4.7.1 <greylisted>'`)
	b.mailOf(t, "BLOOM", `state = 'failed', step = NULL, ended_at = now(), error = 'mail server mx:25: end of message answered 550 5.7.1 spam'`)
	b.exec(t, `UPDATE clients SET stage = 'stalled', reason = 'bounced' WHERE ref = 'CAFE'`)
	b.exec(t, `INSERT INTO returns (id, digest, source, kind, recipient, diagnostic)
		VALUES ($1, 'd', 'mailbox', 'policy', 'ann@strict.example', 'We are blocked.')`, uuid.Must(uuid.NewV7()))
	b.Pace = notify.Pace{Rate: 0.5, DomainRate: 2, Ramp: 100}
	page := operator.get(t, "/admin/mail").has(t, http.StatusOK)
	page.says(t,
		"At most 0.5 a second · at most 2 a second to one domain · 0 of 100 today",
		"<greylisted>", "COUNTERSIGN_MAIL_RATE", "Acme Bakery",
		"Refused for our sake", "strict.example : 1", "We are blocked.",
		"550 5.7.1 spam", "Bloom Florist", "Then invite these clients again.",
	)
	if got := page.tally(t); got["Waiting"] != "1" || got["Put off"] != "1" {
		t.Errorf("%v", got)
	}
	for _, address := range []string{"/admin/clients/" + b.client(t, "ACME/1").ID.String(), "/admin/clients?stage=stalled&reason=bounced"} {
		if len(find(page.doc(t), tag("a"), with("href", address))) == 0 {
			t.Errorf("no link to %s", address)
		}
		operator.get(t, address).has(t, http.StatusOK)
	}
	b.exec(t, `INSERT INTO mail_pace VALUES ('*', now(), now(), (now() AT TIME ZONE 'UTC')::date, 0, 100)`)
	operator.get(t, "/admin/mail").says(t, "Mail goes on tomorrow", "All 100 mails of today are sent.")

	b.Sender, b.Returns = nil, nil
	bare := operator.get(t, "/admin/mail").has(t, http.StatusOK)
	bare.says(t, "Mails wait for a mail server", "COUNTERSIGN_SMTP_URL", "COUNTERSIGN_BOUNCE_ADDRESS")
	operator.get(t, "/admin/mail/reports").has(t, http.StatusOK).says(t, "COUNTERSIGN_BOUNCE_ADDRESS")
	operator.get(t, "/admin/mail/reports/"+uuid.NewString()).has(t, http.StatusNotFound)
}

func TestMailSwitch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	pause := func(why string) page {
		t.Helper()
		return operator.get(t, operator.post(t, "/admin/mail/pause", url.Values{"why": {why}}).leads(t)).has(t, http.StatusOK)
	}
	pause("The <texts> are wrong.").says(t, "No mail goes out any more.", "Mail is paused", "Stopped by "+operatorEmail, "The <texts> are wrong.")
	pause("Another reason").says(t, "The <texts> are wrong.")
	resumed := operator.get(t, operator.post(t, "/admin/mail/resume", nil).leads(t)).has(t, http.StatusOK)
	resumed.says(t, "Mail goes out again.", "Mail goes out")
	pause(strings.Repeat("é", 1000)).says(t, " "+strings.Repeat("é", 300)+" ")
	b.exec(t, `UPDATE mail_switch SET paused_by = 'breaker', why = '15 of the last 500 mails bounced.'`)
	operator.get(t, "/admin/mail").says(t, "Countersign stopped all mail", "15 of the last 500", "Correct the addresses that bounced")
	if got := operator.get(t, "/admin/mail/pause").leads(t); got != "/admin/mail" {
		t.Errorf("looking leads to %s", got)
	}
	if p, err := b.Switch.Position(t.Context()); err != nil || p.PausedAt == nil {
		t.Errorf("%+v %v", p, err)
	}
}

func TestNamedOnMailPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.refers(t, "ACME/1", "Eve <b>Ash</b>", "eve@acme.example", "She keeps the books.")
	b.refers(t, "BLOOM", "", "flo@bloom.example", "")
	operator := b.operator(t)
	page := operator.get(t, "/admin/mail").has(t, http.StatusOK)
	page.says(t, "2 Owners name somebody else", "Eve <b>Ash</b> eve@acme.example for Acme Bakery", "She keeps the books.", "Make them the owner and invite : flo@bloom.example")
	if n := b.count(t, "messages"); n != 0 {
		t.Errorf("%d mails before anybody decided", n)
	}
	var accept []string
	for _, action := range posts(page.doc(t)) {
		if strings.HasSuffix(action, "/accept") {
			accept = append(accept, action)
		}
	}
	if len(accept) != 2 {
		t.Fatalf("to press: %v", accept)
	}
	operator.get(t, operator.post(t, accept[0], nil).leads(t)).says(t, "The invitation is queued")
	operator.get(t, operator.post(t, strings.Replace(accept[1], "accept", "dismiss", 1), nil).leads(t)).says(t, "The owner stays who it was.")
	operator.get(t, operator.post(t, accept[0], nil).leads(t)).says(t, "somebody has decided that already")
	operator.post(t, "/admin/mail/referrals/made-up/accept", nil).has(t, http.StatusNotFound)
	if got := b.client(t, "ACME/1"); got.OwnerEmail != "eve@acme.example" {
		t.Errorf("the owner is %s", got.OwnerEmail)
	}
	if got := b.client(t, "BLOOM"); got.OwnerEmail != "ben@bloom.example" {
		t.Errorf("the owner is %s", got.OwnerEmail)
	}
	if n := b.count(t, "messages"); n != 1 {
		t.Errorf("%d mails", n)
	}
}

func TestMailReports(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.invites(t)
	operator := b.operator(t)
	operator.get(t, "/admin/mail/reports").has(t, http.StatusOK).says(t, "There is nothing to read.")
	messages, err := b.Mailer.Messages(t.Context(), b.client(t, "ACME/1").ID)
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	for i := range 51 {
		_, err := b.Returns.Take(t.Context(), strings.NewReader(fmt.Sprintf("Delivered-To: %s\r\nFrom: Ada <ada@acme.example>\r\n"+
			"Subject: <b>Question</b> %d\r\nContent-Type: text/html\r\n\r\n<p>Who are <script>alert(1)</script> you?</p>\r\n",
			b.Returns.Paths.Bounce(messages[0].ID), i)))
		if err != nil {
			t.Fatal(err)
		}
	}
	operator.get(t, "/admin/mail").says(t, "51 Mails came back for you to read")
	list := operator.get(t, "/admin/mail/reports").has(t, http.StatusOK)
	list.says(t, "<b>Question</b> 50", "Somebody answered", "Acme Bakery")
	next := find(list.doc(t), tag("a"), with("rel", "next"))
	if len(next) != 1 {
		t.Fatal("the list has no next page")
	}
	last := operator.get(t, attribute(next[0], "href")).has(t, http.StatusOK)
	last.says(t, "<b>Question</b> 0", "First page")
	last.silent(t, `rel="next"`)

	address := regexp.MustCompile(`/admin/mail/reports/[0-9a-f-]{36}`).FindString(last.body)
	report := operator.get(t, address).has(t, http.StatusOK)
	report.says(t, "Who are", "Acme Bakery", "ada@acme.example")
	report.silent(t, "<script>alert", "<p>Who")
	if got := report.heading(t); got != "<b>Question</b> 0" {
		t.Errorf("heading %q", got)
	}
	if got := operator.post(t, address+"/aside", nil).leads(t); got != "/admin/mail/reports" {
		t.Errorf("leads to %s", got)
	}
	operator.get(t, address).has(t, http.StatusOK).says(t, "by "+operatorEmail)
	operator.get(t, "/admin/mail").says(t, "50 Mails came back")
	operator.get(t, "/admin/mail/reports/"+uuid.NewString()).has(t, http.StatusNotFound)
	operator.post(t, "/admin/mail/reports/"+uuid.NewString()+"/aside", nil).has(t, http.StatusNotFound)
	operator.get(t, "/admin/mail/reports?before=x").has(t, http.StatusBadRequest)
}

const thanksText = "Subject: Thank you, {client}\n\n# Done\n\nHello {owner},\n\nit works: <i>{organization}</i>.\n"

func TestMailTexts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	list := operator.get(t, "/admin/mail/texts").has(t, http.StatusOK)
	links := find(list.doc(t), tag("a"), func(n *html.Node) bool { return strings.HasPrefix(attribute(n, "href"), "/admin/mail/texts/") })
	if len(links) != len(templates.Keys()) {
		t.Errorf("%d texts are listed, of %d", len(links), len(templates.Keys()))
	}
	const address = "/admin/mail/texts/thanks/de"
	first := operator.get(t, address).has(t, http.StatusOK)
	if got := first.heading(t); got != "Thank you: connected, German" {
		t.Errorf("heading %q", got)
	}
	if got, _, _ := strings.Cut(first.field(t, "source"), ":"); got != "Subject" {
		t.Errorf("the text begins with %q", got)
	}
	first.says(t, "{organization}", "built-in text")
	first.silent(t, "Use the built-in text")
	write := func(do, source, seen string, header ...string) page {
		t.Helper()
		form := url.Values{"source": {strings.ReplaceAll(source, "\n", "\r\n")}, "seen": {seen}}
		return operator.do(t, http.MethodPost, address+"?do="+do, strings.NewReader(form.Encode()), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
	}
	seen := first.field(t, "seen")

	// What is wrong is told by line, beside the form and while somebody writes.
	const wrong = "Subject: x\n\nHello {ower}\n{link: Go}\n"
	refused := write("save", wrong, seen).has(t, http.StatusUnprocessableEntity)
	refused.says(t, "Line 3: {ower} stands for nothing here", "Line 4: this mail asks for nothing and has no link")
	if refused.field(t, "source") != wrong {
		t.Errorf("what was typed is gone: %q", refused.field(t, "source"))
	}
	writing := write("preview", wrong, seen).has(t, http.StatusOK)
	if writing.header.Get("Hx-Retarget") != "#mistakes" || writing.header.Get("Hx-Reselect") != "#mistakes" {
		t.Errorf("the preview goes away: %v", writing.header)
	}

	// Both forms show what is being written.
	writing = write("preview", thanksText, seen).has(t, http.StatusOK)
	if writing.header.Get("Hx-Retarget") != "" {
		t.Errorf("only mistakes are shown: %v", writing.header)
	}
	writing.says(t, "Subject Thank you, Acme Bakery", "it works: <i>Acme Bakery LLC</i>.")
	if got := writing.header.Get("Content-Security-Policy"); !strings.Contains(got, "frame-src 'self'") || strings.Contains(got, "unsafe") {
		t.Errorf("policy %q", got)
	}
	frame := operator.get(t, attribute(find(writing.doc(t), tag("iframe"))[0], "src")).has(t, http.StatusOK)
	frame.says(t, "it works: <i>Acme Bakery LLC</i>.")
	policy := frame.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'unsafe-inline'", "frame-ancestors 'self'", "form-action 'none'", "base-uri 'none'", "sandbox allow-same-origin"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the frame has the policy %q, without %q", policy, want)
		}
	}
	if strings.Contains(policy, "script") || len(find(frame.doc(t), tag("script"))) > 0 || !strings.Contains(frame.body, `<base target="_blank"`) {
		t.Errorf("the frame may do something: %q", policy)
	}
	if b.count(t, "stationery") != 0 {
		t.Error("looking has changed something")
	}

	saved := operator.get(t, write("save", thanksText, seen).leads(t)).has(t, http.StatusOK)
	saved.says(t, "Saved.", "your own text", "Use the built-in text")
	if saved.field(t, "source") != thanksText {
		t.Errorf("the text is %q", saved.field(t, "source"))
	}
	v, err := b.Stationery.Current(t.Context())
	if err != nil || v.Actor != provisioning.Operator(operatorEmail) {
		t.Errorf("changed by %s, %v", v.Actor, err)
	}
	if diff := cmp.Diff(map[string]string{"thanks/de": thanksText}, v.Content.Texts); diff != "" {
		t.Error(diff)
	}
	own := find(operator.get(t, "/admin/mail/texts").doc(t), tag("a"), with("class", "own"))
	if len(own) != 1 || attribute(own[0], "href") != address {
		t.Errorf("%d texts are our own", len(own))
	}
	write("save", thanksText, saved.field(t, "seen")).leads(t)
	if n := b.count(t, "stationery"); n != 1 {
		t.Errorf("saving what is saved makes version %d", n)
	}

	// Who began with another text is told, loses nothing, and may decide.
	other := strings.Replace(thanksText, "it works", "it does", 1)
	late := write("save", other, seen).has(t, http.StatusConflict)
	late.says(t, "Somebody else has changed this text", "What somebody else has saved", "it works")
	if late.field(t, "source") != other {
		t.Errorf("what was typed is gone: %q", late.field(t, "source"))
	}
	write("reset", "", seen).has(t, http.StatusConflict)
	write("save", other, late.field(t, "seen")).leads(t)

	reset := operator.get(t, write("reset", "", operator.get(t, address).field(t, "seen")).leads(t))
	reset.says(t, "The built-in text is used again", "built-in text")
	if v, err = b.Stationery.Current(t.Context()); err != nil || len(v.Content.Texts) != 0 {
		t.Errorf("%v, %v", v.Content.Texts, err)
	}

	for _, path := range []string{
		"/admin/mail/texts/", "/admin/mail/texts/thanks", "/admin/mail/texts/thanks/tlh", "/admin/mail/preview/thanks/tlh",
	} {
		operator.get(t, path).has(t, http.StatusNotFound)
	}
	for _, draft := range []string{"%21", "AAAA", "made-up"} {
		operator.get(t, "/admin/mail/preview/thanks/de?draft="+draft).has(t, http.StatusBadRequest)
	}
}

func TestTrialMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	try := func(source string) page {
		t.Helper()
		return operator.post(t, "/admin/mail/texts/thanks/en?do=trial", url.Values{"source": {source}}).has(t, http.StatusOK)
	}
	try("Subject: x").says(t, "correct the text first")
	sent := try(thanksText)
	sent.says(t, "The test is on its way to "+operatorEmail)
	if sent.field(t, "source") != thanksText {
		t.Errorf("what was typed is gone: %q", sent.field(t, "source"))
	}
	if len(b.outgoing.mails) != 1 || b.outgoing.mails[0].To != operatorEmail {
		t.Fatalf("sent: %+v", b.outgoing.mails)
	}
	m, err := mail.ReadMessage(bytes.NewReader(b.outgoing.mails[0].Body))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "Thank you, Acme Bakery" {
		t.Errorf("subject %q, %v", subject, err)
	}
	if n := b.count(t, "messages") + b.count(t, "stationery"); n != 0 {
		t.Errorf("a test leaves %d rows", n)
	}
	b.outgoing.refusal = errors.New("mail server mx:25: AUTH answered 535 5.7.8 <no>")
	try(thanksText).says(t, "The test was not sent. Mail server mx:25: AUTH answered 535 5.7.8 <no>.")
	b.Sender = nil
	try(thanksText).says(t, "COUNTERSIGN_SMTP_URL")
}

// picture is one that a letterhead can have.
func picture(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 120, 40))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (b *browser) sendsLogo(t *testing.T, content []byte) page {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "logo.png")
	if err == nil {
		_, err = part.Write(content)
	}
	if err = errors.Join(err, form.Close()); err != nil {
		t.Fatal(err)
	}
	return b.do(t, http.MethodPost, "/admin/mail/letterhead/logo", &body, "Content-Type", form.FormDataContentType())
}

func TestLetterhead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, operator := b.link(t, "ACME/1"), b.operator(t)
	const address = "/admin/mail/letterhead"
	first := operator.get(t, address).has(t, http.StatusOK)
	if got := first.field(t, "agency"); got != agency {
		t.Errorf("the agency is %q", got)
	}
	form := url.Values{
		"seen": {first.field(t, "seen")}, "agency": {"Dimlight & Sons"}, "colour": {"#7a1fa2"},
		"postal_address": {"1 Main St\r\nSpringfield"}, "support": {"+1 555 0100"}, "phrase": {"blue heron"}, "language": {"de"},
	}
	change := func(name, value string) url.Values {
		changed := maps.Clone(form)
		changed.Set(name, value)
		return changed
	}

	// It shows while it is typed, mistakes too, and changes nothing.
	preview := operator.post(t, address+"?do=preview", form).has(t, http.StatusOK)
	preview.says(t, "Dimlight & Sons", "blue heron", "möchte")
	frame := operator.get(t, attribute(find(preview.doc(t), tag("iframe"))[0], "src")).has(t, http.StatusOK)
	frame.says(t, "Dimlight & Sons", "Springfield")
	if !strings.Contains(frame.body, "#7a1fa2") {
		t.Error("the mail does not have the colour")
	}
	for field, mistake := range map[string][2]string{
		"agency":         {" ", "Is empty; write the name by which your clients know you."},
		"colour":         {"red", `"red" is not a colour`},
		"postal_address": {strings.Repeat("x\r\n", 7), "Has 7 lines; 6 are enough"},
		"support":        {"https://evil.example", "Has the address of a page"},
		"phrase":         {strings.Repeat("x", 121), "Has 121 characters; shorten it to 120."},
		"language":       {"tlh", `"tlh" is not among`},
	} {
		refused := operator.post(t, address+"?do=save", change(field, mistake[0])).has(t, http.StatusUnprocessableEntity)
		wrong := find(refused.doc(t), with("aria-invalid", "true"))
		if len(wrong) != 1 || attribute(wrong[0], "name") != field {
			t.Errorf("%s: %d fields are wrong", field, len(wrong))
			continue
		}
		for id := range strings.FieldsSeq(attribute(wrong[0], "aria-describedby")) {
			if said := text(find(refused.doc(t), with("id", id))[0]); strings.HasSuffix(id, "-problem") && !strings.Contains(said, mistake[1]) {
				t.Errorf("%s: %q, want %q", field, said, mistake[1])
			}
		}
	}
	if b.count(t, "stationery") != 0 {
		t.Error("something has changed")
	}

	saved := operator.get(t, operator.post(t, address+"?do=save", form).leads(t)).has(t, http.StatusOK)
	saved.says(t, "Saved.")
	for name := range form {
		if name == "seen" || name == "language" {
			continue
		}
		if got := saved.field(t, name); got != strings.ReplaceAll(form.Get(name), "\r", "") {
			t.Errorf("%s is %q", name, got)
		}
	}
	operator.post(t, address+"?do=save", form).leads(t)
	if n := b.count(t, "stationery"); n != 1 {
		t.Errorf("saving what is saved makes version %d", n)
	}
	late := operator.post(t, address+"?do=save", change("agency", "Third")).has(t, http.StatusConflict)
	late.says(t, "Somebody else has changed the letterhead")
	if late.field(t, "agency") != "Third" || late.field(t, "seen") == form.Get("seen") {
		t.Error("the form has no way on")
	}

	// Owners and operators see it at once.
	owner := b.browser(t)
	owner.get(t, link).says(t, "Dimlight & Sons")
	owner.get(t, "/admin/sign-in").says(t, "Dimlight & Sons")
	operator.get(t, "/admin").says(t, "Dimlight & Sons")
}

func TestLogo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, operator := b.link(t, "ACME/1"), b.operator(t)
	for _, content := range [][]byte{[]byte("<svg/>"), nil, bytes.Repeat([]byte{0x89}, notify.MaxLogo+1)} {
		refused := operator.sendsLogo(t, content).has(t, http.StatusUnprocessableEntity)
		refused.says(t, "This logo cannot be used")
	}
	operator.sendsLogo(t, make([]byte, 17<<20)).has(t, http.StatusRequestEntityTooLarge).says(t, "make it smaller than 200 KB")
	operator.post(t, "/admin/mail/letterhead/logo", url.Values{"x": {"y"}}).has(t, http.StatusBadRequest)

	want := picture(t)
	page := operator.get(t, operator.sendsLogo(t, want).leads(t)).has(t, http.StatusOK)
	shown := find(page.doc(t), tag("img"))
	if len(shown) != 1 {
		t.Fatalf("%d pictures", len(shown))
	}
	address := attribute(shown[0], "src")
	visitor := b.browser(t)
	logo := visitor.get(t, address).has(t, http.StatusOK)
	if logo.body != string(want) {
		t.Error("it is another picture")
	}
	for name, value := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Cache-Control": "public, max-age=31536000, immutable",
		"Content-Security-Policy": "default-src 'none'; sandbox",
	} {
		if got := logo.header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if body := visitor.do(t, http.MethodHead, address, nil).has(t, http.StatusOK).body; body != "" {
		t.Error("HEAD has a body")
	}
	visitor.get(t, "/logo/made-up").has(t, http.StatusNotFound)
	if frame := operator.get(t, "/admin/mail/preview/invitation/en"); !strings.Contains(frame.body, b.PublicURL+address) ||
		!strings.Contains(frame.header.Get("Content-Security-Policy"), "img-src 'self' "+b.PublicURL) {
		t.Error("the mail does not show it")
	}
	if got := find(visitor.get(t, link).doc(t), tag("img")); len(got) != 1 || attribute(got[0], "src") != b.PublicURL+address || attribute(got[0], "alt") != agency {
		t.Errorf("the owner sees %d pictures", len(got))
	}

	// What is typed beside it does not take it away.
	form := url.Values{"seen": {page.field(t, "seen")}, "agency": {"New Name"}, "colour": {page.field(t, "colour")}, "language": {"en"}}
	page = operator.get(t, operator.post(t, "/admin/mail/letterhead?do=save", form).leads(t))
	if len(find(page.doc(t), tag("img"))) != 1 {
		t.Error("the logo is gone")
	}
	if l, err := b.Stationery.Letterhead(t.Context()); err != nil || l.Colour != "" || l.Language != "" || l.Agency != "New Name" {
		t.Errorf("what a form cannot leave empty was taken for a choice: %+v, %v", l, err)
	}
	page = operator.get(t, operator.post(t, "/admin/mail/letterhead/logo/remove", nil).leads(t))
	if len(find(page.doc(t), tag("img"))) != 0 {
		t.Error("the logo stays")
	}
	visitor.get(t, address).has(t, http.StatusOK) // for the mails that have it
}

// TestMailRoomIsGuarded: only for operators, and only from our own pages.
func TestMailRoomIsGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	id := uuid.NewString()
	for _, path := range []string{
		"/admin/mail", "/admin/mail/reports", "/admin/mail/reports/" + id, "/admin/mail/texts", "/admin/mail/texts/thanks/en",
		"/admin/mail/preview/thanks/en", "/admin/mail/letterhead",
	} {
		if got := b.browser(t).get(t, path).leads(t); got != "/admin/sign-in" {
			t.Errorf("%s leads a stranger to %s", path, got)
		}
	}
	for _, path := range []string{
		"/admin/mail/pause", "/admin/mail/resume", "/admin/mail/referrals/" + id + "/accept", "/admin/mail/referrals/" + id + "/dismiss",
		"/admin/mail/reports/" + id + "/aside", "/admin/mail/texts/thanks/en", "/admin/mail/letterhead", "/admin/mail/letterhead/logo",
		"/admin/mail/letterhead/logo/remove",
	} {
		if got := b.browser(t).post(t, path, nil).leads(t); got != "/admin/sign-in" {
			t.Errorf("%s leads a stranger to %s", path, got)
		}
		operator.do(t, http.MethodPost, path, nil, "Sec-Fetch-Site", "cross-site").has(t, http.StatusForbidden)
		operator.do(t, http.MethodPost, path, nil, "Origin", "https://evil.example").has(t, http.StatusForbidden)
		if path != "/admin/mail/letterhead/logo" {
			large := strings.NewReader(url.Values{"why": {strings.Repeat("x", 1<<17)}}.Encode())
			operator.do(t, http.MethodPost, path, large, "Content-Type", "application/x-www-form-urlencoded").has(t, http.StatusRequestEntityTooLarge)
		}
	}
	if p, err := b.Switch.Position(t.Context()); err != nil || p.PausedAt != nil || b.count(t, "stationery") != 0 {
		t.Errorf("something happened: %+v, %v", p, err)
	}
}

func TestAPIMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.invites(t)
	b.Pace = notify.Pace{Rate: 5, Ramp: 200}
	b.mailOf(t, "ACME/1", `state = 'deferred', attempts = 1, error = 'mail server mx:25: RCPT TO answered 450 4.7.1 greylisted'`)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	type standing struct {
		Queued, Deferred int
		Deferrals        []struct {
			Cause, Words, Cure, Said string
			N                        int
			Clients                  []struct{ ID, Name string }
		}
		Failures, Refusals []any
		Sender             bool
		Paused             *struct {
			By, Why string
			Breaker bool
		}
		Pace struct {
			Rate  float64
			Quota *int
		}
	}
	read := func(p page) (got standing) {
		t.Helper()
		p.has(t, http.StatusOK).into(t, &got)
		return got
	}
	got := read(api.call(t, http.MethodGet, "/mail", ""))
	if got.Queued != 2 || got.Deferred != 1 || got.Paused != nil || !got.Sender || got.Pace.Rate != 5 || got.Pace.Quota == nil || *got.Pace.Quota != 200 {
		t.Errorf("%+v", got)
	}
	if len(got.Deferrals) != 1 || got.Deferrals[0].Cause != "busy" || got.Deferrals[0].N != 1 || got.Deferrals[0].Words == "" || len(got.Deferrals[0].Clients) != 1 {
		t.Errorf("%+v", got.Deferrals)
	}
	if got.Failures == nil || got.Refusals == nil {
		t.Error("a list is null")
	}
	if got := read(api.call(t, http.MethodPost, "/mail/pause", `{"why":"night"}`, "Content-Type", "application/json")); got.Paused == nil || got.Paused.Why != "night" || !strings.HasPrefix(got.Paused.By, "key ") {
		t.Errorf("%+v", got.Paused)
	}
	if got := read(api.call(t, http.MethodPost, "/mail/resume", "")); got.Paused != nil {
		t.Errorf("%+v", got.Paused)
	}
	if got := read(api.call(t, http.MethodPost, "/mail/pause", "")); got.Paused == nil || got.Paused.Why != "" {
		t.Errorf("%+v", got.Paused)
	}
	api.call(t, http.MethodPost, "/mail/pause", `{"reason":"misspelt"}`, "Content-Type", "application/json").problem(t, http.StatusUnprocessableEntity)
}

func TestAPIReferrals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.refers(t, "ACME/1", "Eve Ash", "eve@acme.example", "books")
	b.refers(t, "BLOOM", "", "flo@bloom.example", "")
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	type list struct {
		Referrals []struct {
			ID, Name, Email, Note string
			ClientName            string `json:"client_name"`
		}
		Next *string `json:"next_cursor"`
	}
	read := func(query string) (got list) {
		t.Helper()
		api.call(t, http.MethodGet, "/referrals"+query, "").has(t, http.StatusOK).into(t, &got)
		return got
	}
	first := read("?limit=1")
	if len(first.Referrals) != 1 || first.Next == nil {
		t.Fatalf("%+v", first)
	}
	second := read("?limit=1&cursor=" + *first.Next)
	if len(second.Referrals) != 1 || second.Next != nil || second.Referrals[0].ID == first.Referrals[0].ID {
		t.Errorf("%+v", second)
	}
	api.call(t, http.MethodGet, "/referrals?cursor=x", "").problem(t, http.StatusBadRequest)
	byName := map[string]string{}
	for _, r := range append(first.Referrals, second.Referrals...) {
		byName[r.ClientName] = r.ID
	}
	var invited provisioning.Invited
	api.call(t, http.MethodPost, "/referrals/"+byName["Acme Bakery"]+"/accept", "").has(t, http.StatusOK).into(t, &invited)
	if invited.Queued != 1 || b.client(t, "ACME/1").OwnerEmail != "eve@acme.example" {
		t.Errorf("%+v", invited)
	}
	api.call(t, http.MethodPost, "/referrals/"+byName["Bloom Florist"]+"/dismiss", "").has(t, http.StatusNoContent)
	for _, id := range []string{byName["Acme Bakery"], byName["Bloom Florist"], uuid.NewString()} {
		api.call(t, http.MethodPost, "/referrals/"+id+"/accept", "").problem(t, http.StatusNotFound)
		api.call(t, http.MethodPost, "/referrals/"+id+"/dismiss", "").problem(t, http.StatusNotFound)
	}
	if got := read(""); len(got.Referrals) != 0 {
		t.Errorf("%+v", got)
	}
}
