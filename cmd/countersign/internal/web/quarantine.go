package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	heldAPage    = 20
	shownChoices = 10 // clients that a name may mean
)

// quarantine lists the grants of unexpected accounts.
func (s *Server) quarantine(c *gin.Context) error {
	held, next, err := s.Grants.Quarantine(c, c.Query("after"), heldAPage)
	if err != nil {
		return err
	}
	page := templates.QuarantinePage{Console: s.console(c), Done: doneInWords(c.Query("done")), Continued: c.Query("after") != ""}
	for _, h := range held {
		page.Held = append(page.Held, heldOnPage(h))
	}
	if next != "" {
		page.Next = "/admin/quarantine?after=" + url.QueryEscape(next)
	}
	return s.show(c, page)
}

// confined shows one of them.
func (s *Server) confined(c *gin.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	return s.showHeld(c, id, func(*templates.QuarantinePage) {})
}

func (s *Server) showHeld(c *gin.Context, id uuid.UUID, adjust func(*templates.QuarantinePage)) error {
	h, err := s.Grants.Held(c, id)
	if errors.Is(err, grant.ErrNotFound) {
		return s.toQuarantine(c, doneGone)
	}
	if err != nil {
		return err
	}
	shown := heldOnPage(h)
	shown.OnClient = c.PostForm("from") == "client"
	page := templates.QuarantinePage{Console: s.console(c), One: true, Held: []templates.Held{shown}}
	adjust(&page)
	return s.show(c, page)
}

func (s *Server) toQuarantine(c *gin.Context, done string) error {
	c.Redirect(http.StatusSeeOther, "/admin/quarantine?"+url.Values{"done": {done}}.Encode())
	return nil
}

// backToHeld leads whoever has opened the address of a button to the grant that it was about.
func (s *Server) backToHeld(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/quarantine/"+url.PathEscape(c.Param("id")))
	return nil
}

func (s *Server) acceptHeld(c *gin.Context) error {
	return s.decideHeld(c, doneAccepted, func(h grant.Held, actor provisioning.Actor) error {
		_, err := s.Grants.Accept(c, h.ID, actor)
		return err
	})
}

func (s *Server) discardHeld(c *gin.Context) error {
	return s.decideHeld(c, doneDiscarded, func(h grant.Held, actor provisioning.Actor) error { return s.Grants.Discard(c, h.ID, actor) })
}

// moveHeld moves the grant to the client of an id, a ref or a whole name. What means no client surely is
// answered with those that it may mean, each with a button.
func (s *Server) moveHeld(c *gin.Context) error {
	return s.decideHeld(c, doneMoved, func(h grant.Held, actor provisioning.Actor) error {
		to, err := s.meant(c, h, c.PostForm("client"))
		if err != nil {
			return err
		}
		return s.Grants.Move(c, h.ID, to, actor)
	})
}

// decideHeld carries out a decision and leads back to where it was made. Why it cannot be carried out shows beside the grant.
func (s *Server) decideHeld(c *gin.Context, done string, decide func(grant.Held, provisioning.Actor) error) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	h, err := s.Grants.Held(c, id)
	if err == nil {
		err = decide(h, provisioning.Operator(operator(c).Email))
	}
	vague, isVague := errors.AsType[*vagueError](err)
	switch {
	case err == nil && c.PostForm("from") == "client":
		c.Redirect(http.StatusSeeOther, "/admin/clients/"+h.ClientID.String()+"?"+url.Values{"done": {done}}.Encode())
		return nil
	case err == nil:
		return s.toQuarantine(c, done)
	case errors.Is(err, grant.ErrNotFound):
		return s.toQuarantine(c, doneGone)
	case isVague:
		return s.showHeld(c, id, func(p *templates.QuarantinePage) {
			p.Code, p.Typed, p.Choices = http.StatusUnprocessableEntity, vague.typed, vague.choices
			if len(vague.choices) == 0 {
				p.Problem = sentence(vague)
			}
		})
	case errors.Is(err, grant.ErrRefused):
		return s.showHeld(c, id, func(p *templates.QuarantinePage) { p.Code, p.Problem = statusOf(err), sentence(err) })
	}
	return err
}

// vagueError says that what was typed means no client surely.
type vagueError struct {
	typed   string
	choices []templates.Choice // that it may mean
}

func (e *vagueError) Error() string {
	return fmt.Sprintf("no client has the ref or the name %q: look it up in the list of clients", e.typed)
}

// meant finds the client that an operator means a grant to be moved to. It returns a *vagueError.
func (s *Server) meant(c *gin.Context, h grant.Held, typed string) (uuid.UUID, error) {
	typed = strings.TrimSpace(typed)
	for _, key := range []string{typed, "ref:" + typed} {
		client, err := s.Store.Client(c, key)
		if err == nil {
			return client.ID, nil
		}
		if !errors.Is(err, provisioning.ErrNotFound) {
			return uuid.Nil, err
		}
	}
	vague := &vagueError{typed: typed}
	if typed == "" {
		return uuid.Nil, vague
	}
	found, _, err := s.Store.Clients(c, provisioning.Filter{Query: typed, Limit: shownChoices})
	if err != nil {
		return uuid.Nil, err
	}
	var named []uuid.UUID
	for _, client := range found {
		if strings.EqualFold(client.Name, typed) {
			named = append(named, client.ID)
		}
		if client.ID == h.ClientID {
			continue // It is the one that the grant is not for.
		}
		vague.choices = append(vague.choices, templates.Choice{
			ClientName: templates.ClientName{ID: client.ID.String(), Name: client.Name}, Ref: orZero(client.Ref),
		})
	}
	if len(named) == 1 && len(found) < shownChoices {
		return named[0], nil
	}
	return uuid.Nil, vague
}

func heldOnPage(h grant.Held) templates.Held {
	shown := templates.Held{
		ID:           h.ID.String(),
		Client:       templates.ClientName{ID: h.ClientID.String(), Name: h.ClientName},
		Ref:          orZero(h.ClientRef),
		OwnerEmail:   h.OwnerEmail,
		Expected:     orZero(h.Expected),
		Reason:       templates.Reason(orZero(h.Reason)),
		At:           h.CreatedAt,
		Organization: h.Organization,
		AccountID:    h.AccountID,
		ContactEmail: h.ContactEmail,
		Subject:      h.Subject,
		PartnerID:    h.PartnerID,
	}
	if h.Evidence != "" {
		shown.Evidence = sentence(errors.New(h.Evidence))
	}
	if h.HolderID != nil {
		shown.Belongs = templates.Choice{
			ClientName: templates.ClientName{ID: h.HolderID.String(), Name: orZero(h.HolderName)}, Ref: orZero(h.HolderRef),
		}
	}
	return shown
}
