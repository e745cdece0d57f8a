package smtp_test

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	server, client := certificate(t)
	for name, tt := range map[string]struct {
		url    string // %s is the server
		client bool
		step   smtp.Step
		cure   string
	}{
		"in order":          {url: "smtp://agency:hunter2@%s", client: true},
		"wrong password":    {url: "smtp://agency:hunter3@%s", client: true, step: "AUTH", cure: "check user and password"},
		"certificate":       {url: "smtp://agency:hunter2@%s", step: "TLS", cure: "trust the certificate's issuer"},
		"wrong kind of TLS": {url: "smtps://agency:hunter2@%s", client: true, step: "TLS", cure: "smtp:// for one with STARTTLS"},
		"nobody there":      {url: "smtp://localhost:1", step: "connect", cure: "check host and port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := startSink(t, mailsink.Options{TLS: server, Username: "agency", Password: "hunter2"})
			address := strings.TrimSuffix(strings.TrimPrefix(sink.url, "smtp://"), "?tls=none")
			options := smtp.Options{URL: strings.Replace(tt.url, "%s", address, 1)}
			if tt.client {
				options.TLS = client
			}
			err := newTransport(t, options).Verify(t.Context())
			if tt.step == "" {
				if err != nil || sink.Count() != 0 {
					t.Errorf("Verify = %v, and %d mails were sent", err, sink.Count())
				}
				return
			}
			if failed := sendError(t, err); failed.Step != tt.step || !strings.Contains(failed.Cure(), tt.cure) || failed.Server == "" {
				t.Errorf("Verify = %v, with the cure: %s", failed, failed.Cure())
			}
		})
	}
}
