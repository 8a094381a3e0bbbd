package journal

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// copies says how many copies of a live file are made; 100 when it is not set.
const copies = "UNCHARGE_TEST_COPIES"

const (
	liveStep   = 5   // keys put by one commit
	liveWindow = 120 // commits whose keys are still there
	copyTries  = 20_000
)

// liveWriter commits at full speed. What a file holds after commit s follows from
// s: the keys of the last liveWindow commits, and s.
type liveWriter struct {
	db      *bolt.DB
	written atomic.Uint64 // the newest commit that returned
	stop    atomic.Bool
}

func (w *liveWriter) run() error {
	for s := uint64(1); !w.stop.Load(); s++ {
		if err := w.db.Update(func(tx *bolt.Tx) error { return liveCommit(tx, s) }); err != nil {
			return err
		}
		w.written.Store(s)
	}
	return nil
}

func liveCommit(tx *bolt.Tx, s uint64) error {
	meta, err := tx.CreateBucketIfNotExists([]byte("meta"))
	if err != nil {
		return err
	}
	entries, err := tx.CreateBucketIfNotExists([]byte("entries"))
	if err != nil {
		return err
	}
	for i := range uint64(liveStep) {
		k := key(ID(s*liveStep + i))
		// One in 64 commits has values that need overflow.
		size := 50 + int(s*7%200)
		if s%64 == 0 {
			size = 7000
		}
		if err := entries.Put(k, sealedValue(k, make([]byte, size))); err != nil {
			return err
		}
		if s > liveWindow {
			if err := entries.Delete(key(ID((s-liveWindow)*liveStep + i))); err != nil {
				return err
			}
		}
	}
	return meta.Put([]byte("commit"), binary.BigEndian.AppendUint64(nil, s))
}

// copyLive copies a file that may be written to meanwhile: the transaction must
// be the same before and after.
func copyLive(t *testing.T, f *os.File, pageSize int64) (data []byte, txid uint64, tries int) {
	t.Helper()
	for tries = range copyTries {
		before, err := readTxid(f, pageSize)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		data = slices.Grow(data[:0], int(info.Size()))[:info.Size()]
		if _, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), data); err != nil {
			t.Fatal(err)
		}
		after, err := readTxid(f, pageSize)
		if err != nil {
			t.Fatal(err)
		}
		if before == after {
			return data, before, tries + 1
		}
	}
	t.Fatalf("no copy in %d tries", copyTries)
	return nil, 0, 0
}

// L15: a copy of a file beside a writer at full speed, which deletes too: whole,
// and all that was acknowledged before is in it.
func TestL15PagesBesideAWriter(t *testing.T) {
	t.Parallel()
	n := 100
	if v, err := strconv.Atoi(os.Getenv(copies)); err == nil {
		n = v
	}
	path := filepath.Join(t.TempDir(), "store")
	w := &liveWriter{db: openBolt(t, path, boltOptions(4096))}
	done := make(chan error, 1)
	go func() { done <- w.run() }()
	defer func() {
		w.stop.Store(true)
		if err := <-done; err != nil {
			t.Errorf("writer: %v", err)
		}
	}()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for w.written.Load() < 2*liveWindow && !t.Failed() {
		// until there is something to be deleted
		select {
		case err := <-done:
			t.Fatalf("writer: %v", err)
		default:
		}
	}
	tries, first := 0, w.written.Load()
	for range n {
		acknowledged := w.written.Load()
		data, txid, tried := copyLive(t, f, 4096)
		tries += tried
		checkLiveCopy(t, data, txid, acknowledged)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d copies in %d tries beside %d commits", n, tries, w.written.Load()-first)
}

func checkLiveCopy(t *testing.T, data []byte, txid, acknowledged uint64) {
	t.Helper()
	p := mustPages(t, data)
	if p.txid() != txid || p.metas()[txid%2] != nil {
		t.Errorf("transaction %d, %v, want %d", p.txid(), p.metas(), txid)
	}
	if err := p.checkAll(context.Background()); err != nil {
		t.Errorf("checkAll: %v", err)
	}
	if err := p.checkSkeleton([]byte("entries"), []byte("meta")); err != nil {
		t.Errorf("checkSkeleton: %v", err)
	}
	v, err := p.get([]byte("meta"), []byte("commit"))
	if err != nil || len(v) != 8 {
		t.Fatalf("commit: %x, %v", v, err)
	}
	s := binary.BigEndian.Uint64(v)
	if s < acknowledged {
		t.Errorf("commit %d was acknowledged, the copy is of commit %d", acknowledged, s)
	}
	next, last := (max(s, liveWindow)-liveWindow+1)*liveStep, (s+1)*liveStep
	err = p.ascend([]byte("entries"), nil, func(k, v []byte) bool {
		if len(k) != 8 || binary.BigEndian.Uint64(k) != next || !sealHolds(k, v) {
			t.Errorf("commit %d: key %x, want %d", s, k, next)
			return false
		}
		next++
		return true
	})
	if err != nil || next != last {
		t.Errorf("commit %d: the keys end before %d, want %d; %v", s, next, last, err)
	}
}

// The cost of checkSkeleton follows the branch pages.
func BenchmarkPagesCheckSkeleton(b *testing.B) {
	if testing.Short() {
		b.Skip("a file of 1,000,000 entries")
	}
	const entries = 1_000_000
	path := filepath.Join(b.TempDir(), "store")
	db := openBolt(b, path, boltOptions(4096))
	db.AllocSize = 16 << 20
	for first := 0; first < entries; first += 10_000 {
		if err := db.Update(func(tx *bolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("entries"))
			if err != nil {
				return err
			}
			bucket.FillPercent = 0.9
			for i := range 10_000 {
				k := key(ID(first + i))
				if err := bucket.Put(k, sealedValue(k, make([]byte, 60))); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	p, err := openPages(f, info.Size())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("skeleton", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := p.checkSkeleton([]byte("entries")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := p.checkAll(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("salvage", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			found := 0
			if _, err := salvagePages(b.Context(), f, info.Size(), func(_, _ []byte) { found++ }); err != nil || found < entries {
				b.Fatal(found, err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			if v, err := p.get([]byte("entries"), key(ID(n*7919%entries))); v == nil || err != nil {
				b.Fatal(v, err)
			}
		}
	})
}
