package journal

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// The trace number that a reversal has of its own (ISO 8583:1993): as durable as
// the sale's, the same for every repeat, never given to another message.

// beginPair begins with the two trace numbers given and settles it, or leaves it
// armed.
func (s *scene) beginPair(lane Lane, stan, own uint32, status Status) ID {
	s.t.Helper()
	d := plainDraft()
	d.Lane, d.STAN, d.ReversalSTAN = lane, stan, own
	id, err := s.j.Begin(d)
	s.must(err)
	s.takeTo(id, status)
	return id
}

// takePair takes two numbers and begins with them.
func (s *scene) takePair(lane Lane, status Status) (id ID, stan, own uint32) {
	s.t.Helper()
	stan, err := s.j.NextSTAN(lane)
	s.must(err)
	own, err = s.j.NextSTAN(lane)
	s.must(err)
	return s.beginPair(lane, stan, own, status), stan, own
}

// crash is a power cut: the next life opens a copy of the file as it is at this
// moment, and the journal of this one is only closed so that the test may end.
func (s *scene) crash(t testing.TB) {
	s.t.Helper()
	s.j.background.Wait() // a cut takes all files at one moment, a copy does not
	dir := copyJournal(t, s.opts.Dir, nil)
	s.close()
	s.opts.Dir = dir
	s.open()
}

func TestReversalSTANStaysTheSameWhateverHappens(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id, stan, own := s.takePair(lane1, Begun)
	if stan != 1 || own != 2 {
		t.Fatalf("scene: %d, %d", stan, own)
	}
	steps := []func() error{
		func() error { return s.j.Owe(id, "no answer", silence) },
		func() error { _, err := s.j.Attempt(id); return err },
		func() error { return s.j.Refuse(id, "904") },
		func() error { _, err := s.j.Attempt(id); return err },
		func() error { return s.j.Late(id, approved) },
		func() error { return s.j.Park(id, "refused") },
		func() error { return s.j.Owe(id, "another cause", silence) },
		func() error { return s.j.Confirm(id, "400") },
	}
	for i, step := range steps {
		s.must(step())
		if i%2 == 0 {
			s.reopen()
		} else {
			s.crash(t)
		}
		if e := s.entry(id); e.STAN != stan || e.ReversalSTAN != own {
			t.Errorf("after step %d: trace numbers %d and %d, want %d and %d", i+1, e.STAN, e.ReversalSTAN, stan, own)
		}
	}
}

func TestReversalSTANIsSeenFromOutside(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id, _, own := s.takePair(lane1, Owed)
	dir := copyJournal(t, s.opts.Dir, nil)
	look, err := Inspect(dir, time.Second)
	s.must(err)
	defer func() { _ = look.Close() }()
	if e, err := look.Entry(id); err != nil || e.ReversalSTAN != own {
		t.Errorf("Inspect says %d %v, want %d", e.ReversalSTAN, err, own)
	}
}

func TestReversalSTANIsNotHandedOutAgainAfterACrash(t *testing.T) {
	t.Parallel()
	for _, status := range []Status{Begun, Owed, Parked, Reversed, Completed, Declined, NotSent} {
		t.Run(status.String(), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			_, _, own := s.takePair(lane1, status)
			s.crash(t)
			s.wantSTAN(lane1, own+1)
		})
	}
}

// The two numbers are one step: a cut before Begin returned leaves both unused,
// a cut after it both used.
func TestReversalSTANIsDurableWithItsEntry(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wantSTAN(lane1, 1)
	s.wantSTAN(lane1, 2)
	s.crash(t)
	s.wantSTAN(lane1, 1)
	s.wantSTAN(lane1, 2)
	id := s.beginPair(lane1, 1, 2, Begun)
	s.crash(t)
	if e := s.entry(id); e.STAN != 1 || e.ReversalSTAN != 2 {
		t.Errorf("after the cut: %d and %d", e.STAN, e.ReversalSTAN)
	}
	s.wantSTAN(lane1, 3)
}

func TestReversalSTANIsPassedOverWhileItIsInUse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.beginPair(lane1, 10, 1, Begun)
	s.beginPair(lane1, 11, 2, Owed)
	s.beginPair(lane1, 12, 3, Parked)
	s.beginPair(lane1, 13, 4, Completed)
	s.beginPair(lane1, 14, 5, Reversed)
	s.beginPair(lane2, 15, 6, Owed)
	s.beginPair(lane1, 999_997, 999_998, Completed)
	s.reopen()
	for _, want := range []uint32{999_999, 4, 5, 6, 7, 8, 9, 13, 14} {
		s.wantSTAN(lane1, want)
	}
	s.wantSTAN(lane2, 7)
}

func TestReversalSTANWraps(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.beginAs(lane1, 999_998, Completed)
	s.reopen()
	_, stan, own := s.takePair(lane1, Owed)
	if stan != 999_999 || own != 1 {
		t.Fatalf("took %d and %d, want 999999 and 1", stan, own)
	}
	s.crash(t)
	s.wantSTAN(lane1, 2)
	s.reopen()
	s.beginAs(lane1, 999_998, Completed)
	s.reopen()
	s.wantSTAN(lane1, 2) // 999999 and 1 are owed
}

// Two goroutines take two numbers each and begin in the other order.
func TestReversalSTANBegunOutOfOrder(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for want := uint32(1); want <= 4; want++ {
		s.wantSTAN(lane1, want)
	}
	s.beginPair(lane1, 2, 4, Completed)
	s.beginPair(lane1, 1, 3, Completed)
	s.crash(t)
	s.wantSTAN(lane1, 5)
}

func TestReversalSTANThatCannotBe(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, own := range []uint32{7, 1_000_000, 1<<32 - 1} {
		d := plainDraft()
		d.STAN, d.ReversalSTAN = 7, own
		if id, err := s.j.Begin(d); id != 0 || !errors.Is(err, ErrInvalid) {
			t.Errorf("%d beside 7: entry %d, %v", own, id, err)
		}
	}
	d := plainDraft()
	d.STAN = 7
	id, err := s.j.Begin(d) // none is one
	s.must(err)
	if e := s.entry(id); e.ReversalSTAN != 0 {
		t.Errorf("an entry without one has %d", e.ReversalSTAN)
	}
}

// Whatever comes between, no number that was begun is given out a second time,
// and no crash turns it loose.
func TestReversalSTANModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 1))
	s := newScene(t)
	begun := map[Lane]map[uint32]ID{lane1: {}, lane2: {}}
	for i := range 150 {
		lane := []Lane{lane1, lane2}[chance.IntN(2)]
		var numbers []uint32
		for range 1 + chance.IntN(3) {
			n, err := s.j.NextSTAN(lane)
			s.must(err)
			if id := begun[lane][n]; id != 0 {
				t.Fatalf("seed %d, round %d: %d is given out again; entry %d has it", seed, i, n, id)
			}
			numbers = append(numbers, n)
		}
		switch last := len(numbers) - 1; {
		case last > 0 && chance.IntN(4) > 0:
			status := []Status{Begun, Owed, Parked, Reversed, Completed, Declined, NotSent}[chance.IntN(7)]
			id := s.beginPair(lane, numbers[0], numbers[last], status)
			begun[lane][numbers[0]], begun[lane][numbers[last]] = id, id
		case chance.IntN(3) == 0:
			s.crash(t)
		case chance.IntN(3) == 0:
			s.reopen()
		}
	}
}
