package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Every legal power cut, part 5: the child that works until the power fails. It
// says each step before it takes it and after it has returned, with what the
// journal then shows of the entry; and when it opened the journal, all that is in
// it. crash_promise_test.go reads these lines:
//
//	saw {entry}             one for each, then
//	seen                    the journal is open
//	try 0 begin L S R       worker 0: lane L, trace number S, that of the reversal R
//	did 0 begin 7 {entry}
//	try 0 owe 7
//	did 0 owe 7 {entry}
//	undone 0                the step returned an error: nothing was changed
//	poisoned 0              the step returned ErrPoisoned: its outcome is not known
//	prune [[3,9],[12,12]]   with one of the next steps these may go
//
// Every other line means nothing to it.

// crashOptions are those of every journal here. What makes more happen in a short
// life (a small write-ahead file …) belongs here.
func crashOptions(o Options) Options {
	o.Now, o.RegionBytes = (&scene{}).tick, RegionBytesMin
	return o
}

// goOn carries a journal on after a failed write. False means that it could not: the
// child stops.
func goOn(_ Options, j *Journal) (*Journal, bool) { return j, j.Recover() == nil }

// reopen is what a firmware may do instead: start again over the same files.
func reopen(o Options, j *Journal) (*Journal, bool) {
	_ = j.Close()
	j, err := openStubbornly(o)
	return j, err == nil
}

// pruneEarly has a journal prune whatever it may, and say so before it does.
func pruneEarly(j *Journal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.still() // a checkpoint of what was there before
	j.maxBytes, j.keepSteps = 1, 8
	j.planner = func() (*plan, error) {
		p, err := j.planPrune()
		if p != nil && len(p.gone) > 0 {
			say("prune %s", marshalNote(p.gone))
		}
		return p, err
	}
}

type work struct {
	workers, steps int
	goOn           func(Options, *Journal) (*Journal, bool)
}

// roleCut gives the role that does the work, closes, opens again and does some more.
func roleCut(w work) func(Options, uint64) error {
	return func(o Options, seed uint64) error {
		runtime.LockOSThread() // strace counts the calls that it makes fail for each thread
		o = crashOptions(o)
		for _, steps := range []int{w.steps * 3 / 4, w.steps / 4} {
			j, err := openStubbornly(o)
			if err != nil {
				return err
			}
			seed++
			if j, err = w.run(o, j, seed, max(steps/w.workers, 1)); err != nil {
				return err
			}
			if err := j.Close(); err != nil {
				return err
			}
			say("closed")
		}
		return nil
	}
}

// openStubbornly tries again, as a firmware would. Besides, a call that fails on every
// thread would else always fail here first, and never in a checkpoint.
func openStubbornly(o Options) (j *Journal, err error) {
	for range 4 {
		say("opening %d", os.Getpid())
		if j, err = Open(o); err == nil {
			pruneEarly(j)
			return j, nil
		}
		say("not opened: %v", err)
	}
	return nil, err
}

// run takes steps until each worker had so many. After a failed write all stop, and
// go on with what goOn gives them.
func (w work) run(o Options, j *Journal, seed uint64, steps int) (*Journal, error) {
	for {
		entries, err := tellAll(j)
		if err != nil {
			return nil, err
		}
		left, err := w.together(j, seed, steps, entries)
		if !errors.Is(err, ErrPoisoned) {
			return j, err
		}
		next, ok := w.goOn(o, j)
		if !ok {
			return nil, err
		}
		j, steps, seed = next, left, seed+1
	}
}

// together has all workers take steps, and gives how many the last of them has left.
func (w work) together(j *Journal, seed uint64, steps int, entries []Entry) (left int, err error) {
	workers, errs := make([]*worker, w.workers), make([]error, w.workers)
	for n := range workers {
		workers[n] = newWorker(n, w.workers, j, seed, entries)
		workers[n].left = steps
	}
	if w.workers == 1 { // on this thread, whose calls strace counts
		err := workers[0].run()
		return workers[0].left, err
	}
	var all sync.WaitGroup
	for n, k := range workers {
		all.Go(func() { errs[n] = k.run() })
	}
	all.Wait()
	for _, k := range workers {
		left = max(left, k.left)
	}
	return left, errors.Join(errs...)
}

