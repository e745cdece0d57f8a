package browsertest_test

import (
	"strings"
	"testing"
)

// TestMailLists walks through what waits, what was given up, and who gets no mail.
func TestMailLists(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	link, _ := d.links(t, reachable(t)[0].email)
	owner := visit(t, phone)
	owner.open(link)
	owner.touch("This is not for me")
	owner.press("No, this is not for me")

	p := visit(t, desk)
	enterConsole(p, d.entry)
	p.press("Mail")
	p.press("Queue")
	p.inspect("mail-queue")
	p.press("Put off")
	p.mentions("No mail is put off.")
	p.press("Given up")
	p.until("what bounced", `document.querySelector(".letters") !== null`)
	p.mentions("Correct the address")
	p.inspect("mail-failed")
	p.tabThrough()
	p.press("No mail")
	p.says("Who gets no mail")
	p.mentions("Says that the mail is not for them")
	p.inspect("mail-suppressed")
	p.touch("Let back in : " + reachable(t)[0].client)
	p.until("the warning", `document.querySelector("details[open]") !== null`)
	p.inspect("mail-suppressed-warning")
	p.press("They agreed: let them back in : " + reachable(t)[0].client)
	p.mentions("The opt-out is lifted.")
}

// TestSettings reads the settings and asks the doctor.
func TestSettings(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	p := visit(t, desk)
	enterConsole(p, d.entry)
	p.press("Settings")
	p.mentions("COUNTERSIGN_USERNAME_PATTERN")
	p.mentions("Acme Bakery becomes agency+acme-bakery@northwind.example")
	p.inspect("settings")
	p.tabThrough()
	p.press("Doctor")
	p.mentions("Nobody has asked the doctor yet.")
	p.inspect("doctor-none")
	p.press("Start")
	p.until("the report", `document.querySelector("#report")?.innerText.match(/failed|look|order/) && document.querySelector("[name=plus]")`)
	p.mentions("PostgreSQL")
	p.inspect("doctor")
}

// TestBrand shows owners the agency's colour, even one that nothing can be written in.
func TestBrand(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	p := visit(t, desk)
	enterConsole(p, d.entry)
	link, _ := d.links(t, reachable(t)[0].email)
	owner := visit(t, phone)
	for name, colour := range map[string]string{"yellow": "#ffd400", "black": "#000000", "white": "#ffffff"} {
		p.open(d.console + "/admin/mail/letterhead")
		p.write("colour", colour)
		p.press("Save")
		p.mentions("Saved.")
		owner.open(link)
		fill := eval[string](owner, `getComputedStyle(document.querySelector(".primary")).backgroundColor`)
		if want := map[string]string{"yellow": "rgb(255, 212, 0)", "black": "rgb(0, 0, 0)", "white": "rgb(255, 255, 255)"}[name]; fill != want {
			t.Errorf("%s: the button is %s, want %s", name, fill, want)
		}
		owner.inspect("brand-" + name)
		if strings.Contains(eval[string](owner, `document.documentElement.outerHTML`), "style=") {
			t.Error("a style of its own is in the page, which the policy refuses")
		}
	}
	owner.touch("This is not for me")
	owner.press("No, this is not for me")
	owner.inspect("brand-answer")
}
