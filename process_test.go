package uncharge_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// process is a command in the background whose output goes to a file.
type process struct {
	cmd  *exec.Cmd
	file string
}

const processesKey = "processes"

// running returns the script's processes by name.
func running(ts *testscript.TestScript) map[string]*process {
	return ts.Value(processesKey).(map[string]*process)
}

func startProcess(ts *testscript.TestScript, name string, args []string) *process {
	file, err := os.CreateTemp(ts.MkAbs("."), name+"-*.out")
	ts.Check(err)
	cmd := exec.Command(filepath.Join(binDir, args[0]), args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), file, file
	ts.Check(cmd.Start())
	ts.Check(file.Close())
	p := &process{cmd, file.Name()}
	running(ts)[name] = p
	ts.Defer(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return p
}

func (p *process) output() string {
	b, err := os.ReadFile(p.file)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *process) count(pattern string) int {
	return len(regexp.MustCompile("(?m)"+pattern).FindAllString(p.output(), -1))
}

// waitFor waits until a line matches and returns it.
func (p *process) waitFor(ts *testscript.TestScript, pattern string) string {
	line := regexp.MustCompile("(?m)^.*(?:" + pattern + ").*$")
	for deadline := time.Now().Add(waitMax); time.Now().Before(deadline); {
		if found := line.FindString(p.output()); found != "" {
			return found
		}
		time.Sleep(5 * time.Millisecond) // a poll of another process, bounded by the deadline
	}
	ts.Fatalf("no line with %q in %v; output:\n%s", pattern, waitMax, p.output())
	return ""
}

// waitMore waits until a pattern was seen more often than before.
func (p *process) waitMore(ts *testscript.TestScript, pattern string, before int) {
	for deadline := time.Now().Add(waitMax); time.Now().Before(deadline); {
		if p.count(pattern) > before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Fatalf("%q was not seen again in %v; output:\n%s", pattern, waitMax, p.output())
}

// kill is SIGKILL: no handler runs, nothing is flushed.
func (p *process) kill(ts *testscript.TestScript) {
	ts.Check(p.cmd.Process.Signal(syscall.SIGKILL))
	_ = p.cmd.Wait()
}
