package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// State is how far a message is.
type State string

const (
	StateQueued    State = "queued"    // waits for its turn
	StateSending   State = "sending"   // claimed by a sender: an attempt has begun
	StateDeferred  State = "deferred"  // refused for now, waits for another attempt
	StateUnknown   State = "unknown"   // an attempt was made whose outcome nobody knows; waits to be sent again
	StateSent      State = "sent"      // a mail server has accepted it
	StateFailed    State = "failed"    // given up: refused, or deferred for longer than giveUp
	StateCancelled State = "cancelled" // no longer wanted when its turn came
)

// Mails to operators. All other kinds are letters to owners.
const (
	KindDigest             provisioning.LetterKind = "digest"              // tells how things stand
	KindOperatorInvitation provisioning.LetterKind = "operator_invitation" // has the link that makes an operator
	KindPasswordReset      provisioning.LetterKind = "password_reset"      // has the link to set another password
)

// Linker gives the link of an invitation, the same at every call. Package authflow implements it.
type Linker interface {
	URL(invitation uuid.UUID) string
}

// EntryLinker gives the one-time link of an operator, the same at every call. Package authflow/admin implements it.
type EntryLinker interface {
	LinkURL(id uuid.UUID) string
}

// Mailer writes messages: it queues them, with what they say fixed, and composes them. Outbox sends them.
type Mailer struct {
	DB         provisioning.DB
	Linker     Linker
	Entries    EntryLinker // needed where operators are invited
	Stationery *Stationery
	From       string       // address of the sender; the agency's name stands before it
	Returns    *ReturnPaths // nil if reports go to the sender
	DKIM       *DKIM        // nil if somebody else signs
	Reminders  int          // how many an owner gets at most: the last says that it is the last
	Scopes     []string     // what owners are asked for
	Now        func() time.Time
	Log        *slog.Logger
}

// step names what is sent at most once an invitation.
func step(l provisioning.Letter) string {
	if l.Kind == provisioning.LetterReminder {
		return string(l.Kind) + " " + strconv.Itoa(l.Number)
	}
	return string(l.Kind)
}

// domainOf returns the domain of an address, by which mail is paced.
func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}

// Queue stores the letters as messages, in tx's transaction; an Outbox finds them there. A step of an
// invitation is stored once, and nothing beside a message that is on its way already; the clients of
// letters that were not stored for that are returned.
//
// Messages are dated by the beginning of tx's transaction: whatever an owner says while it goes on comes after
// what was decided in it.
func (m *Mailer) Queue(ctx context.Context, tx pgx.Tx, letters []provisioning.Letter) (already []uuid.UUID, err error) {
	n := len(letters)
	ids := make([]uuid.UUID, n)
	clients := make([]uuid.UUID, n)
	invitations := make([]uuid.UUID, n)
	kinds := make([]provisioning.LetterKind, n)
	steps := make([]string, n)
	numbers := make([]int, n)
	situations := make([]provisioning.Situation, n)
	names := make([]string, n)
	addresses := make([]string, n)
	domains := make([]string, n)
	clientNames := make([]string, n)
	locales := make([]string, n)
	facts := make([]map[string]string, n)
	for i, l := range letters {
		if ids[i], err = uuid.NewV7(); err != nil {
			return nil, fmt.Errorf("queue messages: %w", err)
		}
		clients[i], invitations[i], kinds[i], steps[i], numbers[i] = l.Client, l.Invitation, l.Kind, step(l), l.Number
		situations[i], names[i], addresses[i], domains[i] = l.Situation, l.ToName, l.ToAddress, domainOf(l.ToAddress)
		clientNames[i], locales[i], facts[i] = l.ClientName, l.Locale, map[string]string{}
		if l.Organization != "" {
			facts[i]["organization"] = l.Organization
		}
		if l.Route != "" && l.Route != provisioning.RouteOwner {
			facts[i]["route"], facts[i]["username"] = string(l.Route), l.Username
		}
	}
	rows, err := tx.Query(ctx, `
		INSERT INTO messages (id, client_id, invitation_id, kind, step, number, situation, to_name, to_address, domain,
			client_name, locale, facts, stationery_id, created_at, due_at)
		SELECT
			l.*,
			(SELECT max(id) FROM stationery),
			now(),
			clock_timestamp()
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[], $9::text[],
			$10::text[], $11::text[], $12::text[], $13::jsonb[]) l
		ON CONFLICT DO NOTHING
		RETURNING id`,
		ids, clients, invitations, kinds, steps, numbers, situations, names, addresses, domains, clientNames, locales, facts)
	if err != nil {
		return nil, fmt.Errorf("queue messages: %w", err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("queue messages: %w", err)
	}
	isNew := make(map[uuid.UUID]bool, len(stored))
	for _, id := range stored {
		isNew[id] = true
	}
	for i, id := range ids {
		if !isNew[id] {
			already = append(already, clients[i])
		}
	}
	return already, nil
}

// QueueDigest stores a digest for each address, in tx's transaction. An address gets a step, such as
// "digest 2026-11-23", once.
func (m *Mailer) QueueDigest(ctx context.Context, tx pgx.Tx, to []string, step string, facts any) error {
	content, err := json.Marshal(facts)
	if err != nil {
		return fmt.Errorf("queue the digest: %w", err)
	}
	for _, address := range to {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("queue the digest: %w", err)
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO messages (id, kind, step, to_name, to_address, domain, client_name, facts, stationery_id, created_at, due_at)
			VALUES ($1, $2, $3, '', $4, $5, '', $6, (SELECT max(id) FROM stationery), clock_timestamp(), clock_timestamp())
			ON CONFLICT DO NOTHING`, id, KindDigest, step, address, domainOf(address), content)
		if err != nil {
			return fmt.Errorf("queue the digest: %w", err)
		}
	}
	return nil
}

// QueueEntry stores a mail with a one-time link for an operator, in tx's transaction. It goes out unless the link has
// been used or taken back before. The facts are those of templates.Entry.
func (m *Mailer) QueueEntry(
	ctx context.Context, tx pgx.Tx, to string, kind provisioning.LetterKind, link uuid.UUID, facts map[string]string,
) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("queue a mail with a link: %w", err)
	}
	content := maps.Clone(facts)
	content["link"] = link.String()
	_, err = tx.Exec(ctx, `
		INSERT INTO messages (id, kind, step, to_name, to_address, domain, client_name, facts, stationery_id, created_at, due_at)
		VALUES ($1, $2, $3, '', $4, $5, '', $6, (SELECT max(id) FROM stationery), clock_timestamp(), clock_timestamp())`,
		id, kind, string(kind)+" "+link.String(), to, domainOf(to), content)
	if err != nil {
		return fmt.Errorf("queue a mail with a link: %w", err)
	}
	return nil
}

// Cancel takes back what has not been sent to the clients. A message whose attempt has begun is left
// to end: nobody can call it back.
func (m *Mailer) Cancel(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		UPDATE messages
		SET
			state = 'cancelled',
			step = NULL,
			ended_at = clock_timestamp()
		WHERE client_id = ANY ($1)
			AND ended_at IS NULL
			AND kind <> 'thanks'
			AND sender_id IS NULL`, clients)
	if err != nil {
		return fmt.Errorf("cancel messages: %w", err)
	}
	return nil
}

// Message is a mail to an owner, as an operator sees it.
type Message struct {
	ID          uuid.UUID
	Kind        provisioning.LetterKind
	Number      int // of a reminder
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
			number,
			CASE WHEN sender_id IS NOT NULL THEN 'sending' ELSE state END,
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
