package web

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	sessionCookie = "session"
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
	c.Redirect(http.StatusSeeOther, "/admin/sign-in"+why)
	c.Abort()
	return nil
}

// operator returns who is signed in. It is only called behind requireOperator.
func operator(c *gin.Context) admin.Operator {
	return c.MustGet(operatorKey).(admin.Operator) //nolint:forcetypeassert // requireOperator sets it.
}

func (s *Server) signInPage(c *gin.Context) error {
	page := templates.SignInPage{Gate: s.gate(c)}
	if _, ended := c.GetQuery("ended"); ended {
		page.Problem = templates.SignInEnded
	}
	if _, out := c.GetQuery("out"); out {
		page.Problem = templates.SignedOut
	}
	return s.show(c, page)
}

func (s *Server) signIn(c *gin.Context) error {
	email := c.PostForm("email")
	from, _ := netip.ParseAddr(c.ClientIP()) // Visitors of unknown address share the zero one, and its limit.
	token, _, err := s.Admin.SignIn(c, email, provisioning.Secret(c.PostForm("password")), from)
	page := templates.SignInPage{Gate: s.gate(c), Email: email}
	if wait, ok := errors.AsType[*admin.ThrottledError](err); ok {
		c.Header("Retry-After", strconv.Itoa(int(wait.RetryAfter.Seconds())+1))
		page.Problem = templates.SignInThrottled
		return s.show(c, page)
	}
	if errors.Is(err, admin.ErrBadCredentials) {
		page.Problem = templates.SignInWrong
		return s.show(c, page)
	}
	if err != nil {
		return err
	}
	return s.letIn(c, token)
}

// letIn gives the browser its session. The cookie ends with the browser; the session ends by itself.
func (s *Server) letIn(c *gin.Context, token provisioning.Secret) error {
	s.setCookie(c, sessionCookie, token.Reveal(), 0)
	c.Redirect(http.StatusSeeOther, "/admin")
	return nil
}

func (s *Server) signOut(c *gin.Context) error {
	if err := s.Admin.SignOut(c, provisioning.Secret(s.cookie(c, sessionCookie))); err != nil {
		return err
	}
	s.setCookie(c, sessionCookie, "", -1)
	c.Redirect(http.StatusSeeOther, "/admin/sign-in?out")
	return nil
}

// entry shows what a one-time link is for, and uses it up no more than a glance does.
func (s *Server) entry(c *gin.Context) error {
	link, err := s.Admin.PeekLink(c, provisioning.Secret(c.Param("token")))
	if linkIsDead(err) {
		return s.show(c, templates.EntryUsedPage{Gate: s.gate(c)})
	}
	if err != nil {
		return err
	}
	if !link.SetUp {
		return s.show(c, templates.EntryPage{Gate: s.gate(c), Path: entryPath(c)})
	}
	return s.show(c, templates.SetupPage{Gate: s.gate(c), Path: entryPath(c), PasswordMin: passwordMin})
}

func entryPath(c *gin.Context) string { return "/admin/enter/" + c.Param("token") }

func linkIsDead(err error) bool {
	return errors.Is(err, admin.ErrLinkUnknown) || errors.Is(err, admin.ErrLinkUsed) ||
		errors.Is(err, admin.ErrLinkExpired) || errors.Is(err, admin.ErrSetUp)
}

// enter uses a one-time link up: it signs its operator in, or makes the first one.
func (s *Server) enter(c *gin.Context) error {
	token := provisioning.Secret(c.Param("token"))
	link, err := s.Admin.PeekLink(c, token)
	if linkIsDead(err) {
		return s.show(c, templates.EntryUsedPage{Gate: s.gate(c)})
	}
	if err != nil {
		return err
	}
	if link.SetUp {
		return s.setUp(c, token)
	}
	session, _, err := s.Admin.Enter(c, token)
	if linkIsDead(err) {
		return s.show(c, templates.EntryUsedPage{Gate: s.gate(c)})
	}
	if err != nil {
		return err
	}
	return s.letIn(c, session)
}

func (s *Server) setUp(c *gin.Context, token provisioning.Secret) error {
	page := templates.SetupPage{
		Gate: s.gate(c), Path: entryPath(c), PasswordMin: passwordMin,
		Email: c.PostForm("email"), Name: c.PostForm("name"),
	}
	session, _, err := s.Admin.SetUp(c, token, page.Email, page.Name, provisioning.Secret(c.PostForm("password")))
	switch {
	case err == nil:
		return s.letIn(c, session)
	case linkIsDead(err):
		return s.show(c, templates.EntryUsedPage{Gate: s.gate(c)})
	case errors.Is(err, admin.ErrEmail), errors.Is(err, admin.ErrEmailTaken):
		page.EmailError = sentence(err)
	case errors.Is(err, admin.ErrName):
		page.NameError = sentence(err)
	case errors.Is(err, admin.ErrPassword):
		page.PasswordError = sentence(err)
	default:
		return err
	}
	return s.show(c, page)
}
