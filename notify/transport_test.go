package notify_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
)

// script is an SMTP server that answers by the book unless reply says otherwise.
type script struct {
	// reply returns the answer to a command of the n-th connection (from 1); "" means the usual one. The verb of the
	// greeting is "", that of the end of a message is ".". Lines end with \n; an answer that ends with hangup closes the
	// connection after it, and silence gives none at all.
	reply func(n int, verb, line string) string
	ehlo  []string
	left  chan struct{} // if made, closed when the client of the only connection has left

	url   string
	mu    sync.Mutex
	conns [][]string // the commands of every connection
	wg    sync.WaitGroup
}

const (
	hangup  = "\x00"
	silence = "\x01"
)

func (s *script) start(t *testing.T) *script {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "smtp://" + l.Addr().String() + "?tls=none"
	open := make(chan net.Conn, 1000)
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(open)
				return
			}
			open <- conn
			s.mu.Lock()
			s.conns = append(s.conns, nil)
			n := len(s.conns)
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(conn, n) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		for conn := range open {
			_ = conn.Close()
		}
		s.wg.Wait()
	})
	return s
}

func (s *script) serve(conn net.Conn, n int) {
	defer func() { _ = conn.Close() }()
	lines := bufio.NewScanner(conn)
	if _, up := s.answer(conn, n, "", "", "220 script ready\n"); !up {
		return
	}
	for lines.Scan() {
		line := lines.Text()
		s.mu.Lock()
		s.conns[n-1] = append(s.conns[n-1], line)
		s.mu.Unlock()
		verb := strings.ToUpper(strings.Fields(line + " x")[0])
		usual := "250 2.0.0 fine\n"
		switch verb {
		case "EHLO":
			usual = strings.Join(append([]string{"250-script"}, s.ehlo...), "\n250-") + "\n250 8BITMIME\n"
		case "DATA":
			usual = "354 go on\n"
		case "QUIT":
			usual = "221 bye\n" + hangup
		}
		said, up := s.answer(conn, n, verb, line, usual)
		if up && strings.HasPrefix(said, "354") {
			for lines.Scan() && lines.Text() != "." {
				continue
			}
			_, up = s.answer(conn, n, ".", ".", "250 2.0.0 accepted\n")
		}
		if !up {
			return
		}
	}
	if s.left != nil {
		close(s.left)
	}
}

// answer returns what it said and whether the connection is still up.
func (s *script) answer(conn net.Conn, n int, verb, line, usual string) (said string, up bool) {
	said = usual
	if s.reply != nil {
		said = cmp.Or(s.reply(n, verb, line), usual)
	}
	if said == silence {
		return said, true
	}
	said, end := strings.CutSuffix(said, hangup)
	_, err := io.WriteString(conn, strings.ReplaceAll(said, "\n", "\r\n"))
	return said, err == nil && !end
}

// dialogues returns the verbs of every connection so far.
func (s *script) dialogues() (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, lines := range s.conns {
		var verbs []string
		for _, line := range lines {
			verbs = append(verbs, strings.Fields(line)[0])
		}
		found = append(found, strings.Join(verbs, " "))
	}
	return found
}

// lines returns the commands of the n-th connection so far.
func (s *script) lines(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns[n-1])
}

// at answers one verb, on every connection.
func at(verb, reply string) func(int, string, string) string {
	return func(_ int, v, _ string) string {
		if v == verb {
			return reply
		}
		return ""
	}
}

