package simulator

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"uncharge/iso"
)

// Test cards come from published test ranges only.
var testCards = []string{
	"4111111111111111", "4242424242424242", "5555555555554444",
	"378282246310005", "6011111111111117", "3530111333300000",
}

func card(t testing.TB, number string) iso.PAN {
	t.Helper()
	pan, err := iso.ParsePAN(number)
	if err != nil {
		t.Fatal(err)
	}
	return pan
}

func currency(t testing.TB, code string) iso.Currency {
	t.Helper()
	c, err := iso.LookupCurrency(code)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func coffee(t testing.TB) Sale {
	return Sale{
		Terminal: "TERM01", Merchant: "MERCHANT0000001", STAN: 7, At: "1123013015",
		Card: card(t, testCards[0]), Amount: 1250, Currency: currency(t, "USD"),
	}
}

func undo(s Sale) Reversal {
	return Reversal{
		Terminal: s.Terminal, Merchant: s.Merchant,
		Original: iso.Original{MTI: "0200", STAN: s.STAN, At: s.At},
		Card:     s.Card, Amount: s.Amount, Currency: s.Currency,
	}
}

// wantAccount compares one card's account, and the whole ledger with itself.
func wantAccount(t testing.TB, l *Ledger, s Sale, net int64, sales, reversed int) {
	t.Helper()
	got := l.Account(s.Card, s.Currency)
	if got.NetMinor != net || got.Sales != sales || got.Reversed != reversed {
		t.Errorf("account: net %d, %d sales, %d reversed; want net %d, %d sales, %d reversed",
			got.NetMinor, got.Sales, got.Reversed, net, sales, reversed)
	}
	if got.UndoneMax > 1 {
		t.Errorf("a sale was undone %d times", got.UndoneMax)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}

func TestSaleIsBookedOnce(t *testing.T) {
	l, s := &Ledger{}, coffee(t)
	first := l.Sell(s, "")
	if first.Kind != KindBooked || first.Code != "00" || len(first.RRN) != 12 || len(first.AuthCode) != 6 {
		t.Fatalf("first: %+v", first)
	}
	again := l.Sell(s, "51") // the answer of the first stands, whatever the host would say now
	if again.Kind != KindDuplicate || again.Code != first.Code || again.RRN != first.RRN || again.AuthCode != first.AuthCode {
		t.Fatalf("duplicate: %+v, first %+v", again, first)
	}
	wantAccount(t, l, s, 1250, 1, 0)
}

func TestSameTraceAnotherSale(t *testing.T) {
	for name, change := range map[string]func(*Sale){
		"amount":   func(s *Sale) { s.Amount++ },
		"card":     func(s *Sale) { s.Card = card(t, testCards[1]) },
		"currency": func(s *Sale) { s.Currency = currency(t, "EUR") },
	} {
		l, s := &Ledger{}, coffee(t)
		l.Sell(s, "")
		other := s
		change(&other)
		if b := l.Sell(other, ""); b.Kind != KindDeclined || b.Code != "94" {
			t.Errorf("other %s: %+v", name, b)
		}
		wantAccount(t, l, s, 1250, 1, 0)
	}
}

func TestDeclinedSaleMovesNothing(t *testing.T) {
	l, s := &Ledger{}, coffee(t)
	if b := l.Sell(s, "51"); b.Kind != KindDeclined || b.Code != "51" || b.AuthCode != "" {
		t.Fatalf("%+v", b)
	}
	if b := l.Sell(s, ""); b.Kind != KindDuplicate || b.Code != "51" {
		t.Fatalf("duplicate of a declined sale: %+v", b)
	}
	if u := l.Reverse(undo(s)); u.Kind != KindNotFound || u.Code != "25" {
		t.Fatalf("reversal of a declined sale: %+v", u)
	}
	wantAccount(t, l, s, 0, 0, 0)
}

func TestSaleIsUndoneOnce(t *testing.T) {
	l, s := &Ledger{}, coffee(t)
	l.Sell(s, "")
	if u := l.Reverse(undo(s)); u.Kind != KindReversed || u.Code != "00" || u.Undone != 1 {
		t.Fatalf("first: %+v", u)
	}
	for range 3 {
		if u := l.Reverse(undo(s)); u.Kind != KindReversalRepeated || u.Code != "00" || u.Undone != 1 {
			t.Fatalf("repeat: %+v", u)
		}
	}
	if b := l.Sell(s, ""); b.Kind != KindDuplicate {
		t.Fatalf("a duplicate after the reversal: %+v", b)
	}
	wantAccount(t, l, s, 0, 1, 1)
}

// L10: the reversal overtakes its sale, and the sale is charged all the same.
func TestReversalBeforeItsSale(t *testing.T) {
	l, s := &Ledger{}, coffee(t)
	if u := l.Reverse(undo(s)); u.Kind != KindNotFound || u.Code != "25" {
		t.Fatalf("before the sale: %+v", u)
	}
	l.Sell(s, "")
	wantAccount(t, l, s, 1250, 1, 0)
	if u := l.Reverse(undo(s)); u.Kind != KindReversed {
		t.Fatalf("after the sale: %+v", u)
	}
	wantAccount(t, l, s, 0, 1, 1)
}

func TestReversalNamesItsOriginal(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Reversal)
		code   string
	}{
		"terminal":     {func(r *Reversal) { r.Terminal = "TERM02" }, "25"},
		"merchant":     {func(r *Reversal) { r.Merchant = "MERCHANT0000002" }, "25"},
		"trace":        {func(r *Reversal) { r.Original.STAN++ }, "25"},
		"time":         {func(r *Reversal) { r.Original.At = "1123013016" }, "25"},
		"no time":      {func(r *Reversal) { r.Original.At = "" }, "25"},
		"message type": {func(r *Reversal) { r.Original.MTI = "0100" }, "25"},
		"card":         {func(r *Reversal) { r.Card = card(t, testCards[1]) }, "14"},
		"amount":       {func(r *Reversal) { r.Amount-- }, "13"},
		"currency":     {func(r *Reversal) { r.Currency = currency(t, "EUR") }, "13"},
		"nothing":      {func(*Reversal) {}, "00"},
		"repeat MTI":   {func(r *Reversal) { r.Original.MTI = "0201" }, "00"},
		"less said": {func(r *Reversal) {
			r.Card, r.Amount, r.Currency = iso.PAN{}, 0, iso.Currency{}
		}, "00"},
	} {
		l, s := &Ledger{}, coffee(t)
		l.Sell(s, "")
		r := undo(s)
		c.change(&r)
		if u := l.Reverse(r); u.Code != c.code {
			t.Errorf("another %s: answered %s, want %s", name, u.Code, c.code)
		}
		if c.code == "00" {
			wantAccount(t, l, s, 0, 1, 1)
		} else {
			wantAccount(t, l, s, 1250, 1, 0)
		}
	}
}

