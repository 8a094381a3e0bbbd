package reversal

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// Laws L5, L7 and L10: what the host's word is worth.

// foreign are answers that belong to something else, whatever their code says.
var foreign = map[string]answer{
	"wrong trace number":       says("00", with(11, "999999")),
	"no trace number":          says("00", without(11)),
	"wrong terminal":           says("00", with(41, "TERM0009")),
	"no terminal":              says("00", without(41)),
	"other lane's terminal":    says("00", with(41, lane2.Terminal)),
	"wrong merchant":           says("00", with(42, "MERCHANT0000002")),
	"no merchant":              says("00", without(42)),
	"wrong processing code":    says("00", with(3, "200000")),
	"higher amount":            says("00", with(4, "000000001251")),
	"lower amount":             says("00", with(4, "000000001249")),
	"partial of more":          says("10", with(4, "000000001251")),
	"wrong currency":           says("00", with(49, "978")),
	"answer of an advice":      says("00", withMTI("0430")),
	"answer of an inquiry":     says("00", withMTI("0110")),
	"answer of a management":   says("00", withMTI("0810")),
	"answer with repeat digit": func(x *exchanging) error { return says("00", withMTI(x.mti[:2]+"11"))(x) },
	"request of the same kind": func(x *exchanging) error { return says("00", withMTI(x.mti))(x) },
	"our own message":          raw(func(x *exchanging) []byte { return x.packed }),
}

// wordless are answers that are ours and say nothing.
var wordless = map[string]answer{
	"no code":              says("00", without(39)),
	"empty code":           says(""),
	"code 0":               says("0"),
	"code space 0":         says(" 0"),
	"code not listed":      says("ZZ"),
	"code in other digits": raw(spelled("\xd9\xa0\xd9\xa0")),
	"code 000":             raw(spelled("000")),
	"code space 00":        raw(spelled(" 00")),
	"code 00 and a zero":   raw(spelled("00\x00")),
	"half a message":       raw(func(x *exchanging) []byte { m := x.say("00"); return m[:len(m)/2] }),
	"one byte too many":    raw(func(x *exchanging) []byte { return append(x.say("00"), '0') }),
	"nothing at all":       raw(func(*exchanging) []byte { return nil }),
	"rubbish":              rubbish,
}

// spelled is an approval whose DE 39 is not spelled as the profile says.
func spelled(code string) func(*exchanging) []byte {
	return func(x *exchanging) []byte {
		before, after, _ := strings.Cut(string(x.say("K7")), "K7")
		return []byte(before + code + after)
	}
}

func TestL5ForeignAnswerConfirmsNothing(t *testing.T)  { confirmsNothing(t, foreign) }
func TestL5WordlessAnswerConfirmsNothing(t *testing.T) { confirmsNothing(t, wordless) }

// The host answers the first reversal so, and the second as it should: exactly
// the second one counts.
func confirmsNothing(t *testing.T, answers map[string]answer) {
	for name, wrong := range answers {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				id := s.fail(lane1)
				s.host.onReversal(wrong)
				s.drain()
				reversals := s.host.heardReversals()
				if len(reversals) != 2 || reversals[1].entry.Status != journal.Owed {
					t.Fatalf("%d reversals left, want 2: the first answer confirmed it", len(reversals))
				}
				s.wantStatus(id, journal.Reversed)
				if n := len(s.eventsOf(EventConfirmed)); n != 1 {
					t.Errorf("told as confirmed %d times", n)
				}
			})
		})
	}
}

func TestL5ForeignAnswerNeitherApprovesNorDeclinesASale(t *testing.T) {
	for name, wrong := range foreign {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(wrong)
				_, err := s.send(lane1)
				id := s.failedWith(err, iso.NoAnswer) // passed over, then silence
				s.wantStatus(id, journal.Owed)
				if len(s.eventsOf(EventStray)) != 1 {
					t.Error("the stray was not told")
				}
			})
		})
	}
}

func TestL5ForeignDeclineDoesNotDecline(t *testing.T) {
	for name, change := range map[string]change{
		"wrong trace number": with(11, "999999"), "wrong terminal": with(41, "TERM0009"),
		"wrong merchant": with(42, "M2"), "wrong processing code": with(3, "200000"), "wrong kind": withMTI("0430"),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(says("05", change))
				_, err := s.send(lane1)
				s.failedWith(err, iso.NoAnswer)
			})
		})
	}
}

