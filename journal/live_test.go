package journal

import (
	"errors"
	"maps"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// looksVar is how many looks TestL15LookingBesideAFullSpeedWriter takes.
const looksVar = "UNCHARGE_LOOKS"

// acknowledged is what two writers were told: how far each entry of theirs had come.
type acknowledged struct {
	mu      sync.Mutex
	status  map[ID]Status
	stopped atomic.Bool
	sales   atomic.Int64
	warm    chan struct{} // closed after warmSales
}

// warmSales are made before the first look: the writers' rate alone.
const warmSales = 1500

func (a *acknowledged) note(id ID, status Status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status[id] = status
	delete(a.status, id-20_000) // pruned long ago
}

// soFar gives what was acknowledged before now.
func (a *acknowledged) soFar() map[ID]Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.status)
}

// write takes sales to their end as fast as it goes.
func (a *acknowledged) write(s *scene, lane Lane) {
	for !a.stopped.Load() {
		id, err := s.j.Begin(Draft{Lane: lane, STAN: 1, Type: "sale", MTI: "0200", Amount: price, Image: []byte("an image")})
		if err != nil {
			s.t.Errorf("begin: %v", err)
			return
		}
		a.note(id, Begun)
		if err := s.j.Complete(id, approved); err != nil {
			s.t.Errorf("complete: %v", err)
			return
		}
		a.note(id, Completed)
		if a.sales.Add(1) == warmSales {
			close(a.warm)
		}
	}
}

// L15: looks at a journal that is written at full speed, through switches of regions,
// checkpoints, pruning and Compact: each is one moment, follows the chain, and has everything that
// was acknowledged before it began. The rate of the writer with and without looks is
// printed, not judged.
func TestL15LookingBesideAFullSpeedWriter(t *testing.T) {
	looks := 60
	if pagesUnderRace {
		looks = 12 // the journal grows while each of them is checked, ten times slower
	}
	if n, err := strconv.Atoi(os.Getenv(looksVar)); err == nil {
		looks = n
	}
	s := newSceneIn(t, t.TempDir())
	s.close()
	s.opts.Dir, s.opts.RegionBytes = t.TempDir(), RegionBytesDefault // as a terminal has it
	s.open()
	s.j.maxBytes, s.j.keepSteps = 200<<10, 400
	a := &acknowledged{status: map[ID]Status{}, warm: make(chan struct{})}
	var writers sync.WaitGroup
	for _, lane := range []Lane{lane1, lane2} {
		writers.Go(func() { a.write(s, lane) })
	}
	alone := rate(a, func() { within(t, time.Minute, "the first sales", func() { <-a.warm }) })
	beside := rate(a, func() {
		for n := range looks {
			if n%40 == 39 {
				s.must(s.j.Compact())
			}
			lookOnce(t, s, a, n%50 == 0)
			if t.Failed() {
				return
			}
		}
	})
	a.stopped.Store(true)
	writers.Wait()
	s.j.background.Wait()
	t.Logf("%d looks; %.0f sales/s alone, %.0f beside them", looks, alone, beside)
	if s.j.state.Applied == 0 || looks >= 60 && s.j.state.PrunedTo == 0 {
		t.Error("no region was ever full, or nothing was pruned: this proves little")
	}
	s.close()
	checkJournal(t, s.opts.Dir)
}

func rate(a *acknowledged, during func()) float64 {
	before, start := a.sales.Load(), time.Now()
	during()
	return float64(a.sales.Load()-before) / time.Since(start).Seconds()
}

func lookOnce(t *testing.T, s *scene, a *acknowledged, whole bool) {
	t.Helper()
	before := a.soFar()
	snap, err := Inspect(s.opts.Dir, 20*time.Second)
	if err != nil {
		t.Errorf("look: %v", err)
		return
	}
	defer func() { _ = snap.Close() }()
	if err := snap.Damage(); err != nil {
		t.Errorf("look: %v", err)
	}
	if whole {
		ring, err := NewKeyRing(deviceKey)
		s.must(err)
		report, err := snap.Verify(t.Context(), ring, nil)
		if err := errors.Join(err, report.Err()); err != nil {
			t.Errorf("verify: %v", err)
		}
	}
	q := Query{Newest: true}
	if !whole {
		q.Limit = 1000
	}
	seen := map[ID]Status{}
	var last ID
	for e, err := range snap.Entries(q) {
		if err != nil || last != 0 && e.ID != last-1 {
			t.Errorf("entry %d behind %d: %v", e.ID, last, err)
			return
		}
		last, seen[e.ID] = e.ID, e.Status
	}
	if whole && last != 1 && len(seen) < 200 {
		t.Errorf("the oldest entry is %d, and there are only %d", last, len(seen))
	}
	for id, status := range before {
		if got := seen[id]; id >= last && got != status && (status != Begun || got != Completed) {
			t.Errorf("entry %d was acknowledged as %s, and the look has %q", id, status, got)
		}
	}
}
