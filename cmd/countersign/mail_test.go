//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify/mailsink"
)

// mailed is a service that has mailed the owners of the clients A, B and C.
type mailed struct {
	*service

	paths map[string]string // the return path of the mail to each owner, by ref
}

func startMailed(t *testing.T) *mailed {
	t.Helper()
	sink, address := startSink(t)
	m := &mailed{paths: make(map[string]string), service: startService(t, "127.0.0.1:"+freePort(t),
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
		"COUNTERSIGN_BOUNCE_ADDRESS=bounce@agency.example",
		"COUNTERSIGN_SMTP_URL=smtp://"+address+"?tls=none",
	)}
	m.load(t, "ref,name,owner_email\nA,Acme,a@owners.example\nB,Bell,b@owners.example\nC,Cafe,c@owners.example\n", "--invite")
	for _, ref := range []string{"A", "B", "C"} {
		m.wait(t, ref, "invited", "")
	}
	for _, mail := range sink.Messages(mailsink.Filter{}) {
		m.paths[strings.ToUpper(mail.To[0][:1])] = mail.From
	}
	return m
}

// pipe carries out a command with something on its standard input.
func (in *installation) pipe(t *testing.T, input string, args ...string) (out, complaints string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), in.program, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = in.env, strings.NewReader(input), &stdout, &stderr
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatalf("countersign %s: %v", strings.Join(args, " "), err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// postfixReport is a report as Postfix makes it, and as its local(8) pipes it into a command if noted is set.
func postfixReport(to, owner string, noted bool) string {
	envelope := "Return-Path: <>\n"
	if noted {
		envelope = "From MAILER-DAEMON  Mon Nov 23 10:15:32 2026\nReturn-Path: <>\nX-Original-To: " + to + "\nDelivered-To: " + to + "\n"
	} else {
		to = "undisclosed-recipients:;"
	}
	return envelope + `Received: by mail.agency.example (Postfix)
	id 4Xq7Zk0Qz1z2y; Mon, 23 Nov 2026 10:15:32 +0000 (UTC)
Date: Mon, 23 Nov 2026 10:15:32 +0000 (UTC)
From: MAILER-DAEMON@mail.agency.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: ` + to + `
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
	boundary="4Xq7Zj6Rw2z2x.1763892932/mail.agency.example"
Message-Id: <20261123101532.4Xq7Zk0Qz1z2y@mail.agency.example>

This is a MIME-encapsulated message.

--4Xq7Zj6Rw2z2x.1763892932/mail.agency.example
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mail.agency.example.

<` + owner + `>: host mx.owners.example[192.0.2.25] said: 550 5.1.1
    <` + owner + `>: Recipient address rejected: User unknown (in reply to
    RCPT TO command)

--4Xq7Zj6Rw2z2x.1763892932/mail.agency.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.agency.example
X-Postfix-Queue-ID: 4Xq7Zj6Rw2z2x
Arrival-Date: Mon, 23 Nov 2026 10:15:31 +0000 (UTC)

Final-Recipient: rfc822; ` + owner + `
Original-Recipient: rfc822;` + owner + `
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.owners.example
Diagnostic-Code: smtp; 550 5.1.1 <` + owner + `>: Recipient address
    rejected: User unknown

--4Xq7Zj6Rw2z2x.1763892932/mail.agency.example
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

Subject: Please connect
Message-ID: <made-up@agency.example>

--4Xq7Zj6Rw2z2x.1763892932/mail.agency.example--
`
}

// TestBounceCommand pipes in what a mail server would.
func TestBounceCommand(t *testing.T) {
	t.Parallel()
	m := startMailed(t)
	take := func(mail, want string, args ...string) {
		t.Helper()
		out, complaints, code := m.pipe(t, mail, append([]string{"bounce", "-"}, args...)...)
		if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, want) || complaints != "" {
			t.Errorf("exit code %d, printed %q, complained %q; want %q", code, out, complaints, want)
		}
	}
	isAt := func(ref, stage, reason string) {
		t.Helper()
		if got := m.client(t, ref); got.Stage != stage || got.Reason != reason {
			t.Errorf("%s is %s %s, want %s %s", ref, got.Stage, got.Reason, stage, reason)
		}
	}

	// A forged one does nothing, nor does what somebody else was sent.
	last, _, _ := strings.Cut(m.paths["A"], "@")
	other := "a"
	if strings.HasSuffix(last, other) {
		other = "b"
	}
	forged := last[:len(last)-1] + other + "@agency.example"
	take(postfixReport(forged, "a@owners.example", true), "a forged mail: nothing was changed")
	take(postfixReport("somebody@agency.example", "a@owners.example", true), "not for the bounce address: nothing was changed")
	isAt("A", "invited", "")

	report := postfixReport(m.paths["A"], "a@owners.example", true)
	take(report, "hard for a@owners.example: The mail server of owners.example says that there is no such mailbox. "+
		"The report says: 550 5.1.1 <a@owners.example>: Recipient address rejected: User unknown Acme is stalled, bounced.")
	isAt("A", "stalled", "bounced")
	before := m.events(t, "A")
	take(report, "taken before: nothing was changed")
	if diff := cmp.Diff(before, m.events(t, "A")); diff != "" {
		t.Errorf("the second time something happened:\n%s", diff)
	}

	// A mail server that notes no recipient can say it.
	quiet := postfixReport("", "b@owners.example", false)
	take(quiet, "not for the bounce address")
	isAt("B", "invited", "")
	take(quiet, "Bell is stalled, bounced.", "--recipient", strings.ToUpper(m.paths["B"]))
	isAt("B", "stalled", "bounced")

	// A long one, from a file, for a program.
	file := filepath.Join(t.TempDir(), "mail.eml")
	long := postfixReport(m.paths["C"], "c@owners.example", true) + strings.Repeat(strings.Repeat("x", 75)+"\n", 10<<20/76)
	if err := os.WriteFile(file, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	type line struct {
		Kind, Address, Status, Name, Stage, Reason string
		Before, Readable                           bool
	}
	var taken line
	if err := json.Unmarshal([]byte(m.mustRun(t, "bounce", file, "--json")), &taken); err != nil {
		t.Fatal(err)
	}
	want := line{Kind: "hard", Address: "c@owners.example", Status: "5.1.1", Name: "Cafe", Stage: "stalled", Reason: "bounced"}
	if diff := cmp.Diff(want, taken); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	isAt("C", "stalled", "bounced")
}

// events are the kinds of a client's events.
func (s *service) events(t *testing.T, ref string) (kinds []string) {
	t.Helper()
	var page struct{ Events []struct{ Kind string } }
	s.get(t, "/clients/ref:"+ref+"/events", &page)
	for _, e := range page.Events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// TestBounceExitCodes: a mail server keeps the mail when the database does not answer, and is told what is wrong.
func TestBounceExitCodes(t *testing.T) {
	t.Parallel()
	const address = "COUNTERSIGN_BOUNCE_ADDRESS=bounce@agency.example"
	mail := strings.Repeat("x", 1<<20) // more than a pipe holds
	for name, test := range map[string]struct {
		settings, args []string
		code           int
		says           string
	}{
		"no file":       {nil, nil, 64, "accepts 1 arg(s), received 0"},
		"two files":     {nil, []string{"-", "-"}, 64, "accepts 1 arg(s), received 2"},
		"unknown flag":  {nil, []string{"-", "--made-up"}, 64, "unknown flag: --made-up"},
		"no such file":  {nil, []string{"/nowhere/mail"}, 64, "/nowhere/mail"},
		"no address":    {nil, []string{"-"}, 78, "set COUNTERSIGN_BOUNCE_ADDRESS"},
		"bad settings":  {[]string{address, "COUNTERSIGN_MAIL_RATE=fast"}, []string{"-"}, 78, "COUNTERSIGN_MAIL_RATE"},
		"no env file":   {[]string{address}, []string{"-", "--env-file", "/nowhere/env"}, 78, "/nowhere/env"},
		"database away": {[]string{address, "COUNTERSIGN_DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "COUNTERSIGN_VAULT_KEYS=k=" + strings.Repeat("A", 43) + "="}, []string{"-"}, 75, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, complaints, code := install(t, test.settings...).pipe(t, mail, append([]string{"bounce"}, test.args...)...)
			if code != test.code || out != "" || complaints == "" || !strings.Contains(complaints, test.says) {
				t.Errorf("exit code %d, printed %q, complained %q", code, out, complaints)
			}
		})
	}
}

// TestMailCommand stops all mail, and lets it go again.
func TestMailCommand(t *testing.T) {
	t.Parallel()
	m := startMailed(t)
	// Both tell the same, but for the time.
	same := func(out string) {
		t.Helper()
		var told, api map[string]any
		if err := json.Unmarshal([]byte(out), &told); err != nil {
			t.Fatal(err)
		}
		m.get(t, "/mail", &api)
		delete(api, "$schema")
		if diff := cmp.Diff(api, told); diff != "" {
			t.Errorf("the command tells something else than the API (-API +command):\n%s", diff)
		}
	}
	status := m.mustRun(t, "mail", "status")
	for _, want := range []string{"Outgoing mail goes.\n", "0  wait for their turn\n", "Today (UTC): 3 sent, 0 given up, 0 cancelled.\n"} {
		if !strings.Contains(status, want) {
			t.Errorf("the status lacks %q:\n%s", want, status)
		}
	}
	same(m.mustRun(t, "mail", "status", "--json"))

	paused := m.mustRun(t, "mail", "pause", "--why", "We move.")
	if !strings.HasPrefix(paused, "Outgoing mail is paused since ") || !strings.HasSuffix(paused, ", by the command line.\nWe move.\n") {
		t.Errorf("pausing prints %q", paused)
	}
	m.mustRun(t, "invite", "--client", "A")
	if again := m.mustRun(t, "mail", "pause", "--why", "Another cause."); again != paused {
		t.Errorf("pausing again prints %q", again)
	}
	waits := m.mustRun(t, "mail", "status")
	if !strings.HasPrefix(waits, paused) || !strings.Contains(waits, "1  wait for their turn\n") {
		t.Errorf("paused, the status is:\n%s", waits)
	}
	same(m.mustRun(t, "mail", "pause", "--json"))
	if resumed := m.mustRun(t, "mail", "resume"); resumed != "Outgoing mail goes.\n" {
		t.Errorf("resuming prints %q", resumed)
	}
	eventually(t, "the mail that waited is sent", func() bool {
		return strings.Contains(m.mustRun(t, "mail", "status"), "Today (UTC): 4 sent")
	})
	same(m.mustRun(t, "mail", "resume", "--json"))
	for _, args := range [][]string{{"mail", "status", "x"}, {"mail", "pause", "--made-up"}} {
		if _, complaints, code := m.run(t, args...); code != 1 || complaints == "" {
			t.Errorf("%v: exit code %d, %s", args, code, complaints)
		}
	}
}

// TestRemindCommand plans, skips and sends a reminder.
func TestRemindCommand(t *testing.T) {
	t.Parallel()
	m := startMailed(t)
	type state struct {
		Number    int
		Of        int
		NextAt    *time.Time `json:"next_at"`
		PlannedBy string     `json:"planned_by"`
		Why       string
	}
	ask := func(args ...string) (s state) {
		t.Helper()
		out := m.mustRun(t, append([]string{"remind", "--client", "A", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if first := m.mustRun(t, "remind", "--client", "ref:A"); !strings.HasPrefix(first, "Acme: reminder 1 of 3 goes out at 20") {
		t.Errorf("it prints %q", first)
	}
	at := time.Now().AddDate(0, 0, 5).Truncate(time.Second).In(time.FixedZone("", 3600))
	if got := ask("--at", at.Format(time.RFC3339)); got.NextAt == nil || !got.NextAt.Equal(at) || got.PlannedBy != "command line" || got.Number != 0 || got.Of != 3 {
		t.Errorf("planned: %+v", got)
	}
	if planned := m.mustRun(t, "remind", "--client", "A"); !strings.HasSuffix(planned, ", as the command line chose.\n") {
		t.Errorf("it prints %q", planned)
	}
	if got := ask("--skip"); got.Number != 1 || got.PlannedBy != "" {
		t.Errorf("skipped: %+v", got)
	}
	ask("--now")
	eventually(t, "the reminder is sent", func() bool { return ask().Number == 2 })
	m.mustRun(t, "remind", "--client", "A", "--skip")
	if done := m.mustRun(t, "remind", "--client", "A"); done != "Acme: no reminder is planned (3 of 3 are used up): all reminders are used up: invite the client again for more.\n" {
		t.Errorf("it prints %q", done)
	}
	for want, args := range map[string][]string{
		`no client has the ref or id "made-up"`: {"--client", "made-up"},
		"all reminders are used up":             {"--client", "A", "--now"},
		"a time that has passed":                {"--client", "B", "--at", "2020-01-01T00:00:00Z"},
		`"tomorrow" is no time such as`:         {"--client", "B", "--at", "tomorrow"},
		"none of the others can be":             {"--client", "B", "--now", "--skip"},
		`required flag(s) "client" not set`:     {"--now"},
	} {
		if out, complaints, code := m.run(t, append([]string{"remind"}, args...)...); code != 1 || out != "" || !strings.Contains(complaints, want) {
			t.Errorf("%v: exit code %d, printed %q, complained %q", args, code, out, complaints)
		}
	}
}
