package web

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// entry shows what a one-time link is for, and uses it up no more than a glance does.
func (s *Server) entry(c *gin.Context) error {
	link, err := s.Admin.PeekLink(c, provisioning.Secret(c.Param("token")))
	if linkIsDead(err) {
		return s.show(c, templates.EntryUsedPage{Gate: s.gate(c)})
	}
	if err != nil {
		return err
	}
	return s.show(c, s.entryPage(c, link))
}

// entryPage is the page of a link that can still be used.
func (s *Server) entryPage(c *gin.Context, link admin.Link) templates.View {
	gate, path := s.gate(c), "/admin/enter/"+c.Param("token")
	switch link.Purpose {
	case admin.ForSetUp:
		return templates.SetupPage{Gate: gate, Path: path, PasswordMin: passwordMin}
	case admin.ForInvitation:
		return templates.AcceptPage{
			Gate: gate, Path: path, PasswordMin: passwordMin, Email: link.Email, Role: templates.Role(link.Role),
		}
	case admin.ForReset:
		return templates.ResetPage{Gate: gate, Path: path, PasswordMin: passwordMin, Email: link.Email}
	default:
		return templates.EntryPage{Gate: gate, Path: path}
	}
}

func linkIsDead(err error) bool {
	return errors.Is(err, admin.ErrLinkUnknown) || errors.Is(err, admin.ErrLinkUsed) ||
		errors.Is(err, admin.ErrLinkExpired) || errors.Is(err, admin.ErrSetUp)
}

// enter uses a one-time link up: it signs its operator in, sets another password, or makes an operator. What is wrong
// with the form shows on its page.
func (s *Server) enter(c *gin.Context) error {
	token := provisioning.Secret(c.Param("token"))
	link, err := s.Admin.PeekLink(c, token)
	var session provisioning.Secret
	if err == nil {
		session, err = s.use(c, token, link.Purpose)
	}
	if linkIsDead(err) {
		return s.show(c, templates.EntryUsedPage{Gate: s.gate(c)})
	}
	if page := s.refusedEntry(c, link, err); page != nil {
		return s.show(c, page)
	}
	if err == nil && link.Purpose == admin.ForReset {
		return s.toSignIn(c, "?changed")
	}
	return s.letIn(c, session, err)
}

func (s *Server) use(c *gin.Context, token provisioning.Secret, purpose admin.Purpose) (session provisioning.Secret, err error) {
	name, password := c.PostForm("name"), provisioning.Secret(c.PostForm("password"))
	switch purpose {
	case admin.ForSetUp:
		first := admin.NewOperator{Email: c.PostForm("email"), Name: name, Password: password}
		session, _, err = s.Admin.SetUp(c, token, first, caller(c))
	case admin.ForInvitation:
		session, _, err = s.Admin.Accept(c, token, name, password, caller(c))
	case admin.ForReset:
		_, err = s.Admin.Reset(c, token, password)
	default:
		session, _, err = s.Admin.Enter(c, token, caller(c))
	}
	return session, err
}

// refusedEntry is the page of a link with what was typed and what is wrong with it; nil if it is nothing that was typed.
func (s *Server) refusedEntry(c *gin.Context, link admin.Link, err error) templates.View {
	mistake := func(is ...error) string {
		for _, one := range is {
			if errors.Is(err, one) {
				return sentence(err)
			}
		}
		return ""
	}
	address, name, password := mistake(admin.ErrEmail, admin.ErrEmailTaken), mistake(admin.ErrName), mistake(admin.ErrPassword)
	if address+name+password == "" {
		return nil
	}
	switch page := s.entryPage(c, link).(type) {
	case templates.SetupPage:
		page.Email, page.Name = c.PostForm("email"), c.PostForm("name")
		page.EmailError, page.NameError, page.PasswordError = address, name, password
		return page
	case templates.AcceptPage:
		page.Name, page.NameError, page.PasswordError = c.PostForm("name"), name, password
		if address != "" { // Somebody was quicker in making this operator, by another way.
			return templates.EntryUsedPage{Gate: page.Gate}
		}
		return page
	case templates.ResetPage:
		page.PasswordError = password
		return page
	}
	return nil
}

// forgot offers a mail with a link to set another password.
func (s *Server) forgot(c *gin.Context) error {
	_, sent := c.GetQuery("sent")
	return s.show(c, templates.ForgotPage{Gate: s.gate(c), NoMail: s.Admin.Mailer == nil, Sent: sent})
}

// requestReset answers alike whoever asks.
func (s *Server) requestReset(c *gin.Context) error {
	err := s.Admin.RequestReset(c, c.PostForm("email"), caller(c))
	switch {
	case s.throttled(c, err):
		return s.show(c, templates.ForgotPage{Gate: s.gate(c), Problem: templates.SignInThrottled})
	case errors.Is(err, admin.ErrNoMail):
		return s.show(c, templates.ForgotPage{Gate: s.gate(c), NoMail: true})
	case err != nil:
		return err
	}
	c.Redirect(http.StatusSeeOther, "/admin/forgot?sent")
	return nil
}
