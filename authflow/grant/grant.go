package grant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// Status says whether a grant is used.
type Status string

const (
	// StatusActive: the client's verified grant. Set by Store.Take, Accept and Move.
	StatusActive Status = "active"
	// StatusQuarantined: of an unexpected account; sealed, unused until an operator decides. Set by Store.Take.
	StatusQuarantined Status = "quarantined"
	// StatusLapsed: the provider says that it is gone. Set by Keeper.
	StatusLapsed Status = "lapsed"
	// StatusReplaced: a later consent took its place. Set by Store.Take, Accept and Move.
	StatusReplaced Status = "replaced"
	// StatusDiscarded: an operator did not want it. Set by Store.Discard.
	StatusDiscarded Status = "discarded"
)

// ErrNotFound is returned for a grant that does not exist, or not in the wanted status.
var ErrNotFound = errors.New("there is no such grant")

// Grant is what an operator may know of a grant: never a token.
type Grant struct {
	ID           uuid.UUID
	ClientID     uuid.UUID
	Status       Status
	AccountID    string
	Organization string
	ContactEmail string
	PartnerID    string // the partner that provisioned the account; empty if none
	Subject      string // the user who consented, if the provider said
	Scopes       []string
	Reason       *provisioning.Reason // why it went into quarantine; nil if it did not
	Evidence     string               // what the verdict on its account rests on, in words
	CreatedAt    time.Time
	RefreshedAt  *time.Time
	ProvenAt     *time.Time // its first refresh that worked
	RefreshAt    *time.Time // when the next refresh is due; nil if there will be none
	RefusedAt    *time.Time // since when the provider refuses to refresh it; nil if it does not
	EndedAt      *time.Time
}

const grantColumns = `
	g.id,
	g.client_id,
	g.status,
	g.account_id,
	g.organization,
	g.contact_email,
	g.partner_id,
	g.subject,
	g.scopes,
	g.reason,
	g.evidence,
	g.created_at,
	g.refreshed_at,
	g.proven_at,
	g.refresh_at,
	g.refused_at,
	g.ended_at`

// Of returns a client's grants, newest first.
func (s *Store) Of(ctx context.Context, client uuid.UUID) ([]Grant, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT `+grantColumns+`
		FROM grants g
		WHERE g.client_id = $1
		ORDER BY g.id DESC`, client)
	if err != nil {
		return nil, fmt.Errorf("read the grants: %w", err)
	}
	grants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Grant])
	if err != nil {
		return nil, fmt.Errorf("read the grants: %w", err)
	}
	return grants, nil
}
