package smtp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
)

func newTransport(t *testing.T, o smtp.Options) *smtp.Transport {
	t.Helper()
	if o.Hello == "" {
		o.Hello = "tester.example"
	}
	transport, err := smtp.New(o)
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

func newMessage(t *testing.T, to string) smtp.Envelope {
	t.Helper()
	return smtp.Envelope{
		From: "bounce+1@agency.example", To: to,
		Body: []byte("From: office@agency.example\r\nMessage-ID: <" + to + ">\r\nSubject: Connect\r\n\r\nHello.\r\n.\r\n..\r\nBye.\r\n"),
	}
}

// sendError fails the test unless err is an *Error.
func sendError(t *testing.T, err error) *smtp.Error {
	t.Helper()
	failed, ok := errors.AsType[*smtp.Error](err)
	if !ok {
		t.Fatalf("Send = %v, want an *Error", err)
	}
	return failed
}

func TestOneConnectionCarriesMany(t *testing.T) {
	t.Parallel()
	for mode, once := range map[string]string{"plain": " MAIL RCPT DATA", "pipelining": " MAIL RCPT DATA", "chunking": " MAIL RCPT BDAT"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := (&script{ehlo: append(modes()[mode], "SMTPUTF8", "ENHANCEDSTATUSCODES")}).start(t)
			transport := newTransport(t, smtp.Options{URL: server.url, MaxMessages: 3})
			var want []string
			for n := range 7 {
				e := newMessage(t, fmt.Sprintf("owner%d@acme.example", n))
				want = append(want, string(e.Body))
				if err := transport.Send(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			three := "EHLO" + strings.Repeat(once, 3) + " QUIT"
			if diff := gocmp.Diff([]string{three, three, "EHLO" + once}, server.dialogues()); diff != "" {
				t.Errorf("dialogues (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(want, server.received()); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			commands := []string{"EHLO tester.example", "MAIL FROM:<bounce+1@agency.example> BODY=8BITMIME", "RCPT TO:<owner0@acme.example>"}
			if diff := gocmp.Diff(commands, server.lines(1)[:3]); diff != "" {
				t.Errorf("first message (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever stands in a message, a server of another make gets it byte for byte.
func TestBytesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{true, false} {
		t.Run(fmt.Sprint("plain ", plain), func(t *testing.T) {
			t.Parallel()
			sink := startSink(t, mailsink.Options{})
			transport := newTransport(t, smtp.Options{URL: sink.url, Plain: plain})
			rapid.Check(t, func(rt *rapid.T) {
				lines := rapid.SliceOfN(rapid.SampledFrom([]string{"", ".", "..", ".a", "a.", "QUIT", "Zürich\xff", strings.Repeat("x", 990)}), 1, 200)
				e := newMessage(t, "owner@acme.example")
				e.Body = []byte(strings.Join(lines.Draw(rt, "lines"), "\r\n") + "\r\n")
				if err := transport.Send(t.Context(), e); err != nil {
					rt.Fatal(err)
				}
				m := sink.Messages(mailsink.Filter{Limit: 1})[0]
				if diff := gocmp.Diff(string(e.Body), string(m.Raw)); diff != "" {
					rt.Errorf("message (-want +got):\n%s", diff)
				}
				if m.From != e.From || !slices.Equal(m.To, []string{e.To}) || m.UTF8 {
					rt.Errorf("envelope %s %v, SMTPUTF8 %v", m.From, m.To, m.UTF8)
				}
			})
		})
	}
}

func TestSMTPUTF8(t *testing.T) {
	t.Parallel()
	t.Run("asked for when the local part needs it", func(t *testing.T) {
		t.Parallel()
		sink := startSink(t, mailsink.Options{})
		transport := newTransport(t, smtp.Options{URL: sink.url})
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
		transport := newTransport(t, smtp.Options{URL: server.url})
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "jürgen@acme.example")))
		if failed.Kind != smtp.Permanent {
			t.Errorf("Send = %+v, want a permanent failure", failed)
		}
		ours := newMessage(t, "plain@acme.example")
		ours.From = "büro@agency.example"
		if failed := sendError(t, transport.Send(t.Context(), ours)); failed.Kind != smtp.Temporary || !failed.Config {
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

// An address cannot smuggle a command.
func TestAddressWithControlCharacter(t *testing.T) {
	t.Parallel()
	server := (&script{}).start(t)
	transport := newTransport(t, smtp.Options{URL: server.url})
	if failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example>\r\nRCPT TO:<victim@else.example"))); failed.Kind != smtp.Permanent {
		t.Errorf("Send = %+v, want a permanent failure", failed)
	}
	ours := newMessage(t, "owner@acme.example")
	ours.From = "bounce\x00@agency.example"
	if failed := sendError(t, transport.Send(t.Context(), ours)); failed.Kind != smtp.Temporary || !failed.Config {
		t.Errorf("Send = %+v, want a fault of the settings", failed)
	}
	if diff := gocmp.Diff([]string{"EHLO"}, server.dialogues()); diff != "" {
		t.Errorf("dialogues (-want +got):\n%s", diff)
	}
}

// A kept connection of which it is certain that it did not take the message costs nothing.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		goodbye string // that follows the verdict on the first message
		atMAIL  string // the answer to the second
		trust   time.Duration
	}{
		"closed with 421":            {goodbye: "421 4.4.2 Idle too long\n" + hangup},
		"421 at MAIL":                {atMAIL: "421 4.4.2 Idle too long\n" + hangup},
		"closed silently":            {goodbye: hangup, trust: -1},
		"closed silently, at MAIL":   {atMAIL: hangup, trust: -1},
		"no sense after the first":   {goodbye: "HTTP/1.1 200 OK\n"},
		"one more answer than asked": {goodbye: "250 2.0.0 accepted\n"},
	}
	for mode, extensions := range modes() {
		for name, tt := range tests {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				messages := 0
				server := (&script{ehlo: extensions, reply: func(n int, verb, _ string) string {
					switch {
					case n == 1 && verb == ".":
						messages++
						return "250 2.0.0 accepted\n" + tt.goodbye
					case n == 1 && verb == "MAIL" && messages > 0:
						return tt.atMAIL
					}
					return ""
				}}).start(t)
				transport := newTransport(t, smtp.Options{URL: server.url, Trust: tt.trust})
				for range 3 {
					if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
						t.Fatal(err)
					}
				}
				// Whether the MAIL on the first connection was still read is a matter of luck.
				got := server.dialogues()
				if len(got) != 2 || strings.Count(got[1], "MAIL") != 2 {
					t.Errorf("dialogues %q, want a second connection for the second and third message", got)
				}
				if len(server.received()) != 3 {
					t.Errorf("the server has %d messages, want 3", len(server.received()))
				}
			})
		}
	}
	t.Run("and the fresh one no better", func(t *testing.T) {
		t.Parallel()
		server := (&script{reply: func(n int, verb, _ string) string {
			switch {
			case n == 1 && verb == ".":
				return "250 2.0.0 accepted\n" + hangup
			case n > 1 && verb == "MAIL":
				return hangup
			}
			return ""
		}}).start(t)
		transport := newTransport(t, smtp.Options{URL: server.url})
		if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
			t.Fatal(err)
		}
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
		if failed.Kind != smtp.Temporary || len(server.dialogues()) != 2 {
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
	transport := newTransport(t, smtp.Options{URL: server.url, IdleTimeout: time.Millisecond})
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
	transport := newTransport(t, smtp.Options{URL: sink.url, MaxConns: 3, MaxMessages: 1000})
	var wg sync.WaitGroup
	for n := range 300 {
		wg.Go(func() {
			to := fmt.Sprintf("owner%d@acme.example", n)
			if n%10 == 0 {
				to = fmt.Sprintf("nobody%d@acme.example", n)
			}
			err := transport.Send(t.Context(), newMessage(t, to))
			if failed, _ := errors.AsType[*smtp.Error](err); (n%10 == 0) != (failed != nil && failed.Kind == smtp.Permanent) {
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
	for mode, verbs := range map[string][]string{
		"plain":      {"", "EHLO", "MAIL", "RCPT", "DATA"},
		"pipelining": {"", "EHLO", "MAIL", "RCPT", "DATA"},
		"chunking":   {"", "EHLO"},
	} {
		for _, verb := range verbs {
			t.Run(mode+"/silence at "+verb, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancel(t.Context())
				server := (&script{ehlo: modes()[mode], reply: func(_ int, v, _ string) string {
					if v == verb {
						cancel()
						return silence
					}
					return ""
				}}).start(t)
				transport := newTransport(t, smtp.Options{URL: server.url})
				err := transport.Send(ctx, newMessage(t, "owner@acme.example"))
				if failed := sendError(t, err); failed.Kind != smtp.Temporary || failed.Config || !errors.Is(err, context.Canceled) {
					t.Errorf("Send = %+v, want a temporary error of the context", failed)
				}
			})
		}
	}
	t.Run("before it began", func(t *testing.T) {
		t.Parallel()
		server := (&script{ehlo: modes()["chunking"]}).start(t)
		transport := newTransport(t, smtp.Options{URL: server.url})
		if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 50 {
			err := transport.Send(ctx, newMessage(t, "owner@acme.example"))
			if failed := sendError(t, err); failed.Kind != smtp.Temporary || !errors.Is(err, context.Canceled) {
				t.Errorf("Send = %+v, want a temporary error of the context", failed)
			}
		}
		if len(server.received()) != 1 {
			t.Errorf("the server has %d messages, want 1", len(server.received()))
		}
	})
	t.Run("no connection free", func(t *testing.T) {
		t.Parallel()
		busy, done := make(chan struct{}), make(chan error)
		sink := startSink(t, mailsink.Options{Latency: time.Hour, Faults: func(mailsink.Message) mailsink.Fault {
			close(busy)
			return mailsink.NoFault
		}})
		transport := newTransport(t, smtp.Options{URL: sink.url, MaxConns: 1})
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
	for mode, extensions := range modes() {
		t.Run(mode+"/but the verdict is awaited", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			server := (&script{ehlo: extensions, reply: func(_ int, verb, _ string) string {
				if verb == "." {
					cancel()
				}
				return ""
			}}).start(t)
			transport := newTransport(t, smtp.Options{URL: server.url})
			if err := transport.Send(ctx, newMessage(t, "owner@acme.example")); err != nil {
				t.Errorf("Send = %v, but the server had accepted the message", err)
			}
		})
		t.Run(mode+"/but not for ever", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			server := (&script{ehlo: extensions, reply: func(_ int, verb, _ string) string {
				if verb == "." {
					cancel()
					return silence
				}
				return ""
			}}).start(t)
			transport := newTransport(t, smtp.Options{URL: server.url, Timeout: 200 * time.Millisecond})
			err := transport.Send(ctx, newMessage(t, "owner@acme.example"))
			if failed := sendError(t, err); failed.Kind != smtp.Unknown || !errors.Is(err, context.Canceled) {
				t.Errorf("Send = %+v, want that nobody knows", failed)
			}
		})
	}
}

// A message that is broken off has not been accepted, and must not look as if it had come in full: neither may the dot follow
// that would make the server deliver a torso, nor may a chunk end in good order.
func TestBrokenOffMessageHasNoEnd(t *testing.T) {
	t.Parallel()
	for mode, last := range map[string]string{"plain": "DATA", "pipelining": "DATA", "chunking": "BDAT"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			type rest struct {
				bytes []byte
				err   error
			}
			gone, received := make(chan struct{}), make(chan rest, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				hello := strings.Join(append([]string{"250-hello"}, modes()[mode]...), "\r\n250-") + "\r\n250 HELP\r\n"
				_, _ = io.WriteString(conn, "220 hi\r\n"+hello)
				lines := bufio.NewReader(conn)
				for line := ""; !strings.HasPrefix(line, last); {
					if line, err = lines.ReadString('\n'); err != nil {
						received <- rest{nil, fmt.Errorf("before %s: %w", last, err)}
						return
					}
					if last == "DATA" && !strings.HasPrefix(line, "EHLO") {
						_, _ = io.WriteString(conn, map[bool]string{true: "354 go on\r\n", false: "250 fine\r\n"}[line == "DATA\r\n"])
					}
				}
				<-gone
				unread, err := io.ReadAll(lines)
				received <- rest{unread, err}
			}()
			transport := newTransport(t, smtp.Options{URL: "smtp://" + l.Addr().String() + "?tls=none", Timeout: 200 * time.Millisecond})
			e := newMessage(t, "owner@acme.example")
			e.Body = bytes.Repeat([]byte("0123456789abcdef\r\n"), 1<<20)
			if failed := sendError(t, transport.Send(t.Context(), e)); failed.Kind != smtp.Temporary || failed.Config {
				t.Errorf("Send = %+v, want a temporary failure", failed)
			}
			close(gone)
			got := <-received
			if bytes.HasSuffix(got.bytes, []byte("\r\n.\r\n")) || len(got.bytes) == 0 || len(got.bytes) >= len(e.Body) || got.err == nil {
				t.Errorf("the server got an end after %d bytes: %v", len(got.bytes), got.err)
			}
		})
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	for mode, extensions := range modes() {
		for _, verb := range []string{"", "EHLO", "MAIL", "RCPT", "DATA", "."} {
			want := smtp.Temporary
			if verb == "." || mode == "chunking" && (verb == "MAIL" || verb == "RCPT") {
				want = smtp.Unknown
			}
			if mode == "chunking" && verb == "DATA" {
				continue
			}
			t.Run(mode+"/silence at "+verb, func(t *testing.T) {
				t.Parallel()
				server := (&script{ehlo: extensions, reply: at(verb, silence)}).start(t)
				transport := newTransport(t, smtp.Options{URL: server.url, Timeout: 200 * time.Millisecond})
				err := transport.Send(t.Context(), newMessage(t, "owner@acme.example"))
				if failed := sendError(t, err); failed.Kind != want || failed.Config || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Send = %+v, want %s for a deadline", failed, want)
				}
			})
		}
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	transport := newTransport(t, smtp.Options{URL: "smtp://" + l.Addr().String() + "?tls=none"})
	failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
	if failed.Kind != smtp.Temporary || failed.Config || failed.Step != "connect" || failed.Server != l.Addr().String() {
		t.Errorf("Send = %+v", failed)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("says goodbye and takes no more", func(t *testing.T) {
		t.Parallel()
		server := (&script{}).start(t)
		transport := newTransport(t, smtp.Options{URL: server.url})
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
		if failed := sendError(t, err); failed.Kind != smtp.Temporary || !errors.Is(err, smtp.ErrClosed) {
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
		transport := newTransport(t, smtp.Options{URL: server.url})
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
	transport := newTransport(t, smtp.Options{URL: server.url})
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
