package reversal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

func TestNewAsksForWhatItNeeds(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		for name, o := range map[string]Options{
			"nothing":      {},
			"no journal":   {Profile: s.profile, Exchanger: s.host},
			"no profile":   {Journal: s.journal, Exchanger: s.host},
			"no exchanger": {Journal: s.journal, Profile: s.profile},
		} {
			if e, err := New(o); err == nil || e != nil {
				t.Errorf("%s: got %v, %v", name, e, err)
			}
		}
		if _, err := New(Options{Journal: s.journal, Profile: s.profile, Exchanger: s.host}); err != nil {
			t.Errorf("the profile's timers: %v", err)
		}
	})
}

// Timers with a zero in them would park what was never refused, or try without a
// pause: refused, or filled up from the profile.
func TestTimersOfZeroNeitherParkNorStorm(t *testing.T) {
	for name, zero := range map[string]func(*iso.Timers){
		"all but one":     func(tm *iso.Timers) { *tm = iso.Timers{AnswerWithin: tm.AnswerWithin} },
		"refusalsMax":     func(tm *iso.Timers) { tm.RefusalsMax = 0 },
		"backoffFirst":    func(tm *iso.Timers) { tm.BackoffFirst = 0 },
		"backoffMax":      func(tm *iso.Timers) { tm.BackoffMax = 0 },
		"negative":        func(tm *iso.Timers) { tm.BackoffMax = -time.Second },
		"completeWithin":  func(tm *iso.Timers) { tm.CompleteWithin = 0 },
		"overtakenWindow": func(tm *iso.Timers) { tm.OvertakenWindow = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				timers := s.profile.Timers()
				zero(&timers)
				e, err := New(Options{Journal: s.journal, Profile: s.profile, Exchanger: s.host, Timers: &timers})
				if err != nil {
					return // refused: good
				}
				if d := Decide(Doubt{Status: journal.Owed}, e.timers); d.Do != Send {
					t.Errorf("what was never tried: %s %s", d.Do, d.Why)
				}
				tired := Doubt{Status: journal.Owed, Attempts: 9, Tries: 9, SinceTry: time.Millisecond, SinceSent: time.Hour}
				if d := Decide(tired, e.timers); d.Do != Wait || d.Wait < 100*time.Millisecond {
					t.Errorf("after nine tries: %s %v", d.Do, d.Wait)
				}
				if e.timers.CompleteWithin <= 0 || e.timers.OvertakenWindow <= 0 {
					t.Errorf("taken as they are: %+v", e.timers)
				}
			})
		})
	}
}

func TestRunRecoversAtStart(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		armed, owed, other := s.plantedArmed(lane1), s.planted(lane1), s.plantedArmed(lane2)
		s.restart()
		began := time.Now()
		stop := s.run()
		for _, id := range []journal.ID{armed, owed, other} {
			s.wantStatus(id, journal.Reversed)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %v with a host that answers at once", d)
		}
		if e := s.entry(armed); e.Cause != string(iso.Restart) {
			t.Errorf("cause %q", e.Cause)
		}
		s.must(stop())
	})
}

func TestSecondRunIsRefused(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		stop := s.run()
		if err := s.runFor(time.Hour); err == nil {
			t.Error("a second Run ran")
		}
		if err := s.engine.Drain(t.Context()); err == nil {
			t.Error("a Drain ran beside Run")
		}
		s.must(stop())
		s.drain() // and now it may
		s.must(s.run()())
	})
}

func TestDrainOfAQuietJournal(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.must(s.sell(lane1).Complete())
		began := time.Now()
		s.drain()
		if d := time.Since(began); d != 0 || len(s.host.heardReversals()) != 0 {
			t.Errorf("took %v, %d reversals", d, len(s.host.heardReversals()))
		}
	})
}

func TestDrainWhoseContextEnds(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.toEveryReversal(silence)
		ctx, cancel := timeout(10 * time.Minute)
		defer cancel()
		began := time.Now()
		err := s.engine.Drain(ctx)
		oneOf(t, err, ErrReversalOwed)
		var owed *OwedError
		if !errors.As(err, &owed) || owed.Oldest != id || owed.Lane != lane1 || owed.Count != 1 {
			t.Errorf("got %+v", owed)
		}
		if d := time.Since(began); d != 10*time.Minute {
			t.Errorf("returned after %v", d)
		}
		s.wantStatus(id, journal.Owed)
		s.host.toEveryReversal(confirm)
		s.drain()
	})
}

func TestDrainReturnsAsSoonAsTheLastSaleIsCompleted(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		time.AfterFunc(5*time.Second, func() { _ = sale.Complete() })
		began := time.Now()
		s.drain()
		s.wantStatus(sale.ID, journal.Completed)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("nothing was open after 5s, Drain returned after %v", d)
		}
	})
}

