package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Options say how to open a journal. Only Dir is needed to read; Begin needs a
// device key.
type Options struct {
	Dir       string           // made with mode 0700 if it is not there
	Keys      KeySource        // the device's keys: they seal what a reversal needs (L11) and key the chain
	DeviceKey Secret           // one key of KeyBytes, for whoever has no KeySource
	LockWait  time.Duration    // how long to wait for another process; 0 means LockWaitDefault
	Now       func() time.Time // wall clock of the records; nil means time.Now
	// FirstSTAN is where the trace numbers of a lane begin that the journal does not
	// know yet, 1 to 999999; 0 draws one by chance. A journal that took the place of
	// a lost one must not give out the same numbers again: some hosts tell a sale by
	// its trace number and batch alone, and would reverse the wrong one.
	FirstSTAN uint32
	// Expect is the ID of the journal that this device was commissioned with, ""
	// when it is not known. Another one, or none, is then an error: a journal that
	// is gone is not replaced by an empty one unsaid (L13).
	Expect string
	// Terminal names the device. It is written into a journal when it is made; a
	// journal that names another one was copied here and is refused. "" means any.
	Terminal string
	// Notice hears what somebody should see to about the disk, nil for nobody. It must
	// not call the journal.
	Notice func(Notice)
	// MaxBytes is what the store's entries, index and chain may take before the oldest
	// settled entries are pruned, 0 means MaxBytesDefault. The write-ahead file, and what
	// is set aside for settling, come on top; what is open or parked stays however much
	// it is, and so do the newest 500 or so.
	MaxBytes int64
	// KeepFor is how long a settled entry is kept, 0 for as long as MaxBytes allows. It goes
	// with one of the next sales, or with Prune. It is time that the device was on, for no other clock can be trusted (L12): a device that is switched off
	// at night keeps entries longer. Entries whose reversal was owed are kept four times
	// as long, and under MaxBytes four times as far back.
	KeepFor time.Duration
	// RegionBytes is half of the write-ahead file of a journal that is made, 0 means
	// RegionBytesDefault.
	RegionBytes int64
}

// LockWaitDefault is how long Open waits for the lock.
const LockWaitDefault = 5 * time.Second

func (o Options) validated() (Options, error) {
	switch {
	case o.Dir == "":
		return o, fmt.Errorf("%w: no directory was named", ErrInvalid)
	case o.FirstSTAN > stanMax:
		return o, fmt.Errorf("%w: the first trace number must be 1 to %d, or 0", ErrInvalid, stanMax)
	case o.Keys != nil && len(o.DeviceKey) > 0:
		return o, fmt.Errorf("%w: a key source and a device key were given; one of them is enough", ErrInvalid)
	case o.MaxBytes != 0 && o.MaxBytes < maxBytesMin:
		return o, fmt.Errorf("%w: a journal must be allowed %d bytes or more", ErrInvalid, maxBytesMin)
	case o.KeepFor != 0 && o.KeepFor < keepForMin:
		return o, fmt.Errorf("%w: entries must be kept for %s or more", ErrInvalid, keepForMin)
	case o.RegionBytes != 0 && (o.RegionBytes < RegionBytesMin || o.RegionBytes > regionBytesMax || o.RegionBytes%4096 != 0):
		return o, fmt.Errorf("%w: a region must have %d to %d bytes, a multiple of 4096", ErrInvalid, RegionBytesMin, regionBytesMax)
	}
	if err := text("terminal", o.Terminal); err != nil {
		return o, err
	}
	if len(o.DeviceKey) > 0 {
		ring, err := NewKeyRing(o.DeviceKey)
		if err != nil {
			return o, err
		}
		o.Keys, o.DeviceKey = ring, nil
	}
	if o.LockWait <= 0 {
		o.LockWait = LockWaitDefault
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = MaxBytesDefault
	}
	if o.RegionBytes == 0 {
		o.RegionBytes = RegionBytesDefault
	}
	return o, nil
}

