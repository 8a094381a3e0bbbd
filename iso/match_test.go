package iso

import (
	"errors"
	"testing"
)

// answerTo makes what a good host answers.
func answerTo(request *Message, code string) *Message {
	a := NewMessage(request.MTI().Answer())
	for _, de := range []int{3, 4, 7, 11, 41, 42, 49} {
		v, _ := request.Field(de)
		a.Set(de, v)
	}
	a.Set(39, code)
	a.Set(37, "000000000001")
	return a
}

func TestMatchAcceptsOurAnswer(t *testing.T) {
	p := profile(t)
	sale := build(t, p, saleRequest(t))
	if err := p.Match(sale, answerTo(sale, "00")); err != nil {
		t.Error(err)
	}
	lean := answerTo(sale, "00")
	for _, de := range []int{4, 7, 49} { // a host may leave these out
		lean.Remove(de)
	}
	if err := p.Match(sale, lean); err != nil {
		t.Error(err)
	}
	r, err := p.BuildReversal(image(t, p, sale), Reversal{Attempt: 2, Cause: NoAnswer})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Match(r, answerTo(r, "00")); err != nil {
		t.Error(err)
	}
}

// L5: an answer is ours only when MTI, trace, terminal, merchant, processing
// code and amount say so.
func TestL5MatchRefusesWhatIsNotOurs(t *testing.T) {
	p := profile(t)
	sale := build(t, p, saleRequest(t))
	for name, c := range map[string]struct {
		change func(*Message)
		field  int
	}{
		"answer to a reversal": {func(m *Message) { m.SetMTI("0410") }, 0},
		"the request itself":   {func(m *Message) { m.SetMTI("0200") }, 0},
		"advice answer":        {func(m *Message) { m.SetMTI("0230") }, 0},
		"other trace":          {func(m *Message) { m.Set(11, "000008") }, 11},
		"no trace":             {func(m *Message) { m.Remove(11) }, 11},
		"other terminal":       {func(m *Message) { m.Set(41, "TERM02") }, 41},
		"no terminal":          {func(m *Message) { m.Remove(41) }, 41},
		"terminal is a prefix": {func(m *Message) { m.Set(41, "TERM") }, 41},
		"other merchant":       {func(m *Message) { m.Set(42, "MERCHANT0000002") }, 42},
		"no merchant":          {func(m *Message) { m.Remove(42) }, 42},
		"other processing":     {func(m *Message) { m.Set(3, "200000") }, 3},
		"no processing":        {func(m *Message) { m.Remove(3) }, 3},
		"other amount":         {func(m *Message) { m.Set(4, "000000001251") }, 4},
		"lower amount":         {func(m *Message) { m.Set(4, "000000001249") }, 4},
		"other currency":       {func(m *Message) { m.Set(49, "156") }, 49},
		"partial, but more":    {func(m *Message) { m.Set(39, "10"); m.Set(4, "000000001251") }, 4},
	} {
		a := answerTo(sale, "00")
		c.change(a)
		err := p.Match(sale, a)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != c.field || !errors.Is(err, ErrUnmatched) {
			t.Errorf("%s: %v, want ErrUnmatched at DE %d", name, err, c.field)
		}
	}
	partial := answerTo(sale, "10")
	partial.Set(4, "000000000500")
	if err := p.Match(sale, partial); err != nil {
		t.Errorf("a partial approval is ours: %v", err)
	}
}

// L5: codes are compared whole, and what is not listed confirms nothing.
func TestL5CodesAreComparedWhole(t *testing.T) {
	p := profile(t)
	for _, code := range []string{"", "0", "000", "00 ", " 00", "0O", "A0", "ZZ", "99"} {
		c := p.Code(code)
		if c.Request != Doubt || c.Reversal != Refuse {
			t.Errorf("code %q counts as %s and %s", code, c.Request, c.Reversal)
		}
	}
	for code, want := range map[string]Code{
		"00": {"00", "approved", Approve, Confirm},
		"10": {"10", "approved for partial amount", Partial, Refuse},
		"51": {"51", "not sufficient funds", Decline, Refuse},
		"25": {"25", "unable to locate record on file", Doubt, NotFound},
		"91": {"91", "issuer or switch is inoperative", Doubt, Retry},
		"68": {"68", "response received too late", Doubt, Retry},
	} {
		if got := p.Code(code); got != want {
			t.Errorf("code %s: %+v, want %+v", code, got, want)
		}
	}
}
