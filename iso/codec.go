package iso

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	moov "github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	moovErrors "github.com/moov-io/iso8583/errors"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
)

// buildSpec turns the profile's field table into moov's. No moov type leaves
// this file, and none of its error texts: they can carry the raw message.
func buildSpec(d *profileData) (*moov.MessageSpec, error) {
	spec := &moov.MessageSpec{Name: d.Name, Fields: map[int]field.Field{
		0: field.NewString(field.NewSpec(4, "MTI", encoding.ASCII, prefix.ASCII.Fixed)),
		1: field.NewBitmap(field.NewSpec(8, "bitmap", encoding.BytesToASCIIHex, prefix.Hex.Fixed)),
	}}
	prefixes := map[string]prefix.Prefixer{
		"": prefix.ASCII.Fixed, "LL": prefix.ASCII.LL, "LLL": prefix.ASCII.LLL,
	}
	for de, f := range d.Fields {
		pref, ok := prefixes[f.Prefix]
		if !ok {
			return nil, fmt.Errorf("fields.%d.prefix: %q is not known", de, f.Prefix)
		}
		if _, ok := charsets[f.Type]; !ok {
			return nil, fmt.Errorf("fields.%d.type: %q is not known", de, f.Type)
		}
		if f.Length < 1 || f.Length > 999 {
			return nil, fmt.Errorf("fields.%d.length: must be 1 to 999", de)
		}
		spec.Fields[de] = field.NewString(field.NewSpec(f.Length, f.Name, encoding.ASCII, pref))
	}
	return spec, nil
}

// charsets are the attribute letters of ISO 8583: which characters a value may
// have.
var charsets = map[string]func(string) bool{
	"n":   digits,
	"an":  func(s string) bool { return all(s, func(c byte) bool { return alpha(c) || digit(c) || c == ' ' }) },
	"ans": func(s string) bool { return all(s, func(c byte) bool { return c >= 0x20 && c < 0x7f }) },
	"z":   func(s string) bool { return all(s, func(c byte) bool { return digit(c) || c == '=' || c == 'D' }) },
	"hex": func(s string) bool {
		return len(s)%2 == 0 && all(s, func(c byte) bool { return digit(c) || (c >= 'A' && c <= 'F') })
	},
	"x+n": func(s string) bool { return s != "" && (s[0] == 'C' || s[0] == 'D') && digits(s[1:]) },
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
func alpha(c byte) bool { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') }

func all(s string, ok func(byte) bool) bool {
	for i := 0; i < len(s); i++ {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

// check holds one value against the field table.
func (p *Profile) check(de int, value string, kind error) error {
	f, ok := p.data.Fields[de]
	switch {
	case !ok:
		return &FieldError{kind, de, "is not part of this profile"}
	case !charsets[f.Type](value):
		return &FieldError{kind, de, "has a character that type " + f.Type + " does not allow"}
	case f.Prefix == "" && len(value) != f.Length && !p.padded(de):
		return &FieldError{kind, de, fmt.Sprintf("must have exactly %d characters, has %d", f.Length, len(value))}
	case len(value) > f.Length:
		return &FieldError{kind, de, fmt.Sprintf("must have at most %d characters, has %d", f.Length, len(value))}
	}
	return nil
}

// padded reports whether a value is filled up with spaces on the right: fixed
// text is, numbers are not.
func (p *Profile) padded(de int) bool {
	f := p.data.Fields[de]
	return f.Prefix == "" && (f.Type == "an" || f.Type == "ans")
}

// Pack turns a message into bytes, without a frame. Errors: a FieldError of
// kind ErrInvalid naming the data element.
func (p *Profile) Pack(m *Message) ([]byte, error) {
	if _, err := ParseMTI(string(m.MTI())); err != nil {
		return nil, err
	}
	out := moov.NewMessage(p.spec)
	out.MTI(string(m.MTI()))
	for _, de := range m.Fields() {
		value, _ := m.Field(de)
		if err := p.check(de, value, ErrInvalid); err != nil {
			return nil, err
		}
		if p.padded(de) {
			value += strings.Repeat(" ", p.data.Fields[de].Length-len(value))
		}
		if err := out.Field(de, value); err != nil {
			return nil, invalid(de, "cannot be set")
		}
	}
	packed, err := out.Pack()
	if err != nil {
		return nil, invalid(1, "message cannot be packed")
	}
	return packed, nil
}

// Unpack turns bytes into a message. It accepts only what Pack would have made:
// trailing bytes, another spelling of a length or of the bitmap, and characters
// that the field's type does not allow are refused. Errors: a FieldError of
// kind ErrUndecodable naming the data element, never a value.
func (p *Profile) Unpack(packed []byte) (m *Message, err error) {
	// The library has panicked on hostile input before; an answer that cannot
	// be read is a doubt, never a crash of the terminal.
	defer func() {
		if recover() != nil {
			m, err = nil, &FieldError{ErrUndecodable, 1, "does not describe the bytes that follow"}
		}
	}()
	in := moov.NewMessage(p.spec)
	if err := in.Unpack(packed); err != nil {
		return nil, undecodable(err)
	}
	mti, err := in.GetMTI()
	if err != nil {
		return nil, &FieldError{ErrUndecodable, 0, "cannot be read"}
	}
	if _, err := ParseMTI(mti); err != nil {
		return nil, &FieldError{ErrUndecodable, 0, "must be four digits"}
	}
	m = NewMessage(MTI(mti))
	for de := range in.GetFields() {
		if de < 2 {
			continue
		}
		value, err := in.GetString(de)
		if err != nil {
			return nil, &FieldError{ErrUndecodable, de, "cannot be read"}
		}
		if p.padded(de) {
			value = strings.TrimRight(value, " ")
		}
		if err := p.check(de, value, ErrUndecodable); err != nil {
			return nil, err
		}
		m.Set(de, value)
	}
	again, err := p.Pack(m)
	if err != nil || !bytes.Equal(again, packed) {
		return nil, &FieldError{ErrUndecodable, 1, "does not account for every byte of the message"}
	}
	return m, nil
}

// undecodable keeps the number of the field that failed and drops the rest of
// the library's error.
func undecodable(err error) error {
	de := 1
	var unpack *moovErrors.UnpackError
	if errors.As(err, &unpack) {
		if n, err := strconv.Atoi(unpack.FieldID); err == nil {
			de = n
		}
	}
	return &FieldError{ErrUndecodable, de, "cannot be read: too short, or a length that is not one"}
}
