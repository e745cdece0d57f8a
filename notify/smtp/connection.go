package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	client "github.com/wneessen/go-mail/smtp"

	"github.com/countersign/countersign/notify/mailhost"
)

// goodbyeTimeout bounds QUIT, a courtesy.
const goodbyeTimeout = 2 * time.Second

// connection is one greeted, encrypted and authenticated SMTP connection, used by one goroutine at a time.
type connection struct {
	// raw is the socket beneath TLS: to close it interrupts any read or write at once.
	raw     net.Conn
	client  *client.Client
	timeout time.Duration
	trust   time.Duration

	pipelining, chunking, eightBit, utf8 bool // what the server offers and we use

	out      []byte    // what is written next, in one go
	heard    time.Time // when the server last spoke, and so was alive
	derailed bool      // the server's answers can no longer be told apart
	carried  int
	expiry   *time.Timer
}

// dial connects and goes as far as MAIL can follow.
func (t *Transport) dial(ctx context.Context) (*connection, *Error) {
	dialer := net.Dialer{Timeout: t.timeout}
	raw, err := dialer.DialContext(ctx, "tcp", t.server.Address())
	if err != nil {
		return nil, interrupted(ctx, failure(stepConnect, err))
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	c := &connection{raw: raw, timeout: t.timeout, trust: t.trust}
	step, err := c.open(ctx, t)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.drop()
		return nil, interrupted(ctx, failure(step, err))
	}
	t.log.DebugContext(ctx, "SMTP connection opened", "server", t.server)
	return c, nil
}

// open walks from the bare socket to the end of AUTH and returns the step that it reached.
func (c *connection) open(ctx context.Context, t *Transport) (Step, error) {
	conn := c.raw
	if t.server.Security == mailhost.ImplicitTLS {
		secure := tls.Client(conn, t.tls)
		c.arm(c.timeout)
		if err := secure.HandshakeContext(ctx); err != nil {
			return stepTLS, err
		}
		conn = secure
	}
	c.arm(c.timeout)
	var err error
	if c.client, err = client.NewClient(conn, t.server.Host); err != nil {
		return stepGreeting, err
	}
	c.arm(c.timeout)
	if err := c.client.Hello(t.hello); err != nil {
		return stepHello, err
	}
	if t.server.Security == mailhost.StartTLS {
		c.arm(c.timeout)
		if err := c.startTLS(t.tls); err != nil {
			return stepTLS, err
		}
	}
	c.eightBit, c.utf8 = c.offers("8BITMIME"), c.offers("SMTPUTF8")
	c.pipelining = c.offers("PIPELINING") && !t.plain
	c.chunking = c.offers("CHUNKING") && c.pipelining
	if t.server.Username != "" {
		c.arm(c.timeout)
		if err := c.authenticate(t.server); err != nil {
			return stepAuth, err
		}
	}
	c.heard = time.Now()
	return stepAuth, nil
}

func (c *connection) offers(extension string) bool {
	offered, _ := c.client.Extension(extension)
	return offered
}

func (c *connection) startTLS(config *tls.Config) error {
	if !c.offers("STARTTLS") {
		return errors.New("the server does not offer STARTTLS: use a port that does (587), smtps:// (465), " +
			"or ?tls=none for a server on this machine")
	}
	return c.client.StartTLS(config)
}

func (c *connection) authenticate(s *mailhost.Server) error {
	if !c.offers("AUTH") {
		return errors.New("the server does not offer AUTH: drop user and password from the SMTP URL, " +
			"or use the submission port (587)")
	}
	return c.client.Auth(&anyAuth{server: s})
}

// anyAuth picks the mechanism when the server has said which it knows. The password goes over verified TLS or stays on
// this machine, so the plainest mechanism, which every kind of password store can check, comes first.
type anyAuth struct {
	server *mailhost.Server
	client.Auth
}

func (a *anyAuth) Start(info *client.ServerInfo) (string, []byte, error) {
	user, password := a.server.Username, string(a.server.Password)
	switch {
	case slices.Contains(info.Auth, "PLAIN"):
		a.Auth = client.PlainAuth("", user, password, info.Name, true)
	case slices.Contains(info.Auth, "LOGIN"):
		a.Auth = client.LoginAuth(user, password, info.Name, true)
	case slices.Contains(info.Auth, "SCRAM-SHA-256"):
		a.Auth = client.ScramSHA256Auth(user, password)
	case slices.Contains(info.Auth, "CRAM-MD5"):
		a.Auth = client.CRAMMD5Auth(user, password)
	default:
		return "", nil, fmt.Errorf("the server offers AUTH %v; supported are PLAIN, LOGIN, SCRAM-SHA-256 and CRAM-MD5", info.Auth)
	}
	return a.Auth.Start(info)
}

// arm bounds what follows by d from now.
func (c *connection) arm(d time.Duration) { _ = c.raw.SetDeadline(time.Now().Add(d)) }

// quit ends a healthy connection politely.
func (c *connection) quit() {
	c.arm(goodbyeTimeout)
	_ = c.client.Quit()
	_ = c.raw.Close()
}

// drop ends a connection in any state. It resets it, because some servers take the orderly end of a connection in the midst
// of a chunk for the end of the message.
func (c *connection) drop() {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
}

// interrupted names the context as the cause where it was.
func interrupted(ctx context.Context, failed *Error) *Error {
	if ctx.Err() != nil && failed.Code == 0 {
		failed.Err, failed.Config = context.Cause(ctx), false
	}
	return failed
}
