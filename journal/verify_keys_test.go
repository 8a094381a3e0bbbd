package journal

import (
	"context"
	"errors"
	bolt "go.etcd.io/bbolt"
	"path/filepath"
	"testing"
)

// Whoever has no key takes everything away, what is owed first of all, and says that it was
// pruned: the anchor in the state is believed.
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

// Verify after the old key is gone.
func TestVerifyGoesOnBehindALostKey(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.entryAt(Owed)
	s.close()
	s.opts.DeviceKey = otherKey
	s.open()
	defer s.close()
	s.entryAt(Completed)
	r, err := s.j.Verify(t.Context(), nil)
	t.Logf("in the tail: %v %v keyed %v open since %d", err, r.Err(), r.Keyed, r.OpenSince)
	s.must(s.j.flush())
	r, err = s.j.Verify(t.Context(), nil)
	if err != nil || r.Err() != nil {
		t.Errorf("in the store: %v %v", err, r.Err())
	}
	s.tight()
	for range 20 {
		s.entryAt(Completed)
		s.must(s.j.flush())
	}
	s.must(second(s.j.Prune()))
	r, err = s.j.Verify(t.Context(), nil)
	if err != nil || r.Err() != nil {
		t.Errorf("pruned: %v %v", err, r.Err())
	}
	t.Logf("anchor %d", r.Anchor)
}

// A device that has a new key and not the old one: can it be compacted, recovered?
func TestALostKeyStopsNeitherCompactNorRecover(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.entryAt(Owed)
	s.close()
	s.opts.DeviceKey = otherKey
	s.open()
	defer s.close()
	s.entryAt(Completed)
	if err := s.j.Compact(); err != nil {
		t.Errorf("compact: %v", err)
	}
	file := s.j.wal.file
	s.j.wal.file = failing{file, false}
	second(s.j.Begin(plainDraft()))
	s.j.wal.file = file
	if err := s.j.Recover(); err != nil {
		t.Errorf("recover: %v", err)
	}
}

func TestALostKeyStopsNoOpenAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.entryAt(Owed)
	s.close()
	s.opts.DeviceKey = otherKey
	s.open()
	s.entryAt(Completed)
	file := s.j.wal.file
	s.j.wal.file = failing{file, false}
	second(s.j.Begin(plainDraft()))
	s.j.wal.file = file
	s.close()
	j, err := Open(s.opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	j.Close()
}
