package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// pagesMap finds the places in a file that the tests below change by hand.
type pagesMap struct {
	data []byte
	p    *pages
}

func (m pagesMap) node(t *testing.T, id uint64) pageNode {
	t.Helper()
	var buf []byte
	n, err := m.p.node(id, &buf)
	if err != nil {
		t.Fatalf("scene: %v", err)
	}
	return n
}

func (m pagesMap) rootOf(t *testing.T, bucket string) uint64 {
	t.Helper()
	tree, err := m.p.tree([]byte(bucket), nil)
	if err != nil || tree.root == 0 {
		t.Fatalf("scene: %v, %v", tree, err)
	}
	return tree.root
}

// child is the i-th child of a branch page.
func (m pagesMap) child(t *testing.T, id uint64, i int) uint64 {
	t.Helper()
	n := m.node(t, id)
	e, err := n.element(i)
	if n.leaf || err != nil {
		t.Fatalf("scene: page %d: %v", id, err)
	}
	return e.child
}

func (m pagesMap) setChild(id uint64, i int, child uint64) {
	binary.NativeEndian.PutUint64(m.data[int64(id)*m.p.pageSize+pageHeaderBytes+int64(i)*pageElementBytes+8:], child)
}

// L13: trees that lead to themselves, to each other, or to what is none.
func TestL13PagesThatLeadAstray(t *testing.T) {
	t.Parallel()
	good := boltBytes(t, 1024, putPairs("a", 0, 900, 40), putPairs("b", 0, 30, 40), putPairs("a", 900, 900, 40), deletePairs("a", 50, 100))
	whole := pagesMap{good, mustPages(t, good)}
	rootA, rootB := whole.rootOf(t, "a"), whole.rootOf(t, "b")
	branchA := whole.child(t, rootA, 1)
	leafA, leafB := whole.child(t, branchA, 1), whole.child(t, rootB, 0)
	var freed uint64
	free := newPageSet(whole.p.end())
	if err := whole.p.readFreelist(newPageSet(whole.p.end()), free); err != nil {
		t.Fatal(err)
	}
	for id := range whole.p.end() {
		if free.has(id) && parseHeader(good[id*1024:]).kind == kindLeaf {
			freed = id
		}
	}
	for _, c := range []struct {
		what     string
		page     uint64
		i        int
		child    uint64
		walkToo  bool // or only the check of the skeleton can know
		leafOnly bool // only reading the leaf can know
	}{
		{"the root to itself", rootA, 1, rootA, true, false},
		{"the root's first child to the root", rootA, 0, rootA, true, false},
		{"a branch to itself", branchA, 1, branchA, true, false},
		{"a branch's first child to itself", branchA, 0, branchA, true, false},
		{"a branch to the root", branchA, 1, rootA, true, false},
		{"a branch to bbolt's own root", branchA, 1, whole.p.meta.root, true, false},
		{"a branch to its neighbour leaf", branchA, 1, whole.child(t, branchA, 2), true, false},
		{"the root to one branch twice", rootA, 1, whole.child(t, rootA, 2), true, false},
		{"a branch to another bucket's leaf", branchA, 1, leafB, true, false},
		{"a branch to another bucket's root", branchA, 1, rootB, true, false},
		{"the root to a leaf", rootA, 1, leafA, true, false},
		{"a branch to a freed leaf", branchA, 1, freed, false, false},
		{"a branch to the free list", branchA, 1, whole.p.meta.freelist, true, false},
		{"a branch to meta page 0", branchA, 1, 0, true, false},
		{"a branch to meta page 1", branchA, 1, 1, true, false},
		{"a branch beyond the high-water mark", branchA, 1, whole.p.meta.high, true, false},
		{"a branch far beyond", branchA, 1, 1 << 63, true, false},
		{"a branch as far as can be", branchA, 1, ^uint64(0), true, false},
	} {
		m := pagesMap{slices.Clone(good), nil}
		m.p = mustPages(t, m.data)
		m.setChild(c.page, c.i, c.child)
		wantErr(t, c.what+": checkSkeleton", m.p.checkSkeleton([]byte("a"), []byte("b")), ErrDamaged)
		wantErr(t, c.what+": checkAll", m.p.checkAll(context.Background()), ErrDamaged)
		for _, falling := range []bool{false, true} {
			list, err := walkAll(m.p, "a", nil, falling)
			if c.walkToo {
				wantErr(t, c.what+": walk", err, ErrDamaged)
			}
			if len(list) > 1800 {
				t.Errorf("%s: %d pairs", c.what, len(list))
			}
		}
		wantAround(t, c.what, m.data, 1700, 400)
	}
}

