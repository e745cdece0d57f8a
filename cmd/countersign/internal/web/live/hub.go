// Package live lets everybody who looks at a page see at once when it changes, for the price of one look.
//
//	Mark ──► another? ──yes──► Read ──► another? ──yes──► every stream gets it, with an id
//	 ▲          │ no                       │ no
//	 └── 1 s ───┴──────────────────────────┘
//
// A [Hub] is one for a process. Once a second it asks for the mark, however many streams there are, and not at all while
// there are none. Only if the mark says that something was written is the page made anew, once for all of them.
// [Hub.Look] is the same for whoever asks for the page: what it returns was right when it was asked.
//
// [Hub.Stream] answers a request with server-sent events: the present state at once, unless the browser shows it already,
// then every other one, and heartbeats in between. Who reads slowly gets the newest state and none of those before it;
// who reads nothing is dropped. Streams end with their session, for which is asked now and then for all of them together,
// by [Hub.End] and by [Hub.Close]; and if nothing can be read, so that browsers learn of it.
//
// What is on the page, and who may see it, is the business of package web.
package live

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/provisioning"
)

const (
	beat     = time.Second
	round    = 10 // beats from one question whether the sessions go on to the next
	patience = 10 * time.Second

	// lasting is how long a state is right while nothing is written: what time alone changes comes as late as that.
	lasting = 15 * time.Second

	// most streams of a session: over HTTP/1.1 a browser has six connections to us for all its tabs.
	most = 4
)

var (
	// ErrTooMany means that the session has as many streams as it may have.
	ErrTooMany = errors.New("as many tabs are kept up to date as can be")
	// ErrClosed means that the program ends.
	ErrClosed = errors.New("the program ends")
)

// Hub reads for all streams. Its fields are all needed; it is safe for concurrent use.
type Hub struct {
	// Mark returns a number that is another one whenever something was written.
	Mark func(context.Context) (int64, error)
	// Read makes the page, or the part of it that changes.
	Read func(context.Context) ([]byte, error)
	// Ended returns those of the sessions that have ended.
	Ended func(context.Context, []provisioning.Secret) ([]provisioning.Secret, error)
	Log   *slog.Logger

	reading sync.Mutex // who reads does it for all who wait
	latest  State
	mark    int64 // at which latest was read

	mu      sync.Mutex
	streams map[*stream]struct{}
	rest    context.CancelFunc // ends run; of use while there are streams
	closed  bool
}

// State is what there is to see.
type State struct {
	ID   string // of all states that look alike, in any process
	HTML []byte

	at time.Time
}

// stream is one who looks on. The hub's mu guards it.
type stream struct {
	session provisioning.Secret
	shown   string     // ID of the state that was offered last
	at      time.Time  // when that was read
	states  chan State // the newest that was not taken yet
	ended   chan struct{}
	expired bool // it ended with its session
}

// Look returns the present state.
func (h *Hub) Look(ctx context.Context) (State, error) {
	h.reading.Lock()
	defer h.reading.Unlock()
	mark, err := h.Mark(ctx) // Before the page is read: what is written meanwhile is seen the next time.
	if err != nil {
		return State{}, err
	}
	if h.latest.ID != "" && h.mark == mark && time.Since(h.latest.at) < lasting {
		return h.latest, nil
	}
	html, err := h.Read(ctx)
	if err != nil {
		return State{}, err
	}
	sum := sha256.Sum256(html)
	h.mark, h.latest = mark, State{ID: base64.RawURLEncoding.EncodeToString(sum[:12]), HTML: html, at: time.Now()}
	return h.latest, nil
}

// join adds a stream for a browser that shows the state with the ID shown. It returns ErrTooMany or ErrClosed.
func (h *Hub) join(ctx context.Context, session provisioning.Secret, shown string) (*stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	own := 0
	for s := range h.streams {
		if s.session == session {
			own++
		}
	}
	if own >= most {
		return nil, ErrTooMany
	}
	if h.streams == nil {
		h.streams = make(map[*stream]struct{})
	}
	s := &stream{session: session, shown: shown, states: make(chan State, 1), ended: make(chan struct{})}
	h.streams[s] = struct{}{}
	if len(h.streams) == 1 {
		ctx, h.rest = context.WithCancel(context.WithoutCancel(ctx))
		go h.run(ctx)
	}
	return s, nil
}

// run looks for all streams until there are none.
func (h *Hub) run(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := h.step(ctx, n%round == 0); err != nil && ctx.Err() == nil {
			h.Log.WarnContext(ctx, "open pages cannot be kept up to date; they ask by themselves", "err", err)
			h.endAll(false)
		}
	}
}

func (h *Hub) step(ctx context.Context, sessions bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if sessions {
		ended, err := h.Ended(ctx, h.sessions())
		if err != nil {
			return err
		}
		h.End(ended...)
	}
	state, err := h.Look(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		s.offer(state)
	}
	return nil
}

// offer leaves a state to be taken, in place of an older one. It never waits. The hub's mu is held.
func (s *stream) offer(state State) {
	if state.ID == s.shown || state.at.Before(s.at) {
		return
	}
	s.shown, s.at = state.ID, state.at
	select {
	case <-s.states:
	default:
	}
	s.states <- state
}

// show offers the present state to one stream.
func (h *Hub) show(ctx context.Context, s *stream) error {
	state, err := h.Look(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.offer(state)
	return nil
}

func (h *Hub) sessions() []provisioning.Secret {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]provisioning.Secret, 0, len(h.streams))
	for s := range h.streams {
		all = append(all, s.session)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// End ends the streams of sessions that have ended.
func (h *Hub) End(sessions ...provisioning.Secret) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		if slices.Contains(sessions, s.session) {
			s.expired = true
			h.end(s)
		}
	}
}

// Close ends all streams, and there will be no others.
func (h *Hub) Close() { h.endAll(true) }

func (h *Hub) endAll(closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = h.closed || closed
	for s := range h.streams {
		h.end(s)
	}
}

// leave ends one stream, if it has not ended.
func (h *Hub) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end(s)
}

func (h *Hub) end(s *stream) {
	if _, ok := h.streams[s]; ok {
		delete(h.streams, s)
		close(s.ended)
		if len(h.streams) == 0 {
			h.rest()
		}
	}
}
