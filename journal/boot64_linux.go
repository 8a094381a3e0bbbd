//go:build !386 && !arm && !mips && !mipsle

package journal

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockGettime64 is not there on 64-bit machines: the plain call has 64-bit seconds.
func clockGettime64(int32) (time.Duration, error) { return 0, unix.ENOSYS }
