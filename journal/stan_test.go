package journal

import (
	"slices"
	"testing"
)

func (s *scene) wantSTAN(lane Lane, want uint32) {
	s.t.Helper()
	if got, err := s.j.NextSTAN(lane); got != want || err != nil {
		s.t.Errorf("next trace number of %s: %d %v, want %d", lane, got, err, want)
	}
}

// beginAs begins with a given trace number and settles it, or leaves it armed.
func (s *scene) beginAs(lane Lane, stan uint32, status Status) ID {
	s.t.Helper()
	d := plainDraft()
	d.Lane, d.STAN = lane, stan
	id, err := s.j.Begin(d)
	s.must(err)
	s.takeTo(id, status)
	return id
}

func TestSTANBeginsAtOneAndCounts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for want := uint32(1); want <= 3; want++ {
		s.wantSTAN(lane1, want)
	}
}

func TestSTANLanesAreIndependent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.beginAs(lane1, 500, Owed)
	s.beginAs(lane2, 20, Completed)
	s.reopen()
	s.wantSTAN(lane1, 501)
	s.wantSTAN(lane2, 21)
	s.wantSTAN(Lane{lane1.Terminal, "OTHERMERCHANT01"}, 1)
	s.wantSTAN(Lane{"TERM0003", lane1.Merchant}, 1)
}

// DE 41 and DE 42 may hold any printable character, the slash too.
func TestSTANLanesWithASlash(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.beginAs(Lane{"A/B", "C"}, 500, Completed)
	s.reopen()
	s.wantSTAN(Lane{"A", "B/C"}, 1)
	s.wantSTAN(Lane{"A/B", "C"}, 501)
}

func TestSTANSurvivesReopening(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for want := uint32(1); want <= 3; want++ {
		s.wantSTAN(lane1, want)
		s.beginAs(lane1, want, Completed)
		s.reopen()
	}
	s.wantSTAN(lane1, 4) // taken, never begun: a gap, or taken again after reopening
	s.reopen()
	s.wantSTAN(lane1, 4)
}

func TestSTANWraps(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.beginAs(lane1, 999_998, Completed)
	s.reopen()
	s.wantSTAN(lane1, 999_999)
	s.wantSTAN(lane1, 1)
	s.beginAs(lane1, 999_999, Completed)
	s.reopen()
	s.wantSTAN(lane1, 1)
}

// What armed, owed and parked entries of the lane still use is passed over;
// settled ones and other lanes' are not in the way.
func TestSTANPassesOverWhatIsInUse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.beginAs(lane1, 1, Begun)
	s.beginAs(lane1, 2, Owed)
	s.beginAs(lane1, 3, Parked)
	s.beginAs(lane1, 4, Completed)
	s.beginAs(lane1, 5, Reversed)
	s.beginAs(lane2, 6, Owed)
	s.beginAs(lane1, 999_999, Begun)
	s.beginAs(lane1, 999_998, Completed)
	s.reopen()
	s.wantSTAN(lane1, 4)
	s.wantSTAN(lane1, 5)
	s.wantSTAN(lane1, 6)
}

// Two goroutines take a number each and begin in the other order. A number that
// was begun is not given out again.
func TestSTANBegunOutOfOrder(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wantSTAN(lane1, 1)
	s.wantSTAN(lane1, 2)
	s.beginAs(lane1, 2, Completed)
	s.beginAs(lane1, 1, Completed)
	s.wantSTAN(lane1, 3)
	s.reopen()
	if n, err := s.j.NextSTAN(lane1); n < 3 || err != nil {
		t.Errorf("after reopening: %d %v; 1 and 2 are begun already", n, err)
	}
}

// A number that Begin was given without NextSTAN counts at once.
func TestSTANFollowsBegin(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.wantSTAN(lane1, 1)
	s.beginAs(lane1, 70, Completed)
	if n, err := s.j.NextSTAN(lane1); err != nil || slices.Contains([]uint32{1, 70}, n) {
		t.Errorf("%d %v", n, err)
	}
}

// A journal that took the place of a lost one does not begin where that one did:
// in forty new journals the first trace number is hardly ever the same.
func TestFirstTraceNumberIsDrawn(t *testing.T) {
	t.Parallel()
	seen := map[uint32]int{}
	for range 40 {
		j, err := Open(Options{Dir: t.TempDir(), DeviceKey: deviceKey})
		if err != nil {
			t.Fatal(err)
		}
		stan, err := j.NextSTAN(lane1)
		if err != nil || stan < 1 || stan > stanMax {
			t.Errorf("first number %d, %v", stan, err)
		}
		if next, err := j.NextSTAN(lane1); err != nil || next != stan%stanMax+1 {
			t.Errorf("after %d comes %d, %v", stan, next, err)
		}
		seen[stan]++
		_ = j.Close()
	}
	if len(seen) < 35 {
		t.Errorf("40 new journals began with %d numbers", len(seen))
	}
	if _, err := Open(Options{Dir: t.TempDir(), FirstSTAN: stanMax + 1}); err == nil {
		t.Error("a first number of seven digits was taken")
	}
}
