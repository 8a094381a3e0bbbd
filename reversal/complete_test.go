package reversal

import (
	"errors"
	"sync"
	"testing"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// Law L3: durable, then shown; and who wins when two ask.

func TestL3CompleteIsDurableBeforeItReturns(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		if e := s.onDisk(sale.ID); e.Status != journal.Begun {
			t.Errorf("before Complete the disk says %s", e.Status)
		}
		if len(s.eventsOf(EventCompleted)) != 0 {
			t.Error("told as completed before Complete")
		}
		s.must(sale.Complete())
		if e := s.onDisk(sale.ID); e.Status != journal.Completed || e.AuthCode != "A1B2C3" || e.RRN != "602001000017" || e.Code != "00" {
			t.Errorf("after Complete the disk says %+v", e)
		}
		s.must(sale.Complete()) // again: nil

		s.restart()
		s.drain()
		s.wantStatus(sale.ID, journal.Completed)
		if n := len(s.host.heardReversals()); n != 0 {
			t.Errorf("%d reversals left for a completed sale", n)
		}
	})
}

func TestL3AfterCompleteThereIsNoReversal(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		s.must(sale.Complete())
		if err := sale.Reverse(iso.CardDeclined); !errors.Is(err, journal.ErrMove) {
			t.Errorf("Reverse after Complete: %v, want ErrMove", err)
		}
		stop := s.run()
		s.wait(time.Hour)
		s.must(stop())
		s.wantStatus(sale.ID, journal.Completed)
		if n := len(s.host.heardReversals()); n != 0 {
			t.Errorf("%d reversals left", n)
		}
	})
}

func TestL3DeclinedIsDurableBeforeItIsHeard(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(decline)
		_, err := s.send(lane1)
		oneOf(t, err, ErrDeclined)
		var declined *DeclinedError
		if !errors.As(err, &declined) || declined.Code != "05" || declined.Name != "do not honour" {
			t.Fatalf("got %v", err)
		}
		if e := s.onDisk(declined.ID); e.Status != journal.Declined || e.Code != "05" {
			t.Errorf("on disk: %+v", e)
		}
		s.restart()
		s.drain()
		if n := len(s.host.heardReversals()); n != 0 {
			t.Errorf("%d reversals left for a declined sale", n)
		}
	})
}

func TestL3NotSentIsDurableBeforeItIsHeard(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(refusedDial)
		_, err := s.send(lane1)
		oneOf(t, err, ErrNotSent)
		if e := s.onDisk(1); e.Status != journal.NotSent {
			t.Errorf("on disk: %s", e.Status)
		}
		s.restart()
		s.drain()
		if n := len(s.host.heardReversals()); n != 0 {
			t.Errorf("%d reversals left for a sale that was not sent", n)
		}
	})
}

// What cannot be recorded may not be told: the disk fails between the question
// and the answer.
func TestL3OutcomeThatCannotBeRecordedIsNotTold(t *testing.T) {
	for name, then := range map[string]answer{"declined": decline, "not sent": refusedDial, "silent": silence} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(func(x *exchanging) error { s.spoil(); return then(x) })
				_, err := s.send(lane1)
				oneOf(t, err, ErrFailed)
				if !errors.Is(err, journal.ErrPoisoned) {
					t.Errorf("%v does not say that the journal failed", err)
				}
				s.restart()
				s.drain()
				s.wantStatus(1, journal.Reversed)
			})
		})
	}
}

func TestL3CompleteOnAFailingDiskShowsNeither(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		s.spoil()
		err := sale.Complete()
		if !errors.Is(err, journal.ErrPoisoned) || errors.Is(err, ErrFailed) {
			t.Errorf("got %v, want ErrPoisoned and not ErrFailed", err)
		}
		if len(s.eventsOf(EventCompleted)) != 0 {
			t.Error("told as completed")
		}
		s.restart()
		s.drain()
		s.wantStatus(sale.ID, journal.Reversed)
	})
}

