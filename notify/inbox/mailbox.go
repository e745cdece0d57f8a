package inbox

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// Mailbox is a folder that is read over one connection, by one goroutine at a time. It does not come back by itself: whoever
// wants to go on after an error opens it anew.
type Mailbox struct {
	folder *folder
	read   imap.UID // messages up to here have been returned, or were there before
}

// Open connects, signs in and opens the folder. Every error is an *Error.
func Open(ctx context.Context, o Options) (*Mailbox, error) {
	f, err := open(ctx, o.withDefaults())
	if err != nil {
		return nil, err
	}
	return &Mailbox{folder: f, read: f.last}, nil
}

// Next returns the oldest message that has arrived since Open and that it has not returned yet, and waits for one where
// there is none. The message is as it was received, cut at MaxMessage. After an error, which is an *Error, and after the
// end of ctx the connection is of no use any more.
func (m *Mailbox) Next(ctx context.Context) ([]byte, error) {
	for {
		found, err := m.folder.look(ctx, m.read)
		if err != nil {
			return nil, err
		}
		for _, uid := range found {
			message, err := m.folder.fetch(ctx, uid, false)
			if err != nil {
				return nil, err
			}
			m.read = uid
			if message != nil {
				return message.Raw, nil
			}
		}
		if len(found) == 0 {
			if err := m.folder.wait(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// Close ends the connection, politely if it is in order.
func (m *Mailbox) Close(ctx context.Context) { m.folder.close(ctx) }
