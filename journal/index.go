package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The index finds entries by what people ask for. It is cut into groups of entry ids,
// so that what is written together stands together: an index over the whole history
// would be written to at a random place for every sale. Within a group each
// checkpoint adds, for each kind of value, one pack of places in order. One key for
// each place would cost more time than all the rest of a checkpoint.
const indexGroupBits = 12 // ids of a group: 4096

// The first byte after the group.
const (
	indexTime   = 't'
	indexSTAN   = 's'
	indexRRN    = 'r'
	indexCard   = 'c'
	indexAmount = 'a'
	indexGone   = 'x' // no value: entries that were pruned and may still have places
)

// indexValue is what an entry is found under: a kind and a value of it.
type indexValue struct {
	kind  byte
	value string // sorts as what it stands for does
}

func stanValue(stan uint32) string { return string(binary.BigEndian.AppendUint32(nil, stan)) }
func amountValue(minor int64) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(minor)))
}
func rrnValue(rrn string) string { return string([]byte{byte(len(rrn))}) + rrn }
func timeValue(t time.Time) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(t.Unix())^1<<63))
}

// idMax is the last id that has a group: no terminal comes near it.
const idMax = ID(1<<(32+indexGroupBits) - 1)

func indexGroup(id ID) uint32    { return uint32(id >> indexGroupBits) }
func groupStart(group uint32) ID { return ID(group) << indexGroupBits }

// indexValues are all that an entry is found under.
func indexValues(r *record) []indexValue {
	list := make([]indexValue, 0, 5)
	list = append(list, indexValue{indexTime, timeValue(r.BegunAt)}, indexValue{indexSTAN, stanValue(r.STAN)}, indexValue{indexAmount, amountValue(r.Amount.Minor)})
	if r.Card != "" {
		list = append(list, indexValue{indexCard, r.Card})
	}
	return append(list, laterValues(r)...)
}

// laterValues are those that an entry may get, or get another of, after its first
// step. The others never change.
func laterValues(r *record) []indexValue {
	if r.RRN == "" {
		return nil
	}
	return []indexValue{{indexRRN, rrnValue(r.RRN)}}
}

// place is one value of one entry.
type place struct {
	value string
	id    ID
}

// packOf names what one kind of value has in one group.
type packOf struct {
	group uint32
	kind  byte
}

func (p packOf) prefix() []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 16), p.group), p.kind)
}

// key is where the store keeps a pack that a run of the checkpoint made.
func (p packOf) key(run uint64, part int) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(p.prefix(), run), uint16(part))
}

// A pack is version, width of a value, count (2 bytes), the places, and a CRC-32C over
// its key and all of that. A place is its value, filled up with zeros, and the entry's
// number in the group (2 bytes). They stand in order.
const (
	packVersion = 1
	packHead    = 4
	placeID     = 2
	packMax     = 1900 // two fit into a page of 4096 bytes: none needs pages of overflow
)

func sortPlaces(places []place) {
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(strings.Compare(a.value, b.value), cmp.Compare(a.id, b.id))
	})
}

// partOf is as many of some places as one pack takes.
func partOf(places []place) (n int) {
	width := 0
	for n < len(places) {
		width = max(width, len(places[n].value))
		if n++; packHead+n*(width+placeID)+4 > packMax {
			return max(n-1, 1)
		}
	}
	return n
}

// encodePack makes a pack of places that stand in order.
func encodePack(key []byte, places []place) []byte {
	width := 0
	for _, p := range places {
		width = max(width, len(p.value))
	}
	b := append(make([]byte, 0, packHead+len(places)*(width+placeID)+4), packVersion, byte(width))
	b = binary.BigEndian.AppendUint16(b, uint16(len(places)))
	for _, p := range places {
		at := len(b) + width
		b = append(b, p.value...)
		for len(b) < at {
			b = append(b, 0)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(p.id%(1<<indexGroupBits)))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b))
}

// pack is one that was read: n places, each with a value of width bytes.
type pack struct {
	places   []byte
	width, n int
}

func decodePack(key, b []byte) (pack, error) {
	if len(b) < packHead+4 || crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return pack{}, fmt.Errorf("%w: a part of the index does not hold together", ErrDamaged)
	}
	if b[0] != packVersion {
		return pack{}, fmt.Errorf("%w: a part of the index of version %d, this program knows %d", ErrNewer, b[0], packVersion)
	}
	p := pack{b[packHead : len(b)-4], int(b[1]), int(binary.BigEndian.Uint16(b[2:]))}
	if len(p.places) != p.n*(p.width+placeID) {
		return pack{}, fmt.Errorf("%w: a part of the index has another length than it says", ErrDamaged)
	}
	return p, nil
}

func (p pack) place(i int) (value []byte, n int) {
	at := p.places[i*(p.width+placeID):]
	return at[:p.width], int(binary.BigEndian.Uint16(at[p.width:]))
}

// between visits the places from one value to another.
func (p pack) between(lo, hi string, visit func(n int)) {
	first, last := p.padded(lo), p.padded(hi)
	if first == nil {
		return // longer than any value that is here: its length comes first
	}
	start := sort.Search(p.n, func(i int) bool {
		value, _ := p.place(i)
		return bytes.Compare(value, first) >= 0
	})
	for i := start; i < p.n; i++ {
		value, n := p.place(i)
		if last != nil && bytes.Compare(value, last) > 0 {
			return
		}
		visit(n)
	}
}

// padded is a value as it stands in this pack, nil when it is too long to.
func (p pack) padded(value string) []byte {
	if len(value) > p.width {
		return nil
	}
	return append([]byte(value), make([]byte, p.width-len(value))...)
}

// intake puts entries into the store, and their places into the index.
type intake struct {
	tx    *bolt.Tx
	there ID     // newer ones are not in the store yet
	run   uint64 // names the packs; no earlier run had it, or a later number
	packs map[packOf][]place
}

func newIntake(tx *bolt.Tx, there ID, run uint64) *intake {
	return &intake{tx: tx, there: there, run: run, packs: map[packOf][]place{}}
}

func (in *intake) entry(rec *record) error {
	entries := in.tx.Bucket(bucketEntries)
	entries.FillPercent = 0.9 // nearly always written at the end
	isNew := rec.ID > in.there
	values := laterValues(rec)
	if isNew || entries.Get(key(rec.ID)) == nil {
		values = indexValues(rec)
	}
	for _, v := range values {
		in.add(rec.ID, v)
	}
	if err := entries.Put(key(rec.ID), rec.value); err != nil {
		return err
	}
	if isNew && !unsettledNow(rec.Status) {
		return nil // it stands in no list
	}
	return list(in.tx, rec.ID, rec.Status)
}

func (in *intake) add(id ID, v indexValue) {
	at := packOf{indexGroup(id), v.kind}
	if in.packs[at] == nil {
		in.packs[at] = make([]place, 0, 64)
	}
	in.packs[at] = append(in.packs[at], place{v.value, id})
}

// finish writes the packs.
func (in *intake) finish() error {
	index := in.tx.Bucket(bucketIndex)
	order := slices.SortedFunc(maps.Keys(in.packs), func(a, b packOf) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.kind, b.kind))
	})
	for _, at := range order {
		places := in.packs[at]
		sortPlaces(places)
		for n := 0; len(places) > 0; n++ {
			key, here := at.key(in.run, n), partOf(places)
			if err := index.Put(key, encodePack(key, places[:here])); err != nil {
				return err
			}
			places = places[here:]
		}
	}
	return nil
}
