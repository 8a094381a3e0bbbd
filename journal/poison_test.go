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

// The two ways in which a commit can fail, as far as the caller can know.
var failures = map[string]struct {
	commit   func(*bolt.Tx) error
	happened bool // the step is on the disk all the same
}{
	"nothing was written": {func(tx *bolt.Tx) error { return errors.Join(errDisk, tx.Rollback()) }, false},
	"all was written":     {func(tx *bolt.Tx) error { return errors.Join(tx.Commit(), errDisk) }, true},
}

// L13: after a commit that failed the journal takes no further step, reads still
// work, and after opening it again the step happened whole or not at all.
func TestL13AFailedCommitPoisons(t *testing.T) {
	t.Parallel()
	for how, failure := range failures {
		for _, st := range append([]step{{name: "Begin", kind: StepBegin}}, steps...) {
			t.Run(st.name+", "+how, func(t *testing.T) {
				s := newScene(t)
				id, bystander := s.begin(), s.entryAt(Owed)
				if st.from != nil {
					s.takeTo(id, st.from[0])
				}
				draft, before := s.draft(lane2), s.entry(id)
				s.j.commit = failure.commit

				err := takeOrBegin(s.j, st, id, draft)

				wantErr(t, st.name, err, ErrPoisoned)
				wantErr(t, st.name+": its cause", err, errDisk)
				s.j.commit = func(tx *bolt.Tx) error { return tx.Commit() } // the disk is well again: too late
				wantRefusesWork(t, s, id, bystander)
				wantReads(t, s, id, bystander)
				s.reopen()
				wantWholeOrNot(t, s, st, before, failure.happened)
				s.must(second(s.j.Attempt(bystander))) // and it works again
			})
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
	entries := len(collect(t, s.j, Query{}))
	after := s.entry(before.ID)
	switch {
	case st.kind == StepBegin && happened != (entries == 3):
		t.Errorf("%d entries, but the step happened: %v", entries, happened)
	case st.kind == StepBegin:
	case !happened:
		same(t, "the step did not happen", after, before)
	case len(after.Steps) != len(before.Steps)+1 || after.Steps[len(before.Steps)].Kind != st.kind || st.to != 0 && after.Status != st.to:
		t.Errorf("the step did not happen whole: %+v", after)
	}
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

// A commit may also panic on a page that cannot be read. That is a failed write
// like any other, and nothing may hang after it.
func TestL13ACommitThatPanicsPoisonsAndCloseReturns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSceneIn(t, dir)
	id := s.begin()
	s.j.commit = func(*bolt.Tx) error { panic("page 7: invalid page type") }
	if !within(t, 3*time.Second, "the step", func() { wantErr(t, "Owe", s.j.Owe(id, "no answer", silence), ErrPoisoned) }) {
		return
	}
	if !within(t, 3*time.Second, "the next step", func() { wantErr(t, "Owe", s.j.Owe(id, "no answer", silence), ErrPoisoned) }) {
		return
	}
	if !within(t, 3*time.Second, "Close", func() { _ = s.j.Close() }) {
		return
	}
	s.open()
	if e := s.entry(id); e.Status != Begun {
		t.Errorf("it is %s", e.Status)
	}
	s.close()
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
