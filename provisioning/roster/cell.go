package roster

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// The longest values of a client.
const (
	maxNameRunes      = 200
	maxRefRunes       = 128
	maxAccountIDBytes = 64
	maxURLBytes       = 2048
	maxTags           = 50
	maxTagRunes       = 64
)

// formulaStarts are the characters with which a spreadsheet program takes a cell for a formula.
const formulaStarts = "=+-@\t\r\n＝＋－＠"

// NeutralizeFormula makes a cell safe to open in a spreadsheet program: a cell that begins with = + - @,
// a tab or a line break, or the full-width form of one, gets an apostrophe before it. So does a cell in
// which only apostrophes stand before such a character.
//
// A Reader takes one apostrophe away from every cell that begins with one or more apostrophes and
// such a character, and so gives back exactly what was neutralized.
func NeutralizeFormula(cell string) string {
	if isFormula(strings.TrimLeft(cell, "'")) {
		return "'" + cell
	}
	return cell
}

// restoreFormula undoes NeutralizeFormula.
func restoreFormula(cell string) string {
	if strings.HasPrefix(cell, "'") && isFormula(strings.TrimLeft(cell, "'")) {
		return cell[1:]
	}
	return cell
}

func isFormula(cell string) bool {
	r, size := utf8.DecodeRuneInString(cell)
	return size > 0 && r != utf8.RuneError && strings.ContainsRune(formulaStarts, r)
}

// mistake says what is wrong with a cell: one code, and sentences that end with the cure.
type mistake struct {
	code    RejectCode
	message string
}

func (m *mistake) Error() string { return m.message }

func mistaken(code RejectCode, format string, args ...any) error {
	return &mistake{code: code, message: fmt.Sprintf(format, args...)}
}

// CleanText brings the text of a cell into the form in which it is compared and stored: without
// invisible characters, white space at the ends and runs of it, in Unicode's normal form C. Lines says
// that a line break inside is white space, too, and not a mistake.
func CleanText(cell string, lines bool) (string, error) {
	if isPlain(cell) {
		return cell, nil
	}
	var b strings.Builder
	b.Grow(len(cell))
	gap, broken := false, false
	for _, r := range cell {
		switch {
		case r == utf8.RuneError:
			return "", mistaken(RejectBadEncoding, "%s has characters that could not be read."+
				" Type them anew and save the file as CSV UTF-8.", quote(cell))
		case unicode.IsSpace(r):
			gap = true
			broken = broken || r != '\t' && !unicode.Is(unicode.Zs, r)
		case unicode.IsControl(r):
			return "", mistaken(RejectControlCharacter, "%s contains the control character %U. Delete it.", quote(cell), r)
		case isInvisible(r):
		default:
			if gap && b.Len() > 0 {
				if broken && !lines {
					return "", mistaken(RejectControlCharacter, "%s contains a line break. Write it on one line.", quote(cell))
				}
				b.WriteByte(' ')
			}
			gap, broken = false, false
			b.WriteRune(r)
		}
	}
	return norm.NFC.String(b.String()), nil
}

// isPlain tells quickly that CleanText would change nothing.
func isPlain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == ' ' && (i == 0 || i == len(s)-1 || s[i+1] == ' ') {
			return false
		}
	}
	return true
}

