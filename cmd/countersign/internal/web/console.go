package web

import (
	"fmt"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	recentEvents = 10 // on the progress page
	clientsAPage = 50
)

func (s *Server) console(c *gin.Context) templates.Console {
	return templates.Console{Agency: s.letterhead(c).Agency, Operator: operator(c).Name}
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
	var err error
	if page.Obstacles, err = s.obstacles(c); err != nil {
		return page, err
	}
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

func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}
