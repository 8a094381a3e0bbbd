package iso

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Acceptor is who asks: the terminal, its merchant and their bank.
type Acceptor struct {
	Terminal  string // DE 41, up to 8 characters
	Merchant  string // DE 42, up to 15 characters
	Acquirer  string // DE 32, up to 11 digits, may be empty
	Forwarder string // DE 33, up to 11 digits, may be empty
	Category  string // DE 18, 4 digits, may be empty
}

// Reference is an earlier transaction that a request is about: the sale that a
// void takes back, the pre-authorization that a completion uses. What is not
// known stays empty; the profile says what must be there.
type Reference struct {
	STAN     STAN
	Batch    string    // six digits
	At       time.Time // when it took place, in the terminal's zone
	RRN      string    // DE 37 of its answer
	AuthCode string    // DE 38 of its answer
	MTI      MTI
}

// Request is one transaction as the firmware sees it. The engine fills in STAN.
type Request struct {
	Type       TxType
	STAN       STAN
	PAN        PAN
	Expiry     Secret // YYMM, may be empty
	Amount     Amount
	Currency   Currency
	At         time.Time // DE 7 is this in UTC; local dates and times are this as it stands
	EntryMode  string    // DE 22 as the profile writes it; "" means keyed in
	Sequence   string    // DE 23, card sequence number, may be empty
	Acceptor   Acceptor
	Track2     Secret // DE 35, goes to the host, is never kept (L11)
	Track3     Secret // DE 36, goes to the host, is never kept (L11)
	PINBlock   Secret // DE 52, 16 hex digits, goes to the host, is never kept (L11)
	Chip       Secret // DE 55, hex TLV, goes to the host; a reversal keeps the profile's tags of it
	Batch      string // current batch, six digits; "" means 000001
	Operator   string // who is signed on, three digits at UnionPay
	Capability string // what the terminal can read, as the profile's last part of DE 60 wants it
	Original   *Reference
	Script     Secret         // result of an issuer script, hex TLV, of a script notice
	Totals     Secret         // DE 48 of a settlement or upload, as the profile lays it out; an upload has card numbers in it
	Elements   map[int]Secret // data elements as they are to stand, over whatever the profile would make
}

// Last4 is the last four digits of the card, from its number or from track 2; ""
// when neither is there.
func (r Request) Last4() string {
	if r.PAN.Reveal() != "" {
		return r.PAN.Last4()
	}
	pan, err := ParseTrack2(r.Track2)
	if err != nil {
		return ""
	}
	return pan.Last4()
}

// requestValues are the names that a template may use for a request.
var requestValues = map[string]func(r *Request) string{
	"pan":        func(r *Request) string { return r.PAN.Reveal() },
	"amount":     func(r *Request) string { return positive(r.Amount) },
	"utc":        func(r *Request) string { return stamp(r.At.UTC(), "0102150405") },
	"stan":       func(r *Request) string { return r.STAN.String() },
	"time":       func(r *Request) string { return stamp(r.At, "150405") },
	"date":       func(r *Request) string { return stamp(r.At, "0102") },
	"datetime":   func(r *Request) string { return stamp(r.At, "060102150405") },
	"expiry":     func(r *Request) string { return r.Expiry.Reveal() },
	"entry":      func(r *Request) string { return r.EntryMode },
	"sequence":   func(r *Request) string { return r.Sequence },
	"acquirer":   func(r *Request) string { return r.Acceptor.Acquirer },
	"forwarder":  func(r *Request) string { return r.Acceptor.Forwarder },
	"category":   func(r *Request) string { return r.Acceptor.Category },
	"terminal":   func(r *Request) string { return r.Acceptor.Terminal },
	"merchant":   func(r *Request) string { return r.Acceptor.Merchant },
	"track2":     func(r *Request) string { return r.Track2.Reveal() },
	"track3":     func(r *Request) string { return r.Track3.Reveal() },
	"pin":        func(r *Request) string { return strings.ToUpper(r.PINBlock.Reveal()) },
	"chip":       func(r *Request) string { return strings.ToUpper(r.Chip.Reveal()) },
	"currency":   func(r *Request) string { return r.Currency.Numeric },
	"batch":      func(r *Request) string { return r.Batch },
	"operator":   func(r *Request) string { return r.Operator },
	"capability": func(r *Request) string { return r.Capability },
	"script":     func(r *Request) string { return strings.ToUpper(r.Script.Reveal()) },
	"totals":     func(r *Request) string { return r.Totals.Reveal() },
	"processing": func(*Request) string { return "" }, // these two stand in the transaction
	"condition":  func(*Request) string { return "" },

	"original.stan":  func(r *Request) string { return r.original(func(o *Reference) string { return known(o.STAN) }) },
	"original.batch": func(r *Request) string { return r.original(func(o *Reference) string { return o.Batch }) },
	"original.date":  func(r *Request) string { return r.original(func(o *Reference) string { return stamp(o.At, "0102") }) },
	"original.utc": func(r *Request) string {
		return r.original(func(o *Reference) string { return stamp(o.At.UTC(), "0102150405") })
	},
	"original.datetime": func(r *Request) string {
		return r.original(func(o *Reference) string { return stamp(o.At, "060102150405") })
	},
	"original.rrn":  func(r *Request) string { return r.original(func(o *Reference) string { return o.RRN }) },
	"original.auth": func(r *Request) string { return r.original(func(o *Reference) string { return o.AuthCode }) },
	"original.mti":  func(r *Request) string { return r.original(func(o *Reference) string { return string(o.MTI) }) },
}

