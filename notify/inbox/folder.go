package inbox

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/countersign/countersign/notify/mailhost"
)

const (
	// chatter is how many bytes an answer may have beside a message in it. The numbers of a hundred thousand messages fit.
	chatter = 1 << 20
	// batch is how many messages are taken from one search.
	batch = 1000
	// goodbyeTimeout bounds LOGOUT, a courtesy.
	goodbyeTimeout = 2 * time.Second
)

// folder is one folder, opened for reading over one connection, used by one goroutine at a time. All its errors are an
// *Error, and after one of them it can only be closed.
type folder struct {
	options Options
	conn    *connection
	client  *imapclient.Client
	idles   bool

	validity uint32   // UIDVALIDITY: as long as it stays the same, numbers mean the same messages
	last     imap.UID // the highest number that was given to a message before the folder was opened

	size atomic.Uint32 // how many messages the server says that there are
	news chan struct{} // has a token once it has spoken of more
}

// open connects, signs in and opens the folder. The options are complete.
func open(ctx context.Context, o Options) (*folder, error) {
	f := &folder{options: o, news: make(chan struct{}, 1)}
	dialling, cancel := context.WithTimeoutCause(ctx, o.Timeout, errSilent)
	defer cancel()
	raw, err := o.Dial(dialling, "tcp", o.Account.Address())
	if err != nil {
		if dialling.Err() != nil {
			err = context.Cause(dialling)
		}
		return nil, failure(o.Account, stepConnect, err)
	}
	f.conn = &connection{Conn: raw}
	for _, exchange := range []struct {
		step Step
		do   func(context.Context) error
	}{
		{stepTLS, f.encrypt},
		{stepConnect, f.greeted},
		{stepSignIn, f.signIn},
		{stepFolder, f.examine},
	} {
		if err := f.do(ctx, exchange.step, exchange.do); err != nil {
			_ = f.conn.Close()
			return nil, err
		}
	}
	return f, nil
}

// encrypt makes the client, on TLS unless the account does without.
func (f *folder) encrypt(ctx context.Context) error {
	options := &imapclient.Options{
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: f.hear, Expunge: f.hearGone},
	}
	security := f.options.Account.Security
	if security == mailhost.NoTLS {
		f.client = imapclient.New(f.conn, options)
		return nil
	}
	if security == mailhost.StartTLS {
		if err := startTLS(f.conn); err != nil {
			return err
		}
	}
	secure := tls.Client(f.conn, f.options.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	if security == mailhost.StartTLS {
		f.client = imapclient.New(greet(secure), options)
	} else {
		f.client = imapclient.New(secure, options)
	}
	return nil
}

// greeted returns what the server greets with, if that is an error. Where the server has hung up after it, the library
// tells now of the greeting and now of the hanging up, by chance: only the first says why.
func (f *folder) greeted(context.Context) error {
	err := f.client.WaitGreeting()
	for range 30 {
		if _, ok := errors.AsType[*imap.Error](err); ok || err == nil {
			return err
		}
		err = f.client.WaitGreeting()
	}
	return err
}

func (f *folder) signIn(context.Context) error {
	if f.client.Caps().Has(imap.CapLoginDisabled) {
		return errors.New("the server does not let anybody sign in with a password here")
	}
	if err := f.client.Login(f.options.Account.Username, string(f.options.Account.Password)).Wait(); err != nil {
		return err
	}
	f.idles = f.client.Caps().Has(imap.CapIdle)
	return nil
}

// examine opens the folder for reading only.
func (f *folder) examine(context.Context) error {
	data, err := f.client.Select(f.options.Account.Folder, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return err
	}
	f.size.Store(data.NumMessages)
	f.validity = data.UIDValidity
	switch {
	case data.UIDNext > 0:
		f.last = data.UIDNext - 1
	case data.NumMessages > 0: // Servers older than RFC 3501 do not tell UIDNEXT.
		newest, err := f.search(imap.SearchCriteria{UID: []imap.UIDSet{{{}}}}) // UID *
		if err != nil {
			return err
		}
		if len(newest) > 0 {
			f.last = newest[len(newest)-1].Stop
		}
	}
	return nil
}

func (f *folder) search(criteria imap.SearchCriteria) (imap.UIDSet, error) {
	data, err := f.client.UIDSearch(&criteria, nil).Wait()
	if err != nil {
		return nil, err
	}
	found, _ := data.All.(imap.UIDSet)
	return found, nil
}

// before returns the number after which the messages begin that have arrived since a day.
func (f *folder) before(ctx context.Context, day time.Time) (uid imap.UID, err error) {
	err = f.do(ctx, stepRead, func(context.Context) error {
		recent, err := f.search(imap.SearchCriteria{Since: day})
		uid = f.last
		if len(recent) > 0 {
			uid = max(recent[0].Start, 1) - 1
		}
		return err
	})
	return uid, err
}