// L13: pages that hold together in themselves and cannot be bbolt's.
func TestL13PagesOfWrongShape(t *testing.T) {
	t.Parallel()
	good := boltBytes(t, 1024, putPairs("a", 0, 60, 40), putPairs("a", 60, 1, 2500), putPairs("small", 0, 2, 5), putPairs("a", 61, 40, 40))
	whole := pagesMap{good, mustPages(t, good)}
	rootA := whole.rootOf(t, "a")
	leaf := whole.child(t, rootA, 2)
	n := whole.node(t, leaf)
	first, err := n.element(0)
	last, err2 := n.element(n.count - 1)
	if err != nil || err2 != nil || n.pages != 1 || last.end > 1000 || n.count < 3 {
		t.Fatalf("scene: %d elements, %v, %v", n.count, err, err2)
	}
	u16, u32, u64 := binary.NativeEndian.PutUint16, binary.NativeEndian.PutUint32, binary.NativeEndian.PutUint64
	for what, change := range map[string]func(page []byte){
		"an empty leaf":             func(b []byte) { u16(b[10:], 0); clear(b[pageHeaderBytes:1024]) },
		"an empty leaf, not empty":  func(b []byte) { u16(b[10:], 0) },
		"an empty branch":           func(b []byte) { u16(b[8:], kindBranch); u16(b[10:], 0); clear(b[pageHeaderBytes:1024]) },
		"one page too many":         func(b []byte) { u32(b[12:], 1) },
		"something behind the last": func(b []byte) { b[1023] = 1 },
		"something just behind":     func(b []byte) { b[last.end] = 1 },
		"a gap": func(b []byte) {
			at := pageHeaderBytes + (n.count-1)*pageElementBytes
			copy(b[last.start+1:], b[last.start:last.end])
			b[last.start] = 0
			b[at+4]++
		},
		"two elements at one place": func(b []byte) {
			copy(b[32:], b[16:32])
			u32(b[32+4:], binary.NativeEndian.Uint32(b[16+4:])-pageElementBytes)
		},
		"equal keys":        func(b []byte) { copy(b[first.end:], first.key) },
		"another's id":      func(b []byte) { u64(b, leaf+1) },
		"a kind of its own": func(b []byte) { u16(b[8:], 0x20) },
		"two kinds":         func(b []byte) { u16(b[8:], kindLeaf|kindFree) },
		"flags":             func(b []byte) { b[pageHeaderBytes] = 2 },
		"high flags":        func(b []byte) { b[pageHeaderBytes+3] = 0x80 },
		"a bucket in it":    func(b []byte) { b[pageHeaderBytes] = 1 },
		"a key of no bytes": func(b []byte) {
			u32(b[pageHeaderBytes+8:], 0)
			u32(b[pageHeaderBytes+12:], uint32(first.end-first.start))
		},
		"a deeper tree":      func(b []byte) { copy(b[:1024], branchOver(leaf, first.key)) },
		"keys of another":    func(b []byte) { copy(b[first.start:], key(3)) },
		"a count of 65,535":  func(b []byte) { u16(b[10:], 0xFFFF) },
		"overflow to no end": func(b []byte) { u32(b[12:], 1<<32-1) },
	} {
		bad := slices.Clone(good)
		change(bad[leaf*1024:])
		p := mustPages(t, bad)
		for _, falling := range []bool{false, true} {
			_, err := walkAll(p, "a", nil, falling)
			wantErr(t, what+": walk", err, ErrDamaged)
		}
		wantErr(t, what+": checkAll", p.checkAll(context.Background()), ErrDamaged)
		wantAround(t, what, bad, 101, n.count)
	}
}

