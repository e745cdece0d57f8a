package web

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/cmd/countersign/internal/web/live"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	sessionCookie = "session"
	stepCookie    = "step"
	stepSeconds   = 10 * 60 // that the second step may take
	operatorKey   = "operator"
	passwordMin   = 12 // as admin.ErrPassword says
)

// requireOperator lets a signed-in operator go on and sends anybody else to the sign-in page.
func (s *Server) requireOperator() gin.HandlerFunc {
	return s.step(func(c *gin.Context) error {
		token := s.cookie(c, sessionCookie)
		if token == "" {
			return s.toSignIn(c, "")
		}
		operator, err := s.Admin.Session(c, provisioning.Secret(token))
		if errors.Is(err, admin.ErrNoSession) {
			return s.toSignIn(c, "?ended")
		}
		if err != nil {
			return err
		}
		c.Set(operatorKey, operator)
		return nil
	})
}

func (s *Server) toSignIn(c *gin.Context, why string) error {
	if c.GetHeader("Accept") == "text/event-stream" {
		c.Abort()
		return live.Refuse(c.Writer)
	}
	c.Redirect(http.StatusSeeOther, "/admin/sign-in"+why)
	c.Abort()
	return nil
}

// operator returns who is signed in. It is only called behind requireOperator.
func operator(c *gin.Context) admin.Operator {
	return c.MustGet(operatorKey).(admin.Operator) //nolint:forcetypeassert // requireOperator sets it.
}

func (s *Server) signInPage(c *gin.Context) error {
	page := templates.SignInPage{Gate: s.gate(c), SignOn: s.offerSignOn(c)}
	if _, ended := c.GetQuery("ended"); ended {
		page.Problem = templates.SignInEnded
	}
	if _, out := c.GetQuery("out"); out {
		page.Problem = templates.SignedOut
	}
	if _, changed := c.GetQuery("changed"); changed {
		page.Problem = templates.SignInChanged
	}
	return s.show(c, page)
}

// caller is where a request comes from.
func caller(c *gin.Context) admin.Visitor {
	from, _ := netip.ParseAddr(c.ClientIP()) // Visitors of unknown address share the zero one, and its limit.
	return admin.Visitor{Address: from, Browser: browser(c.Request.UserAgent())}
}

func (s *Server) signIn(c *gin.Context) error {
	email := c.PostForm("email")
	token, _, err := s.Admin.SignIn(c, email, provisioning.Secret(c.PostForm("password")), caller(c))
	page := templates.SignInPage{Gate: s.gate(c), Email: email, SignOn: s.offerSignOn(c)}
	switch {
	case s.throttled(c, err):
		page.Problem = templates.SignInThrottled
		return s.show(c, page)
	case errors.Is(err, admin.ErrBadCredentials):
		page.Problem = templates.SignInWrong
		return s.show(c, page)
	}
	return s.letIn(c, token, err)
}

// throttled reports that there were too many attempts, and tells the browser when to try again.
func (s *Server) throttled(c *gin.Context, err error) bool {
	wait, is := errors.AsType[*admin.ThrottledError](err)
	if is {
		c.Header("Retry-After", strconv.Itoa(int(wait.RetryAfter.Seconds())+1))
	}
	return is
}

// letIn gives the browser what signing in has led to: a session, or the way to the second step. The cookie of a session
// ends with the browser; the session ends by itself.
func (s *Server) letIn(c *gin.Context, token provisioning.Secret, err error) error {
	if errors.Is(err, admin.ErrSecondFactor) {
		s.setCookie(c, stepCookie, token.Reveal(), stepSeconds)
		c.Redirect(http.StatusSeeOther, "/admin/sign-in/code")
		return nil
	}
	if err != nil {
		return err
	}
	s.setCookie(c, sessionCookie, token.Reveal(), 0)
	if s.cookie(c, stepCookie) != "" {
		s.setCookie(c, stepCookie, "", -1)
	}
	c.Redirect(http.StatusSeeOther, "/admin")
	return nil
}

// secondStepPage asks whoever knows the password for a code.
func (s *Server) secondStepPage(c *gin.Context) error {
	if s.cookie(c, stepCookie) == "" {
		return s.toSignIn(c, "")
	}
	return s.show(c, templates.SecondStepPage{Gate: s.gate(c)})
}

func (s *Server) secondStep(c *gin.Context) error {
	token, _, err := s.Admin.SecondStep(c, provisioning.Secret(s.cookie(c, stepCookie)), c.PostForm("code"), caller(c))
	page := templates.SecondStepPage{Gate: s.gate(c)}
	switch {
	case errors.Is(err, admin.ErrNoSession):
		return s.toSignIn(c, "?ended")
	case s.throttled(c, err):
		page.Problem = templates.SignInThrottled
		return s.show(c, page)
	case errors.Is(err, admin.ErrCode):
		page.Problem = templates.SignInWrong
		return s.show(c, page)
	}
	return s.letIn(c, token, err)
}

func (s *Server) signOut(c *gin.Context) error {
	session := provisioning.Secret(s.cookie(c, sessionCookie))
	if err := s.Admin.SignOut(c, session); err != nil {
		return err
	}
	s.live.End(session)
	s.setCookie(c, sessionCookie, "", -1)
	c.Redirect(http.StatusSeeOther, "/admin/sign-in?out")
	return nil
}
