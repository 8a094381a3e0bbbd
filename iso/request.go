package iso

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// TxType names a kind of transaction, as profiles do.
type TxType string

// Sale is a purchase: money from the cardholder to the merchant.
const Sale TxType = "sale"

// Acceptor is who asks: the terminal, its merchant and their bank.
type Acceptor struct {
	Terminal  string // DE 41, up to 8 characters
	Merchant  string // DE 42, up to 15 characters
	Acquirer  string // DE 32, up to 11 digits, may be empty
	Forwarder string // DE 33, up to 11 digits, may be empty
	Category  string // DE 18, 4 digits, may be empty
}

// Request is one transaction as the firmware sees it. The engine fills in STAN.
type Request struct {
	Type      TxType
	STAN      STAN
	PAN       PAN
	Expiry    Secret // YYMM, may be empty
	Amount    Amount
	Currency  Currency
	At        time.Time // DE 7 is this in UTC; DE 12 and 13 are this as it stands
	EntryMode string    // DE 22, three digits; "" means keyed in, "012"
	Acceptor  Acceptor
	Track2    Secret // DE 35, goes to the host, is never kept (L11)
	PINBlock  Secret // DE 52, 16 hex digits, goes to the host, is never kept (L11)
	Chip      Secret // DE 55, hex, goes to the host, is not kept here
}

// Build makes the message of a request. What is mandatory is checked and named;
// errors wrap ErrInvalid and carry no value.
func (p *Profile) Build(r Request) (*Message, error) {
	tx, ok := p.data.Transactions[r.Type]
	if !ok {
		return nil, fmt.Errorf("%w: profile %s has no transaction %q", ErrInvalid, p.data.Name, r.Type)
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	m := NewMessage(tx.MTI)
	mode := r.EntryMode
	if mode == "" {
		mode = "012"
	}
	values := map[int]string{
		2: r.PAN.Reveal(), 3: tx.Processing, 4: r.Amount.String(),
		7: r.At.UTC().Format("0102150405"), 11: r.STAN.String(),
		12: r.At.Format("150405"), 13: r.At.Format("0102"), 14: r.Expiry.Reveal(),
		18: r.Acceptor.Category, 22: mode, 25: tx.Condition,
		32: r.Acceptor.Acquirer, 33: r.Acceptor.Forwarder, 35: r.Track2.Reveal(),
		41: r.Acceptor.Terminal, 42: r.Acceptor.Merchant, 49: r.Currency.Numeric,
		52: r.PINBlock.Reveal(), 55: r.Chip.Reveal(),
	}
	for de, value := range values {
		if p.padded(de) {
			value = strings.TrimRight(value, " ") // as it comes back in an answer
		}
		if value == "" {
			continue
		}
		if err := p.check(de, value, ErrInvalid); err != nil {
			return nil, err
		}
		m.Set(de, value)
	}
	return m, nil
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

func (r Request) validate() error {
	switch {
	case r.STAN < 1 || r.STAN > STANMax:
		return invalid(11, "must be 1 to 999999")
	case r.PAN.Reveal() == "" && r.Track2.Reveal() == "":
		return invalid(2, "or DE 35 must be given")
	case r.Amount < 1 || r.Amount > AmountMax:
		return invalid(4, "must be 1 to 999999999999 minor units")
	case r.Currency.Numeric == "":
		return invalid(49, "must be given")
	case r.At.IsZero():
		return invalid(7, "must be given")
	case r.Acceptor.Terminal == "":
		return invalid(41, "must be given")
	case r.Acceptor.Merchant == "":
		return invalid(42, "must be given")
	}
	if e := r.Expiry.Reveal(); e != "" && (len(e) != 4 || !digits(e) || e[2:] < "01" || e[2:] > "12") {
		return invalid(14, "must be YYMM")
	}
	return nil
}

// Reversible reports whether an unanswered transaction of this type is to be
// reversed (L16). An unknown type is not.
func (p *Profile) Reversible(t TxType) bool {
	return p.data.Transactions[t].Recovery == "reverse"
}

// TxTypes lists the transactions that the profile knows, sorted.
func (p *Profile) TxTypes() []TxType {
	var list []TxType
	for t := range p.data.Transactions {
		list = append(list, t)
	}
	slices.Sort(list)
	return list
}
