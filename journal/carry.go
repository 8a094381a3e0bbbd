package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// carry makes a new generation of a journal's files with everything that a reader
// has: its entries in their newest form, the whole chain, the trace numbers. What
// was made is read again and held against the chain before it takes the place of
// the old files; a problem leaves those as they are. The caller holds the lock and
// has stopped all steps.
func carry(dir string, from reader, st storeState, keys KeySource) error {
	return build(dir, from.journalID, st, func(db *bolt.DB, st *storeState) error {
		err := from.tail.read(func() error {
			return from.view(func(t tree) error {
				c := &carrier{db: db, from: t, tail: from.tail}
				return errors.Join(c.entries(), c.rows(st), c.lanes())
			})
		})
		if err != nil {
			return err
		}
		st.LastID = from.tail.lastID
		st.Applied, st.Chain = from.tail.newest(), bytes.Clone(from.tail.link[:])
		for _, item := range from.tail.inOrder() {
			st.ranTo(item.rec)
		}
		return db.Update(st.mark)
	}, func(path string) error {
		head, err := from.Head()
		if err != nil {
			return err
		}
		return checkMade(path, &head, keys)
	})
}

// carrier copies what a reader has into a new store, some thousand values a
// commit.
type carrier struct {
	db   *bolt.DB
	from tree
	tail *tail
	// run counts the commits that put packs into the index, and names these: at most one
	// for each entry, and one when some were pruned. Each of those took a step at least, so
	// the checkpoints to come, which count steps, have later names.
	run uint64
	in  *intake // of the commit that is being filled
}

// commit fills and makes one commit.
func (c *carrier) commit(fill func(tx *bolt.Tx) error) error {
	return c.db.Update(func(tx *bolt.Tx) error {
		c.in = newIntake(tx, 0, c.run+1)
		err := errors.Join(fill(tx), c.in.finish())
		if len(c.in.packs) > 0 {
			c.run++
		}
		return err
	})
}

