package simulator

import (
	"encoding/json"
	"testing"
	"time"
)

// What JSON says of an event can be told from what it does not say.
func TestEventJSON(t *testing.T) {
	yen := currency(t, "JPY")
	at := time.Date(2026, 11, 23, 9, 30, 15, 0, time.UTC)
	for _, c := range []struct {
		event Event
		want  string
	}{
		{Event{Kind: KindConnected, Time: at, Connection: 3},
			`{"v":1,"event":"connected","connection":3,"time":"2026-11-23T09:30:15.000+00:00"}`},
		{Event{
			Kind: KindReversed, Time: at, Connection: 3, MTI: "0400", Card: "************1111", Last4: "1111",
			STAN: 7, Original: 7, Terminal: "TERM01", AmountMinor: 500, Currency: yen, Code: "00", RRN: "000000000001", Undone: 1,
		}, `{"v":1,"event":"reversed","connection":3,"mti":"0400","card":"************1111","last4":"1111","stan":"000007",` +
			`"original_stan":"000007","terminal":"TERM01","amount_minor":500,"currency":"JPY","currency_numeric":"392","exponent":0,` +
			`"code":"00","rrn":"000000000001","net_minor":0,"undone":1,"time":"2026-11-23T09:30:15.000+00:00"}`},
		{Event{Kind: KindNotFound, Time: at.In(time.FixedZone("", 8*3600)), Connection: 3, MTI: "0400", STAN: 8, Original: 7, Code: "25"},
			`{"v":1,"event":"not-found","connection":3,"mti":"0400","stan":"000008","original_stan":"000007","code":"25",` +
				`"undone":0,"time":"2026-11-23T17:30:15.000+08:00"}`},
		{Event{Kind: KindReversal, Time: at, Connection: 1, MTI: "0400", STAN: 7, Original: 7, AmountMinor: 500, Currency: yen},
			`{"v":1,"event":"reversal","connection":1,"mti":"0400","stan":"000007","original_stan":"000007","amount_minor":500,` +
				`"currency":"JPY","currency_numeric":"392","exponent":0,"undone":0,"time":"2026-11-23T09:30:15.000+00:00"}`},
	} {
		got, err := json.Marshal(c.event)
		if err != nil || string(got) != c.want {
			t.Errorf("%v\n got %s\nwant %s", err, got, c.want)
		}
	}
}
