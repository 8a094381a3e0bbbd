package journal

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Verify reads the files that Compact has just replaced, to its end: it finds nothing
// wrong, and no sale waits for it. (Under the race detector this says most.)
func TestVerifyBesideCompact(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plant(300)
	var stop atomic.Bool
	var all sync.WaitGroup
	checks := 0
	all.Go(func() {
		for !stop.Load() {
			report, err := s.j.Verify(t.Context(), nil)
			if err != nil || report.Err() != nil {
				t.Errorf("verify: %v %v", err, report.Err())
				return
			}
			checks++
		}
	})
	for range 20 {
		s.must(s.j.Compact())
		s.must(s.j.Complete(s.begin(), approved))
	}
	stop.Store(true)
	all.Wait()
	t.Logf("%d checks", checks)
}

// Somebody who still reads the old files holds up the end of Compact, and nothing else.
func TestCompactWaitsForReadersAndNobodyForIt(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plant(20)
	old := s.j.store
	_, release := s.j.hold()
	done := make(chan error, 1)
	go func() { done <- s.j.Compact() }()
	within(t, 10*time.Second, "the new files", func() {
		for s.j.Failed() == nil { // any step: it goes into the old files or into the new ones
			s.must(s.j.NotSent(s.begin()))
			s.j.tail.mu.RLock()
			swapped := s.j.store != old
			s.j.tail.mu.RUnlock()
			if swapped {
				return
			}
		}
	})
	s.must(s.j.Complete(s.begin(), approved))
	if _, err := s.j.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Fatalf("Compact came back while somebody read the old files: %v", err)
	default:
	}
	release()
	within(t, 10*time.Second, "the end of Compact", func() { s.must(<-done) })
}
