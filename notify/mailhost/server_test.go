package mailhost_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify/mailhost"
)

// written are URLs and what they mean.
func written() map[string]mailhost.Server {
	const (
		smtp, imap             = mailhost.SMTP, mailhost.IMAP
		startTLS, tls, without = mailhost.StartTLS, mailhost.ImplicitTLS, mailhost.NoTLS
	)
	return map[string]mailhost.Server{
		"smtp://mail.example.com":          {Protocol: smtp, Host: "mail.example.com", Port: 587, Security: startTLS},
		" smtp://mail.example/\n":          {Protocol: smtp, Host: "mail.example", Port: 587, Security: startTLS},
		"SMTP://mail.example:25":           {Protocol: smtp, Host: "mail.example", Port: 25, Security: startTLS},
		"smtps://mail.example.com":         {Protocol: smtp, Host: "mail.example.com", Port: 465, Security: tls},
		"smtps://mail.example:587":         {Protocol: smtp, Host: "mail.example", Port: 587, Security: tls},
		"smtp://localhost:1025?tls=none":   {Protocol: smtp, Host: "localhost", Port: 1025, Security: without},
		"smtp://u:p@127.0.0.2:25?tls=none": {Protocol: smtp, Host: "127.0.0.2", Port: 25, Security: without, Username: "u", Password: "p"},
		"smtp://[::1]:1025?tls=none":       {Protocol: smtp, Host: "::1", Port: 1025, Security: without},
		"smtp://u%40x.example:p%3Aw%2F%20%25@mail.example": {
			Protocol: smtp, Host: "mail.example", Port: 587, Security: startTLS, Username: "u@x.example", Password: "p:w/ %",
		},

		"imaps://u:p@mail.example":             {Protocol: imap, Host: "mail.example", Port: 993, Security: tls, Username: "u", Password: "p", Folder: "INBOX"},
		" imap://u:p@mail.example/\n":          {Protocol: imap, Host: "mail.example", Port: 143, Security: startTLS, Username: "u", Password: "p", Folder: "INBOX"},
		"IMAP://u:p@mail.example:1143/A/B":     {Protocol: imap, Host: "mail.example", Port: 1143, Security: startTLS, Username: "u", Password: "p", Folder: "A/B"},
		"imaps://u:p@mail.example/Entw%C3%BCr": {Protocol: imap, Host: "mail.example", Port: 993, Security: tls, Username: "u", Password: "p", Folder: "Entwür"},
		"imap://u:p@localhost?tls=none":        {Protocol: imap, Host: "localhost", Port: 143, Security: without, Username: "u", Password: "p", Folder: "INBOX"},
		"imap://u:p@[::1]:1143/Junk?tls=none":  {Protocol: imap, Host: "::1", Port: 1143, Security: without, Username: "u", Password: "p", Folder: "Junk"},
		"imap://u:p@127.0.0.2/a%40b?tls=none":  {Protocol: imap, Host: "127.0.0.2", Port: 143, Security: without, Username: "u", Password: "p", Folder: "a@b"},
		"imaps://u:p@q@mail.example:143/INBOX": {Protocol: imap, Host: "mail.example", Port: 143, Security: tls, Username: "u", Password: "p@q", Folder: "INBOX"},
		"imaps://u%40x.example:p%3Aw%2F%20%25@mail.example:994": {
			Protocol: imap, Host: "mail.example", Port: 994, Security: tls, Username: "u@x.example", Password: "p:w/ %", Folder: "INBOX",
		},
	}
}

func protocolOf(raw string) mailhost.Protocol {
	if strings.Contains(strings.ToLower(raw), "imap") {
		return mailhost.IMAP
	}
	return mailhost.SMTP
}

func TestParse(t *testing.T) {
	t.Parallel()
	for raw, want := range written() {
		got, err := mailhost.Parse(protocolOf(raw), raw)
		if err != nil {
			t.Errorf("Parse(%q): %v", raw, err)
			continue
		}
		if *got != want {
			t.Errorf("Parse(%q) = %+v, password %q", raw, got, string(got.Password))
		}
	}
}

