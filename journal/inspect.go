package journal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Snapshot is a journal as it was at one moment.
type Snapshot struct {
	reader
	around *around
	whole  error // what was wrong with the files as such
	copied *os.File
}

// Bounds of a look at a journal that somebody writes to.
const (
	lookTries    = 20_000 // however long it may wait
	lookPause    = 5 * time.Millisecond
	movedPause   = 200 * time.Microsecond // right after a commit there is the most time to copy
	copyInMemory = 64 << 20               // a longer store is copied into a file without a name
)

// Inspect reads the journal in a directory, which a terminal may be writing to at
// the time: it takes no lock, writes nothing, and does not slow the writer. It
// gives one consistent moment, with everything in it that was acknowledged before
// Inspect was called; of a step that was under way it may have the newest. It works
// on a copy, on a damaged journal (see Damage) and on an older format, and needs no
// key.
//
// wait bounds how long it tries while the writer gets in its way, 0 means
// LockWaitDefault; then it fails with ErrBusy. That takes a writer at full speed and a
// journal so long that the next commit comes before it is copied (some 100 MB). Errors wrap ErrNone, ErrForeign,
// ErrNewer, or ErrDamaged where nothing can be read.
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
	s, err := lookUntil(dir, time.Now().Add(wait))
	if err != nil {
		return nil, fmt.Errorf("inspect journal: %w", err)
	}
	return s, nil
}

// lookUntil tries until the writer did not get in the way. Damage is believed when
// two looks in a row saw the same bytes: what a writer does half way looks like
// damage and is gone at the next look.
func lookUntil(dir string, deadline time.Time) (*Snapshot, error) {
	var before *glimpse
	for n := range lookTries {
		g, err := look1(dir)
		switch {
		case errors.Is(err, errMoved):
		case err == nil && g.whole() == nil:
			before.close()
			return g.snapshot, nil
		case err == nil && before != nil && g.same(before):
			before.close()
			return g.snapshot, nil
		case err != nil && before != nil && before.err != nil && before.err.Error() == err.Error():
			return nil, err
		}
		before.close()
		before = g
		pause := movedPause
		if !errors.Is(err, errMoved) {
			pause = lookPause
		}
		if err != nil && !errors.Is(err, errMoved) {
			before = &glimpse{err: err}
		}
		if n > 0 && !time.Now().Before(deadline) {
			break
		}
		time.Sleep(pause)
	}
	before.close()
	return nil, fmt.Errorf("%w: process %s writes to %s all the time", ErrBusy, cmp.Or(lockHolder(filepath.Join(dir, lockName)), "unknown"), dir)
}

// errMoved: the journal went on while it was looked at.
var errMoved = errors.New("the journal went on meanwhile")

// glimpse is one look, right or not.
type glimpse struct {
	snapshot *Snapshot
	regions  [2][]byte
	txid     uint64
	err      error
}

func (g *glimpse) whole() error { return g.snapshot.whole }

func (g *glimpse) same(other *glimpse) bool {
	return other.err == nil && g.txid == other.txid && bytes.Equal(g.regions[0], other.regions[0]) && bytes.Equal(g.regions[1], other.regions[1])
}

func (g *glimpse) close() {
	if g != nil && g.snapshot != nil {
		_ = g.snapshot.Close()
	}
}

// look1 looks once. The write-ahead file is read first, then the store is copied:
// what leaves the write-ahead file meanwhile is in the store by then.
func look1(dir string) (*glimpse, error) {
	path := filepath.Join(dir, storeName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNone, path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	g := &glimpse{}
	wals, err := readWALs(dir)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{}
	l, err := s.copyStore(f, path)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	g.snapshot, g.txid = s, l.pages.txid()
	s.around = &around{pages: l.pages}
	s.reader = reader{path: path, view: func(do func(tree) error) error { return do(s.around) }}
	s.whole = l.damage
	if l.version == 1 {
		id, err := l.pages.get(bucketMeta, keyID)
		s.journalID, s.tail = id, newTail(storeState{Chain: make([]byte, linkBytes)})
		s.whole = errors.Join(s.whole, err)
		return g, nil
	}
	id, st, err := identify(l.pages)
	s.journalID = id
	if err != nil {
		s.whole, s.tail = errors.Join(s.whole, err), newTail(storeState{Chain: make([]byte, linkBytes)})
		return g, nil
	}
	g.regions = wals[walName(st.Generation)]
	s.addTail(dir, st, g.regions)
	return g, nil
}

// addTail puts the frames that the store has not got on top of it, as far as they
// can be read.
func (s *Snapshot) addTail(dir string, st storeState, regions [2][]byte) {
	s.tail = newTail(st)
	w := &wal{path: filepath.Join(dir, walName(st.Generation)), journalID: s.journalID, generation: st.Generation, region: st.Region}
	var found [2]scanned
	for n, b := range regions {
		var err error
		if int64(len(b)) != st.Region {
			err = fmt.Errorf("%w: %s is missing or cut; the newest steps were in it", ErrDamaged, w.path)
		} else {
			found[n], err = w.scanBytes(n, b)
		}
		if err != nil {
			s.whole = errors.Join(s.whole, err)
			return
		}
	}
	frames, err := tailOf(found, st.Applied)
	if err != nil {
		s.whole = errors.Join(s.whole, fmt.Errorf("%s: %w", w.path, err))
	}
	for _, f := range frames {
		if err := s.tail.add(f); err != nil {
			s.whole = errors.Join(s.whole, err)
			return
		}
	}
}

// readWALs reads every write-ahead file of a directory: which one belongs to the
// store is known when the store was copied. The older region is read first: what is
// written meanwhile goes into the newer one, or, once that is full, over the older.
func readWALs(dir string) (map[string][2][]byte, error) {
	paths, _, err := walFiles(dir)
	if err != nil {
		return nil, err
	}
	all := map[string][2][]byte{}
	for _, path := range paths {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errMoved
		}
		if err != nil {
			return nil, err
		}
		regions, err := readRegions(f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all[filepath.Base(path)] = regions
	}
	return all, nil
}

func readRegions(f *os.File) (regions [2][]byte, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() > 2*regionBytesMax {
		return regions, err
	}
	size := info.Size() / 2
	order := []int{0, 1}
	epochs := func() (e [2]string) {
		for n := range e {
			b := make([]byte, headerBytes)
			_, _ = f.ReadAt(b, int64(n)*size)
			e[n] = string(b)
		}
		return e
	}
	before := epochs()
	if epochOf(before[0]) > epochOf(before[1]) {
		slices.Reverse(order)
	}
	for _, n := range order {
		regions[n] = make([]byte, size)
		if _, err := f.ReadAt(regions[n], int64(n)*size); err != nil && !errors.Is(err, io.EOF) {
			return regions, err
		}
	}
	if epochs() != before {
		return regions, errMoved
	}
	return regions, nil
}

// storeFile is a store as it is copied.
type storeFile interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}

