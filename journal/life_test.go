package journal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What each step writes down, step by step through a whole life, reopened after
// each.
func TestL3ALifeInFull(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	d := s.draft(lane1)
	id, err := s.j.Begin(d)
	s.must(err)
	want := s.entry(id)
	same(t, "begun", want, Entry{
		ID: id, Journal: s.j.ID(), Lane: lane1, STAN: 1, Type: "sale", MTI: "0200", Amount: price, Last4: "1111", Status: Begun,
		BegunAt: want.BegunAt, ChangedAt: want.BegunAt, Steps: []Step{stamped(Step{Kind: StepBegin, At: want.BegunAt}, want.Steps[0])},
	})
	lives := []struct {
		take   func() error
		change func()
		noted  Step
	}{
		{func() error { return s.j.Owe(id, "bad MAC", approved) },
			func() {
				want.Status, want.Cause, want.Code, want.AuthCode, want.RRN = Owed, "bad MAC", "00", "A1B2C3", "602001000017"
			}, Step{Kind: StepOwe, Note: "bad MAC"}},
		{func() error { return attempt(s.j, id, 1) }, func() { want.Attempts = 1 }, Step{Kind: StepAttempt, N: 1}},
		{func() error { return s.j.Refuse(id, "96") }, func() { want.Refusals, want.LastCode = 1, "96" }, Step{Kind: StepRefuse, Note: "96"}},
		{func() error { return attempt(s.j, id, 2) }, func() { want.Attempts = 2 }, Step{Kind: StepAttempt, N: 2}},
		{func() error { return s.j.Park(id, "refused") }, func() { want.Status, want.Parking = Parked, "refused" }, Step{Kind: StepPark, Note: "refused"}},
		{func() error { return s.j.Late(id, Answer{Code: "08"}) }, func() {}, Step{Kind: StepLate, Note: "08", Late: &Answer{Code: "08"}}},
		{func() error { return s.j.Confirm(id, "00") }, func() { want.Status, want.LastCode = Reversed, "00" }, Step{Kind: StepConfirm, Note: "00"}},
	}
	for _, l := range lives {
		s.must(l.take())
		l.change()
		s.reopen()
		got := s.entry(id)
		l.noted.At = got.ChangedAt
		seq := want.Steps[len(want.Steps)-1].Seq
		if l.noted = stamped(l.noted, got.Steps[len(got.Steps)-1]); l.noted.Seq <= seq || l.noted.Boot == 0 {
			t.Errorf("%s: step %d of boot %d after step %d", l.noted.Kind, l.noted.Seq, l.noted.Boot, seq)
		}
		want.Steps, want.ChangedAt = append(want.Steps, l.noted), got.ChangedAt
		same(t, string(l.noted.Kind), got, want)
	}
}

// stamped is a step with the sequence and the clock of another.
func stamped(s, from Step) Step {
	s.Seq, s.Boot, s.SinceBoot = from.Seq, from.Boot, from.SinceBoot
	return s
}

// L8: however long the texts of a history are, the entry can be brought to its end.
func TestL8ALongHistoryDoesNotKeepAnEntryFromItsEnd(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	long := strings.Repeat("<", textMax) // six bytes each, as JSON has it
	for range 60 {
		s.must(s.j.Late(id, Answer{Code: long, AuthCode: long, RRN: long}))
		s.must(attempt(s.j, id, s.entry(id).Attempts+1))
		s.must(s.j.Refuse(id, long))
	}
	s.must(s.j.Confirm(id, "00"))
	s.reopen()
	if e := s.entry(id); e.Status != Reversed || e.Attempts != 60 || e.Steps[0].Kind != StepBegin {
		t.Errorf("%s after %d attempts, %d steps kept", e.Status, e.Attempts, len(e.Steps))
	}
}

func attempt(j *Journal, id ID, want int) error {
	n, err := j.Attempt(id)
	if err == nil && n != want {
		return fmt.Errorf("attempt %d says it is number %d", want, n)
	}
	return err
}

func TestCompleteAndDeclineKeepTheAnswer(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	partial := approved
	partial.ApprovedMinor = 1000
	done, declined := s.begin(), s.begin()
	s.must(s.j.Complete(done, partial))
	s.must(s.j.Decline(declined, refused))
	s.reopen()
	if e := s.entry(done); e.Code != "00" || e.AuthCode != "A1B2C3" || e.RRN != "602001000017" || e.ApprovedMinor != 1000 || e.Amount != price {
		t.Errorf("completed: %+v", e)
	}
	if e := s.entry(declined); e.Code != "05" || e.RRN != "602001000018" {
		t.Errorf("declined: %+v", e)
	}
}

