package simulator

import (
	"context"
	"strings"
	"time"

	"uncharge/iso"
)

// What this host serves besides reversals: purchases (DE 3 begins with 00). In the
// ledger every sale has the message type of ISO 8583:1987.
const (
	saleMTI  iso.MTI = "0200"
	purchase string  = "00"
)

// What an answer repeats of its request. Both lists are closed: tracks, PIN
// block and chip data are in neither, and neither is the card number.
var (
	echoOfSale     = []int{3, 4, 7, 11, 12, 13, 24, 25, 32, 41, 42, 49, 60}
	echoOfReversal = []int{3, 4, 7, 11, 12, 24, 25, 37, 41, 42, 49, 60}
	echoOfOther    = []int{3, 4, 7, 11, 12, 24, 37, 41, 42, 49, 60, 70}
)

// garbage is the answer that is no message: no message begins with these bytes
// in any dialect.
var garbage = []byte("\xff\x00\xde\xad not a message \xde\xad\x00\xff")

var noCard iso.PAN

// verdict is what is left to do on the line once the ledger has been changed.
type verdict struct {
	answer []byte        // packed; nil: nothing is sent
	delay  time.Duration // before the answer
	hangUp string        // with no answer: why the line is closed, "" keeps it open
	event  Event         // what to tell of the answer, all but Kind and Detail
	card   iso.PAN       // whose net the event shows

	envelope  iso.Envelope // of the request
	askSignOn bool         // in the header, where there is one
}

// decide takes a message to the ledger, tells the observer, and returns what is
// to happen on the line.
func (h *Host) decide(connection uint64, m *iso.Message, unproven error) verdict {
	h.order.Lock()
	defer h.order.Unlock()
	e := Event{Connection: connection, MTI: m.MTI(), Terminal: field(m, 41)}
	e.STAN, _ = iso.ParseSTAN(field(m, 11))
	if unproven != nil && answerable(m.MTI()) {
		return h.unproven(e, m, unproven)
	}
	switch s := serviceOf(h.profile, m); s {
	case serviceSale:
		return h.decideSale(e, m)
	case serviceReversal:
		return h.decideReversal(e, m)
	case serviceSignOn, serviceSignOff, serviceEcho:
		return h.decideNetwork(e, m, s)
	}
	e.Kind = KindUnserved
	if !answerable(m.MTI()) {
		e.Detail = "a message of this type has no answer"
		h.emit(e, noCard)
		return verdict{}
	}
	e.Code = code(h.profile, serviceNone, codeInvalid)
	h.emit(e, noCard)
	return h.reply(m, echoOfOther, map[int]string{39: e.Code}, verdict{event: e})
}

func (h *Host) decideSale(e Event, m *iso.Message) verdict {
	s, bad := readSale(h.profile, m)
	e.Card, e.Last4 = s.Card.String(), s.Card.Last4()
	e.AmountMinor, e.Currency = int64(s.Amount), s.Currency
	if bad != "" {
		e.Kind, e.Code = KindDeclined, code(h.profile, serviceSale, bad)
		h.emit(e, s.Card)
		return h.reply(m, echoOfSale, map[int]string{39: e.Code}, verdict{event: e, card: s.Card})
	}
	fault := h.faults.forSale()
	e.Kind, e.Fault = KindSale, fault.Word
	h.emit(e, s.Card)
	switch fault.Word {
	case DropRequest:
		return h.drop(e, s.Card, "")
	case CloseBeforeBooking:
		return h.drop(e, s.Card, "fault "+fault.String())
	}
	declineCode := ""
	if fault.Word == Decline {
		declineCode = fault.Code
	}
	b := h.ledger.Sell(s, declineCode)
	b.Code = code(h.profile, serviceSale, b.Code)
	e.Kind, e.Code, e.RRN = b.Kind, b.Code, b.RRN
	h.emit(e, s.Card)
	own := h.stamped(m, map[int]string{37: b.RRN, 38: b.AuthCode, 39: b.Code})
	switch fault.Word {
	case DropAnswer:
		return h.drop(e, s.Card, "")
	case CloseAfterBooking:
		return h.drop(e, s.Card, "fault "+fault.String())
	case GarbageAnswer:
		e.Code = ""
		return verdict{answer: garbage, event: e, card: s.Card}
	case WrongSTAN:
		own[11] = (s.STAN%iso.STANMax + 1).String()
	case NoCode:
		e.Code, own[39] = "", ""
	}
	return h.reply(m, echoOfSale, own, verdict{delay: fault.Delay, event: e, card: s.Card})
}

