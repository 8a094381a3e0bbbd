package reversal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// pad is a PIN pad that fails as it is told to.
type pad struct {
	*iso.SoftKeys
	fault func(context.Context) error
	out   atomic.Bool // the fault is on
	calls atomic.Int64
}

func (p *pad) MAC(ctx context.Context, a iso.MACAlgorithm, d []byte) ([]byte, error) {
	p.calls.Add(1)
	if p.out.Load() {
		return nil, p.fault(ctx)
	}
	return p.SoftKeys.MAC(ctx, a, d)
}

// withPad puts an engine over a pad.
func (s *macScene) withPad(fault func(context.Context) error) *pad {
	s.t.Helper()
	p := &pad{SoftKeys: s.keys, fault: fault}
	o := s.options()
	o.Authenticator = p
	e, err := New(o)
	s.must(err)
	s.engine = e
	return p
}

// L8: whatever a PIN pad does, the reversal is neither counted nor parked for it,
// and it goes when the pad is back.
func TestL8APINPadParksNothing(t *testing.T) {
	for name, fault := range map[string]func(context.Context) error{
		"no key":       func(context.Context) error { return fmt.Errorf("pad: %w", iso.ErrNoKey) },
		"line timeout": func(context.Context) error { return errors.New("pad: serial line timed out") },
		"slow": func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(2 * time.Second):
				return errors.New("pad: still busy")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			playIn(t, "unionpay", func(t *testing.T, s *macScene) {
				p := s.withPad(fault)
				id := s.fail(lane1)
				p.out.Store(true)
				p.calls.Store(0)
				s.must(s.runFor(time.Second)) // stopped in the middle of a MAC
				s.must(s.runFor(time.Hour))
				if e := s.entry(id); e.Status != journal.Owed || e.Attempts != 0 {
					t.Errorf("%s, %q, %d attempts", e.Status, e.Parking, e.Attempts)
				}
				if n := p.calls.Load(); n > 200 {
					t.Errorf("the pad was asked %d times in an hour", n)
				}
				p.out.Store(false)
				s.host.toEveryReversal(s.good("00"))
				s.drain()
				s.wantStatus(id, journal.Reversed)
			})
		})
	}
}

// L9, L10: "not found" too early and then a pad without a key: the engine waits,
// and the sign-on that cures it gets the lane.
func TestL10NotFoundAndThenNoKey(t *testing.T) {
	playIn(t, "unionpay", func(t *testing.T, s *macScene) {
		p := s.withPad(func(context.Context) error { return iso.ErrNoKey })
		id := s.fail(lane1)
		s.host.onReversal(func(x *exchanging) error {
			r := s.good("25")(x)
			p.out.Store(true)
			return r
		})
		s.host.toEveryReversal(s.good("00"))
		stop := s.run()
		s.wait(2 * time.Hour)
		if n := p.calls.Load(); n > 400 {
			t.Errorf("%d MACs were asked for in two hours", n)
		}
		p.out.Store(false)
		s.host.onSale(s.signs("00", key2))
		_, err := s.signOn()
		s.must(err)
		s.wait(time.Minute)
		s.wantStatus(id, journal.Reversed)
		s.must(stop())
	})
}

// L12: a host that asks for a sign-on again and again is not stormed: after a
// sign-on that cures nothing its answers count, and a person is called.
func TestL12SignOnsThatCureNothing(t *testing.T) {
	playIn(t, "unionpay", func(t *testing.T, s *macScene) {
		for name, word := range map[string]answer{"batch closed": s.bare("77"), "MAC refused": s.bare("A0"), "never proven": s.bare("00")} {
			id := s.fail(lane1)
			s.host.toEveryReversal(word)
			ctx, cancel := timeout(time.Hour)
			ended := make(chan error)
			go func() { ended <- s.engine.Run(ctx) }()
			for range 30 * 60 {
				s.wait(2 * time.Second)
				if s.entry(id).Status == journal.Owed {
					s.host.onSale(s.signs("00", key1))
					_, _ = s.signOn()
				}
			}
			cancel()
			s.must(<-ended)
			if e := s.entry(id); e.Status != journal.Parked || e.Attempts > 20 {
				t.Errorf("%s: %s after %d attempts and %d refusals", name, e.Status, e.Attempts, e.Refusals)
			}
		}
	})
}

