package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

// Pile is a part of the messages that can be listed.
type Pile string

const (
	PileWaiting Pile = "waiting" // has not come to an end; what is due first comes first
	PileDelayed Pile = "delayed" // of these, what was refused for now or perhaps sent, and is tried again
	PileFailed  Pile = "failed"  // was given up; the newest comes first
)

// ErrUnknownPile is matched when a word names no Pile.
var ErrUnknownPile = errors.New("there is no such list of mails: choose waiting, delayed or failed")

// ParsePile reads a word. It returns ErrUnknownPile.
func ParsePile(word string) (Pile, error) {
	switch p := Pile(word); p {
	case PileWaiting, PileDelayed, PileFailed:
		return p, nil
	}
	return "", ErrUnknownPile
}

// Item is a mail as an operator sees it in a list.
type Item struct {
	ID         uuid.UUID
	ClientID   *uuid.UUID // nil for a digest
	ClientName string
	Kind       provisioning.LetterKind
	Number     int
	State      State
	ToName     string
	ToAddress  string
	At         time.Time // when it is due, or was given up
	Attempts   int       // that ended
	Said       *string   // of the last attempt, by a mail server or about it; nil if there is nothing to tell
	Bounced    bool      // its address takes no mail
	Over       bool      // it was given up, and that is of no account any more: its client was mailed since, or is authorized
}

// Cause is why it is not sent; empty if nothing keeps it but its turn.
func (i Item) Cause() Cause {
	switch {
	case i.Bounced:
		return CauseAddress
	case i.Said == nil || *i.Said == "":
		return ""
	}
	return causeOf(*i.Said)
}

// Cure says what an operator can do about it; empty if there is no cause.
func (i Item) Cure() string {
	cause := i.Cause()
	if cause == "" {
		return ""
	}
	return cause.Cure(i.State == StateFailed)
}

const itemColumns = `
	id,
	client_id,
	client_name,
	kind,
	number,
	CASE WHEN sender_id IS NOT NULL THEN 'sending' ELSE state END,
	to_name,
	to_address,
	coalesce(ended_at, due_at),
	attempts,
	error,
	coalesce(returned = 'bounced', false),
	state = 'failed' AND coalesce(
		created_at < (SELECT max(created_at) FROM messages WHERE client_id = m.client_id)
			OR (SELECT stage = 'authorized' FROM clients WHERE id = m.client_id),
		true
	)`

// Pile returns a page of a pile, and the cursor of the next page, empty if there is none. A limit of zero is 50. Its
// cost grows with the page. It returns ErrUnknownPile and provisioning.ErrBadCursor.
func (m *Mailer) Pile(ctx context.Context, p Pile, cursor string, limit int) (page []Item, next string, err error) {
	if limit = min(limit, 500); limit <= 0 {
		limit = 50
	}
	var where, order string
	switch p {
	case PileWaiting:
		where, order = `ended_at IS NULL AND due_at >= $1 AND (due_at, id) > ($1, $2)`, `due_at, id`
	case PileDelayed:
		where, order = `ended_at IS NULL AND state IN ('deferred', 'unknown') AND (due_at, id) > ($1, $2)`, `due_at, id`
	case PileFailed:
		where, order = `state = 'failed' AND (ended_at, id) < ($1, $2)`, `ended_at DESC, id DESC`
	default:
		return nil, "", ErrUnknownPile
	}
	at, id, err := parsePlace(p, cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := m.DB.Query(ctx, `
		SELECT `+itemColumns+`
		FROM messages m
		WHERE `+where+`
		ORDER BY `+order+`
		LIMIT $3`, at, id, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list mails: %w", err)
	}
	page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Item])
	if err != nil {
		return nil, "", fmt.Errorf("list mails: %w", err)
	}
	if len(page) > limit {
		page = page[:limit]
		last := page[limit-1]
		next = last.At.UTC().Format(time.RFC3339Nano) + "_" + last.ID.String()
	}
	return page, next, nil
}

// parsePlace reads after which message a page begins; without a cursor, before the first.
func parsePlace(p Pile, cursor string) (at time.Time, id uuid.UUID, err error) {
	if cursor == "" {
		if p == PileFailed {
			return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), uuid.Max, nil
		}
		return time.Time{}, uuid.Nil, nil
	}
	day, key, _ := strings.Cut(cursor, "_")
	at, badTime := time.Parse(time.RFC3339Nano, day)
	id, badKey := uuid.Parse(key)
	if badTime != nil || badKey != nil {
		return at, id, provisioning.ErrBadCursor
	}
	return at, id, nil
}

// Hurry has all mails that were refused for now tried again at once, as an operator wishes who has mended what kept
// them, and returns how many they are. What was perhaps sent keeps its pause: a server may still be at work with it.
func (m *Mailer) Hurry(ctx context.Context, actor provisioning.Actor) (n int, err error) {
	err = pgx.BeginFunc(ctx, m.DB, func(tx pgx.Tx) error {
		// A verdict may hold a message, and its client before that: it is passed over, as its time is just being set.
		tag, err := tx.Exec(ctx, `
			UPDATE messages
			SET
				due_at = clock_timestamp(),
				paced = false
			WHERE id IN (
				SELECT id
				FROM messages
				WHERE ended_at IS NULL
					AND state = 'deferred'
					AND sender_id IS NULL
					AND due_at > clock_timestamp()
				FOR NO KEY UPDATE SKIP LOCKED
			)`)
		if err != nil {
			return err
		}
		if n = int(tag.RowsAffected()); n == 0 {
			return nil
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: string(actor), Action: "mail.hurry", Object: "mail", After: audit.Fields{"messages": n},
		})
	})
	if err != nil {
		return 0, fmt.Errorf("hurry the mails that are put off: %w", err)
	}
	return n, nil
}