func TestL3CompleteOfASaleTakenForForgottenFails(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		stop := s.run()
		s.wait(s.timers.CompleteWithin + 2*idleMax)
		err := sale.Complete()
		s.failedWith(err, iso.NotCompleted)
		s.must(stop())
		s.wantStatus(sale.ID, journal.Reversed)
	})
}

func TestL3CompleteAfterReverseFails(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		s.must(sale.Reverse(iso.CardDeclined))
		s.failedWith(sale.Complete(), iso.CardDeclined)
		s.drain()
		s.failedWith(sale.Complete(), iso.CardDeclined)
		s.wantStatus(sale.ID, journal.Reversed)
	})
}

// Whoever asks first wins, and the journal agrees with what both heard.
func TestL3CompleteAgainstReverse(t *testing.T) {
	rounds := map[bool]int{true: 50, false: 150}[underRace]
	play(t, func(t *testing.T, s *scene) {
		won := map[journal.Status]int{}
		for range rounds {
			sale := s.sell(lane1)
			var completed, reversed error
			var both sync.WaitGroup
			start := make(chan struct{})
			both.Go(func() { <-start; completed = sale.Complete() })
			both.Go(func() { <-start; reversed = sale.Reverse(iso.CardDeclined) })
			close(start)
			both.Wait()

			e := s.entry(sale.ID)
			won[e.Status]++
			switch {
			case completed == nil && errors.Is(reversed, journal.ErrMove) && e.Status == journal.Completed:
			case errors.Is(completed, ErrFailed) && reversed == nil && e.Status == journal.Owed && e.Cause == string(iso.CardDeclined):
			default:
				t.Fatalf("Complete: %v; Reverse: %v; the journal says %s, cause %q", completed, reversed, e.Status, e.Cause)
			}
		}
		s.drain()
		if won[journal.Completed] == 0 || won[journal.Owed] == 0 {
			t.Logf("one side won every round: %v", won)
		}
	})
}

// The firmware completes while the next sale takes it for forgotten: one of them
// is right, both hear the same.
func TestL3CompleteAgainstTheNextSend(t *testing.T) {
	rounds := map[bool]int{true: 30, false: 80}[underRace]
	play(t, func(t *testing.T, s *scene) {
		for range rounds {
			sale := s.sell(lane1)
			var completed error
			var both sync.WaitGroup
			both.Go(func() { completed = sale.Complete() })
			both.Go(func() {
				next, err := s.send(lane1)
				if err != nil {
					t.Errorf("the next sale: %v", err)
					return
				}
				s.must(next.Complete())
			})
			both.Wait()
			e := s.entry(sale.ID)
			if (completed == nil) != (e.Status == journal.Completed) {
				t.Fatalf("Complete: %v; the journal says %s", completed, e.Status)
			}
			if completed != nil && (!errors.Is(completed, ErrFailed) || e.Status != journal.Reversed || e.Cause != string(iso.NotCompleted) || e.AuthCode != "A1B2C3") {
				t.Fatalf("Complete: %v; the journal says %+v", completed, e)
			}
		}
	})
}

// The firmware reverses while the next sale takes it for forgotten: whichever
// cause comes first, what the host had approved is not forgotten.
func TestL3ReverseAgainstTheNextSend(t *testing.T) {
	rounds := map[bool]int{true: 30, false: 80}[underRace]
	play(t, func(t *testing.T, s *scene) {
		for range rounds {
			sale := s.sell(lane1)
			var both sync.WaitGroup
			both.Go(func() {
				if err := sale.Reverse(iso.CardDeclined); err != nil {
					t.Errorf("Reverse: %v", err)
				}
			})
			both.Go(func() {
				next, err := s.send(lane1)
				if err != nil {
					t.Errorf("the next sale: %v", err)
					return
				}
				s.must(next.Complete())
			})
			both.Wait()
			s.drain()
			e := s.wantStatus(sale.ID, journal.Reversed)
			if e.AuthCode != "A1B2C3" || e.Cause != string(iso.CardDeclined) && e.Cause != string(iso.NotCompleted) {
				t.Fatalf("cause %q, authorization code %q", e.Cause, e.AuthCode)
			}
		}
	})
}
