package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What leaves the journal, and when. At the end of a checkpoint, beside the sales, a
// bounded number of the oldest entries is looked at. What may go is named in one frame,
// which costs no write and no sync of its own: it goes in front of the next step. The
// next checkpoint takes it out of the store.
//
// Only settled entries go (L8). How old one is is told by its place among the steps, not
// by the wall clock, which lies (L12): time is how long the device was on.

// MaxBytesDefault is what entries, index and chain may take in the store.
const MaxBytesDefault = 32 << 20

const (
	maxBytesMin = 1 << 20
	// keepFactor is how many times as long, or as far back, as others those entries are
	// kept of which a reversal was owed: somebody may ask for the money weeks later.
	keepFactor = 4
	keepSteps  = 1000 // the newest steps: their entries stay whatever the size
	keepForMin = time.Hour
	anchorMin  = 64 // rows that are worth a frame of their own
)

// plan is a step of pruning that waits for another step to go along with.
type plan struct {
	payload []byte
	gone    spans
	entries int
	taken   bool // it is on its way to the disk
}

// evidence reports whether an entry shows what became of money in doubt.
func evidence(rec *record) bool { return rec.Status == Reversed || rec.Status == Cleared }

// firstSeq is the step that began an entry, 0 where it came from format 1.
func firstSeq(rec *record) uint64 {
	if len(rec.Steps) == 0 {
		return 0
	}
	return rec.Steps[0].Seq
}

// pruner looks for what may go.
type pruner struct {
	st      storeState
	tree    tree
	steps   int    // entries to look at
	room    int    // bytes of the frame
	newest  uint64 // entries from this step on stay whatever the size
	pressed bool   // the store is too large
	old     uint64 // entries before this step are too old by age, 0 for none
	oldest  uint64 // and evidence before this one

	from ID // the first one not looked at yet
	gone []ID
}

// planPrune says what may go now, nil for nothing. The caller has the store to
// itself, as a checkpoint has.
func (j *Journal) planPrune() (*plan, error) {
	space, err := j.store.space()
	if err != nil {
		return nil, err
	}
	p := pruner{
		st: j.state, steps: int(max(256, j.wal.region/256)), room: int(min(16<<10, j.wal.region/16)),
		pressed: space.used() > j.maxBytes, from: j.state.PrunedTo,
	}
	if p.st.Applied > j.keepSteps {
		p.newest = p.st.Applied - j.keepSteps
	}
	var out pruned
	err = j.view(func(t tree) error {
		p.tree = t
		if err := p.age(j.keepFor); err != nil {
			return err
		}
		out, err = p.plan()
		return err
	})
	if err != nil || len(out.Gone) == 0 && out.Anchor == 0 {
		return nil, err
	}
	return &plan{payload: marshalNote(out), gone: out.Gone, entries: len(p.gone)}, nil
}

// age finds the newest steps that are too old.
func (p *pruner) age(keepFor time.Duration) error {
	if keepFor == 0 || p.st.Ran <= keepFor {
		return nil
	}
	return p.tree.ascend(bucketMarks, nil, func(k, v []byte) bool {
		m, ok := decodeMark(k, v)
		if !ok {
			return true
		}
		age := p.st.Ran - m.ran
		if age < keepFor {
			return false
		}
		if p.old = binary.BigEndian.Uint64(k) + 1; age/keepFactor >= keepFor {
			p.oldest = p.old
		}
		return true
	})
}

func (p *pruner) plan() (out pruned, err error) {
	at, err := p.plain()
	if err != nil {
		return out, err
	}
	far := p.oldest // entries before this step go, evidence or not
	if back := keepFactor * (p.st.Applied - at); p.pressed && back < p.st.Applied {
		far = max(far, min(p.st.Applied-back, p.newest))
	}
	whole, err := p.all(far)
	if err != nil {
		return out, err
	}
	slices.Sort(p.gone)
	p.gone = slices.Compact(p.gone)
	for n, id := range p.gone {
		if last := len(out.Gone) - 1; last >= 0 && out.Gone[last][1]+1 == id {
			out.Gone[last][1] = id
			continue
		}
		if len(out.Gone) == p.room/64 {
			p.gone, p.from, whole = p.gone[:n], min(p.from, id), false
			break
		}
		out.Gone = append(out.Gone, span{id, id})
	}
	if out.From = p.from; whole && far > 0 {
		err = p.anchor(&out, far-1)
	}
	return out, err
}

// plain looks at entries behind those that were looked at before, and takes those that
// are no evidence. It gives the step where it stopped.
func (p *pruner) plain() (at uint64, err error) {
	seen := 0
	at = p.st.Applied
	err = p.tree.ascend(bucketEntries, key(p.from), func(k, v []byte) bool {
		rec, err := decode(entryID(k), v)
		if err != nil {
			return true // Verify tells; it stays
		}
		stays := unsettledNow(rec.Status) || evidence(rec)
		age := lastSeq(rec)
		if stays {
			age = firstSeq(rec) // passed by, once others of its time go
		}
		if seen++; seen > p.steps || age >= p.old && (!p.pressed || age >= p.newest) {
			at = firstSeq(rec)
			return false
		}
		if p.from = rec.ID + 1; !stays {
			p.gone = append(p.gone, rec.ID)
		}
		return true
	})
	return at, err
}

