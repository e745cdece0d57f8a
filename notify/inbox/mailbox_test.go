package inbox_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"github.com/countersign/countersign/notify/inbox"
	"github.com/countersign/countersign/notify/mailhost"
)

const username, password = "agency@agency.example", "hunter2 \"\\/"

// server is an IMAP server of go-imap's make, with one user.
type server struct {
	*imapserver.Server

	user    *imapmemserver.User
	address string
}

// start runs a server until the test ends. With implicit, it speaks TLS from the first byte.
func start(t *testing.T, o imapserver.Options, implicit bool) *server {
	t.Helper()
	s := &server{user: imapmemserver.NewUser(username, password)}
	if err := s.user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	users := imapmemserver.New()
	users.AddUser(s.user)
	o.NewSession = func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
		return users.NewSession(), nil, nil
	}
	o.Logger = log.New(io.Discard, "", 0)
	o.InsecureAuth = o.TLSConfig == nil
	s.Server = imapserver.New(&o)
	listener := listen(t)
	s.address = listener.Addr().String()
	if implicit {
		listener = tls.NewListener(listener, o.TLSConfig)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(listener) // It complains if the test ends before it has begun.
	}()
	t.Cleanup(func() {
		_ = errors.Join(s.Close(), listener.Close()) // A test may have closed it.
		<-served
	})
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// deliver puts a mail into the user's INBOX.
func (s *server) deliver(t *testing.T, mail string) {
	t.Helper()
	if _, err := s.user.Append("INBOX", bytes.NewReader([]byte(mail)), &imap.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
}

// unseen returns how many mails are not marked as read.
func (s *server) unseen(t *testing.T) uint32 {
	t.Helper()
	status, err := s.user.Status("INBOX", &imap.StatusOptions{NumUnseen: true})
	if err != nil {
		t.Fatal(err)
	}
	return *status.NumUnseen
}

// account is the user's INBOX at an address.
func account(t *testing.T, address string, security mailhost.Security) *inbox.Account {
	t.Helper()
	a, err := inbox.ParseURL("imap://u:p@" + address + "?tls=none")
	if err != nil {
		t.Fatal(err)
	}
	a.Username, a.Password, a.Security = username, password, security
	return a
}

func open(t *testing.T, o inbox.Options) *inbox.Mailbox {
	t.Helper()
	m, err := inbox.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.WithoutCancel(t.Context())) })
	return m
}

func next(t *testing.T, m *inbox.Mailbox) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	raw, err := m.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func mail(subject string) string { return "Subject: " + subject + "\r\n\r\nText\r\n" }

func TestNext(t *testing.T) {
	t.Parallel()
	for name, caps := range map[string]imap.CapSet{
		"with IDLE":    {imap.CapIMAP4rev1: {}, imap.CapIdle: {}},
		"without IDLE": {imap.CapIMAP4rev1: {}},
		"IMAP4rev2":    {imap.CapIMAP4rev2: {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, imapserver.Options{Caps: caps}, false)
			s.deliver(t, mail("old"))
			m := open(t, inbox.Options{Account: account(t, s.address, mailhost.NoTLS), Poll: 10 * time.Millisecond})
			s.deliver(t, mail("first"))
			s.deliver(t, mail("second"))
			for _, want := range []string{"first", "second"} {
				if got := next(t, m); got != mail(want) {
					t.Errorf("got %q, want the %s mail", got, want)
				}
			}
			time.AfterFunc(50*time.Millisecond, func() { s.deliver(t, mail("third")) })
			if got := next(t, m); got != mail("third") {
				t.Errorf("got %q, want the third mail", got)
			}
			if n := s.unseen(t); n != 4 {
				t.Errorf("%d of 4 mails are still unread", n)
			}
		})
	}
}

