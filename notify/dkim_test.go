package notify_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-message"
	"github.com/emersion/go-msgauth/dkim"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
)

// dkimKey makes a key and returns what is published of it.
func dkimKey(t *testing.T, kind string) (pemKey, record string) {
	t.Helper()
	var key crypto.Signer
	var err error
	if kind == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		if public, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
			t.Fatal(err)
		}
	}
	pemKey = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return pemKey, fmt.Sprintf("v=DKIM1; k=%s; p=%s", kind, base64.StdEncoding.EncodeToString(public))
}

// TestSignature has a verifier of another make look at our signatures, and finds them broken when anything
// that a receiver acts on was changed.
func TestSignature(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"rsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pemKey, record := dkimKey(t, kind)
			key, err := notify.ParseDKIMKey(pemKey)
			if err != nil {
				t.Fatal(err)
			}
			f := openOffice(t, mailsink.Options{})
			f.mailer.DKIM = &notify.DKIM{Domain: "agency.example", Selector: "s1", Key: key}
			if f.mailer.Returns, err = notify.NewReturnPaths("bounce@agency.example", bytes.Repeat([]byte{7}, 32)); err != nil {
				t.Fatal(err)
			}
			raw := f.mailed(t, provisioning.Letter{ToName: "Zoë Brontë", ToAddress: "maria@acme.example", ClientName: "Café Ñandú & Söhne"})
			if from := f.received()[0].From; !strings.HasPrefix(from, "bounce+") || !strings.HasSuffix(from, "@agency.example") {
				t.Errorf("the envelope is from %s", from)
			}
			if !bytes.Contains(raw, []byte("<mailto:bounce+u")) {
				t.Error("List-Unsubscribe has no mailto")
			}
			verify := func(raw []byte) error {
				found, err := dkim.VerifyWithOptions(bytes.NewReader(raw), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
					if name != "s1._domainkey.agency.example" {
						return nil, fmt.Errorf("no record %s", name)
					}
					return []string{record}, nil
				}})
				if err != nil || len(found) != 1 {
					t.Fatalf("%d signatures, %v", len(found), err)
				}
				for _, name := range []string{"from", "to", "subject", "date", "message-id", "reply-to", "list-unsubscribe", "list-unsubscribe-post"} {
					if !slices.ContainsFunc(found[0].HeaderKeys, func(key string) bool { return strings.EqualFold(key, name) }) {
						t.Errorf("%s is not signed: %v", name, found[0].HeaderKeys)
					}
				}
				return found[0].Err
			}
			if err := verify(raw); err != nil {
				t.Errorf("the signature is not believed: %v", err)
			}
			for what, change := range map[string][2]string{
				"the body":             {"It takes about a", "It takes about b"},
				"List-Unsubscribe":     {"<mailto:bounce+u", "<mailto:bounce+v"},
				"a second From before": {"From: ", "From: <thief@evil.example>\r\nFrom: "},
			} {
				changed := bytes.Replace(raw, []byte(change[0]), []byte(change[1]), 1)
				if bytes.Equal(raw, changed) {
					t.Fatalf("%s: %q is not in the mail", what, change[0])
				}
				if verify(changed) == nil {
					t.Errorf("the signature holds although %s was changed", what)
				}
			}
		})
	}
}

// TestSignatureOfAnyMail: whatever white space and lines a mail has, the verifier sees in it what was signed.
func TestSignatureOfAnyMail(t *testing.T) {
	t.Parallel()
	pemKey, record := dkimKey(t, "ed25519")
	key, err := notify.ParseDKIMKey(pemKey)
	if err != nil {
		t.Fatal(err)
	}
	signer := notify.DKIM{Domain: "agency.example", Selector: "s1", Key: key}
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.StringMatching(`[a:. \t]{0,12}`)
		raw := "From: <a@agency.example>\r\nSubject:" + words.Draw(rt, "subject") + "\r\n x" + words.Draw(rt, "fold") +
			"\r\nTo: <b@acme.example>\r\nSubject: " + words.Draw(rt, "another") + "\r\n\r\n"
		raw += strings.Join(append(rapid.SliceOfN(words, 0, 6).Draw(rt, "body"), ""), "\r\n")
		raw += rapid.SampledFrom([]string{"", "end", " "}).Draw(rt, "end")
		signed, err := signer.Sign([]byte(raw), theTime())
		if err != nil {
			rt.Fatal(err)
		}
		found, err := dkim.VerifyWithOptions(bytes.NewReader(signed), &dkim.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
		})
		if err != nil || len(found) != 1 || found[0].Err != nil {
			rt.Fatalf("%q: %v, %+v", signed, err, found)
		}
	})
}

func TestParseDKIMKeyRefuses(t *testing.T) {
	t.Parallel()
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // the least that receivers believe
	if err != nil {
		t.Fatal(err)
	}
	if _, err := notify.ParseDKIMKey(string(pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(short),
	}))); err != nil {
		t.Errorf("a key of 1024 bits: %v", err)
	}
	for _, text := range []string{"", "hunter2", "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"} {
		if _, err := notify.ParseDKIMKey(text); err == nil || !strings.Contains(err.Error(), "openssl genrsa") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseDKIMKey(%q) = %v", text, err)
		}
	}
}

// TestAnotherParser has a mail parser of another make read our mails: every part, in its character set.
func TestAnotherParser(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	raw := f.mailed(t, provisioning.Letter{ToName: "Ольга Иванова", ToAddress: "maria@acme.example", ClientName: "東京 “Bakery” 🥐"})
	m, err := message.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if subject, err := m.Header.Text("Subject"); err != nil || !strings.Contains(subject, "東京 “Bakery” 🥐") {
		t.Errorf("Subject %q, %v", subject, err)
	}
	var kinds []string
	err = m.Walk(func(_ []int, part *message.Entity, err error) error {
		if err != nil {
			return err
		}
		kind, params, err := part.Header.ContentType()
		if err != nil || strings.HasPrefix(kind, "multipart/") {
			return err
		}
		kinds = append(kinds, kind)
		content, err := io.ReadAll(part.Body)
		if err != nil {
			return err
		}
		if !strings.EqualFold(params["charset"], "utf-8") || !bytes.Contains(content, []byte("Ольга Иванова")) || !bytes.Contains(content, []byte(theLink)) {
			t.Errorf("%s, %v:\n%s", kind, params, content)
		}
		return nil
	})
	if err != nil || !slices.Equal(kinds, []string{"text/plain", "text/html"}) {
		t.Errorf("parts %v, %v", kinds, err)
	}
}
