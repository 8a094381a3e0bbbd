package journal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fsKind is a kind of file system, as far as a journal on it cares.
type fsKind uint8

const (
	fsOther   fsKind = iota
	fsExt            // ext2, ext3 and ext4, which have one magic number
	fsXFS            //
	fsF2FS           //
	fsUBIFS          //
	fsBtrfs          //
	fsJFFS2          //
	fsOverlay        // what it lies over is not known
	fsTmpfs          // gone with the power
)

// fsKinds has what is known of each kind. What is not known is taken for one that
// moves blocks: a ballast that nobody needed costs space, a missing one a sale.
var fsKinds = map[fsKind]struct {
	name        string
	unfit       bool
	movesBlocks bool
}{
	fsOther:   {"other", false, true},
	fsExt:     {"ext2/3/4", false, false},
	fsXFS:     {"xfs", false, false},
	fsF2FS:    {"f2fs", false, true},
	fsUBIFS:   {"ubifs", false, true},
	fsBtrfs:   {"btrfs", false, true},
	fsJFFS2:   {"jffs2", true, true},
	fsOverlay: {"overlay", false, true},
	fsTmpfs:   {"tmpfs", false, false},
}

// String is the kind's name for people.
func (k fsKind) String() string { return fsKinds[k].name }

// unfit reports whether no journal can be kept there: it has no shared mmap.
func (k fsKind) unfit() bool { return fsKinds[k].unfit }

// movesBlocks reports whether overwriting a file may need new blocks there, so that
// a file of full length is no reserve (L14).
func (k fsKind) movesBlocks() bool { return fsKinds[k].movesBlocks }

// ubifsMagic is UBIFS_SUPER_MAGIC of the kernel's fs/ubifs/ubifs.h.
const ubifsMagic = 0x24051905

// fsKindOfType knows a kind by statfs's f_type. Machines of 32 bits give the upper
// half of the numbers as negative ones.
func fsKindOfType(fType int64) fsKind {
	switch uint32(fType) {
	case unix.EXT4_SUPER_MAGIC:
		return fsExt
	case unix.XFS_SUPER_MAGIC:
		return fsXFS
	case unix.F2FS_SUPER_MAGIC:
		return fsF2FS
	case ubifsMagic:
		return fsUBIFS
	case unix.BTRFS_SUPER_MAGIC:
		return fsBtrfs
	case unix.JFFS2_SUPER_MAGIC:
		return fsJFFS2
	case unix.OVERLAYFS_SUPER_MAGIC:
		return fsOverlay
	case unix.TMPFS_MAGIC:
		return fsTmpfs
	}
	return fsOther
}

// fsKindOf says on what kind of file system a directory, or a file, is.
func fsKindOf(dir string) (fsKind, error) {
	st, err := statfs(dir)
	if err != nil {
		return fsOther, err
	}
	return fsKindOfType(int64(st.Type)), nil
}

// freeBytes is how much this file system has left for everybody; what root alone
// may use does not count. Compression, and blocks that are moved (movesBlocks), make
// it an estimate.
func freeBytes(dir string) (int64, error) {
	st, err := statfs(dir)
	if err != nil {
		return 0, err
	}
	block := uint64(st.Frsize)
	if block == 0 { // before Linux 2.6
		block = uint64(st.Bsize)
	}
	return bytesOf(st.Bavail, block), nil
}

// bytesOf stays in range on a file system that claims to be endless.
func bytesOf(blocks, block uint64) int64 {
	if high, low := bits.Mul64(blocks, block); high == 0 && low <= math.MaxInt64 {
		return int64(low)
	}
	return math.MaxInt64
}

// usedPercent is how full the file system is, 0 to 100, rounded up, as df shows it:
// what root alone may use is left out. 0 where nothing can be stored.
func usedPercent(dir string) (int, error) {
	st, err := statfs(dir)
	if err != nil {
		return 0, err
	}
	return percentUsed(st.Blocks, st.Bfree, st.Bavail), nil
}

func percentUsed(blocks, free, available uint64) int {
	if blocks == 0 || free > blocks { // a file system that counts nothing, or makes no sense
		return 0
	}
	used := blocks - free
	available = min(available, free)
	if used+available == 0 {
		return 100 // all that is left is root's
	}
	return int(math.Ceil(float64(used) * 100 / float64(used+available)))
}

