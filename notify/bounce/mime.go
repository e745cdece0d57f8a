package bounce

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// What is kept of a mail, and how much of it is looked at.
const (
	maxRead    = 2 << 20
	maxLine    = 16 << 10
	maxHeader  = 64 << 10
	maxContent = 64 << 10
	maxParts   = 16
	maxDepth   = 8
)

// message is a mail as far as it is kept: its header and its parts, those of multiparts in it included.
type message struct {
	header header
	parts  []*part
}

// part has no parts itself. A mail that hangs on another one is a single part.
type part struct {
	header  header
	media   string
	params  map[string]string
	content []byte // the beginning, still encoded; of texts and messages only
}

// scanner takes a mail apart line by line. The standard library's readers give up where a header is broken, an end is
// missing or line ends are mixed, and that is what returned mail is like.
type scanner struct {
	message    message
	boundaries []string // of the multiparts that are open, the innermost last
	inHeader   bool
	fields     fields
	part       *part // whose content comes; nil before the first and after the last one of a multipart
}

func scan(r io.Reader) message {
	lines := bufio.NewReaderSize(io.LimitReader(r, maxRead), maxLine)
	s := scanner{inHeader: true}
	for begins := true; !s.enough(); {
		line, unfinished, err := lines.ReadLine()
		if err != nil {
			break
		}
		if bytes.IndexByte(line, 0) >= 0 {
			line = bytes.ReplaceAll(line, []byte{0}, nil)
		}
		s.take(line, begins, !unfinished)
		begins = !unfinished
	}
	if s.inHeader {
		s.enter()
	}
	return s.message
}

// enough reports whether nothing of interest can follow: the returned mail comes last in a report.
func (s *scanner) enough() bool {
	return s.part != nil && len(s.part.content) >= maxContent && s.part.isMail() && s.message.part(reportTypes()...) != nil
}

// take takes a line, or a piece of a long one: its beginning, its end, or neither.
func (s *scanner) take(line []byte, begins, ends bool) {
	switch {
	case begins && s.isBoundary(line):
	case s.inHeader && begins && len(line) == 0:
		s.enter()
	case s.inHeader && begins:
		s.fields.add(line)
	case s.part != nil && s.part.isKept() && len(s.part.content) < maxContent:
		s.part.content = append(s.part.content, line...)
		if ends {
			s.part.content = append(s.part.content, '\n')
		}
	}
}

// isBoundary ends and begins parts.
func (s *scanner) isBoundary(line []byte) bool {
	name, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok {
		return false
	}
	for i, boundary := range slices.Backward(s.boundaries) {
		rest, ok := bytes.CutPrefix(name, []byte(boundary))
		if !ok {
			continue
		}
		switch string(bytes.TrimSpace(rest)) {
		case "":
			if s.inHeader {
				s.enter()
			}
			s.boundaries, s.part, s.inHeader = s.boundaries[:i+1], nil, true
			return true
		case "--":
			if s.inHeader {
				s.enter()
			}
			s.boundaries, s.part = s.boundaries[:i], nil
			return true
		}
	}
	return false
}

// enter begins with what a header is about.
func (s *scanner) enter() {
	h := s.fields.header
	s.fields, s.inHeader, s.part = fields{}, false, nil
	if s.message.header == nil {
		if h == nil {
			h = header{}
		}
		s.message.header = h
	}
	media, params := h.mediaType()
	if strings.HasPrefix(media, "multipart/") {
		if params["boundary"] != "" && len(s.boundaries) < maxDepth {
			s.boundaries = append(s.boundaries, params["boundary"])
			return
		}
		media = "text/plain" // for want of a way to take it apart
	}
	if len(s.message.parts) < maxParts {
		s.part = &part{header: h, media: media, params: params}
		s.message.parts = append(s.message.parts, s.part)
	}
}

// part returns the first part of one of the types, or nil.
func (m message) part(types ...string) *part {
	for _, p := range m.parts {
		if slices.Contains(types, p.media) {
			return p
		}
	}
	return nil
}

// text returns what a person would read first.
func (m message) text() string {
	if p := m.part("text/plain"); p != nil {
		return p.text()
	}
	if p := m.part("text/html"); p != nil {
		return textOf(p.text())
	}
	return ""
}

// returned returns the header of the mail that came back, as far as it did.
func (m message) returned() header {
	for _, p := range m.parts {
		if p.isMail() {
			return parseHeader(p.decoded())
		}
	}
	return header{}
}

func (p *part) isKept() bool {
	return strings.HasPrefix(p.media, "text/") || strings.HasPrefix(p.media, "message/")
}

func (p *part) isMail() bool {
	switch p.media {
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers", "text/rfc822-header", "text/rfc822":
		return true
	}
	return false
}

// decoded undoes the transfer encoding of as much as is in order.
func (p *part) decoded() []byte {
	switch strings.ToLower(p.header.line("content-transfer-encoding")) {
	case "base64":
		return fromBase64(p.content)
	case "quoted-printable":
		return fromQuotedPrintable(p.content)
	default:
		return p.content
	}
}

func (p *part) text() string { return toUTF8(p.decoded(), p.params["charset"]) }

func fromBase64(content []byte) []byte {
	data, _, _ := bytes.Cut(content, []byte("="))
	data = bytes.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '+', r == '/':
			return r
		}
		return -1
	}, data)
	if len(data)%4 == 1 { // six bits are no byte
		data = data[:len(data)-1]
	}
	decoded, _ := base64.RawStdEncoding.AppendDecode(nil, data)
	return decoded
}

// fromQuotedPrintable leaves lines as they are that are not encoded properly.
func fromQuotedPrintable(content []byte) []byte {
	var decoded []byte
	for line := range bytes.Lines(content) {
		plain, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(line)))
		if err != nil {
			plain = line
		}
		decoded = append(decoded, plain...)
	}
	return decoded
}

// textOf returns the text of an HTML page.
func textOf(page string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	for hidden := false; ; {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			if !hidden {
				b.Write(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			t := z.Token()
			switch t.Data {
			case "style", "script", "title":
				hidden = t.Type == html.StartTagToken
			case "p", "br", "div", "tr", "li", "h1", "h2", "h3", "table":
				b.WriteByte('\n')
			}
		default: // comments
		}
	}
}

// boundaryParameter finds the boundary in a Content-Type that is not well-formed.
var boundaryParameter = regexp.MustCompile(`(?i)boundary\s*=\s*"?([^";\s]+)`)

// mediaType returns a part's type in lower case, text/plain where it names none.
func (h header) mediaType() (media string, params map[string]string) {
	value := h.raw("content-type")
	media, params, err := mime.ParseMediaType(value)
	if err != nil {
		media, _, _ = strings.Cut(value, ";")
		media = strings.ToLower(strings.TrimSpace(media))
		params = map[string]string{}
		if found := boundaryParameter.FindStringSubmatch(value); found != nil {
			params["boundary"] = found[1]
		}
	}
	if !strings.Contains(media, "/") {
		media = "text/plain"
	}
	return media, params
}
