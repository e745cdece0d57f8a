package smtp_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify/smtp"
)

// What a mail costs over a real network is how often it has to wait for the server.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	const messages = 20
	for name, tt := range map[string]struct {
		offers  []string
		options smtp.Options
		want    int // a message
	}{
		"neither":                           {want: 4},
		"PIPELINING":                        {offers: []string{"PIPELINING"}, want: 2},
		"PIPELINING and CHUNKING":           {offers: []string{"PIPELINING", "CHUNKING"}, want: 1},
		"both, on a connection in doubt":    {offers: []string{"PIPELINING", "CHUNKING"}, options: smtp.Options{Trust: -1}, want: 2},
		"both, but we are told to use none": {offers: []string{"PIPELINING", "CHUNKING"}, options: smtp.Options{Plain: true}, want: 4},
		"CHUNKING alone":                    {offers: []string{"CHUNKING"}, want: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := (&script{ehlo: tt.offers}).start(t)
			tt.options.URL = server.url
			transport := newTransport(t, tt.options)
			for range messages {
				if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
					t.Fatal(err)
				}
			}
			if err := transport.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			// EHLO and QUIT are waited for besides.
			if got := server.waited() - 2; got != tt.want*messages || len(server.received()) != messages {
				t.Errorf("%d waits for %d messages, want %d a message", got, len(server.received()), tt.want)
			}
		})
	}
}

// A server that goes on after it has refused the recipient must not be given a message for nobody.
func TestConsentAfterRefusal(t *testing.T) {
	t.Parallel()
	for mode, consent := range map[string]struct{ verb, answer, course string }{
		"pipelining": {"DATA", "354 go on\n", "EHLO MAIL RCPT DATA/EHLO MAIL RCPT DATA"},
		"chunking":   {"BDAT", "250 2.0.0 accepted for nobody\n", "EHLO MAIL RCPT BDAT/EHLO MAIL RCPT BDAT"},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := (&script{ehlo: modes()[mode], left: make(chan struct{}), reply: func(n int, verb, _ string) string {
				if n > 1 {
					return ""
				}
				return map[string]string{"RCPT": "550 5.1.1 No such user\n", consent.verb: consent.answer}[verb]
			}}).start(t)
			transport := newTransport(t, smtp.Options{URL: server.url})
			failed := sendError(t, transport.Send(t.Context(), newMessage(t, "nobody@acme.example")))
			if failed.Kind != smtp.Permanent || failed.Step != "RCPT TO" || failed.Enhanced != "5.1.1" {
				t.Errorf("Send = %+v, want the refusal of the recipient", failed)
			}
			if mode == "pipelining" && len(server.received()) != 0 {
				t.Errorf("the server got a message for nobody: %q", server.received())
			}
			<-server.left
			server.left = nil
			if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
				t.Error(err)
			}
			if diff := gocmp.Diff(consent.course, strings.Join(server.dialogues(), "/")); diff != "" {
				t.Errorf("dialogues (-want +got):\n%s", diff)
			}
		})
	}
}

// Once a message went out with its commands over a kept connection and there is no answer at all, it may have been accepted:
// only a second message would tell, and that would be one too many.
func TestSilentEndOfTrustedConnection(t *testing.T) {
	t.Parallel()
	for name, accepted := range map[string]bool{"before the message": false, "after it was taken": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := true
			server := (&script{ehlo: modes()["chunking"], reply: func(_ int, verb, _ string) string {
				switch {
				case verb == "." && first:
					first = false
				case verb == "." && accepted:
					return hangup
				case verb == "MAIL" && !first:
					if accepted {
						return silence
					}
					return hangup
				case verb == "RCPT" && !first:
					return silence
				}
				return ""
			}}).start(t)
			transport := newTransport(t, smtp.Options{URL: server.url})
			if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
				t.Fatal(err)
			}
			failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
			if failed.Kind != smtp.Unknown || failed.Step != "MAIL FROM" || len(server.dialogues()) != 1 {
				t.Errorf("Send = %+v over %d connections, want that nobody knows", failed, len(server.dialogues()))
			}
		})
	}
}

// A connection that did not even take the message is certain to have died before.
func TestResetConnection(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted, reset := make(chan struct{}), make(chan error, 1)
	go func() {
		reset <- func() error {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			_, err = io.WriteString(conn, "220 hi\r\n250-hello\r\n250-PIPELINING\r\n250 CHUNKING\r\n250 fine\r\n250 fine\r\n250 accepted\r\n")
			<-accepted
			return errors.Join(err, conn.(*net.TCPConn).SetLinger(0), conn.Close())
		}()
		if conn, err := l.Accept(); err == nil {
			_, _ = io.WriteString(conn, "554 5.3.2 found again\r\n")
			_ = conn.Close()
		}
	}()
	transport := newTransport(t, smtp.Options{URL: "smtp://" + l.Addr().String() + "?tls=none"})
	if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
		t.Fatal(err)
	}
	close(accepted)
	if err := <-reset; err != nil {
		t.Fatal(err)
	}
	failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
	if failed.Kind != smtp.Temporary || failed.Text != "found again" {
		t.Errorf("Send = %+v, want another connection to be tried", failed)
	}
}
