package inbox

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/emersion/go-imap/v2"
)

// Step is the point of the IMAP dialogue at which something failed.
type Step string

const (
	stepConnect Step = "connect"
	stepTLS     Step = "TLS"
	stepSignIn  Step = "sign in"
	stepFolder  Step = "open the folder"
	stepRead    Step = "read"
)

// errSilent is the cause where the server lets us wait for longer than Options.Timeout.
var errSilent = errors.New("the server does not answer")

// Error is every error of a mail server and of the way to it.
type Error struct {
	Step Step
	// Server is host:port.
	Server string
	// Reply is the server's refusal in one line of printable UTF-8, if it refused.
	Reply string
	// Err is the cause; the context's where the context ended it.
	Err error
}

func (e *Error) Error() string {
	if e.Reply != "" {
		return fmt.Sprintf("IMAP server %s: %s: the server answered: %s", e.Server, e.Step, e.Reply)
	}
	return fmt.Sprintf("IMAP server %s: %s: %s", e.Server, e.Step, oneLine(e.Err.Error()))
}

func (e *Error) Unwrap() error { return e.Err }

// Cure says what an operator can do about it.
func (e *Error) Cure() string {
	switch e.Step {
	case stepConnect:
		return "check host and port in COUNTERSIGN_IMAP_URL, and that a firewall lets this machine connect to them"
	case stepTLS:
		if _, ok := errors.AsType[*tls.CertificateVerificationError](e.Err); ok {
			return "name the server in COUNTERSIGN_IMAP_URL as its certificate does, or make this machine trust the certificate's issuer"
		}
		return "use imaps:// for a port that speaks TLS from the first byte (993) and imap:// for one with STARTTLS (143)"
	case stepSignIn:
		return "check user and password in COUNTERSIGN_IMAP_URL; many hosts want a password made for this one program, " +
			"and that IMAP is switched on for the mailbox"
	case stepFolder:
		return "the path of COUNTERSIGN_IMAP_URL must be a folder of the mailbox, as the server names it; without a path it is INBOX"
	default:
		return "try again; if it stays so, ask whoever runs the mail server"
	}
}

// redacted stands where a server repeats the password.
const redacted = "[redacted]"

// failure makes an Error of what the IMAP client said.
func failure(a *Account, step Step, err error) *Error {
	e := &Error{Step: step, Server: a.Address(), Err: err}
	if reply, ok := errors.AsType[*imap.Error](err); ok {
		// Servers have been seen to repeat the command that they refuse.
		e.Reply = strings.ReplaceAll(oneLine(reply.Text), string(a.Password), redacted)
		if e.Reply == "" {
			e.Reply = string(reply.Type)
		}
	}
	return e
}

// maxLine bounds what is told of an error, in bytes.
const maxLine = 500

// oneLine makes what a server said fit for a page and a log.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "…"
	}
	return s
}
