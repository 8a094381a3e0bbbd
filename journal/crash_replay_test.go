package journal

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Every legal power cut, part 4: the calls of a trace, done to the model of the
// disk one after the other.

// replay is a disk in the middle of a trace.
type replay struct {
	*disk
	root  string // the directory on the real disk that the model stands for
	said  []string
	files map[int]*opened // by descriptor; all threads have the same
	// verdict says what a sync was worth: controls lie here.
	verdict func(c *kcall, n *node) verdict
}

type verdict int

const (
	asReturned verdict = iota // certain if it returned 0, else lost
	nothing                   // as if it had not been called
	forgotten                 // it returned 0, but nothing reached the disk, nor will
)

// opened is an open file.
type opened struct {
	node     *node
	at       int64 // where the next read or write without a place goes
	atTheEnd bool
}

func newReplay(root string, from image) *replay {
	return &replay{
		disk: newDisk(from), root: root, files: map[int]*opened{},
		verdict: func(*kcall, *node) verdict { return asReturned },
	}
}

// harmless calls change neither a file's content, nor its size, nor a name.
var harmless = strings.Fields(`access faccessat fstat stat lstat newfstatat fstatat statx statfs fstatfs readlink readlinkat
	getdents fcntl flock fadvise chmod fchmod fchmodat utimensat getcwd chdir readahead sync_file_range epoll_ctl poll ppoll
	pread preadv read readv lseek execve exit exit_group wait4 waitid waitpid kill tgkill tkill munmap pidfd_open pidfd_send_signal`)

// step does one moment.
func (r *replay) step(m moment) error {
	c := m.call
	if c.failed && c.name != "fsync" && c.name != "fdatasync" {
		return nil // a call that failed did nothing; strace's faults are never called
	}
	var err error
	switch c.name {
	case "openat":
		err = r.open(c, m.end)
	case "write", "writev", "pwrite", "pwritev", "ftruncate", "fallocate", "copy_file_range":
		if !m.end {
			err = r.change(c)
		}
	case "fsync", "fdatasync":
		if m.end {
			err = r.sync(c)
		}
	case "renameat", "unlinkat", "mkdirat":
		if !m.end {
			err = r.rename(c)
		}
	case processEnded:
		clear(r.files)
		r.said = append(r.said, processEnded)
	case "close":
		if fd, _, err := c.descriptor(0); err == nil && !m.end {
			delete(r.files, fd)
		}
	case "clone", "clone3", "fork", "vfork":
		if !m.end && !strings.Contains(strings.Join(c.args, ", "), "CLONE_FILES") {
			err = fmt.Errorf("the workload started another process, whose files are not followed: %s", c.name)
		}
	default:
		err = r.other(c, m.end)
	}
	if err != nil {
		return fmt.Errorf("call %d, %s: %w", c.start, c.name, err)
	}
	return nil
}

// changedBy reports whether a moment can change what a power cut leaves, or what
// was said: a sync when it ends, everything else when it starts.
func (r *replay) changedBy(m moment) bool {
	return m.end == (m.call.name == "fsync" || m.call.name == "fdatasync" || m.call.name == processEnded)
}

// other lets pass what changes nothing.
func (r *replay) other(c *kcall, end bool) error {
	fd, _, fdErr := c.descriptor(0)
	switch {
	case c.name == "mmap" && !(c.flag(2, "PROT_WRITE") && c.flag(3, "MAP_SHARED")):
	case c.name == "fcntl" && (c.flag(1, "F_DUPFD_CLOEXEC") || c.flag(1, "F_DUPFD")), c.name == "dup", c.name == "dup3":
		if end && fdErr == nil {
			r.files[int(c.result)] = r.files[fd]
		}
	case c.name == "read" || c.name == "lseek":
		if f := r.files[fd]; f != nil && end && c.name == "lseek" {
			f.at = c.result
		} else if f != nil && end {
			f.at += c.result
		}
	case slices.Contains(harmless, c.name):
	default:
		return fmt.Errorf("the model of the disk does not know what it does: %.200s", strings.Join(c.args, ", "))
	}
	return nil
}

// find gives the directory that a path below the root stands in.
func (d *disk) find(path string) (dir *node, name string) {
	dir = d.top
	parts := strings.Split(path, "/")
	for _, part := range parts[:len(parts)-1] {
		if dir = dir.names[part]; dir == nil || dir.names == nil {
			return nil, ""
		}
	}
	return dir, parts[len(parts)-1]
}

// place finds what a path argument names; dir is nil when it is not ours.
func (r *replay) place(c *kcall, dirArg int) (dir *node, name string, n *node, err error) {
	path, err := c.path(dirArg)
	if err != nil {
		return nil, "", nil, err
	}
	if path == r.root {
		return nil, "", r.top, nil
	}
	rel, below := strings.CutPrefix(path, r.root+"/")
	if !below {
		return nil, "", nil, nil
	}
	if dir, name = r.find(rel); dir == nil {
		return nil, "", nil, fmt.Errorf("the model has no directory %s", filepath.Dir(rel))
	}
	return dir, name, dir.names[name], nil
}