// Where the server can, it tells of a mail at once: to ask for it would take an hour here.
func TestIdle(t *testing.T) {
	t.Parallel()
	s := start(t, imapserver.Options{Caps: imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIdle: {}}}, false)
	m := open(t, inbox.Options{Account: account(t, s.address, mailhost.NoTLS), Poll: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; ; i++ { // This server forgets what comes just before IDLE.
			select {
			case <-ticker.C:
				s.deliver(t, mail(strconv.Itoa(i)))
			case <-ctx.Done():
				return
			}
		}
	}()
	for i := range 3 {
		if got := next(t, m); got != mail(strconv.Itoa(i)) {
			t.Errorf("got %q, want mail %d", got, i)
		}
	}
	cancel()
	<-delivered
}

// What a server does may be odd and is within the protocol all the same.
func TestServersDiffer(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"announces IDLE and refuses it": `
			LOGIN
			EXAMINE > OK [UIDNEXT 7] next
			NOOP
			UID SEARCH
			IDLE BAD not today
			NOOP
			UID SEARCH UID 7:* > SEARCH 7
			UID FETCH 7 > 1 FETCH (UID 7 BODY[]<0> "hello")
			LOGOUT`,
		"does not tell UIDNEXT": `
			LOGIN
			EXAMINE > 2 EXISTS
			UID SEARCH UID * > SEARCH 6
			NOOP
			UID SEARCH UID 7:* > SEARCH 6 7
			UID FETCH 7 > 3 FETCH (UID 7 BODY[]<0> "hello")
			LOGOUT`,
		"does not tell UIDNEXT of an empty folder": `
			LOGIN
			EXAMINE
			NOOP
			UID SEARCH UID 1:* > SEARCH 7
			UID FETCH 7 > 1 FETCH (UID 7 BODY[]<0> "hello")
			LOGOUT`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener := listen(t)
			served := make(chan error, 1)
			go func() {
				conn, err := listener.Accept()
				if err == nil {
					err = play(conn, script)
				}
				served <- errors.Join(err, listener.Close())
			}()
			m := open(t, inbox.Options{Account: account(t, listener.Addr().String(), mailhost.NoTLS), Poll: 10 * time.Millisecond})
			if got := next(t, m); got != "hello" {
				t.Errorf("got %q", got)
			}
			m.Close(t.Context())
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// play serves one connection by a script: a line is the beginning of the command that must come and, after a > each, the
// untagged answers to it. The command is done then, unless BAD stands there.
func play(conn net.Conn, script string) error {
	defer func() { _ = conn.Close() }()
	fmt.Fprint(conn, "* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n")
	commands := bufio.NewReader(conn)
	tag := ""
	for expected := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		line, err := commands.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", expected, err)
		}
		command := line
		if command != "DONE\r\n" {
			tag, command, _ = strings.Cut(line, " ")
		}
		name, answers, _ := strings.Cut(strings.TrimSpace(expected)+" ", " > ")
		name, refusal, refused := strings.Cut(strings.TrimSpace(name), " BAD ")
		if !strings.HasPrefix(command, name) {
			return fmt.Errorf("the client says %q where %s is expected", line, name)
		}
		if refused {
			fmt.Fprintf(conn, "%s BAD %s\r\n", tag, refusal)
			continue
		}
		if name == "IDLE" {
			fmt.Fprint(conn, "+ idling\r\n")
		}
		for answer := range strings.SplitSeq(strings.TrimSpace(answers), " > ") {
			if answer != "" {
				fmt.Fprintf(conn, "* %s\r\n", strings.ReplaceAll(answer, "CRLF", "\r\n"))
			}
		}
		if name != "IDLE" {
			fmt.Fprintf(conn, "%s OK [CAPABILITY IMAP4rev1 IDLE] done\r\n", tag)
		}
	}
	return nil
}

