package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// A worker is this program again, in a process of its own: what the kernel counts
// for it is then the contender's alone, nothing of one contender is warm for the
// next, and it can be killed. It reads one job and prints one outcome.

// workerArg makes this program a worker.
const workerArg = "worker"

// job is what a worker is told to do.
type job struct {
	Task        task
	Contender   string
	Dir         string
	Callers     int
	Warm        time.Duration
	Measured    time.Duration
	SQLiteFsync bool
	Marked      bool // make the measured stretch visible to strace

	Sales int // fill: how many
	Owed  int // fill: how many before them are left owed
}

type task string

const (
	taskLoad   task = "load"   // sell for a while and measure it
	taskFill   task = "fill"   // store entries in the journal
	taskLive   task = "live"   // sell until killed
	taskReopen task = "reopen" // open the journal and list what is open
)

// Bounds of a worker's life: whoever started it may be gone.
const (
	measuredMax = time.Minute
	liveMax     = time.Minute
)

func work(stdin io.Reader, stdout, stderr io.Writer) int {
	var w job
	if err := json.NewDecoder(stdin).Decode(&w); err != nil {
		fmt.Fprintln(stderr, "job:", err)
		return 2
	}
	out, err := w.do(stdout)
	if err == nil {
		err = json.NewEncoder(stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s %s: %v\n", w.Task, w.Contender, err)
		return 1
	}
	return 0
}

func (w job) do(stdout io.Writer) (any, error) {
	switch w.Task {
	case taskLoad:
		return w.load()
	case taskFill:
		return w.fill()
	case taskLive:
		return nil, w.live(stdout)
	case taskReopen:
		return w.reopen()
	}
	return nil, fmt.Errorf("no task %q", w.Task)
}

// loaded is what a measured stretch came to.
type loaded struct {
	Sales    int
	Elapsed  time.Duration
	P50, P99 time.Duration // of one sale, both steps
	Written  int64         // bytes that went to the device
	CPU      time.Duration // user and system, all threads
	AnonIdle int64         // anonymous memory before the files were opened, bytes
	AnonMost int64         // the most that was seen while selling
}

func (w job) load() (out loaded, err error) {
	if out.AnonIdle, err = anonymousMemory(); err != nil {
		return out, err
	}
	disk, err := deviceOf(w.Dir)
	if err != nil {
		return out, err
	}
	b, err := openBook(w)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if _, err := sell(b, w.Callers, until(w.Warm)); err != nil {
		return out, err
	}
	if w.Marked {
		mark()
	}
	before, err := usage(disk)
	if err != nil {
		return out, err
	}
	peak := watchMemory()
	start := time.Now()
	took, err := sell(b, w.Callers, until(w.Measured))
	out.Elapsed = time.Since(start)
	out.AnonMost = peak()
	if err != nil {
		return out, err
	}
	after, err := usage(disk)
	if w.Marked {
		mark()
	}
	out.Sales, out.Written, out.CPU = len(took), after.written-before.written, after.cpu-before.cpu
	out.P50, out.P99 = percentile(took, 50), percentile(took, 99)
	return out, err
}

// filled is what a filling came to.
type filled struct {
	Sales   int
	Elapsed time.Duration
}

func (w job) fill() (out filled, err error) {
	b, err := openJournal(w.Dir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for n := range w.Owed {
		if err := b.owe(n); err != nil {
			return out, err
		}
	}
	start := time.Now()
	took, err := sell(b, w.Callers, atMost(w.Sales, w.Measured))
	return filled{len(took), time.Since(start)}, err
}

// live sells with one caller until it is killed.
func (w job) live(stdout io.Writer) error {
	b, err := openJournal(w.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	if err := b.settleArmed(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, liveWord); err != nil {
		return err
	}
	if _, err := sell(b, 1, until(liveMax)); err != nil {
		return err
	}
	return errors.New("nobody killed it")
}

// liveWord says that a live worker sells.
const liveWord = "selling"

// reopened is what opening a journal came to.
type reopened struct {
	Open        time.Duration // journal.Open
	List        time.Duration // what is owed and what is armed, listed
	Owed, Armed int
	AnonIdle    int64 // anonymous memory before, bytes
	Anon        int64 // and with the journal open
}

func (w job) reopen() (out reopened, err error) {
	if _, err := os.Stat(w.Dir); err != nil {
		return out, err // or Open would make an empty journal, quickly
	}
	if out.AnonIdle, err = anonymousMemory(); err != nil {
		return out, err
	}
	start := time.Now()
	b, err := openJournal(w.Dir)
	out.Open = time.Since(start)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	owed, err := b.Owed()
	if err != nil {
		return out, err
	}
	armed, err := b.Armed()
	out.List = time.Since(start) - out.Open
	if err != nil {
		return out, err
	}
	out.Owed, out.Armed = len(owed), len(armed)
	out.Anon, err = anonymousMemory()
	return out, err
}
