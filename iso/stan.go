package iso

import (
	"fmt"
	"strconv"
)

// STAN is a system trace audit number (DE 11): 1 to 999999, printed as six
// digits.
type STAN uint32

// STANMax is the highest trace number; the next one is 1 again.
const STANMax STAN = 999999

// String is the six-digit form that goes on the wire.
func (s STAN) String() string { return fmt.Sprintf("%06d", uint32(s)) }

// ParseSTAN inverts String. Zero is not a trace number.
func ParseSTAN(s string) (STAN, error) {
	if len(s) != 6 || !digits(s) || s == "000000" {
		return 0, invalid(11, "must be six digits, 000001 to 999999")
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, invalid(11, "must be six digits, 000001 to 999999")
	}
	return STAN(n), nil
}
