package inbox

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

// Security says how the way to the IMAP server is protected.
type Security string

const (
	// StartTLS begins in the clear and refuses to go on without TLS (imap://).
	StartTLS Security = "starttls"
	// ImplicitTLS speaks TLS from the first byte (imaps://).
	ImplicitTLS Security = "tls"
	// NoTLS never encrypts; only toward this machine (imap://…?tls=none).
	NoTLS Security = "none"
)

// Password prints as [redacted] whatever the verb or encoder. Convert it to string where the secret itself is needed.
type Password string

const redacted = "[redacted]"

// Format implements fmt.Formatter, the only hook that also covers %#v and %d.
func (p Password) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps the secret out of JSON and of structured logs.
func (p Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Account is a folder of a mailbox, and how to get there.
type Account struct {
	Host     string
	Port     int
	Security Security
	Username string
	Password Password
	Folder   string
}

// Address is host:port, as a dialler wants it.
func (a *Account) Address() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

// String is the account's URL without its password.
func (a *Account) String() string {
	u := url.URL{Scheme: "imap", Host: a.Address(), User: url.User(a.Username), Path: "/" + a.Folder}
	switch a.Security {
	case StartTLS:
	case ImplicitTLS:
		u.Scheme = "imaps"
	case NoTLS:
		u.RawQuery = "tls=none"
	}
	return u.String()
}

// LogValue implements slog.LogValuer.
func (a *Account) LogValue() slog.Value { return slog.StringValue(a.String()) }

// ParseURL reads
//
//	imaps://user:password@host[:993][/folder]
//	imap://user:password@host[:143][/folder][?tls=none]
//
// User, password and folder are percent-encoded; the folder is INBOX where none is named. imap means mandatory STARTTLS;
// tls=none switches it off and is allowed toward a loopback host alone. No error repeats any part that may belong to a
// password: an unescaped / ? # or @ in one moves its tail into the host, the port, the path or the query.
func ParseURL(raw string) (*Account, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return nil, errors.New("IMAP URL: not a URL; write imaps://user:password@host:993 and percent-encode special " +
			"characters in user and password (@ is %40, : is %3A, / is %2F, # is %23, % is %25)")
	}
	a := &Account{Host: u.Hostname(), Security: ImplicitTLS, Port: 993, Folder: "INBOX"}
	switch u.Scheme {
	case "imaps":
	case "imap":
		a.Security, a.Port = StartTLS, 143
	default:
		return nil, errors.New("IMAP URL: must begin with imaps:// (TLS, port 993) or imap:// (STARTTLS, port 143)")
	}
	if u.Fragment != "" || u.Opaque != "" || strings.Contains(u.EscapedPath(), "@") {
		return nil, errors.New("IMAP URL: a / ? # or @ in user, password or folder must be percent-encoded (%2F %3F %23 %40)")
	}
	if a.Host == "" {
		return nil, errors.New("IMAP URL: names no host; write imaps://user:password@host:993")
	}
	if port := u.Port(); port != "" {
		if a.Port, err = strconv.Atoi(port); err != nil || a.Port < 1 || a.Port > 65535 {
			return nil, errors.New("IMAP URL: the port must be a number from 1 to 65535")
		}
	}
	a.Username = u.User.Username()
	password, _ := u.User.Password()
	if a.Username == "" || password == "" {
		return nil, errors.New("IMAP URL: names no user or no password; write imaps://user:password@host:993 and " +
			"percent-encode special characters in both (@ is %40, / is %2F, # is %23, % is %25)")
	}
	a.Password = Password(password)
	if folder := strings.TrimPrefix(u.Path, "/"); folder != "" {
		a.Folder = folder
	}
	if err := a.readQuery(u.RawQuery); err != nil {
		return nil, err
	}
	if a.Security == StartTLS && a.Port == 993 {
		return nil, errors.New("IMAP URL: port 993 speaks TLS from the first byte; write imaps:// instead of imap://")
	}
	return a, nil
}

func (a *Account) readQuery(query string) error {
	if query == "" {
		return nil
	}
	if query != "tls=none" {
		return errors.New("IMAP URL: the only parameter is tls=none; a ? in user, password or folder must be percent-encoded (%3F)")
	}
	if a.Security == ImplicitTLS {
		return errors.New("IMAP URL: imaps:// and tls=none contradict each other; write imap:// for a server without TLS")
	}
	if !loopback(a.Host) {
		return errors.New("IMAP URL: tls=none would send the password and the mails in the clear, so it is allowed only " +
			"toward this machine (localhost, 127.0.0.1, ::1); drop it to use STARTTLS")
	}
	a.Security = NoTLS
	return nil
}

func loopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}
