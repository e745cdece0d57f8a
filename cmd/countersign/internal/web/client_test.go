package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// mail invites the owner of a client and has the mail accepted by a mail server.
func (b *testBundle) mail(t *testing.T, ref string) {
	t.Helper()
	if _, err := b.Inviter.Invite(t.Context(), provisioning.Selection{Clients: []string{ref}}, provisioning.ActorCLI, false); err != nil {
		t.Fatal(err)
	}
	b.deliver(t)
}

// deliver sends the mail that is queued.
func (b *testBundle) deliver(t *testing.T) {
	t.Helper()
	ctx, sent := context.WithTimeout(t.Context(), time.Minute)
	defer sent()
	outbox := &notify.Outbox{
		DB: b.db, Mailer: b.Mailer, Sender: b.Sender, Planner: b.Reminders, Now: b.Now, Log: b.Log, Connections: 1,
		Count: func(notify.Result) { sent() },
	}
	if err := outbox.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

const userUnknown = "550 5.1.1 <nobody>: Recipient address rejected: User unknown"

// report is what a mail server sends back for a mail that it could not deliver.
func report(to, address string) string {
	return "Return-Path: <>\r\nDelivered-To: " + to + "\r\nFrom: MAILER-DAEMON@relay.example\r\nSubject: Undelivered Mail Returned to Sender\r\n" +
		"Auto-Submitted: auto-replied\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n" +
		"--x\r\n\r\nIt could not be delivered.\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n" +
		fmt.Sprintf("Final-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; %s\r\n\r\n--x--\r\n", address, userUnknown)
}

// bounce has the last mail to a client come back.
func (b *testBundle) bounce(t *testing.T, ref string) {
	t.Helper()
	client := b.client(t, ref)
	messages, err := b.Mailer.Messages(t.Context(), client.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Returns.Take(t.Context(), strings.NewReader(report(b.Returns.Paths.Bounce(messages[0].ID), client.OwnerEmail)))
	if err != nil {
		t.Fatal(err)
	}
	b.isAt(t, ref, "stalled/bounced")
}

// desk is an operator at a client's page.
type desk struct {
	*testBundle
	*browser

	ref string
}

func (b *testBundle) desk(t *testing.T, ref string) *desk {
	t.Helper()
	return &desk{b, b.operator(t), ref}
}

func (d *desk) path(t *testing.T) string {
	t.Helper()
	return "/admin/clients/" + d.client(t, d.ref).ID.String()
}

func (d *desk) page(t *testing.T) page {
	t.Helper()
	return d.get(t, d.path(t)).has(t, http.StatusOK)
}

// press presses a button and returns the page that it leads to.
func (d *desk) press(t *testing.T, button string, form url.Values) page {
	t.Helper()
	to := d.post(t, d.path(t)+"/"+button, form).leads(t)
	if !strings.HasPrefix(to, d.path(t)) {
		t.Errorf("%s leads to %s", button, to)
	}
	return d.get(t, to).has(t, http.StatusOK)
}

// refused presses a button that does not do it.
func (d *desk) refused(t *testing.T, status int, button string, form url.Values) page {
	t.Helper()
	return d.post(t, d.path(t)+"/"+button, form).has(t, status)
}

// buttons are the forms of the client's page by the last part of their addresses.
func (d *desk) buttons(t *testing.T, p page) []string {
	t.Helper()
	var names []string
	for _, button := range find(p.doc(t), tag("button")) {
		action := attribute(button, "formaction")
		for form := button; action == "" && form != nil; form = form.Parent {
			action = attribute(form, "action")
		}
		if name, ok := strings.CutPrefix(action, d.path(t)+"/"); ok && name != "username" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// offers checks which buttons the page has.
func (d *desk) offers(t *testing.T, p page, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, d.buttons(t, p)); diff != "" {
		t.Errorf("%s: buttons (-want +got):\n%s", p.name, diff)
	}
}

// mails are the client's messages, newest first.
func (d *desk) mails(t *testing.T) (list []string) {
	t.Helper()
	messages, err := d.Mailer.Messages(t.Context(), d.client(t, d.ref).ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		list = append(list, fmt.Sprintf("%s %d %s to %s", m.Kind, m.Number, m.State, m.ToAddress))
	}
	return list
}

func (d *desk) hasMails(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, d.mails(t)); diff != "" {
		t.Errorf("mails (-want +got):\n%s", diff)
	}
}

func (d *desk) reminders(t *testing.T) notify.ReminderState {
	t.Helper()
	state, err := d.Reminders.State(t.Context(), d.client(t, d.ref).ID)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestClientReminders plans, skips and sends reminders to an owner in another zone.
func TestClientReminders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "ref,name,owner_name,owner_email,time_zone\nZONE,Zone Bakery,Zoe Ray,zoe@zone.example,America/New_York\n")
	d := b.desk(t, "ZONE")
	fresh := d.page(t)
	fresh.silent(t, "eminder")
	d.offers(t, fresh, "invite", "owner", "pause")
	d.refused(t, http.StatusConflict, "reminder/send", nil).says(t, "No reminder can be sent: no invitation has been mailed to the owner yet: invite the client first.")

	queued := d.press(t, "invite", nil)
	queued.says(t, "The invitation is queued.", "Waits to be sent", "Invitation queued · "+operatorEmail)
	d.offers(t, queued, "owner", "pause")
	d.deliver(t)
	mailed := d.page(t)
	mailed.says(t, "Reminder 1 of 3 goes out", "(America/New_York)", "Invitation Sent")
	d.offers(t, mailed, "owner", "pause", "reminder/send", "reminder/skip", "reminder/plan")
	planned := *d.reminders(t).NextAt
	if got := find(mailed.doc(t), tag("time"), with("datetime", planned.UTC().Format(time.RFC3339))); len(got) != 1 {
		t.Errorf("the page tells %d times when the next reminder goes out", len(got))
	}

	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	chosen := b.Now().In(newYork).AddDate(0, 0, 2).Truncate(time.Minute)
	typed := chosen.Format("2006-01-02T15:04")
	d.press(t, "reminder/plan", url.Values{"at": {typed}}).says(t,
		"The reminder is planned.", "as "+operatorEmail+" chose", chosen.Format("Mon 2 Jan, 15:04")+" (America/New_York)",
		"Reminder 1 put to another time", chosen.UTC().Format("at: 2 Jan 2006, 15:04 UTC"))
	if got := d.reminders(t).NextAt; !got.Equal(chosen) {
		t.Errorf("the reminder is planned for %s, not %s", got, chosen)
	}
	for at, says := range map[string]string{
		"":                 "No reminder can be sent without a day and a time: choose them.",
		"tomorrow":         "No reminder can be sent without a day and a time: choose them.",
		"2020-01-01T10:00": "No reminder can be sent at a time that has passed: choose a later one, or send it now.",
		b.Now().AddDate(1, 0, 0).Format("2006-01-02T15:04"): "No reminder can be sent so late, because its link runs out at",
	} {
		wrong := d.refused(t, http.StatusConflict, "reminder/plan", url.Values{"at": {at}})
		wrong.says(t, says)
		if at == "" {
			continue
		}
		if field := find(wrong.doc(t), with("id", "reminder-at")); len(field) != 1 || attribute(field[0], "value") != at || attribute(field[0], "aria-invalid") == "" {
			t.Errorf("what was typed is lost: %v", field)
		}
	}
	if got := d.reminders(t).NextAt; !got.Equal(chosen) {
		t.Errorf("a wrong time moved the reminder to %s", got)
	}

	d.press(t, "reminder/skip", nil).says(t, "The reminder is left out.", "Reminder 2 of 3 goes out", "Reminder 1 left out · "+operatorEmail)
	d.press(t, "reminder/send", nil).says(t, "The reminder is queued.", "Reminder 2 Waits to be sent", "Reminder 2 queued · "+operatorEmail)
	onItsWay := d.refused(t, http.StatusConflict, "reminder/send", nil)
	onItsWay.says(t, "No reminder can be sent: a mail to the owner is on its way already: wait until it has been sent.")
	d.offers(t, onItsWay, "owner", "pause")
	d.deliver(t)
	d.page(t).says(t, "Reminder 2 sent · Countersign", "Reminder 3 of 3 goes out")
	d.press(t, "reminder/skip", nil).says(t, "No reminder is planned. All reminders are used up: invite the client again for more. 3 of 3 are used up.")
	d.hasMails(t, "reminder 2 sent to zoe@zone.example", "invitation 0 sent to zoe@zone.example")
	d.offers(t, d.page(t), "owner", "pause", "invite")
}

// TestClientBounced corrects an address that takes no mail.
func TestClientBounced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "CAFE")
	b.mail(t, "CAFE")
	link := b.link(t, "CAFE")
	b.bounce(t, "CAFE")
	bounced := d.page(t)
	bounced.says(t, "Stalled Bounced", "says that there is no such mailbox", userUnknown, "Came back", "Correct and send again",
		"Bounced: the address takes no mail · Countersign")
	d.offers(t, bounced, "owner", "pause")

	long := strings.Repeat("x", 201)
	for field, form := range map[string]url.Values{
		"owner-email": {"email": {"cleo@"}, "name": {"Cleo"}},
		"owner-name":  {"email": {"cleo@café.example"}, "name": {long}},
	} {
		wrong := d.refused(t, http.StatusUnprocessableEntity, "owner", form)
		for name, typed := range map[string]string{"owner-email": form.Get("email"), "owner-name": form.Get("name")} {
			input := find(wrong.doc(t), with("id", name))
			if len(input) != 1 || attribute(input[0], "value") != typed || (attribute(input[0], "aria-invalid") != "") != (name == field) {
				t.Errorf("%s is wrong: the field %s is %v", field, name, input)
			}
		}
	}
	d.refused(t, http.StatusUnprocessableEntity, "owner", nil).says(t, "The mail address is missing. Please fill it in.")
	d.hasMails(t, "invitation 0 sent to cleo@cafe.example")

	corrected := d.press(t, "owner", url.Values{"email": {" cleo@lumiere.example "}, "name": {"Cleo"}})
	corrected.says(t, "The invitation is queued.", "Imported since", "cleo@lumiere.example",
		"Owner’s address changed; earlier links no longer work · "+operatorEmail, "owner email: cleo@cafe.example → cleo@lumiere.example")
	d.hasMails(t, "invitation 0 queued to cleo@lumiere.example", "invitation 0 sent to cleo@cafe.example")
	b.browser(t).post(t, link+"/begin", nil).has(t, http.StatusNotFound)
	b.deliver(t)
	b.isAt(t, "CAFE", "invited")
	d.page(t).says(t, "Change the owner", "Reminder 1 of 3")
}

