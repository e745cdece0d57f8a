package mailsink_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/countersign/countersign/notify/mailsink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a Sink that serves on a port of its own until the test ends.
type running struct {
	*mailsink.Sink
	addr string
}

func start(t *testing.T, o mailsink.Options) running {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink := mailsink.New(o)
	served := make(chan error, 1)
	go func() { served <- sink.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := sink.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return running{Sink: sink, addr: l.Addr().String()}
}

// send hands a message over and returns the server's refusal.
func (r running) send(from, to, content string) error {
	return smtp.SendMail(r.addr, nil, from, []string{to}, []byte(strings.ReplaceAll(content, "\n", "\r\n")))
}

// dialogue is a bare SMTP connection, past its EHLO.
func (r running) dialogue(t *testing.T) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Hello("tester.example"); err != nil {
		t.Fatal(err)
	}
	return c
}

const invitation = `From: =?utf-8?q?B=C3=BCro_Nord?= <office@agency.example>
To: Owner <owner@acme.example>
Subject: =?utf-8?q?Connect_Acme_=E2=80=93?=
 =?utf-8?q?_one_minute?=
Message-ID: <inv-1@agency.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe. Open https://app.example/i/abc?x=3D1. Or
(https://help.example/a).
--inner
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: base64

PHA+R3L832UgPGEgaHJlZj0iaHR0cHM6Ly9hcHAuZXhhbXBsZS9pL2FiYz94PTEiPm9wZW48L2E+
IDxhIGhyZWY9Imh0dHBzOi8vYXBwLmV4YW1wbGUvdSI+c3RvcDwvYT48L3A+
--inner--
--outer
Content-Type: text/csv; name="roster.csv"
Content-Disposition: attachment; filename="roster.csv"

a,b
--outer--
`

