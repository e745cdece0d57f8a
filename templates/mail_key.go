package templates

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LetterKind says what a mail to an owner is about. The values are those of provisioning.LetterKind.
type LetterKind string

const (
	LetterInvitation LetterKind = "invitation" // asks the owner to consent
	LetterReminder   LetterKind = "reminder"   // asks once more
	LetterReconnect  LetterKind = "reconnect"  // asks again, as the grant is gone
	LetterThanks     LetterKind = "thanks"     // tells the owner on record that somebody consented
)

// TextKey names a text. Its Language is one of Languages.
type TextKey struct {
	Kind      LetterKind
	Situation string // of a reminder: one of Situations; of an invitation that asks for a user, SituationManager
	Number    int    // of a reminder: FirstReminder, NextReminder or LastReminder
	Language  string
}

// The texts for reminders, by their turn. However many there are, all between the first and the last
// have the same words.
const (
	FirstReminder = 1
	NextReminder  = 2
	LastReminder  = 3
)

// Situations lists how far an owner can be when a reminder is due, which chooses its words. The
// values are those of provisioning.Situation.
func Situations() []string {
	return []string{"unseen", "unfinished", "denied", "wrong_account", SituationManager, situationNoActivation}
}

// The situations of owners who are asked to add a user. The first is that of their invitation too.
const (
	SituationManager      = "manager"       // nobody has said that the user was added
	situationNoActivation = "no_activation" // somebody has, and the provider's mail did not come
)

// Keys lists all texts that exist, in the order of an owner's way, for every language.
func Keys() []TextKey {
	var keys []TextKey
	for _, language := range Languages() {
		keys = append(keys, TextKey{Kind: LetterInvitation, Language: language},
			TextKey{Kind: LetterInvitation, Situation: SituationManager, Language: language})
		for _, situation := range Situations() {
			for number := FirstReminder; number <= LastReminder; number++ {
				keys = append(keys, TextKey{Kind: LetterReminder, Situation: situation, Number: number, Language: language})
			}
		}
		keys = append(keys, TextKey{Kind: LetterReconnect, Language: language}, TextKey{Kind: LetterThanks, Language: language})
	}
	return keys
}

// String is the key's name in addresses and in Stationery.Texts: "reminder/unseen/2/de", "thanks/en".
func (k TextKey) String() string {
	switch {
	case k.Situation == "":
		return string(k.Kind) + "/" + k.Language
	case k.Kind != LetterReminder:
		return string(k.Kind) + "/" + k.Situation + "/" + k.Language
	}
	return string(k.Kind) + "/" + k.Situation + "/" + strconv.Itoa(k.Number) + "/" + k.Language
}

// ParseTextKey reads what String wrote. It fails for a text that does not exist.
func ParseTextKey(name string) (TextKey, error) {
	if i := slices.IndexFunc(Keys(), func(k TextKey) bool { return k.String() == name }); i >= 0 {
		return Keys()[i], nil
	}
	return TextKey{}, fmt.Errorf("there is no text %q; texts are named like %q or %q", name, "invitation/en", "reminder/unseen/2/de")
}

// Title names the text for an operator; texts of several languages have the same.
func (k TextKey) Title() string {
	switch k.Kind {
	case LetterInvitation:
		if k.Situation == SituationManager {
			return "Invitation to add a user"
		}
		return "Invitation"
	case LetterReconnect:
		return "Please reconnect"
	case LetterThanks:
		return "Thank you: connected"
	case LetterReminder:
	}
	turn := map[int]string{FirstReminder: "First reminder", NextReminder: "Next reminder", LastReminder: "Last reminder"}[k.Number]
	return turn + ": " + map[string]string{
		"unseen":        "nobody pressed Continue",
		"unfinished":    "begun, not finished",
		"denied":        "access was refused",
		"wrong_account": "wrong account, or not all allowed",
		"manager":       "the user was not added",
		"no_activation": "added, but no activation mail came",
	}[k.Situation]
}

// file is where the built-in text is.
func (k TextKey) file() string {
	name := strings.TrimSuffix(k.String(), "/"+k.Language)
	return "mail/texts/" + k.Language + "/" + strings.ReplaceAll(name, "/", "-") + ".txt"
}

// manages reports whether the mail is about a user that the owner is to add.
func (k TextKey) manages() bool {
	return k.Situation == SituationManager || k.Situation == situationNoActivation
}

// asks reports whether the mail asks for something, so that it has a link and can be unsubscribed from.
func (k TextKey) asks() bool { return k.Kind != LetterThanks }
