package authflow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/text/unicode/norm"

	"github.com/countersign/countersign/provisioning"
)

// GrantStatus says whether a grant is used.
type GrantStatus string

const (
	GrantActive      GrantStatus = "active"      // the client's verified grant
	GrantQuarantined GrantStatus = "quarantined" // of an unexpected account: sealed, unused until an operator decides
	GrantReplaced    GrantStatus = "replaced"    // a later consent took its place; its tokens are gone
)

// verdict is what the account that consented means for the client.
type verdict struct {
	outcome  Outcome
	event    provisioning.EventKind
	reason   provisioning.Reason
	evidence string // in words, for the operator
}

// store is storeOnce, tried again after a collision with another consent or an import that writes to
// the same rows: the code is spent, and the tokens are nowhere else.
func (f *Flow) store(ctx context.Context, c consent, t provisioning.Tokens, account provisioning.Account) (Outcome, error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		outcome, err := f.storeOnce(ctx, c, t, account)
		if attempt == attempts || !collided(err) {
			return outcome, err
		}
	}
}

// collided tells whether a transaction failed only because of another one at the same time.
func collided(err error) bool {
	const uniqueViolation, deadlockDetected = "23505", "40P01"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == uniqueViolation || pg.Code == deadlockDetected)
}

// storeOnce judges the account and keeps the grant, in one transaction with everything that follows
// from it: client, invitation and consent.
func (f *Flow) storeOnce(ctx context.Context, c consent, t provisioning.Tokens, account provisioning.Account) (Outcome, error) {
	tx, err := f.DB.Begin(ctx)
	if err != nil {
		return "", fmt.Errorf("store the grant: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	v, err := judge(ctx, tx, c.ClientID, account)
	if err != nil {
		return "", err
	}
	change := provisioning.Change{
		Event: v.event,
		Detail: provisioning.Detail{
			"account_id": account.ID, "organization": account.Organization, "evidence": v.evidence,
		},
	}
	if unasked := f.unasked(t); len(unasked) > 0 {
		change.Detail["unasked_scopes"] = unasked
	}
	status := GrantQuarantined
	if v.outcome == OutcomeConnected {
		status = GrantActive
		change.To = provisioning.StageAuthorized
	} else {
		change.To, change.Reason = provisioning.StageStalled, v.reason
	}
	if err := f.keep(ctx, tx, c.ClientID, status, t, account); err != nil {
		return "", err
	}
	if status == GrantActive {
		if err := bind(ctx, tx, c.ClientID, account.ID); err != nil {
			return "", err
		}
	}
	if err := endIn(ctx, tx, c, ending{outcome: v.outcome, found: account}, change); err != nil {
		return "", err
	}
	if status == GrantActive {
		if err := f.Inviter.Thank(ctx, tx, c.ClientID, c.InvitationID, account.Organization); err != nil {
			return "", err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return "", fmt.Errorf("store the grant: %w", err)
	}
	return v.outcome, nil
}

// judge compares the account that consented with the one the client expects, and holds the client's
// row until tx ends. Between two clients that get one account at once, a unique index decides.
func judge(ctx context.Context, tx pgx.Tx, client uuid.UUID, account provisioning.Account) (verdict, error) {
	var name, email string
	var expected, holder *string
	var namesakes, siblings int
	err := tx.QueryRow(ctx, `
		SELECT
			c.name,
			c.owner_email,
			c.account_id,
			(SELECT o.name FROM clients o WHERE o.account_id = $2 AND o.id <> c.id),
			(SELECT count(*) FROM clients o WHERE lower(o.name) COLLATE "C" = lower(c.name) AND o.id <> c.id),
			(SELECT count(*) FROM clients o WHERE lower(o.owner_email) = lower(c.owner_email) AND o.id <> c.id)
		FROM clients c
		WHERE c.id = $1
		FOR UPDATE OF c`, client, account.ID,
	).Scan(&name, &email, &expected, &holder, &namesakes, &siblings)
	if err != nil {
		return verdict{}, fmt.Errorf("read the client to verify: %w", err)
	}
	wrong := func(evidence string) verdict {
		return verdict{OutcomeWrongAccount, provisioning.EventWrongAccount, provisioning.ReasonWrongAccount, evidence}
	}
	right := func(evidence string) verdict {
		return verdict{outcome: OutcomeConnected, event: provisioning.EventAuthorized, evidence: evidence}
	}
	named := sameName(account.Organization, name)
	sameAddress := strings.EqualFold(account.ContactEmail, email)
	switch {
	case holder != nil:
		return verdict{
			OutcomeConflict, provisioning.EventConflict, provisioning.ReasonConflict,
			fmt.Sprintf("this account belongs to the client %q", *holder),
		}, nil
	case expected != nil && *expected == account.ID:
		return right("the account id is the expected one"), nil
	case expected != nil:
		return wrong("expected account " + *expected), nil
	case named && namesakes == 0:
		return right("no account id was expected; the organisation has the client's name"), nil
	case sameAddress && siblings == 0:
		return right("no account id was expected; the account's contact address is the owner's"), nil
	case named:
		return wrong("no account id was expected; the organisation has the client's name, but so have other clients"), nil
	case sameAddress:
		return wrong("no account id was expected; the contact address is the owner's, but other clients have the same owner"), nil
	}
	return wrong("no account id was expected; neither the organisation's name nor the contact address agree with the roster"), nil
}

// sameName compares names as people write them: letters and digits count; case, accents and
// punctuation do not.
func sameName(a, b string) bool {
	fold := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return unicode.ToLower(r)
			}
			return -1
		}, norm.NFKD.String(s))
	}
	a, b = fold(a), fold(b)
	return a != "" && a == b
}

