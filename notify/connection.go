package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

const (
	// verdictGrace is how long the verdict on a message is awaited after the sender's context ended.
	verdictGrace = 10 * time.Second
	// goodbyeTimeout bounds QUIT, a courtesy.
	goodbyeTimeout = 2 * time.Second
)

// connection is one greeted, encrypted and authenticated SMTP connection, used by one goroutine at a time.
type connection struct {
	// raw is the socket beneath TLS: to close it interrupts any read or write at once.
	raw     net.Conn
	client  *smtp.Client
	timeout time.Duration
	carried int
	expiry  *time.Timer
}

// dial connects and goes as far as MAIL can follow.
func (t *Transport) dial(ctx context.Context) (*connection, *SendError) {
	dialer := net.Dialer{Timeout: t.timeout}
	raw, err := dialer.DialContext(ctx, "tcp", t.server.Address())
	if err != nil {
		return nil, interrupted(ctx, failure(stepConnect, err))
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	c := &connection{raw: raw, timeout: t.timeout}
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
	if t.server.Security == ImplicitTLS {
		secure := tls.Client(conn, t.tls)
		c.arm(c.timeout)
		if err := secure.HandshakeContext(ctx); err != nil {
			return stepTLS, err
		}
		conn = secure
	}
	c.arm(c.timeout)
	var err error
	if c.client, err = smtp.NewClient(conn, t.server.Host); err != nil {
		return stepGreeting, err
	}
	c.arm(c.timeout)
	if err := c.client.Hello(t.hello); err != nil {
		return stepHello, err
	}
	if t.server.Security == StartTLS {
		c.arm(c.timeout)
		if err := c.startTLS(t.tls); err != nil {
			return stepTLS, err
		}
	}
	if t.server.Username != "" {
		c.arm(c.timeout)
		if err := c.authenticate(t.server); err != nil {
			return stepAuth, err
		}
	}
	return stepAuth, nil
}

func (c *connection) startTLS(config *tls.Config) error {
	if offered, _ := c.client.Extension("STARTTLS"); !offered {
		return errors.New("the server does not offer STARTTLS: use a port that does (587), smtps:// (465), " +
			"or ?tls=none for a server on this machine")
	}
	return c.client.StartTLS(config)
}

func (c *connection) authenticate(s *SMTPServer) error {
	offered, _ := c.client.Extension("AUTH")
	if !offered {
		return errors.New("the server does not offer AUTH: drop user and password from the SMTP URL, " +
			"or use the submission port (587)")
	}
	return c.client.Auth(&anyAuth{server: s})
}

// anyAuth picks the mechanism when the server has said which it knows. The password goes over verified TLS or stays on
// this machine, so the plainest mechanism, which every kind of password store can check, comes first.
type anyAuth struct {
	server *SMTPServer
	smtp.Auth
}

func (a *anyAuth) Start(info *smtp.ServerInfo) (string, []byte, error) {
	user, password := a.server.Username, string(a.server.Password)
	switch {
	case slices.Contains(info.Auth, "PLAIN"):
		a.Auth = smtp.PlainAuth("", user, password, info.Name, true)
	case slices.Contains(info.Auth, "LOGIN"):
		a.Auth = smtp.LoginAuth(user, password, info.Name, true)
	case slices.Contains(info.Auth, "SCRAM-SHA-256"):
		a.Auth = smtp.ScramSHA256Auth(user, password)
	case slices.Contains(info.Auth, "CRAM-MD5"):
		a.Auth = smtp.CRAMMD5Auth(user, password)
	default:
		return "", nil, fmt.Errorf("the server offers AUTH %v; supported are PLAIN, LOGIN, SCRAM-SHA-256 and CRAM-MD5", info.Auth)
	}
	return a.Auth.Start(info)
}

// deliver sends one message and reports whether the connection can carry another.
func (c *connection) deliver(ctx context.Context, e *envelope) (healthy bool, _ *SendError) {
	if offered, _ := c.client.Extension("SMTPUTF8"); e.utf8 && !offered {
		failed := &SendError{Kind: Permanent, Step: stepHello, Err: fmt.Errorf("%s or %s needs SMTPUTF8, which the server "+
			"does not offer: use an address in plain ASCII", e.from, e.to)}
		if !ascii(e.from) {
			failed.Kind, failed.Config = Temporary, true
		}
		return true, failed
	}
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	content, step, err := c.transmit(e)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		failed := interrupted(ctx, failure(step, err))
		return c.recovered(failed), failed
	}

	// The dot that ends the message is the point of no return.
	c.arm(5 * c.timeout)
	stop = context.AfterFunc(ctx, func() { c.arm(verdictGrace) })
	err = content.Close()
	quiet := stop()
	c.carried++
	if err != nil {
		failed := interrupted(ctx, failure(stepVerdict, err))
		return quiet && c.recovered(failed), failed
	}
	// The server's 250 ended the transaction: no RSET is due.
	return quiet, nil
}

// transmit sends all of the message but the dot that ends it, and returns the step that it reached.
func (c *connection) transmit(e *envelope) (content io.WriteCloser, step Step, err error) {
	// go-mail would ask for SMTPUTF8 wherever it is offered, and then a next hop without it bounces the message.
	c.client.SkipSMTPUTF8(!e.utf8)
	c.arm(c.timeout)
	if err := c.client.Mail(e.from); err != nil {
		return nil, stepMail, err
	}
	c.arm(c.timeout)
	if err := c.client.Rcpt(e.to); err != nil {
		return nil, stepRcpt, err
	}
	c.arm(c.timeout)
	if content, err = c.client.Data(); err != nil {
		return nil, stepData, err
	}
	c.arm(c.timeout)
	_, err = content.Write(e.body)
	return content, stepData, err
}

// recovered brings the dialogue back to where MAIL may follow and reports whether it is there.
func (c *connection) recovered(failed *SendError) bool {
	if class := failed.Code / 100; (class != 4 && class != 5) || failed.Code == 421 {
		return false
	}
	if failed.Step == stepMail || failed.Step == stepVerdict {
		return true
	}
	c.arm(c.timeout)
	return c.client.Reset() == nil
}

// arm bounds what follows by d from now.
func (c *connection) arm(d time.Duration) { _ = c.raw.SetDeadline(time.Now().Add(d)) }

// quit ends a healthy connection politely.
func (c *connection) quit() {
	c.arm(goodbyeTimeout)
	_ = c.client.Quit()
	c.drop()
}

// drop ends a connection in any state. QUIT would not do: in the midst of a message it sends the final dot first, and the
// server would deliver a torso.
func (c *connection) drop() { _ = c.raw.Close() }

// interrupted names the context as the cause where it was.
func interrupted(ctx context.Context, failed *SendError) *SendError {
	if ctx.Err() != nil && failed.Code == 0 {
		failed.Err, failed.Config = context.Cause(ctx), false
	}
	return failed
}
