package simulator_test

import (
	"context"
	"fmt"
	"net"

	"uncharge/iso"
	"uncharge/simulator"
)

// A host that books a sale and does not say so.
func Example() {
	profile, err := iso.LoadProfile("iso87-ascii")
	if err != nil {
		panic(err)
	}
	fault, err := simulator.ParseFault("drop-answer@1")
	if err != nil {
		panic(err)
	}
	dropped := make(chan struct{})
	host, err := simulator.NewHost(simulator.Options{
		Profile: profile, Faults: []simulator.Fault{fault},
		Observe: func(e simulator.Event) {
			if e.Kind == simulator.KindDropped {
				close(dropped)
			}
		},
	})
	if err != nil {
		panic(err)
	}
	terminal, line := net.Pipe()
	go host.ServeConn(context.Background(), line)

	sale := iso.NewMessage("0200")
	for de, value := range map[int]string{
		2: "4111111111111111", 3: "000000", 4: "000000001250", 7: "1123093015", 11: "000001",
		41: "TERM0001", 42: "MERCHANT0000001", 49: "840",
	} {
		sale.Set(de, value)
	}
	packed, err := profile.Pack(sale)
	if err != nil {
		panic(err)
	}
	if err := profile.WriteFrame(terminal, packed); err != nil {
		panic(err)
	}
	<-dropped
	_ = terminal.Close()
	for _, account := range host.Ledger().Snapshot() {
		fmt.Println(account.Card, account.Currency.Format(iso.Amount(account.NetMinor)))
	}
	// Output:
	// ************1111 12.50 USD
}
