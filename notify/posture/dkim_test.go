package posture_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify/posture"
	"github.com/countersign/countersign/notify/posture/zonetest"
)

// publicKey reads a key from testdata.
func publicKey(tb testing.TB, name string) crypto.PublicKey {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".pem"))
	if err != nil {
		tb.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// signature returns how an agency signs for a domain with a key from testdata, and the record of that.
func signature(tb testing.TB, domain, key string) (*posture.Signature, posture.Record) {
	tb.Helper()
	s := &posture.Signature{Domain: domain, Selector: "s1", Key: publicKey(tb, key)}
	record, err := s.Record()
	if err != nil {
		tb.Fatal(err)
	}
	return s, record
}

// sign is signature with a good key.
func sign(tb testing.TB, domain string) (*posture.Signature, posture.Record) {
	tb.Helper()
	return signature(tb, domain, "rsa2048")
}

func TestDKIM(t *testing.T) {
	t.Parallel()
	const name = "s1._domainkey.agency.com"
	_, good := sign(t, "agency.com")
	_, long := signature(t, "agency.com", "rsa4096")
	_, short := signature(t, "agency.com", "rsa1024")
	_, tiny := signature(t, "agency.com", "rsa768")
	_, six := signature(t, "agency.com", "ed25519")
	der := x509.MarshalPKCS1PublicKey(publicKey(t, "rsa2048").(*rsa.PublicKey))
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := x509.MarshalPKIXPublicKey(elliptic.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key       string // rsa2048 by default
		published []string
		want      want
	}{
		"good":               {published: []string{good.Text}, want: want{posture.OK, name + " has our key (RSA, 2048 bits)", "", ""}},
		"over TCP":           {key: "rsa4096", published: []string{long.Text}, want: want{posture.OK, "has our key (RSA, 4096 bits)", "", ""}},
		"the other RSA form": {published: []string{"p=" + base64.StdEncoding.EncodeToString(der)}, want: want{posture.OK, "has our key", "", ""}},
		"spaces and notes":   {published: []string{" v = DKIM1 ; n=a note; h=sha1:sha256; s=email; t=s;\tp=" + strings.ReplaceAll(good.Text[len("v=DKIM1; k=rsa; p="):], "A", " A ") + "; "}, want: want{posture.OK, "has our key", "", ""}},
		"none":               {published: []string{}, want: want{posture.Fail, name + ": there is no such record: receivers cannot check", "publish this record", good.String()}},
		"several":            {published: []string{good.Text, good.Text}, want: want{posture.Fail, "there are 2 records where one is allowed", "leave this record alone", good.String()}},
		"another":            {published: []string{long.Text}, want: want{posture.Fail, "the key there is not the public part of COUNTERSIGN_DKIM_KEY", "publish this record instead", good.String()}},
		"another kind":       {published: []string{six.Text}, want: want{posture.Fail, "the key there is not the public part", "publish this record instead", good.String()}},
		"revoked":            {published: []string{"v=DKIM1; k=rsa; p="}, want: want{posture.Fail, "its key is revoked", "publish this record instead", good.String()}},
		"no key":             {published: []string{"v=DKIM1; k=rsa"}, want: want{posture.Fail, "it has no key (p=)", "publish this record instead", good.String()}},
		"not a record":       {published: []string{"hello"}, want: want{posture.Fail, "is not of the form tag=value", "publish this record instead", good.String()}},
		"another version":    {published: []string{strings.Replace(good.Text, "DKIM1", "DKIM2", 1)}, want: want{posture.Fail, "it does not begin with v=DKIM1", "publish this record instead", good.String()}},
		"cut":                {published: []string{good.Text[:255]}, want: want{posture.Fail, "its key (p=) is cut or damaged", "publish this record instead", good.String()}},
		"cut elsewhere":      {published: []string{good.Text[:254]}, want: want{posture.Fail, "its key (p=) is cut or damaged", "publish this record instead", good.String()}},
		"no RSA key":         {published: []string{"k=rsa; p=" + base64.StdEncoding.EncodeToString(curve)}, want: want{posture.Fail, "it is not an RSA key", "publish this record instead", good.String()}},
		"unknown kind":       {published: []string{"k=dilithium; p=AAAA"}, want: want{posture.Fail, "k=dilithium", "publish this record instead", good.String()}},
		"no SHA-256":         {published: []string{strings.Replace(good.Text, "k=rsa", "k=rsa; h=sha1", 1)}, want: want{posture.Fail, "its h= does not allow sha256", "publish this record instead", good.String()}},
		"not for mail":       {published: []string{strings.Replace(good.Text, "k=rsa", "k=rsa; s=tlsrpt", 1)}, want: want{posture.Fail, "its s= does not allow mail", "publish this record instead", good.String()}},
		"test":               {published: []string{strings.Replace(good.Text, "k=rsa", "k=rsa; t=s:y", 1)}, want: want{posture.Warn, "t=y says that we only try", "take t=y out", good.String()}},
		"short":              {key: "rsa1024", published: []string{short.Text}, want: want{posture.Warn, "(RSA, 1024 bits), which is short", "make a key of 2048 bits", ""}},
		"tiny":               {key: "rsa768", published: []string{tiny.Text}, want: want{posture.Fail, "(RSA, 768 bits), which is so short that receivers ignore it", "make a key of 2048 bits", ""}},
		"Ed25519":            {key: "ed25519", published: []string{six.Text}, want: want{posture.Warn, "has our key (Ed25519), of a kind that many receivers cannot check", "sign with an RSA key", ""}},
		"silent":             {published: nil, want: want{posture.Skip, "the question for " + name, "COUNTERSIGN_DNS", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.key == "" {
				c.key = "rsa2048"
			}
			s, _ := signature(t, "agency.com", c.key)
			got := examine(t, posture.Mail{From: "agency.com", Signature: s}, agency(), zonetest.Zone{"TXT s1._domainkey.agency.com": c.published})
			c.want.check(t, got[posture.DKIM])
		})
	}
	t.Run("unsigned", func(t *testing.T) {
		t.Parallel()
		w := want{posture.Skip, "we do not sign, so that the mail host has to", "that it signs for agency.com, or set COUNTERSIGN_DKIM_KEY", ""}
		w.check(t, examine(t, posture.Mail{From: "agency.com"}, agency())[posture.DKIM])
	})
	t.Run("unusable key", func(t *testing.T) {
		t.Parallel()
		s := &posture.Signature{Domain: "agency.com", Selector: "s1", Key: elliptic.Public()}
		w := want{posture.Fail, "*ecdsa.PublicKey is neither an RSA nor an Ed25519 key", "an RSA key of 2048 bits", ""}
		w.check(t, examine(t, posture.Mail{From: "agency.com", Signature: s}, agency())[posture.DKIM])
	})
}

// A record that is copied into a zone file gives readers its text again, in strings that fit.
func TestRecordString(t *testing.T) {
	t.Parallel()
	quoted := regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	rapid.Check(t, func(t *rapid.T) {
		r := posture.Record{Name: "name.example", Text: rapid.StringMatching(`[ -~]{0,600}`).Draw(t, "text")}
		line := r.String()
		rest, ok := strings.CutPrefix(line, "name.example. TXT ")
		if !ok {
			t.Fatalf("the line is %q", line)
		}
		var text strings.Builder
		for _, part := range quoted.FindAllStringSubmatch(rest, -1) {
			plain := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(part[1])
			if len(plain) > 255 {
				t.Errorf("a string has %d bytes", len(plain))
			}
			text.WriteString(plain)
		}
		if text.String() != r.Text || quoted.ReplaceAllString(rest, "") != strings.Repeat(" ", strings.Count(quoted.ReplaceAllString(rest, ""), " ")) {
			t.Errorf("%q became %q", r.Text, line)
		}
	})
}

// Whatever is published, there is a verdict and it says something; only our key is one that is in order.
func FuzzRecords(f *testing.F) {
	s, record := sign(f, "agency.com")
	for _, seed := range []string{record.Text, "v=spf1 include:agency.com a:%{i}.%{d2r}/24//64 mx ptr exists:%{l}.x ip4:1.2.3.4 redirect=x -all", "v=DMARC1; p=reject; sp=none; adkim=s", ";;=", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		zone := fixed{agency()}
		for name := range zone.Zone {
			if strings.HasPrefix(name, "TXT ") {
				zone.Zone[name] = []string{text}
			}
		}
		zone.Zone["TXT "+record.Name] = []string{text}
		for _, found := range (posture.Mail{From: "agency.com", Server: "mx.agency.com", Signature: s}).Examine(t.Context(), zone) {
			if !slices.Contains([]posture.Verdict{posture.OK, posture.Warn, posture.Fail}, found.Verdict) || found.Words == "" || (found.Verdict != posture.OK) != (found.Cure != "") {
				t.Errorf("%q: %+v", text, found)
			}
			ours := strings.Contains(strings.Join(strings.Fields(text), ""), record.Text[strings.LastIndex(record.Text, "p=")+2:])
			if found.Subject == posture.DKIM && found.Verdict == posture.OK && !ours {
				t.Errorf("%q has our key", text)
			}
		}
	})
}
