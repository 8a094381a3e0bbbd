package reversal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// Laws L1, L2 and L4 (L3 is in complete_test.go): what a caller of Send, Complete and Reverse may rely on.

func TestL1ArmedBeforeTheFirstByte(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(func(x *exchanging) error {
			if x.entry.ID == 0 || x.entry.Status != journal.Begun {
				t.Errorf("when the sale left the journal said %+v, want an armed entry", x.entry)
			}
			// Not only in memory: it is in the file.
			if e := s.onDisk(x.entry.ID); e.Status != journal.Begun || iso.STAN(e.STAN).String() != x.field(11) {
				t.Errorf("when the sale left the disk said %+v", e)
			}
			return approve(x)
		})
		sale := s.sell(lane1)
		if x := s.host.heardSales()[0]; x.entry.ID != sale.ID || x.mti != "0200" {
			t.Errorf("heard %s for entry %d, the sale is entry %d", x.mti, x.entry.ID, sale.ID)
		}
		s.must(sale.Complete())
	})
}

func TestL1WhatTheReversalNeedsIsThereBeforeTheFirstByte(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(func(x *exchanging) error {
			kept, err := s.journal.Image(x.entry.ID)
			if err != nil {
				t.Fatalf("no image when the sale left: %v", err)
			}
			img, err := iso.ParseImage(kept)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := img.Request().Field(11); got != x.field(11) {
				t.Errorf("the image has trace number %s, the sale %s", got, x.field(11))
			}
			return decline(x)
		})
		_, err := s.send(lane1)
		oneOf(t, err, ErrDeclined)
	})
}

func TestL1WithoutARecordNothingIsSent(t *testing.T) {
	for name, breakIt := range map[string]func(s *scene){
		"no device key":    func(s *scene) { s.key = nil; s.restart() },
		"closed journal":   func(s *scene) { s.must(s.journal.Close()) },
		"failing disk":     func(s *scene) { s.spoil() },
		"poisoned journal": func(s *scene) { s.spoil(); _, _ = s.send(lane2) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				breakIt(s)
				sale, err := s.send(lane1)
				if sale != nil {
					t.Error("a sale came back")
				}
				oneOf(t, err, ErrNotSent)
				if n := len(s.host.all()); n != 0 {
					t.Errorf("%d messages left", n)
				}
			})
		})
	}
}

func TestL1WhatCannotBeBuiltIsNeitherRecordedNorSent(t *testing.T) {
	for name, change := range map[string]func(*iso.Request){
		"no card":         func(r *iso.Request) { r.PAN = iso.PAN{} },
		"amount zero":     func(r *iso.Request) { r.Amount = 0 },
		"no merchant":     func(r *iso.Request) { r.Acceptor.Merchant = "" },
		"long terminal":   func(r *iso.Request) { r.Acceptor.Terminal = "TERMINAL9" },
		"bad PIN block":   func(r *iso.Request) { r.PINBlock = iso.NewSecret("12") },
		"unknown type":    func(r *iso.Request) { r.Type = "loan" },
		"not a reversal":  func(r *iso.Request) { r.Type = "reversal" },
		"unsafe in DE 42": func(r *iso.Request) { r.Acceptor.Merchant = "M\n1" },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				r := s.request(lane1)
				change(&r)
				_, err := s.engine.Send(context.Background(), r)
				oneOf(t, err, ErrNotSent)
				if !errors.Is(err, iso.ErrInvalid) {
					t.Errorf("%v does not say that the request is invalid", err)
				}
				if s.entries() != 0 || len(s.host.all()) != 0 {
					t.Errorf("%d entries, %d messages; want none", s.entries(), len(s.host.all()))
				}
			})
		})
	}
}

func TestL2ForgottenSaleIsReversedByRun(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		stop := s.run()

		s.wait(s.timers.CompleteWithin - time.Second)
		s.wantStatus(sale.ID, journal.Begun)
		if n := len(s.host.heardReversals()); n != 0 {
			t.Fatalf("%d reversals left before the time to complete was over", n)
		}

		s.wait(time.Second + idleMax + idleMax/5)
		e := s.wantStatus(sale.ID, journal.Reversed)
		if e.Cause != string(iso.NotCompleted) || e.AuthCode != "A1B2C3" {
			t.Errorf("cause %q, authorization code %q", e.Cause, e.AuthCode)
		}
		if x := s.host.reversal(1); x.field(39) != "22" || x.field(38) != "A1B2C3" {
			t.Errorf("the reversal says %v", x.message)
		}
		s.must(stop())
	})
}

