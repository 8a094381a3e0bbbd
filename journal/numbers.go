package journal

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// numbers are the trace numbers of the lanes. They have a lock of their own: who
// takes one does not wait for the steps of others.
type numbers struct {
	mu     sync.Mutex
	halted error // why none is given out, nil while they are
	traces map[Lane]trace
	inUse  map[laneSTAN]int // by entries that are not settled
}

// laneSTAN is a trace number of a lane.
type laneSTAN struct {
	lane Lane
	stan uint32
}

// trace is what is known of a lane's trace numbers.
type trace struct {
	last   uint32 // the last one given out or begun
	handed uint32 // how many up to last NextSTAN gave out since the journal was opened
	kept   uint32 // the latest of them that was begun, 0 for none
}

// behind is how many numbers stan is behind the last one.
func (t trace) behind(stan uint32) uint32 { return (t.last + stanMax - stan) % stanMax }

// begun notes that a number is in use. The lane's last is then t.kept: callers may
// begin in another order than they took their numbers in. A number that NextSTAN
// did not give out starts a new count.
func (t trace) begun(stan uint32) trace {
	switch {
	case stan == 0:
	case t.behind(stan) >= t.handed:
		return trace{last: stan, handed: 1, kept: stan}
	case t.kept == 0 || t.behind(stan) < t.behind(t.kept):
		t.kept = stan
	}
	return t
}

// NextSTAN takes the next trace number of a lane: the first is Options.FirstSTAN
// or one drawn by chance, after 999999 comes 1, and a number that an armed, owed
// or parked entry of the lane still uses is passed over. It becomes durable with
// Begin; one that is never used leaves a gap.
func (j *Journal) NextSTAN(lane Lane) (uint32, error) {
	n := &j.numbers
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.halted != nil {
		return 0, n.halted
	}
	t, known := n.traces[lane]
	if !known {
		last, err := j.lane(lane)
		if err != nil {
			return 0, fmt.Errorf("next trace number of lane %s: %w", lane, err)
		}
		if last == 0 {
			last = j.beforeFirst()
		}
		t.last = last
	}
	for range len(n.inUse) + 1 {
		t.last, t.handed = t.last%stanMax+1, t.handed+1
		if n.inUse[laneSTAN{lane, t.last}] == 0 {
			n.traces[lane] = t
			return t.last, nil
		}
	}
	return 0, fmt.Errorf("%w: every trace number of lane %s is in use", ErrInvalid, lane)
}

// beforeFirst is the number before a new lane's first one.
func (j *Journal) beforeFirst() uint32 {
	if j.first > 1 {
		return j.first - 1
	}
	if j.first == 1 {
		return stanMax
	}
	return 1 + rand.Uint32N(stanMax)
}

// last is what the lane's last number will be once these are in use.
func (n *numbers) last(lane Lane, stan, reversal uint32) uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.traces[lane].begun(stan).begun(reversal).kept
}

// begin notes that numbers of a lane were begun.
func (n *numbers) begin(lane Lane, stan, reversal uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.traces[lane] = n.traces[lane].begun(stan).begun(reversal)
}

// use notes that an entry which may still need steps is there (1) or is not any
// more (-1), and with it its numbers.
func (n *numbers) use(rec *record, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count(rec, by)
}

// useOnly counts anew which numbers are in use. Nobody sees it half counted: a number
// of an open entry must not be given out again.
func (n *numbers) useOnly(open []*record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inUse = map[laneSTAN]int{}
	for _, rec := range open {
		n.count(rec, 1)
	}
}

func (n *numbers) count(rec *record, by int) {
	for _, stan := range []uint32{rec.STAN, rec.ReversalSTAN} {
		at := laneSTAN{rec.Lane, stan}
		if n.inUse[at] += by; n.inUse[at] <= 0 {
			delete(n.inUse, at)
		}
	}
}

// halt says why no number is given out any more; nil: they are again.
func (n *numbers) halt(why error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.halted = why
}
