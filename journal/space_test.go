package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Magic numbers are those of the kernel's linux/magic.h and fs/ubifs/ubifs.h. What
// a kind can do is from DESIGN, "The journal on disk".
func TestFileSystemKinds(t *testing.T) {
	t.Parallel()
	const high = -1 << 32 // as a 32-bit machine extends numbers with the highest bit set
	for _, c := range []struct {
		fType              int64
		kind               fsKind
		name               string
		unfit, movesBlocks bool
	}{
		{0xEF53, fsExt, "ext2/3/4", false, false},
		{0x58465342, fsXFS, "xfs", false, false},
		{0xF2F52010, fsF2FS, "f2fs", false, true},
		{high | 0xF2F52010, fsF2FS, "f2fs", false, true},
		{0x24051905, fsUBIFS, "ubifs", false, true},
		{0x9123683E, fsBtrfs, "btrfs", false, true},
		{high | 0x9123683E, fsBtrfs, "btrfs", false, true},
		{0x72B6, fsJFFS2, "jffs2", true, true},
		{0x794C7630, fsOverlay, "overlay", false, true},
		{0x01021994, fsTmpfs, "tmpfs", false, false},
		{0, fsOther, "other", false, true},
		{-1, fsOther, "other", false, true},
		{0x6969, fsOther, "other", false, true},     // nfs
		{0x4D44, fsOther, "other", false, true},     // vfat
		{0xCA451A4E, fsOther, "other", false, true}, // bcachefs
	} {
		k := fsKindOfType(c.fType)
		if k != c.kind || k.String() != c.name || k.unfit() != c.unfit || k.movesBlocks() != c.movesBlocks {
			t.Errorf("%#x: %s, unfit %v, moves blocks %v; want %+v", c.fType, k, k.unfit(), k.movesBlocks(), c)
		}
	}
}

// mountedAs is what the kernel's list of mounts says of a directory.
func mountedAs(t *testing.T, dir string) (kind string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	at := ""
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		under := f[1] == "/" || dir == f[1] || strings.HasPrefix(dir, f[1]+"/")
		if under && len(f[1]) >= len(at) { // of two at one place the later one is seen
			at, kind = f[1], f[2]
		}
	}
	return kind
}

func TestFileSystemOfADirectory(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), "/proc", "/dev/shm", "/"} {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		want, known := map[string]fsKind{
			"ext2": fsExt, "ext3": fsExt, "ext4": fsExt, "xfs": fsXFS, "f2fs": fsF2FS, "ubifs": fsUBIFS, "btrfs": fsBtrfs,
			"jffs2": fsJFFS2, "overlay": fsOverlay, "tmpfs": fsTmpfs, "proc": fsOther,
		}[mountedAs(t, dir)]
		if got, err := fsKindOf(dir); err != nil || known && got != want {
			t.Errorf("%s is mounted as %s: %s, %v", dir, mountedAs(t, dir), got, err)
		}
	}
	gone := filepath.Join(t.TempDir(), "nothing")
	_, err1 := fsKindOf(gone)
	_, err2 := freeBytes(gone)
	_, err3 := usedPercent(gone)
	for _, err := range []error{err1, err2, err3} {
		if wantErr(t, "a directory that is not there", err, fs.ErrNotExist); !strings.Contains(err.Error(), gone) {
			t.Errorf("%v does not say where", err)
		}
	}
}

func TestFreeBytesAndPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		blocks, block uint64
		want          int64
	}{
		{0, 4096, 0}, {3, 4096, 12288}, {1 << 40, 4096, 1 << 52}, {1 << 51, 4095, 4095 << 51}, {1 << 51, 4096, math.MaxInt64},
		{math.MaxUint64, 1, math.MaxInt64}, {math.MaxUint64, 1 << 63, math.MaxInt64},
	} {
		if got := bytesOf(c.blocks, c.block); got != c.want {
			t.Errorf("%d blocks of %d: %d, want %d", c.blocks, c.block, got, c.want)
		}
	}
	for _, c := range []struct {
		blocks, free, available uint64
		want                    int
	}{
		{100, 100, 100, 0}, {100, 0, 0, 100}, {100, 50, 50, 50}, {1000, 999, 999, 1}, {1000, 1, 1, 100},
		{100, 5, 0, 100},             // what is left is root's
		{100, 55, 45, 50},            // root's tenth is left out, as df does
		{100, 100, 0, 100},           // all of it is root's
		{0, 0, 0, 0}, {10, 20, 5, 0}, // proc; nonsense
		{100, 40, 90, 60},                      // nonsense: more available than free
		{math.MaxUint64, 1 << 62, 1 << 62, 75}, // in range
	} {
		if got := percentUsed(c.blocks, c.free, c.available); got != c.want {
			t.Errorf("%+v: %d %%", c, got)
		}
	}
	dir := t.TempDir()
	free, err1 := freeBytes(dir)
	used, err2 := usedPercent(dir)
	if err1 != nil || err2 != nil || free <= 0 || used < 0 || used > 100 {
		t.Errorf("%d bytes free %v, %d %% used %v", free, err1, used, err2)
	}
	if used, err := usedPercent("/proc"); err != nil || used != 0 {
		t.Errorf("/proc: %d %% %v", used, err)
	}
}

// oldContent is what must still be in a file when room was made behind it.
var oldContent = bytes.Repeat([]byte("an old record; "), 777)

func fileWith(t *testing.T, dir string, content []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}

func wantContent(t teller, what string, f *os.File, want []byte) {
	t.Helper()
	if got := fileBytes(t, f.Name()); !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, the first other one is at %d; want %d bytes", what, len(got), firstDifference(got, want), len(want))
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// allocators are the ways in which room can be made: as the file system here does
// it, and as one does that has no fallocate.
var allocators = map[string]allocator{
	"here":            {unix.Fallocate},
	"not supported":   {func(int, uint32, int64, int64) error { return unix.EOPNOTSUPP }},
	"no such call":    {func(int, uint32, int64, int64) error { return unix.ENOSYS }},
	"always a signal": {func(int, uint32, int64, int64) error { return unix.EINTR }},
}

// L14: the room is there, what was in the file stays, and the rest is zeros.
func TestL14Allocate(t *testing.T) {
	t.Parallel()
	for what, a := range allocators {
		for _, content := range [][]byte{nil, oldContent} {
			for _, size := range []int64{1, 4096, 100_000, 3*zerosBytes + 17} {
				f := fileWith(t, t.TempDir(), content)
				want := append(bytes.Clone(content), make([]byte, max(0, int(size)-len(content)))...)
				if err := a.allocate(f, size); err != nil {
					t.Fatalf("%s, %d bytes: %v", what, size, err)
				}
				wantContent(t, what, f, want)
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				wantBlocks(t, what, f, int64(len(want)))
			}
		}
	}
}

// wantBlocks fails unless the file system counts blocks for all of a file. One that
// compresses or moves blocks may count others.
func wantBlocks(t *testing.T, what string, f *os.File, size int64) {
	t.Helper()
	k, err := fsKindOf(f.Name())
	if err != nil || k.movesBlocks() {
		return
	}
	var st unix.Stat_t
	if err := unix.Stat(f.Name(), &st); err != nil {
		t.Fatal(err)
	}
	if given := int64(st.Blocks) * 512; given < size {
		t.Errorf("%s on %s: blocks for %d bytes of %d", what, k, given, size)
	}
}

func TestL14AllocateNeverShrinks(t *testing.T) {
	t.Parallel()
	for what, a := range allocators {
		f := fileWith(t, t.TempDir(), oldContent)
		for _, size := range []int64{0, 1, 4096, int64(len(oldContent)) - 1, int64(len(oldContent))} {
			if err := a.allocate(f, size); err != nil {
				t.Errorf("%s, %d bytes: %v", what, size, err)
			}
			wantContent(t, what, f, oldContent)
		}
		wantErr(t, what, a.allocate(f, -1), ErrInvalid)
		wantContent(t, what, f, oldContent)
	}
}

// A file that was only made long has no blocks; making room gives it some, where
// the file system can.
func TestL14AllocateFillsHoles(t *testing.T) {
	t.Parallel()
	f := fileWith(t, t.TempDir(), nil)
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1); err != nil {
		t.Skipf("SKIPPED: no fallocate here: %v", err)
	}
	const size = 1 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(oldContent, 500_000); err != nil {
		t.Fatal(err)
	}
	want := fileBytes(t, f.Name())
	if err := allocate(f, size); err != nil {
		t.Fatal(err)
	}
	wantContent(t, "a file with holes", f, want)
	wantBlocks(t, "a file with holes", f, size)
}