func TestMessageIsCut(t *testing.T) {
	t.Parallel()
	s := start(t, imapserver.Options{}, false)
	m := open(t, inbox.Options{Account: account(t, s.address, mailhost.NoTLS), MaxMessage: 1000})
	huge := mail("huge") + strings.Repeat("x", 5<<20)
	s.deliver(t, huge)
	if got := next(t, m); got != huge[:1000] {
		t.Errorf("got %d bytes, want the first 1000", len(got))
	}
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

func TestOpen(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := certificate(t)
	tests := map[string]struct {
		serverTLS *tls.Config
		implicit  bool
		security  mailhost.Security
		clientTLS *tls.Config
		change    func(*inbox.Account)
		timeout   time.Duration
		step      inbox.Step // empty: it opens
		saying    string
		cure      string
	}{
		"in the clear": {security: mailhost.NoTLS},
		"STARTTLS":     {serverTLS: serverTLS, security: mailhost.StartTLS, clientTLS: clientTLS},
		"TLS":          {serverTLS: serverTLS, implicit: true, security: mailhost.ImplicitTLS, clientTLS: clientTLS},
		"wrong password": {
			security: mailhost.NoTLS, change: func(a *inbox.Account) { a.Password = "hunter2 wrong" },
			step: "sign in", saying: "the server answered: Authentication failed", cure: "check user and password",
		},
		"no password in the clear": {
			serverTLS: serverTLS, security: mailhost.NoTLS,
			step: "sign in", saying: "does not let anybody sign in", cure: "check user and password",
		},
		"missing folder": {
			security: mailhost.NoTLS, change: func(a *inbox.Account) { a.Folder = "Clients" },
			step: "open the folder", saying: "the server answered: No such mailbox", cure: "must be a folder of the mailbox",
		},
		"no STARTTLS": {
			security: mailhost.StartTLS, clientTLS: clientTLS,
			step: "TLS", saying: "no STARTTLS", cure: "use imaps:// for a port that speaks TLS",
		},
		"STARTTLS where TLS is spoken": {
			serverTLS: serverTLS, implicit: true, security: mailhost.StartTLS, clientTLS: clientTLS,
			timeout: 100 * time.Millisecond, // Both sides wait for the other to begin.
			step:    "TLS", saying: "the server does not answer", cure: "use imaps:// for a port that speaks TLS",
		},
		"TLS where STARTTLS is wanted": {
			serverTLS: serverTLS, security: mailhost.ImplicitTLS, clientTLS: clientTLS,
			step: "TLS", saying: "does not look like a TLS handshake", cure: "use imaps:// for a port that speaks TLS",
		},
		"certificate of nobody we know": {
			serverTLS: serverTLS, implicit: true, security: mailhost.ImplicitTLS,
			step: "TLS", saying: "certificate signed by unknown authority", cure: "trust the certificate's issuer",
		},
		"the same with STARTTLS": {
			serverTLS: serverTLS, security: mailhost.StartTLS,
			step: "TLS", saying: "certificate signed by unknown authority", cure: "trust the certificate's issuer",
		},
		"nobody there": {
			security: mailhost.NoTLS, change: func(a *inbox.Account) { a.Port = 1 },
			step: "connect", saying: "connection refused", cure: "check host and port",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, imapserver.Options{TLSConfig: tt.serverTLS}, tt.implicit)
			a := account(t, s.address, tt.security)
			if tt.change != nil {
				tt.change(a)
			}
			m, err := inbox.Open(t.Context(), inbox.Options{Account: a, TLS: tt.clientTLS, Timeout: tt.timeout})
			if tt.step == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close(t.Context())
				s.deliver(t, mail("arrives"))
				if got := next(t, m); got != mail("arrives") {
					t.Errorf("got %q", got)
				}
				return
			}
			wantError(t, err, tt.step, tt.saying)
			if failed, ok := errors.AsType[*inbox.Error](err); ok && !strings.Contains(failed.Cure(), tt.cure) {
				t.Errorf("the cure is: %s", failed.Cure())
			}
		})
	}
}

func wantError(t *testing.T, err error, step inbox.Step, saying string) {
	t.Helper()
	failed, ok := errors.AsType[*inbox.Error](err)
	if !ok || failed.Step != step || !strings.Contains(err.Error(), saying) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v, want %q at %s", err, saying, step)
	}
}

