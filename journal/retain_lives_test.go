package journal

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// L8, L13: an entry that was owed, outlived its row and cannot be read is named by
// Quarantine.
func TestL8L13QuarantineNamesAKeptEntryThatIsLost(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.tight()
	s.entryAt(Completed)
	owed := s.entryAt(Owed)
	for range 4 {
		s.entryAt(Completed)
		s.must(s.j.flush())
	}
	s.must(second(s.j.Prune()))
	s.must(s.j.flush())
	s.must(s.j.Compact())
	report := s.verified("compacted")
	if report.Anchor < s.entry(owed).Steps[1].Seq {
		t.Fatalf("scene: anchor %d, %v", report.Anchor, s.entry(owed).Steps)
	}
	s.close()
	db := boltFile(t, s.path(storeName))
	s.must(db.Update(func(tx *bolt.Tx) error {
		v := slices.Clone(tx.Bucket(bucketEntries).Get(key(owed)))
		v[10] ^= 0xff
		return tx.Bucket(bucketEntries).Put(key(owed), v)
	}))
	s.must(db.Close())
	wipeForm(t, s.path(storeName), owed) // on the page that bbolt freed
	salvaged, err := Quarantine(s.opts)
	s.must(err)
	s.open()
	defer s.close()
	_, err = s.j.Entry(owed)
	if err != nil && !slices.Contains(salvaged.Lost, owed) {
		t.Errorf("entry %d was owed, is gone (%v), and Salvaged.Lost does not name it: %v; the list of those kept does", owed, err, salvaged.Lost)
	}
}

// wipeForm changes every whole form of an entry in a file.
func wipeForm(t *testing.T, path string, id ID) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(b)-20; i++ {
		if b[i] != recordVersion || b[i+1] != fieldStatus<<3 {
			continue
		}
		for n := 60; n < 1200 && i+n <= len(b); n++ {
			if _, err := decode(id, b[i:i+n]); err == nil {
				b[i+12] ^= 0xff
				break
			}
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func boltFile(t *testing.T, path string) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// All sales were pruned but one that is owed, and the store's meta pages are gone: no id is
// given out again.
func TestNoIDIsGivenOutAgainAfterPruningAndQuarantine(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.tight()
	owed := s.entryAt(Owed)
	var last ID
	for range 50 {
		last = s.entryAt(Completed)
	}
	s.must(s.j.flush())
	for range 70 {
		second(s.j.Attempt(owed))
	}
	s.must(s.j.flush())
	s.must(second(s.j.Prune()))
	s.must(s.j.flush())
	s.must(s.j.Compact())
	for range 200 {
		second(s.j.Attempt(owed))
	}
	s.must(s.j.flush())
	t.Logf("left %v, last id %d", collect(t, s.j, Query{}), last)
	s.close()
	overwrite(t, s.opts.Dir, storeName, 0, 8192)
	salvaged, err := Quarantine(s.opts)
	s.must(err)
	s.open()
	defer s.close()
	id := s.begin()
	if id <= last {
		t.Errorf("id %d is given out again, the last was %d; end unknown %v", id, last, salvaged.EndUnknown)
	}
	if e, err := s.j.Entry(owed); err != nil || !unsettledNow(e.Status) {
		t.Errorf("owed: %v %v", e.Status, err)
	}
}

// L8: lives by chance, with pruning, failed writes and new files: what is open stays as it
// is, Verify agrees, beside the journal too, and the index finds what a scan finds.
func TestL8RandomLivesWithPruning(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		chance := rand.New(rand.NewPCG(seed, 77))
		s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
		open := map[ID]Status{}
		done := map[ID]Status{}
		setup := func() {
			s.j.keepSteps, s.j.maxBytes = uint64(chance.IntN(40)), 1
			s.j.wal.file = hasty{s.j.wal.file}
			s.j.store.db.NoSync = true
		}
		setup()
		for n := range 300 {
			switch chance.IntN(14) {
			case 0:
				s.must(s.j.flush())
			case 1:
				if chance.IntN(4) == 0 {
					s.j.wal.file = s.j.wal.file.(hasty).dataFile
					s.must(s.j.Compact())
					setup()
				}
			case 2:
				if chance.IntN(3) == 0 {
					s.reopen()
					setup()
				}
			case 3:
				s.must(second(s.j.Prune()))
			case 4: // a failed write
				file := s.j.wal.file
				s.j.wal.file = failing{file, chance.IntN(2) == 0}
				_, err := s.j.Begin(plainDraft())
				s.j.wal.file = file
				if err == nil {
					t.Fatal("?")
				}
				if chance.IntN(2) == 0 {
					if err := s.j.Recover(); err != nil {
						t.Fatalf("seed %d, %d: %v", seed, n, err)
					}
				} else {
					s.reopen()
				}
				setup()
				list, err := s.j.Armed()
				s.must(err)
				for _, e := range list {
					open[e.ID] = Begun
				}
			case 5, 6, 7:
				for id, st := range open {
					s.finish(id, st)
					done[id] = s.entry(id).Status
					delete(open, id)
					break
				}
			default:
				st := Statuses()[chance.IntN(8)]
				id := s.entryAt(st)
				if unsettledNow(st) {
					open[id] = st
				} else {
					done[id] = st
				}
			}
			if n%10 == 0 {
				r, err := s.j.Verify(t.Context(), nil)
				if err := errors.Join(err, r.Err()); err != nil {
					t.Fatalf("seed %d, %d: %v", seed, n, err)
				}
				snap, err := Inspect(s.opts.Dir, time.Second)
				s.must(err)
				r, err = snap.Verify(t.Context(), nil, nil)
				if err := errors.Join(err, r.Err(), snap.Damage()); err != nil {
					t.Fatalf("seed %d, %d: snapshot %v", seed, n, err)
				}
				_ = snap.Close()
				for id, st := range open {
					if e := s.entry(id); e.Status != st {
						t.Fatalf("seed %d, %d: entry %d is %s, was %s", seed, n, id, e.Status, st)
					}
				}
				var want []ID
				for e, err := range s.j.Entries(Query{}) {
					s.must(err)
					if e.RRN == approved.RRN {
						want = append(want, e.ID)
					}
					if !unsettledNow(e.Status) && done[e.ID] != e.Status {
						t.Fatalf("entry %d %s, was %s", e.ID, e.Status, done[e.ID])
					}
				}
				if got := collect(t, s.j, Query{RRN: approved.RRN}); !slices.Equal(got, want) {
					t.Fatalf("seed %d, %d: index %v, scan %v", seed, n, got, want)
				}
			}
		}
		s.close()
	}
}

// L3, L8: journals that pruned, damaged by chance: Quarantine brings nothing settled back as
// open, nothing open back as settled, and loses nothing without a word.
func TestL3L8QuarantineOfPrunedLives(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		chance := rand.New(rand.NewPCG(seed, 78))
		s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
		state := map[ID]Status{}
		s.j.wal.file = hasty{s.j.wal.file}
		s.j.store.db.NoSync = true
		for range 150 {
			s.j.keepSteps, s.j.maxBytes = uint64(chance.IntN(40)), 1
			switch chance.IntN(10) {
			case 0:
				s.must(s.j.flush())
			case 1:
				s.must(second(s.j.Prune()))
			case 2, 3, 4:
				for id, st := range state {
					if unsettledNow(st) {
						s.finish(id, st)
						state[id] = s.entry(id).Status
						break
					}
				}
			default:
				st := Statuses()[chance.IntN(8)]
				state[s.entryAt(st)] = st
			}
		}
		s.must(s.j.flush())
		there := map[ID]bool{}
		for _, id := range collect(t, s.j, Query{}) {
			there[id] = true
		}
		s.close()
		for name, wound := range wounds {
			for range 2 {
				dir := copyJournal(t, s.opts.Dir, nil)
				wound(t, dir, chance)
				o := s.opts
				o.Dir = dir
				salvaged, err := Quarantine(o)
				if err != nil {
					continue
				}
				c := newSceneIn(t, dir)
				seen := map[ID]bool{}
				for e, err := range c.j.Entries(Query{}) {
					c.must(err)
					seen[e.ID] = true
					was := state[e.ID]
					if !unsettledNow(was) && (e.Status == Begun || e.Status == Owed) {
						t.Errorf("seed %d %s: entry %d was %s and is %s", seed, name, e.ID, was, e.Status)
					}
					if unsettledNow(was) && !unsettledNow(e.Status) {
						t.Errorf("seed %d %s: entry %d was %s and is %s", seed, name, e.ID, was, e.Status)
					}
				}
				for id, was := range state {
					if there[id] && !seen[id] && !slices.Contains(salvaged.Lost, id) && !salvaged.EndUnknown {
						t.Errorf("seed %d, %s: entry %d (%s) is gone, and nothing says so; unread %d, lost steps %d", seed, name, id, was, salvaged.UnreadPages, salvaged.LostSteps)
					}
				}
				r, err := c.j.Verify(t.Context(), nil)
				if err := errors.Join(err, r.Err()); err != nil {
					t.Errorf("verify %v", err)
				}
				c.close()
			}
		}
	}
}

