package web

import (
	"errors"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/admin/sso"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	signOnCookie = "sign-on"
	// SignOnPath is where the issuer of single sign-on sends browsers back to.
	SignOnPath = "/admin/sso/callback"
)

// offerSignOn names the issuer of single sign-on for a page whose form may then end there; empty if there is none.
func (s *Server) offerSignOn(c *gin.Context) string {
	if s.SignOn == nil {
		return ""
	}
	s.allowProvider(c)
	return s.SignOn.Name
}

// beginSignOn sends an operator to the issuer.
func (s *Server) beginSignOn(c *gin.Context) error {
	if s.SignOn == nil {
		return errNoRoute
	}
	attempt, err := s.SignOn.Begin(c)
	if errors.Is(err, sso.ErrUnavailable) {
		return s.failSignOn(c, err)
	}
	if err != nil {
		return err
	}
	s.setCookie(c, signOnCookie, attempt.Browser.Reveal(), int(sso.AttemptLife.Seconds()))
	c.Redirect(http.StatusSeeOther, attempt.URL)
	return nil
}

// endSignOn lets whoever comes back from the issuer in.
func (s *Server) endSignOn(c *gin.Context) error {
	if s.SignOn == nil {
		return errNoRoute
	}
	q := c.Request.URL.Query()
	answer := sso.Answer{
		State: q.Get("state"), Code: provisioning.Secret(q.Get("code")), Error: q.Get("error"), Issuer: q.Get("iss"),
		Browser: provisioning.Secret(s.cookie(c, signOnCookie)),
	}
	for _, name := range []string{"state", "code", "error", "iss"} {
		answer.Repeated = answer.Repeated || len(q[name]) > 1
	}
	token, _, err := s.SignOn.Callback(c, answer, caller(c))
	if signOnProblem(err) != "" {
		return s.failSignOn(c, err)
	}
	if err == nil {
		s.setCookie(c, signOnCookie, "", -1)
	}
	return s.letIn(c, token, err)
}

// signOnProblem is what the page calls an error that somebody at the door, at the issuer or among the owners can cure.
func signOnProblem(err error) templates.SignOnProblem {
	for _, known := range []struct {
		err     error
		problem templates.SignOnProblem
	}{
		{sso.ErrUnavailable, templates.SignOnUnavailable},
		{sso.ErrAttempt, templates.SignOnOver},
		{sso.ErrExpired, templates.SignOnOver},
		{sso.ErrOtherBrowser, templates.SignOnOtherBrowser},
		{sso.ErrRefused, templates.SignOnRefused},
		{sso.ErrUntrusted, templates.SignOnUntrusted},
		{sso.ErrUnverified, templates.SignOnUnverified},
		{admin.ErrEmail, templates.SignOnUnverified},
		{sso.ErrDomain, templates.SignOnDomain},
		{admin.ErrStranger, templates.SignOnStranger},
		{admin.ErrOtherIdentity, templates.SignOnOtherIdentity},
	} {
		if errors.Is(err, known.err) {
			return known.problem
		}
	}
	return ""
}

// failSignOn says what to do. What only whoever runs the server can cure is logged.
func (s *Server) failSignOn(c *gin.Context, err error) error {
	problem := signOnProblem(err)
	if slices.Contains([]templates.SignOnProblem{
		templates.SignOnUnavailable, templates.SignOnRefused, templates.SignOnUntrusted, templates.SignOnUnverified,
	}, problem) {
		s.Log.WarnContext(c, "single sign-on failed", "issuer", s.SignOn.Issuer.ID(), "err", err)
	}
	return s.show(c, templates.SignOnFailedPage{Gate: s.gate(c), SignOn: s.offerSignOn(c), Problem: problem})
}

// signOnSettings tells how people sign in, and what to register at an issuer.
func (s *Server) signOnSettings(c *gin.Context) error {
	page := templates.SignOnPage{Console: s.console(c), RedirectURI: s.PublicURL + SignOnPath, Off: s.SignOn == nil}
	if s.SignOn != nil {
		page.Name, page.Issuer = s.SignOn.Name, s.SignOn.Issuer.ID()
		page.Domains, page.Newcomers = s.SignOn.Domains, templates.Role(s.SignOn.Newcomers)
	}
	return s.show(c, page)
}
