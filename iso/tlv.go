package iso

import (
	"fmt"
	"slices"
	"strings"
)

// neverTags are the tags of DE 55 that hold what DE 2, 14, 35 and 45 hold: track 2
// equivalent, PAN, name, track 1 discretionary data, track data of a contactless
// card, track 2 discretionary data (EMV book 3, annex A; PROTOCOL I).
// Besides: the transaction's PIN data and the rest of a long name.
var neverTags = []string{"57", "5A", "5F20", "9F1F", "56", "9F6B", "9F20", "99", "9F0B"}

// tlvTagMax is the longest tag, in bytes.
const tlvTagMax = 3

// tlv is one tag of DE 55 as it stands, in hex.
type tlv struct{ tag, whole string }

// parseTLV reads BER-TLV in upper-case hex (ISO/IEC 7816-4; EMV book 3, annex B).
// Constructed tags are not looked into: they are kept or dropped whole.
func parseTLV(s string) ([]tlv, error) {
	bad := func(at int) ([]tlv, error) {
		return nil, &FieldError{Kind: ErrUndecodable, Field: 55, Why: "is not TLV", Offset: at / 2}
	}
	if !charsets["b"](s) {
		return bad(0)
	}
	var list []tlv
	for at := 0; at < len(s); {
		tag, length, head := tlvHead(s[at:])
		if head == 0 || len(s)-at-head < 2*length {
			return bad(at)
		}
		end := at + head + 2*length
		list = append(list, tlv{tag, s[at:end]})
		at = end
	}
	return list, nil
}

// tlvHead reads a tag and a length and says how many characters they take, 0 when
// they cannot be read.
func tlvHead(s string) (tag string, length, took int) {
	octet := func(i int) int { // -1 beyond the end
		if 2*i+2 > len(s) {
			return -1
		}
		return int(nibble(s[2*i]))<<4 | int(nibble(s[2*i+1]))
	}
	n := 1
	first := octet(0)
	if first&0x1f == 0x1f {
		for n++; n <= tlvTagMax && octet(n-1)&0x80 != 0 && octet(n-1) >= 0; n++ {
		}
	}
	if first < 0 || n > tlvTagMax || octet(n-1) < 0 {
		return "", 0, 0
	}
	tag = s[:2*n]
	switch length = octet(n); {
	case length < 0:
		return "", 0, 0
	case length < 0x80:
		return tag, length, 2 * (n + 1)
	}
	more := length & 0x7f
	if more < 1 || more > 2 { // DE 55 has 255 bytes; more length than two bytes can only lie
		return "", 0, 0
	}
	length = 0
	for i := range more {
		o := octet(n + 1 + i)
		if o < 0 {
			return "", 0, 0
		}
		length = length<<8 | o
	}
	return tag, length, 2 * (n + 1 + more)
}

// keepTags reduces DE 55 to the tags asked for, in the order in which they stand.
// What cannot be read is not kept (L11).
func keepTags(s string, tags []string) string {
	list, err := parseTLV(strings.ToUpper(s))
	if err != nil {
		return ""
	}
	var b strings.Builder
	for _, t := range list {
		if slices.Contains(tags, t.tag) && !slices.Contains(neverTags, t.tag) {
			b.WriteString(t.whole)
		}
	}
	return b.String()
}

// holdsCard reports whether chip data has a tag that may never be kept, or cannot
// be read.
func holdsCard(s string) bool {
	list, err := parseTLV(s)
	return err != nil || slices.ContainsFunc(list, func(t tlv) bool {
		return slices.Contains(neverTags, t.tag) || nibble(t.tag[0])&2 != 0
	})
}

// checkTags holds a profile's list against what may never be kept.
func checkTags(tags []string) error {
	for _, tag := range tags {
		if got, _, took := tlvHead(tag + "00"); took != len(tag)+2 || got != tag || !charsets["b"](tag) {
			return fmt.Errorf("reversal.chipTags: %q is no tag in upper-case hex", tag)
		}
		if slices.Contains(neverTags, tag) {
			return fmt.Errorf("reversal.chipTags: tag %s holds card data and may never be kept", tag)
		}
		if nibble(tag[0])&2 != 0 { // constructed: may hold any of them
			return fmt.Errorf("reversal.chipTags: tag %s is a template that may hold card data and may never be kept", tag)
		}
	}
	return nil
}
