package iso

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
)

// Cause says why a transaction is undone. A profile maps each to its reason
// code.
type Cause string

const (
	NoAnswer     Cause = "no-answer"     // nothing that answers the request came in time
	LineLost     Cause = "line-lost"     // the line dropped, or a write failed, after the request may have left
	Undecodable  Cause = "undecodable"   // an answer came that cannot be read
	WrongMAC     Cause = "wrong-mac"     // an answer came whose MAC is wrong or missing
	UnknownCode  Cause = "unknown-code"  // an answer came whose code does not say that the customer is uncharged
	Cancelled    Cause = "cancelled"     // the customer or cashier gave up after the request was sent
	CardDeclined Cause = "card-declined" // the chip said no after the host said yes
	NotCompleted Cause = "not-completed" // approved, but the firmware never completed it
	NotRecorded  Cause = "not-recorded"  // approved, but the firmware could not store its part
	Restart      Cause = "restart"       // found armed after a crash or a power cut
)

// Causes lists all of them.
func Causes() []Cause {
	return []Cause{NoAnswer, LineLost, Undecodable, WrongMAC, UnknownCode, Cancelled, CardDeclined, NotCompleted, NotRecorded, Restart}
}

// forbidden reports whether a data element may not be part of a reversal, whatever
// a profile asks for (L11; PCI DSS 4.0.1, 3.3.1): PIN capture, tracks 2, 3 and 1,
// the PIN block and its security control.
func forbidden(de int) bool { return slices.Contains([]int{26, 35, 36, 45, 52, 53}, de) }

// keepable are the data elements that a reversal may keep. The list is closed by
// default: the private ones that are not here are where acquirers put card codes.
// DE 60 to 62 only where the profile lays them out (keepableAs).
var keepable = []int{
	2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15, 17, 18, 19, 20, 22, 23, 24, 25, 28, 30, 32, 33, 37, 38, 40, 41, 42, 43,
	49, 50, 51, 55, 60, 61, 62, 100,
}

// privateMax is how long a private data element without parts may be that a
// reversal keeps: too short for a card number with a card code.
const privateMax = 12

// keepableAs reports whether a data element may be kept as the profile has it. A
// row that could hold a track under another number is refused.
func keepableAs(de int, f fieldData) bool {
	most := map[int]int{2: 19, 14: 4, 23: 3, 37: 12, 38: 6, 3: 6, 4: 12, 11: 6, 22: 12, 24: 3, 25: 4}
	switch {
	case !slices.Contains(keepable, de), f.Type == "z", f.Type == "b" && de != 55:
		return false
	case most[de] != 0:
		return f.Length <= most[de]
	case de >= 60 && de <= 62:
		return f.Length <= privateMax || (f.Type == "n" && len(f.Parts) > 0)
	}
	return f.Type != "ans" || f.Length <= 99 || de == 55 // text in DE 55 is refused in reversal.copy
}

// Image is the smallest part of a request that its reversal needs. It holds what
// the profile's reversal copies or refers to and nothing else; tracks, PIN block
// and card codes cannot enter it (L11). It still holds the PAN, so it is to be
// sealed at rest and prints hidden under every verb.
type Image struct{ hidden **body } // behind two pointers: see mask.go

// imageFile is the stored form. Version 1.
type imageFile struct {
	Version int               `json:"v"`
	MTI     MTI               `json:"mti"`
	Fields  map[string]string `json:"f"`
}

// ImageOf takes the image of a request. A reversal has none (L16). Of DE 55 only
// the profile's tags are kept; what cannot be read as TLV is not kept at all.
func (p *Profile) ImageOf(request *Message) (Image, error) {
	if request.MTI().Reversal() {
		return Image{}, invalid(0, "is a reversal; a reversal is never reversed")
	}
	kept := NewMessage(request.MTI())
	for _, de := range p.image {
		v, ok := request.Field(de)
		if ok && de == 55 {
			v = keepTags(v, p.data.Reversal.ChipTags)
			ok = v != ""
		}
		if ok && de != 2 && de != 55 && request.ownCardIn(v) { // L11: the firmware put a card where none belongs
			return Image{}, invalid(de, "repeats the card number")
		}
		if ok && !forbidden(de) {
			kept.Set(de, v)
		}
	}
	if p.data.Reversal.CardOfTrack {
		p.cardOfTrack(request, kept)
	}
	return Image{kept.hidden}, nil
}

