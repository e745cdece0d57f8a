package web_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/countersign/countersign/provisioning"
)

func TestMailQueue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	operator.get(t, "/admin/mail/queue").has(t, http.StatusOK).says(t, "No mail waits.")
	operator.get(t, "/admin/mail/queue?show=sent").has(t, http.StatusBadRequest)
	operator.get(t, "/admin/mail/queue?cursor=x").has(t, http.StatusBadRequest)

	b.imports(t, rosterFile)
	b.invites(t)
	b.mailOf(t, "ACME/1", `state = 'deferred', attempts = 1, due_at = now() + interval '1 hour', error = 'mail server mx:25: RCPT TO answered 450 4.7.1 <greylisted>'`)
	b.mailOf(t, "BLOOM", `state = 'failed', step = NULL, ended_at = now(), error = 'mail server mx:25: end of message answered 550 5.7.1 spam'`)
	b.mailOf(t, "CAFE", `state = 'failed', step = NULL, ended_at = now(), returned = 'bounced', error = 'mail server mx:25: RCPT TO answered 550 5.1.1 no'`)
	operator.get(t, "/admin/mail/queue").says(t, "Acme Bakery", adaLogin, "Invitation", "Put off after 1 attempt")
	delayed := operator.get(t, "/admin/mail/queue?show=delayed").has(t, http.StatusOK)
	delayed.says(t, "<greylisted>", "Try all that are put off now")
	failed := operator.get(t, "/admin/mail/queue?show=failed").has(t, http.StatusOK)
	failed.says(t, "Bloom Florist", "550 5.7.1 spam", "Invite the client of this page again", "Correct the address of Café Lumière")

	hurried := operator.post(t, "/admin/mail/queue/hurry", nil).leads(t)
	operator.get(t, hurried).has(t, http.StatusOK).says(t, "What was put off is tried now.")
	if n := b.count(t, "messages WHERE state = 'deferred' AND due_at > now()"); n != 0 {
		t.Errorf("%d mails are not hurried", n)
	}
	bloom := b.client(t, "BLOOM").ID.String()
	again := operator.post(t, "/admin/mail/queue/again", url.Values{"client": {bloom}}).leads(t)
	operator.get(t, again).has(t, http.StatusOK).says(t, "The invitations are queued.", "Bloom Florist")
	operator.get(t, "/admin/mail/queue?show=failed").says(t, "Nothing to do: the client was mailed since")
	operator.post(t, "/admin/mail/queue/again", nil).has(t, http.StatusBadRequest)
	for _, button := range []string{"queue/hurry", "queue/again"} {
		if got := operator.get(t, "/admin/mail/"+button).leads(t); got != "/admin/mail/queue" {
			t.Errorf("%s leads to %s", button, got)
		}
	}
}

func TestMailSuppressed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	operator.get(t, "/admin/mail/suppressed").has(t, http.StatusOK).says(t, "Everybody may be mailed.")
	b.imports(t, rosterFile)
	acme := b.client(t, "ACME/1").ID
	if err := provisioning.NotMe(t.Context(), b.db, acme); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `UPDATE clients SET stage = 'stalled', reason = 'bounced' WHERE ref = 'CAFE'`)
	operator.get(t, "/admin/mail/suppressed").has(t, http.StatusOK).says(t,
		"Acme Bakery", "Says that the mail is not for them", "The owner has said no.", "Café Lumière", "Correct the address")
	button := "/admin/mail/suppressed/" + acme.String() + "/let-in"
	if got := operator.get(t, button).leads(t); got != "/admin/mail/suppressed" {
		t.Errorf("looking leads to %s", got)
	}
	if n := b.count(t, "clients WHERE opted_out IS NOT NULL"); n != 1 {
		t.Error("looking changed something")
	}
	operator.get(t, operator.post(t, button, nil).leads(t)).has(t, http.StatusOK).says(t, "The opt-out is lifted.")
	if n := b.count(t, "clients WHERE opted_out IS NOT NULL"); n != 0 {
		t.Error("the owner is still opted out")
	}
}