// L13: a small bucket, which stands inside bbolt's own root, changed.
func TestL13PagesSmallBucket(t *testing.T) {
	t.Parallel()
	good := boltBytes(t, 1024, putPairs("small", 0, 2, 5))
	whole := pagesMap{good, mustPages(t, good)}
	root := whole.node(t, whole.p.meta.root)
	e, err := root.element(0)
	if err != nil || !e.bucket || root.count != 1 {
		t.Fatalf("scene: %d elements, %v", root.count, err)
	}
	value := int(root.id)*1024 + e.end - len(e.value)
	inside := value + bucketHeaderBytes
	lastElement := inside + pageHeaderBytes + pageElementBytes
	u16, u32 := binary.NativeEndian.PutUint16, binary.NativeEndian.PutUint32
	for what, change := range map[string]func(b []byte){
		"a page of its own too":   func(b []byte) { b[value] = byte(root.id) },
		"a page beyond":           func(b []byte) { b[value+7] = 1 },
		"an id":                   func(b []byte) { b[inside] = 1 },
		"a branch":                func(b []byte) { u16(b[inside+8:], kindBranch) },
		"overflow":                func(b []byte) { u32(b[inside+12:], 1) },
		"one fewer":               func(b []byte) { u16(b[inside+10:], 1) },
		"one more":                func(b []byte) { u16(b[inside+10:], 3) },
		"none":                    func(b []byte) { u16(b[inside+10:], 0) },
		"a shorter last value":    func(b []byte) { b[lastElement+12]-- },
		"a longer last value":     func(b []byte) { b[lastElement+12]++ },
		"a first key of no bytes": func(b []byte) { b[inside+pageHeaderBytes+8] = 0; b[inside+pageHeaderBytes+12] += 8 },
		"a bucket inside":         func(b []byte) { b[lastElement] = 1 },
	} {
		bad := slices.Clone(good)
		change(bad)
		p := mustPages(t, bad)
		_, err := walkAll(p, "small", nil, false)
		wantErr(t, what+": walk", err, ErrDamaged)
		wantErr(t, what+": get", second(p.get([]byte("small"), key(1))), ErrDamaged)
		wantErr(t, what+": checkAll", p.checkAll(context.Background()), ErrDamaged)
		wantErr(t, what+": checkSkeleton", p.checkSkeleton([]byte("small")), ErrDamaged)
		found := 0
		p.ascendAround([]byte("small"), nil, func(k, v []byte) bool {
			if sealHolds(k, v) {
				found++
			}
			return true
		}, func(error) {})
		if found == 0 {
			t.Errorf("%s: nothing is found", what)
		}
	}
}

// What checkSkeleton reads of the leaves: the first and the last.
func TestPagesSkeletonReadsTwoLeaves(t *testing.T) {
	t.Parallel()
	good := boltBytes(t, 1024, putPairs("a", 0, 200, 40), putPairs("b", 0, 200, 40))
	whole := pagesMap{good, mustPages(t, good)}
	root := whole.rootOf(t, "a")
	count := whole.node(t, root).count
	for i := range count {
		bad := slices.Clone(good)
		clear(bad[whole.child(t, root, i)*1024:][:1024])
		m := &memoryFile{data: bad}
		p, err := m.open()
		if err != nil {
			t.Fatal(err)
		}
		m.reads.Store(0)
		err = p.checkSkeleton()
		if (err != nil) != (i == 0 || i == count-1) {
			t.Errorf("leaf %d of %d is gone: %v", i, count, err)
		}
		if m.reads.Load() > 12 {
			t.Errorf("%d reads for two roots", m.reads.Load())
		}
	}
	// A node as long as two pages when it needs one; the second is all zeros.
	n := whole.node(t, whole.child(t, root, 1))
	n.bytes, n.pages = append(slices.Clone(n.bytes), make([]byte, 1024)...), 2
	wantErr(t, "a page too many", n.check(nil, nil, false), ErrDamaged)
}

