package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
)

func profile(t testing.TB) *iso.Profile {
	t.Helper()
	p, err := iso.LoadProfile("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// scene is a host and everything it told.
type scene struct {
	t      testing.TB
	host   *Host
	p      *iso.Profile
	events []Event // complete once synctest.Wait has returned
	ctx    context.Context
	stop   context.CancelFunc
}

func newScene(t testing.TB, faults ...string) *scene {
	t.Helper()
	s := &scene{t: t, p: profile(t)}
	o := Options{Profile: s.p, Observe: func(e Event) { s.events = append(s.events, e) }}
	for _, text := range faults {
		f, err := ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		o.Faults = append(o.Faults, f)
	}
	host, err := NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	s.host = host
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// line opens a line to the host, over a pipe.
func (s *scene) line() *terminal {
	near, far := net.Pipe()
	go s.host.ServeConn(s.ctx, far)
	return &terminal{s, near}
}

// end closes the host and holds everything it told against L11.
func (s *scene) end() {
	s.t.Helper()
	s.stop()
	synctest.Wait()
	if err := s.host.Ledger().Check(); err != nil {
		s.t.Error(err)
	}
	wantNoCards(s.t, s.events)
}

func wantNoCards(t testing.TB, events []Event) {
	t.Helper()
	for _, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{string(text), fmt.Sprintf("%+v %#v %v", e, e, e)} {
			for _, number := range testCards {
				if strings.Contains(shown, number) || strings.Contains(shown, number[:len(number)-4]) {
					t.Errorf("event %s shows a card", e.Kind)
				}
			}
		}
	}
}

// kinds is what was told, in short: "sale booked answered". Lines coming and
// going are left out.
func (s *scene) kinds() string {
	synctest.Wait()
	var list []string
	for _, e := range s.events {
		if e.Kind != KindConnected && e.Kind != KindClosed {
			list = append(list, string(e.Kind))
		}
	}
	return strings.Join(list, " ")
}

func (s *scene) wantKinds(want string) {
	s.t.Helper()
	if got := s.kinds(); got != want {
		s.t.Errorf("events\n got %s\nwant %s", got, want)
	}
}

func (s *scene) wantAccount(net int64, sales, reversed int) {
	s.t.Helper()
	synctest.Wait()
	wantAccount(s.t, s.host.Ledger(), coffee(s.t), net, sales, reversed)
}

// terminal is the near end of a line.
type terminal struct {
	*scene
	conn net.Conn
}

const (
	track2   = "4111111111111111=29121010000000000"
	pinBlock = "0123456789ABCDEF"
	chip     = "9F2608AABBCCDDEEFF0011"
)

func request(t testing.TB, p *iso.Profile, stan iso.STAN) *iso.Message {
	t.Helper()
	m, err := p.Build(iso.Request{
		Type: iso.Sale, STAN: stan, PAN: card(t, testCards[0]), Expiry: iso.NewSecret("2912"), Amount: 1250, Currency: currency(t, "USD"),
		At:       time.Date(2026, 11, 23, 9, 30, 15, 0, time.FixedZone("", 8*3600)),
		Acceptor: iso.Acceptor{Terminal: "TERM01", Merchant: "MERCHANT0000001", Acquirer: "123456"},
		Track2:   iso.NewSecret(track2), PINBlock: iso.NewSecret(pinBlock), Chip: iso.NewSecret(chip),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func reversalOf(t testing.TB, p *iso.Profile, sale *iso.Message, attempt int) *iso.Message {
	t.Helper()
	image, err := p.ImageOf(sale)
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.BuildReversal(image, iso.Reversal{Attempt: attempt, Cause: iso.NoAnswer})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func frame(t testing.TB, p *iso.Profile, m *iso.Message) []byte {
	t.Helper()
	packed, err := p.Pack(m)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.WriteFrame(&b, packed); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (l *terminal) send(m *iso.Message) {
	l.t.Helper()
	if _, err := l.conn.Write(frame(l.t, l.p, m)); err != nil {
		l.t.Fatal(err)
	}
}

// answer waits for one; nil when none came within d.
func (l *terminal) answer(d time.Duration) (*iso.Message, error) {
	l.t.Helper()
	_ = l.conn.SetReadDeadline(time.Now().Add(d)) // fails on a closed line, as the read below will
	packed, err := l.p.ReadFrame(l.conn)
	if err != nil {
		return nil, err
	}
	return l.p.Unpack(packed)
}

// ask sends a request and checks that the answer is its answer, with the code.
func (l *terminal) ask(m *iso.Message, code string) *iso.Message {
	l.t.Helper()
	l.send(m)
	a, err := l.answer(time.Second)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.p.Match(m, a); err != nil {
		l.t.Error(err)
	}
	if got, _ := a.Field(39); got != code {
		l.t.Errorf("%s answered with code %q, want %q", m.MTI(), got, code)
	}
	return a
}

// silence checks that nothing comes, and that the line stays open, for as long as
// a line may be idle.
func (l *terminal) silence() {
	l.t.Helper()
	const shorterThanIdle = IdleTimeoutDefault - time.Second
	if a, err := l.answer(shorterThanIdle); !errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Errorf("got %v, %v; want silence on an open line", a, err)
	}
}

func (l *terminal) closed() {
	l.t.Helper()
	if a, err := l.answer(time.Second); !errors.Is(err, io.EOF) {
		l.t.Errorf("got %v, %v; want a closed line", a, err)
	}
}

// play runs one test in virtual time.
func play(t *testing.T, faults []string, steps func(s *scene, l *terminal, sale *iso.Message)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, faults...)
		l := s.line()
		defer s.end()
		defer l.conn.Close()
		steps(s, l, request(t, s.p, 7))
	})
}

func TestSaleAndReversal(t *testing.T) {
	play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
		a := l.ask(sale, "00")
		for de, want := range map[int]string{3: "000000", 4: "000000001250", 7: "1123013015", 11: "000007", 12: "093015", 13: "1123", 25: "00", 32: "123456", 37: "000000000001", 38: "000001", 41: "TERM01", 42: "MERCHANT0000001", 49: "840"} {
			if got := a.Text(de); got != want {
				t.Errorf("DE %d of the answer is %q, want %q", de, got, want)
			}
		}
		s.wantAccount(1250, 1, 0)
		reversal := reversalOf(t, s.p, sale, 1)
		reversal.Set(37, "000000000001")
		a = l.ask(reversal, "00")
		if a.MTI() != "0410" {
			t.Errorf("the reversal was answered by %s", a.MTI())
		}
		if got, _ := a.Field(37); got != "000000000001" {
			t.Errorf("DE 37 of the answer is %q", got)
		}
		s.wantAccount(0, 1, 1)
		l.ask(reversalOf(t, s.p, sale, 2), "00") // 0401
		s.wantAccount(0, 1, 1)
		s.wantKinds("sale booked answered reversal reversed answered reversal reversal-repeated answered")
		last := s.events[len(s.events)-1]
		if last.Undone != 1 || last.NetMinor != 0 || last.Original != 7 || last.AmountMinor != 1250 || last.RRN != "000000000001" {
			t.Errorf("last event: %+v", last)
		}
	})
}

// No answer, whatever it answers, repeats a track, a PIN block, chip data or the
// card number.
func TestAnswersCarryNoCardData(t *testing.T) {
	play(t, []string{"decline@2", "no-code@3", "wrong-stan@4", "refuse-reversal=1"}, func(s *scene, l *terminal, sale *iso.Message) {
		odd := sale.Clone()
		odd.SetMTI("0800")
		swiped := reversalOf(t, s.p, sale, 1)
		swiped.Set(35, track2)
		for i, m := range []*iso.Message{sale, request(t, s.p, 8), request(t, s.p, 9), request(t, s.p, 10), swiped, swiped, odd} {
			l.send(m)
			a, err := l.answer(time.Second)
			if err != nil {
				t.Fatal(err)
			}
			for _, de := range []int{2, 14, 26, 34, 35, 36, 45, 52, 53, 55} {
				if _, there := a.Field(de); there {
					t.Errorf("answer %d carries DE %d", i, de)
				}
			}
		}
	})
}

func TestDuplicateSale(t *testing.T) {
	play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
		first := l.ask(sale, "00")
		repeat := sale.Clone()
		repeat.SetMTI("0201")
		for _, m := range []*iso.Message{sale, repeat} {
			if again := l.ask(m, "00"); !bytes.Equal(frame(t, s.p, again), frame(t, s.p, first)) {
				t.Errorf("%s is answered otherwise than the first", m.MTI())
			}
		}
		s.wantAccount(1250, 1, 0)
		s.wantKinds("sale booked answered sale duplicate answered sale duplicate answered")
	})
}

