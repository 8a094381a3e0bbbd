package journal

import (
	"fmt"
	"log/slog"
)

// Secret is bytes that are never shown: a device key, an image before it is
// sealed. It prints as "<hidden>" under every verb (L11).
type Secret []byte

// String hides the bytes.
func (s Secret) String() string {
	if len(s) == 0 {
		return ""
	}
	return "<hidden>"
}

// Format hides the bytes under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText hides the bytes.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the bytes for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
