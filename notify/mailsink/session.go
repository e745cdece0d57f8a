package mailsink

import (
	"errors"
	"io"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// session is the SMTP dialogue with one client, from its EHLO on.
type session struct {
	sink     *Sink
	conn     *smtp.Conn
	username string
	from     string
	to       []string
	utf8     bool
}

// AuthMechanisms implements smtp.AuthSession.
func (s *session) AuthMechanisms() []string {
	if s.sink.opts.Username == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth implements smtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if mechanism != sasl.Plain || s.sink.opts.Username == "" {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != s.sink.opts.Username || password != s.sink.opts.Password {
			return smtp.ErrAuthFailed
		}
		s.username = username
		return nil
	}), nil
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, o *smtp.MailOptions) error {
	if s.sink.opts.Username != "" && s.username == "" {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	s.from, s.utf8 = from, o.UTF8
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.sink.opts.Rules != nil {
		if refusal := s.sink.opts.Rules(s.from, to); refusal != nil {
			s.sink.mu.Lock()
			s.sink.stats.Refused++
			s.sink.mu.Unlock()
			return refusal
		}
	}
	s.to = append(s.to, to)
	return nil
}

// Data implements smtp.Session.
func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return readFailure(err)
	}
	m := parse(raw)
	_, encrypted := s.conn.TLSConnectionState()
	m.From, m.To, m.UTF8, m.TLS, m.Username = s.from, s.to, s.utf8, encrypted, s.username
	m.Hello, m.Remote = s.conn.Hostname(), s.conn.Conn().RemoteAddr().String()

	fault := NoFault
	if s.sink.opts.Faults != nil {
		fault = s.sink.opts.Faults(m)
	}
	if s.sink.opts.Latency > 0 {
		select {
		case <-time.After(s.sink.opts.Latency):
		case <-s.sink.closing:
		}
	}
	if fault != LoseMessage {
		m.ReceivedAt = s.sink.opts.Now()
		s.sink.add(m)
	}
	if fault != NoFault {
		// The SMTP server's own answer then goes nowhere.
		return s.conn.Conn().Close()
	}
	return nil
}

// readFailure answers a message that did not arrive in full. A sender must not take our trouble for a verdict on the
// recipient, which a plain error would become.
func readFailure(err error) error {
	if refusal, ok := errors.AsType[*smtp.SMTPError](err); ok {
		return refusal
	}
	if errors.Is(err, smtp.ErrTooLongLine) {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "A line is too long"}
	}
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "The message broke off"}
}

// Reset implements smtp.Session.
func (s *session) Reset() { s.from, s.to, s.utf8 = "", nil, false }

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }
