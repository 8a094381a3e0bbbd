package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every legal power cut, part 7: one recorded life of a child, and the images that
// a power cut at any moment of it can leave.

// crashDir is the journal's name below the root of an image.
const crashDir = "journal"

// run is a recorded life. All of it is in a directory of its own, from which it can
// be judged again: what the child found, what had been said before, the trace.
type run struct {
	name     string
	dir      string
	seed     uint64 // of the choices made here
	root     string
	base     image
	before   []string // said by the children before, on the same journal
	moments  []moment
	promises []*promise // after each number of lines that this child said
	verdict  func(*kcall, *node) verdict

	complaint string // of the last child
}

// stint is the life of one process.
type stint struct {
	role   string
	strace []string // further arguments
	// It is killed when it has said so many lines and some time has passed; 0: never.
	lines int
	wait  time.Duration
}

// recordRun starts a child in a role on what an earlier power cut left (nothing, the
// first time) and records its life. more are further arguments of strace.
func recordRun(t *testing.T, name, role, dir string, seed uint64, base image, before []string, more ...string) *run {
	t.Helper()
	r := newRun(t, name, dir, seed, base, before)
	if err := r.add(t, stint{role: role, strace: more}); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, keepRun(dir))
	}
	return r
}

func newRun(t *testing.T, name, dir string, seed uint64, base image, before []string) *run {
	t.Helper()
	r := &run{name: name, dir: dir, seed: seed, base: base, before: before}
	root := filepath.Join(dir, "root")
	err := errors.Join(os.MkdirAll(root, 0o700), os.Mkdir(filepath.Join(dir, "base"), 0o700), base.put(filepath.Join(dir, "base")), base.put(root))
	if err != nil {
		t.Fatal(err)
	}
	if r.root, err = filepath.EvalSymlinks(root); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"name": name, "seed": fmt.Sprint(seed), "where": r.root, "before": strings.Join(before, "\n")} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// add records the life of a further process, on the files as the last one left them.
func (r *run) add(t *testing.T, s stint) error {
	t.Helper()
	trace, part := filepath.Join(r.dir, "trace"), filepath.Join(r.dir, "part")
	c := startChild(t, s.role, filepath.Join(r.root, crashDir), r.seed, append([]string{strace(t)}, traceArgs(part, s.strace...)...)...)
	s.killAt(c)
	c.rest()
	r.complaint = c.errs.String()
	text, err := os.ReadFile(part)
	if old := r.moments; err == nil && len(old) > 0 {
		text = slices.Concat(fileBytes(t, trace), text)
	}
	if s.lines > 0 {
		text = append(text, processEnded+"\n"...)
	}
	if err := errors.Join(err, os.WriteFile(trace, text, 0o600)); err != nil {
		return err
	}
	err = errors.Join(r.read(), r.nothingEscaped())
	if err == nil || s.lines == 0 {
		return err
	}
	text = append(bytes.TrimSuffix(text, []byte("\n")), nothingDone+"\n"...)
	return errors.Join(os.WriteFile(trace, text, 0o600), r.read(), r.nothingEscaped())
}

