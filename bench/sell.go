package main

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sell makes sales from many callers at once for as long as more says so, and
// gives how long each took, sorted. One caller's error stops that caller.
func sell(b book, callers int, more func() bool) ([]time.Duration, error) {
	took := make([][]time.Duration, callers)
	errs := make([]error, callers)
	var wait sync.WaitGroup
	for caller := range callers {
		wait.Go(func() {
			for more() {
				start := time.Now()
				if errs[caller] = b.Sale(caller); errs[caller] != nil {
					return
				}
				took[caller] = append(took[caller], time.Since(start))
			}
		})
	}
	wait.Wait()
	all := slices.Concat(took...)
	slices.Sort(all)
	return all, errors.Join(errs...)
}

// until says yes for a while.
func until(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().Before(end) }
}

// atMost says yes so many times, for a while.
func atMost(sales int, d time.Duration) func() bool {
	var begun atomic.Int64
	inTime := until(d)
	return func() bool { return inTime() && begun.Add(1) <= int64(sales) }
}

// percentile is of sorted times, 0 when there are none.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*percent/100]
}
