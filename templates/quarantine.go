package templates

import (
	"cmp"
	"net/http"
	"time"
)

// QuarantinePage lists the grants of unexpected accounts, the longest there first, /admin/quarantine, or shows one of
// them, below that by its id. The forms of each Held post to addresses below its own:
//
//	accept, discard
//	move     client: whose account it is
type QuarantinePage struct {
	Console
	Done      string // what the button that led here has done, in a sentence
	Problem   string // why it could not do it
	Code      int    // status, if not 200
	Held      []Held
	Choices   []Choice // clients that Typed may mean
	Typed     string   // by which a client was looked for
	One       bool     // whether this is about one of them alone
	Continued bool     // whether this is a later page than the first
	Next      string   // URL of the next page, empty on the last
}

// Title names the page.
func (QuarantinePage) Title() string { return "Quarantine" }

// Status is 200, or that of the problem.
func (p QuarantinePage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// Held is a grant in quarantine: what was found, beside what was expected.
type Held struct {
	ID         string
	Client     ClientName // whose link led to it
	Ref        string     // of the Client; may be empty
	OwnerEmail string
	Expected   string // account id; empty if the roster has none
	Reason     Reason
	Evidence   string // in words
	Belongs    Choice // the client that the account belongs to; zero if there is none
	At         time.Time

	Organization string
	AccountID    string
	ContactEmail string
	Subject      string // the user who consented, if the provider said
	PartnerID    string // who provisioned the account; empty if it is nobody

	OnClient bool // whether it stands on its client's page, to which its buttons lead back
}

// Heading says what happened.
func (h Held) Heading() string {
	if h.Belongs != (Choice{}) {
		return "The account of another client consented"
	}
	return "Another account consented"
}

// Choice is a client that something may be meant for.
type Choice struct {
	ClientName

	Ref string // may be empty
}
