package templates

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// language is what mails say in a language beside their texts. The facts are those of permissions.
type language struct {
	tag  string // BCP 47
	name string // in English
	// may has words for the scopes, other for those unknown: %[1]s is the provider, %[2]s the scope.
	may   map[string]string
	other string
	// mayNot lists what stays out of reach unless its scope is asked for; without a scope, always.
	mayNot  []limit
	months  [12]string
	date    func(day int, month string, year int) string
	button  string // label of a button that has none of its own
	address string // above the address that the button leads to
	// What stands below a mail, in the markup of texts: why it was sent, and whom to ask.
	whyAsked, whyThanked, questions string
	unsubscribe                     string
	colon                           string   // before an address that follows
	elided                          []string // words that lose their last letter before a vowel
}

type limit struct{ scope, words string }

func languages() []language {
	return []language{english(), spanish(), french(), german(), portuguese()}
}

// Languages lists those that mails can be written in, by their BCP 47 tags.
func Languages() []string { return []string{"en", "es", "fr", "de", "pt"} }

// LanguageName is the English name of one of Languages.
func LanguageName(tag string) string {
	for _, l := range languages() {
		if l.tag == tag {
			return l.name
		}
	}
	return tag
}

// ChooseLanguage finds the language for a client's locale, such as "de-AT" or "pt_BR". A locale that is
// empty or of another language gives otherwise, and where that is none of Languages either, English.
func ChooseLanguage(locale, otherwise string) string {
	primary := strings.ToLower(strings.TrimSpace(locale))
	if end := strings.IndexAny(primary, "-_."); end >= 0 {
		primary = primary[:end]
	}
	for _, tag := range []string{primary, otherwise} {
		if slices.Contains(Languages(), tag) {
			return tag
		}
	}
	return "en"
}

// words reads what stands below a mail.
func (l *language) words(source string) []token {
	p := textParser{key: TextKey{Language: l.tag}}
	return p.words(typeset(l.tag, source))
}

// permissions says in words what scopes allow.
func (l *language) permissions(scopes []string, provider string) []string {
	var list []string
	for _, scope := range scopes {
		words, known := l.may[scope]
		if !known {
			words = fmt.Sprintf(l.other, provider, plainName(scope))
		}
		list = append(list, typeset(l.tag, words))
	}
	return list
}

// limits says what stays out of reach.
func (l *language) limits(scopes []string) []string {
	var list []string
	for _, limit := range l.mayNot {
		if limit.scope == "" || !slices.Contains(scopes, limit.scope) {
			list = append(list, typeset(l.tag, limit.words))
		}
	}
	return list
}

func (l *language) day(t time.Time) string {
	return l.date(t.Day(), l.months[t.Month()-1], t.Year())
}

// typeset puts the blanks of French punctuation where no line can break.
func typeset(language, words string) string {
	if language != "fr" {
		return words
	}
	return strings.NewReplacer(" :", "\u00a0:", " ;", "\u00a0;", " ?", "\u00a0?", " !", "\u00a0!", " »", "\u00a0»", "« ", "«\u00a0").Replace(words)
}

// elision splits off the last word of what stands before a name if a name that begins with a vowel
// shortens it.
func (l *language) elision(characters string) (before, word string) {
	for _, word := range l.elided {
		before, found := strings.CutSuffix(characters, word)
		if found && (before == "" || strings.HasSuffix(before, " ")) {
			return before, word
		}
	}
	return characters, ""
}

// elide shortens a French word before a name: "de " before "Acme" becomes "d’".
func elide(word, name string) string {
	first, _ := utf8.DecodeRuneInString(name)
	if !strings.ContainsRune("aàâäeéèêëiîïoôöuûüœæ", unicode.ToLower(first)) {
		return word
	}
	return strings.TrimRight(word, "e ") + "’"
}
