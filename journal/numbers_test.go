package journal

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// peeking is a key source that looks at the journal whenever a key is asked for.
type peeking struct {
	KeySource
	look func()
}

func (p *peeking) ByID(id string) (DeviceKey, error) {
	p.look()
	return p.KeySource.ByID(id)
}

// L8: Compact reads anew which entries are open. Whatever it asks for meanwhile, no
// moment shows a number of an open entry as free: NextSTAN does not wait for Compact.
func TestL8CompactKeepsNumbersInUse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ring, err := NewKeyRing(deviceKey)
	s.must(err)
	e := s.entry(s.begin())
	looks := 0
	s.j.keys = &peeking{ring, func() {
		s.j.numbers.mu.Lock()
		defer s.j.numbers.mu.Unlock()
		if looks++; s.j.numbers.inUse[laneSTAN{e.Lane, e.STAN}] == 0 {
			t.Errorf("look %d: number %d of an armed entry is free", looks, e.STAN)
		}
	}}
	s.must(s.j.Compact())
	if looks < 2 {
		t.Errorf("%d looks: this proves little", looks)
	}
}

// stuckCheckpoint makes the next checkpoint wait until it is let go.
func stuckCheckpoint(s *scene) (started chan struct{}, letGo func()) {
	started, on := make(chan struct{}), make(chan struct{})
	var once, start sync.Once
	s.j.commit = func(tx *bolt.Tx) error {
		start.Do(func() { close(started) })
		<-on
		return tx.Commit()
	}
	return started, func() { once.Do(func() { close(on) }) }
}

// L3: a sale that waits for a checkpoint holds up no step for which there is room.
func TestL3AWaitingSaleHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := []ID{s.begin(), s.begin()}
	started, letGo := stuckCheckpoint(s)
	defer letGo()
	flushed := make(chan error, 1)
	go func() { flushed <- s.j.flush() }()
	<-started
	s.j.spare.Store(0) // the next sale has to wait until the checkpoint has topped up
	begun := make(chan error, 1)
	go func() { begun <- second(s.j.Begin(plainDraft())) }()
	for !s.j.line.isResting() {
		runtime.Gosched()
	}
	for _, id := range ids {
		if !within(t, 10*time.Second, "Complete, while a sale waits for the checkpoint", func() { s.must(s.j.Complete(id, approved)) }) {
			break
		}
	}
	select {
	case err := <-begun:
		t.Errorf("the sale did not wait: %v", err)
	default:
	}
	letGo()
	s.must(<-flushed)
	s.must(<-begun)
}

func (l *line) isResting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resting
}

// L7: a late answer without anything in it is a late answer all the same.
func TestL7AnEmptyLateAnswerComesBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	s.must(s.j.Late(id, Answer{}))
	before := s.entry(id)
	s.reopen()
	same(t, "after a reopen", s.entry(id), before)
}

// What is pruned before a checkpoint has it leaves the lane's last number behind.
func TestAPrunedEntryKeepsItsLane(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.entryAt(Completed)
	started, letGo := stuckCheckpoint(s)
	defer letGo()
	flushed := make(chan error, 1)
	go func() { flushed <- s.j.flush() }()
	<-started
	d := s.draft(lane2)
	id, err := s.j.Begin(d)
	s.must(err)
	s.must(s.j.Complete(id, approved))
	s.prune(id)
	letGo()
	s.must(<-flushed)
	s.must(s.j.flush())
	s.reopen()
	if next := s.draft(lane2); next.STAN == d.STAN {
		t.Errorf("lane 2 gives out number %d twice", d.STAN)
	}
}

// L8: a kind of step that has no number on disk is refused before it is recorded, not
// written as a record that cannot be read.
func TestL8AStepWithoutANumberIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	err := s.j.stepNoted(id, 0, func(*record) (Step, error) { return Step{Kind: "invented"}, nil })
	wantErr(t, "an invented step", err, ErrInvalid)
	s.must(s.j.Complete(id, approved))
	s.reopen()
	if e := s.entry(id); e.Status != Completed || len(e.Steps) != 2 {
		t.Errorf("it is %s after %d steps", e.Status, len(e.Steps))
	}
}

