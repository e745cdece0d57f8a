package templates

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Stage is how far a client is, by the word that the rest of the program uses. A stage that this
// package has no words for is shown as it is.
type Stage string

const (
	stageImported   Stage = "imported"
	stageInvited    Stage = "invited"
	stageStarted    Stage = "started"
	stageAuthorized Stage = "authorized"
	stageLapsed     Stage = "lapsed"
	stageStalled    Stage = "stalled"
)

func stages() []Stage {
	return []Stage{stageImported, stageInvited, stageStarted, stageAuthorized, stageLapsed, stageStalled}
}

// Label is the stage as a heading.
func (s Stage) Label() string { return label(string(s)) }

// Meaning says what is true of a client in this stage.
func (s Stage) Meaning() string {
	switch s {
	case stageImported:
		return "In the roster, not invited yet."
	case stageInvited:
		return "The invitation was sent; the owner has not pressed Continue yet."
	case stageStarted:
		return "The owner pressed Continue and has not finished the consent."
	case stageAuthorized:
		return "The right account consented; its grant is stored and kept alive."
	case stageLapsed:
		return "Was authorized, but the provider says that the grant is gone."
	case stageStalled:
		return "Stands still until somebody helps."
	}
	return ""
}

// Cure says what the operator can do about it, nothing if the next move is the owner's.
func (s Stage) Cure() string {
	switch s {
	case stageImported:
		return "Send the invitation."
	case stageLapsed:
		return "The owner has to consent again: send a fresh link."
	case stageInvited, stageStarted, stageAuthorized, stageStalled:
		return ""
	}
	return ""
}

// Reason is why a stalled client stands still, by the word that the rest of the program uses.
type Reason string

const (
	reasonBounced      Reason = "bounced"
	reasonDeclined     Reason = "declined"
	reasonWrongAccount Reason = "wrong_account"
	reasonMissingScope Reason = "missing_scope"
	reasonUnsubscribed Reason = "unsubscribed"
	reasonExpired      Reason = "expired"
	reasonConflict     Reason = "conflict"

	reasonNoActivation  Reason = "no_activation"
	reasonUsernameTaken Reason = "username_taken"
	reasonUserLimit     Reason = "user_limit"
	reasonUnmanaged     Reason = "unmanaged"
	reasonNoAccount     Reason = "no_account"
)

func reasons() []Reason {
	return []Reason{
		reasonWrongAccount, reasonConflict, reasonBounced, reasonDeclined,
		reasonMissingScope, reasonNoActivation, reasonUsernameTaken, reasonUserLimit, reasonUnmanaged, reasonNoAccount,
		reasonExpired, reasonUnsubscribed,
	}
}

// Label is the reason as a heading.
func (r Reason) Label() string { return label(string(r)) }

// Meaning says what happened.
func (r Reason) Meaning() string {
	switch r {
	case reasonBounced:
		return "The owner’s address takes no mail."
	case reasonDeclined:
		return "The owner said no, on our page or on the provider’s."
	case reasonWrongAccount:
		return "The owner signed in to another account than the expected one."
	case reasonMissingScope:
		return "The owner consented, but a permission that the app needs was left out."
	case reasonUnsubscribed:
		return "The owner wants no more mail about this."
	case reasonExpired:
		return "The link’s time ran out before the owner consented."
	case reasonConflict:
		return "The account that consented is connected for another client already."
	case reasonNoActivation:
		return "The owner says that the user is added, but the provider’s activation mail did not come within two days."
	case reasonUsernameTaken:
		return "The owner says that the provider refused one username after the other."
	case reasonUserLimit:
		return "The account’s plan allows no further user, as the owner says."
	case reasonUnmanaged:
		return "The partner’s token does not open the account: it is none that you manage."
	case reasonNoAccount:
		return "The partner’s token needs the account id, and the roster does not have it."
	}
	return ""
}

// Cure says what the operator can do about it.
func (r Reason) Cure() string {
	switch r {
	case reasonBounced:
		return "Correct the owner’s address on the client’s page: it is mailed again at once."
	case reasonDeclined:
		return "Talk to the owner. The link keeps working, so a change of mind needs no new mail."
	case reasonWrongAccount:
		return "Compare the expected and the found account, and decide on the grant in quarantine; or ask the owner to try again with the right account."
	case reasonMissingScope:
		return "Ask the owner to open the link again, signed in as owner or manager, and to allow everything."
	case reasonUnsubscribed:
		return "Call or write in person; the link keeps working. Invite again only if the owner agrees."
	case reasonExpired:
		return "Call first, then invite again: a fresh link replaces the old one."
	case reasonConflict:
		return "Move the grant in quarantine to the client whose account it is, and ask this owner to sign in to their own."
	case reasonNoActivation:
		return "Remind the owner: most often a letter of the address differs. If the mail did come, say on the client’s page that the user is active."
	case reasonUsernameTaken:
		return "Ask the owner what the provider says. If the user is there after all, say so on the client’s page; or change the route to owner."
	case reasonUserLimit:
		return "Change the client’s route to owner: the owner then consents by the same link. Or agree on another plan with them."
	case reasonUnmanaged:
		return "Have the owner approve your request for access at the provider; the account is asked for again every day. Or change the route."
	case reasonNoAccount:
		return "Fill it in from the provider’s list, under Reconcile, or change the route."
	}
	return ""
}

// Quarantined reports whether it leaves a grant in quarantine.
func (r Reason) Quarantined() bool { return r == reasonWrongAccount || r == reasonConflict }

// ReturnKind is what came back for a mail, by the word that the rest of the program uses.
type ReturnKind string

// undelivered tells what says that the mail did not arrive, and will not.
func (k ReturnKind) undelivered() bool {
	return k == "hard" || k == "soft" || k == "policy"
}

// Label is the kind as a heading.
func (k ReturnKind) Label() string {
	switch k {
	case "hard":
		return "Bounced"
	case "soft":
		return "Given up for now"
	case "policy":
		return "Refused, and not for its address"
	case "delayed":
		return "Delayed"
	case "delivered":
		return "Arrived"
	case "auto_reply":
		return "Answered by itself"
	case "challenge":
		return "Asks whether a person wrote it"
	case "complaint":
		return "Marked as spam"
	case "reply":
		return "Somebody answered"
	case "unsubscribe":
		return "Unsubscribed"
	case "unparsed":
		return "Not understood"
	}
	return label(string(k))
}

// label turns a word of the program into a heading: "wrong_account" becomes "Wrong account".
func label(word string) string {
	first, size := utf8.DecodeRuneInString(word)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + strings.ReplaceAll(word[size:], "_", " ")
}

// mask hides most of an address: its owner recognises it, a stranger cannot write to it.
func mask(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 {
		return ""
	}
	first, _ := utf8.DecodeRuneInString(address)
	return string(first) + "•••" + address[at:]
}

// initial is the letter that stands for a name.
func initial(name string) string {
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return string(unicode.ToUpper(r))
		}
	}
	return ""
}

// lastDay is the day until which a link can be promised to work. It is the date twelve hours
// behind UTC: nobody on earth has a later day on the calendar when the link's time runs out.
func lastDay(expires time.Time) time.Time {
	return expires.In(time.FixedZone("", -12*60*60))
}
