package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

var errDisk = errors.New("input/output error")

// failing is a file on a disk that fails.
type failing struct {
	dataFile
	written bool // the bytes reach the disk all the same
}

func (f failing) WriteAt(b []byte, at int64) (int, error) {
	if f.written {
		return f.dataFile.WriteAt(b, at)
	}
	return 0, errDisk
}

func (f failing) Datasync() error { return errors.Join(errDisk, f.dataFile.Datasync()) }

// The two ways in which a write can fail, as far as the caller can know.
var failures = map[string]bool{ // whether the step is on the disk all the same
	"nothing was written": false,
	"all was written":     true,
}

// L13: after a write or sync that failed the journal takes no further step, reads
// still work, and after Recover, or in the next process, the step happened whole or
// not at all, and the journal works again.
func TestL13AFailedWritePoisons(t *testing.T) {
	t.Parallel()
	for how, happened := range failures {
		for _, st := range append([]step{{name: "Begin", kind: StepBegin}}, steps...) {
			for _, recover := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, recover %v", st.name, how, recover), func(t *testing.T) {
					s := newScene(t)
					id, bystander := s.begin(), s.entryAt(Owed)
					if st.from != nil {
						s.takeTo(id, st.from[0])
					}
					draft, before := s.draft(lane2), s.entry(id)
					file := s.j.wal.file
					s.j.wal.file = failing{file, happened}

					err := takeOrBegin(s.j, st, id, draft)

					wantErr(t, st.name, err, ErrPoisoned)
					wantErr(t, st.name+": its cause", err, errDisk)
					s.j.wal.file = file // the disk is well again: too late
					wantRefusesWork(t, s, id, bystander)
					wantReads(t, s, id, bystander)
					if recover {
						s.must(s.j.Recover())
					} else {
						s.reopen()
					}
					wantErr(t, "Failed", s.j.Failed(), nil)
					wantWholeOrNot(t, s, st, before, happened)
					s.must(second(s.j.Attempt(bystander))) // and it works again
					s.begin()
					s.reopen()
					wantWholeOrNot(t, s, st, before, happened)
					if _, err := os.Stat(s.path(poisonName)); err == nil {
						t.Error("the mark of the failed write is still there")
					}
				})
			}
		}
	}
}

func takeOrBegin(j *Journal, st step, id ID, d Draft) error {
	if st.kind == StepBegin {
		return second(j.Begin(d))
	}
	return st.take(j, id)
}

func wantRefusesWork(t *testing.T, s *scene, on ...ID) {
	t.Helper()
	wantErr(t, "Failed", s.j.Failed(), ErrPoisoned)
	wantErr(t, "NextSTAN", second(s.j.NextSTAN(lane1)), ErrPoisoned)
	id, err := s.j.Begin(plainDraft())
	wantErr(t, "Begin", err, ErrPoisoned)
	if id != 0 {
		t.Errorf("Begin was refused, yet gave id %d", id)
	}
	for _, id := range on {
		for _, st := range steps {
			wantErr(t, "later "+st.name, st.take(s.j, id), ErrPoisoned)
		}
	}
}

func wantReads(t *testing.T, s *scene, id, owed ID) {
	t.Helper()
	s.entry(id)
	list, err := s.j.Owed()
	if !slices.Contains(ids(list), owed) || err != nil {
		t.Errorf("owed: %v %v", ids(list), err)
	}
	if got := collect(t, s.j, Query{}); !slices.Contains(got, id) || !slices.Contains(got, owed) {
		t.Errorf("entries: %v", got)
	}
	wantErr(t, "Image", second(s.j.Image(owed)), nil)
	wantErr(t, "Armed", second(s.j.Armed()), nil)
	wantErr(t, "Parked", second(s.j.Parked()), nil)
}

func wantWholeOrNot(t *testing.T, s *scene, st step, before Entry, happened bool) {
	t.Helper()
	after := s.entry(before.ID)
	_, inLane2 := numberOf(t, s, lane2)
	switch {
	case st.kind == StepBegin && happened != inLane2:
		t.Errorf("its entry is there: %v, but the step happened: %v", inLane2, happened)
	case st.kind == StepBegin:
	case !happened:
		same(t, "the step did not happen", after, before)
	case len(after.Steps) != len(before.Steps)+1 || after.Steps[len(before.Steps)].Kind != st.kind || st.to != 0 && after.Status != st.to:
		t.Errorf("the step did not happen whole: %+v", after)
	}
}

