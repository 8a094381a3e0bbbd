package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// prepare sees to it that the directory holds a journal of this format: it makes
// one where there is none, and carries one of an older format over. The caller
// holds the lock.
func prepare(o Options) error {
	path := filepath.Join(o.Dir, storeName)
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return create(o)
	case err != nil:
		return err
	}
	// A process that was killed between its rename and its sync of the directory
	// left a name that a power cut could still take away.
	if err := syncDir(o.Dir); err != nil {
		return err
	}
	// bbolt may write when it opens for writing, so whose file it is is asked first.
	look, f, err := lookAtFile(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if look.damage != nil {
		return look.damage // nothing is written over a file that lacks something (L13)
	}
	switch _, marked := os.Stat(filepath.Join(o.Dir, poisonName)); {
	case look.version == 1:
		return migrate(o, look)
	case marked == nil:
		return rescue(o, look)
	}
	return nil
}

// create makes an empty journal, unless there was one.
func create(o Options) error {
	if o.Expect != "" {
		return fmt.Errorf("%w: %s should hold journal %s; what it owed is not known here", ErrMissing, o.Dir, o.Expect)
	}
	if err := refuseRemains(o.Dir); err != nil {
		return err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	first := firstLink(id)
	st := storeState{Region: o.RegionBytes, Terminal: o.Terminal, Chain: first[:], AnchorLink: first[:]}
	return build(o.Dir, id, st, nil, nil)
}

// refuseRemains finds a journal that lost its store: steps in a write-ahead file
// that no store names. One without steps is left of a creation that was cut.
func refuseRemains(dir string) error {
	files, _, err := walFiles(dir)
	if err != nil {
		return err
	}
	for _, path := range files {
		found := false
		if err := salvageFrames(path, func(*frame) { found = true }); err != nil {
			return err
		}
		if found {
			return fmt.Errorf("%w: %s has steps in it and %s is missing", ErrDamaged, path, storeName)
		}
	}
	return nil
}

// buildBatch is how many entries one commit of a store that is being built takes.
const buildBatch = 4096

// build makes the files of a new generation beside the old ones and puts them in
// their place with one rename: a cut leaves either what was there or all that is
// new. fill gives the entries and rows to the new store, in as many commits as it
// likes; what it says in the state goes in with the last. The caller holds the lock.
func build(dir string, journalID []byte, st storeState, fill func(*bolt.DB, *storeState) error, check func(path string) error) error {
	tmp, path := filepath.Join(dir, newName), filepath.Join(dir, storeName)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // a leftover of a creation that was cut; nothing stands only in it
	}
	_, newest, err := walFiles(dir)
	if err != nil {
		return err
	}
	st.Generation = max(st.Generation, newest) + 1 // never a file that a store may need
	inPlace := false
	defer func() {
		if !inPlace { // a full disk must not be fuller for it
			_, _ = os.Remove(tmp), os.Remove(filepath.Join(dir, walName(st.Generation)))
		}
	}()
	if err := createWAL(dir, journalID, st.Generation, st.Region, 1); err != nil {
		return err
	}
	db, err := bolt.Open(tmp, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyID, journalID)
	})
	if err == nil && fill != nil {
		err = fill(db, &st)
	}
	if err == nil {
		err = db.Update(func(tx *bolt.Tx) error {
			if err := tx.Bucket(bucketMeta).Put(keyFormat, formatMark(formatVersion)); err != nil {
				return err
			}
			return st.save(tx)
		})
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if check != nil {
		if err := check(tmp); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil { // the write-ahead file's name, before the store that needs it
		return err
	}
	_, before := os.Lstat(path)
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	inPlace = true
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("%w: %w", errInPlace, errors.Join(err, takeBack(dir, errors.Is(before, fs.ErrNotExist))))
	}
	removeOld(dir, st.Generation)
	return nil
}

// takeBack sees to it that nobody believes a name whose sync failed: where the file
// system has no journal, a later sync may pass it over, and a power cut take it away.
// The name of a first journal goes again; of another one the next open makes files anew.
func takeBack(dir string, first bool) error {
	if first {
		return os.Remove(filepath.Join(dir, storeName))
	}
	return os.WriteFile(filepath.Join(dir, poisonName), nil, 0o600)
}

