package provisioning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
)

// Linker makes invitations: links that an owner can consent by. Package authflow implements it.
type Linker interface {
	// Issue makes one invitation a client, in tx's transaction, and returns their ids in the same order.
	Issue(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) ([]uuid.UUID, error)
	// Revoke ends the clients' invitations: they went to an address that is no longer the owner's.
	Revoke(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) error
}

// Mailer sends letters. Package notify implements it.
type Mailer interface {
	// Queue has the letters sent once tx's transaction commits. Clients to whom a letter is on its way
	// already get no other; their ids are returned.
	Queue(ctx context.Context, tx pgx.Tx, letters []Letter) (already []uuid.UUID, err error)
	// Cancel takes back the clients' letters that have not been sent.
	Cancel(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) error
}

// Letter is a mail to an owner, with all that it says of the client fixed when it was decided.
type Letter struct {
	Client     uuid.UUID
	Invitation uuid.UUID
	Route      Route // what the owner is asked to do
	Username   string
	Kind       LetterKind
	Number     int       // of a reminder, from 1
	Situation  Situation // of a reminder
	ToName     string
	ToAddress  string
	ClientName string
	Locale     string // as the roster has it; the mailer finds the language
	// Organization is the provider's name for the account that was connected; for thanks.
	Organization string
}

// LetterKind says what a letter is about.
type LetterKind string

const (
	LetterInvitation LetterKind = "invitation" // asks the owner to consent
	LetterReminder   LetterKind = "reminder"   // asks once more
	LetterReconnect  LetterKind = "reconnect"  // asks again, as the grant is gone
	LetterThanks     LetterKind = "thanks"     // tells the owner on record that somebody consented
)

// Situation is how far an owner is when a reminder is due. It chooses the reminder's words.
type Situation string

const (
	SituationUnseen       Situation = "unseen"        // nobody has pressed Continue
	SituationUnfinished   Situation = "unfinished"    // somebody did and did not come to an end
	SituationDenied       Situation = "denied"        // the provider's question was answered with no
	SituationWrongAccount Situation = "wrong_account" // another account consented, or to less than asked

	// The following are of the route manager.

	SituationManager      Situation = "manager"       // nobody has said that the user was added
	SituationNoActivation Situation = "no_activation" // somebody has, and the provider's mail did not come
)

// Inviter queues invitations.
type Inviter struct {
	DB     DB
	Linker Linker
	Mailer Mailer
	Grants GrantHolder // nil: nobody has a grant
}

// GrantHolder tells who has a grant that works. Package grant implements it.
type GrantHolder interface {
	// Holding returns those of the clients that have one, in tx's transaction.
	Holding(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) ([]uuid.UUID, error)
}

// Selection says whom to invite. Exactly one of Clients, All or the filter fields is meant; the zero
// value selects the clients in stage imported. Clients that is empty but not nil selects nobody.
//
// Clients named one by one are mailed again even if they have been invited, and even if they bounced,
// declined or unsubscribed: naming them is the operator's knowing decision. A selection by stage mails
// invited clients again but leaves those alone that said no.
type Selection struct {
	Clients []string // ids, "ref:…", or plain refs
	All     bool
	Stage   Stage
	Reason  Reason
	Tag     string
}

// SkipReason says why a selected client is not mailed.
type SkipReason string

const (
	SkipPaused     SkipReason = "paused"
	SkipAuthorized SkipReason = "authorized"
	SkipRoute      SkipReason = "other_route" // on a route for which nothing is asked of the owner
	SkipQueued     SkipReason = "queued"      // a mail is already on its way
	SkipInvited    SkipReason = "invited"     // was mailed before
	// An owner who opted out is skipped by that word, whatever the stage: declined, unsubscribed. A stalled
	// client is skipped for its own reason: bounced, declined, unsubscribed, conflict.
)

// Invited is the outcome of an invitation run.
type Invited struct {
	Matched int                `json:"matched" doc:"clients that the selection names"`
	Queued  int                `json:"queued" doc:"mails queued, one a client"`
	Skipped map[SkipReason]int `json:"skipped" doc:"clients not mailed, by reason"`
}

