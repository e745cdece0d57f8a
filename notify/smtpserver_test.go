package notify_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify"
)

func TestParseSMTPURL(t *testing.T) {
	t.Parallel()
	tests := map[string]notify.SMTPServer{
		"smtp://mail.example.com":  {Host: "mail.example.com", Port: 587, Security: notify.StartTLS},
		" smtp://mail.example/\n":  {Host: "mail.example", Port: 587, Security: notify.StartTLS},
		"SMTP://mail.example:25":   {Host: "mail.example", Port: 25, Security: notify.StartTLS},
		"smtps://mail.example.com": {Host: "mail.example.com", Port: 465, Security: notify.ImplicitTLS},
		"smtps://mail.example:587": {Host: "mail.example", Port: 587, Security: notify.ImplicitTLS},
		"smtp://u%40x.example:p%3Aw%2F%20%25@mail.example": {
			Host: "mail.example", Port: 587, Security: notify.StartTLS, Username: "u@x.example", Password: "p:w/ %",
		},
		"smtp://localhost:1025?tls=none":   {Host: "localhost", Port: 1025, Security: notify.NoTLS},
		"smtp://u:p@127.0.0.2:25?tls=none": {Host: "127.0.0.2", Port: 25, Security: notify.NoTLS, Username: "u", Password: "p"},
		"smtp://[::1]:1025?tls=none":       {Host: "::1", Port: 1025, Security: notify.NoTLS},
	}
	for raw, want := range tests {
		got, err := notify.ParseSMTPURL(raw)
		if err != nil {
			t.Errorf("ParseSMTPURL(%q): %v", raw, err)
			continue
		}
		if *got != want {
			t.Errorf("ParseSMTPURL(%q) = %+v, password %q", raw, got, string(got.Password))
		}
		again, err := notify.ParseSMTPURL(strings.Replace(got.String(), "@", ":p@", 1))
		if err != nil || again.Host != got.Host || again.Port != got.Port || again.Security != got.Security || again.Username != got.Username {
			t.Errorf("%q prints as %q, which reads as %+v, %v", raw, got, again, err)
		}
	}
}

func TestParseSMTPURLRefuses(t *testing.T) {
	t.Parallel()
	for raw, saying := range map[string]string{
		"":                                    "must begin with smtp://",
		"mail.example:587":                    "must begin with smtp://",
		"https://mail.example":                "must begin with smtp://",
		"smtp:mail.example":                   "something follows the host",
		"smtp://":                             "names no host",
		"smtp://:587":                         "names no host",
		"smtp://mail.example:0":               "from 1 to 65535",
		"smtp://mail.example:70000":           "from 1 to 65535",
		"smtp://mail.example:smtp":            "not a URL",
		"smtp://mail.example/inbox":           "something follows the host",
		"smtp://mail.example#x":               "something follows the host",
		"smtp://user@mail.example":            "belong together",
		"smtp://:hunter2@mail.example":        "belong together",
		"smtp://user:@mail.example":           "belong together",
		"smtp://u:hunter2%zz@mail.example":    "not a URL",
		"smtp://u:hunter2/x@mail.example":     "not a URL",
		"smtp://u:123/hunter2@mail.example":   "something follows the host",
		"smtp://u:123?hunter2@mail.example":   "only parameter is tls=none",
		"smtp://u:123#hunter2@mail.example":   "something follows the host",
		"smtp://mail.example?tls=off":         "only parameter is tls=none",
		"smtp://localhost?tls=none&tls=none":  "only parameter is tls=none",
		"smtps://localhost?tls=none":          "contradict",
		"smtp://u:hunter2@mail.test?tls=none": "only toward this machine",
		"smtp://10.0.0.1?tls=none":            "only toward this machine",
		"smtp://mail.example:465":             "write smtps://",
	} {
		server, err := notify.ParseSMTPURL(raw)
		if err == nil || !strings.Contains(err.Error(), saying) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseSMTPURL(%q) = %v, %v; want %q", raw, server, err, saying)
		}
		if _, again := notify.NewTransport(notify.TransportOptions{URL: raw}); again == nil || again.Error() != err.Error() {
			t.Errorf("NewTransport(%q) = %v, want %v", raw, again, err)
		}
	}
}

// However a password is written into the URL, right or wrong, and however the result is printed, it does not show.
func TestPasswordNeverShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := "hunter" + rapid.StringMatching(`[!-~]{0,12}`).Draw(t, "tail") + "secret"
		written := secret
		if rapid.Bool().Draw(t, "escaped") {
			written = url.QueryEscape(secret)
		}
		server, err := notify.ParseSMTPURL("smtp://user:" + written + "@mail.example:587")
		transport, _ := notify.NewTransport(notify.TransportOptions{URL: "smtp://user:" + written + "@mail.example:587"})
		shown := fmt.Sprintf("%v %v %+v", err, transport, transport)
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

func TestSMTPServerString(t *testing.T) {
	t.Parallel()
	server := &notify.SMTPServer{Host: "::1", Port: 25, Security: notify.NoTLS, Username: "a@b", Password: "hunter2"}
	if diff := cmp.Diff("smtp://a%40b@[::1]:25?tls=none", server.String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
}
