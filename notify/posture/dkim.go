package posture

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Lengths of RSA keys, in bits: receivers must ignore what shorter ones than shortKey have signed (RFC 8301, 3.2).
const (
	shortKey = 1024
	soundKey = 2048
)

// Signature says how we sign.
type Signature struct {
	Domain   string // d=
	Selector string // s=
	Key      crypto.PublicKey
}

// Record is what has to be published for receivers to check the signature. The key must be of RSA or Ed25519.
func (s *Signature) Record() (Record, error) {
	r := Record{Name: fold(s.Selector + "._domainkey." + s.Domain)}
	switch key := s.Key.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return Record{}, fmt.Errorf("the DKIM key: %w", err)
		}
		r.Text = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	case ed25519.PublicKey:
		r.Text = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(key)
	default:
		return Record{}, fmt.Errorf("the DKIM key: %T is neither an RSA nor an Ed25519 key", key)
	}
	return r, nil
}

func (e *examination) checkDKIM(ctx context.Context) Finding {
	if e.Signature == nil {
		return Finding{
			Verdict: Skip,
			Words:   "we do not sign, so that the mail host has to; with which key, only a mail that it sent can show",
			Cure: "see with countersign doctor --mail ADDRESS that it signs for " + e.From +
				", or set COUNTERSIGN_DKIM_KEY and COUNTERSIGN_DKIM_SELECTOR to sign here",
		}
	}
	record, err := e.Signature.Record()
	if err != nil {
		return Finding{Verdict: Fail, Words: err.Error(), Cure: "set COUNTERSIGN_DKIM_KEY to an RSA key of 2048 bits"}
	}
	texts, err := e.names.LookupTXT(ctx, record.Name)
	if silent(err) {
		return unanswered(err)
	}
	flaw, cure := "", "publish this record instead"
	switch len(texts) {
	case 0:
		flaw, cure = "there is no such record", "publish this record"
	case 1:
		var advice Finding
		if advice, err = e.judgeKey(texts[0], record); err == nil {
			return advice
		}
		flaw = err.Error()
	default:
		flaw, cure = fmt.Sprintf("there are %d records where one is allowed", len(texts)), "leave this record alone there, and remove the others"
	}
	return Finding{Verdict: Fail, Words: record.Name + ": " + flaw + ": receivers cannot check what we sign", Cure: cure, Record: &record}
}

// judgeKey compares the published record with what it should be. Its error says why receivers cannot use it.
func (e *examination) judgeKey(text string, want Record) (Finding, error) {
	published, err := readKey(text)
	if err != nil {
		return Finding{}, err
	}
	if !published.public.Equal(e.Signature.Key) {
		return Finding{}, errors.New("the key there is not the public part of COUNTERSIGN_DKIM_KEY")
	}
	var f Finding
	switch ours := published.public.(type) {
	case *rsa.PublicKey:
		bits := ours.N.BitLen()
		f = Finding{Verdict: OK, Words: fmt.Sprintf("%s has our key (RSA, %d bits)", want.Name, bits)}
		cure := fmt.Sprintf("make a key of %d bits (openssl genrsa %d), and publish its record under another selector first", soundKey, soundKey)
		switch {
		case bits < shortKey:
			return Finding{Verdict: Fail, Words: f.Words + ", which is so short that receivers ignore it", Cure: cure}, nil
		case bits < soundKey:
			f.Verdict, f.Words, f.Cure = Warn, f.Words+", which is short", cure
		}
	default:
		f = Finding{
			Verdict: Warn,
			Words:   want.Name + " has our key (Ed25519), of a kind that many receivers cannot check yet, Gmail among them",
			Cure:    fmt.Sprintf("sign with an RSA key of %d bits (openssl genrsa %d)", soundKey, soundKey),
		}
	}
	if published.testing {
		f.Verdict, f.Words = Warn, f.Words+"; its flag t=y says that we only try: receivers may treat our mail as unsigned"
		f.Cure, f.Record = "take t=y out of the record", &want
	}
	return f, nil
}

// key is a key record.
type key struct {
	public  interface{ Equal(crypto.PublicKey) bool }
	testing bool
}

// readKey reads a record (RFC 6376, 3.6.1). Its error says why receivers cannot use it.
func readKey(text string) (key, error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "v") { // The version may be left out.
		text = "v=DKIM1;" + text
	}
	t, err := parseTags(text, "DKIM1")
	if err != nil {
		return key{}, err
	}
	p, ok := t["p"]
	switch {
	case !ok:
		return key{}, errors.New("it has no key (p=)")
	case p == "":
		return key{}, errors.New("its key is revoked (p= is empty)")
	}
	if hashes := t.list("h"); len(hashes) > 0 && !slices.Contains(hashes, "sha256") {
		return key{}, errors.New("its h= does not allow sha256, which we sign with")
	}
	if services := t.list("s"); len(services) > 0 && !slices.Contains(services, "*") && !slices.Contains(services, "email") {
		return key{}, errors.New("its s= does not allow mail")
	}
	k := key{testing: slices.Contains(t.list("t"), "y")}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(p), ""))
	if err != nil {
		return key{}, fmt.Errorf("its key (p=) is cut or damaged: %w", err)
	}
	switch algorithm := cmp.Or(t["k"], "rsa"); {
	case algorithm == "ed25519" && len(raw) == ed25519.PublicKeySize:
		k.public = ed25519.PublicKey(raw)
	case algorithm == "rsa":
		k.public, err = readRSA(raw)
	default:
		err = errors.New("it is none of the kind k=" + algorithm)
	}
	if err != nil {
		return key{}, fmt.Errorf("its key (p=) is cut or damaged: %w", err)
	}
	return k, nil
}

// readRSA reads either of the two forms in which RSA keys are published (RFC 6376, erratum 3017).
func readRSA(der []byte) (*rsa.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return x509.ParsePKCS1PublicKey(der)
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("it is not an RSA key but %T", public)
	}
	return key, nil
}
