package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

// host is a mail host: what is sent by it arrives in the inbox as it makes it arrive.
type host struct {
	// arrives returns what comes into the inbox for a mail.
	arrives func(to string, raw []byte) [][]byte
	// refuse returns the server's answer, nil if it accepts the recipient.
	refuse func(to string) error

	sent  []string
	inbox chan []byte
}

func (h *host) Send(_ context.Context, e smtp.Envelope) error {
	h.sent = append(h.sent, e.To)
	if h.refuse != nil {
		if err := h.refuse(e.To); err != nil {
			return err
		}
	}
	for _, arrival := range h.arrives(e.To, e.Body) {
		h.inbox <- arrival
	}
	return nil
}

func (h *host) Next(ctx context.Context) ([]byte, error) {
	select {
	case raw := <-h.inbox:
		return raw, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("inbox: %w", context.Cause(ctx))
	}
}

const agencyMailbox = "agency@agency.example"

func newProbe(t *testing.T, pattern string, h *host) *notify.Probe {
	t.Helper()
	mailbox, err := provisioning.ParseMailbox(agencyMailbox)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := provisioning.ParsePattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	namer, err := provisioning.NewNamer(parsed, mailbox, 50)
	if err != nil {
		t.Fatal(err)
	}
	h.inbox = make(chan []byte, 20)
	return &notify.Probe{Sender: h, Inbox: h, From: "hello@agency.example", Mailbox: mailbox, Namer: namer, Wait: 2 * time.Minute}
}

// with puts header fields before a mail.
func with(fields string, raw []byte) [][]byte { return [][]byte{append([]byte(fields), raw...)} }

func TestProbe(t *testing.T) {
	t.Parallel()
	refused := &smtp.Error{
		Kind: smtp.Permanent, Step: "RCPT TO", Server: "mx.example:25", Code: 550, Enhanced: "5.1.1", Text: "User unknown",
	}
	tests := map[string]struct {
		host host
		want notify.Proof
	}{
		"all is well": {
			host: host{arrives: func(to string, raw []byte) [][]byte { return with("Delivered-To: <"+to+">\r\n", raw) }},
			want: notify.Proof{Outcome: notify.OutcomeArrived, Header: "Delivered-To"},
		},
		"forwarded, in capitals": {
			host: host{arrives: func(to string, raw []byte) [][]byte {
				return with("Delivered-To: team@else.example\r\nX-Original-To: "+strings.ToUpper(to)+"\r\n", raw)
			}},
			want: notify.Proof{Outcome: notify.OutcomeArrived, Header: "X-Original-To", Recipient: "Delivered-To: team@else.example"},
		},
		"the host writes down nothing": {
			host: host{arrives: func(_ string, raw []byte) [][]byte { return with("", raw) }},
			want: notify.Proof{Outcome: notify.OutcomeArrived, Header: "To"},
		},
		"the host strips the tag": {
			host: host{arrives: func(_ string, raw []byte) [][]byte { return with("Envelope-To: "+agencyMailbox+"\r\n", raw) }},
			want: notify.Proof{Outcome: notify.OutcomeStripped, Header: "To", Recipient: "Envelope-To: " + agencyMailbox},
		},
		"the host rewrites what was sent": {
			host: host{arrives: func(to string, raw []byte) [][]byte {
				return with("", bytes.ReplaceAll(raw, []byte("<"+to+">"), []byte("<"+agencyMailbox+">")))
			}},
			want: notify.Proof{Outcome: notify.OutcomeStripped, Recipient: "To: " + agencyMailbox},
		},
		"the host drops tagged mail": {
			host: host{arrives: func(to string, raw []byte) [][]byte {
				if to != agencyMailbox {
					return nil
				}
				return with("", raw)
			}},
			want: notify.Proof{Outcome: notify.OutcomeLost},
		},
		"another mailbox": {
			host: host{arrives: func(string, []byte) [][]byte { return nil }},
			want: notify.Proof{Outcome: notify.OutcomeNothing},
		},
		"forged, broken and foreign mail": {
			host: host{arrives: func(to string, raw []byte) [][]byte {
				signature := regexp.MustCompile(`(?m)^X-Countersign-Probe:\s+(.)`)
				id := regexp.MustCompile(`(?m)^Message-ID: <(.)`)
				return [][]byte{
					nil,
					[]byte("no mail at all"),
					[]byte("Delivered-To: " + to + "\r\nSubject: You were added\r\n\r\nAccept.\r\n"),
					signature.ReplaceAll(raw, []byte("X-Countersign-Probe: x")),
					signature.ReplaceAll(raw, []byte("X-Other: $1")),
					id.ReplaceAll(raw, []byte("Message-ID: <x")),
				}
			}},
			want: notify.Proof{Outcome: notify.OutcomeNothing},
		},
		"refused by the server": {
			host: host{
				refuse: func(to string) error {
					if to != agencyMailbox {
						return refused
					}
					return nil
				},
				arrives: func(_ string, raw []byte) [][]byte { return with("", raw) },
			},
			want: notify.Proof{Outcome: notify.OutcomeRefused, Refusal: "mail server mx.example:25: RCPT TO answered 550 5.1.1 User unknown"},
		},
		"the mailbox refused by the server": {
			host: host{refuse: func(string) error { return refused }},
			want: notify.Proof{Outcome: notify.OutcomeNoSuch, Refusal: "mail server mx.example:25: RCPT TO answered 550 5.1.1 User unknown"},
		},
		"returned": {
			host: host{arrives: func(to string, raw []byte) [][]byte {
				if to == agencyMailbox {
					return with("", raw)
				}
				return [][]byte{[]byte("Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" +
					"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n" +
					"Final-Recipient: rfc822; " + to + "\r\nDiagnostic-Code: smtp; 550 5.1.1 <" + to + ">:\r\n    User unknown\r\n\r\n" +
					"--b\r\nContent-Type: message/rfc822\r\n\r\n" + string(raw) + "\r\n--b--\r\n")}
			}},
			want: notify.Proof{Outcome: notify.OutcomeRefused, Refusal: "it came back: 550 5.1.1 <USERNAME>: User unknown"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				probe := newProbe(t, "{local}+{slug}@{domain}", &tt.host)
				begin := time.Now()
				proof, err := probe.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				username := string(proof.Username)
				if !regexp.MustCompile(`^agency\+[a-z2-7]{8}-probe@agency\.example$`).MatchString(username) {
					t.Errorf("it was sent to %s", username)
				}
				want := tt.want
				want.Username, want.Refusal = proof.Username, strings.ReplaceAll(want.Refusal, "USERNAME", username)
				if diff := gocmp.Diff(want, proof); diff != "" {
					t.Errorf("Run (-want +got):\n%s", diff)
				}
				patient := proof.Outcome == notify.OutcomeLost || proof.Outcome == notify.OutcomeNothing
				if waited := time.Since(begin); patient != (waited == 2*time.Minute) {
					t.Errorf("%s after %s", proof.Outcome, waited)
				}
			})
		})
	}
}

