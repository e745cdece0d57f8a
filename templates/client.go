package templates

import (
	"cmp"
	"net/http"
	"strconv"
	"time"
)

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
	OptedOut     string // declined or unsubscribed; empty if the owner takes mails
	OptedOutAt   time.Time
}

// Cure says what the operator can do for the client now, beside what a button of its page says.
func (c Client) Cure() string {
	switch {
	case c.Reason != "":
		return c.Reason.Cure()
	case c.Stage == stageImported, c.Route == "manager", c.Route == "partner":
		return ""
	}
	return c.Stage.Cure()
}

// Meaning says what is true of the client in its stage, on its route.
func (c Client) Meaning() string {
	switch {
	case c.Reason != "":
		return c.Reason.Meaning()
	case c.Route == "manager" && c.Stage == stageInvited:
		return "The owner was asked to add a user for you, and has not said that it is done."
	case c.Route == "manager" && c.Stage == stageStarted:
		return "The user for you is on its way or there: an operator has to consent as that user."
	case c.Route == "partner" && c.Stage == stageImported:
		return "In the roster. The partner’s token is tried on its account by itself, soon."
	case c.Route == "partner" && c.Stage == stageAuthorized:
		return "The partner’s token opens the account. Nobody has to consent."
	case c.Route == "partner" && c.Stage == stageLapsed:
		return "Was authorized, but the partner’s token does not open the account any more."
	case c.Route == "manager" && c.Stage == stageLapsed:
		return "Was authorized, but the provider says that the grant is gone: an operator has to consent again."
	}
	return c.Stage.Meaning()
}

// Unmailed says why the owner cannot be invited by mail, whatever anybody presses; nothing if they can.
func (c Client) Unmailed() string {
	switch {
	case c.Stage == stageAuthorized:
		return "Nobody is mailed, as the client is authorized."
	case c.Route != "owner" && c.Route != "manager":
		return "Nobody is mailed, as nothing is asked of the owner on this route."
	case c.Paused:
		return "Nobody is mailed while the client is paused."
	}
	return ""
}

// Mailable reports whether the owner can be invited by mail.
func (c Client) Mailable() bool { return c.Unmailed() == "" }

// Field is a name with a value.
type Field struct{ Name, Value string }

// ClientPage is one client with its history, /admin/clients/{id}. Its forms post to addresses below that:
//
//	invite             a mail to the owner, whatever they said before
//	opt-in             lifts what they said
//	owner              name, email: who the owner is to be
//	referral/accept    id: whom the owner names; referral/dismiss likewise
//	reminder/plan      at, in the Zone of the Reminders; reminder/skip and reminder/send without
//	pause, resume      the switch beside the stage
//	username           taken
//	active             the Account Manager can sign in
//	check              asks whether the partner's token opens the account
type ClientPage struct {
	Console
	Provider    string // display name
	Client      Client
	Done        string // what the button that led here has done, in a sentence
	Problem     string // why it could not do it, unless a form says it
	Code        int    // status, if not 200
	CanRename   bool   // another username can be given
	Bounce      string // what the mail server said of the address, if the client is stalled for that
	Owner       OwnerForm
	Referral    *Referral  // nil if the owner names nobody
	Reminders   *Reminders // nil where there is nothing to remind of
	Grant       *Grant     // nil if there is none
	Manager     *Manager   // nil unless the client waits on the route manager
	Partner     *Partner   // nil unless the client is on the route partner
	Quarantined []Held     // of other accounts than the expected one
	Mails       []Mail     // newest first
	Held        string     // why mails that are on their way do not go out, empty if they do
	Events      []Event    // newest first
	Older       string     // URL of the page with older ones, empty if there are none
	Later       bool       // whether newer ones are left out
	MayAct      bool       // whether the reader may change anything
}

// Title names the client.
func (p ClientPage) Title() string { return p.Client.Name }

