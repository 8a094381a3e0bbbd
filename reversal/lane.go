package reversal

import (
	"context"
	"sync"

	"uncharge/journal"
)

// laneLocks holds one lock per lane. A waiting caller leaves when its context
// ends.
type laneLocks struct {
	mu    sync.Mutex
	lanes map[journal.Lane]chan struct{}
}

func (l *laneLocks) of(lane journal.Lane) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lanes == nil {
		l.lanes = map[journal.Lane]chan struct{}{}
	}
	c, ok := l.lanes[lane]
	if !ok {
		c = make(chan struct{}, 1)
		l.lanes[lane] = c
	}
	return c
}

// lock waits for the lane and returns the function that gives it back.
func (l *laneLocks) lock(ctx context.Context, lane journal.Lane) (func(), error) {
	if ctx.Err() != nil { // or the choice below would be one of chance
		return nil, ctx.Err()
	}
	c := l.of(lane)
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tryLock returns nil when the lane is taken.
func (l *laneLocks) tryLock(lane journal.Lane) func() {
	c := l.of(lane)
	select {
	case c <- struct{}{}:
		return func() { <-c }
	default:
		return nil
	}
}