// tellAll says all that is in the journal.
func tellAll(j *Journal) (entries []Entry, err error) {
	for e, err := range j.Entries(Query{}) {
		if err != nil {
			return nil, err
		}
		say("saw %s", asJSON(e))
		entries = append(entries, e)
	}
	say("seen")
	return entries, nil
}

// worker takes steps on entries of its own.
type worker struct {
	n      int
	j      *Journal
	chance *rand.Rand
	own    []Entry
	left   int // steps
}

func newWorker(n, of int, j *Journal, seed uint64, entries []Entry) *worker {
	k := &worker{n: n, j: j, chance: rand.New(rand.NewPCG(seed, uint64(n)))}
	for _, e := range entries {
		if int(e.ID)%of == n && canStep(e) {
			k.own = append(k.own, e)
		}
	}
	return k
}

func canStep(e Entry) bool {
	return slices.ContainsFunc(steps, func(st step) bool { return st.legal(e.Status) })
}

func (k *worker) run() error {
	for ; k.left > 0; k.left-- {
		if k.chance.IntN(24) == 0 { // changes nothing that anybody was promised
			if err := k.j.Compact(); errors.Is(err, ErrPoisoned) {
				return err
			}
		}
		if err := k.step(); err != nil {
			return err
		}
	}
	return nil
}

// step takes one legal step and says so.
func (k *worker) step() error {
	if len(k.own) == 0 || len(k.own) < 6 && k.chance.IntN(3) == 0 {
		return k.begin()
	}
	i := k.chance.IntN(len(k.own))
	e := k.own[i]
	st := k.pick(e)
	say("try %d %s %d", k.n, st.kind, e.ID)
	if err := st.take(k.j, e.ID); errors.Is(err, ErrNoEntry) && e.Status == Reversed { // pruned by now
		_ = k.failed(err)
		k.own = slices.Delete(k.own, i, i+1)
		return nil
	} else if err != nil {
		return k.failed(err)
	}
	after, err := k.j.Entry(e.ID)
	if err != nil {
		return err
	}
	say("did %d %s %d %s", k.n, st.kind, e.ID, asJSON(after))
	if k.own[i] = after; !canStep(after) || after.Status == Reversed && k.chance.IntN(2) == 0 {
		k.own = slices.Delete(k.own, i, i+1)
	}
	return nil
}

func (k *worker) pick(e Entry) step {
	for {
		st := steps[k.chance.IntN(len(steps))]
		if long := len(e.Steps) > 20 && e.Status != Reversed; st.legal(e.Status) && (!long || st.to == Reversed || st.kind == StepOwe) {
			return st
		}
	}
}

func (k *worker) begin() error {
	lane := k.chance.IntN(2)
	d, err := crashDraft(k.j, lane, k.chance.IntN(3) == 0)
	if err != nil {
		return err
	}
	say("try %d begin %d %d %d", k.n, lane, d.STAN, d.ReversalSTAN)
	id, err := k.j.Begin(d)
	if err != nil {
		return k.failed(err)
	}
	e, err := k.j.Entry(id)
	if err != nil {
		return err
	}
	say("did %d begin %d %s", k.n, id, asJSON(e))
	k.own = append(k.own, e)
	return nil
}

// failed says what is known of a step that returned an error.
func (k *worker) failed(err error) error {
	if errors.Is(err, ErrPoisoned) {
		say("poisoned %d", k.n)
	} else {
		say("undone %d", k.n)
	}
	return err
}

var crashLanes = []Lane{lane1, lane2}

// crashDraft takes the next trace numbers of a lane. All other facts follow from
// them, so that an entry with another's facts is seen.
func crashDraft(j *Journal, lane int, two bool) (Draft, error) {
	stan, err := j.NextSTAN(crashLanes[lane])
	if err != nil {
		return Draft{}, err
	}
	d := draftOf(crashLanes[lane], stan)
	if two {
		d.ReversalSTAN, err = j.NextSTAN(crashLanes[lane])
	}
	return d, err
}

// draftOf gives long images: the files are filled, and used again, in a short life.
func draftOf(lane Lane, stan uint32) Draft {
	return Draft{
		Lane: lane, STAN: stan, Type: "sale", MTI: "0200", Last4: "1111",
		Amount: Money{Minor: int64(stan) * 100, Currency: "USD", Exponent: 2},
		Image:  fmt.Appendf(nil, "image of %s %06d%s", lane, stan, strings.Repeat("-", 2500+int(stan)*397%1500)),
	}
}
