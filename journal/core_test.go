package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
// stands in its commit; some steps go into the other region behind that.
func fillRegion(s *scene, b *blockingCommit) ID {
	for {
		s.entryAt(Completed)
		select {
		case <-b.written:
			return s.begin()
		default:
		}
	}
}

// Compact fails behind its rename and the journal goes on with files that have no
// name any more.
func TestL8CompactThatFailsBehindItsRenameEndsTheHandle(t *testing.T) {
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.entryAt(Completed)
	// anything that lets removeOld (or the syncDir before it) fail: here a directory
	// that matches its pattern and is not empty.
	if err := os.MkdirAll(s.path("journal.wal.saved/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := s.j.Compact()
	t.Logf("Compact: %v; Failed: %v", err, s.j.Failed())
	if err == nil {
		t.Skip("Compact succeeded")
	}
	id, err := s.j.Begin(s.draft(lane1))
	if err != nil {
		t.Logf("Begin refused: %v", err)
		return // right
	}
	s.must(s.j.Owe(id, "no answer", silence))
	s.close()
	s.open()
	defer s.close()
	if e, err := s.j.Entry(id); err != nil || e.Status != Owed {
		t.Errorf("entry %d was acknowledged as owed and is gone without a word: %v", id, err)
	}
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
