package templates_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/templates"
)

// busy is a room for mail in which everything waits for the operator.
func busy() templates.MailPage {
	clients := []templates.ClientName{{ID: "0193a1", Name: "Acme Bakery"}, {ID: "0193a2", Name: "Nordlicht Yoga & Pilates GmbH"}}
	return templates.MailPage{
		Console: console(),
		Pace:    templates.MailPace{Rate: 5, DomainRate: 0.5, Quota: 400, Spent: 120},
		Queued:  1204, Sending: 10, Deferred: 31, Unknown: 2, SentToday: 120, FailedToday: 4, CancelledToday: 1,
		Deferrals: []templates.MailTrouble{{
			Words: "A mail server wants us to come later.", Cure: "The mails are tried again by themselves.", N: 31, Clients: clients,
			Said: "mail server relay.example:587: RCPT TO answered 450 4.7.1 <jens@nordlicht.example>: Recipient address rejected: Greylisted, see http://postgrey.example/help",
		}},
		Failures: []templates.MailTrouble{{
			Words: "Refused for our sake and not for the address.", Cure: "Run countersign doctor.", N: 2, Clients: clients,
			Said: "mail server relay.example:587: end of message answered 550 5.7.1 message looks like spam",
		}},
		Refusals: []templates.MailRefusal{
			{Domain: "strict.example", N: 12, Last: at(23, 9, 41), Said: "The mail server says that it does not trust us."},
			{Domain: "other.example", N: 1, Last: at(22, 17, 3)},
		},
		Unread:  3,
		Reasons: map[templates.Reason]int{"bounced": 4, "declined": 2, "unsubscribed": 1, "expired": 9},
		Referrals: []templates.OpenReferral{
			{
				Referral: templates.Referral{ID: "0193e1", Name: "Eve Ash", Email: "eve@acme-bakery.example", Note: "She keeps our books.", At: at(22, 15, 0)},
				Client:   clients[0],
			},
			{Referral: templates.Referral{ID: "0193e2", Email: "studio@nordlicht.example", At: at(21, 8, 0)}, Client: clients[1]},
		},
		More: true,
	}
}

func report() templates.MailReport {
	return templates.MailReport{
		ID: "0193f1", At: at(22, 17, 3), Kind: "reply", Words: "Maria Rossi wrote an answer.", Subject: "Re: Brightside Marketing asks you to connect Acme Bakery",
		Recipient: "maria@acme-bakery.example", Client: templates.ClientName{ID: "0193a1", Name: "Acme Bakery"},
	}
}

func mailText() templates.MailTextPage {
	key := templates.TextKey{Kind: templates.LetterThanks, Language: "en"}
	return templates.MailTextPage{
		Console: console(), Key: key, Source: "Subject: Thank you\n\n# It works\n\nHello {owner},\n", Seen: "5eeb", To: "sam@brightside.example",
		Preview: templates.MailPreview{Address: "/admin/mail/preview/thanks/en", Subject: "Thank you", Text: "It works\n\nHello Maria Rossi,\n"},
	}
}

func letterheadPage() templates.LetterheadPage {
	p := templates.LetterheadPage{
		Console: console(), Typed: letterhead(), Most: 200 << 10, Seen: "5eeb", Mistakes: map[string]string{}, Preview: mailText().Preview,
	}
	p.Typed.Language = "de"
	return p
}

func mailroomSamples() []sample {
	calm := templates.MailPage{Console: console(), SentToday: 12, Queued: 1}
	paused, broken, off, full := busy(), busy(), calm, busy()
	paused.Paused = &templates.MailPause{At: at(23, 9, 0), By: "sam@brightside.example", Why: "The texts are wrong."}
	broken.Paused = &templates.MailPause{At: at(23, 9, 0), By: "breaker", Why: "15 of the last 500 mails bounced.", Breaker: true}
	off.NoServer, off.Deaf, off.Done = true, true, "Mail goes out again."
	full.Pace.Spent = 400

	unknown, aside := report(), templates.MailReportPage{Console: console(), MailReport: report(), ReadBy: "Sam", ReadAt: at(23, 9, 0)}
	unknown.Subject, unknown.Kind, unknown.Client, unknown.Recipient = "", "unparsed", templates.ClientName{}, ""

	own, wrong, late := mailText(), mailText(), mailText()
	own.Own, own.Done = true, "Saved."
	wrong.Mistakes, wrong.Code = []string{"Line 3: {ower} stands for nothing here; use one of {owner}."}, 422
	late.Theirs, late.Problem, late.Code = "Subject: Thanks\n", "Somebody else has changed this text.", 409

	branded, refused := letterheadPage(), letterheadPage()
	branded.Logo, branded.Done = "/logo/d1ce", "Saved."
	refused.Code, refused.LogoProblem, refused.Problem = 422, "It is too large.", "Somebody else has changed it."
	refused.Mistakes = map[string]string{"agency": "Is empty.", "colour": "Is none.", "postal_address": "Is long.", "support": "Is long.", "phrase": "Is long.", "language": "Is none."}
	return []sample{
		{"mail", calm},
		{"mail-empty", templates.MailPage{Console: console()}},
		{"mail-busy", busy()},
		{"mail-paused", paused},
		{"mail-breaker", broken},
		{"mail-off", off},
		{"mail-full", full},
		{"mail-reports", templates.MailReportsPage{Console: console(), Reports: []templates.MailReport{report(), unknown}, Next: "/admin/mail/reports?before=x", Continued: true}},
		{"mail-reports-empty", templates.MailReportsPage{Console: console(), Deaf: true}},
		{"mail-report", templates.MailReportPage{Console: console(), MailReport: report(), Text: "What is this?\n> quoted"}},
		{"mail-report-aside", aside},
		{"mail-texts", templates.MailTextsPage{Console: console(), Own: map[string]bool{"thanks/de": true}}},
		{"mail-text", mailText()},
		{"mail-text-own", own},
		{"mail-text-wrong", wrong},
		{"mail-text-late", late},
		{"mail-letterhead", letterheadPage()},
		{"mail-letterhead-branded", branded},
		{"mail-letterhead-refused", refused},
	}
}