// copyStore copies the store. The copy is one moment of it when the newest
// transaction is the same before and after: bbolt writes over no page of the newest
// committed tree while the next transaction runs.
func (s *Snapshot) copyStore(f storeFile, path string) (*look, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file; it was left as it is", ErrForeign, path)
	}
	size := info.Size()
	live, err := openPages(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it was left as it is", path, err)
	}
	used := min(size, int64(live.end())*live.pageSize)
	to, err := s.room(used)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(to, io.NewSectionReader(f, 0, used)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	if after, err := readTxid(f, live.pageSize); err != nil || after != live.txid() {
		return nil, errMoved
	}
	l, err := lookAt(to.(io.ReaderAt), used, path)
	if err == nil && live.meta.high > live.count {
		l.damage = errors.Join(l.damage, wholeStore(live))
	}
	return l, err
}

// room is where a copy goes: memory, or a file that has no name any more.
func (s *Snapshot) room(size int64) (io.Writer, error) {
	if size <= copyInMemory {
		return &memory{make([]byte, 0, size)}, nil
	}
	f, err := os.CreateTemp("", "journal-look-*")
	if err != nil {
		return nil, fmt.Errorf("no room for a copy of %d bytes to look at: %w", size, err)
	}
	s.copied = f
	return f, os.Remove(f.Name())
}

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) Write(b []byte) (int, error) {
	m.b = append(m.b, b...)
	return len(b), nil
}

func (m *memory) ReadAt(b []byte, at int64) (int, error) { return bytes.NewReader(m.b).ReadAt(b, at) }

// Damage is what is wrong with the journal's files, as far as it was seen so far,
// nil when nothing is. Entries can be read beside it, as far as they are there: a
// step or an entry may be missing, so every list that is read says so too.
func (s *Snapshot) Damage() error { return errors.Join(s.whole, s.around.damage()) }

// Entry is Journal.Entry. What is not there in a damaged journal may be what cannot
// be read: ErrDamaged.
func (s *Snapshot) Entry(id ID) (Entry, error) {
	e, err := s.reader.Entry(id)
	if damage := s.Damage(); errors.Is(err, ErrNoEntry) && damage != nil {
		return e, fmt.Errorf("entry %d cannot be found: %w", id, damage)
	}
	return e, err
}

// Entries is Journal.Entries. Damage of the files comes last.
func (s *Snapshot) Entries(q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range s.reader.Entries(q) {
			if !yield(e, err) {
				return
			}
		}
		if damage := s.Damage(); damage != nil {
			yield(Entry{}, damage)
		}
	}
}

// Armed is Journal.Armed.
func (s *Snapshot) Armed() ([]Entry, error) { return s.partly(s.reader.Armed()) }

// Owed is Journal.Owed.
func (s *Snapshot) Owed() ([]Entry, error) { return s.partly(s.reader.Owed()) }

// Parked is Journal.Parked.
func (s *Snapshot) Parked() ([]Entry, error) { return s.partly(s.reader.Parked()) }

func (s *Snapshot) partly(list []Entry, err error) ([]Entry, error) {
	if damage := s.Damage(); damage != nil && err == nil {
		err = fmt.Errorf("%w: %w", ErrPartial, damage)
	}
	return list, err
}

// Close gives the copy's room back.
func (s *Snapshot) Close() error {
	if s.tail != nil {
		s.tail.close()
	}
	if s.copied != nil {
		f := s.copied
		s.copied = nil
		return f.Close()
	}
	return nil
}
