package journal

import (
	"encoding/binary"
	"encoding/json"
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

// apply takes frames over into the store: of each entry the newest form, of each
// frame its row. The frames follow what the store has.
func apply(tx *bolt.Tx, st *storeState, frames []*frame) error {
	newest := map[ID]*record{}
	for _, f := range frames {
		if f.index != st.Applied+1 {
			return fmt.Errorf("%w: step %d does not follow step %d", ErrDamaged, f.index, st.Applied)
		}
		if err := applyOne(tx, st, f, newest); err != nil {
			return err
		}
		rows := tx.Bucket(bucketChain)
		rows.FillPercent = 0.9 // always written at the end
		if err := rows.Put(indexOf(f.index), rowOf(f).encode()); err != nil {
			return err
		}
		if f.entry == 0 {
			if err := tx.Bucket(bucketNotes).Put(indexOf(f.index), f.payload); err != nil {
				return err
			}
		}
		st.Applied, st.Chain = f.index, f.chain[:]
	}
	for _, id := range slices.Sorted(maps.Keys(newest)) {
		if err := save(tx, newest[id]); err != nil {
			return err
		}
	}
	return st.save(tx)
}

func applyOne(tx *bolt.Tx, st *storeState, f *frame, newest map[ID]*record) error {
	switch f.kind {
	case frameEntry:
		rec, err := decode(f.entry, f.payload)
		if err != nil {
			return err
		}
		rec.value = f.payload
		st.LastID = max(st.LastID, f.entry)
		if newest != nil {
			newest[f.entry] = rec
		}
		if rec.LaneLast == 0 {
			return nil
		}
		return tx.Bucket(bucketLanes).Put(laneKey(rec.Lane), encodeSTAN(rec.Lane, rec.LaneLast))
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

// save writes an entry and its place in the indexes.
func save(tx *bolt.Tx, rec *record) error {
	entries, index := tx.Bucket(bucketEntries), tx.Bucket(bucketIndex)
	entries.FillPercent = 0.9 // nearly always written at the end
	old := map[indexValue]bool{}
	if value := entries.Get(key(rec.ID)); value != nil {
		// What cannot be read any more leaves its old values in the index: they lead to
		// an entry that does not have them, which a query sees.
		if before, err := decode(rec.ID, value); err == nil {
			for _, v := range indexValues(before) {
				old[v] = true
			}
		}
	}
	for _, v := range indexValues(rec) {
		if old[v] {
			delete(old, v)
		} else if err := index.Put(indexKey(rec.ID, v), []byte{}); err != nil {
			return err
		}
	}
	for v := range old {
		if err := index.Delete(indexKey(rec.ID, v)); err != nil {
			return err
		}
	}
	if err := entries.Put(key(rec.ID), rec.value); err != nil {
		return err
	}
	return list(tx, rec.ID, rec.Status)
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
