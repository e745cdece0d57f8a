package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// version is the encoding of the entries that this program adds; the package comment describes it.
const version = 1

// domain begins what is hashed, so that no hash of something else is ever the hash of an entry.
const domain = "countersign audit 1\n"

// Hash is the hash of an entry; the zero Hash is what comes before the first.
type Hash [sha256.Size]byte

// String writes a hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Head is the newest entry of a chain. To know it is to know the whole chain.
type Head struct {
	ID   int64 `json:"id" doc:"of the newest entry; 0 if there is none"`
	Hash Hash  `json:"hash"`
}

// String writes a head as ParseHead reads it.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.ID, h.Hash) }

// ErrBadHead is matched when a text is not a head.
var ErrBadHead = errors.New("this is no head of an audit trail: give it as countersign audit verify printed it, " +
	"a number, a colon and 64 hexadecimal digits")

// ParseHead reads what Head.String has written. It returns ErrBadHead.
func ParseHead(text string) (Head, error) {
	number, digits, _ := strings.Cut(strings.TrimSpace(text), ":")
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id < 0 {
		return Head{}, ErrBadHead
	}
	hash, err := hex.DecodeString(digits)
	if err != nil || len(hash) != sha256.Size {
		return Head{}, ErrBadHead
	}
	return Head{id, Hash(hash)}, nil
}

// link is an entry as it is hashed.
type link struct {
	id                    int64
	at                    string // in microseconds
	actor, action, object string
	before, after         *string
}

// hash computes the hash of an entry that follows the one with the hash before.
func (l link) hash(before Hash) Hash {
	b := append([]byte(domain), before[:]...)
	for _, field := range []string{strconv.FormatInt(l.id, 10), l.at, l.actor, l.action, l.object} {
		b = appendField(b, &field)
	}
	b = appendField(b, l.before)
	b = appendField(b, l.after)
	return sha256.Sum256(b)
}

func appendField(b []byte, field *string) []byte {
	if field == nil {
		return binary.BigEndian.AppendUint64(b, math.MaxUint64)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(*field)))
	return append(b, *field...)
}
