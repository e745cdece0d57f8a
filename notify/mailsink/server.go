package mailsink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

func (s *Sink) newServer() *smtp.Server {
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{sink: s, conn: c}, nil
	}))
	server.Domain = "mailsink"
	server.MaxMessageBytes = s.opts.MaxMessageBytes
	server.ReadTimeout = s.opts.IdleTimeout
	server.WriteTimeout = s.opts.IdleTimeout
	server.EnableSMTPUTF8 = true
	server.TLSConfig = s.opts.TLS
	server.AllowInsecureAuth = s.opts.TLS == nil
	server.ErrorLog = slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug)
	return server
}

// Serve takes mail from l until Shutdown, then returns nil. It closes l. It may be called with several listeners.
func (s *Sink) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.shuttingDown() {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	if err := s.smtp.Serve(&listener{Listener: l, sink: s}); err != nil && !s.shuttingDown() {
		return fmt.Errorf("mail sink: serving SMTP on %s: %w", l.Addr(), err)
	}
	return nil
}

func (s *Sink) shuttingDown() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Shutdown stops listening, lets messages that were received in full have their answer, and ends every connection; those
// still there when ctx ends are cut.
func (s *Sink) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.shuttingDown() {
		s.mu.Unlock()
		return nil
	}
	close(s.closing)
	// The SMTP server knows a listener only some time after Serve was called.
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()

	if err := s.smtp.Shutdown(ctx); err == nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Conn.Close()
	}
	return fmt.Errorf("mail sink: connections were cut: %w", context.Cause(ctx))
}

// listener counts connections and lets Shutdown reach them. The SMTP server cannot do it alone: its Shutdown waits for
// idle clients as long as they like to stay.
type listener struct {
	net.Listener
	sink *Sink
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, sink: l.sink}
	s := l.sink
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.stats.Connections++
	s.mu.Unlock()
	if s.shuttingDown() {
		c.stopReading()
	}
	if s.opts.ImplicitTLS {
		return tls.Server(c, s.opts.TLS), nil
	}
	return c, nil
}

// conn is a socket that can be told to read no more: the client is answered what is due and then 421.
type conn struct {
	net.Conn
	sink *Sink

	mu      sync.Mutex
	stopped bool
}

func (c *conn) stopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) Close() error {
	c.sink.mu.Lock()
	delete(c.sink.conns, c)
	c.sink.mu.Unlock()
	if err := c.Conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
