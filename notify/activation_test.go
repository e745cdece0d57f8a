package notify_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// taken keeps what it is told of.
type taken struct {
	to   []string
	from string
	link string
	at   time.Time
	err  error
}

func (k *taken) TakeActivation(_ context.Context, _ pgx.Tx, to []string, from string, link provisioning.Secret, at time.Time) (bool, error) {
	k.to, k.from, k.link, k.at = to, from, link.Reveal(), at
	return true, k.err
}

const invited = "https://login.constantcontact.com/invite/accept?token=a1%2Bb2"

// mailOf is a mail with these header lines and this text.
func mailOf(text string, header ...string) string {
	return strings.Join(append(header, "From: Constant Contact <no-reply@constantcontact.com>", "Subject: You have been invited", "", text), "\r\n")
}

func TestActivations(t *testing.T) {
	t.Parallel()
	const user = "agency+acme@agency.example"
	plain := "Welcome!\r\nHelp: https://www.constantcontact.com/help\r\nAccept here: " + invited + ".\r\n"
	page := `<html><body><p>Welcome <a href="https://www.constantcontact.com/help">help</a> <a href="` + strings.ReplaceAll(invited, "&", "&amp;") + `">Accept</a></body></html>`
	for name, test := range map[string]struct {
		mail string
		to   string // that has to be among the recipients
		link string
	}{
		"To":                        {mailOf(plain, "To: "+user), user, invited},
		"To, with a name":           {mailOf(plain, `To: "Agency, Ltd." <AGENCY+Acme@Agency.example>`), user, invited},
		"To, folded":                {mailOf(plain, "To: somebody@else.example,\r\n\t<"+user+">"), user, invited},
		"Delivered-To":              {mailOf(plain, "To: undisclosed-recipients:;", "Delivered-To: "+user), user, invited},
		"X-Original-To":             {mailOf(plain, "X-Original-To: "+user, "Delivered-To: agency@agency.example"), user, invited},
		"Envelope-To":               {mailOf(plain, "Envelope-To: <"+user+">"), user, invited},
		"several Delivered-To":      {mailOf(plain, "Delivered-To: agency@agency.example", "Delivered-To: "+user), user, invited},
		"HTML alone":                {mailOf(page, "To: "+user, "Content-Type: text/html; charset=utf-8"), user, invited},
		"HTML, quoted":              {mailOf(strings.ReplaceAll(page, "=", "=3D"), "To: "+user, "Content-Type: text/html", "Content-Transfer-Encoding: quoted-printable"), user, invited},
		"two parts":                 {mailOf("--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n--b\r\nContent-Type: text/html\r\n\r\n"+page+"\r\n--b--\r\n", "To: "+user, `Content-Type: multipart/alternative; boundary="b"`), user, invited},
		"a link to somebody else":   {mailOf("https://constantcontact.com.evil.example/invite/accept", "To: "+user), "", ""},
		"a link that looks alike":   {mailOf("https://notconstantcontact.com/invite/accept", "To: "+user), "", ""},
		"a link with a user":        {mailOf("https://constantcontact.com@evil.example/invite", "To: "+user), "", ""},
		"a link without TLS":        {mailOf("http://login.constantcontact.com/invite/accept", "To: "+user), "", ""},
		"a link that runs":          {mailOf(`<a href="javascript:alert('constantcontact.com')">x</a>`, "To: "+user, "Content-Type: text/html"), "", ""},
		"no link":                   {mailOf("Hello", "To: "+user), "", ""},
		"no recipient":              {mailOf(plain), "", ""},
		"no mail":                   {"\x00\xff not a mail", "", ""},
		"nothing":                   {"", "", ""},
		"a part that has no end":    {mailOf("--b\r\nContent-Type: text/plain\r\n\r\n"+plain, "To: "+user, `Content-Type: multipart/mixed; boundary="b"`), user, invited},
		"a character set of nobody": {mailOf(plain, "To: "+user, "Content-Type: text/plain; charset=klingon"), user, invited},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			k := &taken{}
			a := &notify.Activations{DB: db, Taker: k, Hosts: []string{"constantcontact.com"}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
			at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
			if err := a.TakeFrom(t.Context(), "mailbox", 7, 12, []byte(test.mail), at); err != nil {
				t.Fatal(err)
			}
			if test.to != "" && (!slices.Contains(k.to, test.to) || k.from != "no-reply@constantcontact.com" || !k.at.Equal(at)) {
				t.Errorf("told of %+v", k)
			}
			if k.link != test.link {
				t.Errorf("link %q, want %q", k.link, test.link)
			}
			if validity, uid, err := notify.Bookmark(t.Context(), db, "mailbox"); validity != 7 || uid != 12 || err != nil {
				t.Errorf("bookmark %d %d, %v", validity, uid, err)
			}
		})
	}
}

// TestActivationsTogether: what cannot be noted leaves the bookmark where it was.
func TestActivationsTogether(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k := &taken{err: context.DeadlineExceeded}
	a := &notify.Activations{DB: db, Taker: k, Hosts: []string{"constantcontact.com"}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	mail := []byte(mailOf(invited, "To: agency+acme@agency.example"))
	if err := a.TakeFrom(t.Context(), "mailbox", 7, 12, mail, time.Time{}); err == nil {
		t.Error("it was taken")
	}
	if validity, uid, err := notify.Bookmark(t.Context(), db, "mailbox"); validity != 0 || uid != 0 || err != nil {
		t.Errorf("bookmark %d %d, %v", validity, uid, err)
	}
}

// FuzzActivation: whatever a mail is, no link of it leads anywhere else than to the provider.
func FuzzActivation(f *testing.F) {
	for _, seed := range []string{
		mailOf(invited, "To: agency+acme@agency.example"), mailOf("<a href='https://constantcontact.com.evil.example'>", "To: a@b.c", "Content-Type: text/html"),
		mailOf("--b\r\n\r\n", "Content-Type: multipart/mixed; boundary=b"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		to, link := notify.ReadActivation([]byte(raw), []string{"constantcontact.com"})
		if link != "" && !strings.HasPrefix(link, "https://") {
			t.Errorf("link %q", link)
		}
		for _, address := range to {
			if diff := cmp.Diff(strings.ToLower(address), address); diff != "" || !strings.Contains(address, "@") {
				t.Errorf("address %q", address)
			}
		}
	})
}
