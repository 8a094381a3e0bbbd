package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// pageOp is one change inside a transaction.
type pageOp struct {
	bucket            string
	kind              string
	first, n, step    int
	valueSize, keyPad int
}

func drawPageOp(rt *rapid.T) pageOp {
	return pageOp{
		bucket:    rapid.SampledFrom([]string{"entries", "lanes", "meta", "open"}).Draw(rt, "bucket"),
		kind:      rapid.SampledFrom([]string{"put", "put", "put", "delete", "delete", "sequence", "drop"}).Draw(rt, "kind"),
		first:     rapid.IntRange(0, 2000).Draw(rt, "first"),
		n:         rapid.SampledFrom([]int{1, 2, 5, 30, 300, 1500}).Draw(rt, "n"),
		step:      rapid.SampledFrom([]int{1, 1, 1, 3, 17}).Draw(rt, "step"),
		valueSize: rapid.SampledFrom([]int{0, 1, 8, 60, 300, 300, 1500, 9000}).Draw(rt, "value size"),
		keyPad:    rapid.SampledFrom([]int{0, 0, 0, 5, 200}).Draw(rt, "key pad"),
	}
}

func (op pageOp) key(i int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(op.first+i*op.step)), bytes.Repeat([]byte{7}, op.keyPad)...)
}

func (op pageOp) apply(tx *bolt.Tx, fill float64) error {
	b, err := tx.CreateBucketIfNotExists([]byte(op.bucket))
	if err != nil {
		return err
	}
	b.FillPercent = fill
	n := op.n
	if op.valueSize > 1000 || op.keyPad > 100 {
		n = min(n, 30)
	}
	switch op.kind {
	case "put":
		for i := range n {
			if err := b.Put(op.key(i), bytes.Repeat([]byte{byte(i) | 1}, op.valueSize)); err != nil {
				return err
			}
		}
	case "delete":
		for i := range op.n {
			if err := b.Delete(op.key(i)); err != nil {
				return err
			}
		}
	case "sequence":
		return b.SetSequence(uint64(op.first) << 20)
	case "drop":
		return tx.DeleteBucket([]byte(op.bucket))
	}
	return nil
}

// The walker against bbolt itself: whatever bbolt wrote, the walker finds the
// same in it, and nothing wrong with it.
func TestPagesAgainstBbolt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(dir, "store")
		_ = os.Remove(path)
		options := boltOptions(rapid.SampledFrom([]int{1024, 1024, 2048, 4096, 8192, 16384, 65536}).Draw(rt, "page size"))
		options.NoFreelistSync = rapid.Bool().Draw(rt, "no free list")
		options.FreelistType = rapid.SampledFrom([]bolt.FreelistType{bolt.FreelistArrayType, bolt.FreelistMapType}).Draw(rt, "free list type")
		fill := rapid.SampledFrom([]float64{0.1, 0.5, 0.5, 0.9, 1}).Draw(rt, "fill")
		db, err := bolt.Open(path, 0o600, options)
		if err != nil {
			rt.Fatalf("open: %v", err)
		}
		defer func() { _ = db.Close() }()
		db.AllocSize = 64 << 10
		rollback := errors.New("rollback")
		for range rapid.IntRange(1, 8).Draw(rt, "commits") {
			ops := rapid.SliceOfN(rapid.Custom(drawPageOp), 0, 5).Draw(rt, "ops")
			undo := rapid.IntRange(0, 9).Draw(rt, "undo") == 0
			err := db.Update(func(tx *bolt.Tx) error {
				for _, op := range ops {
					if err := op.apply(tx, fill); err != nil {
						return err
					}
				}
				if undo {
					return rollback
				}
				return nil
			})
			if err != nil && !errors.Is(err, rollback) {
				rt.Fatalf("bbolt: %v", err)
			}
			compareWithBbolt(rt, db, path)
		}
	})
}

