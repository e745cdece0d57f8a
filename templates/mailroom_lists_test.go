package templates_test

import (
	"slices"
	"testing"

	"github.com/countersign/countersign/templates"
)

func mailQueue(show string) templates.MailQueuePage {
	acme := templates.ClientName{ID: "0193a1", Name: "Acme Bakery"}
	said := "mail server relay.example:587: RCPT TO answered 450 4.7.1 <maria@acme-bakery.example>: Greylisted, see http://postgrey.example/help"
	p := templates.MailQueuePage{Console: console(), Show: show, Next: "/admin/mail/queue?cursor=abc"}
	switch show {
	case "failed":
		p.Mails = []templates.QueuedMail{
			{Client: acme, To: "maria@acme-bakery.example", What: "Invitation", State: "failed", At: at(23, 9, 0), Attempts: 1, Words: "The address takes no mail.", Cure: "Correct it.", Said: said, Address: true},
			{Client: templates.ClientName{ID: "0193a2", Name: "Velo Café"}, To: "luc@velo-cafe.example", What: "Reminder 2", State: "failed", At: at(22, 9, 0), Attempts: 9, Words: "Refused for our sake.", Cure: "Run countersign doctor.", Said: said},
			{Client: templates.ClientName{ID: "0193a3", Name: "Harbour Dental"}, To: "office@harbour-dental.example", What: "Invitation", State: "failed", At: at(21, 9, 0), Attempts: 2, Words: "Refused for our sake.", Over: true},
		}
	default:
		p.Mails = []templates.QueuedMail{
			{Client: acme, To: "maria@acme-bakery.example", What: "Invitation", State: "deferred", At: at(23, 9, 30), Attempts: 3, Words: "A mail server wants us to come later.", Cure: "The mails are tried again by themselves.", Said: said},
			{Client: templates.ClientName{ID: "0193a2", Name: "Velo Café"}, To: "luc@velo-cafe.example", What: "Reminder 2", State: "unknown", At: at(23, 9, 31), Attempts: 1},
			{To: "sam@brightside.example", What: "Digest", State: "queued", At: at(23, 10, 0)},
		}
	}
	return p
}

func suppressed() templates.SuppressedPage {
	return templates.SuppressedPage{
		Console: console(), Continued: true, Next: "/admin/mail/suppressed?cursor=abc",
		Clients: []templates.SuppressedClient{
			{Client: templates.ClientName{ID: "0193a1", Name: "Acme Bakery"}, Ref: "ACME-1", Email: "maria@acme-bakery.example", At: at(23, 9, 0), Why: "Says that the mail is not for them"},
			{Client: templates.ClientName{ID: "0193a6", Name: "Velo Café"}, Email: "luc@velo-cafe.example", At: at(22, 9, 0), Why: "Bounced: the address takes no mail", Said: "“550 no such user”", Bounced: true},
		},
	}
}

func mailListSamples() []sample {
	return []sample{
		{"mail-queue", mailQueue("waiting")},
		{"mail-delayed", mailQueue("delayed")},
		{"mail-failed", mailQueue("failed")},
		{"mail-queue-empty", templates.MailQueuePage{Console: console(), Show: "waiting"}},
		{"mail-delayed-empty", templates.MailQueuePage{Console: console(), Show: "delayed"}},
		{"mail-failed-empty", templates.MailQueuePage{Console: console(), Show: "failed"}},
		{"mail-suppressed", suppressed()},
		{"mail-suppressed-empty", templates.SuppressedPage{Console: console()}},
	}
}

func TestMailQueue(t *testing.T) {
	t.Parallel()
	failed := mailQueue("failed")
	if got := failed.Again(); !slices.Equal(got, []string{"0193a2"}) {
		t.Errorf("can be invited again: %v", got)
	}
	doc := render(t, failed)
	again := one(t, doc, tag("form"), with("action", "/admin/mail/queue/again"))
	one(t, again, tag("input"), with("name", "client"), with("value", "0193a2"))
	one(t, doc, tag("a"), with("class", "button"), with("href", "/admin/clients/0193a1"))

	delayed := render(t, mailQueue("delayed"))
	one(t, delayed, tag("form"), with("action", "/admin/mail/queue/hurry"))
	hasNot(t, render(t, mailQueue("waiting")), tag("form"), with("action", "/admin/mail/queue/hurry"))
}

func TestSuppressed(t *testing.T) {
	t.Parallel()
	doc := render(t, suppressed())
	one(t, doc, tag("form"), with("action", "/admin/mail/suppressed/0193a1/let-in"))
	says(t, doc, "The owner has said no.")
	hasNot(t, doc, tag("form"), with("action", "/admin/mail/suppressed/0193a6/let-in"))
}
