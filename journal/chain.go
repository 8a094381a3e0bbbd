package journal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// linkBytes is the length of a link of the chain.
const linkBytes = 32

// link is what the chain has come to at one frame: it depends on that frame and
// on every one before it.
type link [linkBytes]byte

// digest stands for a payload in the chain, so that the chain can be followed
// when only the newest form of an entry is kept.
type digest [16]byte

func digestOf(payload []byte) digest {
	sum := sha256.Sum256(payload)
	return digest(sum[:16])
}

// row is what the store keeps of every frame: enough to follow the chain through
// it and to know the payload again.
type row struct {
	kind   frameKind
	entry  ID
	digest digest
	tag    [8]byte // the first bytes of the link at this frame: says where the chain breaks
}

// linker makes the links. Under a device's key nobody without the key can make
// one that fits; without a key a link finds damage and no forger.
// It is used by one goroutine at a time.
type linker struct {
	keyID string    // "" for none
	mac   hash.Hash // under the key, nil for none
}

func newLinker(keyID string, key []byte) linker { return linker{keyID, hmac.New(sha256.New, key)} }

func (l linker) next(before link, index uint64, r row) link {
	b := append(make([]byte, 0, 128), before[:]...)
	b = binary.BigEndian.AppendUint64(b, index)
	b = append(b, byte(r.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(r.entry))
	b = append(b, r.digest[:]...)
	if l.mac == nil {
		return sha256.Sum256(b)
	}
	l.mac.Reset()
	l.mac.Write(b)
	return link(l.mac.Sum(b[:0]))
}

// fits reports whether a link continues the chain. A change of key may be linked
// under none: the device may have lost the key before, which Verify tells.
func (l linker) fits(before link, index uint64, r row, after link) bool {
	return l.next(before, index, r) == after || r.kind == frameKey && linker{}.next(before, index, r) == after
}

// firstLink is what the chain of a journal starts from.
func firstLink(journalID []byte) link {
	return sha256.Sum256(append([]byte("uncharge chain\x00"), journalID...))
}

func rowOf(f *frame) row {
	return row{f.kind, f.entry, f.digest, [8]byte(f.chain[:8])}
}

const rowBytes = 1 + 8 + 16 + 8

func (r row) encode() []byte {
	b := append(make([]byte, 0, rowBytes), byte(r.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(r.entry))
	b = append(b, r.digest[:]...)
	return append(b, r.tag[:]...)
}

func decodeRow(b []byte) (row, bool) {
	if len(b) != rowBytes {
		return row{}, false
	}
	return row{frameKind(b[0]), ID(binary.BigEndian.Uint64(b[1:])), digest(b[9:25]), [8]byte(b[25:])}, true
}
