package bounce

import (
	"regexp"
	"strings"
)

var (
	// noticeMark is how programs begin that tell of a failure in prose: qmail and Yahoo's of old, Exim, sendmail, Exchange,
	// Domino and others.
	noticeMark = regexp.MustCompile(`(?i)this is the qmail-send program|created automatically by mail delivery software|addresses had (?:permanent fatal|transient non-fatal|delivery) errors|` +
		`unable to deliver (?:your |this )?message|could ?n(?:o|')t be delivered|could not deliver|delivery (?:has |to the following recipients? )?failed|did not reach|undeliverable|undelivered|` +
		`delivery status notification|mail delivery (?:failed|failure)|delivery failure|returned mail|failure notice|warning: (?:could not send message|message \S+ delayed)`)
	// delayMark tells that the mail is still on its way.
	delayMark = regexp.MustCompile(`(?i)transient non-fatal errors|warning: (?:could not send message|message \S+ delayed)|will (?:continue to try|be retried|keep trying)|` +
		`do not need to resend|no action is required|has not (?:yet )?been (?:collected|delivered) (?:yet|after)|delay(?:ed)? \d+ hours`)
	// copyMark is where the returned mail begins.
	copyMark = regexp.MustCompile(`(?im)^\s*-{2,} ?(?:below this line is a copy|(?:this is a copy of|the header of) (?:the |your )?(?:original )?message|(?:unsent|original|returned) message|message (?:header|text) follows).*$`)
	// recipientLine begins what is said of a recipient.
	recipientLine = regexp.MustCompile(`^\s*<?([^\s<>,;:"()@]+@[^\s<>,;:"()@]+)>?(?::\s*(.*)|\s*)$`)
	// returnedID is the Message-ID in a copy.
	returnedID = regexp.MustCompile(`(?im)^message-id:\s*(<[^<>\s]+>)`)
	// mailer is the sender of notices.
	mailer = regexp.MustCompile(`(?i)(?:^|<)\s*(?:mailer-?daemon|mail-?daemon|postmaster|mdaemon)\b`)
)

// isMailer reports whether a mail comes from a mail server rather than from a mailbox.
func (m message) isMailer() bool {
	return strings.TrimSpace(m.header.raw("return-path")) == "<>" || mailer.MatchString(m.header.raw("from")) || m.header.has("x-failed-recipients")
}

// readNotice reads a failure that is told in prose. It is false where there is none. The prose beside a report that broke off
// does not count: it may have broken off as well, before what matters.
func (r *Report) readNotice(m message, text string) bool {
	const head = 4 << 10
	opening := r.Subject + "\n" + text[:min(len(text), head)]
	if m.isReport() || !m.isMailer() || !noticeMark.MatchString(opening) {
		return false
	}
	action := "failed"
	if delayMark.MatchString(opening) {
		action = "delayed"
	}
	returned := ""
	if at := copyMark.FindStringIndex(text); at != nil {
		text, returned = text[:at[0]], text[at[1]:]
	}
	if id := returnedID.FindStringSubmatch(returned); r.MessageID == "" && id != nil {
		r.MessageID = identifier(id[1])
	}
	fates := told(text)
	if len(fates) == 0 {
		for _, address := range appendAddresses(nil, m.header["x-failed-recipients"]...) {
			fates = append(fates, Fate{Recipient: address})
		}
	}
	answer := answerIn(text)
	if len(fates) == 0 && answer != "" {
		fates = []Fate{{}}
	}
	if len(fates) == 0 {
		return false
	}
	for i := range fates {
		if answer != "" && len(statusCodes(fates[i].Diagnostic)) == 0 && !strings.Contains(fates[i].Diagnostic, answer) {
			fates[i].Diagnostic = oneLine(fates[i].Diagnostic + " " + answer)
		}
		fates[i].judge(action, "")
	}
	r.decide(fates)
	return true
}

// told returns what a notice says of each recipient: a line with his address, and the lines below up to an empty one.
func told(text string) (fates []Fate) {
	open := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		found := recipientLine.FindStringSubmatch(line)
		switch {
		case found != nil && len(fates) < maxAddresses:
			fates, open = append(fates, Fate{Recipient: oneLine(found[1]), Diagnostic: oneLine(found[2])}), true
		case strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "---"):
			open = false
		case open:
			f := &fates[len(fates)-1]
			f.Diagnostic = oneLine(f.Diagnostic + " " + strings.TrimSpace(line))
		}
	}
	return fates
}

// answerIn returns the first line of a text that has a mail server's answer.
func answerIn(text string) string {
	for line := range strings.Lines(text) {
		if replyCode.MatchString(line) && !strings.HasPrefix(line, "---") {
			return oneLine(strings.TrimLeft(line, "< \t"))
		}
	}
	return ""
}
