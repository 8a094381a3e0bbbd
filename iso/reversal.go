package iso

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
)

// Cause says why a transaction is undone. A profile maps each to its reason
// code.
type Cause string

const (
	NoAnswer     Cause = "no-answer"     // nothing that answers the request came in time
	LineLost     Cause = "line-lost"     // the line dropped, or a write failed, after the request may have left
	Undecodable  Cause = "undecodable"   // an answer came that cannot be read
	UnknownCode  Cause = "unknown-code"  // an answer came whose code does not say that the customer is uncharged
	Cancelled    Cause = "cancelled"     // the customer or cashier gave up after the request was sent
	CardDeclined Cause = "card-declined" // the chip said no after the host said yes
	NotCompleted Cause = "not-completed" // approved, but the firmware never completed it
	NotRecorded  Cause = "not-recorded"  // approved, but the firmware could not store its part
	Restart      Cause = "restart"       // found armed after a crash or a power cut
)

// Causes lists all of them.
func Causes() []Cause {
	return []Cause{NoAnswer, LineLost, Undecodable, UnknownCode, Cancelled, CardDeclined, NotCompleted, NotRecorded, Restart}
}

// Image is the smallest part of a request that its reversal needs. It holds
// what the profile's reversal copies and nothing else; tracks, PIN block and
// card codes cannot enter it (L11). It still holds the PAN, so it is to be
// sealed at rest and prints hidden under every verb.
type Image struct{ hidden **body } // behind two pointers: see mask.go

// imageFile is the stored form. Version 1.
type imageFile struct {
	Version int               `json:"v"`
	MTI     MTI               `json:"mti"`
	Fields  map[string]string `json:"f"`
}

// ImageOf takes the image of a request. A reversal has none (L16).
func (p *Profile) ImageOf(request *Message) (Image, error) {
	if request.MTI().Reversal() {
		return Image{}, invalid(0, "is a reversal; a reversal is never reversed")
	}
	kept := NewMessage(request.MTI())
	for _, de := range p.data.Reversal.Copy {
		if v, ok := request.Field(de); ok && !slices.Contains(neverKept, de) {
			kept.Set(de, v)
		}
	}
	return Image{kept.hidden}, nil
}

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
		return Image{}, fmt.Errorf("%w: the stored reversal image is of version %d; 1 is known here", ErrUndecodable, f.Version)
	}
	kept := NewMessage(f.MTI)
	for k, v := range f.Fields {
		de, err := strconv.Atoi(k)
		if err != nil || slices.Contains(neverKept, de) {
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
	AuthCode string // DE 38 of the approval, when one was seen
	Approved Amount // amount of a partial approval, 0 when the whole was asked for and approved or nothing is known
}

// BuildReversal makes the reversal of the request that img was taken from.
// Every attempt yields the same message but for its MTI (L6).
func (p *Profile) BuildReversal(img Image, r Reversal) (*Message, error) {
	if img.hidden == nil {
		return nil, fmt.Errorf("%w: no reversal image", ErrInvalid)
	}
	if (*img.hidden).mti.Reversal() {
		return nil, invalid(0, "is a reversal; a reversal is never reversed")
	}
	reason, ok := p.data.Reversal.Reasons[r.Cause]
	if !ok || r.Attempt < 1 {
		return nil, fmt.Errorf("%w: a reversal needs an attempt from 1 and a known cause", ErrInvalid)
	}
	m := img.Request()
	m.SetMTI(p.data.Reversal.MTI)
	if r.Attempt > 1 {
		m.SetMTI(p.data.Reversal.Repeat)
	}
	original, err := img.original()
	if err != nil {
		return nil, err
	}
	m.Set(90, original.String())
	m.Set(39, reason)
	if p.data.Reversal.AuthCode && r.AuthCode != "" {
		m.Set(38, r.AuthCode)
	}
	if r.Approved > 0 {
		m.Set(4, r.Approved.String())
	}
	return m, nil
}

func (i Image) original() (Original, error) {
	kept := *i.hidden
	stan, err := ParseSTAN(kept.fields[11])
	if err != nil {
		return Original{}, err
	}
	return Original{
		MTI: kept.mti, STAN: stan, At: kept.fields[7],
		Acquirer: kept.fields[32], Forwarder: kept.fields[33],
	}, nil
}
