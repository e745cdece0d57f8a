package bounce

import (
	"bytes"
	"io"
	"mime"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// How long texts are, in bytes, that are handed out.
const (
	maxWords     = 500
	maxText      = 16 << 10
	maxAddresses = 50
)

// header has the values of fields by their names in lower case, still encoded.
type header map[string][]string

// fields reads a header.
type fields struct {
	header header
	last   string
	size   int
}

// fieldName is the beginning of a field (RFC 5322, 2.2).
var fieldName = regexp.MustCompile(`^([!-9;-~]{1,100})[ \t]*:[ \t]*`)

// add takes a line. One that is none of a header is passed over.
func (f *fields) add(line []byte) {
	const cost = 40 // of a line in memory beside its text
	f.size += len(line) + cost
	if f.size > maxHeader {
		return
	}
	if f.header == nil {
		f.header = header{}
	}
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		if values := f.header[f.last]; len(values) > 0 {
			values[len(values)-1] += " " + string(bytes.TrimSpace(line))
		}
		return
	}
	f.last = ""
	if name := fieldName.FindSubmatch(line); name != nil {
		f.last = string(bytes.ToLower(name[1]))
		f.header[f.last] = append(f.header[f.last], string(bytes.TrimSpace(line[len(name[0]):])))
	}
}

// parseHeader reads a header up to the first empty line.
func parseHeader(content []byte) header {
	var f fields
	for line := range bytes.Lines(content) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		f.add(line)
	}
	return f.header
}

func (h header) has(name string) bool { return len(h[name]) > 0 }

// raw returns the first field of a name as it stands there.
func (h header) raw(name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// line returns the first field of a name for reading.
func (h header) line(name string) string { return oneLine(decodeWords(h.raw(name))) }

// deliveredTo returns the addresses that a mail was sent to: first what the receiving servers have noted.
func (h header) deliveredTo() (list []string) {
	for _, name := range []string{
		"delivered-to", "x-original-to", "x-delivered-to", "envelope-to", "x-envelope-to", "x-rcpt-to", "original-recipient", "to", "cc",
	} {
		list = appendAddresses(list, h[name]...)
	}
	return list
}

// appendAddresses adds the addresses in texts that are not in the list yet, whatever stands around them.
func appendAddresses(list []string, texts ...string) []string {
	for _, text := range texts {
		for text != "" && len(list) < maxAddresses {
			local, rest, ok := strings.Cut(text, "@")
			if !ok {
				break
			}
			text = rest
			local = local[strings.LastIndexAny(local, aroundAddress)+1:]
			domain := rest
			if end := strings.IndexAny(rest, aroundAddress+"@?&"); end >= 0 {
				domain = rest[:end]
			}
			address := oneLine(local + "@" + domain)
			if local != "" && domain != "" && len(local) <= 64 && len(domain) <= 255 && !slices.Contains(list, address) {
				list = append(list, address)
			}
		}
	}
	return list
}

// aroundAddress are characters that no address has, unless it is quoted.
const aroundAddress = " \t\r\n<>,;:\"()[]\\"

// identifier takes a Message-ID out of its brackets.
func identifier(raw string) string {
	if _, inner, ok := strings.Cut(raw, "<"); ok {
		raw, _, _ = strings.Cut(inner, ">")
	}
	return oneLine(raw)
}

// decodeWords decodes encoded words (RFC 2047), and what is neither ASCII nor UTF-8.
func decodeWords(s string) string {
	decoder := mime.WordDecoder{CharsetReader: func(charset string, input io.Reader) (io.Reader, error) {
		content, err := io.ReadAll(input)
		return strings.NewReader(toUTF8(content, charset)), err
	}}
	s = toUTF8([]byte(s), "")
	if decoded, err := decoder.DecodeHeader(s); err == nil {
		return decoded
	}
	return s
}

// toUTF8 reads a text in the charset that it claims to be in, and as UTF-8 or Windows-1252 where that cannot be.
func toUTF8(content []byte, charset string) string {
	if e, err := htmlindex.Get(charset); err == nil {
		if name, err := htmlindex.Name(e); err == nil && name != "utf-8" && name != "windows-1252" && name != "replacement" {
			if text, err := e.NewDecoder().Bytes(content); err == nil {
				return string(text)
			}
		}
	}
	if utf8.Valid(content) {
		return string(content)
	}
	// With letters of UTF-8 in it, it is UTF-8 that was cut or damaged.
	mended := bytes.ToValidUTF8(content, []byte("?"))
	if bytes.ContainsFunc(mended, func(r rune) bool { return r > unicode.MaxASCII }) {
		return string(mended)
	}
	text, _ := charmap.Windows1252.NewDecoder().Bytes(content) // It knows every byte.
	return string(text)
}

// oneLine makes a single line of printable text.
func oneLine(s string) string { return cut(strings.Join(strings.Fields(printable(s)), " "), maxWords) }

// readable makes lines of printable text.
func readable(s string, limit int) string {
	var lines []string
	for line := range strings.Lines(cut(strings.ToValidUTF8(s, "?"), limit)) {
		lines = append(lines, strings.TrimRight(printable(line), " "))
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
