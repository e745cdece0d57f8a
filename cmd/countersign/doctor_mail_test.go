//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-smtp"

	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/posture"
	"github.com/countersign/countersign/notify/posture/zonetest"
)

// startOddSink takes mail at the address that it returns.
func startOddSink(t *testing.T, o mailsink.Options) (*mailsink.Sink, string) {
	t.Helper()
	listener := listenLoopback(t)
	sink := mailsink.New(o)
	served := make(chan error, 1)
	go func() { served <- sink.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(sink.Shutdown(context.WithoutCancel(t.Context())), <-served); err != nil {
			t.Error(err)
		}
	})
	return sink, listener.Addr().String()
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// startMailbox serves a user's INBOX by IMAP, without TLS.
func startMailbox(t *testing.T, username string) (user *imapmemserver.User, address string) {
	t.Helper()
	user = imapmemserver.NewUser(username, mailboxPassword)
	if err := user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	users := imapmemserver.New()
	users.AddUser(user)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return users.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIdle: {}},
		Logger:       log.New(io.Discard, "", 0),
		InsecureAuth: true,
	})
	listener := listenLoopback(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // It complains when it is closed.
	}()
	t.Cleanup(func() {
		_ = errors.Join(server.Close(), listener.Close()) // Closing either may close the other.
		<-served
	})
	return user, listener.Addr().String()
}

// newDKIMKey makes a key file and the text of its record.
func newDKIMKey(t *testing.T) (file, record string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "dkim.pem")
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return file, "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

func TestDoctorOfMailDomains(t *testing.T) {
	t.Parallel()
	_, server := startSink(t)
	file, record := newDKIMKey(t)
	zone := zonetest.Zone{
		"TXT agency.example":                    {"v=spf1 -all"},
		"MX agency.example":                     {"0 ."},
		"TXT bounces.agency.example":            {"v=spf1 ip4:192.0.2.0/24 -all"},
		"MX bounces.agency.example":             {"10 mx.agency.example"},
		"A mx.agency.example":                   {"192.0.2.1"},
		"TXT k1._domainkey.mail.agency.example": {"v=DKIM1; p="},
		"TXT _dmarc.agency.example":             {"v=DMARC1; p=quarantine"},
	}
	in := install(t,
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
		"COUNTERSIGN_MAIL_REPLY_TO=team@bounces.agency.example",
		"COUNTERSIGN_BOUNCE_ADDRESS=bounce@bounces.agency.example",
		"COUNTERSIGN_SMTP_URL=smtp://"+server+"?tls=none",
		"COUNTERSIGN_DKIM_KEY_FILE="+file,
		"COUNTERSIGN_DKIM_DOMAIN=mail.agency.example",
		"COUNTERSIGN_DKIM_SELECTOR=k1",
		"COUNTERSIGN_DNS="+zonetest.Serve(t, zone),
	)
	d := in.doctor(t)
	d.of(t, "SPF").want(t, "ok", `bounces.agency.example has "v=spf1 ip4:192.0.2.0/24 -all"; 127.0.0.1 is reached at`, "")
	d.of(t, "SPF of From").want(t, "ok", `agency.example has "v=spf1 -all"`, "")
	publish := posture.Record{Name: "k1._domainkey.mail.agency.example", Text: record}
	d.of(t, "DKIM").want(t, "fail", "its key is revoked", "publish this record instead: "+publish.String())
	d.of(t, "DMARC").want(t, "ok", "the policy quarantine (mail that passes neither goes to spam); ours can pass by DKIM and by SPF", "")
	d.of(t, "bounce domain").want(t, "ok", "mail for bounces.agency.example goes to mx.agency.example", "")
	d.of(t, "reply domains").want(t, "fail", "agency.example says that it takes no mail", "COUNTERSIGN_MAIL_FROM")
	d.of(t, "sending host").want(t, "skip", "127.0.0.1 is reached at 127.0.0.1", "")
	d.of(t, "test mail").want(t, "skip", "not tried", "--mail ADDRESS")
}

// A resolver that is away is no reason to call the mail's domains bad.
func TestDoctorWithoutDNS(t *testing.T) {
	t.Parallel()
	_, server := startSink(t)
	in := install(t,
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
		"COUNTERSIGN_SMTP_URL=smtp://"+server+"?tls=none",
		"COUNTERSIGN_DNS=127.0.0.1:1",
	)
	d := in.doctor(t)
	d.of(t, "DNS").want(t, "skip", "the resolver does not answer", "COUNTERSIGN_DNS")
	if !d.OK {
		t.Errorf("the doctor found fault: %+v", d)
	}
}

