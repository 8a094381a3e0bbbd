package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const shortWait = 200 * time.Millisecond

// wantBusy fails unless do waited about shortWait and then said which lock it
// waited for, and who holds it.
func wantBusy(t *testing.T, what, lock string, holder int, do func() error) {
	t.Helper()
	start := time.Now()
	err := do()
	waited := time.Since(start)
	wantErr(t, what, err, ErrBusy)
	var busy *LockError
	if !errors.As(err, &busy) {
		t.Fatalf("%s: %v is no *LockError", what, err)
	}
	pid := strconv.Itoa(holder)
	if busy.Path != lock || busy.Holder != pid || busy.Waited < shortWait || busy.Waited > 5*shortWait {
		t.Errorf("%s: %+v; want path %s, holder %s", what, *busy, lock, pid)
	}
	if !strings.Contains(err.Error(), lock) || !strings.Contains(err.Error(), pid) {
		t.Errorf("%s: the error names neither lock nor holder: %v", what, err)
	}
	if waited < shortWait/2 || waited > 5*shortWait {
		t.Errorf("%s: returned after %v, asked for %v", what, waited, shortWait)
	}
}

func openShort(dir string) func() error {
	return func() error {
		j, err := Open(Options{Dir: dir, DeviceKey: deviceKey, FirstSTAN: 1, LockWait: shortWait})
		if err == nil {
			_ = j.Close()
		}
		return err
	}
}

func inspectShort(dir string) func() error {
	return func() error {
		snap, err := Inspect(dir, shortWait)
		if err == nil {
			_ = snap.Close()
		}
		return err
	}
}

func TestLockInOneProcess(t *testing.T) {
	s := newScene(t)
	id := s.begin()
	wantBusy(t, "Open", s.path(lockName), os.Getpid(), openShort(s.opts.Dir))
	wantErr(t, "Inspect, which takes no lock", inspectShort(s.opts.Dir)(), nil) // L15
	s.must(s.j.Owe(id, "no answer", silence))                                   // the holder is not disturbed
}

func TestLockAcrossProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	holder := startChild(t, "hold", dir, 0)
	holder.wantLine("held")
	wantBusy(t, "Open", filepath.Join(dir, lockName), holder.cmd.Process.Pid, openShort(dir))
	wantErr(t, "Inspect, which takes no lock", inspectShort(dir)(), nil) // L15

	// One that waits longer gets it as soon as the holder lets go.
	got := make(chan error)
	go func() {
		j, err := Open(Options{Dir: dir, LockWait: 20 * time.Second})
		if err == nil {
			err = j.Close()
		}
		got <- err
	}()
	_ = holder.in.Close()
	wantErr(t, "Open that waits", <-got, nil)
	holder.rest()
}

// The lock dies with its holder, however it dies; the file left behind is none.
func TestLockOfAKilledProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	holder := startChild(t, "hold", dir, 0)
	holder.wantLine("held")
	_ = holder.cmd.Process.Kill()
	holder.rest()
	wantErr(t, "Open", openShort(dir)(), nil)
	wantErr(t, "Inspect", inspectShort(dir)(), nil)
}

// What a lock file holds is for people: no content of it hurts.
func TestLockFileWithAnyContent(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "not a number", "-1", strings.Repeat("9", 10_000), "\x00\x00"} {
		s := newScene(t)
		s.must(os.WriteFile(s.path(lockName), []byte(content), 0o600))
		var busy *LockError
		if err := openShort(s.opts.Dir)(); !errors.As(err, &busy) || len(busy.Holder) > 20 {
			t.Errorf("lock file with %.20q: %v", content, err)
		}
		s.reopen()
	}
}

// L15: a looker holds up nobody, however long it looks.
func TestL15ALookerHoldsUpNobody(t *testing.T) {
	s := newScene(t)
	id := s.begin()
	s.close()
	snap, err := Inspect(s.opts.Dir, shortWait)
	s.must(err)
	s.opts.LockWait = time.Millisecond
	s.open()
	s.must(s.j.Owe(id, "no answer", silence))
	if e, err := snap.Entry(id); e.Status != Begun || err != nil { // it goes on seeing its moment
		t.Errorf("%s %v", e.Status, err)
	}
	s.must(snap.Close())
}

// An Open that failed, for whatever reason, holds nothing.
func TestAFailedOpenLeavesNoLock(t *testing.T) {
	s := newScene(t)
	s.close()
	wantErr(t, "Open with a short key", second(Open(Options{Dir: s.opts.Dir, DeviceKey: []byte("short")})), ErrKey)
	s.open()
}

// Two processes make the same journal at once: both work in one journal.
func TestTwoProcessesCreateAtOnce(t *testing.T) {
	t.Parallel()
	for range 4 {
		dir := filepath.Join(t.TempDir(), "a", "b", "journal")
		both := []*child{startChild(t, "create", dir, 0), startChild(t, "create", dir, 0)}
		for _, c := range both {
			c.wantLine("ready")
		}
		for _, c := range both {
			_ = c.in.Close()
		}
		begun := map[string]bool{}
		for _, c := range both {
			lines := c.rest()
			if len(lines) != 5 {
				t.Errorf("one process said %q; %s", lines, c.errs.String())
			}
			for _, l := range lines {
				begun[l] = true
			}
		}
		s := newSceneIn(t, dir)
		if got := collect(t, s.j, Query{}); len(begun) != 10 || len(got) != 10 {
			t.Errorf("%d ids were given out, %v are there; want 10", len(begun), got)
		}
		for _, id := range collect(t, s.j, Query{}) { // one journal id seals them all
			if image, err := s.j.Image(id); string(image) != "an image" {
				t.Errorf("image of %d: %q %v", id, image, err)
			}
		}
		s.close()
		checkJournal(t, dir)
	}
}
