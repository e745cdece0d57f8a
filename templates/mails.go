package templates

import (
	"errors"
	"fmt"
	"html"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
)

// Letter is what a mail to an owner says. Names come from other people's files and can be anything.
type Letter struct {
	Kind      LetterKind
	Situation string // of a reminder
	// Number and Of say which of how many reminders it is: the last has words of its own. Without Of
	// there are three.
	Number, Of int
	Locale     string // of the client; may be empty

	Client    string
	OwnerName string // may be empty

	// Manager says that the owner is asked to add a user, whose address Username is.
	Manager  bool
	Username string

	// What asks for consent has a link, the only thing to press, and another to stop reminders. It
	// leads to a page with a button.
	Link, UnsubscribeLink string
	ExpiresAt             time.Time

	// Thanks say which account was connected and when, in the zone that ConnectedAt is in. The
	// client's name stands in for an Organization that is empty.
	Organization string
	ConnectedAt  time.Time
}

// Rendered is a mail without its headers but the subject.
type Rendered struct {
	Subject  string // of one line, not encoded
	Text     string // lines of at most 76 characters, if their words are
	HTML     string
	Language string // BCP 47
}

// Mails are all mails on one agency's stationery. They are safe for concurrent use.
type Mails struct {
	set        *Set
	letterhead Letterhead
	writers    map[string]*writer
	forms      map[TextKey]func() *form
	problems   error
}

// Mails writes the agency's stationery, and what is asked for by scopes, into all mails, so that sending
// one is a matter of microseconds. It takes milliseconds, and a fraction of one for the first mail with
// each text.
//
// Stationery is to be validated when it is saved, and may outlive the rules that it was validated by.
// So what is wrong with it stops no mail: a text that is not complete gives way to the built-in one,
// a colour or a logo to none. Problems tells of it.
func (s *Set) Mails(st Stationery, scopes []string) (*Mails, error) {
	f, err := s.newFrame(st.Letterhead)
	if err != nil {
		return nil, err
	}
	m := &Mails{
		set: s, letterhead: st.Letterhead, problems: st.Validate(),
		writers: map[string]*writer{}, forms: map[TextKey]func() *form{},
	}
	for _, l := range languages() {
		m.writers[l.tag] = newWriter(f, &l, st.Letterhead, scopes)
	}
	for key, builtin := range s.texts {
		text := builtin.text
		if source, found := st.Texts[key.String()]; found {
			if own, err := ParseText(key, source); err == nil {
				text = own
			}
		}
		m.forms[key] = sync.OnceValue(func() *form { return m.writers[key.Language].form(key, text) })
	}
	return m, nil
}

// Letterhead is what the mails are written on.
func (m *Mails) Letterhead() Letterhead { return m.letterhead }

// Problems is what Stationery.Validate reported.
func (m *Mails) Problems() error { return m.problems }

// Render writes a mail. Equal letters give equal bytes. It fails for letters of no known kind or
// situation, and for links that are none.
func (m *Mails) Render(l Letter) (Rendered, error) {
	key := m.key(l)
	f, found := m.forms[key]
	if !found {
		return Rendered{}, fmt.Errorf("there is no mail %q", key)
	}
	return m.render(key, f(), l)
}

// Preview is Render with another text than the one in use, for whoever is writing it. The letter's kind
// and language are the key's. It fails as ParseText does.
func (m *Mails) Preview(key TextKey, source string, l Letter) (Rendered, error) {
	text, err := ParseText(key, source)
	if err != nil {
		return Rendered{}, err
	}
	return m.render(key, m.writers[key.Language].form(key, text), l)
}

// Sample is a letter to show a text with. The link leads nowhere.
func (m *Mails) Sample(key TextKey, now time.Time) Letter {
	link := "https://" + m.letterhead.Host + "/i/sample"
	return Letter{
		Kind: key.Kind, Situation: key.Situation, Number: key.Number, Locale: key.Language,
		Client: "Acme Bakery", OwnerName: "Maria Rossi", Manager: key.manages(), Username: "agency+acme-bakery@agency.example",
		Link: link, UnsubscribeLink: link + "/unsubscribe", ExpiresAt: now.AddDate(0, 0, 30),
		Organization: "Acme Bakery LLC", ConnectedAt: now,
	}
}

// key finds the text for a letter.
func (m *Mails) key(l Letter) TextKey {
	key := TextKey{Kind: l.Kind, Language: ChooseLanguage(l.Locale, m.letterhead.Language)}
	if l.Kind == LetterInvitation && l.Manager {
		key.Situation = SituationManager
	}
	if l.Kind != LetterReminder {
		return key
	}
	of := l.Of
	if of == 0 {
		of = LastReminder
	}
	key.Situation, key.Number = l.Situation, NextReminder
	switch {
	case l.Number >= of:
		key.Number = LastReminder
	case l.Number <= 1:
		key.Number = FirstReminder
	}
	return key
}

func (m *Mails) render(key TextKey, f *form, l Letter) (Rendered, error) {
	if key.asks() && (!isLink(l.Link) || !isLink(l.UnsubscribeLink)) {
		// The address itself is a secret.
		return Rendered{}, errors.New("the link of a mail is not an address that begins with https:// or http://")
	}
	w := m.writers[key.Language]
	v := values{
		slotClient:       plainName(l.Client),
		slotOwner:        plainName(l.OwnerName),
		slotUsername:     l.Username,
		slotOrganization: plainName(l.Organization),
		slotLink:         l.Link,
		slotUnsubscribe:  l.UnsubscribeLink,
	}
	if key.asks() {
		v[slotExpires] = w.language.day(lastDay(l.ExpiresAt))
	} else {
		v[slotConnected] = w.language.day(l.ConnectedAt) + l.ConnectedAt.Format(", 15:04 MST")
	}
	if v[slotOrganization] == "" {
		v[slotOrganization] = v[slotClient]
	}
	var h values
	for i, value := range v {
		h[i] = html.EscapeString(value)
	}
	return Rendered{Subject: f.writeSubject(&v), Text: f.writePlain(&v), HTML: f.writeHTML(&h), Language: key.Language}, nil
}

// isLink reports whether s is an address that a mail program makes one link of.
func isLink(s string) bool {
	return (strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'<>\\^`{|}", r) })
}

// builtin is a text below mail/texts.
type builtin struct {
	source string
	text   Text
}

// BuiltinText is the source of the text that is sent unless the agency has one of its own.
func (s *Set) BuiltinText(key TextKey) string { return s.texts[key].source }

// parseMails reads the texts, which are to be complete and no more than there are keys for.
func (s *Set) parseMails() error {
	s.texts = map[TextKey]builtin{}
	var known []string
	for _, key := range Keys() {
		source, err := fs.ReadFile(files, key.file())
		if err != nil {
			return fmt.Errorf("text of a mail: %w", err)
		}
		text, err := ParseText(key, string(source))
		if err != nil {
			return fmt.Errorf("%s: %w", key.file(), err)
		}
		s.texts[key] = builtin{string(source), text}
		known = append(known, key.file())
	}
	names, err := fs.Glob(files, "mail/texts/*/*")
	if err != nil {
		return fmt.Errorf("list the texts of the mails: %w", err)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s is the text of no mail: name it after a key or delete it", name)
		}
	}
	if err := s.parseMailFrames(); err != nil {
		return err
	}
	_, err = s.newFrame(Letterhead{})
	return err
}