func TestNextEnds(t *testing.T) {
	t.Parallel()
	for _, idle := range []bool{true, false} {
		caps := imap.CapSet{imap.CapIMAP4rev1: {}}
		if idle {
			caps[imap.CapIdle] = struct{}{}
		}
		t.Run(fmt.Sprintf("with the connection, IDLE %v", idle), func(t *testing.T) {
			t.Parallel()
			s := start(t, imapserver.Options{Caps: caps}, false)
			m := open(t, inbox.Options{Account: account(t, s.address, mailhost.NoTLS), Poll: time.Hour})
			time.AfterFunc(50*time.Millisecond, func() { _ = s.Close() })
			_, err := m.Next(t.Context())
			wantError(t, err, "read", "")
		})
		t.Run(fmt.Sprintf("with the context, IDLE %v", idle), func(t *testing.T) {
			t.Parallel()
			s := start(t, imapserver.Options{Caps: caps}, false)
			m := open(t, inbox.Options{Account: account(t, s.address, mailhost.NoTLS), Poll: time.Hour})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := m.Next(ctx)
			wantError(t, err, "read", "deadline exceeded")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Next ends with %v", err)
			}
		})
	}
}

// Servers that do not keep to the protocol cost neither time nor memory.
func TestOddServers(t *testing.T) {
	t.Parallel()
	const greeting = "* OK [CAPABILITY IMAP4rev1] ready\r\n"
	const silence = "the server does not answer"
	tests := map[string]struct {
		security mailhost.Security
		serve    func(net.Conn)
		step     inbox.Step
		saying   string
	}{
		"silent": {mailhost.NoTLS, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "connect", silence},
		"silent where TLS is expected": {
			mailhost.ImplicitTLS, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "TLS", silence,
		},
		"hangs up": {mailhost.NoTLS, func(net.Conn) {}, "connect", "connection closed before greeting"},
		"busy":     {mailhost.NoTLS, func(c net.Conn) { fmt.Fprint(c, "* BYE try later\r\n") }, "connect", "the server answered: try later"},
		"endless": {mailhost.NoTLS, func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = c.Write(bytes.Repeat([]byte("x"), 1<<16))
			}
		}, "connect", "sends more than it was asked for"},
		"breaks off in the midst of STARTTLS": {mailhost.StartTLS, func(c net.Conn) {
			fmt.Fprint(c, greeting)
			_, _ = c.Read(make([]byte, 100))
			fmt.Fprint(c, "S OK begin\r")
		}, "TLS", "EOF"},
		"refuses STARTTLS": {mailhost.StartTLS, func(c net.Conn) {
			fmt.Fprint(c, greeting)
			_, _ = c.Read(make([]byte, 100))
			fmt.Fprint(c, "* 1 EXISTS\r\nS NO certificate has expired\r\n")
		}, "TLS", "no STARTTLS: NO certificate has expired"},
		"speaks on before TLS": {mailhost.StartTLS, func(c net.Conn) {
			fmt.Fprint(c, greeting)
			_, _ = c.Read(make([]byte, 100))
			fmt.Fprint(c, "S OK begin\r\n* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] trust me\r\n")
		}, "TLS", "goes on in the clear"},
		"is busy before STARTTLS": {
			mailhost.StartTLS, func(c net.Conn) { fmt.Fprint(c, "* BYE try later\r\n") }, "TLS", "the server answered: BYE try later",
		},
		"has signed in before STARTTLS": {
			mailhost.StartTLS, func(c net.Conn) { fmt.Fprint(c, "* PREAUTH welcome\r\n") }, "TLS", "PREAUTH welcome",
		},
		"repeats the command": {mailhost.NoTLS, func(c net.Conn) {
			fmt.Fprint(c, greeting)
			line := make([]byte, 200)
			_, _ = c.Read(line)
			fmt.Fprint(c, "T1 BAD what is LOGIN "+password+"\t\x1b[31m?\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "sign in", "what is LOGIN [redacted] [31m?"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener := listen(t)
			served := make(chan struct{})
			go func() {
				defer close(served)
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				tt.serve(conn)
				_ = conn.Close()
			}()
			t.Cleanup(func() {
				_ = listener.Close()
				<-served
			})
			a := account(t, listener.Addr().String(), tt.security)
			timeout := 30 * time.Second
			if tt.saying == silence {
				timeout = 100 * time.Millisecond
			}
			_, err := inbox.Open(t.Context(), inbox.Options{Account: a, Timeout: timeout})
			wantError(t, err, tt.step, tt.saying)
		})
	}
}
