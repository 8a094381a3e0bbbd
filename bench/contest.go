package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// contest is every contender at every number of callers.
type contest struct {
	callers []int
	rounds  map[cell][]loaded
	syncs   map[cell]watched
	why     string // no syncs were counted
}

type cell struct {
	contender string
	callers   int
}

// contest runs the contenders in turn, round by round, each in fresh files and a
// fresh process; then each once more to count its syncs.
func (b *bench) contest(ctx context.Context) (*contest, error) {
	c := &contest{callers: b.Callers, rounds: map[cell][]loaded{}, syncs: map[cell]watched{}, why: b.counter.why}
	for round := range b.Rounds {
		b.tell("contest: round %d of %d", round+1, b.Rounds)
		err := b.each(func(at cell, w job) error {
			l, err := runWorker[loaded](ctx, w)
			if err == nil && l.Sales == 0 {
				err = errors.New("not one sale was made in a measured stretch; make it longer (-measured)")
			}
			c.rounds[at] = append(c.rounds[at], l)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if b.counter.command == nil {
		return c, nil
	}
	b.tell("contest: counting syncs")
	return c, b.each(func(at cell, w job) (err error) {
		c.syncs[at], err = b.counter.count(ctx, w)
		return err
	})
}

// each runs one round.
func (b *bench) each(run func(cell, job) error) error {
	for _, callers := range b.Callers {
		for _, contender := range contenders {
			err := b.inFreshDir(func(dir string) error {
				return run(cell{contender, callers}, job{
					Task: taskLoad, Contender: contender, Dir: dir, Callers: callers,
					Warm: b.Warm, Measured: b.Measured, SQLiteFsync: b.SQLiteFsync,
				})
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// inFreshDir gives an empty directory, removes it, and leaves the disk at rest.
func (b *bench) inFreshDir(do func(dir string) error) error {
	dir := filepath.Join(b.dir, "fresh")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := b.settle(); err != nil {
		return err
	}
	return errors.Join(do(dir), os.RemoveAll(dir), b.settle())
}

func (l loaded) perSecond() float64 { return float64(l.Sales) / l.Elapsed.Seconds() }

// microsPerSale is the mean cost of a sale to one caller.
func (l loaded) microsPerSale() float64 { return float64(l.Elapsed.Microseconds()) / float64(l.Sales) }

func (l loaded) cpuMicrosPerSale() float64 { return float64(l.CPU.Microseconds()) / float64(l.Sales) }

func (l loaded) bytesPerSale() float64 { return float64(l.Written) / float64(l.Sales) }

func (w watched) perSale() float64 { return float64(w.Syncs) / float64(w.Sales) }
