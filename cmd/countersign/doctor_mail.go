package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/inbox"
	"github.com/countersign/countersign/notify/posture"
	"github.com/countersign/countersign/notify/smtp"
)

// lookByHand says how a person reads what a receiving server wrote about a mail.
const lookByHand = "see that it is in the inbox and not with the spam, and look at its source (Gmail: Show original, Outlook: View " +
	"message source): the topmost Authentication-Results must say spf=pass, dkim=pass and dmarc=pass"

// checkDomains examines what DNS tells receivers about our mail: a check for each subject.
func (d *doctor) checkDomains(ctx context.Context) (checks []check) {
	if d.config.SMTPURL == "" {
		return []check{skipped("not examined, as "+prefix+"SMTP_URL is not set", "")}
	}
	server, err := smtp.ParseURL(d.config.SMTPURL.Reveal())
	if err != nil {
		return []check{failureBy(err, "")}
	}
	m := posture.Mail{
		From:     domainOf(d.config.MailFrom),
		ReplyTo:  domainOf(d.config.MailReplyTo),
		Envelope: domainOf(d.config.BounceAddress),
		Server:   server.Host,
	}
	if d.config.dkim != nil {
		m.Signature = &posture.Signature{Domain: d.config.DKIMDomain, Selector: d.config.DKIMSelector, Key: d.config.dkim.Public()}
	}
	for _, f := range m.Examine(ctx, posture.NewResolver(d.config.DNS)) {
		if f.Record != nil {
			f.Cure += ": " + f.Record.String()
		}
		checks = append(checks, check{Name: string(f.Subject), Status: checkStatus(f.Verdict), Found: f.Words, Cure: f.Cure})
	}
	return checks
}

// domainOf is empty for what is no address.
func domainOf(address string) string {
	_, domain, _ := strings.Cut(address, "@")
	return domain
}

// checkRecipient completes the address of the test mail.
func (d *doctor) checkRecipient() error {
	if d.mail == "" {
		return nil
	}
	parsed, err := netmail.ParseAddress(d.mail)
	if err != nil {
		return fmt.Errorf("--mail: %q is not a mail address, such as you@example.com", d.mail)
	}
	d.mail = parsed.Address
	return nil
}

// checkTrial sends the test mail and, where it can, looks at what arrives.
func (d *doctor) checkTrial(ctx context.Context) check {
	if d.mail == "" {
		return skipped("not tried", "countersign doctor --mail ADDRESS sends a mail to an address of yours and says what became of it")
	}
	if d.transport == nil {
		return skipped("needs SMTP in order", "")
	}
	id, envelope, err := d.composeTrial()
	if err != nil {
		return failureBy(err, "correct "+prefix+"MAIL_FROM")
	}
	var mailbox *inbox.Mailbox
	if d.mailbox != nil && d.reads(d.mail) {
		// A connection of its own: that of another check may have come to its end with it.
		if mailbox, err = d.openMailbox(ctx); err != nil {
			return failureBy(err, "")
		}
		defer func() { mailbox.Close(context.WithoutCancel(ctx)) }()
	}
	sent := time.Now()
	if err := d.transport.Send(ctx, envelope); err != nil {
		if failed, ok := errors.AsType[*smtp.Error](err); ok && failed.Kind == smtp.Permanent {
			return failure(oneLine(err), "see that the address of --mail exists")
		}
		return failureBy(err, "")
	}
	if mailbox == nil {
		return passed(fmt.Sprintf("the mail server has taken a mail to %s, from %s in the envelope; %s", envelope.To, envelope.From, lookByHand))
	}
	end := d.waiting("waiting for mail to "+d.mail, d.wait)
	arrived, err := await(ctx, mailbox, id, d.wait)
	end()
	switch {
	case err != nil:
		return failureBy(err, "run it again")
	case arrived == nil:
		return failure(fmt.Sprintf("the mail server has taken a mail to %s, but it did not arrive in %s within %s", d.mail, d.account.Folder, d.wait),
			"look for it in the spam folder and in the mail server's log, or wait longer with --wait")
	}
	took := fmt.Sprintf("mail to %s arrived in %s after %s", d.mail, d.account.Folder, time.Since(sent).Round(100*time.Millisecond))
	return judgeArrival(took, arrived)
}

