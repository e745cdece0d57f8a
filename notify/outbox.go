package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

const (
	// maxClaimed bounds what one process has claimed and not yet settled.
	maxClaimed = 1024
	// foresight is for how long a process claims ahead. The less it is, the less is in doubt after a crash.
	foresight = 200 * time.Millisecond
	// look is how often a process looks for what is due, at the switch, and at the other senders.
	look = 250 * time.Millisecond
	// beat is how often a sender signs its presence.
	beat = 3 * time.Second
	// settlePause lies between two tries to write down what became of messages.
	settlePause = time.Second
	// firstOutage and longestOutage bound the pause before a mail server that does not let us in is tried again.
	firstOutage   = 5 * time.Second
	longestOutage = 2 * time.Minute
)

// Sender hands a message to a mail server. A smtp.Transport is one; its errors are *smtp.Error.
type Sender interface {
	Send(ctx context.Context, e smtp.Envelope) error
}

// Mailed is a letter that a mail server has accepted.
type Mailed struct {
	Client     uuid.UUID
	Invitation uuid.UUID
	Kind       provisioning.LetterKind
	Number     int
}

// Planner is told of accepted letters in the transaction that records them. Reminders implements it.
type Planner interface {
	Mailed(ctx context.Context, tx pgx.Tx, letters []Mailed) error
}

// Outbox sends what the Mailer has queued. Any number of processes may run one on a database.
type Outbox struct {
	DB     provisioning.DB
	Mailer *Mailer
	Sender Sender
	// Connections is how many messages are handed over at once; 1 if zero.
	Connections int
	Pace        Pace
	Planner     Planner // nil plans nothing
	Now         func() time.Time
	Log         *slog.Logger
	Count       func(Result) // called once for every attempt that ended; nil counts nothing

	// DeadAfter is the silence after which what a sender has claimed counts as unknown; 15 seconds if zero.
	DeadAfter time.Duration
	// UnknownPause is how long a message whose outcome is unknown waits at least before it is sent again, for a server that is
	// still at work with it; 30 seconds if zero.
	UnknownPause time.Duration
	// Drain is how long messages under way have to end after the context of Run has; 10 seconds if zero.
	Drain time.Duration
}

// Result is how an attempt ended, for counting.
type Result string

const (
	ResultAccepted Result = "accepted"
	ResultDeferred Result = "deferred"
	ResultRefused  Result = "refused"
	ResultFailed   Result = "failed"
	// ResultRepeated counts messages that are sent again because the outcome of an attempt is unknown: at
	// most so many owners have got a mail twice.
	ResultRepeated Result = "repeated"
)

// Run sends until ctx ends, lets what is under way end, and gives back what it had claimed. Its error is
// nil unless the database kept it from doing that.
//
// A sender that was silent for too long, because its process was frozen or its database away, has been replaced. It
// ends, and begins anew as another.
func (o *Outbox) Run(ctx context.Context) error {
	replaced, err := o.run(ctx)
	for replaced && ctx.Err() == nil {
		o.Log.WarnContext(ctx, "this sender of mail was silent for too long and has been replaced: it begins anew", "err", err)
		again, failed := o.run(ctx)
		if err = failed; err == nil {
			replaced = again
			continue
		}
		select { // The database that made it silent is still away.
		case <-ctx.Done():
		case <-time.After(settlePause):
		}
	}
	return err
}

// run is the life of one sender. It ends when ctx does, or when it has been replaced.
func (o *Outbox) run(ctx context.Context) (replaced bool, err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	s := &shift{
		Outbox:   o,
		id:       uuid.New(),
		end:      end,
		work:     make(chan message, maxClaimed),
		accepted: make(chan acceptance),
		verdicts: make(chan verdict, maxClaimed),
		settled:  make(chan struct{}, 1),
	}
	s.connections = max(1, o.Connections)
	s.patience = cmp.Or(o.DeadAfter, 15*time.Second)
	s.unknownPause = cmp.Or(o.UnknownPause, 30*time.Second)
	if err := s.appear(ctx); err != nil {
		if ctx.Err() != nil {
			return false, nil // It ended before it began.
		}
		return false, fmt.Errorf("begin to send mail: %w", err)
	}

	// What is under way outlives ctx, and its outcome outlives that.
	sending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var claiming, workers, noting, settling sync.WaitGroup
	claiming.Go(func() { s.watch(ctx) })
	claiming.Go(func() { s.recoverAll(ctx) })
	claiming.Go(func() { s.claimAll(ctx) })
	for range s.connections {
		workers.Go(func() { s.send(ctx, sending) })
	}
	noting.Go(func() { s.noteAll(sending) })
	settling.Go(func() { s.settleAll(sending) })

	claiming.Wait()
	close(s.work)
	drained := time.AfterFunc(cmp.Or(o.Drain, 10*time.Second), giveUp)
	defer drained.Stop()
	workers.Wait()
	close(s.accepted)
	noting.Wait()
	close(s.verdicts)
	settling.Wait()
	return s.lost.Load(), s.leave(context.WithoutCancel(ctx))
}

// shift is one run of an Outbox.
//
//	claimAll ──work──► send × Connections ──verdicts──► settleAll
//	    ▲                  └─accepted─► noteAll             │
//	    └──────────────────── settled ◄─────────────────────┘
//
// What an acceptance means to a client takes a transaction with many rows. So it is noted first, by one small
// statement, and a connection carries no other message before that: at most one message a connection can be
// accepted and then forgotten by a crash.
type shift struct {
	*Outbox

	id           uuid.UUID // of the sender
	connections  int
	end          context.CancelFunc
	lost         atomic.Bool // others have replaced this sender
	patience     time.Duration
	unknownPause time.Duration
	work         chan message
	accepted     chan acceptance
	verdicts     chan verdict
	settled      chan struct{} // says that there may be room for more

	claimed atomic.Int64 // and not yet settled
	rate    atomic.Int64 // settled a second, of late
	shut    atomic.Bool  // the switch is off
	signed  atomic.Int64 // when this sender last signed its presence, in Unix nanoseconds

	mu     sync.Mutex
	outage time.Duration // how long to wait for a server that does not let us in; zero if it does
	until  time.Time
}

