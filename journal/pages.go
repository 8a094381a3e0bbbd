package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The store's file is bbolt's, file format 2. bbolt trusts the pages that it
// maps: damaged ones make it panic, fault or loop, its lock keeps a looker out
// beside a live writer (L15), and it cannot say what can still be read (L13). So
// a file in doubt is read by pages, which trusts nothing: every number is checked
// before it is used, and a walk reads each page once at most.
//
// What stands where; integers are in the machine's own byte order:
//
//	page    id 8, kind 2, count 2, overflow 4 (how many pages follow it as its own), content
//	meta    mark 4, version 4, page size 4, flags 4, root page 8, sequence 8,
//	        free list page 8, high-water mark 8, transaction 8, FNV-1a of these 8
//	branch  count × (position 4, key size 4, child page 8), then the keys
//	leaf    count × (flags 4, position 4, key size 4, value size 4), then key, value, key, value
//	free    ids of 8 each; when count is 0xFFFF the first one is their number
//	bucket  as a leaf's value, flag 1: root page 8, sequence 8; root page 0: a whole leaf follows
//
// A position counts from the start of its element. bbolt writes keys and values
// without gaps and fills the rest of a page with zeros; both are checked, which
// finds most changed sizes and positions.
const (
	boltMark    = 0xED0CDAED
	boltVersion = 2

	pageHeaderBytes   = 16
	pageElementBytes  = 16
	bucketHeaderBytes = 16
	metaPageBytes     = 80 // with the page's header
	metaSumAt         = 72

	kindBranch = 0x01
	kindLeaf   = 0x02
	kindMeta   = 0x04
	kindFree   = 0x10

	noFreelist = ^uint64(0) // no free list is kept in the file
)

// Bounds on what a file may ask for.
const (
	pageSizeMin  = 1 << 10
	pageSizeMax  = 64 << 10
	pagesMax     = 1 << 26 // 256 GiB in pages of 4 KiB; a set of page ids then has 8 MiB
	nodeBytesMax = 1 << 20 // a page with its overflow
	treeDepthMax = 32      // a branch has two children or more
	keyBytesMax  = 32768   // bbolt's own
)

// pages is a bbolt file as its bytes are: read-only, without a lock and without a
// map. It is for files that stand still, or for copies. May be used from many
// goroutines when its io.ReaderAt may.
type pages struct {
	r        io.ReaderAt
	pageSize int64
	count    uint64 // whole pages in the file
	meta     pageMeta
	current  int      // which of the two meta pages is in use
	wrong    [2]error // what is wrong with each
}

// pageMeta is what a meta page says.
type pageMeta struct {
	pageSize             int64
	root, freelist, high uint64
	txid                 uint64
}

// errNoBucket: the file has no bucket of this name.
var errNoBucket = errors.New("no such bucket")

// errNoMark: nothing says that this is a meta page.
var errNoMark = errors.New("it does not bear bbolt's mark")

// badPage names a page and what is wrong with it; never what stands in it (L11).
func badPage(id uint64, format string, args ...any) error {
	return fmt.Errorf("%w: page %d: %s", ErrDamaged, id, fmt.Sprintf(format, args...))
}

// openPages finds the page size and the newest meta page that holds together.
// Errors: ErrForeign when nothing bears bbolt's mark, else ErrDamaged.
func openPages(r io.ReaderAt, size int64) (*pages, error) {
	if size <= 0 {
		return nil, fmt.Errorf("%w: the file is empty", ErrDamaged)
	}
	file := io.NewSectionReader(r, 0, size)
	pageSize, err := findPageSize(file)
	if err != nil {
		return nil, err
	}
	p := &pages{r: file, pageSize: pageSize, count: uint64(size / pageSize)}
	p.readMetas()
	if p.end() > pagesMax {
		return nil, fmt.Errorf("%w: %d pages; a journal has %d at most", ErrDamaged, p.end(), pagesMax)
	}
	return p, nil
}

// findPageSize asks the first meta page, and when that one is damaged looks for
// the second one, which stands where the second page begins.
func findPageSize(r io.ReaderAt) (int64, error) {
	m, err := readMeta(r, 0)
	if err == nil {
		return m.pageSize, nil
	}
	foreign := errors.Is(err, errNoMark)
	for size := int64(pageSizeMin); size <= pageSizeMax; size *= 2 {
		m, err := readMeta(r, size)
		if err == nil && m.pageSize == size {
			return size, nil
		}
		foreign = foreign && errors.Is(err, errNoMark)
	}
	if foreign {
		return 0, fmt.Errorf("%w: nothing bears bbolt's mark", ErrForeign)
	}
	return 0, fmt.Errorf("%w: neither of the two meta pages holds together; the first one: %w", ErrDamaged, err)
}

