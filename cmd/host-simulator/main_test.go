package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"uncharge/iso"
	"uncharge/simulator"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"host-simulator": main})
}

// The scripts have four words of their own:
//
//	start FLAG…             a host on a free port; its address goes to $ADDRESS
//	sell CARD MINOR STAN    one sale over a new line; prints the answer's code
//	undo CARD MINOR STAN    its reversal
//	finish INT|TERM CODE    signals the host, shows what it printed, checks its exit code
//	cert                    writes cert.pem and key.pem
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start, "finish": finish, "sell": sell, "undo": undo, "cert": cert,
		},
		Setup: func(e *testscript.Env) error {
			e.Values[hostKey{}] = &running{}
			return nil
		},
	})
}

// cardNumbers are the cards of the scripts, whole and without the last four
// digits: neither may be printed.
var cardNumbers = []string{"411111111111", "555555555555", "37828224631"}

type hostKey struct{}

// running is the host that a script has started.
type running struct {
	cmd    *exec.Cmd
	out    io.ReadCloser
	stdout bytes.Buffer
	stderr bytes.Buffer
	tls    bool
}

var addressAt = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

func start(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value(hostKey{}).(*running)
	if neg || r.cmd != nil {
		ts.Fatalf("usage: start FLAG…, once")
	}
	path, err := lookPath(ts.Getenv("PATH"), "host-simulator")
	ts.Check(err)
	r.cmd = exec.Command(path, append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	r.cmd.Dir, r.cmd.Stderr = ts.MkAbs("."), &r.stderr
	r.tls = strings.Contains(strings.Join(args, " "), "--tls-cert")
	r.out, err = r.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(r.cmd.Start())
	ts.Defer(func() { _ = r.cmd.Process.Kill() }) // of no effect after finish
	lines := bufio.NewReader(r.out)
	first, err := lines.ReadString('\n')
	ts.Check(err)
	r.stdout.WriteString(first)
	r.out = io.NopCloser(lines)
	ts.Setenv("ADDRESS", addressAt.FindString(first))
}

func finish(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value(hostKey{}).(*running)
	signals := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}
	if neg || len(args) != 2 || r.cmd == nil || signals[args[0]] == nil {
		ts.Fatalf("usage: finish INT|TERM CODE, after start")
	}
	ts.Check(r.cmd.Process.Signal(signals[args[0]]))
	_, err := io.Copy(&r.stdout, r.out)
	ts.Check(err)
	_ = r.cmd.Wait() // the exit code says it
	_, _ = ts.Stdout().Write(r.stdout.Bytes())
	_, _ = ts.Stderr().Write(r.stderr.Bytes())
	if got := strconv.Itoa(r.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("exit code %s, want %s\n%s%s", got, args[1], &r.stdout, &r.stderr)
	}
	for _, number := range cardNumbers {
		if bytes.Contains(r.stdout.Bytes(), []byte(number)) || bytes.Contains(r.stderr.Bytes(), []byte(number)) {
			ts.Fatalf("the output shows a card")
		}
	}
}

func sell(ts *testscript.TestScript, neg bool, args []string) { exchange(ts, neg, args, false) }
func undo(ts *testscript.TestScript, neg bool, args []string) { exchange(ts, neg, args, true) }

// exchange sends one request over a line of its own. With ! it expects the line
// to be closed unanswered.
func exchange(ts *testscript.TestScript, neg bool, args []string, reverse bool) {
	r := ts.Value(hostKey{}).(*running)
	if len(args) != 3 {
		ts.Fatalf("usage: sell|undo CARD MINOR STAN")
	}
	p, err := iso.LoadProfile("iso87-ascii")
	ts.Check(err)
	m, err := message(p, args, reverse)
	ts.Check(err)
	conn, err := dial(ts.Getenv("ADDRESS"), r.tls)
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(30 * time.Second)))
	packed, err := p.Pack(m)
	ts.Check(err)
	ts.Check(p.WriteFrame(conn, packed))
	packed, err = p.ReadFrame(conn)
	if neg {
		if !errors.Is(err, io.EOF) {
			ts.Fatalf("want a closed line, got %v", err)
		}
		return
	}
	ts.Check(err)
	answer, err := p.Unpack(packed)
	ts.Check(err)
	ts.Check(p.Match(m, answer))
	code, _ := answer.Field(39)
	fmt.Fprintln(ts.Stdout(), code)
}

