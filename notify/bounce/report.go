package bounce

import (
	"io"
	"strings"
)

// Kind says what came back.
type Kind string

const (
	Hard      Kind = "hard"       // the address takes no mail, and will not
	Soft      Kind = "soft"       // given up for now: mailbox full, server not reached; another mail may get through
	Policy    Kind = "policy"     // refused for our sake (reputation, content, size), which says nothing against the address
	Delayed   Kind = "delayed"    // on its way still
	Delivered Kind = "delivered"  // arrived, or was passed on to where no report comes from
	AutoReply Kind = "auto_reply" // the mailbox answered by itself: out of office, receipt
	Challenge Kind = "challenge"  // somebody has to prove that he is a person before the mail is let through
	Complaint Kind = "complaint"  // marked as spam
	Reply     Kind = "reply"      // a person wrote
	Unparsed  Kind = "unparsed"   // not understood; Words says why
)

// Fate is what became of a mail for one recipient. Its texts are single lines of printable UTF-8 and may be empty.
type Fate struct {
	Kind Kind
	// Recipient is the address that the mail was sent to and Final the one that it was passed on to, as far as the report
	// tells them apart.
	Recipient string
	Final     string
	// Status is a code of RFC 3463 such as 5.1.1, taken from the server's answer where the report has none or a general one.
	Status string
	// Diagnostic is what the mail server said.
	Diagnostic string
	// RemoteMTA is the mail server that said it.
	RemoteMTA string
	// Words is a sentence for an operator.
	Words string
}

// Report is what came back.
type Report struct {
	// Fate is that of the only recipient, or of the one who fared best: a mail that reached one of the mailboxes behind an
	// address did not bounce.
	Fate
	// Fates are those of all recipients, in the report's order; none if it is no delivery report.
	Fates []Fate
	// Addressed are the addresses that the report itself was sent to. What the receiving server has noted comes before what
	// the sender wrote.
	Addressed []string
	// Senders are the addresses of ours that a complaint says the mail was sent from, or answers to.
	Senders []string
	// MessageID is that of the mail that the report is about, without brackets. Anybody could have written it.
	MessageID    string
	ReportingMTA string
	From         string
	Subject      string
	// Text is the beginning of what is to be read in it, in lines of printable UTF-8.
	Text string
}

// For returns the fate of the mail for an address, which is the Report's own where it names no such recipient.
func (r Report) For(address string) Fate {
	for _, f := range r.Fates {
		if strings.EqualFold(f.Recipient, address) {
			return f
		}
	}
	return r.Fate
}

// Parse reads a mail.
func Parse(r io.Reader) Report {
	m := scan(r)
	text := m.text()
	report := Report{
		Addressed: m.header.deliveredTo(),
		From:      m.header.line("from"),
		Subject:   m.header.line("subject"),
		Text:      readable(text, maxText),
	}
	returned := m.returned()
	report.MessageID = identifier(returned.raw("message-id"))
	switch {
	case report.readComplaint(m, returned), report.readDelivery(m), report.readNotice(m, text):
	default:
		report.readAnswer(m, text)
	}
	return report
}

// decide makes the report's own fate out of those of its recipients.
func (r *Report) decide(fates []Fate) {
	r.Fates = fates
	r.Fate = fates[0]
	for _, f := range fates[1:] {
		if harm(f.Kind) < harm(r.Kind) {
			r.Fate = f
		}
	}
}

// harm orders the kinds that a recipient may have.
func harm(k Kind) int {
	switch k {
	case Delivered:
		return 0
	case Delayed:
		return 1
	case Soft:
		return 2
	case Policy:
		return 3
	default:
		return 4
	}
}