// batches calls put for every key of a bucket, in commits of bounded size.
func (c *carrier) batches(bucket []byte, put func(tx *bolt.Tx, k, v []byte) error) error {
	next := []byte{}
	for next != nil {
		err := c.commit(func(tx *bolt.Tx) error {
			n, start := 0, next
			next = nil
			var bad error
			err := c.from.ascend(bucket, start, func(k, v []byte) bool {
				if n++; n > buildBatch {
					next = bytes.Clone(k)
					return false
				}
				bad = put(tx, k, v)
				return bad == nil
			})
			return errors.Join(err, bad, inTurn(start, next))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inTurn is an error when a batch does not begin behind the one before: a damaged page
// would lead round in a circle (L13).
func inTurn(before, next []byte) error {
	if next != nil && bytes.Compare(next, before) <= 0 {
		return fmt.Errorf("%w: keys stand out of order", ErrDamaged)
	}
	return nil
}

func (c *carrier) entries() error {
	err := c.batches(bucketEntries, func(_ *bolt.Tx, k, v []byte) error {
		id := entryID(k)
		if c.tail.items[id] != nil || c.tail.gone(id) {
			return nil
		}
		rec, err := decode(id, v)
		if err != nil {
			return err
		}
		rec.value = bytes.Clone(v)
		return c.in.entry(rec)
	})
	if err != nil {
		return err
	}
	return c.commit(func(*bolt.Tx) error {
		for _, item := range c.tail.items {
			if err := c.in.entry(item.rec); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *carrier) rows(st *storeState) error {
	for _, bucket := range [][]byte{bucketChain, bucketNotes, bucketMarks} {
		if err := c.batches(bucket, func(tx *bolt.Tx, k, v []byte) error {
			return tx.Bucket(bucket).Put(k, bytes.Clone(v))
		}); err != nil {
			return err
		}
	}
	return c.commit(func(tx *bolt.Tx) error {
		for i, r := range c.tail.rows {
			if err := tx.Bucket(bucketChain).Put(indexOf(c.tail.from+uint64(i)+1), r.encode()); err != nil {
				return err
			}
		}
		for _, f := range c.tail.notes {
			if err := applyNote(c.in, st, f, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *carrier) lanes() error {
	return c.db.Update(func(tx *bolt.Tx) error {
		var bad error
		err := c.from.ascend(bucketLanes, nil, func(k, v []byte) bool {
			bad = tx.Bucket(bucketLanes).Put(k, bytes.Clone(v))
			return bad == nil
		})
		for lane, last := range c.tail.lanes {
			err = errors.Join(err, tx.Bucket(bucketLanes).Put(laneKey(lane), encodeSTAN(lane, last)))
		}
		return errors.Join(err, bad)
	})
}

// checkMade reads a store that was just made, as it is on the disk, and follows the
// chain through it, to a head if there is one.
func checkMade(path string, head *Head, keys KeySource) error {
	l, f, err := lookAtFile(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	id, st, err := identify(l.pages)
	if err := errors.Join(l.damage, err); err != nil {
		return err
	}
	made := reader{path: path, journalID: id, tail: newTail(st), view: l.view}
	report, err := made.verify(context.Background(), keys, head)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return fmt.Errorf("what was written into %s does not fit: %w", filepath.Base(path), err)
	}
	return nil
}

// Recover gives a journal that a failed write has stopped a new life: everything
// that is durable, and of the steps whose outcome was unknown those that can be
// read whole, is carried into new files, checked there, and put in the place of the
// old ones. Going on over the old files, or opening them again, would not be safe:
// after a failed sync the kernel shows what the disk may not have (L13).
//
// Steps that were under way got ErrPoisoned; when Recover has returned nil, Entry
// tells what became of them. An error leaves the old files as they are and the
// journal stopped; Recover may be called again, for instance on a disk that has
// room by then. A journal that works is left alone.
func (j *Journal) Recover() error {
	old, err := j.recover()
	old.end(false)
	return err
}

func (j *Journal) recover() (old *oldFiles, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, ErrClosed
	}
	if j.failed == nil {
		return nil, nil
	}
	j.still()
	if j.closed { // and the lock given back, while this waited
		return nil, ErrClosed
	}
	_ = os.Remove(filepath.Join(j.dir, ballastName)) // the new files may need its room
	from := j.reader
	from.tail = j.tail.cloned() // nothing is shown before it is durable (L3)
	j.adopt(from.tail)
	if err := carry(j.dir, from, j.state, j.keys); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if old, err = j.renew(); err != nil {
		return old, fmt.Errorf("recover: %w", err)
	}
	return old, nil
}

// adopt takes in what can be read of the steps whose outcome is unknown, up to the
// first that cannot. The caller holds mu, and nobody writes.
func (j *Journal) adopt(t *tail) {
	l, err := linkerOf(j.keys, j.tailKey())
	if err != nil && !errors.Is(err, ErrKey) {
		return
	}
	blind := err != nil
	for _, f := range j.leftover() {
		if f.index != t.newest()+1 || !blind && !l.fits(t.link, f.index, rowOf(f), f.chain) || t.add(f) != nil {
			return
		}
		if f.kind == frameKey {
			return // what follows is under another key, and was not acknowledged either
		}
	}
}

// tailKey is the key of the chain behind the newest durable step.
func (j *Journal) tailKey() string {
	id := j.state.ChainKey
	for _, f := range j.tail.notes {
		var k rekey
		if f.kind == frameKey && unmarshalFrame(f, &k) == nil {
			id = k.Key
		}
	}
	return id
}

// leftover reads the frames behind the newest durable one, as far as the disk gives
// them.
func (j *Journal) leftover() (frames []*frame) {
	var regions []scanned
	for n := range 2 {
		if s, err := j.wal.scan(n); err == nil {
			regions = append(regions, s)
		}
	}
	slices.SortFunc(regions, func(a, b scanned) int { return cmp.Compare(a.epoch, b.epoch) })
	for _, s := range regions {
		for _, f := range s.frames {
			if f.index > j.tail.newest() {
				frames = append(frames, f)
			}
		}
	}
	return frames
}

// Compact makes the journal's files anew, as small as what they hold, and
// overwrites the old ones: what was shredded or pruned, and every sealed image that
// no entry needs any more, is gone from them when it returns nil (FORMAT.md says
// what a flash chip may still have). No step is taken while they are made: call it when
// the terminal is idle. It returns once a Verify that reads the old ones has ended; steps
// do not wait for that. An error before the new files are in place changes nothing.
func (j *Journal) Compact() error {
	old, err := j.compact()
	if wipe := old.end(err == nil); err == nil && wipe != nil {
		err = fmt.Errorf("compact: the new files are in use, and the old ones could not be overwritten: %w", wipe)
	}
	return err
}

func (j *Journal) compact() (old *oldFiles, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.still()
	if err := j.usable(); err != nil {
		return nil, err
	}
	if err := carry(j.dir, j.reader, j.state, j.keys); err != nil {
		if errors.Is(err, errInPlace) { // the files that are open have no name any more
			j.poison(err)
			err = j.failed
		}
		return nil, fmt.Errorf("compact: %w", err)
	}
	old, err = j.renew()
	if err == nil {
		j.plan, err = j.planner() // as a checkpoint: one that compacts often may have none
	}
	if err != nil { // the old files are not the journal any more
		j.poison(err)
		return old, fmt.Errorf("compact: %w", j.failed)
	}
	return old, nil
}

// oldFiles are those that new ones have taken the place of; no name leads to them.
type oldFiles struct {
	store *store
	wal   *wal
}

// end closes them, overwritten if asked to, once nobody reads them any more. Verify
// may take long: no step waits for this.
func (o *oldFiles) end(wipe bool) (err error) {
	if o == nil {
		return nil
	}
	o.store.use.Lock()
	defer o.store.use.Unlock()
	if wipe {
		err = errors.Join(wipeFile(o.store.file), wipeFile(o.wal.file.(osFile).File))
	}
	_ = errors.Join(o.store.close(), o.wal.close())
	return err
}

// renew goes on with the files that were just put in place, and gives the old ones. The
// caller holds mu, and nobody writes.
func (j *Journal) renew() (old *oldFiles, err error) {
	store, err := openStore(filepath.Join(j.dir, storeName), LockWaitDefault)
	if err != nil {
		return nil, err
	}
	var st storeState
	err = store.view(func(t tree) (err error) {
		_, st, err = identify(t)
		return err
	})
	var w *wal
	if err == nil {
		w, err = openWAL(j.dir, j.journalID, st, false)
	}
	if err != nil {
		return nil, errors.Join(err, store.close())
	}
	old = &oldFiles{j.store, j.wal}
	j.tail.mu.Lock()
	j.store, j.wal, j.state = store, w, st
	j.tail.reset(st)
	j.tail.mu.Unlock()
	j.index, j.durable, j.link, j.lastID = st.Applied, st.Applied, link(st.Chain), st.LastID
	j.batch, j.inflight, j.before = nil, map[ID]*record{}, 0
	j.plan, j.leaving = nil, nil
	j.cur, j.off, j.epoch, j.ready = 0, regionHead, [2]uint32{1, 2}, [2]bool{false, true}
	j.bootNote, j.keyNote = nil, nil
	j.noteBoot(nil)
	if err := errors.Join(j.continueChain(st.ChainKey, j.keys), j.settleIn()); err != nil {
		return old, err
	}
	if j.failed != nil {
		if err := os.Remove(filepath.Join(j.dir, poisonName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return old, err
		}
		j.failed = nil
		j.numbers.halt(nil)
	}
	return old, nil
}

// wipeFile overwrites a file that has no name any more.
func wipeFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zero := make([]byte, 64<<10)
	for at := int64(0); at < info.Size(); at += int64(len(zero)) {
		if _, err := f.WriteAt(zero[:min(int64(len(zero)), info.Size()-at)], at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// rescue carries a journal over that a process left after a failed write: those
// files are not to be trusted with anything new. The caller holds the lock.
func rescue(o Options, look *look) error {
	id, st, err := identify(look.pages)
	if err != nil {
		return err
	}
	from := reader{path: filepath.Join(o.Dir, storeName), journalID: id, view: look.view}
	if err := st.isHere(o, from.journalID); err != nil {
		return err
	}
	w, err := openWAL(o.Dir, from.journalID, st, true)
	if err != nil {
		return err
	}
	_, frames, err := w.unapplied(st)
	if err := errors.Join(err, w.close()); err != nil {
		return err
	}
	if _, err := follow(st, frames, o.Keys); err != nil {
		return err
	}
	if from.tail, err = tailWith(st, frames); err != nil {
		return err
	}
	if err := carry(o.Dir, from, st, o.Keys); err != nil {
		return err
	}
	return os.Remove(filepath.Join(o.Dir, poisonName))
}
