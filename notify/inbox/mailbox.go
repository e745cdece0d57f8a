package inbox

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

const (
	// chatter is how many bytes an answer may have beside the message in it.
	chatter = 1 << 20
	// goodbyeTimeout bounds LOGOUT, a courtesy.
	goodbyeTimeout = 2 * time.Second
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
	// TLS replaces the default TLS configuration, for servers with a certificate of their own. ServerName is filled in.
	TLS *tls.Config
}

// Mailbox is a folder that is read over one connection, by one goroutine at a time.
type Mailbox struct {
	account    *Account
	maxMessage int64
	poll       time.Duration
	timeout    time.Duration

	conn   *connection
	client *imapclient.Client
	idles  bool
	news   chan struct{} // has a token once the server has spoken of new messages

	next  imap.UID   // messages from here on have not been looked for
	found []imap.UID // messages that have been found and not been returned
}

// Open connects, signs in and opens the folder. Every error is an *Error.
func Open(ctx context.Context, o Options) (*Mailbox, error) {
	m := &Mailbox{
		account:    o.Account,
		maxMessage: cmp.Or(o.MaxMessage, 1<<20),
		poll:       cmp.Or(o.Poll, 30*time.Second),
		timeout:    cmp.Or(o.Timeout, time.Minute),
		news:       make(chan struct{}, 1),
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.TLS = o.TLS.Clone()
	o.TLS.ServerName = cmp.Or(o.TLS.ServerName, m.account.Host)

	dialer := net.Dialer{Timeout: m.timeout}
	raw, err := dialer.DialContext(ctx, "tcp", m.account.Address())
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, m.account.failure(stepConnect, err)
	}
	m.conn = &connection{Conn: raw}
	for _, exchange := range []struct {
		step Step
		do   func(context.Context) error
	}{
		{stepTLS, func(ctx context.Context) error { return m.encrypt(ctx, o.TLS) }},
		{stepConnect, func(context.Context) error { return m.client.WaitGreeting() }},
		{stepSignIn, m.signIn},
		{stepFolder, m.examine},
	} {
		if err := m.do(ctx, exchange.step, exchange.do); err != nil {
			_ = m.conn.Close()
			return nil, err
		}
	}
	return m, nil
}

// encrypt makes the client, on TLS unless the account does without.
func (m *Mailbox) encrypt(ctx context.Context, config *tls.Config) error {
	options := &imapclient.Options{
		TLSConfig:             config,
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: m.hear},
	}
	switch m.account.Security {
	case NoTLS:
		m.client = imapclient.New(m.conn, options)
	case ImplicitTLS:
		secure := tls.Client(m.conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		m.client = imapclient.New(secure, options)
	case StartTLS:
		return m.startTLS(ctx, options)
	}
	return nil
}

