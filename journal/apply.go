package journal

import (
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
	in := newIntake(tx, st.LastID, st.Applied+1)
	for _, f := range frames {
		if f.index != st.Applied+1 {
			return fmt.Errorf("%w: step %d does not follow step %d", ErrDamaged, f.index, st.Applied)
		}
		if err := rows.Put(indexOf(f.index), rowOf(f).encode()); err != nil {
			return err
		}
		if f.kind == frameEntry {
			newest[f.entry], st.LastID = f, max(st.LastID, f.entry)
		} else if err := applyNote(in, st, f, newest); err != nil {
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
		st.ranTo(rec)
	}
	for lane, last := range known.lanes { // they may be ahead of the frames: what says so is durable too
		if err := tx.Bucket(bucketLanes).Put(laneKey(lane), encodeSTAN(lane, last)); err != nil {
			return err
		}
	}
	return errors.Join(in.finish(), st.mark(tx), st.save(tx))
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
func applyNote(in *intake, st *storeState, f *frame, newest map[ID]*frame) error {
	if err := in.tx.Bucket(bucketNotes).Put(indexOf(f.index), f.payload); err != nil {
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
		maps.DeleteFunc(newest, func(id ID, _ *frame) bool { return p.Gone.has(id) })
		return p.apply(in, st)
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
