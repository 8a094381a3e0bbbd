package reversal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// ledger is a host that keeps books, behind a line on which everything goes
// wrong that can.
type ledger struct {
	t       testing.TB
	profile *iso.Profile
	timers  iso.Timers
	cut     func() // a power cut at the terminal

	mu       sync.Mutex
	good     bool // no more trouble
	chance   map[journal.Lane]*dice
	postings map[string]*posting
	early    map[string]int // reversals that came before their original
	sales    map[string]int // how often each request reached the port
	trouble  map[string]int
}

// posting is one sale in the books.
type posting struct {
	card   string
	amount int64
	undone map[string]int // by message: a repeat that is another message would be booked again
}

// fate is what the line does to one exchange.
type fate struct {
	name   string
	weight int
	play   func(l *ledger, x *onLine) error
}

type onLine struct {
	ctx    context.Context
	lane   journal.Lane
	m      *iso.Message
	packed []byte
	accept func([]byte) bool
	chance *dice
}

// dice are one lane's luck; what is stuck in a modem throws them late.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed, lane uint64) *dice { return &dice{r: rand.New(rand.NewPCG(seed, lane))} }

func (d *dice) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

var fates = []fate{
	{"fine", 50, func(l *ledger, x *onLine) error { return l.deliver(x, l.book(x)) }},
	{"slow", 6, func(l *ledger, x *onLine) error {
		said := l.book(x)
		if err := pause(x.ctx, time.Duration(x.chance.IntN(20))*time.Second); err != nil {
			return err
		}
		return l.deliver(x, said)
	}},
	{"no connection", 5, func(*ledger, *onLine) error { return fmt.Errorf("%w: dial", ErrNotSent) }},
	{"request lost", 5, func(l *ledger, x *onLine) error { return l.hush(x) }},
	{"answer lost", 6, func(l *ledger, x *onLine) error { l.book(x); return l.hush(x) }},
	{"line drops before", 5, func(*ledger, *onLine) error { return errReset }},
	{"line drops after", 6, func(l *ledger, x *onLine) error { l.book(x); return errReset }},
	{"stuck in a modem", 5, func(l *ledger, x *onLine) error {
		time.AfterFunc(time.Duration(1+x.chance.IntN(8))*time.Second, func() { l.book(x) })
		return errReset
	}},
	{"stranger first", 4, func(l *ledger, x *onLine) error {
		said := l.book(x)
		if x.accept(l.pack(said, with(11, "999999"))) {
			l.t.Error("a stranger was taken for the answer")
		}
		return l.deliver(x, said)
	}},
	{"stranger only", 3, func(l *ledger, x *onLine) error {
		x.accept(l.pack(l.book(x), with(41, "TERM0666"), with(39, "00")))
		return l.hush(x)
	}},
	{"no code", 3, func(l *ledger, x *onLine) error { return l.deliver(x, l.book(x), without(39)) }},
	{"rubbish", 2, func(l *ledger, x *onLine) error { l.book(x); return l.given(x, []byte("rubbish")) }},
	{"late approval first", 4, func(l *ledger, x *onLine) error {
		said := l.book(x)
		if x.m.MTI().Reversal() && l.booked(x) && x.accept(l.pack(said, withMTI("0210"), with(39, "00"), with(38, "LATE99"))) {
			l.t.Error("a late approval was taken for the answer")
		}
		return l.deliver(x, said)
	}},
	{"power cut", 1, func(l *ledger, x *onLine) error { l.cut(); return l.deliver(x, l.book(x)) }},
	{"power cut before", 1, func(l *ledger, x *onLine) error { l.cut(); return errReset }},
}

func weights() (sum int) {
	for _, f := range fates {
		sum += f.weight
	}
	return sum
}

func (l *ledger) Exchange(ctx context.Context, lane journal.Lane, packed []byte, accept func([]byte) bool) error {
	m, err := l.profile.Unpack(packed)
	if err != nil {
		l.t.Errorf("the engine sent what cannot be read: %v", err)
		return errReset
	}
	l.mu.Lock()
	if !m.MTI().Reversal() {
		if l.sales[keyOf(m)]++; l.sales[keyOf(m)] > 1 {
			l.t.Errorf("sale %s was sent again (L16)", keyOf(m))
		}
	}
	chosen := fates[0]
	x := &onLine{ctx, lane, m, packed, accept, l.chance[lane]}
	if !l.good {
		n := x.chance.IntN(weights())
		for _, f := range fates {
			if n -= f.weight; n < 0 {
				chosen = f
				break
			}
		}
	}
	l.trouble[chosen.name]++
	l.mu.Unlock()
	return chosen.play(l, x)
}

// booked reports whether the host has the sale: one that it has not it did not
// approve.
func (l *ledger) booked(x *onLine) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.postings[keyOf(x.m)] != nil
}