func TestL2ForgottenSaleIsReversedByTheNextSend(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		forgotten := s.sell(lane1)
		next := s.sell(lane1)
		if e := s.wantStatus(forgotten.ID, journal.Reversed); e.Cause != string(iso.NotCompleted) {
			t.Errorf("cause %q", e.Cause)
		}
		s.must(next.Complete())
		var order []string
		for _, x := range s.host.all() {
			order = append(order, string(x.mti))
		}
		if got := strings.Join(order, " "); got != "0200 0400 0200" {
			t.Errorf("the host heard %s", got)
		}
	})
}

func TestL2ApprovedButCutOffIsReversedAfterTheRestart(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		s.restart()
		s.drain()
		if e := s.wantStatus(sale.ID, journal.Reversed); e.Cause != string(iso.Restart) {
			t.Errorf("cause %q", e.Cause)
		}
		if err := sale.Complete(); err == nil {
			t.Error("the sale object of the earlier life could be completed")
		}
	})
}

func TestL2CutOffWhileTheAnswerIsAwaited(t *testing.T) {
	for name, after := range map[string]answer{"silent host": silence, "approving host": approve, "declining host": decline, "lost line": lost} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(func(x *exchanging) error {
					s.must(s.journal.Close()) // from here on nothing is written
					return after(x)
				})
				sale, err := s.send(lane1)
				if err != nil {
					oneOf(t, err, ErrFailed)
				} else if err := sale.Complete(); err == nil {
					t.Fatal("completed without a record")
				}
				s.open()
				s.drain()
				e := s.wantStatus(1, journal.Reversed)
				if e.Cause != string(iso.Restart) {
					t.Errorf("cause %q", e.Cause)
				}
			})
		})
	}
}

func TestL2EveryDoubtIsOwedWithItsCause(t *testing.T) {
	cases := []struct {
		name   string
		answer answer
		cause  iso.Cause
		reason string // DE 39 of the reversal
	}{
		{"silence", silence, iso.NoAnswer, "68"},
		{"line lost after sending", lost, iso.LineLost, "68"},
		{"an exchange that says nothing", func(*exchanging) error { return nil }, iso.LineLost, "68"},
		{"undecodable answer", rubbish, iso.Undecodable, "22"},
		{"empty answer", raw(func(*exchanging) []byte { return nil }), iso.Undecodable, "22"},
		{"code in doubt", says("96"), iso.UnknownCode, "22"},
		{"code not listed", says("Z9"), iso.UnknownCode, "22"},
		{"no code", says("00", without(39)), iso.UnknownCode, "22"},
		{"partial without amount", says("10", without(4)), iso.UnknownCode, "22"},
		{"partial of nothing", says("10", with(4, "000000000000")), iso.UnknownCode, "22"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(c.answer)
				_, err := s.send(lane1)
				id := s.failedWith(err, c.cause)
				if e := s.wantStatus(id, journal.Owed); e.Cause != string(c.cause) {
					t.Errorf("the journal has cause %q, want %q", e.Cause, c.cause)
				}
				s.restart() // the cause is durable
				s.drain()
				s.wantStatus(id, journal.Reversed)
				x := s.host.reversal(1)
				if x.field(39) != c.reason || x.mti != "0400" || x.field(4) != "000000001250" {
					t.Errorf("the reversal says %v, want reason %s", x.message, c.reason)
				}
			})
		})
	}
}

func TestL2CallerGivesUpWhileWaiting(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(silence)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(5*time.Second, cancel)
		began := time.Now()
		_, err := s.engine.Send(ctx, s.request(lane1))
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("Send returned after %v", d)
		}
		id := s.failedWith(err, iso.Cancelled)
		s.wantStatus(id, journal.Owed)
		s.drain()
		if x := s.host.reversal(1); x.field(39) != "17" {
			t.Errorf("the reversal says %v, want reason 17", x.message)
		}
	})
}

