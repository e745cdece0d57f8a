package browsertest_test

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// write puts a text into a field as a hand would, and faster.
func (p *tab) write(id, text string) {
	p.t.Helper()
	eval[chromedp.Void](p, `(id, text) => {
		const field = document.getElementById(id);
		field.focus();
		field.value = text;
		field.dispatchEvent(new Event("input", { bubbles: true }));
	}`, id, text)
}

// previews waits until the mail in the frame says something.
func (p *tab) previews(words string) {
	p.t.Helper()
	p.until("the preview to say "+words, `(words) => document.querySelector("#preview-html").contentDocument?.body?.innerText.includes(words)`, words)
}

// received waits for a mail in the demo's sink and returns its subject.
func (d *demo) received(t *testing.T, to string) string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		var mails []struct {
			Subject string `json:"subject"`
		}
		fetch(t, http.MethodGet, d.mail+"/messages?to="+to, nil, &mails)
		if len(mails) > 0 {
			return mails[0].Subject
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("no mail came to %s", to)
	return ""
}

// logo is a picture of a mark beside what could be a name.
func logo(t *testing.T) string {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, 320, 80))
	draw.Draw(picture, image.Rect(8, 8, 72, 72), image.NewUniform(color.RGBA{0x7a, 0x1f, 0xa2, 0xff}), image.Point{}, draw.Src)
	draw.Draw(picture, image.Rect(96, 24, 304, 56), image.NewUniform(color.RGBA{0x33, 0x33, 0x44, 0xff}), image.Point{}, draw.Src)
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// TestMailSwitch stops all mail and lets it go again, and decides on whom an owner names.
func TestMailSwitch(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	p := visit(t, desk)
	enterConsole(p, d.entry)
	p.press("Mail")
	p.says("Mail")
	page := p.document()
	p.until("all mails to be sent", `document.querySelector("#tally div:last-child dd").innerText.replace(",", "") > 100 && document.querySelector("#tally dd").innerText === "0"`)
	if p.document() != page {
		t.Error("the page was loaded anew; it should have moved by itself")
	}
	p.inspect("mail")
	p.tabThrough()

	o := reachable(t)[0]
	link, _ := d.links(t, o.email)
	owner := visit(t, phone)
	owner.open(link + "/refer")
	owner.fill("Their e-mail address", "eve@acme-books.example")
	owner.write("note", "She keeps our books and has the password.")
	owner.press("Tell " + agency)
	p.until("whom the owner names", `document.querySelector("#referrals")`)

	p.fill("Reason for the pause", "The postal address is wrong")
	<-time.After(6 * time.Second) // Until the page has renewed itself.
	if typed := eval[string](p, `document.querySelector("#why").value`); typed != "The postal address is wrong" {
		t.Errorf("what was typed has become %q", typed)
	}
	p.press("Pause all mail")
	p.mentions("Mail is paused")
	p.inspect("mail-named")
	p.press("Make them the owner and invite : eve@acme-books.example")
	p.mentions("The invitation is queued")
	p.inspect("mail-paused")
	p.press("Let mail go again")
	p.mentions("Mail goes out again.")
	if subject := d.received(t, "eve@acme-books.example"); !strings.Contains(subject, o.client) {
		t.Errorf("she got %q", subject)
	}
	p.press("Came back")
	p.mentions("There is nothing to read.")
	p.inspect("mail-reports-empty")
}