// cardOfTrack takes the card number and its expiry out of track 2, for a reversal
// that must name the card; nothing else of the track is kept (L11).
func (p *Profile) cardOfTrack(request, kept *Message) {
	track, ok := request.Field(35)
	if _, has := kept.Field(2); !ok || has || !slices.Contains(p.image, 2) {
		return
	}
	pan, err := ParseTrack2(NewSecret(track))
	if err != nil {
		return // a track that the PIN pad encrypted: the host knows the card by the trace number
	}
	kept.Set(2, pan.Reveal())
	rest := track[len(pan.Reveal())+1:]
	if _, has := kept.Field(14); !has && len(rest) >= 4 && digits(rest[:4]) && slices.Contains(p.image, 14) {
		kept.Set(14, rest[:4])
	}
}

// Fields lists the data elements that the image holds, in ascending order.
func (i Image) Fields() []int {
	if i.hidden == nil {
		return nil
	}
	return (&Message{i.hidden}).Fields()
}

// Secret reports whether a data element of an image is card data, so that an
// image that has it must be sealed at rest: the PAN and its expiry.
func (i Image) Secret(de int) bool { return de == 2 || de == 14 }

// Bytes is the form to store, sealed.
func (i Image) Bytes() ([]byte, error) {
	if i.hidden == nil {
		return nil, fmt.Errorf("%w: no image", ErrInvalid)
	}
	kept := *i.hidden
	f := imageFile{Version: 1, MTI: kept.mti, Fields: map[string]string{}}
	for de, v := range kept.fields {
		f.Fields[strconv.Itoa(de)] = v
	}
	return json.Marshal(f)
}

// ParseImage inverts Bytes. Errors carry nothing of the content.
func ParseImage(b []byte) (Image, error) {
	var f imageFile
	if err := json.Unmarshal(b, &f); err != nil {
		return Image{}, fmt.Errorf("%w: the stored reversal image cannot be read", ErrUndecodable)
	}
	if _, err := ParseMTI(string(f.MTI)); err != nil || f.Version != 1 {
		return Image{}, fmt.Errorf("%w: the stored reversal image is not of version 1", ErrUndecodable)
	}
	kept := NewMessage(f.MTI)
	for k, v := range f.Fields {
		de, err := strconv.Atoi(k)
		if err != nil || forbidden(de) || !slices.Contains(keepable, de) || (de == 55 && holdsCard(v)) {
			return Image{}, fmt.Errorf("%w: the stored reversal image has a field it may not have", ErrUndecodable)
		}
		kept.Set(de, v)
	}
	return Image{kept.hidden}, nil
}

// String hides the content.
func (i Image) String() string {
	if i.hidden == nil {
		return ""
	}
	return hidden
}

// Format hides the content under every verb.
func (i Image) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, i.String()) }

// MarshalText hides the content; Bytes is the form to store.
func (i Image) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// LogValue hides the content for log/slog.
func (i Image) LogValue() slog.Value { return slog.StringValue(i.String()) }

// Request returns what is left of the request, enough to match a late answer
// to it.
func (i Image) Request() *Message {
	if i.hidden == nil {
		return NewMessage("")
	}
	return (&Message{i.hidden}).Clone()
}

// Reversal says what of an image's reversal is not in the image.
type Reversal struct {
	Attempt  int    // 1 goes with the reversal MTI, later ones with the repeat MTI (L6)
	Cause    Cause  // fixed before the first attempt, the same for every repeat
	STAN     STAN   // of the reversal, where the profile wants a new one (NewSTAN); the same for every repeat
	AuthCode string // DE 38 of the approval, when one was seen
	Approved Amount // amount of a partial approval, 0 when the whole was asked for and approved or nothing is known
}

// NewSTAN reports whether a reversal has a trace number of its own.
func (p *Profile) NewSTAN() bool { return p.data.Reversal.STAN == "new" }

