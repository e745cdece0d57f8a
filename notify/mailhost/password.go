package mailhost

import (
	"fmt"
	"io"
)

// Password prints as [redacted] whatever the verb or encoder. Convert it to string where the secret itself is needed.
type Password string

const redacted = "[redacted]"

// Format implements fmt.Formatter, the only hook that also covers %#v and %d.
func (p Password) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps the secret out of JSON and of structured logs.
func (p Password) MarshalText() ([]byte, error) { return []byte(redacted), nil }
