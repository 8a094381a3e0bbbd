package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// overflowRunsMax is how many leaves with overflow checkSkeleton asks for it.
const overflowRunsMax = 4096

// checkSkeleton checks what leads to the entries, at the cost of the branch pages
// alone: each inside the file and below the high-water mark, none reached twice
// or on the free list, keys in order, leaves at one depth, no page that nothing
// leads to: a walk cannot miss what it does not know of. Of each bucket's leaves
// it reads the first and the last; bbolt's own root bucket and the free list it
// reads whole. All buckets are checked, and those named must be there. Errors:
// ErrDamaged, and errNoBucket with it.
func (p *pages) checkSkeleton(buckets ...[]byte) error {
	if err := p.wrong[p.current]; err != nil {
		return err
	}
	used, free := newPageSet(p.end()), newPageSet(p.end())
	used.add(0)
	used.add(1)
	if err := p.readFreelist(used, free); err != nil {
		return err
	}
	var bad error
	root := pageWalk{p: p, buckets: true, seen: used, visit: func(e pageElement) bool {
		var t pageTree
		if t, bad = parseBucket(e); bad == nil {
			w := pageWalk{p: p, visit: func(pageElement) bool { return true }, seen: used, skeleton: true}
			bad = w.run(t)
		}
		return bad == nil
	}}
	if err := root.run(p.rootTree()); err != nil || bad != nil {
		return errors.Join(err, bad)
	}
	for _, name := range buckets {
		if _, err := p.tree(name, nil); err != nil {
			return err
		}
	}
	if err := p.disjoint(used, free); err != nil || p.meta.freelist == noFreelist {
		return err
	}
	return p.checkLost(used, free)
}

func (p *pages) disjoint(used, free *pageSet) error {
	for id := range p.end() {
		if used.has(id) && free.has(id) {
			return badPage(id, "it is in use and on the free list")
		}
	}
	return nil
}

// checkLost asks of each run of pages that nothing leads to (of so many as
// overflowRunsMax says) whether they are the overflow of the leaf before them. A
// lost subtree leaves pages behind that are not.
func (p *pages) checkLost(used, free *pageSet) error {
	asked := 0
	for id := uint64(2); id < p.end() && asked < overflowRunsMax; id++ {
		if used.has(id) || free.has(id) {
			continue
		}
		owner := id - 1
		h, err := readHeader(p.r, int64(owner)*p.pageSize)
		if err != nil {
			return unreadable(owner, err)
		}
		for id+1 < p.end() && !used.has(id+1) && !free.has(id+1) {
			id++
		}
		if h.kind != kindLeaf || uint64(h.overflow) != id-owner {
			return badPage(owner+1, "nothing leads to it, nor is it on the free list")
		}
		asked++
	}
	return nil
}

// checkFreelist checks what bbolt reads unchecked when it opens a file: where the
// free list stands, how long it is, and each id on it. A file may have none.
func (p *pages) checkFreelist() error {
	used, free := newPageSet(p.end()), newPageSet(p.end())
	if err := p.readFreelist(used, free); err != nil {
		return err
	}
	return p.disjoint(used, free)
}

// readFreelist adds what is on the free list to free, and the pages of the list
// itself to used. It is read page by page: it may be long.
func (p *pages) readFreelist(used, free *pageSet) error {
	first := p.meta.freelist
	if first == noFreelist {
		return nil
	}
	if err := p.within(first, 0); err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	buf := make([]byte, p.pageSize)
	if err := readFull(p.r, buf, int64(first)*p.pageSize); err != nil {
		return unreadable(first, err)
	}
	h := parseHeader(buf)
	if h.id != first || h.kind != kindFree {
		return badPage(first, "it is said to be the free list, and its header says page %d of kind %#x", h.id, h.kind)
	}
	if err := p.within(first, uint64(h.overflow)); err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	at, count := pageHeaderBytes, uint64(h.count)
	if count == 0xFFFF { // too many for the header
		count = binary.NativeEndian.Uint64(buf[at:])
		at += 8
		if count < 0xFFFF {
			return badPage(first, "its two counts contradict each other")
		}
	}
	room := (uint64(h.overflow)+1)*uint64(p.pageSize) - uint64(at)
	if count > room/8 {
		return badPage(first, "%d free pages do not fit", count)
	}
	list := freelist{p: p, first: first, left: count, used: used, free: free}
	for i := range uint64(h.overflow) + 1 {
		if i > 0 {
			if err := readFull(p.r, buf, int64(first+i)*p.pageSize); err != nil {
				return unreadable(first+i, err)
			}
		}
		if err := list.page(first+i, buf[at:]); err != nil {
			return err
		}
		at = 0
	}
	return nil
}

