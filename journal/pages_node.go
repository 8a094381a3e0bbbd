package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
)

// pageNode is a branch or a leaf: a page with its overflow, or the leaf inside
// the value of a small bucket.
type pageNode struct {
	id     uint64 // of the page; of the page around an inline leaf
	inline bool
	leaf   bool
	count  int
	pages  uint64 // the page and its overflow
	bytes  []byte // all of it, header too
}

// pageElement is one element of a node. Key and value alias the node's bytes.
type pageElement struct {
	page       uint64
	bucket     bool   // of a leaf: the value is a bucket
	child      uint64 // of a branch
	key, value []byte
	start, end int // of key and value in the node
}

// node reads a branch or a leaf into buf; id is within the file. When there is an error and the node has
// bytes all the same, then its elements may be worth a look each.
func (p *pages) node(id uint64, buf *[]byte) (pageNode, error) {
	at := int64(id) * p.pageSize
	first := slices.Grow((*buf)[:0], int(p.pageSize))[:p.pageSize]
	*buf = first
	if err := readFull(p.r, first, at); err != nil {
		return pageNode{}, unreadable(id, err)
	}
	h := parseHeader(first)
	if h.kind != kindBranch && h.kind != kindLeaf {
		return pageNode{}, badPage(id, "it is of kind %#x, neither branch nor leaf", h.kind)
	}
	n := pageNode{id: id, leaf: h.kind == kindLeaf, count: int(h.count), pages: 1, bytes: first}
	if h.id != id {
		return n, badPage(id, "it says that it is page %d", h.id)
	}
	if err := p.within(id, uint64(h.overflow)); err != nil {
		return n, err
	}
	if int64(h.overflow) >= nodeBytesMax/p.pageSize {
		return n, badPage(id, "%d pages of overflow; no node of a journal has more than %d bytes", h.overflow, nodeBytesMax)
	}
	if h.overflow > 0 {
		all := slices.Grow(first, int(h.overflow)*int(p.pageSize))[:(int(h.overflow)+1)*int(p.pageSize)]
		*buf = all
		if err := readFull(p.r, all[p.pageSize:], at+p.pageSize); err != nil {
			return n, unreadable(id, err)
		}
		n.bytes, n.pages = all, uint64(h.overflow)+1
	}
	return n, nil
}

// unreadable is a page that the medium does not give.
func unreadable(id uint64, err error) error {
	return fmt.Errorf("%w: page %d cannot be read: %w", ErrDamaged, id, err)
}

// inlineNode is the leaf inside a bucket's value. The same holds for its error as
// for node's.
func inlineNode(page uint64, value []byte) (pageNode, error) {
	if len(value) < bucketHeaderBytes+pageHeaderBytes {
		return pageNode{}, badPage(page, "a small bucket of %d bytes", len(value))
	}
	b := value[bucketHeaderBytes:]
	h := parseHeader(b)
	n := pageNode{id: page, inline: true, leaf: true, count: int(h.count), bytes: b}
	if (h != pageHeader{kind: kindLeaf, count: h.count}) {
		return n, badPage(page, "the header of the small bucket in it is wrong")
	}
	return n, nil
}

// element is the i-th element. It fits into the node or is an error.
func (n *pageNode) element(i int) (pageElement, error) {
	at := pageHeaderBytes + i*pageElementBytes
	if at+pageElementBytes > len(n.bytes) {
		return pageElement{}, badPage(n.id, "element %d is outside", i)
	}
	u32 := func(off int) uint64 { return uint64(binary.NativeEndian.Uint32(n.bytes[at+off:])) }
	e := pageElement{page: n.id}
	var position, keySize, valueSize uint64
	if n.leaf {
		if u32(0) > 1 {
			return e, badPage(n.id, "element %d has the flags %#x", i, u32(0))
		}
		e.bucket, position, keySize, valueSize = u32(0) == 1, u32(4), u32(8), u32(12)
	} else {
		position, keySize, e.child = u32(0), u32(4), binary.NativeEndian.Uint64(n.bytes[at+8:])
	}
	start := uint64(at) + position // no sum of these overflows 64 bits
	switch {
	case keySize == 0 || keySize > keyBytesMax:
		return e, badPage(n.id, "element %d has a key of %d bytes", i, keySize)
	case position < pageElementBytes || start+keySize+valueSize > uint64(len(n.bytes)):
		return e, badPage(n.id, "the data of element %d is outside", i)
	}
	e.start, e.end = int(start), int(start+keySize+valueSize)
	e.key = n.bytes[e.start : e.start+int(keySize) : e.start+int(keySize)]
	e.value = n.bytes[e.start+int(keySize) : e.end : e.end]
	return e, nil
}