// composeTrial writes the test mail, as like to those that owners get as may be.
func (d *doctor) composeTrial() (id string, _ smtp.Envelope, err error) {
	id = uuid.NewString() + "@" + domainOf(d.config.MailFrom)
	m := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithEncoding(mail.EncodingQP))
	m.SetAddrHeaderFromMailAddress(mail.HeaderFrom, &netmail.Address{Name: d.config.AgencyName, Address: d.config.MailFrom})
	err = m.To(d.mail)
	if d.config.MailReplyTo != "" {
		err = errors.Join(err, m.ReplyTo(d.config.MailReplyTo))
	}
	if d.config.BounceAddress != "" {
		err = errors.Join(err, m.EnvelopeFrom(d.config.BounceAddress))
	}
	if err != nil {
		return "", smtp.Envelope{}, err
	}
	m.Subject("Test mail of Countersign")
	m.SetDate()
	m.SetMessageIDWithValue(id)
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(mail.TypeTextPlain, "countersign doctor --mail sent this mail to find out how the mail of this installation is received.\n\n"+
		"Please "+lookByHand+". The mail may be deleted.\n")
	envelope, err := smtp.Seal(m)
	if err == nil && d.config.dkim != nil {
		signer := notify.DKIM{Domain: d.config.DKIMDomain, Selector: d.config.DKIMSelector, Key: d.config.dkim}
		envelope.Body, err = signer.Sign(envelope.Body, time.Now())
	}
	return id, envelope, err
}

// reads tells whether COUNTERSIGN_IMAP_URL is the mailbox of an address, with or without a tag.
func (d *doctor) reads(address string) bool {
	bare := func(address string) string {
		local, domain, _ := strings.Cut(strings.ToLower(address), "@")
		local, _, _ = strings.Cut(local, "+")
		return local + "@" + domain
	}
	return slices.ContainsFunc([]string{d.account.Username, d.config.AgencyMailbox, d.config.BounceAddress}, func(known string) bool {
		return bare(known) == bare(address)
	})
}

// await returns the header of the mail with an id, or nil if it does not come in time.
func await(ctx context.Context, mailbox *inbox.Mailbox, id string, wait time.Duration) (netmail.Header, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		raw, err := mailbox.Next(waiting)
		switch {
		case err != nil && waiting.Err() != nil && ctx.Err() == nil:
			return nil, nil
		case err != nil:
			return nil, err
		}
		m, err := netmail.ReadMessage(bytes.NewReader(raw))
		if err == nil && strings.Trim(m.Header.Get("Message-ID"), "<> ") == id {
			return m.Header, nil
		}
	}
}

// judgeArrival puts into words what the receiving server wrote about the mail. It writes above what others wrote before it.
func judgeArrival(found string, h netmail.Header) check {
	written := h["Authentication-Results"]
	if len(written) == 0 {
		return warning(found+"; the server there writes down nothing about SPF, DKIM and DMARC",
			"send one to a mailbox elsewhere, such as Gmail or Outlook, and look at its source there")
	}
	server, results := posture.ParseResults(written[0])
	best := make(map[string]posture.Result)
	for _, r := range results { // A mail may have several signatures, of which one is enough.
		if best[r.Method].Value != "pass" {
			best[r.Method] = r
		}
	}
	var words []string
	passes := 0
	for _, method := range []string{"spf", "dkim", "dmarc"} {
		r := best[method]
		word := strings.ToUpper(method) + " " + cmp.Or(r.Value, "not examined")
		of := cmp.Or(r.Properties["smtp.mailfrom"], r.Properties["header.d"], r.Properties["header.i"], r.Properties["header.from"])
		if of != "" {
			word += " (" + cmp.Or(domainOf(of), of) + ")"
		}
		if words = append(words, word); r.Value == "pass" {
			passes++
		}
	}
	found += fmt.Sprintf("; %s says %s", cmp.Or(server, "the server there"), strings.Join(words, ", "))
	const cure = "see the checks of SPF, DKIM and DMARC"
	authentic := best["spf"].Value == "pass" || best["dkim"].Value == "pass"
	switch dmarc := best["dmarc"].Value; {
	case strings.EqualFold(strings.TrimSpace(h.Get("X-Spam-Flag")), "yes"):
		return warning(found+"; its filter takes the mail for spam", "look at the X-Spam fields in the mail's source for the reasons")
	case dmarc == "fail" || !authentic:
		return failure(found, cure)
	case passes < 3:
		return warning(found, cure)
	}
	return passed(found)
}
