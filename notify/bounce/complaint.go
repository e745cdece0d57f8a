package bounce

import "strings"

// readComplaint reads a complaint (RFC 5965). It is false where there is none.
func (r *Report) readComplaint(m message, returned header) bool {
	p := m.part(typeFeedback)
	if p == nil {
		return false
	}
	fields := parseHeader(p.decoded())
	r.Recipient = mailbox(fields.raw("original-rcpt-to"))
	if r.Recipient == "" {
		// Providers that strike the address out of the report leave it in the mail, or put it into a field of theirs.
		if to := appendAddresses(nil, returned["x-hmxmroriginalrecipient"]...); len(to) > 0 {
			r.Recipient = to[0]
		} else if to := appendAddresses(nil, returned["to"]...); len(to) > 0 {
			r.Recipient = to[0]
		}
	}
	r.Senders = appendAddresses(nil, fields["original-mail-from"]...)
	r.Senders = appendAddresses(r.Senders, returned["return-path"]...)
	r.Senders = appendAddresses(r.Senders, returned["list-unsubscribe"]...)
	r.ReportingMTA = host(fields.line("reporting-mta"))
	feedback := strings.ToLower(fields.line("feedback-type"))
	r.Diagnostic = feedback
	switch feedback {
	case "abuse", "fraud", "opt-out", "opt-out-list", "miscategorized":
		r.Kind, r.Words = Complaint, "The owner of the mailbox marked the mail as spam."
	case "not-spam":
		r.Kind, r.Words = Delivered, "The owner of the mailbox says that the mail is not spam."
	case "":
		r.Kind, r.Words = Unparsed, "This is a complaint that does not say what about, or breaks off before."
	default:
		r.Kind, r.Words = Unparsed, "This is a report of the kind "+feedback+", which asks for nothing but to be read."
	}
	return true
}
