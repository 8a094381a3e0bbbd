package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// look is a store as its bytes are, read without bbolt: bbolt locks, may write when
// it opens a file, and trusts what stands in it.
type look struct {
	pages   *pages
	version byte
	damage  error // what is wrong with the file as a whole; it can be read all the same
}

// lookAt reads a store that nobody writes to, or a copy. Errors are ErrForeign,
// ErrNewer, and ErrDamaged where nothing can be read.
func lookAt(r io.ReaderAt, size int64, path string) (*look, error) {
	p, err := openPages(r, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it was left as it is", path, err)
	}
	l := &look{pages: p, damage: wholeStore(p)}
	if l.version, err = checkFormat(p); err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(l.damage, err))
	}
	names := buckets
	if l.version == 1 {
		names = bucketsOfFormat1
	}
	l.damage = errors.Join(l.damage, p.checkSkeleton(names...))
	if l.damage != nil {
		l.damage = fmt.Errorf("%s: %w", path, l.damage)
	}
	return l, nil
}

// wholeStore finds the two kinds of damage that bbolt passes over without a word
// (L13): of two meta pages one does not hold together, and bbolt then goes on from
// the other, which may lack the newest commit; or the file ends before the pages
// that it counts. A sector is written whole or not at all, so a power cut leaves
// both pages whole.
func wholeStore(p *pages) (err error) {
	for n, wrong := range p.metas() {
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%w: meta page %d does not hold together, so the newest steps may be missing", ErrDamaged, n))
		}
	}
	if p.meta.high > p.count {
		err = errors.Join(err, fmt.Errorf("%w: the file ends after %d of its %d pages", ErrDamaged, p.count, p.meta.high))
	}
	return err
}

// lookAtFile is lookAt for a file that stands still.
func lookAtFile(path string) (*look, *os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %s", ErrNone, path)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is no file; it was left as it is", ErrForeign, path)
	}
	var l *look
	if err == nil {
		l, err = lookAt(f, info.Size(), path)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return l, f, nil
}

func (l *look) view(do func(tree) error) error { return do(l.pages) }

// around is a tree that goes round what cannot be read, and notes it.
type around struct {
	*pages
	mu  sync.Mutex
	bad []error
}

func (a *around) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, known := range a.bad {
		if known.Error() == err.Error() {
			return
		}
	}
	if len(a.bad) < badMax {
		a.bad = append(a.bad, err)
	}
}

// damage is what was gone round so far.
func (a *around) damage() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.bad...)
}

func (a *around) ascend(bucket, from []byte, visit func(k, v []byte) bool) error {
	a.ascendAround(bucket, from, inOrder(from, 1, visit), a.note)
	return nil
}

func (a *around) descend(bucket, from []byte, visit func(k, v []byte) bool) error {
	a.descendAround(bucket, from, inOrder(from, -1, visit), a.note)
	return nil
}

// inOrder leaves out what stands in a wrong place on a damaged page: who walks on
// from the last key must get on.
func inOrder(from []byte, way int, visit func(k, v []byte) bool) func(k, v []byte) bool {
	var last []byte
	return func(k, v []byte) bool {
		if from != nil && way*bytes.Compare(k, from) < 0 || last != nil && way*bytes.Compare(k, last) <= 0 {
			return true
		}
		last = append(last[:0], k...)
		return visit(k, v)
	}
}
