package mailsink

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/text/encoding/charmap"
)

// maxDepth bounds multiparts inside multiparts.
const maxDepth = 10

// parse reads what can be read. Broken mail is what one wants to look at in a sink, so it never fails: net/mail, which
// gives up on a whole message for one bad header line, is not used.
func parse(raw []byte) Message {
	fields, body := splitHeader(raw)
	m := Message{Raw: raw}
	words := mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) {
		b, err := io.ReadAll(r)
		return strings.NewReader(toUTF8(b)), err
	}}
	for _, f := range fields {
		value, err := words.DecodeHeader(f.Value)
		if err != nil {
			value = f.Value
		}
		m.Header = append(m.Header, Field{Name: f.Name, Value: toUTF8([]byte(value))})
	}
	m.Subject = m.HeaderValue("Subject")
	m.MessageID = strings.Trim(m.HeaderValue("Message-ID"), "<> ")
	m.read(func(name string) string { return first(fields, name) }, body, 0)
	m.Links = links(m.Text, m.HTML)
	return m
}

// splitHeader parts a message into its unfolded header fields and its body. A line that is no field is skipped, unless it
// is the very first: then there is no header.
func splitHeader(raw []byte) (fields []Field, body []byte) {
	rest := raw
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		text := strings.TrimRight(string(line), "\r")
		switch name, value, ok := strings.Cut(text, ":"); {
		case text == "":
			return fields, after
		case len(fields) > 0 && (text[0] == ' ' || text[0] == '\t'):
			last := &fields[len(fields)-1]
			last.Value = strings.TrimSpace(last.Value + " " + strings.TrimSpace(text))
		case ok && name != "" && !strings.ContainsAny(name, " \t"):
			fields = append(fields, Field{Name: name, Value: strings.TrimSpace(value)})
		case len(fields) == 0:
			return nil, raw
		}
		rest = after
	}
	return fields, nil
}

// read adds one part, and the parts within it, to the message.
func (m *Message) read(header func(string) string, body []byte, depth int) {
	media, params, err := mime.ParseMediaType(header("Content-Type"))
	if err != nil && media == "" {
		media = "text/plain"
	}
	if strings.HasPrefix(media, "multipart/") && depth < maxDepth && m.readParts(params["boundary"], body, depth) {
		return
	}
	body = decode(header("Content-Transfer-Encoding"), body)
	disposition, file, _ := mime.ParseMediaType(header("Content-Disposition"))
	switch {
	case disposition != "attachment" && media == "text/html" && m.HTML == "":
		m.HTML = toUTF8(body)
	case disposition != "attachment" && (media == "text/plain" || strings.HasPrefix(media, "multipart/")):
		m.Text = strings.TrimPrefix(m.Text+"\n"+toUTF8(body), "\n")
	default:
		name := file["filename"]
		if name == "" {
			name = params["name"]
		}
		m.Attachments = append(m.Attachments, Attachment{Name: toUTF8([]byte(name)), Type: media, Size: len(body)})
	}
}

// readParts reports false if body has no part at all: then it is better shown as it is.
func (m *Message) readParts(boundary string, body []byte, depth int) bool {
	if boundary == "" {
		return false
	}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		part, err := parts.NextRawPart()
		if err != nil {
			return n > 0
		}
		content, _ := io.ReadAll(part) // of a part that breaks off, what there is
		m.read(part.Header.Get, content, depth+1)
	}
}

// decode undoes the transfer encoding as far as it goes.
func decode(encoding string, body []byte) []byte {
	var r io.Reader
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		r = quotedprintable.NewReader(bytes.NewReader(body))
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, bytes.NewReader(body))
	default:
		return body
	}
	decoded, err := io.ReadAll(r)
	if err != nil && len(decoded) == 0 {
		return body
	}
	return decoded
}

// toUTF8 reads b as UTF-8, else as Windows-1252, in which every byte is something.
func toUTF8(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	decoded, _ := charmap.Windows1252.NewDecoder().Bytes(b)
	return string(decoded)
}

var (
	webLink  = regexp.MustCompile(`^https?://\S`)
	textLink = regexp.MustCompile(`https?://[^\s<>"]+`)
)

// textLinks finds the links in plain text, as pairs of byte offsets.
func textLinks(text string) [][]int {
	found := textLink.FindAllStringIndex(text, -1)
	for _, at := range found {
		link := strings.TrimRight(text[at[0]:at[1]], ".,;:!?'*_”’»")
		if !strings.Contains(link, "(") {
			link = strings.TrimRight(link, ").,")
		}
		at[1] = at[0] + len(link)
	}
	return found
}

// links returns the links of both parts in their order, each once.
func links(text, markup string) []string {
	var found []string
	seen := map[string]bool{}
	add := func(link string) {
		if !seen[link] {
			seen[link] = true
			found = append(found, link)
		}
	}
	for _, at := range textLinks(text) {
		add(text[at[0]:at[1]])
	}
	z := html.NewTokenizer(strings.NewReader(markup))
	for z.Next() != html.ErrorToken {
		t := z.Token()
		if !opensLink(t.Type, t.Data) {
			continue
		}
		for _, a := range t.Attr {
			if link := strings.TrimSpace(a.Val); a.Key == "href" && webLink.MatchString(link) {
				add(link)
			}
		}
	}
	return found
}

func opensLink(t html.TokenType, tag string) bool {
	return (t == html.StartTagToken || t == html.SelfClosingTagToken) && (tag == "a" || tag == "area")
}
