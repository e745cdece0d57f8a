package smtp_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify/mailhost"
	"github.com/countersign/countersign/notify/smtp"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	want := mailhost.Server{Protocol: mailhost.SMTP, Host: "mail.example", Port: 587, Security: mailhost.StartTLS, Username: "u", Password: "p"}
	if got, err := smtp.ParseURL("smtp://u:p@mail.example"); err != nil || *got != want {
		t.Errorf("ParseURL = %+v, %v", got, err)
	}
	for raw, saying := range map[string]string{
		"":                                "must begin with smtp://",
		"imaps://u:hunter2@mail.example":  "must begin with smtp://",
		"smtp://u:hunter2@mail.example/x": "something follows the host",
	} {
		server, err := smtp.ParseURL(raw)
		if err == nil || !strings.Contains(err.Error(), saying) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseURL(%q) = %v, %v; want %q", raw, server, err, saying)
		}
		if _, again := smtp.New(smtp.Options{URL: raw}); again == nil || again.Error() != err.Error() {
			t.Errorf("New(%q) = %v, want %v", raw, again, err)
		}
	}
}

// However a password is written into the URL, right or wrong, a transport that is printed does not show it.
func TestPasswordNeverShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := "hunter" + rapid.StringMatching(`[!-~]{0,12}`).Draw(t, "tail") + "secret"
		written := secret
		if rapid.Bool().Draw(t, "escaped") {
			written = url.QueryEscape(secret)
		}
		transport, err := smtp.New(smtp.Options{URL: "smtp://user:" + written + "@mail.example:587"})
		shown := fmt.Sprintf("%v %v %+v", err, transport, transport)
		for _, part := range []string{"hunter", "secret"} {
			if strings.Contains(shown, part) {
				t.Fatalf("%q shows: %s", part, shown)
			}
		}
	})
}
