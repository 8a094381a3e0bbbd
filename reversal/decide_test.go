package reversal

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// The decisions, every one of them around every limit.

func testTimers() iso.Timers {
	return iso.Timers{
		AnswerWithin: 45 * time.Second, SettleWithin: 15 * time.Second, CompleteWithin: 3 * time.Minute,
		OvertakenWindow: 10 * time.Second, Burst: 3, BackoffFirst: 2 * time.Second, BackoffMax: 5 * time.Minute, RefusalsMax: 5,
	}
}

// around is a limit and its neighbours.
func around(limits ...time.Duration) []time.Duration {
	list := []time.Duration{0, 1}
	for _, l := range limits {
		list = append(list, l-1, l, l+1)
	}
	list = append(list, time.Hour, 1000*24*time.Hour)
	slices.Sort(list)
	return slices.Compact(list)
}

// everyDoubt visits all doubts around the limits of t.
func everyDoubt(t iso.Timers, visit func(Doubt)) (n int) {
	counts := []int{0, 1, 2, 3, 4, 5, 6, 11, 12, 100, 100_000}
	if underRace {
		counts = []int{0, 1, 2, 3, 4, 5, 6, 100_000}
	}
	sinceTry := around(t.BackoffFirst, 2*t.BackoffFirst, t.BackoffMax)
	sinceSent := around(t.OvertakenWindow)
	for _, status := range append(journal.Statuses(), 0, 99) {
		for _, attempts := range counts {
			for _, refusals := range counts {
				for _, tries := range counts {
					for _, try := range sinceTry {
						for _, sent := range sinceSent {
							for _, notFound := range []bool{false, true} {
								n++
								visit(Doubt{status, attempts, refusals, tries, try, sent, notFound, 0})
							}
						}
					}
				}
			}
		}
	}
	return n
}

func TestDecideEverything(t *testing.T) {
	tm := testTimers()
	fail := func(d Doubt, got Decision, why string) {
		t.Helper()
		t.Fatalf("%+v\ngives %s %+v: %s", d, got.Do, got, why)
	}
	n := everyDoubt(tm, func(d Doubt) {
		got := Decide(d, tm)
		if again := Decide(d, tm); again != got {
			fail(d, got, "asked again it says something else")
		}
		switch {
		case d.Status != journal.Owed && got != Decision{}:
			fail(d, got, "nothing but what is owed is acted on (L3, L16)")
		case d.Status != journal.Owed:
			return
		case got.Do == Nothing:
			fail(d, got, "what is owed is never left (L8)")
		case (got.Do == Park) != (d.Refusals >= tm.RefusalsMax):
			fail(d, got, "refusals park, and nothing else does (L8)")
		case (got.Do == Park) != (got.Why != ""):
			fail(d, got, "a person is told why, and only then")
		case (got.Do == Send) != (got.Attempt > 0), got.Do == Send && got.Attempt != d.Attempts+1:
			fail(d, got, "the number of the attempt (L6)")
		case (got.Do == Wait) != (got.Wait != 0), got.Wait < 0, got.Wait > max(tm.BackoffMax, tm.OvertakenWindow):
			fail(d, got, "the wait")
		case d.NotFound && d.SinceSent < tm.OvertakenWindow && got.Do == Send:
			fail(d, got, "\"not found\" was too early, and it is too early still (L10)")
		case got.Do != Park && d.NotFound && d.SinceSent >= tm.OvertakenWindow && got.Do != Send:
			fail(d, got, "the window is over: ask once more (L10)")
		case got.Do != Park && !d.NotFound && d.Tries < tm.Burst && got.Do != Send:
			fail(d, got, "a burst has no pauses")
		case got.Do == Wait:
			later := d
			later.SinceTry += got.Wait
			later.SinceSent += got.Wait
			if next := Decide(later, tm); next.Do != Send {
				fail(d, got, fmt.Sprintf("after this wait it says %s %v", next.Do, next.Wait))
			}
		}
	})
	t.Logf("%d doubts decided", n)
}

// Neither the count of attempts nor age changes what is done, but for the number
// (L8).
func TestL8AttemptsAndAgeDecideNothing(t *testing.T) {
	tm := testTimers()
	everyDoubt(tm, func(d Doubt) {
		got := Decide(d, tm)
		young := d
		young.Attempts = 0
		want := Decide(young, tm)
		if want.Do == Send {
			want.Attempt += d.Attempts
		}
		want.Yield = got.Yield // who waits behind it is another matter (L9)
		if got != want {
			t.Fatalf("%+v gives %+v, after no attempt %+v", d, got, want)
		}
		old := d
		old.SinceSent = max(d.SinceSent, tm.OvertakenWindow) + 10*365*24*time.Hour
		if aged := Decide(old, tm); got.Do != Park && aged.Do == Park {
			t.Fatalf("%+v is parked when it is old", d)
		}
	})
}