// Journal is an open journal. Its process holds the lock until Close.
type Journal struct {
	reader
	dir    string
	now    func() time.Time
	first  uint32    // Options.FirstSTAN
	keys   KeySource // nil for none
	seal   *sealer   // nil without a device key
	lock   *os.File
	store  *store
	wal    *wal
	commit func(*bolt.Tx) error // tests put a failing disk here
	state  storeState           // as the store has it; the checkpoint's own while one runs

	notice func(Notice)
	free   func(dir string) (int64, error) // freeBytes and usedPercent; tests put a full disk here
	used   func(dir string) (int, error)
	moves  bool // the file system moves blocks that are overwritten

	uptime    func() time.Duration // sinceBoot; tests put a clock here
	maxBytes  int64                // Options.MaxBytes
	keepFor   time.Duration        // Options.KeepFor
	keepSteps uint64
	planner   func() (*plan, error) // planPrune; tests listen here

	spare  atomic.Int64 // what the store can take without another block, since the last look
	warned atomic.Bool  // NoticeDisk was given

	background sync.WaitGroup // the checkpoint that runs

	numbers numbers

	line    line   // callers whose steps are not staged yet
	company int    // callers in the last batches; the leader's
	before  uint32 // sum of the newest frame written; the leader's
	buffer  []byte // for the write; the leader's

	mu       sync.Mutex // what follows, and the order of steps; taken before line's, tail's and numbers'
	room     *sync.Cond // a batch was written, a checkpoint ended, or the journal failed
	failed   error      // the first failed write; no step after it (L13)
	closed   bool
	writing  bool           // a batch is on its way to the disk, and mu free
	halts    int            // who waits in still: no batch begins meanwhile
	applying bool           // a checkpoint runs
	batch    []*staged      // being gathered
	inflight map[ID]*record // entries as the batch leaves them
	plan     *plan          // goes in front of the next step, nil for none
	leaving  spans          // entries that the batch takes away
	index    uint64         // of the newest frame staged
	durable  uint64         // of the newest frame that is durable
	link     link           // at the newest frame staged
	linker   linker
	cur      int       // region being filled
	off      int64     // where the next frame goes in it
	epoch    [2]uint32 // of the regions
	ready    [2]bool   // given back, and prepared
	lastID   ID
	boot     uint32
	open     int // entries that are begun, owed or parked, once all that is staged is durable

	bootNote, keyNote []byte // go in front of the next step
	nextLinker        linker // of the frames behind keyNote
}

// Open opens the journal in a directory, making an empty one where there is
// none. It waits for the lock at most Options.LockWait.
//
// Errors wrap ErrBusy (a *LockError), ErrForeign, ErrNewer, ErrDamaged, ErrCopied,
// ErrMissing or ErrKey; whatever was in the directory is then untouched.
func Open(o Options) (*Journal, error) {
	o, err := o.validated()
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := MakeDir(o.Dir); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", o.Dir, err)
	}
	kind, err := fsKindOf(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if kind.unfit() {
		return nil, fmt.Errorf("open journal: %w: %s is on %s; put it on another", ErrUnfit, o.Dir, kind)
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
	j.watchDisk()
	if detectFastCommit(o.Dir) {
		j.notify(NoticeFastCommit, "the file system under %s commits fast (ext4 fast_commit): after a power cut it may not mount; turn that off", o.Dir)
	}
	return j, nil
}

func openLocked(o Options) (*Journal, error) {
	if err := prepare(o); err != nil {
		return nil, err
	}
	store, err := openStore(filepath.Join(o.Dir, storeName), o.LockWait)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		reader: reader{path: store.path}, dir: o.Dir, now: o.Now, first: o.FirstSTAN, store: store, keys: o.Keys, notice: o.Notice, free: freeBytes, used: usedPercent,
		uptime: sinceBoot, maxBytes: o.MaxBytes, keepFor: o.KeepFor, keepSteps: keepSteps,
		commit: func(tx *bolt.Tx) error { return tx.Commit() }, inflight: map[ID]*record{}, numbers: numbers{traces: map[Lane]trace{}, inUse: map[laneSTAN]int{}},
	}
	j.room, j.planner = sync.NewCond(&j.mu), j.planPrune
	j.view = func(do func(tree) error) error { return j.store.view(do) }
	j.hold = func() (func(func(tree) error) error, func()) {
		s := j.store
		s.use.RLock()
		return s.view, s.use.RUnlock
	}
	err = j.load(o)
	if err != nil {
		j.closeFiles()
		return nil, err
	}
	return j, nil
}

