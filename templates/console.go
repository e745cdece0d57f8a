package templates

import (
	"net/url"
	"strings"
	"time"
)

// ProgressPage is the console's first page, /admin. Its fragment, which Set.Fragment renders for
// GET /admin/progress, replaces itself every three seconds.
type ProgressPage struct {
	Console
	Progress
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

// Client is one client as the console shows it.
type Client struct {
	ID           string
	Ref          string
	Name         string
	OwnerName    string
	OwnerEmail   string
	AccountID    string // the provider's id, if known
	Username     string
	Route        string
	Stage        Stage
	Reason       Reason
	Paused       bool
	SiteURL      string
	Locale       string
	TimeZone     string
	Tags         []string
	Extra        []Field // columns of the roster that we do not know
	CreatedAt    time.Time
	ChangedAt    time.Time // latest change of the stage
	InvitedAt    time.Time // zero if it has not happened, like those below
	StartedAt    time.Time
	AuthorizedAt time.Time
	ProvenAt     time.Time
}

// Cure says what the operator can do for the client now.
func (c Client) Cure() string {
	if c.Reason != "" {
		return c.Reason.Cure()
	}
	return c.Stage.Cure()
}

// Command is what the operator can type to invite the client, where that is part of the cure and
// the roster gave the client a ref to name it by.
func (c Client) Command() string {
	if c.Ref == "" {
		return ""
	}
	switch {
	case c.Stage == stageImported, c.Stage == stageLapsed,
		c.Reason == reasonBounced, c.Reason == reasonExpired, c.Reason == reasonUnsubscribed:
		return "countersign invite --client '" + strings.ReplaceAll(c.Ref, "'", `'\''`) + "'"
	}
	return ""
}

// Field is a name with a value.
type Field struct{ Name, Value string }

// ClientPage is one client with its history, /admin/clients/{id}.
type ClientPage struct {
	Console
	Provider    string // display name
	Client      Client
	CanRename   bool    // another username can be given
	Grant       *Grant  // nil if there is none
	Quarantined []Grant // of other accounts than the expected one
	Mails       []Mail  // newest first
	Events      []Event // newest first
	MoreEvents  bool    // whether older ones were left out
}

// Title names the client.
func (p ClientPage) Title() string { return p.Client.Name }

// Grant is what may be shown of a grant: never a token.
type Grant struct {
	Organization string
	AccountID    string
	ContactEmail string
	Subject      string // the user who consented, if the provider said
	Scopes       []string
	GrantedAt    time.Time
	RenewedAt    time.Time // latest refresh that worked, zero if none yet
}

// Mail is one message to the owner.
type Mail struct {
	Kind      string // such as "invitation"
	State     string // queued, sending, deferred, sent, failed or cancelled
	To        string
	QueuedAt  time.Time
	TriedAt   time.Time // zero before the first attempt
	SentAt    time.Time // zero until accepted
	Attempts  int
	Unknown   int // attempts whose end stayed unknown: the owner may have more than one copy
	LastError string
}

// Words says what State means.
func (m Mail) Words() string {
	switch m.State {
	case "queued":
		return "Waits to be sent"
	case "sending":
		return "Is being sent"
	case "deferred":
		return "Will be tried again"
	case "sent":
		return "Accepted by the owner’s mail server"
	case "failed":
		return "Refused for good"
	case "cancelled":
		return "Cancelled"
	}
	return label(m.State)
}

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