func TestBackoffDoublesToItsCap(t *testing.T) {
	tm := testTimers()
	var got []time.Duration
	for tries := tm.Burst; tries < tm.Burst+12; tries++ {
		got = append(got, Decide(Doubt{Status: journal.Owed, Attempts: tries, Tries: tries, SinceSent: time.Hour}, tm).Wait)
	}
	var want []time.Duration
	for _, s := range []int{2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300} {
		want = append(want, time.Duration(s)*time.Second)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	tm.BackoffMax = time.Second // below the first: the cap holds
	if w := Decide(Doubt{Status: journal.Owed, Tries: 3}, tm).Wait; w != time.Second {
		t.Errorf("wait %v, the cap is 1s", w)
	}
}

// everyReply visits all replies that can be.
func everyReply(visit func(Reply)) {
	for heard := Lost; heard <= Replied+1; heard++ {
		for _, hasCode := range []bool{false, true} {
			for _, amountOK := range []bool{false, true} {
				for _, request := range []iso.RequestClass{iso.Approve, iso.Partial, iso.Decline, iso.Doubt, "", "APPROVE"} {
					for _, reversal := range []iso.ReversalClass{iso.Confirm, iso.NotFound, iso.Retry, iso.Renew, iso.Refuse, "", "CONFIRM"} {
						for bits := range 4 {
							visit(Reply{heard, hasCode, iso.Code{Code: "00", Name: "approved", Request: request, Reversal: reversal}, amountOK, bits&1 != 0, bits&2 != 0})
						}
					}
				}
			}
		}
	}
}

func TestJudgeRequestEverything(t *testing.T) {
	causes := map[Heard]iso.Cause{Lost: iso.LineLost, Silent: iso.NoAnswer, Dropped: iso.Cancelled, Garbled: iso.Undecodable, Unproven: iso.WrongMAC, Replied: iso.UnknownCode}
	everyReply(func(r Reply) {
		outcome, cause := JudgeRequest(r)
		spoken := r.Heard == Replied && r.HasCode
		class := r.Code.Request
		want := InDoubt
		switch {
		case r.Heard == Unsent:
			want = NothingWasSent // L4
		case spoken && (class == iso.Approve || class == iso.Partial && r.AmountOK):
			want = HostApproved // L5
		case spoken && class == iso.Decline:
			want = HostDeclined // L5
		}
		if outcome != want {
			t.Errorf("%+v: outcome %d, want %d", r, outcome, want)
		}
		if (outcome == InDoubt) != (cause != "") {
			t.Errorf("%+v: outcome %d with cause %q", r, outcome, cause)
		}
		if known, ok := causes[r.Heard]; ok && outcome == InDoubt && cause != known {
			t.Errorf("%+v: cause %q, want %q", r, cause, known)
		}
		if outcome == InDoubt && !slices.Contains(iso.Causes(), cause) {
			t.Errorf("%+v: cause %q has no reason code", r, cause)
		}
	})
	if outcome, cause := JudgeRequest(Reply{}); outcome != InDoubt || cause != iso.LineLost {
		t.Errorf("a reply that nobody filled in: %d, %q", outcome, cause)
	}
}

func TestJudgeEverything(t *testing.T) {
	tm := testTimers()
	for _, since := range append(around(tm.OvertakenWindow), -time.Second) {
		early := since < tm.OvertakenWindow
		everyReply(func(r Reply) {
			spoken := r.Heard == Replied && r.HasCode
			want := NotYet
			switch {
			case r.Heard == Garbled, r.Heard == Replied && !r.HasCode, r.Heard == Unproven && r.Renewed:
				want = Refused
			case r.Heard != Replied:
			case r.Code.Reversal == iso.Confirm, r.Code.Reversal == iso.NotFound && !early && !r.Approved:
				want = Confirmed
			case r.Code.Reversal == iso.NotFound && early:
				want = TooEarly // L10
			case r.Code.Reversal != iso.Retry && (r.Code.Reversal != iso.Renew || r.Renewed):
				want = Refused
			}
			got := Judge(r, since, tm)
			if got != want {
				t.Errorf("%+v %v after the sale: verdict %d, want %d", r, since, got, want)
			}
			if got == Confirmed && !spoken {
				t.Errorf("%+v confirmed without the host's word (L5)", r)
			}
		})
	}
	if v := Judge(Reply{}, time.Hour, tm); v != NotYet {
		t.Errorf("a reply that nobody filled in: verdict %d", v)
	}
}

func TestActionsHaveNames(t *testing.T) {
	for a, want := range map[Action]string{Nothing: "nothing", Send: "send", Wait: "wait", Park: "park"} {
		if a.String() != want {
			t.Errorf("%d is %q", a, a.String())
		}
	}
}

// A wait is stretched by a fifth at most and never made shorter.
func TestSpreadIsAtMostAFifthAndNeverShorter(t *testing.T) {
	tm := testTimers()
	for tries := tm.Burst; tries < tm.Burst+20; tries++ {
		plain := Decide(Doubt{Status: journal.Owed, Tries: tries, SinceSent: time.Hour}, tm)
		for _, spread := range []float64{0, 0.1, 0.5, 0.999} {
			got := Decide(Doubt{Status: journal.Owed, Tries: tries, SinceSent: time.Hour, Spread: spread}, tm)
			if got.Do != Wait || got.Wait < plain.Wait || got.Wait > plain.Wait+plain.Wait/5 {
				t.Fatalf("%d tries, spread %v: %s %v, without it %v", tries, spread, got.Do, got.Wait, plain.Wait)
			}
		}
	}
}
