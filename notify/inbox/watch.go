package inbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/emersion/go-imap/v2"
)

const (
	// shortestPause and longestPause are how long it takes until a lost connection is made again, the first time and after
	// many times in vain. Hosts lock accounts that are tried too often with a wrong password: that takes the longest at once.
	shortestPause = time.Second
	longestPause  = 5 * time.Minute
	// steady is how long a connection must have held to count as a new beginning.
	steady = time.Minute
	// patience is how often a message is tried before it is asked whether it, and not the server, is out of order.
	patience = 3
)

// Watch reads the mailbox from a bookmark on and goes on until ctx ends, which is no error, or until handle fails, which is
// returned wrapped.
//
// Messages are handed out one at a time, in ascending order of their UIDs. handle stores the message's bookmark together
// with what it does, and the next Watch begins there. So each message is handed out at least once, and again only if handle
// failed or stored nothing, or if the mailbox numbers its messages anew. Then, and with an empty bookmark, reading begins
// with what arrived in the last Options.Since.
//
// A connection that is lost or cannot be made is tried again for ever, after growing pauses, and Options.Log is told when
// the trouble begins and when it is over. A message that the server cannot be brought to hand out, while it does hand out
// one behind it, is handed out as far as it has come.
func Watch(ctx context.Context, o Options, from Bookmark, handle func(context.Context, Message) error) error {
	w := &watch{Options: o.withDefaults(), mark: from}
	defer w.disconnect(ctx)
	for {
		m := w.next(ctx)
		if m == nil {
			return nil
		}
		switch err := handle(ctx, *m); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("message %d of %s: %w", m.UID, w.Account, err)
		}
	}
}

// watch is one run of Watch.
type watch struct {
	Options

	mark   Bookmark
	folder *folder    // nil while there is no connection
	opened time.Time  // when it was made
	found  []imap.UID // messages that have been found and not been read

	suspect imap.UID // the message at which the last connection was lost
	tries   int      // how often

	pause   time.Duration
	broken  time.Time // when the mailbox could not be read any more; zero while it can be
	refused bool      // the trouble has been said to be the password
}

// next returns the next message, however long it takes; nil when ctx has ended.
func (w *watch) next(ctx context.Context) *Message {
	for {
		m, err := w.read(ctx)
		if err == nil {
			return m
		}
		w.disconnect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.stumble(ctx, err)
	}
}

// read returns the next message unless the connection breaks before.
func (w *watch) read(ctx context.Context) (*Message, error) {
	if w.folder == nil {
		if err := w.connect(ctx); err != nil {
			return nil, err
		}
	}
	for {
		for len(w.found) > 0 {
			if m, err := w.take(ctx); m != nil || err != nil {
				return m, err
			}
		}
		var err error
		if w.found, err = w.folder.look(ctx, imap.UID(w.mark.UID)); err != nil {
			return nil, err
		}
		if len(w.found) == 0 {
			w.proceed(ctx)
			if err := w.folder.wait(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// connect opens the folder and makes the bookmark one of its own.
func (w *watch) connect(ctx context.Context) (err error) {
	if w.folder, err = open(ctx, w.Options); err != nil {
		return err
	}
	w.opened = time.Now()
	if w.mark != (Bookmark{}) && w.mark.UIDValidity == w.folder.validity {
		return nil
	}
	if w.mark != (Bookmark{}) {
		w.Log.WarnContext(ctx, "the mailbox numbers its messages anew: what arrived lately is read again", "mailbox", w.Account)
	}
	// Servers go by the day of their own time zone.
	uid, err := w.folder.before(ctx, w.opened.Add(-w.Since).AddDate(0, 0, -1))
	if err != nil {
		return err
	}
	w.mark = Bookmark{w.folder.validity, uint32(uid)}
	return nil
}

// take reads the first of the messages that have been found. It is nil where the message has gone.
func (w *watch) take(ctx context.Context) (*Message, error) {
	uid, behind := w.found[0], w.found[1:]
	if uid != w.suspect {
		w.suspect, w.tries = uid, 0
	}
	hopeless := w.tries >= patience && len(behind) > 0
	if hopeless {
		witness := behind[rand.N(len(behind))] //nolint:gosec // Any of them will do, but not always the same one.
		if _, err := w.folder.fetch(ctx, witness, false); err != nil {
			return nil, err
		}
	}
	m, err := w.folder.fetch(ctx, uid, w.tries == 0)
	switch {
	case err == nil:
		w.proceed(ctx)
	case ctx.Err() != nil || !hopeless:
		w.tries++
		return nil, err
	case m == nil:
		m = &Message{Bookmark: Bookmark{w.mark.UIDValidity, uint32(uid)}, Truncated: true}
	default:
		m.Truncated = true
	}
	w.mark.UID, w.found = uint32(uid), behind
	return m, nil
}

func (w *watch) disconnect(ctx context.Context) {
	if w.folder != nil {
		w.folder.close(ctx)
	}
	w.folder, w.found = nil, nil
}

// stumble tells of trouble that is new, and pauses.
func (w *watch) stumble(ctx context.Context, err error) {
	failed, _ := errors.AsType[*Error](err)
	refused := failed.Step == stepSignIn && failed.Reply != ""
	if w.broken.IsZero() || (refused && !w.refused) {
		w.Log.WarnContext(ctx, "the mailbox cannot be read: it is tried again and again", "mailbox", w.Account, "err", err, "cure", failed.Cure())
	}
	if w.broken.IsZero() {
		w.broken = time.Now()
	}
	w.refused = w.refused || refused

	w.pause = min(max(2*w.pause, shortestPause), longestPause)
	if refused {
		w.pause = longestPause
	}
	timer := time.NewTimer(w.pause + rand.N(w.pause/4)) //nolint:gosec // A pause is no secret.
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// proceed tells that trouble is over, where there was any.
func (w *watch) proceed(ctx context.Context) {
	if !w.broken.IsZero() {
		w.Log.InfoContext(ctx, "the mailbox is read again", "mailbox", w.Account, "after", time.Since(w.broken).Round(time.Second))
	}
	w.broken, w.refused = time.Time{}, false
	if time.Since(w.opened) >= steady {
		w.pause = 0
	}
}