// freelist is a free list while it is read.
type freelist struct {
	p          *pages
	first      uint64
	last       uint64 // id read last
	left       uint64 // ids still to come
	used, free *pageSet
}

// page takes the ids from one page of the list. Behind the last id there are
// zeros: otherwise the count is too small.
func (l *freelist) page(id uint64, ids []byte) error {
	l.used.add(id)
	for ; len(ids) >= 8; ids = ids[8:] {
		free := binary.NativeEndian.Uint64(ids)
		if l.left == 0 {
			if free != 0 {
				return badPage(id, "the free list goes on behind its count")
			}
			continue
		}
		l.left--
		switch {
		case free < 2 || free >= l.p.end():
			return badPage(id, "page %d on the free list, of %d pages", free, l.p.end())
		case free <= l.last:
			return badPage(id, "page %d on the free list behind page %d", free, l.last)
		}
		l.last = free
		l.free.add(free)
	}
	return nil
}

// problemsMax is how many problems checkAll tells; it counts the others.
const problemsMax = 100

// problems collects what is wrong.
type problems struct {
	list []error
	more int
}

func (f *problems) add(err error) {
	switch {
	case err == nil:
	case len(f.list) < problemsMax:
		f.list = append(f.list, err)
	default:
		f.more++
	}
}

func (f *problems) err() error {
	if f.more > 0 {
		return fmt.Errorf("%w\nand %d more", errors.Join(f.list...), f.more)
	}
	return errors.Join(f.list...)
}

// checkAll reads every page in use and checks it, the free list, and that each
// page is in use or free, and not both. Errors: all problems (problemsMax of
// them), which wrap ErrDamaged; or the context's.
func (p *pages) checkAll(ctx context.Context) error {
	var found problems
	found.add(p.wrong[p.current])
	used, free := newPageSet(p.end()), newPageSet(p.end())
	used.add(0)
	used.add(1)
	found.add(p.readFreelist(used, free))

	walk := pageWalk{p: p, bad: found.add, seen: used, ctx: ctx}
	root := walk
	root.buckets = true
	var stopped error
	root.visit = func(e pageElement) bool {
		t, err := parseBucket(e)
		found.add(err)
		if t.there() {
			w := walk
			w.visit = func(pageElement) bool { return true }
			stopped = w.run(t)
		}
		return stopped == nil
	}
	if err := root.run(p.rootTree()); err != nil || stopped != nil {
		return errors.Join(err, stopped)
	}
	p.compare(used, free, len(found.list) == 0, &found)
	return found.err()
}

// compare tells the pages that are in use and free at once, and, when all that
// are in use are known, those that are neither.
func (p *pages) compare(used, free *pageSet, whole bool, found *problems) {
	both := pageRun{what: "in use and on the free list"}
	neither := pageRun{what: "neither in use nor on the free list"}
	neither.quiet = !whole || p.meta.freelist == noFreelist
	for id := range p.end() {
		both.next(id, used.has(id) && free.has(id), found)
		neither.next(id, !used.has(id) && !free.has(id), found)
	}
	both.next(p.end(), false, found)
	neither.next(p.end(), false, found)
}

// pageRun tells neighbouring pages in one line.
type pageRun struct {
	what   string
	quiet  bool
	length uint64
}

func (r *pageRun) next(id uint64, holds bool, found *problems) {
	switch {
	case r.quiet:
	case holds:
		r.length++
	case r.length > 0:
		found.add(fmt.Errorf("%w: pages %d to %d are %s", ErrDamaged, id-r.length, id-1, r.what))
		r.length = 0
	}
}

// pageSet is a set of page ids below a bound.
type pageSet struct {
	bits []uint64
	end  uint64
}

// newPageSet makes a set for the ids below end, which is pagesMax at most.
func newPageSet(end uint64) *pageSet {
	return &pageSet{bits: make([]uint64, (end+63)/64), end: end}
}

func (s *pageSet) has(id uint64) bool {
	return id < s.end && s.bits[id/64]>>(id%64)&1 != 0
}

// add says whether the id is new and below the bound.
func (s *pageSet) add(id uint64) bool {
	if id >= s.end || s.has(id) {
		return false
	}
	s.bits[id/64] |= 1 << (id % 64)
	return true
}
