package reversal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"uncharge/journal"
)

const (
	idleMax     = 30 * time.Second // the longest that Run sleeps when it knows of nothing due
	lanesAtOnce = 16               // lanes that Run works on side by side
)

// Run reverses what is owed until ctx ends: first what a crash left armed, then
// whatever becomes owed, with back-off. Lanes are worked on side by side, each in
// order. One Run (or Drain) at a time.
//
// It returns nil when ctx ended. It returns an error when the journal can no
// longer be written, or when the device's key opens nothing of what is owed:
// then nothing is lost, and nothing more is done until the journal is opened
// again.
func (e *Engine) Run(ctx context.Context) error { return e.loop(ctx, false) }

// Drain does what Run does and returns nil as soon as nothing is armed or owed.
// When ctx ends before that the error wraps ErrReversalOwed. When there are
// entries that cannot be read it reverses the others and then returns an error
// that wraps journal.ErrPartial.
func (e *Engine) Drain(ctx context.Context) error { return e.loop(ctx, true) }

func (e *Engine) loop(ctx context.Context, untilQuiet bool) error {
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("engine: Run or Drain is running already")
	}
	defer e.running.Store(false)
	e.draining.Store(untilQuiet)
	defer e.draining.Store(false)
	e.Wake() // a start is a trigger

	s := newShifts(ctx, e)
	defer s.stop()
	for {
		open, err := e.open()
		if err != nil {
			return err
		}
		if stuck := s.allStuck(open); stuck != nil {
			return stuck
		}
		if untilQuiet && len(open) == 0 && len(s.busy) == 0 {
			return e.unreadable()
		}
		if ctx.Err() != nil {
			if untilQuiet && len(open) > 0 {
				return &OwedError{Lane: open[0].Lane, Oldest: open[0].ID, Count: len(open)}
			}
			return nil
		}
		if err := s.wait(ctx, open); err != nil {
			return err
		}
	}
}

// unreadable returns what was found of entries that cannot be read.
func (e *Engine) unreadable() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.damage != nil {
		return fmt.Errorf("everything that can be read is settled: %w", e.damage)
	}
	return nil
}

// shifts are the lanes that Run works on. Only Run's own goroutine touches it;
// the workers report through done.
type shifts struct {
	engine  *Engine
	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup
	places  chan struct{}
	done    chan shift

	look  bool                  // look at every lane: at the start, when woken, when something is due
	busy  map[journal.Lane]bool // a worker is on it; true: look again when it is done
	due   map[journal.Lane]time.Time
	stuck map[journal.Lane]error // the device's key does not open what it owes
}

// shift is what a worker did.
type shift struct {
	lane journal.Lane
	wait time.Duration
	err  error
}

func newShifts(ctx context.Context, e *Engine) *shifts {
	ctx, cancel := context.WithCancel(ctx)
	return &shifts{
		engine: e, ctx: ctx, cancel: cancel, places: make(chan struct{}, lanesAtOnce), done: make(chan shift), look: true,
		busy: map[journal.Lane]bool{}, due: map[journal.Lane]time.Time{}, stuck: map[journal.Lane]error{},
	}
}

func (s *shifts) stop() {
	s.cancel()
	s.workers.Wait()
}

// wait puts workers on the lanes that want one, and waits until something
// happens.
func (s *shifts) wait(ctx context.Context, open []journal.Entry) error {
	next := idleMax
	for _, entry := range open {
		lane := entry.Lane
		_, busy := s.busy[lane]
		switch {
		case s.stuck[lane] != nil:
		case busy:
			s.busy[lane] = s.busy[lane] || s.look
		case s.look || !time.Now().Before(s.due[lane]):
			s.start(lane)
		default:
			next = min(next, time.Until(s.due[lane]))
		}
	}
	s.look = false
	timer := time.NewTimer(max(next, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.engine.wake:
		s.look = true
	case <-timer.C:
		s.look = len(s.busy) == 0
	case did := <-s.done:
		return s.finished(did)
	}
	return nil
}

func (s *shifts) start(lane journal.Lane) {
	s.busy[lane] = false
	s.workers.Go(func() {
		select {
		case s.places <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		wait, err := s.engine.sweepLane(s.ctx, lane)
		<-s.places
		select {
		case s.done <- shift{lane, wait, err}:
		case <-s.ctx.Done():
		}
	})
}

func (s *shifts) finished(did shift) error {
	again := s.busy[did.lane]
	delete(s.busy, did.lane)
	s.due[did.lane] = time.Now().Add(did.wait)
	if again {
		s.due[did.lane] = time.Now()
	}
	if errors.Is(did.err, journal.ErrKey) {
		s.stuck[did.lane] = did.err
		s.engine.emit(Event{Kind: EventDamaged, Lane: did.lane, Note: did.err.Error()})
		return nil
	}
	return did.err
}

// allStuck returns an error when the device's key opens nothing that is open.
func (s *shifts) allStuck(open []journal.Entry) error {
	if len(s.stuck) == 0 || slices.ContainsFunc(open, func(e journal.Entry) bool { return s.stuck[e.Lane] == nil }) {
		return nil
	}
	for _, e := range open {
		return s.stuck[e.Lane]
	}
	return nil
}

// sweepLane works through one lane as far as it can without waiting, and says
// when it wants to be looked at again. A lane that is taken has a transaction on
// it.
func (e *Engine) sweepLane(ctx context.Context, lane journal.Lane) (time.Duration, error) {
	unlock := e.lanes.tryLock(lane)
	if unlock == nil {
		return e.timers.BackoffFirst, nil
	}
	defer unlock()
	if err := e.recover(lane, false); err != nil {
		return 0, err
	}
	for {
		wait, left, err := e.replay(ctx, lane)
		switch {
		case err != nil, ctx.Err() != nil, wait > 0:
			return wait, err
		case left == 0:
			return idleMax, nil
		}
	}
}
