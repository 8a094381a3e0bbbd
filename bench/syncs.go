package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// Syncs are counted by strace, in runs of their own because it slows what it
// watches. The measured stretch stands between two syncs of no file, which change
// nothing and show in the log.

func mark() { _ = unix.Fsync(-1) }

const syncCalls = "fsync,fdatasync,msync,sync_file_range,syncfs"

// counter counts syncs; its zero value cannot, and why says so.
type counter struct {
	command []string
	why     string
}

func newCounter() counter {
	path, err := exec.LookPath("strace")
	if err != nil {
		return counter{why: "strace is not installed"}
	}
	// With a filter in the kernel only syncs are stopped at; an old strace lacks it.
	var refused error
	for _, filter := range []string{"--seccomp-bpf", "-q"} {
		command := []string{path, "-f", filter, "-e", "trace=" + syncCalls}
		out, err := exec.Command(path, append(command[1:len(command):len(command)], "-o", os.DevNull, "true")...).CombinedOutput()
		if err == nil {
			return counter{command: command}
		}
		refused = fmt.Errorf("strace cannot watch here: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return counter{why: refused.Error()}
}

// watched is a load that was run to be counted: its times are not to be trusted.
type watched struct {
	Sales int
	Syncs int
}

func (c counter) count(ctx context.Context, w job) (watched, error) {
	log := filepath.Join(w.Dir, "..", "strace.log")
	defer func() { _ = os.Remove(log) }()
	w.Marked = true
	l, err := runWorker[loaded](ctx, w, append(c.command[:len(c.command):len(c.command)], "-o", log)...)
	if err != nil {
		return watched{}, err
	}
	f, err := os.Open(log)
	if err != nil {
		return watched{}, err
	}
	defer func() { _ = f.Close() }()
	n, err := countSyncs(f)
	if err != nil {
		return watched{}, fmt.Errorf("count of syncs of %s: %w", w.Contender, err)
	}
	return watched{l.Sales, n}, nil
}

var (
	markLine = regexp.MustCompile(`^(\d+ +)?fsync\(-1\b`)
	// A call that another thread's interrupted has its end on a line of its own.
	syncLine = regexp.MustCompile(`^(\d+ +)?(<\.\.\. )?(` + strings.ReplaceAll(syncCalls, ",", "|") + `)\b.*= 0$`)
)

// countSyncs counts the syncs that succeeded between the two marks of a log.
func countSyncs(log io.Reader) (int, error) {
	marks, syncs := 0, 0
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		switch line := lines.Text(); {
		case markLine.MatchString(line):
			marks++
		case marks == 1 && syncLine.MatchString(line):
			syncs++
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if marks != 2 {
		return 0, errors.New("the log does not show where the measured stretch begins and ends")
	}
	return syncs, nil
}
