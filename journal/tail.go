package journal

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// tail is what is durable and not yet in the store: the newest steps, at most two
// regions of them. What it says of an entry goes before what the store says.
type tail struct {
	mu     sync.RWMutex
	closed bool
	items  map[ID]*tailItem
	pruned []leave // entries that leave the store with frames it has not got
	lanes  map[Lane]uint32
	rows   []row    // of the frames after applied, in order
	notes  []*frame // those among them that belong to no entry
	from   uint64
	link   link // at the newest frame
	lastID ID
}

// tailItem is the newest durable form of an entry. A record in it is never
// changed: a step makes another.
type tailItem struct {
	rec   *record
	index uint64
}

// leave is what one frame of pruning takes away.
type leave struct {
	gone  spans
	index uint64
}

// gone reports whether an entry that the store has was pruned since. The caller holds mu.
func (t *tail) gone(id ID) bool {
	for _, l := range t.pruned {
		if l.gone.has(id) {
			return true
		}
	}
	return false
}

func newTail(st storeState) *tail {
	t := &tail{}
	t.reset(st)
	return t
}

// tailWith is the tail of frames that follow the store.
func tailWith(st storeState, frames []*frame) (*tail, error) {
	t := newTail(st)
	for _, f := range frames {
		if err := t.add(f); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// reset empties it: the store has everything. The caller holds mu, or nobody else
// has the tail yet.
func (t *tail) reset(st storeState) {
	t.items, t.lanes = map[ID]*tailItem{}, map[Lane]uint32{}
	t.pruned, t.rows, t.notes = nil, nil, nil
	t.from, t.link, t.lastID = st.Applied, link(st.Chain), st.LastID
}

// cloned is a copy that goes on by itself. Records are shared: they never change.
func (t *tail) cloned() *tail {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return &tail{
		items: maps.Clone(t.items), pruned: slices.Clone(t.pruned), lanes: maps.Clone(t.lanes), rows: slices.Clone(t.rows),
		notes: slices.Clone(t.notes), from: t.from, link: t.link, lastID: t.lastID, closed: t.closed,
	}
}

// inMemory is what a checkpoint need not decode again.
func (t *tail) inMemory() inMemory {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return inMemory{maps.Clone(t.items), maps.Clone(t.lanes)}
}

// add takes a durable frame in. The caller holds mu.
func (t *tail) add(f *frame) error {
	t.rows = append(t.rows, rowOf(f))
	t.link = f.chain
	if f.entry == 0 {
		t.notes = append(t.notes, f)
	}
	switch f.kind {
	case frameEntry:
		rec, err := decode(f.entry, f.payload)
		if err != nil {
			return err
		}
		rec.value = f.payload
		t.addEntry(rec, f.index)
	case framePrune:
		var p pruned
		if err := unmarshalFrame(f, &p); err != nil {
			return err
		}
		maps.DeleteFunc(t.items, func(id ID, _ *tailItem) bool { return p.Gone.has(id) })
		t.pruned = append(t.pruned, leave{p.Gone, f.index})
	}
	return nil
}

func (t *tail) addEntry(rec *record, index uint64) {
	t.items[rec.ID] = &tailItem{rec, index}
	t.lastID = max(t.lastID, rec.ID)
	if rec.LaneLast != 0 {
		t.lanes[rec.Lane] = rec.LaneLast
	}
}

// inOrder gives the entries by their newest steps. The caller holds mu, or nobody else
// has the tail.
func (t *tail) inOrder() []*tailItem {
	return slices.SortedFunc(maps.Values(t.items), func(a, b *tailItem) int { return cmp.Compare(a.index, b.index) })
}

// trim forgets what the store has got.
func (t *tail) trim(applied uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.items, func(_ ID, i *tailItem) bool { return i.index <= applied })
	t.pruned = slices.DeleteFunc(slices.Clone(t.pruned), func(l leave) bool { return l.index <= applied })
	t.notes = slices.DeleteFunc(t.notes, func(f *frame) bool { return f.index <= applied })
	t.rows = slices.Clone(t.rows[min(applied-t.from, uint64(len(t.rows))):])
	if len(t.rows) == 0 {
		clear(t.lanes) // the store has them; a row that is left may be of a step that has one
	}
	t.from = applied
}

// newest is the index of the newest durable frame. The caller holds mu.
func (t *tail) newest() uint64 { return t.from + uint64(len(t.rows)) }

// read holds the tail still while do looks at it and at the store. What leaves the
// tail is in the store by then, so the tail is asked first.
func (t *tail) read(do func() error) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return ErrClosed
	}
	return do()
}

func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}
