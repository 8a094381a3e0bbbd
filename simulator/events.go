package simulator

import (
	"encoding/json"
	"time"

	"uncharge/iso"
)

// Kind says what an event tells.
type Kind string

// The kinds of event. A request makes a KindSale or KindReversal, then what the
// ledger did with it, then whether it was answered; the fault that fell on it is
// named in each.
const (
	KindConnected        Kind = "connected"         // a line was opened
	KindClosed           Kind = "closed"            // a line was closed; Detail says why
	KindBadFrame         Kind = "bad-frame"         // what came is no message; the line is closed next
	KindSale             Kind = "sale"              // a sale request was read
	KindBooked           Kind = "booked"            // the card was charged
	KindDeclined         Kind = "declined"          // not charged, with Code
	KindDuplicate        Kind = "duplicate"         // a sale that is already known, answered as before
	KindReversal         Kind = "reversal"          // a reversal request was read
	KindReversed         Kind = "reversed"          // the sale was undone
	KindReversalRepeated Kind = "reversal-repeated" // it was undone before; answered as before
	KindReversalRefused  Kind = "reversal-refused"  // not undone, with Code
	KindNotFound         Kind = "not-found"         // there is no such booked sale
	KindNetwork          Kind = "network"           // sign-on, sign-off or echo; Detail says which
	KindUnproven         Kind = "unproven"          // the MAC is missing or wrong; nothing was done
	KindUnserved         Kind = "unserved"          // a message of a kind that this host does not serve
	KindAnswered         Kind = "answered"          // an answer was written to the line
	KindDropped          Kind = "dropped"           // a fault kept the answer back
	KindNotDelivered     Kind = "not-delivered"     // the answer could not be written; Detail says why
)

// Event is one thing that the host did. It holds no card data but the last four
// digits, and no text from the line but the terminal id, which is too short for
// a card number. What does not apply to the kind is zero.
type Event struct {
	Kind        Kind
	Time        time.Time
	Connection  uint64 // which line, from 1
	MTI         iso.MTI
	Card        string // stars and the last four digits
	Last4       string
	STAN        iso.STAN // DE 11 of the message
	Original    iso.STAN // the trace number that a reversal's DE 90 names
	Terminal    string   // DE 41
	AmountMinor int64    // of the sale; for a reversal that of the original, or its own DE 4 when that is not known
	Currency    iso.Currency
	Code        string // DE 39 of the answer, sent or kept back; "" when it has none
	RRN         string // DE 37 given to the sale
	Fault       FaultWord
	NetMinor    int64 // what the card is charged in this currency after the event
	Undone      int   // how often the original has been undone after the event
	Detail      string
}

// TimeLayout is how times are written in JSON: RFC 3339 with milliseconds and a
// numeric offset.
const TimeLayout = "2006-01-02T15:04:05.000-07:00"

// eventJSON is format 1 of an event. Money is in integer minor units beside its
// currency and exponent; net_minor and undone are there, zero included, wherever
// they mean something.
type eventJSON struct {
	V           int       `json:"v"`
	Event       Kind      `json:"event"`
	Connection  uint64    `json:"connection"`
	MTI         iso.MTI   `json:"mti,omitempty"`
	Card        string    `json:"card,omitempty"`
	Last4       string    `json:"last4,omitempty"`
	STAN        string    `json:"stan,omitempty"`
	Original    string    `json:"original_stan,omitempty"`
	Terminal    string    `json:"terminal,omitempty"`
	AmountMinor *int64    `json:"amount_minor,omitempty"`
	Currency    string    `json:"currency,omitempty"`
	Numeric     string    `json:"currency_numeric,omitempty"`
	Exponent    *int      `json:"exponent,omitempty"`
	Code        string    `json:"code,omitempty"`
	RRN         string    `json:"rrn,omitempty"`
	Fault       FaultWord `json:"fault,omitempty"`
	NetMinor    *int64    `json:"net_minor,omitempty"`
	Undone      *int      `json:"undone,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Time        string    `json:"time"`
}

// MarshalJSON writes one object, keys as in the field names ("event" for Kind,
// "original_stan" for Original, "currency_numeric" beside "currency"), with
// "v":1 for the format.
func (e Event) MarshalJSON() ([]byte, error) {
	out := eventJSON{
		V: 1, Event: e.Kind, Connection: e.Connection, MTI: e.MTI, Card: e.Card, Last4: e.Last4,
		Terminal: e.Terminal, Code: e.Code, RRN: e.RRN, Fault: e.Fault, Detail: e.Detail,
		Time: e.Time.Format(TimeLayout),
	}
	if e.STAN != 0 {
		out.STAN = e.STAN.String()
	}
	if e.Original != 0 {
		out.Original, out.Undone = e.Original.String(), &e.Undone
	}
	if e.Currency.Numeric != "" {
		out.Currency, out.Numeric, out.Exponent = e.Currency.Alpha, e.Currency.Numeric, &e.Currency.Exponent
		out.AmountMinor = &e.AmountMinor
		if e.Card != "" {
			out.NetMinor = &e.NetMinor
		}
	}
	return json.Marshal(out)
}