func TestReadsWhatItGets(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	sink := start(t, mailsink.Options{Now: func() time.Time { return received }})
	if err := sink.send("bounce+1@agency.example", "owner@acme.example", invitation); err != nil {
		t.Fatal(err)
	}
	got := sink.Messages(mailsink.Filter{})
	if len(got) != 1 {
		t.Fatalf("kept %d messages, want 1", len(got))
	}
	m := got[0]
	if m.HeaderValue("from") != "Büro Nord <office@agency.example>" {
		t.Errorf("From field = %q", m.HeaderValue("from"))
	}
	if string(m.Raw) != strings.ReplaceAll(invitation, "\n", "\r\n") {
		t.Errorf("raw message was changed:\n%s", m.Raw)
	}
	m.Header, m.Raw, m.Remote = nil, nil, ""
	want := mailsink.Message{
		ID:         1,
		ReceivedAt: received,
		From:       "bounce+1@agency.example",
		To:         []string{"owner@acme.example"},
		Hello:      "localhost",
		UTF8:       true, // net/smtp always asks for it
		Subject:    "Connect Acme – one minute",
		MessageID:  "inv-1@agency.example",
		Text:       "Grüße. Open https://app.example/i/abc?x=1. Or\r\n(https://help.example/a).",
		HTML:       `<p>Grüße <a href="https://app.example/i/abc?x=1">open</a> <a href="https://app.example/u">stop</a></p>`,
		Links: []string{
			"https://app.example/i/abc?x=1", "https://help.example/a", "https://app.example/u",
		},
		Attachments: []mailsink.Attachment{{Name: "roster.csv", Type: "text/csv", Size: 3}},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestReadsBrokenMail(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ content, subject, text, html string }{
		"no header at all":   {content: "Hello\n", text: "Hello\r\n"},
		"header only":        {content: "Subject: x\n", subject: "x"},
		"line without colon": {content: "Subject: x\nnonsense\nX-A: b\n\nbody\n", subject: "x", text: "body\r\n"},
		"unknown charset":    {content: "Subject: =?klingon?q?Caf=E9?=\n\nbody\n", subject: "Café", text: "body\r\n"},
		"broken quoted-printable": {
			content: "Subject: x\nContent-Transfer-Encoding: quoted-printable\n\na=zzb\n", subject: "x", text: "a=zzb\r\n",
		},
		"broken base64": {
			content: "Content-Transfer-Encoding: base64\n\naGVsbG8=!!!\n", text: "hello",
		},
		"multipart without end": {
			content: "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nfirst\n--b\nContent-Type: text/html\n\n<b>cut", text: "first",
			html: "<b>cut",
		},
		"multipart without boundary": {content: "Content-Type: multipart/mixed\n\nplain\n", text: "plain\r\n"},
		"multipart without parts":    {content: "Content-Type: multipart/mixed; boundary=b\n\nplain\n", text: "plain\r\n"},
		"broken content type":        {content: "Content-Type: text\\/???\n\nplain\n", text: "plain\r\n"},
		"Latin-1 without a charset":  {content: "Subject: x\n\nCaf\xe9\n", subject: "x", text: "Café\r\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := start(t, mailsink.Options{})
			if err := sink.send("a@example.com", "b@example.com", tt.content); err != nil {
				t.Fatal(err)
			}
			m := sink.Messages(mailsink.Filter{})[0]
			type read struct{ Subject, Text, HTML string }
			// net/smtp ends the last line itself.
			got := read{m.Subject, m.Text, strings.TrimSuffix(m.HTML, "\r\n")}
			if diff := cmp.Diff(read{tt.subject, tt.text, tt.html}, got); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeepsTheNewest(t *testing.T) {
	t.Parallel()
	subjects := func(s running) (found []string) {
		for _, m := range s.Messages(mailsink.Filter{}) {
			found = append(found, m.Subject)
		}
		return found
	}
	fill := func(t *testing.T, s running) {
		t.Helper()
		for n := range 5 {
			if err := s.send("a@example.com", "b@example.com", fmt.Sprintf("Subject: %d\n\n%s\n", n, strings.Repeat("x", 1000))); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("by number", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Options{MaxMessages: 3})
		fill(t, sink)
		if diff := cmp.Diff([]string{"4", "3", "2"}, subjects(sink)); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
		if sink.Count() != 3 || sink.Stats().Accepted != 5 {
			t.Errorf("Count = %d, Accepted = %d; want 3, 5", sink.Count(), sink.Stats().Accepted)
		}
	})
	t.Run("by bytes", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Options{MaxBytes: 7000}) // a message costs about 3,000
		fill(t, sink)
		if diff := cmp.Diff([]string{"4", "3"}, subjects(sink)); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
	})
	t.Run("one that is too big for the whole store", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Options{MaxBytes: 100})
		fill(t, sink)
		if diff := cmp.Diff([]string{"4"}, subjects(sink)); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
	})
	t.Run("none beyond the size it announces", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Options{MaxMessageBytes: 500})
		err := sink.send("a@example.com", "b@example.com", "Subject: x\n\n"+strings.Repeat("x\n", 1000))
		if refusal, ok := errors.AsType[*textproto.Error](err); !ok || refusal.Code != 552 {
			t.Errorf("SendMail = %v, want 552", err)
		}
		if sink.Count() != 0 {
			t.Error("a refused message was kept")
		}
	})
}