// Sales, reversals and looks from many goroutines; the race detector judges.
func TestLedgerIsSafeForConcurrentUse(t *testing.T) {
	const terminals, each = 4, 50
	l, s := &Ledger{}, coffee(t)
	var all sync.WaitGroup
	for n := range terminals {
		all.Go(func() {
			own := s
			own.Terminal = fmt.Sprintf("LANE%02d", n)
			for trace := range each {
				own.STAN = iso.STAN(trace + 1)
				l.Sell(own, "")
				l.Sell(s, "") // the same sale from everybody
				l.Reverse(undo(own))
				l.Snapshot()
			}
			if err := l.Check(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantAccount(t, l, s, 1250, terminals*each+1, terminals*each)
}

func TestCurrenciesAreApart(t *testing.T) {
	l, dollars := &Ledger{}, coffee(t)
	l.Sell(dollars, "")
	yen := dollars
	yen.STAN, yen.Amount, yen.Currency = 8, 500, currency(t, "JPY")
	l.Sell(yen, "")
	wantAccount(t, l, dollars, 1250, 1, 0)
	wantAccount(t, l, yen, 500, 1, 0)
	if rows := l.Snapshot(); len(rows) != 2 || rows[0].Currency.Alpha != "USD" || rows[1].Currency.Alpha != "JPY" {
		t.Errorf("snapshot: %+v", rows)
	}
}

// Check must see what it is there to see.
func TestCheckFindsAWrongAccount(t *testing.T) {
	l, s := &Ledger{}, coffee(t)
	l.Sell(s, "")
	l.order[0].netMinor--
	if err := l.Check(); err == nil {
		t.Error("a net that the postings do not add up to passed")
	} else if strings.Contains(err.Error(), testCards[0]) {
		t.Error("the error shows the card")
	}

	l = &Ledger{}
	l.Sell(s, "")
	for _, e := range l.sales {
		for range 2 {
			e.undone++
			l.post(e, -int64(s.Amount))
		}
	}
	if err := l.Check(); err == nil {
		t.Error("a sale undone twice passed")
	}
	if got := l.Account(s.Card, s.Currency).UndoneMax; got != 2 {
		t.Errorf("undone %d times in the snapshot, want 2", got)
	}
}

func TestLedgerShowsNoCard(t *testing.T) {
	l, s := &Ledger{}, coffee(t)
	l.Sell(s, "")
	u := l.Reverse(undo(s))
	for _, v := range []any{l, s, undo(s), u, l.Snapshot(), l.Account(s.Card, s.Currency)} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{string(text), fmt.Sprintf("%v %+v %#v %s %q %x", v, v, v, v, v, v)} {
			if strings.Contains(shown, testCards[0]) {
				t.Errorf("%T shows the card", v)
			}
		}
	}
}

// model is the ledger over again, written as plainly as it can be.
type model struct {
	answer map[string]string // per sale: the code of its first answer
	sale   map[string]Sale
	undone map[string]bool
}

func modelKey(s Sale) string { return fmt.Sprint(s.Terminal, s.Merchant, s.STAN, s.At) }

func (m *model) sell(s Sale, decline string) string {
	k := modelKey(s)
	if old, known := m.sale[k]; known {
		if old.Card.Reveal() != s.Card.Reveal() || old.Amount != s.Amount || old.Currency != s.Currency {
			return "94"
		}
		return m.answer[k]
	}
	m.sale[k], m.answer[k] = s, "00"
	if decline != "" {
		m.answer[k] = decline
	}
	return m.answer[k]
}

func (m *model) reverse(s Sale) string {
	k := modelKey(s)
	old, known := m.sale[k]
	switch {
	case !known || m.answer[k] != "00":
		return "25"
	case old.Card.Reveal() != s.Card.Reveal():
		return "14"
	case old.Amount != s.Amount || old.Currency != s.Currency:
		return "13"
	}
	m.undone[k] = true
	return "00"
}

func (m *model) net(c iso.PAN, cur iso.Currency) (net int64, sales, reversed int) {
	for k, s := range m.sale {
		if m.answer[k] != "00" || s.Card.Reveal() != c.Reveal() || s.Currency != cur {
			continue
		}
		sales++
		if m.undone[k] {
			reversed++
		} else {
			net += int64(s.Amount)
		}
	}
	return net, sales, reversed
}

// Any order of sales, duplicates, reversals, repeats and reversals before their
// sale gives what the plain model gives. rapid prints the seed of a failure.
func TestLedgerAgainstModel(t *testing.T) {
	cards := []iso.PAN{card(t, testCards[0]), card(t, testCards[2])}
	currencies := []iso.Currency{currency(t, "USD"), currency(t, "JPY")}
	rapid.Check(t, func(t *rapid.T) {
		l := &Ledger{}
		m := &model{map[string]string{}, map[string]Sale{}, map[string]bool{}}
		draw := func() Sale {
			return Sale{
				Terminal: rapid.SampledFrom([]string{"TERM01", "TERM02"}).Draw(t, "terminal"),
				Merchant: "MERCHANT0000001",
				STAN:     iso.STAN(rapid.IntRange(1, 3).Draw(t, "trace")),
				At:       "1123013015",
				Card:     rapid.SampledFrom(cards).Draw(t, "card"),
				Amount:   iso.Amount(rapid.IntRange(1, 2).Draw(t, "amount")),
				Currency: rapid.SampledFrom(currencies).Draw(t, "currency"),
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"sell": func(t *rapid.T) {
				s, decline := draw(), rapid.SampledFrom([]string{"", "", "51"}).Draw(t, "decline")
				if got, want := l.Sell(s, decline).Code, m.sell(s, decline); got != want {
					t.Fatalf("sale answered %s, want %s", got, want)
				}
			},
			"reverse": func(t *rapid.T) {
				s := draw()
				if got, want := l.Reverse(undo(s)).Code, m.reverse(s); got != want {
					t.Fatalf("reversal answered %s, want %s", got, want)
				}
			},
			"": func(t *rapid.T) {
				if err := l.Check(); err != nil {
					t.Fatal(err)
				}
				for _, c := range cards {
					for _, cur := range currencies {
						net, sales, reversed := m.net(c, cur)
						a := l.Account(c, cur)
						if a.NetMinor != net || a.Sales != sales || a.Reversed != reversed || a.UndoneMax > 1 {
							t.Fatalf("%v: want net %d, %d sales, %d reversed", a, net, sales, reversed)
						}
					}
				}
			},
		})
	})
}
