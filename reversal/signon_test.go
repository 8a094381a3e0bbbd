package reversal

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// How a terminal gets its keys, and what waits for them.

func TestSignOnIsAskedForByTheCodesThatMeanIt(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		codes := map[string][]string{"unionpay": {"A0", "77", "99"}, "iso93": {"916", "917", "918"}}[w.profile]
		for _, code := range codes {
			for name, a := range map[string]answer{"no MAC": s.bare(code, without(38)), "good MAC": s.good(code, without(38))} {
				if code == "99" && name == "no MAC" {
					continue // a decline, which may need one
				}
				s.events = nil
				s.host.onSale(a)
				_, err := s.send(lane1)
				if code == "99" { // it says too that nobody is charged
					oneOf(t, err, ErrDeclined)
				} else {
					s.failedWith(err, iso.UnknownCode)
				}
				on := s.eventsOf(EventSignOn)
				if len(on) != 1 || on[0].Code != code || on[0].Lane != lane1 {
					t.Errorf("sale, code %s, %s: events %+v", code, name, on)
				}
				s.host.onReversal(a, s.good(w.confirmed))
				s.drain()
				if n := len(s.eventsOf(EventSignOn)); code != "99" && n != 2 {
					t.Errorf("reversal, code %s, %s: %d sign-on events", code, name, n)
				}
			}
		}
		s.events = nil
		s.host.onSale(s.good(w.approved))
		s.must(s.sell(lane1).Complete())
		if n := len(s.eventsOf(EventSignOn)); n != 0 {
			t.Errorf("%d sign-on events for a good sale", n)
		}
	})
}

func TestL1WithoutAKeyASaleIsNeitherRecordedNorSent(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		s.reboot("")
		for range 3 {
			sale, err := s.send(lane1)
			if sale != nil || !errors.Is(err, iso.ErrNoKey) {
				t.Errorf("got %v, %v; want ErrNoKey", sale, err)
			}
			oneOf(t, err, ErrNotSent)
		}
		if s.entries() != 0 || len(s.host.all()) != 0 {
			t.Errorf("%d entries, %d messages; want none", s.entries(), len(s.host.all()))
		}
		s.host.onSale(s.signs(w.accepted, key2), s.good(w.approved))
		if _, err := s.signOn(); err != nil {
			t.Fatal(err)
		}
		s.must(s.sell(lane1).Complete())
	})
}

func TestL6WithoutAKeyAReversalIsNeitherCountedNorParked(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		s.host.toEveryReversal(s.good(w.confirmed))
		id := s.fail(lane1)
		s.host.onReversal(s.good(w.refused), silence)
		s.must(s.runFor(s.timers.AnswerWithin / 2))
		before := s.entry(id)
		if before.Attempts != 2 || before.Refusals != 1 {
			t.Fatalf("scene: %+v", before)
		}
		heard := len(s.host.all())

		s.reboot("")
		s.events = nil
		stop := s.run()
		s.wait(6 * time.Hour)
		if e := s.onDisk(id); e.Status != journal.Owed || e.Attempts != 2 || e.Refusals != 1 || e.Parking != "" {
			t.Errorf("after 6 hours without a key: %s, %d attempts, %d refusals", e.Status, e.Attempts, e.Refusals)
		}
		if n := len(s.host.all()); n != heard {
			t.Errorf("%d messages left without a key", n-heard)
		}
		on := s.eventsOf(EventSignOn)
		if len(on) == 0 || len(on) > 6*12+20 || on[0].ID != id {
			t.Errorf("%d sign-on events in 6 hours", len(on))
		}
		s.host.onSale(s.signs(w.accepted, key2))
		began := time.Now()
		if _, err := s.signOn(); err != nil {
			t.Fatal(err)
		}
		s.wait(s.timers.BackoffFirst)
		s.wantStatus(id, journal.Reversed)
		if at := s.host.reversal(3).at; at.Sub(began) > s.timers.BackoffFirst {
			t.Errorf("it went %v after the sign-on", at.Sub(began))
		}
		s.must(stop())
	})
}

