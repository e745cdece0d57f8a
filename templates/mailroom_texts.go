package templates

import (
	"cmp"
	"net/http"
)

// MailTextsPage lists the texts of all mails to owners, /admin/mail/texts.
type MailTextsPage struct {
	Console
	Own map[string]bool // names of the keys whose text is the agency's own
}

// Title names the page.
func (MailTextsPage) Title() string { return "Texts of the mails" }

// Languages are the columns of the list.
func (MailTextsPage) Languages() []string {
	var names []string
	for _, tag := range Languages() {
		names = append(names, LanguageName(tag))
	}
	return names
}

// Rows are the mails, each with its texts in the order of the Languages.
func (p MailTextsPage) Rows() []MailTextRow {
	var rows []MailTextRow
	places := map[string]int{}
	for _, key := range Keys() {
		title := key.Title()
		place, known := places[title]
		if !known {
			place, places[title] = len(rows), len(rows)
			rows = append(rows, MailTextRow{Title: title})
		}
		rows[place].Texts = append(rows[place].Texts, MailTextCell{key, p.Own[key.String()]})
	}
	return rows
}

// MailTextRow is a mail in all languages.
type MailTextRow struct {
	Title string
	Texts []MailTextCell
}

// MailTextCell is a text of the list.
type MailTextCell struct {
	Key TextKey
	Own bool
}

// Language is the name of the text's language.
func (c MailTextCell) Language() string { return LanguageName(c.Key.Language) }

// MailTextPage is where an operator writes a text, /admin/mail/texts/{key}. Its forms post source and seen to the
// same address with ?do=preview, save, trial or reset.
type MailTextPage struct {
	Console
	Key      TextKey
	Own      bool     // the agency has a text of its own
	Source   string   // as typed
	Seen     string   // names the text that the operator began with
	Theirs   string   // the text that somebody else has saved since, if that is in the way
	Mistakes []string // in the Source, each with its line and its cure
	Done     string   // what a button has done, in a sentence
	Problem  string   // why it could not do it
	Code     int      // status, if not 200
	To       string   // address for a test
	Preview  MailPreview
}

// Title names the text.
func (p MailTextPage) Title() string { return p.Key.Title() + ", " + LanguageName(p.Key.Language) }

// Status is 200, or that of the problem.
func (p MailTextPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// Placeholders are what may stand in the text.
func (p MailTextPage) Placeholders() []Placeholder { return Placeholders(p.Key) }

// MailPreview is a mail in both its forms.
type MailPreview struct {
	Address string // of its HTML
	Subject string
	Text    string
}

// LetterheadPage is where an operator says what all mails and owners' pages are written on,
// /admin/mail/letterhead. Its forms post agency, colour, postal_address, support, phrase, language and seen there,
// with ?do=preview or save, and a file to logo below it; logo/remove takes the logo away.
type LetterheadPage struct {
	Console
	Typed       Letterhead
	Logo        string            // path of the logo, empty for none
	Most        int64             // bytes of a logo
	Seen        string            // names the letterhead that the operator began with
	Mistakes    map[string]string // by field
	LogoProblem string            // why a picture was not taken
	Done        string            // what a button has done, in a sentence
	Problem     string            // why it could not do it, unless a field says so
	Code        int               // status, if not 200
	Preview     MailPreview
}

// Title names the page.
func (LetterheadPage) Title() string { return "Letterhead" }

// Status is 200, or that of the problem.
func (p LetterheadPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// MostKB is Most for people.
func (p LetterheadPage) MostKB() int { return int(p.Most >> 10) }

// Colour is the one that mails are painted in.
func (p LetterheadPage) Colour() string { return mixPaint(p.Typed.Colour).Accent.String() }

// Languages are the choices for those whose own language is unknown.
func (LetterheadPage) Languages() []string { return Languages() }

// LanguageName is the English name of one of the Languages.
func (LetterheadPage) LanguageName(tag string) string { return LanguageName(tag) }
