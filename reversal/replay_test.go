package reversal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// Laws L6, L8, L9 and L16: what leaves, how often, in which order. That every
// attempt was counted before it left, went with the right MTI and was otherwise
// the same message is checked after every case (scene.check).

func TestL6CountedOnDiskBeforeItLeaves(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		left := 0
		s.host.toEveryReversal(func(x *exchanging) error {
			left++
			e := s.onDisk(id)
			if steps := stepsOf(e, journal.StepAttempt); e.Attempts != left || len(steps) != left || steps[left-1].N != left {
				t.Errorf("when attempt %d left the disk said %d attempts, %v", left, e.Attempts, steps)
			}
			if left < 5 {
				return lost(x)
			}
			return confirm(x)
		})
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); e.Attempts != 5 {
			t.Errorf("%d attempts", e.Attempts)
		}
		if got := mtis(s.host.heardReversals()); got != "0400 0401 0401 0401 0401" {
			t.Errorf("they went as %s", got)
		}
	})
}

func TestL6RepeatsAreTheSameMessage(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(says("10", with(4, "000000000500")))
		sale := s.sell(lane1)
		s.must(sale.Reverse(iso.Cancelled))
		s.host.onReversal(repeated(9, lost)...)
		stop := s.run()
		s.wait(1500 * time.Millisecond)
		s.must(stop())
		before := len(s.host.heardReversals())

		s.restart() // another life, another second
		s.wait(1700 * time.Millisecond)
		s.drain()
		s.wantStatus(sale.ID, journal.Reversed)
		reversals := s.host.heardReversals()
		if before == 0 || len(reversals) <= before {
			t.Fatalf("scene: %d attempts before the restart, %d in all", before, len(reversals))
		}
		for i, x := range reversals {
			if got, want := string(x.packed[4:]), string(reversals[0].packed[4:]); got != want {
				t.Errorf("attempt %d is another message: %v, the first was %v", i+1, x.message, reversals[0].message)
			}
		}
		if got := mtis(reversals); got != "0400"+strings.Repeat(" 0401", len(reversals)-1) {
			t.Errorf("they went as %s", got)
		}
	})
}

func TestL6TheReversalSaysWhichSaleAndWhatWasApproved(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(says("10", with(4, "000000000500")))
		r := s.request(lane1)
		r.EntryMode, r.Acceptor.Forwarder, r.Acceptor.Category = "901", "777", "5999"
		r.Track2, r.PINBlock = iso.NewSecret(visaTest+"=29121010000000000"), iso.NewSecret("0123456789ABCDEF")
		r.At = time.Date(2026, 11, 23, 9, 30, 15, 0, time.FixedZone("", 8*3600))
		sale, err := s.engine.Send(context.Background(), r)
		s.must(err)
		s.must(sale.Reverse(iso.CardDeclined))
		s.drain()

		sold, x := s.host.heardSales()[0], s.host.reversal(1)
		for de, want := range map[int]string{
			2: visaTest, 3: sold.field(3), 4: "000000000500", 7: "1123013015", 11: sold.field(11),
			12: "093015", 13: "1123", 14: "2912", 22: "901", 32: "123456", 33: "777",
			38: "A1B2C3", 39: "22", 41: lane1.Terminal, 42: lane1.Merchant, 49: "840",
			90: "0200" + sold.field(11) + "1123013015" + "00000123456" + "00000000777",
			35: "", 52: "", 26: "", 36: "", 45: "", 53: "", 55: "", 64: "",
		} {
			if got := x.field(de); got != want {
				t.Errorf("DE %d of the reversal is %q, want %q", de, got, want)
			}
		}
		o, err := iso.ParseOriginal(x.field(90))
		if err != nil || o.MTI != "0200" || uint32(o.STAN) != sale.STAN || o.At != sold.field(7) {
			t.Errorf("DE 90 says %+v, %v", o, err)
		}
	})
}

