package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options say how much is measured. The defaults make a full run.
type options struct {
	Dir     string
	Short   bool
	Contest bool // contenders against each other
	History bool // what a long history costs

	Rounds      int
	Warm        time.Duration // before each measured stretch, so that files have their working size
	Measured    time.Duration
	Callers     []int
	SQLiteFsync bool

	Stored      []int // entries in the journal, ascending
	FillCallers int
	FillMax     time.Duration
	Reopens     int
}

// owedStored is how many entries of a filled journal are owed.
const owedStored = 5

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var callers, stored string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.Dir, "dir", ".", "disk directory; everything is in a temporary directory below it, removed at the end")
	f.BoolVar(&o.Short, "short", false, "a few seconds, to see that everything runs; nothing is judged")
	f.BoolVar(&o.Contest, "contest", true, "measure the contenders against each other")
	f.BoolVar(&o.History, "history", true, "measure the journal with many entries stored")
	f.IntVar(&o.Rounds, "rounds", 11, "rounds; each number is the median of them")
	f.DurationVar(&o.Warm, "warm", 250*time.Millisecond, "unmeasured work before each measured stretch")
	f.DurationVar(&o.Measured, "measured", 600*time.Millisecond, "one measured stretch")
	f.StringVar(&callers, "callers", "1,8,64", "concurrent callers")
	f.BoolVar(&o.SQLiteFsync, "sqlite-fsync", false, "SQLite syncs with fsync, the driver's default, not with fdatasync as on every Linux distribution")
	f.StringVar(&stored, "stored", "1000,100000,1000000", "entries stored before a sale's cost is measured; the largest is killed and reopened")
	f.IntVar(&o.FillCallers, "fill-callers", 128, "concurrent callers that fill a journal")
	f.DurationVar(&o.FillMax, "fill-max", 4*time.Minute, "filling ends here, and what is stored by then is measured")
	f.IntVar(&o.Reopens, "reopens", 9, "kills and reopens, warm and cold each")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.Short {
		o.shorten(given, &stored)
	}
	var err, errStored error
	o.Callers, err = counts("callers", callers)
	o.Stored, errStored = counts("stored", stored)
	slices.Sort(o.Stored)
	return o, errors.Join(err, errStored, o.validate(f.Args()))
}

// shorten makes every count small that was not given.
func (o *options) shorten(given map[string]bool, stored *string) {
	if !given["rounds"] {
		o.Rounds = 1
	}
	if !given["warm"] {
		o.Warm = 20 * time.Millisecond
	}
	if !given["measured"] {
		o.Measured = 60 * time.Millisecond
	}
	if !given["stored"] {
		*stored = "200,1000"
	}
	if !given["fill-max"] {
		o.FillMax = 10 * time.Second
	}
	if !given["reopens"] {
		o.Reopens = 1
	}
}

func (o options) validate(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is no flag", rest[0])
	case o.Rounds < 1 || o.Reopens < 1 || o.FillCallers < 1:
		return errors.New("rounds, reopens and fill-callers must be 1 or more")
	case o.Measured <= 0 || o.Warm < 0 || o.FillMax <= 0:
		return errors.New("measured and fill-max must be longer than nothing, warm not negative")
	case o.Measured > measuredMax || o.Warm > measuredMax:
		return fmt.Errorf("measured and warm must be at most %v", measuredMax)
	}
	return nil
}

func counts(name, list string) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || slices.Contains(out, n) {
			return nil, fmt.Errorf("-%s %s: a list of different numbers from 1 with commas between is needed", name, list)
		}
		out = append(out, n)
	}
	return out, nil
}
