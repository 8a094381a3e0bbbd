package iso

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/prefix"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// wireText is one way to write a value: how many bytes so many units take, and
// both directions. A unit is what a length prefix counts: a character, a digit,
// or with opaque bytes a byte. decode gets exactly the bytes of its value.
type wireText struct {
	bytes  func(units int) int
	units  func(value string) int
	encode func(value string) ([]byte, error)
	decode func(src []byte, units int) (string, error)
}

// The library's encoders carry the value in their error texts; these do not.
var (
	errCharacter = errors.New("has a character that cannot be written so")
	errDigit     = errors.New("has a half-byte that is not a digit")
	errFiller    = errors.New("has a filler that is not the profile's")
)

func same(n int) int          { return n }
func doubled(n int) int       { return 2 * n }
func halved(n int) int        { return (n + 1) / 2 }
func characters(s string) int { return len(s) }
func pairs(s string) int      { return len(s) / 2 }

// wireTexts are the encodings that a profile may name.
var wireTexts = map[string]wireText{
	"ascii":      {same, characters, ascii, asciiText},
	"ebcdic":     {same, utf8.RuneCountInString, coded(encoding.EBCDIC1047), decoded(encoding.EBCDIC1047)},
	"gbk":        {same, gbkBytes, gbk, gbkText},
	"bcd":        {halved, characters, nibbles(false, '0'), nibbleText(false, '0', "0123456789")},
	"bcd-left":   {halved, characters, nibbles(true, '0'), nibbleText(true, '0', "0123456789")},
	"bcd-left-f": {halved, characters, nibbles(true, 'F'), nibbleText(true, 'F', "0123456789")},
	"track":      {halved, characters, nibbles(true, '0'), nibbleText(true, '0', hexDigits)},
	"track-f":    {halved, characters, nibbles(true, 'F'), nibbleText(true, 'F', hexDigits)},
	"binary":     {same, pairs, nibbles(true, '0'), func(b []byte, n int) (string, error) { return nibbleText(true, '0', hexDigits)(b, 2*n) }},
	"hex":        {doubled, pairs, ascii, asciiText},
	"ebcdic-hex": {doubled, pairs, coded(encoding.EBCDIC1047), decoded(encoding.EBCDIC1047)},
	"sign-bcd":   {func(n int) int { return 1 + halved(n-1) }, characters, signBCD, signBCDText},
}

// encodingsOf says which encodings a type of data element may have.
var encodingsOf = map[string][]string{
	"n":   {"ascii", "ebcdic", "bcd", "bcd-left", "bcd-left-f"},
	"an":  {"ascii", "ebcdic"},
	"ans": {"ascii", "ebcdic", "gbk"},
	"z":   {"ascii", "ebcdic", "track", "track-f"},
	"b":   {"binary", "hex", "ebcdic-hex"},
	"x+n": {"ascii", "ebcdic", "sign-bcd"},
}

// prefixes are the encodings of a length in front of a value.
var prefixes = map[string]map[string]prefix.Prefixer{
	"ascii":  {"LL": prefix.ASCII.LL, "LLL": prefix.ASCII.LLL},
	"bcd":    {"LL": prefix.BCD.LL, "LLL": prefix.BCD.LLL},
	"ebcdic": {"LL": prefix.EBCDIC1047.LL, "LLL": prefix.EBCDIC1047.LLL},
	"binary": {"LL": prefix.Binary.L, "LLL": prefix.Binary.LL}, // one byte, two bytes
}

const hexDigits = "0123456789ABCDEF"

func ascii(s string) ([]byte, error) { return []byte(s), nil } // the type's characters were checked

func asciiText(b []byte, _ int) (string, error) { return string(b), nil }

func coded(e encoding.Encoder) func(string) ([]byte, error) {
	return func(s string) ([]byte, error) {
		b, err := e.Encode([]byte(s))
		if err != nil {
			return nil, errCharacter
		}
		return b, nil
	}
}

func decoded(e encoding.Encoder) func([]byte, int) (string, error) {
	return func(b []byte, n int) (string, error) {
		text, _, err := e.Decode(b, n)
		if err != nil {
			return "", errCharacter
		}
		return string(text), nil
	}
}

func gbkBytes(s string) int {
	b, err := gbk(s)
	if err != nil {
		return len(s)
	}
	return len(b)
}

func gbk(s string) ([]byte, error) {
	if isASCII(s) || !utf8.ValidString(s) { // bytes that could not be read go as they came
		return []byte(s), nil
	}
	b, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(s))
	if err != nil {
		return nil, errCharacter
	}
	return b, nil
}

