package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

// giveUp is how long a message is tried (RFC 5321, 4.5.4.1: at least 4 to 5 days).
const giveUp = 5 * 24 * time.Hour

// verdict is what becomes of a claimed message.
type verdict struct {
	message
	released bool  // given back, never sent
	state    State // otherwise
	error    string
	pause    time.Duration // before the next attempt
	unknown  bool          // the attempt may have been accepted all the same
	bounced  bool          // the address was refused for good
	told     bool          // is an event of the client, beside those that always are
	shutOut  bool          // the mail server has not even looked at it
	results  []Result
}

// judge says what an attempt came to; err is nil if the message was accepted.
func (s *shift) judge(ctx context.Context, m message, err error) verdict {
	v := verdict{message: m}
	if err == nil {
		v.state, v.results = StateSent, []Result{ResultAccepted}
		return v
	}
	failed, ok := errors.AsType[*smtp.Error](err)
	if !ok {
		// Not the server's doing: the message cannot be composed. It would not help to go on trying.
		failed = &smtp.Error{Kind: smtp.Policy, Err: err}
	}
	// PostgreSQL keeps neither of what these replace.
	v.shutOut = failed.ShutOut()
	v.error = strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", "?"), "?")
	overdue := m.TriedSince != nil && s.Now().Sub(*m.TriedSince) > giveUp
	switch {
	case !overdue && failed.Kind == smtp.Unknown:
		v.state, v.unknown, v.told = StateUnknown, true, true
		v.pause = max(s.unknownPause, pause(m.Attempts+1))
		v.results = []Result{ResultDeferred, ResultRepeated}
	case !overdue && failed.Kind == smtp.Temporary:
		v.state, v.pause, v.results = StateDeferred, pause(m.Attempts+1), []Result{ResultDeferred}
		// One line in the history tells that it waits; the further attempts are in the message's own row.
		v.told = m.Attempts == 0
	case failed.Kind == smtp.Permanent:
		v.state, v.bounced, v.results = StateFailed, true, []Result{ResultRefused}
	default:
		v.state, v.results = StateFailed, []Result{ResultFailed}
		s.Log.ErrorContext(ctx, "a message was given up for a cause that is not its recipient's: see its client's history",
			"message", m.ID, "client", m.ClientID, "err", err)
	}
	return v
}

// noteServer remembers whether the mail server lets us in. If it does not, its pauses grow, and only the
// messages that found out are put off: the others keep waiting untouched.
func (s *shift) noteServer(ctx context.Context, err error) {
	failed, ok := errors.AsType[*smtp.Error](err)
	if err != nil && !ok {
		return
	}
	shutOut := ok && failed.ShutOut()
	s.mu.Lock()
	before := s.outage
	switch {
	case !shutOut:
		s.outage = 0
	case !s.Now().Before(s.until):
		s.outage = min(longestOutage, max(firstOutage, 2*s.outage))
		s.until = s.Now().Add(s.outage)
	}
	s.mu.Unlock()
	switch {
	case shutOut && before == 0:
		s.Log.ErrorContext(ctx, "the mail server does not let us in: mails wait and are tried again",
			"err", err, "cure", failed.Cure())
	case !shutOut && before > 0:
		s.Log.InfoContext(ctx, "the mail server lets us in again")
	}
}

// gathering is how long verdicts are gathered before they are written down together: acceptances have been noted, so
// nothing is at stake.
const gathering = 20 * time.Millisecond

// gather returns the verdicts that come within the gathering, first among them.
func (s *shift) gather(first verdict) []verdict {
	batch := []verdict{first}
	enough := time.After(gathering)
	for len(batch) < maxClaimed {
		select {
		case v, open := <-s.verdicts:
			if !open {
				return batch
			}
			batch = append(batch, v)
		case <-enough:
			return batch
		}
	}
	return batch
}

