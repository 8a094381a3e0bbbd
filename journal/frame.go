package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A frame is one step as the write-ahead file keeps it. FORMAT.md gives the
// bytes.
type frame struct {
	kind    frameKind
	epoch   uint32 // of the region it stands in
	index   uint64 // grows by one a frame, for ever
	synced  uint64 // newest frame that was durable before this one was written
	entry   ID     // 0 for what belongs to no entry
	before  uint32 // sum of the frame before it in the region, 0 for the first one
	payload []byte
	digest  digest // of the payload
	chain   link
	sum     uint32 // CRC-32C over all of it, once it was packed or parsed
}

// frameKind says what a frame's payload is. The numbers never change.
type frameKind uint8

const (
	frameEntry frameKind = 1 // the entry as this step left it
	frameBoot  frameKind = 2 // the device was started since the frame before
	framePrune frameKind = 3 // settled entries that were removed
	frameKey   frameKind = 4 // the chain goes on under another key
)

const (
	frameVersion = 1
	frameHead    = 40
	frameTail    = linkBytes + 4
	frameAlign   = 8
	payloadMax   = 24 << 10 // far above the largest entry: a length read from a file is held against it
)

// frameBytes is the room that a payload takes with its frame around it.
func frameBytes(payload int) int64 {
	return int64(frameHead+payload+frameTail+frameAlign-1) &^ (frameAlign - 1)
}

// appendFrame gives the bytes of a frame and sets its sum.
func appendFrame(b []byte, f *frame) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.payload)))
	b = append(b, frameVersion, byte(f.kind), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, f.epoch)
	b = binary.LittleEndian.AppendUint32(b, f.before)
	b = binary.LittleEndian.AppendUint64(b, f.index)
	b = binary.LittleEndian.AppendUint64(b, f.synced)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.entry))
	b = append(b, f.payload...)
	b = append(b, f.chain[:]...)
	f.sum = crc32.Checksum(b[start:], castagnoli)
	b = binary.LittleEndian.AppendUint32(b, f.sum)
	for int64(len(b)-start) < frameBytes(len(f.payload)) {
		b = append(b, 0)
	}
	return b
}

// parseFrame reads the frame at the start of b, which may have anything behind
// it. The payload is b's own memory.
func parseFrame(b []byte) (*frame, int64, error) {
	if len(b) < frameHead+frameTail {
		return nil, 0, fmt.Errorf("%w: a frame is cut", ErrDamaged)
	}
	n := binary.LittleEndian.Uint32(b)
	if n > payloadMax || frameBytes(int(n)) > int64(len(b)) {
		return nil, 0, fmt.Errorf("%w: a frame's length is out of range", ErrDamaged)
	}
	end := frameHead + int(n) + linkBytes
	sum := crc32.Checksum(b[:end], castagnoli)
	if sum != binary.LittleEndian.Uint32(b[end:]) {
		return nil, 0, fmt.Errorf("%w: a frame's checksum does not fit", ErrDamaged)
	}
	if b[4] != frameVersion {
		return nil, 0, fmt.Errorf("%w: frame version %d, this program knows %d", ErrNewer, b[4], frameVersion)
	}
	f := &frame{
		kind:    frameKind(b[5]),
		epoch:   binary.LittleEndian.Uint32(b[8:]),
		before:  binary.LittleEndian.Uint32(b[12:]),
		index:   binary.LittleEndian.Uint64(b[16:]),
		synced:  binary.LittleEndian.Uint64(b[24:]),
		entry:   ID(binary.LittleEndian.Uint64(b[32:])),
		payload: b[frameHead : frameHead+int(n)],
		digest:  digestOf(b[frameHead : frameHead+int(n)]),
		chain:   link(b[frameHead+int(n) : end]),
		sum:     sum,
	}
	if f.kind < frameEntry || f.kind > frameKey {
		return nil, 0, fmt.Errorf("%w: a frame of kind %d, which this program does not know", ErrNewer, f.kind)
	}
	return f, frameBytes(int(n)), nil
}
