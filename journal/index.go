package journal

import (
	"encoding/binary"
	"time"
)

// The index finds entries by what people ask for. Its keys begin with a group of
// entry ids, so that what is written together stands together: an index over the
// whole history would be written to at a random place for every sale.
const indexGroupBits = 12 // entries of a group: 4096

// The first byte after the group.
const (
	indexTime   = 't'
	indexSTAN   = 's'
	indexRRN    = 'r'
	indexCard   = 'c'
	indexAmount = 'a'
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
func indexGroup(id ID) uint32    { return uint32(id >> indexGroupBits) }
func groupStart(group uint32) ID { return ID(group) << indexGroupBits }
func indexPrefix(group uint32) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 0, 32), group)
}

// indexValues are all that an entry is found under.
func indexValues(r *record) []indexValue {
	list := []indexValue{
		{indexTime, timeValue(r.BegunAt)}, {indexSTAN, stanValue(r.STAN)}, {indexAmount, amountValue(r.Amount.Minor)},
	}
	if r.RRN != "" {
		list = append(list, indexValue{indexRRN, rrnValue(r.RRN)})
	}
	if r.Card != "" {
		list = append(list, indexValue{indexCard, r.Card})
	}
	return list
}

// indexKey is where the store keeps that an entry is found under a value.
func indexKey(id ID, v indexValue) []byte {
	b := append(indexPrefix(indexGroup(id)), v.kind)
	b = append(b, v.value...)
	return binary.BigEndian.AppendUint64(b, uint64(id))
}
