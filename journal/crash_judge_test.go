package journal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Every legal power cut, part 8: the judge of one image.

// verify is where every image's journal is checked by what the journal itself offers
// for that, besides what the judge finds out by reading.
func verify(j *Journal) error {
	report, err := j.Verify(context.Background(), nil)
	if err != nil {
		return err
	}
	return report.Err()
}

// judgeLimit is far above what opening an image takes: what needs longer hangs.
const judgeLimit = 20 * time.Second

// judgeWithin judges the image in a directory. A panic, a fault in mapped pages and
// a call that never returns are findings about the image, like any other.
func judgeWithin(root string, p *promise, look bool) (entries []shown, err error) {
	type result struct {
		entries []shown
		err     error
	}
	found := make(chan result, 1)
	go func() {
		defer func() {
			if crash := recover(); crash != nil {
				found <- result{nil, fmt.Errorf("panic: %v\n%s", crash, debug.Stack())}
			}
		}()
		debug.SetPanicOnFault(true)
		entries, err := judge(root, p, look)
		found <- result{entries, err}
	}()
	limit := time.NewTimer(judgeLimit)
	defer limit.Stop()
	select {
	case r := <-found:
		return r.entries, r.err
	case <-limit.C:
		return nil, fmt.Errorf("judging it did not return within %v", judgeLimit)
	}
}

// judge opens what a power cut left and says what is wrong with it, nil if nothing,
// and what it found. look has it inspected before.
func judge(root string, p *promise, look bool) (entries []shown, err error) {
	o := crashOptions(Options{Dir: filepath.Join(root, crashDir), DeviceKey: deviceKey, FirstSTAN: 1, LockWait: time.Second})
	if p.open && look { // looking disturbs nothing (L15), and sees the same
		snap, err := Inspect(o.Dir, o.LockWait)
		if err != nil {
			return nil, fmt.Errorf("it was open before, yet: %w", err)
		}
		_, err = readPromised(snap, p)
		if err := errors.Join(err, snap.Damage(), snap.Close()); err != nil {
			return nil, fmt.Errorf("inspected: %w", err)
		}
	}
	j, err := Open(o)
	if err != nil {
		return nil, err
	}
	entries, err = readPromised(j, p)
	if err := errors.Join(err, imagesOpen(j, entries), verify(j)); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	after, err := worksOn(j, entries)
	if err := errors.Join(err, j.Close()); err != nil {
		return nil, fmt.Errorf("going on: %w", err)
	}
	if j, err = Open(o); err != nil {
		return nil, fmt.Errorf("opening again: %w", err)
	}
	_, err = readPromised(j, after)
	if err := errors.Join(err, imagesOpen(j, after.saw[len(entries):]), verify(j), j.Close()); err != nil {
		return nil, fmt.Errorf("opened again: %w", err)
	}
	return entries, nil
}

// everything is what Journal and Snapshot offer to readers.
type everything interface {
	lists
	Entries(Query) iter.Seq2[Entry, error]
}

// readPromised reads a journal in each way and compares it with the promise.
func readPromised(j everything, p *promise) (entries []shown, err error) {
	byStatus := map[Status][]string{}
	for e, err := range j.Entries(Query{}) {
		if err != nil {
			return nil, err
		}
		s := show(e)
		entries = append(entries, s)
		byStatus[e.Status] = append(byStatus[e.Status], s.text)
	}
	for _, index := range []struct {
		status Status
		list   func() ([]Entry, error)
	}{{Begun, j.Armed}, {Owed, j.Owed}, {Parked, j.Parked}} {
		list, err := index.list()
		if err != nil {
			return nil, err
		}
		var got []string
		for _, e := range list {
			got = append(got, asJSON(e))
		}
		if !slices.Equal(got, byStatus[index.status]) {
			return nil, fmt.Errorf("what is %s: the list has %v, the entries say %v", index.status, got, byStatus[index.status])
		}
	}
	return entries, p.keptBy(entries)
}

// imagesOpen looks for the image of every entry that may need a reversal, and of no
// other (L11).
func imagesOpen(j *Journal, entries []shown) error {
	for _, e := range entries {
		image, err := j.Image(e.ID)
		switch open := e.Status == Begun || e.Status == Owed || e.Status == Parked; {
		case open && (err != nil || string(image) != string(draftOf(e.Lane, e.STAN).Image)):
			return fmt.Errorf("the image of entry %d: %.40q %w", e.ID, image, err)
		case !open && !errors.Is(err, ErrNoImage):
			return fmt.Errorf("entry %d is %s, its image: %v", e.ID, e.Status, err)
		}
	}
	return nil
}

// worksOn begins one more entry and owes it, and gives the promise after that.
func worksOn(j *Journal, entries []shown) (*promise, error) {
	p := newPromise()
	for _, e := range entries {
		p.entries[e.ID] = e.fact()
	}
	d, err := crashDraft(j, 0, true)
	if err != nil {
		return nil, err
	}
	var last ID
	for _, e := range entries {
		last = max(last, e.ID)
		if e.Lane == d.Lane && max(e.STAN, e.ReversalSTAN) >= d.STAN {
			return nil, fmt.Errorf("the next trace number is %d, but entry %d has %d and %d", d.STAN, e.ID, e.STAN, e.ReversalSTAN)
		}
	}
	id, err := j.Begin(d)
	if err != nil {
		return nil, err
	}
	if id <= last {
		return nil, fmt.Errorf("a new entry got id %d behind %d", id, last)
	}
	if err := j.Owe(id, "no answer", silence); err != nil {
		return nil, err
	}
	entry, err := j.Entry(id)
	if err != nil {
		return nil, err
	}
	e := show(entry)
	begun := fact{
		modelEntry:   modelEntry{lane: d.Lane, stan: d.STAN, status: Begun, kinds: []StepKind{StepBegin}},
		reversalSTAN: d.ReversalSTAN,
	}
	if want := begun.after(StepOwe); !want.sameAs(e) {
		return nil, fmt.Errorf("a new entry is %s, want %+v", e.text, want)
	}
	p.entries[id] = e.fact()
	p.saw = append(slices.Clone(entries), e)
	return p, nil
}

// firstLine shortens a finding for a list.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
