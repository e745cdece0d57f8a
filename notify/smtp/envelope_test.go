package smtp_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/notify/smtp"
)

func newMail(t *testing.T, to ...string) *mail.Msg {
	t.Helper()
	m := mail.NewMsg()
	if err := errors.Join(m.EnvelopeFrom("bounce+1@agency.example"), m.From("office@agency.example"), m.To(to...)); err != nil {
		t.Fatal(err)
	}
	m.SetMessageIDWithValue("1@agency.example")
	m.SetDate()
	m.Subject("Connect")
	m.SetBodyString(mail.TypeTextPlain, "Hello.\n.\n..\nBye.")
	return m
}

func TestSeal(t *testing.T) {
	t.Parallel()
	m := newMail(t, `"Owner of Acme" <owner@acme.example>`)
	var body bytes.Buffer
	if _, err := m.WriteTo(&body); err != nil {
		t.Fatal(err)
	}
	got, err := smtp.Seal(m)
	if err != nil {
		t.Fatal(err)
	}
	want := smtp.Envelope{From: "bounce+1@agency.example", To: "owner@acme.example", Body: body.Bytes()}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("Seal (-want +got):\n%s", diff)
	}
	if strings.Count(string(got.Body), "\n") != strings.Count(string(got.Body), "\r\n") {
		t.Errorf("a line does not end with CRLF: %q", got.Body)
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	noSender := mail.NewMsg()
	if err := noSender.To("owner@acme.example"); err != nil {
		t.Fatal(err)
	}
	errBroken := errors.New("no template")
	broken := newMail(t, "owner@acme.example")
	broken.SetBodyWriter(mail.TypeTextPlain, func(io.Writer) (int64, error) { return 0, errBroken })
	for name, tt := range map[string]struct {
		m    *mail.Msg
		want string
	}{
		"two recipients": {newMail(t, "a@acme.example", "b@acme.example"), "one recipient, this one has 2"},
		"no sender":      {noSender, "no FROM address"},
		"broken body":    {broken, errBroken.Error()},
	} {
		if e, err := smtp.Seal(tt.m); err == nil || !strings.Contains(err.Error(), tt.want) || e.Body != nil {
			t.Errorf("%s: Seal = %+v, %v", name, e, err)
		}
	}
}
