package smtp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"unicode"
)

// Kind says what a failed Send means for the message and its recipient.
type Kind string

const (
	// Temporary: nothing was accepted, the same message may be sent again later.
	Temporary Kind = "temporary"
	// Permanent: the server refused this recipient for good. The address is a bounce.
	Permanent Kind = "permanent"
	// Policy: the server refused this message of ours, not its recipient (reputation, content, size, protocol). The address
	// must not be burned; sending the message again unchanged does not help.
	Policy Kind = "policy"
	// Unknown: the message went out in full and neither a verdict nor an earlier refusal came back. It may have been
	// accepted: sending it again can put it into the mailbox twice.
	Unknown Kind = "unknown"
)

// Step is the point of the SMTP dialogue at which a Send ended: the one whose answer was a refusal or did not come.
type Step string

const (
	stepQueue    Step = "waiting for a connection"
	stepConnect  Step = "connect"
	stepGreeting Step = "greeting"
	stepHello    Step = "EHLO"
	stepTLS      Step = "TLS"
	stepAuth     Step = "AUTH"
	stepMail     Step = "MAIL FROM"
	stepRcpt     Step = "RCPT TO"
	stepData     Step = "DATA"
	stepVerdict  Step = "end of message"
)

// Error is every error of Transport.Send.
type Error struct {
	Kind Kind
	// Config is true when no message at all can go out until an operator changes something: host, certificate, credentials,
	// sender address. Kind is Temporary then, so that messages wait for the cure.
	Config bool
	Step   Step
	// Server is host:port.
	Server string
	// Code, Enhanced and Text are the server's reply (550, "5.1.1", "No such user"), zero when there was none. Text is one
	// line of printable UTF-8 and may name the recipient.
	Code     int
	Enhanced string
	Text     string
	// Err is the cause; the context's error when the context ended the Send.
	Err error
}

func (e *Error) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("mail server %s: %s: %v", e.Server, e.Step, e.Err)
	}
	reply := strings.TrimSpace(e.Enhanced + " " + e.Text)
	return fmt.Sprintf("mail server %s: %s answered %d %s", e.Server, e.Step, e.Code, reply)
}

func (e *Error) Unwrap() error { return e.Err }

// ShutOut tells that the server was not reached, or lets no message of ours in: not this message, its recipient or its
// moment is to blame. To try others at once would be in vain.
func (e *Error) ShutOut() bool {
	switch e.Step {
	case stepConnect, stepGreeting, stepHello, stepTLS, stepAuth:
		return e.Kind == Temporary
	case stepQueue, stepMail, stepRcpt, stepData, stepVerdict:
	}
	return e.Config
}

// stale tells a kept connection that had certainly died before it could take the message.
func (e *Error) stale() bool {
	return e.Step == stepMail && e.Kind != Unknown && (e.Code == 0 || e.Code == closing)
}

// failure makes an Error of what the SMTP client said at a step.
func failure(step Step, err error) *Error {
	e := &Error{Kind: Temporary, Step: step, Err: err}
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		e.Code = reply.Code
		e.Enhanced, e.Text = SplitReply(reply.Msg)
	}
	refused := e.Code/100 == 5
	switch step {
	case stepQueue:
	case stepConnect, stepGreeting, stepHello, stepTLS, stepAuth:
		e.Config = refused || (e.Code == 0 && needsOperator(err))
	case stepMail:
		e.Config = refused // nothing has been said about the recipient yet
	case stepRcpt, stepData, stepVerdict:
		switch {
		case wantsOther(e):
			e.Config = true
		case refused && refusesUs(e):
			e.Kind = Policy
		case refused:
			e.Kind = Permanent
		case step == stepVerdict && e.Code/100 != 4:
			e.Kind = Unknown
		}
	}
	return e
}

// wantsOther tells a server that would refuse everyone, because we did not sign in or came to the wrong port. Servers say so
// as late as RCPT, Postfix with 454 or 554 and Exim with a bare 550: a wrong setting must not turn a whole roster into
// bounces.
func wantsOther(e *Error) bool {
	switch e.Code {
	case 530, 534, 535, 538: // RFC 4954: authentication
		return true
	}
	policy := strings.HasPrefix(e.Enhanced, "5.7.") || strings.HasPrefix(e.Enhanced, "4.7.")
	return (policy || e.Enhanced == "") && strings.Contains(strings.ToLower(e.Text), "relay")
}

// refusesUs tells a refusal of the message or its sender from one of the recipient, by the classes of RFC 3463.
func refusesUs(e *Error) bool {
	class, _, _ := strings.Cut(strings.TrimPrefix(e.Enhanced, "5."), ".")
	switch class {
	case "5", "7": // protocol; security and policy
		return true
	}
	switch e.Enhanced {
	case "5.1.7", "5.1.8", "5.3.4": // sender's address, sender's domain, message too big for the system
		return true
	}
	switch e.Code {
	case 500, 502, 503, 504: // protocol
		return true
	}
	return false
}

// needsOperator tells faults that stay until somebody changes the set-up from those of the network and the hour.
func needsOperator(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	// A TLS alert, ours or the server's, comes dressed as a network error.
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return true
	}
	_, network := errors.AsType[net.Error](err)
	return !network
}

// enhancedCode finds 5.1.1 at the beginning of a reply, and qmail's (#5.1.1) anywhere.
var enhancedCode = regexp.MustCompile(`(?:^|\(#)([245]\.\d{1,3}\.\d{1,3})\b`)

// maxReply bounds the text that is kept of a reply, in bytes.
const maxReply = 500

// SplitReply parts a reply into its enhanced status code and one clean line of text: replies end up in a database and on
// a page, and servers put anything into them.
func SplitReply(reply string) (enhanced, text string) {
	if m := enhancedCode.FindStringSubmatch(reply); m != nil {
		enhanced = m[1]
	}
	var lines []string
	for line := range strings.Lines(reply) {
		lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), enhanced))
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.Join(lines, " "), "?"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxReply {
		text = strings.ToValidUTF8(text[:maxReply], "") + "…"
	}
	return enhanced, text
}
