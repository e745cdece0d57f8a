package provisioning

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Stage is how far a client is.
type Stage string

const (
	// StageImported: in the roster, no mail accepted yet. Set by Importer.
	StageImported Stage = "imported"
	// StageInvited: a mail server has accepted the invitation. Set by package notify.
	StageInvited Stage = "invited"
	// StageStarted: somebody pressed Continue on the invitation page. Set by package authflow.
	StageStarted Stage = "started"
	// StageAuthorized: a verified grant is stored. Set by package authflow.
	StageAuthorized Stage = "authorized"
	// StageLapsed: the provider says that the grant is gone. Set by package authflow.
	StageLapsed Stage = "lapsed"
	// StageStalled: it does not go on by itself; the Reason says why. Any later success leaves it.
	StageStalled Stage = "stalled"
)

// Stages lists all stages in the order of the way, the two that leave it last.
func Stages() []Stage {
	return []Stage{StageImported, StageInvited, StageStarted, StageAuthorized, StageLapsed, StageStalled}
}

// Reason says why a client is stalled.
type Reason string

const (
	ReasonBounced      Reason = "bounced"       // the owner's mail server refused the address for good
	ReasonDeclined     Reason = "declined"      // the owner said no, here or at the provider
	ReasonWrongAccount Reason = "wrong_account" // consent was given by another account than expected
	ReasonMissingScope Reason = "missing_scope" // consent was given to less than asked
	ReasonUnsubscribed Reason = "unsubscribed"  // the owner wants no more mails from us
	ReasonExpired      Reason = "expired"       // the link ran out before anybody finished
	ReasonConflict     Reason = "conflict"      // the account is already bound to another client

	// The following are of the route manager.

	ReasonNoActivation  Reason = "no_activation"  // the owner says that the user is added, and the provider's mail for it did not come
	ReasonUsernameTaken Reason = "username_taken" // the provider refuses one username after the other
	ReasonUserLimit     Reason = "user_limit"     // the account's plan allows no further user

	// The following are of the route partner.

	ReasonUnmanaged Reason = "unmanaged"  // the account is none that the partner manages
	ReasonNoAccount Reason = "no_account" // the roster does not say which account it is
)

// Reasons lists all reasons.
func Reasons() []Reason {
	return []Reason{
		ReasonBounced, ReasonDeclined, ReasonWrongAccount, ReasonMissingScope,
		ReasonUnsubscribed, ReasonExpired, ReasonConflict,
		ReasonNoActivation, ReasonUsernameTaken, ReasonUserLimit, ReasonUnmanaged, ReasonNoAccount,
	}
}

// ParseStage returns the stage of that name, or an error that lists them.
func ParseStage(s string) (Stage, error) { return parseWord(s, "stage", Stages()) }

// ParseReason returns the reason of that name, or an error that lists them.
func ParseReason(s string) (Reason, error) { return parseWord(s, "reason", Reasons()) }

// ParseRoute returns the route of that name, or an error that lists them.
func ParseRoute(s string) (Route, error) {
	return parseWord(s, "route", Routes())
}

// ErrUnknownWord is matched by the errors of ParseStage, ParseReason and ParseRoute.
var ErrUnknownWord = errors.New("unknown word")

func parseWord[W ~string](s, what string, words []W) (W, error) {
	if slices.Contains(words, W(s)) {
		return W(s), nil
	}
	return "", fmt.Errorf("%w: %q is not a %s; there are %v", ErrUnknownWord, s, what, words)
}

// CanBecome tells whether a client may go from stage s to stage to. Staying is not becoming, but for
// a stalled client, whose reason may change.
func (s Stage) CanBecome(to Stage) bool {
	switch to {
	case StageImported:
		// The owner's address was corrected: the invitation starts again. Another route leads here from all stages.
		return s == StageInvited || s == StageStarted || s == StageStalled
	case StageInvited:
		return s == StageImported || s == StageStalled || s == StageLapsed
	case StageStarted:
		return s == StageImported || s == StageInvited || s == StageStalled || s == StageLapsed
	case StageAuthorized:
		return s != StageAuthorized
	case StageLapsed:
		return s == StageAuthorized
	case StageStalled:
		return s != StageAuthorized
	}
	return false
}

