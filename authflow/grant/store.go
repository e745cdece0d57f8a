package grant

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// Thanker writes to the owner on record that an account is connected. *provisioning.Inviter implements it.
type Thanker interface {
	Thank(ctx context.Context, tx pgx.Tx, client, invitation uuid.UUID, organization string) error
}

// Store keeps grants.
type Store struct {
	DB      provisioning.DB
	Vault   *vault.Vault
	Thanker Thanker
	App     string   // names our app at the provider: a grant belongs to the app that it was made with
	Scopes  []string // as asked for: what an answer without scopes has granted (RFC 6749, 5.1)
	Now     func() time.Time
}

// Consented is what a walk to the provider brought: tokens, and the account that they open.
type Consented struct {
	Client     uuid.UUID
	Invitation *uuid.UUID // nil if no owner's link began the walk
	Tokens     provisioning.Tokens
	Account    provisioning.Account
}

// Holding returns those of the clients that have an active grant, in tx's transaction.
func (s *Store) Holding(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, `
		SELECT client_id
		FROM grants
		WHERE client_id = ANY ($1)
			AND status = 'active'`, clients)
	if err != nil {
		return nil, fmt.Errorf("find who has a grant: %w", err)
	}
	holding, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("find who has a grant: %w", err)
	}
	return holding, nil
}

// Verdict says what the account that consented means for the client.
type Verdict struct {
	Status   Status                 // StatusActive or StatusQuarantined
	Event    provisioning.EventKind // authorized, wrong_account or conflict
	Reason   provisioning.Reason    // with StatusQuarantined only
	Evidence string                 // in words, for the operator
}

// Take judges the account and keeps the grant in tx's transaction. An active one binds the account to the
// client and spends every link that leads to it. To move the client and to thank its owner is left to the
// caller, who has more to write in the same transaction. The client's row is locked until its end.
func (s *Store) Take(ctx context.Context, tx pgx.Tx, c Consented) (Verdict, error) {
	v, err := judge(ctx, tx, c.Client, c.Account, c.Tokens.Subject)
	if err != nil {
		return Verdict{}, err
	}
	if err := s.keep(ctx, tx, c, v); err != nil {
		return Verdict{}, err
	}
	switch {
	case v.Status == StatusActive:
		err = s.bind(ctx, tx, c.Client, c.Account.ID)
	case v.Reason == provisioning.ReasonConflict:
		err = s.suspect(ctx, tx, c.Account.ID)
	}
	return v, err
}

// suspect has the account's active grant refreshed at once: the provider may have ended it when the same user
// consented again, on the link of another client.
func (s *Store) suspect(ctx context.Context, tx pgx.Tx, account string) error {
	_, err := tx.Exec(ctx, `
		UPDATE grants
		SET refresh_at = $2
		WHERE id = (
			SELECT id
			FROM grants
			WHERE account_id = $1
				AND status = 'active'
				AND refresh_at > $2
			FOR NO KEY UPDATE SKIP LOCKED
		)`, account, s.Now())
	if err != nil {
		return fmt.Errorf("look after the account's other grant: %w", err)
	}
	return nil
}

// keep seals and stores the grant. An active one takes the place of all that the client had; one in
// quarantine, that of an earlier one of the same account: the provider may have ended that one with
// this consent.
func (s *Store) keep(ctx context.Context, tx pgx.Tx, c Consented, v Verdict) error {
	if err := s.replace(ctx, tx, c.Client, v.Status, c.Account.ID); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("store the grant: %w", err)
	}
	const generation = 1
	access, refresh := s.seal(c.Client, id, generation, c.Tokens)
	scopes := c.Tokens.Scopes
	if scopes == nil {
		scopes = s.Scopes
	}
	now := s.Now()
	var next *time.Time
	if v.Status == StatusActive && refresh != nil {
		next = new(proofDue(now))
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO grants (
			id, client_id, account_id, organization, contact_email, partner_id, subject, scopes,
			status, generation, access_token, access_expires_at, refresh_token,
			invitation_id, reason, evidence, created_at, refresh_at, app
		)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, nullif($15, ''), $16, $17, $18, $19)`,
		id, c.Client, c.Account.ID, c.Account.Organization, c.Account.ContactEmail, c.Account.PartnerID, c.Tokens.Subject, scopes,
		v.Status, generation, access, c.Tokens.ExpiresAt, refresh,
		c.Invitation, v.Reason, v.Evidence, now, next, s.App)
	if err != nil {
		return fmt.Errorf("store the grant: %w", err)
	}
	return nil
}

// replace ends the grants whose place another takes, and shreds their tokens.
func (s *Store) replace(ctx context.Context, tx pgx.Tx, client uuid.UUID, by Status, account string) error {
	_, err := tx.Exec(ctx, `
		UPDATE grants
		SET
			status = 'replaced',
			access_token = NULL,
			refresh_token = NULL,
			refresh_at = NULL,
			lease_id = NULL,
			leased_until = NULL,
			ended_at = $4
		WHERE client_id = $1
			AND status IN ('active', 'quarantined')
			AND ($2 = 'active' OR (status = 'quarantined' AND account_id = $3))`, client, by, account, s.Now())
	if err != nil {
		return fmt.Errorf("replace the earlier grant: %w", err)
	}
	return nil
}

// bind ties the account to the client and spends every link that leads to it.
func (s *Store) bind(ctx context.Context, tx pgx.Tx, client uuid.UUID, account string) error {
	if err := provisioning.BindAccount(ctx, tx, client, account); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE invitations
		SET spent_at = $2
		WHERE client_id = $1
			AND spent_at IS NULL`, client, s.Now()); err != nil {
		return fmt.Errorf("spend the invitation: %w", err)
	}
	return nil
}

const (
	kindAccess  = "access_token"
	kindRefresh = "refresh_token"
)

func tokenAD(client, grant uuid.UUID, kind string, generation int) vault.AD {
	return vault.AD{Row: grant.String(), Kind: kind, Client: client.String(), Generation: generation}
}

// seal seals the tokens for their place. There is no sealed refresh token if there is none to seal.
func (s *Store) seal(client, grant uuid.UUID, generation int, t provisioning.Tokens) (access, refresh []byte) {
	access = s.Vault.Seal([]byte(t.Access.Reveal()), tokenAD(client, grant, kindAccess, generation))
	if t.Refresh != "" {
		refresh = s.Vault.Seal([]byte(t.Refresh.Reveal()), tokenAD(client, grant, kindRefresh, generation))
	}
	return access, refresh
}

// open opens one sealed token. It returns the errors of vault.Vault.Open.
func (s *Store) open(client, grant uuid.UUID, kind string, generation int, sealed []byte) (provisioning.Secret, error) {
	token, err := s.Vault.Open(sealed, tokenAD(client, grant, kind, generation))
	if err != nil {
		return "", fmt.Errorf("open the grant %s of client %s: %w", grant, client, err)
	}
	return provisioning.Secret(token), nil
}
