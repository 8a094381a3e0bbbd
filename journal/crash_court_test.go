package journal

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Every legal power cut, part 9: many images, a few judges.

const judges = 2

// court has images judged and counts them. An image is opened once, and what was
// found in it held against each promise under which it comes again; every fourth is
// opened and inspected all the same.
type court struct {
	t     *testing.T
	notes *courtNotes

	cases   chan *cut
	working sync.WaitGroup
	pending sync.WaitGroup // images taken and not judged yet
	began   time.Time

	enough   int  // findings after which nothing more is taken; 0: never
	thorough bool // every image is opened and inspected under every promise

	mu       sync.Mutex
	distinct map[uint64]bool // images
	openings int
	taken    map[taken]bool      // of this run: images under a promise
	found    map[uint64]*reading // of this run: in an image
	shown    map[string]shown    // of this run: entries that are in many images, once
	bad      []finding
}

// taken is an image under what was promised when it was made. The promises of a run
// are told apart by their address.
type taken struct {
	sum     uint64
	promise *promise
}

// reading is what was found in an image that is good.
type reading struct {
	done    bool
	entries []shown
	later   []*cut // the same image under other promises, while it is not done
}

type finding struct {
	cut *cut
	err error
}

func newCourt(t *testing.T, n *courtNotes) *court {
	t.Helper()
	c := &court{t: t, notes: n, cases: make(chan *cut, judges), began: time.Now(), enough: 10, distinct: map[uint64]bool{}}
	c.nextRun()
	for n := range judges {
		c.working.Go(func() { c.sit(n) })
	}
	return c
}

func (c *court) nextRun() {
	c.taken, c.found, c.shown = map[taken]bool{}, map[uint64]*reading{}, map[string]shown{}
}

// take has an image judged if it is a new one, and wants more until it found enough.
func (c *court) take(k *cut) (more bool) {
	open, more := c.admit(k)
	if open {
		k.keep()
		c.pending.Add(1)
		c.cases <- k
	}
	return more
}

// admit decides whether an image is to be opened.
func (c *court) admit(k *cut) (open, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := taken{k.sum, k.promise}
	if c.enough > 0 && len(c.bad) >= c.enough || c.taken[key] {
		return false, c.enough == 0 || len(c.bad) < c.enough
	}
	k.look = c.thorough || len(c.taken)%4 == 0
	c.taken[key], c.distinct[k.sum] = true, true
	switch r := c.found[k.sum]; {
	case r == nil:
		c.found[k.sum] = &reading{}
		return true, true
	case k.look:
		return true, true
	case r.done:
		c.hold(r, k)
	default:
		r.later = append(r.later, k)
	}
	return false, true
}

// hold holds what was found in an image against another promise. The caller holds mu.
func (c *court) hold(r *reading, k *cut) {
	if err := k.promise.keptBy(r.entries); err != nil {
		c.bad = append(c.bad, finding{k, err})
	}
}

func (c *court) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.distinct)
}

// sit judges one image after the other.
func (c *court) sit(judge int) {
	for k := range c.cases {
		c.notes.write(judge, k)
		dir, err := os.MkdirTemp(c.notes.scratch, "image")
		if err == nil {
			err = k.image.put(dir)
		}
		var entries []shown
		if err == nil {
			entries, err = judgeWithin(dir, k.promise, k.look)
		}
		c.judged(k, entries, err)
		if err := os.RemoveAll(dir); err != nil {
			c.t.Errorf("clean up: %v", err)
		}
		c.pending.Done()
	}
}

func (c *court) judged(k *cut, entries []shown, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.openings++
	if err != nil {
		c.bad = append(c.bad, finding{k, err})
		return
	}
	r := c.found[k.sum]
	if r.done {
		return
	}
	for i, e := range entries {
		if same, known := c.shown[e.text]; known {
			entries[i] = same
		} else {
			c.shown[e.text] = e
		}
	}
	r.done, r.entries = true, entries
	for _, later := range r.later {
		c.hold(r, later)
	}
	r.later = nil
}

// done waits until all images of a run are judged, and lets go of it if none was bad.
func (c *court) done(r *run) {
	c.pending.Wait()
	c.nextRun()
	if !slices.ContainsFunc(c.bad, func(f finding) bool { return f.cut.run == r }) {
		_ = os.RemoveAll(r.dir)
	}
}

// close waits for the judges. No image is taken after it.
func (c *court) close() {
	close(c.cases)
	c.working.Wait()
	c.t.Logf("%d distinct images, opened %d times, %d bad, %v", len(c.distinct), c.openings, len(c.bad), time.Since(c.began).Round(time.Millisecond))
}

// report fails the test for what is bad, and keeps what repeats it.
func (c *court) report() {
	c.t.Helper()
	for i, f := range c.bad {
		if i == 3 {
			c.t.Errorf("and %d more", len(c.bad)-i)
			return
		}
		c.t.Errorf("%s:\n%v\n%s", f.cut, f.err, keepRun(f.cut.run.dir))
	}
}

// keepRun copies a run to where it survives the test and says how to judge it again.
func keepRun(dir string) string {
	if again := os.Getenv(runVar); again != "" {
		return "repeat: as it was"
	}
	kept, err := os.MkdirTemp("", "uncharge-run-")
	if err == nil {
		err = os.CopyFS(kept, os.DirFS(dir))
	}
	if err != nil {
		return fmt.Sprintf("the run could not be kept: %v", err)
	}
	return fmt.Sprintf("repeat: %s=%s go test ./journal -run '^TestARunAgain$'", runVar, kept)
}

// newRunDir is where a run is recorded.
func (c *court) newRunDir() string {
	c.t.Helper()
	dir, err := os.MkdirTemp(c.notes.scratch, "run")
	if err != nil {
		c.t.Fatal(err)
	}
	return dir
}