func TestFilter(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Options{})
	for _, m := range [][2]string{
		{"agency+acme@agency.example", "Welcome to Acme"},
		{"owner@bakery.example", "Connect your bakery"},
		{"Owner@Bakery.example", "Reminder: connect"},
	} {
		if err := sink.send("a@example.com", m[0], "From: Büro <a@example.com>\nSubject: "+m[1]+"\n\nx\n"); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		filter mailsink.Filter
		want   []int64
	}{
		{mailsink.Filter{}, []int64{3, 2, 1}},
		{mailsink.Filter{To: "owner@BAKERY.example"}, []int64{3, 2}},
		{mailsink.Filter{To: "bakery.example"}, nil},
		{mailsink.Filter{Query: "connect BAKERY"}, []int64{3, 2}},
		{mailsink.Filter{Query: "reminder bakery"}, []int64{3}},
		{mailsink.Filter{Query: "büro acme"}, []int64{1}},
		{mailsink.Filter{Query: "zebra"}, nil},
		{mailsink.Filter{Limit: 2}, []int64{3, 2}},
		{mailsink.Filter{Before: 3, Limit: 1}, []int64{2}},
		{mailsink.Filter{Before: 1}, nil},
	}
	for _, tt := range tests {
		var got []int64
		for _, m := range sink.Messages(tt.filter) {
			got = append(got, m.ID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Messages(%+v) (-want +got):\n%s", tt.filter, diff)
		}
	}
	sink.Clear()
	if sink.Count() != 0 || sink.Messages(mailsink.Filter{}) != nil {
		t.Error("messages are left after Clear")
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Options{})
	subject := func(want string) func(mailsink.Message) bool {
		return func(m mailsink.Message) bool { return m.Subject == want }
	}

	early, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sink.Wait(early, subject("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a context that has ended = %v", err)
	}

	looked := make(chan struct{}, 1)
	found := make(chan string, 1)
	go func() {
		m, err := sink.Wait(t.Context(), func(m mailsink.Message) bool {
			select {
			case looked <- struct{}{}:
			default:
			}
			return m.Subject == "second"
		})
		found <- fmt.Sprint(m.Subject, err)
	}()
	for _, s := range []string{"first", "second"} {
		if err := sink.send("a@example.com", "b@example.com", "Subject: "+s+"\n\nx\n"); err != nil {
			t.Fatal(err)
		}
		<-looked
	}
	if got := <-found; got != "second<nil>" {
		t.Errorf("Wait for a later message = %s", got)
	}
	if m, err := sink.Wait(t.Context(), subject("first")); err != nil || m.ID != 1 {
		t.Errorf("Wait for an earlier message = %d, %v", m.ID, err)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	greylist := mailsink.Greylist(2)
	sink := start(t, mailsink.Options{Rules: func(from, to string) *gosmtp.SMTPError {
		if strings.HasPrefix(to, "nobody@") {
			return mailsink.NoSuchUser()
		}
		return greylist(from, to)
	}})
	codes := func(to string, n int) (found []int) {
		for range n {
			err := sink.send("a@example.com", to, "Subject: x\n\nx\n")
			refusal, _ := errors.AsType[*textproto.Error](err)
			if refusal == nil {
				refusal = &textproto.Error{Code: 250}
			}
			found = append(found, refusal.Code)
		}
		return found
	}
	if diff := cmp.Diff([]int{550, 550}, codes("nobody@example.com", 2)); diff != "" {
		t.Errorf("unknown recipient (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{451, 451, 250, 250}, codes("b@example.com", 4)); diff != "" {
		t.Errorf("greylisted recipient (-want +got):\n%s", diff)
	}
	want := mailsink.Stats{Connections: 6, Accepted: 2, Refused: 4}
	if diff := cmp.Diff(want, sink.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Options{})
	for _, m := range [][2]string{
		{"b@example.com", "Message-ID: <1@x>\n"},
		{"c@example.com", "Message-ID: <1@x>\n"},
		{"b@example.com", "Message-ID: <2@x>\n"},
		{"b@example.com", "Subject: no id\n"},
		{"b@example.com", "Subject: no id\n"},
		{"B@example.com", "Message-ID: <1@x>\n"}, // the one repeat
	} {
		if err := sink.send("a@example.com", m[0], m[1]+"\nx\n"); err != nil {
			t.Fatal(err)
		}
	}
	if got := sink.Stats().Repeats; got != 1 {
		t.Errorf("Repeats = %d, want 1", got)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault mailsink.Fault
		kept  int
	}{
		"answer lost":             {mailsink.LoseAnswer, 1},
		"message and answer lost": {mailsink.LoseMessage, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := start(t, mailsink.Options{Faults: func(m mailsink.Message) mailsink.Fault {
				if m.Subject == "doomed" {
					return tt.fault
				}
				return mailsink.NoFault
			}})
			if err := sink.send("a@example.com", "b@example.com", "Subject: doomed\n\nx\n"); !errors.Is(err, io.EOF) {
				t.Errorf("SendMail = %v, want a closed connection", err)
			}
			if sink.Count() != tt.kept {
				t.Errorf("kept %d, want %d", sink.Count(), tt.kept)
			}
			if err := sink.send("a@example.com", "b@example.com", "Subject: fine\n\nx\n"); err != nil {
				t.Errorf("the next message: %v", err)
			}
		})
	}
}

func TestBrokenOffMessageIsNotKept(t *testing.T) {
	t.Parallel()
	sink := start(t, mailsink.Options{})
	c := sink.dialogue(t)
	if err := errors.Join(c.Mail("a@example.com"), c.Rcpt("b@example.com")); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "Subject: half\r\n\r\nand th"); err != nil {
		t.Fatal(err)
	}
	_ = c.Text.W.Flush()
	_ = c.Close()
	if err := sink.send("a@example.com", "b@example.com", "Subject: whole\n\nx\n"); err != nil {
		t.Fatal(err)
	}
	if got := sink.Messages(mailsink.Filter{}); len(got) != 1 || got[0].Subject != "whole" {
		t.Errorf("kept %d messages, want the whole one alone", len(got))
	}
}

