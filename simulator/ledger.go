package simulator

import (
	"cmp"
	"errors"
	"fmt"
	"sync"

	"uncharge/iso"
)

// salesMax bounds the memory of a ledger. A sale past it is answered 96 and not
// booked. A million sales of the largest amount still fit 64 bits.
const salesMax = 1 << 20

// Response codes (DE 39) that the ledger gives of its own accord.
const (
	codeApproved      = "00"
	codeInvalid       = "12" // invalid transaction
	codeInvalidAmount = "13"
	codeInvalidCard   = "14"
	codeNotFound      = "25" // unable to locate record on file
	codeFormat        = "30"
	codeDuplicate     = "94"
	codeMalfunction   = "96"
)

// Sale is what the ledger takes from a sale request.
type Sale struct {
	Terminal string   // DE 41
	Merchant string   // DE 42
	STAN     iso.STAN // DE 11
	At       string   // DE 7 as it was sent; DE 12 in 1993, the batch at UnionPay
	Card     iso.PAN  // DE 2, or the PAN of track 2
	Amount   iso.Amount
	Currency iso.Currency
}

// Reversal is what the ledger takes from a reversal request. The original is
// found by Terminal, Merchant and Original (its MTI, STAN and transmission
// time). Card, Amount and Currency are zero when the message had none; what is
// there must agree with the original.
type Reversal struct {
	Terminal string       // DE 41
	Merchant string       // DE 42
	Original iso.Original // DE 90, DE 56, or the reversal's own trace number and batch
	Card     iso.PAN
	Amount   iso.Amount
	Currency iso.Currency
}

// Booking is what the ledger did about a sale.
type Booking struct {
	Kind     Kind   // KindBooked, KindDeclined or KindDuplicate
	Code     string // DE 39
	RRN      string // DE 37, twelve digits
	AuthCode string // DE 38, six digits, "" when not approved
}

// Undoing is what the ledger did about a reversal.
type Undoing struct {
	Kind   Kind   // KindReversed, KindReversalRepeated, KindReversalRefused or KindNotFound
	Code   string // DE 39
	Sale   Sale   // the original, the zero value when it was not found
	RRN    string // of the original, "" when it was not found
	Undone int    // how often the original has been undone so far: 0 or 1
}

// Account is what one card was charged in one currency.
type Account struct {
	Card      string // stars and the last four digits
	Last4     string
	Currency  iso.Currency
	NetMinor  int64 // charged and not undone, in minor units
	Sales     int   // sales booked, undone ones included
	Reversed  int   // sales undone
	UndoneMax int   // the most often that any one sale was undone
}

// Ledger is the host's book: one account per card and currency. A card is known
// by its full number in memory and shown by its last four digits. Safe for
// concurrent use. The zero value is ready.
type Ledger struct {
	mu       sync.Mutex
	sales    map[saleKey]*entry
	accounts map[accountKey]*account
	order    []*account // as they were first charged
	postings []posting
	issued   int // retrieval reference numbers and authorization codes given out
}

// saleKey tells one sale from every other. DE 7 has no year: a trace number
// that comes back on the same second of another year is taken for a duplicate.
type saleKey struct {
	terminal string
	merchant string
	mti      iso.MTI
	stan     iso.STAN
	at       string
}

type entry struct {
	sale    Sale
	booking Booking
	account *account // nil when the sale was not booked
	undone  int
}

type accountKey struct {
	pan      string
	currency string
}

type account struct {
	card     iso.PAN
	currency iso.Currency
	netMinor int64
	sales    int
	reversed int
}

// posting is one movement: the charge of a sale or its undoing. The list of
// them is the second opinion that Check holds the accounts against.
type posting struct {
	of    *entry
	minor int64
}

// Sell books a sale, or declines it with the code given ("" approves). A sale
// that is already known is answered as it was the first time and not booked
// again; the same trace number and time with another card or amount is answered
// 94 and not booked. A sale that was reversed before it arrived is booked all
// the same: hosts do (L10).
func (l *Ledger) Sell(s Sale, decline string) Booking {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := saleKey{s.Terminal, s.Merchant, saleMTI, s.STAN, s.At}
	if e := l.sales[key]; e != nil {
		if !sameSale(e.sale, s) {
			return Booking{Kind: KindDeclined, Code: codeDuplicate}
		}
		again := e.booking
		again.Kind = KindDuplicate
		return again
	}
	if len(l.sales) >= salesMax {
		return Booking{Kind: KindDeclined, Code: codeMalfunction}
	}
	l.issued++
	e := &entry{sale: s, booking: Booking{Kind: KindDeclined, Code: decline, RRN: fmt.Sprintf("%012d", l.issued)}}
	if decline == "" {
		e.booking.Kind, e.booking.Code = KindBooked, codeApproved
		e.booking.AuthCode = fmt.Sprintf("%06d", l.issued%1_000_000)
		e.account = l.account(s.Card, s.Currency)
		e.account.sales++
		l.post(e, int64(s.Amount))
	}
	if l.sales == nil {
		l.sales = make(map[saleKey]*entry)
	}
	l.sales[key] = e
	return e.booking
}