// readMetas chooses the meta page to use and notes what is wrong with each. The
// caller found one that holds together. One that does is used although its
// header is wrong or the file ends early: the other one is older.
func (p *pages) readMetas() {
	found := false
	for n := range 2 {
		m, err := readMeta(p.r, int64(n)*p.pageSize)
		if err == nil && m.pageSize != p.pageSize {
			err = fmt.Errorf("its page size is not the file's")
		}
		if err != nil {
			p.wrong[n] = fmt.Errorf("%w: meta page %d: %w", ErrDamaged, n, err)
			continue
		}
		if !found || m.txid > p.meta.txid {
			found, p.current, p.meta = true, n, m
		}
		switch header, err := readHeader(p.r, int64(n)*p.pageSize); {
		case err != nil:
			p.wrong[n] = fmt.Errorf("%w: meta page %d: %w", ErrDamaged, n, err)
		case header != pageHeader{id: uint64(n), kind: kindMeta}, m.txid%2 != uint64(n):
			p.wrong[n] = badPage(uint64(n), "its header is not a meta page's")
		case m.high > p.count:
			p.wrong[n] = fmt.Errorf("%w: the file ends after %d of its %d pages", ErrDamaged, p.count, m.high)
		}
	}
}

// readMeta reads a meta page and says whether it holds together. errNoMark: it
// is none.
func readMeta(r io.ReaderAt, at int64) (pageMeta, error) {
	b := make([]byte, metaPageBytes)
	n, err := r.ReadAt(b, at)
	if n < len(b) && err != nil && !errors.Is(err, io.EOF) {
		return pageMeta{}, fmt.Errorf("it cannot be read: %w", err)
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	if n < 20 || u32(16) != boltMark {
		return pageMeta{}, errNoMark
	}
	if n < len(b) {
		return pageMeta{}, errors.New("the file ends inside it")
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[pageHeaderBytes:metaSumAt])
	m := pageMeta{pageSize: int64(u32(24)), root: u64(32), freelist: u64(48), high: u64(56), txid: u64(64)}
	switch {
	case sum.Sum64() != u64(metaSumAt):
		return pageMeta{}, errors.New("its checksum does not fit")
	case u32(20) != boltVersion:
		return pageMeta{}, fmt.Errorf("it is of file format %d, this program knows %d", u32(20), boltVersion)
	case m.pageSize < pageSizeMin || m.pageSize > pageSizeMax || m.pageSize&(m.pageSize-1) != 0:
		return pageMeta{}, fmt.Errorf("pages of %d bytes", m.pageSize)
	}
	return m, nil
}

// readTxid reads the newest transaction afresh: a copy of a live file is whole
// when it is the same before and after the copy was made.
func readTxid(r io.ReaderAt, pageSize int64) (uint64, error) {
	var newest uint64
	found := false
	for n := range int64(2) {
		if m, err := readMeta(r, n*pageSize); err == nil && m.pageSize == pageSize {
			newest, found = max(newest, m.txid), true
		}
	}
	if !found {
		return 0, fmt.Errorf("%w: neither of the two meta pages holds together", ErrDamaged)
	}
	return newest, nil
}

// txid is the transaction of the meta page in use.
func (p *pages) txid() uint64 { return p.meta.txid }

// metas says what is wrong with each of the two meta pages, nil when it holds
// together. bbolt goes on from the other one without a word, which may lack the
// newest step (L13). In a copy of a live file the older one may be wrong.
func (p *pages) metas() [2]error { return p.wrong }

// end is where the pages in use end: at the high-water mark, or where the file
// does.
func (p *pages) end() uint64 { return min(p.meta.high, p.count) }

// within says why a page with its overflow cannot be where it is said to be.
func (p *pages) within(id, overflow uint64) error {
	switch {
	case id < 2:
		return badPage(id, "led to as part of a tree, and it is a meta page")
	case id >= p.meta.high || overflow >= p.meta.high-id:
		return badPage(id, "with %d pages of overflow it is beyond the high-water mark %d", overflow, p.meta.high)
	case id >= p.count || overflow >= p.count-id:
		return badPage(id, "with %d pages of overflow it is behind the file's end", overflow)
	}
	return nil
}

// pageHeader is what each page begins with.
type pageHeader struct {
	id       uint64
	kind     uint16
	count    uint16
	overflow uint32
}

func parseHeader(b []byte) pageHeader {
	return pageHeader{
		id:       binary.NativeEndian.Uint64(b),
		kind:     binary.NativeEndian.Uint16(b[8:]),
		count:    binary.NativeEndian.Uint16(b[10:]),
		overflow: binary.NativeEndian.Uint32(b[12:]),
	}
}

func readHeader(r io.ReaderAt, at int64) (pageHeader, error) {
	b := make([]byte, pageHeaderBytes)
	if err := readFull(r, b, at); err != nil {
		return pageHeader{}, err
	}
	return parseHeader(b), nil
}

// readFull reads all of b or fails.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}