// TestClientRefusedAtOnce tells what a mail server said of an address, and what was given up for another cause.
func TestClientRefusedAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "CAFE")
	b.Sender = nil
	waits := d.press(t, "invite", nil)
	waits.says(t, "Mails wait: no mail server is set up.")
	b.Sender = &b.outgoing
	if err := b.Switch.Pause(t.Context(), "", provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	d.page(t).says(t, "Mails wait: all outgoing mail is paused.")
	_, err := b.db.Exec(t.Context(), `
		UPDATE messages SET state = 'failed', ended_at = now(), attempts = 2, unknown = 1, error = 'RCPT TO: 550 No such user';
		UPDATE clients SET stage = 'stalled', reason = 'bounced'`)
	if err != nil {
		t.Fatal(err)
	}
	page := d.page(t)
	page.says(t, "RCPT TO: 550 No such user", "Not sent", "2 attempts", "the owner may have more than one copy")
	page.silent(t, "Mails wait")
	if n := strings.Count(text(page.doc(t)), "RCPT TO: 550 No such user"); n != 1 {
		t.Errorf("it says so %d times", n)
	}
}

// TestClientOptedOut mails an owner who wants no more mails, and hears that they have changed their mind.
func TestClientOptedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "CAFE")
	b.mail(t, "CAFE")
	b.browser(t).post(t, b.link(t, "CAFE")+"/unsubscribe", nil).has(t, http.StatusOK)
	out := d.page(t)
	out.says(t, "Stalled Unsubscribed", "Opted out since", "Mail once all the same", "Lift the opt-out")
	d.offers(t, out, "invite", "opt-in", "owner", "pause")
	d.refused(t, http.StatusConflict, "reminder/send", nil).says(t, "No reminder can be sent: the owner wants no more mails")

	d.offers(t, d.press(t, "invite", nil), "opt-in", "owner", "pause")
	b.deliver(t)
	b.isAt(t, "CAFE", "invited")
	mailed := d.page(t)
	mailed.says(t, "Invited since", "Opted out since")
	mailed.silent(t, "Reminder 1 of 3")

	lifted := d.press(t, "opt-in", nil)
	lifted.says(t, "The opt-out is lifted.", "Opt-out lifted · "+operatorEmail, "Reminder 1 of 3")
	lifted.silent(t, "Opted out since")
	d.press(t, "opt-in", nil) // once more changes nothing
	b.isAt(t, "CAFE", "invited")
	if c := b.client(t, "CAFE"); c.OptedOut != nil {
		t.Errorf("opted out: %s", *c.OptedOut)
	}
}

