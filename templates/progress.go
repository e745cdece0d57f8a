package templates

import (
	"html/template"
	"math"
	"net/url"
	"time"
)

// ProgressPage is the console's first page, /admin. Its fragment, which Set.Fragment renders for GET /admin/progress,
// is the same for everybody. Streams of GET /admin/progress/events bring it whenever it is another one; without them,
// it replaces itself every three seconds.
type ProgressPage struct {
	Console
	Progress
	Obstacles []Obstacle // at the provider, what is worst first
	NoApp     bool       // at the provider none is set up, and Calls is empty
	Calls     Budget
	Mail      MailStanding
	ToRun     int   // clients that are ready for a run
	NoMailbox bool  // usernames cannot be made, so that nothing can be imported
	Most      int64 // bytes of a roster file

	Ready template.HTML // the fragment, where it was rendered before; the rest is not needed then
	State string        // its ID
}

// Title names the page.
func (ProgressPage) Title() string { return "Progress" }

// MailStanding is how outgoing mail stands, in few words.
type MailStanding struct {
	NoServer  bool
	Paused    bool
	Waiting   int // at most MostCounted, as SentToday
	SentToday int

	MostCounted int
}

// Counted writes a number that ends at MostCounted.
func (m MailStanding) Counted(n int) string {
	if m.MostCounted > 0 && n >= m.MostCounted {
		return count(n) + "+"
	}
	return count(n)
}

// Step is one of those that come first.
type Step struct {
	Done  bool
	Words string
	Link  string // to where it is done, or said how
}

// Steps are what is to be done once, in its order; none once all is done.
func (p ProgressPage) Steps() []Step {
	steps := []Step{
		{!p.NoMailbox, "Say which mailbox the agency has", "/admin/imports"},
		{!p.NoApp, "Set up the app at the provider", "/admin/provider"},
		{!p.Mail.NoServer, "Set up a mail server", "/admin/mail"},
		{p.Total() > 0, "Import the roster", "/admin/imports"},
		{p.InvitedEver > 0 || p.Total() > 0 && p.Stages[stageImported] == 0, "Invite the owners", Stall{Stage: stageImported}.list("invite")},
	}
	for _, step := range steps {
		if !step.Done {
			return steps
		}
	}
	return nil
}

// MostMB is Most for people.
func (p ProgressPage) MostMB() int { return int(p.Most >> 20) }

// Problem is none here: a file that is refused is so on the page of the imports.
func (ProgressPage) Problem() string { return "" }

// Fields are what a roster file may have.
func (ProgressPage) Fields() []RosterField { return rosterFields() }

// Progress is how far everybody is.
type Progress struct {
	Stages      map[Stage]int  // clients in each stage; together they are the roster
	Reasons     map[Reason]int // stalled clients by reason
	Routes      []Way          // the routes that clients are on
	Paused      int            // clients that get no mail, in whatever stage
	InvitedEver int            // clients that were invited at least once
	PerDay      []Day          // without gaps, oldest first
	ETA         time.Time      // when the last one connects at the present pace, zero if unknown
	Events      []Event        // newest first, the last few
}

// Way is how far the clients of one route are.
type Way struct {
	Route             string
	Total, Authorized int
}

// Width is the share that is authorized, in percent.
func (w Way) Width() float64 { return percent(w.Authorized, w.Total) }

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

// Stalls lists who waits for the operator: the stalled by what is worst first, then those whose grant is gone and those
// who were never invited. The order does not follow the numbers: it would be another one whenever somebody looks.
func (p Progress) Stalls() []Stall {
	var stalls []Stall
	for _, reason := range reasons() {
		if n := p.Reasons[reason]; n > 0 {
			stalls = append(stalls, Stall{Stage: stageStalled, Reason: reason, N: n})
		}
	}
	for _, stage := range []Stage{stageLapsed, stageImported} {
		if n := p.Stages[stage]; n > 0 {
			stalls = append(stalls, Stall{Stage: stage, N: n})
		}
	}
	return stalls
}

// Label names the group.
func (s Stall) Label() string {
	switch {
	case s.Reason != "":
		return s.Reason.Label()
	case s.Stage == stageImported:
		return "Not invited yet"
	}
	return s.Stage.Label()
}

// Meaning says what happened.
func (s Stall) Meaning() string {
	if s.Reason != "" {
		return s.Reason.Meaning()
	}
	return s.Stage.Meaning()
}

// Cure says what the operator can do about it.
func (s Stall) Cure() string {
	if s.Reason != "" {
		return s.Reason.Cure()
	}
	return s.Stage.Cure()
}

// Clients is the address of exactly these.
func (s Stall) Clients() string { return s.list("") }

// Remedy is the button that leads to the cure: an action on all of them, the quarantine, or their list.
func (s Stall) Remedy() (r struct{ Words, Link string }) {
	switch {
	case s.Reason.Quarantined():
		r.Words, r.Link = "Decide", "/admin/quarantine"
	case s.Reason == reasonExpired:
		r.Words, r.Link = "Invite again", s.list("invite")
	case s.Reason == reasonMissingScope:
		r.Words, r.Link = "Remind", s.list("remind")
	case s.Stage == stageLapsed:
		r.Words, r.Link = "Send fresh links", s.list("invite")
	case s.Stage == stageImported:
		r.Words, r.Link = "Invite", s.list("invite")
	default:
		r.Words, r.Link = "Show them", s.list("")
	}
	return r
}

// list is the address of these clients' list or, if an action is named, of the question whether to do that to all of them.
func (s Stall) list(action string) string {
	path, q := "/admin/clients?", url.Values{"stage": {string(s.Stage)}}
	if s.Reason != "" {
		q.Set("reason", string(s.Reason))
	}
	if action != "" {
		path = "/admin/bulk/new?"
		q.Set("action", action)
		q.Set("all", "1")
	}
	return path + q.Encode()
}