// claimAll claims what is due, as far ahead as is sent within the foresight.
func (s *shift) claimAll(ctx context.Context) {
	for ctx.Err() == nil {
		wait := look
		if room := s.room(); room > 0 {
			claimed, pause, err := s.claim(ctx, room)
			switch {
			case err != nil && ctx.Err() == nil:
				s.Log.ErrorContext(ctx, "mail waits: what is due could not be claimed", "err", err)
				wait = settlePause
			case pause > 0:
				wait = min(wait, pause)
			case len(claimed) == room:
				wait = 0
			}
			for _, m := range claimed {
				s.work <- m
			}
		}
		if wait == 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.settled:
		case <-time.After(wait):
		}
	}
}

// room returns how many messages may be claimed now. It is nothing unless a good part of what may be
// claimed is, so that few transactions claim many.
func (s *shift) room() int {
	if s.shut.Load() || !s.present() {
		return 0
	}
	s.mu.Lock()
	outage, until := s.outage, s.until
	s.mu.Unlock()
	claimed := int(s.claimed.Load())
	if outage > 0 { // One message at a time finds out whether the server is back.
		if claimed > 0 || s.Now().Before(until) {
			return 0
		}
		return 1
	}
	most := min(maxClaimed, max(4*s.connections, int(s.rate.Load())*int(foresight)/int(time.Second)))
	if room := most - claimed; room >= (most+3)/4 {
		return room
	}
	return 0
}

// watch keeps an eye on the switch, and shows the other senders that this one lives.
func (s *shift) watch(ctx context.Context) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var lastBeat time.Time
	for {
		if err := s.readSwitch(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "the switch of outgoing mail could not be read", "err", err)
		}
		if time.Since(lastBeat) >= min(beat, s.patience/5) {
			if err := s.sign(ctx); err == nil {
				lastBeat = time.Now()
			} else if ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "this sender of mail could not sign its presence", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// present tells whether the others still believe that this sender lives: what it has claimed is its own.
// The wall clock is asked, because others go by it while this process is frozen.
func (s *shift) present() bool {
	return !s.lost.Load() && time.Now().Round(0).Sub(time.Unix(0, s.signed.Load())) < s.patience/2
}

// send hands messages over, one after the other. What must not or need not be sent now is given back.
func (s *shift) send(ctx, sending context.Context) {
	for m := range s.work {
		switch {
		case m.unwanted != "":
			s.verdicts <- verdict{message: m, state: StateCancelled, error: m.unwanted}
		case ctx.Err() != nil || s.shut.Load() || s.away() || !s.present():
			s.verdicts <- verdict{message: m, released: true}
		default:
			err := s.attempt(sending, m)
			if errors.Is(err, errUnread) {
				s.Log.WarnContext(ctx, "a mail waits: it could not be written", "message", m.ID, "err", err)
				s.verdicts <- verdict{message: m, released: true}
				continue
			}
			s.noteServer(ctx, err)
			if err == nil {
				s.note(m.ID)
			}
			s.verdicts <- s.judge(sending, m, err)
		}
	}
}

// attempt hands one message over.
func (s *shift) attempt(ctx context.Context, m message) error {
	envelope, err := s.Mailer.compose(ctx, m)
	if err != nil {
		return err
	}
	return s.Sender.Send(ctx, envelope)
}

// away tells that the mail server has just shut somebody out and that its pause is not over.
func (s *shift) away() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outage > 0 && s.Now().Before(s.until)
}

// readSwitch notes whether sending is paused.
func (s *shift) readSwitch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience/4)
	defer cancel()
	var paused bool
	if err := s.DB.QueryRow(ctx, `SELECT paused_at IS NOT NULL FROM mail_switch`).Scan(&paused); err != nil {
		return err
	}
	s.shut.Store(paused)
	return nil
}

// appear makes this sender known to the others.
func (s *shift) appear(ctx context.Context) error {
	now := time.Now()
	if _, err := s.DB.Exec(ctx, `INSERT INTO mail_senders (id, seen_at) VALUES ($1, clock_timestamp())`, s.id); err != nil {
		return err
	}
	s.signed.Store(now.UnixNano())
	return nil
}

// sign shows the other senders that this one lives. If they have replaced it meanwhile, what it had claimed is no
// longer its own, and it ends.
func (s *shift) sign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience/4)
	defer cancel()
	now := time.Now()
	tag, err := s.DB.Exec(ctx, `UPDATE mail_senders SET seen_at = clock_timestamp() WHERE id = $1`, s.id)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		s.lose()
		return nil
	}
	s.signed.Store(now.UnixNano())
	return nil
}

// lose ends this sender because it was replaced.
func (s *shift) lose() {
	s.lost.Store(true)
	s.end()
}

// leave signs this sender off, unless it could not write down what became of something: then others will find
// that it fell silent.
func (s *shift) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		// A claim whose commit is still on its way holds the row.
		if _, err := tx.Exec(ctx, `SELECT FROM mail_senders WHERE id = $1 FOR UPDATE`, s.id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			DELETE FROM mail_senders
			WHERE id = $1
				AND NOT EXISTS (
					SELECT FROM messages
					WHERE ended_at IS NULL
						AND sender_id = $1
				)`, s.id)
		return err
	})
	if err != nil {
		return fmt.Errorf("end sending mail: %w", err)
	}
	return nil
}