// gbkText reads what gbk would have written. Other bytes (a text that was cut
// inside a character) stay as they are, when they could not be taken for text.
func gbkText(b []byte, _ int) (string, error) {
	text, err := simplifiedchinese.GBK.NewDecoder().Bytes(b)
	if err == nil {
		if again, err := gbk(string(text)); err == nil && string(again) == string(b) {
			return string(text), nil
		}
	}
	if utf8.Valid(b) {
		return "", errCharacter
	}
	return string(b), nil
}

// nibbles writes two digits a byte. An odd count has the filler at its end when
// the value stands left, in front when it stands right. The separator of a track
// is the half-byte D.
func nibbles(left bool, filler byte) func(string) ([]byte, error) {
	return func(s string) ([]byte, error) {
		if len(s)%2 == 1 {
			if left {
				s += string(filler)
			} else {
				s = string(filler) + s
			}
		}
		out := make([]byte, len(s)/2)
		for i := range out {
			high, low := nibble(s[2*i]), nibble(s[2*i+1])
			if high > 15 || low > 15 {
				return nil, errCharacter
			}
			out[i] = high<<4 | low
		}
		return out, nil
	}
}

func nibble(c byte) byte {
	switch {
	case digit(c):
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c == '=':
		return 13
	}
	return 255
}

func nibbleText(left bool, filler byte, allowed string) func([]byte, int) (string, error) {
	return func(b []byte, units int) (string, error) {
		text := make([]byte, 0, 2*len(b))
		for _, octet := range b {
			text = append(text, hexDigits[octet>>4], hexDigits[octet&15])
		}
		if len(text) > units {
			at := 0
			if left {
				at = len(text) - 1
			}
			if text[at] != filler {
				return "", errFiller
			}
			text = append(text[:at], text[at+1:]...)
		}
		if !all(string(text), func(c byte) bool { return strings.IndexByte(allowed, c) >= 0 }) {
			return "", errDigit
		}
		return string(text), nil
	}
}

// signBCD writes C or D as a character and the digits as half-bytes.
func signBCD(s string) ([]byte, error) {
	if s == "" {
		return nil, errCharacter
	}
	b, err := nibbles(false, '0')(s[1:])
	return append([]byte{s[0]}, b...), err
}

func signBCDText(b []byte, units int) (string, error) {
	if len(b) == 0 {
		return "", errCharacter
	}
	s, err := nibbleText(false, '0', "0123456789")(b[1:], units-1)
	return string(b[0]) + s, err
}

