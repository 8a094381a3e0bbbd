package journal

import (
	"os"
	"slices"
	"testing"
)

// L13: whichever byte of a meta page is damaged, the journal says so; bbolt alone
// would go on from the page before, without the newest step.
func TestL13ADamagedMetaPage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Completed)
	s.must(s.j.flush())
	size := int64(s.j.store.db.Info().PageSize)
	s.close()
	good := fileBytes(t, s.path(storeName))
	for page := range int64(2) {
		for at := int64(16); at < metaPageBytes; at++ {
			bad := slices.Clone(good)
			bad[page*size+at] ^= 0x40
			dir := copyJournal(t, s.opts.Dir, func([]byte) []byte { return bad })
			if j, err := Open(Options{Dir: dir, DeviceKey: deviceKey, LockWait: shortWait}); err == nil {
				_ = j.Close()
				t.Errorf("page %d, byte %d: opened for writing", page, at)
			}
			snap, err := Inspect(dir, shortWait)
			if err != nil {
				continue // refused whole: not silent
			}
			wantErr(t, "Damage", snap.Damage(), ErrDamaged)
			if e, err := snap.Entry(id); err == nil && e.Status != Completed {
				t.Errorf("page %d, byte %d: entry %v", page, at, e.Status)
			} else if err != nil {
				wantErr(t, "Entry", err, ErrDamaged) // the commit before this one had no entry
			}
			_ = snap.Close()
			if string(fileBytes(t, dir+"/"+storeName)) != string(bad) {
				t.Errorf("page %d, byte %d: the file was changed", page, at)
			}
		}
	}
}

// L13: a file that lacks its last pages is not opened for writing, and a look at
// it says so.
func TestL13AFileThatEndsEarly(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir()) // it is left damaged
	s.plant(2000)
	id := s.entryAt(Owed)
	high := int64(0)
	snapFile, err := os.Stat(s.path(storeName))
	s.must(err)
	s.close()
	for high = snapFile.Size(); high > snapFile.Size()/2; high -= 4096 {
		s.must(os.Truncate(s.path(storeName), high))
		j, err := Open(s.opts)
		if err == nil { // the pages cut away were not in use yet
			s.j = j
			s.entry(id)
			s.close()
			continue
		}
		wantErr(t, "Open", err, ErrDamaged)
		snap, err := Inspect(s.opts.Dir, shortWait)
		if err == nil {
			wantErr(t, "Damage", snap.Damage(), ErrDamaged)
			s.must(snap.Close())
		}
		return
	}
	t.Error("half of the file could be cut away and nobody noticed")
}
