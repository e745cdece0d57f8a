package notify

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Security says how the way to the mail server is protected.
type Security string

const (
	// StartTLS begins in the clear and refuses to go on without TLS (smtp://).
	StartTLS Security = "starttls"
	// ImplicitTLS speaks TLS from the first byte (smtps://).
	ImplicitTLS Security = "tls"
	// NoTLS never encrypts; only toward this machine (smtp://…?tls=none).
	NoTLS Security = "none"
)

// Password prints as [redacted] whatever the verb or encoder. Convert it to string where the secret itself is needed.
type Password string

const redacted = "[redacted]"

// Format implements fmt.Formatter, the only hook that also covers %#v and %d.
func (p Password) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps the secret out of JSON and of structured logs.
func (p Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SMTPServer is the mail server that takes our mail.
type SMTPServer struct {
	Host     string
	Port     int
	Security Security
	// Username and Password are empty together: then no AUTH is tried.
	Username string
	Password Password
}

// Address is host:port, as a dialler wants it.
func (s *SMTPServer) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// String is the server's URL without its password.
func (s *SMTPServer) String() string {
	u := url.URL{Scheme: "smtp", Host: s.Address()}
	switch s.Security {
	case StartTLS:
	case ImplicitTLS:
		u.Scheme = "smtps"
	case NoTLS:
		u.RawQuery = "tls=none"
	}
	if s.Username != "" {
		u.User = url.User(s.Username)
	}
	return u.String()
}

// LogValue implements slog.LogValuer.
func (s *SMTPServer) LogValue() slog.Value { return slog.StringValue(s.String()) }

// ParseSMTPURL reads
//
//	smtp://[user:password@]host[:587][?tls=none]
//	smtps://[user:password@]host[:465]
//
// User and password are percent-encoded. smtp means mandatory STARTTLS; tls=none switches it off and is allowed toward a
// loopback host alone. No error repeats any part that may belong to a password: an unescaped / ? # or @ in one moves its
// tail into the host, the port, the path or the query.
func ParseSMTPURL(raw string) (*SMTPServer, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return nil, errors.New("SMTP URL: not a URL; write smtp://user:password@host:587 and percent-encode special " +
			"characters in user and password (@ is %40, : is %3A, / is %2F, # is %23, % is %25)")
	}
	s := &SMTPServer{Host: u.Hostname(), Security: StartTLS, Port: 587}
	switch u.Scheme {
	case "smtp":
	case "smtps":
		s.Security, s.Port = ImplicitTLS, 465
	default:
		return nil, errors.New("SMTP URL: must begin with smtp:// (STARTTLS, port 587) or smtps:// (TLS, port 465)")
	}
	if (u.Path != "" && u.Path != "/") || u.Fragment != "" || u.Opaque != "" {
		return nil, errors.New("SMTP URL: something follows the host; a / ? # or @ in user or password must be " +
			"percent-encoded (%2F %3F %23 %40)")
	}
	if s.Host == "" {
		return nil, errors.New("SMTP URL: names no host; write smtp://user:password@host:587")
	}
	if port := u.Port(); port != "" {
		if s.Port, err = strconv.Atoi(port); err != nil || s.Port < 1 || s.Port > 65535 {
			return nil, errors.New("SMTP URL: the port must be a number from 1 to 65535")
		}
	}
	if err := s.readCredentials(u.User); err != nil {
		return nil, err
	}
	if err := s.readQuery(u); err != nil {
		return nil, err
	}
	if s.Security == StartTLS && s.Port == 465 {
		return nil, errors.New("SMTP URL: port 465 speaks TLS from the first byte; write smtps:// instead of smtp://")
	}
	return s, nil
}

func (s *SMTPServer) readCredentials(info *url.Userinfo) error {
	if info == nil {
		return nil
	}
	password, _ := info.Password()
	if info.Username() == "" || password == "" {
		return errors.New("SMTP URL: user and password belong together; write smtp://user:password@host, " +
			"or neither for a server that wants no AUTH")
	}
	s.Username, s.Password = info.Username(), Password(password)
	return nil
}

func (s *SMTPServer) readQuery(u *url.URL) error {
	if u.RawQuery == "" {
		return nil
	}
	if u.RawQuery != "tls=none" {
		return errors.New("SMTP URL: the only parameter is tls=none; a ? in user or password must be percent-encoded (%3F)")
	}
	if s.Security == ImplicitTLS {
		return errors.New("SMTP URL: smtps:// and tls=none contradict each other; write smtp:// for a server without TLS")
	}
	if !loopback(s.Host) {
		return errors.New("SMTP URL: tls=none would send passwords and invitations in the clear, so it is allowed only " +
			"toward this machine (localhost, 127.0.0.1, ::1); drop it to use STARTTLS")
	}
	s.Security = NoTLS
	return nil
}

func loopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}