// Invite queues one mail for every selected client that may be mailed, in one transaction. With
// dryRun it only counts. It returns ErrNotFound, naming them, if Clients has unknown ones.
func (i *Inviter) Invite(ctx context.Context, sel Selection, actor Actor, dryRun bool) (Invited, error) {
	tx, err := i.DB.Begin(ctx)
	if err != nil {
		return Invited{}, fmt.Errorf("invite: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	where, params, err := sel.conditions(ctx, tx)
	if err != nil {
		return Invited{}, err
	}
	result, err := i.invite(ctx, tx, where, params, actor)
	if err != nil || dryRun {
		return result, err
	}
	if result.Queued > 0 {
		if err := Audit(ctx, tx, actor, sel.entry(result, params)); err != nil {
			return Invited{}, err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return Invited{}, fmt.Errorf("invite: %w", err)
	}
	return result, nil
}

// conditions says which clients c are selected, and two booleans: $1, named one by one; $2, may be
// mailed again.
func (sel Selection) conditions(ctx context.Context, db DB) (where string, params []any, err error) {
	if sel.Clients != nil {
		ids, err := findAll(ctx, db, sel.Clients)
		return "c.id = ANY ($3)", []any{true, true, ids}, err
	}
	f := Filter{Stage: sel.Stage, Reason: sel.Reason, Tag: sel.Tag}
	if !sel.All && f == (Filter{}) {
		f.Stage = StageImported
	}
	conditions, params := f.conditions([]any{false, sel.Stage != ""})
	return strings.Join(conditions, " AND "), params, nil
}

// entry is the invitation of the selected clients as the audit trail tells it. params are those of conditions: a
// client that is named alone is what was invited.
func (sel Selection) entry(result Invited, params []any) audit.Entry {
	after := audit.Fields{"matched": result.Matched, "queued": result.Queued, "skipped": result.Skipped}
	if sel.Clients != nil {
		if ids, ok := params[len(params)-1].([]uuid.UUID); ok && len(ids) == 1 {
			return audit.Entry{Action: "client.invite", Object: AuditObject(ids[0]), After: after}
		}
	} else {
		after["all"], after["stage"], after["reason"], after["tag"] = sel.All, sel.Stage, sel.Reason, sel.Tag
	}
	return audit.Entry{Action: "client.invite", Object: "roster", After: after}
}

// findAll returns the ids of clients named by id, "ref:…" or plain ref.
func findAll(ctx context.Context, db DB, keys []string) ([]uuid.UUID, error) {
	ids := []uuid.UUID{}
	refs := make([]string, len(keys))
	for i, key := range keys {
		if id, err := uuid.Parse(key); err == nil {
			ids = append(ids, id)
		}
		refs[i] = storedText(strings.TrimPrefix(key, "ref:"))
	}
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := db.Query(ctx, `SELECT id, coalesce(ref, '') FROM clients WHERE id = ANY ($1) OR ref = ANY ($2)`, ids, refs)
	if err != nil {
		return nil, fmt.Errorf("find clients: %w", err)
	}
	found := []uuid.UUID{}
	names := make(map[string]bool)
	var id uuid.UUID
	var ref string
	_, err = pgx.ForEachRow(rows, []any{&id, &ref}, func() error {
		found = append(found, id)
		names[id.String()], names[ref] = true, true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find clients: %w", err)
	}
	var missing []string
	for i, key := range keys {
		id, err := uuid.Parse(key)
		if refs[i] == "" || !names[refs[i]] && (err != nil || !names[id.String()]) {
			missing = append(missing, strconv.Quote(key))
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no client has the ref or id %s: %w", strings.Join(missing, ", "), ErrNotFound)
	}
	return found, nil
}

// batch is how many clients are read, linked and queued at a time, so that memory does not grow with
// the roster.
const batch = 2000

// invite works inside tx, which the caller commits. where and params are as conditions returns them.
func (i *Inviter) invite(ctx context.Context, tx pgx.Tx, where string, params []any, actor Actor) (Invited, error) {
	// Two runs come one after the other: the second finds queued what the first has queued.
	if err := lockRoster(ctx, tx); err != nil {
		return Invited{}, err
	}
	result := Invited{Skipped: make(map[SkipReason]int)}
	count := func(_ uuid.UUID, why SkipReason) { result.Skipped[why]++ }
	last := uuid.Nil
	for {
		letters, seen, end, err := i.selectBatch(ctx, tx, where, params, last, count)
		if err != nil {
			return Invited{}, err
		}
		result.Matched += seen
		already, err := i.queue(ctx, tx, letters, actor)
		if err != nil {
			return Invited{}, err
		}
		result.Queued += len(letters) - len(already)
		if len(already) > 0 {
			result.Skipped[SkipQueued] += len(already)
		}
		if seen < batch {
			return result, nil
		}
		last = end
	}
}

// InviteAll queues one mail for every one of at most 2,000 clients that may be mailed, in tx's transaction, as
// Invite does for those of a selection: named says that they were named one by one, and again that they may have
// been mailed before. It returns those that were not mailed.
func (i *Inviter) InviteAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, named, again bool, actor Actor) (Skips, error) {
	if err := LockRoster(ctx, tx); err != nil {
		return nil, err
	}
	skips := make(Skips)
	skip := func(client uuid.UUID, why SkipReason) { skips[client] = why }
	letters, _, _, err := i.selectBatch(ctx, tx, "c.id = ANY ($3)", []any{named, again, clients}, uuid.Nil, skip)
	if err != nil {
		return nil, err
	}
	already, err := i.queue(ctx, tx, letters, actor)
	for _, client := range already {
		skips[client] = SkipQueued
	}
	return skips, err
}

// selectBatch reads the next batch of selected clients after last, tells those to be skipped, and
// returns letters for the others. It locks none of them: an owner at work does not wait, and whether a
// letter is still wanted is asked again when it is sent.
func (i *Inviter) selectBatch(
	ctx context.Context, tx pgx.Tx, where string, params []any, last uuid.UUID, skipped func(uuid.UUID, SkipReason),
) (letters []Letter, seen int, end uuid.UUID, err error) {
	params = append(slices.Clone(params), last)
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := tx.Query(ctx, fmt.Sprintf(`
		SELECT
			c.id,
			c.owner_name,
			c.owner_email,
			c.name,
			c.locale,
			c.route,
			c.username,
			CASE WHEN c.stage = 'lapsed' AND c.route = 'owner' THEN 'reconnect' ELSE 'invitation' END,
			CASE
				WHEN c.paused THEN 'paused'
				WHEN c.stage = 'authorized' THEN 'authorized'
				WHEN c.route NOT IN ('owner', 'manager') THEN 'other_route'
				WHEN c.opted_out IS NOT NULL AND NOT $1::boolean THEN c.opted_out
				WHEN c.reason IN ('bounced', 'declined', 'unsubscribed', 'conflict') AND NOT $1::boolean THEN c.reason
				WHEN c.stage IN ('invited', 'started') AND NOT $2::boolean THEN 'invited'
				ELSE ''
			END
		FROM clients c
		WHERE %s AND c.id > $%d
		ORDER BY c.id
		LIMIT %d`, where, len(params), batch), params...)
	if err != nil {
		return nil, 0, end, fmt.Errorf("select clients to invite: %w", err)
	}
	var l Letter
	var skip SkipReason
	_, err = pgx.ForEachRow(rows, []any{&l.Client, &l.ToName, &l.ToAddress, &l.ClientName, &l.Locale, &l.Route, &l.Username, &l.Kind, &skip}, func() error {
		seen++
		end = l.Client
		if skip != "" {
			skipped(l.Client, skip)
			return nil
		}
		letters = append(letters, l)
		return nil
	})
	if err != nil {
		return nil, 0, end, fmt.Errorf("select clients to invite: %w", err)
	}
	return letters, seen, end, nil
}

// queue issues the links and hands the letters to the mailer. It returns the clients to whom one is on its way already.
func (i *Inviter) queue(ctx context.Context, tx pgx.Tx, letters []Letter, actor Actor) (already []uuid.UUID, err error) {
	if len(letters) == 0 {
		return nil, nil
	}
	clients := make([]uuid.UUID, len(letters))
	for n, l := range letters {
		clients[n] = l.Client
	}
	invitations, err := i.Linker.Issue(ctx, tx, clients)
	if err != nil {
		return nil, err
	}
	for n := range letters {
		letters[n].Invitation = invitations[n]
	}
	if already, err = i.Mailer.Queue(ctx, tx, letters); err != nil {
		return nil, err
	}
	clients = slices.DeleteFunc(clients, func(c uuid.UUID) bool { return slices.Contains(already, c) })
	_, err = AdvanceAll(ctx, tx, clients, Change{Event: EventMailQueued, Actor: actor})
	return already, err
}

// Reconnect records the change that ends a client's authorization and has its owner asked to connect again,
// in tx's transaction. Who is paused or has opted out is not mailed, nor whose Account Manager only has to consent
// once more, which is the operators' affair. A client that a grant no longer authorizes stays as it is.
func (i *Inviter) Reconnect(ctx context.Context, tx pgx.Tx, ch Change) error {
	// The roster is locked before rows of it, as by everybody.
	if err := lockRoster(ctx, tx); err != nil {
		return err
	}
	var route Route
	err := tx.QueryRow(ctx, `SELECT route FROM clients WHERE id = $1 FOR NO KEY UPDATE`, ch.Client).Scan(&route)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("client %s: %w", ch.Client, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read the client that lapses: %w", err)
	}
	if !route.Consents() {
		ch.To, ch.Reason = "", ""
	}
	if _, err := Advance(ctx, tx, ch); err != nil || route != RouteOwner {
		return err
	}
	_, err = i.invite(ctx, tx, "c.id = ANY ($3)", []any{false, true, []uuid.UUID{ch.Client}}, ch.Actor)
	return err
}

// Thank queues the letter that tells the owner on record that somebody has consented by an invitation, and as
// whom: a forwarded link is fine, but not unseen. Letters that ask for consent are taken back. It works in the
// transaction that stores the grant.
func (i *Inviter) Thank(ctx context.Context, tx pgx.Tx, client, invitation uuid.UUID, organization string) error {
	l := Letter{Client: client, Invitation: invitation, Kind: LetterThanks, Organization: organization}
	err := tx.QueryRow(ctx, `
		SELECT
			owner_name,
			owner_email,
			name,
			locale
		FROM clients
		WHERE id = $1`, client).Scan(&l.ToName, &l.ToAddress, &l.ClientName, &l.Locale)
	if err != nil {
		return fmt.Errorf("thank the owner: %w", err)
	}
	if err := i.Mailer.Cancel(ctx, tx, []uuid.UUID{client}); err != nil {
		return err
	}
	_, err = i.Mailer.Queue(ctx, tx, []Letter{l})
	return err
}