// child is where the i-th element of a branch that passed check leads to.
func (n *pageNode) child(i int) uint64 {
	return binary.NativeEndian.Uint64(n.bytes[pageHeaderBytes+i*pageElementBytes+8:])
}

// check checks the whole node: each element, no gaps, rising keys from low on
// and below high (nil: open), each a bucket or none, zeros behind the last.
func (n *pageNode) check(low, high []byte, buckets bool) error {
	end := pageHeaderBytes + n.count*pageElementBytes
	if end > len(n.bytes) {
		return badPage(n.id, "%d elements do not fit", n.count)
	}
	if n.count == 0 && (!n.leaf || low != nil) {
		return badPage(n.id, "it has no elements and is not the root")
	}
	var last []byte
	for i := range n.count {
		e, err := n.element(i)
		switch {
		case err != nil:
			return err
		case e.start != end:
			return badPage(n.id, "the data of element %d does not follow what is before it", i)
		case i > 0 && bytes.Compare(last, e.key) >= 0:
			return badPage(n.id, "the key of element %d is out of order", i)
		case i == 0 && low != nil && bytes.Compare(e.key, low) < 0:
			return badPage(n.id, "it begins before the place that leads to it")
		case n.leaf && e.bucket != buckets:
			return badPage(n.id, "element %d is a bucket where none may be, or none where one must be", i)
		}
		end, last = e.end, e.key
	}
	if high != nil && last != nil && bytes.Compare(last, high) >= 0 {
		return badPage(n.id, "it ends behind the place that leads to it")
	}
	return n.checkRest(end)
}

// checkRest: behind the last element there are zeros to the end of the page, and
// no page of overflow more than needed. An inline leaf ends with its last element.
func (n *pageNode) checkRest(end int) error {
	if n.inline {
		if end != len(n.bytes) {
			return badPage(n.id, "the small bucket in it does not end with its last element")
		}
		return nil
	}
	if pageBytes := len(n.bytes) / int(n.pages); end <= len(n.bytes)-pageBytes {
		return badPage(n.id, "it needs less than its %d pages of overflow", n.pages-1)
	}
	if !allZero(n.bytes[end:]) {
		return badPage(n.id, "there is something behind its last element")
	}
	return nil
}

func allZero(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// search is the first element whose key is key or behind it. For nodes that
// passed check.
func (n *pageNode) search(key []byte) (i int, exact bool) {
	i = sort.Search(n.count, func(i int) bool {
		e, _ := n.element(i)
		return bytes.Compare(e.key, key) >= 0
	})
	if i < n.count {
		e, _ := n.element(i)
		exact = bytes.Equal(e.key, key)
	}
	return i, exact
}

// places is how many elements a damaged node may have: as many as it says, or as
// many as there are before the data of the first one.
func (n *pageNode) places() int {
	room := (len(n.bytes) - pageHeaderBytes) / pageElementBytes
	if room == 0 {
		return 0
	}
	position := n.bytes[pageHeaderBytes:]
	if n.leaf {
		position = position[4:]
	}
	before := binary.NativeEndian.Uint32(position)
	if before%pageElementBytes != 0 || int64(before/pageElementBytes) > int64(room) {
		before = 0
	}
	return min(max(n.count, int(before/pageElementBytes)), room)
}

// readableShare bounds how much data the elements of one damaged node may have
// together: whole ones do not overlap, and rubbish must not take for ever.
const readableShare = 8

// readable gives those elements of a damaged leaf that fit into it, each by
// itself; lost says how many do not.
func (n *pageNode) readable(falling bool, visit func(pageElement) bool) (more bool, lost int) {
	places, left := n.places(), readableShare*len(n.bytes)
	for i := range places {
		if falling {
			i = places - 1 - i
		}
		e, err := n.element(i)
		if left -= e.end - e.start; err != nil || left < 0 {
			lost++
			continue
		}
		if !visit(e) {
			return false, lost
		}
	}
	return true, lost
}
