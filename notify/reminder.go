package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// Reminders asks owners once more. Every client whose owner was mailed has a row of reminders, which is
// either planned or says why no reminder will come:
//
//	Mailed (invitation) ──► planned ──► Due ──► letter on its way ──► Mailed (reminder) ──► planned …
//	                           │         ▲ │            │
//	                           │         │ │            └─ taken back: Due looks again and sends it later
//	                           │         │ └─ paused: tomorrow                  failed: it is used up
//	                           ▼         │
//	                        stopped ◄────┘ authorized, bounced, declined, unsubscribed …; all sent
//
// Nobody has to tell a row that its client has stopped: Due asks while it holds the client, an Outbox asks
// again when it claims the letter, and State asks whenever it is looked at. While a letter is on its way the
// row is looked at once an hour, so that none hangs if its letter is never sent.
type Reminders struct {
	DB     provisioning.DB
	Mailer *Mailer
	// Days is after how many days from the last mail each reminder goes out: 3, 7 and 14 if nil; none if empty.
	Days     []int
	Calendar Calendar
	Zone     *time.Location // of clients whose own is not known; UTC if nil
	Now      func() time.Time
	Log      *slog.Logger
}

const (
	// leastLife is what a reminder's link has to live at least.
	leastLife = 24 * time.Hour
	// lookAgain is how long after its letter was queued a row is looked at again.
	lookAgain = time.Hour
	// lockPatience is shorter than the time after which PostgreSQL looks for a deadlock: whoever makes a client's
	// letter before it holds the client, as an Inviter does, never loses its work to us.
	lockPatience = 300 * time.Millisecond
)

// Obstacle is why no reminder goes out to a client.
type Obstacle string

const (
	// The following end the row, until the client is invited again or an operator plans anew.

	ObstacleAuthorized   Obstacle = "authorized"
	ObstacleRoute        Obstacle = "other_route"
	ObstacleNewRoute     Obstacle = "new_route"
	ObstacleDeclined     Obstacle = "declined" // here; one who said no at the provider may have meant another question
	ObstacleUnsubscribed Obstacle = "unsubscribed"
	ObstacleBounced      Obstacle = "bounced"
	ObstacleConflict     Obstacle = "conflict"
	ObstacleAddress      Obstacle = "address_changed"
	ObstacleUsed         Obstacle = "link_used"
	ObstacleExpired      Obstacle = "link_expired"
	ObstacleDone         Obstacle = "all_sent"
	ObstacleNone         Obstacle = "none_sent" // to anybody

	// The following do not.

	ObstaclePaused    Obstacle = "paused"
	ObstacleOurTurn   Obstacle = "our_turn" // the owner has done their part
	ObstacleOnItsWay  Obstacle = "on_its_way"
	ObstacleNotMailed Obstacle = "not_mailed"
	ObstacleGone      Obstacle = "gone" // one that ended the row for good is there no more
)

// Words tells an operator what is in the way and what to do about it.
func (o Obstacle) Words() string {
	switch o {
	case ObstacleAuthorized:
		return "the client is authorized"
	case ObstacleRoute:
		return "nothing is asked of the owner on this client's route: set it to owner or manager first"
	case ObstacleNewRoute:
		return "the client's route has changed since the invitation: invite the client again"
	case ObstacleOurTurn:
		return "the owner has done their part, or said what is in the way: the next step is yours"
	case ObstacleDeclined:
		return "the owner declined: talk to them, and lift the opt-out if they agree"
	case ObstacleUnsubscribed:
		return "the owner wants no more mails: talk to them, and lift the opt-out if they agree, or hand the link over by other means"
	case ObstacleBounced:
		return "the owner's address takes no mail: correct it, then invite the client again"
	case ObstacleConflict:
		return "the account that consented belongs to another client: settle that first"
	case ObstacleAddress:
		return "the owner's address has changed since the invitation: invite the client again"
	case ObstacleUsed:
		return "the link has been used: invite the client again"
	case ObstacleExpired:
		return "the link has run out, or does so within a day: invite the client again"
	case ObstacleDone:
		return "all reminders are used up: invite the client again for more"
	case ObstacleNone:
		return "no reminders are sent: set COUNTERSIGN_REMINDERS to the days after which they are"
	case ObstaclePaused:
		return "the client is paused: resume it first"
	case ObstacleOnItsWay:
		return "a mail to the owner is on its way already: wait until it has been sent"
	case ObstacleNotMailed:
		return "no invitation has been mailed to the owner yet: invite the client first"
	case ObstacleGone:
		return "they ended for a cause that has gone since: plan the next one, or send it now"
	}
	return ""
}

