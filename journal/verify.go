package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Head names a journal's newest step. One that was written down elsewhere shows
// later whether the newest steps were cut off.
type Head struct {
	Journal string // its ID
	Seq     uint64 // of the step
	Link    string // of the chain there, 64 hex digits
}

// String is "journal:seq:link".
func (h Head) String() string { return h.Journal + ":" + strconv.FormatUint(h.Seq, 10) + ":" + h.Link }

// ParseHead inverts String.
func ParseHead(s string) (Head, error) {
	parts := strings.Split(s, ":")
	if len(parts) == 3 {
		seq, err := strconv.ParseUint(parts[1], 10, 64)
		h := Head{parts[0], seq, parts[2]}
		if err == nil && h.String() == s && isHex(h.Journal, 16) && isHex(h.Link, linkBytes) {
			return h, nil
		}
	}
	return Head{}, fmt.Errorf("%w: a head is JOURNAL:SEQUENCE:LINK, as it was exported", ErrInvalid)
}

func isHex(s string, bytes int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == bytes && hex.EncodeToString(b) == s
}

// Report is what Verify found.
type Report struct {
	Entries int
	Steps   uint64 // rows of the chain that were followed
	Anchor  uint64 // steps up to here were pruned
	Head    Head
	// Keyed says that every step was linked under a key that was at hand: nobody
	// without it can have changed anything. Else OpenSince is the first step that
	// whoever has no key could have made, or whose key is not at hand.
	Keyed     bool
	OpenSince uint64
	// HeadPruned: the exported head is of a step that was pruned since, and could not be
	// compared.
	HeadPruned bool
	// Bad is what does not fit, the first first; at most badMax of it.
	Bad []error
}

const badMax = 20

// Err is nil when everything fits, else wraps ErrDamaged.
func (r *Report) Err() error {
	if len(r.Bad) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDamaged, errors.Join(r.Bad...))
}

func (r *Report) bad(format string, args ...any) {
	if len(r.Bad) < badMax {
		r.Bad = append(r.Bad, fmt.Errorf(format, args...))
	}
}

// Verify follows the chain of steps through the journal and holds every entry
// against it. head is one that was exported before, nil for none: steps that it
// knows and the journal does not have were cut off. What does not fit is in the
// report; an error means that the check itself could not be done.
func (j *Journal) Verify(ctx context.Context, head *Head) (*Report, error) {
	return j.verify(ctx, j.keys, head)
}

// Verify is Journal.Verify. keys may be nil: damage is found all the same, and a
// forger is not.
func (s *Snapshot) Verify(ctx context.Context, keys KeySource, head *Head) (*Report, error) {
	return s.verify(ctx, keys, head)
}

// Head is the newest durable step, for export.
func (r reader) Head() (h Head, err error) {
	err = r.tail.read(func() error {
		h = Head{r.ID(), r.tail.newest(), hex.EncodeToString(r.tail.link[:])}
		return nil
	})
	return h, err
}

func (r reader) verify(ctx context.Context, keys KeySource, head *Head) (*Report, error) {
	v := &verifier{ctx: ctx, keys: keys, report: &Report{Keyed: true}, newest: map[uint32]*[1 << indexGroupBits]uint64{}, head: head}
	tl := r.tail.cloned() // steps go on meanwhile
	if tl.closed {
		return nil, ErrClosed
	}
	view, release := r.view, func() {}
	if r.hold != nil {
		if err := r.tail.read(func() error { view, release = r.hold(); return nil }); err != nil {
			return nil, err
		}
	}
	defer release()
	err := view(func(t tree) error {
		_, st, err := identify(t)
		if err != nil {
			return err
		}
		if st.Applied > tl.from { // a checkpoint came in between
			if st.Applied > tl.newest() {
				tl.link = link(st.Chain)
			}
			tl.trim(st.Applied)
		}
		if err := v.rows(t, st, tl); err != nil {
			return err
		}
		v.headFits(r, tl)
		return v.entries(t, tl)
	})
	v.report.Head.Journal = r.ID()
	if errors.Is(err, ErrDamaged) {
		v.report.bad("%w", err)
		err = nil
	}
	return v.report, err
}

// verifier is one pass over a journal.
type verifier struct {
	ctx    context.Context
	keys   KeySource
	report *Report
	head   *Head
	newest map[uint32]*[1 << indexGroupBits]uint64 // index of each entry's newest row, by groups of ids
	gone   spans                                   // pruned
	kept   map[ID]digest                           // entries that outlived their rows, as they were then
	index  groupIndex

	at      uint64 // the row that was followed last
	link    link
	linker  linker
	blind   bool // the key of the links is not at hand
	lost    bool // the link is not known: a key was not at hand
	keyID   string
	applied uint64
	stored  link // at applied, as the state has it

	anchor   link // where the chain begins
	anchored bool // a step of the chain says so
}

