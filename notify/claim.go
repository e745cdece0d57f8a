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
	ClientID     *uuid.UUID // nil for what goes to operators
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
	Paced  bool // its domain has given it this turn
}

// date is the date of the mail: of the first attempt, as it may have waited for days, and the same for all others.
func (m *message) date() time.Time {
	if m.TriedSince != nil {
		return *m.TriedSince
	}
	return m.CreatedAt
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
	// While this is held nobody can replace this sender, and if somebody has, what it claims would be nobody's.
	tag, err := tx.Exec(ctx, `SELECT FROM mail_senders WHERE id = $1 FOR KEY SHARE`, s.id)
	if err != nil {
		return nil, 0, fmt.Errorf("claim messages: %w", err)
	}
	if tag.RowsAffected() == 0 {
		s.lose()
		return nil, 0, nil
	}
	room, wait, err = s.Pace.allow(ctx, tx, room)
	if err != nil || room == 0 {
		return nil, wait, err
	}
	due, err := findDue(ctx, tx, s.Pace.look(room))
	if err != nil || len(due) == 0 {
		return nil, 0, err
	}
	through, postponed, err := s.Pace.perDomain(ctx, tx, due, room)
	if err != nil {
		return nil, 0, err
	}
	if claimed, err = s.take(ctx, tx, through); err != nil {
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
	s.claimed.Add(int64(len(claimed)))
	if err := tx.Commit(ctx); err != nil {
		// It may have happened all the same. Nothing was sent, so all is given back.
		for _, m := range claimed {
			s.verdicts <- verdict{message: m, released: true}
		}
		return nil, 0, fmt.Errorf("claim messages: %w", err)
	}
	if len(claimed) == 0 && postponed > 0 {
		wait = time.Millisecond // All of them had to wait for others of their domain: those behind them are next.
	}
	return claimed, wait, nil
}

// findDue locks messages that are due, the longest waiting first, and shares their clients. What somebody else
// holds is passed over, so that it keeps nothing behind it waiting.
func findDue(ctx context.Context, tx pgx.Tx, limit int) ([]candidate, error) {
	// Without statistics of a queue that was filled a moment ago, the planner believes that sorting all of it is
	// cheaper than to read the beginning of its index.
	if _, err := tx.Exec(ctx, `SET LOCAL enable_sort = off`); err != nil {
		return nil, fmt.Errorf("find messages that are due: %w", err)
	}
	var due []candidate
	for _, sql := range []string{`
		SELECT
			m.id,
			m.domain,
			m.paced
		FROM messages m
		JOIN clients c ON c.id = m.client_id
		WHERE m.ended_at IS NULL
			AND m.due_at <= now()
			AND m.sender_id IS NULL
			AND (SELECT paused_at IS NULL FROM mail_switch)
		ORDER BY m.due_at
		LIMIT $1
		FOR UPDATE OF m SKIP LOCKED
		FOR SHARE OF c SKIP LOCKED`, `
		SELECT
			m.id,
			m.domain,
			m.paced
		FROM messages m
		WHERE m.client_id IS NULL
			AND m.ended_at IS NULL
			AND m.due_at <= now()
			AND m.sender_id IS NULL
			AND (SELECT paused_at IS NULL FROM mail_switch)
		LIMIT $1
		FOR UPDATE OF m SKIP LOCKED`} {
		rows, err := tx.Query(ctx, sql, limit-len(due))
		if err != nil {
			return nil, fmt.Errorf("find messages that are due: %w", err)
		}
		more, err := pgx.CollectRows(rows, pgx.RowToStructByPos[candidate])
		if err != nil {
			return nil, fmt.Errorf("find messages that are due: %w", err)
		}
		if due = append(due, more...); len(due) == limit {
			break
		}
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

// take claims the candidates. Their clients are shared, so what is read of them is what was committed last.
func (s *shift) take(ctx context.Context, tx pgx.Tx, due []candidate) (claimed []message, err error) {
	ids := make([]uuid.UUID, len(due))
	for i, c := range due {
		ids[i] = c.ID
	}
	rows, err := tx.Query(ctx, `
		SELECT `+messageColumns+`,
			i.expires_at,
			CASE
				WHEN m.kind IN ('operator_invitation', 'password_reset') AND NOT EXISTS (
					SELECT FROM entry_links
					WHERE id = (m.facts ->> 'link')::uuid
						AND used_at IS NULL
						AND expires_at > $2
				) THEN 'its link no longer works'
				WHEN m.client_id IS NULL THEN ''
				WHEN lower(c.owner_email) <> lower(m.to_address) THEN 'the owner''s address changed'
				WHEN m.kind = 'thanks' THEN ''
				WHEN c.paused THEN 'the client is paused'
				WHEN c.stage = 'authorized' THEN 'the client is authorized'
				WHEN c.route <> coalesce(m.facts ->> 'route', 'owner') THEN 'the client is authorized by another route'
				WHEN c.opted_out IS NOT NULL AND (m.kind = 'reminder' OR c.opted_out_at > m.created_at) THEN 'the owner ' || c.opted_out
				WHEN c.reason IN ('declined', 'unsubscribed', 'bounced') AND c.stage_at > m.created_at THEN 'the owner ' || c.reason
				WHEN c.reason IN ('bounced', 'conflict') AND m.kind = 'reminder' THEN 'the client is stalled: ' || c.reason
				WHEN i.revoked_at IS NOT NULL THEN 'the owner''s address changed'
				WHEN i.spent_at IS NOT NULL THEN 'its link has been used'
				WHEN i.expires_at <= $2 THEN 'its link has run out'
				ELSE ''
			END
		FROM messages m
		LEFT JOIN clients c ON c.id = m.client_id
		LEFT JOIN invitations i ON i.id = m.invitation_id
		WHERE m.id = ANY ($1)`, ids, s.Now())
	if claimed, err = collect(nil, rows, err); err != nil {
		return nil, err
	}
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err = tx.Query(ctx, `
		UPDATE messages
		SET
			sender_id = $2,
			claimed_at = clock_timestamp(),
			tried_since = coalesce(tried_since, clock_timestamp())
		WHERE id = ANY ($1)
		RETURNING
			id,
			tried_since`, ids, s.id)
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	since := make(map[uuid.UUID]time.Time, len(claimed))
	var id uuid.UUID
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		since[id] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	for i := range claimed {
		at := since[claimed[i].ID]
		claimed[i].TriedSince = &at
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
