package mailsink

import (
	"slices"
	"strings"
	"time"
)

// Message is one received message: its envelope, its bytes and what could be read in them.
type Message struct {
	// ID counts from 1 in order of arrival.
	ID         int64
	ReceivedAt time.Time

	// The envelope: MAIL FROM (empty for bounces), RCPT TO, EHLO and where it came from.
	From     string
	To       []string
	Hello    string
	Remote   string
	Username string // of AUTH
	TLS      bool
	UTF8     bool // the sender asked for SMTPUTF8

	// Header has every field in its order, unfolded and decoded.
	Header    []Field
	Subject   string
	MessageID string
	// Text and HTML are the readable parts; Links the http and https links of both, each once.
	Text        string
	HTML        string
	Links       []string
	Attachments []Attachment
	Raw         []byte
}

// Field is one header field.
type Field struct{ Name, Value string }

// Attachment is a part that is no text to read.
type Attachment struct {
	Name string
	Type string
	Size int
}

// HeaderValue returns the first header field of that name, any case.
func (m Message) HeaderValue(name string) string { return first(m.Header, name) }

func first(header []Field, name string) string {
	at := slices.IndexFunc(header, func(f Field) bool { return strings.EqualFold(f.Name, name) })
	if at < 0 {
		return ""
	}
	return header[at].Value
}

// size is what the message costs in memory, near enough.
func (m Message) size() int64 { return int64(2*len(m.Raw) + len(m.Text) + len(m.HTML)) }

// isFor reports whether to is one of the recipients; nobody in particular always is.
func (m Message) isFor(to string) bool {
	return to == "" || slices.ContainsFunc(m.To, func(r string) bool { return strings.EqualFold(r, to) })
}

// mentions reports whether all the lower-case words occur in what the list shows.
func (m Message) mentions(words []string) bool {
	if len(words) == 0 {
		return true
	}
	shown := strings.ToLower(strings.Join(append([]string{m.Subject, m.From, m.HeaderValue("From")}, m.To...), "\n"))
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(shown, w) })
}
