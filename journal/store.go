package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Names in the directory. FORMAT.md explains each.
const (
	storeName  = "journal.db"
	newName    = "journal.db.new"
	lockName   = "journal.lock"
	poisonName = "journal.poisoned"

	ballastName = "journal.ballast"
)

// Buckets and keys of the store; FORMAT.md explains each.
var (
	bucketMeta    = []byte("meta")
	bucketEntries = []byte("entries")
	bucketOpen    = []byte("open")   // begun and owed: what recovery must look at
	bucketParked  = []byte("parked") // parked: visible, not tried
	bucketLanes   = []byte("lanes")  // last trace number of each lane
	bucketIndex   = []byte("index")  // entries by what people ask for
	bucketChain   = []byte("chain")  // a row of every frame
	bucketNotes   = []byte("notes")  // payloads of frames that belong to no entry
	bucketMarks   = []byte("marks")  // what pruning needs to know of each checkpoint

	keyFormat = []byte("format")
	keyID     = []byte("id")
	keyState  = []byte("state")
)

// buckets are those of format 2; format 1 had neither index nor chain.
var (
	bucketsOfFormat1 = [][]byte{bucketMeta, bucketEntries, bucketOpen, bucketParked, bucketLanes}
	buckets          = append(bucketsOfFormat1[:5:5], bucketIndex, bucketChain, bucketNotes, bucketMarks)
)

const formatVersion = 2

// formatMark says whose file it is and in which version.
func formatMark(version byte) []byte { return append([]byte("uncharge journal "), version) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// store is an open bbolt file.
type store struct {
	db   *bolt.DB
	file *os.File // bbolt's own descriptor; closing it gives the lock back
	path string
	// broken is set when bbolt panicked. It may still hold locks of its own then,
	// so it is not called again, not even to be closed.
	broken atomic.Bool
	use    sync.RWMutex // readers that may still be there when new files have taken its place
}

// openStore opens an existing store for writing. Whoever calls it has looked at it
// before: bbolt would start empty over a zero-length file, and may write when it
// opens one (L13).
func openStore(path string, wait time.Duration) (*store, error) {
	s := &store{path: path}
	err := s.contained(func() error {
		var err error
		s.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: max(wait, time.Millisecond), // zero would wait for ever
			// Large enough that the map does not grow in a journal's life: growing waits
			// for readers. Small enough for 32-bit machines.
			InitialMmapSize: 64 << 20,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				var err error
				s.file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
				return s.file, err
			},
		})
		var refused syscall.Errno
		switch {
		case errors.Is(err, bolterrors.ErrTimeout):
			return &LockError{Path: s.path, Waited: wait}
		case errors.As(err, &refused): // no permission, read-only medium, no memory: says nothing of the file
			return fmt.Errorf("%s: %w", s.path, err)
		case err != nil:
			return fmt.Errorf("%w: %s: %w", ErrDamaged, s.path, err)
		}
		s.db.AllocSize = 256 << 10 // grow in small steps: terminals have small flash
		return nil
	})
	if err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

// close gives the file and its lock back.
func (s *store) close() error {
	if s.db != nil && !s.broken.Load() {
		return s.contained(s.db.Close)
	}
	if s.file != nil { // closed already when bbolt failed by itself; then both calls do nothing
		// The map is left behind and would keep the lock.
		_ = syscall.Flock(int(s.file.Fd()), syscall.LOCK_UN)
		_ = s.file.Close()
	}
	return nil
}

// contained turns what a damaged file does to bbolt (panics, page faults in the
// map) into ErrDamaged, and keeps everybody off it afterwards.
func (s *store) contained(do func() error) (err error) {
	if s.broken.Load() {
		return fmt.Errorf("%w: a page could not be read; open the journal again", ErrDamaged)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s.broken.Store(true)
			err = fmt.Errorf("%w: a page cannot be read", ErrDamaged)
		}
	}()
	return do()
}

// checkFormat says in which format a store is, when it is one of ours.
func checkFormat(t tree) (byte, error) {
	foreign := fmt.Errorf("%w: a store of another program; it was left as it is", ErrForeign)
	mark, err := t.get(bucketMeta, keyFormat)
	if errors.Is(err, errNoBucket) {
		return 0, foreign
	}
	if err != nil {
		return 0, err
	}
	n := len(formatMark(0))
	if len(mark) != n || !bytes.Equal(mark[:n-1], formatMark(0)[:n-1]) {
		return 0, foreign
	}
	version := mark[n-1]
	names := buckets
	switch {
	case version > formatVersion:
		return 0, fmt.Errorf("%w: format %d, this program knows %d; it was left as it is", ErrNewer, version, formatVersion)
	case version == 1:
		names = bucketsOfFormat1
	case version == 0:
		return 0, foreign
	}
	for _, name := range names {
		if err := t.ascend(name, nil, func(_, _ []byte) bool { return false }); err != nil {
			return 0, err
		}
	}
	id, err := t.get(bucketMeta, keyID)
	if err == nil && len(id) != 16 {
		err = fmt.Errorf("%w: the journal id is missing", ErrDamaged)
	}
	return version, err
}

// identify says whose store it is and how far it has got.
func identify(t tree) (journalID []byte, st storeState, err error) {
	id, err := t.get(bucketMeta, keyID)
	if err != nil {
		return nil, st, err
	}
	value, err := t.get(bucketMeta, keyState)
	if err != nil {
		return nil, st, err
	}
	st, err = decodeState(value)
	return bytes.Clone(id), st, err
}

// boltTree is the open store in one transaction.
type boltTree struct{ tx *bolt.Tx }

func (t boltTree) bucket(name []byte) (*bolt.Bucket, error) {
	if b := t.tx.Bucket(name); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: bucket %s is missing", ErrDamaged, name)
}

func (t boltTree) get(bucket, key []byte) ([]byte, error) {
	b, err := t.bucket(bucket)
	if err != nil {
		return nil, err
	}
	return b.Get(key), nil
}

func (t boltTree) ascend(bucket, from []byte, visit func(k, v []byte) bool) error {
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	c := b.Cursor()
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if !visit(k, v) {
			return nil
		}
	}
	return nil
}

func (t boltTree) descend(bucket, from []byte, visit func(k, v []byte) bool) error {
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	c := b.Cursor()
	k, v := c.Last()
	if from != nil {
		if k, v = c.Seek(from); k == nil {
			k, v = c.Last()
		} else if bytes.Compare(k, from) > 0 {
			k, v = c.Prev()
		}
	}
	for ; k != nil; k, v = c.Prev() {
		if !visit(k, v) {
			return nil
		}
	}
	return nil
}

// view reads in one consistent transaction; damage is an error, never a crash.
func (s *store) view(do func(tree) error) error {
	err := s.contained(func() error { return s.db.View(func(tx *bolt.Tx) error { return do(boltTree{tx}) }) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// update writes in one commit.
func (s *store) update(commit func(*bolt.Tx) error, do func(*bolt.Tx) error) error {
	return s.contained(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		if err := do(tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return commit(tx)
	})
}
