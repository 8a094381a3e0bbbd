package journal

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every legal power cut, part 10: the tests.
//
// A child works on a journal under strace (crash_work, crash_trace). Its calls are
// done to a model of a disk (crash_disk, crash_replay), which gives all that may be
// on the disk when the power fails between any two of them (crash_image, crash_run).
// Such an image is opened and compared with what the child had been promised by then
// (crash_promise, crash_judge), many of them by a few judges (crash_court). Some are
// opened by a further child, whose power fails too. crash_failing makes every call
// fail in turn, crash_killed kills the process before the power fails. crash_model and
// crash_controls show that all this sees something.
//
//	go test ./journal -run PowerCut -v        some images
//	make crash N=1000000                      so many, and every failure of the disk
//	UNCHARGE_SEED=… go test …                 the same choices again
//	UNCHARGE_RUN=… go test … TestARunAgain    one recorded life again, exactly

const (
	imagesVar = "UNCHARGE_IMAGES"    // how many distinct images
	runVar    = "UNCHARGE_RUN"       // a kept run, to be judged again
	notesVar  = "UNCHARGE_TEST_CUTS" // set in the process that does the work: its directory
)

// depthMax is how many power cuts follow each other.
const depthMax = 3

// rounds bounds how often the moments of one life are gone through.
const rounds = 40

// images is how many distinct images a test tries: few here, more in the gate, any
// number with make crash N=…
func images(few int) int {
	n, err := strconv.Atoi(os.Getenv(imagesVar))
	if err != nil {
		return few
	}
	return n
}

// Whatever the disk wrote of what was not synced when the power failed: what was
// acknowledged is there, each step that was not happened whole or not at all, and
// nothing else is there.
func TestL1L3L6L8EveryPowerCut(t *testing.T) {
	t.Parallel()
	n, work := supervised(t)
	if !work {
		return
	}
	want := images(1500)
	chance := rand.New(rand.NewPCG(newSeed(t), 10))
	c := newCourt(t, n)
	firsts, lives := 0, 0
	for ; c.count() < want && len(c.bad) == 0 && firsts < 4+want/100; firsts++ {
		r := c.life(firsts, chance)
		lives += c.tryAll(r, min(want-c.count(), max(want/2, 100), 1000), 1, chance)
	}
	c.close()
	c.report()
	if c.count() < want && len(c.bad) == 0 {
		t.Errorf("these are too few images: the model of the disk sees nothing in doubt")
	}
	t.Logf("%d lives recorded, %d of them began after a power cut", firsts+lives, lives)
}

// life records the life of one worker, or of four, whose syncs take so long that
// several of them wait for one.
func (c *court) life(number int, chance *rand.Rand) *run {
	c.t.Helper()
	if number%2 == 0 {
		return recordRun(c.t, fmt.Sprintf("life %d", number), "cut", c.newRunDir(), chance.Uint64(), nil, nil)
	}
	return recordRun(c.t, fmt.Sprintf("life %d, four workers", number), "crowd", c.newRunDir(), chance.Uint64(), nil, nil,
		"-e", "inject=fdatasync:delay_exit=1000")
}

// tryAll tries so many images of a run, and of some of them, opened and cut again,
// more: to depth 3. It gives how many more lives were recorded.
func (c *court) tryAll(r *run, want, depth int, chance *rand.Rand) (lives int) {
	c.t.Helper()
	const again = 3
	if len(r.moments) == 0 {
		c.t.Fatalf("the child did nothing: %s", r.complaint)
	}
	kept, seen := []*cut{}, 0
	have := c.count()
	for round := 0; round < rounds && c.count() < have+want; round++ {
		share := 1.0
		if round == 0 {
			share = r.affordable(0, never, want)
		}
		err := r.cuts(round, share, func(k *cut) bool {
			if seen++; len(kept) < again {
				k.keep()
				kept = append(kept, k)
			} else if at := chance.IntN(seen); at < again {
				k.keep()
				kept[at] = k
			}
			return c.take(k) && c.count() < have+want
		})
		if err != nil {
			c.t.Fatalf("%s: %v", r.name, err)
		}
	}
	c.done(r)
	if depth == depthMax || len(c.bad) > 0 {
		return 0
	}
	for _, k := range kept[:min(len(kept), again-depth+1)] {
		next := k.again(c.t, depth+1, chance.Uint64(), c.newRunDir())
		lives += 1 + c.tryAll(next, want/10, depth+1, chance)
	}
	return lives
}

