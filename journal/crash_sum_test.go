package journal

import (
	"hash/maphash"
	"maps"
	"slices"
)

// Every legal power cut: outcomes told apart, without making their images. The sum of
// a file is the sum of its sectors', so that only those have to be looked at that
// differ from what is on the disk for certain.

var sumSeed = maphash.MakeSeed()

// sum tells outcomes apart. A file that nobody ever syncs does not make an outcome
// another one.
func (o outcome) sum() uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	for _, path := range slices.Sorted(maps.Keys(o)) {
		p := o[path]
		maphash.WriteComparable(&h, path)
		maphash.WriteComparable(&h, p.node.names != nil)
		if p.node.names == nil && p.node.synced {
			maphash.WriteComparable(&h, p.size)
			maphash.WriteComparable(&h, p.sum())
		}
	}
	return h.Sum64()
}

func (p part) sum() (sum uint64) {
	if p.size < int64(len(p.node.certain)) {
		return sectorsSum(p.content()) // some of what is certain is cut off
	}
	if !p.node.summed {
		p.node.sum, p.node.summed = sectorsSum(p.node.certain), true
	}
	sum = p.node.sum
	for s, pieces := range p.wrote {
		var sector [sectorBytes]byte
		if at := s * sectorBytes; at < int64(len(p.node.certain)) {
			copy(sector[:], p.node.certain[at:])
		}
		sum -= sectorSum(s, sector[:])
		for _, one := range pieces {
			copy(sector[one.at:], one.data)
		}
		sum += sectorSum(s, sector[:min(max(p.size-s*sectorBytes, 0), sectorBytes)])
	}
	return sum
}

func sectorsSum(data []byte) (sum uint64) {
	s := int64(0)
	for sector := range slices.Chunk(data, sectorBytes) {
		sum += sectorSum(s, sector)
		s++
	}
	return sum
}

// sectorSum is 0 for zeros: a file that only grew has the sum that it had.
func sectorSum(s int64, data []byte) uint64 {
	end := len(data)
	for end > 0 && data[end-1] == 0 {
		end--
	}
	if end == 0 {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(sumSeed)
	maphash.WriteComparable(&h, s)
	_, _ = h.Write(data[:end])
	return h.Sum64()
}
