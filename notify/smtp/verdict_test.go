package smtp_test

import (
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify/smtp"
)

// modes are what a server may offer, from the slowest dialogue to the fastest.
func modes() map[string][]string {
	return map[string][]string{"plain": nil, "pipelining": {"PIPELINING"}, "chunking": {"PIPELINING", "CHUNKING"}}
}

// course is how the dialogue about a failing message and one more goes on, in each mode; / parts connections.
type course struct{ plain, pipelining, chunking string }

func (c course) in(mode string) string {
	return map[string]string{"plain": c.plain, "pipelining": c.pipelining, "chunking": c.chunking}[mode]
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	const mailFrom, rcptTo, data, end = "MAIL FROM", "RCPT TO", "DATA", "end of message"
	var (
		refusedMAIL = course{"EHLO MAIL MAIL RCPT DATA", "EHLO MAIL RCPT DATA MAIL RCPT DATA", "EHLO MAIL RCPT BDAT MAIL RCPT BDAT"}
		lostMAIL    = course{"EHLO MAIL/EHLO MAIL RCPT DATA", "EHLO MAIL/EHLO MAIL RCPT DATA", "EHLO MAIL/EHLO MAIL RCPT BDAT"}
		refusedRCPT = course{"EHLO MAIL RCPT RSET MAIL RCPT DATA", "EHLO MAIL RCPT DATA RSET MAIL RCPT DATA", "EHLO MAIL RCPT BDAT RSET MAIL RCPT BDAT"}
		noRSET      = course{"EHLO MAIL RCPT RSET/EHLO MAIL RCPT DATA", "EHLO MAIL RCPT DATA RSET/EHLO MAIL RCPT DATA", "EHLO MAIL RCPT BDAT RSET/EHLO MAIL RCPT BDAT"}
		lostRCPT    = course{"EHLO MAIL RCPT/EHLO MAIL RCPT DATA", "EHLO MAIL RCPT/EHLO MAIL RCPT DATA", "EHLO MAIL RCPT/EHLO MAIL RCPT BDAT"}
		refusedDATA = course{"EHLO MAIL RCPT DATA RSET MAIL RCPT DATA", "EHLO MAIL RCPT DATA RSET MAIL RCPT DATA", ""}
		lostDATA    = course{"EHLO MAIL RCPT DATA/EHLO MAIL RCPT DATA", "EHLO MAIL RCPT DATA/EHLO MAIL RCPT DATA", ""}
		refusedEnd  = course{"EHLO MAIL RCPT DATA MAIL RCPT DATA", "EHLO MAIL RCPT DATA MAIL RCPT DATA", "EHLO MAIL RCPT BDAT RSET MAIL RCPT BDAT"}
		lostEnd     = course{"EHLO MAIL RCPT DATA/EHLO MAIL RCPT DATA", "EHLO MAIL RCPT DATA/EHLO MAIL RCPT DATA", "EHLO MAIL RCPT BDAT/EHLO MAIL RCPT BDAT"}
		notLetIn    = course{"/EHLO MAIL RCPT DATA", "/EHLO MAIL RCPT DATA", "/EHLO MAIL RCPT BDAT"}
		noHello     = course{"EHLO HELO/EHLO MAIL RCPT DATA", "EHLO HELO/EHLO MAIL RCPT DATA", "EHLO HELO/EHLO MAIL RCPT BDAT"}
	)
	tests := map[string]struct {
		reply func(n int, verb, line string) string
		want  smtp.Error // but for Server and Err
		// doubtful: where the message went out with the commands, nobody knows what became of it.
		doubtful bool
		course   course
	}{
		"550 5.1.1 at RCPT: the address is dead": {
			reply:  at("RCPT", "550-5.1.1 No such user\n550 5.1.1 here\n"),
			want:   smtp.Error{Kind: smtp.Permanent, Step: rcptTo, Code: 550, Enhanced: "5.1.1", Text: "No such user here"},
			course: refusedRCPT,
		},
		"bare 550 at RCPT: the address is dead": {
			reply:  at("RCPT", "550 mailbox unavailable\n"),
			want:   smtp.Error{Kind: smtp.Permanent, Step: rcptTo, Code: 550, Text: "mailbox unavailable"},
			course: refusedRCPT,
		},
		"550 5.7.1 at RCPT: our fault": {
			reply:  at("RCPT", "550 5.7.1 Blocked\n"),
			want:   smtp.Error{Kind: smtp.Policy, Step: rcptTo, Code: 550, Enhanced: "5.7.1", Text: "Blocked"},
			course: refusedRCPT,
		},
		"qmail's way to say 5.7.1": {
			reply:  at("RCPT", "553 sorry, not in my rcpthosts (#5.7.1)\n"),
			want:   smtp.Error{Kind: smtp.Policy, Step: rcptTo, Code: 553, Enhanced: "5.7.1", Text: "sorry, not in my rcpthosts (#5.7.1)"},
			course: refusedRCPT,
		},
		"bare refusal to relay: our settings": {
			reply:  at("RCPT", "550 Relay not permitted\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: rcptTo, Code: 550, Text: "Relay not permitted"},
			course: refusedRCPT,
		},
		"sender's domain refused at RCPT: our fault": {
			reply:  at("RCPT", "550 5.1.8 Sender domain not found\n"),
			want:   smtp.Error{Kind: smtp.Policy, Step: rcptTo, Code: 550, Enhanced: "5.1.8", Text: "Sender domain not found"},
			course: refusedRCPT,
		},
		"554 5.7.1 to relay: our settings": {
			reply:  at("RCPT", "554 5.7.1 <owner@acme.example>: Relay access denied\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: rcptTo, Code: 554, Enhanced: "5.7.1", Text: "<owner@acme.example>: Relay access denied"},
			course: refusedRCPT,
		},
		"454 4.7.1 to relay: our settings": {
			reply:  at("RCPT", "454 4.7.1 Relay access denied\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: rcptTo, Code: 454, Enhanced: "4.7.1", Text: "Relay access denied"},
			course: refusedRCPT,
		},
		"unknown user at a host named relay: the address is dead": {
			reply:  at("RCPT", "550 5.1.1 No such user at relay.example\n"),
			want:   smtp.Error{Kind: smtp.Permanent, Step: rcptTo, Code: 550, Enhanced: "5.1.1", Text: "No such user at relay.example"},
			course: refusedRCPT,
		},
		"503 at RCPT: our protocol": {
			reply:  at("RCPT", "503 Bad sequence\n"),
			want:   smtp.Error{Kind: smtp.Policy, Step: rcptTo, Code: 503, Text: "Bad sequence"},
			course: refusedRCPT,
		},
		"530 at RCPT: our settings": {
			reply:  at("RCPT", "530 Authentication required\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: rcptTo, Code: 530, Text: "Authentication required"},
			course: refusedRCPT,
		},
		"451 at RCPT: later": {
			reply:  at("RCPT", "451 4.7.1 Greylisted\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Step: rcptTo, Code: 451, Enhanced: "4.7.1", Text: "Greylisted"},
			course: refusedRCPT,
		},
		"451 at RCPT and no RSET": {
			reply: func(n int, verb, _ string) string {
				return map[string]string{"1 RCPT": "451 4.7.1 Greylisted\n", "1 RSET": "500 what\n"}[fmt.Sprint(n, " ", verb)]
			},
			want:   smtp.Error{Kind: smtp.Temporary, Step: rcptTo, Code: 451, Enhanced: "4.7.1", Text: "Greylisted"},
			course: noRSET,
		},
		"421 at RCPT and hung up": {
			reply:  at("RCPT", "421 4.3.2 Shutting down\n"+hangup),
			want:   smtp.Error{Kind: smtp.Temporary, Step: rcptTo, Code: 421, Enhanced: "4.3.2", Text: "Shutting down"},
			course: lostRCPT,
		},
		"hung up at RCPT": {
			doubtful: true,
			reply:    at("RCPT", hangup),
			want:     smtp.Error{Kind: smtp.Temporary, Step: rcptTo},
			course:   lostRCPT,
		},
		"553 at MAIL: our sender address": {
			reply:  at("MAIL", "553 5.7.1 Not your address\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: mailFrom, Code: 553, Enhanced: "5.7.1", Text: "Not your address"},
			course: refusedMAIL,
		},
		"452 at MAIL: later": {
			reply:  at("MAIL", "452 4.3.1 Disk full\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Step: mailFrom, Code: 452, Enhanced: "4.3.1", Text: "Disk full"},
			course: refusedMAIL,
		},
		"hung up at MAIL of a fresh connection": {
			doubtful: true,
			reply:    at("MAIL", hangup),
			want:     smtp.Error{Kind: smtp.Temporary, Step: mailFrom},
			course:   lostMAIL,
		},
		"451 at DATA: later": {
			reply:  at("DATA", "451 4.3.0 Try again\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Step: data, Code: 451, Enhanced: "4.3.0", Text: "Try again"},
			course: refusedDATA,
		},
		"no DATA by protocol: no verdict on the address": {
			reply:  at("DATA", "250 what\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Step: data, Code: 250, Text: "what"},
			course: lostDATA,
		},
		"552 5.2.2 at the end: mailbox full for good": {
			reply:  at(".", "552 5.2.2 Mailbox full\n"),
			want:   smtp.Error{Kind: smtp.Permanent, Step: end, Code: 552, Enhanced: "5.2.2", Text: "Mailbox full"},
			course: refusedEnd,
		},
		"552 5.3.4 at the end: too big for any mailbox there": {
			reply:  at(".", "552 5.3.4 Message too big\n"),
			want:   smtp.Error{Kind: smtp.Policy, Step: end, Code: 552, Enhanced: "5.3.4", Text: "Message too big"},
			course: refusedEnd,
		},
		"554 5.7.1 at the end: taken for spam": {
			reply:  at(".", "554 5.7.1 Spam\n"),
			want:   smtp.Error{Kind: smtp.Policy, Step: end, Code: 554, Enhanced: "5.7.1", Text: "Spam"},
			course: refusedEnd,
		},
		"451 at the end: later": {
			reply:  at(".", "451 4.3.0 Scanner down\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Step: end, Code: 451, Enhanced: "4.3.0", Text: "Scanner down"},
			course: refusedEnd,
		},
		"421 at the end: later, by another connection": {
			reply:  at(".", "421 4.3.2 Shutting down\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Step: end, Code: 421, Enhanced: "4.3.2", Text: "Shutting down"},
			course: lostEnd,
		},
		"no reply to the end: who knows": {
			reply:  at(".", hangup),
			want:   smtp.Error{Kind: smtp.Unknown, Step: end},
			course: lostEnd,
		},
		"nonsense as reply to the end: who knows": {
			reply:  at(".", "HTTP/1.1 200 OK\n"),
			want:   smtp.Error{Kind: smtp.Unknown, Step: end},
			course: lostEnd,
		},
		"hung up before the greeting": {
			reply:  at("", hangup),
			want:   smtp.Error{Kind: smtp.Temporary, Step: "greeting"},
			course: notLetIn,
		},
		"554 as greeting: tell the operator": {
			reply:  at("", "554 5.7.1 Your address is listed\n"+hangup),
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: "greeting", Code: 554, Enhanced: "5.7.1", Text: "Your address is listed"},
			course: notLetIn,
		},
		"421 as greeting: later": {
			reply:  at("", "421 4.7.0 Too many connections\n"+hangup),
			want:   smtp.Error{Kind: smtp.Temporary, Step: "greeting", Code: 421, Enhanced: "4.7.0", Text: "Too many connections"},
			course: notLetIn,
		},
		"no SMTP server at all": {
			reply:  at("", "HTTP/1.1 400 Bad Request\n"),
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: "greeting"},
			course: notLetIn,
		},
		"neither EHLO nor HELO": {
			reply: func(_ int, verb, _ string) string {
				return map[string]string{"EHLO": "550 5.7.1 Bad name\n", "HELO": "550 5.7.1 Bad name\n"}[verb]
			},
			want:   smtp.Error{Kind: smtp.Temporary, Config: true, Step: "EHLO", Code: 550, Enhanced: "5.7.1", Text: "Bad name"},
			course: noHello,
		},
		"control characters and bytes of nowhere in a reply": {
			reply:  at("RCPT", "550 5.1.1 a\tb\x7f\xff\x1b[31m c\n"),
			want:   smtp.Error{Kind: smtp.Permanent, Step: rcptTo, Code: 550, Enhanced: "5.1.1", Text: "a b ? [31m c"},
			course: refusedRCPT,
		},
		"550 at RCPT and hung up: the address is dead nevertheless": {
			reply:  at("RCPT", "550 5.1.1 No such user\n"+hangup),
			want:   smtp.Error{Kind: smtp.Permanent, Step: rcptTo, Code: 550, Enhanced: "5.1.1", Text: "No such user"},
			course: lostRCPT,
		},
		"452 at MAIL and hung up: later": {
			reply:  at("MAIL", "452 4.3.1 Disk full\n"+hangup),
			want:   smtp.Error{Kind: smtp.Temporary, Step: mailFrom, Code: 452, Enhanced: "4.3.1", Text: "Disk full"},
			course: lostMAIL,
		},
		"421 at MAIL of a fresh connection: later": {
			reply:  at("MAIL", "421 4.7.0 Too fast\n"+hangup),
			want:   smtp.Error{Kind: smtp.Temporary, Step: mailFrom, Code: 421, Enhanced: "4.7.0", Text: "Too fast"},
			course: lostMAIL,
		},
		"no consent and no refusal of MAIL": {
			reply:    at("MAIL", "354 go on\n"+hangup),
			want:     smtp.Error{Kind: smtp.Temporary, Step: mailFrom, Code: 354, Text: "go on"},
			doubtful: true,
			course:   lostMAIL,
		},
		"nonsense as answer to RCPT": {
			reply:    at("RCPT", "HTTP/1.1 200 OK\n"+hangup),
			want:     smtp.Error{Kind: smtp.Temporary, Step: rcptTo},
			doubtful: true,
			course:   lostRCPT,
		},
		"half an answer to the end: who knows": {
			reply:  at(".", "550-5.1.1 No such\n"+hangup),
			want:   smtp.Error{Kind: smtp.Unknown, Step: end},
			course: lostEnd,
		},
	}
	for mode, extensions := range modes() {
		for name, tt := range tests {
			if tt.course.in(mode) == "" {
				continue
			}
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				ill := make(chan struct{})
				server := (&script{ehlo: extensions, reply: func(n int, verb, line string) string {
					select {
					case <-ill:
						return ""
					default:
						return tt.reply(n, verb, line)
					}
				}}).start(t)
				transport := newTransport(t, smtp.Options{URL: server.url})
				failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
				close(ill)

				if failed.Server == "" || failed.Err == nil || !strings.Contains(failed.Error(), string(failed.Step)) {
					t.Errorf("error lacks something: %+v", failed)
				}
				want, got := tt.want, *failed
				if tt.doubtful && mode == "chunking" {
					want.Kind = smtp.Unknown
				}
				got.Server, got.Err = "", nil
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("Send (-want +got):\n%s\nof %v", diff, failed)
				}
				if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
					t.Errorf("the next message: %v", err)
				}
				if diff := gocmp.Diff(tt.course.in(mode), strings.Join(server.dialogues(), "/")); diff != "" {
					t.Errorf("dialogues (-want +got):\n%s", diff)
				}
			})
		}
	}
}