// branchOver is a branch page with one child, its own page.
func branchOver(id uint64, key []byte) []byte {
	b := make([]byte, 1024)
	binary.NativeEndian.PutUint64(b, id)
	binary.NativeEndian.PutUint16(b[8:], kindBranch)
	binary.NativeEndian.PutUint16(b[10:], 1)
	binary.NativeEndian.PutUint32(b[16:], pageElementBytes)
	binary.NativeEndian.PutUint32(b[20:], uint32(len(key)))
	binary.NativeEndian.PutUint64(b[24:], id)
	copy(b[32:], key)
	return b
}

// wantAround: the way round ends, and finds most of what is there.
func wantAround(t *testing.T, what string, data []byte, total, lost int) {
	t.Helper()
	m := &memoryFile{data: data}
	p, err := m.open()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	m.reads.Store(0)
	seen := map[string]bool{}
	bad := 0
	p.ascendAround([]byte("a"), nil, func(k, v []byte) bool {
		if sealHolds(k, v) {
			seen[string(k)] = true
		}
		return true
	}, func(error) { bad++ })
	if len(seen) < total-lost || m.reads.Load() > 2*int64(p.end()) {
		t.Errorf("%s: %d pairs of %d, %d reports, %d reads of %d pages", what, len(seen), total, bad, m.reads.Load(), p.end())
	}
}

// L13: a wrong key in a branch sends a search to the wrong leaf. What is there
// must not be said to be absent.
func TestL13PagesWrongSeparator(t *testing.T) {
	t.Parallel()
	good := boltBytes(t, 1024, putPairs("a", 0, 100, 40))
	whole := pagesMap{good, mustPages(t, good)}
	root := whole.rootOf(t, "a")
	n := whole.node(t, root)
	for i := range n.count {
		e, err := n.element(i)
		if err != nil {
			t.Fatal(err)
		}
		first := int(binary.BigEndian.Uint64(e.key))
		for _, wrong := range []int{first - 5, first - 1, first + 1, first + 5} {
			if wrong < 0 {
				continue
			}
			bad := slices.Clone(good)
			copy(bad[int(root)*1024+e.start:], key(ID(wrong)))
			p := mustPages(t, bad)
			for id := range 100 {
				what := fmt.Sprintf("separator %d made %d, key %d", first, wrong, id)
				v, err := p.get([]byte("a"), key(ID(id)))
				if err == nil && v == nil {
					t.Errorf("%s: said to be absent", what)
				}
				for _, falling := range []bool{false, true} {
					list, err := walkAll(p, "a", key(ID(id)), falling)
					if want := map[bool]int{false: 100 - id, true: id + 1}[falling]; err == nil && len(list) != want {
						t.Errorf("%s: falling %v: %d pairs, want %d or an error", what, falling, len(list), want)
					}
				}
			}
			wantAround(t, "round a wrong separator", bad, 100, 0)
		}
	}
}