func TestL2EveryCauseOfTheFirmwareIsReversed(t *testing.T) {
	for _, c := range iso.Causes() {
		t.Run(string(c), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				sale := s.sell(lane1)
				s.must(sale.Reverse(c))
				s.must(sale.Reverse(iso.Cancelled)) // again: nil, and the first cause stays
				if e := s.onDisk(sale.ID); e.Status != journal.Owed || e.Cause != string(c) {
					t.Errorf("on disk: %s, cause %q", e.Status, e.Cause)
				}
				s.drain()
				s.wantStatus(sale.ID, journal.Reversed)
				s.must(sale.Reverse(c))
			})
		})
	}
}

// A cause that no profile maps may not keep the customer charged until somebody
// looks: the sale must be reversed by itself all the same, or stay armed.
func TestL2ReverseWithACauseThatNobodyKnows(t *testing.T) {
	for _, cause := range []iso.Cause{"", "printer on fire", iso.Cause(strings.Repeat("x", 65))} {
		t.Run(fmt.Sprintf("%.16q", string(cause)), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(says("10", with(4, "000000000500")))
				sale := s.sell(lane1)
				_ = sale.Reverse(cause) // may refuse; may not lose the sale
				s.drain()
				e := s.wantStatus(sale.ID, journal.Reversed)
				reversals := s.host.heardReversals()
				if len(reversals) == 0 {
					t.Fatalf("no reversal left; the entry is %s: %s", e.Status, e.Parking)
				}
				if x := reversals[0]; x.field(4) != "000000000500" || x.field(38) != "A1B2C3" {
					t.Errorf("what the host had approved is forgotten: %v", x.message)
				}
			})
		})
	}
}

func TestL4AnExchangeThatNeverHeardIsADoubt(t *testing.T) {
	for name, ending := range map[string]error{
		"nil":              nil,
		"line lost":        errReset,
		"time was up":      ErrNoAnswer,
		"deadline":         context.DeadlineExceeded,
		"cancelled":        context.Canceled,
		"looks like L4":    errors.New("not sent"),
		"wrapped no-reply": fmt.Errorf("modem: %w", ErrNoAnswer),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(func(*exchanging) error { return ending })
				_, err := s.send(lane1)
				oneOf(t, err, ErrFailed)
				s.wantStatus(1, journal.Owed)
				s.drain()
				s.wantStatus(1, journal.Reversed)
			})
		})
	}
}

// A reversal that provably did not leave is still owed.
func TestL4ReversalThatDidNotLeaveIsStillOwed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.onReversal(repeated(20, refusedDial)...)
		stop := s.run()
		s.wait(time.Minute)
		s.wantStatus(id, journal.Owed)
		s.wait(24 * time.Hour)
		s.wantStatus(id, journal.Reversed)
		s.must(stop())
	})
}

func TestSendWaitsForItsLaneNoLongerThanItsContext(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(slow(30*time.Second, decline))
		go func() { _, _ = s.send(lane1) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_, err := s.engine.Send(ctx, s.request(lane1))
		oneOf(t, err, ErrNotSent)
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("returned after %v", d)
		}
		s.wait(time.Minute)
		if got := s.entries(); got != 1 {
			t.Errorf("%d entries, want the first sale's only", got)
		}
	})
}

func TestPartialApprovalIsWhatWasApproved(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(says("10", with(4, "000000000500")))
		sale := s.sell(lane1)
		if !sale.Partial || sale.Amount != 500 || sale.Last4 != "1111" || sale.Lane != lane1 || sale.AuthCode != "A1B2C3" {
			t.Errorf("got %+v", sale)
		}
		s.must(sale.Complete())
		if e := s.onDisk(sale.ID); e.ApprovedMinor != 500 || e.Amount.Minor != 1250 {
			t.Errorf("on disk: %+v", e)
		}
	})
}

func TestTransactionsOfOneLaneFollowOneAnother(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(repeated(8, slow(time.Second, decline))...)
		began := time.Now()
		var all sync.WaitGroup
		for _, lane := range slices.Repeat([]journal.Lane{lane1, lane2}, 4) {
			all.Go(func() { _, err := s.send(lane); oneOf(t, err, ErrDeclined) })
		}
		all.Wait() // the host complains of two exchanges at once on a lane
		if d := time.Since(began); d != 4*time.Second {
			t.Errorf("four sales on each of two lanes took %v, want 4s", d)
		}
	})
}