// What is printed reads as the same server, but for the password.
func TestString(t *testing.T) {
	t.Parallel()
	for raw, want := range written() {
		printed := strings.Replace(want.String(), "@", ":p@", 1)
		if want.Username != "" {
			want.Password = "p"
		}
		if got, err := mailhost.Parse(want.Protocol, printed); err != nil || *got != want {
			t.Errorf("%q prints as %q, which reads as %+v, %v", raw, printed, got, err)
		}
	}
	for want, server := range map[string]*mailhost.Server{
		"smtp://a%40b@[::1]:25?tls=none": {
			Protocol: mailhost.SMTP, Host: "::1", Port: 25, Security: mailhost.NoTLS, Username: "a@b", Password: "hunter2",
		},
		"imaps://u@mail.example:993/Sent": {
			Protocol: mailhost.IMAP, Host: "mail.example", Port: 993, Security: mailhost.ImplicitTLS, Username: "u", Password: "hunter2", Folder: "Sent",
		},
	} {
		if diff := cmp.Diff(want, server.String()); diff != "" {
			t.Errorf("String (-want +got):\n%s", diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		protocol    mailhost.Protocol
		raw, saying string
	}{
		{mailhost.SMTP, "", "must begin with smtp://"},
		{mailhost.SMTP, "mail.example:587", "must begin with smtp://"},
		{mailhost.SMTP, "https://mail.example", "must begin with smtp://"},
		{mailhost.SMTP, "imaps://u:hunter2@mail.example", "must begin with smtp://"},
		{mailhost.SMTP, "smtp:mail.example", "something follows the host"},
		{mailhost.SMTP, "smtp://", "names no host"},
		{mailhost.SMTP, "smtp://:587", "names no host"},
		{mailhost.SMTP, "smtp://mail.example:0", "from 1 to 65535"},
		{mailhost.SMTP, "smtp://mail.example:70000", "from 1 to 65535"},
		{mailhost.SMTP, "smtp://mail.example:smtp", "not a URL"},
		{mailhost.SMTP, "smtp://mail.example/inbox", "something follows the host"},
		{mailhost.SMTP, "smtp://mail.example//", "something follows the host"},
		{mailhost.SMTP, "smtp://mail.example#x", "something follows the host"},
		{mailhost.SMTP, "smtp://user@mail.example", "belong together"},
		{mailhost.SMTP, "smtp://:hunter2@mail.example", "belong together"},
		{mailhost.SMTP, "smtp://user:@mail.example", "belong together"},
		{mailhost.SMTP, "smtp://u:hunter2%zz@mail.example", "not a URL"},
		{mailhost.SMTP, "smtp://u:hunter2/x@mail.example", "not a URL"},
		{mailhost.SMTP, "smtp://u:123/hunter2@mail.example", "something follows the host"},
		{mailhost.SMTP, "smtp://u:123?hunter2@mail.example", "only parameter is tls=none"},
		{mailhost.SMTP, "smtp://u:123#hunter2@mail.example", "something follows the host"},
		{mailhost.SMTP, "smtp://mail.example?tls=off", "only parameter is tls=none"},
		{mailhost.SMTP, "smtp://localhost?tls=none&tls=none", "only parameter is tls=none"},
		{mailhost.SMTP, "smtps://localhost?tls=none", "contradict"},
		{mailhost.SMTP, "smtp://u:hunter2@mail.test?tls=none", "only toward this machine"},
		{mailhost.SMTP, "smtp://10.0.0.1?tls=none", "only toward this machine"},
		{mailhost.SMTP, "smtp://mail.example:465", "write smtps://"},

		{mailhost.IMAP, "", "must begin with imaps://"},
		{mailhost.IMAP, "mail.example:993", "must begin with imaps://"},
		{mailhost.IMAP, "smtp://u:hunter2@mail.example", "must begin with imaps://"},
		{mailhost.IMAP, "imaps:mail.example", "must be percent-encoded"},
		{mailhost.IMAP, "imaps://u:hunter2@", "names no host"},
		{mailhost.IMAP, "imaps://u:hunter2@:993", "names no host"},
		{mailhost.IMAP, "imaps://u:hunter2@mail.example:0", "from 1 to 65535"},
		{mailhost.IMAP, "imaps://u:hunter2@mail.example:imap", "not a URL"},
		{mailhost.IMAP, "imaps://u:hunter2@mail.example#x", "must be percent-encoded"},
		{mailhost.IMAP, "imaps://mail.example", "no user or no password"},
		{mailhost.IMAP, "imaps://user@mail.example", "no user or no password"},
		{mailhost.IMAP, "imaps://:hunter2@mail.example", "no user or no password"},
		{mailhost.IMAP, "imaps://u:hunter2%zz@mail.example", "not a URL"},
		{mailhost.IMAP, "imaps://u:123/hunter2@mail.example", "must be percent-encoded"},
		{mailhost.IMAP, "imaps://u:p@123/hunter2@mail.example", "must be percent-encoded"},
		{mailhost.IMAP, "imaps://u:123?hunter2@mail.example", "no user or no password"},
		{mailhost.IMAP, "imaps://u:p@123?hunter2@mail.example", "only parameter is tls=none"},
		{mailhost.IMAP, "imaps://u:123#hunter2@mail.example", "must be percent-encoded"},
		{mailhost.IMAP, "imap://u:hunter2@mail.example?tls=off", "only parameter is tls=none"},
		{mailhost.IMAP, "imaps://u:hunter2@localhost?tls=none", "contradict"},
		{mailhost.IMAP, "imap://u:hunter2@mail.example?tls=none", "only toward this machine"},
		{mailhost.IMAP, "imap://u:hunter2@10.0.0.1/INBOX?tls=none", "only toward this machine"},
		{mailhost.IMAP, "imap://u:hunter2@mail.example:993", "write imaps://"},
	} {
		server, err := mailhost.Parse(tt.protocol, tt.raw)
		if server != nil || err == nil {
			t.Errorf("Parse(%q) = %v, %v", tt.raw, server, err)
			continue
		}
		said := err.Error()
		if !strings.HasPrefix(said, strings.ToUpper(string(tt.protocol))+" URL: ") || !strings.Contains(said, tt.saying) || strings.Contains(said, "hunter2") {
			t.Errorf("Parse(%q) = %v; want %q", tt.raw, err, tt.saying)
		}
	}
}

// However a password is written into the URL, right or wrong, and however the result is printed, it does not show.
func TestPasswordNeverShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := "hunter" + rapid.StringMatching(`[!-~]{0,12}`).Draw(t, "tail") + "secret"
		before, after, protocol := "smtp://user:", "@mail.example:587", mailhost.SMTP
		if rapid.Bool().Draw(t, "IMAP") {
			before, after, protocol = "imaps://user:", "@mail.example:993/INBOX", mailhost.IMAP
		}
		password := secret
		if rapid.Bool().Draw(t, "escaped") {
			password = url.QueryEscape(secret)
		}
		server, err := mailhost.Parse(protocol, before+password+after)
		shown := fmt.Sprintf("%v %+v", err, server)
		if server != nil {
			marshalled, _ := json.Marshal(server) //nolint:gosec // that the password stays out of it is what is tested
			var logged strings.Builder
			slog.New(slog.NewJSONHandler(&logged, nil)).InfoContext(t.Context(), "x", "server", server, "value", *server, "password", server.Password)
			slog.New(slog.NewTextHandler(&logged, nil)).InfoContext(t.Context(), "x", "server", server, "value", *server, "password", server.Password)
			shown += fmt.Sprintf("%s %s %v %+v %#v %q %x %d", marshalled, logged.String(), *server, *server, *server, server, server.Password, server.Password)
			if strings.Contains(shown, fmt.Sprintf("%x", secret)) {
				t.Fatalf("password in hex: %s", shown)
			}
		}
		for _, part := range []string{"hunter", "secret"} {
			if strings.Contains(shown, part) {
				t.Fatalf("%q shows: %s", part, shown)
			}
		}
	})
}
