package provisioning

import (
	"fmt"
	"log/slog"
)

// Secret is a string that must not reach a log, an error or a page: a token, a key, a password.
// However it is printed or encoded, it shows [redacted]; only Reveal gives the value.
type Secret string

const redacted = "[redacted]"

// Reveal returns the value itself, for the one place that has to send or seal it.
func (s Secret) Reveal() string { return string(s) }

// String returns a stand-in, never the value.
func (Secret) String() string { return redacted }

// Format prints the stand-in whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue keeps the value out of structured logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the value out of JSON and other encodings.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