// BuildReversal makes the reversal of the request that img was taken from.
// Every attempt yields the same message but for its MTI (L6); the MAC is made
// when it is sent.
func (p *Profile) BuildReversal(img Image, r Reversal) (*Message, error) {
	if img.hidden == nil {
		return nil, fmt.Errorf("%w: no reversal image", ErrInvalid)
	}
	if (*img.hidden).mti.Reversal() {
		return nil, invalid(0, "is a reversal; a reversal is never reversed")
	}
	d := &p.data.Reversal
	reason, ok := d.Reasons[r.Cause]
	if !ok || r.Attempt < 1 {
		return nil, fmt.Errorf("%w: a reversal needs an attempt from 1 and a known cause", ErrInvalid)
	}
	if p.NewSTAN() && (r.STAN < 1 || r.STAN > STANMax) {
		return nil, invalid(11, "of the reversal must be 1 to 999999")
	}
	kept := (*img.hidden).fields
	if _, err := ParseSTAN(kept[11]); err != nil {
		return nil, err
	}
	m := NewMessage(d.MTI)
	if r.Attempt > 1 && d.Repeat != "" {
		m.SetMTI(d.Repeat)
	}
	for _, de := range d.Copy {
		if v, ok := kept[de]; ok {
			m.Set(de, v)
		}
	}
	if p.NewSTAN() {
		m.Set(11, r.STAN.String())
	}
	if r.Approved > 0 {
		m.Set(4, r.Approved.String())
	}
	if d.AuthCode != 0 && r.AuthCode != "" {
		m.Set(d.AuthCode, r.AuthCode)
	}
	m.Set(d.Reason, reason)
	made := map[int]string{} // all from what was there before, so that their order does not count
	for de, t := range p.turns {
		text, missing := t.expand(func(name string) string { return p.turned(img, m, name) })
		if text == "" { // without it the host might look for another original
			return nil, invalid(de, "of the reversal cannot be made: {%s} is missing or too long", missing)
		}
		made[de] = text
	}
	for de, text := range made {
		m.Set(de, text)
	}
	return m, p.checkAll(m)
}

// turned is the value of a name in a reversal's template.
func (p *Profile) turned(img Image, m *Message, name string) string {
	kept := *img.hidden
	switch name {
	case "mti":
		return string(kept.mti)
	case "stan":
		return kept.fields[11]
	case "amount":
		v, _ := m.Field(4)
		return v
	case "reason":
		v, _ := m.Field(p.data.Reversal.Reason)
		return v
	}
	number, part, _ := strings.Cut(name, ".")
	de, _ := strconv.Atoi(number)
	if part == "" {
		return kept.fields[de]
	}
	n, _ := strconv.Atoi(part)
	return p.wire[de].part(kept.fields[de], n)
}

// originalsComplete makes sure that no reversal lacks what says which original is
// meant: every data element that a template of the reversal rests on is one that a
// transaction cannot go without.
func (p *Profile) originalsComplete() error {
	for de, t := range p.turns {
		for _, part := range t {
			number, _, _ := strings.Cut(part.name, ".")
			from, err := strconv.Atoi(number)
			optional := part.has || part.then != "" || part.length || (part.width > 0 && from != 7 && from != 12)
			if err != nil || optional {
				continue
			}
			for name, tx := range p.data.Transactions {
				_, set := tx.Set[from]
				if tx.Recovery == Reverse && !slices.Contains(tx.Must, from) && !set {
					return fmt.Errorf("reversal.set.%d: rests on DE %d, which transactions.%s can go without", de, from, name)
				}
			}
		}
	}
	return nil
}

// part is the n-th part of a value, from 1; "" when the value ends before it.
func (w *wireField) part(value string, n int) string {
	from := 0
	for i, part := range w.Parts {
		if i == n-1 {
			return value[min(from, len(value)):min(from+part.Length, len(value))]
		}
		from += part.Length
	}
	return ""
}

// compileReversal works out what a reversal needs of its request.
func (p *Profile) compileReversal() error {
	need := slices.Clone(p.data.Reversal.Copy)
	need = append(need, 3, 4, 11, 41, 42) // a late answer is matched against the image
	for _, t := range p.turns {
		for _, name := range t.names() {
			number, _, _ := strings.Cut(name, ".")
			if de, err := strconv.Atoi(number); err == nil {
				need = append(need, de)
			}
		}
	}
	for _, de := range slices.Concat(p.data.Match.Always, p.data.Match.WhenPresent) {
		if p.wire[de] != nil && keepableAs(de, p.wire[de].fieldData) {
			need = append(need, de)
		}
	}
	p.heard = map[MTI]MTI{}
	for _, tx := range p.data.Transactions {
		if tx.Answer != "" {
			p.heard[tx.MTI] = tx.Answer
		}
	}
	if r := p.data.Reversal; r.Answer != "" {
		p.heard[r.MTI] = r.Answer
		if r.Repeat != "" {
			p.heard[r.Repeat] = r.Answer
		}
	}
	slices.Sort(need)
	p.image = slices.Compact(need)
	for _, de := range p.image {
		if forbidden(de) || p.wire[de] == nil || !keepableAs(de, p.wire[de].fieldData) {
			return fmt.Errorf("reversal: DE %d may never be kept", de)
		}
	}
	return p.originalsComplete()
}