func (r *replay) open(c *kcall, end bool) error {
	dir, name, n, err := r.place(c, 0)
	if err != nil || dir == nil && n == nil {
		return err
	}
	if c.flag(2, "O_TMPFILE") || c.flag(2, "O_SYNC") || c.flag(2, "O_DSYNC") {
		return fmt.Errorf("the model does not know these flags: %s", c.args[2])
	}
	if end && n != nil {
		r.files[int(c.result)] = &opened{node: n, atTheEnd: c.flag(2, "O_APPEND")}
		return nil
	}
	if n == nil {
		if end || !c.flag(2, "O_CREAT") {
			return fmt.Errorf("%s was opened, which the model does not have", name)
		}
		r.disk.change(dir, move{doubtful: doubtful{by: c}, come: name, node: r.newNode(false)})
	} else if c.flag(2, "O_TRUNC") {
		n.resize(c, 0)
	}
	return nil
}

// change does what changes an open file.
func (r *replay) change(c *kcall) error {
	fd, _, err := c.descriptor(0)
	if err != nil {
		return err
	}
	if c.name == "copy_file_range" {
		return r.copyRange(c, fd)
	}
	f := r.files[fd]
	switch {
	case f == nil && fd == 1 && c.name == "write":
		line, err := c.text(1)
		r.said = append(r.said, strings.TrimSuffix(string(line), "\n"))
		if !strings.HasSuffix(string(line), "\n") || int(c.result) != len(line) && c.result != never {
			err = fmt.Errorf("the child's line was cut: %q", line)
		}
		return err
	case f == nil:
		return fmt.Errorf("a file of ours that was never opened")
	}
	switch c.name {
	case "ftruncate":
		size, err := c.number(1)
		f.node.resize(c, size)
		return err
	case "fallocate":
		return f.allocate(c)
	}
	var data []byte
	if strings.HasSuffix(c.name, "v") {
		data, err = c.vector()
	} else {
		data, err = c.text(1)
	}
	if err != nil {
		return err
	}
	data = data[:min(c.result, int64(len(data)))]
	if strings.HasPrefix(c.name, "pwrite") {
		at, err := c.number(len(c.args) - 1)
		return orNoOrder(f.node.write(c, at, data), err)
	}
	if f.atTheEnd {
		f.at = int64(len(f.node.now))
	}
	f.at += int64(len(data))
	return orNoOrder(f.node.write(c, f.at-int64(len(data)), data), nil)
}

func orNoOrder(ordered bool, err error) error {
	if err == nil && !ordered {
		err = fmt.Errorf("two calls write one sector at the same time: their order is not known")
	}
	return err
}

// allocate extends a file with zeros, or makes zeros of what is there.
func (f *opened) allocate(c *kcall) error {
	at, err1 := c.number(2)
	length, err2 := c.number(3)
	switch c.args[1] {
	case "0":
		f.node.resize(c, max(at+length, int64(len(f.node.now))))
	case "FALLOC_FL_KEEP_SIZE":
	case "FALLOC_FL_ZERO_RANGE", "FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE":
		if c.flag(1, "FALLOC_FL_KEEP_SIZE") {
			length = min(length, int64(len(f.node.now))-at)
		}
		if length > 0 {
			return orNoOrder(f.node.write(c, at, make([]byte, length)), nil)
		}
	default:
		return fmt.Errorf("the model does not know this mode: %s", c.args[1])
	}
	if err1 != nil {
		return err1
	}
	return err2
}

// copyRange copies inside the kernel: the bytes are not in the trace, but the
// model has them.
func (r *replay) copyRange(c *kcall, fd int) error {
	to, _, err := c.descriptor(2)
	if err != nil {
		return err
	}
	in, out := r.files[fd], r.files[to]
	if in == nil || out == nil || c.args[1] != "NULL" || c.args[3] != "NULL" || c.result == never {
		return fmt.Errorf("the model does not know what was copied")
	}
	data := slices.Clone(in.node.now[in.at : in.at+c.result])
	in.at += c.result
	out.at += c.result
	return orNoOrder(out.node.write(c, out.at-c.result, data), nil)
}

// sync makes certain, or lost, what had ended before it began.
func (r *replay) sync(c *kcall) error {
	fd, _, err := c.descriptor(0)
	f := r.files[fd]
	if err != nil || f == nil {
		return fmt.Errorf("a sync of something of ours that was never opened (%v)", err)
	}
	f.node.synced = true
	switch v := r.verdict(c, f.node); {
	case v == nothing:
	case v == forgotten || c.failed:
		f.node.lose(c.start)
	case c.result == 0:
		f.node.settle(c.start)
	}
	return nil
}

// rename does what changes names.
func (r *replay) rename(c *kcall) error {
	dir, name, n, err := r.place(c, 0)
	if err != nil || dir == nil {
		return err
	}
	by := doubtful{by: c}
	switch c.name {
	case "mkdirat":
		r.disk.change(dir, move{doubtful: by, come: name, node: r.newNode(true)})
	case "unlinkat":
		r.disk.change(dir, move{doubtful: by, gone: name})
	default:
		to, newName, _, err := r.place(c, 2)
		if err != nil {
			return err
		}
		if to == nil || len(c.args) > 4 && c.args[4] != "0" {
			return fmt.Errorf("the model knows only a plain rename below one root")
		}
		if to == dir {
			r.disk.change(dir, move{doubtful: by, gone: name, come: newName, node: n})
		} else {
			r.disk.change(dir, move{doubtful: by, gone: name, other: to})
			r.disk.change(to, move{doubtful: by, come: newName, node: n, other: dir})
		}
	}
	return nil
}
