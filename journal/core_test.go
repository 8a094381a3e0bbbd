package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// blockingCommit commits the store's transaction and then stays inside the commit
// until it is let go: what bbolt does between pwrite(meta) and the end of its
// fdatasync(meta).
type blockingCommit struct {
	before  []byte // the store as it was durable before
	path    string
	written chan struct{}
	letGo   chan struct{}
}

func newBlockingCommit(path string) *blockingCommit {
	return &blockingCommit{path: path, written: make(chan struct{}), letGo: make(chan struct{})}
}

func (b *blockingCommit) commit(tx *bolt.Tx) error {
	b.before, _ = os.ReadFile(b.path)
	err := tx.Commit()
	close(b.written)
	<-b.letGo
	return err
}

// fillRegion takes sales to their end until the region switches and the checkpoint
// stands in its commit; a step goes into the other region behind that.
func fillRegion(s *scene, b *blockingCommit) ID {
	for !s.j.isApplying() {
		s.entryAt(Completed)
	}
	<-b.written
	return s.begin()
}

func (j *Journal) isApplying() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.applying
}

// L8: a leftover that cannot be removed does not keep Compact from its end, and what is
// acknowledged after it is there afterwards. (Every call that may fail in Compact fails
// in TestL13TheDiskFailsAtEveryCall.)
func TestL8CompactBesideALeftoverThatStays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.entryAt(Completed)
	s.must(os.MkdirAll(s.path("journal.wal.saved/x"), 0o700))
	s.must(s.j.Compact())
	id := s.entryAt(Owed)
	s.reopen()
	if e := s.entry(id); e.Status != Owed {
		t.Errorf("it is %s", e.Status)
	}
}

// Close while Recover waits for the checkpoint: Recover does nothing any more, because
// the directory's lock is given back.
func TestL13CloseBesideRecover(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	b := newBlockingCommit(s.path(storeName))
	s.entryAt(Owed)
	s.j.commit = b.commit
	flushed := make(chan error)
	go func() { flushed <- s.j.flush() }()
	<-b.written
	file := s.j.wal.file
	s.j.wal.file = failing{file, false}
	wantErr(t, "Begin", second(s.j.Begin(plainDraft())), ErrPoisoned)
	s.j.wal.file = file
	recovered, closed := make(chan error, 1), make(chan error, 1)
	go func() { recovered <- s.j.Recover() }()
	for !waitsInRecover() { // for the checkpoint
		runtime.Gosched()
	}
	go func() { closed <- s.j.Close() }()
	for !s.j.isClosed() {
		runtime.Gosched()
	}
	s.j.background.Add(1) // the checkpoint's goroutine takes its time to end, in a Notice
	close(b.letGo)
	wantErr(t, "Recover, which could begin only then", <-recovered, ErrClosed)
	s.j.background.Done()
	s.must(<-closed)
	if err := <-flushed; err == nil {
		t.Error("the checkpoint of a stopped journal said that all is well")
	}
	s.open()
	s.begin()
	s.close()
	checkJournal(t, s.opts.Dir)
}

// waitsInRecover reports whether some goroutine sleeps in Recover.
func waitsInRecover() bool {
	b := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "sync.(*Cond).Wait") && strings.Contains(g, "(*Journal).Recover(") {
			return true
		}
	}
	return false
}

func (j *Journal) isClosed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// Verify between the store's commit and tail.trim.
func TestVerifyDuringACheckpoint(t *testing.T) {
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	b := newBlockingCommit(s.path(storeName))
	s.j.commit = b.commit
	fillRegion(s, b)
	report, err := s.j.Verify(context.Background(), nil)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		t.Errorf("a good journal is called damaged: %v", err)
	}
	close(b.letGo)
	s.close()
}

// The device restarts, its key is not at hand for one session, one step is taken,
// the key is back.
func TestL13ASessionWithoutTheKeyDamagesNothing(t *testing.T) {
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	id := s.entryAt(Owed)
	s.close()
	key := s.opts.DeviceKey
	s.opts.DeviceKey = nil
	s.open()
	s.j.bootNote = marshalNote(boot{s.j.boot + 1, "11111111-2222-3333-4444-555555555555"}) // noteBoot after a restart
	s.must(s.j.Late(id, approved))
	s.close()
	s.opts.DeviceKey = key
	j, err := Open(s.opts)
	if err != nil {
		t.Fatalf("nobody changed anything: %v", err)
	}
	_ = j.Close()
}

// Recover fails after adopt: what is not durable is shown.
func TestL3RecoverThatFailsShowsNothingThatIsNotDurable(t *testing.T) {
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	id := s.begin()
	file := s.j.wal.file
	s.j.wal.file = failing{file, true} // the kernel shows it, the disk does not have it
	wantErr(t, "Complete", s.j.Complete(id, approved), ErrPoisoned)
	s.j.wal.file = file
	if e := s.entry(id); e.Status != Begun {
		t.Fatalf("before Recover: %s", e.Status)
	}
	if err := os.MkdirAll(s.path(newName+"/x"), 0o700); err != nil { // stands for a full disk
		t.Fatal(err)
	}
	head, _ := s.j.Head()
	if err := s.j.Recover(); err == nil {
		t.Fatal("Recover succeeded")
	}
	if e := s.entry(id); e.Status != Begun {
		t.Errorf("Recover failed, nothing was synced, and the sale is shown as %s", e.Status)
	}
	if after, _ := s.j.Head(); after != head {
		t.Errorf("and a head is exported that a power cut takes away: %s, durable is %s", after, head)
	}
	_ = s.j.Close()
}

// A refusal tells of an outcome that is not durable.
type slowSync struct {
	dataFile
	in, out chan struct{}
}

func (f slowSync) Datasync() error { close(f.in); <-f.out; return errDisk }

func TestL3ARefusalIsDurableToo(t *testing.T) {
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	id := s.begin()
	f := slowSync{s.j.wal.file, make(chan struct{}), make(chan struct{})}
	s.j.wal.file = f
	first := make(chan error)
	go func() { first <- s.j.Complete(id, approved) }()
	<-f.in
	second := make(chan error, 1)
	go func() { second <- s.j.Complete(id, approved) }()
	var move *MoveError
	select {
	case err := <-second:
		if errors.As(err, &move) && move.From == Completed {
			t.Errorf("told %q before the sync has ended; reversal.Sale.Complete takes that for nil", err)
		}
	case <-time.After(300 * time.Millisecond):
	}
	close(f.out)
	t.Logf("the first: %v", <-first)
	_ = s.j.Close()
}

// The old write-ahead file of a carry that was cut between rename and removal.
func TestOldWriteAheadFilesGo(t *testing.T) {
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.begin()
	wal := fileBytes(t, s.path(walName(1)))
	s.must(s.j.Compact())
	s.close()
	if err := os.WriteFile(s.path(walName(1)), wal, 0o600); err != nil { // kill -9 before removeOld
		t.Fatal(err)
	}
	s.open()
	s.begin()
	s.close()
	if _, err := os.Stat(s.path(walName(1))); err == nil {
		t.Error("\"whoever opens the journal next does it again\": it does not; sealed images stay for ever")
	}
}