// L2: begun and left alone it stays armed, over any number of openings.
func TestL2DoingNothingLeavesItArmed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	for range 3 {
		s.reopen()
		armed, err := s.j.Armed()
		s.must(err)
		if len(armed) != 1 || armed[0].ID != id || armed[0].Status != Begun {
			t.Fatalf("armed: %+v", armed)
		}
	}
}

// L6: the number is durable when Attempt returns, and goes on where it was.
func TestL6AttemptsSurviveReopening(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	for want := 1; want <= 5; want++ {
		n, err := s.j.Attempt(id)
		s.must(err)
		s.reopen()
		if e := s.entry(id); n != want || e.Attempts != want || e.Status != Owed {
			t.Fatalf("attempt %d: returned %d, after reopening %d (%s)", want, n, e.Attempts, e.Status)
		}
	}
	s.must(s.j.Park(id, "enough"))
	s.must(s.j.Owe(id, "try again", silence))
	if n, err := s.j.Attempt(id); n != 6 || err != nil {
		t.Errorf("after parking and trying again: attempt %d, %v; want 6", n, err)
	}
}

// The history of one entry is bounded, its counts are exact, and both its
// beginning and its latest steps are kept.
func TestL6CountsStayExactOverALongHistory(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	for want := 1; want <= 200; want++ {
		if n, err := s.j.Attempt(id); n != want || err != nil {
			t.Fatalf("attempt %d: %d %v", want, n, err)
		}
		s.must(s.j.Refuse(id, "96"))
	}
	s.reopen()
	e := s.entry(id)
	if e.Attempts != 200 || e.Refusals != 200 {
		t.Errorf("%d attempts, %d refusals; want 200 each", e.Attempts, e.Refusals)
	}
	if len(e.Steps) > 100 || len(e.Steps) < 10 {
		t.Errorf("the history has %d steps", len(e.Steps))
	}
	first, last := e.Steps[0], e.Steps[len(e.Steps)-2:]
	if first.Kind != StepBegin || e.Steps[1].Kind != StepOwe || last[0].Kind != StepAttempt || last[0].N != 200 || last[1].Kind != StepRefuse {
		t.Errorf("the history lost its beginning or its end: %+v", e.Steps)
	}
	if !slices.IsSortedFunc(e.Steps, func(a, b Step) int { return a.At.Compare(b.At) }) {
		t.Errorf("the history is out of order: %+v", e.Steps)
	}
}

// "The cause of the first Owe stays: every repeat must be the same message."
func TestL8TheFirstCauseStays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	s.must(s.j.Owe(id, "no answer", silence))
	wantCauseStays(s, id, "no answer")
}

// No cause at all is a first cause too, unless it is refused.
func TestL8AnEmptyFirstCauseStays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	if err := s.j.Owe(id, "", silence); err != nil {
		wantErr(t, "Owe", err, ErrInvalid)
		return
	}
	wantCauseStays(s, id, "")
}

func wantCauseStays(s *scene, id ID, first string) {
	s.t.Helper()
	for range 2 {
		s.must(s.j.Park(id, "refused"))
		s.must(s.j.Owe(id, "operator asked", silence))
		s.reopen()
		if e := s.entry(id); e.Cause != first || e.Status != Owed || e.Parking != "" {
			s.t.Errorf("cause %q, %s, parking %q; want cause %q", e.Cause, e.Status, e.Parking, first)
		}
	}
}

// An Owe that heard nothing does not wipe what the host said before.
func TestOweAgainKeepsTheAnswer(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	s.must(s.j.Owe(id, "chip said no", approved))
	s.must(s.j.Park(id, "refused"))
	s.must(s.j.Owe(id, "operator asked", silence))
	if e := s.entry(id); e.Code != "00" || e.AuthCode != "A1B2C3" || e.RRN != "602001000017" {
		t.Errorf("the answer is gone: %+v", e)
	}
}

// L7: a late approval changes nothing but the history.
func TestL7LateChangesNothing(t *testing.T) {
	t.Parallel()
	for _, status := range []Status{Owed, Parked, Reversed} {
		s := newScene(t)
		id := s.entryAt(status)
		before := s.entry(id)
		s.must(s.j.Late(id, approved))
		s.reopen()
		after := s.entry(id)
		before.Steps, before.ChangedAt = after.Steps, after.ChangedAt
		same(t, "late answer to an entry that is "+status.String(), after, before)
	}
}