func newTransport(t *testing.T, o notify.TransportOptions) *notify.Transport {
	t.Helper()
	if o.Hello == "" {
		o.Hello = "tester.example"
	}
	transport, err := notify.NewTransport(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := transport.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return transport
}

func newMessage(t *testing.T, to ...string) *mail.Msg {
	t.Helper()
	m := mail.NewMsg()
	if err := errors.Join(m.EnvelopeFrom("bounce+1@agency.example"), m.From("office@agency.example"), m.To(to...)); err != nil {
		t.Fatal(err)
	}
	m.SetMessageIDWithValue(to[0])
	m.Subject("Connect")
	m.SetBodyString(mail.TypeTextPlain, "Hello.\n.\n..\nBye.")
	return m
}

// sendError fails the test unless err is a *SendError.
func sendError(t *testing.T, err error) *notify.SendError {
	t.Helper()
	failed, ok := errors.AsType[*notify.SendError](err)
	if !ok {
		t.Fatalf("Send = %v, want a SendError", err)
	}
	return failed
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	const (
		mailFrom, rcptTo, data, end = "MAIL FROM", "RCPT TO", "DATA", "end of message"
		next                        = " MAIL RCPT DATA" // the second message over the same connection
		whole                       = "EHLO MAIL RCPT DATA"
	)
	tests := map[string]struct {
		reply func(n int, verb, line string) string
		want  notify.SendError // but for Server and Err
		// dialogues of a failing message and of one more that goes to a healthy server.
		dialogues []string
	}{
		"550 5.1.1 at RCPT: the address is dead": {
			reply:     at("RCPT", "550-5.1.1 No such user\n550 5.1.1 here\n"),
			want:      notify.SendError{Kind: notify.Permanent, Step: rcptTo, Code: 550, Enhanced: "5.1.1", Text: "No such user here"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"bare 550 at RCPT: the address is dead": {
			reply:     at("RCPT", "550 mailbox unavailable\n"),
			want:      notify.SendError{Kind: notify.Permanent, Step: rcptTo, Code: 550, Text: "mailbox unavailable"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"550 5.7.1 at RCPT: our fault": {
			reply:     at("RCPT", "550 5.7.1 Blocked\n"),
			want:      notify.SendError{Kind: notify.Policy, Step: rcptTo, Code: 550, Enhanced: "5.7.1", Text: "Blocked"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"qmail's way to say 5.7.1": {
			reply:     at("RCPT", "553 sorry, not in my rcpthosts (#5.7.1)\n"),
			want:      notify.SendError{Kind: notify.Policy, Step: rcptTo, Code: 553, Enhanced: "5.7.1", Text: "sorry, not in my rcpthosts (#5.7.1)"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"bare refusal to relay: our settings": {
			reply:     at("RCPT", "550 Relay not permitted\n"),
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: rcptTo, Code: 550, Text: "Relay not permitted"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"sender's domain refused at RCPT: our fault": {
			reply:     at("RCPT", "550 5.1.8 Sender domain not found\n"),
			want:      notify.SendError{Kind: notify.Policy, Step: rcptTo, Code: 550, Enhanced: "5.1.8", Text: "Sender domain not found"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"554 5.7.1 to relay: our settings": {
			reply:     at("RCPT", "554 5.7.1 <owner@acme.example>: Relay access denied\n"),
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: rcptTo, Code: 554, Enhanced: "5.7.1", Text: "<owner@acme.example>: Relay access denied"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"454 4.7.1 to relay: our settings": {
			reply:     at("RCPT", "454 4.7.1 Relay access denied\n"),
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: rcptTo, Code: 454, Enhanced: "4.7.1", Text: "Relay access denied"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"unknown user at a host named relay: the address is dead": {
			reply:     at("RCPT", "550 5.1.1 No such user at relay.example\n"),
			want:      notify.SendError{Kind: notify.Permanent, Step: rcptTo, Code: 550, Enhanced: "5.1.1", Text: "No such user at relay.example"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"503 at RCPT: our protocol": {
			reply:     at("RCPT", "503 Bad sequence\n"),
			want:      notify.SendError{Kind: notify.Policy, Step: rcptTo, Code: 503, Text: "Bad sequence"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"530 at RCPT: our settings": {
			reply:     at("RCPT", "530 Authentication required\n"),
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: rcptTo, Code: 530, Text: "Authentication required"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"451 at RCPT: later": {
			reply:     at("RCPT", "451 4.7.1 Greylisted\n"),
			want:      notify.SendError{Kind: notify.Temporary, Step: rcptTo, Code: 451, Enhanced: "4.7.1", Text: "Greylisted"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
		"451 at RCPT and no RSET": {
			reply: func(n int, verb, _ string) string {
				return map[string]string{"1 RCPT": "451 4.7.1 Greylisted\n", "1 RSET": "500 what\n"}[fmt.Sprint(n, " ", verb)]
			},
			want:      notify.SendError{Kind: notify.Temporary, Step: rcptTo, Code: 451, Enhanced: "4.7.1", Text: "Greylisted"},
			dialogues: []string{"EHLO MAIL RCPT RSET", whole},
		},
		"421 at RCPT and hung up": {
			reply:     at("RCPT", "421 4.3.2 Shutting down\n"+hangup),
			want:      notify.SendError{Kind: notify.Temporary, Step: rcptTo, Code: 421, Enhanced: "4.3.2", Text: "Shutting down"},
			dialogues: []string{"EHLO MAIL RCPT", whole},
		},
		"hung up at RCPT": {
			reply:     at("RCPT", hangup),
			want:      notify.SendError{Kind: notify.Temporary, Step: rcptTo},
			dialogues: []string{"EHLO MAIL RCPT", whole},
		},
		"553 at MAIL: our sender address": {
			reply:     at("MAIL", "553 5.7.1 Not your address\n"),
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: mailFrom, Code: 553, Enhanced: "5.7.1", Text: "Not your address"},
			dialogues: []string{"EHLO MAIL" + next},
		},
		"452 at MAIL: later": {
			reply:     at("MAIL", "452 4.3.1 Disk full\n"),
			want:      notify.SendError{Kind: notify.Temporary, Step: mailFrom, Code: 452, Enhanced: "4.3.1", Text: "Disk full"},
			dialogues: []string{"EHLO MAIL" + next},
		},
		"hung up at MAIL of a fresh connection": {
			reply:     at("MAIL", hangup),
			want:      notify.SendError{Kind: notify.Temporary, Step: mailFrom},
			dialogues: []string{"EHLO MAIL", whole},
		},
		"451 at DATA: later": {
			reply:     at("DATA", "451 4.3.0 Try again\n"),
			want:      notify.SendError{Kind: notify.Temporary, Step: data, Code: 451, Enhanced: "4.3.0", Text: "Try again"},
			dialogues: []string{"EHLO MAIL RCPT DATA RSET" + next},
		},
		"no DATA by protocol: no verdict on the address": {
			reply:     at("DATA", "250 what\n"),
			want:      notify.SendError{Kind: notify.Temporary, Step: data, Code: 250, Text: "what"},
			dialogues: []string{"EHLO MAIL RCPT DATA", whole},
		},
		"552 5.2.2 at the end: mailbox full for good": {
			reply:     at(".", "552 5.2.2 Mailbox full\n"),
			want:      notify.SendError{Kind: notify.Permanent, Step: end, Code: 552, Enhanced: "5.2.2", Text: "Mailbox full"},
			dialogues: []string{whole + next},
		},
		"552 5.3.4 at the end: too big for any mailbox there": {
			reply:     at(".", "552 5.3.4 Message too big\n"),
			want:      notify.SendError{Kind: notify.Policy, Step: end, Code: 552, Enhanced: "5.3.4", Text: "Message too big"},
			dialogues: []string{whole + next},
		},
		"554 5.7.1 at the end: taken for spam": {
			reply:     at(".", "554 5.7.1 Spam\n"),
			want:      notify.SendError{Kind: notify.Policy, Step: end, Code: 554, Enhanced: "5.7.1", Text: "Spam"},
			dialogues: []string{whole + next},
		},
		"451 at the end: later": {
			reply:     at(".", "451 4.3.0 Scanner down\n"),
			want:      notify.SendError{Kind: notify.Temporary, Step: end, Code: 451, Enhanced: "4.3.0", Text: "Scanner down"},
			dialogues: []string{whole + next},
		},
		"421 at the end: later, by another connection": {
			reply:     at(".", "421 4.3.2 Shutting down\n"),
			want:      notify.SendError{Kind: notify.Temporary, Step: end, Code: 421, Enhanced: "4.3.2", Text: "Shutting down"},
			dialogues: []string{whole, whole},
		},
		"no reply to the end: who knows": {
			reply:     at(".", hangup),
			want:      notify.SendError{Kind: notify.Unknown, Step: end},
			dialogues: []string{whole, whole},
		},
		"nonsense as reply to the end: who knows": {
			reply:     at(".", "HTTP/1.1 200 OK\n"),
			want:      notify.SendError{Kind: notify.Unknown, Step: end},
			dialogues: []string{whole, whole},
		},
		"hung up before the greeting": {
			reply:     at("", hangup),
			want:      notify.SendError{Kind: notify.Temporary, Step: "greeting"},
			dialogues: []string{"", whole},
		},
		"554 as greeting: tell the operator": {
			reply:     at("", "554 5.7.1 Your address is listed\n"+hangup),
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: "greeting", Code: 554, Enhanced: "5.7.1", Text: "Your address is listed"},
			dialogues: []string{"", whole},
		},
		"421 as greeting: later": {
			reply:     at("", "421 4.7.0 Too many connections\n"+hangup),
			want:      notify.SendError{Kind: notify.Temporary, Step: "greeting", Code: 421, Enhanced: "4.7.0", Text: "Too many connections"},
			dialogues: []string{"", whole},
		},
		"no SMTP server at all": {
			reply:     at("", "HTTP/1.1 400 Bad Request\n"),
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: "greeting"},
			dialogues: []string{"", whole},
		},
		"neither EHLO nor HELO": {
			reply: func(_ int, verb, _ string) string {
				return map[string]string{"EHLO": "550 5.7.1 Bad name\n", "HELO": "550 5.7.1 Bad name\n"}[verb]
			},
			want:      notify.SendError{Kind: notify.Temporary, Config: true, Step: "EHLO", Code: 550, Enhanced: "5.7.1", Text: "Bad name"},
			dialogues: []string{"EHLO HELO", whole},
		},
		"control characters and bytes of nowhere in a reply": {
			reply:     at("RCPT", "550 5.1.1 a\tb\x7f\xff\x1b[31m c\n"),
			want:      notify.SendError{Kind: notify.Permanent, Step: rcptTo, Code: 550, Enhanced: "5.1.1", Text: "a b ? [31m c"},
			dialogues: []string{"EHLO MAIL RCPT RSET" + next},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ill := make(chan struct{})
			server := (&script{reply: func(n int, verb, line string) string {
				select {
				case <-ill:
					return ""
				default:
					return tt.reply(n, verb, line)
				}
			}}).start(t)
			transport := newTransport(t, notify.TransportOptions{URL: server.url})
			failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
			close(ill)

			if failed.Server == "" || failed.Err == nil || !strings.Contains(failed.Error(), string(failed.Step)) {
				t.Errorf("error lacks something: %+v", failed)
			}
			got := *failed
			got.Server, got.Err = "", nil
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Send (-want +got):\n%s\nof %v", diff, failed)
			}
			if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
				t.Errorf("the next message: %v", err)
			}
			if diff := gocmp.Diff(tt.dialogues, server.dialogues()); diff != "" {
				t.Errorf("dialogues (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneConnectionCarriesMany(t *testing.T) {
	t.Parallel()
	server := (&script{ehlo: []string{"SMTPUTF8", "ENHANCEDSTATUSCODES", "PIPELINING"}}).start(t)
	transport := newTransport(t, notify.TransportOptions{URL: server.url, MaxMessages: 3})
	for n := range 7 {
		if err := transport.Send(t.Context(), newMessage(t, fmt.Sprintf("owner%d@acme.example", n))); err != nil {
			t.Fatal(err)
		}
	}
	three := "EHLO" + strings.Repeat(" MAIL RCPT DATA", 3) + " QUIT"
	if diff := gocmp.Diff([]string{three, three, "EHLO MAIL RCPT DATA"}, server.dialogues()); diff != "" {
		t.Errorf("dialogues (-want +got):\n%s", diff)
	}
	want := []string{"EHLO tester.example", "MAIL FROM:<bounce+1@agency.example> BODY=8BITMIME", "RCPT TO:<owner0@acme.example>", "DATA"}
	if diff := gocmp.Diff(want, server.lines(1)[:4]); diff != "" {
		t.Errorf("first message (-want +got):\n%s", diff)
	}
}

func TestBytesArriveAsRendered(t *testing.T) {
	t.Parallel()
	sink := startSink(t, mailsink.Options{})
	transport := newTransport(t, notify.TransportOptions{URL: sink.url})
	m := newMessage(t, "owner@acme.example")
	m.SetDateWithValue(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	if err := transport.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if _, err := m.WriteTo(&want); err != nil {
		t.Fatal(err)
	}
	got := sink.Messages(mailsink.Filter{})[0]
	if diff := gocmp.Diff(strings.TrimSuffix(want.String(), "\r\n"), strings.TrimSuffix(string(got.Raw), "\r\n")); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if got.From != "bounce+1@agency.example" || !slices.Equal(got.To, []string{"owner@acme.example"}) || got.UTF8 {
		t.Errorf("envelope %s %v, SMTPUTF8 %v", got.From, got.To, got.UTF8)
	}
}

func TestSMTPUTF8(t *testing.T) {
	t.Parallel()
	t.Run("asked for when the local part needs it", func(t *testing.T) {
		t.Parallel()
		sink := startSink(t, mailsink.Options{})
		transport := newTransport(t, notify.TransportOptions{URL: sink.url})
		for _, to := range []string{"plain@acme.example", "jürgen@acme.example", "plain2@acme.example"} {
			if err := transport.Send(t.Context(), newMessage(t, to)); err != nil {
				t.Fatal(err)
			}
			if m := sink.Messages(mailsink.Filter{To: to})[0]; m.UTF8 != (to == "jürgen@acme.example") {
				t.Errorf("%s: SMTPUTF8 asked for: %v", to, m.UTF8)
			}
		}
	})
	t.Run("not to be had", func(t *testing.T) {
		t.Parallel()
		server := (&script{}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: server.url})
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "jürgen@acme.example")))
		if failed.Kind != notify.Permanent {
			t.Errorf("Send = %+v, want a permanent failure", failed)
		}
		ours := newMessage(t, "plain@acme.example")
		if err := ours.EnvelopeFrom("büro@agency.example"); err != nil {
			t.Fatal(err)
		}
		if failed := sendError(t, transport.Send(t.Context(), ours)); failed.Kind != notify.Temporary || !failed.Config {
			t.Errorf("Send = %+v, want a fault of the settings", failed)
		}
		if err := transport.Send(t.Context(), newMessage(t, "plain@acme.example")); err != nil {
			t.Error(err)
		}
		if diff := gocmp.Diff([]string{"EHLO MAIL RCPT DATA"}, server.dialogues()); diff != "" {
			t.Errorf("dialogues (-want +got):\n%s", diff)
		}
	})
}

func TestMessageThatCannotBeSent(t *testing.T) {
	t.Parallel()
	transport := newTransport(t, notify.TransportOptions{URL: "smtp://127.0.0.1:9?tls=none"})
	noSender := mail.NewMsg()
	if err := noSender.To("owner@acme.example"); err != nil {
		t.Fatal(err)
	}
	broken := newMessage(t, "owner@acme.example")
	broken.SetBodyWriter(mail.TypeTextPlain, func(io.Writer) (int64, error) { return 0, errors.New("no template") })
	for name, m := range map[string]*mail.Msg{
		"two recipients": newMessage(t, "a@acme.example", "b@acme.example"),
		"no sender":      noSender,
		"broken body":    broken,
	} {
		if failed := sendError(t, transport.Send(t.Context(), m)); failed.Kind != notify.Policy || failed.Step != "composing the message" {
			t.Errorf("%s: Send = %+v, want a fault of ours", name, failed)
		}
	}
}

// goneAfterFirst hangs up the first connection once it has carried a message, saying goodbye first or not.
func goneAfterFirst(goodbye string) func(int, string, string) string {
	return func(n int, verb, _ string) string {
		if n == 1 && verb == "." {
			return "250 2.0.0 accepted\n" + goodbye + hangup
		}
		return ""
	}
}

func TestStaleConnection(t *testing.T) {
	t.Parallel()
	for name, goodbye := range map[string]string{"silently": "", "with 421": "421 4.4.2 Idle too long\n"} {
		t.Run("closed "+name, func(t *testing.T) {
			t.Parallel()
			server := (&script{reply: goneAfterFirst(goodbye)}).start(t)
			transport := newTransport(t, notify.TransportOptions{URL: server.url})
			for range 3 {
				if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
					t.Fatal(err)
				}
			}
			// Whether the MAIL on the first connection was still read is a matter of luck.
			got := server.dialogues()
			if len(got) != 2 || got[1] != "EHLO MAIL RCPT DATA MAIL RCPT DATA" {
				t.Errorf("dialogues %q, want a second connection for the second and third message", got)
			}
		})
	}
	t.Run("and the fresh one no better", func(t *testing.T) {
		t.Parallel()
		server := (&script{reply: func(n int, verb, line string) string {
			if n > 1 {
				return at("MAIL", hangup)(n, verb, line)
			}
			return goneAfterFirst("")(n, verb, line)
		}}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: server.url})
		if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
			t.Fatal(err)
		}
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
		if failed.Kind != notify.Temporary || len(server.dialogues()) != 2 {
			t.Errorf("Send = %+v after %d connections, want one retry", failed, len(server.dialogues()))
		}
	})
}

func TestIdleConnectionIsEnded(t *testing.T) {
	t.Parallel()
	quit := make(chan struct{})
	server := (&script{reply: func(_ int, verb, _ string) string {
		if verb == "QUIT" {
			close(quit)
		}
		return ""
	}}).start(t)
	transport := newTransport(t, notify.TransportOptions{URL: server.url, IdleTimeout: time.Millisecond})
	if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
		t.Fatal(err)
	}
	<-quit
	if err := transport.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	sink := startSink(t, mailsink.Options{Rules: func(_, to string) *gosmtp.SMTPError {
		if strings.HasPrefix(to, "nobody") {
			return mailsink.NoSuchUser()
		}
		return nil
	}})
	transport := newTransport(t, notify.TransportOptions{URL: sink.url, MaxConns: 3, MaxMessages: 1000})
	var wg sync.WaitGroup
	for n := range 300 {
		wg.Go(func() {
			to := fmt.Sprintf("owner%d@acme.example", n)
			if n%10 == 0 {
				to = fmt.Sprintf("nobody%d@acme.example", n)
			}
			err := transport.Send(t.Context(), newMessage(t, to))
			if failed, _ := errors.AsType[*notify.SendError](err); (n%10 == 0) != (failed != nil && failed.Kind == notify.Permanent) {
				t.Errorf("%s: %v", to, err)
			}
		})
	}
	wg.Wait()
	got := sink.Stats()
	if got.Connections > 3 {
		t.Errorf("%d connections, want 3 at most", got.Connections)
	}
	got.Connections = 0
	if diff := gocmp.Diff(mailsink.Stats{Accepted: 270, Refused: 30}, got); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestContextEndsSend(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"", "EHLO", "MAIL", "RCPT", "DATA"} {
		t.Run("silence at "+verb, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			server := (&script{reply: func(_ int, v, _ string) string {
				if v == verb {
					cancel()
					return silence
				}
				return ""
			}}).start(t)
			transport := newTransport(t, notify.TransportOptions{URL: server.url})
			err := transport.Send(ctx, newMessage(t, "owner@acme.example"))
			if failed := sendError(t, err); failed.Kind != notify.Temporary || failed.Config || !errors.Is(err, context.Canceled) {
				t.Errorf("Send = %+v, want a temporary error of the context", failed)
			}
		})
	}
	t.Run("no connection free", func(t *testing.T) {
		t.Parallel()
		busy, done := make(chan struct{}), make(chan error)
		sink := startSink(t, mailsink.Options{Latency: time.Hour, Faults: func(mailsink.Message) mailsink.Fault {
			close(busy)
			return mailsink.NoFault
		}})
		transport := newTransport(t, notify.TransportOptions{URL: sink.url, MaxConns: 1})
		go func() { done <- transport.Send(t.Context(), newMessage(t, "first@acme.example")) }()
		<-busy
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := transport.Send(ctx, newMessage(t, "second@acme.example")); !errors.Is(err, context.Canceled) {
			t.Errorf("Send = %v, want the context's error", err)
		}
		if err := sink.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("the first message: %v", err)
		}
	})
	t.Run("but the verdict is awaited", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		server := (&script{reply: func(_ int, verb, _ string) string {
			if verb == "." {
				cancel()
			}
			return ""
		}}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: server.url})
		if err := transport.Send(ctx, newMessage(t, "owner@acme.example")); err != nil {
			t.Errorf("Send = %v, but the server had accepted the message", err)
		}
	})
}

// A message that is broken off must not end in the dot that would make the server deliver a torso.
func TestBrokenOffMessageHasNoEnd(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	received := make(chan []byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "220 hi\r\n250 hello\r\n250 fine\r\n250 fine\r\n354 go on\r\n")
		lines := bufio.NewReader(conn)
		for line := ""; line != "DATA\r\n"; {
			if line, err = lines.ReadString('\n'); err != nil {
				return
			}
		}
		cancel()
		rest, _ := io.ReadAll(lines)
		received <- rest
	}()
	transport := newTransport(t, notify.TransportOptions{URL: "smtp://" + l.Addr().String() + "?tls=none"})
	m := newMessage(t, "owner@acme.example")
	m.SetBodyString(mail.TypeTextPlain, strings.Repeat("0123456789abcdef\n", 1<<20))
	if failed := sendError(t, transport.Send(ctx, m)); failed.Kind != notify.Temporary {
		t.Errorf("Send = %+v, want a temporary failure", failed)
	}
	if rest := <-received; bytes.Contains(rest, []byte("\r\n.\r\n")) {
		t.Errorf("the server got the end of a message after %d bytes", len(rest))
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	for verb, want := range map[string]notify.Kind{
		"": notify.Temporary, "EHLO": notify.Temporary, "MAIL": notify.Temporary, "RCPT": notify.Temporary, "DATA": notify.Temporary, ".": notify.Unknown,
	} {
		t.Run("silence at "+verb, func(t *testing.T) {
			t.Parallel()
			server := (&script{reply: at(verb, silence)}).start(t)
			transport := newTransport(t, notify.TransportOptions{URL: server.url, Timeout: 400 * time.Millisecond})
			err := transport.Send(t.Context(), newMessage(t, "owner@acme.example"))
			if failed := sendError(t, err); failed.Kind != want || failed.Config || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Send = %+v, want %s for a deadline", failed, want)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	transport := newTransport(t, notify.TransportOptions{URL: "smtp://" + l.Addr().String() + "?tls=none"})
	failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
	if failed.Kind != notify.Temporary || failed.Config || failed.Step != "connect" || failed.Server != l.Addr().String() {
		t.Errorf("Send = %+v", failed)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("says goodbye and takes no more", func(t *testing.T) {
		t.Parallel()
		server := (&script{}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: server.url})
		if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
			t.Fatal(err)
		}
		if err := transport.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff([]string{"EHLO MAIL RCPT DATA QUIT"}, server.dialogues()); diff != "" {
			t.Errorf("dialogues (-want +got):\n%s", diff)
		}
		err := transport.Send(t.Context(), newMessage(t, "owner@acme.example"))
		if failed := sendError(t, err); failed.Kind != notify.Temporary || !errors.Is(err, notify.ErrTransportClosed) {
			t.Errorf("Send after Close = %+v", failed)
		}
	})
	t.Run("waits for messages under way, but not for ever", func(t *testing.T) {
		t.Parallel()
		busy, verdict, done := make(chan struct{}), make(chan struct{}), make(chan error)
		server := (&script{reply: func(_ int, verb, _ string) string {
			if verb == "." {
				close(busy)
				<-verdict
			}
			return ""
		}}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: server.url})
		go func() { done <- transport.Send(t.Context(), newMessage(t, "owner@acme.example")) }()
		<-busy
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := transport.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close = %v, want the context's error", err)
		}
		close(verdict)
		if err := <-done; err != nil {
			t.Errorf("the message under way: %v", err)
		}
		if diff := gocmp.Diff([]string{"EHLO MAIL RCPT DATA QUIT"}, server.dialogues()); diff != "" {
			t.Errorf("dialogues (-want +got):\n%s", diff)
		}
	})
}

// go-mail leaves the socket open when a server does not let it in.
func TestRefusedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	server := (&script{left: make(chan struct{}), reply: func(_ int, verb, _ string) string {
		if verb == "EHLO" || verb == "HELO" {
			return "550 5.7.1 Bad name\n"
		}
		return ""
	}}).start(t)
	transport := newTransport(t, notify.TransportOptions{URL: server.url})
	if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err == nil {
		t.Error("a message was taken")
	}
	<-server.left
}

// sinkServer is a mail sink that serves until the test ends.
type sinkServer struct {
	*mailsink.Sink
	url string
}

func startSink(t *testing.T, o mailsink.Options) sinkServer {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink := mailsink.New(o)
	served := make(chan error, 1)
	go func() { served <- sink.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(sink.Shutdown(context.WithoutCancel(t.Context())), <-served); err != nil {
			t.Error(err)
		}
	})
	return sinkServer{Sink: sink, url: "smtp://" + l.Addr().String() + "?tls=none"}
}

// certificate borrows httptest's, which is good for 127.0.0.1.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	return &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12}, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func TestTLSAndAUTH(t *testing.T) {
	t.Parallel()
	server, client := certificate(t)
	demanding := mailsink.Options{TLS: server}
	demanding.Username, demanding.Password = "agency@example.com", "p/ss:w?rd"
	implicit := demanding
	implicit.ImplicitTLS = true
	tests := map[string]struct {
		sink     mailsink.Options
		scheme   string
		userinfo string
		query    string
		client   *tls.Config
		want     *notify.SendError // nil: accepted over TLS, signed in
		saying   string
	}{
		"STARTTLS and AUTH":     {sink: demanding, scheme: "smtp", userinfo: "agency%40example.com:p%2Fss%3Aw%3Frd@", client: client},
		"implicit TLS and AUTH": {sink: implicit, scheme: "smtps", userinfo: "agency%40example.com:p%2Fss%3Aw%3Frd@", client: client},
		"wrong password": {
			sink: demanding, scheme: "smtp", userinfo: "agency%40example.com:hunter2@", client: client,
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "AUTH", Code: 535, Enhanced: "5.7.8"},
			saying: "Authentication failed",
		},
		"no password where one is demanded": {
			sink: demanding, scheme: "smtp", client: client,
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "MAIL FROM", Code: 530, Enhanced: "5.7.0"},
			saying: "Authentication required",
		},
		"password where none is wanted": {
			sink: mailsink.Options{TLS: server}, scheme: "smtp", userinfo: "agency:hunter2@", client: client,
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "AUTH"},
			saying: "does not offer AUTH",
		},
		"certificate of nobody we know": {
			sink: demanding, scheme: "smtp", userinfo: "agency:hunter2@",
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "TLS"},
			saying: "certificate signed by unknown authority",
		},
		"the same with implicit TLS": {
			sink: implicit, scheme: "smtps", userinfo: "agency:hunter2@",
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "TLS"},
			saying: "certificate signed by unknown authority",
		},
		"no STARTTLS": {
			scheme: "smtp", userinfo: "agency:hunter2@",
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "TLS"},
			saying: "does not offer STARTTLS",
		},
		"implicit TLS toward a plain server": {
			scheme: "smtps", client: client,
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "TLS"},
			saying: "does not look like a TLS handshake",
		},
		"versions that do not meet": {
			sink: mailsink.Options{TLS: &tls.Config{Certificates: server.Certificates, MinVersion: tls.VersionTLS13}}, scheme: "smtp",
			client: &tls.Config{RootCAs: client.RootCAs, MaxVersion: tls.VersionTLS12}, //nolint:gosec // the server wants more
			want:   &notify.SendError{Kind: notify.Temporary, Config: true, Step: "TLS"},
			saying: "protocol version",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := startSink(t, tt.sink)
			address := strings.TrimSuffix(strings.TrimPrefix(sink.url, "smtp://"), "?tls=none")
			transport := newTransport(t, notify.TransportOptions{URL: tt.scheme + "://" + tt.userinfo + address, TLS: tt.client})
			err := transport.Send(t.Context(), newMessage(t, "owner@acme.example"))
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if m := sink.Messages(mailsink.Filter{})[0]; !m.TLS || m.Username != tt.sink.Username {
					t.Errorf("TLS %v, signed in as %q", m.TLS, m.Username)
				}
				return
			}
			got := *sendError(t, err)
			if !strings.Contains(err.Error(), tt.saying) || strings.Contains(fmt.Sprintf("%+v %v", got, err), "hunter2") {
				t.Errorf("error says %q, want %q", err, tt.saying)
			}
			got.Server, got.Text, got.Err = "", "", nil
			if diff := gocmp.Diff(*tt.want, got); diff != "" {
				t.Errorf("Send (-want +got):\n%s", diff)
			}
			if sink.Count() != 0 {
				t.Error("a message was taken")
			}
		})
	}
}