// L10: the reversal comes first, is answered 25, and the sale is charged later.
func TestReversalOvertakesItsSale(t *testing.T) {
	play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
		l.ask(reversalOf(t, s.p, sale, 1), "25")
		l.ask(sale, "00")
		s.wantAccount(1250, 1, 0)
		l.ask(reversalOf(t, s.p, sale, 2), "00")
		s.wantAccount(0, 1, 1)
	})
}

func TestSwipedCard(t *testing.T) {
	play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
		sale.Remove(2)
		l.ask(sale, "00")
		s.wantAccount(1250, 1, 0)
		l.ask(reversalOf(t, s.p, sale, 1), "00") // without DE 2: the original data is enough
		s.wantAccount(0, 1, 1)
	})
}

func TestRequestsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(sale *iso.Message)
		code   string
	}{
		"no card":          {func(m *iso.Message) { m.Remove(2); m.Remove(35) }, "30"},
		"no amount":        {func(m *iso.Message) { m.Remove(4) }, "30"},
		"no time":          {func(m *iso.Message) { m.Remove(7) }, "30"},
		"no merchant":      {func(m *iso.Message) { m.Remove(42) }, "30"},
		"no currency":      {func(m *iso.Message) { m.Remove(49) }, "30"},
		"unknown currency": {func(m *iso.Message) { m.Set(49, "999") }, "30"},
		"amount zero":      {func(m *iso.Message) { m.Set(4, "000000000000") }, "13"},
		"wrong check":      {func(m *iso.Message) { m.Set(2, "4111111111111112") }, "14"},
		"a refund":         {func(m *iso.Message) { m.Set(3, "200000") }, "12"},
		"an advice":        {func(m *iso.Message) { m.SetMTI("0220") }, "12"},
		"a sign-on":        {func(m *iso.Message) { m.SetMTI("0800") }, "12"},
	} {
		play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
			c.change(sale)
			l.send(sale)
			a, err := l.answer(time.Second)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, _ := a.Field(39); got != c.code || a.MTI() != sale.MTI().Answer() {
				t.Errorf("%s: answered %s with code %s, want %s", name, a.MTI(), got, c.code)
			}
			if rows := s.host.Ledger().Snapshot(); len(rows) != 0 {
				t.Errorf("%s: booked %+v", name, rows)
			}
		})
	}
}

func TestReversalsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(reversal *iso.Message)
		code   string
	}{
		"no original data": {func(m *iso.Message) { m.Remove(90) }, "30"},
		"zero original":    {func(m *iso.Message) { m.Set(90, strings.Repeat("0", 42)) }, "30"},
		"no terminal":      {func(m *iso.Message) { m.Remove(41) }, "30"},
		"amount zero":      {func(m *iso.Message) { m.Set(4, "000000000000") }, "13"},
		"another amount":   {func(m *iso.Message) { m.Set(4, "000000001249") }, "13"},
		"another card":     {func(m *iso.Message) { m.Set(2, testCards[1]) }, "14"},
		"wrong check":      {func(m *iso.Message) { m.Set(2, "4111111111111112") }, "14"},
		"another terminal": {func(m *iso.Message) { m.Set(41, "TERM02") }, "25"},
	} {
		play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
			l.ask(sale, "00")
			reversal := reversalOf(t, s.p, sale, 1)
			c.change(reversal)
			l.send(reversal)
			a, err := l.answer(time.Second)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, _ := a.Field(39); got != c.code {
				t.Errorf("%s: answered with code %s, want %s", name, got, c.code)
			}
			s.wantAccount(1250, 1, 0)
		})
	}
}

// An answer sent to the host gets no answer, or two hosts would talk for ever.
func TestAnswersAreNotAnswered(t *testing.T) {
	for _, mti := range []iso.MTI{"0210", "0230", "0410", "0810", "0290"} {
		play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
			sale.SetMTI(mti)
			l.send(sale)
			l.silence()
			s.wantKinds("unserved")
		})
	}
}

// A terminal that does not read its answers is cut, and the sale stays booked.
func TestUnreadAnswerIsCut(t *testing.T) {
	play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
		l.send(sale)
		<-time.After(WriteTimeoutDefault + time.Second)
		s.wantKinds("sale booked not-delivered")
		l.closed()
		s.wantAccount(1250, 1, 0)
	})
}

func TestEndOfContextClosesLines(t *testing.T) {
	play(t, []string{"late-answer=30m@1"}, func(s *scene, l *terminal, sale *iso.Message) {
		l.send(sale)
		synctest.Wait()
		s.stop()
		l.closed()
		synctest.Wait()
		if last := s.events[len(s.events)-1]; last.Kind != KindClosed || last.Detail != "the host stopped" {
			t.Errorf("last event: %+v", last)
		}
	})
}

func TestOptions(t *testing.T) {
	p := profile(t)
	for name, o := range map[string]Options{
		"no profile":        {},
		"negative idle":     {Profile: p, IdleTimeout: -1},
		"negative read":     {Profile: p, ReadTimeout: -1},
		"negative write":    {Profile: p, WriteTimeout: -1},
		"negative lines":    {Profile: p, ConnectionsMax: -1},
		"unknown fault":     {Profile: p, Faults: []Fault{{Word: "teapot"}}},
		"declines with yes": {Profile: p, Faults: []Fault{{Word: Decline, Code: "11"}}},
	} {
		if _, err := NewHost(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