// L5: a late approval that is not proven is no evidence.
func TestL5AForgedLateApproval(t *testing.T) {
	playIn(t, "unionpay", func(t *testing.T, s *macScene) {
		id := s.fail(lane1)
		s.host.onReversal(func(x *exchanging) error {
			x.accept(x.say("00", withMTI("0210"), with(38, "FORGED")))
			return silence(x)
		})
		s.host.toEveryReversal(s.good("25"))
		s.wait(time.Minute)
		stop := s.run()
		s.wait(time.Hour)
		s.wantStatus(id, journal.Reversed)
		s.must(stop())
	})
}

// A sale that finds no key says that a sign-on is wanted.
func TestASaleWithoutAKeyAsksForASignOn(t *testing.T) {
	playIn(t, "unionpay", func(t *testing.T, s *macScene) {
		s.reboot("")
		if _, err := s.send(lane1); !errors.Is(err, ErrNotSent) || len(s.eventsOf(EventSignOn)) == 0 {
			t.Errorf("%v, %d events", err, len(s.eventsOf(EventSignOn)))
		}
	})
}

// Each lane of a device has keys of its own: a sign-on on one changes nothing on
// the other.
func TestLanesHaveKeysOfTheirOwn(t *testing.T) {
	playIn(t, "unionpay", func(t *testing.T, s *macScene) {
		other, err := iso.NewSoftKeys(iso.NewSecret("0123456789ABCDEFFEDCBA9876543210"))
		s.must(err)
		s.must(other.SetMACKey(iso.NewSecret(key2)))
		o := s.options()
		o.Authenticators = func(l journal.Lane) iso.Authenticator {
			if l == lane2 {
				return other
			}
			return s.keys
		}
		s.engine, err = New(o)
		s.must(err)
		s.mayDiffer = true
		for lane, key := range map[journal.Lane]string{lane1: key1, lane2: key2} {
			heard := len(s.host.heardSales())
			s.host.onSale(silence)
			_, err := s.send(lane)
			if !errors.Is(err, ErrFailed) || !s.provenBy(s.host.heardSales()[heard].packed, key) {
				t.Errorf("%s: %v, or a MAC under another key", lane, err)
			}
		}
	})
}

// L8: a request whose reversal the profile cannot express is not even recorded:
// otherwise it would be found out when the customer is charged and it is owed.
func TestL8WhatCannotBeReversedIsNotSent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "greedy.json")
	// DE 61 takes 29 digits, and this makes 40 of them where DE 13 is missing.
	text := `{"schema":1,"name":"greedy","base":"unionpay","reversal":{"set":{"61":"{stan}{13|0000000000000000000000000000000000}"}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	playIn(t, file, func(t *testing.T, s *macScene) {
		_, err := s.send(lane1)
		if !errors.Is(err, ErrNotSent) || !strings.Contains(err.Error(), "could not be reversed") || strings.Contains(err.Error(), "4111") {
			t.Errorf("got %v", err)
		}
		if n := s.entries(); n != 0 || len(s.host.heardSales()) != 0 {
			t.Errorf("%d entries, %d sales sent", n, len(s.host.heardSales()))
		}
	})
}

// L12: the sign-ons of one lane do not restart the burst of another one's
// reversals.
func TestL12ASignOnIsForItsLane(t *testing.T) {
	playIn(t, "unionpay", func(t *testing.T, s *macScene) {
		out := &pad{SoftKeys: s.keys, fault: func(context.Context) error { return iso.ErrNoKey }}
		o := s.options()
		o.Authenticators = func(l journal.Lane) iso.Authenticator {
			if l == lane1 {
				return out
			}
			return s.keys
		}
		e, err := New(o)
		s.must(err)
		s.engine = e
		id := s.fail(lane1)
		out.out.Store(true)
		out.calls.Store(0)
		stop := s.run()
		for range 600 {
			s.wait(2 * time.Second)
			s.host.onSale(s.signs("00", key1))
			_, err := s.engine.SignOn(context.Background(), iso.Request{Acceptor: s.request(lane2).Acceptor})
			s.must(err)
		}
		if n := out.calls.Load(); n > 60 {
			t.Errorf("lane 1 asked its pad %d times while lane 2 signed on", n)
		}
		s.wantStatus(id, journal.Owed)
		s.must(stop())
	})
}
