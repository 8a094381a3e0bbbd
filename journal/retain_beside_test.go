package journal

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// plannedBesideALateStep leaves a plan that names an entry of which the newest step, a late
// answer, is in front of the store.
func (s *scene) plannedBesideALateStep(t *testing.T) ID {
	t.Helper()
	s.tight()
	id := s.entryAt(Reversed)
	s.begin()
	b := newBlockingCommit(s.path(storeName))
	s.j.commit = b.commit
	flushed := make(chan error)
	go func() { flushed <- s.j.flush() }()
	<-b.written
	s.must(s.j.Late(id, approved)) // in the other region, while the checkpoint runs
	s.j.commit = func(tx *bolt.Tx) error { return tx.Commit() }
	close(b.letGo)
	s.must(<-flushed)
	if s.j.plan == nil || !s.j.plan.gone.has(id) {
		t.Fatal("scene: nothing is planned")
	}
	return id
}

// L8: a plan was made from the store, which does not have the newest step on what it
// names yet: it is dropped.
func TestL8AStepBeforeThePlanKeepsItToo(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.plannedBesideALateStep(t)
	s.begin()
	if e := s.entry(id); e.Steps[len(e.Steps)-1].Kind != StepLate {
		t.Errorf("the last step is %s", e.Steps[len(e.Steps)-1].Kind)
	}
}

// L3: a step on what is on its way out waits until that is durable, and is then refused.
func TestL3AStepOnWhatIsLeavingWaits(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.tight()
	id := s.entryAt(Reversed)
	s.begin()
	s.must(s.j.flush())
	next := s.draft(lane1)
	s.j.mu.Lock()
	s.must(s.j.stage(func() (change, error) {
		rec, err := s.j.armed(s.j.lastID+1, next, "")
		return change{rec: rec, opens: 1, staged: func() { s.j.lastID++ }}, err
	}))
	if !s.j.leaving.has(id) {
		t.Error("scene: it stays")
	}
	if _, err := s.j.newest(id); !errors.Is(err, errWait) {
		t.Errorf("a step on it, before its leaving is durable: %v", err)
	}
	batch := s.j.batch
	s.j.batch = nil
	s.j.writeBatch(batch)
	s.j.mu.Unlock()
	wantErr(t, "after that", s.j.Late(id, approved), ErrNoEntry)
}

// L8: a plan is dropped when the next checkpoint begins, which may take a step on what it
// names into the store: the tail would not know of that step any more.
func TestL8APlanIsDroppedWhenACheckpointBegins(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.plannedBesideALateStep(t)
	real := s.j.planner
	s.j.planner = func() (*plan, error) { // the second checkpoint has the step in the store, and plans
		s.must(second(s.j.Begin(plainDraft())))
		return real()
	}
	s.must(s.j.flush())
	s.j.planner = real
	e, err := s.j.Entry(id)
	if err != nil {
		t.Fatalf("the entry with a late answer that was acknowledged after the plan was made: %v", err)
	}
	if k := e.Steps[len(e.Steps)-1].Kind; k != StepLate {
		t.Errorf("last step %s", k)
	}
}

// Close while Prune plans waits for it, and Prune says that the journal is closed.
func TestCloseBesidePrune(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.tight()
	s.entryAt(Completed)
	s.must(s.j.flush())
	closed := make(chan error, 1)
	s.j.planner = func() (*plan, error) {
		if s.j.state.PrunedTo != 0 || len(closed) > 0 {
			return s.j.planPrune()
		}
		s.j.planner = s.j.planPrune
		go func() { closed <- s.j.Close() }()
		for gone := false; !gone; runtime.Gosched() {
			s.j.mu.Lock()
			gone = s.j.closed
			s.j.mu.Unlock()
		}
		return s.j.planPrune()
	}
	if _, err := s.j.Prune(); !errors.Is(err, ErrClosed) {
		t.Errorf("prune: %v", err)
	}
	s.must(<-closed)
}

// L8: sales, and Prune again and again: nothing that was acknowledged and is open is lost,
// and no checkpoint runs into a plan that is being made.
func TestL8PruneBesideSales(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.while(func() {
		s.j.maxBytes, s.j.keepSteps = 1, 200
		s.j.wal.file, s.j.store.db.NoSync = hasty{s.j.wal.file}, true
	})
	var open sync.Map
	var all sync.WaitGroup
	var stop atomic.Bool
	var sales atomic.Int64
	for range 3 {
		all.Go(func() {
			for n := 0; !stop.Load(); n++ {
				id, err := s.j.Begin(plainDraft())
				if err == nil && n%200 != 0 {
					err = s.j.Complete(id, approved)
				} else if err == nil {
					open.Store(id, true)
				}
				if err != nil {
					t.Error(err)
					return
				}
				sales.Add(1)
			}
		})
	}
	for sales.Load() < 15_000 {
		if _, err := s.j.Prune(); err != nil {
			t.Errorf("prune after %d sales: %v", sales.Load(), err)
			break
		}
	}
	stop.Store(true)
	all.Wait()
	s.reopen()
	open.Range(func(id, _ any) bool {
		if status := s.entry(id.(ID)).Status; status != Begun {
			t.Errorf("entry %d is %s", id, status)
		}
		return true
	})
	s.verified("then")
}
