package iso

import (
	"fmt"
	"math/bits"
)

// Of the moov library the encoders and the length prefixes are used; the walk
// over the field table is here, because an error must name the byte where it was
// found and must never carry the message. No type of the library leaves wire.go.

// bitmapCoding is how the bitmap is written.
type bitmapCoding struct {
	text wireText
	size int // bytes on the wire of each half
}

// compile makes all that Pack, Build and the others need.
func (p *Profile) compile() error {
	p.mti = wireTexts[p.data.MTI]
	p.maps = bitmapCoding{wireTexts[p.data.Bitmap], 8}
	if p.data.Bitmap != "binary" {
		p.maps.size = 16
	}
	if err := p.compileFields(); err != nil {
		return err
	}
	if err := p.compileTemplates(); err != nil {
		return err
	}
	return p.compileReversal()
}

// Pack turns a message into bytes, without a frame. Errors: a FieldError of
// kind ErrInvalid naming the data element.
func (p *Profile) Pack(m *Message) ([]byte, error) {
	if err := p.checkMTI(m.MTI(), ErrInvalid); err != nil {
		return nil, err
	}
	out := make([]byte, 0, 512)
	head, err := p.mti.encode(string(m.MTI()))
	if err != nil {
		return nil, invalid(0, "cannot be written")
	}
	out = append(out, head...)
	fields := m.Fields()
	var low, high uint64
	for _, de := range fields {
		if de < 2 || de > 128 || p.wire[de] == nil {
			return nil, &FieldError{Kind: ErrInvalid, Field: de, Why: "is not part of profile " + p.data.Name}
		}
		if de > 64 {
			high |= 1 << (128 - de)
		} else {
			low |= 1 << (64 - de)
		}
	}
	if high != 0 || m.body().wide {
		low |= 1 << 63
	}
	if out, err = p.appendBitmap(out, low); err == nil && low>>63 == 1 {
		out, err = p.appendBitmap(out, high)
	}
	if err != nil {
		return nil, err
	}
	for _, de := range fields {
		value, _ := m.Field(de)
		if err := p.wire[de].check(de, value, ErrInvalid); err != nil {
			return nil, err
		}
		if out, err = p.wire[de].append(out, de, value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *Profile) appendBitmap(out []byte, half uint64) ([]byte, error) {
	b, err := p.maps.text.encode(fmt.Sprintf("%016X", half))
	if err != nil {
		return nil, invalid(1, "cannot be written")
	}
	return append(out, b...), nil
}

// checkMTI holds a message type against the profile's version of the standard and
// against the classes there are.
func (p *Profile) checkMTI(mti MTI, kind error) error {
	if _, err := ParseMTI(string(mti)); err != nil {
		return &FieldError{Kind: kind, Field: 0, Why: "must be four digits"}
	}
	if string(mti[0]) != p.data.Version {
		return &FieldError{Kind: kind, Field: 0, Why: fmt.Sprintf("is of version %c of the standard, profile %s of %s", mti[0], p.data.Name, p.data.Version)}
	}
	if mti[1] < '1' || mti[1] > '8' {
		return &FieldError{Kind: kind, Field: 0, Why: "is of no message class"}
	}
	return nil
}

// Unpack turns bytes into a message. It accepts only what Pack would have made:
// trailing bytes, another spelling of a length or of a filler, and characters
// that the field's type does not allow are refused. Errors: a FieldError of
// kind ErrUndecodable naming the data element and the byte where it begins,
// never a value.
func (p *Profile) Unpack(packed []byte) (*Message, error) {
	at := 0
	fail := func(err error) (*Message, error) {
		if f, ok := err.(*FieldError); ok {
			f.Offset = at
		}
		return nil, err
	}
	size := p.mti.bytes(4)
	if len(packed) < size {
		return fail(&FieldError{Kind: ErrUndecodable, Field: 0, Why: fmt.Sprintf("needs %d bytes, %d are there", size, len(packed))})
	}
	text, err := p.mti.decode(packed[:size], 4)
	if err != nil {
		return fail(&FieldError{Kind: ErrUndecodable, Field: 0, Why: "must be four digits"})
	}
	if err := p.checkMTI(MTI(text), ErrUndecodable); err != nil {
		return fail(err)
	}
	m := NewMessage(MTI(text))
	at = size
	low, high, took, err := p.readBitmaps(packed[at:])
	if err != nil {
		return fail(err)
	}
	m.body().wide = low>>63 == 1 && high == 0
	at += took
	for _, half := range []struct {
		bitmap uint64
		first  int
	}{{low &^ (1 << 63), 1}, {high, 65}} {
		for half.bitmap != 0 {
			lead := bits.LeadingZeros64(half.bitmap)
			half.bitmap &^= 1 << (63 - lead)
			de := half.first + lead
			if p.wire[de] == nil {
				return fail(&FieldError{Kind: ErrUndecodable, Field: de, Why: "is not part of profile " + p.data.Name})
			}
			value, took, err := p.wire[de].read(de, packed[at:])
			if err != nil {
				return fail(err)
			}
			m.Set(de, value)
			at += took
		}
	}
	if at != len(packed) {
		return fail(&FieldError{Kind: ErrUndecodable, Field: 1, Why: fmt.Sprintf("leaves %d bytes over", len(packed)-at)})
	}
	return m, nil
}

// readBitmaps reads one bitmap, or two when the first says so.
func (p *Profile) readBitmaps(src []byte) (low, high uint64, took int, err error) {
	read := func() (half uint64, err error) {
		if len(src)-took < p.maps.size {
			return 0, &FieldError{Kind: ErrUndecodable, Field: 1, Why: fmt.Sprintf("needs %d bytes, %d are left", p.maps.size, len(src)-took)}
		}
		units := p.maps.size
		text, err := p.maps.text.decode(src[took:took+p.maps.size], units)
		if err != nil || !charsets["b"](text) {
			return 0, &FieldError{Kind: ErrUndecodable, Field: 1, Why: "is not one"}
		}
		took += p.maps.size
		for i := 0; i < len(text); i++ {
			half = half<<4 | uint64(nibble(text[i]))
		}
		return half, nil
	}
	if low, err = read(); err != nil || low>>63 == 0 {
		return low, 0, took, err
	}
	if p.data.Bitmaps < 2 {
		return 0, 0, 0, &FieldError{Kind: ErrUndecodable, Field: 1, Why: "announces a second one, which profile " + p.data.Name + " does not have"}
	}
	if high, err = read(); err == nil && high>>63 == 1 {
		err = &FieldError{Kind: ErrUndecodable, Field: 65, Why: "announces a third bitmap, which ISO 8583 has no use for here"}
	}
	return low, high, took, err
}
