package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel counts.

type used struct {
	written int64         // bytes that went to the device
	cpu     time.Duration // user and system, of this process
}

func usage(d device) (used, error) {
	written, err := d.written()
	if err != nil {
		return used{}, err
	}
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return used{}, err
	}
	return used{written, time.Duration(r.Utime.Nano() + r.Stime.Nano())}, nil
}

// anonymousMemory is the memory that no file stands behind, in bytes.
func anonymousMemory() (int64, error) {
	kb, err := procNumber("/proc/self/status", "RssAnon:")
	return kb << 10, err
}

func procNumber(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if rest, ok := strings.CutPrefix(string(line), name); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %s %w", path, name, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s has no line %s", path, name)
}

// memoryEvery is seldom enough not to be seen in the numbers.
const memoryEvery = 20 * time.Millisecond

// watchMemory looks at the anonymous memory until the function that it returns is
// called, which gives the most that was seen.
func watchMemory() func() int64 {
	var most atomic.Int64
	look := func() {
		if n, err := anonymousMemory(); err == nil {
			most.Store(max(most.Load(), n))
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(memoryEvery)
		defer tick.Stop()
		for {
			look()
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-stopped
		look()
		return most.Load()
	}
}
