package templates

import "time"

// ProviderPage is how we stand with the provider, /admin/provider: what is left of its limits, and how grants are
// kept alive. It renews itself.
type ProviderPage struct {
	Console
	NoApp         bool // none is set up; nothing else is known then
	Obstacles     []Obstacle
	Calls         Budget
	TokenRequests Budget

	Due         int       // grants that wait to be refreshed
	DoneAt      time.Time // when they will all be, about; zero if that is unknown
	NextAt      time.Time // when the first is due; zero if there is none
	Doubted     int       // grants that the provider refuses and that are tried again
	Doubtful    []DoubtfulGrant
	Quarantined int
	MostCounted int // where Due, Doubted and Quarantined end
	Refreshes   map[RefreshOutcome]int
}

// Title names the page.
func (ProviderPage) Title() string { return "Provider" }

// Counted writes a number that ends at MostCounted.
func (p ProviderPage) Counted(n int) string {
	if p.MostCounted > 0 && n >= p.MostCounted {
		return count(n) + " or more"
	}
	return count(n)
}

// More is how many grants are doubtful beside those that are listed.
func (p ProviderPage) More() int { return p.Doubted - len(p.Doubtful) }

// Outcomes lists how attempts ended, the good ones first.
func (p ProviderPage) Outcomes() []RefreshCount {
	var list []RefreshCount
	for _, o := range []RefreshOutcome{refreshDone, refreshRefused, refreshMisconfigured, refreshUnavailable, refreshLost, refreshSuperseded} {
		if n := p.Refreshes[o]; n > 0 {
			list = append(list, RefreshCount{o, n})
		}
	}
	return list
}

// Budget is what the app's key may do at one door of the provider.
type Budget struct {
	PerSecond int // 0 for no limit, and then nothing is counted
	PerDay    int // 0 for no limit
	Used      int // of this day
	Left      int // of this day
	Kept      int // of those left, for owners who consent
	DayEnds   time.Time
	Throttled int  // how often the provider said that it was too much
	Denied    bool // it says so of this day, whatever is left by our count
}

// Free is how many calls are left for whatever comes.
func (b Budget) Free() int { return b.Left - b.Kept }

// Shares are the used, free and kept calls as parts of a bar, in percent.
func (b Budget) Shares() (shares struct{ Used, Kept, KeptFrom float64 }) {
	shares.Used = min(100, percent(b.Used, b.PerDay))
	shares.Kept = percent(b.Kept, b.PerDay)
	shares.KeptFrom = 100 - shares.Kept
	return shares
}

// Times says how often that was.
func (b Budget) Times() string {
	switch b.Throttled {
	case 0:
		return "Not today"
	case 1:
		return "Once today"
	}
	return count(b.Throttled) + " times today"
}

// Obstacle is what stands in the way at the provider.
type Obstacle struct {
	Kind     ObstacleKind
	Requests bool      // whether it is about the token endpoint alone
	Since    time.Time // zero if unknown
	Until    time.Time // zero if nobody knows
	Why      string    // may be empty
}

// ObstacleKind is what it is, by the word that the rest of the program uses.
type ObstacleKind string

// Obstacles.
const (
	ObstacleAppRefused    ObstacleKind = "app_refused"
	ObstacleFrozen        ObstacleKind = "frozen"
	ObstacleQuotaExceeded ObstacleKind = "quota_exceeded"
	ObstacleDayUsed       ObstacleKind = "day_used"
	ObstacleShareUsed     ObstacleKind = "share_used"
	ObstacleThrottled     ObstacleKind = "throttled"
)

// Alarm reports whether nothing works until somebody does something, or the day is over.
func (o Obstacle) Alarm() bool {
	return o.Kind == ObstacleAppRefused || o.Kind == ObstacleQuotaExceeded || o.Kind == ObstacleDayUsed
}

// Icon is the shape that stands beside its colour.
func (o Obstacle) Icon() Stage {
	switch {
	case o.Alarm():
		return stageStalled
	case o.Kind == ObstacleFrozen:
		return stageLapsed
	}
	return "paused"
}

// Heading says what is wrong.
func (o Obstacle) Heading() string {
	switch o.Kind {
	case ObstacleAppRefused:
		return "The provider refuses this app"
	case ObstacleFrozen:
		return "The provider refuses many grants at once"
	case ObstacleQuotaExceeded:
		return "The provider says that today’s calls are used up"
	case ObstacleDayUsed:
		return "Today’s calls are used up"
	case ObstacleShareUsed:
		return "The rest of today’s calls is kept for owners"
	case ObstacleThrottled:
		if o.Requests {
			return "Token requests pause: the provider had too many at once"
		}
		return "Calls pause: the provider had too many at once"
	}
	return label(string(o.Kind))
}

// Effect says what that means meanwhile.
func (o Obstacle) Effect() string {
	switch o.Kind {
	case ObstacleAppRefused:
		return "No owner can finish and no grant is refreshed until its key and secret are right."
	case ObstacleFrozen:
		return "That looks like an outage: until it is over, no client is taken for lapsed that has not been refused for a week."
	case ObstacleQuotaExceeded, ObstacleDayUsed:
		return "Owners are asked to come back later, and nothing is lost."
	case ObstacleShareUsed:
		return "Owners can finish; work in the background waits."
	case ObstacleThrottled:
		return "They go on by themselves."
	}
	return ""
}

// DoubtfulGrant is a grant that the provider refuses to refresh.
type DoubtfulGrant struct {
	Client   ClientName
	Since    time.Time
	Refusals int
	NextAt   time.Time // zero while it is tried
	Proven   bool      // it was refreshed before
}

// Meaning says what may have happened.
func (d DoubtfulGrant) Meaning() string {
	if d.Proven {
		return "The provider may be out of order. Or the grant is gone: the owner removed the app, or the user who consented was removed."
	}
	return "It was never refreshed. Perhaps whoever consented had come in through a partner’s login: such a grant is not kept. The owner has to sign in to the account directly."
}

// RefreshOutcome is how an attempt to refresh a grant ended, by the word that the rest of the program uses.
type RefreshOutcome string

const (
	refreshDone          RefreshOutcome = "refreshed"
	refreshRefused       RefreshOutcome = "refused"
	refreshMisconfigured RefreshOutcome = "misconfigured"
	refreshUnavailable   RefreshOutcome = "unavailable"
	refreshLost          RefreshOutcome = "lost"
	refreshSuperseded    RefreshOutcome = "superseded"
)

// Label is the outcome as a heading.
func (o RefreshOutcome) Label() string {
	switch o {
	case refreshDone:
		return "Refreshed"
	case refreshRefused:
		return "The grant was refused"
	case refreshMisconfigured:
		return "The app was refused"
	case refreshUnavailable:
		return "The provider could not answer"
	case refreshLost:
		return "The answer was lost"
	case refreshSuperseded:
		return "Came too late"
	}
	return label(string(o))
}

// Meaning says what follows.
func (o RefreshOutcome) Meaning() string {
	switch o {
	case refreshDone:
		return "New tokens are stored."
	case refreshRefused:
		return "Tried again before it is believed."
	case refreshMisconfigured:
		return "Whatever the grant: the app’s key or secret is wrong."
	case refreshUnavailable:
		return "Says nothing about the grant; tried again after a pause."
	case refreshLost:
		return "The same token was tried again at once."
	case refreshSuperseded:
		return "Newer tokens were stored already."
	}
	return ""
}

// RefreshCount is how many attempts ended so.
type RefreshCount struct {
	RefreshOutcome

	N int
}
