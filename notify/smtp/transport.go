package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/notify/mailhost"
)

// ErrClosed is wrapped by the errors of Send after Close.
var ErrClosed = errors.New("mail transport is closed")

// Options say where and how a Transport sends. Only URL is required.
type Options struct {
	// URL is what ParseURL reads.
	URL string
	// MaxConns bounds the connections and thereby the Sends that work at once; 4 by default.
	MaxConns int
	// MaxMessages is how many messages one connection carries before it is replaced, because servers count; 100 by default.
	MaxMessages int
	// IdleTimeout ends a connection that nobody used; 45 seconds by default, well before servers lose patience.
	IdleTimeout time.Duration
	// Timeout bounds each single wait for the server; a minute by default. A message and the verdict on it may take five
	// times as long, because to give up on it makes its fate unknown.
	Timeout time.Duration
	// Trust is how long after the server's last word a connection counts as alive without a doubt; 5 seconds by default,
	// half of what hurried servers grant their clients, and no time at all where negative.
	Trust time.Duration
	// Plain uses neither PIPELINING nor CHUNKING, for a server that offers and breaks them.
	Plain bool
	// TLS replaces the default TLS configuration, for servers with a certificate of their own. ServerName is filled in.
	TLS *tls.Config
	// Hello is our name in EHLO; the machine's by default.
	Hello string
	// Log is silent when nil.
	Log *slog.Logger
}

// Transport sends messages over kept SMTP connections. It dials when there is work and no idle connection, keeps what is
// healthy and lets idle connections go. It is safe for concurrent use.
//
// It has the greeting, EHLO, STARTTLS and AUTH done by go-mail's SMTP client and the rest by itself, rather than through
// mail.Client: that one waits for every answer, hides the server's reply and whether its RSET worked, leaks the connection
// when EHLO, STARTTLS or AUTH fails, and cannot be interrupted by a context.
type Transport struct {
	server      *mailhost.Server
	tls         *tls.Config
	hello       string
	log         *slog.Logger
	maxMessages int
	idleTimeout time.Duration
	timeout     time.Duration
	trust       time.Duration
	plain       bool

	// slots holds a token for every Send at work. A Send owns one connection at most and takes an idle one before it
	// dials, so tokens bound connections too.
	slots   chan struct{}
	closing chan struct{}

	mu      sync.Mutex
	closed  bool
	idle    []*connection // the last is the freshest
	goodbye sync.WaitGroup
}

// New checks the options and dials nothing yet.
func New(o Options) (*Transport, error) {
	server, err := ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Hello == "" {
		if o.Hello, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("mail transport: a name for EHLO: %w", err)
		}
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.TLS = o.TLS.Clone()
	o.TLS.DynamicRecordSizingDisabled = true // it would cut a message into many small writes
	o.TLS.ServerName = cmp.Or(o.TLS.ServerName, server.Host)
	return &Transport{
		server:      server,
		tls:         o.TLS,
		hello:       o.Hello,
		log:         cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		maxMessages: cmp.Or(o.MaxMessages, 100),
		idleTimeout: cmp.Or(o.IdleTimeout, 45*time.Second),
		timeout:     cmp.Or(o.Timeout, time.Minute),
		trust:       cmp.Or(o.Trust, 5*time.Second),
		plain:       o.Plain,
		slots:       make(chan struct{}, cmp.Or(o.MaxConns, 4)),
		closing:     make(chan struct{}),
	}, nil
}

// Send hands one message with exactly one recipient to the server and returns nil once the server has accepted it. Every
// error is an *Error.
//
// The context ends every wait before the message goes out. From there the verdict is awaited ten seconds longer, because to
// walk away would only turn an accepted message into a doubtful one.
func (t *Transport) Send(ctx context.Context, e Envelope) error {
	if err := t.send(ctx, &e); err != nil {
		err.Server = t.server.Address()
		return err
	}
	return nil
}

func (t *Transport) send(ctx context.Context, e *Envelope) *Error {
	select {
	case <-t.closing:
		return failure(stepQueue, ErrClosed)
	case <-ctx.Done():
		return failure(stepQueue, context.Cause(ctx))
	case t.slots <- struct{}{}:
	}
	defer func() { <-t.slots }()
	if ctx.Err() != nil {
		return failure(stepQueue, context.Cause(ctx))
	}

	if c := t.takeIdle(); c != nil {
		err := t.deliver(ctx, c, e)
		if err == nil || !err.stale() || ctx.Err() != nil {
			return err
		}
		t.log.DebugContext(ctx, "kept SMTP connection was stale, dialling anew", "server", t.server, "cause", err.Err)
	}
	c, failed := t.dial(ctx)
	if failed != nil {
		return failed
	}
	return t.deliver(ctx, c, e)
}

// deliver sends over c and then keeps it, or not.
func (t *Transport) deliver(ctx context.Context, c *connection, e *Envelope) *Error {
	healthy, err := c.deliver(ctx, e)
	switch {
	case !healthy:
		c.drop()
	case c.carried >= t.maxMessages || !t.keep(c):
		c.quit()
	}
	return err
}

// takeIdle returns the freshest idle connection, or nil. The older ones age and go.
func (t *Transport) takeIdle() *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.idle) - 1
	if last < 0 {
		return nil
	}
	c := t.idle[last]
	t.idle = slices.Delete(t.idle, last, last+1)
	c.expiry.Stop()
	return c
}

// keep makes c idle and reports whether it did.
func (t *Transport) keep(c *connection) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	c.expiry = time.AfterFunc(t.idleTimeout, func() { t.expire(c) })
	t.idle = append(t.idle, c)
	return true
}

// expire says goodbye to c, unless a Send or Close took it in the meantime.
func (t *Transport) expire(c *connection) {
	t.mu.Lock()
	at := slices.Index(t.idle, c)
	if at < 0 {
		t.mu.Unlock()
		return
	}
	t.idle = slices.Delete(t.idle, at, at+1)
	t.goodbye.Add(1)
	t.mu.Unlock()
	defer t.goodbye.Done()
	c.quit()
}

// Close refuses new messages, waits until those under way have their verdict or ctx ends, and ends all idle connections.
// Sends that outlive ctx end their own connections.
func (t *Transport) Close(ctx context.Context) error {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	idle := t.idle
	t.idle = nil
	t.mu.Unlock()
	if !first {
		return nil
	}
	close(t.closing)
	for _, c := range idle {
		c.expiry.Stop()
		t.goodbye.Go(c.quit)
	}
	defer t.goodbye.Wait()
	for range cap(t.slots) {
		select {
		case t.slots <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("mail transport: closed with messages under way: %w", context.Cause(ctx))
		}
	}
	return nil
}
