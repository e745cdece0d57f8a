package web

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// whatHappened says an event in words. A kind that it does not know, written by a later version of
// the program, is shown as it is.
func whatHappened(kind provisioning.EventKind) string {
	switch kind {
	case provisioning.EventImported:
		return "Imported"
	case provisioning.EventUpdated:
		return "Updated by an import"
	case provisioning.EventUsernameTaken:
		return "Username taken at the provider, another one given"
	case provisioning.EventOwnerChanged:
		return "Owner’s address changed; earlier links no longer work"
	case provisioning.EventMailQueued:
		return "Invitation queued"
	case provisioning.EventMailAccepted:
		return "Invitation accepted by the owner’s mail server"
	case provisioning.EventMailDeferred:
		return "Mail could not be sent yet; it is tried again"
	case provisioning.EventMailRefused:
		return "Mail refused: the address does not work"
	case provisioning.EventMailFailed:
		return "Mail given up"
	case provisioning.EventMailCancelled:
		return "Mail cancelled"
	case provisioning.EventMailRepeated:
		return "Mail sent again, as a crash hid whether it had arrived"
	case provisioning.EventLinkIssued:
		return "Link taken to hand over"
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
	case provisioning.EventExpired:
		return "The invitation link ran out"
	case provisioning.EventRenewed:
		return "Asked for a fresh link"
	}
	return string(kind)
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
			What:     whatHappened(e.Kind),
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

// detailInWords lists what else is known of an event, in the order of its names.
func detailInWords(e provisioning.Event) string {
	var parts []string
	for name, value := range e.Detail {
		if value == nil || value == "" {
			continue
		}
		name = strings.ReplaceAll(name, "_", " ")
		change, ok := value.(map[string]any)
		if ok && (e.Kind == provisioning.EventUpdated || e.Kind == provisioning.EventUsernameTaken) {
			parts = append(parts, fmt.Sprintf("%s: %s → %s", name, cell(change["from"]), cell(change["to"])))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %s", name, cell(value)))
	}
	slices.Sort(parts)
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
