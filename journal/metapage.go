package journal

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
)

// Offsets inside a meta page of bbolt's file format 2. Integers are in the
// machine's own byte order.
const (
	metaStart    = 16 // behind the page's header
	metaHigh     = 56 // the number of pages in use
	metaChecksum = 72 // FNV-1a over what is between start and here
	metaEnd      = 80
)

// checkMetaPages finds the two kinds of damage that bbolt passes over without a
// word (L13): of two meta pages one does not hold together, and bbolt then goes on
// from the other, which may lack the newest step; or the file ends before the
// pages that it counts. The caller holds the file's lock. A sector is written
// whole or not at all, so a power cut leaves both pages whole.
func checkMetaPages(f *os.File, pageSize int) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for n := range int64(2) {
		page := make([]byte, metaEnd)
		if _, err := f.ReadAt(page, n*int64(pageSize)); err != nil {
			return err
		}
		sum := fnv.New64a()
		_, _ = sum.Write(page[metaStart:metaChecksum])
		if sum.Sum64() != binary.NativeEndian.Uint64(page[metaChecksum:]) {
			return fmt.Errorf("%w: meta page %d does not hold together, so the newest step may be missing", ErrDamaged, n)
		}
		if high := binary.NativeEndian.Uint64(page[metaHigh:]); high > uint64(info.Size())/uint64(pageSize) {
			return fmt.Errorf("%w: the file ends after %d of its %d pages", ErrDamaged, info.Size()/int64(pageSize), high)
		}
	}
	return nil
}
