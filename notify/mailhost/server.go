package mailhost

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Security says how the way to a mail server is protected.
type Security string

const (
	// StartTLS begins in the clear and refuses to go on without TLS (smtp://, imap://).
	StartTLS Security = "starttls"
	// ImplicitTLS speaks TLS from the first byte (smtps://, imaps://).
	ImplicitTLS Security = "tls"
	// NoTLS never encrypts; only toward this machine (?tls=none).
	NoTLS Security = "none"
)

// Server is a mail server and how to get in.
type Server struct {
	Protocol Protocol
	Host     string
	Port     int
	Security Security
	// Username and Password are both there or both empty: then there is no sign-in, which only SMTP allows.
	Username string
	Password Password
	// Folder of the mailbox, INBOX where the URL names none; empty for SMTP.
	Folder string
}

// Address is host:port, as a dialler wants it.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// String is the server's URL without its password.
func (s *Server) String() string {
	u := url.URL{Scheme: string(s.Protocol), Host: s.Address()}
	switch s.Security {
	case StartTLS:
	case ImplicitTLS:
		u.Scheme += "s"
	case NoTLS:
		u.RawQuery = "tls=none"
	}
	if s.Username != "" {
		u.User = url.User(s.Username)
	}
	if s.Folder != "" {
		u.Path = "/" + s.Folder
		// Package url leaves @ as it is, which Parse takes for the end of a password.
		u.RawPath = strings.ReplaceAll(u.EscapedPath(), "@", "%40")
	}
	return u.String()
}

// LogValue implements slog.LogValuer.
func (s *Server) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Parse reads a URL of the protocol, in the form that the package comment shows. User, password and folder are
// percent-encoded. Without the s, STARTTLS is mandatory; tls=none switches it off and is allowed toward a loopback host
// alone.
//
// No error repeats any part that may belong to a password: an unescaped / ? # or @ in one moves its tail into the host, the
// port, the path or the query.
func Parse(protocol Protocol, raw string) (*Server, error) {
	s := &Server{Protocol: protocol}
	if err := s.parse(protocol.rules(), raw); err != nil {
		return nil, fmt.Errorf("%s: %w", protocol.rules().name, err)
	}
	return s, nil
}

func (s *Server) parse(r rules, raw string) error {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		// The error of package url repeats its input.
		return fmt.Errorf("not a URL; write %s and percent-encode special characters in user and password "+
			"(@ is %%40, : is %%3A, / is %%2F, # is %%23, %% is %%25)", r.example)
	}
	switch u.Scheme {
	case string(s.Protocol):
		s.Security, s.Port = StartTLS, r.startTLS
	case string(s.Protocol) + "s":
		s.Security, s.Port = ImplicitTLS, r.overTLS
	default:
		return fmt.Errorf("must begin with %s", r.schemes)
	}
	if u.Fragment != "" || u.Opaque != "" || !s.parseFolder(u) {
		return errors.New(r.tail)
	}
	if s.Host = u.Hostname(); s.Host == "" {
		return fmt.Errorf("names no host; write %s", r.example)
	}
	if port := u.Port(); port != "" {
		if s.Port, err = strconv.Atoi(port); err != nil || s.Port < 1 || s.Port > 65535 {
			return errors.New("the port must be a number from 1 to 65535")
		}
	}
	if err := s.parseCredentials(r, u.User); err != nil {
		return err
	}
	if err := s.parseQuery(r, u.RawQuery); err != nil {
		return err
	}
	if s.Security == StartTLS && s.Port == r.overTLS {
		return fmt.Errorf("port %d speaks TLS from the first byte; write %[2]ss:// instead of %[2]s://", s.Port, s.Protocol)
	}
	return nil
}

// parseFolder reports whether the path is one that URLs of the protocol may have.
func (s *Server) parseFolder(u *url.URL) bool {
	folder := strings.TrimPrefix(u.Path, "/")
	if s.Protocol != IMAP {
		return folder == ""
	}
	if s.Folder = folder; folder == "" {
		s.Folder = "INBOX"
	}
	return !strings.Contains(u.EscapedPath(), "@")
}

func (s *Server) parseCredentials(r rules, info *url.Userinfo) error {
	password, _ := info.Password()
	s.Username, s.Password = info.Username(), Password(password)
	switch {
	case s.Protocol == IMAP && (s.Username == "" || s.Password == ""):
		return fmt.Errorf("names no user or no password; write %s and percent-encode special characters in both "+
			"(@ is %%40, / is %%2F, # is %%23, %% is %%25)", r.example)
	case info != nil && (s.Username == "" || s.Password == ""):
		return fmt.Errorf("user and password belong together; write %s, or neither for a server that wants no AUTH", r.example)
	}
	return nil
}

func (s *Server) parseQuery(r rules, query string) error {
	if query == "" {
		return nil
	}
	if query != "tls=none" {
		return errors.New("the only parameter is tls=none; any other ? must be percent-encoded (%3F)")
	}
	if s.Security == ImplicitTLS {
		return fmt.Errorf("%[1]ss:// and tls=none contradict each other; write %[1]s:// for a server without TLS", s.Protocol)
	}
	if !strings.EqualFold(s.Host, "localhost") && !net.ParseIP(s.Host).IsLoopback() {
		return fmt.Errorf("tls=none would send %s in the clear, so it is allowed only toward this machine "+
			"(localhost, 127.0.0.1, ::1); drop it to use STARTTLS", r.secrets)
	}
	s.Security = NoTLS
	return nil
}