// TestClientReferral decides on whom an owner names.
func TestClientReferral(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "CAFE")
	link := b.link(t, "CAFE")
	refer := func(email string) (id string) {
		t.Helper()
		b.browser(t).post(t, link+"/refer", url.Values{"name": {"Ben"}, "email": {email}, "note": {"He knows."}}).has(t, http.StatusOK)
		return attribute(find(d.page(t).doc(t), with("name", "id"))[0], "value")
	}
	id := refer("ben@cafe.example")
	d.page(t).says(t, "The owner names somebody else", "Ben ben@cafe.example", "He knows.", "Invite Ben instead", "Named somebody else · Owner")
	d.refused(t, http.StatusBadRequest, "referral/accept", nil)
	d.refused(t, http.StatusBadRequest, "referral/dismiss", url.Values{"id": {"made-up"}})

	const decided = "Nothing was changed: somebody has decided that already"
	later := refer("bea@cafe.example")
	for _, old := range []string{id, uuid.NewString()} {
		d.press(t, "referral/accept", url.Values{"id": {old}}).says(t, decided, "bea@cafe.example")
	}
	// The button of one client's page decides nothing for another.
	other := &desk{b, d.browser, "BLOOM"}
	other.press(t, "referral/accept", url.Values{"id": {later}}).says(t, decided)
	d.hasMails(t)

	dismissed := d.press(t, "referral/dismiss", url.Values{"id": {later}})
	dismissed.says(t, "The owner stays who it was.", "Whom the owner named was not taken · "+operatorEmail)
	dismissed.silent(t, "names somebody else")
	d.press(t, "referral/dismiss", url.Values{"id": {later}}).says(t, decided)

	last := refer("bo@cafe.example")
	d.press(t, "referral/accept", url.Values{"id": {last}}).says(t, "The invitation is queued.", "bo@cafe.example", "Whom the owner named is the owner now")
	if c := b.client(t, "CAFE"); c.OwnerEmail != "bo@cafe.example" || c.OwnerName != "Ben" {
		t.Errorf("the owner is %s <%s>", c.OwnerName, c.OwnerEmail)
	}
	d.hasMails(t, "invitation 0 queued to bo@cafe.example")
}