// charsets are the attribute letters of ISO 8583: which characters a value may
// have. Text is held as UTF-8, opaque bytes as upper-case hex.
var charsets = map[string]func(string) bool{
	"n":   digits,
	"an":  func(s string) bool { return all(s, func(c byte) bool { return alpha(c) || digit(c) || c == ' ' }) },
	"ans": func(s string) bool { return isASCII(s) && printable(s) },
	"z":   func(s string) bool { return all(s, func(c byte) bool { return nibble(c) < 16 }) },
	"b": func(s string) bool {
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

func isASCII(s string) bool { return all(s, func(c byte) bool { return c < 0x80 }) }

func printable(s string) bool {
	if isASCII(s) {
		return all(s, func(c byte) bool { return c >= 0x20 && c < 0x7f })
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

// wireField is one row of the field table, ready for use.
type wireField struct {
	fieldData
	text   wireText
	prefix prefix.Prefixer // nil for a fixed length
	rest   bool            // it takes what is left of the message
	units  int             // most units, or with a fixed length all of them
	free   bool            // text in which a host may put what is no character
}

// compileFields makes the table from the profile.
func (p *Profile) compileFields() error {
	d := &p.data
	lengths := d.Encodings["length"]
	for de, f := range d.Fields {
		at := fmt.Sprintf("fields.%d", de)
		allowed, ok := encodingsOf[f.Type]
		if !ok {
			return fmt.Errorf("%s.type: %q is not known; one of n, an, ans, z, b, x+n", at, f.Type)
		}
		name := f.Encoding
		if name == "" {
			name = d.Encodings[f.Type]
		}
		if name == "" || !slices.Contains(allowed, name) {
			return fmt.Errorf("%s: type %s cannot be encoded as %q; one of %s (fields.%d.encoding or encodings.%s)", at, f.Type, name, strings.Join(allowed, ", "), de, f.Type)
		}
		w := &wireField{fieldData: f, text: wireTexts[name], units: f.Length}
		if w.rest = f.Prefix == "rest"; f.Prefix != "" && !w.rest {
			if w.prefix = prefixes[lengths][f.Prefix]; w.prefix == nil {
				return fmt.Errorf("%s.prefix: %q is not known; LL, LLL, rest or none", at, f.Prefix)
			}
			if f.Type == "n" && f.Encoding == "" && name == "bcd" {
				w.text = wireTexts["bcd-left"] // a variable number stands left (PROTOCOL G)
			}
		}
		if f.Length < 1 || f.Length > 999 {
			return fmt.Errorf("%s.length: must be 1 to 999", at)
		}
		if f.Counts == "characters" {
			if name != "hex" && name != "ebcdic-hex" {
				return fmt.Errorf("%s.counts: is for opaque bytes that go as hex", at)
			}
			w.units, w.text.units, w.text.bytes = 2*f.Length, characters, same
		} else if f.Counts != "" {
			return fmt.Errorf("%s.counts: %q is not known; characters, or none for bytes", at, f.Counts)
		}
		if most := map[string]int{"LL": 99, "LLL": 999}[f.Prefix]; w.prefix != nil && w.units > most {
			return fmt.Errorf("%s.length: %d units do not fit a length of %d digits", at, w.units, len(f.Prefix))
		}
		total := 0
		for i, part := range f.Parts {
			if part.Length < 1 || part.Length > f.Length {
				return fmt.Errorf("%s.parts.%d.length: must be 1 to %d", at, i, f.Length)
			}
			total += part.Length
		}
		w.free = f.Type == "ans" && slices.Contains(freeText, de)
		if total > f.Length {
			return fmt.Errorf("%s.parts: are longer than the field", at)
		}
		p.wire[de] = w
	}
	return nil
}

// freeText are the data elements in which hosts put texts for people, separators
// and tables: an answer is not refused because of a character there that cannot be
// read. What cannot be read stays as the bytes that came.
var freeText = []int{43, 44, 46, 47, 48, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 72, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127}

// fits reports whether a value has only what its type allows.
func (w *wireField) fits(value string) bool { return w.free || charsets[w.Type](value) }

// padded reports whether a value is filled up with spaces on the right: fixed
// text is, numbers are not.
func (w *wireField) padded() bool {
	return w.prefix == nil && !w.rest && (w.Type == "an" || w.Type == "ans")
}

// check holds a value against the row.
func (w *wireField) check(de int, value string, kind error) error {
	if !w.fits(value) {
		return &FieldError{Kind: kind, Field: de, Why: "has a character that type " + w.Type + " does not allow"}
	}
	n := w.text.units(value)
	switch {
	case w.prefix == nil && !w.rest && n != w.units && !w.padded():
		return &FieldError{Kind: kind, Field: de, Why: fmt.Sprintf("must have %d %s, has %d", w.units, w.unit(), n)}
	case n > w.units:
		return &FieldError{Kind: kind, Field: de, Why: fmt.Sprintf("must have at most %d %s, has %d", w.units, w.unit(), n)}
	}
	return nil
}

func (w *wireField) unit() string {
	switch {
	case w.Type == "b" && w.Counts == "":
		return "bytes"
	case w.Type == "n":
		return "digits"
	}
	return "characters"
}

// append writes a checked value.
func (w *wireField) append(out []byte, de int, value string) ([]byte, error) {
	n := w.text.units(value)
	if w.padded() && n < w.units {
		value += strings.Repeat(" ", w.units-n)
		n = w.units
	}
	if w.prefix != nil {
		length, err := w.prefix.EncodeLength(w.units, n)
		if err != nil {
			return nil, invalid(de, "has a length that cannot be written")
		}
		out = append(out, length...)
	}
	b, err := w.text.encode(value)
	if err != nil {
		return nil, &FieldError{Kind: ErrInvalid, Field: de, Why: err.Error()}
	}
	return append(out, b...), nil
}

// read takes a value from the front of src and says how many bytes it took.
func (w *wireField) read(de int, src []byte) (value string, took int, err error) {
	fail := func(why string) (string, int, error) {
		return "", 0, &FieldError{Kind: ErrUndecodable, Field: de, Why: why}
	}
	n := w.units
	if w.rest {
		for n = min(n, 2*len(src)); n > 0 && w.text.bytes(n) > len(src); n-- { // two digits a byte at most
		}
	}
	if w.prefix != nil {
		if n, took, err = w.prefix.DecodeLength(w.units, src); err != nil || n < 0 || n > w.units {
			return fail("has a length that is not one, or more than " + strconv.Itoa(w.units))
		}
		// Only the one way in which a length is written: "+5" and " 5" are not 05.
		if again, err := w.prefix.EncodeLength(w.units, n); err == nil && len(again) == took && string(again) != string(src[:took]) {
			return fail("has a length that is not one")
		}
	}
	size := w.text.bytes(n)
	if len(src)-took < size {
		return fail(fmt.Sprintf("needs %d bytes, %d are left", size, len(src)-took))
	}
	value, err = w.text.decode(src[took:took+size], n)
	if err != nil {
		return fail(err.Error())
	}
	if !w.fits(value) {
		return fail("has a character that type " + w.Type + " does not allow")
	}
	return value, took + size, nil
}
