package templates

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MailPage is how outgoing mail stands, /admin/mail. It renews itself. Its forms post to addresses below that:
//
//	pause     why; resume without
//	referrals/{id}/accept, referrals/{id}/dismiss
type MailPage struct {
	Console
	Done     string // what the button that led here has done, in a sentence
	NoServer bool   // no mail server is set
	Paused   *MailPause
	Pace     MailPace

	Queued, Sending, Deferred, Unknown     int // mails that have not come to an end
	SentToday, FailedToday, CancelledToday int // since midnight UTC

	Deferrals []MailTrouble // why mails wait
	Failures  []MailTrouble // why mails were given up
	Refusals  []MailRefusal // by domain
	Unread    int           // of what came back
	Deaf      bool          // what comes back is not heard
	Reasons   map[Reason]int
	Referrals []OpenReferral
	More      bool // whether there are more Referrals
}

// Title names the page.
func (MailPage) Title() string { return "Mail" }

// MailPause says who stopped all mail.
type MailPause struct {
	At      time.Time
	By      string
	Why     string // may be empty
	Breaker bool   // nobody did: too many addresses bounced
}

// MailPace is how fast mail may go.
type MailPace struct {
	Rate, DomainRate float64 // mails a second; zero for no limit
	Quota, Spent     int     // of this day; no Quota for no limit
}

// Words lists the limits.
func (p MailPace) Words() string {
	var limits []string
	number := func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
	if p.Rate > 0 {
		limits = append(limits, "at most "+number(p.Rate)+" a second")
	}
	if p.DomainRate > 0 {
		limits = append(limits, "at most "+number(p.DomainRate)+" a second to one domain")
	}
	if p.Quota > 0 {
		limits = append(limits, fmt.Sprintf("%s of %s today, twice as many tomorrow", count(p.Spent), count(p.Quota)))
	}
	if len(limits) == 0 {
		return "as fast as the mail server takes it"
	}
	return strings.Join(limits, " · ")
}

// Waiting is how many mails have not come to an end.
func (p MailPage) Waiting() int { return p.Queued + p.Sending + p.Deferred + p.Unknown }

// Full reports whether no more mails may go today, and some would.
func (p MailPage) Full() bool {
	return p.Pace.Quota > 0 && p.Pace.Spent >= p.Pace.Quota && p.Waiting() > 0
}

// Going reports whether nothing holds mail back.
func (p MailPage) Going() bool { return !p.NoServer && p.Paused == nil && !p.Full() }

// Standing says how outgoing mail stands.
func (p MailPage) Standing() string {
	switch {
	case p.Paused != nil:
		return "Mail is paused"
	case p.NoServer:
		return "Mails wait for a mail server"
	case p.Full():
		return "Mail goes on tomorrow"
	}
	return "Mail goes out"
}

// Quiet reports whether nothing in the list of what waits for the operator has to be done.
func (p MailPage) Quiet() bool {
	return len(p.Refusals)+len(p.Failures)+len(p.Referrals)+p.Unread+p.Bounced() == 0
}

// Bounced is how many clients stand still for their addresses.
func (p MailPage) Bounced() int { return p.Reasons[reasonBounced] }

// OptedOut lists why clients are mailed no more by their owners' wish, and how many there are.
func (p MailPage) OptedOut() []Stall {
	var list []Stall
	for _, reason := range []Reason{reasonDeclined, reasonUnsubscribed} {
		if n := p.Reasons[reason]; n > 0 {
			list = append(list, Stall{Stage: stageStalled, Reason: reason, N: n})
		}
	}
	return list
}

// Refused is how many mails were refused for our sake.
func (p MailPage) Refused() int {
	n := 0
	for _, r := range p.Refusals {
		n += r.N
	}
	return n
}

// MailTrouble is what keeps mails from their owners, for one cause.
type MailTrouble struct {
	Words   string
	Cure    string
	N       int
	Said    string       // of one of them, by a mail server
	Clients []ClientName // some of those that they are for
}

// Others is how many mails there are beside those to Clients.
func (t MailTrouble) Others() int { return t.N - len(t.Clients) }

// ClientName is a client to be linked to.
type ClientName struct{ ID, Name string }

// MailRefusal is what a domain refused for our sake.
type MailRefusal struct {
	Domain string
	N      int
	Last   time.Time
	Said   string
}

// OpenReferral is whom a client's owner names.
type OpenReferral struct {
	Referral

	Client ClientName
}

// MailReportsPage lists what came back and has to be read by a person, newest first, /admin/mail/reports.
type MailReportsPage struct {
	Console
	Deaf      bool // what comes back is not heard
	Reports   []MailReport
	Continued bool   // whether this is a later page than the first
	Next      string // URL of the next page, empty on the last
}

// Title names the page.
func (MailReportsPage) Title() string { return "Came back, to be read" }

// MailReport is a mail that came back.
type MailReport struct {
	ID        string
	At        time.Time
	Kind      ReturnKind
	Words     string // what is known of it
	Subject   string
	Recipient string     // of our mail, if known
	Client    ClientName // that our mail was about, if known
}

// Name is its subject, or says that it has none.
func (r MailReport) Name() string {
	if r.Subject == "" {
		return "(no subject)"
	}
	return r.Subject
}

// MailReportPage is one of them, /admin/mail/reports/{id}. It posts to aside below that.
type MailReportPage struct {
	Console
	MailReport
	Text   string    // as plain text
	ReadBy string    // who put it aside
	ReadAt time.Time // zero if nobody has
}

// Title names the mail.
func (p MailReportPage) Title() string { return p.Name() }
