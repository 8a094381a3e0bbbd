package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// tight lets the journal keep next to nothing: whatever may go is to go.
func (s *scene) tight() { s.while(func() { s.j.maxBytes, s.j.keepSteps = 1, 0 }) }

// while does something to the journal while it stands still.
func (s *scene) while(do func()) {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.j.still()
	do()
}

func (s *scene) verified(what string) *Report {
	s.t.Helper()
	report, err := s.j.Verify(context.Background(), nil)
	if err := errors.Join(err, report.Err()); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return report
}

// mixed takes n entries to statuses drawn by chance, and gives their ids by status.
func (s *scene) mixed(n int, chance *rand.Rand, of ...Status) map[Status][]ID {
	s.t.Helper()
	ids := map[Status][]ID{}
	for range n {
		status := of[chance.IntN(len(of))]
		ids[status] = append(ids[status], s.entryAt(status))
	}
	return ids
}

// L8: whatever was pruned, however often, every entry that is open or parked is there
// as it was, can be settled, and the chain holds; all that was settled goes in the end.
func TestL8PruningNeverTakesWhatIsOpen(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	chance := rand.New(rand.NewPCG(newSeed(t), 30))
	file := s.j.wal.file
	open := map[ID]Entry{}
	for round := range 4 {
		s.j.wal.file = hasty{file}
		s.tight()
		ids := s.mixed(80, chance, append(Statuses(), slices.Repeat([]Status{Completed, Declined, NotSent}, 6)...)...)
		for _, status := range []Status{Begun, Owed, Parked} {
			for _, id := range ids[status] {
				open[id] = s.entry(id)
			}
		}
		s.j.background.Wait()
		s.j.wal.file = file
		for _, then := range []func(){func() {}, s.reopen, func() { s.must(s.j.Compact()) }} {
			then()
			s.tight()
			removed, err := s.j.Prune()
			s.must(err)
			left := collect(t, s.j, Query{})
			for id, e := range open {
				same(t, fmt.Sprint("round ", round), s.entry(id), e)
			}
			for _, id := range left {
				if e := s.entry(id); !unsettledNow(e.Status) && id < ids[Completed][0] {
					t.Errorf("round %d: entry %d, %s, is still there", round, id, e.Status)
				}
			}
			report := s.verified(fmt.Sprintf("round %d, %d removed", round, removed))
			if report.Anchor == 0 || report.Entries != len(left) {
				t.Errorf("round %d: anchor %d, %d entries of %d", round, report.Anchor, report.Entries, len(left))
			}
		}
		file = s.j.wal.file
		for id, e := range open { // some of what outlived its row is settled
			if chance.IntN(3) == 0 {
				s.finish(id, e.Status)
				delete(open, id)
			}
		}
		s.verified("settled")
	}
	for id, e := range open {
		s.finish(id, e.Status)
	}
	s.must(s.j.NotSent(s.begin())) // steps behind them
	s.tight()
	_, err := s.j.Prune()
	s.must(err)
	if left := collect(t, s.j, Query{}); len(left) > 1 {
		t.Errorf("all is settled, and %v are left", left)
	}
	s.verified("in the end")
}

func (s *scene) finish(id ID, from Status) {
	s.t.Helper()
	switch from {
	case Begun:
		s.must(s.j.Complete(id, approved))
	default:
		s.must(s.j.Confirm(id, "00"))
	}
}