// affordable is the share of the moments, from one to another, at which all images
// that can be told in words may be tried, when so many may be spent on them.
func (r *run) affordable(from, to, want int) float64 {
	all, d := 1, newReplay(r.root, r.base)
	for at, m := range r.moments {
		if err := d.step(m); err == nil && at >= from && at <= to && d.changedBy(m) {
			all += 3 * len(d.doubts())
		}
	}
	return min(1, float64(want)/float64(all))
}

// A run that was kept, judged again.
func TestARunAgain(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(runVar)
	if dir == "" {
		t.Skip("SKIPPED: no kept run was named in " + runVar)
	}
	n, work := supervised(t)
	if !work {
		return
	}
	r, err := readRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := newCourt(t, n)
	c.thorough = true
	for round := 0; round < rounds && len(c.bad) == 0; round++ {
		if err := r.cuts(round, 1, c.take); err != nil {
			t.Fatal(err)
		}
		c.pending.Wait()
	}
	c.close()
	c.report()
}

// courtNotes is where the working process says which images are being judged.
type courtNotes struct {
	scratch string // a directory, in memory where that can be had
	pipe    *os.File
}

func (n *courtNotes) write(judge int, k *cut) {
	if _, err := fmt.Fprintf(n.pipe, "%d\t%s\t%s\n", judge, k.run.dir, k); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "nobody is there any more who would read the result:", err)
		os.Exit(3)
	}
}

// stuck is how long the working process may say nothing.
const stuck = 2 * time.Minute

// supervised runs the test in a process of its own and is true there. A damaged
// image could end the whole process (a fault in a goroutine of bbolt's, a fatal
// error of the runtime): whoever waits outside then still knows which image it was.
func supervised(t *testing.T) (n *courtNotes, work bool) {
	t.Helper()
	if scratch := os.Getenv(notesVar); scratch != "" {
		syscall.CloseOnExec(3)
		return &courtNotes{scratch, os.NewFile(3, "notes")}, true
	}
	strace(t)
	scratch := t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "uncharge"); err == nil {
		scratch = memory
		t.Cleanup(func() { _ = os.RemoveAll(memory) })
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=0")
	cmd.Env = append(os.Environ(), notesVar+"="+scratch)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &said, &said, []*os.File{out}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	last := watch(in, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	if err == nil {
		t.Log(summary(said.String()))
		return nil, false
	}
	t.Errorf("%v\n%s", err, said.String())
	if !strings.Contains(said.String(), "--- FAIL") { // it did not come to its end
		for _, note := range last {
			_, rest, _ := strings.Cut(note, "\t")
			dir, name, _ := strings.Cut(rest, "\t")
			t.Errorf("in work at its end: %s\n%s", name, keepRun(dir))
		}
	}
	return nil, false
}

// watch gives the last note of each judge, and ends a process that says nothing.
func watch(in *os.File, kill func()) map[string]string {
	last := map[string]string{}
	timer := time.AfterFunc(stuck, kill)
	defer timer.Stop()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		timer.Reset(stuck)
		judge, _, _ := strings.Cut(lines.Text(), "\t")
		last[judge] = lines.Text()
	}
	_ = in.Close()
	return last
}

// summary is what a test logged.
func summary(said string) string {
	var b strings.Builder
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "    ") {
			b.WriteString(strings.TrimPrefix(line, "    "))
		}
	}
	return b.String()
}