// settleAll writes verdicts down until there are no more. Those about clients that somebody holds, as an import
// does for some seconds, wait without keeping the others.
func (s *shift) settleAll(ctx context.Context) {
	began, n := time.Now(), 0
	var held []verdict
	for verdicts := s.verdicts; verdicts != nil || len(held) > 0; {
		var again <-chan time.Time
		var ended <-chan struct{}
		if len(held) > 0 {
			again = time.After(settlePause)
		}
		if verdicts == nil {
			ended = ctx.Done()
		}
		var batch []verdict
		select {
		case v, open := <-verdicts:
			if !open {
				verdicts = nil
				continue
			}
			batch = s.gather(v)
		case <-again:
			batch, held = held, nil
		case <-ended: // What is held remains claimed, and others find that.
			return
		}
		waiting := s.settleSurely(ctx, batch)
		held = append(held, waiting...)
		s.claimed.Add(int64(len(waiting) - len(batch)))
		n += len(batch) - len(waiting)
		if took := time.Since(began); took > foresight {
			s.rate.Store(int64(float64(n) / took.Seconds()))
			began, n = time.Now(), 0
		}
		select {
		case s.settled <- struct{}{}:
		default:
		}
	}
}

// settleSurely writes verdicts down, even if the database is away for a while: an acceptance that is not
// written down would cost the owner a second mail. What the database refuses is parted until the one that
// it refuses is alone, which then stays claimed until this process ends. It returns the verdicts that have to wait
// for others.
func (s *shift) settleSurely(ctx context.Context, batch []verdict) (held []verdict) {
	for {
		held, err := s.settle(context.WithoutCancel(ctx), batch)
		if err == nil {
			return held
		}
		if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && !passing(refusal) {
			if len(batch) == 1 {
				s.Log.ErrorContext(ctx, "what became of a message could not be written down", "message", batch[0].ID, "err", err)
				return nil
			}
			held = s.settleSurely(ctx, batch[:len(batch)/2])
			return append(held, s.settleSurely(ctx, batch[len(batch)/2:])...)
		}
		s.Log.WarnContext(ctx, "what became of messages could not be written down yet", "messages", len(batch), "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settlePause):
		}
	}
}

// passing tells errors of the database that go away by themselves: of class 40, 53, 55, 57 or 08.
func passing(err *pgconn.PgError) bool {
	switch err.Code[:2] {
	case "08", "40", "53", "55", "57":
		return true
	}
	return false
}

