package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/cmd/countersign/internal/web/live"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/bulk"
	"github.com/countersign/countersign/provisioning/once"
	"github.com/countersign/countersign/provisioning/partner"
	"github.com/countersign/countersign/provisioning/roster"
	"github.com/countersign/countersign/templates"
)

// statusClientClosed is what logs call a visitor who did not wait for the answer.
const statusClientClosed = 499

// problems is the one table from error to status, beside the types in statusOf. What is in neither is
// ours: 500, logged in full, and "internal error" to the visitor.
func problems() []problem {
	return []problem{
		{provisioning.ErrNotFound, http.StatusNotFound},
		{authflow.ErrLinkUnknown, http.StatusNotFound},
		{grant.ErrNotFound, http.StatusNotFound},
		{admin.ErrNotFound, http.StatusNotFound},
		{admin.ErrEmail, http.StatusUnprocessableEntity},
		{admin.ErrRole, http.StatusUnprocessableEntity},
		{admin.ErrEmailTaken, http.StatusConflict},
		{admin.ErrLastOwner, http.StatusConflict},
		{admin.ErrNoSecondFactor, http.StatusConflict},
		{admin.ErrName, http.StatusUnprocessableEntity},
		{admin.ErrScopes, http.StatusUnprocessableEntity},
		{admin.ErrExpiry, http.StatusUnprocessableEntity},
		{admin.ErrKeyNameTaken, http.StatusConflict},
		{admin.ErrMoreThanOwn, http.StatusForbidden},
		{errRole, http.StatusForbidden},
		{grant.ErrRefused, http.StatusConflict},
		{manager.ErrOtherRoute, http.StatusConflict},
		{partner.ErrOtherRoute, http.StatusConflict},
		{manager.ErrNoTurn, http.StatusConflict},
		{authflow.ErrNoProvider, http.StatusServiceUnavailable},
		{grant.ErrNoGrant, http.StatusConflict},
		{grant.ErrDoubtful, http.StatusServiceUnavailable},
		{provisioning.ErrProviderUnavailable, http.StatusServiceUnavailable},
		{errNoRoute, http.StatusNotFound},
		{errNoMethod, http.StatusMethodNotAllowed},
		{provisioning.ErrBadCursor, http.StatusBadRequest},
		{bulk.ErrNobody, http.StatusConflict},
		{bulk.ErrUnconfirmed, http.StatusConflict},
		{bulk.ErrNotUndoable, http.StatusConflict},
		{audit.ErrBadCursor, http.StatusBadRequest},
		{audit.ErrBadHead, http.StatusBadRequest},
		{provisioning.ErrChanged, http.StatusPreconditionFailed},
		{once.ErrRunning, http.StatusConflict},
		{once.ErrLost, http.StatusConflict},
		{once.ErrOther, http.StatusUnprocessableEntity},
		{errBadIdempotencyKey, http.StatusBadRequest},
		{provisioning.ErrUnknownWord, http.StatusBadRequest},
		{notify.ErrUnknownPile, http.StatusBadRequest},
		{errBadRequest, http.StatusBadRequest},
		{notify.ErrNoReminder, http.StatusConflict},
		{errSomebodyElse, http.StatusPreconditionFailed},
		{notify.ErrStationery, http.StatusUnprocessableEntity},
		{notify.ErrLogo, http.StatusUnprocessableEntity},
		{provisioning.ErrRejected, http.StatusUnprocessableEntity},
		{provisioning.ErrUploadTooLarge, http.StatusRequestEntityTooLarge},
		{errNoFile, http.StatusUnprocessableEntity},
		{errCrossOrigin, http.StatusForbidden},
		{errThrottled, http.StatusTooManyRequests},
		{live.ErrTooMany, http.StatusTooManyRequests},
		{live.ErrClosed, http.StatusServiceUnavailable},
		{errNotConfigured, http.StatusServiceUnavailable},
		{context.Canceled, statusClientClosed},
	}
}

type problem struct {
	err    error
	status int
}

