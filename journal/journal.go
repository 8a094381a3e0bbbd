package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Options say how to open a journal. Only Dir is needed to read; Begin needs
// DeviceKey.
type Options struct {
	Dir       string           // made with mode 0700 if it is not there
	DeviceKey Secret           // KeyBytes long; seals what the reversal needs (L11)
	LockWait  time.Duration    // how long to wait for another process; 0 means LockWaitDefault
	Now       func() time.Time // wall clock of the records; nil means time.Now
	// FirstSTAN is where the trace numbers of a lane begin that the journal does not
	// know yet, 1 to 999999; 0 draws one by chance. A journal that took the place of
	// a lost one must not give out the same numbers again: some hosts tell a sale by
	// its trace number and batch alone, and would reverse the wrong one.
	FirstSTAN uint32
}

// LockWaitDefault is how long Open and Inspect wait for the lock.
const LockWaitDefault = 5 * time.Second

// Journal is an open journal. Its process holds the lock until Close.
type Journal struct {
	reader
	now    func() time.Time
	first  uint32  // Options.FirstSTAN
	seal   *sealer // nil without a device key
	lock   *os.File
	commit func(*bolt.Tx) error // tests put a failing disk here

	mu     sync.Mutex // one step at a time
	failed error      // the first failed write; no step after it (L13)
	closed bool
	traces map[Lane]trace
}

// Open opens the journal in a directory, making an empty one where there is
// none. It waits for the lock at most Options.LockWait.
//
// Errors wrap ErrBusy (a *LockError), ErrForeign, ErrNewer, ErrDamaged or
// ErrKey; whatever was in the directory is then untouched.
func Open(o Options) (*Journal, error) {
	if o.Dir == "" {
		return nil, fmt.Errorf("open journal: %w: no directory was named", ErrInvalid)
	}
	if o.FirstSTAN > stanMax {
		return nil, fmt.Errorf("open journal: %w: the first trace number must be 1 to %d, or 0", ErrInvalid, stanMax)
	}
	if o.LockWait <= 0 {
		o.LockWait = LockWaitDefault
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := MakeDir(o.Dir); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", o.Dir, err)
	}
	lock, err := takeLock(filepath.Join(o.Dir, lockName), o.LockWait)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j, err := openLocked(o)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.lock = lock
	return j, nil
}

func openLocked(o Options) (*Journal, error) {
	path := filepath.Join(o.Dir, storeName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createStore(o.Dir); err != nil {
			return nil, err
		}
	}
	// A process that was killed between its rename and its sync of the directory
	// left a name that a power cut could still take away.
	if err := syncDir(o.Dir); err != nil {
		return nil, err
	}
	// bbolt may write when it opens for writing, so whose file it is is asked first.
	look, err := openStore(path, true, o.LockWait)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(look.damage, look.close()); err != nil {
		return nil, err // nothing is written over a file that lacks something (L13)
	}
	db, err := openStore(path, false, o.LockWait)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		reader: reader{db}, now: o.Now, first: o.FirstSTAN, traces: map[Lane]trace{},
		commit: func(tx *bolt.Tx) error { return tx.Commit() },
	}
	var journalID []byte
	err = j.view(func(tx *bolt.Tx) error {
		journalID = append(journalID, tx.Bucket(bucketMeta).Get(keyID)...)
		return nil
	})
	if err == nil {
		j.seal, err = newSealer(o.DeviceKey, journalID)
	}
	if err != nil {
		_ = db.close()
		return nil, err
	}
	return j, nil
}

// MakeDir makes a directory (mode 0700) and what is missing above it, and syncs
// the parents, so that a power cut cannot take it away. The parent of one that is
// there already is synced too, where it may be opened: whoever made it may have
// been killed before that.
func MakeDir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%w: it is a file; a journal is a directory", ErrForeign)
		}
		if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := MakeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// Close gives the lock back. Every step that returned is durable already; Close
// adds nothing. Using the journal afterwards gives ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	return errors.Join(j.store.close(), j.lock.Close())
}

// clock is the wall clock of a step. A clock that says nonsense is left out: it
// must not keep a step from being recorded (L12).
func (j *Journal) clock() time.Time {
	at := j.now()
	if y := at.UTC().Year(); y < 1 || y > 9999 {
		return time.Time{}
	}
	return at
}

// Failed returns the error that stopped the journal, or nil while it works.
func (j *Journal) Failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// Snapshot is a journal opened for looking only.
type Snapshot struct{ reader }

// Inspect opens the journal in a directory read-only. It writes nothing, not
// even the lock file, and needs no key. While another process has the journal
// open for writing it fails with ErrBusy after wait (0 means LockWaitDefault).
// It holds a shared lock until Close.
func Inspect(dir string, wait time.Duration) (*Snapshot, error) {
	if wait <= 0 {
		wait = LockWaitDefault
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("inspect journal: %w: %s does not exist", ErrNone, dir)
	case err != nil:
		return nil, fmt.Errorf("inspect journal: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("inspect journal: %w: %s is a file; a journal is a directory", ErrForeign, dir)
	}
	db, err := openStore(filepath.Join(dir, storeName), true, wait)
	var busy *LockError
	if errors.As(err, &busy) {
		busy.Holder = lockHolder(filepath.Join(dir, lockName))
	}
	if err != nil {
		return nil, fmt.Errorf("inspect journal: %w", err)
	}
	return &Snapshot{reader{db}}, nil
}

// Damage is what is wrong with the journal's file as a whole, nil when nothing is.
// Entries can be read beside it, as far as they are there: a step or an entry may
// be missing unsaid.
func (s *Snapshot) Damage() error { return s.store.damage }

// Close gives the shared lock back.
func (s *Snapshot) Close() error { return s.store.close() }
