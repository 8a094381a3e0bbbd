package reversal_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
	"uncharge/simulator"
)

// A firmware in small: one sale goes well, the answer of the next one is lost.
func Example() {
	dir, err := os.MkdirTemp("", "uncharge-example-")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	profile, err := iso.LoadProfile("iso87-ascii")
	check(err)
	j, err := journal.Open(journal.Options{Dir: dir, DeviceKey: make([]byte, journal.KeyBytes), FirstSTAN: 1}) // a real key comes from the device
	check(err)
	defer func() { _ = j.Close() }()
	link, err := reversal.NewLink(reversal.LinkOptions{
		Address: "host:8583", Profile: profile, AnswerWithin: 100 * time.Millisecond,
		Dial: hostWithFaults(profile, "drop-answer@2"), // without Dial: TCP
	})
	check(err)
	engine, err := reversal.New(reversal.Options{Journal: j, Profile: profile, Exchanger: link})
	check(err)

	pan, err := iso.ParsePAN("4111111111111111") // a published test card
	check(err)
	usd, err := iso.LookupCurrency("USD")
	check(err)
	for range 2 {
		sale, err := engine.Send(context.Background(), iso.Request{
			Type: iso.Sale, PAN: pan, Amount: 1250, Currency: usd,
			Acceptor: iso.Acceptor{Terminal: "TERM0001", Merchant: "MERCHANT0000001"},
		})
		switch {
		case err == nil: // the chip agrees; nothing is shown before Complete returned nil
			check(sale.Complete())
			fmt.Println("approved", usd.Format(sale.Amount))
		case errors.Is(err, reversal.ErrDeclined):
			fmt.Println("declined")
		case errors.Is(err, reversal.ErrNotSent):
			fmt.Println("not sent; try again")
		case errors.Is(err, reversal.ErrFailed):
			fmt.Println("failed; it is being reversed")
		case errors.Is(err, reversal.ErrReversalOwed):
			fmt.Println("refused; an earlier reversal goes first")
		}
	}

	check(engine.Drain(context.Background())) // a firmware has engine.Run in the background instead
	for entry, err := range j.Entries(journal.Query{}) {
		check(err)
		fmt.Println("entry", entry.ID, entry.Status)
	}
	// Output:
	// approved 12.50 USD
	// failed; it is being reversed
	// entry 1 completed
	// entry 2 reversed
}

// hostWithFaults connects to a simulated host in this process.
func hostWithFaults(p *iso.Profile, words ...string) func(context.Context, string, string) (net.Conn, error) {
	var faults []simulator.Fault
	for _, word := range words {
		f, err := simulator.ParseFault(word)
		check(err)
		faults = append(faults, f)
	}
	host, err := simulator.NewHost(simulator.Options{Profile: p, Faults: faults})
	check(err)
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go host.ServeConn(context.Background(), far)
		return near, nil
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