func numberOf(t *testing.T, s *scene, lane Lane) (id ID, found bool) {
	t.Helper()
	for e, err := range s.j.Entries(Query{Lane: lane}) {
		s.must(err)
		id, found = e.ID, true
	}
	return id, found
}

func TestAJournalThatWorksHasNotFailed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	wantErr(t, "Refuse", s.j.Refuse(id, "96"), ErrMove)
	wantErr(t, "Begin", second(s.j.Begin(Draft{})), ErrInvalid)
	wantErr(t, "Failed after refused steps", s.j.Failed(), nil)
	s.begin()
}

// A checkpoint may fail, and bbolt may panic in it on a page that cannot be read.
// That is a failed write like any other: nothing may hang after it, and nothing is
// lost.
func TestL13ACheckpointThatFailsPoisonsAndCloseReturns(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]func(*bolt.Tx) error{
		"panic":    func(*bolt.Tx) error { panic("page 7: invalid page type") },
		"refused":  func(tx *bolt.Tx) error { return errors.Join(errDisk, tx.Rollback()) },
		"too late": func(tx *bolt.Tx) error { return errors.Join(tx.Commit(), errDisk) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSceneIn(t, t.TempDir())
			id := s.begin()
			s.j.commit = commit
			for _, call := range []struct {
				name string
				do   func()
			}{
				{"the checkpoint", func() { wantErr(t, "flush", s.j.flush(), ErrPoisoned) }},
				{"the next step", func() { wantErr(t, "Owe", s.j.Owe(id, "no answer", silence), ErrPoisoned) }},
				{"Close", func() { _ = s.j.Close() }},
			} {
				if !within(t, 3*time.Second, call.name, call.do) {
					return
				}
			}
			s.open()
			if e := s.entry(id); e.Status != Begun {
				t.Errorf("it is %s", e.Status)
			}
			s.must(s.j.Owe(id, "no answer", silence))
			s.reopen()
			if e := s.entry(id); e.Status != Owed {
				t.Errorf("it is %s", e.Status)
			}
			s.close()
			checkJournal(t, s.opts.Dir)
		})
	}
}

// L13: the file loses its tail under an open journal (to the program a page that
// cannot be read, as flash gives). Every call returns, with an error where the
// facts are gone and with nothing wrong where they are not.
func TestL13APageThatCannotBeReadHangsNothing(t *testing.T) {
	t.Parallel()
	for _, keep := range []int64{0, 4096, 8192, 12288, 16384, 20480, 24576} {
		t.Run(fmt.Sprint(keep, " bytes left"), func(t *testing.T) {
			s := newSceneIn(t, t.TempDir())
			for range 30 {
				s.entryAt(Owed)
			}
			s.must(s.j.flush())
			s.must(os.Truncate(s.path(storeName), keep))
			for _, call := range []struct {
				name string
				do   func()
			}{
				{"Owed", func() {
					if list, err := s.j.Owed(); err == nil && len(list) != 30 {
						t.Errorf("%d owed of 30, and no error", len(list))
					}
				}},
				{"Attempt", func() { _, _ = s.j.Attempt(3) }},
				{"Begin", func() { _, _ = s.j.Begin(plainDraft()) }},
				{"Attempt again", func() { _, _ = s.j.Attempt(3) }},
				{"Close", func() { _ = s.j.Close() }},
			} {
				if !within(t, 3*time.Second, call.name, call.do) {
					return // what hangs is left behind
				}
			}
		})
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	s.close()
	wantErr(t, "Begin", second(s.j.Begin(plainDraft())), ErrClosed)
	wantErr(t, "NextSTAN", second(s.j.NextSTAN(lane1)), ErrClosed)
	for _, st := range steps {
		wantErr(t, st.name, st.take(s.j, id), ErrClosed)
	}
	wantErr(t, "Entry", second(s.j.Entry(id)), ErrClosed)
	wantErr(t, "Image", second(s.j.Image(id)), ErrClosed)
	wantErr(t, "Armed", second(s.j.Armed()), ErrClosed)
	wantErr(t, "Owed", second(s.j.Owed()), ErrClosed)
	wantErr(t, "Parked", second(s.j.Parked()), ErrClosed)
	for _, err := range s.j.Entries(Query{}) {
		wantErr(t, "Entries", err, ErrClosed)
	}
	wantErr(t, "Close again", s.j.Close(), nil)
}
