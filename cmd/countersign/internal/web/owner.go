package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
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
		Letterhead: s.Letterhead,
		Path:       linkPath(c),
		Client:     inv.ClientName,
		OwnerName:  inv.OwnerName,
		OwnerEmail: inv.OwnerEmail,
		Scopes:     s.Scopes,
		ExpiresAt:  inv.ExpiresAt,
	}
	switch {
	case errors.Is(err, authflow.ErrLinkUnknown), errors.Is(err, authflow.ErrLinkExpired):
		return s.show(c, templates.LinkPage{Letterhead: s.Letterhead, Path: page.Path})
	case errors.Is(err, authflow.ErrLinkSpent):
		page.ConnectedAt = *inv.SpentAt
	case err != nil:
		return err
	case orZero(inv.Reason) == provisioning.ReasonDeclined && orZero(inv.LastOutcome) != authflow.OutcomeDeclined:
		page.LastOutcome = templates.OutcomeDeclined
	case inv.LastOutcome != nil:
		page.LastOutcome = outcomeOnPage(*inv.LastOutcome)
	case inv.Stage == provisioning.StageStarted:
		page.LastOutcome = templates.OutcomeUnfinished
	}
	return s.show(c, page)
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
	if errors.Is(err, authflow.ErrLinkUnknown) || errors.Is(err, authflow.ErrLinkExpired) {
		return s.lost(c)
	}
	return s.sendToProvider(c, walk, err)
}

func (s *Server) sendToProvider(c *gin.Context, walk authflow.Walk, err error) error {
	switch {
	case errors.Is(err, authflow.ErrLinkUnknown), errors.Is(err, authflow.ErrLinkExpired):
		return s.show(c, templates.LinkPage{Letterhead: s.Letterhead, Path: linkPath(c)})
	case errors.Is(err, authflow.ErrLinkSpent):
		return s.ending(c, templates.ResultPage{Outcome: templates.OutcomeConnected, Scopes: s.Scopes})
	case errors.Is(err, authflow.ErrNoProvider):
		s.Log.ErrorContext(c, "an owner pressed Continue and could not go on", "err", err)
		return s.ending(c, templates.ResultPage{Outcome: templates.OutcomeUnavailable})
	case err != nil:
		return err
	}
	s.setCookie(c, consentCookie(walk.Consent), walk.Browser.Reveal(), int(endingLife.Seconds()))
	c.Redirect(http.StatusSeeOther, walk.AuthorizeURL)
	return nil
}

// endingLife is how long a browser can see how its walk ended.
const endingLife = time.Hour

func consentCookie(consent uuid.UUID) string { return "consent-" + consent.String() }

// callback receives the owner from the provider and leaves the address with the code at once,
// whatever happens: the next page tells what is known.
func (s *Server) callback(c *gin.Context) error {
	c.Header("Referrer-Policy", "no-referrer")
	if c.Request.Method == http.MethodHead { // Somebody only looks; the code is for the browser.
		c.Redirect(http.StatusSeeOther, "/consent")
		return nil
	}
	q := c.Request.URL.Query()
	id, _, err := s.Flow.Callback(c, authflow.Callback{
		State:  q.Get("state"),
		Code:   provisioning.Secret(q.Get("code")),
		Error:  q.Get("error"),
		Issuer: q.Get("iss"),
		Browser: func(consent uuid.UUID) provisioning.Secret {
			return provisioning.Secret(s.cookie(c, consentCookie(consent)))
		},
	})
	if err != nil && !errors.Is(err, context.Canceled) { // Else the browser left; nothing was redeemed.
		s.logFailure(c, c.FullPath(), err)
	}
	if id == uuid.Nil {
		c.Redirect(http.StatusSeeOther, "/consent")
		return nil
	}
	c.Redirect(http.StatusSeeOther, "/consent/"+id.String())
	return nil
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
	page := templates.ResultPage{
		Outcome: outcomeOnPage(end.Outcome),
		Client:  end.ClientName,
		Found:   end.FoundOrganization,
		Path:    "/consent/" + id.String(),
	}
	if end.Outcome == authflow.OutcomeConnected {
		page.Scopes = s.Scopes
	} else {
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
	page.Letterhead = s.Letterhead
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
	return s.takeAnswer(c, templates.OutcomeDeclined, s.Flow.Decline)
}

// unsubscribe stops our mails. Mail programs press this button themselves (RFC 8058), without cookies.
func (s *Server) unsubscribe(c *gin.Context) error {
	return s.takeAnswer(c, templates.OutcomeUnsubscribed, s.Flow.Unsubscribe)
}

func (s *Server) takeAnswer(
	c *gin.Context, outcome templates.Outcome, take func(context.Context, string) (authflow.Invitation, error),
) error {
	inv, err := take(c, c.Param("token"))
	switch {
	case errors.Is(err, authflow.ErrLinkUnknown), errors.Is(err, authflow.ErrLinkExpired):
		return s.show(c, templates.LinkPage{Letterhead: s.Letterhead, Path: linkPath(c)})
	case errors.Is(err, authflow.ErrLinkSpent):
		return s.ending(c, templates.ResultPage{Outcome: templates.OutcomeConnected, Client: inv.ClientName, Scopes: s.Scopes})
	case err != nil:
		return err
	}
	return s.ending(c, templates.ResultPage{Outcome: outcome, Client: inv.ClientName})
}

// askUnsubscribe is the page behind the link in a mail: a press of its button unsubscribes.
func (s *Server) askUnsubscribe(c *gin.Context) error {
	inv, err := s.Links.Find(c, c.Param("token"))
	known := err == nil || errors.Is(err, authflow.ErrLinkExpired) || errors.Is(err, authflow.ErrLinkSpent)
	if !known && !errors.Is(err, authflow.ErrLinkUnknown) {
		return err
	}
	return s.show(c, templates.UnsubscribePage{
		Letterhead: s.Letterhead, Path: linkPath(c), Client: inv.ClientName,
	})
}

// renew mails a fresh link to the address on record. The answer tells nothing about the token.
func (s *Server) renew(c *gin.Context) error {
	if err := s.Flow.Renew(c, c.Param("token")); err != nil {
		return err
	}
	return s.show(c, templates.RenewedPage{Letterhead: s.Letterhead})
}
