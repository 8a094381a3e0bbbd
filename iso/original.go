package iso

import (
	"fmt"
	"strconv"
	"strings"
)

// Original is what tells a host which transaction is meant. Which parts there are
// depends on where it comes from: DE 90 (ISO 8583:1987), DE 56 (1993) or DE 61
// (UnionPay). The zero value of a part is "unknown".
type Original struct {
	MTI       MTI
	STAN      STAN
	At        string // DE 7 as it was sent, MMDDhhmmss
	Local     string // DE 12 of ISO 8583:1993, YYMMDDhhmmss
	Batch     string // six digits
	Date      string // MMDD
	Acquirer  string
	Forwarder string
}

// String is DE 90, 42 digits: MTI 4, STAN 6, transmission date and time 10,
// acquirer 11, forwarder 11; unknown parts are zeros (NIBSS POS v1.16).
func (o Original) String() string {
	return zeros(string(o.MTI), 4) + o.STAN.String() + zeros(o.At, 10) + zeros(o.Acquirer, 11) + zeros(o.Forwarder, 11)
}

// DE56 is the form of ISO 8583:1993: MTI 4, STAN 6, local date and time 12,
// acquirer with two digits of length (PROTOCOL B.3).
func (o Original) DE56() string {
	return zeros(string(o.MTI), 4) + o.STAN.String() + zeros(o.Local, 12) + fmt.Sprintf("%02d", len(o.Acquirer)) + o.Acquirer
}

// DE61 is the form of UnionPay: batch 6, STAN 6, date 4 (PROTOCOL B.1). What a
// host may add behind it is not part of an Original.
func (o Original) DE61() string { return zeros(o.Batch, 6) + o.STAN.String() + zeros(o.Date, 4) }

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
	return Original{
		MTI: MTI(unzero(s[:4])), STAN: stan, At: unzero(s[10:20]),
		Acquirer: strings.TrimLeft(s[20:31], "0"), Forwarder: strings.TrimLeft(s[31:], "0"),
	}, nil
}

// ParseDE56 inverts Original.DE56.
func ParseDE56(s string) (Original, error) {
	if len(s) < 24 || len(s) > 35 || !digits(s) {
		return Original{}, invalid(56, "must be 24 to 35 digits")
	}
	stan, err := ParseSTAN(s[4:10])
	if err != nil {
		return Original{}, invalid(56, "carries no trace number")
	}
	n, err := strconv.Atoi(s[22:24])
	if err != nil || n != len(s)-24 {
		return Original{}, invalid(56, "has an acquirer of another length than it says")
	}
	return Original{MTI: MTI(unzero(s[:4])), STAN: stan, Local: unzero(s[10:22]), Acquirer: s[24:]}, nil
}

// ParseDE61 inverts Original.DE61; what follows the date (authorization mode and
// institution) is left aside.
func ParseDE61(s string) (Original, error) {
	if (len(s) < 16 && len(s) != 12) || len(s) > 29 || !digits(s) {
		return Original{}, invalid(61, "must be 12, or 16 to 29 digits")
	}
	stan, err := ParseSTAN(s[6:12])
	if err != nil {
		return Original{}, invalid(61, "carries no trace number")
	}
	o := Original{Batch: unzero(s[:6]), STAN: stan}
	if len(s) >= 16 {
		o.Date = unzero(s[12:16])
	}
	return o, nil
}

// unzero is a part that is "" when it is all zeros.
func unzero(s string) string {
	if strings.Trim(s, "0") == "" {
		return ""
	}
	return s
}

// zeros puts zeros in front up to n digits.
func zeros(s string, n int) string { return strings.Repeat("0", max(0, n-len(s))) + s }