// A power cut right between the count and the wire: the next one is a repeat.
func TestL6CutOffAfterTheCount(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.onReversal(func(x *exchanging) error { s.must(s.journal.Close()); return confirm(x) })
		ctx, cancel := timeout(time.Hour)
		defer cancel()
		if err := s.engine.Drain(ctx); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("drain: %v", err)
		}
		if n := len(s.eventsOf(EventConfirmed)); n != 0 {
			t.Error("told as confirmed though it could not be recorded (L3)")
		}
		s.open()
		if e := s.wantStatus(id, journal.Owed); e.Attempts != 1 {
			t.Errorf("%d attempts on disk", e.Attempts)
		}
		s.drain()
		if got := mtis(s.host.heardReversals()); got != "0400 0401" {
			t.Errorf("they went as %s", got)
		}
		s.wantStatus(id, journal.Reversed)
	})
}

func TestL6WhatCannotBeCountedDoesNotLeave(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.fail(lane1)
		s.spoil()
		ctx, cancel := timeout(time.Hour)
		defer cancel()
		if err := s.engine.Drain(ctx); !errors.Is(err, journal.ErrPoisoned) {
			t.Errorf("drain: %v", err)
		}
		if n := len(s.host.heardReversals()); n != 0 {
			t.Errorf("%d reversals left uncounted", n)
		}
		s.restart()
		s.drain()
	})
}

// A host that is silent for days, then back.
func TestL8FiveHundredSilentAttempts(t *testing.T) {
	attempts := map[bool]int{true: 100, false: 500}[underRace]
	play(t, func(t *testing.T, s *scene) {
		stop := s.run()
		s.host.toEveryReversal(silence)
		id := s.fail(lane1)
		for hours := 0; len(s.host.heardReversals()) < attempts; hours++ {
			s.wait(time.Hour)
			if hours > 100 {
				t.Fatalf("%d attempts in %d hours: it stopped trying", len(s.host.heardReversals()), hours)
			}
			if e := s.wantStatus(id, journal.Owed); e.Refusals != 0 {
				t.Fatalf("%d refusals counted of a silent host", e.Refusals)
			}
		}
		reversals := s.host.heardReversals()
		for i := 1; i < len(reversals); i++ {
			want := time.Duration(0) // a burst
			if n := i - s.timers.Burst; n >= 0 {
				want = s.timers.BackoffMax
				if n < 10 {
					want = min(s.timers.BackoffFirst<<n, s.timers.BackoffMax)
				}
			}
			rest := reversals[i].at.Sub(reversals[i-1].at) - s.timers.AnswerWithin
			if rest < want || rest > want*6/5 {
				t.Errorf("attempt %d came %v after the silence of the one before, want %v and at most a fifth more", i+1, rest, want)
			}
		}
		if e := s.entry(id); e.Attempts < attempts || len(s.eventsOf(EventParked)) != 0 {
			t.Errorf("%d attempts, %d parked", e.Attempts, len(s.eventsOf(EventParked)))
		}
		if days := reversals[len(reversals)-1].at.Sub(reversals[0].at); days < time.Duration(attempts)*4*time.Minute {
			t.Errorf("%d attempts took %v only", attempts, days)
		}

		s.host.toEveryReversal(confirm)
		s.wait(time.Minute) // let an exchange that is under way end
		s.engine.Wake()
		s.wait(time.Second)
		s.wantStatus(id, journal.Reversed)
		s.must(stop())
	})
}

// A thousand terminals do not return in step after an outage: a long wait is
// stretched by a fifth of itself at most, and really is.
func TestL8LongWaitsAreSpread(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		stop := s.run()
		s.host.toEveryReversal(lost)
		id := s.fail(lane1)
		s.wait(4 * time.Hour)
		s.wantStatus(id, journal.Owed)
		var widest time.Duration
		reversals := s.host.heardReversals()
		for i := 20; i < len(reversals); i++ { // all of them at the cap
			widest = max(widest, reversals[i].at.Sub(reversals[i-1].at)-s.timers.BackoffMax)
		}
		if len(reversals) < 40 {
			t.Fatalf("scene: %d attempts", len(reversals))
		}
		if widest < s.timers.BackoffMax/10 || widest > s.timers.BackoffMax/5 {
			t.Errorf("over %d waits of %v the longest was %v more; want something near a fifth", len(reversals)-20, s.timers.BackoffMax, widest)
		}
		s.host.toEveryReversal(confirm)
		s.engine.Wake()
		s.wait(time.Minute)
		s.must(stop())
	})
}

