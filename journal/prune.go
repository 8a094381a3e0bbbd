package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// span is a range of entry ids, both ends in it.
type span [2]ID

// spans are ranges in order, apart from each other.
type spans []span

func (s spans) has(id ID) bool {
	i, found := slices.BinarySearchFunc(s, id, func(r span, id ID) int { return cmp.Compare(r[0], id) })
	return found || i > 0 && id <= s[i-1][1]
}

// merged puts ranges that came from several frames in order.
func (s spans) merged() (out spans) {
	sorted := slices.Clone(s)
	slices.SortFunc(sorted, func(a, b span) int { return cmp.Compare(a[0], b[0]) })
	for _, r := range sorted {
		if last := len(out) - 1; last >= 0 && r[0] <= out[last][1] {
			out[last][1] = max(out[last][1], r[1])
			continue
		}
		out = append(out, r)
	}
	return out
}

// pruned is the payload of a frame of kind framePrune: what leaves the journal in
// one bounded step.
type pruned struct {
	Gone spans `json:"gone,omitempty"` // of settled entries: all that there are in these ranges
	From ID    `json:"from,omitempty"` // the first entry that was not looked at yet

	Anchor uint64 `json:"anchor,omitempty"` // rows up to here go too, and the chain is followed from here
	Link   []byte `json:"chain,omitempty"`  // the link there
	Key    string `json:"chain_key,omitempty"`
	Kept   []byte `json:"kept,omitempty"` // entries that stay although their newest row goes: of each its id, 8 bytes, and the row's digest
}

const keptBytes = 8 + len(digest{})

// keep notes an entry that outlives its row.
func (p *pruned) keep(id ID, d digest) {
	p.Kept = append(binary.BigEndian.AppendUint64(p.Kept, uint64(id)), d[:]...)
}

// digests gives what the frame says of the entries that stay.
func (p pruned) digests() map[ID]digest {
	all := map[ID]digest{}
	for b := p.Kept; len(b) >= keptBytes; b = b[keptBytes:] {
		all[ID(binary.BigEndian.Uint64(b))] = digest(b[8:keptBytes])
	}
	return all
}

// apply removes from the store what a frame says.
func (p pruned) apply(in *intake, st *storeState) error {
	touched := map[uint32]bool{}
	for _, s := range p.Gone {
		if err := in.remove(s); err != nil {
			return err
		}
		for group := indexGroup(s[0]); group <= indexGroup(s[1]); group++ {
			touched[group] = true
		}
	}
	for group := range touched {
		if err := in.tidy(group); err != nil {
			return err
		}
	}
	st.PrunedTo = max(st.PrunedTo, p.From)
	if p.Anchor <= st.Anchor {
		return nil
	}
	for _, bucket := range [][]byte{bucketChain, bucketNotes, bucketMarks} {
		if err := deleteUpTo(in.tx.Bucket(bucket), indexOf(p.Anchor)); err != nil {
			return err
		}
	}
	st.Anchor, st.AnchorLink, st.AnchorKey = p.Anchor, p.Link, p.Key
	return nil
}

func deleteUpTo(b *bolt.Bucket, last []byte) error {
	return deleteKeys(b, nil, func(k []byte) bool { return bytes.Compare(k, last) <= 0 })
}

// deleteKeys removes keys from one on for as long as they are within.
func deleteKeys(b *bolt.Bucket, from []byte, within func(k []byte) bool) error {
	var keys [][]byte
	c := b.Cursor()
	for k, _ := c.Seek(from); k != nil && within(k); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// remove takes the entries of a range out of the store. Their places in the index
// stay until their group is tidied; places of their own say that they count for nothing.
func (in *intake) remove(s span) error {
	entries := in.tx.Bucket(bucketEntries)
	var ids []ID
	c := entries.Cursor()
	for k, _ := c.Seek(key(s[0])); k != nil && entryID(k) <= s[1]; k, _ = c.Next() {
		ids = append(ids, entryID(k))
	}
	for _, id := range ids {
		if err := entries.Delete(key(id)); err != nil {
			return err
		}
		in.add(id, indexValue{kind: indexGone})
	}
	return nil
}

// fewLeft entries are so few that a group's index is made anew for them.
const fewLeft = 64

// tidy drops what the index has of a group that was pruned, once next to nothing of it
// is left: what was open or kept may stay for very long.
func (in *intake) tidy(group uint32) error {
	var left []*record
	c := in.tx.Bucket(bucketEntries).Cursor()
	for k, v := c.Seek(key(groupStart(group))); k != nil && indexGroup(entryID(k)) == group; k, v = c.Next() {
		rec, err := decode(entryID(k), v)
		if left = append(left, rec); err != nil || len(left) > fewLeft {
			return nil // one that cannot be read keeps its places
		}
	}
	prefix := binary.BigEndian.AppendUint32(nil, group)
	if err := deleteKeys(in.tx.Bucket(bucketIndex), prefix, func(k []byte) bool { return bytes.HasPrefix(k, prefix) }); err != nil {
		return err
	}
	delete(in.packs, packOf{group, indexGone})
	for _, rec := range left {
		for _, v := range indexValues(rec) {
			in.add(rec.ID, v)
		}
	}
	return nil
}

// mark is what the store remembers of a checkpoint: how long the device had been on
// by then, and the chain there, which can become the anchor.
type mark struct {
	ran  time.Duration
	link link
	key  string
}

const markHead = 8 + linkBytes

func (m mark) encode(key []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, markHead+20), uint64(m.ran))
	b = append(append(b, m.link[:]...), m.key...)
	return binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b))
}

func decodeMark(key, b []byte) (mark, bool) {
	n := len(b) - 4
	if n < markHead || crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return mark{}, false
	}
	return mark{time.Duration(binary.BigEndian.Uint64(b)), link(b[8:markHead]), string(b[markHead:n])}, true
}

// mark puts a mark of where the store has come to.
func (s *storeState) mark(tx *bolt.Tx) error {
	at := indexOf(s.Applied)
	return tx.Bucket(bucketMarks).Put(at, mark{s.Ran, link(s.Chain), s.ChainKey}.encode(at))
}

// ranTo is runs for an entry's newest step.
func (s *storeState) ranTo(rec *record) {
	if n := len(rec.Steps); n > 0 {
		s.runs(rec.Steps[n-1].Boot, rec.Steps[n-1].SinceBoot)
	}
}

// runs notes that the device was on since the newest step that was known. Time that it
// was off is not counted: no clock that can be trusted knows it (L12).
func (s *storeState) runs(boot uint32, since time.Duration) {
	switch {
	case boot < s.RanBoot:
		return
	case since >= s.RanSince: // in the same boot, or one that cannot be told from it
		s.Ran += since - s.RanSince
	case boot == s.RanBoot:
		return
	default:
		s.Ran += since
	}
	s.RanBoot, s.RanSince = boot, since
}
