package iso

// MTI is a message type indicator, always four digits, e.g. "0200".
type MTI string

// ParseMTI accepts exactly four digits.
func ParseMTI(s string) (MTI, error) {
	if len(s) != 4 || !digits(s) {
		return "", invalid(0, "must be four digits")
	}
	return MTI(s), nil
}

// Answer is the MTI of the answer: the third digit says the function
// (0 request, 2 advice), and its answer is one higher. The last digit says the
// origin and, when it is odd, a repeat; an answer is no repeat: 0200 and 0201 are
// both answered by 0210, 1804 by 1814. What is an answer
// itself, or no MTI, is answered by nothing: "".
func (m MTI) Answer() MTI {
	if len(m) != 4 || !digits(string(m)) || m[2]%2 == 1 {
		return ""
	}
	return m[:2] + MTI([]byte{m[2] + 1, m[3] &^ 1})
}

// Reversal reports whether this is a message of the reversal class (x4xx).
// A reversal is never reversed itself (L16).
func (m MTI) Reversal() bool { return len(m) == 4 && m[1] == '4' }

// Network reports whether this is network management (x8xx): sign-on, echo.
func (m MTI) Network() bool { return len(m) == 4 && m[1] == '8' }

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
