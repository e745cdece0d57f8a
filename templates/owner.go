package templates

import (
	"net/http"
	"time"
)

// InvitationPage is what an owner sees behind the link: who asks, for which account, what for.
// It posts to Path/begin, Path/decline and Path/not-me, and leads to the ReferPage at Path/refer.
type InvitationPage struct {
	Letterhead
	Path        string // of this invitation, such as "/i/4kX…"
	Client      string
	OwnerName   string // may be empty
	OwnerEmail  string // the address on record; shown masked, because links are forwarded
	Scopes      []string
	ExpiresAt   time.Time
	ConnectedAt time.Time // zero unless the account is connected already
	SaidNo      bool      // the last word from this link was no
	LastOutcome Outcome   // of the latest attempt, empty if there was none or SaidNo
	Found       string    // organization that the latest attempt signed in to, if it was the wrong one
}

// Title names the account.
func (p InvitationPage) Title() string {
	if p.Connected() {
		return p.Client + " is connected"
	}
	return "Connect " + p.Client
}

// Connected reports whether there is nothing left to do.
func (p InvitationPage) Connected() bool { return !p.ConnectedAt.IsZero() }

// Permissions lists in words what the owner is asked for and what stays out of reach.
func (p InvitationPage) Permissions() Permissions { return permissions(p.Scopes, p.Provider) }

// LinkPage answers a link that is expired, replaced or unknown. It is the same for all three, so
// that nobody learns which links exist. It posts to Path/renew.
type LinkPage struct {
	Letterhead
	Path string
}

// Title says what is wrong.
func (LinkPage) Title() string { return "This link does not work" }

// Status is 404, for an expired link too.
func (LinkPage) Status() int { return http.StatusNotFound }

// RenewedPage answers the button of a LinkPage, whether or not a mail was sent.
type RenewedPage struct{ Letterhead }

// Title says what to do.
func (RenewedPage) Title() string { return "Look into your mailbox" }

// UnsubscribePage asks for the press of a button before reminders stop. It posts to
// Path/unsubscribe.
type UnsubscribePage struct {
	Letterhead
	Path   string
	Client string // empty if the link is not known
}

// Title asks the question.
func (UnsubscribePage) Title() string { return "Stop reminders?" }

// ReferPage asks who should have the invitation instead. It posts name, email and note to Path/refer.
type ReferPage struct {
	Letterhead
	Path   string
	Client string
	// What was typed, and what is wrong with it.
	Name, Email, Note                string
	NameError, EmailError, NoteError string
}

// Title asks the question.
func (ReferPage) Title() string { return "Who should do this?" }

// Status is 422 if something that was typed is wrong.
func (p ReferPage) Status() int {
	if p.NameError != "" || p.EmailError != "" || p.NoteError != "" {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

// Answer is what an owner told us on our own pages.
type Answer string

// The answers.
const (
	AnswerDeclined     Answer = "declined"     // they do not want this
	AnswerNotMe        Answer = "not_me"       // it is not for them
	AnswerReferred     Answer = "referred"     // somebody else should do it
	AnswerUnsubscribed Answer = "unsubscribed" // they want no reminders
	AnswerUndone       Answer = "undone"       // they pressed by mistake
)

// AnswerPage says what an answer has done, and that there is a way back. It posts Undo, as at, to Path/undo.
type AnswerPage struct {
	Letterhead
	Answer Answer
	Path   string // of the invitation
	Client string
	Named  string // address of whom they named, for AnswerReferred
	Undo   string // names what the answer did; empty if it cannot be undone here
}

// Title says what it comes to.
func (p AnswerPage) Title() string {
	switch p.Answer {
	case AnswerDeclined, AnswerNotMe:
		return "Thank you for telling us"
	case AnswerReferred:
		return "Thank you, that helps"
	case AnswerUnsubscribed:
		return "No more reminders"
	case AnswerUndone:
		return "All is as before"
	}
	return "Thank you"
}

// Outcome is how an owner's walk ended.
type Outcome string

// The outcomes. Those that leave the invitation valid offer another attempt.
const (
	OutcomeNone         Outcome = ""              // the browser is not known: nothing about anybody
	OutcomeConnected    Outcome = "connected"     // a verified grant is stored
	OutcomeDenied       Outcome = "denied"        // refused on the provider's consent page
	OutcomeWrongAccount Outcome = "wrong_account" // another account than the expected one consented
	OutcomeMissingScope Outcome = "missing_scope" // fewer permissions than asked for
	OutcomeConflict     Outcome = "conflict"      // the account is connected for another client
	OutcomeUnavailable  Outcome = "unavailable"   // the provider did not answer
	OutcomeOtherBrowser Outcome = "other_browser" // came back without the cookie of this walk
	OutcomeNoCookies    Outcome = "no_cookies"    // the same, because this browser keeps none
	OutcomeStale        Outcome = "stale"         // state absent, unknown, expired or used
	OutcomeFailed       Outcome = "failed"        // the provider refused for another reason
	OutcomeUnfinished   Outcome = "unfinished"    // began and never came back; only as a LastOutcome
	OutcomeThrottled    Outcome = "throttled"     // too many attempts
)

// ResultPage tells an owner at a clean URL how it went and what to do next.
type ResultPage struct {
	Letterhead
	Outcome Outcome
	Client  string   // empty unless this browser is known to have walked for the client
	Found   string   // organization that was signed in to, for OutcomeWrongAccount and OutcomeConflict
	Scopes  []string // what the app may do now, or for OutcomeMissingScope what it lacks
	Path    string   // of the invitation, if this browser may try again (posts to Path/begin)
	Back    string   // address of the page whose button was pressed, for OutcomeThrottled
}

// Permissions lists Scopes in words.
func (p ResultPage) Permissions() Permissions { return permissions(p.Scopes, p.Provider) }

// Retry reports whether the page offers to start again at once.
func (p ResultPage) Retry() bool {
	switch p.Outcome {
	case OutcomeDenied, OutcomeWrongAccount, OutcomeMissingScope, OutcomeConflict, OutcomeUnavailable,
		OutcomeOtherBrowser, OutcomeNoCookies, OutcomeStale, OutcomeFailed, OutcomeUnfinished:
		return p.Path != ""
	case OutcomeNone, OutcomeConnected, OutcomeThrottled:
		return false
	}
	return false
}

// Title says how it went.
func (p ResultPage) Title() string {
	switch p.Outcome {
	case OutcomeConnected:
		return "Connected, thank you"
	case OutcomeDenied, OutcomeUnfinished:
		return "Nothing was connected"
	case OutcomeWrongAccount:
		return "That was another account"
	case OutcomeMissingScope:
		return "A permission is missing"
	case OutcomeConflict:
		return "This account is connected already"
	case OutcomeUnavailable:
		return p.Provider + " does not answer right now"
	case OutcomeOtherBrowser:
		return "Please start again here"
	case OutcomeNoCookies:
		return "Please use another browser"
	case OutcomeStale:
		return "Please start again"
	case OutcomeFailed:
		return "That did not work"
	case OutcomeThrottled:
		return "Please wait ten seconds"
	case OutcomeNone:
		return "You may close this page"
	}
	return "You may close this page"
}

// Status is 200 for every ending that a walk can have, and 429 for being stopped.
func (p ResultPage) Status() int {
	if p.Outcome == OutcomeThrottled {
		return http.StatusTooManyRequests
	}
	return http.StatusOK
}