// The oldest go first, evidence of reversals last, and no more than the size wants.
func TestL8EvidenceOfReversalsIsKeptLongest(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.j.keepSteps = 0
	s.j.wal.file = hasty{s.j.wal.file}
	s.j.store.db.NoSync = true
	for n := range 6000 {
		if n%100 == 0 {
			s.entryAt(Reversed)
		} else {
			s.must(s.j.Complete(s.begin(), approved))
		}
	}
	s.must(s.j.flush())
	space, err := s.j.store.space()
	s.must(err)
	s.j.maxBytes = space.used() / 2
	removed, err := s.j.Prune()
	s.must(err)
	space, err = s.j.store.space()
	s.must(err)
	if removed < 2000 || removed > 5700 || space.used() > s.j.maxBytes {
		t.Errorf("%d removed; %d bytes, %d allowed", removed, space.used(), s.j.maxBytes)
	}
	var plain, proof []ID
	for e, err := range s.j.Entries(Query{}) {
		s.must(err)
		if evidence(&record{Entry: e}) {
			proof = append(proof, e.ID)
		} else {
			plain = append(plain, e.ID)
		}
	}
	if len(plain) == 0 || len(proof) == 0 || plain[len(plain)-1] != 6000 {
		t.Fatalf("%d and %d are left, the newest is %d", len(plain), len(proof), plain[len(plain)-1])
	}
	for i, id := range plain[1:] { // none between the oldest that is left and the newest is missing
		if id > plain[i]+2 {
			t.Fatalf("%d to %d went before %d", plain[i]+1, id-1, plain[i])
		}
	}
	back, far := 6000-plain[0], 6000-proof[0]
	if want := min(keepFactor*back, 5999); far > want+200 || far+400 < want {
		t.Errorf("plain entries go back %d, evidence %d; want about %d", back, far, want)
	}
	var by []ID
	for e, err := range s.j.Entries(Query{}) {
		if s.must(err); e.RRN == approved.RRN {
			by = append(by, e.ID)
		}
	}
	if got := collect(t, s.j, Query{RRN: approved.RRN}); !slices.Equal(got, by) { // most of the group is gone, its places are not
		t.Errorf("the index finds %d, there are %d", len(got), len(by))
	}
	s.verified("half")
}

// L12: age is how long the device was on. The wall clock may say what it likes.
func TestL12PruningByAgeAsksNoWallClock(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	up := time.Hour
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	set := func() {
		s.while(func() {
			s.j.uptime, s.j.now, s.j.keepFor = func() time.Duration { return up }, func() time.Time { return at }, 24*time.Hour
			s.j.wal.file = hasty{s.j.wal.file}
		})
	}
	set()
	first := s.entryAt(Completed)
	s.must(s.j.flush())
	for _, clock := range []time.Time{{}, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)} {
		at, up = clock, up+time.Hour
		s.entryAt(Completed)
		if n, err := s.j.Prune(); n != 0 || err != nil {
			t.Fatalf("%d removed because the clock says %s: %v", n, clock, err)
		}
	}
	s.reopen() // another process on the same boot
	set()
	up += 22*time.Hour - 10*time.Minute
	last := s.entryAt(Completed)
	s.must(s.j.flush())
	if n, err := s.j.Prune(); n != 1 || err != nil {
		t.Errorf("after a day of being on %d entries went, want the first: %v", n, err)
	}
	wantErr(t, "the first", second(s.j.Entry(first)), ErrNoEntry)
	s.j.boot++ // the device was off, for who knows how long
	up = time.Minute
	s.entryAt(Completed)
	s.must(s.j.flush())
	if n, err := s.j.Prune(); n != 0 || err != nil {
		t.Errorf("%d went because the device was off: %v", n, err)
	}
	for range 4 { // days
		up += 24 * time.Hour
		s.entryAt(Completed)
		s.must(s.j.flush())
	}
	_, err := s.j.Prune()
	s.must(err)
	wantErr(t, "one from before that", second(s.j.Entry(last)), ErrNoEntry)
	if left := collect(t, s.j, Query{}); len(left) != 1 {
		t.Errorf("%v are left", left)
	}
	s.verified("by age")
}

// counted counts what a file is asked for.
type counted struct {
	dataFile
	syncs *int
}

func (c counted) Datasync() error { *c.syncs++; return nil }

