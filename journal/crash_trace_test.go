package journal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Every legal power cut, part 1: what the kernel saw. A child works under strace;
// its trace becomes a list of system calls, each with the moments at which it
// started and ended. Everything that touches a file is traced, and what the model
// of the disk (crash_disk_test.go) does not know ends the test: nothing that
// changes a file may pass unseen.

// kcall is one call as strace printed it.
type kcall struct {
	name     string   // without the 64 or 2 that some machines append
	args     []string // in hex, see text and descriptor
	result   int64
	failed   bool
	injected bool // strace made it fail
	// Places in the order of all starts and ends. A call that never ended, or of
	// which nobody knows, ends never.
	start, end int
}

// alwaysRead are calls that matter whatever file they name.
var alwaysRead = map[string]bool{
	"clone": true, "clone3": true, "fork": true, "vfork": true, "sync": true, "msync": true,
	"io_uring_setup": true, "io_uring_enter": true,
}

const never = math.MaxInt

// moment is the start or the end of a call. Between any two the power can fail.
type moment struct {
	call *kcall
	end  bool
}

// traceArgs make strace print all that the model needs: every call that has a
// file's name or descriptor in it, data in full.
func traceArgs(out string, more ...string) []string {
	return append([]string{
		"--seccomp-bpf", "-f", "-qq", "-y", "-xx", "-s", "16777216", "-o", out, "-e", "signal=none",
		"-e", "trace=%file,%desc,%process,?msync,?sync,?io_uring_setup,?io_uring_enter",
	}, more...)
}

// strace finds a strace that works here, or skips the test.
func strace(t *testing.T) string {
	t.Helper()
	path, err := straceHere()
	if err != nil {
		t.Skipf("SKIPPED: no power cut is tried: %v", err)
	}
	return path
}

var straceHere = sync.OnceValues(func() (path string, err error) {
	path, err = exec.LookPath("strace")
	exe, err2 := os.Executable()
	out, err3 := os.CreateTemp("", "uncharge-trace-")
	if err := errors.Join(err, err2, err3); err != nil {
		return "", err
	}
	defer func() { _ = errors.Join(out.Close(), os.Remove(out.Name())) }()
	args := append(traceArgs(out.Name(), "-e", "inject=renameat:error=EIO:when=9"), exe, "-test.run=^$")
	said, err := exec.Command(path, args...).CombinedOutput()
	if info, err2 := out.Stat(); err != nil || err2 != nil || info.Size() == 0 {
		return "", fmt.Errorf("strace does not work here: %v %s", errors.Join(err, err2), said)
	}
	return path, nil
})

// readTrace reads what strace wrote, as far as it concerns the files below root
// and the lines that the child said.
func readTrace(trace, root string) (moments []moment, err error) {
	begun := map[string]*kcall{} // by thread: calls whose end comes later
	passed := map[string]bool{}  // by thread: the call does not concern us
	below := fmt.Sprintf(`%x`, root)
	for i := len(below); i > 0; i -= 2 {
		below = below[:i-2] + `\x` + below[i-2:]
	}
	for line := range strings.Lines(trace) {
		if how, ended := strings.CutPrefix(line, processEnded); ended {
			endAll(begun)
			for _, c := range begun {
				c.failed = c.failed || strings.HasPrefix(how, nothingDone)
			}
			clear(begun)
			moments = append(moments, moment{&kcall{name: processEnded, start: len(moments), end: len(moments)}, true})
			continue
		}
		thread, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimLeft(rest, " ")
		if strings.HasPrefix(rest, "<... ") {
			c := begun[thread]
			if c == nil && passed[thread] {
				continue
			}
			if c == nil {
				return nil, fmt.Errorf("a call goes on that never began: %.200s", line)
			}
			_, more, _ := strings.Cut(rest, " resumed>")
			delete(begun, thread)
			c.finish(more)
			c.end = len(moments)
			moments = append(moments, moment{c, true})
			continue
		}
		name, args, ok := strings.Cut(rest, "(")
		if !ok || strings.HasPrefix(rest, "+++") || strings.HasPrefix(rest, "---") || strings.HasPrefix(line, "strace:") {
			continue // an exit, a signal, a remark
		}
		if passed[thread] = !alwaysRead[name] && !strings.Contains(args, below) && !(name == "write" && strings.HasPrefix(args, "1<")); passed[thread] {
			continue
		}
		c := &kcall{name: strings.TrimRight(strings.TrimSuffix(name, "64"), "2"), start: len(moments), end: never}
		moments = append(moments, moment{c, false})
		if start, cut := strings.CutSuffix(args, "<unfinished ...>"); cut {
			c.args, c.failed = []string{start}, true // until its end is seen
			begun[thread] = c
			continue
		}
		c.finish(args)
		c.end = len(moments)
		moments = append(moments, moment{c, true})
	}
	endAll(begun)
	return moments, nil
}

