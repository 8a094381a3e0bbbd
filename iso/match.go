package iso

import (
	"fmt"
	"strings"
)

// Match says whether answer is the answer to request: nil, or a FieldError of
// kind ErrUnmatched naming the first data element that differs (L5). It does
// not look at the code: an answer can be ours and still confirm nothing.
//
// The MTI must be the answer to the request's. The profile's fields must be
// there and equal; those that a host may leave out must be equal when they are
// there. The amount of a partial approval is the one exception: it may be lower
// than what was asked for, never higher.
func (p *Profile) Match(request, answer *Message) error {
	if want := p.answerTo(request.MTI()); answer.MTI() != want {
		return unmatched(0, fmt.Sprintf("is %s, expected %s", answer.MTI(), want))
	}
	for _, de := range p.data.Match.Always {
		got, ok := answer.Field(de)
		if !ok {
			return unmatched(de, "is missing")
		}
		if sent, _ := request.Field(de); p.unfilled(de, got) != p.unfilled(de, sent) {
			return unmatched(de, "differs from the request")
		}
	}
	for _, de := range p.data.Match.WhenPresent {
		got, ok := answer.Field(de)
		sent, asked := request.Field(de)
		if !ok || !asked || p.unfilled(de, got) == p.unfilled(de, sent) {
			continue
		}
		if de == 4 && p.partial(answer) && got < sent { // both twelve digits: text order is number order
			continue
		}
		return unmatched(de, "differs from the request")
	}
	return nil
}

// answerTo is the MTI of the answer to a message of ours.
func (p *Profile) answerTo(mti MTI) MTI {
	if other, ok := p.heard[mti]; ok {
		return other
	}
	return mti.Answer()
}

// unfilled is a value without the spaces that fill up fixed text.
func (p *Profile) unfilled(de int, value string) string {
	if w := p.wire[de]; w != nil && w.padded() {
		return strings.TrimRight(value, " ")
	}
	return value
}

func unmatched(de int, why string) error {
	return &FieldError{Kind: ErrUnmatched, Field: de, Why: why}
}

// MatchNetwork is Match for network management (sign-on, echo), whose messages
// have neither amount nor processing code: MTI, trace number and terminal.
func (p *Profile) MatchNetwork(request, answer *Message) error {
	if want := p.answerTo(request.MTI()); answer.MTI() != want {
		return unmatched(0, fmt.Sprintf("is %s, expected %s", answer.MTI(), want))
	}
	for _, de := range []int{11, 41} {
		if sent, got := request.Text(de), answer.Text(de); sent != got || got == "" {
			return unmatched(de, "differs from the request")
		}
	}
	return nil
}

func (p *Profile) partial(answer *Message) bool {
	code, _ := answer.Field(39)
	return p.Code(code).Request == Partial
}