// Pruning costs a sale no write and no sync, and keeps up with them.
func TestPruningGoesAlongWithTheSales(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	syncs := 0
	s.j.wal.file, s.j.store.db.NoSync = counted{s.j.wal.file, &syncs}, true
	s.j.keepSteps = 200
	const sales, room = 4000, 400 << 10
	s.j.maxBytes = room
	most := int64(0)
	for range sales {
		s.must(s.j.Complete(s.begin(), approved))
		s.j.mu.Lock()
		if !s.j.applying {
			space, err := s.j.store.space()
			s.must(err)
			most = max(most, space.used())
		}
		s.j.mu.Unlock()
	}
	if syncs != 2*sales {
		t.Errorf("%d syncs for %d sales", syncs, sales)
	}
	if left := len(collect(t, s.j, Query{})); left > sales/2 || left < 100 || most > 2*room {
		t.Errorf("%d entries are left, and the store had %d bytes at most; %d were allowed", left, most, int64(room))
	}
	report := s.verified("along with the sales")
	if report.Anchor < sales {
		t.Errorf("the chain begins at step %d of %d", report.Anchor, 2*sales)
	}
}

// A step on an entry that is about to go keeps it; one that comes later finds it gone.
func TestL8AStepKeepsWhatWasToBePruned(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.tight()
	id := s.entryAt(Reversed)
	s.begin()
	s.must(s.j.flush())
	if s.j.plan == nil || !s.j.plan.gone.has(id) {
		t.Fatal("scene: nothing is planned")
	}
	s.must(s.j.Late(id, approved))
	if e := s.entry(id); e.Steps[len(e.Steps)-1].Kind != StepLate {
		t.Errorf("the last step is %s", e.Steps[len(e.Steps)-1].Kind)
	}
	s.begin() // a step behind it
	s.must(s.j.flush())
	s.begin()
	wantErr(t, "Late", s.j.Late(id, approved), ErrNoEntry)
	s.reopen()
	wantErr(t, "Late after reopening", s.j.Late(id, approved), ErrNoEntry)
	s.verified("then")
}

// A plan fits into the smallest region in front of any step, whatever it names.
func TestAPlanIsBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.j.wal.file = hasty{s.j.wal.file}
	for range 250 { // every other one stays
		s.must(s.j.NotSent(s.begin()))
		s.begin()
	}
	s.must(s.j.flush())
	for range 20 {
		s.tight()
		p, err := s.j.planBesideSteps()
		s.must(err)
		if p == nil {
			break
		}
		if int64(len(p.payload)) > s.j.wal.region/16 {
			t.Fatalf("a plan of %d bytes", len(p.payload))
		}
		if _, err := s.j.pruneStep(); !errors.Is(err, errNoPlan) {
			s.must(err)
		}
	}
	if left := collect(t, s.j, Query{}); len(left) != 250 {
		t.Errorf("%d are left, want 250", len(left))
	}
}

// Verify knows what was pruned, and what was not: an entry that came back, one that
// outlived its row and was changed or taken away.
func TestL8L13VerifyAfterPruning(t *testing.T) {
	t.Parallel()
	build := func() (s *scene, gone, owed ID, old []byte) {
		s = newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
		s.tight()
		gone, owed = s.entryAt(Completed), s.entryAt(Owed)
		s.must(s.j.flush())
		old = s.value(bucketEntries, key(gone))
		for range 3 {
			s.entryAt(Completed)
			s.must(s.j.flush())
		}
		s.tight()
		s.must(second(s.j.Prune()))
		s.must(s.j.flush())
		if r := s.verified("pruned"); r.Anchor < s.entry(owed).Steps[1].Seq {
			t.Fatalf("scene: anchor %d, %v", r.Anchor, s.entry(owed).Steps)
		}
		return s, gone, owed, old
	}
	for name, harm := range map[string]func(s *scene, tx *bolt.Tx, gone, owed ID, old []byte) error{
		"came back": func(_ *scene, tx *bolt.Tx, gone, _ ID, old []byte) error {
			return tx.Bucket(bucketEntries).Put(key(gone), old)
		},
		"changed": func(s *scene, tx *bolt.Tx, _, owed ID, _ []byte) error {
			rec, err := decode(owed, tx.Bucket(bucketEntries).Get(key(owed)))
			rec.Status = Reversed
			return errors.Join(err, tx.Bucket(bucketEntries).Put(key(owed), rec.encode()), list(tx, owed, Reversed))
		},
		"taken away": func(_ *scene, tx *bolt.Tx, _, owed ID, _ []byte) error {
			return errors.Join(tx.Bucket(bucketEntries).Delete(key(owed)), list(tx, owed, Reversed))
		},
	} {
		s, gone, owed, old := build()
		s.must(s.j.store.db.Update(func(tx *bolt.Tx) error { return harm(s, tx, gone, owed, old) }))
		report, err := s.j.Verify(t.Context(), nil)
		if s.must(err); report.Err() == nil {
			t.Errorf("%s: Verify sees nothing", name)
		}
		s.close()
	}
}

