package provisioning

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Suppressed is a client that is mailed no more, and why: its owner opted out, or its address takes no mail. The first is
// lifted by OptIn, the second by another address (see Inviter.ChangeOwner).
type Suppressed struct {
	ClientID uuid.UUID
	Ref      *string
	Name     string
	Owner    Owner
	OptedOut *OptedOut // nil if the address bounced and nobody has said anything
	At       time.Time // since when
	Event    EventKind // that did it, such as EventNotMe or EventComplained; empty if it is not known
	Actor    Actor     // of that event
	Detail   Detail    // of that event
}

// Suppressed returns a page of the clients that are mailed no more, the newest first, and the cursor of the next page,
// empty if there is none. A limit of zero is 50. Its cost grows with the page. It returns ErrBadCursor.
func (s *Store) Suppressed(ctx context.Context, cursor string, limit int) (page []Suppressed, next string, err error) {
	if limit = min(limit, 500); limit <= 0 {
		limit = 50
	}
	at, id := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), uuid.Max
	if cursor != "" {
		day, key, _ := strings.Cut(cursor, "_")
		var badTime, badKey error
		at, badTime = time.Parse(time.RFC3339Nano, day)
		id, badKey = uuid.Parse(key)
		if badTime != nil || badKey != nil {
			return nil, "", ErrBadCursor
		}
	}
	rows, err := s.DB.Query(ctx, `
		SELECT
			c.id,
			c.ref,
			c.name,
			c.owner_name,
			c.owner_email,
			c.opted_out,
			c.at,
			coalesce(e.kind, ''),
			coalesce(e.actor, ''),
			coalesce(e.detail, '{}')
		FROM (
			SELECT
				*,
				coalesce(opted_out_at, stage_at) AS at
			FROM clients
			WHERE (opted_out IS NOT NULL OR reason = 'bounced')
				AND (coalesce(opted_out_at, stage_at), id) < ($1, $2)
			ORDER BY
				coalesce(opted_out_at, stage_at) DESC,
				id DESC
			LIMIT $3
		) c
		LEFT JOIN LATERAL (
			SELECT
				kind,
				actor,
				detail
			FROM events
			WHERE client_id = c.id
				AND kind = ANY (CASE WHEN c.opted_out IS NULL THEN $4::text[] ELSE $5::text[] END)
			ORDER BY id DESC
			LIMIT 1
		) e ON true
		ORDER BY
			c.at DESC,
			c.id DESC`, at, id, limit+1,
		[]EventKind{EventBounced, EventMailRefused},
		[]EventKind{EventDeclined, EventNotMe, EventUnsubscribed, EventComplained})
	if err != nil {
		return nil, "", fmt.Errorf("list who is mailed no more: %w", err)
	}
	page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Suppressed, err error) {
		return s, row.Scan(&s.ClientID, &s.Ref, &s.Name, &s.Owner.Name, &s.Owner.Email, &s.OptedOut, &s.At, &s.Event, &s.Actor, &s.Detail)
	})
	if err != nil {
		return nil, "", fmt.Errorf("list who is mailed no more: %w", err)
	}
	if len(page) > limit {
		page = page[:limit]
		last := page[limit-1]
		next = last.At.UTC().Format(time.RFC3339Nano) + "_" + last.ClientID.String()
	}
	return page, next, nil
}

// Why says it in a word: "bounced", or as OptedOut does.
func (s Suppressed) Why() string {
	if s.OptedOut == nil {
		return string(ReasonBounced)
	}
	return string(*s.OptedOut)
}
