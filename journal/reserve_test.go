package journal

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// moving makes the scene's file system one that moves blocks, with so much free.
func (s *scene) moving(free *int64, notices chan Notice) {
	s.t.Helper()
	s.j.moves, s.j.notice = true, func(n Notice) { notices <- n }
	s.j.free = func(string) (int64, error) { return *free, nil }
	s.must(s.j.makeBallast())
}

// L14: where overwriting needs new blocks, sales are refused while there still is free
// space, and the ballast is given up for the steps that settle, not for a sale.
func TestL14TheBallastIsForWhatSettles(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	free, notices := int64(100<<20), make(chan Notice, 8)
	s.moving(&free, notices)
	there := func() bool { _, err := os.Stat(s.path(ballastName)); return err == nil }
	id := s.begin()
	if !there() {
		t.Fatal("there is no ballast")
	}
	free = freeFloor - 1
	_, err := s.j.Begin(plainDraft())
	wantErr(t, "Begin below the floor", err, ErrFull)
	s.must(s.j.Owe(id, "no answer", silence)) // there is room for this
	if !there() {
		t.Error("the ballast went while there was room")
	}
	free = ballast - 1
	wantErr(t, "Begin with next to nothing left", second(s.j.Begin(plainDraft())), ErrFull)
	if !there() {
		t.Error("the ballast went for a sale")
	}
	s.must(attempt(s.j, id, 1))
	if there() {
		t.Error("the ballast stayed when a reversal needed room")
	}
	within(t, 3*time.Second, "the notice", func() {
		if n := <-notices; n.Kind != NoticeBallast || !strings.Contains(n.Text, "still settled") {
			t.Errorf("%+v", n)
		}
	})
	s.must(s.j.Confirm(id, "00"))
	free = 100 << 20 // somebody made room
	s.must(second(s.j.Begin(plainDraft())))
	s.must(s.j.makeBallast()) // as the next open does
	if !there() {
		t.Error("the ballast did not come back")
	}
}

// A ballast is no reason for a full disk.
func TestL14NoBallastOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	free, notices := int64(freeFloor+ballast-1), make(chan Notice, 8)
	s.moving(&free, notices)
	if _, err := os.Stat(s.path(ballastName)); err == nil {
		t.Error("it was made all the same")
	}
}

// L14: a disk that fills up is told once, and names what to do.
func TestL14AFillingDiskIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var heard []Notice
	s.j.notice = func(n Notice) { heard = append(heard, n) }
	for _, percent := range []int{79, 80, 95, 50, 99} {
		s.j.used = func(string) (int, error) { return percent, nil }
		s.j.watchDisk()
	}
	s.j.used = func(string) (int, error) { return 0, errDisk }
	s.j.watchDisk()
	if len(heard) != 1 || heard[0].Kind != NoticeDisk || !strings.Contains(heard[0].Text, "80 %") || !strings.Contains(heard[0].Text, "make room") {
		t.Errorf("%+v", heard)
	}
}

const smallJournalVar = "UNCHARGE_TEST_SMALL_JOURNAL"

// L14 on a real disk of 4 MB that is filled to the last byte, in a process with mounts
// of its own: sales are refused before they are recorded, all that is armed is settled,
// and everything is there afterwards.
func TestL14AJournalOnASmallDisk(t *testing.T) {
	onDiskOfItsOwn(t, smallJournalVar, "size=4m", onAFullDisk)
}

// ownMounts gives a process mounts that nobody else sees.
func ownMounts() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
}

func onAFullDisk(t *testing.T, dir string) {
	s := newSceneIn(t, dir+"/journal")
	var armed []ID
	for range 5 {
		armed = append(armed, s.begin())
	}
	fill(t, dir)
	begun := 0
	var err error
	for ; err == nil && begun < 100_000; begun++ {
		var id ID
		if id, err = s.j.Begin(plainDraft()); err == nil {
			s.must(s.j.Complete(id, approved))
		}
	}
	wantErr(t, "Begin on a full disk", err, ErrFull)
	wantErr(t, "Failed", s.j.Failed(), nil)
	entries := len(collect(t, s.j, Query{}))
	for _, id := range armed {
		s.must(s.j.Owe(id, "no answer", silence))
		for n := range 200 {
			s.must(attempt(s.j, id, n+1))
		}
		s.must(s.j.Confirm(id, "00"))
	}
	s.must(s.j.flush())
	s.reopen()
	if got := len(collect(t, s.j, Query{})); got != entries || entries != begun-1+len(armed) {
		t.Errorf("%d entries, %d before, %d begun", got, entries, begun-1+len(armed))
	}
	for _, id := range armed {
		if e := s.entry(id); e.Status != Reversed || e.Attempts != 200 {
			t.Errorf("entry %d is %s after %d attempts", id, e.Status, e.Attempts)
		}
	}
	s.close()
	checkJournal(t, s.opts.Dir)
}

// fill takes all that is left of a disk.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(dir + "/full")
	if err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}