// L7: "it is kept as evidence": the whole answer, not only its code.
func TestL7TheLateAnswerIsKeptWhole(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	s.must(s.j.Late(id, Answer{Code: "00", AuthCode: "LATE01", RRN: "602001009999", ApprovedMinor: 777}))
	s.reopen()
	shown := asJSON(s.entry(id))
	for _, fact := range []string{"LATE01", "602001009999", "777"} {
		if !strings.Contains(shown, fact) {
			t.Errorf("%s of the late answer is nowhere in the entry: %s", fact, shown)
		}
	}
}

// L7: the evidence outlives the attempts that follow it.
func TestL7TheLateAnswerOutlivesTheHistoryBound(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	for range 30 {
		s.must(second(s.j.Attempt(id)))
	}
	s.must(s.j.Late(id, approved))
	for range 60 {
		s.must(second(s.j.Attempt(id)))
	}
	e := s.entry(id)
	if !slices.ContainsFunc(e.Steps, func(st Step) bool { return st.Kind == StepLate }) {
		t.Errorf("60 attempts after a late approval nothing of it is left: %d steps %+v", len(e.Steps), e.Steps)
	}
}

// L12: whatever the clock says, every step still works.
func TestL12AnAbsurdClock(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Time{
		"1970": time.Unix(0, 0), "year 0": {}, "1900": time.Unix(-2208988800, 0), "2106": time.Unix(1<<32, 0),
		"year 12000": time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), "an odd zone": time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("LMT", 3*3600+17)),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			forgotten := s.begin()
			s.j.now = func() time.Time { return at }
			wantErr(t, "Owe", s.j.Owe(forgotten, "no answer", silence), nil)
			if _, err := s.j.Begin(s.draft(lane2)); err != nil {
				t.Errorf("Begin: %v", err)
			}
		})
	}
}

// L12: a clock that jumps back does not reorder what is owed.
func TestL12OldestFirstWhateverTheClock(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var want []ID
	for range 5 {
		s.ticks.Add(-1000)
		want = append(want, s.entryAt(Owed))
	}
	s.reopen()
	owed, err := s.j.Owed()
	s.must(err)
	if got := ids(owed); !slices.Equal(got, want) {
		t.Errorf("owed %v, want %v", got, want)
	}
}

func TestL8OwedAndParkedAreListedOldestFirst(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	a, b, c, d := s.begin(), s.begin(), s.begin(), s.begin()
	for _, id := range []ID{d, a, c} { // owed in another order than begun
		s.must(s.j.Owe(id, "no answer", silence))
	}
	s.must(s.j.Park(c, "refused"))
	s.must(s.j.Park(a, "refused"))
	s.reopen()
	armed, err1 := s.j.Armed()
	owed, err2 := s.j.Owed()
	parked, err3 := s.j.Parked()
	s.must(err1)
	s.must(err2)
	s.must(err3)
	if !slices.Equal(ids(armed), []ID{b}) || !slices.Equal(ids(owed), []ID{d}) || !slices.Equal(ids(parked), []ID{a, c}) {
		t.Errorf("armed %v, owed %v, parked %v", ids(armed), ids(owed), ids(parked))
	}
}

// Many goroutines may use one journal: every id is its own, nothing is lost.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	const callers, each = 8, 10
	done := make(chan ID, callers*each)
	for range callers {
		go func() {
			for range each {
				id, err := s.j.Begin(Draft{Lane: lane1, STAN: 1, Type: "sale", MTI: "0200", Amount: price})
				if err == nil {
					err = s.j.Owe(id, "no answer", silence)
				}
				if _, e := s.j.Owed(); e != nil {
					err = e
				}
				if err != nil {
					t.Errorf("step: %v", err)
				}
				done <- id
			}
		}()
	}
	seen := map[ID]bool{}
	for range callers * each {
		seen[<-done] = true
	}
	s.reopen()
	owed, err := s.j.Owed()
	s.must(err)
	if len(seen) != callers*each || len(owed) != callers*each {
		t.Errorf("%d ids, %d owed; want %d", len(seen), len(owed), callers*each)
	}
}

func second[T any](_ T, err error) error { return err }

func ids(list []Entry) (out []ID) {
	for _, e := range list {
		out = append(out, e.ID)
	}
	return out
}