// nothingDone stands behind processEnded when the calls in which the process was did
// nothing.
const nothingDone = ", nothing done"

// endAll ends the calls in which a process was when it ended: what they did is not
// certain.
func endAll(begun map[string]*kcall) {
	for _, c := range begun {
		c.finish(") = ?")
	}
}

// finish reads the arguments (behind those that are there already) and the
// result: `5</a>, "x", 1, 0) = 1`.
func (c *kcall) finish(text string) {
	text = strings.Join(c.args, "") + text
	at := strings.LastIndex(text, "= ")
	if at < 0 {
		at = len(text)
	}
	args, result := strings.TrimRight(text[:at], " "), strings.TrimPrefix(text[at:], "= ")
	c.args = strings.Split(strings.TrimSuffix(args, ")"), ", ")
	for i, arg := range c.args {
		c.args[i] = strings.TrimSpace(arg) // spaces stand where the line was cut
	}
	word, _, _ := strings.Cut(result, " ")
	word, _, _ = strings.Cut(word, "<")
	n, err := strconv.ParseInt(word, 0, 64)
	c.result = n
	c.injected = strings.Contains(result, "INJECTED")
	c.failed = n < 0 || strings.Contains(result, "ERESTART")
	if err != nil { // "?": done or not, nobody knows
		c.result = never
	}
}

// text decodes a string argument: "\x2f\x61".
func (c *kcall) text(arg int) ([]byte, error) {
	if arg >= len(c.args) {
		return nil, fmt.Errorf("%s has no argument %d", c.name, arg)
	}
	s := c.args[arg]
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return nil, fmt.Errorf("%s: no whole string: %.100s", c.name, s)
	}
	return hexBytes(s[1 : len(s)-1])
}

// vector decodes the buffers of a writev: [{iov_base="\x61", iov_len=1}, …].
func (c *kcall) vector() (data []byte, err error) {
	for i, part := range strings.Split(strings.Join(c.args, ", "), `"`) {
		if i%2 == 0 {
			continue
		}
		more, err := hexBytes(part)
		if err != nil {
			return nil, err
		}
		data = append(data, more...)
	}
	return data, nil
}

// number reads a decimal argument.
func (c *kcall) number(arg int) (int64, error) {
	if arg >= len(c.args) {
		return 0, fmt.Errorf("%s has no argument %d", c.name, arg)
	}
	return strconv.ParseInt(c.args[arg], 0, 64)
}

// descriptor reads a descriptor and the path behind it: 5<\x2f\x61>. AT_FDCWD is -1.
func (c *kcall) descriptor(arg int) (fd int, path string, err error) {
	if arg >= len(c.args) {
		return 0, "", fmt.Errorf("%s has no argument %d", c.name, arg)
	}
	number, rest, _ := strings.Cut(c.args[arg], "<")
	if number == "AT_FDCWD" {
		number = "-1"
	}
	if fd, err = strconv.Atoi(number); err != nil {
		return 0, "", err
	}
	b, err := hexBytes(strings.TrimSuffix(strings.TrimSuffix(rest, "(deleted)"), ">"))
	return fd, string(b), err
}

// path reads a name that stands behind the descriptor of its directory.
func (c *kcall) path(dirArg int) (string, error) {
	_, dir, err := c.descriptor(dirArg)
	name, err2 := c.text(dirArg + 1)
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	if filepath.IsAbs(string(name)) {
		return filepath.Clean(string(name)), nil
	}
	return filepath.Join(dir, string(name)), nil
}

// flag reports whether an argument has a flag in it.
func (c *kcall) flag(arg int, flag string) bool {
	return arg < len(c.args) && strings.Contains("|"+c.args[arg]+"|", "|"+flag+"|")
}

// hexBytes decodes \x61\x62. Nothing else is printed under -xx; "..." behind a string
// would mean that strace cut it.
func hexBytes(s string) ([]byte, error) {
	out := make([]byte, 0, len(s)/4)
	for i := 0; i < len(s); i += 4 {
		if len(s) < i+4 || s[i] != '\\' || s[i+1] != 'x' {
			return nil, fmt.Errorf("not hex: %.40q", s[i:])
		}
		var b [1]byte
		if _, err := hex.Decode(b[:], []byte(s[i+2:i+4])); err != nil {
			return nil, err
		}
		out = append(out, b[0])
	}
	return out, nil
}
