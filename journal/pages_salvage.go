package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of a salvage.
const (
	unreadMax       = 1 << 16 // pages that the medium does not give; then it is left in peace
	guessBytes      = 64 << 20
	guessChunkBytes = 64 << 10
)

// salvagePages looks for entries where no tree leads to them any more: it reads
// every page of the file, newest or freed long ago, and gives visit the pair of
// each element of whatever looks like a leaf. Rubbish and old states come with
// it: the values' own checksums must judge, and the caller must choose among the
// states of one key. A bad element does not hide the others of its page. Key and
// value are valid until visit returns.
//
// unread are the pages that the medium does not give; they do not end it. Errors:
// ErrDamaged when they are more than unreadMax, or the context's.
func salvagePages(ctx context.Context, r io.ReaderAt, size int64, visit func(key, value []byte)) (unread []int64, err error) {
	file := io.NewSectionReader(r, 0, size)
	pageSize, err := findPageSize(file)
	if err != nil {
		pageSize = guessPageSize(file)
	}
	s := salvage{file: file, pageSize: pageSize, visit: visit}
	for id := int64(0); id <= (size-1)/pageSize && size > 0; id++ {
		if err := ctx.Err(); err != nil {
			return unread, err
		}
		if err := s.page(id); err == nil {
			continue
		}
		if len(unread) == unreadMax {
			return unread, fmt.Errorf("%w: %d pages cannot be read, the last of them page %d", ErrDamaged, len(unread), unread[len(unread)-1])
		}
		unread = append(unread, id)
	}
	return unread, nil
}

type salvage struct {
	file     *io.SectionReader
	pageSize int64
	visit    func(key, value []byte)
	buf      []byte
}

// page gives what can be made out on one page. Error: it cannot be read.
func (s *salvage) page(id int64) error {
	at := id * s.pageSize
	b, err := s.read(at, s.pageSize)
	if err != nil {
		return err
	}
	if len(b) < pageHeaderBytes+pageElementBytes {
		return nil // the end of a file that was cut
	}
	n := pageNode{id: uint64(id), leaf: true, bytes: b}
	h := parseHeader(b)
	n.count = int(h.count)
	if h.id == uint64(id) && (h.kind == kindBranch || h.kind == kindMeta || h.kind == kindFree) {
		return nil
	}
	if h.id == uint64(id) || h.kind == kindLeaf {
		// As far as its elements reach, whatever the overflow says; not for what is
		// rubbish in both.
		if need := n.reach(); need > int64(len(b)) {
			if all, err := s.read(at, need); err == nil {
				n.bytes = all
			}
		}
	}
	n.readable(false, s.element)
	return nil
}

// read reads up to size bytes; fewer only where the file ends.
func (s *salvage) read(at, size int64) ([]byte, error) {
	size = min(size, s.file.Size()-at)
	if int64(cap(s.buf)) < size {
		s.buf = make([]byte, size)
	}
	b := s.buf[:size]
	return b, readFull(s.file, b, at)
}

// element gives one pair, and, where the value is a small bucket, what is in it.
func (s *salvage) element(e pageElement) bool {
	s.visit(e.key, e.value)
	if len(e.value) < bucketHeaderBytes+pageHeaderBytes || parseHeader(e.value[bucketHeaderBytes:]).kind != kindLeaf {
		return true
	}
	if n, err := inlineNode(e.page, e.value); err == nil {
		n.readable(false, func(e pageElement) bool {
			s.visit(e.key, e.value)
			return true
		})
	}
	return true
}

// reach is how many bytes a leaf needs for all of its elements, leaving out those
// whose sizes no node has.
func (n *pageNode) reach() int64 {
	var need uint64
	for i := range n.places() {
		u32 := func(off int) uint64 {
			return uint64(binary.NativeEndian.Uint32(n.bytes[pageHeaderBytes+i*pageElementBytes+off:]))
		}
		end := uint64(pageHeaderBytes+i*pageElementBytes) + u32(4) + u32(8) + u32(12)
		if end <= nodeBytesMax {
			need = max(need, end)
		}
	}
	return int64(need)
}

// guessPageSize is for files whose two meta pages are both gone. Each page begins
// with its id, so a page's place divided by its id is the page size.
func guessPageSize(file *io.SectionReader) int64 {
	votes := map[int64]int{}
	buf := make([]byte, guessChunkBytes)
	for at := int64(0); at < min(file.Size(), guessBytes); at += guessChunkBytes {
		n, err := file.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			continue
		}
		for off := 0; off+pageHeaderBytes <= n; off += pageSizeMin {
			h := parseHeader(buf[off:])
			known := h.kind == kindBranch || h.kind == kindLeaf || h.kind == kindMeta || h.kind == kindFree
			if known && h.id > 0 && h.id < pagesMax && (at+int64(off))%int64(h.id) == 0 {
				votes[(at+int64(off))/int64(h.id)]++
			}
		}
	}
	best := int64(4096)
	for size := int64(pageSizeMin); size <= pageSizeMax; size *= 2 {
		if votes[size] > votes[best] {
			best = size
		}
	}
	return best
}