// L3, L8: a page that was freed still has an entry that was pruned, in the form in
// which it was armed. Quarantine must not bring it back to be reversed; and what was
// owed and outlived its row is owed still.
func TestL3L8QuarantineAfterPruning(t *testing.T) {
	t.Parallel()
	for _, harm := range []string{"a row", "a row, and the notes of pruning", "the notes"} {
		cut := harm != "a row"
		s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
		s.tight()
		var sales []ID
		for range 20 {
			sales = append(sales, s.begin())
		}
		owed := s.entryAt(Owed)
		s.must(s.j.flush()) // all of them armed, on pages that will be freed
		for _, id := range sales {
			s.must(s.j.Complete(id, approved))
		}
		s.must(s.j.flush())
		for range 4 {
			s.entryAt(NotSent)
			s.must(s.j.flush())
		}
		s.must(second(s.j.Prune()))
		s.must(s.j.flush())
		s.must(s.j.flush())
		if left := collect(t, s.j, Query{To: owed}); !slices.Equal(left, []ID{owed}) {
			t.Fatalf("scene: %v are left", left)
		}
		if cut {
			s.must(s.j.store.db.Update(func(tx *bolt.Tx) error {
				return deleteKeys(tx.Bucket(bucketNotes), nil, func([]byte) bool { return true })
			}))
		}
		if harm != "the notes" {
			s.must(s.j.store.db.Update(func(tx *bolt.Tx) error {
				k, _ := tx.Bucket(bucketChain).Cursor().Last()
				return tx.Bucket(bucketChain).Put(k, []byte("not a row"))
			}))
		}
		s.close()
		salvaged, err := Quarantine(s.opts)
		s.must(err)
		s.open()
		list, err := s.j.Owed()
		s.must(err)
		for _, e := range list {
			if e.ID != owed {
				t.Errorf("%s: entry %d, pruned and completed, is owed", harm, e.ID)
			}
		}
		armed, err := s.j.Armed()
		if s.must(err); len(armed) > 0 {
			t.Errorf("%s: armed: %v", harm, armed)
		}
		if status := s.entry(owed).Status; status != Owed && status != Parked {
			t.Errorf("what was owed is %s", status)
		}
		if !cut && slices.ContainsFunc(salvaged.Parked, func(id ID) bool { return slices.Contains(sales, id) }) {
			t.Errorf("pruned sales are parked: %v", salvaged.Parked)
		}
		s.close()
	}
}

// A few entries that stay do not keep the index of all that went: what is left of it is
// small, and finds them.
func TestTheIndexOfAFewIsSmall(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.j.wal.file, s.j.store.db.NoSync = hasty{s.j.wal.file}, true
	var parked []ID
	for n := range 3000 {
		if n%1000 == 0 {
			parked = append(parked, s.entryAt(Parked))
		}
		s.must(s.j.Complete(s.begin(), approved))
	}
	s.tight()
	s.must(second(s.j.Prune()))
	s.must(s.j.flush())
	if got := collect(t, s.j, Query{AmountMinor: price.Minor, To: parked[2]}); !slices.Equal(got, parked) {
		t.Errorf("the index finds %v, parked are %v", got, parked)
	}
	keys := 0
	s.must(s.j.store.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketIndex).ForEach(func(_, _ []byte) error { keys++; return nil })
	}))
	if keys > 20 {
		t.Errorf("%d packs for %d entries", keys, len(collect(t, s.j, Query{})))
	}
	s.verified("a few")
}