// errInPlace: the new files have taken the place of the old ones, and then something
// failed. Going on over the old ones would write into files without a name.
var errInPlace = errors.New("the new files are in place")

// removeOld removes the write-ahead files that a store does not need any more. It may
// fail or be cut at any place: whoever opens the journal next does it again.
func removeOld(dir string, generation uint32) {
	files, _, _ := walFiles(dir)
	for _, path := range files {
		if filepath.Base(path) != walName(generation) {
			_ = os.Remove(path)
		}
	}
}

// migrate carries a journal of format 1 over. Its file is read, and replaced only
// by the rename.
func migrate(o Options, from *look) error {
	id, err := from.pages.get(bucketMeta, keyID)
	if err != nil {
		return err
	}
	st := storeState{Region: o.RegionBytes, Terminal: o.Terminal}
	first := firstLink(id)
	st.Chain, st.AnchorLink = first[:], first[:]
	if err := st.isHere(o, id); err != nil {
		return err
	}
	l, err := currentLinker(o.Keys)
	if err != nil {
		return err
	}
	st.ChainKey, st.AnchorKey = l.keyID, l.keyID
	return build(o.Dir, id, st, func(db *bolt.DB, st *storeState) error {
		last, err := from.pages.sequence(bucketEntries)
		if err != nil {
			return err
		}
		st.LastID = ID(last)
		return importEntries(db, from.pages, st, l)
	}, func(path string) error { return checkMade(path, nil, o.Keys) })
}

// importEntries gives every entry of a store to a new one, each with a row of its
// own, and the trace numbers. An entry that cannot be read stops it: nothing may
// be left behind unsaid (L13).
func importEntries(db *bolt.DB, from tree, st *storeState, l linker) error {
	next := []byte{}
	for next != nil {
		err := db.Update(func(tx *bolt.Tx) error {
			n, start, in := 0, next, newIntake(tx, 0, st.Applied+1)
			var bad error
			next = nil
			err := from.ascend(bucketEntries, start, func(k, v []byte) bool {
				if n++; n > buildBatch {
					next = append([]byte{}, k...)
					return false
				}
				bad = importEntry(in, entryID(k), v, st, l)
				return bad == nil
			})
			return errors.Join(err, bad, inTurn(start, next), in.finish())
		})
		if err != nil {
			return err
		}
	}
	return db.Update(func(tx *bolt.Tx) error {
		var bad error
		err := from.ascend(bucketLanes, nil, func(k, v []byte) bool {
			bad = tx.Bucket(bucketLanes).Put(k, bytes.Clone(v))
			return bad == nil
		})
		return errors.Join(err, bad)
	})
}

func importEntry(in *intake, id ID, value []byte, st *storeState, l linker) error {
	rec, err := decode(id, value)
	if err != nil {
		return err
	}
	rec.value = bytes.Clone(value)
	if err := in.entry(rec); err != nil {
		return err
	}
	st.Applied++
	r := row{kind: frameEntry, entry: id, digest: digestOf(value)}
	after := l.next(link(st.Chain), st.Applied, r)
	r.tag, st.Chain = [8]byte(after[:8]), after[:]
	st.LastID = max(st.LastID, id)
	return in.tx.Bucket(bucketChain).Put(indexOf(st.Applied), r.encode())
}

// isHere refuses a journal that is not the one this device was given, or that was
// made on another device.
func (s storeState) isHere(o Options, journalID []byte) error {
	if id := hex.EncodeToString(journalID); o.Expect != "" && o.Expect != id {
		return fmt.Errorf("%w: %s holds journal %s, this device was commissioned with %s", ErrCopied, o.Dir, id, o.Expect)
	}
	if o.Terminal != "" && s.Terminal != "" && s.Terminal != o.Terminal {
		return fmt.Errorf("%w: the journal in %s was made by terminal %s, this is %s", ErrCopied, o.Dir, s.Terminal, o.Terminal)
	}
	return nil
}