func (h *Host) decideReversal(e Event, m *iso.Message) verdict {
	r, bad := readReversal(h.profile, m)
	e.Card, e.Last4 = r.Card.String(), r.Card.Last4()
	e.AmountMinor, e.Currency, e.Original = int64(r.Amount), r.Currency, r.Original.STAN
	card := r.Card
	if bad != "" {
		e.Kind, e.Code = KindReversalRefused, code(h.profile, serviceReversal, bad)
		h.emit(e, card)
		return h.reply(m, echoOfReversal, map[int]string{39: e.Code}, verdict{event: e, card: card})
	}
	fault := h.faults.forReversal(r.key())
	e.Undone = h.ledger.undone(r.key())
	e.Kind, e.Fault = KindReversal, fault.Word
	h.emit(e, card)
	switch fault.Word {
	case DropReversal:
		return h.drop(e, card, "")
	case RefuseReversal:
		e.Kind, e.Code = KindReversalRefused, code(h.profile, serviceReversal, fault.Code)
		h.emit(e, card)
		return h.reply(m, echoOfReversal, map[int]string{39: e.Code}, verdict{event: e, card: card})
	}
	u := h.ledger.Reverse(r)
	u.Code = code(h.profile, serviceReversal, u.Code)
	e.Kind, e.Code, e.RRN, e.Undone = u.Kind, u.Code, u.RRN, u.Undone
	if u.RRN != "" {
		card = u.Sale.Card
		e.Card, e.Last4 = card.String(), card.Last4()
		e.AmountMinor, e.Currency = int64(u.Sale.Amount), u.Sale.Currency
	}
	h.emit(e, card)
	if fault.Word == DropReversalAnswer {
		return h.drop(e, card, "")
	}
	return h.reply(m, echoOfReversal, h.stamped(m, map[int]string{39: u.Code}), verdict{event: e, card: card})
}

// drop tells that there will be no answer.
func (h *Host) drop(e Event, card iso.PAN, hangUp string) verdict {
	e.Kind = KindDropped
	h.emit(e, card)
	return verdict{hangUp: hangUp}
}

// reply completes a verdict with the answer: what echo lists of the request, and
// the host's own data elements, which go before it; an empty one is left out.
func (h *Host) reply(request *iso.Message, echo []int, own map[int]string, v verdict) verdict {
	answer := iso.NewMessage(request.MTI().Answer())
	for _, de := range echo {
		if value, ok := request.Field(de); ok {
			answer.Set(de, value)
		}
	}
	for de, value := range own {
		if value != "" {
			answer.Set(de, value)
		}
	}
	packed, err := h.seal(answer, v.event.Terminal)
	if err != nil {
		v.event.Kind, v.event.Detail = KindNotDelivered, err.Error()
		h.emit(v.event, v.card)
		return verdict{hangUp: "an answer could not be packed"}
	}
	v.answer = packed
	return v
}

// seal packs an answer, with a MAC where the terminal has a key for it.
func (h *Host) seal(answer *iso.Message, terminal string) ([]byte, error) {
	keys := h.keys.of(terminal)
	if keys == nil {
		return h.profile.Pack(answer)
	}
	return h.profile.Seal(context.Background(), answer, keys)
}

// readSale takes from a request what the ledger needs. The code says what is
// wrong with it, "" nothing; what could be read is returned either way.
func readSale(p *iso.Profile, m *iso.Message) (Sale, string) {
	s := Sale{Terminal: field(m, 41), Merchant: field(m, 42), At: moment(p, m)}
	number := field(m, 2)
	if number == "" {
		number = track2Number(field(m, 35))
	}
	var badCard, badAmount, badSTAN, badCurrency error
	s.Card, badCard = iso.ParsePAN(number)
	s.Amount, badAmount = iso.ParseDE4(field(m, 4))
	s.STAN, badSTAN = iso.ParseSTAN(field(m, 11))
	s.Currency, badCurrency = iso.LookupCurrency(field(m, 49))
	switch {
	case s.Terminal == "", s.Merchant == "", s.At == "", badSTAN != nil, number == "", badAmount != nil, badCurrency != nil:
		return s, codeFormat
	case s.Amount == 0:
		return s, codeInvalidAmount
	case badCard != nil:
		return s, codeInvalidCard
	}
	return s, ""
}

// readReversal takes from a reversal what the ledger needs. Card, amount and
// currency may be missing, but not wrong.
func readReversal(p *iso.Profile, m *iso.Message) (Reversal, string) {
	r := Reversal{Terminal: field(m, 41), Merchant: field(m, 42)}
	var badOriginal, badCard, badAmount, badCurrency error
	r.Original, badOriginal = originalOf(p, m)
	if number := field(m, 2); number != "" {
		r.Card, badCard = iso.ParsePAN(number)
	}
	if amount, ok := m.Field(4); ok {
		r.Amount, badAmount = iso.ParseDE4(amount)
	}
	if currency, ok := m.Field(49); ok {
		r.Currency, badCurrency = iso.LookupCurrency(currency)
	}
	switch {
	case r.Terminal == "", r.Merchant == "", field(m, 11) == "", badOriginal != nil, badAmount != nil, badCurrency != nil:
		return r, codeFormat
	case r.Amount == 0 && field(m, 4) != "":
		return r, codeInvalidAmount
	case badCard != nil:
		return r, codeInvalidCard
	}
	return r, ""
}

// track2Number is the card number in track 2: what stands before the separator.
func track2Number(track string) string {
	if i := strings.IndexAny(track, "=D"); i >= 0 {
		return track[:i]
	}
	return track
}

func field(m *iso.Message, de int) string { return m.Text(de) }

// answerable reports whether a message of this type gets an answer: a request or
// an advice does; an answer, or a notice, does not.
func answerable(mti iso.MTI) bool { return mti[2] == '0' || mti[2] == '2' }
