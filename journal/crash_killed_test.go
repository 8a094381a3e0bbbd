package journal

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Every legal power cut, part 14: a process that is killed, and another one that goes
// on with the files as the kernel shows them. The disk may lack what the first one
// wrote and had not synced; then the power fails.

func TestL1L3L8KilledThenAPowerCut(t *testing.T) {
	t.Parallel()
	n, work := supervised(t)
	if !work {
		return
	}
	want := images(2500) / 10
	chance := rand.New(rand.NewPCG(newSeed(t), 14))
	c := newCourt(t, n)
	lives := 0
	for tries := 0; c.count() < want && len(c.bad) == 0 && tries < 20+want/10; tries++ {
		first := stint{
			role: "cut", strace: []string{"-e", "inject=fdatasync:delay_enter=2000"}, // to be killed in a sync most of the time
			lines: 1 + chance.IntN(100), wait: time.Duration(chance.IntN(6000)) * time.Microsecond,
		}
		r := newRun(t, fmt.Sprintf("killed %v after %d lines", first.wait, first.lines), c.newRunDir(), chance.Uint64(), nil, nil)
		if err := r.add(t, first); err == nil { // else nobody knows what the calls did in which it was
			lives++
			c.goOnAfter(r)
		}
		c.done(r)
	}
	c.close()
	c.report()
	t.Logf("%d processes were killed", lives)
	if c.count() < want && len(c.bad) == 0 {
		t.Error("these are too few to prove anything")
	}
}

// goOnAfter records the next process and tries images of its life: soon after it has
// opened the journal, for what it shows must be on the disk; and later.
func (c *court) goOnAfter(r *run) {
	c.t.Helper()
	killed := len(r.moments)
	if err := r.add(c.t, stint{role: "cut"}); err != nil {
		c.t.Fatalf("%s: %v\n%s", r.name, err, keepRun(r.dir))
	}
	soon := r.saidAfter(killed, "did", 3)
	c.tryBetween(r, killed, soon, 60)
	c.tryBetween(r, soon, never, 60)
}
