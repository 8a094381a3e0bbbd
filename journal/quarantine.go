package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// causeSalvage is the cause of an entry that was begun when its journal was damaged:
// the same word as for one that is found armed after a crash, because profiles have a
// reason code for each word.
const causeSalvage = "restart"

// Quarantine puts a new journal in the place of a damaged one (L13). The damaged
// files are kept in a directory beside it, and every entry that can be read is
// carried into the new journal under its old id: what is owed there is reversed as
// before. What was open and may have been finished by a step that is lost is parked:
// a person must look at it, because a finished sale must not be undone.
//
// Nothing is done to a journal that is whole (ErrWhole). An error leaves the damaged files where
// they are; a power cut leaves either them or the new journal, and the kept files.
func Quarantine(o Options) (*Salvaged, error) {
	o, err := o.validated()
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	lock, err := takeLock(filepath.Join(o.Dir, lockName), o.LockWait)
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := damaged(o); err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	s, err := Salvage(o.Dir)
	if err != nil {
		return nil, err
	}
	if s.Kept, err = keep(o.Dir); err != nil {
		return nil, fmt.Errorf("quarantine: the damaged files cannot be kept: %w", err)
	}
	if err := s.rebuild(o); err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	if err := os.Remove(filepath.Join(o.Dir, poisonName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	return s, nil
}

// damaged is nil when the directory holds a damaged journal of ours.
func damaged(o Options) error {
	j, err := openLocked(o)
	if err != nil {
		if errors.Is(err, ErrForeign) { // the store's beginning may be gone; then the write-ahead file knows
			wals, _, _ := walFiles(o.Dir)
			if slices.ContainsFunc(wals, func(path string) bool { return headerID(path) != nil }) {
				return nil
			}
		}
		if errors.Is(err, ErrDamaged) {
			return nil
		}
		return err
	}
	j.background.Wait()
	report, err := j.Verify(context.Background(), nil)
	if err := errors.Join(err, j.closeFiles()); err != nil {
		return err
	}
	if report.Err() == nil {
		return fmt.Errorf("%w: %s was left as it is", ErrWhole, o.Dir)
	}
	return nil
}

// keep gives the damaged files a second name in a new directory.
func keep(dir string) (string, error) {
	to := ""
	for n := 1; ; n++ {
		to = filepath.Join(dir, fmt.Sprintf("damaged-%d", n))
		err := os.Mkdir(to, 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) || n >= 1000 {
			return "", err
		}
	}
	wals, _, err := walFiles(dir)
	if err != nil {
		return "", err
	}
	for _, path := range append(wals, filepath.Join(dir, storeName)) {
		switch err := os.Link(path, filepath.Join(to, filepath.Base(path))); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil: // a file system without links
			if err := copyFile(path, filepath.Join(to, filepath.Base(path))); err != nil {
				return "", err
			}
		}
	}
	return to, errors.Join(syncDir(to), syncDir(dir))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// rebuild makes the new journal. It goes on behind the last step and the last entry
// of which there was a trace, so that no number is given out again.
func (s *Salvaged) rebuild(o Options) error {
	id := s.journalID
	if id == nil { // the images are bound to the old one: none opens any more
		id = make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return err
		}
	}
	region := s.region
	if region == 0 {
		region = o.RegionBytes
	}
	l, err := currentLinker(o.Keys)
	if err != nil {
		return err
	}
	if s.EndUnknown { // at most so many steps can have been in what is gone
		lost := 2 * region / frameBytes(0)
		s.newest, s.lastID = s.newest+uint64(lost), s.lastID+ID(lost)
		clear(s.lanes) // the numbers go on where chance has it
	}
	first := firstLink(id)
	st := storeState{
		Generation: s.generation, Region: region, Terminal: s.terminal, LastID: s.lastID, Boot: s.bootCount,
		Applied: s.newest, Chain: first[:], ChainKey: l.keyID, Anchor: s.newest, AnchorLink: first[:], AnchorKey: l.keyID,
	}
	if err := st.isHere(o, id); err != nil && s.journalID != nil {
		return err
	}
	return build(o.Dir, id, st, func(db *bolt.DB, st *storeState) error {
		return db.Update(func(tx *bolt.Tx) error {
			in := newIntake(tx, 0, st.Applied+1)
			for _, id := range sortedIDs(s.ledger) {
				if err := importEntry(in, id, s.carried(id, o), st, l); err != nil {
					return err
				}
			}
			if err := in.finish(); err != nil {
				return err
			}
			for lane, seen := range s.lanes {
				if err := tx.Bucket(bucketLanes).Put(laneKey(lane), encodeSTAN(lane, seen.last)); err != nil {
					return err
				}
			}
			return nil
		})
	}, func(path string) error { return checkMade(path, nil, o.Keys) })
}

func sortedIDs(m map[ID]*found) []ID {
	ids := make([]ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// carried is the form in which an entry goes into the new journal.
func (s *Salvaged) carried(id ID, o Options) []byte {
	f := s.ledger[id]
	if _, doubtful := slices.BinarySearch(s.Parked, id); !doubtful {
		return f.value
	}
	rec := f.rec.copied()
	at := wallClock(o.Now)
	if rec.Status == Begun {
		rec.Cause = causeSalvage
		rec.addStep(Step{Kind: StepOwe, At: at, Note: causeSalvage})
	}
	rec.Status, rec.Parking = Parked, "steps were lost with the damaged journal: it may be finished"
	rec.addStep(Step{Kind: StepPark, At: at, Note: rec.Parking})
	return rec.encode()
}

// currentLinker makes links under the device's newest key.
func currentLinker(keys KeySource) (linker, error) {
	if keys == nil {
		return linker{}, nil
	}
	current, err := keys.Current()
	if err != nil {
		return linker{}, err
	}
	return linkerOf(keys, current.ID())
}
