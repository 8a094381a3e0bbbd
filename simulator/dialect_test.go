package simulator

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
)

// The host in every dialect: what a terminal sees on the wire.

// dialectMaster is the terminals' master key, for tests.
const dialectMaster = "0123456789ABCDEFFEDCBA9876543210"

// caller is a terminal that speaks a dialect, with its keys.
type caller struct {
	*scene
	conn     net.Conn
	keys     *iso.SoftKeys
	id       string
	stan     iso.STAN
	envelope iso.Envelope // of the last answer
}

// dial plays a host of a profile in virtual time; call opens a line to it.
func dial(t *testing.T, name string, faults []string, steps func(t *testing.T, call func(id string) *caller)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, err := iso.LoadProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		s := &scene{t: t, p: p}
		o := Options{Profile: p, Master: iso.NewSecret(dialectMaster), Observe: func(e Event) { s.events = append(s.events, e) }}
		for _, text := range faults {
			f, err := ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			o.Faults = append(o.Faults, f)
		}
		if s.host, err = NewHost(o); err != nil {
			t.Fatal(err)
		}
		s.ctx, s.stop = context.WithCancel(context.Background())
		defer s.end()
		steps(t, func(id string) *caller {
			near, far := net.Pipe()
			go s.host.ServeConn(s.ctx, far)
			keys, err := iso.NewSoftKeys(iso.NewSecret(dialectMaster))
			if err != nil {
				t.Fatal(err)
			}
			return &caller{scene: s, conn: near, keys: keys, id: id}
		})
	})
}

// everyProfile plays steps in every built-in dialect, signed on where there is a
// MAC.
func everyProfile(t *testing.T, faults []string, steps func(t *testing.T, c *caller)) {
	t.Helper()
	for _, name := range iso.ProfileNames() {
		t.Run(name, func(t *testing.T) {
			dial(t, name, faults, func(t *testing.T, call func(string) *caller) {
				c := call("TERM01")
				defer c.conn.Close()
				if c.p.HasMAC() {
					c.signOn()
				}
				steps(t, c)
			})
		})
	}
}

// code is a code of ISO 8583:1987 as the dialect writes it.
func (c *caller) code(of1987, of1993 string) string {
	if c.p.CodeLength() == 3 {
		return of1993
	}
	return of1987
}