func TestProbeMail(t *testing.T) {
	t.Parallel()
	var arrived []*netmail.Message
	h := &host{arrives: func(_ string, raw []byte) [][]byte {
		message, err := netmail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Error(err)
			return nil
		}
		arrived = append(arrived, message)
		return with("", raw)
	}}
	proof, err := newProbe(t, "{local}+{slug}@{domain}", h).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{agencyMailbox, string(proof.Username)}, h.sent); diff != "" {
		t.Errorf("sent to (-want +got):\n%s", diff)
	}
	seen := make(map[string]bool)
	for _, message := range arrived {
		for name, want := range map[string]string{
			"From":                `<hello@agency\.example>`,
			"Auto-Submitted":      `auto-generated`,
			"Message-Id":          `<[0-9a-f-]{36}@agency\.example>`,
			"X-Countersign-Probe": `[0-9a-f]{32}`,
		} {
			got := message.Header.Get(name)
			if !regexp.MustCompile(`^`+want+`$`).MatchString(got) || strings.HasPrefix(name, "X-") && seen[got] {
				t.Errorf("%s is %q", name, got)
			}
			seen[got] = true
		}
	}
}

// What is probed is an address that the pattern gives, and not one that a client may have if there is another.
func TestProbeUsername(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"{local}+{slug}@{domain}":                 `agency\+[a-z2-7]{8}-probe@agency\.example`,
		"{local}+{ref}@clients.example":           `agency\+[a-z2-7]{8}-probe@clients\.example`,
		"clients+cc-{slug}-{n}@{domain}":          `clients\+cc-[a-z2-7]{8}-probe-1@agency\.example`,
		"{local}+{n}@{domain}":                    `agency\+[a-z2-7]{8}@agency\.example`,
		"{slug}@{domain}":                         `[a-z2-7]{8}-probe@agency\.example`,
		"{local}{n}@{domain}":                     `agency1@agency\.example`,
		"{local}+a-longer-prefix-{slug}@{domain}": `agency\+a-longer-prefix-[a-z2-7]{8}-pro@agency\.example`,
		"{local}-{slug}@{domain}":                 `agency-[a-z2-7]{8}-probe@agency\.example`,
	} {
		h := &host{arrives: func(_ string, raw []byte) [][]byte { return with("", raw) }}
		proof, err := newProbe(t, pattern, h).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if username := string(proof.Username); !regexp.MustCompile(`^` + want + `$`).MatchString(username) {
			t.Errorf("%s: probed %s", pattern, username)
		}
		if _, err := provisioning.ParseUsername(string(proof.Username), 50); err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

func TestProbeCannotTell(t *testing.T) {
	t.Parallel()
	later := &smtp.Error{Kind: smtp.Temporary, Step: "AUTH", Code: 535, Config: true}
	policy := &smtp.Error{Kind: smtp.Policy, Step: "RCPT TO", Code: 550, Enhanced: "5.7.1"}
	for name, failed := range map[string]error{"sign-in": later, "policy": policy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &host{refuse: func(string) error { return failed }}
			if proof, err := newProbe(t, "{local}+{slug}@{domain}", h).Run(t.Context()); !errors.Is(err, failed) {
				t.Errorf("Run = %+v, %v", proof, err)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			h := &host{arrives: func(string, []byte) [][]byte { return nil }}
			if proof, err := newProbe(t, "{local}+{slug}@{domain}", h).Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Run = %+v, %v", proof, err)
			}
		})
	})
	t.Run("the inbox fails", func(t *testing.T) {
		t.Parallel()
		h := &host{arrives: func(string, []byte) [][]byte { return nil }}
		probe := newProbe(t, "{local}+{slug}@{domain}", h)
		probe.Inbox = brokenInbox{}
		if proof, err := probe.Run(t.Context()); !errors.Is(err, errBroken) {
			t.Errorf("Run = %+v, %v", proof, err)
		}
	})
}

var errBroken = errors.New("the connection was lost")

type brokenInbox struct{}

func (brokenInbox) Next(context.Context) ([]byte, error) { return nil, errBroken }