// Status is 200, or that of the problem.
func (p ClientPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// Bounced reports whether the address has to be corrected before anything else.
func (p ClientPage) Bounced() bool { return p.Client.Reason == reasonBounced }

// OnItsWay reports whether a mail to the owner has not come to an end.
func (p ClientPage) OnItsWay() bool {
	for _, m := range p.Mails {
		if m.onItsWay() {
			return true
		}
	}
	return false
}

// Next is the mail that brings the client on, as the words on a button. It is empty where something else does,
// or the owner has to.
func (p ClientPage) Next() string {
	switch {
	case !p.invitable():
		return ""
	case p.Client.Stage == stageImported:
		return "Send the invitation"
	case p.Client.Stage == stageLapsed, p.Client.Reason == reasonExpired:
		return "Send a fresh link"
	}
	return ""
}

// Again reports whether the owner can be sent another invitation, though that is not what the client waits for.
func (p ClientPage) Again() bool {
	return p.invitable() && p.Next() == "" && !p.Bounced() && p.Client.Reason != reasonConflict
}

func (p ClientPage) invitable() bool {
	return p.Client.Mailable() && p.Client.OptedOut == "" && !p.OnItsWay()
}

// OwnerForm is who the owner is to be.
type OwnerForm struct {
	Name       string
	Email      string
	NameError  string // what is wrong with a field, empty if nothing is
	EmailError string
}

// Wrong reports whether something is.
func (f OwnerForm) Wrong() bool { return f.NameError != "" || f.EmailError != "" }

// Referral is whom the owner names as the right person.
type Referral struct {
	ID    string
	Name  string // may be empty
	Email string
	Note  string // may be empty
	At    time.Time
}

// Who is the name, or the address without one.
func (r Referral) Who() string { return cmp.Or(r.Name, r.Email) }

// Reminders is where the owner is in the row of reminders.
type Reminders struct {
	Number    int       // used up, sent or skipped
	Of        int       // at most; zero if they are switched off
	NextAt    time.Time // when the next one goes out, zero if none is planned
	PlannedBy string    // who chose that, empty if nobody did
	Why       string    // why none is planned, in a sentence
	Open      bool      // whether the next one can be planned or sent now
	Zone      *time.Location
	At        string // as typed, if Problem is about it
	Problem   string // why a wish could not be fulfilled
}

// Next is the number of the next one.
func (r Reminders) Next() int { return r.Number + 1 }

// There is when the next one goes out, as the owner's clock shows it.
func (r Reminders) There() string { return r.NextAt.In(r.zone()).Format("Mon 2 Jan, 15:04") }

// ZoneName names the Zone.
func (r Reminders) ZoneName() string { return r.zone().String() }

// Field is what the field for another time begins with.
func (r Reminders) Field() string {
	if r.At != "" || r.NextAt.IsZero() {
		return r.At
	}
	return r.NextAt.In(r.zone()).Format("2006-01-02T15:04")
}

func (r Reminders) zone() *time.Location { return cmp.Or(r.Zone, time.UTC) }

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
	ID        string // empty if it cannot be shown
	Kind      string // such as "invitation"
	Number    int    // of a reminder
	State     string // queued, sending, deferred, unknown, sent, failed or cancelled
	To        string
	QueuedAt  time.Time
	TriedAt   time.Time // zero before the first attempt
	SentAt    time.Time // zero until accepted
	Attempts  int
	Unknown   int // attempts whose end stayed unknown: the owner may have more than one copy
	LastError string
	Returns   []Return // what came back for it, newest first
}

func (m Mail) onItsWay() bool {
	switch m.State {
	case "queued", "sending", "deferred", "unknown":
		return m.Kind != "thanks"
	}
	return false
}

// Label names the mail.
func (m Mail) Label() string {
	name := label(m.Kind)
	switch m.Kind {
	case "reconnect":
		name = "Request to connect again"
	case "thanks":
		name = "Thank-you"
	}
	if m.Number > 0 {
		name += " " + strconv.Itoa(m.Number)
	}
	return name
}

// Fate is the State, or returned if it was sent and came back.
func (m Mail) Fate() string {
	for _, r := range m.Returns {
		if r.Kind.undelivered() {
			return "returned"
		}
	}
	return m.State
}

// Words says what Fate means.
func (m Mail) Words() string {
	switch fate := m.Fate(); fate {
	case "queued":
		return "Waits to be sent"
	case "sending":
		return "Is being sent"
	case "deferred":
		return "Put off, will be tried again"
	case "unknown":
		return "Perhaps sent, will be sent again"
	case "sent":
		return "Sent"
	case "failed":
		return "Not sent"
	case "returned":
		return "Came back"
	default:
		return label(fate)
	}
}

// Return is something that came back for a mail.
type Return struct {
	ID       string // of the report, if it is Readable
	Kind     ReturnKind
	At       time.Time
	Words    string // what was said; may be empty
	Readable bool   // whether it is kept for reading
}