func TestL5WordlessAnswerNeitherApprovesNorDeclinesASale(t *testing.T) {
	for name, wrong := range wordless {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(wrong)
				_, err := s.send(lane1)
				oneOf(t, err, ErrFailed)
				s.wantStatus(1, journal.Owed)
			})
		})
	}
}

// Every code that can be spelled: only "00", and "25" after its time, confirm.
func TestL5OnlyListedCodesConfirm(t *testing.T) {
	const letters = "0123456789AZaz "
	play(t, func(t *testing.T, s *scene) {
		for _, a := range letters {
			for _, b := range letters {
				code := string([]rune{a, b})
				got := Judge(Reply{Heard: Replied, HasCode: strings.TrimRight(code, " ") != "", Code: s.profile.Code(strings.TrimRight(code, " "))}, time.Hour, s.timers)
				if want := code == "00" || code == "25"; (got == Confirmed) != want {
					t.Errorf("code %q gives verdict %d", code, got)
				}
			}
		}
	})
}

func TestL5HostThatOmitsTheAmountIsStillUnderstood(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.onReversal(says("00", without(4), without(7), without(49)))
		s.drain()
		s.wantStatus(id, journal.Reversed)
		if n := len(s.host.heardReversals()); n != 1 {
			t.Errorf("%d reversals left, want 1", n)
		}
	})
}

// A firmware that fills its identifiers up with spaces, as DE 41 and DE 42 go on
// the wire, asks for nothing else: the host's answers must still be recognised,
// or every sale fails and no reversal is ever confirmed.
func TestL5IdentifiersFilledUpWithSpacesStillMatch(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		r := s.request(journal.Lane{Terminal: "TERM7   ", Merchant: "SHOP 9         "})
		sale, err := s.engine.Send(t.Context(), r)
		switch {
		case err == nil:
			s.must(sale.Complete())
		case errors.Is(err, ErrNotSent): // refused before anything left: as good
		default:
			t.Errorf("a host that answers at once was not understood: %v", err)
		}
		s.host.toEveryReversal(confirm)
		ctx, cancel := timeout(time.Hour)
		defer cancel()
		if err := s.engine.Drain(ctx); err != nil {
			t.Errorf("an hour of good answers later: %v", err)
		}
	})
}

func TestL7LateApprovalIsEvidenceAndChangesNothing(t *testing.T) {
	for name, then := range map[string]answer{"then confirmed": confirm, "then silence": silence, "then the line drops": lost} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				id := s.fail(lane1)
				s.host.onReversal(func(x *exchanging) error {
					if x.accept(lateApproval(x)) {
						t.Error("the late approval ended the reversal")
						return nil
					}
					if e := s.entry(id); e.Status != journal.Owed || len(stepsOf(e, journal.StepLate)) != 1 {
						t.Errorf("after the late approval the journal says %s, %v", e.Status, e.Steps)
					}
					return then(x)
				})
				s.drain()
				e := s.wantStatus(id, journal.Reversed)
				if late := stepsOf(e, journal.StepLate); len(late) != 1 || late[0].Note != "00" {
					t.Errorf("the evidence is %v", late)
				}
				if e.AuthCode != "" {
					t.Errorf("the late answer changed the entry: authorization code %q", e.AuthCode)
				}
				if got := s.eventsOf(EventLate); len(got) != 1 || got[0].ID != id || got[0].Code != "00" {
					t.Errorf("events %+v", got)
				}
			})
		})
	}
}

func TestL7LateDeclineDoesNotStopTheReversal(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.onReversal(func(x *exchanging) error {
			if x.accept(x.say("05", withMTI("0210"))) {
				t.Error("the late decline ended the reversal")
			}
			return silence(x)
		})
		s.drain()
		s.wantStatus(id, journal.Reversed)
		if n := len(s.host.heardReversals()); n != 2 {
			t.Errorf("%d reversals left, want 2", n)
		}
	})
}

func TestL7LateAnswerOfAnotherSaleIsAStray(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.onReversal(func(x *exchanging) error {
			x.accept(x.say("00", withMTI("0210"), with(11, "777777")))
			return confirm(x)
		})
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); len(stepsOf(e, journal.StepLate)) != 0 {
			t.Errorf("somebody else's answer became evidence: %v", e.Steps)
		}
	})
}

