package journal

import (
	"bytes"
	"encoding/binary"
)

// groupIndex is what the index has of one group, by the entries' numbers in it.
type groupIndex struct {
	read    bool
	group   uint32
	of      [1 << indexGroupBits][]foundUnder
	damaged bool
}

// foundUnder is a value in the index, filled up with zeros.
type foundUnder struct {
	kind  byte
	value []byte
}

func (u foundUnder) is(v indexValue) bool {
	return u.kind == v.kind && len(u.value) >= len(v.value) && string(u.value[:len(v.value)]) == v.value &&
		len(bytes.TrimLeft(u.value[len(v.value):], "\x00")) == 0
}

// load reads a group.
func (g *groupIndex) load(t tree, group uint32) (wrong, err error) {
	for n := range g.of {
		g.of[n] = g.of[n][:0]
	}
	g.read, g.group, g.damaged = true, group, false
	prefix := binary.BigEndian.AppendUint32(nil, group)
	err = t.ascend(bucketIndex, prefix, func(k, value []byte) bool {
		if !bytes.HasPrefix(k, prefix) {
			return false
		}
		p, err := decodePack(k, bytes.Clone(value)) // a walker of pages uses its memory again
		if err != nil {
			wrong, g.damaged = err, true
			return true
		}
		for i := range p.n {
			value, n := p.place(i)
			g.of[n%len(g.of)] = append(g.of[n%len(g.of)], foundUnder{k[len(prefix)], value})
		}
		return true
	})
	return wrong, err
}

// indexNames are the kinds of values as people call them.
var indexNames = map[byte]string{
	indexTime: "time", indexSTAN: "trace number", indexRRN: "retrieval reference number", indexCard: "card", indexAmount: "amount",
}

// indexed reports where a query would not find an entry that the store has. Entries
// come in order.
func (v *verifier) indexed(t tree, rec *record) error {
	g := &v.index
	if group := indexGroup(rec.ID); !g.read || g.group != group {
		wrong, err := g.load(t, group)
		if err != nil {
			return err
		}
		if wrong != nil {
			v.report.bad("entries %d to %d: %w", groupStart(group), groupStart(group+1)-1, wrong)
		}
	}
	if g.damaged {
		return nil // it was told, and a query looks at the entries themselves
	}
	here := g.of[rec.ID%(1<<indexGroupBits)]
values:
	for _, want := range indexValues(rec) {
		for _, u := range here {
			if u.is(want) {
				continue values
			}
		}
		v.report.bad("entry %d is not found by its %s", rec.ID, indexNames[want.kind])
	}
	return nil
}
