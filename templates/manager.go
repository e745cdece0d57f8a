package templates

import (
	"cmp"
	"net/http"
	"time"
)

// ManagerPage asks an owner to add one user for the agency, and shows how. It posts to Path/done and Path/not-yet, and
// username to Path/taken; Path/limit, Path/decline and Path/not-me are as plain. It leads to the ReferPage at Path/refer.
type ManagerPage struct {
	Letterhead
	Path       string // of the invitation
	Client     string
	OwnerName  string // may be empty
	OwnerEmail string // the address on record; shown masked, because links are forwarded
	Username   string // the address of the user to add
	ExpiresAt  time.Time
	Step       ManagerStep
	Renamed    bool // the owner has just said that another address is taken: this one is in its place
	SaidNo     bool // the last word from this link was no
}

// ManagerStep is how far the owner of a client on the route manager is.
type ManagerStep string

// The steps.
const (
	ManagerAsked   ManagerStep = ""        // nobody has said that the user is added
	ManagerClaimed ManagerStep = "claimed" // somebody has
	ManagerMissed  ManagerStep = "missed"  // and the provider's mail has not come since
	ManagerLimit   ManagerStep = "limit"   // the plan allows no further user, as somebody says
	ManagerRefused ManagerStep = "refused" // one address after the other is taken, as somebody says
	ManagerDone    ManagerStep = "done"    // the user is there, or the account connected
)

// Title says what it is about.
func (p ManagerPage) Title() string {
	switch p.Step {
	case ManagerClaimed, ManagerDone:
		return "Thank you"
	case ManagerLimit, ManagerRefused:
		return "Thank you for telling us"
	case ManagerAsked, ManagerMissed:
	}
	return "Add a user to " + p.Client
}

// NothingPage tells an owner that nothing is asked of them any more.
type NothingPage struct {
	Letterhead
	Client string
}

// Title says so.
func (NothingPage) Title() string { return "There is nothing left to do" }

// Manager is how far the Account Manager of a client is.
type Manager struct {
	ClaimedAt    time.Time // zero if the owner has not said that the user is added
	ActivationAt time.Time // zero if the provider's mail has not come
	From         string    // of that mail
	Link         string    // of that mail, for whoever may act
	ActiveAt     time.Time // zero if the user cannot sign in yet, as far as is known
}

// Ready reports whether the client can be taken in a run.
func (m Manager) Ready() bool { return !m.ActivationAt.IsZero() || !m.ActiveAt.IsZero() }

// Activates reports whether an operator has to activate the user first.
func (m Manager) Activates() bool { return m.ActiveAt.IsZero() && !m.ActivationAt.IsZero() }

// RunPage takes an operator through the clients that are ready, one after the other. It posts to /admin/run/start,
// /admin/run/end and, with client, to /admin/run/continue, /admin/run/active and /admin/run/skip, the last with why.
type RunPage struct {
	Console
	Provider string
	Open     bool // the operator has a run
	Done     int  // clients authorized in it
	Skipped  int
	Waiting  int // clients that are ready and in nobody's turn, at most Most
	Most     int
	Client   *Client // whose turn it is; nil if nobody is ready
	Manager  Manager
	Password string  // where the agency's password manager has the user's password; may be empty
	Ended    Outcome // how the last walk of this client ended; empty if there was none
	Found    string  // the organization that it was, if it came so far
	Finished string  // the client that was connected just before
	Problem  string  // why a button could not do it
	Code     int     // status, if not 200
}

// Title names the page.
func (RunPage) Title() string { return "Run" }

// Status is 200, or that of the problem.
func (p RunPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// More reports that there are more than Waiting.
func (p RunPage) More() bool { return p.Most > 0 && p.Waiting >= p.Most }

// Connected reports that the client whose turn it is needs nothing any more.
func (p RunPage) Connected() bool { return p.Client != nil && p.Client.Stage == stageAuthorized }

// Left is how many there still are, with the one whose turn it is.
func (p RunPage) Left() int {
	if p.Client == nil {
		return p.Waiting
	}
	return p.Waiting + 1
}

// Width is how much of the run is done, in percent.
func (p RunPage) Width() float64 { return percent(p.Done, p.Done+p.Left()) }

// Reasons are the usual ones to pass a client over.
func (RunPage) Reasons() []string {
	return []string{
		"The second factor is not at hand", "The password is not known", "The user cannot sign in", "It is another account", "Later",
	}
}

// Partner is when the partner's token was tried on the account of a client.
type Partner struct {
	SetUp     bool      // there is a partner's token
	CheckedAt time.Time // zero if the provider has not answered yet
	NextAt    time.Time // zero if it is tried as soon as can be
}
