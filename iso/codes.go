package iso

// RequestClass says what an answer's code (DE 39) means for a request.
type RequestClass string

// ReversalClass says what an answer's code means for a reversal.
type ReversalClass string

const (
	Approve RequestClass = "approve" // the amount asked for
	Partial RequestClass = "partial" // approved for the amount of the answer's DE 4
	Decline RequestClass = "decline" // the customer is not charged
	Doubt   RequestClass = "doubt"   // not known to leave the customer uncharged: reverse

	Confirm  ReversalClass = "confirm"   // the host has undone it
	NotFound ReversalClass = "not-found" // the host has no such original (L10)
	Retry    ReversalClass = "retry"     // the host could not do it now
	Renew    ReversalClass = "sign-on"   // the host wants a new sign-on first, then the reversal again
	Refuse   ReversalClass = "refuse"    // the host will not
)

func (c RequestClass) valid() bool {
	return c == Approve || c == Partial || c == Decline || c == Doubt
}

func (c ReversalClass) valid() bool {
	return c == Confirm || c == NotFound || c == Retry || c == Renew || c == Refuse
}

// Code is what a profile knows of one response code.
type Code struct {
	Code     string
	Name     string
	Request  RequestClass
	Reversal ReversalClass
}

// Accepts reports whether a code says yes to network management (ISO 8583:1993
// has 800 for it, elsewhere it is the code of an approval).
func (p *Profile) Accepts(c Code) bool {
	return c.Request == Approve || (p.data.Version == "1" && c.Code == "800")
}

// CodeLength is how many characters a response code has: 2 in ISO 8583:1987, 3 in
// 1993.
func (p *Profile) CodeLength() int { return p.wire[39].units }

// Code names a response code; codes are compared whole (L5). A code that the
// profile does not list, the empty one included, is a doubt on a request and a
// refusal on a reversal: it confirms nothing.
func (p *Profile) Code(code string) Code {
	if c, ok := p.data.Codes[code]; ok {
		return Code{code, c.Name, c.Request, c.Reversal}
	}
	return Code{code, "not listed by profile " + p.data.Name, Doubt, Refuse}
}
