package templates

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Progress is how far everybody is, the part of the ProgressPage that renews itself.
type Progress struct {
	Stages      map[Stage]int  // clients in each stage; together they are the roster
	Reasons     map[Reason]int // stalled clients by reason
	Paused      int            // clients that get no mail, in whatever stage
	InvitedEver int            // clients that were invited at least once
	PerDay      []Day          // without gaps, oldest first; 14 or 30 of them look best
	ETA         time.Time      // when the last one connects at the present pace, zero if unknown
	Events      []Event        // newest first, the last few
}

// Day is what happened on one UTC day.
type Day struct {
	Day        time.Time
	Authorized int
}

// Total is the size of the roster.
func (p Progress) Total() int {
	n := 0
	for _, of := range p.Stages {
		n += of
	}
	return n
}

// Authorized is how many are connected.
func (p Progress) Authorized() int { return p.Stages[stageAuthorized] }

// Share is a part of the roster.
type Share struct {
	Stage Stage
	N     int
	From  float64 // percent of the roster that comes before it, for a stacked bar
	Width float64 // percent of the roster
}

// Percent is the share as a reader wants it: 100 only for all, 0 only for none.
func (s Share) Percent() int {
	switch {
	case s.Width <= 0:
		return 0
	case s.Width >= 100:
		return 100
	default:
		return int(min(99, max(1, math.Round(s.Width))))
	}
}

// Connected is the share that is done.
func (p Progress) Connected() Share {
	return Share{Stage: stageAuthorized, N: p.Authorized(), Width: percent(p.Authorized(), p.Total())}
}

// Shares is the whole roster by stage: what is done first, then backwards along the walk, and
// last those who left it. The bar reads from left to right like a bar of progress.
func (p Progress) Shares() []Share {
	order := []Stage{stageAuthorized, stageStarted, stageInvited, stageImported, stageLapsed, stageStalled}
	return p.shares(order)
}

// Funnel is the walk in its own order.
func (p Progress) Funnel() []Share {
	return p.shares([]Stage{stageImported, stageInvited, stageStarted, stageAuthorized})
}

// Aside is who left the walk.
func (p Progress) Aside() []Share { return p.shares([]Stage{stageStalled, stageLapsed}) }

func (p Progress) shares(order []Stage) []Share {
	total, from := p.Total(), 0.0
	shares := make([]Share, len(order))
	for i, stage := range order {
		width := percent(p.Stages[stage], total)
		shares[i] = Share{Stage: stage, N: p.Stages[stage], From: from, Width: width}
		from += width
	}
	return shares
}

func percent(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}

// Stall is a group of clients that waits for the operator.
type Stall struct {
	Stage  Stage
	Reason Reason // empty unless the stage is stalled
	N      int
}

// Stalls lists who waits for the operator: the largest group of the stalled first, then those who
// were never invited and those whose grant is gone.
func (p Progress) Stalls() []Stall {
	var stalls []Stall
	for _, reason := range reasons() {
		if n := p.Reasons[reason]; n > 0 {
			stalls = append(stalls, Stall{Stage: stageStalled, Reason: reason, N: n})
		}
	}
	slices.SortStableFunc(stalls, func(a, b Stall) int { return cmp.Compare(b.N, a.N) })
	for _, stage := range []Stage{stageLapsed, stageImported} {
		if n := p.Stages[stage]; n > 0 {
			stalls = append(stalls, Stall{Stage: stage, N: n})
		}
	}
	return stalls
}
