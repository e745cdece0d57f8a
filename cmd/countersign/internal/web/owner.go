package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// invitation shows who asks, for what, for which account. It changes nothing: scanners come first.
func (s *Server) invitation(c *gin.Context) error {
	s.allowProvider(c)
	inv, err := s.Links.Find(c, c.Param("token"))
	page := templates.InvitationPage{
		Letterhead: s.letterhead(c),
		Path:       linkPath(c),
		Client:     inv.ClientName,
		OwnerName:  inv.OwnerName,
		OwnerEmail: inv.OwnerEmail,
		Scopes:     s.Scopes,
		ExpiresAt:  inv.ExpiresAt,
	}
	switch {
	case isDead(err):
		return s.deadLink(c)
	case err == nil && inv.Route == provisioning.RouteManager:
		return s.managerPage(c, inv, false)
	case err == nil && inv.Route != provisioning.RouteOwner:
		return s.show(c, templates.NothingPage{Letterhead: s.letterhead(c), Client: inv.ClientName})
	case errors.Is(err, authflow.ErrLinkSpent):
		page.ConnectedAt = *inv.SpentAt
	case err != nil:
		return err
	case orZero(inv.Reason) == provisioning.ReasonDeclined && orZero(inv.LastOutcome) != authflow.OutcomeDeclined:
		page.SaidNo = true
	case inv.LastOutcome != nil:
		page.LastOutcome = outcomeOnPage(*inv.LastOutcome)
	case inv.Stage == provisioning.StageStarted:
		page.LastOutcome = templates.OutcomeUnfinished
	}
	return s.show(c, page)
}

// isDead tells a link that does not work: unknown, expired or replaced. Only the mail leads to a fresh one.
func isDead(err error) bool {
	return errors.Is(err, authflow.ErrLinkUnknown) || errors.Is(err, authflow.ErrLinkExpired)
}

// deadLink answers a link that isDead, the same whatever it was.
func (s *Server) deadLink(c *gin.Context) error {
	return s.show(c, templates.LinkPage{Letterhead: s.letterhead(c), Path: linkPath(c)})
}

// linkPath is the path of the invitation that was asked for.
func linkPath(c *gin.Context) string { return "/i/" + url.PathEscape(c.Param("token")) }

// backToInvitation answers a browser that restores the page behind a button.
func (s *Server) backToInvitation(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, linkPath(c))
	return nil
}

// begin sends the owner to the provider. The cookie binds the walk to this browser.
func (s *Server) begin(c *gin.Context) error {
	walk, err := s.Flow.Begin(c, c.Param("token"))
	return s.sendToProvider(c, walk, err)
}

// again begins another walk where one ended. If the link has run out meanwhile, only the mail leads
// to a fresh one: who is here need not be who has the mail.
func (s *Server) again(c *gin.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	walk, err := s.Flow.Again(c, id)
	if isDead(err) {
		return s.lost(c)
	}
	return s.sendToProvider(c, walk, err)
}

func (s *Server) sendToProvider(c *gin.Context, walk authflow.Walk, err error) error {
	switch {
	case isDead(err):
		return s.deadLink(c)
	case errors.Is(err, authflow.ErrLinkSpent):
		return s.ending(c, templates.ResultPage{Outcome: templates.OutcomeConnected, Scopes: s.Scopes})
	case errors.Is(err, authflow.ErrOtherRoute) && c.Param("token") != "":
		return s.backToInvitation(c)
	case errors.Is(err, authflow.ErrOtherRoute):
		return s.lost(c)
	case errors.Is(err, authflow.ErrNoProvider):
		s.Log.ErrorContext(c, "an owner pressed Continue and could not go on", "err", err)
		return s.ending(c, templates.ResultPage{Outcome: templates.OutcomeUnavailable})
	case err != nil:
		return err
	}
	s.forgetOldWalks(c)
	s.setCookie(c, consentCookie(walk.Consent), walk.Browser.Reveal(), int(endingLife.Seconds()))
	c.Redirect(http.StatusSeeOther, walk.AuthorizeURL)
	return nil
}

