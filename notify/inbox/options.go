package inbox

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// Options say which mailbox to read, and how. Only Account is required.
type Options struct {
	Account *Account
	// MaxMessage is how many bytes of a message are read, from its beginning; 1 MiB by default.
	MaxMessage int64
	// Poll is how long new messages are waited for at most before the server is asked for them; 30 seconds by default. With
	// IDLE the server tells of them at once, unless it or a router has forgotten us.
	Poll time.Duration
	// Timeout bounds every single exchange with the server; a minute by default.
	Timeout time.Duration
	// Since is how far back Watch begins where it has no bookmark; 14 days by default. IMAP searches by the day, so that it
	// may be a day more.
	Since time.Duration
	// TLS replaces the default TLS configuration, for servers with a certificate of their own. ServerName is filled in.
	TLS *tls.Config
	// Dial makes the connection, as net.Dialer.DialContext does, which is the default.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Log is told by Watch when the mailbox cannot be read and when it can be read again; nil keeps silent.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	o.MaxMessage = cmp.Or(o.MaxMessage, 1<<20)
	o.Poll = cmp.Or(o.Poll, 30*time.Second)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.Since = cmp.Or(o.Since, 14*24*time.Hour)
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.TLS = o.TLS.Clone()
	o.TLS.ServerName = cmp.Or(o.TLS.ServerName, o.Account.Host)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
