package iso

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// HasMAC reports whether the profile's messages carry a MAC.
func (p *Profile) HasMAC() bool { return p.data.MAC != nil }

// Seal packs a message and, where the profile has a MAC, makes it under the
// current key of a and puts it in: at every send anew, because the key may have
// changed since the message was first built (PROTOCOL H). Errors: those of Pack;
// one wrapping ErrNoKey when a is nil or has no key.
func (p *Profile) Seal(ctx context.Context, m *Message, a Authenticator) ([]byte, error) {
	if !p.macOn(m) {
		return p.Pack(m)
	}
	if a == nil {
		return nil, fmt.Errorf("%w: profile %s sends nothing without a MAC", ErrNoKey, p.data.Name)
	}
	m = m.Clone()
	de := p.macElement(m)
	m.Set(de, "0000000000000000")
	packed, err := p.Pack(m)
	if err != nil {
		return nil, err
	}
	size := p.wire[de].text.bytes(p.wire[de].units)
	value, err := p.mac(ctx, packed[:len(packed)-size], a)
	if err != nil {
		return nil, err
	}
	made, err := p.wire[de].append(nil, de, value)
	if err != nil {
		return nil, err
	}
	return append(packed[:len(packed)-size], made...), nil
}

// macOn reports whether a message of ours goes with a MAC: all but what is sent
// before there is a key.
func (p *Profile) macOn(m *Message) bool {
	if p.data.MAC == nil {
		return false
	}
	for _, t := range p.data.MAC.Without { // none of them shares its MTI with one that moves money
		mti := p.data.Transactions[t].MTI
		if mti == m.MTI() || p.answerTo(mti) == m.MTI() {
			return false
		}
	}
	return true
}

// macElement is the last data element of a message: DE 64, or DE 128 when there
// is a second bitmap.
func (p *Profile) macElement(m *Message) int {
	list := p.data.MAC.Elements
	if len(list) > 1 && slices.ContainsFunc(m.Fields(), func(de int) bool { return de > 64 }) {
		return list[1]
	}
	return list[0]
}

// mac is the value of the MAC's data element over everything before it.
func (p *Profile) mac(ctx context.Context, data []byte, a Authenticator) (string, error) {
	whole, err := a.MAC(ctx, p.data.MAC.Algorithm, data)
	if err != nil {
		return "", err
	}
	if len(whole) < 8 {
		return "", fmt.Errorf("%w: the MAC has %d bytes, 8 are needed", ErrInvalid, len(whole))
	}
	text := strings.ToUpper(hex.EncodeToString(whole))
	switch p.data.MAC.Form {
	case "hex8": // the first eight hex characters, as characters (PROTOCOL G)
		return strings.ToUpper(hex.EncodeToString([]byte(text[:8]))), nil
	case "binary4":
		return text[:8] + "00000000", nil
	}
	return text[:16], nil
}

// Verify holds an answer's MAC against the one that it should have (L5). packed
// is what Unpack made m of. It returns nil when the MAC fits, or when there is
// none and the profile needs none of such an answer; an error wrapping ErrWrongMAC
// when it does not fit; one wrapping ErrNoMAC when it is missing; one wrapping
// ErrNoKey when it cannot be checked.
func (p *Profile) Verify(ctx context.Context, m *Message, packed []byte, a Authenticator) error {
	if !p.macOn(m) {
		return nil
	}
	de := p.macElement(m)
	got, ok := m.Field(de)
	if !ok {
		if kind, needs := p.needsMAC(m); needs {
			return fmt.Errorf("%w: profile %s wants one (%s)", ErrNoMAC, p.data.Name, kind)
		}
		return nil
	}
	if a == nil {
		return fmt.Errorf("%w: the answer's MAC cannot be checked", ErrNoKey)
	}
	size := p.wire[de].text.bytes(p.wire[de].units)
	if len(packed) < size {
		return fmt.Errorf("%w: the message is shorter than its MAC", ErrWrongMAC)
	}
	want, err := p.mac(ctx, packed[:len(packed)-size], a)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return ErrWrongMAC
	}
	return nil
}

// needsMAC reports whether a message without a MAC is not believed. A request
// always needs one: that is what a host asks.
func (p *Profile) needsMAC(m *Message) (kind string, needs bool) {
	if m.MTI().Answer() != "" {
		return "request", true
	}
	kind = p.macKind(m)
	return kind, p.data.MAC.Needed[kind] == "yes"
}

// macKind says what kind of answer this is to the profile's "needed".
func (p *Profile) macKind(m *Message) string {
	text, ok := m.Field(39)
	if !ok {
		return "other"
	}
	code := p.Code(text)
	if m.MTI().Reversal() {
		if code.Reversal == Confirm || code.Reversal == NotFound || code.Reversal == Refuse {
			return string(code.Reversal)
		}
		return "other"
	}
	switch code.Request {
	case Approve, Partial:
		return "approve"
	case Decline:
		return "decline"
	}
	return "other"
}