// interruptsMax bounds how often a call that a signal interrupted is made again;
// Go's own signals interrupt too.
const interruptsMax = 100

func statfs(path string) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	for n := 0; errors.Is(err, unix.EINTR) && n < interruptsMax; n++ {
		err = unix.Statfs(path, &st)
	}
	if err != nil {
		return st, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st, nil
}

// allocator makes room in files; tests put others in the place of its call.
type allocator struct {
	fallocate func(fd int, mode uint32, offset, length int64) error
}

// allocate gives a file at least size bytes and the blocks for them, so that
// overwriting them needs no space any more, unless the file system movesBlocks
// (L14). What was in the file stays; behind it are zeros. It never shrinks a file.
// Nothing is synced: some file systems find out only then that they are full.
//
// After an error the file has its old length and content. A full disk is an error
// that wraps syscall.ENOSPC. Nobody else may change the file's length meanwhile.
//
// Blocks that fallocate(2) gave are reserved, not written: the first write into
// each changes metadata, which its sync pays for. Where there is no fallocate (ext2,
// ubifs) zeros are written behind the end, and a hole before it stays one. Zeros
// reserve next to nothing where they are compressed (ubifs does so unless told not
// to): a ballast there must be random bytes.
func allocate(f *os.File, size int64) error { return allocator{unix.Fallocate}.allocate(f, size) }

func (a allocator) allocate(f *os.File, size int64) error {
	if size < 0 {
		return fmt.Errorf("%w: a file of %d bytes", ErrInvalid, size)
	}
	if size == 0 {
		return nil
	}
	before, err := f.Stat()
	if err != nil {
		return err
	}
	err = a.reserve(f, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINTR) {
		err = appendZeros(f, before.Size(), size)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, f.Truncate(before.Size())) // what was given before the disk was full is given back
}

// reserve is fallocate(2), which leaves alone what is there and fills holes.
func (a allocator) reserve(f *os.File, size int64) error {
	err := a.fallocate(int(f.Fd()), 0, 0, size)
	for n := 0; errors.Is(err, unix.EINTR) && n < interruptsMax; n++ {
		err = a.fallocate(int(f.Fd()), 0, 0, size)
	}
	return os.NewSyscallError("fallocate", err)
}

// zerosBytes is how much one write of zeros takes.
const zerosBytes = 64 << 10

func appendZeros(f *os.File, from, to int64) error {
	zeros := make([]byte, zerosBytes)
	for at := from; at < to; {
		n, err := f.WriteAt(zeros[:min(zerosBytes, to-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// detectFastCommit reports whether a directory is on an ext4 that commits fast
// (mkfs.ext4 -O fast_commit), out of which power cuts can leave a file system that
// does not mount.
//
// No list of options or features that one may read without being root shows it. The
// kernel's statistics do, /proc/fs/ext4/DEVICE/fc_info, open to everybody: they stay
// at zero without the feature, and with it the first fsync or fdatasync of a file on
// that file system since it was mounted moves them (measured on Linux 6.18). So ask
// after a sync. It is false when nobody has synced yet, when /proc or /sys are not
// to be had, on other file systems, and on an overlay, whatever lies beneath.
func detectFastCommit(dir string) bool { return detectFastCommitUnder("/", dir) }

// detectFastCommitUnder finds /proc and /sys under root.
func detectFastCommitUnder(root, dir string) bool {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return false
	}
	number := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	device, err := os.Readlink(filepath.Join(root, "sys/dev/block", number))
	if err != nil {
		return false // no block device is behind it
	}
	f, err := os.Open(filepath.Join(root, "proc/fs/ext4", filepath.Base(device), "fc_info"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	info, err := io.ReadAll(io.LimitReader(f, 4096)) // the counts are in the first lines
	return err == nil && fastCommits(string(info))
}

// fastCommits reads fc_info: one count and its name a line.
func fastCommits(info string) bool {
	for line := range strings.Lines(info) {
		count, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "commits" && name != "ineligible" {
			continue
		}
		if n, err := strconv.ParseUint(count, 10, 64); err == nil && n > 0 {
			return true
		}
	}
	return false
}
