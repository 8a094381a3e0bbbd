package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// value reads what is stored under a key, put writes it: damage comes between.
func (s *scene) value(bucket, k []byte) (v []byte) {
	s.t.Helper()
	s.must(s.j.flush())
	s.must(s.j.store.db.View(func(tx *bolt.Tx) error {
		v = slices.Clone(tx.Bucket(bucket).Get(k))
		return nil
	}))
	return v
}

func (s *scene) put(bucket, k, v []byte) {
	s.t.Helper()
	s.must(s.j.flush())
	s.must(s.j.store.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(k, v) }))
}

// flips gives a value with each byte changed in turn: one bit, and all bits.
func flips(v []byte) func(func(int, []byte) bool) {
	return func(yield func(int, []byte) bool) {
		for i := range v {
			for _, mask := range []byte{1 << (i % 8), 0xff} {
				bad := slices.Clone(v)
				bad[i] ^= mask
				if !yield(i, bad) {
					return
				}
			}
		}
	}
}

// L13: each byte of a record changed, in turn: an error, never wrong facts, and
// the others stay visible.
func TestL13EachByteOfARecord(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	older, hit, younger := s.entryAt(Owed), s.entryAt(Owed), s.entryAt(Owed)
	right, good := s.entry(hit), s.value(bucketEntries, key(hit))
	s.j.store.db.NoSync = true // hundreds of damaged files; power cuts are not the point here
	for i, bad := range flips(good) {
		s.put(bucketEntries, key(hit), bad)
		what := fmt.Sprintf("byte %d of %d", i, len(good))
		if e, err := s.j.Entry(hit); err == nil {
			same(t, what, e, right)
		} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v", what, err)
		}
		wantOthers(t, s, what, older, younger)
		if _, err := s.j.Attempt(hit); err == nil {
			t.Fatalf("%s: a step was taken on a damaged entry", what)
		}
		if t.Failed() {
			break
		}
	}
	s.put(bucketEntries, key(hit), good)
	s.j.store.db.NoSync = false
	s.must(s.j.store.db.Sync())
	same(t, "restored", s.entry(hit), right)
}

// wantOthers: one damaged entry hides no other, from no list.
func wantOthers(t *testing.T, s *scene, what string, others ...ID) {
	t.Helper()
	owed, err := s.j.Owed()
	wantErr(t, what+": Owed", err, ErrDamaged)
	if !slices.Equal(ids(owed), others) {
		t.Errorf("%s: owed %v, want %v", what, ids(owed), others)
	}
	for _, newest := range []bool{false, true} {
		var seen []ID
		bad := 0
		for e, err := range s.j.Entries(Query{Newest: newest}) {
			if err != nil {
				bad++
				continue
			}
			seen = append(seen, e.ID)
		}
		want := slices.Clone(others)
		if newest {
			slices.Reverse(want)
		}
		if !slices.Equal(seen, want) || bad != 1 {
			t.Errorf("%s: entries %v and %d errors, want %v and 1", what, seen, bad, want)
		}
	}
}

// A damaged entry is told even by a query that would not have selected it: what
// cannot be read may be anything.
func TestL13DamageIsToldWhateverTheFilter(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	hit := s.entryAt(Owed)
	done := s.entryAt(Completed)
	s.put(bucketEntries, key(hit), []byte("rubbish that is no record"))
	var seen []ID
	var bad error
	for e, err := range s.j.Entries(Query{Status: []Status{Completed}}) {
		if err != nil {
			bad = err
			continue
		}
		seen = append(seen, e.ID)
	}
	wantErr(t, "Entries", bad, ErrDamaged)
	if !slices.Equal(seen, []ID{done}) {
		t.Errorf("entries %v", seen)
	}
	s.close()
}

// A record cut short or grown, or moved to another entry's place.
func TestL13ARecordCutOrMoved(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	a, b := s.entryAt(Owed), s.entryAt(Completed)
	good := s.value(bucketEntries, key(a))
	s.j.store.db.NoSync = true
	for n := range good {
		s.put(bucketEntries, key(a), good[:n])
		wantErr(t, fmt.Sprintf("cut to %d", n), second(s.j.Entry(a)), ErrDamaged)
	}
	s.put(bucketEntries, key(a), append(slices.Clone(good), 0))
	wantErr(t, "one byte more", second(s.j.Entry(a)), ErrDamaged)
	s.put(bucketEntries, key(a), s.value(bucketEntries, key(b)))
	wantErr(t, "another entry's record", second(s.j.Entry(a)), ErrDamaged)
	s.close()
}

