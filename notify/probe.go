package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	netmail "net/mail"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

// Inbox hands out what arrives in the agency's mailbox from the moment on that it was opened. Package notify/inbox
// implements it.
type Inbox interface {
	// Next returns the next message as it was received, or the beginning of it, and waits where there is none.
	Next(ctx context.Context) ([]byte, error)
}

// Probe finds out whether the mail for usernames reaches the agency's mailbox, and whether it can be told there whom it is
// for: what the provider sends to a new Account Manager goes to his username.
//
// It sends two mails: one to a username such as the namer gives, which nobody else has, and one to the bare mailbox, to tell
// a host that drops tags from a mailbox that gets no mail at all. Both are signed with a key that lives as long as Run, so
// that nothing but these two counts.
type Probe struct {
	Sender  Sender
	Inbox   Inbox
	From    string
	Mailbox provisioning.Mailbox
	Namer   *provisioning.Namer
	Wait    time.Duration // for the mails to arrive, once they are sent
}

// Outcome is what became of a probe.
type Outcome string

const (
	OutcomeArrived Outcome = "arrived" // in the mailbox, for the username
	// OutcomeStripped: it arrived, but the mail host has written down the bare mailbox as the recipient.
	OutcomeStripped Outcome = "stripped"
	OutcomeLost     Outcome = "lost"    // the mailbox got the other mail alone
	OutcomeRefused  Outcome = "refused" // a mail server knows no such address
	OutcomeNothing  Outcome = "nothing" // neither mail arrived
	OutcomeNoSuch   Outcome = "no such" // a mail server knows no such mailbox at all
)

// Proof is what a Probe has found out.
type Proof struct {
	Outcome Outcome
	// Username is the address that was tried.
	Username provisioning.Username
	// Header is the header field that names the username in what arrived, empty if none does.
	Header string
	// Recipient is whom the mail host has written down as the recipient instead, with the name of the header field.
	Recipient string
	// Refusal is what the mail server said.
	Refusal string
}

// probeHeader has the signature.
const probeHeader = "X-Countersign-Probe"

// letter is one of the two mails of a probe.
type letter struct {
	to        string
	id        string // Message-ID without brackets
	signature string
}

// Run sends the mails and waits for them. An error says that it could not find out.
func (p *Probe) Run(ctx context.Context) (Proof, error) {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	proof := Proof{Username: p.username()}
	control, probe := p.letter(key, p.Mailbox.String()), p.letter(key, string(proof.Username))
	for _, m := range []struct {
		letter
		refused Outcome
	}{{control, OutcomeNoSuch}, {probe, OutcomeRefused}} {
		err := p.send(ctx, m.letter)
		if failed, ok := errors.AsType[*smtp.Error](err); ok && failed.Kind == smtp.Permanent {
			proof.Outcome, proof.Refusal = m.refused, failed.Error()
			return proof, nil
		}
		if err != nil {
			return Proof{}, err
		}
	}

	waiting, cancel := context.WithTimeout(ctx, p.Wait)
	defer cancel()
	proof.Outcome = OutcomeNothing
	for {
		raw, err := p.Inbox.Next(waiting)
		switch {
		case err != nil && waiting.Err() != nil && ctx.Err() == nil:
			return proof, nil
		case err != nil:
			return Proof{}, err
		}
		message, err := netmail.ReadMessage(bytes.NewReader(raw))
		switch {
		case err != nil: // Whatever that is, it is none of ours.
		case probe.is(message.Header):
			proof.read(message.Header)
			return proof, nil
		case control.is(message.Header):
			proof.Outcome = OutcomeLost
		case probe.isReturned(message.Header, raw):
			proof.Outcome, proof.Refusal = OutcomeRefused, diagnosis(raw)
			return proof, nil
		}
	}
}

// username is one that the namer could give and that no client has, as far as the pattern leaves room for it.
func (p *Probe) username() provisioning.Username {
	tag := strings.ToLower(rand.Text()[:8])
	username := p.Namer.Parts(tag+" probe", tag+" probe").Wanted
	user, detail, domain := username.Split()
	if detail != "" && !strings.Contains(detail, tag) { // Numbers are not told apart from those of clients.
		username = provisioning.Username(user + "+" + tag + "@" + domain)
	}
	return username
}

