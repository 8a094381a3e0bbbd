package journal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Other processes: the test binary starts itself again with a role.

const roleVar, dirVar, seedVar = "UNCHARGE_TEST_ROLE", "UNCHARGE_TEST_DIR", "UNCHARGE_TEST_SEED"

var roles = map[string]func(o Options, seed uint64) error{
	"hold":   roleHold,
	"create": roleCreate,
	"steps":  roleSteps,
	"full":   roleFull,
	"nobody": roleNobody,
	"life":   roleLife,
	"cut":    roleCut(work{workers: 1, steps: 48, goOn: goOn}),
	"crowd":  roleCut(work{workers: 4, steps: 48, goOn: goOn}),
	"few":    roleCut(work{workers: 1, steps: 12, goOn: goOn}),
	"pair":   roleCut(work{workers: 2, steps: 12, goOn: goOn}),
	"reopen": roleCut(work{workers: 1, steps: 60, goOn: reopen}),
	"bytes":  roleBytes,
	"print":  rolePrint, "print snapshot": rolePrint,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		seed, _ := strconv.ParseUint(os.Getenv(seedVar), 10, 64)
		err := roles[role](Options{Dir: os.Getenv(dirVar), DeviceKey: deviceKey, FirstSTAN: 1, LockWait: 20 * time.Second}, seed)
		if err != nil {
			say("failed %v", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.checks" })
	if !chosen {
		_ = flag.Set("rapid.checks", "30") // the whole package in seconds; raise it for a long run
	}
	os.Exit(m.Run())
}

// say writes one line to the parent, in one write.
func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) }

// roleHold opens the journal and keeps it until the parent closes its input.
func roleHold(o Options, _ uint64) error {
	j, err := Open(o)
	if err != nil {
		return err
	}
	say("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return j.Close()
}

// roleCreate opens at the parent's word and begins five entries.
func roleCreate(o Options, _ uint64) error {
	say("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	j, err := Open(o)
	if err != nil {
		return err
	}
	for range 5 {
		id, err := j.Begin(plainDraft())
		if err != nil {
			return err
		}
		say("did begin %d", id)
	}
	return j.Close()
}

// roleSteps takes random steps for ever, saying what it tries and, after it has
// returned, that it did it. The parent kills it.
func roleSteps(o Options, seed uint64) error {
	chance := rand.New(rand.NewPCG(seed, 0))
	say("opening")
	j, err := Open(o)
	if err != nil {
		return err
	}
	say("opened")
	for {
		st, id, err := pickStep(j, chance)
		if err != nil {
			return err
		}
		say("try %s %d", st.kind, id)
		if st.kind == StepBegin {
			id, err = j.Begin(plainDraft())
		} else {
			err = st.take(j, id)
		}
		if err != nil {
			return fmt.Errorf("%s %d: %w", st.kind, id, err)
		}
		say("did %s %d", st.kind, id)
	}
}

// pickStep picks a legal step on one of the last few open entries, or a Begin.
func pickStep(j *Journal, chance *rand.Rand) (step, ID, error) {
	var open []Entry
	for _, list := range []func() ([]Entry, error){j.Armed, j.Owed, j.Parked} {
		part, err := list()
		if err != nil {
			return step{}, 0, err
		}
		open = append(open, part...)
	}
	if len(open) == 0 || len(open) < 8 && chance.IntN(3) == 0 {
		return step{kind: StepBegin}, 0, nil
	}
	e := open[chance.IntN(len(open))]
	for {
		st := steps[chance.IntN(len(steps))]
		if long := len(e.Steps) > 20; st.legal(e.Status) && (!long || st.to == Reversed) {
			return st, e.ID, nil
		}
	}
}

// roleFull begins entries on a disk that takes only so many bytes more, until
// one fails.
func roleFull(o Options, more uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	j, err := Open(o)
	if err != nil {
		return err
	}
	info, err := os.Stat(o.Dir + "/" + storeName)
	if err != nil {
		return err
	}
	limit := uint64(info.Size()) + more
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	for range 2000 {
		id, err := j.Begin(plainDraft())
		if err != nil {
			say("refused full=%v poisoned=%v %v", errors.Is(err, ErrFull), errors.Is(err, ErrPoisoned), err)
			return settleAll(j)
		}
		say("did begin %d", id)
	}
	return errors.New("the disk never was full")
}

// settleAll reverses everything that is armed, on the disk as it is.
func settleAll(j *Journal) error {
	armed, err := j.Armed()
	if err != nil {
		return err
	}
	for _, e := range armed {
		if err := j.Owe(e.ID, "no answer", silence); err != nil {
			return err
		}
		for range 20 {
			if _, err := j.Attempt(e.ID); err != nil {
				return err
			}
		}
		if err := j.Confirm(e.ID, "00"); err != nil {
			return err
		}
	}
	say("settled %d", len(armed))
	return nil
}

// roleNobody gives up root and says what Open and Inspect make of the directory.
func roleNobody(o Options, _ uint64) error {
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	j, err := Open(o)
	if err == nil {
		return errors.Join(errors.New("it opened"), j.Close())
	}
	say("refused damaged=%v foreign=%v permission=%v %v", errors.Is(err, ErrDamaged), errors.Is(err, ErrForeign), errors.Is(err, os.ErrPermission), err)
	return nil
}

func plainDraft() Draft {
	return Draft{Lane: lane1, STAN: 7, Type: "sale", MTI: "0200", Amount: price, Last4: "1111", Image: []byte("an image")}
}

// child is a running copy of the test binary.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Closer
	lines *bufio.Scanner
	errs  bytes.Buffer
}

func startChild(t *testing.T, role, dir string, seed uint64, wrap ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := append(wrap, exe, "-test.run=^$")
	c := &child{t: t, cmd: exec.Command(argv[0], argv[1:]...)}
	c.cmd.Env = append(os.Environ(), roleVar+"="+role, dirVar+"="+dir, seedVar+"="+strconv.FormatUint(seed, 10),
		"GORACE=atexit_sleep_ms=0") // a child under the race detector ends at once
	c.cmd.Stderr = &c.errs
	in, err1 := c.cmd.StdinPipe()
	out, err2 := c.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, c.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c.in, c.lines = in, bufio.NewScanner(out)
	t.Cleanup(func() { // a test that failed half way leaves nobody behind
		_ = c.cmd.Process.Kill()
		_, _ = c.cmd.Process.Wait()
	})
	return c
}

// line reads the child's next line, "" at its end.
func (c *child) line() string {
	if !c.lines.Scan() {
		return ""
	}
	return c.lines.Text()
}

// rest reads what the child still says, and waits for its end.
func (c *child) rest() (lines []string) {
	for l := c.line(); l != ""; l = c.line() {
		lines = append(lines, l)
	}
	_ = c.cmd.Wait()
	return lines
}

func (c *child) wantLine(want string) {
	c.t.Helper()
	if got := c.line(); got != want {
		c.t.Fatalf("the child said %q, want %q; %s", got, want, strings.TrimSpace(c.errs.String()))
	}
}

// newSeed gives a fresh seed and prints it; UNCHARGE_SEED=n repeats a run.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("UNCHARGE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("seed %d; repeat: UNCHARGE_SEED=%d go test ./journal -run '^%s$'", seed, seed, t.Name())
	return seed
}

// fileFacts is all that looking must not change: names, sizes, modes, times and
// bytes of everything in a directory.
func fileFacts(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range list {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %d %v %v", f.Name(), info.Size(), info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			fmt.Fprintf(&b, " %x", sha256.Sum256(fileBytes(t, dir+"/"+f.Name())))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