func message(p *iso.Profile, args []string, reverse bool) (*iso.Message, error) {
	pan, err := iso.ParsePAN(args[0])
	if err != nil {
		return nil, err
	}
	minor, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return nil, err
	}
	stan, err := strconv.ParseUint(args[2], 10, 32)
	if err != nil {
		return nil, err
	}
	usd, err := iso.LookupCurrency("USD")
	if err != nil {
		return nil, err
	}
	m, err := p.Build(iso.Request{
		Type: iso.Sale, STAN: iso.STAN(stan), PAN: pan, Amount: iso.Amount(minor), Currency: usd,
		At:       time.Date(2026, 11, 23, 9, 30, 15, 0, time.UTC),
		Acceptor: iso.Acceptor{Terminal: "TERM01", Merchant: "MERCHANT0000001"},
	})
	if err != nil || !reverse {
		return m, err
	}
	image, err := p.ImageOf(m)
	if err != nil {
		return nil, err
	}
	return p.BuildReversal(image, iso.Reversal{Attempt: 1, Cause: iso.NoAnswer})
}

func dial(address string, secure bool) (net.Conn, error) {
	if !secure {
		return net.Dial("tcp", address)
	}
	// The certificate was made a moment ago by the script: whose it is does not
	// matter here, that the host speaks TLS does.
	return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
}

func lookPath(dirs, name string) (string, error) {
	for _, dir := range filepath.SplitList(dirs) {
		if path := filepath.Join(dir, name); isFile(path) {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func cert(ts *testscript.TestScript, _ bool, _ []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(block), 0o600))
	}
}

// Every line of text fits 80 columns, with the longest values there can be.
func TestTextFitsTheScreen(t *testing.T) {
	dinar, err := iso.LookupCurrency("KWD")
	if err != nil {
		t.Fatal(err)
	}
	kinds := []simulator.Kind{
		simulator.KindConnected, simulator.KindClosed, simulator.KindBadFrame, simulator.KindSale, simulator.KindBooked,
		simulator.KindDeclined, simulator.KindDuplicate, simulator.KindReversal, simulator.KindReversed,
		simulator.KindReversalRepeated, simulator.KindReversalRefused, simulator.KindNotFound, simulator.KindUnserved,
		simulator.KindAnswered, simulator.KindDropped, simulator.KindNotDelivered,
	}
	for _, kind := range kinds {
		for _, row := range simulator.Faults() {
			e := simulator.Event{
				Kind: kind, Time: time.Now(), Connection: 1 << 63, MTI: "0200", Card: "***************1111", Last4: "1111",
				STAN: 999999, Original: 999998, Terminal: "TERMINAL", AmountMinor: int64(iso.AmountMax), Currency: dinar,
				Code: "00", RRN: "000000999999", Fault: row.Word, NetMinor: 1_000_000_000_000_000_000, Undone: 1,
				Detail: strings.Repeat("a long story ", 20),
			}
			line := eventText(e)
			if len(line) > lineWidth || strings.Contains(line, "\n") {
				t.Errorf("%s: %d columns: %s", kind, len(line), line)
			}
			if kind == simulator.KindDropped && !strings.Contains(line, string(row.Word)) {
				t.Errorf("%s is cut off: %s", row.Word, line)
			}
		}
	}
	for line := range strings.Lines(longHelp() + "\n" + examples) {
		if len(strings.TrimSuffix(line, "\n")) > lineWidth {
			t.Errorf("help is too wide: %s", line)
		}
	}
}

// brokenPipe fails every write after the first.
type brokenPipe struct{ writes int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.writes++; b.writes > 1 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

func TestLostOutputEndsTheRun(t *testing.T) {
	var stderr bytes.Buffer
	if code := run([]string{"--listen", "127.0.0.1:0"}, &brokenPipe{}, &stderr); code != exitError {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); got != "host-simulator: cannot write the events: broken pipe\n" {
		t.Errorf("stderr: %q", got)
	}
}