// killAt kills the process, not the strace above it.
func (s stint) killAt(c *child) {
	pid := 0
	for range s.lines {
		line := c.line()
		if n, err := strconv.Atoi(strings.TrimPrefix(line, "opening ")); err == nil {
			pid = n
		}
	}
	if pid > 0 {
		time.AfterFunc(s.wait, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	}
}

// nothingEscaped compares the files that the child left with those of the model: a
// change that is not in the trace would be seen.
func (r *run) nothingEscaped() error {
	d := newReplay(r.root, r.base)
	for _, m := range r.moments {
		if err := d.step(m); err != nil {
			return err
		}
	}
	real, err := imageIn(r.root)
	if model := d.asRead(); err == nil && !model.same(real) {
		err = fmt.Errorf("the child left %v, the model has %v", real, model)
	}
	return err
}

// readRun reads a recorded life again.
func readRun(dir string) (*run, error) {
	var texts [4]string
	for i, file := range []string{"name", "seed", "where", "before"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		texts[i] = string(text)
	}
	seed, err := strconv.ParseUint(texts[1], 10, 64)
	if err != nil {
		return nil, err
	}
	r := &run{name: texts[0], dir: dir, seed: seed, root: texts[2], before: strings.FieldsFunc(texts[3], func(c rune) bool { return c == '\n' })}
	if r.base, err = imageIn(filepath.Join(dir, "base")); err != nil {
		return nil, err
	}
	return r, r.read()
}

// read reads the trace, and what the child said and was promised in it.
func (r *run) read() error {
	text, err := os.ReadFile(filepath.Join(r.dir, "trace"))
	if err != nil {
		return err
	}
	if r.moments, err = readTrace(string(text), r.root); err != nil {
		return err
	}
	then, err := promises(newPromise(), r.before)
	if err != nil {
		return err
	}
	d := newReplay(r.root, r.base)
	for _, m := range r.moments {
		if err := d.step(m); err != nil {
			return err
		}
	}
	r.promises, err = promises(then[len(then)-1], d.said)
	return err
}

// saidAfter is when the child said, from a moment on, the nth line with a first word.
func (r *run) saidAfter(from int, word string, n int) int {
	for at, m := range r.moments {
		fd, _, _ := m.call.descriptor(0)
		if at < from || m.end || m.call.name != "write" || fd != 1 {
			continue
		}
		line, _ := m.call.text(1)
		if first, _, _ := strings.Cut(strings.TrimSpace(string(line)), " "); first == word {
			if n--; n == 0 {
				return at
			}
		}
	}
	return never
}

// cut is one image and what must be found in it.
type cut struct {
	run     *run
	at      int // so many moments had passed
	how     string
	outcome outcome
	image   image  // once it is kept
	sum     uint64 // of it
	promise *promise
	said    []string
	look    bool // inspect it before it is opened
}

// keep makes the image, as long as the disk is as it was.
func (c *cut) keep() {
	if c.image == nil {
		c.image = c.outcome.image()
	}
	c.outcome = nil
}

func (c *cut) String() string {
	return fmt.Sprintf("%s, cut after moment %d, %s on the disk", c.run.name, c.at, c.how)
}

// cuts gives the images of one round, moment by moment, as long as more. Round 0
// has those that can be told in words; each later round draws one for each moment.
func (r *run) cuts(round int, share float64, take func(*cut) (more bool)) error {
	chance := rand.New(rand.NewPCG(r.seed, uint64(round)))
	d := newReplay(r.root, r.base)
	if r.verdict != nil {
		d.verdict = r.verdict
	}
	for at := 0; at <= len(r.moments); at++ {
		if at > 0 {
			m := r.moments[at-1]
			if err := d.step(m); err != nil {
				return err
			}
			if !d.changedBy(m) {
				continue
			}
		}
		skip := chance.Float64() > share
		doubts := d.doubts()
		if skip || round > 0 && len(doubts) == 0 {
			continue
		}
		for _, w := range ways(doubts, round, chance) {
			o := d.outcome(w.grain, w.choose)
			c := &cut{run: r, at: at, how: w.how, outcome: o, sum: o.sum(), promise: r.promises[len(d.said)], said: d.said}
			if !take(c) {
				return nil
			}
		}
	}
	return nil
}

// way is one way in which the disk may be left.
type way struct {
	how    string
	grain  int64 // sectors that the disk writes as one
	choose chooser
}

func ways(doubts []*kcall, round int, chance *rand.Rand) []way {
	if round > 0 {
		seed := chance.Uint64()
		grain := []int64{1, 4096 / sectorBytes}[seed%2]
		how := fmt.Sprintf("round %d: %d bytes by %d bytes drawn by chance", round, grain*sectorBytes, grain*sectorBytes)
		return []way{{how, grain, byChance(rand.New(rand.NewPCG(seed, 0)))}}
	}
	set := func(calls ...*kcall) chooser {
		took := map[*kcall]bool{}
		for _, c := range calls {
			took[c] = true
		}
		return these(took)
	}
	list := []way{{"all that was certain", 1, set()}}
	for i, c := range doubts {
		list = append(list, way{fmt.Sprintf("all up to call %d (%s)", c.start, c.name), 1, set(doubts[:i+1]...)})
		if i > 0 {
			list = append(list, way{fmt.Sprintf("only call %d (%s)", c.start, c.name), 1, set(c)})
		}
		if i < len(doubts)-1 {
			list = append(list, way{fmt.Sprintf("all but call %d (%s)", c.start, c.name), 1, set(slices.Delete(slices.Clone(doubts), i, i+1)...)})
		}
	}
	return list
}

// again is the life of the next child, on what this cut left.
func (c *cut) again(t *testing.T, depth int, seed uint64, dir string) *run {
	t.Helper()
	before := slices.Concat(c.run.before, c.said, []string{processEnded})
	name := fmt.Sprintf("%s; cut number %d", c, depth)
	return recordRun(t, name, "few", dir, seed, c.image, before)
}
