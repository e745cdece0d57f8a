package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
)

// quarantineAPI is the part of the API that is about grants of unexpected accounts.
func (s *Server) quarantineAPI(api huma.API) {
	register(s, api, http.MethodGet, "/quarantine", admin.ScopeRead,
		"List grants of unexpected accounts, which wait for a decision, the longest first", s.listQuarantine)
	register(s, api, http.MethodPost, "/quarantine/{id}/accept", admin.ScopeWrite,
		"Take the account that consented for the client's, and authorize the client with it", s.postAcceptHeld)
	register(s, api, http.MethodPost, "/quarantine/{id}/discard", admin.ScopeWrite, "Destroy the tokens of the grant", s.postDiscardHeld,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusNoContent })
	register(s, api, http.MethodPost, "/quarantine/{id}/move", admin.ScopeWrite,
		"Authorize another client with the grant: the one that the account belongs to", s.postMoveHeld)
}

type quarantineInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

type quarantineOutput struct {
	Body struct {
		Grants     []HeldGrant `json:"grants"`
		NextCursor *string     `json:"next_cursor" doc:"null on the last page"`
	}
}

// HeldGrant is a grant in quarantine.
type HeldGrant struct {
	ID                uuid.UUID   `json:"id" format:"uuid"`
	At                time.Time   `json:"at" doc:"when the owner consented"`
	Client            HeldClient  `json:"client" doc:"whose link led to the consent"`
	OwnerEmail        string      `json:"owner_email" doc:"of the client"`
	ExpectedAccountID *string     `json:"expected_account_id" doc:"null if the roster has none"`
	Found             HeldAccount `json:"found"`
	Reason            *string     `json:"reason" enum:"wrong_account,conflict"`
	Evidence          string      `json:"evidence" doc:"what agrees and what does not, in words"`
	BelongsTo         *HeldClient `json:"belongs_to" doc:"the other client that has this account; null if there is none"`
}

// HeldClient is a client that a grant in quarantine is about.
type HeldClient struct {
	ID   uuid.UUID `json:"id" format:"uuid"`
	Ref  *string   `json:"ref"`
	Name string    `json:"name"`
}

// HeldAccount is the account that consented.
type HeldAccount struct {
	AccountID    string   `json:"account_id"`
	Organization string   `json:"organization"`
	ContactEmail string   `json:"contact_email"`
	PartnerID    string   `json:"partner_id" doc:"who provisioned the account; empty if nobody did"`
	Subject      string   `json:"subject" doc:"the user who consented; empty if the provider did not say"`
	Scopes       []string `json:"scopes"`
}

// HeldInJSON says a grant in quarantine as the API does.
func HeldInJSON(h grant.Held) HeldGrant {
	body := HeldGrant{
		ID:                h.ID,
		At:                h.CreatedAt,
		Client:            HeldClient{h.ClientID, h.ClientRef, h.ClientName},
		OwnerEmail:        h.OwnerEmail,
		ExpectedAccountID: h.Expected,
		Found:             HeldAccount{h.AccountID, h.Organization, h.ContactEmail, h.PartnerID, h.Subject, h.Scopes},
		Reason:            (*string)(h.Reason),
		Evidence:          h.Evidence,
	}
	if h.HolderID != nil {
		body.BelongsTo = &HeldClient{*h.HolderID, h.HolderRef, orZero(h.HolderName)}
	}
	return body
}

func (s *Server) listQuarantine(ctx context.Context, in *quarantineInput) (*quarantineOutput, error) {
	held, next, err := s.Grants.Quarantine(ctx, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &quarantineOutput{}
	out.Body.Grants = []HeldGrant{}
	for _, h := range held {
		out.Body.Grants = append(out.Body.Grants, HeldInJSON(h))
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type heldID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func (s *Server) postAcceptHeld(ctx context.Context, in *heldID) (*clientOutput, error) {
	client, err := s.Grants.Accept(ctx, in.ID, actor(ctx))
	if err != nil {
		return nil, err
	}
	return s.readClient(ctx, &clientInput{ID: client.String()})
}

func (s *Server) postDiscardHeld(ctx context.Context, in *heldID) (*struct{}, error) {
	return nil, s.Grants.Discard(ctx, in.ID, actor(ctx))
}

type moveInput struct {
	ID   uuid.UUID `path:"id" format:"uuid"`
	Body struct {
		Client string `json:"client" doc:"id, or ref: and the agency's own key, of the client whose account it is"`
	}
}

func (s *Server) postMoveHeld(ctx context.Context, in *moveInput) (*clientOutput, error) {
	to, err := s.Store.Client(ctx, in.Body.Client)
	if err != nil {
		return nil, err
	}
	if err := s.Grants.Move(ctx, in.ID, to.ID, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readClient(ctx, &clientInput{ID: to.ID.String()})
}
