package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// fillPartner shows when the account of a client on the route partner was asked for.
func (s *Server) fillPartner(c *gin.Context, client provisioning.Client, page *templates.ClientPage) error {
	if client.Route != provisioning.RoutePartner {
		return nil
	}
	if page.Partner = new(templates.Partner); s.Partner == nil {
		return nil
	}
	state, err := s.Partner.State(c, client.ID)
	*page.Partner = templates.Partner{SetUp: true, CheckedAt: orZero(state.CheckedAt), NextAt: orZero(state.NextAt)}
	return err
}

// check asks for the account at once.
func (s *Server) check(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (string, error) {
	if s.Partner == nil {
		return "", errNoPartner
	}
	return doneChecked, s.Partner.Check(c, client.ID, actor)
}

func (s *Server) partnerAPI(api huma.API) {
	register(s, api, http.MethodPost, "/clients/{id}/check", admin.ScopeWrite,
		"Ask now whether the partner's token opens the account of a client on the route partner", s.postCheck)
}

func (s *Server) postCheck(ctx context.Context, in *clientID) (*clientOutput, error) {
	if s.Partner == nil {
		return nil, errNoPartner
	}
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.Partner.Check(ctx, c.ID, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readClient(ctx, &clientInput{ID: c.ID.String()})
}