// A call that a signal interrupts is made again.
func TestAllocateGoesOnAfterSignals(t *testing.T) {
	t.Parallel()
	calls := 0
	a := allocator{func(fd int, mode uint32, offset, length int64) error {
		if calls++; calls < 5 {
			return unix.EINTR
		}
		if mode != 0 || offset != 0 || length != 8192 {
			t.Errorf("mode %d, %d bytes from %d on", mode, length, offset)
		}
		return unix.Ftruncate(fd, length)
	}}
	f := fileWith(t, t.TempDir(), oldContent[:100])
	if err := a.allocate(f, 8192); err != nil || calls != 5 {
		t.Errorf("%v after %d calls", err, calls)
	}
	wantContent(t, "after signals", f, append(bytes.Clone(oldContent[:100]), make([]byte, 8192-100)...))
}

// L14: a disk that is full half way is an error that says so, and the file is as it
// was.
func TestL14AllocateOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EFBIG} {
		a := allocator{func(fd int, _ uint32, _, length int64) error {
			if err := unix.Ftruncate(fd, length/2); err != nil { // ext4 keeps what it has given so far
				t.Error(err)
			}
			return errno
		}}
		f := fileWith(t, t.TempDir(), oldContent)
		err := a.allocate(f, 1<<20)
		wantErr(t, errno.Error(), err, errno)
		wantContent(t, errno.Error(), f, oldContent)
	}
	f := fileWith(t, t.TempDir(), oldContent)
	readOnly, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for what, a := range allocators {
		if err := a.allocate(readOnly, 1<<20); err == nil {
			t.Errorf("%s: a file opened for reading was made longer", what)
		}
		wantContent(t, "opened for reading", f, oldContent)
	}
	_ = readOnly.Close()
	if err := allocate(readOnly, 1<<20); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file: %v", err)
	}
}

const smallDiskVar = "UNCHARGE_TEST_SMALL_DISK"

// L14 on a real disk of 1 MB, in a process with mounts of its own.
func TestL14ASmallDisk(t *testing.T) {
	onDiskOfItsOwn(t, smallDiskVar, "size=1m", onASmallDisk)
}

