package web

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// whatHappened says an event in words. A kind that it does not know, written by a later version of
// the program, is shown as it is.
func whatHappened(e provisioning.Event) string {
	switch e.Kind {
	case provisioning.EventImported:
		return "Imported"
	case provisioning.EventUpdated:
		return "Details changed"
	case provisioning.EventUsernameTaken:
		return "Username taken at the provider, another one given"
	case provisioning.EventOwnerChanged:
		return "Owner’s address changed; earlier links no longer work"
	case provisioning.EventMailQueued:
		return letter(e, "Invitation") + " queued"
	case provisioning.EventMailAccepted:
		return letter(e, "Invitation") + " sent"
	case provisioning.EventMailDeferred:
		return letter(e, "Mail") + " could not be sent yet; it is tried again"
	case provisioning.EventMailRefused:
		return letter(e, "Mail") + " refused: the address does not work"
	case provisioning.EventMailFailed:
		return letter(e, "Mail") + " given up"
	case provisioning.EventMailCancelled:
		return letter(e, "Mail") + " cancelled"
	case provisioning.EventMailRepeated:
		return letter(e, "Mail") + " sent again, as a crash hid whether it had arrived"
	case provisioning.EventBounced:
		return "Bounced: the address takes no mail"
	case provisioning.EventMailObjected:
		return "Refused by a mail server for our sake, not for the address"
	case provisioning.EventMailDelayed:
		return "Not delivered yet"
	case provisioning.EventAutoReply:
		return "The owner’s mailbox answered by itself"
	case provisioning.EventComplained:
		return "Marked a mail as spam"
	case provisioning.EventReminderMoved:
		return letter(e, "Reminder") + " put to another time"
	case provisioning.EventReminderSkip:
		return letter(e, "Reminder") + " left out"
	case provisioning.EventNotMe:
		return "Says that the mail is not for them"
	case provisioning.EventReferred:
		return "Named somebody else"
	case provisioning.EventReferralTaken:
		return "Whom the owner named is the owner now"
	case provisioning.EventReferralLeft:
		return "Whom the owner named was not taken"
	case provisioning.EventOptedIn:
		return "Opt-out lifted"
	case provisioning.EventPaused:
		return "Paused"
	case provisioning.EventResumed:
		return "Resumed"
	case provisioning.EventLinkIssued:
		return "Link taken to hand over"
	case provisioning.EventExtended:
		return "The invitation link works for another 30 days"
	case provisioning.EventStarted:
		return "Pressed Continue"
	case provisioning.EventDeclined:
		return "Said no"
	case provisioning.EventUnsubscribed:
		return "Wants no more mails"
	case provisioning.EventWrongAccount:
		return "Signed in to another account than expected"
	case provisioning.EventMissingScope:
		return "Allowed less than was asked"
	case provisioning.EventConflict:
		return "Signed in to an account that belongs to another client"
	case provisioning.EventConsentFailed:
		return "Could not finish"
	case provisioning.EventAuthorized:
		return "Connected"
	case provisioning.EventProven:
		return "The grant was refreshed for the first time: the provider keeps it"
	case provisioning.EventScopesChanged:
		return "A refresh of the grant brought other permissions"
	case provisioning.EventRefreshDoubt:
		return "The provider refused to refresh the grant; it is tried again"
	case provisioning.EventTokenGiven:
		return "Access token given to the agency’s app"
	case provisioning.EventLapsed:
		return "The provider says that the grant is gone"
	case provisioning.EventAccepted:
		return "The account that consented was taken for the client’s"
	case provisioning.EventDiscarded:
		return "The grant of another account was discarded"
	case provisioning.EventMoved:
		return "The grant of another account was moved to the client that it belongs to"
	case provisioning.EventReceived:
		return "Connected with a grant that came by another client’s link"
	case provisioning.EventExpired:
		return "The invitation link ran out"
	case provisioning.EventRenewed:
		return "Asked for a fresh link"
	case provisioning.EventRouteChanged:
		return "Another route"
	case provisioning.EventClaimed:
		return "Says that the user is added"
	case provisioning.EventUnclaimed:
		return "Says that the user is not added yet"
	case provisioning.EventNoActivation:
		return "No activation mail came in two days"
	case provisioning.EventUserLimit:
		return "Says that the plan allows no further user"
	case provisioning.EventNameRefused:
		return "Says that the username is taken, once more"
	case provisioning.EventActivation:
		return "The activation mail for the user came"
	case provisioning.EventActive:
		return "The user is active"
	case provisioning.EventRefused:
		return "The partner’s token does not open the account"
	case provisioning.EventSkipped:
		return "Passed over in a run"
	}
	return string(e.Kind)
}

