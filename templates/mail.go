package templates

import (
	"fmt"
	"html/template"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"
	"unicode/utf8"
)

// InvitationMail is what the invitation says. Equal values give equal bytes.
type InvitationMail struct {
	Letterhead
	Client          string
	OwnerName       string // may be empty
	Scopes          []string
	Link            string // the only thing to press
	ExpiresAt       time.Time
	UnsubscribeLink string // leads to a page with a button
}

// Permissions lists in words what the owner is asked for and what stays out of reach.
func (m InvitationMail) Permissions() Permissions { return permissions(m.Scopes, m.Provider) }

// Mail renders the invitation. Names come from other people's files, so line breaks and control
// characters in them turn into spaces: they can forge neither a header nor a line of the text.
func (s *Set) Mail(m InvitationMail) (subject, text, html string, err error) {
	for _, field := range []*string{&m.Agency, &m.ReplyTo, &m.Provider, &m.ProviderHost, &m.Host, &m.Client, &m.OwnerName} {
		*field = oneLine(*field)
	}
	var sb, tb, hb strings.Builder
	if err := s.mailText.ExecuteTemplate(&sb, "subject", m); err != nil {
		return "", "", "", fmt.Errorf("render the subject of the invitation: %w", err)
	}
	if err := s.mailText.ExecuteTemplate(&tb, "invitation.txt.tmpl", m); err != nil {
		return "", "", "", fmt.Errorf("render the text of the invitation: %w", err)
	}
	if err := s.mailHTML.ExecuteTemplate(&hb, "invitation.html.tmpl", m); err != nil {
		return "", "", "", fmt.Errorf("render the HTML of the invitation: %w", err)
	}
	return oneLine(sb.String()), wrap(tb.String()), hb.String(), nil
}

func (s *Set) parseMail() error {
	var err error
	functions := s.functions()
	s.mailText, err = texttemplate.New("").Funcs(functions).ParseFS(files, "mail/*.txt.tmpl")
	if err != nil {
		return fmt.Errorf("parse the mails' texts: %w", err)
	}
	s.mailHTML, err = template.New("").Funcs(functions).ParseFS(files, "mail/*.html.tmpl")
	if err != nil {
		return fmt.Errorf("parse the mails' HTML: %w", err)
	}
	_, _, _, err = s.Mail(InvitationMail{})
	return err
}

// oneLine replaces runs of white space and control characters by one space and drops the
// characters that turn the direction of writing, which could make a name read as another.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Bidi_Control, r):
			return -1
		case unicode.IsControl(r) || unicode.IsSpace(r):
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// lineWidth keeps a quoted line of a reply below 78 characters, the most that RFC 5322 advises.
const lineWidth = 76

// wrap breaks lines at spaces so that they have at most lineWidth characters, words longer than that
// excepted, and continues an item of a list below its first word. It leaves no blank at the end of a
// line and no two empty lines in a row.
func wrap(text string) string {
	var b strings.Builder
	empty := true // the text begins with a line that says something
	for line := range strings.Lines(text) {
		line = strings.TrimRightFunc(line, unicode.IsSpace)
		if line == "" {
			if !empty {
				b.WriteByte('\n')
			}
			empty = true
			continue
		}
		empty = false
		wrapLine(&b, line)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func wrapLine(b *strings.Builder, line string) {
	words := strings.Fields(line)
	indent := ""
	if words[0] == "*" {
		indent = "  "
	}
	b.WriteString(words[0])
	column := utf8.RuneCountInString(words[0])
	for _, word := range words[1:] {
		length := utf8.RuneCountInString(word)
		if column+1+length > lineWidth {
			b.WriteString("\n" + indent)
			column = len(indent)
		} else {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	b.WriteByte('\n')
}
