package templates

import (
	"net/url"
	"time"
)

// ProgressPage is the console's first page, /admin. Its fragment, which Set.Fragment renders for
// GET /admin/progress, replaces itself every three seconds.
type ProgressPage struct {
	Console
	Progress
	Obstacles []Obstacle // at the provider, what is worst first
}

// Title names the page.
func (ProgressPage) Title() string { return "Progress" }

// ClientsPage is the list at /admin/clients. Its form sends q, stage and reason by GET; htmx takes
// the list out of the whole page, so that there is no fragment to serve.
type ClientsPage struct {
	Console
	Filter    Filter
	Total     int            // of the roster
	Stages    map[Stage]int  // clients in each stage
	Reasons   map[Reason]int // stalled clients by reason
	Clients   []Client       // of this page of the list; ID, Ref, Name, owner, Username, Stage, Reason, Paused, ChangedAt are read
	Next      string         // URL of the next page, empty on the last
	Continued bool           // whether this is a later page than the first
}

// Title names the page.
func (ClientsPage) Title() string { return "Clients" }

// Filter is the part of the list that is shown, as the URL says it.
type Filter struct {
	Q      string
	Stage  Stage
	Reason Reason
}

// Active reports whether the filter leaves anything out.
func (f Filter) Active() bool { return f != Filter{} }

// Matching is how many clients the filter lets through, or -1 where only a count over the roster
// could tell.
func (p ClientsPage) Matching() int {
	switch f := p.Filter; {
	case f.Q != "":
		return -1
	case f.Reason != "" && (f.Stage == "" || f.Stage == stageStalled):
		return p.Reasons[f.Reason]
	case f.Reason != "":
		return 0
	case f.Stage != "":
		return p.Stages[f.Stage]
	default:
		return p.Total
	}
}

// FirstPage is the URL at which the list begins.
func (p ClientsPage) FirstPage() string {
	q := url.Values{}
	for name, value := range map[string]string{"q": p.Filter.Q, "stage": string(p.Filter.Stage), "reason": string(p.Filter.Reason)} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return "/admin/clients"
	}
	return "/admin/clients?" + q.Encode()
}

// StageOptions are the choices of the filter, in the order of the walk.
func (ClientsPage) StageOptions() []Stage { return stages() }

// ReasonOptions are the choices of the filter.
func (ClientsPage) ReasonOptions() []Reason { return reasons() }

// Event is one line of a history.
type Event struct {
	At       time.Time
	What     string // in words
	Actor    string // who, in words
	Detail   string // may be empty
	ClientID string // with Client: where a line stands outside its client's page
	Client   string
	Stage    Stage // that the client moved to, empty if it did not move
	Reason   Reason
}
