//go:build 386 || arm || mips || mipsle

package journal

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clockGettime64 reads a clock with 64-bit seconds. ENOSYS before Linux 5.1.
func clockGettime64(clock int32) (time.Duration, error) {
	var ts struct{ sec, nsec int64 }
	_, _, errno := unix.Syscall(unix.SYS_CLOCK_GETTIME64, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, errno
	}
	return time.Duration(ts.sec)*time.Second + time.Duration(ts.nsec), nil
}