func TestMailStanding(t *testing.T) {
	t.Parallel()
	for _, s := range mailroomSamples() {
		p, ok := s.view.(templates.MailPage)
		if !ok {
			continue
		}
		doc := render(t, p)
		says(t, doc, p.Standing())
		// There is one way to turn the switch: the other.
		action, other := "/admin/mail/pause", "/admin/mail/resume"
		if p.Paused != nil {
			action, other = other, action
		}
		one(t, doc, tag("form"), with("action", action))
		hasNot(t, doc, tag("form"), with("action", other))
		if calm := len(find(doc, with("class", "banner standing authorized"))) == 1; calm != p.Going() {
			t.Errorf("%s looks calm: %t", s.name, calm)
		}
	}
	doc := render(t, busy())
	for _, phrase := range []string{
		"At most 5 a second · at most 0.5 a second to one domain · 120 of 400 today", "1,204", "4 given up, 1 cancelled", "13 Refused for our sake",
		"Acme Bakery , Nordlicht Yoga & Pilates GmbH and 29 more", "Make them the owner and invite : Eve Ash", "2+",
	} {
		says(t, doc, phrase)
	}
	one(t, doc, tag("form"), with("action", "/admin/mail/referrals/0193e2/accept"))
	one(t, doc, tag("button"), with("formaction", "/admin/mail/referrals/0193e2/dismiss"))
	if p := busy(); p.Full() {
		t.Error("there is room left")
	}
	if (templates.MailPage{Pace: templates.MailPace{Quota: 1, Spent: 1}}).Full() {
		t.Error("nobody has to wait")
	}
}

func TestMailTextsList(t *testing.T) {
	t.Parallel()
	doc := render(t, templates.MailTextsPage{Console: console(), Own: map[string]bool{"thanks/de": true}})
	rows := find(one(t, doc, tag("tbody")), tag("tr"))
	if len(rows)*len(templates.Languages()) != len(templates.Keys()) {
		t.Errorf("%d rows", len(rows))
	}
	own := one(t, doc, tag("a"), with("class", "own"))
	if href, _ := attribute(own, "href"); href != "/admin/mail/texts/thanks/de" {
		t.Errorf("our own is %s", href)
	}
	if got := text(rows[0]); !strings.HasPrefix(got, "Invitation English Built in") {
		t.Errorf("the first row says %q", got)
	}
}

// TestMailTextForm: what was typed stands in the field as it is.
func TestMailTextForm(t *testing.T) {
	t.Parallel()
	p := mailText()
	p.Source = "\n</textarea><script>x</script> & {owner}\r\n"
	page := renderText(t, p)
	if strings.Contains(page, "<script>x") {
		t.Error("a text gets out of its field")
	}
	if got := one(t, parse(t, page), tag("textarea")).FirstChild; got == nil || !strings.Contains(got.Data, "</textarea><script>x</script> & {owner}") {
		t.Errorf("the field has %v", got)
	}
	one(t, render(t, p), tag("form"), with("action", "/admin/mail/texts/thanks/en?do=save"))
	hasNot(t, render(t, p), tag("form"), with("action", "/admin/mail/texts/thanks/en?do=reset"))
	p.Own = true
	one(t, render(t, p), tag("form"), with("action", "/admin/mail/texts/thanks/en?do=reset"))
}

// TestLetterheadOnOwnersPages: the logo stands in for the name, which it is called by.
func TestLetterheadOnOwnersPages(t *testing.T) {
	t.Parallel()
	p := invitation()
	p.LogoURL = "https://connect.brightside.example/logo/d1ce"
	logo := one(t, render(t, p), tag("img"))
	if alt, _ := attribute(logo, "alt"); alt != p.Agency {
		t.Errorf("the logo is called %q", alt)
	}
	hasNot(t, render(t, p), with("class", "monogram"))
	hasNot(t, render(t, invitation()), tag("img"))
	p.Phrase, p.Support = "blue heron", "+1 555 0100"
	says(t, render(t, p), "They can tell you this phrase: blue heron")
	says(t, render(t, p), "Help with this: +1 555 0100")
	for _, nothing := range []string{"this phrase", "Help with this"} {
		if strings.Contains(text(render(t, invitation())), nothing) {
			t.Errorf("%q without any", nothing)
		}
	}
}