// open notes that from a step on a forger could have been at work.
func (v *verifier) open(index uint64) {
	if v.report.Keyed {
		v.report.Keyed, v.report.OpenSince = false, index
	}
}

func (v *verifier) key(id string) (err error) {
	v.keyID = id
	v.linker, err = linkerOf(v.keys, id)
	v.blind = errors.Is(err, ErrKey)
	if v.blind {
		return nil
	}
	return err
}

// rows follows the chain from the anchor through the store and the tail.
func (v *verifier) rows(t tree, st storeState, tl *tail) error {
	v.at, v.link, v.applied, v.stored = st.Anchor, link(st.AnchorLink), st.Applied, link(st.Chain)
	v.report.Anchor, v.anchor = st.Anchor, v.link
	if err := v.key(st.AnchorKey); err != nil {
		return err
	}
	v.lost = v.blind
	changes := map[uint64]string{}
	if err := v.notes(t, st, changes); err != nil {
		return err
	}
	if st.Anchor != 0 && !v.anchored { // no step says so: it was quarantined, or somebody took steps away
		v.open(st.Anchor)
	}
	var bad error
	if err := t.ascend(bucketChain, nil, func(k, value []byte) bool {
		r, ok := decodeRow(value)
		if !ok || len(k) != 8 {
			bad = fmt.Errorf("%w: a row of the chain cannot be read", ErrDamaged)
			return false
		}
		key, rekeyed := changes[binary.BigEndian.Uint64(k)]
		if bad = v.row(binary.BigEndian.Uint64(k), r, key, rekeyed); bad == nil && v.lost {
			bad = v.findAgain(t, k)
		}
		return bad == nil
	}); err != nil {
		return err
	}
	if bad != nil {
		return bad
	}
	if v.at != v.applied || (!v.lost && v.link != v.stored) {
		v.report.bad("the store says that it has the steps up to %d, and its chain does not end there", v.applied)
	}
	v.link, v.lost = v.stored, v.blind
	for _, f := range tl.notes {
		var c rekey
		if f.kind == frameKey && unmarshalFrame(f, &c) == nil {
			changes[f.index] = c.Key
		}
	}
	for i, r := range tl.rows {
		key, rekeyed := changes[tl.from+uint64(i)+1]
		if err := v.row(tl.from+uint64(i)+1, r, key, rekeyed); err != nil {
			return err
		}
	}
	for _, l := range tl.pruned {
		v.gone = append(v.gone, l.gone...)
	}
	v.gone = v.gone.merged()
	return nil
}

// row takes one row on. It stops at the first that is missing; one that does not
// fit is named, and the chain is followed on from the rows that do.
func (v *verifier) row(index uint64, r row, key string, rekeyed bool) error {
	if index%4096 == 0 && v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	if index != v.at+1 {
		return fmt.Errorf("%w: step %d is missing", ErrDamaged, v.at+1)
	}
	next := v.linker.next(v.link, index, r)
	switch {
	case v.blind || v.lost:
		v.open(index)
		v.lost = true
	case [8]byte(next[:8]) != r.tag && r.kind == frameKey: // linked under none: the key was lost before
		v.open(index)
		next = linker{}.next(v.link, index, r)
		if [8]byte(next[:8]) != r.tag {
			v.report.bad("step %d does not continue the chain", index)
		}
	case [8]byte(next[:8]) != r.tag:
		v.report.bad("step %d (entry %d) does not continue the chain", index, r.entry)
	case v.keyID == "":
		v.open(index)
	}
	v.link, v.at = next, index
	v.report.Steps++
	if r.entry != 0 {
		group := v.newest[indexGroup(r.entry)]
		if group == nil {
			group = new([1 << indexGroupBits]uint64)
			v.newest[indexGroup(r.entry)] = group
		}
		group[r.entry%(1<<indexGroupBits)] = index
	}
	if v.head != nil && v.head.Seq == index && !v.lost && v.head.Link != hex.EncodeToString(next[:]) {
		v.report.bad("step %d is not the one that was exported", index)
	}
	if rekeyed {
		return v.key(key)
	}
	return nil
}

// findAgain takes up the chain where its link was written down, after steps under a
// key that is not at hand.
func (v *verifier) findAgain(t tree, at []byte) error {
	value, err := t.get(bucketMarks, at)
	if err != nil {
		return err
	}
	if m, ok := decodeMark(at, value); ok {
		v.link = m.link
		err = v.key(m.key)
		v.lost = v.blind
	}
	return err
}

