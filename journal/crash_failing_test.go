package journal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every legal power cut, part 12: the disk that fails. strace makes one call fail,
// each in turn; then the power fails at any moment after it.

// diskFailures are the ways in which a disk fails, as strace is told them: a call,
// its error, and whether all calls behind it fail too.
var diskFailures = []struct{ call, err, from string }{
	{"fdatasync", "EIO", ""}, {"fdatasync", "EIO", "+"}, {"fsync", "EIO", ""}, {"fsync", "EIO", "+"},
	{"pwrite64", "EIO", ""}, {"pwrite64", "ENOSPC", ""}, {"pwrite64", "ENOSPC", "+"},
	{"ftruncate", "EIO", ""}, {"ftruncate", "ENOSPC", "+"}, {"ftruncate64", "EIO", ""},
	{"fallocate", "EIO", ""}, {"fallocate", "ENOSPC", "+"},
	{"openat", "ENOSPC", ""}, {"mkdirat", "ENOSPC", ""}, {"unlinkat", "EIO", ""},
	{"renameat", "EIO", ""}, {"renameat", "ENOSPC", ""},
	{"pread64", "EIO", ""}, {"newfstatat", "EIO", ""}, {"fstatat64", "EIO", ""},
}

// A step that failed happened whole or not at all, and everything that was
// acknowledged before and after is there; what a failed sync covered may be lost
// for good, whatever a later sync says. One worker, and two.
func TestL13TheDiskFailsAtEveryCall(t *testing.T) {
	t.Parallel()
	tryFailures(t, []string{"few", "pair"}, 25, func(failure) bool { return true })
}

// The firmware does not recover the journal after a failed sync, but opens it again,
// without a power cut in between. The files look whole then: the kernel shows what
// was written, whether the disk has it or not.
func TestL13OpenedAgainAfterAFailedSync(t *testing.T) {
	t.Parallel()
	tryFailures(t, []string{"reopen"}, 40, func(f failure) bool { return f.call == "fdatasync" && f.from == "" })
}

// tryFailures tries so many images of what each failure that is wanted leaves; in a
// short test of some failures only.
func tryFailures(t *testing.T, roles []string, each int, wanted func(failure) bool) {
	t.Helper()
	n, work := supervised(t)
	if !work {
		return
	}
	chance := rand.New(rand.NewPCG(newSeed(t), 12))
	c := newCourt(t, n)
	short, tried := os.Getenv(imagesVar) == "", 0
	if short {
		each = 10
	}
	for _, role := range roles {
		left := 8
		for _, f := range c.failures(role, chance) {
			if !wanted(f) || short && left == 0 || len(c.bad) > 0 {
				continue
			}
			if c.tryFailure(role, f, each, chance) {
				tried, left = tried+1, left-1
			}
		}
	}
	c.close()
	c.report()
	t.Logf("the disk failed in %d lives", tried)
	if tried < 8 && len(c.bad) == 0 {
		t.Error("these are too few to prove anything")
	}
}

type failure struct {
	call, err, from string
	number          int // which of the calls fails
}

func (f failure) String() string {
	return fmt.Sprintf("%s number %d%s fails with %s", f.call, f.number, f.from, f.err)
}

// failures lists all, in an order drawn by chance: as many of each call as a life
// has that nothing befalls.
func (c *court) failures(role string, chance *rand.Rand) (list []failure) {
	c.t.Helper()
	whole := recordRun(c.t, "a life without a failure", role, c.newRunDir(), chance.Uint64(), nil, nil)
	trace := string(fileBytes(c.t, filepath.Join(whole.dir, "trace")))
	c.done(whole)
	for _, d := range diskFailures {
		for i := range strings.Count(trace, " "+d.call+"(") {
			list = append(list, failure{d.call, d.err, d.from, i + 1})
		}
	}
	chance.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// tryFailure records a life with one failure and tries so many images of what is
// behind it.
// It is false when the call that should have failed was not made, or not on a file
// of ours.
func (c *court) tryFailure(role string, f failure, want int, chance *rand.Rand) bool {
	c.t.Helper()
	inject := fmt.Sprintf("inject=?%s:error=%s:when=%d%s", f.call, f.err, f.number, f.from)
	name := fmt.Sprintf("%s (%s)", f, role)
	r := recordRun(c.t, name, role, c.newRunDir(), chance.Uint64(), nil, nil, "-e", inject)
	defer c.done(r)
	failed := slices.IndexFunc(r.moments, func(m moment) bool { return m.call.injected })
	if failed < 0 {
		return false
	}
	c.tryBetween(r, failed, never, want)
	return true
}

// tryBetween tries so many images of what the power leaves between two moments.
func (c *court) tryBetween(r *run, from, to, want int) {
	c.t.Helper()
	enough, share := c.count()+want, r.affordable(from, to, want)
	for round := 0; round < 10 && c.count() < enough; round++ {
		err := r.cuts(round, share, func(k *cut) bool {
			return k.at <= from || k.at <= to && c.take(k) && c.count() < enough
		})
		if err != nil {
			c.t.Fatalf("%s: %v", r.name, err)
		}
		share = min(1, 8*share) // these are one for a moment, not one for each call in doubt
	}
}
