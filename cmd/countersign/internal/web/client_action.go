package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// wish is what a button of a client's page asks for. It returns what it has done by a word of doneInWords, or
// nothing where the page shows it.
type wish func(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error)

// act fulfils a wish and leads back to the client. What is wrong with the wish shows on the page.
func (s *Server) act(do wish) gin.HandlerFunc {
	return s.answer(func(c *gin.Context) error {
		client, err := s.Store.Client(c, c.Param("id"))
		if err != nil {
			return err
		}
		done, err := do(c, client, provisioning.Operator(operator(c).Email))
		if err != nil {
			return s.showRefusal(c, client, err)
		}
		address := url.URL{Path: "/admin/clients/" + client.ID.String()}
		if done != "" {
			address.RawQuery = url.Values{"done": {done}}.Encode()
		}
		c.Redirect(http.StatusSeeOther, address.String())
		return nil
	})
}

// showRefusal shows beside the form why its wish is not fulfilled, if that is up to whoever filled it in.
func (s *Server) showRefusal(c *gin.Context, client provisioning.Client, refused error) error {
	field, isField := errors.AsType[*provisioning.FieldError](refused)
	if !isField && !errors.Is(refused, notify.ErrNoReminder) {
		return refused
	}
	page, err := s.clientPage(c, client)
	if err != nil {
		return err
	}
	page.Code = statusOf(refused)
	switch {
	case isField:
		page.Owner = templates.OwnerForm{Name: c.PostForm("name"), Email: c.PostForm("email")}
		if field.Field == "name" {
			page.Owner.NameError = field.Message
		} else {
			page.Owner.EmailError = field.Message
		}
	case page.Reminders != nil:
		page.Reminders.Problem, page.Reminders.At = sentence(refused), c.PostForm("at")
	default:
		page.Problem = sentence(refused)
	}
	return s.show(c, page)
}

func (s *Server) backToClient(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/clients/"+url.PathEscape(c.Param("id")))
	return nil
}

// rename gives a client another username. That somebody was faster shows on the page.
func (s *Server) rename(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	if s.Renamer == nil {
		return "", errNoMailbox
	}
	_, err = s.Renamer.Taken(c, client.ID, c.PostForm("taken"), actor)
	if errors.Is(err, provisioning.ErrNoLongerUsername) {
		return "", nil
	}
	return "", err
}

// invite mails the owner, whatever they said before: the operator means it.
func (s *Server) invite(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	return invited(s.Inviter.Invite(c, provisioning.Selection{Clients: []string{client.ID.String()}}, actor, false))
}

// invited says what came of a mail to one owner.
func invited(result provisioning.Invited, err error) (done string, _ error) {
	for reason := range result.Skipped {
		return skipped + string(reason), err
	}
	return doneInvited, err
}

func (s *Server) optIn(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	return doneOptedIn, provisioning.OptIn(c, s.Store.DB, client.ID, actor)
}

func (s *Server) changeOwner(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	to := provisioning.Owner{Name: c.PostForm("name"), Email: c.PostForm("email")}
	return invited(s.Inviter.ChangeOwner(c, client.ID, to, actor))
}

// acceptReferral invites whom the page showed, and nobody who was named since.
func (s *Server) acceptReferral(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	return s.decideReferral(c, client, func(id uuid.UUID) (string, error) { return invited(s.Inviter.AcceptReferral(c, id, actor)) })
}

func (s *Server) dismissReferral(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	return s.decideReferral(c, client, func(id uuid.UUID) (string, error) {
		return doneDismissed, provisioning.DismissReferral(c, s.Store.DB, id, actor)
	})
}

func (s *Server) decideReferral(
	c *gin.Context, client provisioning.Client, decide func(uuid.UUID) (string, error),
) (done string, err error) {
	id, err := uuid.Parse(c.PostForm("id"))
	if err != nil {
		return "", errors.Join(errBadRequest, err)
	}
	open, err := s.Store.OpenReferral(c, client.ID)
	if err == nil && open.ID != id {
		return doneDecided, nil
	}
	if err == nil {
		done, err = decide(id)
	}
	if errors.Is(err, provisioning.ErrNotFound) {
		return doneDecided, nil
	}
	return done, err
}

func (s *Server) planReminder(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	at, err := time.ParseInLocation("2006-01-02T15:04", c.PostForm("at"), s.zone(client))
	if err != nil {
		return "", fmt.Errorf("%w without a day and a time: choose them", notify.ErrNoReminder)
	}
	return donePlanned, s.Reminders.Plan(c, client.ID, at, actor)
}

func (s *Server) skipReminder(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	return doneSkipped, s.Reminders.Skip(c, client.ID, actor)
}

func (s *Server) sendReminder(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
	return doneReminded, s.Reminders.SendNow(c, client.ID, actor)
}

// turn makes the wish to pause or resume.
func (s *Server) turn(paused bool) wish {
	return func(c *gin.Context, client provisioning.Client, actor provisioning.Actor) (done string, err error) {
		return "", provisioning.SetPaused(c, s.Store.DB, client.ID, paused, actor)
	}
}
