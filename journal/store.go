package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Names in the directory.
const (
	storeName = "journal.db"
	newName   = "journal.db.new"
	lockName  = "journal.lock"
)

// Buckets and keys of the store; FORMAT.md explains each.
var (
	bucketMeta    = []byte("meta")
	bucketEntries = []byte("entries")
	bucketOpen    = []byte("open")   // begun and owed: what recovery must look at
	bucketParked  = []byte("parked") // parked: visible, not tried
	bucketLanes   = []byte("lanes")  // last trace number of each lane

	keyFormat = []byte("format")
	keyID     = []byte("id")
)

const formatVersion = 1

// formatMark says whose file it is and in which version.
func formatMark() []byte { return append([]byte("uncharge journal "), formatVersion) }

// createStore makes an empty store under a temporary name, closes it, renames it
// and syncs the directory. bbolt's own first creation is not safe: a power cut
// inside it leaves a file that panics on open. The caller holds the lock.
func createStore(dir string) error {
	tmp, path := filepath.Join(dir, newName), filepath.Join(dir, storeName)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // a leftover of a creation that was cut; it never held anything
	}
	db, err := bolt.Open(tmp, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketEntries, bucketOpen, bucketParked, bucketLanes} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		id := make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		meta := tx.Bucket(bucketMeta)
		if err := meta.Put(keyFormat, formatMark()); err != nil {
			return err
		}
		return meta.Put(keyID, id)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

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
	// damage is what is wrong with a file that was opened for looking all the same.
	damage error
}

// openStore opens an existing store and checks that it is ours. It never
// creates one: bbolt would start empty over a zero-length file (L13).
func openStore(path string, readOnly bool, wait time.Duration) (*store, error) {
	if err := looksLikeStore(path); err != nil {
		return nil, err
	}
	s := &store{path: path}
	mapSize := 0
	if !readOnly {
		// Large enough that the map does not grow in a journal's life: growing waits
		// for readers. Small enough for 32-bit machines.
		mapSize = 64 << 20
	}
	err := s.contained(func() error {
		var err error
		s.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:         max(wait, time.Millisecond), // zero would wait for ever
			ReadOnly:        readOnly,
			InitialMmapSize: mapSize,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				var err error
				s.file, err = os.OpenFile(name, flag, mode)
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
		if err := s.db.View(checkFormat); err != nil {
			return err
		}
		s.damage = checkMetaPages(s.file, s.db.Info().PageSize)
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

func looksLikeStore(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNone, path)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: %s is empty; it was left as it is", ErrDamaged, path)
	}
	// Either page may be torn; one that fits makes it a store worth opening.
	head := make([]byte, 20)
	magic := binary.NativeEndian.AppendUint32(nil, 0xED0CDAED) // at byte 16 of both meta pages
	for _, page := range []int64{0, 4096, 8192, 16384, 32768, 65536} {
		if _, err := f.ReadAt(head, page); err == nil && bytes.Equal(head[16:], magic) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s; it was left as it is", ErrForeign, path)
}

func checkFormat(tx *bolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		return fmt.Errorf("%w: a store of another program; it was left as it is", ErrForeign)
	}
	mark := meta.Get(keyFormat)
	want := formatMark()
	if len(mark) != len(want) || !bytes.Equal(mark[:len(mark)-1], want[:len(want)-1]) {
		return fmt.Errorf("%w: a store of another program; it was left as it is", ErrForeign)
	}
	if v := mark[len(mark)-1]; v > formatVersion {
		return fmt.Errorf("%w: format %d, this program knows %d; it was left as it is", ErrNewer, v, formatVersion)
	}
	for _, name := range [][]byte{bucketEntries, bucketOpen, bucketParked, bucketLanes} {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: bucket %s is missing", ErrDamaged, name)
		}
	}
	if len(meta.Get(keyID)) != 16 {
		return fmt.Errorf("%w: the journal id is missing", ErrDamaged)
	}
	return nil
}
