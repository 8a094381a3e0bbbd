package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// device is the disk below a directory. Its own counter of sectors written has
// everybody's writes in it, and those of the file system for its own sake; it is
// what wears the flash. The kernel's count for one process (write_bytes) would
// leave others out, but counts a page cache's whole folio, up to megabytes, for
// each small write into it.
type device struct {
	stat string // "" when the directory lies on no block device of its own
}

const sectorBytes = 512 // of the counter, whatever the disk's are

func deviceOf(dir string) (device, error) {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return device{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	path := fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(s.Dev), unix.Minor(s.Dev))
	if _, err := os.Stat(path); err != nil {
		return device{}, nil // overlay, btrfs, tmpfs, or no /sys
	}
	return device{path}, nil
}

// String says what its count is.
func (d device) String() string {
	if d.stat == "" {
		return "this process caused (write_bytes), too many where small writes go into large folios"
	}
	return "the disk wrote, everybody's together: nothing else should write to it meanwhile"
}

// written is a growing count of bytes.
func (d device) written() (int64, error) {
	if d.stat == "" {
		return procNumber("/proc/self/io", "write_bytes:")
	}
	b, err := os.ReadFile(d.stat)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	const written = 6 // the seventh field, Documentation/block/stat.rst
	if len(fields) <= written {
		return 0, fmt.Errorf("%s has %d fields only", d.stat, len(fields))
	}
	sectors, err := strconv.ParseInt(fields[written], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", d.stat, err)
	}
	return sectors * sectorBytes, nil
}