func TestMailTexts(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	d.command(t, 0, operatorPassword+"\n", "admin", "add", operator, "--name", "Grace Hopper")
	p := visit(t, desk)
	p.open(d.console + "/admin/sign-in")
	p.fill("E-mail", operator)
	p.fill("Password", operatorPassword)
	p.press("Sign in")
	p.press("Mail")
	p.press("Texts")
	p.inspect("mail-texts")
	p.tabThrough()
	p.pressFirst(`a[href="/admin/mail/texts/invitation/en"]`)
	p.says("Invitation, English")
	p.previews("Hello Maria Rossi,")
	p.inspect("mail-text")

	// It moves while somebody writes, and stays where it is.
	page, steps := p.document(), eval[int](p, "history.length")
	source := eval[string](p, `document.querySelector("#source").value`)
	eval[chromedp.Void](p, `document.querySelector("#preview-html").contentDocument.documentElement.scrollTop = 200`)
	p.write("source", strings.Replace(source, "Hello {owner},", "Good morning {owner}, zebra **{client}**,", 1))
	p.previews("Good morning Maria Rossi, zebra Acme Bakery,")
	p.until("the plain text", `document.querySelector("#preview-text").innerText.includes("Good morning Maria Rossi, zebra")`)
	if got := eval[int](p, `document.querySelector("#preview-html").contentDocument.documentElement.scrollTop`); got != 200 {
		t.Errorf("the preview has scrolled to %d", got)
	}
	p.write("source", strings.Replace(source, "{link: See what is asked and continue}", "{lnk}", 1))
	p.until("the mistakes", `document.querySelector("#mistakes").innerText.includes("the link is missing")`)
	p.previews("zebra")
	if got := eval[int](p, "history.length"); p.document() != page || got != steps {
		t.Errorf("writing makes %d steps in the history of %d", got, steps)
	}
	p.pressTo(http.StatusUnprocessableEntity, "Save")
	p.mentions("This cannot be sent yet.")
	p.inspect("mail-text-mistakes")

	p.write("source", strings.Replace(source, "Hello {owner},", "Good morning {owner},", 1))
	p.press("Send a test to " + operator)
	p.mentions("The test is on its way")
	if subject := d.received(t, operator); subject != agency+" asks you to connect Acme Bakery on Constant Contact" {
		t.Errorf("the test is called %q", subject)
	}
	other := visit(t, desk)
	other.open(d.console + "/admin/sign-in")
	other.fill("E-mail", operator)
	other.fill("Password", operatorPassword)
	other.press("Sign in")
	other.open(d.console + "/admin/mail/texts/invitation/en")
	other.write("source", strings.Replace(source, "Hello {owner},", "Dear {owner},", 1))
	p.press("Save")
	p.mentions("Saved.")
	p.previews("Good morning Maria Rossi,")
	p.inspect("mail-text-own")
	other.pressTo(http.StatusConflict, "Save")
	other.mentions("Somebody else has changed this text")
	other.inspect("mail-text-late")
	p.touch("Back to the built-in text")
	p.until("the question", `document.querySelector("details.back").open`)
	p.press("Use the built-in text")
	p.mentions("The built-in text is used again")
	p.previews("Hello Maria Rossi,")
}

func TestLetterhead(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	p := visit(t, desk)
	enterConsole(p, d.entry)
	p.press("Mail")
	p.press("Letterhead")
	p.previews("Hello Maria Rossi,")
	p.inspect("letterhead")
	p.write("agency", "Southwind & Daughters")
	p.write("colour", "#7a1fa2")
	p.write("postal_address", "12 Harbour Lane\nSpringfield, IL 62701")
	p.write("support", "+1 555 0100, weekdays 9 to 5")
	p.write("phrase", "blue heron 42")
	p.previews("blue heron 42")
	p.write("phrase", "see https://blue.example")
	p.until("the mistake", `document.querySelector("#mistakes").innerText.includes("Phrase: Has the address of a page")`)
	p.pressTo(http.StatusUnprocessableEntity, "Save")
	p.inspect("letterhead-mistake")
	p.write("phrase", "blue heron 42")
	p.press("Save")
	p.mentions("Saved.")
	p.mentions("Southwind & Daughters") // in the frame of the console
	p.arrives(http.StatusOK, func() { p.pick(save(t, "logo.png", logo(t))) })
	p.until("the logo", `document.querySelector(".logo img")?.naturalWidth > 0`)
	p.until("the logo in the mail", `document.querySelector("#preview-html").contentDocument.querySelector("img")?.naturalWidth > 0`)
	p.inspect("letterhead-own")
	p.pick(save(t, "logo.png", strings.Repeat("x", 300<<10)))
	p.until("the refusal", `document.querySelector("#file-problem").innerText.includes("too large")`)

	link, _ := d.links(t, reachable(t)[0].email)
	owner := visit(t, phone)
	owner.open(link)
	owner.until("the logo", `document.querySelector(".letterhead img")?.naturalWidth > 0`)
	owner.inspect("invitation-with-logo")
}

// TestMailRoomOnAPhone needs no scripts.
func TestMailRoomOnAPhone(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := visitWithoutScripts(t, phone)
	p.setUpFirst(s)
	p.press("Mail")
	p.mentions("COUNTERSIGN_SMTP_URL")
	p.mentions("COUNTERSIGN_BOUNCE_ADDRESS")
	p.inspect("mail-off")
	p.press("Texts")
	p.pressFirst(`a[href="/admin/mail/texts/reminder/unseen/1/de"]`)
	p.says("First reminder: nobody pressed Continue, German")
	p.fill("Text", "Subject: Zebra\n\n# Zebra\n\n{link: Weiter}\n")
	p.press("Show the preview")
	p.until("the mail", `document.querySelector("#preview-html").contentDocument?.body?.innerText.includes("Weiter")`)
	p.inspect("mail-text-plain")
	p.press("Send a test to " + operator)
	p.mentions("there is no mail server")
	p.press("Save")
	p.mentions("Saved.")
	p.press("Mail")
	p.press("Letterhead")
	p.fill("Your name", "Southwind")
	p.press("Save")
	p.mentions("Saved.")
	p.press("Mail")
	p.press("Pause all mail")
	p.mentions("Stopped by " + operator)
	p.press("Let mail go again")
}
