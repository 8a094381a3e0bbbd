package journal

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// Whoever has no key takes everything away, what is owed first of all, and writes into the
// state that it was pruned: Verify does not count the chain as keyed.
func TestVerifyDoesNotBelieveAnAnchorThatNoStepMade(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	owed := s.entryAt(Owed)
	for range 5 {
		s.entryAt(Completed)
	}
	s.must(s.j.flush())
	head, _ := s.j.Head()
	s.close()
	db := boltFile(t, s.path(storeName))
	s.must(db.Update(func(tx *bolt.Tx) error { // no key is used here
		_, st, err := identify(boltTree{tx})
		if err != nil {
			return err
		}
		st.Anchor, st.AnchorLink, st.AnchorKey = st.Applied, st.Chain, st.ChainKey
		all := func([]byte) bool { return true }
		for _, name := range [][]byte{bucketEntries, bucketOpen, bucketParked, bucketIndex, bucketChain, bucketNotes, bucketMarks} {
			err = errors.Join(err, deleteKeys(tx.Bucket(name), nil, all))
		}
		return errors.Join(err, st.save(tx))
	}))
	s.must(db.Close())
	s.open()
	defer s.close()
	s.entryAt(Completed)
	report, err := s.j.Verify(context.Background(), nil)
	s.must(err)
	list, _ := s.j.Owed()
	if report.Err() == nil && report.Keyed {
		t.Errorf("entry %d was owed, %d are listed; Verify with the key: %d entries, anchor %d, keyed %v, %v", owed, len(list), report.Entries, report.Anchor, report.Keyed, report.Err())
	}
	if report, err = s.j.Verify(context.Background(), &head); err != nil || report.Keyed || report.OpenSince != head.Seq {
		t.Errorf("with the head: keyed %v, open since %d: %v", report.Keyed, report.OpenSince, err)
	}
}

// withLostKey is a journal whose device has another key, and not the old one any more: one
// entry was begun under each.
func withLostKey(t *testing.T) *scene {
	t.Helper()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.entryAt(Owed)
	s.close()
	s.opts.DeviceKey = otherKey
	s.open()
	s.entryAt(Completed)
	return s
}

// failAWrite stops the journal.
func (s *scene) failAWrite() {
	s.t.Helper()
	file := s.j.wal.file
	s.j.wal.file = failing{file, false}
	wantErr(s.t, "Begin", second(s.j.Begin(plainDraft())), ErrPoisoned)
	s.j.wal.file = file
}

// Behind a change of a key that is not at hand Verify cannot know the chain's link; it
// complains of nothing, and says since when somebody could have been at work.
func TestVerifyGoesOnBehindALostKey(t *testing.T) {
	t.Parallel()
	s := withLostKey(t)
	defer s.close()
	if r := s.verified("in front of the store"); r.Keyed || r.OpenSince != 1 {
		t.Errorf("keyed %v, open since %d", r.Keyed, r.OpenSince)
	}
	s.must(s.j.flush())
	s.verified("in the store")
	s.tight()
	for range 20 {
		s.entryAt(Completed)
		s.must(s.j.flush())
	}
	s.must(second(s.j.Prune()))
	if r := s.verified("pruned"); r.Anchor == 0 {
		t.Error("scene: the chain begins where it began")
	}
}

func TestALostKeyStopsNeitherCompactNorRecover(t *testing.T) {
	t.Parallel()
	s := withLostKey(t)
	defer s.close()
	s.must(s.j.Compact())
	s.failAWrite()
	s.must(s.j.Recover())
	s.verified("recovered")
}

func TestALostKeyStopsNoOpenAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	s := withLostKey(t)
	s.failAWrite()
	s.reopen()
	s.verified("opened again")
	s.close()
}