// endingLife is how long a browser can see how its walk ended.
const endingLife = time.Hour

const consentCookies = "consent-"

func consentCookie(consent uuid.UUID) string { return consentCookies + consent.String() }

// forgetOldWalks keeps a browser's cookies few, however often Continue is pressed in it: of too many, a
// proxy makes an error before we are asked.
func (s *Server) forgetOldWalks(c *gin.Context) {
	const most = 10
	var walks []string
	for _, cookie := range c.Request.Cookies() {
		if id, is := strings.CutPrefix(cookie.Name, s.cookieName(consentCookies)); is {
			walks = append(walks, id)
		}
	}
	slices.Sort(walks) // by age, as such ids do
	for _, id := range walks[:max(0, len(walks)-most)] {
		s.setCookie(c, consentCookies+id, "", -1)
	}
}

// A browser that comes back without the cookie of its walk is given another one on the way to the next page,
// which tells by it a browser that keeps cookies, and did not begin, from one that keeps none. The next page
// knows by its address that it should have got it.
const (
	probeCookie = "probe"
	probed      = "back"
)

// callback receives the owner from the provider and leaves the address with the code at once,
// whatever happens: the next page tells what is known.
func (s *Server) callback(c *gin.Context) error {
	c.Header("Referrer-Policy", "no-referrer")
	if c.Request.Method == http.MethodHead { // Somebody only looks; the code is for the browser.
		c.Redirect(http.StatusSeeOther, "/consent")
		return nil
	}
	q := c.Request.URL.Query()
	id, outcome, err := s.Flow.Callback(c, authflow.Callback{
		State:       q.Get("state"),
		Code:        provisioning.Secret(q.Get("code")),
		Error:       q.Get("error"),
		Description: q.Get("error_description"),
		Issuer:      q.Get("iss"),
		Repeated:    repeated(q, "state", "code", "error", "iss"),
		Browser: func(consent uuid.UUID) provisioning.Secret {
			return provisioning.Secret(s.cookie(c, consentCookie(consent)))
		},
	})
	if err != nil && !errors.Is(err, context.Canceled) { // Else the browser left; nothing was redeemed.
		s.logFailure(c, c.FullPath(), err)
	}
	if next := s.nextTurn(c, id, outcome); next != "" {
		c.Redirect(http.StatusSeeOther, next)
		return nil
	}
	switch {
	case id == uuid.Nil:
		c.Redirect(http.StatusSeeOther, "/consent")
	case outcome == authflow.OutcomeOtherBrowser:
		s.setCookie(c, probeCookie, "1", int(endingLife.Seconds()))
		c.Redirect(http.StatusSeeOther, "/consent/"+id.String()+"?"+probed)
	default:
		c.Redirect(http.StatusSeeOther, "/consent/"+id.String())
	}
	return nil
}

// repeated returns the first of the parameters that the query has more than once, or nothing.
func repeated(q url.Values, names ...string) string {
	for _, name := range names {
		if len(q[name]) > 1 {
			return name
		}
	}
	return ""
}

// lost answers a return from the provider that belongs to no walk.
func (s *Server) lost(c *gin.Context) error {
	return s.ending(c, templates.ResultPage{Outcome: templates.OutcomeStale})
}

// consent tells at a clean address how a walk ended.
func (s *Server) consent(c *gin.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	end, err := s.await(c, id, provisioning.Secret(s.cookie(c, consentCookie(id))))
	if errors.Is(err, authflow.ErrLinkUnknown) {
		return s.lost(c)
	}
	if err != nil {
		return err
	}
	if run := s.afterWalk(c, id, end); run != "" {
		c.Redirect(http.StatusSeeOther, run)
		return nil
	}
	page := templates.ResultPage{
		Outcome: outcomeOnPage(end.Outcome),
		Client:  end.ClientName,
		Found:   end.FoundOrganization,
		Path:    "/consent/" + id.String(),
	}
	switch {
	case end.Outcome == authflow.OutcomeConnected:
		page.Scopes = s.Scopes
	case end.Outcome == authflow.OutcomeOtherBrowser && c.Request.URL.Query().Has(probed) && s.cookie(c, probeCookie) == "":
		page.Outcome = templates.OutcomeNoCookies
	default:
		page.Scopes = end.Missing
	}
	return s.ending(c, page)
}

