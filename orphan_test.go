package uncharge_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
	"uncharge/simulator"
)

// inNetns is set in the copy of this test that runs in a network of its own.
const inNetns = "UNCHARGE_TEST_IN_NETNS"

// L4, L10: a sale is handed to TCP while the network is down; the terminal gives
// up, the network comes back, the reversal is answered "not found". From then on
// the kernel must not deliver the sale after all: the customer would be charged
// for a sale that the journal says was reversed. Needs a network namespace of
// its own, so that "down" is down for real.
func TestL4NoSaleArrivesAfterItsReversal(t *testing.T) {
	if os.Getenv(inNetns) != "" {
		lineGoesDownAfterDialling(t)
		return
	}
	t.Parallel()
	if err := exec.Command("unshare", "-n", "ip", "link", "set", "lo", "up").Run(); err != nil {
		t.Skipf("SKIPPED: no network namespace to be had here: %v", err)
	}
	again := exec.Command("unshare", "-n", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inNetns+"=1")
	if out, err := again.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func lineGoesDownAfterDialling(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	network := func(state string) { must(exec.Command("ip", "link", "set", "lo", state).Run()) }
	network("up")
	profile, err := iso.LoadProfile("iso87-ascii")
	must(err)
	host, err := simulator.NewHost(simulator.Options{Profile: profile})
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() { _ = host.Serve(t.Context(), listener) }()

	timers := profile.Timers()
	timers.AnswerWithin, timers.OvertakenWindow = 2*time.Second, 300*time.Millisecond
	firstDial := true
	link, err := reversal.NewLink(reversal.LinkOptions{
		Address: listener.Addr().String(), Profile: profile, AnswerWithin: timers.AnswerWithin,
		Dial: func(ctx context.Context, network_, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network_, address)
			if firstDial && err == nil {
				firstDial = false
				network("down")
			}
			return conn, err
		},
	})
	must(err)
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), DeviceKey: make([]byte, journal.KeyBytes), FirstSTAN: 1})
	must(err)
	defer func() { _ = j.Close() }()
	engine, err := reversal.New(reversal.Options{Journal: j, Profile: profile, Exchanger: link, Timers: &timers})
	must(err)
	pan, err := iso.ParsePAN("4111111111111111")
	must(err)
	usd, err := iso.LookupCurrency("USD")
	must(err)

	_, err = engine.Send(t.Context(), iso.Request{
		Type: iso.Sale, PAN: pan, Amount: 2000, Currency: usd,
		Acceptor: iso.Acceptor{Terminal: "TERM0001", Merchant: "MERCHANT0000001"},
	})
	if err == nil {
		t.Fatal("scene: the sale was answered")
	}
	network("up")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(engine.Drain(ctx))
	// TCP's next tries would come within 7 s of the first one (0.2 s, doubled each time).
	time.Sleep(7 * time.Second)
	if net := host.Ledger().Account(pan, usd).NetMinor; net != 0 {
		t.Errorf("reversed, and then charged %d", net)
	}
}