// headFits holds what is there against a head that was exported.
func (v *verifier) headFits(r reader, tl *tail) {
	v.report.Head = Head{r.ID(), v.at, hex.EncodeToString(tl.link[:])}
	switch {
	case v.head == nil:
	case v.head.Journal != r.ID():
		v.report.bad("this is journal %s, the exported head is of %s", r.ID(), v.head.Journal)
	case v.head.Seq < v.report.Anchor:
		v.report.HeadPruned = true
	case v.head.Seq == v.report.Anchor && v.head.Seq != 0 && v.head.Link != hex.EncodeToString(v.anchor[:]):
		v.report.bad("step %d is not the one that was exported", v.head.Seq)
	case v.head.Seq > v.at:
		v.report.bad("steps %d to %d are missing: they were there when the head was exported", v.at+1, v.head.Seq)
	}
	if !v.lost && v.link != tl.link {
		v.report.bad("the newest step, %d, does not continue the chain", v.at)
	}
}

// entry holds an entry against its newest row, or against what was kept of it. It
// gives what can be read of one that fits.
func (v *verifier) entry(t tree, tl *tail, id ID, value []byte) (*record, error) {
	v.report.Entries++
	var at uint64
	if group := v.newest[indexGroup(id)]; group != nil {
		at, group[id%(1<<indexGroupBits)] = group[id%(1<<indexGroupBits)], 0
	}
	want, known := v.kept[id]
	delete(v.kept, id)
	switch {
	case v.gone.has(id):
		v.report.bad("entry %d was pruned, and is there", id)
		return nil, nil
	case at == 0 && !known:
		v.report.bad("entry %d is there, and no step made it", id)
		return nil, nil
	case at == 0:
		at = v.report.Anchor // that step or one before it
	case at > v.applied:
		want = tl.rows[at-tl.from-1].digest
	default:
		b, err := t.get(bucketChain, indexOf(at))
		if err != nil {
			return nil, err
		}
		r, _ := decodeRow(b)
		want = r.digest
	}
	if want != digestOf(value) {
		v.report.bad("entry %d is not as step %d left it", id, at)
		return nil, nil
	}
	rec, err := decode(id, value)
	if err != nil {
		v.report.bad("%w", err)
	}
	return rec, nil
}

// entries holds every entry against the chain and the index, and finds those that
// are missing.
func (v *verifier) entries(t tree, tl *tail) error {
	var bad error
	err := t.ascend(bucketEntries, nil, func(k, value []byte) bool {
		id := entryID(k)
		if item := tl.items[id]; item != nil || tl.gone(id) {
			return v.ctx.Err() == nil
		}
		rec, err := v.entry(t, tl, id, value)
		if bad = err; rec != nil {
			bad = v.indexed(t, rec)
		}
		return bad == nil && v.ctx.Err() == nil
	})
	if err := errors.Join(err, bad, v.ctx.Err()); err != nil {
		return err
	}
	for id, item := range tl.items {
		if _, err := v.entry(t, tl, id, item.rec.value); err != nil {
			return err
		}
	}
	for _, group := range slices.Sorted(maps.Keys(v.newest)) {
		for n, at := range v.newest[group] {
			if id := groupStart(group) + ID(n); at != 0 && !v.gone.has(id) {
				v.report.bad("entry %d is missing; step %d was its newest", id, at)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.kept)) {
		if !v.gone.has(id) {
			v.report.bad("entry %d is missing; it was kept when the steps up to %d were pruned", id, v.report.Anchor)
		}
	}
	return nil
}

// notes reads what the store keeps of the frames that belong to no entry: changes
// of the chain's key, which entries were pruned, and which outlived their rows.
func (v *verifier) notes(t tree, st storeState, keys map[uint64]string) (err error) {
	var bad error
	err = t.ascend(bucketNotes, nil, func(k, value []byte) bool {
		if len(k) != 8 || len(value) < 1 {
			bad = fmt.Errorf("%w: a note of the chain cannot be read", ErrDamaged)
			return false
		}
		index := binary.BigEndian.Uint64(k)
		var r row
		b, err := t.get(bucketChain, k)
		if err == nil {
			r, _ = decodeRow(b)
		}
		if err != nil || r.digest != digestOf(value) {
			bad = errors.Join(err, fmt.Errorf("%w: step %d is not as it was taken", ErrDamaged, index))
			return false
		}
		switch r.kind {
		case frameKey:
			var c rekey
			bad = json.Unmarshal(value, &c)
			keys[index] = c.Key
		case framePrune:
			var p pruned
			bad = json.Unmarshal(value, &p)
			v.gone = append(v.gone, p.Gone...)
			if p.Anchor != 0 && p.Anchor == st.Anchor {
				v.kept = p.digests()
				v.anchored = bytes.Equal(p.Link, st.AnchorLink) && p.Key == st.AnchorKey
			}
		}
		return bad == nil
	})
	return errors.Join(err, bad)
}