// many are callers that take sales to their end until the journal is closed or they
// are told to stop.
type many struct {
	all     sync.WaitGroup
	stop    atomic.Bool
	sales   atomic.Int64
	mu      sync.Mutex
	done    map[ID]bool
	numbers map[laneSTAN]ID // of every one begun
}

func (m *many) start(s *scene, callers int) {
	m.done, m.numbers = map[ID]bool{}, map[laneSTAN]ID{}
	for n := range callers {
		lane := []Lane{lane1, lane2}[n%2]
		m.all.Go(func() {
			for !m.stop.Load() && !errors.Is(m.sale(s, lane), ErrClosed) {
				runtime.Gosched()
			}
		})
	}
}

func (m *many) sale(s *scene, lane Lane) error {
	stan, err := s.j.NextSTAN(lane)
	if err != nil {
		return err
	}
	id, err := s.j.Begin(Draft{Lane: lane, STAN: stan, Type: "sale", MTI: "0200", Amount: price, Image: []byte("an image")})
	if err != nil {
		return err
	}
	m.mu.Lock()
	if other := m.numbers[laneSTAN{lane, stan}]; other != 0 {
		s.t.Errorf("entries %d and %d have number %d", other, id, stan)
	}
	m.numbers[laneSTAN{lane, stan}] = id
	m.mu.Unlock()
	if err := s.j.Complete(id, approved); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[id] = true
	m.sales.Add(1)
	return nil
}

// wait lets so many more sales happen.
func (m *many) wait(more int64) {
	for until := m.sales.Load() + more; m.sales.Load() < until; {
		runtime.Gosched()
	}
}

// check holds what was acknowledged against what is there.
func (m *many) check(s *scene) {
	for id := range m.done {
		if e := s.entry(id); e.Status != Completed {
			s.t.Errorf("entry %d is %s, and was completed", id, e.Status)
		}
	}
}

// L1, L3, L13: sales of many callers beside Compact, checkpoints and writes that fail
// half way and are recovered from.
func TestL1L3L13ManyCallersBesideEverything(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := &many{}
	m.start(s, 16)
	for range 20 {
		m.wait(10)
		s.must(s.j.Compact())
		m.wait(10)
		s.must(s.j.flush())
		s.j.mu.Lock()
		s.j.still()
		s.j.wal.file = halfWritten{s.j.wal.file}
		s.j.mu.Unlock()
		wantErr(t, "a step on a disk that fails", second(s.j.Begin(plainDraft())), ErrPoisoned)
		s.must(s.j.Recover())
	}
	m.stop.Store(true)
	m.all.Wait()
	s.reopen()
	report, err := s.j.Verify(t.Context(), nil)
	s.must(errors.Join(err, report.Err()))
	m.check(s)
}

// halfWritten writes half of what it is given and then fails.
type halfWritten struct{ dataFile }

func (f halfWritten) WriteAt(b []byte, at int64) (int, error) {
	n, _ := f.dataFile.WriteAt(b[:len(b)/2], at)
	return n, errDisk
}

// L3: Close in the midst of steps, a checkpoint and Compact: everybody returns, and
// what was acknowledged is there.
func TestL3CloseInTheMidst(t *testing.T) {
	t.Parallel()
	for round := range int64(12) {
		s := newSceneIn(t, t.TempDir())
		m := &many{}
		m.start(s, 12)
		for _, again := range []func() error{s.j.Compact, s.j.flush} {
			m.all.Go(func() {
				for again() == nil {
				}
			})
		}
		m.wait(round * 5)
		if !within(t, time.Minute, "Close", func() { s.must(s.j.Close()) }) || !within(t, time.Minute, "everybody", m.all.Wait) {
			return
		}
		s.open()
		m.check(s)
		s.close()
		checkJournal(t, s.opts.Dir)
	}
}