var (
	errNoRoute       = errors.New("nothing lives at this address")
	errNoMethod      = errors.New("the address exists, but not for this method")
	errBadRequest    = errors.New("the request was not understood")
	errNotConfigured = errors.New("not set up")
	errNoMailbox     = fmt.Errorf("%w: set COUNTERSIGN_AGENCY_MAILBOX, from which usernames are made", errNotConfigured)
	errNoApp         = fmt.Errorf("%w: set COUNTERSIGN_OAUTH_CLIENT_ID and COUNTERSIGN_OAUTH_CLIENT_SECRET, those of your app at the provider", errNotConfigured)
	errNoFile        = errors.New("choose a file first")
)

func statusOf(err error) int {
	const badText, badJSON = "22021", "22P05" // PostgreSQL stores no NUL and no broken UTF-8.
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == badText || pg.Code == badJSON) {
		return http.StatusBadRequest
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	if _, ok := errors.AsType[*roster.Error](err); ok {
		return http.StatusUnprocessableEntity
	}
	if _, ok := errors.AsType[*provisioning.FieldError](err); ok {
		return http.StatusUnprocessableEntity
	}
	for _, p := range problems() {
		if errors.Is(err, p.err) {
			return p.status
		}
	}
	return http.StatusInternalServerError
}

type handler func(*gin.Context) error

// answer makes a gin handler of a handler whose error is answered with a page.
func (s *Server) answer(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			s.fail(c, err)
		}
	}
}

// step is answer for a handler that only lets others go on.
func (s *Server) step(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			s.fail(c, err)
			c.Abort()
		}
	}
}

// fail answers an error: the API's with problem details, others with a page. An answer that has begun
// is broken off, so that half of it does not pass for the whole.
func (s *Server) fail(c *gin.Context, err error) {
	if write, ok := errors.AsType[*net.OpError](err); ok && write.Op == "write" && c.Request.Context().Err() != nil {
		return // The visitor went while the answer was written: nothing of ours is wrong, and nobody is there.
	}
	if c.Writer.Written() {
		s.logFailure(c, c.FullPath(), err)
		panic(http.ErrAbortHandler)
	}
	c.Writer.Header().Del("Content-Disposition")
	if strings.HasPrefix(c.Request.URL.Path, apiPath+"/") {
		problem := s.apiProblem(c, c.FullPath(), err)
		c.Header("Content-Type", "application/problem+json")
		c.JSON(problem.GetStatus(), problem)
		return
	}
	status := statusOf(err)
	if status == statusClientClosed {
		c.Status(status)
		return
	}
	if err := s.show(c, s.errorPage(c, status, err)); err != nil {
		s.Log.ErrorContext(c, "cannot show the error page", "err", err)
		c.Status(http.StatusInternalServerError)
	}
}

func (s *Server) errorPage(c *gin.Context, status int, err error) templates.View {
	page := templates.ErrorPage{Gate: s.gate(c), Code: status}
	if role, ok := errors.AsType[*roleError](err); ok {
		page.Need = templates.Role(role.need)
	}
	switch {
	case strings.HasPrefix(c.Request.URL.Path, "/admin"):
		page.Home = "/admin"
	case status == http.StatusTooManyRequests:
		// The button that was pressed is one level below its page, whose address may be asked for at any time.
		return templates.ResultPage{Letterhead: s.letterhead(c), Outcome: templates.OutcomeThrottled, Back: path.Dir(c.Request.URL.EscapedPath())}
	}
	if status == http.StatusInternalServerError {
		page.ID = s.logFailure(c, c.FullPath(), err)
	}
	return page
}

// logFailure logs an error of ours under a number that the visitor can quote. The route is named by
// its pattern: addresses hold secrets.
func (s *Server) logFailure(ctx context.Context, route string, err error) string {
	id := rand.Text()[:10]
	s.Log.ErrorContext(ctx, "request failed", "id", id, "route", route, "err", err)
	return id
}

// show renders a page with its usual status.
func (s *Server) show(c *gin.Context, page templates.View) error {
	return s.showAs(c, page.Status(), page)
}

func (s *Server) showAs(c *gin.Context, status int, page templates.View) error {
	c.Header("Content-Type", "text/html; charset=utf-8")
	c.Status(status)
	return s.Templates.Page(c.Writer, page)
}

func (s *Server) gate(ctx context.Context) templates.Gate {
	return templates.Gate{Agency: s.letterhead(ctx).Agency}
}