// look returns the numbers of the messages after one, in ascending order; the first thousand, where there are more.
func (f *folder) look(ctx context.Context, after imap.UID) (found []imap.UID, err error) {
	if after == math.MaxUint32 {
		return nil, nil
	}
	err = f.do(ctx, stepRead, func(context.Context) error {
		// A server may keep new messages to itself until it is asked for nothing.
		if err := f.client.Noop().Wait(); err != nil {
			return err
		}
		select {
		case <-f.news: // The search shows them.
		default:
		}
		// The last message is always among them, even if it is older: n:* is *:n.
		set, err := f.search(imap.SearchCriteria{UID: []imap.UIDSet{{{Start: after + 1}}}})
		if err != nil {
			return err
		}
		for _, numbers := range set {
			// The number after the highest one there can be is 0.
			for uid := max(numbers.Start, after+1); uid-1 < numbers.Stop && len(found) < batch; uid++ {
				found = append(found, uid)
			}
		}
		return nil
	})
	return found, err
}

// fetch reads a message, cut at MaxMessage. It is nil where the message has gone in the meantime; after an error it is what
// has come of it. Undated, the server is asked for the message alone: it may write a date that the library cannot read.
func (f *folder) fetch(ctx context.Context, uid imap.UID, dated bool) (m *Message, err error) {
	limit := f.options.MaxMessage
	err = f.do(ctx, stepRead, func(context.Context) error {
		fetching := f.client.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{
			InternalDate: dated,
			// One byte more tells whether the message is longer. Sizes that servers tell are not always right.
			BodySection: []*imap.FetchItemBodySection{{Peek: true, Partial: &imap.SectionPartial{Size: limit + 1}}},
		})
		complete := true
		for data := fetching.Next(); data != nil; data = fetching.Next() {
			m = &Message{Bookmark: Bookmark{f.validity, uint32(uid)}}
			complete = false // The server may have told of another client's flags instead.
			for item := data.Next(); item != nil; item = data.Next() {
				switch item := item.(type) {
				case imapclient.FetchItemDataInternalDate:
					m.ReceivedAt = item.Time
				case imapclient.FetchItemDataBodySection:
					complete = true
					if item.Literal != nil {
						m.Raw, _ = io.ReadAll(io.LimitReader(item.Literal, limit+1)) // fetching ends with the error.
					}
				}
			}
		}
		err := fetching.Close()
		if m != nil && int64(len(m.Raw)) > limit { // All that is wanted has come, whatever became of the rest.
			m.Raw, m.Truncated = m.Raw[:limit], true
			return nil
		}
		if err == nil && !complete {
			return errors.New("the server answers without the message")
		}
		return err
	})
	return m, err
}

// wait waits until it is worth looking again.
func (f *folder) wait(ctx context.Context) error {
	var idle *imapclient.IdleCommand
	if f.idles {
		err := f.do(ctx, stepRead, func(context.Context) (err error) {
			idle, err = f.client.Idle()
			return err
		})
		if _, refused := errors.AsType[*imap.Error](err); refused {
			f.idles = false
		} else if err != nil {
			return err
		}
	}
	poll := time.NewTimer(f.options.Poll)
	defer poll.Stop()
	select {
	case <-f.news:
	case <-poll.C:
	case <-f.client.Closed():
	case <-ctx.Done():
	}
	if idle == nil {
		return nil // The next exchange finds out about the end of the connection or of ctx.
	}
	return f.do(ctx, stepRead, func(context.Context) error {
		if err := idle.Close(); err != nil {
			return err
		}
		return idle.Wait()
	})
}

// hear is called when the server tells unasked how many messages there are. Some do so at every opportunity.
func (f *folder) hear(data *imapclient.UnilateralDataMailbox) {
	if data.NumMessages == nil || *data.NumMessages <= f.size.Swap(*data.NumMessages) {
		return
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// hearGone is called when the server tells that a message has been deleted.
func (f *folder) hearGone(uint32) {
	if size := f.size.Load(); size > 0 {
		f.size.Store(size - 1)
	}
}

// close ends the connection, politely if it and ctx are in order.
func (f *folder) close(ctx context.Context) {
	f.options.Timeout = goodbyeTimeout
	_ = f.do(ctx, stepRead, func(context.Context) error { return f.client.Logout().Wait() })
	_ = f.client.Close()
}

// do carries out one exchange with the server. The IMAP client knows neither contexts nor time-outs, but the end of its
// connection interrupts it.
func (f *folder) do(ctx context.Context, step Step, exchange func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.options.Timeout, errSilent)
	defer cancel()
	f.conn.allow(f.options.MaxMessage + chatter)
	stop := context.AfterFunc(ctx, func() { _ = f.conn.Close() })
	err := exchange(ctx)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return failure(f.options.Account, step, err)
	}
	return nil
}
