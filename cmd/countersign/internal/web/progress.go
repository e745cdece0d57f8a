package web

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/cmd/countersign/internal/web/live"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const recentEvents = 10

// newHub keeps the page of the progress up to date in all open tabs.
func (s *Server) newHub() *live.Hub {
	return &live.Hub{
		Mark: func(ctx context.Context) (int64, error) { return s.Store.Pulse(ctx) },
		Read: s.renderProgress,
		Ended: func(ctx context.Context, sessions []provisioning.Secret) ([]provisioning.Secret, error) {
			return s.Admin.Ended(ctx, sessions)
		},
		Log: s.Log,
	}
}

// EndStreams ends the answers that would go on for ever, so that a server can be shut down. There will be no others.
func (s *Server) EndStreams() { s.live.Close() }

func (s *Server) progress(c *gin.Context) error {
	state, err := s.live.Look(c)
	if err != nil {
		return err
	}
	return s.show(c, templates.ProgressPage{
		Console: s.console(c),
		Ready:   template.HTML(state.HTML), //nolint:gosec // It is what a template of ours made.
		State:   state.ID,
	})
}

// progressFragment is the part of the progress page that renews itself where no stream does it.
func (s *Server) progressFragment(c *gin.Context) error {
	state, err := s.live.Look(c)
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, "text/html; charset=utf-8", state.HTML)
	return nil
}

// progressEvents sends that part whenever it is another one. Who cannot read streams is led to the page.
func (s *Server) progressEvents(c *gin.Context) error {
	if c.Request.Method != http.MethodGet || !strings.Contains(c.GetHeader("Accept"), "text/event-stream") {
		c.Redirect(http.StatusSeeOther, "/admin")
		return nil
	}
	return s.live.Stream(c.Writer, c.Request, provisioning.Secret(s.cookie(c, sessionCookie)))
}

// renderProgress makes the part of the progress page that is the same for everybody.
func (s *Server) renderProgress(ctx context.Context) ([]byte, error) {
	page := templates.ProgressPage{NoMailbox: s.Uploads == nil}
	if s.Uploads != nil {
		page.Most = s.Uploads.MaxSize()
	}
	for _, fill := range []func(context.Context, *templates.ProgressPage) error{s.fillProgress, s.fillProvider, s.fillMail} {
		if err := fill(ctx, &page); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err := s.Templates.Fragment(&b, page)
	return b.Bytes(), err
}

func (s *Server) fillProgress(ctx context.Context, page *templates.ProgressPage) error {
	p, err := s.Store.Progress(ctx, s.Now())
	if err != nil {
		return err
	}
	events, err := s.Store.RecentEvents(ctx, recentEvents)
	if err != nil {
		return err
	}
	page.Progress = templates.Progress{
		Stages:      stageCounts(p),
		Reasons:     reasonCounts(p),
		Paused:      int(p.Paused),
		InvitedEver: int(p.InvitedEver),
		ETA:         orZero(p.ETA),
		Events:      eventsOnPage(events),
	}
	if page.ToRun, err = s.Managers.Waiting(ctx); err != nil {
		return err
	}
	for _, route := range provisioning.Routes() {
		if way, used := p.Routes[route]; used {
			page.Routes = append(page.Routes, templates.Way{
				Route: string(route), Total: int(way.Total), Authorized: int(way.Stages[provisioning.StageAuthorized]),
			})
		}
	}
	for _, d := range p.PerDay {
		day, err := time.Parse(time.DateOnly, d.Day)
		if err != nil {
			return fmt.Errorf("progress of day %q: %w", d.Day, err)
		}
		page.PerDay = append(page.PerDay, templates.Day{Day: day, Authorized: int(d.Authorized)})
	}
	return nil
}

// fillProvider tells what is left of the day's calls, and what stands in the way at the provider.
func (s *Server) fillProvider(ctx context.Context, page *templates.ProgressPage) error {
	if page.NoApp = s.Keeper == nil; page.NoApp {
		return nil
	}
	o, err := s.Keeper.Obstacles(ctx)
	if err != nil {
		return err
	}
	calls, err := s.Calls.State(ctx)
	if err != nil {
		return err
	}
	requests, err := s.Tokens.State(ctx)
	if err != nil {
		return err
	}
	page.Calls = budgetOnPage(budgetInJSON(calls))
	page.Obstacles = obstaclesOnPage(
		obstacle(o.RefusedAt, o.RefusedWhy), obstacle(o.FrozenAt, o.FrozenWhy), holdOf(calls), holdOf(requests),
	)
	return nil
}

func (s *Server) fillMail(ctx context.Context, page *templates.ProgressPage) error {
	standing, err := s.Mailer.Standing(ctx)
	if err != nil {
		return err
	}
	page.Mail = templates.MailStanding{
		NoServer: s.Sender == nil, Paused: standing.Paused, Waiting: standing.Waiting, SentToday: standing.SentToday,
		MostCounted: notify.MostCounted,
	}
	return nil
}
