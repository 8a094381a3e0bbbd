package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// boot is the payload of a frame of kind frameBoot.
type boot struct {
	Count uint32 `json:"boot"`
	ID    string `json:"boot_id"`
}

// rekey is the payload of a frame of kind frameKey: the frames behind it are
// linked under this key, "" for none.
type rekey struct {
	Key string `json:"chain_key"`
}

// inMemory is what the checkpoint has of the frames in memory, so that it need not
// decode them again.
type inMemory struct {
	items map[ID]*tailItem
	lanes map[Lane]uint32
}

// apply takes frames over into the store: of each entry the newest form, of each
// frame its row. The frames follow what the store has.
func apply(tx *bolt.Tx, st *storeState, frames []*frame, known inMemory) error {
	newest := map[ID]*frame{}
	rows := tx.Bucket(bucketChain)
	rows.FillPercent = 0.9 // always written at the end
	in := intake{tx: tx, there: st.LastID}
	for _, f := range frames {
		if f.index != st.Applied+1 {
			return fmt.Errorf("%w: step %d does not follow step %d", ErrDamaged, f.index, st.Applied)
		}
		if err := rows.Put(indexOf(f.index), rowOf(f).encode()); err != nil {
			return err
		}
		if f.kind == frameEntry {
			newest[f.entry], st.LastID = f, max(st.LastID, f.entry)
		} else if err := applyNote(tx, st, f, newest); err != nil {
			return err
		}
		st.Applied, st.Chain = f.index, f.chain[:]
	}
	for _, id := range slices.Sorted(maps.Keys(newest)) {
		rec, err := known.record(newest[id])
		if err == nil {
			err = in.entry(rec)
		}
		if err != nil {
			return err
		}
	}
	for lane, last := range known.lanes { // they may be ahead of the frames: what says so is durable too
		if err := tx.Bucket(bucketLanes).Put(laneKey(lane), encodeSTAN(lane, last)); err != nil {
			return err
		}
	}
	return errors.Join(in.finish(), st.save(tx))
}

// record is what a frame says of its entry.
func (k inMemory) record(f *frame) (*record, error) {
	if item := k.items[f.entry]; item != nil && item.index == f.index {
		return item.rec, nil
	}
	rec, err := decode(f.entry, f.payload)
	if err == nil {
		rec.value = f.payload
	}
	return rec, err
}

// applyNote takes over a frame that belongs to no entry.
func applyNote(tx *bolt.Tx, st *storeState, f *frame, newest map[ID]*frame) error {
	if err := tx.Bucket(bucketNotes).Put(indexOf(f.index), f.payload); err != nil {
		return err
	}
	switch f.kind {
	case frameBoot:
		var b boot
		err := unmarshalFrame(f, &b)
		st.Boot, st.BootID = b.Count, b.ID
		return err
	case frameKey:
		var k rekey
		err := unmarshalFrame(f, &k)
		st.ChainKey = k.Key
		return err
	case framePrune:
		var p pruned
		if err := unmarshalFrame(f, &p); err != nil {
			return err
		}
		for _, id := range p.IDs {
			delete(newest, id)
		}
		return p.apply(tx, st)
	}
	return fmt.Errorf("%w: step %d is of kind %d", ErrNewer, f.index, f.kind)
}

func unmarshalFrame(f *frame, into any) error {
	if err := json.Unmarshal(f.payload, into); err != nil {
		return fmt.Errorf("%w: step %d cannot be read", ErrDamaged, f.index)
	}
	return nil
}

// indexOf is a frame's index as the store sorts it.
func indexOf(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// intake puts entries into the store, and their places in the index.
type intake struct {
	tx     *bolt.Tx
	there  ID // newer ones are not in the store yet
	places [][]byte
}

func (in *intake) entry(rec *record) error {
	entries := in.tx.Bucket(bucketEntries)
	entries.FillPercent = 0.9 // nearly always written at the end
	values := indexValues(rec)
	isNew := rec.ID > in.there
	if !isNew {
		var err error
		if values, err = in.moved(rec, entries.Get(key(rec.ID)), values); err != nil {
			return err
		}
	}
	for _, v := range values {
		in.places = append(in.places, indexKey(rec.ID, v))
	}
	if err := entries.Put(key(rec.ID), rec.value); err != nil {
		return err
	}
	if isNew && !unsettledNow(rec.Status) {
		return nil // it stands in no list
	}
	return list(in.tx, rec.ID, rec.Status)
}

// moved takes an entry out of the places that it has no more, and gives those where
// it is not yet.
func (in *intake) moved(rec *record, stored []byte, values []indexValue) (missing []indexValue, err error) {
	if stored == nil {
		return values, nil
	}
	before, err := decode(rec.ID, stored)
	if err != nil {
		// What cannot be read any more leaves its old values in the index: they lead to
		// an entry that does not have them, which a query sees.
		return values, nil
	}
	old := indexValues(before)
	for _, v := range old {
		if !slices.Contains(values, v) {
			if err := in.tx.Bucket(bucketIndex).Delete(indexKey(rec.ID, v)); err != nil {
				return nil, err
			}
		}
	}
	return slices.DeleteFunc(values, func(v indexValue) bool { return slices.Contains(old, v) }), nil
}

// finish writes the places, in order: bbolt shifts what stands behind each in its
// page.
func (in *intake) finish() error {
	index := in.tx.Bucket(bucketIndex)
	slices.SortFunc(in.places, bytes.Compare)
	for _, place := range in.places {
		if err := index.Put(place, []byte{}); err != nil {
			return err
		}
	}
	in.places = nil
	return nil
}

// one puts an entry into a store that does not have it.
func one(tx *bolt.Tx, rec *record) error {
	in := intake{tx: tx}
	return errors.Join(in.entry(rec), in.finish())
}

// list puts an entry into the lists of what is open and what is parked, or takes
// it out. A status of 0 takes it out of both.
func list(tx *bolt.Tx, id ID, status Status) (err error) {
	for name, statuses := range indexed {
		b := tx.Bucket([]byte(name))
		if !slices.Contains(statuses, status) {
			err = b.Delete(key(id))
		} else if b.Get(key(id)) == nil {
			err = b.Put(key(id), []byte{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