// The next sale settles it too, when nobody runs Run.
func TestL9WithoutAKeyTheNextSaleWaitsForTheReversal(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		s.host.toEveryReversal(s.good(w.confirmed))
		id := s.fail(lane1)
		s.reboot("")
		_, err := s.send(lane1)
		oneOf(t, err, ErrReversalOwed)
		if e := s.wantStatus(id, journal.Owed); e.Attempts != 0 || s.entries() != 1 {
			t.Errorf("%d attempts, %d entries", e.Attempts, s.entries())
		}
		s.host.onSale(s.signs(w.accepted, key2), s.good(w.approved))
		if _, err := s.signOn(); err != nil {
			t.Fatal(err)
		}
		s.must(s.sell(lane1).Complete())
		s.wantStatus(id, journal.Reversed)
	})
}

func TestSignOnGoesAlthoughAReversalIsOwed(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		id := s.fail(lane1)
		entries, heard := s.entries(), len(s.host.all())
		batch := []change{}
		if w.profile == "unionpay" {
			batch = append(batch, with(60, "00000042003"))
		}
		s.host.onSale(s.signs(w.accepted, key2, batch...))
		on, err := s.signOn()
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"unionpay": "000042"}[w.profile]; on.Batch != want {
			t.Errorf("batch %q, want %q", on.Batch, want)
		}
		list := s.host.all()[heard:]
		if len(list) != 1 || !list[0].mti.Network() || s.entries() != entries {
			t.Errorf("%d messages left, %d entries; want the sign-on and no new entry", len(list), s.entries()-entries)
		}
		if _, there := list[0].message.Field(64); there {
			t.Error("a sign-on carries a MAC")
		}
		if e := s.wantStatus(id, journal.Owed); e.Attempts != 0 {
			t.Errorf("%d attempts", e.Attempts)
		}
		if ev := s.eventsOf(EventSignedOn); len(ev) != 1 || ev[0].Lane != lane1 {
			t.Errorf("signed-on events: %+v", ev)
		}
		s.host.toEveryReversal(s.good(w.confirmed))
		s.drain() // under key2, as the host checks
		s.wantStatus(id, journal.Reversed)
	})
}

func TestSignOnThatFailsLeavesTheOldKeys(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		good, err := iso.WrapKeys(iso.NewSecret(masterKey), iso.NewSecret(pinKey), iso.NewSecret(key2))
		s.must(err)
		spoiled := func(from, to int) string { // one digit of what is there
			b := []byte(good.Reveal())
			b[from] = map[bool]byte{true: '1', false: '0'}[b[from] == '0']
			return string(b[:to])
		}
		for name, c := range map[string]struct {
			answer answer
			is     error
		}{
			"wrong check value":    {says(w.accepted, with(62, spoiled(79, 80))), iso.ErrKeyCheck},
			"wrong PIN check":      {says(w.accepted, with(62, spoiled(33, 80))), iso.ErrKeyCheck},
			"MAC key hurt":         {says(w.accepted, with(62, spoiled(45, 80))), iso.ErrKeyCheck},
			"wrong track check":    {says(w.accepted, with(62, good.Reveal()+strings.Repeat("0", 40))), iso.ErrKeyCheck},
			"keys cut short":       {says(w.accepted, with(62, good.Reveal()[:40])), iso.ErrInvalid},
			"no keys":              {says(w.accepted), ErrSignOn},
			"declined":             {says(w.declined, with(62, good.Reveal())), ErrSignOn},
			"no code":              {says(w.accepted, without(39), with(62, good.Reveal())), ErrSignOn},
			"silence":              {silence, ErrNoAnswer},
			"rubbish":              {rubbish, ErrNoAnswer},
			"line lost":            {lost, errReset},
			"another STAN":         {says(w.accepted, with(11, "990099"), with(62, good.Reveal())), ErrNoAnswer},
			"another terminal":     {says(w.accepted, with(41, "TERM0009"), with(62, good.Reveal())), ErrNoAnswer},
			"another MTI":          {says(w.accepted, withMTI(w.reversal[:1]+"210"), with(62, good.Reveal())), ErrNoAnswer},
			"it cannot be dialled": {refusedDial, ErrNotSent},
		} {
			s.events = nil
			s.host.onSale(c.answer)
			on, err := s.signOn()
			if on != (SignedOn{}) || !errors.Is(err, ErrSignOn) || !errors.Is(err, c.is) || errors.Is(err, ErrNotSent) != (c.is == ErrNotSent) {
				t.Errorf("%s: %+v, %v", name, on, err)
			}
			if err != nil && (strings.Contains(err.Error(), good.Reveal()[:8]) || strings.Contains(err.Error(), key2)) {
				t.Errorf("%s: the error shows a key (L11)", name)
			}
			if len(s.eventsOf(EventSignedOn)) != 0 || s.entries() != 0 {
				t.Errorf("%s: told signed on, or an entry was made", name)
			}
		}
		s.host.onSale(s.good(w.approved))
		s.must(s.sell(lane1).Complete()) // under key1, as the host checks
	})
}

