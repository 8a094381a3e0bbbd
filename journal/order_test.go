package journal

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The order in which things reach the disk, as the kernel saw it (strace).

// roleLife takes each step once and says so after it has returned.
func roleLife(o Options, _ uint64) error {
	j, err := Open(o)
	if err != nil {
		return err
	}
	say("opened")
	for _, path := range [][]StepKind{
		{StepComplete}, {StepDecline}, {StepNotSent},
		{StepOwe, StepAttempt, StepRefuse, StepLate, StepPark, StepOwe, StepAttempt, StepConfirm},
	} {
		id, err := j.Begin(plainDraft())
		if err != nil {
			return err
		}
		say("did begin")
		for _, kind := range path {
			at := slices.IndexFunc(steps, func(st step) bool { return st.kind == kind })
			if err := steps[at].take(j, id); err != nil {
				return err
			}
			say("did %s", kind)
		}
	}
	return j.Close()
}

// event is one finished system call on a file.
type event struct{ call, path, text string }

var (
	callLine    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	resumedLine = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	fdPath      = regexp.MustCompile(`^\d+<([^>]*)>`)
)

// traced runs the "life" role under strace and gives what it did, in the order
// in which the calls returned.
func traced(t *testing.T, dir string) (events []event) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: no strace here, the order of writes and syncs is not checked")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	c := startChild(t, "life", dir, 0, strace, "-f", "-y", "-s", "100", "-o", trace,
		"-e", "trace=pwrite64,write,fdatasync,fsync,rename,renameat,renameat2")
	if said := c.rest(); len(said) == 0 {
		t.Skipf("SKIPPED: strace does not work here: %s", c.errs.String())
	}
	pending := map[string]string{}
	for line := range strings.Lines(string(fileBytes(t, trace))) {
		line = strings.TrimSpace(line)
		if m := callLine.FindStringSubmatch(line); m != nil {
			if args, cut := strings.CutSuffix(m[3], "<unfinished ...>"); cut {
				pending[m[1]] = args
				continue
			}
			events = append(events, newEvent(m[2], m[3]))
		} else if m := resumedLine.FindStringSubmatch(line); m != nil {
			events = append(events, newEvent(m[2], pending[m[1]]+m[3]))
		}
	}
	return events
}

func newEvent(call, args string) event {
	e := event{call: call, text: args}
	if m := fdPath.FindStringSubmatch(args); m != nil {
		e.path = m[1]
	}
	return e
}

func (e event) synced(path string) bool {
	return (e.call == "fdatasync" || e.call == "fsync") && e.path == path && strings.HasSuffix(e.text, "= 0")
}

// L1, L3, L6: before a step returns, all that it wrote has been synced.
func TestL1L3L6SyncedBeforeItReturns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	file := filepath.Join(dir, walName(1))
	wrote, unsynced, said := 0, 0, 0
	for _, e := range traced(t, dir) {
		switch {
		case strings.HasPrefix(e.call, "pwrite") && e.path == file:
			wrote, unsynced = wrote+1, unsynced+1
		case e.synced(file):
			unsynced = 0
		case e.call == "write" && strings.Contains(e.text, `"did `):
			if said++; wrote == 0 || unsynced > 0 {
				t.Errorf("step %d returned (%s) after %d writes, %d of them not synced", said, e.text, wrote, unsynced)
			}
			wrote = 0
		}
	}
	if said != 15 {
		t.Errorf("%d steps were seen, want 15", said)
	}
}

// L1: the first file is whole before it gets its name, and the name is on the
// disk before the first step.
func TestL1FirstCreationInOrder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	file := filepath.Join(dir, walName(1))
	var order []string
	for _, e := range traced(t, dir) {
		switch {
		case e.synced(filepath.Join(dir, newName)):
			order = append(order, "sync new")
		case strings.HasPrefix(e.call, "pwrite") && strings.HasSuffix(e.path, newName):
			order = append(order, "write new")
		case strings.HasPrefix(e.call, "rename") && strings.Contains(e.text, storeName):
			order = append(order, "rename")
		case strings.HasPrefix(e.call, "pwrite") && e.path == file:
			order = append(order, "write wal")
		case e.synced(file):
			order = append(order, "sync wal")
		case e.synced(dir):
			order = append(order, "sync directory")
		case e.synced(filepath.Dir(dir)):
			order = append(order, "sync parent")
		case strings.Contains(e.text, `"opened`):
			order = append(order, "opened")
		}
	}
	order = slices.Compact(order)
	made := []string{"write wal", "sync wal", "write new"} // the write-ahead file first: the store names it
	if at := slices.Index(order, "write wal"); at < 0 || at+3 > len(order) || !slices.Equal(order[at:at+3], made) {
		t.Errorf("order %q, want %q in it", order, made)
	}
	end := []string{"write new", "sync new", "sync directory", "rename", "sync directory", "opened"}
	order = slices.DeleteFunc(order, func(what string) bool { return strings.HasSuffix(what, " wal") })
	order = slices.Compact(order)
	if at := slices.Index(order, "opened"); at < 6 || !slices.Equal(order[at-5:at+1], end) {
		t.Errorf("order %q, want it to end in %q", order, end)
	}
	if !slices.Contains(order, "sync parent") {
		t.Errorf("the directory's own name was never synced: %q", order)
	}
}

// L1, L8: a process that was killed between the rename and the sync of the
// directory leaves a name that a power cut can still take away, and the next
// creation removes journal.db.new, where the entries then are. So whoever opens
// an existing journal syncs the directory before its first step.
func TestL1L8ReopeningMakesTheNameDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSceneIn(t, dir)
	s.close()
	var order []string
	for _, e := range traced(t, dir) {
		if e.synced(dir) {
			order = append(order, "sync directory")
		} else if strings.Contains(e.text, `"did begin`) {
			order = append(order, "begin")
		}
	}
	if len(order) == 0 || order[0] != "sync directory" {
		t.Errorf("order %q, want the directory synced first", order)
	}
}

// The trace reader itself: it must not take a failed or a foreign sync for ours.
func TestTraceReader(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`fdatasync 5</d/journal.db>) = 0`:                           true,
		`fdatasync 5</d/journal.db>)            = 0`:                true,
		`fdatasync 5</d/journal.db>) = -1 EIO (Input/output error)`: false,
		`fdatasync 5</d/journal.db.new>) = 0`:                       false,
		`pwrite64 5</d/journal.db>, "x", 1, 0) = 0`:                 false,
	} {
		call, args, _ := strings.Cut(line, " ")
		if got := newEvent(call, args).synced("/d/journal.db"); got != want {
			t.Errorf("%s: synced %v", line, got)
		}
	}
}
