package web

import (
	"context"
	"errors"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// managerPage shows an owner how to add a user for the agency.
func (s *Server) managerPage(c *gin.Context, inv authflow.Invitation, renamed bool) error {
	page := templates.ManagerPage{
		Letterhead: s.letterhead(c),
		Path:       linkPath(c),
		Client:     inv.ClientName,
		OwnerName:  inv.OwnerName,
		OwnerEmail: inv.OwnerEmail,
		Username:   inv.Username,
		ExpiresAt:  inv.ExpiresAt,
		Renamed:    renamed,
		SaidNo:     orZero(inv.Reason) == provisioning.ReasonDeclined,
	}
	state, err := s.Managers.State(c, inv.ClientID)
	if err != nil {
		return err
	}
	switch {
	case inv.Stage == provisioning.StageAuthorized, state.ActiveAt != nil, state.ActivationAt != nil:
		page.Step = templates.ManagerDone
	case orZero(inv.Reason) == provisioning.ReasonUserLimit:
		page.Step = templates.ManagerLimit
	case orZero(inv.Reason) == provisioning.ReasonUsernameTaken:
		page.Step = templates.ManagerRefused
	case orZero(inv.Reason) == provisioning.ReasonNoActivation:
		page.Step = templates.ManagerMissed
	case state.ClaimedAt != nil:
		page.Step = templates.ManagerClaimed
	}
	return s.show(c, page)
}

// done hears that the owner has added the user.
func (s *Server) done(c *gin.Context) error {
	return s.takeWord(c, s.Managers.Claim)
}

// notYet hears that they have not.
func (s *Server) notYet(c *gin.Context) error {
	return s.takeWord(c, s.Managers.Unclaim)
}

// limit hears that the plan allows no further user.
func (s *Server) limit(c *gin.Context) error {
	return s.takeWord(c, s.Managers.Limit)
}

// taken gives the owner another address to add.
func (s *Server) taken(c *gin.Context) error {
	return s.takeWord(c, func(ctx context.Context, client uuid.UUID) error {
		return s.Managers.Taken(ctx, client, c.PostForm("username"))
	})
}

// takeWord takes what an owner says of the user that they were asked to add, and shows them how things stand then.
func (s *Server) takeWord(c *gin.Context, take func(context.Context, uuid.UUID) error) error {
	before, err := s.Links.Find(c, c.Param("token"))
	if err != nil {
		return s.notTaken(c, err)
	}
	if err := take(c, before.ClientID); err != nil && !errors.Is(err, manager.ErrOtherRoute) {
		return err
	}
	after, err := s.Links.Find(c, c.Param("token"))
	if err != nil {
		return s.notTaken(c, err)
	}
	if after.Route != provisioning.RouteManager {
		return s.backToInvitation(c)
	}
	return s.managerPage(c, after, after.Username != before.Username)
}

// fillManager shows how far the Account Manager of a client on that route is.
func (s *Server) fillManager(c *gin.Context, client provisioning.Client, page *templates.ClientPage) error {
	if client.Route != provisioning.RouteManager || client.Stage == provisioning.StageAuthorized {
		return nil
	}
	shown, err := s.managerOnPage(c, client.ID)
	page.Manager = &shown
	return err
}

// managerOnPage is how far the Account Manager of a client is, with the link of the provider's mail for whoever may act.
func (s *Server) managerOnPage(c *gin.Context, client uuid.UUID) (templates.Manager, error) {
	state, err := s.Managers.State(c, client)
	shown := templates.Manager{
		ClaimedAt: orZero(state.ClaimedAt), ActivationAt: orZero(state.ActivationAt), From: state.ActivationFrom, ActiveAt: orZero(state.ActiveAt),
	}
	if err != nil || !state.HasLink || !s.mayAct(c) {
		return shown, err
	}
	link, err := s.Managers.Link(c, client)
	if err != nil && !errors.Is(err, provisioning.ErrNotFound) { // Somebody has used it an instant ago.
		return shown, err
	}
	shown.Link = link.Reveal()
	return shown, nil
}

// activate notes that the user can sign in.
func (s *Server) activate(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (string, error) {
	return doneActive, s.Managers.Activate(c, client.ID, actor)
}
