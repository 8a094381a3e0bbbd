package journal

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const someBootID = "3f2a9c1e-0b4d-4e5f-8a6b-7c8d9e0f1a2b"

func TestBootID(t *testing.T) {
	t.Parallel()
	id := bootID()
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err != nil {
		t.Logf("no boot id here: %v", err)
	} else if id != strings.TrimSpace(string(b)) {
		t.Errorf("%q, the kernel says %q", id, b)
	}
	if again := bootID(); again != id {
		t.Errorf("%q, then %q", id, again)
	}
}

// What is no boot id is none: it goes into the journal.
func TestBootIDOfOtherFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		someBootID + "\n":                someBootID,
		someBootID:                       someBootID,
		"":                               "",
		"\n":                             "",
		someBootID[1:] + "\n":            "",
		someBootID + "0\n":               "",
		someBootID + "\n\n":              "",
		someBootID[:35] + "\n" + "\n":    "",
		strings.ToUpper(someBootID):      "",
		someBootID[:35] + "\"":           "",
		strings.Repeat(someBootID, 1000): "",
		strings.Repeat("\x00", 36):       "",
	} {
		path := filepath.Join(t.TempDir(), "boot_id")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := bootIDAt(path); got != want {
			t.Errorf("%.50q: %q, want %q", text, got, want)
		}
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "nothing"), ""} {
		if got := bootIDAt(path); got != "" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// uptime is the kernel's own word in hundredths of a second, from the clock that
// counts suspended time.
func uptime(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(math.Round(seconds*100)) * 10 * time.Millisecond
}

// L12: the time since boot is what the kernel says, and goes on.
func TestL12SinceBoot(t *testing.T) {
	t.Parallel()
	before := uptime(t)
	got := sinceBoot()
	if after := uptime(t); got < before-10*time.Millisecond || got > after+10*time.Millisecond {
		t.Errorf("%v since boot, the kernel says %v to %v", got, before, after)
	}
	start, last := time.Now(), got
	for time.Since(start) < 30*time.Millisecond {
		now := sinceBoot()
		if now < last {
			t.Fatalf("%v after %v", now, last)
		}
		last = now
	}
	last = sinceBoot()
	if passed := last - got; passed < 30*time.Millisecond {
		t.Errorf("30 ms passed, the clock went on by %v", passed)
	}
}

// L12: the clock that counts suspended time is asked first; one that stands still
// then is better than none.
func TestL12SuspendedTimeCounts(t *testing.T) {
	t.Parallel()
	const bootTime, monotonic = 7, 1 // linux/time.h
	missing := errors.New("no such clock")
	for _, c := range []struct {
		has   map[int32]time.Duration
		want  time.Duration
		asked []int32
	}{
		{map[int32]time.Duration{bootTime: time.Hour, monotonic: time.Minute}, time.Hour, []int32{bootTime}},
		{map[int32]time.Duration{monotonic: time.Minute}, time.Minute, []int32{bootTime, monotonic}},
		{nil, 0, []int32{bootTime, monotonic}},
	} {
		var asked []int32
		got := firstClock(func(clock int32) (time.Duration, error) {
			asked = append(asked, clock)
			if d, ok := c.has[clock]; ok {
				return d, nil
			}
			return 0, missing
		})
		if got != c.want || !slices.Equal(asked, c.asked) {
			t.Errorf("%v: %v, asked for %v, want %v, %v", c.has, got, asked, c.want, c.asked)
		}
	}
	if _, err := clockGettime(-99); err == nil {
		t.Error("there is a clock -99")
	}
	if d, err := clockGettime64(bootTime); err == nil { // on a 32-bit machine
		if old, err := clockGettime(bootTime); err != nil || old < d || old > d+time.Minute {
			t.Errorf("%v by the call with 64-bit seconds, then %v %v", d, old, err)
		}
	}
}
