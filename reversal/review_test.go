package reversal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// L4, L10: when an exchange has ended in doubt nothing more of the request may
// leave. TCP would go on trying to deliver a sale long after its reversal was
// answered "not found"; so the line is aborted, which the host's side sees as a
// reset. After an accepted answer it ends in good order.
func TestL4ADoubtfulLineIsAborted(t *testing.T) {
	p, err := iso.LoadProfile("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answers bool
		want    string
	}{
		"no answer": {false, "connection reset"},
		"answered":  {true, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			ended := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				if _, err := p.ReadFrame(conn); err != nil {
					ended <- err
					return
				}
				if c.answers {
					_ = p.WriteFrame(conn, []byte("answer"))
				}
				_, err = p.ReadFrame(conn)
				ended <- err
			}()
			link, err := NewLink(LinkOptions{Address: l.Addr().String(), Profile: p, AnswerWithin: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			_ = link.Exchange(context.Background(), lane1, []byte("request"), func([]byte) bool { return true })
			if got := <-ended; got == nil || !strings.Contains(got.Error(), c.want) {
				t.Errorf("the host's side saw %v, want %s", got, c.want)
			}
		})
	}
}

// L10: however the exchanger measures its own wait, "not found" right after the
// sale is asked again.
func TestL10TheExchangersOwnWaitDoesNotShortenTheWindow(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.host.onSale(slow(2*time.Second, func(*exchanging) error { return ErrNoAnswer }))
		s.host.onReversal(says("25"), says("25"))
		_, err := s.send(lane1)
		id := s.failedWith(err, iso.NoAnswer)
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); e.Attempts != 2 {
			t.Errorf("%d attempts, want 2", e.Attempts)
		}
	})
}

// L5: "not found" from the host that approved the sale is not its word that the
// sale is undone. A person must look.
func TestL5NotFoundAfterAnApprovalConfirmsNothing(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		s.host.toEveryReversal(says("25"))
		s.must(sale.Reverse(iso.CardDeclined))
		s.drain()
		if e := s.wantStatus(sale.ID, journal.Parked); e.LastCode != "25" {
			t.Errorf("last code %q", e.LastCode)
		}
	})
}

// L3: after a Complete whose write failed nobody knows whether the sale stands,
// and Reverse must not say that it is being reversed.
func TestL3ReverseAfterAnUnknownCompletePromisesNothing(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		s.spoil()
		if err := sale.Complete(); !errors.Is(err, journal.ErrPoisoned) {
			t.Fatalf("scene: %v", err)
		}
		err := sale.Reverse(iso.Cancelled)
		if err == nil || strings.Contains(err.Error(), "will be reversed") || !strings.Contains(err.Error(), "not known") {
			t.Errorf("Reverse says %v", err)
		}
	})
}

// L9: an entry that this host can never answer does not hold up those behind it
// for ever, and is not given up either (L8).
func TestL9PoisonDoesNotHoldUpTheLane(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		poison, behind := s.planted(lane1), s.planted(lane1)
		s.host.toEveryReversal(func(x *exchanging) error {
			if x.entry.ID == poison {
				return lost(x)
			}
			return confirm(x)
		})
		stop := s.run()
		s.wait(24 * time.Hour)
		s.wantStatus(behind, journal.Reversed)
		s.wantStatus(poison, journal.Owed)
		s.host.toEveryReversal(confirm)
		s.wait(time.Hour)
		s.wantStatus(poison, journal.Reversed)
		s.must(stop())
	})
}

// L9: a host that is silent for many terminals does not hold up the others.
func TestL9LanesAreReversedSideBySide(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		for i := range lanesAtOnce - 1 {
			s.planted(journal.Lane{Terminal: fmt.Sprintf("SILENT%02d", i), Merchant: lane1.Merchant})
		}
		good := s.planted(lane2)
		s.host.toEveryReversal(func(x *exchanging) error {
			if x.lane == lane2 {
				return confirm(x)
			}
			return silence(x)
		})
		stop := s.run()
		s.wait(time.Second)
		s.wantStatus(good, journal.Reversed)
		s.host.toEveryReversal(confirm)
		s.wait(time.Hour)
		s.must(stop())
	})
}

// L8, L9: what was sealed under another key shuts its own lane only.
func TestL9AForeignKeyShutsItsLaneOnly(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		foreign := s.planted(lane1)
		s.key = []byte(strings.Repeat("k", journal.KeyBytes))
		s.restart()
		good := s.planted(lane2)
		stop := s.run()
		s.wait(time.Minute)
		s.wantStatus(good, journal.Reversed)
		if e := s.wantStatus(foreign, journal.Owed); e.Attempts != 0 {
			t.Errorf("%d attempts", e.Attempts)
		}
		if err := stop(); !errors.Is(err, journal.ErrKey) {
			t.Errorf("nothing is left that the key opens, and Run says %v", err)
		}
		s.key = deviceKey
		s.restart()
		s.drain()
		s.wantStatus(foreign, journal.Reversed)
	})
}

// L13: Drain does not say that nothing is owed when it cannot read everything.
func TestL13DrainTellsWhatItCannotRead(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		bad, good := s.planted(lane1), s.planted(lane1)
		s.damage(bad)
		if err := s.engine.Drain(t.Context()); !errors.Is(err, journal.ErrPartial) {
			t.Errorf("Drain says %v", err)
		}
		s.wantStatus(good, journal.Reversed)
	})
}

// A line that speaks rubbish before the answer does not hide the answer.
func TestL5RubbishBeforeTheAnswerIsPassedOver(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		after := func(code string) answer {
			return func(x *exchanging) error {
				if x.accept([]byte("WELCOME TO THE SWITCH")) {
					t.Error("a banner was taken for the answer")
				}
				return says(code)(x)
			}
		}
		s.host.onSale(after("00"))
		s.must(s.sell(lane1).Complete())
		id := s.fail(lane1)
		s.host.onReversal(after("00"))
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); e.Attempts != 1 || e.Refusals != 0 {
			t.Errorf("%d attempts, %d refusals", e.Attempts, e.Refusals)
		}
	})
}

// L8: only an operator takes a parked entry up again.
func TestL8ReverseDoesNotUnpark(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		sale := s.sell(lane1)
		s.host.toEveryReversal(says("05"))
		s.must(sale.Reverse(iso.Cancelled))
		s.drain()
		s.wantStatus(sale.ID, journal.Parked)
		s.must(sale.Reverse(iso.Cancelled))
		s.wantStatus(sale.ID, journal.Parked)
	})
}

// A caller whose context has ended takes nothing away from anybody.
func TestSendWithAnEndedContextLeavesTheLaneAlone(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 {
			sale := s.sell(lane1)
			_, err := s.engine.Send(ended, s.request(lane1))
			oneOf(t, err, ErrNotSent)
			s.must(sale.Complete())
		}
	})
}
