package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// packs gives the keys of the packs of one kind in the first group.
func (s *scene) packs(kind byte) (keys [][]byte) {
	s.t.Helper()
	prefix := packOf{0, kind}.prefix()
	s.must(s.j.store.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketIndex).Cursor()
		for k, _ := c.Seek(prefix); k != nil && strings.HasPrefix(string(k), string(prefix)); k, _ = c.Next() {
			keys = append(keys, slices.Clone(k))
		}
		return nil
	}))
	return keys
}

// seek is collect, and whether damage was told.
func seek(t *testing.T, j *Journal, q Query) (out []ID, damaged bool) {
	t.Helper()
	for e, err := range j.Entries(q) {
		switch {
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer):
			damaged = true
		case err != nil:
			t.Fatal(err)
		default:
			out = append(out, e.ID)
		}
	}
	return out, damaged
}

// Each byte of a pack changed, in turn: a query finds what is there all the same, and
// says that something is wrong; so does Verify.
func TestL13EachByteOfAPack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var done []ID
	for range 3 {
		done = append(done, s.entryAt(Completed))
		s.begin()
	}
	s.must(s.j.flush())
	done = append(done, s.entryAt(Completed))
	s.must(s.j.flush())
	s.j.store.db.NoSync = true
	packs := s.packs(indexRRN)
	if len(packs) != 2 {
		t.Fatalf("scene: %d packs", len(packs))
	}
	good := s.value(bucketIndex, packs[0])
	for i, bad := range flips(good) {
		s.put(bucketIndex, packs[0], bad)
		what := fmt.Sprintf("byte %d of %d", i, len(good))
		for _, newest := range []bool{false, true} {
			got, damaged := seek(t, s.j, Query{RRN: approved.RRN, Newest: newest})
			if slices.Sort(got); !damaged || !slices.Equal(got, done) {
				t.Errorf("%s: found %v, damage told: %v; want %v", what, got, damaged, done)
			}
		}
		report, err := s.j.Verify(t.Context(), nil)
		if s.must(err); report.Err() == nil {
			t.Errorf("%s: Verify sees nothing", what)
		}
	}
	s.put(bucketIndex, packs[0], good)
	if got, damaged := seek(t, s.j, Query{RRN: approved.RRN}); damaged || !slices.Equal(got, done) {
		t.Errorf("mended: %v, %v", got, damaged)
	}
}

// A pack taken away hides entries from a query: Verify names them. An entry taken away
// is missed by a query.
func TestL13VerifyHoldsTheIndexAgainstTheEntries(t *testing.T) {
	t.Parallel()
	for kind, name := range indexNames {
		s := newScene(t)
		d := s.draft(lane1)
		d.PAN = Secret(testPAN)
		id, err := s.j.Begin(d)
		s.must(err)
		s.must(s.j.Complete(id, approved))
		s.must(s.j.flush())
		report, err := s.j.Verify(t.Context(), nil)
		if s.must(err); report.Err() != nil {
			t.Fatal(report.Err())
		}
		s.must(s.j.store.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketIndex).Delete(packOf{0, kind}.key(1, 0)) }))
		report, err = s.j.Verify(t.Context(), nil)
		if s.must(err); report.Err() == nil || !strings.Contains(report.Err().Error(), "entry 1 is not found by its "+name) {
			t.Errorf("without the packs of %s: %v", name, report.Err())
		}
		s.close()
	}
	s := newScene(t)
	id := s.entryAt(Completed)
	s.begin()
	s.must(s.j.flush())
	s.must(s.j.store.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketEntries).Delete(key(id)) }))
	if _, damaged := seek(t, s.j, Query{STAN: 1}); !damaged {
		t.Error("an entry that is in the index and nowhere else was passed over")
	}
}

// A pack gives between two values just the places that a plain list has there.
func TestAPackGivesWhatWasPutIn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := []byte("key")
		value := rapid.StringMatching(`[a-c]{0,3}`) // as RRNs are: a length in front
		var places []place
		for i := range rapid.IntRange(0, 20).Draw(t, "n") {
			places = append(places, place{rrnValue(value.Draw(t, "value")), ID(i)})
		}
		sorted := slices.Clone(places)
		sortPlaces(sorted)
		p, err := decodePack(key, encodePack(key, sorted))
		if err != nil {
			t.Fatal(err)
		}
		lo, hi := rrnValue(value.Draw(t, "lo")), rrnValue(value.Draw(t, "hi"))
		if rapid.Bool().Draw(t, "one") {
			hi = lo
		}
		var got, want []int
		p.between(lo, hi, func(n int) { got = append(got, n) })
		for i, at := range places {
			if at.value >= lo && at.value <= hi {
				want = append(want, i)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%q to %q of %v: got %v, want %v", lo, hi, places, got, want)
		}
	})
}

// With another clock's time, RRNs of other lengths and ids at both ends of a group.
func TestAGroupsEndsAreFound(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.j.lastID = 1<<indexGroupBits - 3
	chance := rand.New(rand.NewPCG(newSeed(t), 21))
	for range 6 {
		id := s.begin()
		rrn := strings.Repeat("7", 1+chance.IntN(12))
		s.must(s.j.Complete(id, Answer{Code: "00", RRN: rrn}))
		if chance.IntN(2) == 0 {
			s.must(s.j.flush())
		}
		if got := collect(t, s.j, Query{RRN: rrn}); !slices.Contains(got, id) {
			t.Errorf("entry %d is not found by its RRN", id)
		}
	}
	s.must(s.j.flush())
	if n := len(collect(t, s.j, Query{AmountMinor: 1250})); n != 6 {
		t.Errorf("%d of 6 found by their amount", n)
	}
}