func TestDoctorMail(t *testing.T) {
	t.Parallel()
	const to = "agency+test@agency.example"
	file, record := newDKIMKey(t)
	resolver := zonetest.Serve(t, zonetest.Zone{"TXT countersign._domainkey.agency.example": {record}})
	for name, c := range map[string]struct {
		results string // fields that the receiving server writes above the mail
		lost    bool   // it does not arrive
		to      string
		refused bool
		status  string
		found   string
		cure    string
	}{
		"all pass": {
			results: "Authentication-Results: mx.agency.example;\r\n dkim=fail (other key; unprotected) header.d=host.example;\r\n" +
				" dkim=pass header.i=@agency.example; spf=pass smtp.mailfrom=bounce@agency.example; dmarc=pass header.from=agency.example\r\n" +
				"Authentication-Results: relay.example; spf=fail; dkim=fail; dmarc=fail\r\n",
			status: "ok",
			found:  "mx.agency.example says SPF pass (agency.example), DKIM pass (agency.example), DMARC pass (agency.example)",
		},
		"DKIM fails": {
			results: "Authentication-Results: spf=pass smtp.mailfrom=agency.example; dkim=fail header.d=agency.example; dmarc=pass\r\n",
			status:  "warn", found: "the server there says SPF pass (agency.example), DKIM fail (agency.example), DMARC pass", cure: "the checks of SPF",
		},
		"DMARC fails": {
			results: "Authentication-Results: mx; spf=pass smtp.mailfrom=host.example; dkim=pass header.d=host.example; dmarc=fail\r\n",
			status:  "fail", found: "SPF pass (host.example), DKIM pass (host.example), DMARC fail", cure: "the checks of SPF",
		},
		"nothing passes": {
			results: "Authentication-Results: mx; spf=softfail\r\n",
			status:  "fail", found: "mx says SPF softfail, DKIM not examined, DMARC not examined", cure: "the checks of SPF",
		},
		"spam": {
			results: "Authentication-Results: mx; spf=pass; dkim=pass; dmarc=pass\r\nX-Spam-Flag: YES\r\n",
			status:  "warn", found: "its filter takes the mail for spam", cure: "X-Spam",
		},
		"nothing is written": {status: "warn", found: "writes down nothing about SPF, DKIM and DMARC", cure: "Gmail or Outlook"},
		"lost":               {lost: true, status: "fail", found: "it did not arrive in INBOX within 1s", cure: "spam folder"},
		"elsewhere": {
			to: "you@elsewhere.example", status: "ok",
			found: "has taken a mail to you@elsewhere.example, from bounce@agency.example in the envelope; see that it is in the inbox",
		},
		"refused": {to: "typo@elsewhere.example", refused: true, status: "fail", found: "RCPT TO answered 550 5.1.1 No such user here", cure: "--mail exists"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user, imapAddress := startMailbox(t, "reader")
			sink, server := startOddSink(t, mailsink.Options{
				Rules: func(string, string) *smtp.SMTPError {
					if c.refused {
						return mailsink.NoSuchUser()
					}
					return nil
				},
				Faults: func(m mailsink.Message) mailsink.Fault {
					if c.lost {
						return mailsink.NoFault
					}
					for _, raw := range [][]byte{[]byte("Subject: another\r\n\r\n"), append([]byte(c.results), m.Raw...)} {
						if _, err := user.Append("INBOX", bytes.NewReader(raw), &imap.AppendOptions{}); err != nil {
							t.Error(err)
						}
					}
					return mailsink.NoFault
				},
			})
			in := install(t,
				`COUNTERSIGN_AGENCY_NAME=Nørthwind "Marketing"`,
				"COUNTERSIGN_AGENCY_MAILBOX=Agency@agency.example",
				"COUNTERSIGN_MAIL_FROM=hello@agency.example",
				"COUNTERSIGN_BOUNCE_ADDRESS=bounce@agency.example",
				"COUNTERSIGN_SMTP_URL=smtp://"+server+"?tls=none",
				"COUNTERSIGN_IMAP_URL="+fmt.Sprintf("imap://reader:%s@%s?tls=none", strings.NewReplacer("@", "%40", "/", "%2F", "%", "%25", "#", "%23").Replace(mailboxPassword), imapAddress),
				"COUNTERSIGN_DKIM_KEY_FILE="+file,
				"COUNTERSIGN_DNS="+resolver,
			)
			recipient, wait := to, "1m"
			if c.to != "" {
				recipient = c.to
			}
			if c.lost {
				wait = "1s"
			}
			d := in.doctor(t, "--mail", "You <"+recipient+">", "--wait", wait)
			d.of(t, "test mail").want(t, c.status, c.found, c.cure)
			sent := sink.Messages(mailsink.Filter{})
			if c.refused {
				return
			}
			if len(sent) != 1 || sent[0].From != "bounce@agency.example" || sent[0].To[0] != recipient {
				t.Fatalf("%d mails were sent: %+v", len(sent), sent)
			}
			verified, err := dkim.VerifyWithOptions(bytes.NewReader(sent[0].Raw), &dkim.VerifyOptions{
				LookupTXT: func(name string) ([]string, error) {
					return posture.NewResolver(resolver).LookupTXT(t.Context(), name+".")
				},
			})
			if err != nil || len(verified) != 1 || verified[0].Err != nil || verified[0].Domain != "agency.example" {
				t.Errorf("the signature is %+v, %v", verified, err)
			}
		})
	}
}

func TestDoctorMailWithoutServer(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.doctor(t, "--mail", "you@agency.example").of(t, "test mail").want(t, "skip", "needs SMTP in order", "")
	if _, complaints, code := in.run(t, "doctor", "--mail", "you"); code != 1 || !strings.Contains(complaints, `--mail: "you" is not a mail address`) {
		t.Errorf("exit code %d, %s", code, complaints)
	}
}
