package main

import (
	"runtime"
	"sync"
)

// group lets callers that wait at the same time share one commit, in the way in
// which the journal does it, so that SQLite has the same advantage. The first
// leads; those that come while a commit runs wait and go together in the next,
// led by the first of them. A leader that had company lets others who can run go
// first. There is no timer: a lone caller never waits.
type group struct {
	commit func(steps []func() error) error // all of them or none

	mu      sync.Mutex
	leading bool
	waiting []*groupCall
	company int // in the last commits; the leader's
}

type groupCall struct {
	step func() error
	err  error
	wake chan bool // true: lead the next commit; false: it was done, with err
}

func (g *group) do(step func() error) error {
	own := &groupCall{step: step, wake: make(chan bool, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, own)
	if g.leading {
		g.mu.Unlock()
		if lead := <-own.wake; !lead {
			return own.err
		}
		g.mu.Lock()
	}
	g.leading = true
	if g.company > 1 {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	calls := g.waiting
	g.waiting = nil
	g.company = max(len(calls), g.company/2)
	g.mu.Unlock()

	steps := make([]func() error, len(calls))
	for i, c := range calls {
		steps[i] = c.step
	}
	err := g.commit(steps)

	g.mu.Lock()
	if g.leading = len(g.waiting) > 0; g.leading {
		g.waiting[0].wake <- true
	}
	g.mu.Unlock()
	for _, c := range calls {
		c.err = err
		if c != own {
			c.wake <- false
		}
	}
	return err
}
