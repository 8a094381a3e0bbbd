package journal

import (
	"errors"
	"sync"
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
	if p.look != nil {
		p.look()
	}
	return p.KeySource.ByID(id)
}

// R1: Compact forgets for a moment which numbers are in use, and NextSTAN does not
// wait for it any more.
func TestL8CompactKeepsNumbersInUse(t *testing.T) {
	ring, err := NewKeyRing(deviceKey)
	if err != nil {
		t.Fatal(err)
	}
	keys := &peeking{KeySource: ring}
	s := &scene{t: t}
	s.opts = Options{Dir: t.TempDir(), Keys: keys, FirstSTAN: 1, Now: s.tick, RegionBytes: RegionBytesMin}
	s.open()
	defer s.close()
	d := plainDraft()
	d.Lane = lane1
	for _, stan := range []uint32{5, 4} { // 5 stays in use; the lane has come to 4 again
		d.STAN = stan
		if _, err := s.j.Begin(d); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint32
	keys.look = func() {
		s.j.numbers.mu.Lock()
		forgot := len(s.j.numbers.inUse) == 0
		s.j.numbers.mu.Unlock()
		if !forgot {
			return
		}
		done := make(chan struct{})
		go func() { // a sale that begins while the files are made anew
			defer close(done)
			if stan, err := s.j.NextSTAN(lane1); err == nil {
				got = append(got, stan)
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Second): // it waits, as it should
		}
	}
	s.must(s.j.Compact())
	keys.look = nil
	for _, stan := range got {
		if stan == 5 {
			t.Errorf("number 5 was given out, and an armed entry has it")
		}
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

// R3: a late answer without anything in it is a late answer all the same.
func TestL7AnEmptyLateAnswerComesBack(t *testing.T) {
	s := newScene(t)
	id := s.entryAt(Owed)
	s.must(s.j.Late(id, Answer{}))
	before := s.entry(id)
	s.reopen()
	same(t, "after a reopen", s.entry(id), before)
}

// R4: what is pruned before a checkpoint takes its lane's number along.
func TestAPrunedEntryKeepsItsLane(t *testing.T) {
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
	s.must(s.j.take(func() (change, error) {
		return change{note: &frame{kind: framePrune, payload: marshalNote(pruned{IDs: []ID{id}})}}, nil
	}))
	letGo()
	s.must(<-flushed)
	s.must(s.j.flush())
	s.reopen()
	if next := s.draft(lane2); next.STAN == d.STAN {
		t.Errorf("lane 2 gives out number %d twice", d.STAN)
	}
}

// A storm: steps, numbers, Compact, flush, a write that fails, Recover, Close.
func TestStorm(t *testing.T) {
	s := newSceneIn(t, t.TempDir())
	s.opts.Now = time.Now
	acknowledged := map[ID]Status{}
	var mu sync.Mutex
	var all sync.WaitGroup
	stop := time.Now().Add(4 * time.Second)
	for n := range 16 {
		all.Go(func() {
			lane := []Lane{lane1, lane2}[n%2]
			for time.Now().Before(stop) {
				stan, err := s.j.NextSTAN(lane)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				id, err := s.j.Begin(Draft{Lane: lane, STAN: stan, Type: "sale", MTI: "0200", Amount: price, Image: make([]byte, n*100)})
				if err != nil {
					continue
				}
				status := Begun
				switch {
				case s.j.Complete(id, approved) == nil:
					status = Completed
				case s.j.Failed() == nil && errors.Is(s.j.Complete(id, approved), ErrMove):
				}
				mu.Lock()
				if acknowledged[id] != 0 {
					t.Errorf("id %d twice", id)
				}
				acknowledged[id] = status
				mu.Unlock()
			}
		})
	}
	all.Go(func() {
		for n := 0; time.Now().Before(stop); n++ {
			switch n % 3 {
			case 0:
				if err := s.j.Compact(); err != nil && !errors.Is(err, ErrPoisoned) {
					t.Errorf("compact: %v", err)
				}
			case 1:
				if err := s.j.flush(); err != nil && !errors.Is(err, ErrPoisoned) {
					t.Errorf("flush: %v", err)
				}
			case 2:
				s.j.mu.Lock()
				if s.j.writing || s.j.applying {
					s.j.mu.Unlock()
					continue
				}
				file := s.j.wal.file
				s.j.wal.file = failing2{file, file.(osFile)}
				s.j.mu.Unlock()
				time.Sleep(5 * time.Millisecond)
				if err := s.j.Recover(); err != nil {
					t.Errorf("recover: %v", err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	if !within(t, 60*time.Second, "the storm", all.Wait) {
		return
	}
	_ = s.j.Recover()
	if s.j.Failed() == nil && len(acknowledged) == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Logf("%d entries", len(acknowledged))
	s.close()
	s.open()
	report, err := s.j.Verify(t.Context(), nil)
	if err != nil || report.Err() != nil {
		t.Errorf("verify: %v %v", err, report.Err())
	}
	for id, status := range acknowledged {
		if e := s.entry(id); status == Completed && e.Status != Completed {
			t.Errorf("entry %d is %s, %s was acknowledged", id, e.Status, status)
		}
	}
	s.close()
	checkJournal(t, s.opts.Dir)
}

// failing2 writes half of what it is given and then fails. Compact wants an osFile.
type failing2 struct {
	dataFile
	real osFile
}

func (f failing2) WriteAt(b []byte, at int64) (int, error) {
	_, _ = f.real.WriteAt(b[:len(b)/2], at)
	return len(b) / 2, errDisk
}

// Close in the midst of steps, a checkpoint and Compact: everybody returns, and what
// was acknowledged is there.
func TestCloseInTheMidst(t *testing.T) {
	for round := range 25 {
		s := newSceneIn(t, t.TempDir())
		s.opts.Now = time.Now
		var mu sync.Mutex
		done := map[ID]bool{}
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				for {
					id, err := s.j.Begin(plainDraft())
					if err == nil {
						if err = s.j.Complete(id, approved); err == nil {
							mu.Lock()
							done[id] = true
							mu.Unlock()
						}
					}
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("%v", err)
						return
					}
				}
			})
		}
		all.Go(func() {
			for s.j.Compact() == nil {
			}
		})
		all.Go(func() {
			for s.j.flush() == nil {
			}
		})
		time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		if !within(t, 10*time.Second, "Close", func() { _ = s.j.Close() }) || !within(t, 10*time.Second, "everybody", all.Wait) {
			return
		}
		s.open()
		for id := range done {
			if e := s.entry(id); e.Status != Completed {
				t.Errorf("entry %d is %s", id, e.Status)
			}
		}
		s.close()
		checkJournal(t, s.opts.Dir)
	}
}