// load brings the journal to where the disk is.
func (j *Journal) load(o Options) (err error) {
	if err := j.view(func(t tree) (err error) {
		j.journalID, j.state, err = identify(t)
		return err
	}); err != nil {
		return err
	}
	if err := j.state.isHere(o, j.journalID); err != nil {
		return err
	}
	if j.wal, err = openWAL(j.dir, j.journalID, j.state, false); err != nil {
		return err
	}
	if j.seal, err = newSealer(o.Keys, j.journalID); err != nil {
		return err
	}
	regions, frames, err := j.wal.unapplied(j.state)
	if err != nil {
		return err
	}
	if err := j.makeDurable(regions); err != nil {
		j.mark() // what the kernel shows from here on is not to be believed
		return err
	}
	chain, err := follow(j.state, frames, o.Keys)
	if err != nil {
		return err
	}
	if j.tail, err = tailWith(j.state, frames); err != nil {
		return err
	}
	j.durable = j.tail.newest()
	j.index, j.link, j.lastID = j.durable, j.tail.link, j.tail.lastID
	if err := j.continueChain(chain, o.Keys); err != nil {
		return err
	}
	j.noteBoot(frames)
	if err := j.settleIn(); err != nil {
		return err
	}
	removeOld(j.dir, j.state.Generation) // of a process that was killed before it did
	j.resume(regions)
	return nil
}

// makeDurable syncs all that was read so far. Whoever wrote it may have been killed
// before its sync, or its sync may have failed, and the kernel would show it all the
// same: what is acted on from here on must survive a power cut (L1, L3). That the
// store has a step is believed only then.
func (j *Journal) makeDurable(regions [2]scanned) error {
	if err := (osFile{j.store.file}).Datasync(); err != nil {
		return err
	}
	return j.wal.writeBack(regions, j.state.Applied)
}

// resume finds the place for the next frame, and takes over what a full region
// still holds.
func (j *Journal) resume(regions [2]scanned) {
	newer := 0
	if regions[1].epoch > regions[0].epoch {
		newer = 1
	}
	older := 1 - newer
	j.epoch = [2]uint32{regions[0].epoch, regions[1].epoch}
	if s := regions[newer]; len(s.frames) > 0 {
		j.cur, j.off, j.before = newer, s.end, s.frames[len(s.frames)-1].sum
		last := uint64(0)
		if n := len(regions[older].frames); n > 0 {
			last = regions[older].frames[n-1].index
		}
		j.absorbRegion(older, last)
		return
	}
	j.cur, j.off = older, regions[older].end
	if n := len(regions[older].frames); n > 0 {
		j.before = regions[older].frames[n-1].sum
	}
	j.ready[newer] = true
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
	made := os.Mkdir(dir, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return made
	}
	err = syncDir(parent)
	if err != nil && made == nil { // or a later sync might pass it over, see takeBack
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}

// Close gives the lock back, once the steps that are under way have ended. Every
// step that returned is durable already; Close adds nothing. Using the journal
// afterwards gives ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.numbers.halt(ErrClosed)
	j.room.Broadcast()
	for j.writing {
		j.room.Wait()
	}
	j.mu.Unlock()
	j.background.Wait()
	j.tail.close()
	return j.closeFiles()
}

func (j *Journal) closeFiles() error {
	err := j.store.close()
	if j.wal != nil {
		err = errors.Join(err, j.wal.close())
	}
	if j.lock != nil {
		err = errors.Join(err, j.lock.Close())
	}
	return err
}

// Failed returns the error that stopped the journal, or nil while it works.
func (j *Journal) Failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}