// L3: all that is left of an entry is a form older than the anchor in which it was armed,
// and the list of those kept cannot be read: it may have been finished since.
func TestL3WhatIsOlderThanTheAnchorIsNotReversedUnasked(t *testing.T) {
	t.Parallel()
	rec := &record{Entry: Entry{ID: 1, Lane: lane1, STAN: 1, Status: Begun, Steps: []Step{{Kind: StepBegin, Seq: 5}}}}
	rec.value = rec.encode()
	form := &found{rec: rec, value: rec.value}
	for name, c := range map[string]struct {
		kept   map[ID]digest
		parked bool
	}{
		"no list":         {nil, true},
		"as it was kept":  {map[ID]digest{1: digestOf(rec.value)}, false},
		"kept otherwise":  {map[ID]digest{1: {1, 2, 3}}, true},
		"kept are others": {map[ID]digest{7: {1, 2, 3}}, false},
	} {
		s := &Salvaged{ledger: map[ID]*found{1: form}, steps: map[uint64]ID{5: 1}, anchor: 50, newest: 50, lastID: 1, kept: c.kept}
		s.judge()
		if got := slices.Contains(s.Parked, 1); got != c.parked {
			t.Errorf("%s: parked %v", name, got)
		}
		if _, stayed := c.kept[1]; (len(s.ledger) == 1) != (stayed || c.kept == nil) {
			t.Errorf("%s: %d entries are carried", name, len(s.ledger))
		}
	}
}

// The newest id that is known never goes back, whatever notes are read behind it.
func TestSalvageCountsIDsUpwards(t *testing.T) {
	t.Parallel()
	s := &Salvaged{lastID: 50}
	for _, p := range []pruned{{}, {From: 10}, {Gone: spans{{3, 9}}, From: 10}, {From: 51}} {
		if s.prune(p); s.lastID != 50 {
			t.Errorf("after %+v the newest id is %d, it was 50", p, s.lastID)
		}
	}
	s.prune(pruned{Gone: spans{{70, 80}}, From: 82})
	if s.lastID != 81 {
		t.Errorf("the newest id is %d, want 81", s.lastID)
	}
}
