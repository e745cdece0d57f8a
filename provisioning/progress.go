package provisioning

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// progressDays is how many days, today included, Progress tells one by one.
const progressDays = 30

// paceDays is how many days, today included, the pace is taken from.
const paceDays = 7

// Progress is how far the roster is.
type Progress struct {
	Total           int64            `json:"total"`
	Stages          map[Stage]int64  `json:"stages"`
	Reasons         map[Reason]int64 `json:"reasons"`
	Routes          map[Route]Way    `json:"routes" doc:"the routes that clients are on, and how far those are"`
	Paused          int64            `json:"paused"`
	InvitedEver     int64            `json:"invited_ever"`
	AuthorizedRatio float64          `json:"authorized_ratio" doc:"share of the roster that is authorized now, 0 to 1"`
	PerDay          []Day            `json:"per_day" doc:"the last 30 days in UTC, oldest first"`
	ETA             *time.Time       `json:"eta" doc:"when all would be authorized at the pace of the last 7 days; null if nothing moved, or it would take a century"`
}

// Way is how far the clients of one route are.
type Way struct {
	Total  int64           `json:"total"`
	Stages map[Stage]int64 `json:"stages"`
}

// Day is what happened on one UTC day.
type Day struct {
	Day        string `json:"day" doc:"YYYY-MM-DD"`
	Authorized int64  `json:"authorized" doc:"clients whose first verified grant came that day"`
	Invited    int64  `json:"invited" doc:"clients whose first mail was accepted that day"`
}

// Progress reads the tally that every change of a client keeps up to date in its own transaction. Its
// cost does not grow with the roster.
func (s *Store) Progress(ctx context.Context, now time.Time) (Progress, error) {
	p := Progress{Stages: make(map[Stage]int64), Reasons: make(map[Reason]int64), Routes: make(map[Route]Way)}
	for _, stage := range Stages() {
		p.Stages[stage] = 0
	}
	for _, reason := range Reasons() {
		p.Reasons[reason] = 0
	}
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := s.DB.Query(ctx, `
		SELECT
			metric,
			label,
			day::text,
			sum(n)::bigint
		FROM (
			SELECT metric, label, day, n FROM tally
			UNION ALL
			SELECT metric, label, day, n FROM tally_deltas
		) t
		GROUP BY metric, label, day`)
	if err != nil {
		return Progress{}, fmt.Errorf("read progress: %w", err)
	}
	invited, authorized := make(map[string]int64), make(map[string]int64)
	var metric, label, day string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&metric, &label, &day, &n}, func() error {
		switch metric {
		case "stage":
			p.Stages[Stage(label)] = n
			p.Total += n
		case "route":
			route, stage, _ := strings.Cut(label, "/")
			p.add(Route(route), Stage(stage), n)
		case "reason":
			p.Reasons[Reason(label)] = n
		case "paused":
			p.Paused = n
		case "invited":
			invited[day] = n
			p.InvitedEver += n
		case "authorized":
			authorized[day] = n
		}
		return nil
	})
	if err != nil {
		return Progress{}, fmt.Errorf("read progress: %w", err)
	}
	now = now.UTC()
	for back := progressDays - 1; back >= 0; back-- {
		day := now.AddDate(0, 0, -back).Format(time.DateOnly)
		p.PerDay = append(p.PerDay, Day{Day: day, Authorized: authorized[day], Invited: invited[day]})
	}
	if p.Total > 0 {
		p.AuthorizedRatio = float64(p.Stages[StageAuthorized]) / float64(p.Total)
	}
	p.ETA = p.eta(now)
	return p, nil
}

// add counts clients of a route. A route that nobody is on is none.
func (p Progress) add(route Route, stage Stage, n int64) {
	if n == 0 {
		return
	}
	way, known := p.Routes[route]
	if !known {
		way.Stages = make(map[Stage]int64)
		for _, s := range Stages() {
			way.Stages[s] = 0
		}
	}
	way.Total += n
	way.Stages[stage] += n
	p.Routes[route] = way
}

func (p Progress) eta(now time.Time) *time.Time {
	var recent, days int64
	for _, d := range p.PerDay[len(p.PerDay)-paceDays:] {
		recent += d.Authorized
		if days > 0 || d.Invited > 0 || d.Authorized > 0 {
			days++ // Days before the first mail say nothing about the pace.
		}
	}
	left := p.Total - p.Stages[StageAuthorized]
	if recent == 0 || left == 0 {
		return nil
	}
	ahead := float64(left) * float64(days) / float64(recent)
	if ahead > 100*365 {
		return nil
	}
	at := now.Add(time.Duration(ahead * 24 * float64(time.Hour))).Truncate(time.Hour)
	return &at
}

// FoldTally adds the deltas gathered since the last call to the tally. Any number of processes may
// call it at any time; what Progress reports is the same before and after.
func FoldTally(ctx context.Context, db DB) error {
	_, err := db.Exec(ctx, `
		WITH gathered AS (
			DELETE FROM tally_deltas
			RETURNING metric, label, day, n
		)
		INSERT INTO tally AS t (metric, label, day, n)
		SELECT metric, label, day, sum(n)
		FROM gathered
		GROUP BY metric, label, day
		ON CONFLICT (metric, label, day) DO UPDATE SET n = t.n + excluded.n`)
	if err != nil {
		return fmt.Errorf("fold the tally: %w", err)
	}
	return nil
}