// A trigger allows one burst (Timers.Burst): what Run itself finds at its start
// is no second one.
func TestStartIsOneTrigger(t *testing.T) {
	for name, before := range map[string]func(s *scene){
		"found armed": func(s *scene) { s.plantedArmed(lane1); s.restart() },
		"found owed":  func(s *scene) { s.planted(lane1); s.restart() },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				before(s)
				s.host.toEveryReversal(refusedDial)
				stop := s.run()
				if n := len(s.host.heardReversals()); n != s.timers.Burst {
					t.Errorf("%d attempts back to back, want %d", n, s.timers.Burst)
				}
				s.host.toEveryReversal(confirm)
				s.wait(time.Minute)
				s.must(stop())
			})
		})
	}
}

func TestWakeAllowsANewBurstAtOnce(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.planted(lane1)
		s.planted(lane2)
		s.host.toEveryReversal(lost)
		stop := s.run()
		s.wait(time.Hour)
		before := len(s.host.heardReversals())
		s.engine.Wake()
		synctest.Wait()
		if n := len(s.host.heardReversals()) - before; n != 2*s.timers.Burst {
			t.Errorf("%d attempts after Wake, want a burst on each of two lanes", n)
		}
		s.host.toEveryReversal(confirm)
		s.engine.Wake()
		synctest.Wait()
		owed, err := s.journal.Owed()
		if err != nil || len(owed) != 0 {
			t.Errorf("owed after the host came back: %v, %v", owed, err)
		}
		s.must(stop())
	})
}

func TestRunEndsSoonAfterItsContext(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.toEveryReversal(silence)
		stop := s.run()
		s.wait(7 * time.Second) // in the middle of an exchange
		began := time.Now()
		s.must(stop())
		if d := time.Since(began); d != 0 {
			t.Errorf("Run ended %v after its context", d)
		}
		if e := s.wantStatus(id, journal.Owed); e.Cause != string(iso.NoAnswer) {
			t.Errorf("cause %q", e.Cause)
		}
		s.host.toEveryReversal(confirm)
		s.drain()
	})
}

func TestWrongDeviceKeyStopsAndParksNothing(t *testing.T) {
	for name, key := range map[string][]byte{"another key": otherKey, "no key": nil} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				owed, armed := s.planted(lane1), s.plantedArmed(lane2)
				s.key = key
				s.restart()
				if err := s.runFor(time.Hour); !errors.Is(err, journal.ErrKey) {
					t.Errorf("run: %v", err)
				}
				_, err := s.send(lane1)
				oneOf(t, err, ErrNotSent)
				if n := len(s.host.all()); n != 0 {
					t.Errorf("%d messages left", n)
				}
				if e := s.wantStatus(owed, journal.Owed); e.Attempts != 0 {
					t.Errorf("%d attempts were counted", e.Attempts)
				}

				s.key = deviceKey
				s.restart()
				s.drain()
				s.wantStatus(owed, journal.Reversed)
				s.wantStatus(armed, journal.Reversed)
			})
		})
	}
}