// A record of a newer version says so; it is whole, and not ours to read.
func TestL13ANewerRecord(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	id := s.entryAt(Owed)
	v := s.value(bucketEntries, key(id))
	v[0]++
	v = binary.LittleEndian.AppendUint32(v[:len(v)-4], checksum(id, v[:len(v)-4]))
	s.put(bucketEntries, key(id), v)
	wantErr(t, "Entry", second(s.j.Entry(id)), ErrNewer)
	wantErr(t, "Owed", second(s.j.Owed()), ErrNewer)
	wantErr(t, "Attempt", second(s.j.Attempt(id)), ErrNewer)
	if got := s.value(bucketEntries, key(id)); !slices.Equal(got, v) {
		t.Error("it was written over")
	}
	s.close()
}

// L8, L13: an owed entry whose place in the index was damaged is not dropped
// unsaid: the list is right, or an error says that it is not.
func TestL8L13ADamagedIndex(t *testing.T) {
	t.Parallel()
	for _, index := range []struct {
		name   []byte
		status Status
	}{{bucketOpen, Owed}, {bucketParked, Parked}} {
		s := newSceneIn(t, t.TempDir())
		var listed []ID
		for i := range 16 {
			if i%2 == 0 {
				listed = append(listed, s.entryAt(index.status))
			} else {
				s.entryAt(Completed)
			}
		}
		for bit := range 64 {
			bad := ID(uint64(listed[2]) ^ 1<<bit)
			if slices.Contains(listed, bad) {
				continue // through bbolt this would be a plain deletion
			}
			s.move(index.name, listed[2], bad)
			list, err := s.j.Owed()
			if index.status == Parked {
				list, err = s.j.Parked()
			}
			if err == nil && !slices.Equal(ids(list), listed) {
				t.Errorf("%s, %d made %d: listed %v, want %v or an error", index.name, listed[2], bad, ids(list), listed)
			}
			s.move(index.name, bad, listed[2])
		}
		s.close()
	}
}

// move puts an index entry in another's place, with the value it had.
func (s *scene) move(index []byte, from, to ID) {
	s.t.Helper()
	v := s.value(index, key(from))
	s.must(s.j.store.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(index)
		return errors.Join(b.Delete(key(from)), b.Put(key(to), v))
	}))
}

// A lane's last trace number has no checksum to protect it unless it is given
// one: damaged, it must be an error or still the right number, not another.
func TestL13EachByteOfALanesTraceNumber(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	for range 3 {
		s.must(s.j.NotSent(s.begin()))
	}
	k := laneKey(lane1)
	good := s.value(bucketLanes, k)
	if len(good) == 0 {
		t.Fatal("scene: no trace number is stored")
	}
	for i, bad := range flips(good) {
		s.put(bucketLanes, k, bad)
		s.reopen()
		if n, err := s.j.NextSTAN(lane1); err == nil && n != 4 {
			t.Errorf("byte %d: next trace number %d, want 4 or an error", i, n)
		}
	}
	s.close()
}

// The mark and the journal's id: damaged they are an error, or nothing changes.
func TestL13EachByteOfTheMeta(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	id := s.entryAt(Owed)
	for _, k := range [][]byte{keyFormat, keyID} {
		good := s.value(bucketMeta, k)
		for i, bad := range flips(good) {
			s.put(bucketMeta, k, bad)
			s.close()
			j, err := Open(s.opts)
			if err == nil {
				if image, err := j.Image(id); err == nil && string(image) != "image of TERM0001/MERCHANT0000001 000001" {
					t.Errorf("%s, byte %d: image %q", k, i, image)
				}
				if e, err := j.Entry(id); err == nil && e.Status != Owed {
					t.Errorf("%s, byte %d: %+v", k, i, e)
				}
				s.j = j
			} else { // mend it behind the journal's back
				db, err := bolt.Open(s.path(storeName), 0o600, nil)
				s.must(err)
				s.must(db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(k, good) }))
				s.must(db.Close())
				s.open()
			}
			s.put(bucketMeta, k, good)
		}
	}
	s.close()
}

// L13: a bit of an entry's key makes it an id far away. A query by the index comes to
// an end all the same, and says that something is wrong; so does one that reads all.
func TestL13AKeyFarAway(t *testing.T) {
	t.Parallel()
	for _, bit := range []int{20, 33, 43, 44, 50, 63} {
		for _, flushed := range []bool{false, true} {
			s := newSceneIn(t, t.TempDir())
			first := s.entryAt(Completed)
			hit := s.entryAt(Completed)
			s.must(s.j.flush())
			s.move(bucketEntries, hit, hit^1<<bit)
			if !flushed {
				s.entryAt(Completed) // in front of the store
			}
			for _, q := range []Query{{}, {RRN: approved.RRN}, {AmountMinor: price.Minor}} {
				for _, q.Newest = range []bool{false, true} {
					within(t, 10*time.Second, fmt.Sprint("bit ", bit), func() {
						got, told := seek(t, s.j, q)
						if !told || !slices.Contains(got, first) {
							t.Errorf("bit %d, %+v: %v, damage told: %v", bit, q, got, told)
						}
					})
				}
			}
			s.close()
		}
	}
}
