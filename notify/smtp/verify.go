package smtp

import (
	"context"
	"crypto/tls"
	"errors"
)

// Verify goes as far as the first message could follow: it connects, encrypts and signs in, on a connection of its own, and
// says goodbye. Its errors are those of Send.
func (t *Transport) Verify(ctx context.Context) error {
	c, failed := t.dial(ctx)
	if failed != nil {
		failed.Server = t.server.Address()
		return failed
	}
	c.quit()
	return nil
}

// Cure says what an operator can do about it.
func (e *Error) Cure() string {
	switch e.Step {
	case stepConnect:
		return "check host and port in COUNTERSIGN_SMTP_URL, and that no firewall is in between: many networks let no mail out on port 25"
	case stepTLS:
		if _, ok := errors.AsType[*tls.CertificateVerificationError](e.Err); ok {
			return "name the server in COUNTERSIGN_SMTP_URL as its certificate does, or make this machine trust the certificate's issuer"
		}
		return "use smtps:// for a port that speaks TLS from the first byte (465) and smtp:// for one with STARTTLS (587)"
	case stepAuth:
		return "check user and password in COUNTERSIGN_SMTP_URL; many hosts want a password made for this one program"
	case stepMail:
		return "set COUNTERSIGN_MAIL_FROM to an address that this account may send as"
	default:
		return "ask whoever runs the mail server, with its answer in hand"
	}
}
