package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/templates"
)

// JobMessage is the job of sending one message.
const JobMessage queue.Kind = "mail"

// State is how far a message is.
type State string

const (
	StateQueued    State = "queued"    // waits for its turn
	StateSending   State = "sending"   // an attempt has begun; its end is not known
	StateDeferred  State = "deferred"  // waits for another attempt
	StateSent      State = "sent"      // a mail server has accepted it
	StateFailed    State = "failed"    // given up: refused, or deferred for longer than giveUp
	StateCancelled State = "cancelled" // no longer wanted when its turn came
)

const (
	// giveUp is how long a message is tried (RFC 5321, 4.5.4.1: at least 4 to 5 days).
	giveUp = 5 * 24 * time.Hour
	// endPatience bounds the attempts to write down how one ended, and endPause lies between two of them.
	endPatience = time.Minute
	endPause    = time.Second
)

// Sender hands a message to a mail server. Transport is one; its errors are *SendError.
type Sender interface {
	Send(ctx context.Context, m *mail.Msg) error
}

// Linker gives the link of an invitation, the same at every call. Package authflow implements it.
type Linker interface {
	URL(invitation uuid.UUID) string
}

// Mailer queues letters and sends them.
type Mailer struct {
	DB         provisioning.DB
	Jobs       *queue.Queue
	Sender     Sender
	Linker     Linker
	Templates  *templates.Set
	Letterhead templates.Letterhead
	From       string   // address of the sender; the agency's name stands before it
	Scopes     []string // what owners are asked for
	Now        func() time.Time
	Log        *slog.Logger
	Count      func(Result) // called once for every attempt that ended; nil counts nothing
}

// Result is how an attempt ended, for counting.
type Result string

const (
	ResultAccepted Result = "accepted"
	ResultDeferred Result = "deferred"
	ResultRefused  Result = "refused"
	ResultFailed   Result = "failed"
	// ResultRepeated counts attempts that follow one whose outcome was lost: at most so many owners
	// have got a mail twice.
	ResultRepeated Result = "repeated"
)