// all takes every settled entry whose last step was before a step. It reports whether
// it came to the end of them.
func (p *pruner) all(before uint64) (whole bool, err error) {
	seen := 0
	whole = true
	err = p.tree.ascend(bucketEntries, nil, func(k, v []byte) bool {
		rec, err := decode(entryID(k), v)
		if err != nil {
			return true
		}
		if firstSeq(rec) >= before {
			return false
		}
		if seen++; seen > 2*p.steps {
			whole = false
			return false
		}
		if !unsettledNow(rec.Status) && lastSeq(rec) < before {
			p.gone = append(p.gone, rec.ID)
		}
		return true
	})
	return whole, err
}

// anchor moves the chain's beginning up to a step at most. What is open and older
// stays, and so its digest must.
func (p *pruner) anchor(out *pruned, last uint64) error {
	last = min(last, p.st.Anchor+8*uint64(p.steps))
	keep, last, err := p.open(last)
	if err != nil {
		return nil // it cannot be read, which its list tells: the chain had better stay
	}
	var at uint64
	var here mark
	err = p.tree.ascend(bucketMarks, indexOf(p.st.Anchor+1), func(k, v []byte) bool {
		if len(k) != 8 || binary.BigEndian.Uint64(k) > last {
			return false
		}
		if m, ok := decodeMark(k, v); ok {
			at, here = binary.BigEndian.Uint64(k), m
		}
		return true
	})
	if err != nil || at == 0 || len(out.Gone) == 0 && at-p.st.Anchor < anchorMin {
		return err
	}
	out.Anchor, out.Link, out.Key = at, here.link[:], here.key
	for _, k := range keep {
		if k.seq <= at {
			out.keep(k.id, k.digest)
		}
	}
	return nil
}

// openOne is an unsettled entry, its digest and its newest step.
type openOne struct {
	id     ID
	digest digest
	seq    uint64
}

// open are the unsettled entries whose newest step is not after a step: as many as
// there is room for, and up to which step these are all.
func (p *pruner) open(last uint64) (keep []openOne, upTo uint64, err error) {
	for name := range indexed {
		var bad error
		err := p.tree.ascend([]byte(name), nil, func(k, _ []byte) bool {
			var value []byte
			if value, bad = p.tree.get(bucketEntries, k); bad != nil {
				return false
			}
			rec, err := decode(entryID(k), value)
			if bad = err; err == nil && lastSeq(rec) <= last {
				keep = append(keep, openOne{rec.ID, digestOf(value), lastSeq(rec)})
			}
			return bad == nil
		})
		if err := errors.Join(err, bad); err != nil {
			return nil, 0, err
		}
	}
	slices.SortFunc(keep, func(a, b openOne) int { return cmp.Compare(a.seq, b.seq) })
	if n := p.room / 2 / (keptBytes * 4 / 3); len(keep) > n { // in base64
		return keep[:n], max(keep[n].seq, 1) - 1, nil
	}
	return keep, last, nil
}

// stillOld reports whether no step was taken meanwhile on what a plan takes away, this
// one is none, and the plan before is in the store: it was made from what is there.
// The caller holds mu.
func (j *Journal) stillOld(p *plan, rec *record) bool {
	if rec != nil && p.gone.has(rec.ID) || j.leaving != nil {
		return false
	}
	for id := range j.inflight {
		if p.gone.has(id) {
			return false
		}
	}
	j.tail.mu.RLock()
	defer j.tail.mu.RUnlock()
	for id := range j.tail.items {
		if p.gone.has(id) {
			return false
		}
	}
	return len(j.tail.pruned) == 0
}

// errNoPlan: there is nothing to prune. errPlanGone: a plan is not to be carried out
// any more.
var errNoPlan, errPlanGone = errors.New("nothing to prune"), errors.New("the plan is gone")

// Prune removes now what Options.MaxBytes and Options.KeepFor do not keep, step by
// step, and gives how many entries went. Without it the same happens by and by, with
// the sales. Sales go on meanwhile; each step of it is one more sync. Nothing that is
// open or parked goes (L8). Disk space is used again by what comes, and given back by
// Compact; the bytes themselves are gone after Compact (FORMAT.md). Errors: ErrPoisoned,
// ErrClosed; what was removed until then stays removed.
func (j *Journal) Prune() (removed int, err error) {
	for {
		n, err := j.pruneStep()
		if errors.Is(err, errNoPlan) {
			return removed, nil
		}
		if err != nil {
			return removed, fmt.Errorf("prune: %w", err)
		}
		removed += n
	}
}

func (j *Journal) pruneStep() (removed int, err error) {
	if err := j.flush(); err != nil { // what was pruned before leaves the store
		return 0, err
	}
	p, err := j.planBesideSteps()
	if err != nil {
		return 0, err
	}
	if p == nil {
		return 0, errNoPlan
	}
	err = j.take(func() (change, error) {
		if j.plan != p {
			return change{}, errPlanGone
		}
		return change{}, nil
	})
	if errors.Is(err, errPlanGone) { // with somebody's step, or a step touched what it names
		if err = nil; !p.taken {
			return 0, nil
		}
	}
	return p.entries, err
}

// planBesideSteps makes a plan as a checkpoint does, while no checkpoint runs.
func (j *Journal) planBesideSteps() (*plan, error) {
	j.mu.Lock()
	j.still()
	if err := j.usable(); err != nil {
		j.mu.Unlock()
		return nil, err
	}
	j.applying, j.plan = true, nil
	j.background.Add(1)
	j.mu.Unlock()
	p, err := j.planner()
	j.background.Done()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.applying, j.plan = false, p
	j.room.Broadcast()
	if gone := j.usable(); gone != nil {
		return nil, gone
	}
	return p, err
}