// letter names the mail that an event is about, or says what it is otherwise.
func letter(e provisioning.Event, otherwise string) string {
	kind, _ := e.Detail["letter"].(string)
	number, _ := e.Detail["number"].(float64)
	if kind == "" {
		kind = otherwise
	}
	return templates.Mail{Kind: strings.ToLower(kind), Number: int(number)}.Label()
}

// What a button of a client's page has done, in an address; skipped goes before a provisioning.SkipReason.
const (
	doneInvited   = "invited"
	doneReminded  = "reminded"
	donePlanned   = "planned"
	doneSkipped   = "left-out"
	doneOptedIn   = "opted-in"
	doneDismissed = "dismissed"
	doneDecided   = "decided"
	doneAccepted  = "accepted"
	doneDiscarded = "discarded"
	doneMoved     = "moved"
	doneGone      = "gone"
	doneEdited    = "edited"
	doneActive    = "active"
	doneChecked   = "checked"
	skipped       = "not-mailed-"
)

// doneInWords says it to an operator.
func doneInWords(done string) string {
	switch done {
	case doneInvited:
		return "The invitation is queued."
	case doneReminded:
		return "The reminder is queued."
	case donePlanned:
		return "The reminder is planned."
	case doneSkipped:
		return "The reminder is left out."
	case doneOptedIn:
		return "The opt-out is lifted."
	case doneEdited:
		return "The changes are saved."
	case doneActive:
		return "The user is active: the client is ready for a run."
	case doneChecked:
		return "The provider was asked."
	case doneDismissed:
		return "The owner stays who it was."
	case doneDecided:
		return "Nothing was changed: somebody has decided that already, or the owner has named somebody else since."
	case doneAccepted:
		return "The account is accepted: the client is authorized with it."
	case doneDiscarded:
		return "The grant is discarded. The client’s link keeps working."
	case doneMoved:
		return "The grant is moved: the client that it belongs to is authorized with it. The other one waits on for its own owner."
	case doneGone:
		return "Nothing was changed: somebody has decided on this grant already, or the owner has consented again since."
	case skipped + string(provisioning.SkipPaused):
		return "Nobody was mailed, as the client is paused: resume it first."
	case skipped + string(provisioning.SkipAuthorized):
		return "Nobody was mailed, as the client is authorized."
	case skipped + string(provisioning.SkipRoute):
		return "Nobody was mailed, as nothing is asked of the owner on this client’s route."
	case skipped + string(provisioning.SkipQueued):
		return "No other mail was queued, as one is on its way already."
	}
	return ""
}

func actorInWords(a provisioning.Actor) string {
	switch a {
	case provisioning.ActorOwner:
		return "Owner"
	case provisioning.ActorSystem:
		return "Countersign"
	case provisioning.ActorCLI:
		return "Command line"
	}
	name := strings.TrimPrefix(string(a), "operator ")
	if key, ok := strings.CutPrefix(name, "key "); ok {
		return "API key " + key
	}
	return name
}

func eventsOnPage(events []provisioning.Event) []templates.Event {
	shown := make([]templates.Event, len(events))
	for i, e := range events {
		shown[i] = templates.Event{
			At:       e.At,
			What:     whatHappened(e),
			Actor:    actorInWords(e.Actor),
			Detail:   detailInWords(e),
			ClientID: e.ClientID.String(),
			Client:   e.ClientName,
			Stage:    templates.Stage(orZero(e.Stage)),
			Reason:   templates.Reason(orZero(e.Reason)),
		}
	}
	return shown
}

// detailInWords tells what else is known of an event: why it happened, what was said, and the rest in the order of
// its names.
func detailInWords(e provisioning.Event) string {
	var parts []string
	for name, value := range e.Detail {
		switch {
		case value == nil, value == "", name == "why", name == "said", name == "letter", name == "number":
			continue
		}
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(value)); name == "at" && err == nil {
			value = at.UTC().Format("2 Jan 2006, 15:04 UTC")
		}
		name = strings.ReplaceAll(name, "_", " ")
		if change, ok := value.(map[string]any); ok {
			parts = append(parts, fmt.Sprintf("%s: %s → %s", name, cell(change["from"]), cell(change["to"])))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %s", name, cell(value)))
	}
	slices.Sort(parts)
	if said, ok := e.Detail["said"].(string); ok && said != "" {
		parts = slices.Insert(parts, 0, "“"+said+"”")
	}
	if why, ok := e.Detail["why"].(string); ok && why != "" {
		parts = slices.Insert(parts, 0, why)
	}
	return strings.Join(parts, " · ")
}

func cell(value any) string {
	switch v := value.(type) {
	case nil:
		return "–"
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = fmt.Sprint(item)
		}
		return strings.Join(items, ", ")
	default:
		return fmt.Sprint(v)
	}
}

// sentence makes an error's message a sentence for a page.
func sentence(err error) string {
	message := err.Error()
	first, size := utf8.DecodeRuneInString(message)
	return string(unicode.ToUpper(first)) + message[size:] + "."
}