// Answers for another trace number are passed over; the one that fits comes
// after them.
func TestSignOnIgnoresLateAnswersOfAnother(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		old, err := iso.WrapKeys(iso.NewSecret(masterKey), iso.NewSecret(pinKey), iso.NewSecret(key1))
		s.must(err)
		s.host.onSale(func(x *exchanging) error {
			for _, stale := range [][]byte{
				x.say(w.accepted, with(11, "990099"), with(62, old.Reveal())),
				x.say(w.accepted, withMTI(w.reversal[:1]+"210")),
				[]byte("rubbish"),
			} {
				if x.accept(stale) {
					t.Error("a stale answer was taken for the sign-on's")
				}
			}
			return s.signs(w.accepted, key2)(x)
		}, s.good(w.approved))
		if _, err := s.signOn(); err != nil {
			t.Fatal(err)
		}
		s.must(s.sell(lane1).Complete()) // under key2, as the host checks
	})
}

// A host that lost our key: it refuses the sale's MAC, and the reversal's, until
// the terminal has signed on again. Then the customer is made whole.
func TestL5TheHostLostOurKey(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		s.mayDiffer = true
		s.hostKey = key2
		prove := func(then answer) answer {
			return func(x *exchanging) error {
				if !s.provenBy(x.packed, s.hostKey) {
					return s.bare(w.badMAC, without(38))(x)
				}
				return then(x)
			}
		}
		s.host.toEveryReversal(prove(s.good(w.notFound)))
		s.host.onSale(prove(s.good(w.approved)))
		_, err := s.send(lane1)
		id := s.failedWith(err, iso.UnknownCode)
		stop := s.run()
		s.wait(time.Hour)
		if e := s.wantStatus(id, journal.Owed); e.Refusals != 0 || e.Attempts < 3 {
			t.Errorf("%d refusals, %d attempts: it must be neither refused nor parked for it", e.Refusals, e.Attempts)
		}
		s.host.onSale(s.signs(w.accepted, key2))
		if _, err := s.signOn(); err != nil {
			t.Fatal(err)
		}
		s.wait(s.timers.BackoffFirst)
		if e := s.wantStatus(id, journal.Reversed); e.LastCode != w.notFound {
			t.Errorf("code %s", e.LastCode)
		}
		s.must(stop())
	})
}

// The sixth digit of the header is the host's wish, also on a message that is
// not the answer (PROTOCOL G).
func TestLinkTellsWhatTheHostAsksFor(t *testing.T) {
	p, err := iso.LoadProfile("unionpay")
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]string{
		"603100000000": "", "603103000000": "sign-on", "603101000000": "parameters", "613113004207": "sign-on", "603130000000": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			var asked []string
			link, err := NewLink(LinkOptions{
				Address: "host.test:5000", Profile: p, HostAsks: func(r string) { asked = append(asked, r) },
				Dial: func(context.Context, string, string) (net.Conn, error) {
					here, there := net.Pipe()
					go headed(there, header, "late", "answer")
					return here, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			err = link.Exchange(t.Context(), lane1, []byte("hello"), func(b []byte) bool { return string(b) == "answer" })
			if err != nil || strings.Join(asked, " ") != strings.TrimSpace(want+" "+want) {
				t.Errorf("header %s: asked for %q, %v; want %q twice", header, asked, err, want)
			}
		})
	}
}

// headed reads one frame and answers with messages behind a TPDU and a header.
func headed(c net.Conn, header string, answers ...string) {
	defer func() { _ = c.Close() }()
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return
	}
	if _, err := io.ReadFull(c, make([]byte, int(length[0])<<8|int(length[1]))); err != nil {
		return
	}
	inside, _ := hex.DecodeString("6000000003" + header)
	for _, a := range answers {
		_, _ = c.Write(slices.Concat([]byte{0, byte(len(inside) + len(a))}, inside, []byte(a)))
	}
}