// TestClientPaused turns the switch beside the stage; nobody is mailed while it is on.
func TestClientPaused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "CAFE")
	for range 2 {
		paused := d.press(t, "pause", nil)
		paused.says(t, "Paused", "Gets no mail while paused.")
		d.offers(t, paused, "owner", "resume")
	}
	d.press(t, "invite", nil).says(t, "Nobody was mailed, as the client is paused: resume it first.")
	d.press(t, "owner", url.Values{"email": {"cy@cafe.example"}}).says(t, "Nobody was mailed, as the client is paused", "cy@cafe.example")
	d.hasMails(t)
	d.offers(t, d.press(t, "resume", nil), "invite", "owner", "pause")
	d.press(t, "invite", nil)
	d.press(t, "invite", nil).says(t, "No other mail was queued, as one is on its way already.")
	d.hasMails(t, "invitation 0 queued to cy@cafe.example")
}

// TestClientAuthorized offers no mail to an owner who has consented.
func TestClientAuthorized(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "ACME/1")
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Allow)
	page := d.page(t)
	page.silent(t, "eminder")
	d.offers(t, page, "owner")
	d.press(t, "invite", nil).says(t, "Nobody was mailed, as the client is authorized.")
	d.refused(t, http.StatusConflict, "reminder/send", nil).says(t, "No reminder can be sent")
	d.press(t, "owner", url.Values{"email": {"adam@acme.example"}, "name": {"Adam"}}).says(t, "Nobody was mailed, as the client is authorized.", "adam@acme.example")
	b.isAt(t, "ACME/1", "authorized")

	if _, err := b.db.Exec(t.Context(), `UPDATE clients SET route = 'partner' WHERE ref = 'CAFE'`); err != nil {
		t.Fatal(err)
	}
	d.ref = "CAFE"
	d.offers(t, d.page(t), "owner", "pause")
	d.press(t, "invite", nil).says(t, "Nobody was mailed, as nothing is asked of the owner on this client’s route.")
}