// startTLS does not wait for the library for longer than ctx: a connection that breaks within the line that answers
// STARTTLS leaves it waiting for ever.
func (m *Mailbox) startTLS(ctx context.Context, options *imapclient.Options) error {
	encrypted := make(chan error, 1)
	var client *imapclient.Client
	go func() {
		var err error
		client, err = imapclient.NewStartTLS(m.conn, options)
		encrypted <- err
	}()
	select {
	case err := <-encrypted:
		m.client = client
		if refused, ok := errors.AsType[*imap.Error](err); ok {
			refused.Text = "no STARTTLS: " + refused.Text
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *Mailbox) signIn(context.Context) error {
	if m.client.Caps().Has(imap.CapLoginDisabled) {
		return errors.New("the server does not let anybody sign in with a password here")
	}
	if err := m.client.Login(m.account.Username, string(m.account.Password)).Wait(); err != nil {
		return err
	}
	m.idles = m.client.Caps().Has(imap.CapIdle)
	return nil
}

// examine opens the folder for reading only. What is in it already is none of ours.
func (m *Mailbox) examine(context.Context) error {
	folder, err := m.client.Select(m.account.Folder, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return err
	}
	if folder.UIDNext == 0 {
		return errors.New("the server does not say which messages are new (UIDNEXT), as RFC 3501 wants it to")
	}
	m.next = folder.UIDNext
	return nil
}

// Next returns the oldest message that has arrived since Open and that it has not returned yet, and waits for one where
// there is none. The message is as it was received, cut at MaxMessage. After an error, which is an *Error, and after the
// end of ctx the connection is of no use any more.
func (m *Mailbox) Next(ctx context.Context) ([]byte, error) {
	for {
		for len(m.found) > 0 {
			uid := m.found[0]
			m.found = m.found[1:]
			if raw, err := m.fetch(ctx, uid); err != nil || raw != nil {
				return raw, err
			}
		}
		if err := m.look(ctx); err != nil {
			return nil, err
		}
		if len(m.found) == 0 {
			if err := m.wait(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// look asks which messages have arrived.
func (m *Mailbox) look(ctx context.Context) error {
	return m.do(ctx, stepRead, func(context.Context) error {
		// A server may keep new messages to itself until it is asked for nothing.
		if err := m.client.Noop().Wait(); err != nil {
			return err
		}
		arrived := imap.UIDSet{imap.UIDRange{Start: m.next, Stop: 0}}
		data, err := m.client.UIDSearch(&imap.SearchCriteria{UID: []imap.UIDSet{arrived}}, nil).Wait()
		if err != nil {
			return err
		}
		for _, uid := range data.AllUIDs() {
			if uid >= m.next { // The last message is found even if it is older: n:* is *:n.
				m.found = append(m.found, uid)
			}
		}
		if len(m.found) > 0 {
			slices.Sort(m.found)
			m.next = m.found[len(m.found)-1] + 1
		}
		return nil
	})
}

// fetch reads a message. It is nil where the message has gone in the meantime.
func (m *Mailbox) fetch(ctx context.Context, uid imap.UID) (raw []byte, err error) {
	err = m.do(ctx, stepRead, func(context.Context) error {
		messages, err := m.client.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{
			BodySection: []*imap.FetchItemBodySection{{Peek: true, Partial: &imap.SectionPartial{Size: m.maxMessage}}},
		}).Collect()
		if err != nil || len(messages) == 0 || len(messages[0].BodySection) == 0 {
			return err
		}
		raw = messages[0].BodySection[0].Bytes
		raw = raw[:min(int64(len(raw)), m.maxMessage)]
		return nil
	})
	return raw, err
}

// wait waits until it is worth looking again.
func (m *Mailbox) wait(ctx context.Context) error {
	var idle *imapclient.IdleCommand
	if m.idles {
		err := m.do(ctx, stepRead, func(context.Context) (err error) {
			idle, err = m.client.Idle()
			return err
		})
		if _, refused := errors.AsType[*imap.Error](err); refused {
			m.idles = false
		} else if err != nil {
			return err
		}
	}
	poll := time.NewTimer(m.poll)
	defer poll.Stop()
	select {
	case <-m.news:
	case <-poll.C:
	case <-m.client.Closed():
	case <-ctx.Done():
	}
	if idle == nil {
		return nil // The next exchange finds out about the end of the connection or of ctx.
	}
	return m.do(ctx, stepRead, func(context.Context) error {
		if err := idle.Close(); err != nil {
			return err
		}
		return idle.Wait()
	})
}

// hear is called when the server speaks unasked.
func (m *Mailbox) hear(data *imapclient.UnilateralDataMailbox) {
	if data.NumMessages == nil {
		return
	}
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// Close ends the connection, politely if it is in order.
func (m *Mailbox) Close(ctx context.Context) {
	m.timeout = goodbyeTimeout
	_ = m.do(ctx, stepRead, func(context.Context) error { return m.client.Logout().Wait() })
	_ = m.client.Close()
}

// do carries out one exchange with the server. The IMAP client knows neither contexts nor time-outs, but the end of its
// connection interrupts it.
func (m *Mailbox) do(ctx context.Context, step Step, exchange func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, errSilent)
	defer cancel()
	m.conn.allow(m.maxMessage + chatter)
	stop := context.AfterFunc(ctx, func() { _ = m.conn.Close() })
	err := exchange(ctx)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return m.account.failure(step, err)
	}
	return nil
}
