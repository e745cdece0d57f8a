package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/net/idna"
)

// Purpose is what a message's own address is for.
type Purpose string

const (
	PurposeBounce      Purpose = "bounce"      // the return path: mail servers report there
	PurposeUnsubscribe Purpose = "unsubscribe" // in List-Unsubscribe: a mail there stops all others
)

// What an address is that ReturnPaths.Parse does not take for a message's own.
var (
	// ErrForeignAddress: it is none of ours.
	ErrForeignAddress = errors.New("the address is not one of our return paths")
	// ErrForgedAddress: it looks like a message's, but was not made here, or with another key.
	ErrForgedAddress = errors.New("the return path is forged, or was made with another key")
	// ErrBareAddress: it is the bounce address itself, which belongs to no message.
	ErrBareAddress = errors.New("the bounce address itself belongs to no message")
)

// ReturnPaths gives every message two addresses of its own, so that what comes back can be told apart by where it was sent:
//
//	bounce+b…40 characters…@example.com    what becomes of the mail
//	bounce+u…40 characters…@example.com    for unsubscribing
//
// The characters are the message's id and 72 bits of a MAC, in base32, as some servers change the case of addresses. Whoever
// has seen a mail knows its addresses; nobody can make up those of another one. Both arrive in the mailbox of the bounce
// address, if its host delivers tags as most do.
type ReturnPaths struct {
	local  string
	domain string // in ASCII
	key    []byte
}

const (
	returnPathMAC    = 9 // bytes: with the id's 16 they make 40 characters without any bits to spare
	returnPathTag    = 1 + 40
	maxLocalPart     = 64  // RFC 5321, 4.5.3.1.1
	maxPath          = 254 // RFC 5321, 4.5.3.1.3, without brackets
	minReturnPathKey = 16
)

// NewReturnPaths takes the address that the tags are put into. One that has a tag already keeps it in front of ours.
func NewReturnPaths(address string, key []byte) (*ReturnPaths, error) {
	if len(key) < minReturnPathKey {
		return nil, fmt.Errorf("bounce address: the key has %d bytes, at least %d are needed", len(key), minReturnPathKey)
	}
	at := strings.LastIndexByte(address, '@')
	parsed, err := netmail.ParseAddress(address)
	if err != nil || parsed.Address != address || at < 0 || strings.ContainsAny(address[:at], "\"@ ") {
		return nil, fmt.Errorf("bounce address %q: write a plain address such as bounce@example.com", address)
	}
	p := &ReturnPaths{local: address[:at], key: key}
	if strings.ContainsFunc(p.local, func(r rune) bool { return r > '~' }) {
		return nil, fmt.Errorf("bounce address %q: the part before @ must be ASCII, or not every mail server can report to it", address)
	}
	if p.domain, err = idna.Lookup.ToASCII(address[at+1:]); err != nil {
		return nil, fmt.Errorf("bounce address %q: the domain is not valid: %w", address, err)
	}
	if most := maxLocalPart - 1 - returnPathTag; len(p.local) > most {
		return nil, fmt.Errorf("bounce address %q: the part before @ has %d characters; at most %d leave room for what is added to it",
			address, len(p.local), most)
	}
	if longest := p.Bounce(uuid.Nil); len(longest) > maxPath {
		return nil, fmt.Errorf("bounce address %q: it would have %d characters with what is added to it; mail servers take %d",
			address, len(longest), maxPath)
	}
	return p, nil
}

// Bounce returns the envelope sender of a message.
func (p *ReturnPaths) Bounce(message uuid.UUID) string { return p.address('b', message) }

// Unsubscribe returns the address in a message's List-Unsubscribe.
func (p *ReturnPaths) Unsubscribe(message uuid.UUID) string { return p.address('u', message) }

func (p *ReturnPaths) address(letter byte, message uuid.UUID) string {
	return p.local + "+" + p.tag(letter, message) + "@" + p.domain
}

func (p *ReturnPaths) tag(letter byte, message uuid.UUID) string {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte("return path"))
	mac.Write([]byte{letter})
	mac.Write(message[:])
	proven := append(message[:], mac.Sum(nil)[:returnPathMAC]...)
	return string(letter) + returnPathEncoding().EncodeToString(proven)
}

func returnPathEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// Parse tells which message an address belongs to, in any case. It returns ErrForeignAddress, ErrForgedAddress or
// ErrBareAddress.
func (p *ReturnPaths) Parse(address string) (message uuid.UUID, purpose Purpose, err error) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 || !p.isDomain(address[at+1:]) {
		return uuid.Nil, "", ErrForeignAddress
	}
	local := strings.ToLower(address[:at])
	if local == strings.ToLower(p.local) {
		return uuid.Nil, "", ErrBareAddress
	}
	tag, ok := strings.CutPrefix(local, strings.ToLower(p.local)+"+")
	if !ok || len(tag) != returnPathTag {
		return uuid.Nil, "", ErrForeignAddress
	}
	switch tag[0] {
	case 'b':
		purpose = PurposeBounce
	case 'u':
		purpose = PurposeUnsubscribe
	default:
		return uuid.Nil, "", ErrForeignAddress
	}
	content, err := returnPathEncoding().DecodeString(tag[1:])
	if err != nil {
		return uuid.Nil, "", ErrForeignAddress
	}
	copy(message[:], content)
	if !hmac.Equal([]byte(tag), []byte(p.tag(tag[0], message))) {
		return uuid.Nil, "", ErrForgedAddress
	}
	return message, purpose, nil
}

// isDomain compares domains in either form.
func (p *ReturnPaths) isDomain(domain string) bool {
	domain = strings.TrimSuffix(domain, ".")
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		domain = ascii
	}
	return strings.EqualFold(domain, p.domain)
}