func (p *Probe) letter(key []byte, to string) letter {
	_, domain, _ := strings.Cut(p.From, "@")
	l := letter{to: to, id: uuid.NewString() + "@" + domain}
	signature := hmac.New(sha256.New, key)
	fmt.Fprintf(signature, "%s\n%s", l.to, l.id)
	l.signature = hex.EncodeToString(signature.Sum(nil)[:16])
	return l
}

func (p *Probe) send(ctx context.Context, l letter) error {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithEncoding(mail.EncodingQP))
	if err := m.From(p.From); err != nil {
		return fmt.Errorf("sender %q: %w", p.From, err)
	}
	if err := m.To(l.to); err != nil {
		return fmt.Errorf("recipient %q: %w", l.to, err)
	}
	m.Subject("Countersign checks that mail arrives")
	m.SetDate()
	m.SetMessageIDWithValue(l.id)
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetGenHeader(probeHeader, l.signature)
	m.SetBodyString(mail.TypeTextPlain, "This mail was sent to "+l.to+" by countersign doctor --plus, to see whether it arrives.\r\n"+
		"There is nothing to be done about it. It may be deleted.\r\n")
	envelope, err := smtp.Seal(m)
	if err != nil {
		return err
	}
	return p.Sender.Send(ctx, envelope)
}

// is reports whether a message with this header is the letter.
func (l letter) is(header netmail.Header) bool {
	return strings.Trim(header.Get("Message-Id"), "<> ") == l.id &&
		hmac.Equal([]byte(header.Get(probeHeader)), []byte(l.signature))
}

// isReturned reports whether a message is a delivery report that has the letter in it: who can show the signature has had
// the letter in his hands.
func (l letter) isReturned(header netmail.Header, raw []byte) bool {
	return strings.HasPrefix(strings.ToLower(header.Get("Content-Type")), "multipart/report") && bytes.Contains(raw, []byte(l.signature))
}

// diagnosticCode is the field of a delivery report (RFC 3464, 2.3.6) that repeats the server's answer.
var diagnosticCode = regexp.MustCompile(`(?mi)^Diagnostic-Code:[^;\r\n]*;((?:.*\r?\n[ \t])*.*)`)

func diagnosis(report []byte) string {
	found := diagnosticCode.FindSubmatch(report)
	if found == nil {
		return "it came back undelivered"
	}
	_, text := smtp.SplitReply(string(found[1]))
	return "it came back: " + text
}

// read finds the username in the header of the probe as it arrived.
func (p *Proof) read(header netmail.Header) {
	p.Outcome = OutcomeArrived
	for _, name := range []string{"Delivered-To", "X-Original-To", "Envelope-To"} {
		recipients := addresses(header[name])
		if slices.Contains(recipients, string(p.Username)) {
			p.Header = name
			return
		}
		if len(recipients) > 0 && p.Recipient == "" {
			p.Recipient = name + ": " + recipients[0]
		}
	}
	// What stands in To is what the sender wrote, unless it was rewritten on the way.
	recipients := addresses(header["To"])
	if slices.Contains(recipients, string(p.Username)) {
		p.Header = "To"
	} else if len(recipients) > 0 && p.Recipient == "" {
		p.Recipient = "To: " + recipients[0]
	}
	if p.Recipient != "" || p.Header == "" {
		p.Outcome = OutcomeStripped
	}
}

// addresses returns the mail addresses in header fields, in lower case as usernames are.
func addresses(fields []string) (list []string) {
	for _, field := range fields {
		parsed, err := netmail.ParseAddressList(field)
		if err != nil {
			list = append(list, strings.ToLower(strings.Trim(field, "<> ")))
			continue
		}
		for _, a := range parsed {
			list = append(list, strings.ToLower(a.Address))
		}
	}
	return list
}
