package journal

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every legal power cut, part 13: the model of the disk itself, against what a disk
// may do, all of it.

// traceOf writes a trace as strace -xx would. Paths are below /r, A B C stand for
// 512 bytes each of that letter.
func traceOf(lines string) string {
	hexed := func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
		return b.String()
	}
	lines = regexp.MustCompile(`'[A-Z]*'`).ReplaceAllStringFunc(lines, func(s string) string {
		var b strings.Builder
		for _, c := range strings.Trim(s, "'") {
			b.WriteString(strings.Repeat(string(c), sectorBytes))
		}
		return `"` + b.String() + `"`
	})
	lines = regexp.MustCompile(`"[^"]*"|</[^>]*>`).ReplaceAllStringFunc(lines, func(s string) string {
		return s[:1] + hexed(s[1:len(s)-1]) + s[len(s)-1:]
	})
	var b strings.Builder
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString("1 " + strings.TrimPrefix(line, "1 ") + "\n")
		}
	}
	return strings.ReplaceAll(b.String(), "1 2 ", "2 ")
}

// everyImage is all that the disk may hold when the power fails now. Zeros print as
// dots, sectors as letters.
func (d *disk) everyImage(t *testing.T, grain int64) []string {
	found, sums := map[string]uint64{}, map[uint64]string{}
	for _, n := range d.nodes {
		n.synced = true // or its content would not count
	}
	for chosen, limits := []int(nil), []int(nil); ; {
		at := 0
		o := d.outcome(grain, func(by []*kcall) int {
			if at == len(chosen) {
				chosen, limits = append(chosen, 0), append(limits, len(by))
			}
			at++
			return chosen[at-1]
		})
		letters, sum := o.image().letters(), o.sum()
		if was, known := found[letters]; known && was != sum {
			t.Errorf("%s has two sums", letters)
		}
		if was, known := sums[sum]; known && was != letters {
			t.Errorf("%s and %s have one sum", letters, was)
		}
		found[letters], sums[sum] = sum, letters
		for len(chosen) > 0 && chosen[len(chosen)-1] == limits[len(chosen)-1] {
			chosen, limits = chosen[:len(chosen)-1], limits[:len(chosen)-1]
		}
		if len(chosen) == 0 {
			return slices.Sorted(maps.Keys(found))
		}
		chosen[len(chosen)-1]++
	}
}

