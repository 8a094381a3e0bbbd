package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// FuzzPages: no file makes the walker panic or read for ever. repair gives the
// meta pages checksums that fit, so that what they say is believed. The inputs are
// long: run it with -fuzzminimizetime 10x.
func FuzzPages(f *testing.F) {
	for _, commits := range [][]func(*bolt.Tx) error{
		{putPairs("a", 0, 3, 20)},
		{putPairs("a", 0, 60, 40), deletePairs("a", 20, 20)},
		{putPairs("a", 0, 3, 2500), putPairs("b", 0, 2, 5)},
	} {
		f.Add(boltBytes(f, 1024, commits...), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, repair bool) {
		if len(data) > 64<<10 {
			return
		}
		if repair {
			repairMetas(data)
		}
		useAllPages(t, data)
	})
}

// repairMetas makes two meta pages of pages of 1024 bytes hold together.
func repairMetas(data []byte) {
	for at := int64(0); at <= 1024 && at+metaPageBytes <= int64(len(data)); at += 1024 {
		binary.NativeEndian.PutUint32(data[at+16:], boltMark)
		binary.NativeEndian.PutUint32(data[at+20:], boltVersion)
		binary.NativeEndian.PutUint32(data[at+24:], 1024)
		repairMeta(data, at)
	}
}

// useAllPages does all that the walker can do, and counts what it reads.
func useAllPages(t *testing.T, data []byte) {
	t.Helper()
	m := &memoryFile{data: data}
	limit := 40 * (int64(len(data))/pageSizeMin + 8)
	bounded := func(what string, errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if n := m.reads.Swap(0); n > limit {
			t.Errorf("%s: %d reads", what, n)
		}
	}
	_, err := salvagePages(context.Background(), m, int64(len(data)), func(_, _ []byte) {})
	bounded("salvage", err)
	p, err := m.open()
	if err != nil {
		if !errors.Is(err, ErrForeign) {
			bounded("open", err)
		}
		return
	}
	_, err = readTxid(m, p.pageSize)
	bounded("open", err)
	bounded("checkAll", p.checkAll(context.Background()))
	bounded("checkSkeleton", p.checkSkeleton([]byte("a")))
	bounded("checkFreelist", p.checkFreelist())
	for _, bucket := range [][]byte{[]byte("a"), []byte("b"), nil} {
		_, err := p.sequence(bucket)
		bounded("sequence", err)
		var last []byte
		first := true
		bounded("ascend", p.ascend(bucket, nil, func(k, _ []byte) bool {
			if !first && string(k) <= string(last) {
				t.Error("ascend: out of order")
			}
			first, last = false, append(last[:0], k...)
			return true
		}))
		bounded("descend", p.descend(bucket, nil, func(_, _ []byte) bool { return true }))
		bad := func(err error) {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("around: %v", err)
			}
		}
		p.ascendAround(bucket, nil, func(_, _ []byte) bool { return true }, bad)
		bounded("ascendAround")
		p.descendAround(bucket, key(30), func(_, _ []byte) bool { return true }, bad)
		bounded("descendAround")
		for _, id := range []ID{0, 1, 30, 1 << 40} {
			_, err := p.get(bucket, key(id))
			bounded("get", err)
		}
	}
}
