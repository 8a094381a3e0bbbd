// Command demo plays the main job with real processes on loopback: a host, a
// terminal, a lost answer, a SIGKILL, a dead line. It asks the host's ledger and
// the terminal's journal, each through its own command, whether any customer was
// charged for nothing, and exits 1 if one was.
//
//	go run ./demo -bin ./bin
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Published test cards, one a story, told apart by their last four digits.
const (
	cardApproved  = "4111111111111111"
	cardLost      = "5555555555554444"
	cardKilled    = "4242424242424242"
	cardNoHost    = "378282246310005"
	answerWithin  = "1s" // a real terminal waits longer; the demo is short
	hostFaults    = "drop-answer@2-3"
	stepWithinMax = 20 * time.Second
	masterKey     = "0123456789ABCDEFFEDCBA9876543210\n" // a test key
)

func main() {
	bin := flag.String("bin", "bin", "directory of the built commands")
	profile := flag.String("profile", "iso87-ascii", "how terminal and host speak; unionpay and iso93 have MACs")
	flag.Parse()
	wrong, err := demo(*bin, *profile)
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
	if wrong {
		os.Exit(1)
	}
}

// demo plays the four stories and reports whether the oracle found a wrong.
func demo(bin, profile string) (wrong bool, err error) {
	dir, err := os.MkdirTemp("", "uncharge-demo-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	dialect := []string{"--profile", profile}
	key := filepath.Join(dir, "master.key") // used where the profile has a MAC
	if err := os.WriteFile(key, []byte(masterKey), 0o600); err != nil {
		return false, err
	}
	dialect = append(dialect, "--master-key", key)
	host, err := startHost(bin, dialect)
	if err != nil {
		return false, err
	}
	defer host.kill()
	t := terminal{bin: bin, journal: filepath.Join(dir, "journal"), host: host.address, dialect: dialect}
	for _, story := range []func(terminal, *hostProcess) error{approved, answerLost, killed, unreachable} {
		if err := story(t, host); err != nil {
			return false, err
		}
	}
	ledger, err := host.stop()
	if err != nil {
		return false, err
	}
	title("What the journal says")
	if _, err := t.dump("list"); err != nil {
		return false, err
	}
	return ask(ledger, t)
}

func title(s string) { fmt.Printf("\n== %s\n", s) }

// approved: nothing goes wrong.
func approved(t terminal, h *hostProcess) error {
	title("(a) a sale that goes well")
	if err := t.run(0, "sale", "--amount", "12.50", "--pan", cardApproved); err != nil {
		return err
	}
	return h.until("booked", cardApproved)
}

// answerLost: the host books, the network loses its answer.
func answerLost(t terminal, h *hostProcess) error {
	title("(b) the host books the sale, and the network loses its answer")
	if err := t.run(10, "sale", "--amount", "20.00", "--pan", cardLost, "--reverse-within", "0s"); err != nil {
		return err
	}
	if err := h.until("booked", cardLost); err != nil {
		return err
	}
	fmt.Println("   the terminal goes on by itself:")
	if err := t.run(0, "run", "--until-quiet", "--within", "15s"); err != nil {
		return err
	}
	return h.until("reversed", cardLost)
}

// killed: power cut between request and answer.
func killed(t terminal, h *hostProcess) error {
	title("(c) the terminal is killed between request and answer")
	p, err := t.start("sale", "--amount", "7.00", "--pan", cardKilled, "--answer-within", "30s")
	if err != nil {
		return err
	}
	if err := h.until("booked", cardKilled); err != nil {
		return errors.Join(err, p.Process.Kill())
	}
	if err := p.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_ = p.Wait() // it was killed: that is its exit
	fmt.Println("terminal | SIGKILL. It starts again:")
	if err := t.run(0, "run", "--until-quiet", "--within", "15s"); err != nil {
		return err
	}
	return h.until("reversed", cardKilled)
}

// unreachable: no byte leaves, so there is nothing to reverse.
func unreachable(t terminal, _ *hostProcess) error {
	title("(d) the host cannot be reached")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	t.host = free.Addr().String() // nobody listens there any more
	if err := free.Close(); err != nil {
		return err
	}
	if err := t.run(12, "sale", "--amount", "9.99", "--pan", cardNoHost); err != nil {
		return err
	}
	return t.run(0, "run", "--until-quiet", "--within", "5s")
}

// ask is the oracle: for every card, what the host charged must be what the
// terminal completed.
func ask(ledger map[string]int64, t terminal) (wrong bool, err error) {
	completed, err := t.completed()
	if err != nil {
		return false, err
	}
	cards := map[string]bool{}
	for card := range ledger {
		cards[card] = true
	}
	for _, pan := range []string{cardApproved, cardLost, cardKilled, cardNoHost} {
		cards[pan[len(pan)-4:]] = true
	}
	charged, reversed := 0, 0
	for card := range cards {
		switch {
		case ledger[card] > completed[card]:
			charged++
		case ledger[card] < completed[card]:
			reversed++
		}
	}
	title("The oracle: the host's ledger against the terminal's journal")
	fmt.Printf("cards %d, wrongly charged %d, wrongly reversed %d\n", len(cards), charged, reversed)
	return charged+reversed > 0, nil
}

// named is standard output with the terminal's name in front of each line.
type named struct{}

func (named) Write(b []byte) (int, error) {
	indent("terminal", string(b))
	return len(b), nil
}

// indent puts a name in front of each line of a process.
func indent(name, text string) {
	for line := range strings.Lines(text) {
		fmt.Printf("%-8s | %s\n", name, strings.TrimRight(line, "\n"))
	}
}
