package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// operators is the page of who may use the console.
func (s *Server) operators(c *gin.Context) error {
	page, err := s.operatorsPage(c)
	if err != nil {
		return err
	}
	page.Done = operatorsDone(c.Query("done"))
	return s.show(c, page)
}

func (s *Server) operatorsPage(c *gin.Context) (templates.OperatorsPage, error) {
	page := templates.OperatorsPage{Console: s.console(c), NoMail: s.Admin.Mailer == nil, Role: templates.Role(admin.RoleOperator)}
	people, err := s.Admin.Operators(c)
	if err != nil {
		return page, err
	}
	for _, o := range people {
		page.People = append(page.People, templates.Person{
			ID: o.ID.String(), Email: o.Email, Name: o.Name, Role: templates.Role(o.Role),
			SecondFactor: o.SecondFactor, SignedInAt: orZero(o.SignedInAt), Self: o.ID == operator(c).ID,
		})
	}
	invited, err := s.Admin.Invitations(c)
	if err != nil {
		return page, err
	}
	for _, in := range invited {
		by, _ := strings.CutPrefix(string(in.InvitedBy), string(provisioning.Operator("")))
		page.Invited = append(page.Invited, templates.Invited{
			ID: in.ID.String(), Email: in.Email, Role: templates.Role(in.Role), By: by,
			ExpiresAt: in.ExpiresAt, Over: !s.Now().Before(in.ExpiresAt),
		})
	}
	return page, nil
}

// operatorsDone says what was done, by the word in the page's address.
func operatorsDone(word string) string {
	switch word {
	case "invited":
		return "The invitation is on its way."
	case "taken-back":
		return "The invitation is taken back. Its link no longer works."
	case "role":
		return "The role is set. It holds from their next click on."
	case "removed":
		return "The operator is removed, and their sessions have ended."
	case "signed-out":
		return "Their sessions have ended."
	case "factor-off":
		return "The second factor is off. They can set up another on the page of their account."
	}
	return ""
}

func (s *Server) backToOperators(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/settings/operators")
	return nil
}

// rule fulfils a wish about an operator or an invitation, and leads back to the page or shows there what is wrong.
func (s *Server) rule(done string, do func(c *gin.Context, id string, actor provisioning.Actor) error) gin.HandlerFunc {
	return s.answer(func(c *gin.Context) error {
		err := do(c, c.Param("id"), provisioning.Operator(operator(c).Email))
		if err == nil {
			c.Redirect(http.StatusSeeOther, "/admin/settings/operators?done="+done)
			return nil
		}
		if !errors.Is(err, admin.ErrLastOwner) && !errors.Is(err, admin.ErrNoSecondFactor) && !errors.Is(err, admin.ErrRole) {
			return err
		}
		page, failed := s.operatorsPage(c)
		if failed != nil {
			return failed
		}
		page.Problem = sentence(err)
		return s.show(c, page)
	})
}

func (s *Server) setRole(c *gin.Context, id string, actor provisioning.Actor) error {
	_, err := s.Admin.SetRole(c, id, admin.Role(c.PostForm("role")), actor)
	return err
}

func (s *Server) removeOperator(c *gin.Context, id string, actor provisioning.Actor) error {
	return s.Admin.RemoveOperator(c, id, actor)
}

// signOthersOut ends an operator's sessions, but not the one that asks.
func (s *Server) signOthersOut(c *gin.Context, id string, actor provisioning.Actor) error {
	_, err := s.Admin.EndSessions(c, id, s.session(c), actor)
	return err
}

func (s *Server) resetSecondFactor(c *gin.Context, id string, actor provisioning.Actor) error {
	return s.Admin.ResetSecondFactor(c, id, actor)
}

func (s *Server) takeBackInvitation(c *gin.Context, id string, actor provisioning.Actor) error {
	invitation, err := uuid.Parse(id)
	if err != nil {
		return admin.ErrNotFound
	}
	return s.Admin.TakeBack(c, invitation, actor)
}

func (s *Server) inviteOperator(c *gin.Context) error {
	email, role := c.PostForm("email"), admin.Role(c.PostForm("role"))
	invited, err := s.Admin.Invite(c, email, role, provisioning.Operator(operator(c).Email))
	if errors.Is(err, admin.ErrEmail) || errors.Is(err, admin.ErrEmailTaken) {
		page, failed := s.operatorsPage(c)
		if failed != nil {
			return failed
		}
		page.Email, page.Role, page.EmailError = email, templates.Role(role), sentence(err)
		return s.show(c, page)
	}
	return s.showInvited(c, invited, err)
}

func (s *Server) inviteOperatorAgain(c *gin.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return admin.ErrNotFound
	}
	invited, err := s.Admin.InviteAgain(c, id, provisioning.Operator(operator(c).Email))
	return s.showInvited(c, invited, err)
}

// showInvited leads back to the page. A link to hand over is shown at once: nowhere else is it to be read.
func (s *Server) showInvited(c *gin.Context, invited admin.Invited, err error) error {
	if err != nil {
		return err
	}
	if invited.Link == "" {
		c.Redirect(http.StatusSeeOther, "/admin/settings/operators?done=invited")
		return nil
	}
	page, err := s.operatorsPage(c)
	if err != nil {
		return err
	}
	page.HandOver = &templates.HandOver{Email: invited.Email, Link: invited.Link, ExpiresAt: invited.ExpiresAt}
	return s.show(c, page)
}
