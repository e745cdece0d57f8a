package roster

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// The most that a client keeps beside its fields. A file's own columns are bounded by the file; a program could
// add one after the other.
const (
	maxExtraRunes = 200
	maxExtraBytes = 10_000
)

// ParseValue reads one field of one client as a person or a program says it, by the rules for a cell of a roster
// file, and returns it as it is stored. An empty one says that there is none. Its error is sentences that end with
// the cure.
func ParseValue(field Field, typed string) (string, error) {
	text, err := cleanCell(typed, field == FieldName || field == FieldOwnerName)
	if err != nil {
		return "", err
	}
	switch field {
	case FieldName:
		return parseName(text)
	case FieldOwnerEmail:
		return parseOwnerEmail(text)
	case FieldRef:
		return parseRef(text)
	case FieldOwnerName:
		return parseOwnerName(text)
	case FieldAccountID:
		return parseAccountID(text)
	case FieldRoute:
		return parseRoute(text)
	case FieldSiteURL:
		return parseSiteURL(text)
	case FieldLocale:
		return memo{}.parse(text, parseLocale)
	case FieldTimeZone:
		return memo{}.parse(text, parseTimeZone)
	case FieldTags:
		tags, err := parseTags(text)
		return strings.Join(tags, ", "), err
	}
	return text, nil
}

// ParseTags is ParseValue for tags that were said one by one. One that contains a separator is several.
func ParseTags(typed []string) ([]string, error) {
	text, err := cleanCell(strings.Join(typed, ","), false)
	if err != nil {
		return nil, err
	}
	tags, err := parseTags(text)
	if err != nil || tags == nil {
		return []string{}, err
	}
	return tags, nil
}

// ParseExtra is ParseValue for a column that is only kept. Its header is one that an export can be told by: not
// that of a field, nor of what an export adds.
func ParseExtra(header, typed string) (column, value string, err error) {
	column, err = CleanText(header, false)
	if err != nil {
		return "", "", err
	}
	n := utf8.RuneCountInString(column)
	switch {
	case n == 0 || n > maxExtraRunes:
		return "", "", mistaken("", "A column's name has 1 to %d characters, and not %d.", maxExtraRunes, n)
	case slices.Contains(Fields(), Field(column)) || slices.Contains(ExportColumns(), column) || slices.Contains(RejectColumns(), column):
		return "", "", mistaken("", "%s is the name of a column of ours. Choose another one.", quote(column))
	case len(typed) > maxExtraBytes:
		return "", "", mistaken("", "%s has %d bytes. Shorten it to %d.", quote(typed), len(typed), maxExtraBytes)
	}
	return column, typed, checkExtra(typed)
}
