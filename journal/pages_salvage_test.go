package journal

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// salvaged gives the pairs whose seal holds.
func salvaged(t *testing.T, m *memoryFile) (found map[pair]bool, unread []int64) {
	t.Helper()
	found = map[pair]bool{}
	unread, err := salvagePages(context.Background(), m, int64(len(m.data)), func(k, v []byte) {
		if sealHolds(k, v) {
			found[pair{string(k), string(v)}] = true
		}
	})
	if err != nil {
		t.Fatalf("salvage: %v", err)
	}
	return found, unread
}

// missing counts what a salvage did not find.
func missing(found map[pair]bool, want map[string][]pair) (n int) {
	for _, list := range want {
		for _, p := range list {
			if !found[p] {
				n++
			}
		}
	}
	return n
}

// All that is there is found, and what an older commit left behind as well; with
// both meta pages gone too, at every page size.
func TestL13SalvagePages(t *testing.T) {
	t.Parallel()
	for size := pageSizeMin; size <= pageSizeMax; size *= 2 {
		good := boltBytes(t, size, putPairs("a", 0, 500, 60), putPairs("a", 500, 2, 3*size), putPairs("small", 0, 3, 9), deletePairs("a", 40, 1))
		want := contentOf(t, good)
		for _, metas := range []string{"whole", "gone"} {
			data := slices.Clone(good)
			if metas == "gone" {
				clear(data[:2*size])
			}
			found, unread := salvaged(t, &memoryFile{data: data})
			if n := missing(found, want); n > 0 || len(unread) > 0 {
				t.Errorf("pages of %d, meta pages %s: %d pairs missing, %d pages unread", size, metas, n, len(unread))
			}
			k := key(40)
			if !found[pair{string(k), string(sealedValue(k, bytes.Repeat([]byte{40 | 0x80}, 60)))}] {
				t.Errorf("pages of %d, meta pages %s: what was deleted last is gone", size, metas)
			}
		}
	}
}

// L13: each byte changed: nothing is lost but what the byte belongs to.
func TestL13SalvageEachByte(t *testing.T) {
	t.Parallel()
	s := newPagesScene(t)
	root := mustPages(t, s.data).meta.root
	for at, mask := range s.changes {
		id, offset := uint64(at/scenePageSize), at%scenePageSize
		if s.free.has(id) {
			continue
		}
		bad := slices.Clone(s.data)
		bad[at] ^= mask
		found, _ := salvaged(t, &memoryFile{data: bad})
		may := 1
		switch {
		case s.kind[id] != kindLeaf: // no pair stands there
			may = 0
		case id == root: // a whole small bucket hangs on one element
			may = 4
		}
		if n := missing(found, s.want); n > may {
			t.Fatalf("page %d, byte %d ^ %#x: %d pairs are lost, %d may be", id, offset, mask, n, may)
		}
	}
}

// L13: what the medium does not give is named, and the rest is found.
func TestL13SalvageUnreadable(t *testing.T) {
	t.Parallel()
	s := newPagesScene(t)
	for id := range s.pages {
		m := &memoryFile{data: s.data, unreadable: func(from, to int64) bool {
			return from < (id+1)*scenePageSize && to > id*scenePageSize
		}}
		found, unread := salvaged(t, m)
		if !slices.Equal(unread, []int64{id}) {
			t.Errorf("page %d: unread %v", id, unread)
		}
		may := s.below[uint64(id)]
		if s.kind[uint64(id)] != kindLeaf {
			may = 0
		}
		if n := missing(found, s.want); n > may && uint64(id) != mustPages(t, s.data).meta.root {
			t.Errorf("page %d: %d pairs are lost, %d stand on it", id, n, may)
		}
	}
}

func TestSalvagePagesEnds(t *testing.T) {
	t.Parallel()
	s := newPagesScene(t)
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	_, err := salvagePages(ctx, &memoryFile{data: s.data}, int64(len(s.data)), func(_, _ []byte) {
		n++
		cancel()
	})
	wantErr(t, "salvage", err, context.Canceled)
	if n > 100 {
		t.Errorf("%d pairs after it was stopped", n)
	}
	wantErr(t, "checkAll", mustPages(t, s.data).checkAll(ctx), context.Canceled)
	dead := &memoryFile{data: make([]byte, 1), unreadable: func(_, _ int64) bool { return true }}
	unread, err := salvagePages(context.Background(), dead, 1<<40, func(_, _ []byte) {})
	wantErr(t, "a dead medium", err, ErrDamaged)
	if len(unread) != unreadMax {
		t.Errorf("a dead medium: %d pages", len(unread))
	}
	for size := range 40 {
		if _, err := salvagePages(context.Background(), &memoryFile{data: s.data[:size]}, int64(size), func(_, _ []byte) {}); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Rubbish costs no more than a multiple of its size: leaves full of elements that
// all claim all of the data, and plain noise.
func TestSalvagePagesOfRubbish(t *testing.T) {
	t.Parallel()
	const size = 48 << 10
	noise := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(noise)
	greedy := boltBytes(t, 1024, putPairs("a", 0, 1, 10))
	greedy = append(greedy, make([]byte, size-len(greedy))...)
	for id := 4; id < size/1024; id++ {
		page := greedy[id*1024:]
		copy(page, greedy[mustPages(t, greedy).meta.root*1024:][:pageHeaderBytes])
		page[0], page[1] = byte(id), byte(id>>8)
		page[10], page[11] = 0xFE, 0xFF
		for i := 1; i < 64; i++ {
			at := i * pageElementBytes
			copy(page[at:], []byte{0, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 0, 0, 32, 0, 0})
		}
	}
	for what, data := range map[string][]byte{"noise": noise, "greedy": greedy, "zeros": make([]byte, size)} {
		var visited int64
		m := &memoryFile{data: data}
		_, err := salvagePages(context.Background(), m, size, func(k, v []byte) { visited += int64(len(k) + len(v)) })
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if pages := int64(size / 1024); m.reads.Load() > 3*pages || visited > pages*readableShare*12<<10 {
			t.Errorf("%s: %d reads and %d bytes visited of %d pages", what, m.reads.Load(), visited, pages)
		}
	}
}