// Queue stores the letters as messages and their jobs, in tx's transaction. A client to whom a
// message is on its way already gets no second one; such clients are returned.
//
// Messages are dated by the database's clock, as is what their clients do afterwards.
func (m *Mailer) Queue(ctx context.Context, tx pgx.Tx, letters []provisioning.Letter) (already []uuid.UUID, err error) {
	ids := make([]uuid.UUID, len(letters))
	clients := make([]uuid.UUID, len(letters))
	invitations := make([]uuid.UUID, len(letters))
	kinds := make([]provisioning.LetterKind, len(letters))
	names := make([]string, len(letters))
	addresses := make([]string, len(letters))
	clientNames := make([]string, len(letters))
	for i, l := range letters {
		if ids[i], err = uuid.NewV7(); err != nil {
			return nil, fmt.Errorf("queue messages: %w", err)
		}
		clients[i], invitations[i], kinds[i] = l.Client, l.Invitation, l.Kind
		names[i], addresses[i], clientNames[i] = l.ToName, l.ToAddress, l.ClientName
	}
	rows, err := tx.Query(ctx, `
		INSERT INTO messages (id, client_id, invitation_id, kind, to_name, to_address, client_name, created_at)
		SELECT l.*, clock_timestamp()
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[]) l
		ON CONFLICT (client_id) WHERE state IN ('queued', 'sending', 'deferred') DO NOTHING
		RETURNING id`, ids, clients, invitations, kinds, names, addresses, clientNames)
	if err != nil {
		return nil, fmt.Errorf("queue messages: %w", err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("queue messages: %w", err)
	}
	isNew := make(map[uuid.UUID]bool, len(stored))
	jobs := make([]queue.Job, len(stored))
	for i, id := range stored {
		isNew[id] = true
		jobs[i] = queue.Job{Kind: JobMessage, Row: id}
	}
	for i, id := range ids {
		if !isNew[id] {
			already = append(already, clients[i])
		}
	}
	return already, m.Jobs.Put(ctx, tx, jobs...)
}

// Cancel takes back what has not been sent to the clients. A message whose attempt has begun is left
// to end: nobody can call it back.
func (m *Mailer) Cancel(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		UPDATE messages
		SET state = 'cancelled'
		WHERE client_id = ANY ($1)
			AND state IN ('queued', 'deferred')`, clients)
	if err != nil {
		return fmt.Errorf("cancel messages: %w", err)
	}
	return nil
}

// Work sends the message of a job, once unless a crash hides whether it was accepted.
func (m *Mailer) Work(ctx context.Context, job queue.Running) error {
	msg, ready, err := m.begin(ctx, job)
	if err != nil || !ready {
		return err
	}
	v := m.judge(ctx, msg, m.send(ctx, msg))
	// The outcome is known now and has to be written down, whatever becomes of this process's patience
	// and even if the database is away for a while: unwritten, it would cost the owner a second mail.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
	defer cancel()
	for err = m.end(ctx, job, msg, v); err != nil; err = m.end(ctx, job, msg, v) {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(endPause):
		}
	}
	if v.state == StateDeferred {
		return queue.Later(pause(msg.Attempts))
	}
	return nil
}

func (m *Mailer) send(ctx context.Context, msg message) error {
	mime, err := m.compose(msg)
	if err != nil {
		return err
	}
	return m.Sender.Send(ctx, mime)
}

// begin commits that an attempt starts. It is not ready when the message is done with already, or no
// longer wanted.
func (m *Mailer) begin(ctx context.Context, job queue.Running) (msg message, ready bool, err error) {
	msg, unwanted, err := m.read(ctx, job.Row)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return msg, false, nil // The client was deleted, and its messages with it.
	case err != nil:
		return msg, false, fmt.Errorf("read the message: %w", err)
	}
	switch msg.State {
	case StateSent, StateFailed, StateCancelled:
		return msg, false, nil
	case StateQueued, StateDeferred, StateSending:
	}
	if unwanted != "" {
		return msg, false, m.cancel(ctx, job, msg, unwanted)
	}
	if msg.State == StateSending {
		return m.repeat(ctx, job, msg)
	}
	msg, err = m.attempt(ctx, m.DB, msg)
	return msg, err == nil, err
}

// read returns a message, and why it is no longer wanted if it is not.
func (m *Mailer) read(ctx context.Context, id uuid.UUID) (msg message, unwanted string, err error) {
	err = m.DB.QueryRow(ctx, `
		SELECT
			m.id,
			m.client_id,
			m.invitation_id,
			m.kind,
			m.state,
			m.to_name,
			m.to_address,
			m.client_name,
			m.created_at,
			m.attempts,
			i.expires_at,
			CASE
				WHEN c.paused THEN 'the client is paused'
				WHEN c.stage = 'authorized' THEN 'the client is authorized'
				WHEN c.route <> 'owner' THEN 'the client is authorized by another route'
				WHEN c.reason IN ('declined', 'unsubscribed', 'bounced') AND c.stage_at > m.created_at THEN 'the owner ' || c.reason
				WHEN i.revoked_at IS NOT NULL OR lower(c.owner_email) <> lower(m.to_address) THEN 'the owner''s address changed'
				WHEN i.expires_at <= $2 THEN 'its link has run out'
				ELSE ''
			END
		FROM messages m
		JOIN clients c ON c.id = m.client_id
		JOIN invitations i ON i.id = m.invitation_id
		WHERE m.id = $1`, id, m.Now(),
	).Scan(&msg.ID, &msg.ClientID, &msg.InvitationID, &msg.Kind, &msg.State, &msg.ToName, &msg.ToAddress,
		&msg.ClientName, &msg.CreatedAt, &msg.Attempts, &msg.ExpiresAt, &unwanted)
	return msg, unwanted, err
}

// attempt records that an attempt begins. If something has happened to the message since it was read,
// the job looks at it again.
func (m *Mailer) attempt(ctx context.Context, db provisioning.DB, msg message) (message, error) {
	tag, err := db.Exec(ctx, `
		UPDATE messages
		SET
			state = 'sending',
			attempts = attempts + 1,
			attempted_at = $4,
			unknown = unknown + CASE WHEN state = 'sending' THEN 1 ELSE 0 END
		WHERE id = $1
			AND state = $2
			AND attempts = $3`, msg.ID, msg.State, msg.Attempts, m.Now())
	if err != nil {
		return msg, fmt.Errorf("begin to send a message: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return msg, queue.Later(0)
	}
	msg.State = StateSending
	msg.Attempts++
	return msg, nil
}

// repeat commits that an attempt follows one whose outcome was lost. It is not ready when the job now
// belongs to another replica: that one's attempt may still be going on.
func (m *Mailer) repeat(ctx context.Context, job queue.Running, msg message) (_ message, ready bool, err error) {
	tx, err := m.DB.Begin(ctx)
	if err != nil {
		return msg, false, fmt.Errorf("repeat a message: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	if held, err := job.Held(ctx, tx); err != nil || !held {
		return msg, false, err
	}
	_, err = provisioning.Advance(ctx, tx, provisioning.Change{
		Client: msg.ClientID, Event: provisioning.EventMailRepeated, Actor: provisioning.ActorSystem,
	})
	if err != nil {
		return msg, false, err
	}
	if msg, err = m.attempt(ctx, tx, msg); err != nil {
		return msg, false, err
	}
	if err := tx.Commit(ctx); err != nil {
		return msg, false, fmt.Errorf("repeat a message: %w", err)
	}
	m.Log.WarnContext(ctx, "the outcome of an attempt was lost; the message is sent again", "message", msg.ID, "client", msg.ClientID)
	m.count(ResultRepeated)
	return msg, true, nil
}

// cancel ends a message that is no longer wanted.
func (m *Mailer) cancel(ctx context.Context, job queue.Running, msg message, why string) error {
	return m.end(ctx, job, msg, verdict{state: StateCancelled, error: &why, change: provisioning.Change{
		Event: provisioning.EventMailCancelled, Detail: provisioning.Detail{"why": why},
	}})
}

// verdict is what becomes of a message, and what that means to its client.
type verdict struct {
	state   State
	error   *string
	unknown int // 1 if the attempt may have been accepted all the same
	change  provisioning.Change
	results []Result
}

// judge says what an attempt came to; err is nil if the message was accepted.
func (m *Mailer) judge(ctx context.Context, msg message, err error) verdict {
	if err == nil {
		return verdict{
			state:   StateSent,
			change:  provisioning.Change{Event: provisioning.EventMailAccepted, To: provisioning.StageInvited},
			results: []Result{ResultAccepted},
		}
	}
	failed, ok := errors.AsType[*SendError](err)
	if !ok {
		// Not the server's doing: the message cannot be composed. It would not help to go on trying.
		failed = &SendError{Kind: Policy, Err: err}
	}
	// PostgreSQL keeps neither of what these replace.
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", "?"), "?")
	v := verdict{error: &text, change: provisioning.Change{Detail: provisioning.Detail{"error": text, "attempt": msg.Attempts}}}
	switch overdue := m.Now().Sub(msg.CreatedAt) > giveUp; {
	case !overdue && (failed.Kind == Temporary || failed.Kind == Unknown):
		v.state, v.results = StateDeferred, []Result{ResultDeferred}
		if failed.Kind == Unknown {
			v.unknown, v.results = 1, append(v.results, ResultRepeated)
		}
		// One line in the history tells that it waits; the further attempts are in the message's own row.
		if msg.Attempts == 1 || failed.Kind == Unknown {
			v.change.Event = provisioning.EventMailDeferred
		}
		if failed.Config {
			m.Log.ErrorContext(ctx, "mail cannot be sent until its settings are corrected", "err", err)
		}
	case failed.Kind == Permanent:
		v.state, v.results = StateFailed, []Result{ResultRefused}
		v.change.Event = provisioning.EventMailRefused
		v.change.To, v.change.Reason = provisioning.StageStalled, provisioning.ReasonBounced
	default:
		v.state, v.results = StateFailed, []Result{ResultFailed}
		v.change.Event = provisioning.EventMailFailed
		m.Log.ErrorContext(ctx, "a message was given up for a cause that is not its recipient's: see its client's history",
			"message", msg.ID, "client", msg.ClientID, "err", err)
	}
	return v
}

// end commits a verdict together with the end of the job, unless the message waits for another attempt.
// It does nothing if the message has gone on since: by this same verdict, when the answer to its commit
// was lost, or in another replica. That a mail was accepted is true in any case.
func (m *Mailer) end(ctx context.Context, job queue.Running, msg message, v verdict) error {
	tx, err := m.DB.Begin(ctx)
	if err != nil {
		return fmt.Errorf("end an attempt: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	var current bool
	// The client is locked before its message, as an inviter does it, so that they never wait crosswise.
	err = tx.QueryRow(ctx, `
		WITH client AS (
			SELECT
				id,
				owner_email
			FROM clients
			WHERE id = $2
			FOR UPDATE
		)
		UPDATE messages m
		SET
			state = $5,
			error = $6,
			unknown = unknown + $7,
			sent_at = CASE WHEN $5 = 'sent' THEN $8::timestamptz END
		FROM client c
		WHERE m.id = $1
			AND m.client_id = c.id
			AND (m.state = $3 AND m.attempts = $4 OR $5 = 'sent' AND m.state <> 'sent')
		RETURNING lower(c.owner_email) = lower(m.to_address)`,
		msg.ID, msg.ClientID, msg.State, msg.Attempts, v.state, v.error, v.unknown, m.Now()).Scan(&current)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end an attempt: %w", err)
	}
	v.change.Client, v.change.Actor = msg.ClientID, provisioning.ActorSystem
	if !current { // What the old address says moves nobody who has a new one.
		v.change.To, v.change.Reason = "", ""
	}
	if v.change.Event != "" {
		if _, err := provisioning.Advance(ctx, tx, v.change); err != nil {
			return err
		}
	}
	if v.state != StateDeferred {
		if err := job.Complete(ctx, tx); err != nil {
			return err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("end an attempt: %w", err)
	}
	for _, r := range v.results {
		m.count(r)
	}
	return nil
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

func (m *Mailer) count(r Result) {
	if m.Count != nil {
		m.Count(r)
	}
}

// Message is a mail to an owner, as an operator sees it.
type Message struct {
	ID          uuid.UUID
	Kind        provisioning.LetterKind
	State       State
	ToAddress   string
	CreatedAt   time.Time
	AttemptedAt *time.Time
	SentAt      *time.Time
	Attempts    int
	Unknown     int // attempts whose outcome was lost
	Error       *string
}

// Messages returns the mails to a client's owner, newest first.
func (m *Mailer) Messages(ctx context.Context, client uuid.UUID) ([]Message, error) {
	rows, err := m.DB.Query(ctx, `
		SELECT
			id,
			kind,
			state,
			to_address,
			created_at,
			attempted_at,
			sent_at,
			attempts,
			unknown,
			error
		FROM messages
		WHERE client_id = $1
		ORDER BY created_at DESC, id DESC
		LIMIT 100`, client)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	messages, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Message])
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	return messages, nil
}
