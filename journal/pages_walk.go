package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// get returns the value under a key, nil when there is none. Errors: ErrDamaged,
// and errNoBucket with it when there is no such bucket.
func (p *pages) get(bucket, key []byte) ([]byte, error) {
	var value []byte
	err := p.ascend(bucket, key, func(k, v []byte) bool {
		if bytes.Equal(k, key) {
			value = v // the walk ends here, so nobody reuses its buffer
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// ascend visits the keys of a bucket from one on (nil: from the first), in order,
// until visit returns false. Key and value are valid until it returns. Errors are
// as for get; what was visited before one is in order and in its place.
func (p *pages) ascend(bucket, from []byte, visit func(k, v []byte) bool) error {
	return p.walk(bucket, pageWalk{p: p, from: from, visit: pairs(visit)})
}

// descend visits the keys of a bucket from one downwards (nil: from the last).
func (p *pages) descend(bucket, from []byte, visit func(k, v []byte) bool) error {
	return p.walk(bucket, pageWalk{p: p, from: from, falling: true, visit: pairs(visit)})
}

// ascendAround is ascend that goes round what cannot be read: it reports it and
// goes on behind it. On a damaged page it visits whatever can be made out there,
// in whatever order and place: the values' own checksums must judge.
func (p *pages) ascendAround(bucket, from []byte, visit func(k, v []byte) bool, bad func(error)) {
	_ = p.walk(bucket, pageWalk{p: p, from: from, visit: pairs(visit), bad: bad})
}

// descendAround is ascendAround downwards.
func (p *pages) descendAround(bucket, from []byte, visit func(k, v []byte) bool, bad func(error)) {
	_ = p.walk(bucket, pageWalk{p: p, from: from, falling: true, visit: pairs(visit), bad: bad})
}

func pairs(visit func(k, v []byte) bool) func(pageElement) bool {
	return func(e pageElement) bool { return visit(e.key, e.value) }
}

// sequence is a bucket's counter.
func (p *pages) sequence(bucket []byte) (uint64, error) {
	t, err := p.tree(bucket, nil)
	return t.sequence, err
}

func (p *pages) walk(bucket []byte, w pageWalk) error {
	t, err := p.tree(bucket, w.bad)
	if err != nil {
		if w.bad != nil {
			w.bad(err)
		}
		return err
	}
	return w.run(t)
}

// pageTree is a bucket: a tree of pages, or one leaf inside another page.
type pageTree struct {
	root     uint64
	inline   *pageNode
	sequence uint64
}

// tree finds a bucket in the root bucket; bad is as for a walk.
func (p *pages) tree(bucket []byte, bad func(error)) (t pageTree, err error) {
	err = fmt.Errorf("%w: %w: %s", ErrDamaged, errNoBucket, bucket)
	report := bad
	if bad != nil {
		report = func(e error) {
			err = fmt.Errorf("%w: what leads to the bucket %s cannot be read", ErrDamaged, bucket)
			bad(e)
		}
	}
	w := pageWalk{p: p, from: bucket, buckets: true, bad: report, visit: func(e pageElement) bool {
		found := bytes.Equal(e.key, bucket)
		if found {
			t, err = parseBucket(e)
		}
		// On a damaged page the one looked for may come later.
		return !found && bad != nil
	}}
	if werr := w.run(p.rootTree()); werr != nil {
		return t, werr
	}
	if err != nil && bad != nil && t.there() {
		bad(err)
		err = nil
	}
	return t, err
}

func (p *pages) rootTree() pageTree { return pageTree{root: p.meta.root} }

// there says whether there is anything to be read.
func (t pageTree) there() bool { return t.root != 0 || t.inline != nil }

// parseBucket reads a bucket's value. With an error there may still be a tree
// worth a look.
func parseBucket(e pageElement) (pageTree, error) {
	if len(e.value) < bucketHeaderBytes {
		return pageTree{}, badPage(e.page, "a bucket of %d bytes", len(e.value))
	}
	t := pageTree{root: binary.NativeEndian.Uint64(e.value), sequence: binary.NativeEndian.Uint64(e.value[8:])}
	if len(e.value) == bucketHeaderBytes {
		if t.root == 0 {
			return t, badPage(e.page, "a bucket without pages")
		}
		return t, nil
	}
	n, err := inlineNode(e.page, e.value)
	if n.bytes != nil {
		t.inline = &n
	}
	if err == nil && t.root != 0 {
		err = badPage(e.page, "a bucket with a page of its own and a leaf inside")
	}
	return t, err
}

// pageWalk is one walk over one tree.
type pageWalk struct {
	p       *pages
	from    []byte                 // where to begin; nil: at the end
	falling bool                   // from high keys to low ones
	buckets bool                   // the root bucket holds buckets only, the others none
	visit   func(pageElement) bool // false ends the walk
	bad     func(error)            // goes round what is bad; nil: the first one ends the walk
	ctx     context.Context        // nil: no end from outside
	seen    *pageSet               // pages reached so far; shared between walks
	// skeleton leaves out all leaves but the first and the last: that they are
	// where they can be, and reached once, is seen from the branches.
	skeleton bool

	tree   pageTree
	left   uint64   // how many pages it may still read
	path   []uint64 // from the root to here
	bufs   [treeDepthMax][]byte
	depth  int // of the leaves; 0 until the first one was reached, -1 when they disagree
	landed bool
}

func (w *pageWalk) run(t pageTree) error {
	// A page is in a tree once: who reads more pages than there are goes round.
	w.tree, w.left, w.depth, w.landed = t, w.p.end(), 0, false
	if w.seen == nil && w.bad != nil {
		w.seen = newPageSet(w.p.end())
	}
	var err error
	if t.inline != nil {
		_, err = w.node(*t.inline, nil, nil)
	} else {
		_, err = w.page(t.root, nil, nil)
	}
	return err
}

// goOn reports what is bad, and says whether the walk goes on round it.
func (w *pageWalk) goOn(err error) bool {
	if w.bad == nil {
		return false
	}
	w.bad(err)
	return true
}

// skip is the end of a subtree that cannot be walked.
func (w *pageWalk) skip(err error) (more bool, _ error) {
	if w.goOn(err) {
		return true, nil
	}
	return false, err
}

// page walks what hangs on one page; its keys must be from low on and below high.
func (w *pageWalk) page(id uint64, low, high []byte) (more bool, err error) {
	if w.ctx != nil && w.ctx.Err() != nil {
		return false, w.ctx.Err()
	}
	depth := len(w.path)
	if slices.Contains(w.path, id) {
		return w.skip(badPage(id, "the tree leads from it back to it"))
	}
	if depth == treeDepthMax || w.left == 0 {
		return w.skip(badPage(id, "the tree is deeper or larger than it can be"))
	}
	if err := w.p.within(id, 0); err != nil {
		return w.skip(err)
	}
	if err := w.mark(id, 1); err != nil {
		return w.skip(err)
	}
	w.left--
	n, err := w.p.node(id, &w.bufs[depth])
	if err != nil && !w.goOn(err) {
		return false, err
	}
	if n.bytes == nil {
		return true, nil
	}
	w.path = append(w.path, id)
	more, err = w.node(n, low, high)
	w.path = w.path[:depth]
	return more, err
}

// mark notes that pages were reached, for those who keep count.
func (w *pageWalk) mark(id, pages uint64) error {
	if w.seen == nil {
		return nil
	}
	for i := range pages {
		if !w.seen.add(id + i) {
			return badPage(id+i, "it is reached twice")
		}
	}
	return nil
}

func (w *pageWalk) node(n pageNode, low, high []byte) (more bool, err error) {
	err = n.check(low, high, w.buckets)
	damaged := err != nil
	if !damaged && n.pages > 1 {
		err = w.mark(n.id+1, n.pages-1)
	}
	if err != nil && !w.goOn(err) {
		return false, err
	}
	if !n.leaf {
		return w.branch(n, high, damaged)
	}
	if w.depth == 0 {
		w.depth = len(w.path)
	}
	if w.depth != len(w.path) && w.depth > 0 {
		if err := badPage(n.id, "this leaf is %d pages deep, others are %d", len(w.path), w.depth); !w.goOn(err) {
			return false, err
		}
		w.depth = -1 // said once
	}
	if damaged {
		return w.damagedLeaf(n), nil
	}
	return w.leaf(n)
}

func (w *pageWalk) branch(n pageNode, high []byte, damaged bool) (more bool, err error) {
	count := n.count
	if damaged {
		count = n.places()
	}
	i, step := w.start(n, damaged)
	for ; i >= 0 && i < count; i += step {
		bottom := w.skeleton && w.depth == len(w.path)+1 // known once there was a leaf
		if bottom && !damaged && i < count-1 {           // most children there are
			if more, err = w.leafUnread(n.child(i)); !more {
				return false, err
			}
			continue
		}
		e, _ := n.element(i) // the child stands there even when the key does not
		low, high := e.key, high
		if damaged {
			low, high = nil, nil // its keys tell nothing
		} else if i < count-1 {
			next, _ := n.element(i + 1)
			high = next.key
		}
		if bottom && high != nil {
			more, err = w.leafUnread(e.child)
		} else {
			more, err = w.page(e.child, low, high)
		}
		if !more {
			return false, err
		}
	}
	return true, nil
}

// start is the child to begin with and the direction.
func (w *pageWalk) start(n pageNode, damaged bool) (i, step int) {
	step = 1
	if w.falling {
		i, step = n.count-1, -1
		if damaged {
			i = n.places() - 1
		}
	}
	if damaged || w.from == nil {
		return i, step
	}
	i, exact := n.search(w.from)
	if !exact && i > 0 {
		i-- // the one before is the one that can have it
	}
	return i, step
}

// leafUnread is what a skeleton has of most leaves.
func (w *pageWalk) leafUnread(id uint64) (more bool, err error) {
	err = w.p.within(id, 0)
	if err == nil {
		err = w.mark(id, 1)
	}
	if err != nil {
		return w.skip(err)
	}
	return true, nil
}

// leaf visits the elements of a whole leaf.
func (w *pageWalk) leaf(n pageNode) (more bool, err error) {
	i, step, exact := 0, 1, false
	if w.falling {
		i, step = n.count-1, -1
	}
	if w.from != nil {
		i, exact = n.search(w.from)
		if w.falling && !exact {
			i--
		}
		edge := i == 0 && !w.falling || i == n.count-1 && w.falling
		if edge && !exact && !w.landed && len(w.path) > 1 {
			if err := w.lookOver(); err != nil && !w.goOn(err) {
				return false, err
			}
		}
	}
	w.landed = true
	for ; i >= 0 && i < n.count; i += step {
		e, err := n.element(i)
		if err != nil {
			return false, err
		}
		if !w.visit(e) {
			return false, nil
		}
	}
	return true, nil
}

// lookOver looks over the edge of the leaf where a search ended. Where a branch
// has a wrong key, what is looked for stands in the leaf beside, and must not be
// said to be absent. Reading that leaf by its place in the tree finds it out.
func (w *pageWalk) lookOver() error {
	over := pageWalk{p: w.p, from: w.from, falling: !w.falling, buckets: w.buckets, visit: func(pageElement) bool { return false }}
	return over.run(w.tree)
}

// damagedLeaf visits what can be made out on a damaged leaf, whatever its order.
func (w *pageWalk) damagedLeaf(n pageNode) (more bool) {
	w.landed = true
	more, lost := n.readable(w.falling, func(e pageElement) bool {
		if e.bucket != w.buckets {
			return true
		}
		if c := bytes.Compare(e.key, w.from); w.from != nil && (c < 0 && !w.falling || c > 0 && w.falling) {
			return true
		}
		return w.visit(e)
	})
	if lost > 0 {
		w.bad(badPage(n.id, "%d of its %d elements cannot be made out", lost, n.places()))
	}
	return more
}
