package journal

import (
	"testing"
	"time"
)

// keptForADay is a journal that keeps entries for a day of the clock that it gives, which
// stands at one hour.
func keptForADay(t *testing.T) (*scene, *time.Duration) {
	t.Helper()
	s, up := newScene(t), time.Hour
	s.j.uptime, s.j.keepFor = func() time.Duration { return up }, 24*time.Hour
	s.j.wal.file, s.j.store.db.NoSync = hasty{s.j.wal.file}, true
	return s, &up
}

// KeepFor is a day: a reversal that was confirmed two hours ago stays, however many steps
// were taken since.
func TestEvidenceStaysForKeepForWhateverTheSteps(t *testing.T) {
	t.Parallel()
	s, up := keptForADay(t)
	doubt := s.entryAt(Owed)
	other := s.entryAt(Owed)
	s.entryAt(Completed)
	s.must(s.j.flush())
	*up += 40 * time.Hour
	s.must(s.j.Confirm(doubt, "00")) // reversed now
	s.must(s.j.flush())
	*up += time.Minute
	for range 1100 { // the other one is tried and tried, two hours long
		*up += 7 * time.Second
		s.must(second(s.j.Attempt(other)))
	}
	s.must(s.j.flush())
	space, _ := s.j.store.space()
	t.Logf("store uses %d of %d bytes", space.used(), s.j.maxBytes)
	_, err := s.j.Prune()
	s.must(err)
	if _, err := s.j.Entry(doubt); err != nil {
		t.Errorf("reversed two hours ago, kept for at least 24 hours (evidence 96): %v", err)
	}
}

// Evidence is kept four times as long as KeepFor, also behind a day without sales.
func TestEvidenceIsKeptFourTimesAsLong(t *testing.T) {
	t.Parallel()
	s, up := keptForADay(t)
	for range 50 {
		s.entryAt(Completed)
	}
	doubt := s.entryAt(Reversed)
	for range 50 {
		s.entryAt(Completed)
	}
	s.must(s.j.flush())
	*up += 25 * time.Hour // a day of rest
	s.entryAt(Completed)
	s.must(s.j.flush())
	n, err := s.j.Prune()
	s.must(err)
	if _, err := s.j.Entry(doubt); err != nil {
		t.Errorf("%d went; reversed 25 hours ago, evidence is kept 96 hours: %v", n, err)
	}
}

// A terminal that compacts every night, before a region is full, prunes all the same.
func TestCompactEveryNightPrunesToo(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	up := time.Hour
	for range 10 { // days
		s.tight()
		s.j.uptime, s.j.keepFor = func() time.Duration { return up }, time.Hour
		for range 20 {
			s.entryAt(Completed)
		}
		up += 24 * time.Hour
		s.must(s.j.Compact())
	}
	if left := collect(t, s.j, Query{}); len(left) == 200 {
		t.Errorf("%d entries of 200 are left, the device was on %s as far as the journal knows", len(left), s.j.state.Ran)
	}
}

// Where the boot id cannot be read every open counts as a boot: the time since boot is not
// counted again with each.
func TestL12OpenedOftenWithoutABootID(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	up := 240 * time.Hour // on for ten days
	set := func() {
		s.j.boot++ // what noteBoot does for an id of ""
		s.j.bootNote = marshalNote(boot{s.j.boot, ""})
		s.j.uptime, s.j.keepFor = func() time.Duration { return up }, 24*time.Hour
		s.j.wal.file = hasty{s.j.wal.file}
	}
	set()
	id := s.entryAt(Completed)
	s.must(s.j.flush())
	s.reopen() // a minute later
	set()
	up += time.Minute
	s.entryAt(Completed)
	s.must(s.j.flush())
	if n, err := s.j.Prune(); n != 0 || err != nil {
		t.Errorf("%d went after a minute, kept for 24 hours; %v: %v", n, second(s.j.Entry(id)), err)
	}
}

// Twenty parked entries do not keep the chain from being pruned.
func TestTheChainIsPrunedBesideParkedEntries(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.tight()
	s.j.wal.file, s.j.store.db.NoSync = hasty{s.j.wal.file}, true
	for range 20 {
		s.entryAt(Parked)
	}
	for range 4000 {
		s.entryAt(NotSent)
	}
	s.must(second(s.j.Prune()))
	s.must(second(s.j.Prune()))
	r := s.verified("x")
	space, _ := s.j.store.space()
	t.Logf("%d entries, anchor %d of %d, %d bytes used", r.Entries, r.Anchor, r.Head.Seq, space.used())
	if r.Anchor < 4000 {
		t.Errorf("%d rows of the chain stay beside %d entries: the anchor is %d", r.Steps, r.Entries, r.Anchor)
	}
}