// TestClientActionsAreGuarded presses every button without a session, from another site, and for nobody.
func TestClientActionsAreGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.mail(t, "CAFE")
	d := b.desk(t, "CAFE")
	before := b.state(t)
	for _, button := range []string{
		"invite", "opt-in", "owner", "referral/accept", "referral/dismiss", "reminder/plan", "reminder/skip", "reminder/send", "pause", "resume", "username",
	} {
		path, form := d.path(t)+"/"+button, url.Values{"email": {"eve@evil.example"}, "id": {uuid.NewString()}}
		if to := b.browser(t).post(t, path, form).leads(t); !strings.HasPrefix(to, "/admin/sign-in") {
			t.Errorf("%s leads a stranger to %s", button, to)
		}
		d.do(t, http.MethodPost, path, strings.NewReader(form.Encode()),
			"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site").has(t, http.StatusForbidden)
		for _, nobody := range []string{uuid.NewString(), "made-up"} {
			d.post(t, "/admin/clients/"+nobody+"/"+button, form).has(t, http.StatusNotFound)
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if to := d.do(t, method, path, nil).leads(t); to != d.path(t) {
				t.Errorf("%s %s leads to %s", method, button, to)
			}
		}
		d.do(t, http.MethodPut, path, nil).has(t, http.StatusMethodNotAllowed)
	}
	d.do(t, http.MethodHead, d.path(t), nil).has(t, http.StatusOK)
	if diff := cmp.Diff(before, b.state(t)); diff != "" {
		t.Errorf("something has changed:\n%s", diff)
	}
}

// state is all that is known of clients.
func (b *testBundle) state(t *testing.T) (state string) {
	t.Helper()
	err := b.db.QueryRow(t.Context(), `
		SELECT concat_ws(E'\n',
			(SELECT string_agg(c::text, E'\n' ORDER BY id) FROM clients c),
			(SELECT string_agg(e::text, E'\n' ORDER BY id) FROM events e),
			(SELECT string_agg(m::text, E'\n' ORDER BY id) FROM messages m),
			(SELECT string_agg(r::text, E'\n' ORDER BY client_id) FROM reminders r))`).Scan(&state)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// Every event that the program writes has words.
func TestEventsHaveWords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "CAFE")
	kinds := []provisioning.EventKind{
		provisioning.EventImported, provisioning.EventUpdated, provisioning.EventUsernameTaken, provisioning.EventOwnerChanged,
		provisioning.EventMailQueued, provisioning.EventMailAccepted, provisioning.EventMailDeferred, provisioning.EventMailRefused,
		provisioning.EventMailFailed, provisioning.EventMailCancelled, provisioning.EventMailRepeated, provisioning.EventBounced,
		provisioning.EventMailObjected, provisioning.EventMailDelayed, provisioning.EventAutoReply, provisioning.EventComplained,
		provisioning.EventReminderMoved, provisioning.EventReminderSkip, provisioning.EventExtended, provisioning.EventNotMe, provisioning.EventReferred,
		provisioning.EventReferralTaken, provisioning.EventReferralLeft, provisioning.EventLinkIssued, provisioning.EventStarted,
		provisioning.EventDeclined, provisioning.EventUnsubscribed, provisioning.EventWrongAccount, provisioning.EventMissingScope,
		provisioning.EventConflict, provisioning.EventConsentFailed, provisioning.EventAuthorized, provisioning.EventExpired,
		provisioning.EventRenewed, provisioning.EventOptedIn, provisioning.EventPaused, provisioning.EventResumed,
		provisioning.EventTokenGiven, "brand_new",
	}
	for _, kind := range kinds {
		_, err := provisioning.Advance(t.Context(), b.db, provisioning.Change{
			Client: b.client(t, "CAFE").ID, Event: kind, Actor: provisioning.ActorSystem,
			Detail: provisioning.Detail{"letter": "reminder", "number": 2, "why": "It was so.", "said": "550 no", "extra": "more"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var wordless []string
	lines := find(d.page(t).doc(t), tag("ol"), with("class", "events"))
	for i, line := range find(lines[0], tag("li"))[:len(kinds)] {
		kind, said := kinds[len(kinds)-1-i], text(find(line, tag("p"))[0])
		if strings.HasPrefix(said, string(kind)) || strings.Contains(said, "_") {
			wordless = append(wordless, string(kind))
		}
		if !strings.Contains(said, "It was so. · “550 no” · extra: more") {
			t.Errorf("%s tells %s", kind, said)
		}
		if strings.HasPrefix(string(kind), "mail_accepted") && !strings.HasPrefix(said, "Reminder 2 sent") {
			t.Errorf("%s is %s", kind, said)
		}
	}
	if diff := cmp.Diff([]string{"brand_new"}, wordless); diff != "" {
		t.Errorf("without words (-want +got):\n%s", diff)
	}
}
