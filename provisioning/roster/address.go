package roster

import (
	"errors"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// ParseAddress splits a mail address and brings it into canonical form: the domain in lower case and
// ASCII, the local part as typed. The error says what is wrong, as the second half of a sentence.
//
//	address = local "@" domain              at most 254 octets (RFC 5321, 4.5.3.1)
//	local   = atom *( "." atom )            at most 64 octets
//	atom    = 1*( ALPHA / DIGIT / one of !#$%&'*+-/=?^_`{|}~ / letter, mark or digit beyond ASCII )
//	domain  = 1*( label "." ) label         the last label is not a number
//	label   = 1*63( ALPHA / DIGIT / "-" )   without a hyphen at either end
//
// An international domain is given as its A-labels (UTS 46). Quoted local parts, domain literals,
// comments and display names are refused: in a roster they are mistakes, and in a username they are
// not allowed.
func ParseAddress(s string) (local, domain string, err error) {
	local, domain, found := strings.Cut(s, "@")
	switch {
	case !found:
		return "", "", errors.New("it has no @")
	case strings.Contains(domain, "@"):
		return "", "", errors.New("it has more than one @")
	}
	if err := checkLocal(local); err != nil {
		return "", "", err
	}
	if domain, err = canonicalDomain(domain); err != nil {
		return "", "", err
	}
	if len(local)+len("@")+len(domain) > 254 {
		return "", "", errors.New("it is longer than 254 octets")
	}
	return local, domain, nil
}

func checkLocal(local string) error {
	switch {
	case local == "":
		return errors.New("nothing stands before the @")
	case len(local) > 64:
		return errors.New("the part before the @ is longer than 64 octets")
	case local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, ".."):
		return errors.New("the part before the @ has a dot at an end or two dots in a row")
	}
	for _, r := range local {
		if !isLocalRune(r) {
			return errors.New("the part before the @ contains " + printable(r))
		}
	}
	return nil
}

func isLocalRune(r rune) bool {
	if r <= unicode.MaxASCII {
		return isASCIIAlphanumeric(r) || strings.ContainsRune(".!#$%&'*+-/=?^_`{|}~", r)
	}
	return unicode.In(r, unicode.Letter, unicode.Mark, unicode.Digit)
}

// canonicalDomain returns a host name with at least one dot in lower-case ASCII.
func canonicalDomain(domain string) (string, error) {
	if strings.HasPrefix(domain, "[") {
		return "", errors.New("an IP address stands where the domain should be")
	}
	ascii := strings.ToLower(domain)
	if strings.Contains(ascii, "xn--") || strings.ContainsFunc(ascii, isBeyondASCII) {
		var err error
		if ascii, err = idna.Lookup.ToASCII(domain); err != nil {
			return "", errors.New("the domain is not a valid international name")
		}
	}
	if len(ascii) > 253 {
		return "", errors.New("the domain is longer than 253 octets")
	}
	last := ""
	for label := range strings.SplitSeq(ascii, ".") {
		switch {
		case label == "":
			return "", errors.New("the domain is empty, or has a dot at an end or two dots in a row")
		case len(label) > 63:
			return "", errors.New("a part of the domain is longer than 63 octets")
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", errors.New("a part of the domain begins or ends with a hyphen")
		}
		for _, r := range label {
			if r != '-' && !isASCIIAlphanumeric(r) {
				return "", errors.New("the domain contains " + printable(r))
			}
		}
		last = label
	}
	switch {
	case last == ascii:
		return "", errors.New("the domain has no dot")
	case strings.Trim(last, "0123456789") == "":
		return "", errors.New("the domain ends with a number")
	}
	return ascii, nil
}

func isASCIIAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func isBeyondASCII(r rune) bool { return r > unicode.MaxASCII }

// printable names a character so that it is seen even if it is blank or invisible.
func printable(r rune) string {
	if r == ' ' {
		return "a space"
	}
	return strconv.QuoteRuneToGraphic(r)
}
