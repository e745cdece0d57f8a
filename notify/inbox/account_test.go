package inbox_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify/inbox"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	tests := map[string]inbox.Account{
		"imaps://u:p@mail.example":             {Host: "mail.example", Port: 993, Security: inbox.ImplicitTLS, Username: "u", Password: "p", Folder: "INBOX"},
		" imap://u:p@mail.example/\n":          {Host: "mail.example", Port: 143, Security: inbox.StartTLS, Username: "u", Password: "p", Folder: "INBOX"},
		"IMAP://u:p@mail.example:1143/A/B":     {Host: "mail.example", Port: 1143, Security: inbox.StartTLS, Username: "u", Password: "p", Folder: "A/B"},
		"imaps://u:p@mail.example/Entw%C3%BCr": {Host: "mail.example", Port: 993, Security: inbox.ImplicitTLS, Username: "u", Password: "p", Folder: "Entwür"},
		"imaps://u%40x.example:p%3Aw%2F%20%25@mail.example:994": {
			Host: "mail.example", Port: 994, Security: inbox.ImplicitTLS, Username: "u@x.example", Password: "p:w/ %", Folder: "INBOX",
		},
		"imap://u:p@localhost?tls=none":        {Host: "localhost", Port: 143, Security: inbox.NoTLS, Username: "u", Password: "p", Folder: "INBOX"},
		"imap://u:p@[::1]:1143/Junk?tls=none":  {Host: "::1", Port: 1143, Security: inbox.NoTLS, Username: "u", Password: "p", Folder: "Junk"},
		"imap://u:p@127.0.0.2/a%40b?tls=none":  {Host: "127.0.0.2", Port: 143, Security: inbox.NoTLS, Username: "u", Password: "p", Folder: "a@b"},
		"imaps://u:p@q@mail.example:143/INBOX": {Host: "mail.example", Port: 143, Security: inbox.ImplicitTLS, Username: "u", Password: "p@q", Folder: "INBOX"},
	}
	for raw, want := range tests {
		got, err := inbox.ParseURL(raw)
		if err != nil {
			t.Errorf("ParseURL(%q): %v", raw, err)
			continue
		}
		if *got != want {
			t.Errorf("ParseURL(%q) = %+v, password %q", raw, got, string(got.Password))
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for raw, saying := range map[string]string{
		"":                                         "must begin with imaps://",
		"mail.example:993":                         "must begin with imaps://",
		"smtp://u:hunter2@mail.example":            "must begin with imaps://",
		"imaps:mail.example":                       "must be percent-encoded",
		"imaps://u:hunter2@":                       "names no host",
		"imaps://u:hunter2@:993":                   "names no host",
		"imaps://u:hunter2@mail.example:0":         "from 1 to 65535",
		"imaps://u:hunter2@mail.example:70000":     "from 1 to 65535",
		"imaps://u:hunter2@mail.example:imap":      "not a URL",
		"imaps://u:hunter2@mail.example#x":         "must be percent-encoded",
		"imaps://mail.example":                     "no user or no password",
		"imaps://user@mail.example":                "no user or no password",
		"imaps://:hunter2@mail.example":            "no user or no password",
		"imaps://u:hunter2%zz@mail.example":        "not a URL",
		"imaps://u:hunter2/x@mail.example":         "not a URL",
		"imaps://u:123/hunter2@mail.example":       "must be percent-encoded",
		"imaps://u:p@123/hunter2@mail.example":     "must be percent-encoded",
		"imaps://u:123?hunter2@mail.example":       "no user or no password",
		"imaps://u:p@123?hunter2@mail.example":     "only parameter is tls=none",
		"imaps://u:123#hunter2@mail.example":       "must be percent-encoded",
		"imap://u:hunter2@mail.example?tls=off":    "only parameter is tls=none",
		"imaps://u:hunter2@localhost?tls=none":     "contradict",
		"imap://u:hunter2@mail.example?tls=none":   "only toward this machine",
		"imap://u:hunter2@10.0.0.1/INBOX?tls=none": "only toward this machine",
		"imap://u:hunter2@mail.example:993":        "write imaps://",
	} {
		account, err := inbox.ParseURL(raw)
		if err == nil || !strings.Contains(err.Error(), saying) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseURL(%q) = %v, %v; want %q", raw, account, err, saying)
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
		account, err := inbox.ParseURL("imaps://user:" + written + "@mail.example:993/INBOX")
		shown := fmt.Sprint(err)
		if account != nil {
			marshalled, _ := json.Marshal(account) //nolint:gosec // that the password stays out of it is what is tested
			var logged strings.Builder
			slog.New(slog.NewJSONHandler(&logged, nil)).InfoContext(t.Context(), "x", "account", account, "value", *account)
			shown += fmt.Sprintf("%s %s %v %+v %#v %q %x", marshalled, logged.String(), account, *account, *account, account.Password, account.Password)
		}
		for _, part := range []string{"hunter", "secret"} {
			if strings.Contains(shown, part) {
				t.Fatalf("%q shows: %s", part, shown)
			}
		}
	})
}
