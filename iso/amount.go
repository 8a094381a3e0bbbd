package iso

import (
	"fmt"
	"strconv"
	"strings"
)

// Amount is money in minor units (cents, fen), 0 to AmountMax. It is 64 bits
// wide on every machine.
type Amount int64

// AmountMax is the largest amount that DE 4 (n12) can carry.
const AmountMax Amount = 999_999_999_999

// String is the twelve-digit form that goes on the wire.
func (a Amount) String() string { return fmt.Sprintf("%012d", int64(a)) }

// ParseDE4 inverts String.
func ParseDE4(s string) (Amount, error) {
	if len(s) != 12 || !digits(s) {
		return 0, invalid(4, "must be twelve digits")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, invalid(4, "must be twelve digits")
	}
	return Amount(n), nil
}

// Currency is an ISO 4217 currency as DE 49 names it.
type Currency struct {
	Numeric  string // DE 49, three digits, e.g. "840"
	Alpha    string // e.g. "USD"
	Exponent int    // minor-unit digits: 2 for USD, 0 for JPY, 3 for KWD
}

// currencies is the part of ISO 4217 that terminals meet. A currency that is
// not here is refused: guessing its exponent would be wrong by a factor of 100.
var currencies = []Currency{
	{"036", "AUD", 2}, {"048", "BHD", 3}, {"096", "BND", 2}, {"116", "KHR", 2},
	{"124", "CAD", 2}, {"144", "LKR", 2}, {"152", "CLP", 0}, {"156", "CNY", 2},
	{"203", "CZK", 2}, {"208", "DKK", 2}, {"344", "HKD", 2}, {"348", "HUF", 2},
	{"356", "INR", 2}, {"360", "IDR", 2}, {"368", "IQD", 3}, {"376", "ILS", 2},
	{"392", "JPY", 0}, {"398", "KZT", 2}, {"400", "JOD", 3}, {"404", "KES", 2},
	{"410", "KRW", 0}, {"414", "KWD", 3}, {"418", "LAK", 2}, {"446", "MOP", 2},
	{"458", "MYR", 2}, {"484", "MXN", 2}, {"496", "MNT", 2}, {"512", "OMR", 3},
	{"524", "NPR", 2}, {"554", "NZD", 2}, {"566", "NGN", 2}, {"578", "NOK", 2},
	{"586", "PKR", 2}, {"604", "PEN", 2}, {"608", "PHP", 2}, {"634", "QAR", 2},
	{"643", "RUB", 2}, {"682", "SAR", 2}, {"702", "SGD", 2}, {"704", "VND", 0},
	{"710", "ZAR", 2}, {"752", "SEK", 2}, {"756", "CHF", 2}, {"764", "THB", 2},
	{"784", "AED", 2}, {"788", "TND", 3}, {"818", "EGP", 2}, {"826", "GBP", 2},
	{"840", "USD", 2}, {"901", "TWD", 2}, {"949", "TRY", 2}, {"978", "EUR", 2},
	{"980", "UAH", 2}, {"985", "PLN", 2}, {"986", "BRL", 2},
}

// LookupCurrency finds a currency by its numeric or alphabetic code.
func LookupCurrency(code string) (Currency, error) {
	for _, c := range currencies {
		if c.Numeric == code || strings.EqualFold(c.Alpha, code) {
			return c, nil
		}
	}
	return Currency{}, invalid(49, "is not a currency known here; give an ISO 4217 code such as USD or 840")
}

// ParseAmount reads an amount in major units as a person types it ("12.50",
// "12"). More decimals than the currency has, a sign, a thousands mark or an
// amount over AmountMax is refused; zero is refused too.
func ParseAmount(s string, c Currency) (Amount, error) {
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" || !digits(whole) || (point && frac == "") || !digits(frac) {
		return 0, invalid(4, "must be an amount such as 12.50, without sign or thousands mark")
	}
	if len(frac) > c.Exponent {
		return 0, invalid(4, "has more decimals than %s has (%d)", c.Alpha, c.Exponent)
	}
	text := strings.TrimLeft(whole+frac+strings.Repeat("0", c.Exponent-len(frac)), "0")
	if text == "" {
		return 0, invalid(4, "must be more than zero")
	}
	if len(text) > 12 {
		return 0, invalid(4, "is larger than the message can carry (12 digits)")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, invalid(4, "is not a number")
	}
	return Amount(n), nil
}

// Format prints an amount in major units: 1250 and USD give "12.50 USD".
func (c Currency) Format(a Amount) string {
	sign := ""
	if a < 0 {
		sign, a = "-", -a
	}
	s := fmt.Sprintf("%0*d", c.Exponent+1, int64(a))
	if c.Exponent > 0 {
		s = s[:len(s)-c.Exponent] + "." + s[len(s)-c.Exponent:]
	}
	return sign + s + " " + c.Alpha
}
