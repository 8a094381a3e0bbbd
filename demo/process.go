package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// terminal runs the reference firmware on one journal.
type terminal struct {
	bin, journal, host string
	dialect            []string // flags that host and terminal share
}

func (t terminal) command(args ...string) *exec.Cmd {
	common := append([]string{"--journal", t.journal, "--host", t.host}, t.dialect...)
	if args[0] != "sale" || !strings.Contains(strings.Join(args, " "), "--answer-within") {
		common = append(common, "--answer-within", answerWithin)
	}
	return exec.Command(filepath.Join(t.bin, "terminal"), append(args, common...)...)
}

// run runs one command, shows what it prints, and checks its exit code.
func (t terminal) run(want int, args ...string) error {
	out, err := t.command(args...).CombinedOutput()
	indent("terminal", string(out))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	if got != want {
		return fmt.Errorf("terminal %s: exit %d, expected %d", args[0], got, want)
	}
	return nil
}

func (t terminal) start(args ...string) (*exec.Cmd, error) {
	c := t.command(args...)
	c.Stdout, c.Stderr = named{}, named{}
	return c, c.Start()
}

// dump runs journal-dump and shows its table.
func (t terminal) dump(args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(t.bin, "journal-dump"), append(args, "--journal", t.journal)...).Output()
	if len(args) == 1 {
		fmt.Print(string(out))
	}
	return string(out), err
}

// completed sums what the terminal completed, by the card's last four digits.
func (t terminal) completed() (map[string]int64, error) {
	out, err := t.dump("list", "-n", "0", "-o", "ndjson")
	if err != nil {
		return nil, err
	}
	sums := map[string]int64{}
	for line := range strings.Lines(out) {
		var e struct {
			Last4    string
			Status   string
			Amount   struct{ Minor int64 }
			Approved int64 `json:"approved_minor"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, err
		}
		if e.Status == "completed" {
			sums[e.Last4] += cmp.Or(e.Approved, e.Amount.Minor)
		}
	}
	return sums, nil
}

// hostProcess is a running host-simulator whose events are read as they come.
type hostProcess struct {
	cmd     *exec.Cmd
	address string
	events  chan hostEvent
}

type hostEvent struct {
	Event    string
	Address  string
	Last4    string
	NetMinor *int64 `json:"net_minor"`
	Currency string
	Exponent int
}

func startHost(bin string, dialect []string) (*hostProcess, error) {
	args := append([]string{"--listen", "127.0.0.1:0", "-o", "ndjson", "--fault", hostFaults}, dialect...)
	cmd := exec.Command(filepath.Join(bin, "host-simulator"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &hostProcess{cmd: cmd, events: make(chan hostEvent, 1024)}
	go h.read(out)
	first, err := h.next()
	if err != nil || first.Event != "ready" {
		h.kill()
		return nil, errors.Join(errors.New("the host did not become ready"), err)
	}
	h.address = first.Address
	return h, nil
}

func (h *hostProcess) read(out io.Reader) {
	defer close(h.events)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e hostEvent
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			h.events <- e
		}
	}
}

func (h *hostProcess) next() (hostEvent, error) {
	select {
	case e, ok := <-h.events:
		if !ok {
			return e, errors.New("the host ended")
		}
		return e, nil
	case <-time.After(stepWithinMax):
		return hostEvent{}, fmt.Errorf("nothing from the host in %v", stepWithinMax)
	}
}

// until waits for an event on a card and tells what the card is charged after
// it.
func (h *hostProcess) until(event, pan string) error {
	for {
		e, err := h.next()
		if err != nil {
			return fmt.Errorf("waiting for %q: %w", event, err)
		}
		if e.Event != event || !strings.HasSuffix(pan, e.Last4) || e.NetMinor == nil {
			continue
		}
		unit := int64(1)
		for range e.Exponent {
			unit *= 10
		}
		fmt.Printf("host     | %-9s ****%s; its ledger: charged %d.%0*d %s\n", event, e.Last4, *e.NetMinor/unit, e.Exponent, *e.NetMinor%unit, e.Currency)
		return nil
	}
}

// stop ends the host and returns its ledger: net charge in minor units by the
// card's last four digits.
func (h *hostProcess) stop() (map[string]int64, error) {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	ledger := map[string]int64{}
	for e := range h.events {
		if e.Event == "ledger" && e.NetMinor != nil {
			ledger[e.Last4] += *e.NetMinor
		}
	}
	return ledger, h.cmd.Wait()
}

func (h *hostProcess) kill() { _ = h.cmd.Process.Kill() }
