package provisioning

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// EventKind says what happened to a client.
type EventKind string

const (
	EventImported      EventKind = "imported"       // new in the roster
	EventUpdated       EventKind = "updated"        // the roster file said something new
	EventUsernameTaken EventKind = "username_taken" // the provider has given it to somebody else: the client got another one
	EventOwnerChanged  EventKind = "owner_changed"  // another owner address: earlier links are void
	EventMailQueued    EventKind = "mail_queued"    // a mail is to be sent
	EventMailAccepted  EventKind = "mail_accepted"  // a mail server took it
	EventMailDeferred  EventKind = "mail_deferred"  // it is tried again later
	EventMailRefused   EventKind = "mail_refused"   // the owner's address was refused for good
	EventMailFailed    EventKind = "mail_failed"    // it could not be sent, for a cause that is not the address
	EventMailCancelled EventKind = "mail_cancelled" // no longer wanted when its turn came
	EventMailRepeated  EventKind = "mail_repeated"  // sent again, as the outcome of an attempt was lost
	EventBounced       EventKind = "bounced"        // a report says that the owner's address takes no mail
	EventMailObjected  EventKind = "mail_objected"  // a report says that a mail server refused us, not the address
	EventMailDelayed   EventKind = "mail_delayed"   // a report says that a mail is still on its way, or did not fit into the mailbox
	EventAutoReply     EventKind = "auto_reply"     // the owner's mailbox answered by itself
	EventComplained    EventKind = "complained"     // the owner marked a mail as spam
	EventReminderMoved EventKind = "reminder_moved" // an operator chose when the next reminder goes out
	EventReminderSkip  EventKind = "reminder_skip"  // an operator left a reminder out
	EventNotMe         EventKind = "not_me"         // whoever has the mail says that it is not for them
	EventReferred      EventKind = "referred"       // they name somebody else; nobody is mailed by that
	EventReferralTaken EventKind = "referral_taken" // an operator had that person invited
	EventReferralLeft  EventKind = "referral_left"  // an operator did not
	EventLinkIssued    EventKind = "link_issued"    // an operator took a link to hand over
	EventExtended      EventKind = "extended"       // an operator gave the link another life
	EventStarted       EventKind = "started"        // somebody pressed Continue
	EventDeclined      EventKind = "declined"       // the owner said no
	EventUnsubscribed  EventKind = "unsubscribed"   // the owner wants no more mails
	EventWrongAccount  EventKind = "wrong_account"  // another account consented; its grant is quarantined
	EventMissingScope  EventKind = "missing_scope"  // consent to less than asked
	EventConflict      EventKind = "conflict"       // the account belongs to another client
	EventConsentFailed EventKind = "consent_failed" // the walk ended without a verdict on the account
	EventAuthorized    EventKind = "authorized"     // a verified grant is stored
	EventAccepted      EventKind = "accepted"       // an operator took the account that consented for the client's
	EventDiscarded     EventKind = "discarded"      // an operator did not want the grant of another account
	EventMoved         EventKind = "moved"          // an operator gave the grant of another account to the client it belongs to
	EventReceived      EventKind = "received"       // an operator gave it the grant that came by another client's link
	EventProven        EventKind = "proven"         // the grant was refreshed for the first time
	EventScopesChanged EventKind = "scopes_changed" // a refresh brought other scopes than before
	EventRefreshDoubt  EventKind = "refresh_doubt"  // the provider refuses to refresh the grant; it is tried again
	EventTokenGiven    EventKind = "token_given"    // the agency's app took an access token; told once a day
	EventLapsed        EventKind = "lapsed"         // the provider says that the grant is gone
	EventExpired       EventKind = "expired"        // the invitation ran out
	EventRenewed       EventKind = "renewed"        // the owner asked for a fresh link
	EventRouteChanged  EventKind = "route_changed"  // an operator or a roster file chose another route

	// The following are of the route manager.

	EventClaimed      EventKind = "claimed"       // the owner says that they have added the user
	EventUnclaimed    EventKind = "unclaimed"     // they take it back
	EventNoActivation EventKind = "no_activation" // the provider's mail did not come in time
	EventUserLimit    EventKind = "user_limit"    // the owner says that their plan allows no further user
	EventNameRefused  EventKind = "name_refused"  // the owner says once too often that the username is taken
	EventActivation   EventKind = "activation"    // the provider's mail for the new user came
	EventActive       EventKind = "active"        // an operator says that the user can sign in
	EventSkipped      EventKind = "skipped"       // an operator passed the client over in a run

	// EventRefused: the partner's token does not open the account.
	EventRefused EventKind = "refused"
)

// Actor says who did it: ActorOwner, ActorSystem, or an operator or key by name.
type Actor string

const (
	ActorOwner  Actor = "owner"
	ActorSystem Actor = "system"
	ActorCLI    Actor = "command line"
)

// Operator names an operator as the actor.
func Operator(email string) Actor { return Actor("operator " + email) }

// APIKey names an API key as the actor.
func APIKey(name string) Actor { return Actor("key " + name) }

// Detail is what else is worth knowing of an event, in words and values that an operator may see.
type Detail map[string]any

func (d Detail) orEmpty() Detail {
	if d == nil {
		return Detail{}
	}
	return d
}

// Event is one line of a client's history.
type Event struct {
	ID         int64
	ClientID   uuid.UUID
	ClientName string
	At         time.Time
	Kind       EventKind
	Actor      Actor
	Stage      *Stage // the stage it moved the client to; nil if it moved nothing
	Reason     *Reason
	Detail     Detail
}

const eventColumns = `
	e.id,
	e.client_id,
	c.name,
	e.at,
	e.kind,
	e.actor,
	e.stage,
	e.reason,
	e.detail`

// Events returns a client's history, newest first, at most limit lines before the event with id
// before; zero starts at the newest.
func (s *Store) Events(ctx context.Context, client uuid.UUID, before int64, limit int) ([]Event, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT `+eventColumns+`
		FROM events e
		JOIN clients c ON c.id = e.client_id
		WHERE e.client_id = $1
			AND ($2::bigint = 0 OR e.id < $2)
		ORDER BY e.id DESC
		LIMIT $3`, client, before, limit)
	return collectEvents(rows, err)
}

// passedOver is how many events are read to find those to tell among the tokens that an app was given.
const passedOver = 500

// RecentEvents returns the newest events of all clients, newest first, but for tokens that were given: apps take
// them all day.
func (s *Store) RecentEvents(ctx context.Context, limit int) ([]Event, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT `+eventColumns+`
		FROM (SELECT * FROM events ORDER BY id DESC LIMIT $1::bigint + $2::bigint) e
		JOIN clients c ON c.id = e.client_id
		WHERE e.kind <> 'token_given'
		ORDER BY e.id DESC
		LIMIT $1`, planned, limit, passedOver)
	return collectEvents(rows, err)
}

func collectEvents(rows pgx.Rows, err error) ([]Event, error) {
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}
