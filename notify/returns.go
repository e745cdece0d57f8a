package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify/bounce"
	"github.com/countersign/countersign/provisioning"
)

// What comes back is of one of package bounce's kinds, or of these.
const (
	KindUnsubscribe bounce.Kind = "unsubscribe" // sent to the address in List-Unsubscribe
	// KindUnmatched is a report that reached our bounce address without the tag that tells which message it is about.
	KindUnmatched bounce.Kind = "unmatched"
	// KindForged and KindForeign are not stored: a tag that we did not make, and mail that has nothing to do with us.
	KindForged  bounce.Kind = "forged"
	KindForeign bounce.Kind = "foreign"
)

// Source is where a mail came from.
type Source string

const (
	SourceMailbox Source = "mailbox"
	SourcePipe    Source = "pipe"
)

// ErrTakenBefore is matched when the same mail has been taken already. It changes nothing again.
var ErrTakenBefore = errors.New("this mail has been taken before")

// Breaker is told that an address bounced, in the transaction that records it. A Switch is one.
type Breaker interface {
	Bounced(ctx context.Context, tx pgx.Tx, message uuid.UUID) error
}

const (
	// maxReturn is how much of a mail that is piped in is looked at.
	maxReturn = 1 << 20
	// maxKept is how much of a mail is kept for reading.
	maxKept = 64 << 10
)

// Returns takes what comes back for our mails, and applies it to the clients.
//
//	hard         client stalls as bounced; the breaker is told
//	policy       an event, and a warning in the log: the address is not to blame
//	soft         an event; delayed and auto_reply too
//	complaint    the owner is opted out; unsubscribe too
//	delivered    noted
//	challenge, reply, unparsed, unmatched    kept for an operator to read
//
// The message is found by the address that the mail was sent to (see ReturnPaths), and by nothing else that anybody could
// write: a Message-ID proves nothing. Only a complaint may also name the address as the sender of what it complains of, as
// providers send all complaints to one address. Mail that is sent to none of our addresses is left alone, so that the mailbox
// may have other uses; what is forged has no effect and leaves no trace but a line in the debug log and in Count.
//
// What an address says that is no longer its client's moves nobody. Each kind has its effect once a message, but for
// unsubscribing, which may be meant anew.
type Returns struct {
	DB      provisioning.DB
	Paths   *ReturnPaths
	Control Breaker
	Log     *slog.Logger
	Count   func(bounce.Kind) // called once for every mail that was taken, whatever came of it; nil counts nothing
}

// Return is something that came back.
type Return struct {
	ID         uuid.UUID // zero if it was not stored
	At         time.Time
	Source     Source
	Kind       bounce.Kind
	MessageID  *uuid.UUID // nil if it belongs to none, or to one that has gone
	ClientID   *uuid.UUID
	ClientName *string
	Recipient  string
	Status     string // as RFC 3463 has it, such as 5.1.1
	Diagnostic string // in words, and what the mail server said
	Subject    string
	Readable   bool // it is kept for reading
	ReadAt     *time.Time
	ReadBy     *string
}

// Take takes a mail that is piped in, and reads it to its end. It returns ErrTakenBefore.
func (r *Returns) Take(ctx context.Context, mail io.Reader) (Return, error) {
	raw, err := io.ReadAll(io.LimitReader(mail, maxReturn))
	if err != nil {
		return Return{}, fmt.Errorf("read the mail: %w", err)
	}
	// A mail server takes it for a failure when nobody reads all that it writes.
	rest, err := io.Copy(io.Discard, mail)
	if err != nil {
		return Return{}, fmt.Errorf("read the mail: %w", err)
	}
	in := r.sort(SourcePipe, raw, rest > 0)
	err = pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) error { return r.apply(ctx, tx, in) })
	if err != nil {
		return in.Return, fmt.Errorf("take a returned mail: %w", err)
	}
	r.tell(ctx, in)
	return in.Return, nil
}

// TakeFrom takes a mail out of a mailbox, and notes in the same transaction that the mailbox has been read up to it. A mail
// that has been taken before is no error.
func (r *Returns) TakeFrom(ctx context.Context, account string, validity, uid uint32, raw []byte, truncated bool) error {
	in := r.sort(SourceMailbox, raw, truncated)
	err := pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) error {
		if err := r.apply(ctx, tx, in); err != nil && !errors.Is(err, ErrTakenBefore) {
			return err
		}
		return setBookmark(ctx, tx, account, validity, uid)
	})
	if err != nil {
		return fmt.Errorf("take message %d of %s: %w", uid, account, err)
	}
	if len(raw) == 0 {
		r.Log.WarnContext(ctx, "a message of the mailbox could not be read; look at it there", "mailbox", account, "uid", uid)
	}
	r.tell(ctx, in)
	return nil
}

// incoming is a mail on its way into the table.
type incoming struct {
	Return

	raw    []byte
	report bounce.Report
	again  bool // it has been taken before
	first  bool // of its kind for its message
}

