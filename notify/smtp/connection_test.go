package smtp_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
)

// certificate borrows httptest's, which is good for 127.0.0.1.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	return &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12}, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func TestTLSAndAUTH(t *testing.T) {
	t.Parallel()
	server, client := certificate(t)
	demanding := mailsink.Options{TLS: server}
	demanding.Username, demanding.Password = "agency@example.com", "p/ss:w?rd"
	implicit := demanding
	implicit.ImplicitTLS = true
	tests := map[string]struct {
		sink     mailsink.Options
		scheme   string
		userinfo string
		query    string
		client   *tls.Config
		want     *smtp.Error // nil: accepted over TLS, signed in
		saying   string
	}{
		"STARTTLS and AUTH":     {sink: demanding, scheme: "smtp", userinfo: "agency%40example.com:p%2Fss%3Aw%3Frd@", client: client},
		"implicit TLS and AUTH": {sink: implicit, scheme: "smtps", userinfo: "agency%40example.com:p%2Fss%3Aw%3Frd@", client: client},
		"wrong password": {
			sink: demanding, scheme: "smtp", userinfo: "agency%40example.com:hunter2@", client: client,
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "AUTH", Code: 535, Enhanced: "5.7.8"},
			saying: "Authentication failed",
		},
		"no password where one is demanded": {
			sink: demanding, scheme: "smtp", client: client,
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "MAIL FROM", Code: 530, Enhanced: "5.7.0"},
			saying: "Authentication required",
		},
		"password where none is wanted": {
			sink: mailsink.Options{TLS: server}, scheme: "smtp", userinfo: "agency:hunter2@", client: client,
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "AUTH"},
			saying: "does not offer AUTH",
		},
		"certificate of nobody we know": {
			sink: demanding, scheme: "smtp", userinfo: "agency:hunter2@",
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "TLS"},
			saying: "certificate signed by unknown authority",
		},
		"the same with implicit TLS": {
			sink: implicit, scheme: "smtps", userinfo: "agency:hunter2@",
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "TLS"},
			saying: "certificate signed by unknown authority",
		},
		"no STARTTLS": {
			scheme: "smtp", userinfo: "agency:hunter2@",
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "TLS"},
			saying: "does not offer STARTTLS",
		},
		"implicit TLS toward a plain server": {
			scheme: "smtps", client: client,
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "TLS"},
			saying: "does not look like a TLS handshake",
		},
		"versions that do not meet": {
			sink: mailsink.Options{TLS: &tls.Config{Certificates: server.Certificates, MinVersion: tls.VersionTLS13}}, scheme: "smtp",
			client: &tls.Config{RootCAs: client.RootCAs, MaxVersion: tls.VersionTLS12}, //nolint:gosec // the server wants more
			want:   &smtp.Error{Kind: smtp.Temporary, Config: true, Step: "TLS"},
			saying: "protocol version",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := startSink(t, tt.sink)
			address := strings.TrimSuffix(strings.TrimPrefix(sink.url, "smtp://"), "?tls=none")
			transport := newTransport(t, smtp.Options{URL: tt.scheme + "://" + tt.userinfo + address, TLS: tt.client})
			err := transport.Send(t.Context(), newMessage(t, "owner@acme.example"))
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if m := sink.Messages(mailsink.Filter{})[0]; !m.TLS || m.Username != tt.sink.Username {
					t.Errorf("TLS %v, signed in as %q", m.TLS, m.Username)
				}
				return
			}
			got := *sendError(t, err)
			if !strings.Contains(err.Error(), tt.saying) || strings.Contains(fmt.Sprintf("%+v %v", got, err), "hunter2") {
				t.Errorf("error says %q, want %q", err, tt.saying)
			}
			got.Server, got.Text, got.Err = "", "", nil
			if diff := gocmp.Diff(*tt.want, got); diff != "" {
				t.Errorf("Send (-want +got):\n%s", diff)
			}
			if sink.Count() != 0 {
				t.Error("a message was taken")
			}
		})
	}
}

// The server decides the mechanism; LOGIN is all that some offer.
func TestAUTHMechanisms(t *testing.T) {
	t.Parallel()
	login := func(_ int, verb, line string) string {
		decoded, _ := base64.StdEncoding.DecodeString(line)
		switch {
		case verb == "AUTH" && line == "AUTH LOGIN":
			return "334 " + base64.StdEncoding.EncodeToString([]byte("Username:")) + "\n"
		case string(decoded) == "agency":
			return "334 " + base64.StdEncoding.EncodeToString([]byte("Password:")) + "\n"
		case string(decoded) == "hunter2":
			return "235 2.7.0 welcome\n"
		}
		return ""
	}
	t.Run("LOGIN", func(t *testing.T) {
		t.Parallel()
		server := (&script{ehlo: []string{"AUTH XOAUTH2 LOGIN"}, reply: login}).start(t)
		transport := newTransport(t, smtp.Options{URL: strings.Replace(server.url, "//", "//agency:hunter2@", 1)})
		if err := transport.Send(t.Context(), newMessage(t, "owner@acme.example")); err != nil {
			t.Error(err)
		}
	})
	t.Run("none that we know", func(t *testing.T) {
		t.Parallel()
		server := (&script{ehlo: []string{"AUTH GSSAPI XOAUTH2"}}).start(t)
		transport := newTransport(t, smtp.Options{URL: strings.Replace(server.url, "//", "//agency:hunter2@", 1)})
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
		if !failed.Config || !strings.Contains(failed.Error(), "GSSAPI XOAUTH2") {
			t.Errorf("Send = %v, want the mechanisms offered", failed)
		}
	})
	t.Run("temporarily out of order", func(t *testing.T) {
		t.Parallel()
		server := (&script{ehlo: []string{"AUTH PLAIN"}, reply: at("AUTH", "454 4.7.0 Try later\n")}).start(t)
		transport := newTransport(t, smtp.Options{URL: strings.Replace(server.url, "//", "//agency:hunter2@", 1)})
		failed := sendError(t, transport.Send(t.Context(), newMessage(t, "owner@acme.example")))
		if failed.Kind != smtp.Temporary || failed.Config || failed.Code != 454 {
			t.Errorf("Send = %+v, want 454 for the hour only", failed)
		}
	})
}
