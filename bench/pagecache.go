package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dropFromMemory makes the kernel forget what it has of a directory's files, and
// gives the share of their pages that stayed all the same, -1 when the kernel
// cannot say. What the disk itself keeps in memory, and the names and block maps,
// it cannot drop.
func dropFromMemory(dir string) (share float64, err error) {
	var pages, cached uint64
	known := true
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := f.Sync(); err != nil { // pages that were not written yet cannot be dropped
			return err
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return os.NewSyscallError("fadvise", err)
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		size := uint64(info.Size())
		pages += (size + uint64(os.Getpagesize()) - 1) / uint64(os.Getpagesize())
		var stat unix.Cachestat_t
		err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: size}, &stat, 0)
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			known = false
			return nil
		}
		cached += stat.Cache
		return os.NewSyscallError("cachestat", err)
	})
	if err != nil || !known || pages == 0 {
		return -1, err
	}
	return float64(cached) / float64(pages), nil
}
