package mailsink

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Options change the behaviour of a Sink. The zero value accepts everything from everyone.
type Options struct {
	// MaxMessages and MaxBytes bound what is kept; the oldest messages go first. 5,000 and 256 MiB by default.
	MaxMessages int
	MaxBytes    int64
	// MaxMessageBytes is the announced SIZE; more is refused with 552. 25 MiB by default.
	MaxMessageBytes int64
	// IdleTimeout ends a connection whose client says nothing; 5 minutes by default.
	IdleTimeout time.Duration

	// TLS offers STARTTLS; with ImplicitTLS every connection begins with TLS instead.
	TLS         *tls.Config
	ImplicitTLS bool
	// Username and Password demand AUTH PLAIN before MAIL; over TLS only, if TLS is set.
	Username, Password string

	// Rules may refuse a recipient; nil accepts. NoSuchUser, TryLater and Greylist make the usual answers.
	Rules func(from, to string) *smtp.SMTPError
	// Latency is how long the answer to every message takes.
	Latency time.Duration
	// Faults is asked for every message that was received in full and not refused; nil means NoFault.
	Faults func(Message) Fault

	// Now is time.Now by default; Log is silent when nil.
	Now func() time.Time
	Log *slog.Logger
}

// Fault is what goes wrong between the end of a message and the answer to it.
type Fault int

const (
	// NoFault keeps the message and answers 250.
	NoFault Fault = iota
	// LoseAnswer keeps the message and closes the connection: the sender cannot know that it arrived.
	LoseAnswer
	// LoseMessage closes the connection and keeps nothing; to the sender it looks the same.
	LoseMessage
)

// NoSuchUser is the permanent refusal of a recipient, 550 5.1.1.
func NoSuchUser() *smtp.SMTPError {
	return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user here"}
}

// TryLater is the temporary refusal of a recipient, 451 4.7.1.
func TryLater() *smtp.SMTPError {
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "Greylisted, please try again later"}
}

// Greylist makes Rules that answer TryLater to the first n attempts for every recipient.
func Greylist(n int) func(from, to string) *smtp.SMTPError {
	var mu sync.Mutex
	attempts := map[string]int{}
	return func(_, to string) *smtp.SMTPError {
		mu.Lock()
		defer mu.Unlock()
		key := strings.ToLower(to)
		if attempts[key] == n {
			return nil
		}
		attempts[key]++
		return TryLater()
	}
}

// Stats count since New; nothing but time takes them back.
type Stats struct {
	Connections int64 `json:"connections"`
	Accepted    int64 `json:"accepted"`
	// Refused counts recipients refused by Rules.
	Refused int64 `json:"refused"`
	// Repeats counts accepted deliveries whose Message-ID the same recipient had already been given. It looks back a
	// million deliveries at most.
	Repeats int64 `json:"repeats"`
}

// Sink keeps messages. It is safe for concurrent use.
type Sink struct {
	opts Options
	smtp *smtp.Server

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[*conn]struct{}
	closing   chan struct{} // closed by Shutdown
	arrived   chan struct{} // closed and replaced at every arrival
	kept      []Message     // oldest first, ids ascending
	bytes     int64
	lastID    int64
	stats     Stats
	seed      maphash.Seed
	seen      map[uint64]struct{} // hashes of Message-ID and recipient
}

const maxSeen = 1 << 20

// New makes a Sink that serves nothing yet.
func New(o Options) *Sink {
	o.MaxMessages = cmp.Or(o.MaxMessages, 5000)
	o.MaxBytes = cmp.Or(o.MaxBytes, 256<<20)
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 25<<20)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 5*time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Sink{
		opts:    o,
		conns:   map[*conn]struct{}{},
		closing: make(chan struct{}),
		arrived: make(chan struct{}),
		seed:    maphash.MakeSeed(),
		seen:    map[uint64]struct{}{},
	}
	s.smtp = s.newServer()
	return s
}

// add keeps m as the newest message.
func (s *Sink) add(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	m.ID = s.lastID
	s.kept = append(s.kept, m)
	s.bytes += m.size()
	for len(s.kept) > s.opts.MaxMessages || (s.bytes > s.opts.MaxBytes && len(s.kept) > 1) {
		s.bytes -= s.kept[0].size()
		s.kept[0] = Message{}
		s.kept = s.kept[1:]
	}
	s.stats.Accepted++
	for _, to := range m.To {
		s.countRepeat(m.MessageID, to)
	}
	close(s.arrived)
	s.arrived = make(chan struct{})
}

func (s *Sink) countRepeat(messageID, to string) {
	if messageID == "" {
		return
	}
	key := maphash.String(s.seed, messageID+"\x00"+strings.ToLower(to))
	if _, again := s.seen[key]; again {
		s.stats.Repeats++
		return
	}
	if len(s.seen) == maxSeen {
		clear(s.seen)
	}
	s.seen[key] = struct{}{}
}

// Filter selects messages. Its zero value selects all.
type Filter struct {
	// To is one envelope recipient, any case.
	To string
	// Query is words that must all occur in the recipients, the sender or the subject, any case.
	Query string
	// Before selects messages with a smaller ID; Limit ends the selection. Both are off when 0.
	Before int64
	Limit  int
}

// Messages returns the selected messages, newest first. They share memory with the Sink: read only.
func (s *Sink) Messages(f Filter) []Message {
	words := strings.Fields(strings.ToLower(f.Query))
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Message
	for _, m := range slices.Backward(s.kept) {
		if (f.Before != 0 && m.ID >= f.Before) || !m.isFor(f.To) || !m.mentions(words) {
			continue
		}
		found = append(found, m)
		if len(found) == f.Limit {
			break
		}
	}
	return found
}

// message returns one kept message.
func (s *Sink) message(id int64) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := slices.BinarySearchFunc(s.kept, id, func(m Message, id int64) int { return cmp.Compare(m.ID, id) })
	if !ok {
		return Message{}, false
	}
	return s.kept[at], true
}

// Wait returns the oldest kept message that wanted accepts, or the first to arrive. It fails with the context's error only.
func (s *Sink) Wait(ctx context.Context, wanted func(Message) bool) (Message, error) {
	var after int64
	for {
		s.mu.Lock()
		arrived := s.arrived
		from, _ := slices.BinarySearchFunc(s.kept, after+1, func(m Message, id int64) int { return cmp.Compare(m.ID, id) })
		fresh := slices.Clone(s.kept[from:])
		after = s.lastID
		s.mu.Unlock()
		if at := slices.IndexFunc(fresh, wanted); at >= 0 {
			return fresh[at], nil
		}
		select {
		case <-ctx.Done():
			return Message{}, context.Cause(ctx)
		case <-arrived:
		}
	}
}

// Count returns how many messages are kept.
func (s *Sink) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// Stats returns the counters.
func (s *Sink) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Clear forgets all messages, but neither the counters nor what is a repeat.
func (s *Sink) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept, s.bytes = nil, 0
}

// version changes whenever the list or its counters do.
func (s *Sink) version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf(`"%d-%d-%d-%d"`, s.lastID, len(s.kept), s.stats.Connections, s.stats.Refused)
}

// address is where senders reach the Sink, or empty before Serve.
func (s *Sink) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listeners) == 0 {
		return ""
	}
	return s.listeners[0].Addr().String()
}
