package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
)

// operatorsAPI is the part of the API that is about who may use the console.
func (s *Server) operatorsAPI(api huma.API) {
	gone := func(o *huma.Operation) { o.DefaultStatus = http.StatusNoContent }
	register(s, api, http.MethodGet, "/operators", admin.ScopeAdmin, "List operators, and who is invited to be one", s.listOperators)
	register(s, api, http.MethodPost, "/operators", admin.ScopeAdmin,
		"Invite somebody to be an operator, or once more: an earlier link no longer works", s.postOperator,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusCreated })
	register(s, api, http.MethodPatch, "/operators/{id}", admin.ScopeAdmin, "Give an operator another role", s.patchOperator)
	register(s, api, http.MethodDelete, "/operators/{id}", admin.ScopeAdmin,
		"Remove an operator, which ends their sessions", s.deleteOperator, gone)
	register(s, api, http.MethodDelete, "/operators/{id}/sessions", admin.ScopeAdmin, "End all sessions of an operator", s.deleteSessions, gone)
	register(s, api, http.MethodDelete, "/operators/{id}/second-factor", admin.ScopeAdmin,
		"Switch off the second factor of an operator who has lost it", s.deleteSecondFactor, gone)
	register(s, api, http.MethodDelete, "/operators/invitations/{id}", admin.ScopeAdmin,
		"Take an invitation back: its link no longer works", s.deleteInvitation, gone)
}

// OperatorBody is an operator.
type OperatorBody struct {
	ID           uuid.UUID  `json:"id" format:"uuid"`
	Email        string     `json:"email"`
	Name         string     `json:"name"`
	Role         admin.Role `json:"role" enum:"owner,operator,viewer"`
	SecondFactor bool       `json:"second_factor" doc:"signing in asks for a code as well"`
	CreatedAt    time.Time  `json:"created_at"`
	SignedInAt   *time.Time `json:"signed_in_at"`
}

// OperatorInvitation is somebody who was invited to be an operator and has not come yet.
type OperatorInvitation struct {
	ID        uuid.UUID  `json:"id" format:"uuid"`
	Email     string     `json:"email"`
	Role      admin.Role `json:"role" enum:"owner,operator,viewer"`
	InvitedBy string     `json:"invited_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at" doc:"may be over"`
}

func operatorInJSON(o admin.Operator) OperatorBody {
	return OperatorBody{o.ID, o.Email, o.Name, o.Role, o.SecondFactor, o.CreatedAt, o.SignedInAt}
}

func operatorInvitationInJSON(in admin.Invitation) OperatorInvitation {
	return OperatorInvitation{in.ID, in.Email, in.Role, string(in.InvitedBy), in.CreatedAt, in.ExpiresAt}
}

type operatorsOutput struct {
	Body struct {
		Operators   []OperatorBody       `json:"operators"`
		Invitations []OperatorInvitation `json:"invitations"`
	}
}

func (s *Server) listOperators(ctx context.Context, _ *struct{}) (*operatorsOutput, error) {
	people, err := s.Admin.Operators(ctx)
	if err != nil {
		return nil, err
	}
	invited, err := s.Admin.Invitations(ctx)
	if err != nil {
		return nil, err
	}
	out := &operatorsOutput{}
	out.Body.Operators, out.Body.Invitations = []OperatorBody{}, []OperatorInvitation{}
	for _, o := range people {
		out.Body.Operators = append(out.Body.Operators, operatorInJSON(o))
	}
	for _, in := range invited {
		out.Body.Invitations = append(out.Body.Invitations, operatorInvitationInJSON(in))
	}
	return out, nil
}

type operatorInput struct {
	Body struct {
		Email string     `json:"email"`
		Role  admin.Role `json:"role" enum:"owner,operator,viewer"`
	}
}

type invitedOperator struct {
	Body struct {
		OperatorInvitation
		Link *string `json:"link" doc:"to hand over, given this once; null if it was mailed"`
	}
}

func (s *Server) postOperator(ctx context.Context, in *operatorInput) (*invitedOperator, error) {
	invited, err := s.Admin.Invite(ctx, in.Body.Email, in.Body.Role, actor(ctx))
	if err != nil {
		return nil, err
	}
	out := &invitedOperator{}
	out.Body.OperatorInvitation = operatorInvitationInJSON(invited.Invitation)
	if invited.Link != "" {
		out.Body.Link = &invited.Link
	}
	return out, nil
}

type operatorID struct {
	ID string `path:"id" doc:"id or e-mail address"`
}

type operatorPatch struct {
	ID   string `path:"id" doc:"id or e-mail address"`
	Body struct {
		Role admin.Role `json:"role" enum:"owner,operator,viewer"`
	}
}

type operatorOutput struct{ Body OperatorBody }

func (s *Server) patchOperator(ctx context.Context, in *operatorPatch) (*operatorOutput, error) {
	o, err := s.Admin.SetRole(ctx, in.ID, in.Body.Role, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &operatorOutput{operatorInJSON(o)}, nil
}

func (s *Server) deleteOperator(ctx context.Context, in *operatorID) (*struct{}, error) {
	return nil, s.Admin.RemoveOperator(ctx, in.ID, actor(ctx))
}

func (s *Server) deleteSessions(ctx context.Context, in *operatorID) (*struct{}, error) {
	_, err := s.Admin.EndSessions(ctx, in.ID, "", actor(ctx))
	return nil, err
}

func (s *Server) deleteSecondFactor(ctx context.Context, in *operatorID) (*struct{}, error) {
	return nil, s.Admin.ResetSecondFactor(ctx, in.ID, actor(ctx))
}

type operatorInvitationID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func (s *Server) deleteInvitation(ctx context.Context, in *operatorInvitationID) (*struct{}, error) {
	return nil, s.Admin.TakeBack(ctx, in.ID, actor(ctx))
}
