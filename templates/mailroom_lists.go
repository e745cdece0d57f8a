package templates

import "time"

// MailQueuePage lists mails, /admin/mail/queue?show=. Its forms post to addresses below /admin/mail/queue:
//
//	hurry
//	again     client, one or several
type MailQueuePage struct {
	Console
	Done  string // what the button that led here has done, in a sentence
	Show  string // "waiting", "delayed" or "failed"
	Mails []QueuedMail

	Next      string // URL of the next page, empty on the last
	Continued bool   // whether this is a later page than the first
}

// Title names the page.
func (MailQueuePage) Title() string { return "Queue" }

// QueuedMail is a mail that waits, or was given up.
type QueuedMail struct {
	Client   ClientName // empty for a digest
	To       string     // an address
	What     string     // the mail is, such as "Reminder 2"
	State    string     // by the word that the rest of the program uses
	At       time.Time  // when it is due, or was given up
	Attempts int
	Words    string // why it is not sent; empty if only its turn has not come
	Cure     string
	Said     string // by a mail server
	Address  bool   // the address is the trouble
	Over     bool   // nothing has to be done any more
}

// Standing says how it stands in a few words.
func (m QueuedMail) Standing() string {
	switch m.State {
	case "sending":
		return "Being sent"
	case "deferred":
		return "Put off"
	case "unknown":
		return "Perhaps sent"
	case "failed":
		return "Given up"
	}
	return "Waits for its turn"
}

// Again lists the clients of the page who can be invited again at one press.
func (p MailQueuePage) Again() []string {
	var clients []string
	for _, m := range p.Mails {
		if m.State == "failed" && !m.Over && !m.Address && m.Client.ID != "" {
			clients = append(clients, m.Client.ID)
		}
	}
	return clients
}

// SuppressedPage lists who is mailed no more, /admin/mail/suppressed. Its forms post to {id}/let-in below that.
type SuppressedPage struct {
	Console
	Done    string // what the button that led here has done, in a sentence
	Clients []SuppressedClient

	Next      string // URL of the next page, empty on the last
	Continued bool   // whether this is a later page than the first
}

// Title names the page.
func (SuppressedPage) Title() string { return "Who gets no mail" }

// SuppressedClient is a client that is mailed no more.
type SuppressedClient struct {
	Client  ClientName
	Ref     string
	Email   string
	At      time.Time
	Why     string // what happened, in words
	Said    string // more about it; may be empty
	Bounced bool   // the address takes no mail; else the owner wants none
}
