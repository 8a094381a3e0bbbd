package iso

import (
	"strings"
)

// Original is DE 90 (n42): what tells the host which transaction is meant. MTI
// 4, STAN 6, transmission date and time 10 (the DE 7 of the original), acquirer
// 11, forwarder 11; unknown parts are zeros (ISO 8583:1987; NIBSS POS v1.16).
type Original struct {
	MTI       MTI
	STAN      STAN
	At        string // MMDDhhmmss as it was sent, "" when unknown
	Acquirer  string // "" when unknown
	Forwarder string // "" when unknown
}

// String is the 42-digit form that goes on the wire.
func (o Original) String() string {
	return string(o.MTI) + o.STAN.String() + zeros(o.At, 10) + zeros(o.Acquirer, 11) + zeros(o.Forwarder, 11)
}

// ParseOriginal inverts String. Parts that are all zeros come back empty;
// leading zeros of the institution ids are padding and are dropped.
func ParseOriginal(s string) (Original, error) {
	if len(s) != 42 || !digits(s) {
		return Original{}, invalid(90, "must be 42 digits")
	}
	stan, err := ParseSTAN(s[4:10])
	if err != nil {
		return Original{}, invalid(90, "carries no trace number")
	}
	o := Original{
		MTI: MTI(s[:4]), STAN: stan, At: s[10:20],
		Acquirer: strings.TrimLeft(s[20:31], "0"), Forwarder: strings.TrimLeft(s[31:], "0"),
	}
	if strings.Trim(o.At, "0") == "" {
		o.At = ""
	}
	return o, nil
}

// zeros puts zeros in front up to n digits.
func zeros(s string, n int) string { return strings.Repeat("0", max(0, n-len(s))) + s }
