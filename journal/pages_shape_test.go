package journal

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
)

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
