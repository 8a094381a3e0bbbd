package journal

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// tree is the store as readers see it: the same for the open store of a journal
// and for the bytes of a file that somebody else may be writing to. What it gives
// is valid only during the view that gave it, what it shows only during the visit.
type tree interface {
	get(bucket, key []byte) ([]byte, error)
	// ascend visits keys from one on in order; descend visits keys up to one, or all
	// for nil, in falling order.
	ascend(bucket, from []byte, visit func(k, v []byte) bool) error
	descend(bucket, from []byte, visit func(k, v []byte) bool) error
}

// reader is what Journal and Snapshot have in common.
type reader struct {
	path      string // of the store
	journalID []byte
	tail      *tail
	view      func(func(tree) error) error // one consistent look at the store, while the tail is held still
	// hold gives a look that may last, and what ends it: new files may take the place of
	// the store's meanwhile. nil where they cannot.
	hold func() (view func(func(tree) error) error, release func())
}

// String names the journal and shows nothing of it.
func (r reader) String() string { return "journal " + r.path }

// Format prints String under every verb: fmt would walk into the mapped file.
func (r reader) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, r.String()) }

// ID is the journal's identity: 32 hex digits that no other journal has.
func (r reader) ID() string { return hex.EncodeToString(r.journalID) }

// Entry returns one entry. Errors: ErrNoEntry, ErrDamaged, ErrNewer.
func (r reader) Entry(id ID) (Entry, error) {
	rec, err := r.record(id)
	if err != nil {
		return Entry{}, err
	}
	return r.entry(rec), nil
}

// entry is what is shown of a record.
func (r reader) entry(rec *record) Entry {
	e := rec.Entry
	e.Journal = r.ID()
	e.Steps = slices.Clone(e.Steps) // the caller's own, down to what hangs on them
	for i, s := range e.Steps {
		if s.Late != nil {
			late := *s.Late
			e.Steps[i].Late = &late
		}
	}
	return e
}

// record finds the newest durable form of an entry.
func (r reader) record(id ID) (rec *record, err error) {
	err = r.tail.read(func() error {
		if item := r.tail.items[id]; item != nil {
			rec = item.rec
			return nil
		}
		if r.tail.gone(id) {
			return fmt.Errorf("entry %d: %w", id, ErrNoEntry)
		}
		return r.view(func(t tree) (err error) {
			rec, err = load(t, id)
			return err
		})
	})
	return rec, err
}

func load(t tree, id ID) (*record, error) {
	value, err := t.get(bucketEntries, key(id))
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", id, err)
	}
	if value == nil {
		return nil, fmt.Errorf("entry %d: %w", id, ErrNoEntry)
	}
	return decode(id, value)
}

// Armed lists the entries that have no outcome yet, oldest first. Cost follows
// what is open, not history. Errors: ErrPartial beside the list.
func (r reader) Armed() ([]Entry, error) { return r.listed(bucketOpen, Begun) }

// Owed lists the entries whose reversal must reach the host, oldest first. Cost
// follows what is open, not history.
func (r reader) Owed() ([]Entry, error) { return r.listed(bucketOpen, Owed) }

// Parked lists the entries that the engine stopped trying, oldest first.
func (r reader) Parked() ([]Entry, error) { return r.listed(bucketParked, Parked) }

// indexed says which entries stand in which list.
var indexed = map[string][]Status{
	string(bucketOpen):   {Begun, Owed},
	string(bucketParked): {Parked},
}

// listed reads a list. An entry that cannot be read does not hide the others:
// they are returned beside an error that wraps ErrPartial.
func (r reader) listed(name []byte, status Status) ([]Entry, error) {
	records, bad, err := r.unsettled(name)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, rec := range records {
		if rec.Status == status {
			entries = append(entries, r.entry(rec))
		}
	}
	if bad != nil {
		return entries, fmt.Errorf("%w: %w", ErrPartial, bad)
	}
	return entries, nil
}

// unsettled gives the records of a list in order. The first error is of those
// that cannot be read, the second of the store.
func (r reader) unsettled(name []byte) (records []*record, bad, err error) {
	err = r.tail.read(func() error {
		for _, item := range r.tail.items {
			if slices.Contains(indexed[string(name)], item.rec.Status) {
				records = append(records, item.rec)
			}
		}
		return r.view(func(t tree) error {
			var stored []*record
			stored, bad = r.storedUnsettled(t, name)
			records = append(records, stored...)
			return nil
		})
	})
	slices.SortFunc(records, func(a, b *record) int { return cmp.Compare(a.ID, b.ID) })
	return records, bad, err
}

// storedUnsettled gives those of which the store has the newest form.
func (r reader) storedUnsettled(t tree, name []byte) (records []*record, bad error) {
	var ids []ID
	if err := t.ascend(name, nil, func(k, _ []byte) bool {
		ids = append(ids, entryID(k))
		return true
	}); err != nil {
		bad = fmt.Errorf("list %s: %w", name, err)
	}
	for _, id := range ids {
		if r.tail.items[id] != nil || r.tail.gone(id) {
			continue
		}
		rec, err := load(t, id)
		if err == nil && !slices.Contains(indexed[string(name)], rec.Status) {
			err = fmt.Errorf("list %s: %w: it lists entry %d, which is %s", name, ErrDamaged, rec.ID, rec.Status)
		}
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		records = append(records, rec)
	}
	return records, bad
}

// lane is the last trace number of a lane that is durable, 0 for none.
func (r reader) lane(l Lane) (last uint32, err error) {
	err = r.tail.read(func() error {
		if last = r.tail.lanes[l]; last != 0 {
			return nil
		}
		return r.view(func(t tree) error {
			value, err := t.get(bucketLanes, laneKey(l))
			if err == nil && value != nil {
				last, err = decodeSTAN(l, value)
			}
			return err
		})
	})
	return last, err
}

// newestID is the id of the newest entry that is there, 0 when there is none, and
// whether there are keys behind it that are no entry's.
func (r reader) newestID() (id ID, odd bool, err error) {
	err = r.tail.read(func() error {
		for at := range r.tail.items {
			id = max(id, at)
		}
		return r.view(func(t tree) error {
			return t.descend(bucketEntries, nil, func(k, _ []byte) bool {
				at := entryID(k)
				if at == 0 || at > idMax {
					odd = true
				} else if !r.tail.gone(at) {
					id = max(id, at)
					return false
				}
				return true
			})
		})
	})
	return id, odd, err
}

// entryID reads a key of the bucket of entries; 0 is no entry's.
func entryID(k []byte) ID {
	if len(k) != 8 {
		return 0
	}
	return ID(binary.BigEndian.Uint64(k))
}
