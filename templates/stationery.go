package templates

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// Letterhead is what every page and mail for an Account Owner says about who speaks and about whom.
// Agency, ReplyTo, Provider, ProviderHost and Host come from the configuration; the rest is the
// agency's to choose, and may be empty.
type Letterhead struct {
	Agency       string `json:"agency"`        // the agency's name
	ReplyTo      string `json:"reply_to"`      // the address at which a person of the agency reads
	Provider     string `json:"provider"`      // the provider as owners know it, such as "Constant Contact"
	ProviderHost string `json:"provider_host"` // the domain that the provider's own pages end in, such as "constantcontact.com"
	Host         string `json:"host"`          // host of our public URL, for the reader to compare

	LogoURL       string `json:"logo_url"`       // a picture that stands in for the agency's name; mails are complete without it
	Colour        string `json:"colour"`         // #rrggbb
	PostalAddress string `json:"postal_address"` // of several lines
	Support       string `json:"support"`        // a phone number or an address with what belongs to it, such as office hours
	Phrase        string `json:"phrase"`         // what the agency can say on the phone to prove that a mail is its own
	Language      string `json:"language"`       // for clients whose own language is unknown or not among Languages
}

// Stationery is what the agency writes its mails with.
type Stationery struct {
	Letterhead
	// Texts are the agency's own, by TextKey.String. A text that is not here is the built-in one.
	Texts map[string]string `json:"texts"`
}

// Validate reports every mistake in the letterhead and the texts, each with its cure. Stationery is
// to be validated when it is saved; Set.Mails makes the best of any.
func (s Stationery) Validate() error {
	mistakes := []error{s.Letterhead.Validate()}
	keys := make([]string, 0, len(s.Texts))
	for name := range s.Texts {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	for _, name := range keys {
		key, err := ParseTextKey(name)
		if err == nil {
			_, err = ParseText(key, s.Texts[name])
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("text %s: %w", name, err))
		}
	}
	return errors.Join(mistakes...)
}

const (
	maxLetterheadLine = 120
	maxPostalLines    = 6
	maxLogoURL        = 500
)

// FieldError is a mistake in a field of a letterhead.
type FieldError struct {
	Field   string // its name in JSON
	Message string // what is wrong with it, and the cure
}

func (e *FieldError) Error() string { return e.Field + " " + e.Message }

// Validate reports every mistake in what the agency chooses, as joined FieldErrors.
func (l Letterhead) Validate() error {
	var mistakes []error
	mistake := func(field, format string, args ...any) {
		mistakes = append(mistakes, &FieldError{field, fmt.Sprintf(format, args...)})
	}
	if oneLine(l.Agency) == "" {
		mistake("agency", "is empty; write the name by which your clients know you")
	}
	if l.Colour != "" {
		if _, err := parseColour(l.Colour); err != nil {
			mistake("colour", "%v", err)
		}
	}
	if l.Language != "" && !slices.Contains(Languages(), l.Language) {
		mistake("language", "%q is not among %s; choose one of these, or none", l.Language, strings.Join(Languages(), ", "))
	}
	if problem := checkLogo(l.LogoURL); problem != "" {
		mistake("logo_url", "%s", problem)
	}
	lines := addressLines(l.PostalAddress)
	if len(lines) > maxPostalLines {
		mistake("postal_address", "has %d lines; %d are enough for any address", len(lines), maxPostalLines)
	}
	for _, field := range []struct{ name, value, what string }{
		{"agency", l.Agency, ""},
		{"support", l.Support, ""},
		{"phrase", l.Phrase, ""},
		{"postal_address", longest(lines), "a line of "},
	} {
		if n := utf8.RuneCountInString(field.value); n > maxLetterheadLine {
			mistake(field.name, "has %s%d characters; shorten it to %d", field.what, n, maxLetterheadLine)
		}
		if strings.Contains(field.value, "://") {
			mistake(field.name, "has the address of a page; leave out what stands before the name of the site: a mail has one link, because more of them look like a trap")
		}
	}
	return errors.Join(mistakes...)
}

// checkLogo says what is wrong with the address of a picture, if anything is.
func checkLogo(address string) string {
	if address == "" {
		return ""
	}
	if len(address) > maxLogoURL {
		return fmt.Sprintf("has %d characters; use an address of at most %d", len(address), maxLogoURL)
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" || oneLine(address) != address {
		return "is not the address of a picture; write one such as https://www.example.com/logo.png"
	}
	loopback := u.Hostname() == "localhost"
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		loopback = ip.IsLoopback()
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return "does not begin with https://; mail programs show no other pictures"
	}
	return ""
}

// addressLines are the lines of a postal address that say something.
func addressLines(address string) []string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(address, "\r", "\n")) {
		if line = plainName(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func longest(lines []string) string {
	var long string
	for _, line := range lines {
		if len(line) > len(long) {
			long = line
		}
	}
	return long
}
