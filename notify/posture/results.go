package posture

import "strings"

// Result is what a receiving server found out by one method.
type Result struct {
	Method string // spf, dkim, dmarc, …
	Value  string // pass, fail, …
	// Properties are what it looked at, such as header.d or smtp.mailfrom, by name.
	Properties map[string]string
}

// ParseResults reads the value of an Authentication-Results field (RFC 8601, 2.2)
//
//	[ server [ version ] ";" ] *( method [ "/" version ] "=" value *( name "=" value ) ";" )
//
// with comments in parentheses anywhere. Exchange Online leaves out the server, which then is empty. What does not have that
// form is passed over: other servers write oddities as well, and one of them must not hide the rest.
func ParseResults(field string) (server string, results []Result) {
	for i, words := range statements(field) {
		method, value, ok := strings.Cut(words[0], "=")
		if !ok {
			if i == 0 {
				server = words[0]
			}
			continue
		}
		method, _, _ = strings.Cut(method, "/")
		r := Result{Method: strings.ToLower(method), Value: strings.ToLower(value), Properties: make(map[string]string)}
		for _, word := range words[1:] {
			if name, value, ok := strings.Cut(word, "="); ok {
				r.Properties[strings.ToLower(name)] = value
			}
		}
		results = append(results, r)
	}
	return server, results
}

// statements returns the words of each part between semicolons that has any. Comments are left out and quotes taken off;
// spaces around an equals sign do not part words.
func statements(field string) (all [][]string) {
	var words []string
	var word strings.Builder
	depth, quoted, spaced := 0, false, false
	endWord := func() {
		if word.Len() > 0 {
			words = append(words, word.String())
			word.Reset()
		}
	}
	for i := 0; i < len(field); i++ {
		c := field[i]
		switch {
		case c == '\\' && (quoted || depth > 0):
			if i++; quoted && i < len(field) {
				word.WriteByte(field[i])
			}
		case depth > 0:
			switch c {
			case '(':
				depth++
			case ')':
				depth--
			}
		case c == '"':
			quoted = !quoted
		case quoted:
			word.WriteByte(c)
		case c == '(':
			depth, spaced = 1, true
		case c == ';':
			endWord()
			if len(words) > 0 {
				all = append(all, words)
			}
			words, spaced = nil, false
		case strings.IndexByte(" \t\r\n", c) >= 0:
			spaced = true
		default:
			if spaced && c != '=' && strings.IndexByte(word.String(), '=') != word.Len()-1 {
				endWord()
			}
			spaced = false
			word.WriteByte(c)
		}
	}
	endWord()
	if len(words) > 0 {
		all = append(all, words)
	}
	return all
}