// isInvisible tells the characters that come along when text is pasted, are never seen, and would make
// equal names and addresses differ or turn the direction of the text that follows.
func isInvisible(r rune) bool {
	switch r {
	case '\u00ad', '\u061c', '\u200b', '\u200e', '\u200f', '\u2060', '\ufeff':
		return true
	}
	return '\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}

// checkExtra refuses in a column that is only kept what a database cannot keep.
func checkExtra(cell string) error {
	for i := range len(cell) {
		if c := cell[i]; c < ' ' || c > '~' {
			_, err := CleanText(cell, true)
			return err
		}
	}
	return nil
}

// cleanCell is CleanText for the cell of a field. It refuses, too, what a spreadsheet program shows in place
// of a value that it cannot compute.
func cleanCell(cell string, lines bool) (string, error) {
	s, err := CleanText(cell, lines)
	if err != nil || !strings.HasPrefix(s, "#") {
		return s, err
	}
	switch s {
	case "#BLOCKED!", "#BUSY!", "#CALC!", "#CONNECT!", "#DIV/0!", "#ERROR!", "#FIELD!", "#GETTING_DATA", "#N/A", "#NAME?", "#NULL!",
		"#NUM!", "#REF!", "#SPILL!", "#UNKNOWN!", "#VALUE!":
		return "", mistaken(RejectFormulaError, "%s is what a spreadsheet program shows when a formula fails. Type the value in its place.", s)
	}
	return s, nil
}

// isRounded tells a number in scientific notation, in which spreadsheet programs write long ones.
func isRounded(s string) bool {
	mantissa, exponent, found := strings.Cut(s, "E+")
	if !found || len(mantissa) < len("1.0") || mantissa[1] != '.' && mantissa[1] != ',' {
		return false
	}
	isNumber := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return isNumber(mantissa[:1]) && isNumber(mantissa[2:]) && isNumber(exponent)
}

func parseName(s string) (string, error) {
	if s == "" {
		return "", mistaken(RejectNameMissing, "The client has no name. Fill it in.")
	}
	return parseOwnerName(s)
}

func parseOwnerName(s string) (string, error) {
	if n := utf8.RuneCountInString(s); n > maxNameRunes {
		return "", mistaken(RejectNameTooLong, "%s has %d characters. Shorten it to %d.", quote(s), n, maxNameRunes)
	}
	return s, nil
}

func parseOwnerEmail(s string) (string, error) {
	if s == "" {
		return "", mistaken(RejectEmailMissing, "The owner has no mail address. Fill it in.")
	}
	local, domain, err := ParseAddress(s)
	if err != nil {
		return "", mistaken(RejectEmailInvalid, "%s is not a mail address: %v. Write one address such as ann@example.com.", quote(s), err)
	}
	if strings.HasSuffix(s, domain) { // mostly it is canonical already
		return s, nil
	}
	return local + "@" + domain, nil
}

func parseRef(s string) (string, error) {
	if n := utf8.RuneCountInString(s); n > maxRefRunes {
		return "", mistaken(RejectRefTooLong, "%s has %d characters. Shorten it to %d.", quote(s), n, maxRefRunes)
	}
	return s, nil
}

func parseAccountID(s string) (string, error) {
	if len(s) > maxAccountIDBytes || strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && !isASCIIAlphanumeric(r)
	}) {
		return "", mistaken(RejectAccountIDInvalid, "%s is not an account id of the provider: it has at most %d letters, digits, - and _."+
			" Copy it from the provider, or leave it empty: it is learnt from the consent.", quote(s), maxAccountIDBytes)
	}
	if isSalesforceAccountID(s) {
		return "", mistaken(RejectAccountIDInvalid, "%s is the id of an account in Salesforce, not at the provider."+
			" Import the column as ref: --map ref=COLUMN.", quote(s))
	}
	return s, nil
}

// isSalesforceAccountID tells the ids that Salesforce gives to accounts: 15 characters, or 18 that differ
// without regard to case.
func isSalesforceAccountID(s string) bool {
	return (len(s) == 15 || len(s) == 18) && strings.HasPrefix(s, "001") &&
		!strings.ContainsFunc(s, func(r rune) bool { return !isASCIIAlphanumeric(r) })
}

// parseRoute takes the words of a route; what they mean is package provisioning's.
func parseRoute(s string) (string, error) {
	switch route := strings.ToLower(s); route {
	case "", "owner", "manager", "partner", "external":
		return route, nil
	}
	return "", mistaken(RejectRouteUnknown, "%s is not a route. Write owner, manager, partner or external, or leave it empty for owner.", quote(s))
}

func parseSiteURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	absolute := s
	if !strings.Contains(s, "://") {
		absolute = "https://" + s
	}
	u, err := url.Parse(absolute)
	if err == nil {
		err = checkSiteURL(u)
	}
	if err != nil || len(u.String()) > maxURLBytes {
		return "", mistaken(RejectURLInvalid, "%s is not the address of a web site. Write one such as https://www.example.com.", quote(s))
	}
	return u.String(), nil
}

// checkSiteURL brings the host of u into canonical form.
func checkSiteURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return errors.New("not a plain http address")
	}
	host, err := canonicalDomain(u.Hostname())
	if err != nil {
		return err
	}
	if port := u.Port(); port != "" {
		host += ":" + port
	}
	u.Host = host
	return nil
}

func parseLocale(s string) (string, error) {
	tag, err := language.Parse(s)
	if err != nil {
		return "", mistaken(RejectLocaleInvalid, "%s is not a language. Write a tag such as en-US, or leave it empty.", quote(s))
	}
	return tag.String(), nil
}

func parseTimeZone(s string) (string, error) {
	if _, err := time.LoadLocation(s); err != nil || s == "Local" {
		return "", mistaken(RejectTimeZoneInvalid, "%s is not a time zone. Write a name such as America/New_York, or leave it empty.", quote(s))
	}
	return s, nil
}

func parseTags(s string) ([]string, error) {
	var tags []string
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == ';' || r == '|' }) {
		tag := strings.Trim(part, ` "`) // some programs export "one","two" in one cell
		if tag == "" || slices.Contains(tags, tag) {
			continue
		}
		if n := utf8.RuneCountInString(tag); n > maxTagRunes {
			return nil, mistaken(RejectTagsInvalid, "The tag %s has %d characters. Shorten it to %d.", quote(tag), n, maxTagRunes)
		}
		if len(tags) == maxTags {
			return nil, mistaken(RejectTagsInvalid, "There are more than %d tags. Remove some.", maxTags)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// quote writes a value for a message.
func quote(s string) string { return fmt.Sprintf("%q", abbreviate(s)) }

// abbreviate keeps the beginning of a long text.
func abbreviate(s string) string {
	n := 0
	for i := range s {
		if n == 60 {
			return s[:i] + "…"
		}
		n++
	}
	return s
}