// await returns how a walk ended. A second callback of the same walk, made by a double click, waits
// for the first to finish.
func (s *Server) await(ctx context.Context, id uuid.UUID, browser provisioning.Secret) (authflow.Ending, error) {
	patience, ticker := time.NewTimer(20*time.Second), time.NewTicker(250*time.Millisecond)
	defer patience.Stop()
	defer ticker.Stop()
	for {
		end, err := s.Flow.Ending(ctx, id, browser)
		if err != nil || end.Outcome != authflow.OutcomeChecking {
			return end, err
		}
		select {
		case <-ctx.Done():
			return end, ctx.Err()
		case <-patience.C:
			return end, nil
		case <-ticker.C:
		}
	}
}

// ending shows a result page.
func (s *Server) ending(c *gin.Context, page templates.ResultPage) error {
	s.allowProvider(c)
	page.Letterhead = s.letterhead(c)
	return s.show(c, page)
}

// outcomeOnPage is what a walk's outcome is called on pages.
func outcomeOnPage(o authflow.Outcome) templates.Outcome {
	switch o {
	case authflow.OutcomeConnected:
		return templates.OutcomeConnected
	case authflow.OutcomeDeclined:
		return templates.OutcomeDenied
	case authflow.OutcomeWrongAccount:
		return templates.OutcomeWrongAccount
	case authflow.OutcomeMissingScope:
		return templates.OutcomeMissingScope
	case authflow.OutcomeConflict:
		return templates.OutcomeConflict
	case authflow.OutcomeUnavailable:
		return templates.OutcomeUnavailable
	case authflow.OutcomeFailed:
		return templates.OutcomeFailed
	case authflow.OutcomeOtherBrowser:
		return templates.OutcomeOtherBrowser
	case authflow.OutcomeExpired, authflow.OutcomeUnknown, authflow.OutcomeChecking:
		return templates.OutcomeStale
	}
	return templates.OutcomeNone
}

// decline takes a no for an answer.
func (s *Server) decline(c *gin.Context) error {
	return s.takeAnswer(c, templates.AnswerDeclined, s.Flow.Decline)
}

// notMe hears from somebody whom the mail has not found by right.
func (s *Server) notMe(c *gin.Context) error {
	return s.takeAnswer(c, templates.AnswerNotMe, s.Flow.NotMe)
}

// unsubscribe stops our reminders. Mail programs press this button themselves (RFC 8058): without cookies,
// from pages of their own, and with a body that says nothing that the address does not.
func (s *Server) unsubscribe(c *gin.Context) error {
	return s.takeAnswer(c, templates.AnswerUnsubscribed, s.Flow.Unsubscribe)
}

// throttleLink limits how often a link is pressed, and not how often an address presses: a mail provider
// does it for thousands of owners from one. A made-up link costs no more than to look at one, which is free.
func (s *Server) throttleLink() gin.HandlerFunc {
	const enough = 64 // of a token to tell it from others; as long as somebody likes, it would fill the memory
	links := newDoors()
	return s.step(func(c *gin.Context) error {
		token := c.Param("token")
		return s.pass(c, links, token[:min(len(token), enough)])
	})
}

func (s *Server) takeAnswer(
	c *gin.Context, answer templates.Answer, take func(context.Context, string) (authflow.Answered, error),
) error {
	answered, err := take(c, c.Param("token"))
	if err != nil {
		return s.notTaken(c, err)
	}
	page := templates.AnswerPage{Letterhead: s.letterhead(c), Answer: answer, Path: linkPath(c), Client: answered.ClientName}
	if !answered.Undo.IsZero() {
		page.Undo = answered.Undo.UTC().Format(time.RFC3339Nano)
	}
	return s.show(c, page)
}

