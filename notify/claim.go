package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// message is a claimed row of messages, with what has to be known of its client and its invitation.
type message struct {
	ID           uuid.UUID
	ClientID     *uuid.UUID // nil for a digest
	InvitationID *uuid.UUID
	Kind         provisioning.LetterKind
	Number       int
	Situation    provisioning.Situation
	State        State
	ToName       string
	ToAddress    string
	ClientName   string
	Locale       string
	Facts        []byte // JSON
	Stationery   *int64
	CreatedAt    time.Time
	TriedSince   *time.Time
	Attempts     int        // ended ones
	ExpiresAt    *time.Time // of the invitation
	unwanted     string     // why it is not to be sent, if it is not
}

// candidate is a message that is due.
type candidate struct {
	ID     uuid.UUID
	Domain string
	Letter bool // to an owner
}

// claim takes up to room messages that are due: no other sender will. Its commit is the beginning of
// their attempts. It returns how long the pace demands to wait if that let nothing through.
//
// Whoever stops a client's mail holds the client's row until that is committed. A claim shares the rows of
// its clients and passes over those that are held, so what it reads of a client cannot be older than
// the last stop that was committed before it.
func (s *shift) claim(ctx context.Context, room int) (claimed []message, wait time.Duration, err error) {
	tx, err := s.DB.Begin(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("claim messages: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	room, wait, err = s.Pace.allow(ctx, tx, room)
	if err != nil || room == 0 {
		return nil, wait, err
	}
	due, err := findDue(ctx, tx, room)
	if err != nil || len(due) == 0 {
		return nil, 0, err
	}
	found := len(due)
	if due, err = s.Pace.perDomain(ctx, tx, due); err != nil {
		return nil, 0, err
	}
	if claimed, err = s.take(ctx, tx, due); err != nil {
		return nil, 0, err
	}
	wanted := 0
	for _, m := range claimed {
		if m.unwanted == "" {
			wanted++
		}
	}
	if err := s.Pace.spend(ctx, tx, wanted); err != nil {
		return nil, 0, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, 0, fmt.Errorf("claim messages: %w", err)
	}
	s.claimed.Add(int64(len(claimed)))
	if len(claimed) == 0 && found == room {
		wait = time.Millisecond // All of them had to wait for others of their domain: those behind them are next.
	}
	return claimed, wait, nil
}

// findDue locks messages that are due, the longest waiting first.
func findDue(ctx context.Context, tx pgx.Tx, limit int) ([]candidate, error) {
	// Without statistics of a queue that was filled a moment ago, the planner believes that sorting all of it is
	// cheaper than to read the beginning of its index.
	if _, err := tx.Exec(ctx, `SET LOCAL enable_sort = off`); err != nil {
		return nil, fmt.Errorf("find messages that are due: %w", err)
	}
	rows, err := tx.Query(ctx, `
		SELECT
			m.id,
			m.domain,
			m.client_id IS NOT NULL
		FROM messages m
		WHERE m.ended_at IS NULL
			AND m.due_at <= now()
			AND m.sender_id IS NULL
			AND (SELECT paused_at IS NULL FROM mail_switch)
		ORDER BY m.due_at
		LIMIT $1
		FOR UPDATE OF m SKIP LOCKED`, limit)
	if err != nil {
		return nil, fmt.Errorf("find messages that are due: %w", err)
	}
	due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[candidate])
	if err != nil {
		return nil, fmt.Errorf("find messages that are due: %w", err)
	}
	return due, nil
}

const messageColumns = `
	m.id,
	m.client_id,
	m.invitation_id,
	m.kind,
	m.number,
	m.situation,
	m.state,
	m.to_name,
	m.to_address,
	m.client_name,
	m.locale,
	m.facts,
	m.stationery_id,
	m.created_at,
	m.tried_since,
	m.attempts`

// take claims the candidates but for those whose clients somebody is changing.
func (s *shift) take(ctx context.Context, tx pgx.Tx, due []candidate) (claimed []message, err error) {
	var letters, digests []uuid.UUID
	for _, c := range due {
		if c.Letter {
			letters = append(letters, c.ID)
		} else {
			digests = append(digests, c.ID)
		}
	}
	rows, err := tx.Query(ctx, `
		SELECT `+messageColumns+`,
			i.expires_at,
			CASE
				WHEN lower(c.owner_email) <> lower(m.to_address) THEN 'the owner''s address changed'
				WHEN m.kind = 'thanks' THEN ''
				WHEN c.paused THEN 'the client is paused'
				WHEN c.stage = 'authorized' THEN 'the client is authorized'
				WHEN c.route <> 'owner' THEN 'the client is authorized by another route'
				WHEN c.opted_out IS NOT NULL AND (m.kind = 'reminder' OR c.opted_out_at > m.created_at) THEN 'the owner ' || c.opted_out
				WHEN c.reason IN ('declined', 'unsubscribed', 'bounced') AND c.stage_at > m.created_at THEN 'the owner ' || c.reason
				WHEN c.reason IN ('bounced', 'conflict') AND m.kind = 'reminder' THEN 'the client is stalled: ' || c.reason
				WHEN i.revoked_at IS NOT NULL THEN 'the owner''s address changed'
				WHEN i.spent_at IS NOT NULL THEN 'its link has been used'
				WHEN i.expires_at <= $2 THEN 'its link has run out'
				ELSE ''
			END
		FROM messages m
		JOIN clients c ON c.id = m.client_id
		JOIN invitations i ON i.id = m.invitation_id
		WHERE m.id = ANY ($1)
		FOR SHARE OF c SKIP LOCKED`, letters, s.Now())
	if claimed, err = collect(claimed, rows, err); err != nil {
		return nil, err
	}
	if len(digests) > 0 {
		rows, err := tx.Query(ctx, `SELECT `+messageColumns+`, NULL::timestamptz, '' FROM messages m WHERE m.id = ANY ($1)`, digests)
		if claimed, err = collect(claimed, rows, err); err != nil {
			return nil, err
		}
	}
	ids := make([]uuid.UUID, len(claimed))
	for i, m := range claimed {
		ids[i] = m.ID
	}
	_, err = tx.Exec(ctx, `
		UPDATE messages
		SET
			sender_id = $2,
			claimed_at = clock_timestamp()
		WHERE id = ANY ($1)`, ids, s.id)
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	return claimed, nil
}

// collect appends the messages of rows.
func collect(list []message, rows pgx.Rows, err error) ([]message, error) {
	if err != nil {
		return nil, fmt.Errorf("read messages to send: %w", err)
	}
	var m message
	_, err = pgx.ForEachRow(rows, []any{
		&m.ID, &m.ClientID, &m.InvitationID, &m.Kind, &m.Number, &m.Situation, &m.State, &m.ToName, &m.ToAddress, &m.ClientName,
		&m.Locale, &m.Facts, &m.Stationery, &m.CreatedAt, &m.TriedSince, &m.Attempts, &m.ExpiresAt, &m.unwanted,
	}, func() error {
		list = append(list, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read messages to send: %w", err)
	}
	return list, nil
}