// passes tells that the obstacle may be gone tomorrow without anybody's doing to the reminders.
func (o Obstacle) passes() bool {
	return o == ObstaclePaused || o == ObstacleOnItsWay || o == ObstacleOurTurn
}

// standing is a row of reminders, with what has to be known of its client.
type standing struct {
	Client     uuid.UUID
	Invitation uuid.UUID
	Number     int // used up
	MailedAt   time.Time
	NextAt     *time.Time
	PlannedBy  provisioning.Actor
	Obstacle   Obstacle
	Situation  provisioning.Situation
	ExpiresAt  time.Time
	EndedAt    *time.Time // when the letter of Number was given up, if the row does not know of it yet
	ToName     string
	ToAddress  string
	ClientName string
	Locale     string
	TimeZone   string
	Route      provisioning.Route
	Username   string
}

// read returns the rows of clients; all of them, or those that are due.
//
// What an earlier owner did, or somebody with a link that has been used since, says nothing of the situation.
func (r *Reminders) read(ctx context.Context, db provisioning.DB, clients []uuid.UUID, dueOnly bool) ([]standing, error) {
	rows, err := db.Query(ctx, `
		SELECT
			r.client_id,
			r.invitation_id,
			coalesce(ended.number, r.number),
			r.mailed_at,
			r.next_at,
			coalesce(r.planned_by, ''),
			CASE
				WHEN c.stage = 'authorized' THEN 'authorized'
				WHEN c.route NOT IN ('owner', 'manager') THEN 'other_route'
				WHEN c.opted_out IS NOT NULL THEN c.opted_out
				WHEN c.reason IN ('unsubscribed', 'bounced', 'conflict') THEN c.reason
				WHEN i.revoked_at IS NOT NULL THEN 'address_changed'
				WHEN c.stage = 'imported' AND c.invited_at IS NOT NULL THEN 'new_route'
				WHEN i.spent_at IS NOT NULL THEN 'link_used'
				WHEN i.expires_at <= $3 THEN 'link_expired'
				WHEN $4 = 0 THEN 'none_sent'
				WHEN coalesce(ended.number, r.number) >= $4 THEN 'all_sent'
				WHEN c.paused THEN 'paused'
				WHEN c.route = 'manager' AND (c.reason IN ('user_limit', 'username_taken') OR EXISTS (
					SELECT FROM managers m
					WHERE m.client_id = c.id
						AND (m.ready_at IS NOT NULL OR m.claimed_at IS NOT NULL AND NOT m.missed)
				)) THEN 'our_turn'
				WHEN EXISTS (
					SELECT FROM messages
					WHERE client_id = c.id
						AND ended_at IS NULL
						AND kind <> 'thanks'
				) THEN 'on_its_way'
				ELSE ''
			END,
			CASE
				WHEN c.route = 'manager' AND c.reason = 'no_activation' THEN 'no_activation'
				WHEN c.route = 'manager' THEN 'manager'
				WHEN c.stage = 'started' THEN 'unfinished'
				WHEN c.reason = 'declined' THEN 'denied'
				WHEN c.reason IN ('wrong_account', 'missing_scope') THEN 'wrong_account'
				ELSE coalesce((
					SELECT
						CASE
							WHEN s.outcome = 'declined' THEN 'denied'
							WHEN s.outcome IN ('wrong_account', 'missing_scope', 'conflict') THEN 'wrong_account'
							ELSE 'unfinished'
						END
					FROM consents s
					JOIN invitations way ON way.id = s.invitation_id
					WHERE s.client_id = c.id
						AND way.spent_at IS NULL
						AND way.revoked_at IS NULL
					ORDER BY s.id DESC
					LIMIT 1
				), 'unseen')
			END,
			i.expires_at,
			ended.at,
			c.owner_name,
			c.owner_email,
			c.name,
			c.locale,
			c.time_zone,
			c.route,
			c.username
		FROM reminders r
		JOIN clients c ON c.id = r.client_id
		JOIN invitations i ON i.id = r.invitation_id
		LEFT JOIN LATERAL (
			SELECT
				number,
				ended_at AS at
			FROM messages
			WHERE client_id = c.id
				AND invitation_id = i.id
				AND kind = 'reminder'
				AND number > r.number
				AND state IN ('sent', 'failed')
			ORDER BY number DESC
			LIMIT 1
		) ended ON true
		WHERE r.client_id = ANY ($1)
			AND (r.next_at <= $2 OR NOT $5)
		ORDER BY r.client_id`,
		clients, r.Now(), r.Now().Add(leastLife), len(r.days()), dueOnly)
	if err != nil {
		return nil, fmt.Errorf("read reminders: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[standing])
	if err != nil {
		return nil, fmt.Errorf("read reminders: %w", err)
	}
	return list, nil
}

// plan is what becomes of a row.
type plan struct {
	client uuid.UUID
	number int
	nextAt *time.Time
	by     provisioning.Actor // empty if it is our own
	why    Obstacle           // if nextAt is nil
}

// writePlans stores plans for clients that tx holds.
func writePlans(ctx context.Context, tx pgx.Tx, plans []plan) error {
	clients := make([]uuid.UUID, len(plans))
	numbers := make([]int, len(plans))
	next := make([]*time.Time, len(plans))
	by := make([]provisioning.Actor, len(plans))
	why := make([]Obstacle, len(plans))
	for i, p := range plans {
		clients[i], numbers[i], next[i], by[i], why[i] = p.client, p.number, p.nextAt, p.by, p.why
	}
	_, err := tx.Exec(ctx, `
		UPDATE reminders r
		SET
			number = p.number,
			next_at = p.next_at,
			planned_by = nullif(p.planned_by, ''),
			why = nullif(p.why, '')
		FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::text[], $5::text[])
			p (client_id, number, next_at, planned_by, why)
		WHERE r.client_id = p.client_id`, clients, numbers, next, by, why)
	if err != nil {
		return fmt.Errorf("plan reminders: %w", err)
	}
	return nil
}

// Mailed plans what follows letters that a mail server has accepted, in the transaction that records it.
// That transaction holds their clients. An invitation starts the reminders anew.
func (r *Reminders) Mailed(ctx context.Context, tx pgx.Tx, letters []Mailed) error {
	clients := make([]uuid.UUID, 0, len(letters))
	invitations := make([]uuid.UUID, 0, len(letters))
	numbers := make([]int, 0, len(letters))
	for _, l := range letters {
		switch l.Kind {
		case provisioning.LetterInvitation, provisioning.LetterReconnect, provisioning.LetterReminder:
			clients = append(clients, l.Client)
			invitations = append(invitations, l.Invitation)
			numbers = append(numbers, l.Number)
		default:
		}
	}
	if len(clients) == 0 {
		return nil
	}
	now := r.Now()
	places, err := r.places(ctx, tx, clients)
	if err != nil {
		return err
	}
	next := make([]*time.Time, len(clients))
	why := make([]Obstacle, len(clients))
	for i, client := range clients {
		if next[i] = r.following(numbers[i], now, places[client]); next[i] == nil {
			why[i] = r.over()
		}
	}
	// Invitations have ids that grow with time. What is heard late of an earlier one changes nothing.
	_, err = tx.Exec(ctx, `
		INSERT INTO reminders AS r (client_id, invitation_id, mailed_at, number, next_at, why)
		SELECT DISTINCT ON (client_id)
			client_id,
			invitation_id,
			$1::timestamptz,
			number,
			next_at,
			nullif(why, '')
		FROM unnest($2::uuid[], $3::uuid[], $4::int[], $5::timestamptz[], $6::text[])
			l (client_id, invitation_id, number, next_at, why)
		ORDER BY client_id, invitation_id DESC, number DESC
		ON CONFLICT (client_id) DO UPDATE
		SET
			invitation_id = excluded.invitation_id,
			mailed_at = excluded.mailed_at,
			number = excluded.number,
			next_at = excluded.next_at,
			planned_by = NULL,
			why = excluded.why
		WHERE excluded.invitation_id > r.invitation_id AND excluded.number = 0
			OR excluded.invitation_id = r.invitation_id AND excluded.number >= r.number`,
		now, clients, invitations, numbers, next, why)
	if err != nil {
		return fmt.Errorf("plan reminders: %w", err)
	}
	return nil
}

// place is what decides when a client's owner works.
type place struct {
	client uuid.UUID
	zone   *time.Location
	locale string
}

func (r *Reminders) places(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) (map[uuid.UUID]place, error) {
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := tx.Query(ctx, `SELECT id, time_zone, locale FROM clients WHERE id = ANY ($1)`, clients)
	if err != nil {
		return nil, fmt.Errorf("read time zones: %w", err)
	}
	zones := r.zones()
	places := make(map[uuid.UUID]place, len(clients))
	var id uuid.UUID
	var zone, locale string
	_, err = pgx.ForEachRow(rows, []any{&id, &zone, &locale}, func() error {
		places[id] = place{id, zones.find(zone), locale}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read time zones: %w", err)
	}
	return places, nil
}

// zones finds time zones. To load one takes reading a file, and a batch of clients has few.
type zones struct {
	fallback *time.Location
	known    map[string]*time.Location
}

func (r *Reminders) zones() zones {
	z := zones{r.Zone, make(map[string]*time.Location)}
	if z.fallback == nil {
		z.fallback = time.UTC
	}
	return z
}

// find returns the zone of that name, or the fallback.
func (z zones) find(name string) *time.Location {
	if name == "" || name == "Local" {
		return z.fallback
	}
	if _, ok := z.known[name]; !ok {
		zone, err := time.LoadLocation(name)
		if err != nil {
			zone = z.fallback
		}
		z.known[name] = zone
	}
	return z.known[name]
}

func (r *Reminders) days() []int {
	if r.Days == nil {
		return []int{3, 7, 14}
	}
	return r.Days
}

// over is why no reminder follows the last one.
func (r *Reminders) over() Obstacle {
	if len(r.days()) == 0 {
		return ObstacleNone
	}
	return ObstacleDone
}

// following returns when the reminder after number is due if the last mail was accepted at at; nil if
// there are no more.
func (r *Reminders) following(number int, at time.Time, p place) *time.Time {
	days := r.days()
	if number >= len(days) {
		return nil
	}
	next := r.Calendar.Next(at.In(p.zone).AddDate(0, 0, days[number]), p.zone, p.locale, p.client)
	return &next
}

// tomorrow returns a working moment of the next working day.
func (r *Reminders) tomorrow(p place) *time.Time {
	next := r.Calendar.Next(r.Now().In(p.zone).AddDate(0, 0, 1), p.zone, p.locale, p.client)
	return &next
}

// begin starts a transaction that rather fails than waits long for another one.
func (r *Reminders) begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := r.DB.Begin(ctx)
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", lockPatience.Milliseconds()))
	if err != nil {
		return nil, errors.Join(err, tx.Rollback(ctx))
	}
	return tx, nil
}