func (im image) letters() string {
	var list []string
	for _, path := range im.paths() {
		if im[path].dir {
			list = append(list, path+"/")
			continue
		}
		s := path + "="
		for sector := range slices.Chunk(im[path].data, sectorBytes) {
			s += strings.ReplaceAll(string(sector[:1]), "\x00", ".")
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

const openF = `openat(AT_FDCWD</>, "/r/f", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 5</r/f>` + "\n"

var modelCases = []struct {
	name  string
	base  string // what is in f before, "" for no f
	trace string
	want  string // images, by |
	pages string // the same when pages of 4096 bytes are written whole, "" for the same
}{
	{"a write that nobody synced", "A", openF + `pwrite64(5</r/f>, 'B', 512, 0) = 512`, "f=A|f=B", ""},
	{"and a sync", "A", openF + "pwrite64(5</r/f>, 'B', 512, 0) = 512\nfdatasync(5</r/f>) = 0", "f=B", ""},
	{"two writes to one sector", "A", openF + "pwrite64(5</r/f>, 'B', 512, 0) = 512\npwrite64(5</r/f>, 'C', 512, 0) = 512", "f=A|f=B|f=C", ""},
	{"two sectors", "AA", openF + `pwrite64(5</r/f>, 'BC', 1024, 0) = 1024`, "f=AA|f=AC|f=BA|f=BC", "f=AA|f=BC"},
	{
		"two pages", "AAAAAAAAA", openF + `pwrite64(5</r/f>, 'BB', 1024, 3584) = 1024`,
		"f=AAAAAAAAA|f=AAAAAAAAB|f=AAAAAAABA|f=AAAAAAABB", "",
	},
	{
		"two writes to one page", "AA", openF + "pwrite64(5</r/f>, 'B', 512, 0) = 512\npwrite64(5</r/f>, 'C', 512, 512) = 512",
		"f=AA|f=AC|f=BA|f=BC", "f=AA|f=BA|f=BC",
	},
	{"an empty file that was synced", "", openF + "fdatasync(5</r/f>) = 0", "|f=", ""},
	{
		"synced, but its name is not", "", openF + "pwrite64(5</r/f>, 'B', 512, 0) = 512\nfdatasync(5</r/f>) = 0",
		"|f=B", "",
	},
	{
		"a name that is, of a file that is not", "",
		openF + `pwrite64(5</r/f>, 'BC', 1024, 0) = 1024
		openat(AT_FDCWD</>, "/r", O_RDONLY|O_CLOEXEC) = 6</r>
		fsync(6</r>) = 0`,
		"f=|f=..|f=.C|f=B.|f=BC", "f=|f=..|f=BC",
	},
	{
		"renamed, and the directory not synced", "A",
		openF + `renameat(AT_FDCWD</>, "/r/f", AT_FDCWD</>, "/r/g") = 0
		openat(AT_FDCWD</>, "/r/h", O_RDWR|O_CREAT, 0600) = 7</r/h>`,
		"f=A|g=A|g=A h=", "",
	},
	{
		"moved to another directory", "A",
		`mkdirat(AT_FDCWD</>, "/r/d", 0700) = 0
		renameat(AT_FDCWD</>, "/r/f", AT_FDCWD</>, "/r/d/g") = 0`,
		"d/ d/g=A|d/ f=A|f=A", "",
	},
	{
		"and that other one synced", "A",
		`mkdirat(AT_FDCWD</>, "/r/d", 0700) = 0
		renameat(AT_FDCWD</>, "/r/f", AT_FDCWD</>, "/r/d/g") = 0
		openat(AT_FDCWD</>, "/r/d", O_RDONLY|O_CLOEXEC) = 6</r/d>
		fsync(6</r/d>) = 0`,
		"d/ d/g=A", "",
	},
	{"taken away", "A", `unlinkat(AT_FDCWD</>, "/r/f", 0) = 0`, "|f=A", ""},
	{"a call that failed", "A", `unlinkat(AT_FDCWD</>, "/r/f", 0) = -1 EACCES (Permission denied)`, "f=A", ""},
	{
		"a sync that failed, and one that did not", "A",
		openF + `pwrite64(5</r/f>, 'B', 512, 0) = 512
		fdatasync(5</r/f>) = -1 EIO (Input/output error) (INJECTED)
		fdatasync(5</r/f>) = 0`,
		"f=A|f=B", "",
	},
	{
		"written again in between", "AA",
		openF + `pwrite64(5</r/f>, 'BB', 1024, 0) = 1024
		fdatasync(5</r/f>) = -1 EIO (Input/output error) (INJECTED)
		pwrite64(5</r/f>, 'C', 512, 0) = 512
		fdatasync(5</r/f>) = 0`,
		"f=CA|f=CB", "",
	},
	{
		"a write that had not ended when the sync began", "A",
		openF + `2 pwrite64(5</r/f>, 'B', 512, 0 <unfinished ...>
		1 fdatasync(5</r/f> <unfinished ...>
		2 <... pwrite64 resumed>) = 512
		1 <... fdatasync resumed>) = 0`,
		"f=A|f=B", "",
	},
	{
		"one that had", "A",
		openF + `2 pwrite64(5</r/f>,  <unfinished ...>
		1 pread64(5</r/f>, "", 512, 0) = 0
		2 <... pwrite64 resumed>'B', 512, 0) = 512
		1 fdatasync(5</r/f> <unfinished ...>
		2 fstat(5</r/f>) = 0
		1 <... fdatasync resumed>) = 0`,
		"f=B", "",
	},
	{"a sync that has not ended", "A", openF + "pwrite64(5</r/f>, 'B', 512, 0) = 512\nfdatasync(5</r/f> <unfinished ...>", "f=A|f=B", ""},
	{"cut short and written again", "AA", openF + "ftruncate(5</r/f>, 0) = 0\npwrite64(5</r/f>, 'B', 512, 0) = 512", "f=|f=.|f=AA|f=B", ""},
	{"grown and cut", "A", openF + "pwrite64(5</r/f>, 'B', 512, 512) = 512\nftruncate(5</r/f>, 512) = 0", "f=A|f=A.|f=AB", ""},
	{"space taken", "A", openF + "fallocate(5</r/f>, 0, 0, 1536) = 0\npwrite64(5</r/f>, 'B', 512, 1024) = 512\nfsync(5</r/f>) = 0", "f=A.B", ""},
	{"space taken, no sync", "A", openF + "fallocate(5</r/f>, 0, 0, 1024) = 0\npwrite64(5</r/f>, 'B', 512, 512) = 512", "f=A|f=A.|f=AB", ""},
	{"one after the other", "", openF + "write(5</r/f>, 'A', 512) = 512\nwrite(5</r/f>, 'B', 512) = 512\nfsync(5</r/f>) = 0", "|f=AB", ""},
	{
		"copied by the kernel", "A",
		openF + `openat(AT_FDCWD</>, "/r/g", O_RDWR|O_CREAT, 0600) = 6</r/g>
		copy_file_range(5</r/f>, NULL, 6</r/g>, NULL, 9999, 0) = 512
		fsync(6</r/g>) = 0`,
		"f=A|f=A g=A", "",
	},
	{"made below", "", `mkdirat(AT_FDCWD</>, "/r/d", 0700) = 0` + "\n" + `openat(AT_FDCWD</>, "/r/d/f", O_RDWR|O_CREAT, 0600) = 5</r/d/f>`, "|d/|d/ d/f=", ""},
}

func TestTheModelOfTheDisk(t *testing.T) {
	t.Parallel()
	for _, c := range modelCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base := image{}
			if c.base != "" {
				letters, _ := hexBytes(strings.Split(traceOf("'"+c.base+"'"), `"`)[1])
				base["f"] = imageContent{data: letters}
			}
			for grain, want := range map[int64]string{1: c.want, 8: c.pages} {
				if want == "" && c.pages == "" {
					want = c.want
				}
				d, err := replayed(traceOf(c.trace), base)
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(d.everyImage(t, grain), "|"); got != want {
					t.Errorf("%d bytes at once: got %q, want %q", grain*sectorBytes, got, want)
				}
			}
		})
	}
}

