package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// L15: looking writes nothing, whatever is looked at.
func TestL15InspectNeverWrites(t *testing.T) {
	t.Parallel()
	whole := newSceneIn(t, t.TempDir())
	for range 5 {
		for _, status := range Statuses() {
			whole.entryAt(status)
		}
	}
	whole.must(whole.j.flush())
	whole.close()
	store := fileBytes(t, whole.path(storeName))
	killed := filepath.Join(t.TempDir(), "journal")
	c := startChild(t, "steps", killed, 1)
	for range 40 {
		c.line()
	}
	_ = c.cmd.Process.Kill()
	c.rest()

	for name, dir := range map[string]string{
		"closed properly": whole.opts.Dir, "killed": killed, "no lock file": copyJournal(t, whole.opts.Dir, nil),
		"cut": writeStore(t, store[:len(store)/2]), "empty file": writeStore(t, nil), "text": writeStore(t, []byte("dear diary")),
	} {
		t.Run(name, func(t *testing.T) {
			before := fileFacts(t, dir)
			snap, err := Inspect(dir, shortWait)
			if err == nil {
				readAll(snap)
				err = snap.Close()
			}
			if after := fileFacts(t, dir); after != before {
				t.Errorf("looking (%v) changed the directory:\nwas\n%snow\n%s", err, before, after)
			}
			if name == "closed properly" || name == "killed" || name == "no lock file" {
				wantErr(t, "Inspect", err, nil)
			}
		})
	}
}

func readAll(snap *Snapshot) {
	for _, newest := range []bool{false, true} {
		for e, err := range snap.Entries(Query{Newest: newest}) {
			if err == nil {
				_, _ = snap.Entry(e.ID)
			}
		}
	}
	_, _ = snap.Armed()
	_, _ = snap.Owed()
	_, _ = snap.Parked()
}

// L15: where there is no journal, looking says so and makes none.
func TestL15InspectMakesNoJournal(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	wantErr(t, "an empty directory", second(Inspect(empty, shortWait)), ErrNone)
	wantErr(t, "a missing directory", second(Inspect(filepath.Join(empty, "missing"), shortWait)), ErrNone)
	if left := fileFacts(t, empty); left != "" {
		t.Errorf("it made:\n%s", left)
	}
}

// A snapshot reads what the journal reads, without the device key.
func TestInspectReadsTheSame(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, status := range []Status{Begun, Completed, Declined, NotSent, Owed, Reversed, Parked} {
		s.entryAt(status)
	}
	var want []string
	for e, err := range s.j.Entries(Query{}) {
		s.must(err)
		want = append(want, asJSON(e))
	}
	s.close()
	snap, err := Inspect(s.opts.Dir, shortWait)
	s.must(err)
	wantAllOrError(t, "Inspect", snap.Entries(Query{}), want)
	for _, err := range snap.Entries(Query{}) {
		wantErr(t, "Entries", err, nil)
	}
	wantErr(t, "an unknown entry", second(snap.Entry(99)), ErrNoEntry)
	s.must(snap.Close())
	wantErr(t, "closed", second(snap.Owed()), ErrClosed)
	wantErr(t, "Close again", snap.Close(), nil)
	s.open()
}

// A journal on a medium that cannot be written can still be looked at.
func TestL15InspectOfAReadOnlyCopy(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	s.close()
	s.must(os.Chmod(s.path(storeName), 0o400))
	snap, err := Inspect(s.opts.Dir, shortWait)
	s.must(err)
	owed, err := snap.Owed()
	if err != nil || len(owed) != 1 || owed[0].ID != id {
		t.Errorf("owed %+v %v", owed, err)
	}
	s.must(snap.Close())
	s.must(os.Chmod(s.path(storeName), 0o600))
	s.open()
}

// movingFile is a store that somebody commits to while it is copied.
type movingFile struct {
	*os.File
	reads  int
	commit func()
}

func (f *movingFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	if at == 0 && len(b) > 4096 { // the copy's first piece, with the meta pages, was read
		f.commit()
		f.reads++
	}
	return n, err
}

// L15: a copy during which the writer committed is no moment of the store: it is not
// believed, and taken again.
func TestL15ACopyDuringACommitIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for range 40 {
		s.entryAt(Owed)
	}
	s.must(s.j.flush())
	f, err := os.Open(s.path(storeName))
	s.must(err)
	defer func() { _ = f.Close() }()
	for _, commits := range []int{0, 1, 2} {
		m := &movingFile{File: f, commit: func() {
			for range commits {
				s.begin()
				s.must(s.j.flush())
			}
		}}
		snap := &Snapshot{}
		_, err := snap.copyStore(m, s.path(storeName))
		if m.reads != 1 {
			t.Fatalf("scene: %d pieces with the meta pages", m.reads)
		}
		if moved := errors.Is(err, errMoved); moved != (commits > 0) || !moved && err != nil {
			t.Errorf("%d commits meanwhile: %v", commits, err)
		}
		s.must(snap.Close())
	}
}