func TestDamagedImageParksThatEntryOnly(t *testing.T) {
	for name, image := range map[string]string{
		"no image":         "",
		"rubbish":          "rubbish",
		"unknown version":  `{"v":9,"mti":"0200","f":{}}`,
		"no trace number":  `{"v":1,"mti":"0200","f":{"3":"000000"}}`,
		"of a reversal":    `{"v":1,"mti":"0400","f":{"11":"000077"}}`,
		"with a track":     `{"v":1,"mti":"0200","f":{"11":"000077","35":"4111111111111111=2912"}}`,
		"a field too long": `{"v":1,"mti":"0200","f":{"11":"000077","41":"TERMINAL0001"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				bad := s.plantedImage(lane1, 77, []byte(image))
				good, other := s.planted(lane1), s.planted(lane2)
				s.drain()
				if e := s.wantStatus(bad, journal.Parked); e.Attempts != 0 || e.Parking == "" || strings.Contains(e.Parking, "4111") {
					t.Errorf("got %+v", e)
				}
				s.wantStatus(good, journal.Reversed)
				s.wantStatus(other, journal.Reversed)
				s.must(s.sell(lane1).Complete())
			})
		})
	}
}

// One record that cannot be read is told, and does not keep the others from
// being reversed (L8, L9, L13; the journal lists the others beside the error).
func TestL9DamagedRecordDoesNotHoldUpTheOthers(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		bad, good, other := s.planted(lane1), s.planted(lane1), s.planted(lane2)
		s.damage(bad)

		if err := s.runFor(time.Hour); err != nil {
			t.Logf("Run says %v", err) // it may say so, once the others are done
		}
		s.wantStatus(good, journal.Reversed)
		s.wantStatus(other, journal.Reversed)
	})
}

func TestRunReturnsTheErrorOfAFailedJournal(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(s *scene)
		want    error
	}{
		"failing disk":   {func(s *scene) { s.spoil() }, journal.ErrPoisoned},
		"poisoned":       {func(s *scene) { s.spoil(); _, _ = s.send(lane2) }, journal.ErrPoisoned},
		"closed journal": {func(s *scene) { s.must(s.journal.Close()) }, journal.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				id := s.planted(lane1)
				c.breakIt(s)
				if err := s.runFor(time.Hour); !errors.Is(err, c.want) {
					t.Errorf("run: %v", err)
				}
				if n := len(s.host.all()); n != 0 {
					t.Errorf("%d messages left", n)
				}
				_ = s.journal.Close()
				s.open()
				s.drain()
				s.wantStatus(id, journal.Reversed)
			})
		})
	}
}

// The host has confirmed, the disk fails: it is asked again after the restart.
func TestConfirmationThatCannotBeRecordedIsAskedForAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.onReversal(func(x *exchanging) error { s.spoil(); return confirm(x) })
		if err := s.runFor(time.Hour); !errors.Is(err, journal.ErrPoisoned) {
			t.Errorf("run: %v", err)
		}
		if n := len(s.eventsOf(EventConfirmed)); n != 0 {
			t.Error("told as confirmed")
		}
		s.restart()
		s.drain()
		s.wantStatus(id, journal.Reversed)
		if got := mtis(s.host.heardReversals()); got != "0400 0401" {
			t.Errorf("they went as %s", got)
		}
	})
}

func TestObserverThatPanicsDoesNoHarm(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		e, err := New(Options{
			Journal: s.journal, Profile: s.profile, Exchanger: s.host, Timers: &s.timers,
			Observe: func(Event) { panic("observer") },
		})
		s.must(err)
		s.engine = e
		s.must(s.sell(lane1).Complete())
		s.host.onReversal(silence, says("05"), func(x *exchanging) error { x.accept(lateApproval(x)); return confirm(x) })
		id := s.fail(lane1)
		s.drain()
		s.wantStatus(id, journal.Reversed)
	})
}

// What is told of a life, in order.
func TestEventsTellTheWholeLife(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.must(s.sell(lane1).Complete())
		s.host.onSale(decline, refusedDial, lost)
		for range 3 {
			_, _ = s.send(lane1)
		}
		s.host.onReversal(silence, says("05"), func(x *exchanging) error { x.accept(lateApproval(x)); return confirm(x) })
		s.drain()
		want := `
1 armed 1
1 approved 1 00
1 completed 00
2 armed 2
2 declined 2 05
3 armed 3
3 not-sent 3
4 armed 4
4 owed line-lost
4 attempt 4 #1 line-lost
4 not-yet 4 #1
4 attempt 4 #2 line-lost
4 refused 4 #2 05
4 attempt 4 #3 line-lost
4 late-answer 4 00
4 confirmed 4 #3 00
`
		var got strings.Builder
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, ev := range s.events {
			fmt.Fprintf(&got, "\n%d %s", ev.ID, ev.Kind)
			if ev.STAN > 0 && ev.Kind != EventOwed && ev.Kind != EventCompleted {
				fmt.Fprintf(&got, " %d", ev.STAN)
			}
			if ev.Attempt > 0 {
				fmt.Fprintf(&got, " #%d", ev.Attempt)
			}
			if ev.Code != "" {
				fmt.Fprintf(&got, " %s", ev.Code)
			}
			if ev.Cause != "" {
				fmt.Fprintf(&got, " %s", ev.Cause)
			}
			if ev.Lane != lane1 {
				t.Errorf("event %+v is of another lane", ev)
			}
		}
		if strings.TrimSpace(got.String()) != strings.TrimSpace(want) {
			t.Errorf("told:%s\nwant:%s", got.String(), want)
		}
	})
}

// Forgetting is not leaking: what is settled leaves no trace in memory.
func TestSettledEntriesAreForgotten(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		for range 8 {
			s.host.onSale(approve, decline, refusedDial, silence, approve)
			s.must(s.sell(lane1).Complete())
			for range 3 {
				_, _ = s.send(lane1)
			}
			s.host.onReversal(repeated(s.timers.RefusalsMax, says("05"))...)
			s.drain()
			sale := s.sell(lane1)
			s.must(sale.Reverse(iso.Cancelled))
			s.drain()
		}
		e := s.engine
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.live) != 0 || len(e.seen) != 0 {
			t.Errorf("%d sales and %d trails are kept", len(e.live), len(e.seen))
		}
	})
}