func (c *caller) build(kind iso.TxType) *iso.Message {
	c.t.Helper()
	c.stan++
	m, err := c.p.Build(iso.Request{
		Type: kind, STAN: c.stan, PAN: card(c.t, testCards[0]), Amount: 1250, Currency: currency(c.t, "USD"),
		At:       time.Date(2026, 11, 23, 9, 30, 15, 0, time.FixedZone("", 8*3600)),
		Acceptor: iso.Acceptor{Terminal: c.id, Merchant: "MERCHANT0000001", Acquirer: "123456"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *caller) undo(sale *iso.Message, attempt int) *iso.Message {
	c.t.Helper()
	image, err := c.p.ImageOf(sale)
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := c.p.BuildReversal(image, iso.Reversal{Attempt: attempt, Cause: iso.NoAnswer, STAN: 900_000})
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// talk sends packed bytes in the profile's frame and reads the answer, whose MAC
// must fit when the terminal has a key for it.
func (c *caller) talk(packed []byte) *iso.Message {
	c.t.Helper()
	if err := c.p.WriteFrame(c.conn, packed); err != nil {
		c.t.Fatal(err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
	var raw []byte
	var err error
	if c.envelope, raw, err = c.p.ReadFrameIn(c.conn); err != nil {
		c.t.Fatal(err)
	}
	a, err := c.p.Unpack(raw)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, has := a.Field(64); has {
		if err := c.p.Verify(c.t.Context(), a, raw, c.keys); err != nil {
			c.t.Errorf("the answer %s: %v", a.MTI(), err)
		}
	}
	return a
}

// ask sends with a MAC and expects a code.
func (c *caller) ask(m *iso.Message, code string) *iso.Message {
	c.t.Helper()
	packed, err := c.p.Seal(c.t.Context(), m, c.keys)
	if err != nil {
		c.t.Fatal(err)
	}
	a := c.talk(packed)
	if a.Text(39) != code || a.MTI() != m.MTI().Answer() || a.Text(11) != m.Text(11) || a.Text(41) != c.id {
		c.t.Errorf("%s answered %s, code %s, trace %s, terminal %s; want code %s", m.MTI(), a.MTI(), a.Text(39), a.Text(11), a.Text(41), code)
	}
	if !m.MTI().Network() {
		if err := c.p.Match(m, a); err != nil {
			c.t.Errorf("%s: %v", m.MTI(), err)
		}
	}
	return a
}

func (c *caller) signOn() string {
	c.t.Helper()
	a := c.ask(c.build(iso.SignOn), c.code("00", "800"))
	if err := c.keys.Download(iso.NewSecret(a.Text(62))); err != nil {
		c.t.Fatal(err)
	}
	return a.Text(62)
}

func TestEveryDialectSellsAndReverses(t *testing.T) {
	everyProfile(t, nil, func(t *testing.T, c *caller) {
		sale := c.build(iso.Sale)
		a := c.ask(sale, c.code("00", "000"))
		if a.Text(37) == "" || a.Text(38) == "" {
			t.Error("an approval without DE 37 or DE 38")
		}
		c.wantAccount(1250, 1, 0)
		yes := c.code("00", "400")
		for attempt := range 4 {
			c.ask(c.undo(sale, attempt+1), yes)
			c.wantAccount(0, 1, 1)
		}
		c.ask(sale, c.code("00", "000")) // known, not booked again
		c.wantAccount(0, 1, 1)
		c.ask(c.undo(c.build(iso.Sale), 1), c.code("25", "481"))
		if a := c.host.Ledger().Snapshot(); len(a) != 1 || a[0].UndoneMax != 1 {
			t.Errorf("ledger: %+v", a)
		}
	})
}

// The next sale under the same trace number but in another batch or at another
// time is another sale.
func TestEveryDialectTellsTheSameTraceNumberApart(t *testing.T) {
	everyProfile(t, nil, func(t *testing.T, c *caller) {
		first := c.build(iso.Sale)
		c.ask(first, c.code("00", "000"))
		second := first.Clone()
		switch c.p.Name() {
		case "unionpay":
			second.Set(60, "2200000200050")
		case "iso93":
			second.Set(12, "261123093016")
		default:
			second.Set(7, "1123013016")
		}
		c.ask(second, c.code("00", "000"))
		c.wantAccount(2500, 2, 0)
		c.ask(c.undo(second, 1), c.code("00", "400"))
		c.wantAccount(1250, 2, 1)
		c.ask(c.undo(first, 1), c.code("00", "400"))
		c.wantAccount(0, 2, 2)
	})
}

func TestEveryDialectAnswersEcho(t *testing.T) {
	everyProfile(t, nil, func(t *testing.T, c *caller) {
		c.ask(c.build(iso.Echo), c.code("00", "800"))
		c.wantAccount(0, 0, 0)
	})
}

// The codes of the faults are those of 1987; a dialect of 1993 writes its own.
func TestFaultCodesInEveryDialect(t *testing.T) {
	everyProfile(t, []string{"decline=51@1", "decline@2", "decline=05@3", "refuse-reversal=1:91@1", "refuse-reversal=1@3"}, func(t *testing.T, c *caller) {
		for _, want := range []string{c.code("51", "116"), c.code("51", "116"), c.code("05", "100")} {
			a := c.ask(c.build(iso.Sale), want)
			if class := c.p.Code(a.Text(39)).Request; class != iso.Decline {
				t.Errorf("code %s is a %s", want, class)
			}
		}
		c.wantAccount(0, 0, 0)
		for i, want := range []string{c.code("91", "907"), c.code("05", "100")} {
			sale := c.build(iso.Sale)
			c.ask(sale, c.code("00", "000"))
			a := c.ask(c.undo(sale, 1), want)
			if len(a.Text(39)) != c.p.CodeLength() {
				t.Errorf("code %q", a.Text(39))
			}
			c.wantAccount(1250, i+1, i)
			c.ask(c.undo(sale, 2), c.code("00", "400"))
			c.wantAccount(0, i+1, i+1)
		}
	})
}

func TestRefusedRequestsInEveryDialect(t *testing.T) {
	everyProfile(t, nil, func(t *testing.T, c *caller) {
		noCard := c.build(iso.Sale)
		noCard.Remove(2)
		c.ask(noCard, c.code("30", "904"))
		none := c.build(iso.Sale)
		none.Set(4, "000000000000")
		c.ask(none, c.code("13", "110"))
		badCard := c.build(iso.Sale)
		badCard.Set(2, "4111111111111112")
		c.ask(badCard, c.code("14", "111"))
		c.wantAccount(0, 0, 0)
	})
}

// Read off the bytes: length, TPDU with its addresses changed over, the header
// back as it came, then the message.
func TestFrameOfUnionPayAnswers(t *testing.T) {
	dial(t, "unionpay", nil, func(t *testing.T, call func(string) *caller) {
		c := call("TERM01")
		defer c.conn.Close()
		c.signOn()
		packed, err := c.p.Seal(t.Context(), c.build(iso.Sale), c.keys)
		if err != nil {
			t.Fatal(err)
		}
		body := append([]byte{0x60, 0x12, 0x34, 0x56, 0x78, 0x61, 0x31, 0x10, 0x00, 0x42, 0x07}, packed...)
		if _, err := c.conn.Write(append([]byte{byte(len(body) >> 8), byte(len(body))}, body...)); err != nil {
			t.Fatal(err)
		}
		var head [2]byte
		_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, int(head[0])<<8|int(head[1]))
		if _, err := io.ReadFull(c.conn, answer); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(answer[:13]); got != "6056781234"+"613110004207"+"0210" {
			t.Errorf("the answer begins with %s", got)
		}
	})
}

// provoke is a sale that the host must not believe: nothing is booked, the code
// says so, and the header asks for a sign-on.
func (c *caller) provoke(packed []byte, mti iso.MTI) {
	c.t.Helper()
	before := c.host.Ledger().Snapshot()
	a := c.talk(packed)
	if a.Text(39) != c.code("A0", "916") || a.MTI() != mti || a.Text(38) != "" {
		c.t.Errorf("answered %s, code %s", a.MTI(), a.Text(39))
	}
	if got := c.p.HostRequest(c.envelope); c.p.Name() == "unionpay" && got != "sign-on" {
		c.t.Errorf("the header asks for %q", got)
	}
	if after := c.host.Ledger().Snapshot(); fmt.Sprint(before) != fmt.Sprint(after) {
		c.t.Errorf("the ledger changed: %v", after)
	}
}

// masters plays a case in every dialect that has a MAC.
func masters(t *testing.T, steps func(t *testing.T, call func(string) *caller)) {
	t.Helper()
	for _, name := range []string{"unionpay", "iso93"} {
		t.Run(name, func(t *testing.T) { dial(t, name, nil, steps) })
	}
}

func TestUnprovenMessagesBookNothingAndUndoNothing(t *testing.T) {
	masters(t, func(t *testing.T, call func(string) *caller) {
		c := call("TERM01")
		defer c.conn.Close()
		seal := func(m *iso.Message) []byte {
			packed, err := c.p.Seal(t.Context(), m, c.keys)
			if err != nil {
				t.Fatal(err)
			}
			return packed
		}
		spoil := func(b []byte) []byte {
			last := &b[len(b)-1] // a hex digit, and stays one
			*last = map[bool]byte{true: '1', false: '0'}[*last == '0']
			return b
		}
		answerOf := func(m *iso.Message) iso.MTI { return m.MTI().Answer() }
		sale := c.build(iso.Sale)
		plain, err := c.p.Pack(sale)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.keys.SetMACKey(iso.NewSecret("1111111111111111")); err != nil {
			t.Fatal(err)
		}
		c.provoke(seal(sale), answerOf(sale)) // signed on never
		c.provoke(plain, answerOf(sale))
		c.signOn()
		c.provoke(spoil(seal(sale)), answerOf(sale))
		c.provoke(plain, answerOf(sale))
		c.provoke(tamper(c, sale), answerOf(sale))

		c.ask(sale, c.code("00", "000"))
		c.wantAccount(1250, 1, 0)
		undo := c.undo(sale, 1)
		plainUndo, err := c.p.Pack(undo)
		if err != nil {
			t.Fatal(err)
		}
		c.provoke(plainUndo, answerOf(undo))
		c.provoke(spoil(seal(undo)), answerOf(undo))
		c.wantAccount(1250, 1, 0)
		c.ask(undo, c.code("00", "400"))
		c.wantAccount(0, 1, 1)
		if got := c.p.HostRequest(c.envelope); got != "" {
			t.Errorf("the header of a good answer asks for %q", got)
		}
	})
}

// tamper is a sale for another amount under the MAC of this one.
func tamper(c *caller, sale *iso.Message) []byte {
	c.t.Helper()
	packed, err := c.p.Seal(c.t.Context(), sale, c.keys)
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := c.p.Unpack(packed)
	if err != nil {
		c.t.Fatal(err)
	}
	m.Set(4, "000000000001")
	if packed, err = c.p.Pack(m); err != nil {
		c.t.Fatal(err)
	}
	return packed
}

func TestEveryTerminalHasKeysOfItsOwn(t *testing.T) {
	masters(t, func(t *testing.T, call func(string) *caller) {
		a, b := call("TERM01"), call("TERM02")
		defer a.conn.Close()
		defer b.conn.Close()
		if a.signOn() == b.signOn() {
			t.Error("two terminals got the same keys")
		}
		a.ask(a.build(iso.Sale), a.code("00", "000"))
		b.ask(b.build(iso.Sale), b.code("00", "000"))
		a.keys, b.keys = b.keys, a.keys
		sale := a.build(iso.Sale)
		packed, err := a.p.Seal(t.Context(), sale, a.keys)
		if err != nil {
			t.Fatal(err)
		}
		a.keys, b.keys = b.keys, a.keys
		a.provoke(packed, sale.MTI().Answer())
		a.wantAccount(2500, 2, 0)
	})
}

func TestSignOnBringsNewKeysAndEndsTheOld(t *testing.T) {
	masters(t, func(t *testing.T, call func(string) *caller) {
		c := call("TERM01")
		defer c.conn.Close()
		first := c.signOn()
		sale := c.build(iso.Sale)
		old, err := c.p.Seal(t.Context(), sale, c.keys)
		if err != nil {
			t.Fatal(err)
		}
		if c.signOn() == first {
			t.Error("a second sign-on brings the same keys")
		}
		c.provoke(old, sale.MTI().Answer())
		c.ask(sale, c.code("00", "000"))
		c.wantAccount(1250, 1, 0)
	})
}

func TestAMACNeedsAMasterKey(t *testing.T) {
	for _, name := range iso.ProfileNames() {
		p, err := iso.LoadProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, master := range []string{"", "01234567", "0123456789ABCDEFFEDCBA987654321", "not hex at all, not hex at all!!"} {
			_, err := NewHost(Options{Profile: p, Master: iso.NewSecret(master)})
			if (err != nil) != p.HasMAC() {
				t.Errorf("%s, a master key of %d characters: %v", name, len(master), err)
			}
			if err != nil && master != "" && strings.Contains(err.Error(), master) {
				t.Errorf("%s: the error shows the key", name)
			}
		}
		if _, err := NewHost(Options{Profile: p, Master: iso.NewSecret(dialectMaster)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