// settle commits verdicts together with what they mean to their clients, and returns those whose clients
// somebody else holds: they are to be settled later.
//
// A verdict counts only while its claim stands: a sender that was silent for too long has lost its claims. But
// that a mail was accepted is true in any case.
func (s *shift) settle(ctx context.Context, batch []verdict) (held []verdict, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tx, err := s.DB.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("settle messages: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	free, err := lockClients(ctx, tx, batch)
	if err != nil {
		return nil, err
	}
	byID := make(map[uuid.UUID]*verdict, len(batch))
	var ended []*verdict
	var released []uuid.UUID
	unsent := 0
	for i := range batch {
		v := &batch[i]
		switch {
		case v.released:
			released = append(released, v.ID)
			unsent++
		case v.ClientID != nil && !free(*v.ClientID):
			held = append(held, *v)
		default:
			byID[v.ID] = v
			ended = append(ended, v)
			if v.shutOut {
				unsent++
			}
		}
	}
	valid, err := s.write(ctx, tx, ended)
	if err != nil {
		return nil, err
	}
	if err := s.release(ctx, tx, released); err != nil {
		return nil, err
	}
	if err := s.Pace.restore(ctx, tx, unsent); err != nil {
		return nil, err
	}
	var mailed []Mailed
	changes := make(map[settled][]uuid.UUID)
	var bounced *verdict
	for _, row := range valid {
		v := byID[row.ID]
		if v.ClientID == nil {
			continue
		}
		if v.bounced {
			bounced = v
		}
		if c := v.change(row.Moves); c.Event != "" {
			changes[c] = append(changes[c], *v.ClientID)
		}
		if v.state == StateSent && v.InvitationID != nil {
			mailed = append(mailed, Mailed{*v.ClientID, *v.InvitationID, v.Kind, v.Number})
		}
	}
	for c, clients := range changes {
		if _, err := provisioning.AdvanceAll(ctx, tx, clients, c.asChange()); err != nil {
			return nil, err
		}
	}
	if s.Planner != nil && len(mailed) > 0 {
		if err := s.Planner.Mailed(ctx, tx, mailed); err != nil {
			return nil, err
		}
	}
	if bounced != nil {
		if err := (&Switch{DB: s.DB, Log: s.Log}).Bounced(ctx, tx, bounced.ID); err != nil {
			return nil, err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("settle messages: %w", err)
	}
	for _, row := range valid {
		for _, r := range byID[row.ID].results {
			s.count(r)
		}
	}
	return held, nil
}

// lockClients locks the clients of verdicts, before any message and in one order, as everybody does it. It passes over those
// that somebody holds, and returns which are free: locked, or gone with all that belongs to them.
func lockClients(ctx context.Context, tx pgx.Tx, batch []verdict) (free func(uuid.UUID) bool, err error) {
	var clients []uuid.UUID
	for _, v := range batch {
		if !v.released && v.ClientID != nil {
			clients = append(clients, *v.ClientID)
		}
	}
	rows, err := tx.Query(ctx, `SELECT id FROM clients WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED`, clients)
	if err != nil {
		return nil, fmt.Errorf("lock clients: %w", err)
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("lock clients: %w", err)
	}
	held := make(map[uuid.UUID]bool)
	isLocked := make(map[uuid.UUID]bool, len(locked))
	for _, id := range locked {
		isLocked[id] = true
	}
	for _, id := range clients {
		if !isLocked[id] {
			held[id] = true
		}
	}
	if len(held) > 0 {
		rows, err := tx.Query(ctx, `SELECT id FROM clients WHERE id = ANY ($1)`, clients)
		if err != nil {
			return nil, fmt.Errorf("look for clients: %w", err)
		}
		there, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return nil, fmt.Errorf("look for clients: %w", err)
		}
		for id := range held {
			held[id] = slices.Contains(there, id)
		}
	}
	return func(id uuid.UUID) bool { return !held[id] }, nil
}

// release gives back messages that were not sent.
func (s *shift) release(ctx context.Context, tx pgx.Tx, messages []uuid.UUID) error {
	if len(messages) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		UPDATE messages
		SET
			sender_id = NULL,
			claimed_at = NULL,
			tried_since = CASE WHEN attempts > 0 THEN tried_since END
		WHERE id = ANY ($1)
			AND sender_id = $2`, messages, s.id)
	if err != nil {
		return fmt.Errorf("give messages back: %w", err)
	}
	return nil
}

// written is a message whose verdict counts.
type written struct {
	ID uuid.UUID
	// Moves tells that what became of it may move its client: it went to the address that the owner has now, and no
	// report of its bounce has come before the verdict.
	Moves bool
}

// write puts the verdicts into their messages and returns those that count.
func (s *shift) write(ctx context.Context, tx pgx.Tx, batch []*verdict) ([]written, error) {
	n := len(batch)
	if n == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, n)
	states := make([]State, n)
	errs := make([]*string, n)
	pauses := make([]float64, n)
	unknown := make([]int, n)
	bounced := make([]bool, n)
	for i, v := range batch {
		ids[i], states[i], pauses[i], bounced[i] = v.ID, v.state, v.pause.Seconds(), v.bounced
		if v.error != "" {
			errs[i] = &v.error
		}
		if v.unknown {
			unknown[i] = 1
		}
	}
	rows, err := tx.Query(ctx, `
		UPDATE messages m
		SET
			state = v.state,
			step = CASE WHEN v.state NOT IN ('failed', 'cancelled') THEN m.step END,
			error = v.error,
			unknown = m.unknown + v.unknown,
			attempts = m.attempts + CASE WHEN v.state = 'cancelled' THEN 0 ELSE 1 END,
			attempted_at = CASE WHEN v.state = 'cancelled' THEN m.attempted_at ELSE clock_timestamp() END,
			tried_since = coalesce(m.tried_since, clock_timestamp()),
			due_at = CASE WHEN v.pause > 0 THEN clock_timestamp() + make_interval(secs => v.pause) ELSE m.due_at END,
			sent_at = CASE WHEN v.state = 'sent' THEN clock_timestamp() END,
			ended_at = CASE WHEN v.state IN ('sent', 'failed', 'cancelled') THEN clock_timestamp() END,
			returned = CASE
				WHEN v.bounced THEN 'bounced'
				WHEN v.state = 'sent' AND m.state = 'failed' THEN NULL -- What was refused was its repetition.
				ELSE m.returned
			END,
			sender_id = NULL,
			claimed_at = NULL,
			accepted = false
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::float8[], $5::int[], $6::boolean[]) v (id, state, error, pause, unknown, bounced)
		WHERE m.id = v.id
			AND (
				m.ended_at IS NULL AND m.sender_id = $7
				OR v.state = 'sent' AND m.state <> 'sent'
			)
		RETURNING
			m.id,
			coalesce((SELECT lower(owner_email) = lower(m.to_address) FROM clients WHERE id = m.client_id), false)
				AND (v.bounced OR m.returned IS DISTINCT FROM 'bounced')`,
		ids, states, errs, pauses, unknown, bounced, s.id)
	if err != nil {
		return nil, fmt.Errorf("settle messages: %w", err)
	}
	valid, err := pgx.CollectRows(rows, pgx.RowToStructByPos[written])
	if err != nil {
		return nil, fmt.Errorf("settle messages: %w", err)
	}
	return valid, nil
}

// settled is a change of a client in a form that can be compared, so that many clients change at once.
type settled struct {
	Event   provisioning.EventKind
	To      provisioning.Stage
	Reason  provisioning.Reason
	Kind    provisioning.LetterKind
	Number  int
	Attempt int
	Error   string
}

// change says what a verdict means to the client.
func (v *verdict) change(moves bool) settled {
	c := settled{Kind: v.Kind, Number: v.Number}
	if v.error != "" {
		c.Error, c.Attempt = v.error, v.Attempts+1
	}
	switch v.state {
	case StateSent:
		c.Event = provisioning.EventMailAccepted
		// A reminder leaves the client where it is: that tells the next one what to say.
		if v.Kind == provisioning.LetterInvitation || v.Kind == provisioning.LetterReconnect {
			c.To = provisioning.StageInvited
		}
	case StateDeferred, StateUnknown:
		if v.told {
			c.Event = provisioning.EventMailDeferred
		}
	case StateCancelled:
		c.Event, c.Attempt = provisioning.EventMailCancelled, 0
	case StateFailed:
		c.Event = provisioning.EventMailFailed
		if v.bounced {
			c.Event, c.To, c.Reason = provisioning.EventMailRefused, provisioning.StageStalled, provisioning.ReasonBounced
		}
	case StateQueued, StateSending: // no verdict leads there
	}
	if !moves {
		c.To, c.Reason = "", ""
	}
	return c
}

func (c settled) asChange() provisioning.Change {
	detail := provisioning.Detail{"letter": string(c.Kind)}
	if c.Number > 0 {
		detail["number"] = c.Number
	}
	switch {
	case c.Event == provisioning.EventMailCancelled:
		detail["why"] = c.Error
	case c.Error != "":
		detail["error"], detail["attempt"] = c.Error, c.Attempt
	}
	return provisioning.Change{Event: c.Event, Actor: provisioning.ActorSystem, To: c.To, Reason: c.Reason, Detail: detail}
}

// pause returns how long to wait after the n-th attempt: some seconds, then three times as long each
// time up to two hours, give or take a fifth so that a server that comes back is not met by all at once.
func pause(attempts int) time.Duration {
	d := 5 * time.Second
	for range attempts - 1 {
		d = min(3*d, 2*time.Hour)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // Jitter is no secret.
}

func (s *shift) count(r Result) {
	if s.Count != nil {
		s.Count(r)
	}
}
