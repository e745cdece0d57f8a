package smtp

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"github.com/wneessen/go-mail"
)

// Envelope is a message ready for the wire, with its one recipient.
type Envelope struct {
	From, To string // bare addresses; a domain in ASCII
	Body     []byte // the whole message, lines ended by CRLF
}

// Seal renders a message. It is done before a connection is touched: a fault in a message costs no dialogue, and a second
// try sends the same bytes.
func Seal(m *mail.Msg) (Envelope, error) {
	from, err := m.GetSender(false)
	if err != nil {
		return Envelope{}, fmt.Errorf("seal the message: %w", err)
	}
	to, err := m.GetRecipients()
	if err != nil {
		return Envelope{}, fmt.Errorf("seal the message: %w", err)
	}
	if len(to) != 1 {
		return Envelope{}, fmt.Errorf("a message must have one recipient, this one has %d", len(to))
	}
	var body bytes.Buffer
	if _, err := m.WriteTo(&body); err != nil {
		return Envelope{}, fmt.Errorf("seal the message: %w", err)
	}
	bare := func(address string) string { return strings.Trim(address, "<>") }
	return Envelope{From: bare(from), To: bare(to[0]), Body: body.Bytes()}, nil
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
