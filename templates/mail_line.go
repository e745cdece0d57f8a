package templates

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// oneLine replaces runs of white space and control characters by one space. It drops the characters
// that nobody sees, among them those that turn the direction of writing, which could make a name read
// as another, and those for private use, which mean something to frame.
func oneLine(s string) string {
	if isOneLine(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) || unicode.IsSpace(r):
			return ' '
		case r == zeroWidthJoiner || r == zeroWidthNonJoiner: // Persian, Hindi and others are written with them.
			return r
		case unicode.In(r, unicode.Cf, unicode.Co):
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
)

// isOneLine reports whether s surely is as oneLine would leave it, which most names are.
func isOneLine(s string) bool {
	blank := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f || blank && s[i] == ' ' {
			return false
		}
		blank = s[i] == ' '
	}
	return s == "" || !blank
}

// plainName is what other people call somebody: one line, and nothing that mail programs make a link of.
func plainName(s string) string {
	return strings.ReplaceAll(oneLine(s), "://", ": ")
}

// lineWidth keeps a quoted line of a reply below 78 characters, the most that RFC 5322 advises.
const lineWidth = 76

// wrapLine writes a line, broken at spaces so that no part of it has more than lineWidth characters,
// words longer than that excepted. An item of a list continues below its first word. A line does not
// break at other blanks than the space.
func wrapLine(b *strings.Builder, line []byte) {
	indent := ""
	if bytes.HasPrefix(line, []byte("* ")) {
		indent = "  "
	}
	column := 0
	for word := range bytes.SplitSeq(line, []byte(" ")) {
		length := utf8.RuneCount(word)
		switch {
		case length == 0:
			continue
		case column == 0:
		case column+1+length > lineWidth:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.Write(word)
		column += length
	}
	b.WriteByte('\n')
}