// keyOf names the sale that a message is about.
func keyOf(m *iso.Message) string {
	get := func(de int) string { v, _ := m.Field(de); return v }
	stan, at := get(11), get(7)
	if o, err := iso.ParseOriginal(get(90)); err == nil {
		stan, at = o.STAN.String(), o.At
	}
	return fmt.Sprintf("%s/%s %s %s", get(41), get(42), stan, at)
}

// book is the host's own decision; it returns its answer.
func (l *ledger) book(x *onLine) *iso.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := iso.NewMessage(x.m.MTI().Answer())
	for _, de := range []int{3, 4, 7, 11, 41, 42, 49} {
		if v, ok := x.m.Field(de); ok {
			said.Set(de, v)
		}
	}
	code := "00"
	if x.m.MTI().Reversal() {
		code = l.bookReversal(x)
	} else {
		code = l.bookSale(x, said)
	}
	said.Set(39, code)
	return said
}

func (l *ledger) bookSale(x *onLine, said *iso.Message) string {
	card, _ := x.m.Field(2)
	text, _ := x.m.Field(4)
	amount, err := iso.ParseDE4(text)
	if err != nil {
		l.t.Error(err)
	}
	n, code := x.chance.IntN(100), "00"
	switch {
	case l.good:
	case n < 12:
		return "51"
	case n < 15:
		return "96" // and nothing booked
	case n < 18:
		code = "96" // but booked
	case n < 30:
		code, amount = "10", amount/2
		said.Set(4, amount.String())
	}
	said.Set(38, fmt.Sprintf("A%05d", len(l.postings)))
	l.postings[keyOf(x.m)] = &posting{card, int64(amount), map[string]int{}}
	return code
}

func (l *ledger) bookReversal(x *onLine) string {
	p, ok := l.postings[keyOf(x.m)]
	if !ok {
		l.early[keyOf(x.m)]++
		return "25"
	}
	if n := x.chance.IntN(100); !l.good && n < 15 {
		return []string{"91", "96", "05", "30", "ZZ"}[n%5] // not done
	}
	p.undone[string(x.packed[4:])]++
	return "00"
}

func (l *ledger) pack(said *iso.Message, changes ...change) []byte {
	m := said.Clone()
	for _, c := range changes {
		c(m)
	}
	packed, err := l.profile.Pack(m)
	if err != nil {
		l.t.Error(err)
	}
	return packed
}

func (l *ledger) deliver(x *onLine, said *iso.Message, changes ...change) error {
	return l.given(x, l.pack(said, changes...))
}

func (l *ledger) given(x *onLine, packed []byte) error {
	if x.accept(packed) {
		return nil
	}
	return l.hush(x)
}

func (l *ledger) hush(x *onLine) error {
	if err := pause(x.ctx, l.timers.AnswerWithin); err != nil {
		return err
	}
	return ErrNoAnswer
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// walk is the firmware: two lanes that sell, complete, reverse and forget.
type walk struct {
	s    *scene
	host *ledger

	mu       sync.Mutex
	told     map[journal.ID]string // what the customer was told
	sold     int
	outcomes map[string]int
}

var walkSales = map[bool]int{true: 150, false: 400}[underRace]

// TestWalk sells at random over a host and a line that fail at random, with power
// cuts; then everything is repaired, and the books must agree.
func TestWalk(t *testing.T) {
	seed := rand.Uint64()
	if v := os.Getenv("UNCHARGE_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("repeat with: UNCHARGE_SEED=%d go test -run 'TestWalk$' ./reversal", seed)
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.timers.CompleteWithin, s.timers.RefusalsMax = 2*time.Minute, 2
		l := &ledger{
			t: t, profile: s.profile, timers: s.timers, cut: func() { _ = s.journal.Close() },
			postings: map[string]*posting{}, early: map[string]int{}, sales: map[string]int{}, trouble: map[string]int{},
			chance: map[journal.Lane]*dice{lane1: newDice(seed, 1), lane2: newDice(seed, 2)},
		}
		w := &walk{s: s, host: l, told: map[journal.ID]string{}, outcomes: map[string]int{}}
		lives := 0
		for ; w.sold < walkSales; lives++ {
			w.life(seed, uint64(lives))
		}
		w.repair()
		w.judge()
		t.Logf("%d sales in %d lives: %v\nthe line: %v\n%d reversals overtook their sale", w.sold, lives, w.outcomes, l.trouble, len(l.early))
	})
}

// life is the time between two power cuts.
func (w *walk) life(seed, n uint64) {
	if err := w.s.journal.Close(); err != nil {
		w.s.t.Fatal(err)
	}
	w.s.open()
	engine := w.s.newEngine(w.host)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	var both sync.WaitGroup
	for i, lane := range []journal.Lane{lane1, lane2} {
		chance := newDice(seed^n<<8, uint64(10+i))
		both.Go(func() {
			for range 30 {
				if w.sale(engine, lane, chance) {
					return
				}
			}
		})
	}
	both.Wait()
	cancel()
	if err := <-done; err != nil && !errors.Is(err, journal.ErrClosed) {
		w.s.t.Errorf("run: %v", err)
	}
}

