package uncharge_test

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"uncharge/journal"
)

// binDir holds the real commands, built once: the kill tests kill processes as
// they are shipped.
var binDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "uncharge-bin-")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binDir = dir
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./cmd/...")
		if out, err := build.CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
}

// TestScripts runs every scenario of testdata/script against the real commands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Values[processesKey] = map[string]*process{}
			env.Setenv("PATH", binDir+string(os.PathListSeparator)+env.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"host":    cmdHost,
			"killat":  cmdKillAt,
			"killon":  cmdKillOn,
			"oracle":  cmdOracle,
			"exit":    cmdExit,
			"hold":    cmdHold,
			"nobytes": cmdNoBytes,
			"damage":  cmdDamage,
		},
	})
}

// waitMax bounds every wait for a process.
const waitMax = 20 * time.Second

// cmdHost starts a host-simulator with these arguments and sets $HOST:
//
//	host [--fault FAULT]...
func cmdHost(ts *testscript.TestScript, _ bool, args []string) {
	p := startProcess(ts, "host", append([]string{"host-simulator", "--listen", "127.0.0.1:0", "-o", "ndjson"}, args...))
	line := p.waitFor(ts, `"event":"ready"`)
	var ready struct{ Address string }
	ts.Check(json.Unmarshal([]byte(line), &ready))
	ts.Setenv("HOST", ready.Address)
}

// cmdKillAt starts a terminal that halts at a step, and kills it there:
//
//	killat STEP terminal ARG...
func cmdKillAt(ts *testscript.TestScript, _ bool, args []string) {
	step, command := args[0], args[1:]
	p := startProcess(ts, "killed", append(command, "--halt-at", step))
	p.waitFor(ts, "^halted "+step)
	p.kill(ts)
}

// cmdKillOn kills a terminal as soon as the host tells of an event:
//
//	killon EVENT terminal ARG...
func cmdKillOn(ts *testscript.TestScript, _ bool, args []string) {
	event, command := args[0], args[1:]
	host := running(ts)["host"]
	seen := host.count(event)
	p := startProcess(ts, "killed", command)
	host.waitMore(ts, event, seen)
	p.kill(ts)
}

// cmdHold keeps a terminal running in the background until the script ends; it
// has said that it is at work when hold returns:
//
//	hold terminal run ARG...
func cmdHold(ts *testscript.TestScript, _ bool, args []string) {
	startProcess(ts, "held", args).waitFor(ts, "to reverse")
}

// cmdOracle stops the host and holds its ledger against the journal: for every
// card the net charge must be the sum of what the terminal completed, and what
// the script says, in minor units by the card's last four digits:
//
//	oracle JOURNAL 1111=1250 4444=0
func cmdOracle(ts *testscript.TestScript, _ bool, args []string) {
	host := running(ts)["host"]
	ts.Check(host.cmd.Process.Signal(syscall.SIGTERM))
	ts.Check(host.cmd.Wait())
	charged := map[string]int64{}
	for line := range strings.Lines(host.output()) {
		var e struct {
			Event    string
			Last4    string
			NetMinor int64 `json:"net_minor"`
			Undone   int   `json:"undone_max"`
		}
		ts.Check(json.Unmarshal([]byte(line), &e))
		if e.Event == "ledger" {
			charged[e.Last4] += e.NetMinor
			if e.Undone > 1 {
				ts.Fatalf("card ****%s: a sale was undone %d times", e.Last4, e.Undone)
			}
		}
	}
	completed := completedIn(ts, ts.MkAbs(args[0]))
	for _, want := range args[1:] {
		card, minor, _ := strings.Cut(want, "=")
		n, err := strconv.ParseInt(minor, 10, 64)
		ts.Check(err)
		if charged[card] != n || completed[card] != n {
			ts.Fatalf("card ****%s: charged %d, completed %d, expected %d", card, charged[card], completed[card], n)
		}
	}
	for card := range charged {
		if charged[card] != completed[card] {
			ts.Fatalf("card ****%s: charged %d, completed %d", card, charged[card], completed[card])
		}
	}
}

func completedIn(ts *testscript.TestScript, journalDir string) map[string]int64 {
	out, err := exec.Command(filepath.Join(binDir, "journal-dump"), "list", "-n", "0", "-o", "ndjson", "--journal", journalDir).Output()
	ts.Check(err)
	sums := map[string]int64{}
	for line := range bytes.Lines(out) {
		var e struct {
			Last4, Status string
			Amount        struct{ Minor int64 }
			Approved      int64 `json:"approved_minor"`
		}
		ts.Check(json.Unmarshal(line, &e))
		if e.Status == "completed" {
			sums[e.Last4] += cmp.Or(e.Approved, e.Amount.Minor)
		}
	}
	return sums
}

// cmdExit runs a command and checks its exit code:
//
//	exit CODE COMMAND ARG...
func cmdExit(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s: exit %d, expected %d", args[1], got, want)
	}
}

// cmdDamage replaces a text in a file by another of the same length, both with the
// escapes of Go:
//
//	damage FILE OLD NEW
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	was, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	becomes, err := strconv.Unquote(`"` + args[2] + `"`)
	ts.Check(err)
	if filepath.Base(path) == "journal.db" {
		settle(ts, filepath.Dir(path))
	}
	b, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(b, []byte(was)) || len(was) != len(becomes) {
		ts.Fatalf("%s does not hold the text, or the other one is not as long", args[0])
	}
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(b, []byte(was), []byte(becomes)), 0o600))
}

// settle moves everything that a journal holds into its store.
func settle(ts *testscript.TestScript, dir string) {
	text, err := os.ReadFile(dir + ".key")
	ts.Check(err)
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	ts.Check(err)
	j, err := journal.Open(journal.Options{Dir: dir, DeviceKey: key})
	ts.Check(err)
	ts.Check(errors.Join(j.Compact(), j.Close()))
}

// cmdNoBytes fails when any file below a directory contains a text, as it
// stands or in BCD (L11):
//
//	nobytes DIR DIGITS
func cmdNoBytes(ts *testscript.TestScript, _ bool, args []string) {
	secret := []byte(args[1])
	var bcd []byte
	for i := 0; i+1 < len(secret); i += 2 {
		bcd = append(bcd, (secret[i]-'0')<<4|(secret[i+1]-'0'))
	}
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && (bytes.Contains(b, secret) || bytes.Contains(b, bcd)) {
			err = fmt.Errorf("%s holds a card number in clear", path)
		}
		return err
	}))
}
