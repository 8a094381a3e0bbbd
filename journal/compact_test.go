package journal

import (
	"bytes"
	"fmt"
	"slices"
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

// The packs of a journal that was compacted while a pruning was in front of its store
// keep their names apart from those of every checkpoint to come.
func TestPacksOfACompactedJournalKeepTheirNames(t *testing.T) {
	t.Parallel()
	for more := range 10 {
		s := newSceneIn(t, t.TempDir())
		s.close()
		s.opts.Dir, s.opts.DeviceKey = t.TempDir(), nil // no change of key: as few steps as there can be
		s.open()
		begin := func() ID {
			d := s.draft(lane1)
			d.Image = nil
			id, err := s.j.Begin(d)
			s.must(err)
			return id
		}
		gone := begin()
		s.must(s.j.Complete(gone, approved))
		s.must(s.j.flush())
		stays := begin()
		s.prune(gone)
		s.must(s.j.Compact())
		for range more {
			begin()
			s.must(s.j.flush())
			s.verified(fmt.Sprint(more, " checkpoints"))
		}
		if got := collect(t, s.j, Query{STAN: 2}); !slices.Equal(got, []ID{stays}) {
			t.Errorf("%d checkpoints later the index finds %v, want %d", more, got, stays)
		}
		s.close()
	}
}

// L11: what was pruned is in no file any more once Compact has returned.
func TestL11WhatWasPrunedIsGoneAfterCompact(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	const rrn = "777000111222"
	id := s.begin()
	s.must(s.j.Complete(id, Answer{Code: "00", RRN: rrn}))
	s.begin()
	s.must(s.j.flush())
	s.tight()
	s.must(second(s.j.Prune()))
	wantErr(t, "the entry", second(s.j.Entry(id)), ErrNoEntry)
	s.must(s.j.Compact())
	for _, name := range []string{storeName, walName(s.j.state.Generation)} {
		if bytes.Contains(fileBytes(t, s.path(name)), []byte(rrn)) {
			t.Errorf("%s still has it", name)
		}
	}
}