// origins returns the stages that the change leads away from. Another route begins anew wherever the client was.
func (ch Change) origins() []Stage {
	from := []Stage{}
	for _, s := range Stages() {
		if s.CanBecome(ch.To) || ch.Event == EventRouteChanged && ch.To == StageImported && s != StageImported {
			from = append(from, s)
		}
	}
	return from
}

// Change is something that happened to a client, and the stage that it leads to.
type Change struct {
	Client uuid.UUID // for Advance only
	Event  EventKind
	Actor  Actor
	To     Stage  // empty if the stage stays
	Reason Reason // with StageStalled only
	Detail Detail
}

// Advance writes the event of a change and moves the client if its stage allows it, in one statement.
// A late fact, such as a mail accepted after the owner has consented, is recorded but moves nothing.
// It returns ErrNotFound if the client is gone.
//
// It locks the client's row until db's transaction ends. A transaction that also writes rows that hang
// on the client, such as invitations and messages, locks the client before them, here or by itself:
// imports do the same, so that nobody waits crosswise.
func Advance(ctx context.Context, db DB, ch Change) (moved bool, err error) {
	found, n, err := advance(ctx, db, []uuid.UUID{ch.Client}, ch)
	if err == nil && found == 0 {
		err = fmt.Errorf("client %s: %w", ch.Client, ErrNotFound)
	}
	return n == 1, err
}

// AdvanceAll is Advance for many clients to whom the same happened. Clients that are gone are passed over.
func AdvanceAll(ctx context.Context, db DB, clients []uuid.UUID, ch Change) (moved int, err error) {
	_, moved, err = advance(ctx, db, clients, ch)
	return moved, err
}

func advance(ctx context.Context, db DB, clients []uuid.UUID, ch Change) (found, moved int, err error) {
	var to *Stage
	var reason *Reason
	if ch.To != "" {
		to = &ch.To
	}
	if ch.Reason != "" {
		reason = &ch.Reason
	}
	err = db.QueryRow(ctx, `
		WITH before AS (
			SELECT
				id,
				coalesce(stage = ANY ($4) AND (stage, reason) IS DISTINCT FROM ($2, $3::text), false) AS moves
			FROM clients
			WHERE id = ANY ($1)
			ORDER BY id
			FOR NO KEY UPDATE
		),
		after AS (
			UPDATE clients c
			SET
				stage = CASE WHEN b.moves THEN $2 ELSE c.stage END,
				reason = CASE WHEN b.moves THEN $3 ELSE c.reason END,
				stage_at = CASE WHEN b.moves THEN clock_timestamp() ELSE c.stage_at END,
				updated_at = now(),
				invited_at = CASE WHEN $5 = 'mail_accepted' THEN coalesce(c.invited_at, now()) ELSE c.invited_at END,
				started_at = CASE WHEN $5 IN ('started', 'claimed') THEN now() ELSE c.started_at END,
				authorized_at = CASE WHEN $2 = 'authorized' THEN coalesce(c.authorized_at, now()) ELSE c.authorized_at END,
				proven_at = CASE WHEN b.moves AND $2 = 'authorized' THEN NULL WHEN $5 = 'proven' THEN coalesce(c.proven_at, now()) ELSE c.proven_at END,
				opted_out = CASE WHEN $2 = 'authorized' THEN nullif(c.opted_out, 'declined') ELSE c.opted_out END,
				opted_out_at = CASE WHEN $2 = 'authorized' AND c.opted_out = 'declined' THEN NULL ELSE c.opted_out_at END
			FROM before b
			WHERE c.id = b.id
				AND (b.moves OR $5 IN ('mail_accepted', 'started', 'claimed', 'proven'))
		),
		noted AS (
			INSERT INTO events (client_id, kind, actor, stage, reason, detail)
			SELECT
				id,
				$5,
				$6,
				CASE WHEN moves THEN $2 END,
				CASE WHEN moves THEN $3 END,
				$7
			FROM before
		)
		SELECT
			count(*),
			count(*) FILTER (WHERE moves)
		FROM before`,
		clients, to, reason, ch.origins(), ch.Event, ch.Actor, ch.Detail.orEmpty(),
	).Scan(&found, &moved)
	if err != nil {
		return 0, 0, fmt.Errorf("record %q for %d clients: %w", ch.Event, len(clients), err)
	}
	return found, moved, nil
}
