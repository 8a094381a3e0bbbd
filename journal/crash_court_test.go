package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Every legal power cut, part 9: many images, a few judges.

const judges = 2

// court has images judged and counts them.
type court struct {
	t          *testing.T
	courtNotes *courtNotes

	cases    chan cut
	working  sync.WaitGroup
	mu       sync.Mutex
	distinct map[uint64]bool // images
	taken    map[taken]bool  // images under a promise
	bad      []finding
	enough   int  // findings after which nothing more is taken; 0: never
	thorough bool // every image is inspected too, not only every fourth
	judged   int
	pending  sync.WaitGroup // images taken and not judged yet
	began    time.Time
}

// taken is an image under what was promised when it was made. The promises of a run
// are told apart by their address.
type taken struct {
	sum     uint64
	promise *promise
}

type finding struct {
	cut cut
	err error
}

func newCourt(t *testing.T, n *courtNotes) *court {
	t.Helper()
	c := &court{
		t: t, courtNotes: n, cases: make(chan cut, judges), distinct: map[uint64]bool{}, taken: map[taken]bool{}, began: time.Now(),
	}
	for n := range judges {
		c.working.Go(func() { c.sit(n) })
	}
	return c
}

// take has an image judged if it is a new one, and wants more until it found enough.
func (c *court) take(k cut) (more bool) {
	c.mu.Lock()
	key := taken{k.sum, k.promise}
	known, full := c.taken[key], c.enough > 0 && len(c.bad) >= c.enough
	if !known && !full {
		k.look = c.thorough || len(c.taken)%4 == 0
		c.taken[key], c.distinct[k.sum] = true, true
	}
	c.mu.Unlock()
	if !known && !full {
		c.pending.Add(1)
		c.cases <- k
	}
	return !full
}

func (c *court) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.distinct)
}

// sit judges one image after the other.
func (c *court) sit(judge int) {
	for k := range c.cases {
		c.courtNotes.write(judge, k)
		dir, err := os.MkdirTemp(c.courtNotes.scratch, "image")
		if err == nil {
			err = errors.Join(k.image.put(dir), judgeWithin(dir, k.promise, k.look))
		}
		if err != nil {
			c.mu.Lock()
			c.bad = append(c.bad, finding{k, err})
			c.mu.Unlock()
		}
		if err := os.RemoveAll(dir); err != nil {
			c.t.Errorf("clean up: %v", err)
		}
		c.pending.Done()
	}
}

// done waits until all images of a run are judged, and lets go of it if none was bad.
func (c *court) done(r *run) {
	c.pending.Wait()
	c.judged += len(c.taken)
	clear(c.taken)
	if !slices.ContainsFunc(c.bad, func(f finding) bool { return f.cut.run == r }) {
		_ = os.RemoveAll(r.dir)
	}
}

// close waits for the judges. No image is taken after it.
func (c *court) close() {
	close(c.cases)
	c.working.Wait()
	c.t.Logf("%d distinct images, %d judgments, %d bad, %v", len(c.distinct), c.judged+len(c.taken), len(c.bad), time.Since(c.began).Round(time.Millisecond))
}

// report fails the test for what is bad, and keeps what repeats it.
func (c *court) report() {
	c.t.Helper()
	for i, f := range c.bad {
		if i == 3 {
			c.t.Errorf("and %d more", len(c.bad)-i)
			return
		}
		c.t.Errorf("%s:\n%v\n%s", f.cut, f.err, keepImage(f.cut.run.dir))
	}
}

// keep copies a run to where it survives the test and says how to judge it again.
func keepImage(dir string) string {
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
	dir, err := os.MkdirTemp(c.courtNotes.scratch, "run")
	if err != nil {
		c.t.Fatal(err)
	}
	return dir
}