// The evidence is kept, however long the reversal goes on after it.
func TestL7EvidenceOutlivesALongOutage(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.host.onReversal(repeated(25, silence)...)
		s.host.onReversal(func(x *exchanging) error { x.accept(lateApproval(x)); return silence(x) })
		s.host.onReversal(repeated(40, silence)...)
		s.drain()
		e := s.wantStatus(id, journal.Reversed)
		if len(stepsOf(e, journal.StepLate)) != 1 {
			t.Errorf("after %d attempts the late approval is gone from the record", e.Attempts)
		}
	})
}

func TestL10NotFoundTooEarlyIsAskedAgainAfterTheWindow(t *testing.T) {
	for name, second := range map[string]answer{"not found again": says("25"), "found this time": confirm} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				stop := s.run()
				s.host.onSale(lost)
				s.host.onReversal(says("25"), second)
				_, err := s.send(lane1)
				id := s.failedWith(err, iso.LineLost)
				s.wait(5 * time.Second)
				s.wantStatus(id, journal.Owed)
				s.wait(time.Minute)
				s.must(stop())

				s.wantStatus(id, journal.Reversed)
				sold, reversals := s.host.heardSales()[0].at, s.host.heardReversals()
				if len(reversals) != 2 {
					t.Fatalf("%d reversals left, want 2", len(reversals))
				}
				if d := reversals[0].at.Sub(sold); d >= s.timers.OvertakenWindow {
					t.Fatalf("scene: the first reversal left after %v", d)
				}
				d := reversals[1].at.Sub(sold)
				if d < s.timers.OvertakenWindow || d > s.timers.OvertakenWindow*6/5 {
					t.Errorf("asked again %v after the sale, the window is %v", d, s.timers.OvertakenWindow)
				}
				if n := s.entry(id).Refusals; n != 0 {
					t.Errorf("%d refusals counted", n)
				}
			})
		})
	}
}

func TestL10NotFoundAfterTheWindowCountsAtOnce(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1) // until the exchange ends the sale may be on its way
		s.wait(s.timers.OvertakenWindow)
		s.host.onReversal(says("25"))
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); e.Attempts != 1 || e.LastCode != "25" {
			t.Errorf("%d attempts, last code %q", e.Attempts, e.LastCode)
		}
	})
}

// After a restart nobody knows when the original left: the window starts anew.
func TestL10AfterARestartTheWindowStartsAnew(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		id := s.fail(lane1)
		s.restart()
		s.host.onReversal(says("25"), says("25"))
		began := time.Now()
		s.drain()
		if e := s.wantStatus(id, journal.Reversed); e.Attempts != 2 {
			t.Errorf("%d attempts, want 2", e.Attempts)
		}
		if d := time.Since(began); d < s.timers.OvertakenWindow {
			t.Errorf("confirmed after %v", d)
		}
	})
}

func TestL10WindowHoldsForTheNextSendAndForWake(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		stop := s.run()
		s.host.onSale(lost)
		s.host.onReversal(says("25"), says("25"))
		_, err := s.send(lane1)
		id := s.failedWith(err, iso.LineLost)
		for range 3 {
			s.engine.Wake()
			s.wait(time.Second)
		}
		next := s.sell(lane1) // waits for the window, which is shorter than its patience
		s.must(next.Complete())
		s.must(stop())
		s.wantStatus(id, journal.Reversed)
		sold, reversals := s.host.heardSales()[0].at, s.host.heardReversals()
		if len(reversals) != 2 || reversals[1].at.Sub(sold) < s.timers.OvertakenWindow {
			t.Errorf("%d reversals left, the last %v after the sale", len(reversals), reversals[len(reversals)-1].at.Sub(sold))
		}
	})
}

// The window is counted from when the original left, not from when the engine
// began to dial: a modem needs its time.
func TestL10WindowStartsWhenTheOriginalLeft(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		var left time.Time
		s.host.onSale(slow(s.timers.OvertakenWindow+2*time.Second, func(x *exchanging) error {
			left = time.Now() // dialled at last; the bytes go, then the line drops
			return lost(x)
		}))
		s.host.onReversal(says("25"), confirm) // overtaken; the sale is booked in between
		_, err := s.send(lane1)
		id := s.failedWith(err, iso.LineLost)
		s.drain()
		s.wantStatus(id, journal.Reversed)
		if reversals := s.host.heardReversals(); len(reversals) != 2 {
			t.Errorf("\"not found\" %v after the original left was believed: the host has booked the sale since", reversals[0].at.Sub(left))
		}
	})
}

func stepsOf(e journal.Entry, kind journal.StepKind) []journal.Step {
	return slices.DeleteFunc(slices.Clone(e.Steps), func(st journal.Step) bool { return st.Kind != kind })
}
