package journal

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The time since boot is the only clock that means something to two processes of
// one device, and only within one boot: wall time may be set to anything (L12), and
// Go's own monotonic time has no beginning that another process knows and stands
// still while the device is suspended.

const bootIDPath = "/proc/sys/kernel/random/boot_id"

// bootID names this boot of the device: 36 characters, drawn by the kernel anew at
// every start. "" when it cannot be read or is no such name; two of those say
// nothing about whether it is still the same boot. A virtual machine that is set
// back to a snapshot keeps the id.
func bootID() string { return bootIDAt(bootIDPath) }

func bootIDAt(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 64) // longer than an id, so that what is too long is seen
	n, _ := f.Read(b)
	id := strings.TrimSuffix(string(b[:n]), "\n")
	if len(id) != 36 || strings.Trim(id, "0123456789abcdef-") != "" {
		return ""
	}
	return id
}

// sinceBoot is the time since the device was started, time in suspension counted.
// It never goes back within one boot. 0 when the kernel has no such clock.
func sinceBoot() time.Duration { return firstClock(clockGettime) }

// firstClock reads the first clock there is. A kernel before 2.6.39 has only the
// one that stands still in suspension: waits then last longer, none is lost.
func firstClock(read func(clock int32) (time.Duration, error)) time.Duration {
	for _, clock := range []int32{unix.CLOCK_BOOTTIME, unix.CLOCK_MONOTONIC} {
		if d, err := read(clock); err == nil {
			return d
		}
	}
	return 0
}

// clockGettime reads a clock of the kernel. On a 32-bit machine the call with 64-bit
// seconds is missing before Linux 5.1, and some sandboxes forbid what they do not
// know; the old call is missing where the kernel was built without it.
func clockGettime(clock int32) (time.Duration, error) {
	if d, err := clockGettime64(clock); err == nil {
		return d, nil
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}