// sale is one customer; it reports whether the power is gone.
func (w *walk) sale(e *Engine, lane journal.Lane, chance *dice) (cut bool) {
	r := w.s.request(lane)
	pan, err := iso.ParsePAN([]string{visaTest, masterTest, visaOther}[chance.IntN(3)])
	w.s.must(err)
	r.PAN, r.Amount = pan, iso.Amount(2+chance.IntN(100_000))
	time.Sleep(time.Duration(chance.IntN(90)) * time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if chance.IntN(20) == 0 {
		time.AfterFunc(time.Duration(chance.IntN(30))*time.Second, cancel)
	}
	sale, err := e.Send(ctx, r)
	w.mu.Lock()
	w.sold++
	w.mu.Unlock()
	if err != nil {
		w.heard(err)
		return errors.Is(err, journal.ErrClosed)
	}
	switch n := chance.IntN(100); {
	case n < 60:
		err = sale.Complete()
	case n < 75: // the chip takes its time, perhaps too much
		time.Sleep(time.Duration(chance.IntN(240)) * time.Second)
		err = sale.Complete()
	case n < 88:
		err = cmp.Or(sale.Reverse(iso.Causes()[chance.IntN(len(iso.Causes()))]), ErrFailed)
	default: // forgotten
		err = ErrFailed
	}
	if err == nil {
		w.mu.Lock()
		w.told[sale.ID] = "approved"
		w.outcomes["approved"]++
		w.mu.Unlock()
		return false
	}
	w.heard(err)
	return errors.Is(err, journal.ErrClosed)
}

func (w *walk) heard(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range []error{ErrDeclined, ErrNotSent, ErrFailed, ErrReversalOwed, journal.ErrClosed} {
		if errors.Is(err, kind) {
			w.outcomes[kind.Error()]++
			return
		}
	}
	w.s.t.Errorf("heard %v", err)
}

// repair brings the network back; a person asks for what is parked again.
func (w *walk) repair() {
	w.host.mu.Lock()
	w.host.good = true
	w.host.mu.Unlock()
	w.s.must(w.s.journal.Close())
	w.s.open()
	w.s.engine = w.s.newEngine(w.host)
	parked, err := w.s.journal.Parked()
	w.s.must(err)
	for _, e := range parked {
		w.outcomes["parked"]++
		w.s.must(w.s.journal.Owe(e.ID, "retry", journal.Answer{}))
	}
	time.Sleep(time.Minute) // what is stuck in a modem arrives
	w.s.drain()
}

// judge holds the host's books against the journal and against what the
// customers were told.
func (w *walk) judge() {
	t := w.s.t
	want, got := map[string]int64{}, map[string]int64{}
	booked := map[string]*posting{} // by lane and trace number, which never repeats here
	for key, p := range w.host.postings {
		name := key[:strings.LastIndex(key, " ")]
		if booked[name] != nil {
			t.Errorf("trace number used twice: %s", key)
		}
		booked[name] = p
	}
	for e, err := range w.s.journal.Entries(journal.Query{}) {
		w.s.must(err)
		p := booked[fmt.Sprintf("%s %s", e.Lane, iso.STAN(e.STAN))]
		if (e.Status == journal.Completed) != (w.told[e.ID] == "approved") {
			t.Errorf("entry %d is %s, the customer was told %q (L3)", e.ID, e.Status, w.told[e.ID])
		}
		switch e.Status {
		case journal.Completed:
			if p == nil || len(p.undone) > 0 {
				t.Errorf("entry %d was completed; at the host: %+v", e.ID, p)
				continue
			}
			want[p.card] += cmp.Or(e.ApprovedMinor, e.Amount.Minor)
		case journal.Declined, journal.NotSent, journal.Reversed:
			if p != nil && len(p.undone) == 0 {
				t.Errorf("entry %d is %s; the host has charged %d still: %+v", e.ID, e.Status, p.amount, e.Steps)
			}
		default:
			t.Errorf("entry %d is %s at the end", e.ID, e.Status)
		}
	}
	for key, p := range w.host.postings {
		if len(p.undone) > 1 {
			t.Errorf("sale %s was reversed by %d different messages", key, len(p.undone))
		}
		if len(p.undone) == 0 {
			got[p.card] += p.amount
		}
	}
	for _, card := range []string{visaTest, masterTest, visaOther} {
		if got[card] != want[card] {
			t.Errorf("card ending %s: the host charges %d, %d was completed", card[12:], got[card], want[card])
		}
	}
	if w.outcomes["approved"] < walkSales/10 || w.outcomes[ErrFailed.Error()] < walkSales/20 {
		t.Errorf("scene: not much of a walk: %v", w.outcomes)
	}
}