// keep seals and stores the grant. An active one takes the place of all that the client had; one in
// quarantine, that of an earlier one of the same account: the provider may have ended that one with
// this consent.
func (f *Flow) keep(
	ctx context.Context, tx pgx.Tx, client uuid.UUID, status GrantStatus, t provisioning.Tokens, account provisioning.Account,
) error {
	_, err := tx.Exec(ctx, `
		UPDATE grants
		SET
			status = 'replaced',
			access_token = NULL,
			refresh_token = NULL
		WHERE client_id = $1
			AND status IN ('active', 'quarantined')
			AND ($2 = 'active' OR (status = 'quarantined' AND account_id = $3))`, client, status, account.ID)
	if err != nil {
		return fmt.Errorf("replace the earlier grant: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("store the grant: %w", err)
	}
	const generation = 1
	access := f.Vault.Seal([]byte(t.Access.Reveal()), tokenAD(id, "access_token", generation))
	var refresh []byte
	if t.Refresh != "" {
		refresh = f.Vault.Seal([]byte(t.Refresh.Reveal()), tokenAD(id, "refresh_token", generation))
	}
	scopes := t.Scopes
	if scopes == nil {
		scopes = f.Scopes // RFC 6749, 5.1: an answer without scope grants what was asked.
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO grants (
			id, client_id, account_id, organization, contact_email, subject, scopes,
			status, generation, access_token, access_expires_at, refresh_token
		)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		id, client, account.ID, account.Organization, account.ContactEmail, t.Subject, scopes,
		status, generation, access, t.ExpiresAt, refresh)
	if err != nil {
		return fmt.Errorf("store the grant: %w", err)
	}
	return nil
}

// bind ties the account to the client and spends every link that leads to it.
func bind(ctx context.Context, tx pgx.Tx, client uuid.UUID, account string) error {
	if err := provisioning.BindAccount(ctx, tx, client, account); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE invitations
		SET spent_at = now()
		WHERE client_id = $1
			AND spent_at IS NULL`, client); err != nil {
		return fmt.Errorf("spend the invitation: %w", err)
	}
	return nil
}

func tokenAD(grant uuid.UUID, kind string, generation int) AD {
	return AD{Row: grant.String(), Kind: kind, Generation: generation}
}

// Grant is what an operator may know of a grant: never a token.
type Grant struct {
	ID           uuid.UUID
	Status       GrantStatus
	AccountID    string
	Organization string
	ContactEmail string
	Subject      string // the user who consented, if the provider said
	Scopes       []string
	CreatedAt    time.Time
}

// Grants returns a client's grants, newest first.
func (f *Flow) Grants(ctx context.Context, client uuid.UUID) ([]Grant, error) {
	rows, err := f.DB.Query(ctx, `
		SELECT
			id,
			status,
			account_id,
			organization,
			contact_email,
			subject,
			scopes,
			created_at
		FROM grants
		WHERE client_id = $1
		ORDER BY id DESC`, client)
	if err != nil {
		return nil, fmt.Errorf("read the grants: %w", err)
	}
	grants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Grant])
	if err != nil {
		return nil, fmt.Errorf("read the grants: %w", err)
	}
	return grants, nil
}
