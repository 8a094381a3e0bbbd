package iso

import (
	"fmt"
	"log/slog"
	"strings"
)

// The clear values sit behind pointers on purpose: fmt calls no method on the
// unexported field of somebody else's struct, it walks into it instead. What it
// finds there must be an address, not a card (L11). One pointer does for a
// string; for a struct it takes two, because under a verb that does not fit
// (%s of a struct) fmt shows what the first one points to.

// PAN is a primary account number (DE 2). It prints as stars and the last four
// digits under every verb; the clear digits are had with Reveal only. The zero
// value is "no PAN".
type PAN struct{ digits *string }

// ParsePAN accepts 12 to 19 digits whose check digit (ISO/IEC 7812, Luhn) is
// right.
func ParsePAN(s string) (PAN, error) {
	if len(s) < 12 || len(s) > 19 {
		return PAN{}, invalid(2, "must have 12 to 19 digits")
	}
	if !digits(s) {
		return PAN{}, invalid(2, "must have digits only")
	}
	if !luhn(s) {
		return PAN{}, invalid(2, "has a wrong check digit")
	}
	return PAN{&s}, nil
}

func luhn(s string) bool {
	sum := 0
	for i := 0; i < len(s); i++ {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// Reveal returns the clear digits. Whoever calls it answers for where they go.
func (p PAN) Reveal() string {
	if p.digits == nil {
		return ""
	}
	return *p.digits
}

// Last4 returns the last four digits, or "" for no PAN.
func (p PAN) Last4() string {
	if s := p.Reveal(); len(s) >= 12 {
		return s[len(s)-4:]
	}
	return ""
}

// String masks all but the last four digits.
func (p PAN) String() string { return maskPAN(p.Reveal()) }

// Format masks under every verb.
func (p PAN) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, p.String()) }

// MarshalText masks (JSON, XML, map keys).
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// LogValue masks for log/slog.
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.String()) }

// maskPAN keeps the last four digits of something that can be a PAN and hides
// all of anything else: a mask that does not understand its input shows none of
// it.
func maskPAN(s string) string {
	if s == "" {
		return ""
	}
	if len(s) < 12 || len(s) > 19 || !digits(s) {
		return hidden
	}
	return strings.Repeat("*", len(s)-4) + s[len(s)-4:]
}

const hidden = "<hidden>"

// Secret is card data that is never shown at all: a track, a PIN block, chip
// data. It prints as "<hidden>" under every verb.
type Secret struct{ value *string }

// NewSecret wraps a clear value; an empty one is "none".
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the clear value, "" for none.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String hides the value.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return hidden
}

// Format hides the value under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText hides the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the value for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// shown lists the data elements that are printed as they are. All others are
// hidden: the list is closed by default, so that a field nobody thought of
// (48, 60 to 63, 102 …) cannot leak what an acquirer put into it.
var shown = map[int]bool{
	3: true, 4: true, 7: true, 11: true, 12: true, 13: true, 15: true, 18: true,
	22: true, 24: true, 25: true, 32: true, 33: true, 37: true, 38: true, 39: true,
	41: true, 42: true, 49: true, 70: true, 90: true,
}

// shapes are what a shown data element may look like, in any dialect; what looks
// otherwise is not what it should be, and is hidden.
var shapes = map[int]func(string) bool{
	3: upTo(6), 4: upTo(12), 7: upTo(10), 11: upTo(6), 12: upTo(12), 13: upTo(4), 15: upTo(6), 18: upTo(4),
	22: short(12), 24: upTo(3), 25: upTo(4), 32: upTo(11), 33: upTo(11), 37: short(12), 38: short(6), 39: short(3),
	41: short(8), 42: short(15), 49: short(3), 70: upTo(3), 90: upTo(42),
}

func upTo(n int) func(string) bool {
	return func(s string) bool { return len(s) <= n && digits(s) }
}

func short(n int) func(string) bool {
	return func(s string) bool { return len(s) <= n && printable(s) }
}

// maskField is the printable form of one data element.
func maskField(de int, value string) string {
	bare := strings.TrimRight(value, " ")
	switch {
	case de == 2:
		return maskPAN(value)
	case !shown[de] || !shapes[de](bare):
		return hidden
	case len(bare) >= 13 && len(bare) <= 19 && digits(bare) && luhn(bare): // a PAN where none belongs
		return hidden
	case de == 90: // numbers that are laid out: MTI, STAN, time, institutions
		if _, err := ParseOriginal(bare); err != nil || hidesPAN(bare[20:]) {
			return hidden
		}
	}
	return value
}

// hidesPAN reports whether a run of 13 to 19 digits that begins with no zero
// passes for a card number.
func hidesPAN(s string) bool {
	for at := range s {
		for n := 13; n <= 19 && at+n <= len(s); n++ {
			if s[at] != '0' && luhn(s[at:at+n]) {
				return true
			}
		}
	}
	return false
}