func (r *Request) original(part func(*Reference) string) string {
	if r.Original == nil {
		return ""
	}
	return part(r.Original)
}

func positive(a Amount) string {
	if a < 1 {
		return ""
	}
	return a.String()
}

func known(s STAN) string {
	if s == 0 {
		return ""
	}
	return s.String()
}

func stamp(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(layout)
}

// Build makes the message of a request. What is mandatory is checked and named;
// errors wrap ErrInvalid and carry no value.
func (p *Profile) Build(r Request) (*Message, error) {
	tx, ok := p.data.Transactions[r.Type]
	if !ok {
		return nil, fmt.Errorf("%w: profile %s has no transaction %q; it has %s", ErrInvalid, p.data.Name, r.Type, p.typeList())
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	m := NewMessage(tx.MTI)
	for _, de := range slices.Concat(tx.Must, tx.OneOf, tx.May) {
		if value, missing := p.make(&r, tx, de); value != "" {
			m.Set(de, value)
		} else if slices.Contains(tx.Must, de) {
			return nil, &FieldError{Kind: ErrInvalid, Field: de, Why: fmt.Sprintf("(%s) must be given for a %s: %s", p.wire[de].Name, r.Type, missing)}
		}
	}
	for de := range p.sets[r.Type] {
		value, missing := p.make(&r, tx, de)
		if value == "" && !slices.Contains(tx.May, de) {
			return nil, &FieldError{Kind: ErrInvalid, Field: de, Why: fmt.Sprintf("(%s) cannot be made for a %s: %s is missing or too long", p.wire[de].Name, r.Type, missing)}
		}
		if value != "" {
			m.Set(de, value)
		}
	}
	for de, value := range r.Elements {
		if de == 11 || de == 41 || de == 42 { // the engine's: the entry and the lane rest on them
			return nil, &FieldError{Kind: ErrInvalid, Field: de, Why: "cannot be given as an element"}
		}
		m.Set(de, value.Reveal())
	}
	if len(tx.OneOf) > 0 && !slices.ContainsFunc(tx.OneOf, func(de int) bool { _, ok := m.Field(de); return ok }) {
		return nil, &FieldError{Kind: ErrInvalid, Field: tx.OneOf[0], Why: fmt.Sprintf("or another of DE %v must be given for a %s", tx.OneOf[1:], r.Type)}
	}
	return m, p.checkAll(m)
}

// make is the value of one data element, or the name of what it lacks.
func (p *Profile) make(r *Request, tx transactionData, de int) (value, missing string) {
	t, ok := p.sets[r.Type][de]
	if !ok {
		t = p.makes[de]
	}
	return t.expand(func(name string) string {
		switch v := requestValues[name](r); {
		case name == "processing":
			return tx.Processing
		case name == "condition":
			return tx.Condition
		case name == "batch" && v == "":
			return "000001"
		default:
			return v
		}
	})
}

// checkAll holds every value against the field table.
func (p *Profile) checkAll(m *Message) error {
	for _, de := range m.Fields() {
		if de < 2 || de > 128 || p.wire[de] == nil {
			return &FieldError{Kind: ErrInvalid, Field: de, Why: "is not part of profile " + p.data.Name}
		}
		value, _ := m.Field(de)
		if p.wire[de].padded() { // as it comes back in an answer, whatever the firmware filled it up with
			value = strings.TrimRight(value, " ")
			m.Set(de, value)
		}
		if err := p.wire[de].check(de, value, ErrInvalid); err != nil {
			return err
		}
	}
	return nil
}

// Check says whether the request could be built and packed, before it has a
// trace number.
func (p *Profile) Check(r Request) error {
	r.STAN = 1 // any will do
	m, err := p.Build(r)
	if err != nil {
		return err
	}
	_, err = p.Pack(m)
	return err
}

// validate checks what does not depend on the profile.
func (r Request) validate() error {
	switch {
	case r.STAN < 1 || r.STAN > STANMax:
		return invalid(11, "must be 1 to 999999")
	case r.Amount < 0 || r.Amount > AmountMax:
		return invalid(4, "must be 1 to 999999999999 minor units")
	case r.At.IsZero():
		return invalid(7, "needs the time of the transaction")
	}
	if !charsets["b"](strings.ToUpper(r.Chip.Reveal())) {
		return invalid(55, "must be pairs of hex digits")
	}
	if e := r.Expiry.Reveal(); e != "" && (len(e) != 4 || !digits(e) || e[2:] < "01" || e[2:] > "12") {
		return invalid(14, "must be YYMM")
	}
	return nil
}

func (p *Profile) typeList() string {
	var names []string
	for _, t := range p.TxTypes() {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}
