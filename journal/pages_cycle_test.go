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
		what    string
		page    uint64
		i       int
		child   uint64
		walkToo bool // or only the check of the skeleton can know
	}{
		{"the root to itself", rootA, 1, rootA, true},
		{"the root's first child to the root", rootA, 0, rootA, true},
		{"a branch to itself", branchA, 1, branchA, true},
		{"a branch's first child to itself", branchA, 0, branchA, true},
		{"a branch to the root", branchA, 1, rootA, true},
		{"a branch to bbolt's own root", branchA, 1, whole.p.meta.root, true},
		{"a branch to its neighbour leaf", branchA, 1, whole.child(t, branchA, 2), true},
		{"the root to one branch twice", rootA, 1, whole.child(t, rootA, 2), true},
		{"a branch to another bucket's leaf", branchA, 1, leafB, true},
		{"a branch to another bucket's root", branchA, 1, rootB, true},
		{"the root to a leaf", rootA, 1, leafA, true},
		{"a branch to a freed leaf", branchA, 1, freed, false},
		{"a branch to the free list", branchA, 1, whole.p.meta.freelist, true},
		{"a branch to meta page 0", branchA, 1, 0, true},
		{"a branch to meta page 1", branchA, 1, 1, true},
		{"a branch beyond the high-water mark", branchA, 1, whole.p.meta.high, true},
		{"a branch far beyond", branchA, 1, 1 << 63, true},
		{"a branch as far as can be", branchA, 1, ^uint64(0), true},
	} {
		m := pagesMap{slices.Clone(good), nil}
		m.p = mustPages(t, m.data)
		m.setChild(c.page, c.i, c.child)
		wantErr(t, c.what+": checkSkeleton", m.p.checkSkeleton([]byte("a"), []byte("b")), ErrDamaged)
		wantErr(t, c.what+": checkAll", m.p.checkAll(context.Background()), ErrDamaged)
		if c.walkToo && c.child != whole.p.meta.freelist {
			wantErr(t, c.what+": checkSkeleton without a free list", withoutFreelist(t, m.data).checkSkeleton(), ErrDamaged)
		}
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

// withoutFreelist is the same file as bbolt leaves it with NoFreelistSync.
func withoutFreelist(t *testing.T, data []byte) *pages {
	t.Helper()
	data = slices.Clone(data)
	for at := int64(0); at <= 1024; at += 1024 {
		binary.NativeEndian.PutUint64(data[at+48:], noFreelist)
		repairMeta(data, at)
	}
	return mustPages(t, data)
}

// A lost leaf behind another leaf is none of its overflow.
func TestL13PagesLostLeaf(t *testing.T) {
	t.Parallel()
	p := mustPages(t, boltBytes(t, 1024, putPairs("a", 0, 100, 40), putPairs("a", 100, 1, 2500)))
	used, free := newPageSet(p.end()), newPageSet(p.end())
	if err := p.readFreelist(used, free); err != nil {
		t.Fatal(err)
	}
	leaves := []uint64{}
	for id := range p.end() {
		if !free.has(id) {
			used.add(id)
		}
		if h, err := readHeader(p.r, int64(id)*1024); err == nil && h.id == id && h.kind == kindLeaf && h.overflow == 0 && used.has(id) && id > 0 {
			leaves = append(leaves, id)
		}
	}
	if err := p.checkLost(used, free); err != nil {
		t.Fatalf("scene: %v", err)
	}
	lost := 0
	for _, id := range leaves {
		if slices.Contains(leaves, id-1) {
			used.bits[id/64] &^= 1 << (id % 64)
			wantErr(t, fmt.Sprint("page ", id), p.checkLost(used, free), ErrDamaged)
			used.add(id)
			lost++
		}
	}
	if lost == 0 {
		t.Error("scene: no leaf behind another")
	}
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
		"another id":         func(b []byte) { u64(b, 7) },
		"another kind":       func(b []byte) { u16(b[8:], kindLeaf) },
		"one fewer":          func(b []byte) { u16(b[10:], uint16(count-1)) },
		"none":               func(b []byte) { u16(b[10:], 0) },
		"one more":           func(b []byte) { u16(b[10:], uint16(count+1)) },
		"many more":          func(b []byte) { u16(b[10:], 0xFFFE) },
		"a count of its own": func(b []byte) { u16(b[10:], 0xFFFF) },
		"a long list's count": func(b []byte) {
			copy(b[24:listEnd-list], b[16:])
			u16(b[10:], 0xFFFF)
			u64(b[16:], uint64(count))
		},
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
	inUse := slices.Clone(good) // one id more, of a page in use
	ids := inUse[list+pageHeaderBytes : listEnd]
	i := 0
	for binary.NativeEndian.Uint64(ids[8*i:]) < used && i < count {
		i++
	}
	copy(ids[8*(i+1):], ids[8*i:])
	u64(ids[8*i:], used)
	u16(inUse[list+10:], uint16(count+1))
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