// sort reads a mail and finds the message that it is about.
func (r *Returns) sort(source Source, raw []byte, truncated bool) *incoming {
	in := &incoming{raw: raw, report: bounce.Parse(bytes.NewReader(raw))}
	in.Source, in.Kind, in.Subject = source, in.report.Kind, in.report.Subject
	addresses := in.report.Addressed
	if in.Kind == bounce.Complaint {
		addresses = append(addresses, in.report.Senders...)
	}
	message, purpose, err := r.find(addresses)
	switch {
	case errors.Is(err, ErrForgedAddress):
		in.Kind = KindForged
	case errors.Is(err, ErrForeignAddress):
		in.Kind = KindForeign
	case errors.Is(err, ErrBareAddress):
		in.Kind = unmatched(in.Kind)
	default:
		in.MessageID = &message
		if purpose == PurposeUnsubscribe {
			in.Kind = unsubscribing(in.Kind)
		}
	}
	if truncated && in.report.Kind == bounce.Unparsed {
		in.report.Words += " Only its beginning was read, as it is very long."
	}
	in.judge(in.report.Fate)
	return in
}

// find returns the message that one of the addresses belongs to. Failing that, the error says what the best of them is.
func (r *Returns) find(addresses []string) (message uuid.UUID, purpose Purpose, err error) {
	err = ErrForeignAddress
	for _, address := range addresses {
		message, purpose, e := r.Paths.Parse(address)
		switch {
		case e == nil:
			return message, purpose, nil
		case errors.Is(e, ErrForgedAddress), errors.Is(e, ErrBareAddress) && !errors.Is(err, ErrForgedAddress):
			err = e
		}
	}
	return uuid.Nil, "", err
}

// unmatched is what becomes of a mail to the bare bounce address. No owner is ever told it, so that people who write there
// do so for reasons of their own.
func unmatched(kind bounce.Kind) bounce.Kind {
	switch kind {
	case bounce.Hard, bounce.Soft, bounce.Policy, bounce.Delayed, bounce.Complaint, bounce.Unparsed:
		return KindUnmatched
	default:
		return KindForeign
	}
}

// unsubscribing is what becomes of a mail to a message's address for unsubscribing. Programs write there for their users;
// only what says that our own mail there failed is none, as we send none.
func unsubscribing(kind bounce.Kind) bounce.Kind {
	switch kind {
	case bounce.Hard, bounce.Soft, bounce.Policy, bounce.Delayed, bounce.Delivered:
		return KindForeign
	default:
		return KindUnsubscribe
	}
}

// judge takes over what the report says of a recipient.
func (in *incoming) judge(f bounce.Fate) {
	in.Recipient, in.Status, in.Diagnostic = f.Recipient, f.Status, f.Words
	if f.Diagnostic != "" {
		in.Diagnostic += " The report says: " + f.Diagnostic
	}
}

// kept tells what an operator should read.
func (in *incoming) kept() bool {
	switch in.Kind {
	case bounce.Challenge, bounce.Reply, bounce.Unparsed, KindUnmatched:
		return true
	default:
		return false
	}
}

// apply stores a mail and applies it, in tx's transaction. It returns ErrTakenBefore.
func (r *Returns) apply(ctx context.Context, tx pgx.Tx, in *incoming) error {
	var about letterSent
	if in.MessageID != nil {
		var err error
		if about, err = lockMessage(ctx, tx, *in.MessageID); errors.Is(err, pgx.ErrNoRows) {
			in.MessageID = nil // Its client was deleted: there is nobody left whom a report could be about.
			if !in.kept() {
				in.Kind = KindForeign
			}
		} else if err != nil {
			return err
		} else {
			r.match(in, about)
		}
	}
	if in.Kind == KindForged || in.Kind == KindForeign {
		return nil
	}
	if err := in.store(ctx, tx); err != nil {
		return err
	}
	if !in.first && in.Kind != KindUnsubscribe || in.MessageID == nil {
		return nil
	}
	return r.affect(ctx, tx, in, about)
}

// letterSent is a message that something came back for.
type letterSent struct {
	ID        uuid.UUID
	ClientID  *uuid.UUID // nil for a digest
	ToAddress string
	// Current tells that it went to the address that its client's owner has now.
	Current bool
}

// lockMessage reads a message and locks its client, which comes before all rows that hang on it. It returns pgx.ErrNoRows.
func lockMessage(ctx context.Context, tx pgx.Tx, id uuid.UUID) (sent letterSent, err error) {
	sent.ID = id
	err = tx.QueryRow(ctx, `
		SELECT
			client_id,
			to_address
		FROM messages
		WHERE id = $1`, id).Scan(&sent.ClientID, &sent.ToAddress)
	if err != nil || sent.ClientID == nil {
		return sent, err
	}
	err = tx.QueryRow(ctx, `
		SELECT lower(c.owner_email) = lower(m.to_address)
		FROM clients c
		JOIN messages m ON m.client_id = c.id
		WHERE m.id = $1
		FOR NO KEY UPDATE OF c`, id).Scan(&sent.Current)
	return sent, err
}