// compareWithBbolt reads the file while bbolt has it open and locked: L15.
func compareWithBbolt(rt *rapid.T, db *bolt.DB, path string) {
	f, err := os.Open(path)
	if err != nil {
		rt.Fatalf("%v", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		rt.Fatalf("%v", err)
	}
	p, err := openPages(f, info.Size())
	if err != nil {
		rt.Fatalf("open: %v", err)
	}
	want := content(rt, db)
	wantWhole(rt, p, names(want)...)
	txid, err := readTxid(f, p.pageSize)
	if err != nil || txid != p.txid() {
		rt.Errorf("transaction %d, %v, and %d", txid, err, p.txid())
	}
	_ = db.View(func(tx *bolt.Tx) error {
		if int(p.txid()) != tx.ID() {
			rt.Errorf("transaction %d, want %d", p.txid(), tx.ID())
		}
		for name := range want {
			if n, err := p.sequence([]byte(name)); err != nil || n != tx.Bucket([]byte(name)).Sequence() {
				rt.Errorf("sequence of %s: %d, %v", name, n, err)
			}
		}
		return nil
	})
	for name, list := range want {
		compareBucket(rt, p, name, list)
	}
}

func compareBucket(rt *rapid.T, p *pages, name string, list []pair) {
	backwards := slices.Clone(list)
	slices.Reverse(backwards)
	for _, falling := range []bool{false, true} {
		want := list
		if falling {
			want = backwards
		}
		if got, err := walkAll(p, name, nil, falling); err != nil || !slices.Equal(got, want) {
			rt.Errorf("%s, falling %v: %d pairs, %v, want %d", name, falling, len(got), err, len(want))
		}
	}
	for range 6 {
		from := pageOp{first: rapid.IntRange(0, 8000).Draw(rt, "from")}.key(0)
		if len(list) > 0 && rapid.Bool().Draw(rt, "that is there") {
			from = []byte(list[rapid.IntRange(0, len(list)-1).Draw(rt, "which")].key)
		}
		i := sort.Search(len(list), func(i int) bool { return list[i].key >= string(from) })
		there := i < len(list) && list[i].key == string(from)
		v, err := p.get([]byte(name), from)
		if err != nil || there != (v != nil) || there && string(v) != list[i].value {
			rt.Errorf("%s: get: %d bytes, %v, there: %v", name, len(v), err, there)
		}
		if got, err := walkAll(p, name, from, false); err != nil || !slices.Equal(got, list[i:]) {
			rt.Errorf("%s: rising from a key: %d pairs, %v, want %d", name, len(got), err, len(list)-i)
		}
		if there {
			i++
		}
		if got, err := walkAll(p, name, from, true); err != nil || !slices.Equal(got, backwards[len(list)-i:]) {
			rt.Errorf("%s: falling from a key: %d pairs, %v, want %d", name, len(got), err, i)
		}
	}
	around, bad := []pair{}, []error{}
	p.ascendAround([]byte(name), nil, func(k, v []byte) bool {
		around = append(around, pair{string(k), string(v)})
		return true
	}, func(err error) { bad = append(bad, err) })
	if !slices.Equal(around, list) || len(bad) > 0 {
		rt.Errorf("%s: around: %d pairs, want %d; %v", name, len(around), len(list), bad)
	}
}

// A walk ends when it is told to, and reads no further.
func TestPagesWalkEnds(t *testing.T) {
	t.Parallel()
	m := &memoryFile{data: boltBytes(t, 1024, putPairs("a", 0, 3000, 30))}
	p, err := m.open()
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int{0, 1, 1499, 2999} {
		for what, walk := range map[string]func([]byte, []byte, func(k, v []byte) bool) error{"rising": p.ascend, "falling": p.descend} {
			for _, limit := range []int{1, 2} {
				n := 0
				m.reads.Store(0)
				err := walk([]byte("a"), key(ID(from)), func(k, _ []byte) bool {
					n++
					return n < limit
				})
				if err != nil || n > limit || m.reads.Load() > 8 {
					t.Errorf("%s from %d: %v, %d pairs, want %d; %d reads", what, from, err, n, limit, m.reads.Load())
				}
			}
		}
	}
	if v, err := p.get([]byte("a"), key(5000)); v != nil || err != nil {
		t.Errorf("get: %v, %v", v, err)
	}
}