func replayed(trace string, base image) (*replay, error) {
	moments, err := readTrace(trace, "/r")
	if err != nil {
		return nil, err
	}
	d := newReplay("/r", base)
	for _, m := range moments {
		if err := d.step(m); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// What the model does not know must end the test, or changes would pass unseen.
func TestTheModelKnowsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		`linkat(AT_FDCWD</>, "/r/f", AT_FDCWD</>, "/r/g", 0) = 0`,
		`mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5</r/f>, 0) = 0x7f0000000000`,
		`msync(0x7f0000000000, 4096, MS_SYNC) = 0`,
		`sync() = 0`,
		`io_uring_setup(1, 0x7f0000000000) = 9`,
		`fallocate(5</r/f>, FALLOC_FL_COLLAPSE_RANGE, 0, 512) = 0`,
		`ioctl(5</r/f>, FICLONE, 6</r/g>) = 0`,
		`truncate("/r/f", 0) = 0`,
		`renameat(AT_FDCWD</>, "/r/f", AT_FDCWD</>, "/elsewhere") = 0`,
		`renameat2(AT_FDCWD</>, "/r/f", AT_FDCWD</>, "/r/g", RENAME_EXCHANGE) = 0`,
		`openat(AT_FDCWD</>, "/r/f", O_RDWR|O_SYNC) = 7</r/f>`,
		`openat(AT_FDCWD</>, "/r/unknown", O_RDWR) = 7</r/unknown>`,
		`pwrite64(8</r/f>, 'A', 512, 0) = 512`,
		`pwrite64(5</r/f>, "abc"..., 512, 0) = 512`,
		`fork() = 77`,
		`clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 77`,
		"2 pwrite64(5</r/f>, 'A', 512, 0 <unfinished ...>\n1 pwrite64(5</r/f>, 'B', 512, 0) = 512\n2 <... pwrite64 resumed>) = 512",
		`write(1</dev/null>, "no end of line", 14) = 14`,
	} {
		if _, err := replayed(traceOf(openF+line), image{"f": {data: make([]byte, 1024)}}); err == nil {
			t.Errorf("it takes %s", line)
		}
	}
}
