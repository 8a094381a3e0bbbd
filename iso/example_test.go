package iso_test

import (
	"fmt"
	"time"

	"uncharge/iso"
)

// A sale is built, its image kept, and its reversal built from the image alone.
func Example() {
	profile, err := iso.LoadProfile("iso87-ascii")
	if err != nil {
		panic(err)
	}
	pan, _ := iso.ParsePAN("4111111111111111") // a published test card
	usd, _ := iso.LookupCurrency("USD")
	sale, err := profile.Build(iso.Request{
		Type: iso.Sale, STAN: 7, PAN: pan, Amount: 1250, Currency: usd,
		At:       time.Date(2026, 11, 23, 9, 30, 15, 0, time.UTC),
		Acceptor: iso.Acceptor{Terminal: "TERM0001", Merchant: "MERCHANT0000001"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(sale)

	image, _ := profile.ImageOf(sale)
	reversal, err := profile.BuildReversal(image, iso.Reversal{Attempt: 1, Cause: iso.NoAnswer})
	if err != nil {
		panic(err)
	}
	reason, _ := reversal.Field(39)
	original, _ := reversal.Field(90)
	fmt.Println(reversal.MTI(), reason, original)
	// Output:
	// 0200 2=************1111 3=000000 4=000000001250 7=1123093015 11=000007 12=093015 13=1123 22=012 25=00 41=TERM0001 42=MERCHANT0000001 49=840
	// 0400 68 020000000711230930150000000000000000000000
}