// L13: what bbolt reads unchecked when it opens a file.
func TestL13PagesFreelist(t *testing.T) {
	t.Parallel()
	good := boltBytes(t, 1024, putPairs("a", 0, 1800, 40), deletePairs("a", 100, 1600), putPairs("a", 100, 1, 40))
	whole := mustPages(t, good)
	wantWhole(t, whole, []byte("a"))
	list := int(whole.meta.freelist) * 1024
	count := int(parseHeader(good[list:]).count)
	if count < 10 || parseHeader(good[list:]).overflow == 0 {
		t.Fatalf("scene: %d free pages, %d pages of overflow", count, parseHeader(good[list:]).overflow)
	}
	listEnd := list + 1024*(1+int(parseHeader(good[list:]).overflow))
	u16, u32, u64 := binary.NativeEndian.PutUint16, binary.NativeEndian.PutUint32, binary.NativeEndian.PutUint64
	used := whole.meta.root
	for what, change := range map[string]func(b []byte){
		"another id":               func(b []byte) { u64(b, 7) },
		"another kind":             func(b []byte) { u16(b[8:], kindLeaf) },
		"one fewer":                func(b []byte) { u16(b[10:], uint16(count-1)) },
		"none":                     func(b []byte) { u16(b[10:], 0) },
		"one more":                 func(b []byte) { u16(b[10:], uint16(count+1)) },
		"many more":                func(b []byte) { u16(b[10:], 0xFFFE) },
		"a count of its own":       func(b []byte) { u16(b[10:], 0xFFFF) },
		"a negative count":         func(b []byte) { u16(b[10:], 0xFFFF); u64(b[16:], 1<<63) },
		"overflow beyond the file": func(b []byte) { u32(b[12:], 1<<31) },
		"overflow as far as can":   func(b []byte) { u32(b[12:], 1<<32-1) },
		"a meta page":              func(b []byte) { u64(b[16:], 1) },
		"page 0":                   func(b []byte) { u64(b[16:], 0) },
		"beyond the file":          func(b []byte) { u64(b[16+8*(count-1):], whole.meta.high) },
		"far beyond":               func(b []byte) { u64(b[16+8*(count-1):], ^uint64(0)) },
		"twice":                    func(b []byte) { copy(b[24:32], b[16:24]) },
		"out of order":             func(b []byte) { u64(b[16:], whole.meta.high-1) },
		"itself":                   func(b []byte) { clear(b[24 : listEnd-list]); u64(b[16:], whole.meta.freelist); u16(b[10:], 1) },
	} {
		bad := slices.Clone(good)
		change(bad[list:])
		p := mustPages(t, bad)
		wantErr(t, what+": checkFreelist", p.checkFreelist(), ErrDamaged)
		wantErr(t, what+": checkSkeleton", p.checkSkeleton([]byte("a")), ErrDamaged)
		wantErr(t, what+": checkAll", p.checkAll(context.Background()), ErrDamaged)
		if list, err := walkAll(p, "a", nil, false); err != nil || len(list) != 201 {
			t.Errorf("%s: %d pairs, %v: the free list is none of a walk's business", what, len(list), err)
		}
	}
	inUse := slices.Clone(good)
	clear(inUse[list+16 : listEnd])
	u64(inUse[list+16:], used)
	u16(inUse[list+10:], 1)
	p := mustPages(t, inUse)
	if err := p.checkFreelist(); err != nil {
		t.Errorf("checkFreelist: %v: it cannot know what is in use", err)
	}
	wantErr(t, "in use: checkSkeleton", p.checkSkeleton([]byte("a")), ErrDamaged)
	wantErr(t, "in use: checkAll", p.checkAll(context.Background()), ErrDamaged)
}

// A free list too long for its header's count has the count in front.
func TestPagesLongFreelist(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a file of 66,000 free pages")
	}
	good := boltBytes(t, 1024, func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("a"))
		if err != nil {
			return err
		}
		for i := range 300 {
			if err := b.Put(key(ID(i)), make([]byte, 230<<10)); err != nil {
				return err
			}
		}
		return nil
	}, deletePairs("a", 1, 299), putPairs("b", 0, 1, 1))
	p := mustPages(t, good)
	if h := parseHeader(good[int64(p.meta.freelist)*1024:]); h.count != 0xFFFF {
		t.Fatalf("scene: %d free pages", h.count)
	}
	wantWhole(t, p, []byte("a"), []byte("b"))
}
