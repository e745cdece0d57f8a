package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const runPath = "/admin/run"

// run shows the client whose turn it is. It changes nothing.
func (s *Server) run(c *gin.Context) error {
	page, err := s.runPage(c)
	if err != nil {
		return err
	}
	if id, err := uuid.Parse(c.Query("finished")); err == nil {
		if client, err := s.Store.Client(c, id.String()); err == nil {
			page.Finished = client.Name
		}
	}
	if id, err := uuid.Parse(c.Query("consent")); err == nil && page.Client != nil {
		end, err := s.Flow.Ending(c, id, provisioning.Secret(s.cookie(c, consentCookie(id))))
		if err == nil && end.Client.String() == page.Client.ID {
			page.Ended, page.Found = outcomeOnPage(end.Outcome), end.FoundOrganization
		}
	}
	return s.showRun(c, page)
}

// showRun shows the page of the run, whose button leads to the provider.
func (s *Server) showRun(c *gin.Context, page templates.RunPage) error {
	s.allowProvider(c)
	return s.show(c, page)
}

func (s *Server) runPage(c *gin.Context) (templates.RunPage, error) {
	page := templates.RunPage{Console: s.console(c), Provider: s.Stationery.Settings.Provider, Most: manager.MostCounted}
	run, err := s.Managers.Current(c, whoActs(c))
	if err != nil {
		return page, err
	}
	page.Open, page.Done, page.Skipped = run.ID != uuid.Nil, run.Done, run.Skipped
	if page.Waiting, err = s.Managers.Waiting(c); err != nil {
		return page, err
	}
	if run.Turn == nil {
		return page, nil
	}
	client, err := s.Store.Client(c, run.Turn.String())
	if errors.Is(err, provisioning.ErrNotFound) { // deleted an instant ago
		return page, nil
	}
	if err != nil {
		return page, err
	}
	shown := clientOnPage(client)
	page.Client = &shown
	page.Password = s.passwordLink(client)
	page.Manager, err = s.managerOnPage(c, client.ID)
	return page, err
}

// passwordLink is where the agency's password manager has the password of a client's user. What stands in the
// pattern's braces is written as it has to be in an address.
func (s *Server) passwordLink(client provisioning.Client) string {
	return strings.NewReplacer(
		"{username}", url.QueryEscape(client.Username), "{ref}", url.QueryEscape(orZero(client.Ref)), "{id}", client.ID.String(),
	).Replace(s.PasswordLink)
}

// whoActs is the operator as the actor.
func whoActs(c *gin.Context) provisioning.Actor { return provisioning.Operator(operator(c).Email) }

// startRun takes the next client, at the beginning and after one that was passed over.
func (s *Server) startRun(c *gin.Context) error {
	if _, err := s.Managers.Next(c, whoActs(c)); err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, runPath)
	return nil
}

func (s *Server) endRun(c *gin.Context) error {
	if err := s.Managers.End(c, whoActs(c)); err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, runPath)
	return nil
}

// continueRun sends the operator to the provider, or on to the next client where nothing is left to do.
func (s *Server) continueRun(c *gin.Context) error {
	return s.inTurn(c, func(id uuid.UUID) error {
		client, err := s.Store.Client(c, id.String())
		if err != nil {
			return err
		}
		if client.Route != provisioning.RouteManager || client.Stage == provisioning.StageAuthorized {
			return s.startRun(c)
		}
		walk, err := s.Flow.BeginAs(c, id, whoActs(c))
		if err != nil {
			return err
		}
		s.forgetOldWalks(c)
		s.setCookie(c, consentCookie(walk.Consent), walk.Browser.Reveal(), int(endingLife.Seconds()))
		c.Redirect(http.StatusSeeOther, walk.AuthorizeURL)
		return nil
	})
}

// skipTurn passes a client over and takes the next.
func (s *Server) skipTurn(c *gin.Context) error {
	return s.inTurn(c, func(client uuid.UUID) error {
		if err := s.Managers.Skip(c, whoActs(c), client, c.PostForm("why")); err != nil {
			return err
		}
		return s.startRun(c)
	})
}

// inTurn does something with the client of the form, if it is the operator's turn. Where it is no longer, the page says
// so, and shows whose turn it is.
func (s *Server) inTurn(c *gin.Context, do func(client uuid.UUID) error) error {
	client, err := uuid.Parse(c.PostForm("client"))
	if err != nil {
		return errors.Join(errBadRequest, err)
	}
	if err = s.Managers.Keep(c, whoActs(c), client); err == nil {
		err = do(client)
	}
	if !errors.Is(err, manager.ErrNoTurn) && !errors.Is(err, authflow.ErrNoProvider) {
		return err
	}
	page, failed := s.runPage(c)
	if failed != nil {
		return failed
	}
	page.Problem, page.Code = sentence(err), statusOf(err)
	return s.showRun(c, page)
}

// backToRun answers a browser that restores the page behind a button.
func (s *Server) backToRun(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, runPath)
	return nil
}

// afterWalk is where an operator who comes back from the provider goes on: the address of the run. It is empty unless the
// walk was an operator's of whom this browser has the session.
func (s *Server) afterWalk(c *gin.Context, consent uuid.UUID, end authflow.Ending) string {
	if end.Actor == provisioning.ActorOwner || end.Actor == "" {
		return ""
	}
	who, err := s.Admin.Session(c, provisioning.Secret(s.cookie(c, sessionCookie)))
	if err != nil || provisioning.Operator(who.Email) != end.Actor {
		return "" // Whoever it is sees how the walk ended, as everybody does.
	}
	q := url.Values{"consent": {consent.String()}}
	if end.Outcome == authflow.OutcomeConnected {
		q = url.Values{"finished": {end.Client.String()}}
	}
	return runPath + "?" + q.Encode()
}

// nextTurn is where a walk of a run that has just ended leads to. If its client is connected, the next one is taken.
func (s *Server) nextTurn(c *gin.Context, consent uuid.UUID, outcome authflow.Outcome) string {
	if consent == uuid.Nil || outcome == "" || outcome == authflow.OutcomeChecking || outcome == authflow.OutcomeOtherBrowser {
		return ""
	}
	end, err := s.Flow.Ending(c, consent, provisioning.Secret(s.cookie(c, consentCookie(consent))))
	if err != nil {
		return ""
	}
	run := s.afterWalk(c, consent, end)
	if run != "" && end.Outcome == authflow.OutcomeConnected {
		if _, err := s.Managers.Next(c, end.Actor); err != nil {
			s.logFailure(c, c.FullPath(), err) // The page of the run offers it again.
		}
	}
	return run
}