// Reverse undoes the sale that the reversal's original data names, once: a
// repeat is answered 00 again and moves nothing. Without such a sale, or when
// it was declined, the code is 25. A reversal that names the sale and disagrees
// about its card or its amount is refused (14, 13) and moves nothing.
func (l *Ledger) Reverse(r Reversal) Undoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.sales[r.key()]
	if e == nil || e.account == nil {
		return Undoing{Kind: KindNotFound, Code: codeNotFound}
	}
	u := Undoing{Kind: KindReversalRefused, Sale: e.sale, RRN: e.booking.RRN, Undone: e.undone}
	switch {
	case r.Card.Reveal() != "" && r.Card.Reveal() != e.sale.Card.Reveal():
		u.Code = codeInvalidCard
		return u
	case r.Amount != 0 && r.Amount != e.sale.Amount,
		r.Currency.Numeric != "" && r.Currency.Numeric != e.sale.Currency.Numeric:
		u.Code = codeInvalidAmount
		return u
	}
	u.Code = codeApproved
	if e.undone > 0 {
		u.Kind = KindReversalRepeated
		return u
	}
	e.undone++
	e.account.reversed++
	l.post(e, -int64(e.sale.Amount))
	u.Kind, u.Undone = KindReversed, e.undone
	return u
}

// Account returns what a card was charged in a currency; zero counts when it
// never was.
func (l *Ledger) Account(card iso.PAN, currency iso.Currency) Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[accountKey{card.Reveal(), currency.Numeric}]; a != nil {
		return l.row(a, l.undoneMax())
	}
	return Account{Card: card.String(), Last4: card.Last4(), Currency: currency}
}

// Snapshot lists every account, in the order in which they were first charged.
func (l *Ledger) Snapshot() []Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	undone := l.undoneMax()
	rows := make([]Account, 0, len(l.order))
	for _, a := range l.order {
		rows = append(rows, l.row(a, undone))
	}
	return rows
}

// Check adds up every posting and compares it with the accounts, and makes sure
// that no sale was undone more than once. An error names the account by its
// last four digits; it means that the simulator is wrong, not the terminal.
func (l *Ledger) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []error
	net := make(map[*account]int64)
	left := make(map[*entry]int64)
	for _, p := range l.postings {
		net[p.of.account] += p.minor
		left[p.of] += p.minor
	}
	for _, a := range l.order {
		if net[a] != a.netMinor {
			problems = append(problems, fmt.Errorf("card %v %s: postings add up to %d, the account says %d", a.card, a.currency.Alpha, net[a], a.netMinor))
		}
	}
	for _, e := range l.sales {
		want := int64(0)
		if e.account != nil && e.undone == 0 {
			want = int64(e.sale.Amount)
		}
		if e.undone > 1 || left[e] != want {
			problems = append(problems, fmt.Errorf("card %v, trace %v: undone %d times, %d left of %d", e.sale.Card, e.sale.STAN, e.undone, left[e], e.sale.Amount))
		}
	}
	return errors.Join(problems...)
}

// String says how much is in the ledger, and nothing of whose it is.
func (l *Ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("ledger of %d accounts, %d sales", len(l.order), len(l.sales))
}

// Format prints String under every verb: the maps are keyed by card numbers.
func (l *Ledger) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, l.String()) }

func (r Reversal) key() saleKey {
	return saleKey{r.Terminal, r.Merchant, class(r.Original.MTI), r.Original.STAN, cmp.Or(r.Original.At, r.Original.Local, r.Original.Batch)}
}

func sameSale(a, b Sale) bool {
	return a.Card.Reveal() == b.Card.Reveal() && a.Amount == b.Amount && a.Currency.Numeric == b.Currency.Numeric
}

func (l *Ledger) account(card iso.PAN, currency iso.Currency) *account {
	key := accountKey{card.Reveal(), currency.Numeric}
	if a := l.accounts[key]; a != nil {
		return a
	}
	if l.accounts == nil {
		l.accounts = make(map[accountKey]*account)
	}
	a := &account{card: card, currency: currency}
	l.accounts[key] = a
	l.order = append(l.order, a)
	return a
}

func (l *Ledger) post(e *entry, minor int64) {
	e.account.netMinor += minor
	l.postings = append(l.postings, posting{e, minor})
}

// undoneMax counts the undoings in the postings, not in the entries, so that
// the figure does not rest on the guard that keeps it at one.
func (l *Ledger) undoneMax() map[*account]int {
	times := make(map[*entry]int)
	most := make(map[*account]int)
	for _, p := range l.postings {
		if p.minor < 0 {
			times[p.of]++
			most[p.of.account] = max(most[p.of.account], times[p.of])
		}
	}
	return most
}

func (l *Ledger) row(a *account, undone map[*account]int) Account {
	return Account{
		Card: a.card.String(), Last4: a.card.Last4(), Currency: a.currency,
		NetMinor: a.netMinor, Sales: a.sales, Reversed: a.reversed, UndoneMax: undone[a],
	}
}

func (l *Ledger) undone(original saleKey) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.sales[original]; e != nil {
		return e.undone
	}
	return 0
}

// netMinor is cheap, unlike Account: it is read for every event.
func (l *Ledger) netMinor(card iso.PAN, currency iso.Currency) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[accountKey{card.Reveal(), currency.Numeric}]; a != nil {
		return a.netMinor
	}
	return 0
}
