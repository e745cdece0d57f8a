package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	recentEvents = 10  // on the progress page
	shownEvents  = 200 // on a client's page
	clientsAPage = 50
)

func (s *Server) console(c *gin.Context) templates.Console {
	return templates.Console{Agency: s.Letterhead.Agency, Operator: operator(c).Name}
}

func (s *Server) progress(c *gin.Context) error {
	page, err := s.progressPage(c)
	if err != nil {
		return err
	}
	return s.show(c, page)
}

// progressFragment is the part of the progress page that renews itself.
func (s *Server) progressFragment(c *gin.Context) error {
	page, err := s.progressPage(c)
	if err != nil {
		return err
	}
	c.Header("Content-Type", "text/html; charset=utf-8")
	return s.Templates.Fragment(c.Writer, page)
}

func (s *Server) progressPage(c *gin.Context) (templates.ProgressPage, error) {
	page := templates.ProgressPage{Console: s.console(c)}
	p, err := s.Store.Progress(c, s.Now())
	if err != nil {
		return page, err
	}
	events, err := s.Store.RecentEvents(c, recentEvents)
	if err != nil {
		return page, err
	}
	page.Progress = templates.Progress{
		Stages:      stageCounts(p),
		Reasons:     reasonCounts(p),
		Paused:      int(p.Paused),
		InvitedEver: int(p.InvitedEver),
		Events:      eventsOnPage(events),
	}
	if p.ETA != nil {
		page.ETA = *p.ETA
	}
	for _, d := range p.PerDay {
		day, err := time.Parse(time.DateOnly, d.Day)
		if err != nil {
			return page, fmt.Errorf("progress of day %q: %w", d.Day, err)
		}
		page.PerDay = append(page.PerDay, templates.Day{Day: day, Authorized: int(d.Authorized)})
	}
	return page, nil
}

func stageCounts(p provisioning.Progress) map[templates.Stage]int {
	counts := make(map[templates.Stage]int, len(p.Stages))
	for stage, n := range p.Stages {
		counts[templates.Stage(stage)] = int(n)
	}
	return counts
}

func reasonCounts(p provisioning.Progress) map[templates.Reason]int {
	counts := make(map[templates.Reason]int, len(p.Reasons))
	for reason, n := range p.Reasons {
		counts[templates.Reason(reason)] = int(n)
	}
	return counts
}

func (s *Server) clients(c *gin.Context) error {
	f, err := filterOf(c.Request.URL.Query())
	if err != nil {
		return err
	}
	f.Limit = clientsAPage
	found, next, err := s.Store.Clients(c, f)
	if err != nil {
		return err
	}
	p, err := s.Store.Progress(c, s.Now())
	if err != nil {
		return err
	}
	page := templates.ClientsPage{
		Console: s.console(c),
		Filter: templates.Filter{
			Q: f.Query, Stage: templates.Stage(f.Stage), Reason: templates.Reason(f.Reason),
		},
		Total:     int(p.Total),
		Stages:    stageCounts(p),
		Reasons:   reasonCounts(p),
		Continued: f.Cursor != "",
	}
	for _, client := range found {
		page.Clients = append(page.Clients, clientOnPage(client))
	}
	if next != "" {
		q := c.Request.URL.Query()
		q.Set("cursor", next)
		page.Next = "/admin/clients?" + q.Encode()
	}
	return s.show(c, page)
}

// filterOf reads a filter out of a page's query.
func filterOf(q url.Values) (f provisioning.Filter, err error) {
	f.Query, f.Cursor = q.Get("q"), q.Get("cursor")
	if stage := q.Get("stage"); stage != "" {
		if f.Stage, err = provisioning.ParseStage(stage); err != nil {
			return f, err
		}
	}
	if reason := q.Get("reason"); reason != "" {
		if f.Reason, err = provisioning.ParseReason(reason); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (s *Server) client(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	events, err := s.Store.Events(c, client.ID, 0, shownEvents+1)
	if err != nil {
		return err
	}
	messages, err := s.Mailer.Messages(c, client.ID)
	if err != nil {
		return err
	}
	grants, err := s.Flow.Grants(c, client.ID)
	if err != nil {
		return err
	}
	page := templates.ClientPage{
		Console:    s.console(c),
		Provider:   s.Letterhead.Provider,
		Client:     clientOnPage(client),
		CanRename:  s.Renamer != nil,
		MoreEvents: len(events) > shownEvents,
		Events:     eventsOnPage(events[:min(len(events), shownEvents)]),
	}
	for _, m := range messages {
		page.Mails = append(page.Mails, templates.Mail{
			Kind:      string(m.Kind),
			State:     string(m.State),
			To:        m.ToAddress,
			QueuedAt:  m.CreatedAt,
			TriedAt:   orZero(m.AttemptedAt),
			SentAt:    orZero(m.SentAt),
			Attempts:  m.Attempts,
			Unknown:   m.Unknown,
			LastError: orZero(m.Error),
		})
	}
	for _, g := range grants {
		shown := templates.Grant{
			Organization: g.Organization,
			AccountID:    g.AccountID,
			ContactEmail: g.ContactEmail,
			Subject:      g.Subject,
			Scopes:       g.Scopes,
			GrantedAt:    g.CreatedAt,
		}
		switch g.Status {
		case authflow.GrantActive:
			page.Grant = &shown
		case authflow.GrantQuarantined:
			page.Quarantined = append(page.Quarantined, shown)
		case authflow.GrantReplaced:
		}
	}
	return s.show(c, page)
}

// rename gives a client another username. That somebody was faster shows on the page it leads to.
func (s *Server) rename(c *gin.Context) error {
	if s.Renamer == nil {
		return errNoMailbox
	}
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	_, err = s.Renamer.Taken(c, client.ID, c.PostForm("taken"), provisioning.Operator(operator(c).Email))
	if err != nil && !errors.Is(err, provisioning.ErrNoLongerUsername) {
		return err
	}
	c.Redirect(http.StatusSeeOther, "/admin/clients/"+client.ID.String())
	return nil
}

func (s *Server) backToClient(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/clients/"+url.PathEscape(c.Param("id")))
	return nil
}

func clientOnPage(c provisioning.Client) templates.Client {
	shown := templates.Client{
		ID:           c.ID.String(),
		Ref:          orZero(c.Ref),
		Name:         c.Name,
		OwnerName:    c.OwnerName,
		OwnerEmail:   c.OwnerEmail,
		AccountID:    orZero(c.AccountID),
		Username:     c.Username,
		Route:        string(c.Route),
		Stage:        templates.Stage(c.Stage),
		Reason:       templates.Reason(orZero(c.Reason)),
		Paused:       c.Paused,
		SiteURL:      c.SiteURL,
		Locale:       c.Locale,
		TimeZone:     c.TimeZone,
		Tags:         c.Tags,
		CreatedAt:    c.CreatedAt,
		ChangedAt:    c.StageAt,
		InvitedAt:    orZero(c.InvitedAt),
		StartedAt:    orZero(c.StartedAt),
		AuthorizedAt: orZero(c.AuthorizedAt),
		ProvenAt:     orZero(c.ProvenAt),
	}
	for name, value := range c.Extra {
		shown.Extra = append(shown.Extra, templates.Field{Name: name, Value: value})
	}
	slices.SortFunc(shown.Extra, func(a, b templates.Field) int { return strings.Compare(a.Name, b.Name) })
	return shown
}

func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}