// match makes a mail that of a message: of several recipients, the one counts that the message went to.
func (r *Returns) match(in *incoming, about letterSent) {
	in.ClientID = about.ClientID
	if in.Kind == in.report.Kind {
		f := in.report.For(about.ToAddress)
		in.Kind, in.report.Fate = f.Kind, f
		in.judge(f)
	}
	if in.Recipient == "" {
		in.Recipient = about.ToAddress
	}
}

// store writes the row. It returns ErrTakenBefore.
func (in *incoming) store(ctx context.Context, tx pgx.Tx) (err error) {
	if in.ID, err = uuid.NewV7(); err != nil {
		return err
	}
	digest := sha256.Sum256(in.raw)
	var content []byte
	if in.Readable = in.kept(); in.Readable {
		content = in.raw[:min(len(in.raw), maxKept)]
	}
	err = tx.QueryRow(ctx, `
		INSERT INTO returns (id, digest, source, kind, message_id, client_id, recipient, status, diagnostic, subject, content)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (digest) DO NOTHING
		RETURNING
			at,
			NOT EXISTS (SELECT FROM returns r WHERE r.message_id = $5 AND r.kind = $4)`,
		in.ID, digest[:], in.Source, in.Kind, in.MessageID, in.ClientID, in.Recipient, in.Status, in.Diagnostic, in.Subject, content,
	).Scan(&in.At, &in.first)
	if errors.Is(err, pgx.ErrNoRows) {
		in.ID, in.again = uuid.Nil, true
		return ErrTakenBefore
	}
	return err
}

// affect applies to the client what has come back for his message.
func (r *Returns) affect(ctx context.Context, tx pgx.Tx, in *incoming, about letterSent) error {
	change := provisioning.Change{
		Actor: provisioning.ActorSystem,
		Detail: provisioning.Detail{
			"why": in.report.Words, "said": in.report.Diagnostic, "address": about.ToAddress,
		},
	}
	returned := ""
	switch in.Kind {
	case bounce.Hard:
		returned, change.Event = "bounced", provisioning.EventBounced
		if about.Current {
			change.To, change.Reason = provisioning.StageStalled, provisioning.ReasonBounced
		}
	case bounce.Policy:
		returned, change.Event = "refused", provisioning.EventMailObjected
	case bounce.Soft, bounce.Delayed:
		change.Event = provisioning.EventMailDelayed
	case bounce.AutoReply, bounce.Challenge:
		change.Event = provisioning.EventAutoReply
	case bounce.Complaint:
		returned, change.Event, change.Actor = "complained", provisioning.EventComplained, provisioning.ActorOwner
	default:
	}
	if about.ClientID != nil && change.Event != "" {
		change.Client = *about.ClientID
		if _, err := provisioning.Advance(ctx, tx, change); err != nil {
			return err
		}
	}
	if (in.Kind == bounce.Complaint || in.Kind == KindUnsubscribe) && about.ClientID != nil && about.Current {
		err := provisioning.OptOut(ctx, tx, *about.ClientID, provisioning.OptedOutUnsubscribed, provisioning.ActorOwner,
			provisioning.Detail{"by": string(in.Kind)})
		if err != nil {
			return err
		}
	}
	if returned == "" {
		return nil
	}
	tag, err := tx.Exec(ctx, `
		UPDATE messages
		SET returned = $2
		WHERE id = $1
			AND returned IS NULL`, about.ID, returned)
	if err != nil {
		return err
	}
	if in.Kind == bounce.Hard && tag.RowsAffected() > 0 {
		return r.Control.Bounced(ctx, tx, about.ID)
	}
	return nil
}

// tell logs and counts what has been committed.
func (r *Returns) tell(ctx context.Context, in *incoming) {
	attributes := []any{"kind", string(in.Kind), "return", in.ID, "message", in.MessageID, "client", in.ClientID}
	switch {
	case in.again:
		r.Log.DebugContext(ctx, "a mail that came back has been taken before")
	case in.Kind == bounce.Policy && in.first:
		r.Log.WarnContext(ctx, "a mail server refused a mail for our sake, not for its recipient's: see what it says",
			append(attributes, "said", in.Diagnostic)...)
	case in.Kind == bounce.Hard && in.ClientID == nil && in.first:
		r.Log.WarnContext(ctx, "a digest could not be delivered: correct the operator's address",
			append(attributes, "address", in.Recipient, "said", in.Diagnostic)...)
	case in.kept():
		r.Log.InfoContext(ctx, "a mail came back that somebody should read", attributes...)
	default:
		r.Log.DebugContext(ctx, "a mail came back", attributes...)
	}
	if r.Count != nil && !in.again {
		r.Count(in.Kind)
	}
}
