package notify_test

import (
	"bytes"
	"context"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // as the testing package's own flags

// fixedLink is a Linker of one link.
type fixedLink string

func (l fixedLink) URL(uuid.UUID) string { return string(l) }

const theLink = fixedLink("https://connect.agency.example/i/abcdefghijklmnopqrstuvwxyz234567")

// theTime is when the messages of these tests were queued.
func theTime() time.Time {
	return time.Date(2026, 11, 23, 17, 30, 5, 678_000_000, time.FixedZone("", 3600))
}

// mailed queues a letter, sends it and returns its bytes as they went over the wire.
func (f *office) mailed(t *testing.T, letter provisioning.Letter) []byte {
	t.Helper()
	f.imports(t, acme)
	letter.Kind = provisioning.LetterInvitation
	letter.Client = ask[uuid.UUID](t, f, `SELECT id FROM clients`)
	letter.Invitation = ask[uuid.UUID](t, f, `SELECT id FROM invitations`)
	f.exec(t, `DELETE FROM messages`)
	f.exec(t, `UPDATE clients SET owner_email = $1`, letter.ToAddress)
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		_, err := f.mailer.Queue(t.Context(), tx, []provisioning.Letter{letter})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.MustParse("01a20815-2860-701a-9da9-0382ef73238d")
	f.exec(t, `UPDATE messages SET id = $1, created_at = $2, tried_since = $2`, id, theTime())
	f.exec(t, `UPDATE invitations SET expires_at = $1`, theTime().AddDate(0, 0, 30))
	f.outbox.Now = theTime
	f.mailer.Linker = theLink
	f.deliver(t)
	mails := f.received()
	if len(mails) != 1 {
		t.Fatalf("%d mails: %+v", len(mails), f.look(t))
	}
	if to := mails[0].To; len(to) != 1 || to[0] != letter.ToAddress || f.mailer.Returns == nil && mails[0].From != f.mailer.From {
		t.Errorf("the envelope is from %s to %v", mails[0].From, to)
	}
	return mails[0].Raw
}

// parsed is a mail as Go's own packages read it.
type parsed struct {
	header netmail.Header
	text   string
	html   string
}

// parse reads a mail and fails the test if it is not as the standards say.
func parse(t *testing.T, raw []byte) parsed {
	t.Helper()
	if bytes.Contains(bytes.ReplaceAll(raw, []byte("\r\n"), nil), []byte("\n")) {
		t.Error("a line does not end with CR LF")
	}
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) > 998 { // RFC 5322, 2.1.1
			t.Errorf("a line has %d octets: %.80s…", len(line), line)
		}
		if i := bytes.IndexFunc(line, func(r rune) bool { return r > '~' || r < ' ' && r != '\t' }); i >= 0 {
			t.Errorf("not printable ASCII: %q", line)
		}
	}
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range m.Header {
		if len(values) > 1 {
			t.Errorf("the header field %s is there %d times", name, len(values))
		}
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("Content-Type %s, %v", kind, err)
	}
	p := parsed{header: m.Header}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, body := range []struct {
		kind string
		text *string
	}{{"text/plain", &p.text}, {"text/html", &p.html}} { // the best comes last
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		kind, params, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err != nil || kind != body.kind || !strings.EqualFold(params["charset"], "utf-8") ||
			part.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Errorf("a part has the header %v, want %s", part.Header, body.kind)
		}
		content, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		*body.text = string(content)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
	return p
}

