package reversal

import (
	"fmt"
	"slices"
	"testing"

	"uncharge/iso"
	"uncharge/journal"
)

// The reversal of ISO 8583:1993 has a trace number of its own.

// The original of 1993 has a trace number, its reversal another, and both stay.
func TestL6ReversalOf1993HasATraceNumberOfItsOwn(t *testing.T) {
	playIn(t, "iso93", func(t *testing.T, s *macScene) {
		id := s.fail(lane1)
		sale := s.host.heardSales()[0]
		s.host.onReversal(silence, silence, silence, s.good("400"))
		for range 3 {
			s.must(s.runFor(s.timers.AnswerWithin / 2))
			s.reboot(key1)
		}
		s.drain()
		e := s.wantStatus(id, journal.Reversed)
		list := s.host.heardReversals()
		if len(list) != 4 {
			t.Fatalf("%d reversals left", len(list))
		}
		original := "1200" + sale.field(11) + sale.field(12) + "06123456"
		for i, x := range list {
			if want := []iso.MTI{"1420", "1421", "1421", "1421"}[i]; x.mti != want {
				t.Errorf("attempt %d went as %s, want %s", i+1, x.mti, want)
			}
			if x.field(11) == sale.field(11) || x.field(11) != iso.STAN(e.ReversalSTAN).String() {
				t.Errorf("attempt %d has trace number %s; the sale has %s, the journal says %d", i+1, x.field(11), sale.field(11), e.ReversalSTAN)
			}
			if x.field(56) != original || x.field(24) != "400" || x.field(12) != sale.field(12) {
				t.Errorf("attempt %d names %s, want %s (function %s, time %s)", i+1, x.field(56), original, x.field(24), x.field(12))
			}
		}
	})
}

func TestL5ReversalOf1993IsAnsweredUnderItsOwnTraceNumber(t *testing.T) {
	playIn(t, "iso93", func(t *testing.T, s *macScene) {
		id := s.fail(lane1)
		sale := s.host.heardSales()[0]
		s.host.onReversal(
			s.good("400", with(11, sale.field(11))), // of the sale
			s.good("400", withMTI("1410")),
			s.good("400", withMTI("1420")),
			s.good("400", withMTI("1210")),
			s.good("400"),
		)
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); e.Attempts != 5 || len(s.eventsOf(EventStray)) != 4 {
			t.Errorf("%d attempts, %d strays; only the fifth answer is one", e.Attempts, len(s.eventsOf(EventStray)))
		}
	})
}

// L7: a late approval names the sale's trace number, not the reversal's.
func TestL7LateApprovalOf1993IsKeptAndTheReversalGoesOn(t *testing.T) {
	playIn(t, "iso93", func(t *testing.T, s *macScene) {
		id := s.fail(lane1)
		sale := s.host.heardSales()[0]
		s.host.onReversal(func(x *exchanging) error {
			if x.accept(s.sealed(x, "000", withMTI("1210"), with(11, sale.field(11)), with(38, "LATE01"))) {
				t.Error("a late approval was taken for the reversal's answer")
			}
			return s.good("400")(x)
		})
		s.drain()
		e := s.wantStatus(id, journal.Reversed)
		if e.Attempts != 1 || len(s.eventsOf(EventLate)) != 1 || !slices.ContainsFunc(e.Steps, func(st journal.Step) bool { return st.Late != nil && st.Late.AuthCode == "LATE01" }) {
			t.Errorf("%d attempts, steps %+v", e.Attempts, e.Steps)
		}
	})
}

func TestTraceNumbersOf1993AreNeverGivenTwice(t *testing.T) {
	playIn(t, "iso93", func(t *testing.T, s *macScene) {
		s.host.toEveryReversal(s.good("400"))
		seen := map[string]string{}
		note := func(stan, what string) {
			if seen[stan] != "" {
				t.Errorf("trace number %s of %s is that of %s", stan, what, seen[stan])
			}
			seen[stan] = what
		}
		for i := range 12 {
			switch i % 3 {
			case 0:
				s.host.onSale(s.good("000"))
				s.must(s.sell(lane1).Complete())
			case 1:
				s.fail(lane1)
			default:
				s.host.onSale(s.good("116", without(38)))
				_, err := s.send(lane1)
				oneOf(t, err, ErrDeclined)
			}
			if i%2 == 0 {
				s.reboot(key1)
			}
		}
		s.drain()
		for i, x := range s.host.all() {
			note(x.field(11), fmt.Sprintf("message %d (%s)", i, x.mti))
		}
	})
}