// notTaken answers an answer that came by a link that does not work, or after the account was connected: then
// the page of the invitation says so, and how to undo it.
func (s *Server) notTaken(c *gin.Context, err error) error {
	switch {
	case isDead(err):
		return s.deadLink(c)
	case errors.Is(err, authflow.ErrLinkSpent):
		return s.backToInvitation(c)
	}
	return err
}

// undo takes an answer back for whoever has just given it, and nobody else: only the page that followed it
// knows the name of what it did.
func (s *Server) undo(c *gin.Context) error {
	made, err := time.Parse(time.RFC3339Nano, c.PostForm("at"))
	if err != nil {
		return errors.Join(errBadRequest, err)
	}
	inv, err := s.Flow.Undo(c, c.Param("token"), made)
	if err != nil {
		return s.notTaken(c, err)
	}
	page := templates.AnswerPage{Letterhead: s.letterhead(c), Answer: templates.AnswerUndone, Path: linkPath(c), Client: inv.ClientName}
	if inv.OptedOut != nil { // by another answer since
		page.Answer = templates.Answer(*inv.OptedOut)
	}
	return s.show(c, page)
}

// askRefer asks who should have the invitation instead.
func (s *Server) askRefer(c *gin.Context) error {
	inv, err := s.Links.Find(c, c.Param("token"))
	if err != nil {
		return s.notTaken(c, err)
	}
	return s.show(c, templates.ReferPage{Letterhead: s.letterhead(c), Path: linkPath(c), Client: inv.ClientName})
}

// refer keeps whom they name, for an operator to decide.
func (s *Server) refer(c *gin.Context) error {
	named := provisioning.Owner{Name: c.PostForm("name"), Email: c.PostForm("email")}
	inv, err := s.Flow.Refer(c, c.Param("token"), named, c.PostForm("note"))
	if wrong, ok := errors.AsType[*provisioning.FieldError](err); ok {
		page := templates.ReferPage{
			Letterhead: s.letterhead(c), Path: linkPath(c), Client: inv.ClientName,
			Name: named.Name, Email: named.Email, Note: c.PostForm("note"),
		}
		switch wrong.Field {
		case "name":
			page.NameError = wrong.Message
		case "note":
			page.NoteError = wrong.Message
		default:
			page.EmailError = wrong.Message
		}
		return s.show(c, page)
	}
	if err != nil {
		return s.notTaken(c, err)
	}
	return s.show(c, templates.AnswerPage{
		Letterhead: s.letterhead(c), Answer: templates.AnswerReferred, Path: linkPath(c), Client: inv.ClientName, Named: strings.TrimSpace(named.Email),
	})
}

// askUnsubscribe is the page behind the link in a mail: a press of its button unsubscribes. To whoever has
// done that it says so, and offers nothing to press: a robot would.
func (s *Server) askUnsubscribe(c *gin.Context) error {
	inv, err := s.Links.Find(c, c.Param("token"))
	if err != nil && !isDead(err) && !errors.Is(err, authflow.ErrLinkSpent) {
		return err
	}
	if orZero(inv.OptedOut) == provisioning.OptedOutUnsubscribed {
		return s.show(c, templates.AnswerPage{
			Letterhead: s.letterhead(c), Answer: templates.AnswerUnsubscribed, Path: linkPath(c), Client: inv.ClientName,
		})
	}
	return s.show(c, templates.UnsubscribePage{Letterhead: s.letterhead(c), Path: linkPath(c), Client: inv.ClientName})
}

// renew mails a fresh link to the address on record. The answer tells nothing about the token.
func (s *Server) renew(c *gin.Context) error {
	if err := s.Flow.Renew(c, c.Param("token")); err != nil {
		return err
	}
	return s.show(c, templates.RenewedPage{Letterhead: s.letterhead(c)})
}
