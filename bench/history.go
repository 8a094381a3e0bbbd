package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// history is what many stored entries cost.
type history struct {
	stored []int // what was reached
	fills  []fillSpeed
	asked  int // the most that was asked for
	sales  map[int][]loaded

	warm, cold []reopened
	stillInMem []float64 // share of the files that was in memory before a cold open
}

type fillSpeed struct {
	Stored    int
	PerSecond float64
}

// freshBelow: a journal with fewer entries grows visibly while it is measured, so
// each round has a new copy of it.
const freshBelow = 50_000

// history fills one journal, keeping copies of it at the smaller sizes, measures
// sales on all of them in turn, then kills and reopens the largest.
func (b *bench) history(ctx context.Context) (*history, error) {
	h := &history{asked: b.Stored[len(b.Stored)-1], sales: map[int][]loaded{}}
	if err := b.fill(ctx, h); err != nil {
		return nil, err
	}
	for round := range b.Rounds {
		b.tell("history: round %d of %d", round+1, b.Rounds)
		for _, n := range h.stored {
			if err := b.sellOn(ctx, h, n); err != nil {
				return nil, err
			}
		}
	}
	return h, b.reopens(ctx, h)
}

// storedDir is the journal with so many entries.
func (b *bench) storedDir(n int) string { return filepath.Join(b.dir, fmt.Sprintf("stored-%d", n)) }

// fill makes the journals. When it takes too long it ends with what is stored.
func (b *bench) fill(ctx context.Context, h *history) error {
	growing := filepath.Join(b.dir, "growing")
	if err := os.Mkdir(growing, 0o700); err != nil {
		return err
	}
	stored, left := 0, b.FillMax
	for i, n := range b.Stored {
		b.tell("history: filling to %d entries", n)
		w := job{Task: taskFill, Contender: ourJournal, Dir: growing, Callers: b.FillCallers, Sales: n - stored, Measured: left}
		if i == 0 { // the oldest entries are the owed ones: far from what is warm
			w.Owed = min(owedStored, n-1)
			w.Sales -= w.Owed
		}
		f, err := runWorker[filled](ctx, w)
		if err != nil {
			return err
		}
		stored, left = stored+w.Owed+f.Sales, left-f.Elapsed
		h.stored = append(h.stored, stored)
		h.fills = append(h.fills, fillSpeed{stored, float64(f.Sales) / f.Elapsed.Seconds()})
		if stored < n || i == len(b.Stored)-1 || left <= 0 {
			break
		}
		if err := os.CopyFS(b.storedDir(stored), os.DirFS(growing)); err != nil {
			return err
		}
	}
	return errors.Join(os.Rename(growing, b.storedDir(stored)), b.settle())
}

// sellOn measures one caller's sales on a journal with n entries.
func (b *bench) sellOn(ctx context.Context, h *history, n int) error {
	w := job{Task: taskLoad, Contender: ourJournal, Dir: b.storedDir(n), Callers: 1, Warm: b.Warm, Measured: b.Measured}
	run := func() error {
		l, err := runWorker[loaded](ctx, w)
		if err == nil && l.Sales == 0 {
			err = errors.New("not one sale was made in a measured stretch; make it longer (-measured)")
		}
		h.sales[n] = append(h.sales[n], l)
		return errors.Join(err, b.settle())
	}
	if n >= freshBelow {
		return run()
	}
	w.Dir = filepath.Join(b.dir, "copy")
	if err := errors.Join(os.CopyFS(w.Dir, os.DirFS(b.storedDir(n))), b.settle()); err != nil {
		return err
	}
	return errors.Join(run(), os.RemoveAll(w.Dir))
}

// reopens kills a selling process on the largest journal and opens it again, once
// with its files in memory and once from the disk, in turn.
func (b *bench) reopens(ctx context.Context, h *history) error {
	dir := b.storedDir(h.most())
	for n := range b.Reopens {
		b.tell("history: kill and reopen %d of %d", n+1, b.Reopens)
		for _, cold := range []bool{false, true} {
			// At another place of the write-ahead file each time.
			if err := killWhileSelling(ctx, dir, time.Duration(100+n*61%300)*time.Millisecond); err != nil {
				return err
			}
			if cold {
				share, err := dropFromMemory(dir)
				if err != nil {
					return fmt.Errorf("drop the files from memory: %w", err)
				}
				h.stillInMem = append(h.stillInMem, share)
			}
			r, err := runWorker[reopened](ctx, job{Task: taskReopen, Contender: ourJournal, Dir: dir})
			if err != nil {
				return err
			}
			if want := min(owedStored, b.Stored[0]-1); r.Owed != want {
				return fmt.Errorf("%d entries were owed before the kill, %d are after it", want, r.Owed) // L8
			}
			if cold {
				h.cold = append(h.cold, r)
			} else {
				h.warm = append(h.warm, r)
			}
		}
	}
	return nil
}

func (h *history) most() int { return h.stored[len(h.stored)-1] }

// untilListed is what the firmware waits for after a start.
func (r reopened) untilListed() float64 { return float64((r.Open + r.List).Microseconds()) / 1000 }