// certificate borrows httptest's, which is good for 127.0.0.1.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	return &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12},
		&tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

func TestSTARTTLSAndAUTH(t *testing.T) {
	t.Parallel()
	server, client := certificate(t)
	sink := start(t, mailsink.Options{TLS: server, Username: "agency", Password: "s3cret"})
	c := sink.dialogue(t)
	if offered, _ := c.Extension("AUTH"); offered {
		t.Error("AUTH is offered in the clear")
	}
	if err := c.StartTLS(client); err != nil {
		t.Fatal(err)
	}
	refused := func(err error, code int) {
		t.Helper()
		if refusal, ok := errors.AsType[*textproto.Error](err); !ok || refusal.Code != code {
			t.Errorf("answer = %v, want %d", err, code)
		}
	}
	refused(c.Mail("a@example.com"), 530)
	refused(c.Auth(smtp.PlainAuth("", "agency", "wrong", "127.0.0.1")), 535)

	c = sink.dialogue(t) // net/smtp hangs up after a failed AUTH
	if err := errors.Join(
		c.StartTLS(client), c.Auth(smtp.PlainAuth("", "agency", "s3cret", "127.0.0.1")),
		c.Mail("a@example.com"), c.Rcpt("b@example.com"),
	); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m := sink.Messages(mailsink.Filter{})[0]
	if !m.TLS || m.Username != "agency" || m.Hello != "tester.example" {
		t.Errorf("TLS %v, user %q, EHLO %q", m.TLS, m.Username, m.Hello)
	}
	if got := sink.Stats().Connections; got != 2 {
		t.Errorf("Connections = %d, want 2: STARTTLS makes no new one", got)
	}
}

func TestImplicitTLS(t *testing.T) {
	t.Parallel()
	server, client := certificate(t)
	sink := start(t, mailsink.Options{TLS: server, ImplicitTLS: true})
	conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", sink.addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if offered, _ := c.Extension("STARTTLS"); offered {
		t.Error("STARTTLS is offered inside TLS")
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("ends idle clients with 421", func(t *testing.T) {
		t.Parallel()
		sink := start(t, mailsink.Options{})
		c := sink.dialogue(t)
		if err := sink.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c.Text.R).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "421 ") {
			t.Errorf("the client read %q, %v; want 421", line, err)
		}
	})
	t.Run("answers a message that is in", func(t *testing.T) {
		t.Parallel()
		in := make(chan struct{})
		sink := start(t, mailsink.Options{Latency: time.Hour, Faults: func(mailsink.Message) mailsink.Fault {
			close(in)
			return mailsink.NoFault
		}})
		sent := make(chan error, 1)
		go func() { sent <- sink.send("a@example.com", "b@example.com", "Subject: x\n\nx\n") }()
		<-in
		if err := sink.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The 421 that follows the 250 may reach the client as the answer to its QUIT.
		if err := <-sent; err != nil && !strings.HasPrefix(err.Error(), "421 ") {
			t.Errorf("SendMail = %v", err)
		}
		if sink.Count() != 1 {
			t.Errorf("kept %d, want 1", sink.Count())
		}
	})
	t.Run("cuts what does not end", func(t *testing.T) {
		t.Parallel()
		stuck, release := make(chan struct{}), make(chan struct{})
		sink := start(t, mailsink.Options{Faults: func(mailsink.Message) mailsink.Fault {
			close(stuck)
			<-release
			return mailsink.NoFault
		}})
		sent := make(chan error, 1)
		go func() { sent <- sink.send("a@example.com", "b@example.com", "Subject: x\n\nx\n") }()
		<-stuck
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := sink.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown = %v, want the context's error", err)
		}
		if err := <-sent; err == nil {
			t.Error("the client of a cut connection was told of success")
		}
		close(release)
	})
}
