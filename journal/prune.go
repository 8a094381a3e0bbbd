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

// pruned is the payload of a frame of kind framePrune: what leaves the journal in
// one bounded step.
type pruned struct {
	Gone spans `json:"gone,omitempty"` // of settled entries: all that there are in these ranges
	From ID    `json:"from,omitempty"` // the first entry that was not looked at yet

	Anchor uint64 `json:"anchor,omitempty"` // rows up to here go too, and the chain is followed from here
	Link   []byte `json:"chain,omitempty"`  // the link there
	Key    string `json:"chain_key,omitempty"`
	Kept   []kept `json:"kept,omitempty"` // entries that stay although their newest row goes
}

// kept stands for the row of an entry that outlives it.
type kept struct {
	ID     ID     `json:"id"`
	Digest []byte `json:"digest"`
}

// digests gives what the frame says of the entries that stay.
func (p pruned) digests() map[ID]digest {
	all := map[ID]digest{}
	for _, k := range p.Kept {
		if len(k.Digest) == len(digest{}) {
			all[k.ID] = digest(k.Digest)
		}
	}
	return all
}

// apply removes from the store what a frame says.
func (p pruned) apply(in *intake, st *storeState) error {
	for _, s := range p.Gone {
		if err := in.remove(s); err != nil {
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
// stay until their group is empty; a mark says that they count for nothing.
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
	for group := indexGroup(s[0]); group <= indexGroup(s[1]); group++ {
		if k, _ := entries.Cursor().Seek(key(groupStart(group))); k != nil && indexGroup(entryID(k)) == group {
			continue
		}
		prefix := binary.BigEndian.AppendUint32(nil, group)
		if err := deleteKeys(in.tx.Bucket(bucketIndex), prefix, func(k []byte) bool { return bytes.HasPrefix(k, prefix) }); err != nil {
			return err
		}
		delete(in.packs, packOf{group, indexGone})
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

// runs notes that the device was on since the newest step that was known. Time that it
// was off is not counted: no clock that can be trusted knows it (L12).
func (s *storeState) runs(boot uint32, since time.Duration) {
	switch {
	case boot == s.RanBoot && since > s.RanSince:
		s.Ran += since - s.RanSince
	case boot > s.RanBoot:
		s.Ran += since
	default:
		return
	}
	s.RanBoot, s.RanSince = boot, since
}