// onDiskOfItsOwn runs a test again in a process that has mounts of its own, and there
// on a small disk. The variable tells that process where.
func onDiskOfItsOwn(t *testing.T, variable, size string, do func(t *testing.T, dir string)) {
	t.Helper()
	if dir := os.Getenv(variable); dir != "" {
		if err := unix.Mount("small", dir, "tmpfs", 0, size); err != nil {
			fmt.Println("CANNOT mount:", err)
			return
		}
		fmt.Println("MOUNTED")
		do(t, dir)
		return
	}
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"="+t.TempDir())
	cmd.SysProcAttr = ownMounts()
	out, err := cmd.CombinedOutput()
	switch {
	case !bytes.Contains(out, []byte("MOUNTED")):
		t.Skipf("SKIPPED: no mounts of one's own here: %v %s", err, bytes.TrimSpace(out))
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

func onASmallDisk(t *testing.T, dir string) {
	const size = 1 << 20
	wantSpace := func(what string, free int64, used int) {
		t.Helper()
		gotFree, err1 := freeBytes(dir)
		gotUsed, err2 := usedPercent(dir)
		if gotFree != free || gotUsed != used || err1 != nil || err2 != nil {
			t.Errorf("%s: %d bytes free %v, %d %% used %v; want %d, %d", what, gotFree, err1, gotUsed, err2, free, used)
		}
	}
	page := int64(os.Getpagesize())
	old := (int64(len(oldContent)) + page - 1) / page * page
	if k, err := fsKindOf(dir); k != fsTmpfs || err != nil {
		t.Errorf("%s %v", k, err)
	}
	wantSpace("empty", size, 0)
	for what, a := range allocators {
		f := fileWith(t, dir, oldContent)
		wantErr(t, what, a.allocate(f, 2*size), syscall.ENOSPC)
		wantContent(t, what, f, oldContent)
		wantSpace(what+", refused", size-old, int((old*100+size-1)/size))
		if err := a.allocate(f, size/2); err != nil {
			t.Errorf("%s, half the disk: %v", what, err)
		}
		wantSpace(what+", half", size/2, 50)
		rest, err := os.Create(filepath.Join(dir, "rest"))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.allocate(rest, size/2); err != nil {
			t.Errorf("%s, the other half: %v", what, err)
		}
		wantSpace(what+", full", 0, 100)
		wantErr(t, what+", one page more", a.allocate(f, size/2+1), syscall.ENOSPC)
		random := make([]byte, size/2) // what was reserved can be written on the full disk
		for i := range random {
			random[i] = byte(rand.Uint32())
		}
		if _, err := f.WriteAt(random, 0); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		wantContent(t, what, f, random)
		if err := errors.Join(rest.Close(), os.Remove(rest.Name()), f.Close(), os.Remove(f.Name())); err != nil {
			t.Fatal(err)
		}
		wantSpace(what+", empty again", size, 0)
	}
}

// fc_info as Linux 6.18 writes it, with the feature and without it.
const fastCommitInfo = `fc stats:
%d commits
%d ineligible
%d numblks
0us avg_commit_time
Ineligible reasons:
"Extended attributes changed":	7
"Cross rename":	0
`

func TestFastCommitStatistics(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		fmt.Sprintf(fastCommitInfo, 0, 0, 0):            false,
		fmt.Sprintf(fastCommitInfo, 3, 0, 3):            true,
		fmt.Sprintf(fastCommitInfo, 0, 1, 0):            true,
		fmt.Sprintf(fastCommitInfo, 0, 0, 9):            false,
		"":                                              false,
		"commits\n":                                     false,
		"-1 commits\n":                                  false,
		"some commits\n":                                false,
		"1 commits of another kind\n":                   false,
		"99999999999999999999999999999999999 commits":   false,
		"18446744073709551615 commits":                  true,
		strings.Repeat("0 numblks\n", 50) + "1 commits": true,
	} {
		if got := fastCommits(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// A directory's device is found by its number, as /sys has it.
func TestDetectFastCommit(t *testing.T) {
	t.Parallel()
	dir, root := t.TempDir(), t.TempDir()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	detect := func(what string, want bool) {
		t.Helper()
		if got := detectFastCommitUnder(root, dir); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	detect("neither /sys nor /proc", false)
	devices, stats := filepath.Join(root, "sys/dev/block"), filepath.Join(root, "proc/fs/ext4/mmcblk0p2")
	must(errors.Join(os.MkdirAll(devices, 0o700), os.MkdirAll(stats, 0o700)))
	number := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	must(os.Symlink("../../devices/platform/soc/mmc0/block/mmcblk0/mmcblk0p2", filepath.Join(devices, number)))
	detect("no statistics", false)
	info := filepath.Join(stats, "fc_info")
	must(os.WriteFile(info, fmt.Appendf(nil, fastCommitInfo, 0, 0, 0), 0o600))
	detect("nothing counted", false)
	must(os.WriteFile(info, fmt.Appendf(nil, fastCommitInfo, 12, 1, 30), 0o600))
	detect("twelve commits", true)
	must(os.WriteFile(info, append(bytes.Repeat([]byte(" \n"), 1<<20), "1 commits\n"...), 0o600))
	detect("far too long", false)
	must(errors.Join(os.Remove(info), os.Mkdir(info, 0o700)))
	detect("a directory in its place", false)
	if detectFastCommitUnder(root, filepath.Join(dir, "nothing")) {
		t.Error("a directory that is not there has fast commits")
	}
	if detectFastCommit("/proc") {
		t.Error("/proc has fast commits")
	}
}
