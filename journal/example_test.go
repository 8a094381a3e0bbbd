package journal_test

import (
	"fmt"
	"os"

	"uncharge/journal"
)

// A sale is recorded before it is sent; its answer is lost; its reversal is
// counted before it leaves and confirmed by the host.
func Example() {
	dir, err := os.MkdirTemp("", "uncharge-example-")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	j, err := journal.Open(journal.Options{Dir: dir, DeviceKey: make([]byte, journal.KeyBytes), FirstSTAN: 1}) // a real key comes from the device
	check(err)
	defer func() { _ = j.Close() }()

	lane := journal.Lane{Terminal: "TERM0001", Merchant: "MERCHANT0000001"}
	stan, err := j.NextSTAN(lane)
	check(err)
	id, err := j.Begin(journal.Draft{
		Lane: lane, STAN: stan, Type: "sale", MTI: "0200",
		Amount: journal.Money{Minor: 1250, Currency: "USD", Exponent: 2},
		Last4:  "1111", Image: []byte("what the reversal needs"),
	})
	check(err)
	// Only now may the request leave. No answer comes:
	check(j.Owe(id, "no-answer", journal.Answer{}))
	attempt, err := j.Attempt(id)
	check(err)
	// Only now may the reversal leave. The host answers 00:
	check(j.Confirm(id, "00"))

	entry, err := j.Entry(id)
	check(err)
	fmt.Println(entry.Amount, "STAN", entry.STAN, entry.Status, "after attempt", attempt)
	err = j.Complete(id, journal.Answer{})
	fmt.Println(err)
	// Output:
	// 12.50 USD STAN 1 reversed after attempt 1
	// entry 1: illegal move from reversed to completed
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