func TestL8WithoutWakeTheHostIsFoundAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		stop := s.run()
		s.host.toEveryReversal(lost)
		id := s.fail(lane1)
		s.wait(2 * time.Hour)
		s.wantStatus(id, journal.Owed)
		s.host.toEveryReversal(confirm)
		s.wait(s.timers.BackoffMax * 6 / 5)
		s.wantStatus(id, journal.Reversed)
		s.must(stop())
	})
}

func TestL8RefusedReversalIsParkedAndStaysListed(t *testing.T) {
	for name, refusal := range map[string]answer{"a code": says("05"), "a code not listed": says("ZZ"), "a format error": says("30")} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				id := s.fail(lane1)
				s.host.onReversal(repeated(s.timers.RefusalsMax, refusal)...)
				s.drain()
				e := s.wantStatus(id, journal.Parked)
				if e.Attempts != s.timers.RefusalsMax || e.Refusals != s.timers.RefusalsMax || e.Parking == "" || e.LastCode == "" {
					t.Errorf("got %+v", e)
				}
				if got := s.eventsOf(EventParked); len(got) != 1 || got[0].ID != id {
					t.Errorf("events %+v", got)
				}

				s.restart()
				stop := s.run()
				s.wait(6 * time.Hour) // nothing is tried, nothing is lost
				s.must(stop())
				parked, err := s.journal.Parked()
				if err != nil || len(parked) != 1 || parked[0].ID != id {
					t.Errorf("parked: %v, %v", parked, err)
				}
				if n := len(s.host.heardReversals()); n != s.timers.RefusalsMax {
					t.Errorf("%d reversals left", n)
				}
				s.must(s.sell(lane1).Complete()) // the lane goes on

				s.must(s.journal.Owe(id, "retry", journal.Answer{})) // a person asks for it
				s.drain()
				s.wantStatus(id, journal.Reversed)
			})
		})
	}
}

func TestL8SilenceAndBusyHostsAreNoRefusals(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		for range 5 {
			s.host.onReversal(silence, lost, says("91"), says("96"), says("68"), refusedDial)
		}
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); e.Attempts != 31 || e.Refusals != 0 {
			t.Errorf("%d attempts, %d refusals", e.Attempts, e.Refusals)
		}
	})
}

func TestL9OldestFirst(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		want := []journal.ID{s.planted(lane1), s.plantedArmed(lane1), s.planted(lane1)}
		s.host.onReversal(lost, says("91"), lost, silence) // the oldest stays first while it is in trouble
		s.drain()
		var got []journal.ID
		for _, x := range s.host.heardReversals() {
			got = append(got, x.entry.ID)
		}
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("they left in the order %v, want %v", got, want)
		}
	})
}

func TestL9NoSaleLeavesWhileAReversalIsOwed(t *testing.T) {
	for name, trouble := range map[string]answer{"silent host": silence, "no line": refusedDial, "busy host": says("91"), "line drops": lost} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				id := s.fail(lane1)
				s.planted(lane1)
				s.planted(lane2)
				s.host.toEveryReversal(trouble)
				entries, sales := s.entries(), len(s.host.heardSales())
				began := time.Now()
				_, err := s.send(lane1)
				oneOf(t, err, ErrReversalOwed)
				var owed *OwedError
				if !errors.As(err, &owed) || owed.Oldest != id || owed.Count != 2 || owed.Lane != lane1 {
					t.Errorf("got %+v", owed)
				}
				if d := time.Since(began); d > s.timers.SettleWithin {
					t.Errorf("refused after %v, want within %v", d, s.timers.SettleWithin)
				}
				if s.entries() != entries || len(s.host.heardSales()) != sales {
					t.Error("the refused sale left a trace")
				}

				s.host.toEveryReversal(confirm)
				from := len(s.host.all())
				s.must(s.sell(lane1).Complete())
				if got := mtis(s.host.all()[from:]); got != "0401 0400 0200" {
					t.Errorf("after the outage the host heard %s", got)
				}
			})
		})
	}
}

