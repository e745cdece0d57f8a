package notify

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// minDKIMBits is what receivers accept (RFC 8301, 3.2); they advise 2048.
const minDKIMBits = 1024

// ParseDKIMKey reads the private key that mails are signed with: RSA or Ed25519, PEM, PKCS#1 or PKCS#8. No
// error repeats any of it.
func ParseDKIMKey(pem string) (crypto.Signer, error) {
	key, err := mail.PrivKeyFromPEM([]byte(pem))
	if err != nil {
		return nil, errors.New("not a private key in PEM, RSA or Ed25519; make one with: openssl genrsa -out dkim.pem 2048")
	}
	if rsaKey, ok := key.(*rsa.PrivateKey); ok && rsaKey.N.BitLen() < minDKIMBits {
		return nil, fmt.Errorf("a key of %d bits is not believed by receivers: make one with: openssl genrsa -out dkim.pem 2048", rsaKey.N.BitLen())
	}
	return key, nil
}

// DKIM signs mails (RFC 6376, relaxed/relaxed, over the whole body). The record of the key's public half is
// SELECTOR._domainkey.DOMAIN.
//
// The signers of libraries do not serve: go-mail's folds a list of header fields as long as ours where it was not
// folded when it was signed, and go-msgauth's has the time of signing in it, so that no two attempts would send
// the same bytes.
type DKIM struct {
	Domain   string
	Selector string
	Key      crypto.Signer // *rsa.PrivateKey or ed25519.PrivateKey
}

// signedFields are all that a receiver acts on; List-Unsubscribe must be among them (RFC 8058, section 4).
// Who puts another From or Subject before ours breaks the signature, as they are named once more than they are there.
func signedFields() []string {
	return []string{
		"From", "From", "Reply-To", "To", "Subject", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type",
		"Auto-Submitted", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID",
	}
}

// Sign returns the mail with a signature before it, dated so that equal mails give equal bytes.
func (d *DKIM) Sign(raw []byte, at time.Time) ([]byte, error) {
	header, body, found := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !found {
		return nil, errors.New("sign the mail: its header has no end")
	}
	algorithm := "rsa-sha256"
	if _, ok := d.Key.(ed25519.PrivateKey); ok {
		algorithm = "ed25519-sha256"
	}
	fields := readFields(header)
	bodyHash := sha256.Sum256(relaxBody(body))
	value := fmt.Sprintf("v=1; a=%s; c=relaxed/relaxed; d=%s; s=%s;\r\n\tt=%d; h=%s;\r\n\tbh=%s;\r\n\tb=",
		algorithm, d.Domain, d.Selector, at.Unix(), foldList(signedFields()), base64.StdEncoding.EncodeToString(bodyHash[:]))

	var signed bytes.Buffer
	for _, name := range signedFields() {
		key := strings.ToLower(name)
		if values := fields[key]; len(values) > 0 { // The last one first (section 5.4.2).
			last := len(values) - 1
			signed.WriteString(key + ":" + values[last] + "\r\n")
			fields[key] = values[:last]
		}
	}
	signed.WriteString("dkim-signature:" + relax(value))
	digest := sha256.Sum256(signed.Bytes())
	options := crypto.SHA256
	if algorithm == "ed25519-sha256" {
		options = 0 // What is signed is the digest itself (RFC 8463, section 3).
	}
	signature, err := d.Key.Sign(rand.Reader, digest[:], options)
	if err != nil {
		return nil, fmt.Errorf("sign the mail: %w", err)
	}

	var b bytes.Buffer
	b.Grow(len(raw) + 1024)
	b.WriteString("DKIM-Signature: " + value)
	const width = 72
	for chunk := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(signature)), width) {
		b.WriteString("\r\n\t")
		b.Write(chunk)
	}
	b.WriteString("\r\n")
	b.Write(raw)
	return b.Bytes(), nil
}

// foldList writes names with colons between them, on lines that are not too long.
func foldList(names []string) string {
	var b strings.Builder
	column := len("\tt=1234567890; h=")
	for i, name := range names {
		if i > 0 {
			b.WriteByte(':')
		}
		if column+len(name) > 74 {
			b.WriteString("\r\n\t")
			column = 1
		}
		b.WriteString(name)
		column += len(name) + 1
	}
	return b.String()
}

// readFields returns the relaxed values of a header's fields, by name in lower case.
func readFields(header []byte) map[string][]string {
	fields := make(map[string][]string)
	var field strings.Builder
	keep := func() {
		if name, value, ok := strings.Cut(field.String(), ":"); ok {
			name = strings.ToLower(strings.TrimSpace(name))
			fields[name] = append(fields[name], relax(value))
		}
		field.Reset()
	}
	for line := range strings.SplitSeq(string(header), "\r\n") {
		if line == "" || line[0] != ' ' && line[0] != '\t' {
			keep()
		}
		field.WriteString(line)
	}
	keep()
	return fields
}

// relax makes one blank of every run of white space and folds, and drops those at the ends (section 3.4.2).
func relax(value string) string {
	return strings.Join(strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), " ")
}

// relaxBody does the same in every line, but keeps the breaks and a blank at a line's beginning, and drops empty
// lines at the end (section 3.4.4).
func relaxBody(body []byte) []byte {
	relaxed := make([]byte, 0, len(body)+2)
	end := 0 // of the last line that is not empty
	for line := range bytes.SplitSeq(bytes.TrimSuffix(body, []byte("\r\n")), []byte("\r\n")) {
		blank := false
		start := len(relaxed)
		for _, c := range line {
			if c == ' ' || c == '\t' {
				blank = true
				continue
			}
			if blank {
				relaxed = append(relaxed, ' ')
				blank = false
			}
			relaxed = append(relaxed, c)
		}
		written := len(relaxed) > start
		relaxed = append(relaxed, '\r', '\n')
		if written {
			end = len(relaxed)
		}
	}
	return relaxed[:end]
}
