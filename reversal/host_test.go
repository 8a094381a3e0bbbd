package reversal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// host is the scripted host behind the Exchanger port. For every message it
// writes down what the journal said at that moment, so that "durable, then sent"
// is seen and not assumed.
type host struct {
	s *scene

	mu        sync.Mutex
	heard     []heard
	sales     []answer // one for each sale, then approve
	reversals []answer // one for each reversal, then confirm
	always    answer   // instead of confirm
	busy      map[journal.Lane]bool
}

// heard is one message as it reached the port.
type heard struct {
	at      time.Time
	lane    journal.Lane
	mti     iso.MTI
	message *iso.Message
	packed  []byte
	entry   journal.Entry // what the journal said then; ID 0: it had no such open entry
}

// field is a data element, "" when it is not there.
func (h heard) field(de int) string {
	v, _ := h.message.Field(de)
	return v
}

// original names the transaction: lane, trace number, time.
func (h heard) original() string {
	return fmt.Sprintf("%s %s %s", h.lane, h.field(11), h.field(7))
}

// answer plays the host for one exchange.
type answer func(x *exchanging) error

type exchanging struct {
	heard
	ctx    context.Context
	host   *host
	accept func([]byte) bool
}

var errReset = errors.New("connection reset by peer")

func (h *host) Exchange(ctx context.Context, lane journal.Lane, packed []byte, accept func([]byte) bool) error {
	m, err := h.s.profile.Unpack(packed)
	if err != nil {
		h.s.t.Errorf("the engine sent what cannot be read: %v", err)
		return errReset
	}
	x := &exchanging{heard{time.Now(), lane, m.MTI(), m, packed, journal.Entry{}}, ctx, h, accept}
	x.entry = h.openEntry(x.heard)
	h.mu.Lock()
	if h.busy == nil {
		h.busy = map[journal.Lane]bool{}
	}
	if h.busy[lane] {
		h.s.t.Errorf("two exchanges at once on %s", lane)
	}
	h.busy[lane] = true
	h.heard = append(h.heard, x.heard)
	play := h.next(m.MTI())
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.busy, lane)
	}()
	return play(x)
}

// openEntry finds what the journal says of the transaction.
func (h *host) openEntry(x heard) journal.Entry {
	armed, err1 := h.s.journal.Armed()
	owed, err2 := h.s.journal.Owed()
	if err := errors.Join(err1, err2); err != nil {
		h.s.t.Logf("the host looks into the journal: %v", err)
	}
	for _, e := range append(armed, owed...) {
		if e.Lane == x.lane && iso.STAN(e.STAN).String() == x.field(11) {
			return e
		}
	}
	return journal.Entry{}
}

func (h *host) next(mti iso.MTI) answer {
	script, last := &h.sales, approve
	if mti.Reversal() {
		script, last = &h.reversals, confirm
		if h.always != nil {
			last = h.always
		}
	}
	if len(*script) == 0 {
		return last
	}
	a := (*script)[0]
	*script = (*script)[1:]
	return a
}

func (h *host) onSale(a ...answer) { h.mu.Lock(); defer h.mu.Unlock(); h.sales = append(h.sales, a...) }
func (h *host) onReversal(a ...answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reversals = append(h.reversals, a...)
}

// toEveryReversal answers all reversals that the script does not mention.
func (h *host) toEveryReversal(a answer) { h.mu.Lock(); defer h.mu.Unlock(); h.always = a }

func (h *host) all() []heard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]heard(nil), h.heard...)
}

func (h *host) of(reversal bool) (list []heard) {
	for _, x := range h.all() {
		if x.mti.Reversal() == reversal {
			list = append(list, x)
		}
	}
	return list
}

func (h *host) heardSales() []heard     { return h.of(false) }
func (h *host) heardReversals() []heard { return h.of(true) }

// reversal is the nth that left, from 1.
func (h *host) reversal(n int) heard {
	h.s.t.Helper()
	list := h.heardReversals()
	if len(list) < n {
		h.s.t.Fatalf("%d reversals left, want %d at least", len(list), n)
	}
	return list[n-1]
}

// change turns a good answer into another one.
type change func(*iso.Message)

func with(de int, v string) change { return func(m *iso.Message) { m.Set(de, v) } }
func without(de int) change        { return func(m *iso.Message) { m.Remove(de) } }
func withMTI(mti iso.MTI) change   { return func(m *iso.Message) { m.SetMTI(mti) } }
func (x *exchanging) say(code string, changes ...change) []byte {
	m := iso.NewMessage(x.mti.Answer())
	for _, de := range []int{3, 4, 7, 11, 41, 42, 49} {
		if v, ok := x.message.Field(de); ok {
			m.Set(de, v)
		}
	}
	m.Set(37, "602001000017")
	m.Set(39, code)
	if !x.mti.Reversal() {
		m.Set(38, "A1B2C3")
	}
	for _, c := range changes {
		c(m)
	}
	packed, err := x.host.s.profile.Pack(m)
	if err != nil {
		x.host.s.t.Errorf("script: %v", err)
	}
	return packed
}

// says answers with a code.
func says(code string, changes ...change) answer {
	return func(x *exchanging) error {
		if x.accept(x.say(code, changes...)) {
			return nil
		}
		return silence(x)
	}
}

var (
	approve = says("00")
	decline = says("05", without(38))
	confirm = says("00")
)

// silence is a host that never answers.
func silence(x *exchanging) error {
	select {
	case <-x.ctx.Done():
		return x.ctx.Err()
	case <-time.After(x.host.s.timers.AnswerWithin):
		return ErrNoAnswer
	}
}

// lost is a line that drops right after the request left.
func lost(*exchanging) error { return fmt.Errorf("line: %w", errReset) }

// refusedDial is a host that cannot be reached.
func refusedDial(*exchanging) error { return fmt.Errorf("%w: dial: connection refused", ErrNotSent) }

// raw answers with a message as it stands, then says no more.
func raw(make func(x *exchanging) []byte) answer {
	return func(x *exchanging) error {
		if x.accept(make(x)) {
			return nil
		}
		return silence(x)
	}
}

var rubbish = raw(func(*exchanging) []byte { return []byte("0210 is not what this is") })

// slow says something after a while.
func slow(d time.Duration, then answer) answer {
	return func(x *exchanging) error {
		select {
		case <-x.ctx.Done():
			return x.ctx.Err()
		case <-time.After(d):
			return then(x)
		}
	}
}

// original is an answer to the sale that this reversal undoes.
func lateApproval(x *exchanging) []byte {
	return x.say("00", withMTI("0210"), with(38, "LATE01"))
}

// repeated gives n times the same answer.
func repeated(n int, a answer) []answer {
	list := make([]answer, n)
	for i := range list {
		list[i] = a
	}
	return list
}