// The server decides the mechanism; LOGIN is all that some offer.
func TestAUTHMechanisms(t *testing.T) {
	t.Parallel()
	login := func(_ int, verb, line string) string {
		decoded, _ := base64.StdEncoding.DecodeString(line)
		switch {
		case verb == "AUTH" && line == "AUTH LOGIN":
			return "334 " + base64.StdEncoding.EncodeToString([]byte("Username:")) + "\n"
		case string(decoded) == "agency":
			return "334 " + base64.StdEncoding.EncodeToString([]byte("Password:")) + "\n"
		case string(decoded) == "hunter2":
			return "235 2.7.0 welcome\n"
		}
		return ""
	}
	t.Run("LOGIN", func(t *testing.T) {
		t.Parallel()
		server := (&script{ehlo: []string{"AUTH XOAUTH2 LOGIN"}, reply: login}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: strings.Replace(server.url, "//", "//agency:hunter2@", 1)})
		if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
			t.Error(err)
		}
	})
	t.Run("none that we know", func(t *testing.T) {
		t.Parallel()
		server := (&script{ehlo: []string{"AUTH GSSAPI XOAUTH2"}}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: strings.Replace(server.url, "//", "//agency:hunter2@", 1)})
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
		if !failed.Config || !strings.Contains(failed.Error(), "GSSAPI XOAUTH2") {
			t.Errorf("Send = %v, want the mechanisms offered", failed)
		}
	})
	t.Run("temporarily out of order", func(t *testing.T) {
		t.Parallel()
		server := (&script{ehlo: []string{"AUTH PLAIN"}, reply: at("AUTH", "454 4.7.0 Try later\n")}).start(t)
		transport := newTransport(t, notify.TransportOptions{URL: strings.Replace(server.url, "//", "//agency:hunter2@", 1)})
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
		if failed.Kind != notify.Temporary || failed.Config || failed.Code != 454 {
			t.Errorf("Send = %+v, want 454 for the hour only", failed)
		}
	})
}
