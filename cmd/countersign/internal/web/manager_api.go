package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/authflow/admin"
)

type managerJSON struct {
	ClaimedAt    *time.Time `json:"claimed_at" doc:"when the owner said that the user is added"`
	ActivationAt *time.Time `json:"activation_at" doc:"when the provider's mail for the new user came"`
	ActiveAt     *time.Time `json:"active_at" doc:"when the user could sign in"`
}

type managerOutput struct{ Body managerJSON }

func (s *Server) managerAPI(api huma.API) {
	register(s, api, http.MethodGet, "/clients/{id}/manager", admin.ScopeRead,
		"Read how far the Account Manager of a client on the route manager is", s.readManager)
	register(s, api, http.MethodPost, "/clients/{id}/manager/active", admin.ScopeWrite,
		"Say that the Account Manager can sign in, so that the client is ready for a run", s.postActive)
}

func (s *Server) readManager(ctx context.Context, in *clientID) (*managerOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	state, err := s.Managers.State(ctx, c.ID)
	return &managerOutput{managerJSON{state.ClaimedAt, state.ActivationAt, state.ActiveAt}}, err
}

func (s *Server) postActive(ctx context.Context, in *clientID) (*managerOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.Managers.Activate(ctx, c.ID, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readManager(ctx, in)
}