func TestL9AnotherLaneIsNotBlocked(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		stop := s.run()
		s.host.toEveryReversal(silence)
		s.fail(lane1)
		s.wait(time.Minute) // the reversal of lane 1 is under way
		began := time.Now()
		s.must(s.sell(lane2).Complete())
		if d := time.Since(began); d != 0 {
			t.Errorf("the sale on the other lane waited %v", d)
		}
		s.host.toEveryReversal(confirm)
		s.wait(time.Hour)
		s.must(stop())
	})
}

func TestL9AParkedOneDoesNotBlock(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		poison, behind := s.planted(lane1), s.planted(lane1)
		s.host.toEveryReversal(func(x *exchanging) error {
			if x.entry.ID == poison {
				return says("30")(x)
			}
			return confirm(x)
		})
		s.must(s.sell(lane1).Complete())
		s.wantStatus(poison, journal.Parked)
		s.wantStatus(behind, journal.Reversed)
	})
}

// Run is at it when the customer comes: the sale waits no longer than it may.
func TestL9WaitForWhatIsOwedIsBoundedWhileRunIsAtWork(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		stop := s.run()
		s.host.toEveryReversal(silence)
		s.fail(lane1)
		s.wait(10 * time.Second) // Run is in the middle of an exchange
		began := time.Now()
		_, err := s.send(lane1)
		oneOf(t, err, ErrReversalOwed)
		if d := time.Since(began); d > s.timers.SettleWithin+s.timers.AnswerWithin {
			t.Errorf("the customer was told after %v; what is owed may hold up a sale for %v", d, s.timers.SettleWithin)
		}
		s.host.toEveryReversal(confirm)
		s.wait(time.Hour)
		s.must(stop())
	})
}

func TestL16WhatIsSettledIsNeverReversed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(decline, refusedDial, approve, silence)
		_, err := s.send(lane1)
		oneOf(t, err, ErrDeclined)
		_, err = s.send(lane1)
		oneOf(t, err, ErrNotSent)
		s.must(s.sell(lane1).Complete())
		_, err = s.send(lane1)
		oneOf(t, err, ErrFailed)
		s.drain() // the last one is reversed now
		for range 2 {
			stop := s.run()
			s.engine.Wake()
			s.wait(24 * time.Hour)
			s.must(stop())
			s.restart()
		}
		if n := len(s.host.heardReversals()); n != 1 {
			t.Errorf("%d reversals left, want one", n)
		}
	})
}

func TestL16ASaleIsNeverSentAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		troubles := []answer{silence, lost, rubbish, refusedDial, decline, says("96"), says("00", without(39)), says("00", with(11, "000999"))}
		s.host.onSale(troubles...)
		for range troubles {
			if _, err := s.send(lane1); err == nil {
				t.Error("approved")
			}
			s.drain()
		}
		s.restart()
		s.drain()
		stop := s.run()
		s.wait(24 * time.Hour)
		s.must(stop())
		if n := len(s.host.heardSales()); n != len(troubles) {
			t.Errorf("%d sales left, %d were asked for", n, len(troubles))
		}
	})
}

func TestL16AReversalHasNoReversal(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.fail(lane1)
		s.drain()
		for _, x := range s.host.heardReversals() {
			if _, err := s.profile.ImageOf(x.message); !errors.Is(err, iso.ErrInvalid) {
				t.Errorf("image of a reversal: %v", err)
			}
		}
		if n := s.entries(); n != 1 {
			t.Errorf("%d entries: a reversal has an entry of its own", n)
		}
		s.wait(time.Hour)
		synctest.Wait()
	})
}

func mtis(list []heard) string {
	var names []string
	for _, x := range list {
		names = append(names, string(x.mti))
	}
	return strings.Join(names, " ")
}