// decoded returns a header field in words.
func (p parsed) decoded(t *testing.T, name string) string {
	t.Helper()
	text, err := new(mime.WordDecoder).DecodeHeader(p.header.Get(name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// address returns the only address of a header field.
func (p parsed) address(t *testing.T, name string) netmail.Address {
	t.Helper()
	list, err := p.header.AddressList(name)
	if err != nil || len(list) != 1 {
		t.Fatalf("%s: %v, %v", name, list, err)
	}
	return *list[0]
}

var maria = provisioning.Letter{ToName: "Maria Lopez", ToAddress: "maria@acme.example", ClientName: "Acme Bakery"} //nolint:gochecknoglobals // a constant

func TestGoldenMessage(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	raw := f.mailed(t, maria)
	parse(t, raw)
	got := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")) // for the sake of Git
	golden := filepath.Join("testdata", "invitation.eml")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("with -update it becomes the new one (-want +got):\n%s", diff)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	p := parse(t, f.mailed(t, maria))
	got := make(map[string]string)
	for name := range p.header {
		got[name] = p.header.Get(name)
	}
	if !strings.HasPrefix(got["Content-Type"], "multipart/alternative;") {
		t.Errorf("Content-Type: %s", got["Content-Type"])
	}
	delete(got, "Content-Type")
	if diff := gocmp.Diff(map[string]string{
		"Auto-Submitted":        "auto-generated",
		"Content-Language":      "en",
		"Date":                  "Mon, 23 Nov 2026 16:30:05 +0000",
		"Feedback-Id":           "invitation:countersign:agency.example",
		"From":                  `"Agency" <hello@agency.example>`,
		"List-Unsubscribe":      "<" + string(theLink) + "/unsubscribe>",
		"List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		"Message-Id":            "<01a20815-2860-701a-9da9-0382ef73238d@agency.example>",
		"Mime-Version":          "1.0",
		"Reply-To":              "<help@agency.example>",
		"Subject":               "Agency asks you to connect Acme Bakery on Constant Contact",
		"To":                    `"Maria Lopez" <maria@acme.example>`,
	}, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	links := regexp.MustCompile(`https?://[^\s"<>]+`)
	for name, body := range map[string]string{"text": p.text, "html": p.html} {
		found := make(map[string]bool)
		for _, link := range links.FindAllString(body, -1) {
			found[link] = true
		}
		want := map[string]bool{string(theLink): true, string(theLink) + "/unsubscribe": true}
		if diff := gocmp.Diff(want, found); diff != "" {
			t.Errorf("links of the %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReplyToTheSender(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.stationery.Settings.ReplyTo = f.mailer.From
	if p := parse(t, f.mailed(t, maria)); p.header.Get("Reply-To") != "" {
		t.Errorf("Reply-To: %s", p.header.Get("Reply-To"))
	}
}

// TestNames has names that a careless program would break the header with, or break on.
func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("Wörter & Söhne ", 13) + "GmbH" // 199 characters, the most are 200
	for name, tt := range map[string]struct {
		agency, owner, client string
		address               string
		want                  string // the subject, if the client's name does not come as it is
	}{
		"nobody":      {agency: "Agency", owner: "", client: "Acme"},
		"accents":     {agency: "Müller & Söhne", owner: "Zoë Brontë", client: "Café Ñandú"},
		"far away":    {agency: "東京代理店", owner: "Ольга Иванова", client: "مخبز 🥐"},
		"quotes":      {agency: `The "Best" Agency`, owner: `Robert "Bob\" Smith`, client: `"Acme"`},
		"punctuation": {agency: "A, B; (C) <D>", owner: "Smith, John <john@evil.example>, x", client: "a=?b?= @ c:"},
		"encoded word": {
			agency: "=?utf-8?q?Agency?=", owner: "=?utf-8?q?=0D=0ABcc:_x?=", client: "Acme",
			want: "Agency asks you to connect Acme on Constant Contact", // What looks encoded may be read so.
		},
		"line breaks": {
			agency: "Agency\r\nBcc: a@evil.example", owner: "Maria\r\nBcc: b@evil.example\r\n\r\nBuy!", client: "Acme\r\nBcc: c@evil.example\n\nBuy!",
			want: "Agency Bcc: a@evil.example asks you to connect Acme Bcc: c@evil.example Buy! on Constant Contact",
		},
		"control characters": {agency: "Agency\x01", owner: "Maria\x7f\x1b[31m", client: "Ac\x02me", want: "Agency asks you to connect Ac me on Constant Contact"},
		"long":               {agency: long, owner: long, client: long},
		"long and unbroken":  {agency: "Agency", owner: strings.Repeat("x", 200), client: strings.Repeat("y", 200)},
		"long and foreign":   {agency: "Agency", owner: strings.Repeat("字", 200), client: strings.Repeat("字", 200)},
		"dot":                {agency: ".", owner: ".", client: "."},
		"foreign address":    {agency: "Agency", owner: "Jörg", client: "Acme", address: "jörg@acme.example"},
		"odd address":        {agency: "Agency", owner: "Odd", client: "Acme", address: "o'dd+tag=x/y{z}@acme.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.stationery.Settings.Agency = tt.agency
			letter := provisioning.Letter{ToName: tt.owner, ToAddress: "maria@acme.example", ClientName: tt.client}
			if tt.address != "" {
				letter.ToAddress = tt.address
			}
			raw := f.mailed(t, letter)
			if tt.address == "jörg@acme.example" { // It needs SMTPUTF8, and then its header may be UTF-8, too.
				raw = bytes.ReplaceAll(raw, []byte("jörg@"), []byte("joerg@"))
				letter.ToAddress = "joerg@acme.example"
			}
			p := parse(t, raw)
			if p.header.Get("Bcc") != "" || p.header.Get("Cc") != "" {
				t.Errorf("there is another recipient: %v", p.header)
			}
			if diff := gocmp.Diff(netmail.Address{Name: tt.agency, Address: "hello@agency.example"}, p.address(t, "From")); diff != "" {
				t.Errorf("From (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(netmail.Address{Name: tt.owner, Address: letter.ToAddress}, p.address(t, "To")); diff != "" {
				t.Errorf("To (-want +got):\n%s", diff)
			}
			want := tt.want
			if want == "" {
				want = tt.agency + " asks you to connect " + tt.client + " on Constant Contact"
			}
			if diff := gocmp.Diff(want, p.decoded(t, "Subject")); diff != "" {
				t.Errorf("Subject (-want +got):\n%s", diff)
			}
			if !strings.Contains(p.text, string(theLink)+"\r\n") || !strings.Contains(p.html, `"`+string(theLink)+`"`) {
				t.Errorf("the link is not in both parts:\n%s\n%s", p.text, p.html)
			}
		})
	}
}

// TestEqualMessagesAreEqualBytes composes one message many times: nothing in it is left to chance.
func TestEqualMessagesAreEqualBytes(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	want := f.mailed(t, maria)
	for range 20 {
		var got []byte
		f.outbox.Sender = senderFunc(func(_ context.Context, e smtp.Envelope) error {
			got = e.Body
			return nil
		})
		f.exec(t, `UPDATE messages SET state = 'queued', ended_at = NULL`)
		f.exec(t, `UPDATE clients SET stage = 'imported'`)
		f.deliver(t)
		if diff := gocmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	}
	if n := f.counted()[notify.ResultAccepted]; n != 21 {
		t.Errorf("%d were accepted", n)
	}
}
