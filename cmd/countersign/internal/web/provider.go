package web

import (
	"errors"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/templates"
)

// provider shows how we stand with the provider, and renews itself.
func (s *Server) provider(c *gin.Context) error {
	page := templates.ProviderPage{Console: s.console(c)}
	standing, err := s.ProviderStanding(c)
	if errors.Is(err, errNoApp) {
		page.NoApp = true
		return s.show(c, page)
	}
	if err != nil {
		return err
	}
	keeping := standing.Keeping
	page.Obstacles = obstaclesOnPage(keeping.AppRefused, keeping.Frozen, standing.Calls.Hold, standing.TokenRequests.Hold)
	page.Calls, page.TokenRequests = budgetOnPage(standing.Calls), budgetOnPage(standing.TokenRequests)
	page.Due, page.DoneAt, page.NextAt = keeping.Due, orZero(keeping.DoneAt), orZero(keeping.NextAt)
	page.Doubted, page.Quarantined, page.MostCounted = keeping.Doubted, keeping.Quarantine, grant.MostCounted
	page.Refreshes = map[templates.RefreshOutcome]int{}
	for outcome, n := range keeping.Refreshes {
		page.Refreshes[templates.RefreshOutcome(outcome)] = n
	}
	for _, d := range keeping.Doubtful {
		page.Doubtful = append(page.Doubtful, templates.DoubtfulGrant{
			Client: templates.ClientName{ID: d.ClientID.String(), Name: d.ClientName},
			Since:  d.Since, Refusals: d.Refusals, NextAt: orZero(d.NextAt), Proven: d.Proven,
		})
	}
	return s.show(c, page)
}

func budgetOnPage(b ProviderBudget) templates.Budget {
	return templates.Budget{
		PerSecond: b.PerSecond, PerDay: orZero(b.PerDay), Used: b.Used, Left: orZero(b.Left), Kept: b.Kept,
		DayEnds: b.DayEnds, Throttled: b.Throttled, Denied: b.Hold != nil && b.Hold.Why == string(budget.QuotaExceeded),
	}
}

// obstaclesOnPage lists what there is of them, what is worst first.
func obstaclesOnPage(refused, frozen *Obstacle, calls, requests *ProviderHold) []templates.Obstacle {
	var list []templates.Obstacle
	add := func(kind templates.ObstacleKind, o *Obstacle) {
		if o != nil {
			list = append(list, templates.Obstacle{Kind: kind, Since: o.Since, Why: o.Why})
		}
	}
	add(templates.ObstacleAppRefused, refused)
	add(templates.ObstacleFrozen, frozen)
	for _, hold := range []*ProviderHold{calls, requests} {
		if hold != nil {
			list = append(list, templates.Obstacle{Kind: templates.ObstacleKind(hold.Why), Until: hold.Until, Requests: hold == requests})
		}
	}
	return list
}
