package iso

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// validate holds a profile against what the program can do and what no profile
// may ask for. Each error begins with the place in the file.
func (d *profileData) validate() error {
	for _, check := range []func() error{
		d.validateHead, d.validateFraming, d.validateTransactions, d.validateReversal, d.validateMatch, d.validateMAC, d.validateCodes,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	if err := d.Timers.timers().Validate(); err != nil {
		return fmt.Errorf("timers.%w", err)
	}
	return nil
}

func oneOf(at, got string, known ...string) error {
	if !slices.Contains(known, got) {
		return fmt.Errorf("%s: %q is not known; one of %s", at, got, strings.Join(known, ", "))
	}
	return nil
}

func (d *profileData) validateHead() error {
	if d.Schema != 1 {
		return fmt.Errorf("schema: %d is not known here (1 is)", d.Schema)
	}
	if d.Name == "" || strings.Trim(d.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return errors.New("name: must be lower-case letters, digits and hyphens")
	}
	if len(d.Version) != 1 || !digits(d.Version) {
		return errors.New("version: must be one digit, the first of every MTI: 0 for 1987, 1 for 1993")
	}
	if d.Bitmaps != 1 && d.Bitmaps != 2 {
		return errors.New("bitmaps: must be 1 or 2")
	}
	if err := errors.Join(
		oneOf("mti", d.MTI, "ascii", "bcd", "ebcdic"),
		oneOf("bitmap", d.Bitmap, "hex", "binary", "ebcdic-hex"),
		oneOf("encodings.length", d.Encodings["length"], "ascii", "bcd", "ebcdic", "binary"),
	); err != nil {
		return err
	}
	for kind := range d.Encodings {
		if _, ok := encodingsOf[kind]; !ok && kind != "length" {
			return fmt.Errorf("encodings.%s: no such type", kind)
		}
	}
	for de := range d.Fields {
		switch {
		case de < 2 || de > 128 || de == 65:
			return fmt.Errorf("fields.%d: no such data element", de)
		case de > 64 && d.Bitmaps == 1:
			return fmt.Errorf("fields.%d: needs a second bitmap (bitmaps: 2)", de)
		}
	}
	for _, must := range []int{3, 4, 11, 39, 41, 42} {
		if _, ok := d.Fields[must]; !ok {
			return fmt.Errorf("fields.%d: must be there", must)
		}
	}
	return nil
}

func (d *profileData) validateFraming() error {
	f := d.Framing
	if err := oneOf("framing.length", f.Length, "binary2", "bcd2", "ascii4"); err != nil {
		return err
	}
	most := lengthsMax[f.Length]
	if f.CountsItself {
		most -= lengthBytes[f.Length]
	}
	if f.BytesMax < 64 || f.BytesMax > most {
		return fmt.Errorf("framing.bytesMax: must be 64 to %d", most)
	}
	if f.TPDU != "" && (len(f.TPDU) != 10 || !charsets["b"](f.TPDU)) {
		return errors.New("framing.tpdu: must be ten upper-case hex digits such as 6000030000")
	}
	if len(f.Header) > 64 || !charsets["b"](f.Header) {
		return errors.New("framing.header: must be pairs of upper-case hex digits")
	}
	if f.RequestDigit < 0 || f.RequestDigit > len(f.Header) {
		return errors.New("framing.hostRequestDigit: is not in the header")
	}
	for digit := range f.Requests {
		if len(digit) != 1 || !digits(digit) {
			return fmt.Errorf("framing.hostRequests.%s: must be one digit", digit)
		}
	}
	return nil
}

func (d *profileData) validateTransactions() error {
	for name, tx := range d.Transactions {
		at := "transactions." + string(name)
		for key, mti := range map[string]MTI{"mti": tx.MTI, "repeat": tx.Repeat} {
			if key == "repeat" && mti == "" {
				continue
			}
			if _, err := ParseMTI(string(mti)); err != nil || string(mti[0]) != d.Version || mti.Answer() == "" {
				return fmt.Errorf("%s.%s: must be the MTI of a request or an advice of version %s", at, key, d.Version)
			}
		}
		if err := oneOf(at+".recovery", string(tx.Recovery), string(Reverse), string(Advise), string(Resume), string(Nothing)); err != nil {
			return err
		}
		if tx.MTI.Reversal() { // L16
			return fmt.Errorf("%s.mti: a reversal is no transaction of its own", at)
		}
		if err := errors.Join(d.holds(at+".processing", 3, tx.Processing), d.holds(at+".condition", 25, tx.Condition)); err != nil {
			return err
		}
		if tx.Answer != "" && !answerMTI(tx.Answer, d.Version) {
			return fmt.Errorf("%s.answer: must be the MTI of an answer", at)
		}
		if !slices.Contains(tx.Must, 11) || !slices.Contains(tx.Must, 41) {
			return fmt.Errorf("%s.must: DE 11 and DE 41 must be there, or no answer could be matched", at)
		}
		if tx.Recovery == Reverse && (!slices.Contains(tx.Must, 3) || !slices.Contains(tx.Must, 4) || !slices.Contains(tx.Must, 42)) {
			return fmt.Errorf("%s.must: DE 3, 4 and 42 must be there, or it could not be reversed", at)
		}
		for _, de := range slices.Concat(tx.Must, tx.OneOf, tx.May) {
			if _, ok := d.Fields[de]; !ok {
				return fmt.Errorf("%s: DE %d is not in fields", at, de)
			}
		}
	}
	return nil
}

func (d *profileData) validateReversal() error {
	r := d.Reversal
	if _, err := ParseMTI(string(r.MTI)); err != nil || !r.MTI.Reversal() || string(r.MTI[0]) != d.Version || r.MTI.Answer() == "" {
		return fmt.Errorf("reversal.mti: must be an MTI of class 4 and version %s", d.Version)
	}
	if _, err := ParseMTI(string(r.Repeat)); r.Repeat != "" && (err != nil || r.Repeat.Answer() != r.MTI.Answer()) {
		return errors.New("reversal.repeat: must be empty, or an MTI that has the same answer as reversal.mti")
	}
	if err := oneOf("reversal.stan", r.STAN, "same", "new"); err != nil {
		return err
	}
	for _, de := range r.Copy {
		f, ok := d.Fields[de]
		switch {
		case forbidden(de):
			return fmt.Errorf("reversal.copy: DE %d may never be kept", de)
		case !ok:
			return fmt.Errorf("reversal.copy: DE %d is not in fields", de)
		case !keepableAs(de, f):
			return fmt.Errorf("reversal.copy: DE %d (type %s, length %d) may hold card data and may never be kept", de, f.Type, f.Length)
		case de == 55 && f.Type != "b":
			return errors.New("reversal.copy: DE 55 is text in this profile, so its tags cannot be told apart; it may not be kept")
		}
	}
	for _, must := range []int{3, 4, 11, 41, 42} {
		if !slices.Contains(r.Copy, must) {
			return fmt.Errorf("reversal.copy: DE %d must be there, or the host cannot find the original", must)
		}
	}
	for _, de := range []int{2, 3, 4, 11, 41, 42} {
		if _, ok := r.Set[de]; ok {
			return fmt.Errorf("reversal.set.%d: is copied, or new; it cannot be set", de)
		}
	}
	for de := range r.Set {
		if forbidden(de) {
			return fmt.Errorf("reversal.set.%d: may never be part of a reversal", de)
		}
	}
	for at, de := range map[string]int{"reason": r.Reason, "authCode": r.AuthCode} {
		if _, ok := d.Fields[de]; (!ok && (at == "reason" || de != 0)) || forbidden(de) {
			return fmt.Errorf("reversal.%s: DE %d is not in fields", at, de)
		}
	}
	for at, de := range map[string]int{"reason": r.Reason, "authCode": r.AuthCode} {
		if slices.Contains([]int{2, 3, 4, 7, 11, 12, 41, 42, 49, 64, 128}, de) || (at == "authCode" && de != 0 && de != 38) {
			return fmt.Errorf("reversal.%s: DE %d says which original is meant; it cannot carry this", at, de)
		}
	}
	if r.Answer != "" && !answerMTI(r.Answer, d.Version) {
		return errors.New("reversal.answer: must be the MTI of an answer")
	}
	for _, c := range Causes() {
		if r.Reasons[c] == "" {
			return fmt.Errorf("reversal.reasons.%s: missing", c)
		}
		if err := d.holds("reversal.reasons."+string(c), r.Reason, r.Reasons[c]); err != nil {
			return err
		}
	}
	for c := range r.Reasons {
		if !slices.Contains(Causes(), c) {
			return fmt.Errorf("reversal.reasons.%s: no such cause", c)
		}
	}
	return checkTags(r.ChipTags)
}

func (d *profileData) validateMatch() error {
	for _, de := range slices.Concat(d.Match.Always, d.Match.WhenPresent) {
		if _, ok := d.Fields[de]; !ok {
			return fmt.Errorf("match: DE %d is not in fields", de)
		}
	}
	for _, must := range []int{11, 41} { // an answer held against less could be anybody's
		if !slices.Contains(d.Match.Always, must) {
			return fmt.Errorf("match.always: DE %d must be there", must)
		}
	}
	return nil
}

// macForms are the ways in which a MAC stands in its data element.
var macForms = []string{"hex8", "binary8", "binary4"}

// macNeeds are the kinds of answers that a profile may ask a MAC of.
var macNeeds = []string{"approve", "decline", "confirm", "not-found", "refuse", "other"}

func (d *profileData) validateMAC() error {
	m := d.MAC
	if m == nil {
		return nil
	}
	for _, de := range m.Elements {
		if f, ok := d.Fields[de]; !ok || (de != 64 && de != 128) || f.Type != "b" || f.Length != 8 || f.Prefix != "" {
			return fmt.Errorf("mac.elements: DE %d must be 64 or 128, eight fixed bytes of type b", de)
		}
	}
	// The MAC covers all that stands before it, so it must be the last.
	want := []int{64}
	if d.Bitmaps == 2 {
		want = []int{64, 128}
	}
	if !slices.Equal(m.Elements, want) {
		return fmt.Errorf("mac.elements: must be %v with %d bitmaps", want, d.Bitmaps)
	}
	if !slices.Contains(MACAlgorithms(), m.Algorithm) {
		return fmt.Errorf("mac.algorithm: %q is not known; one of %v", m.Algorithm, MACAlgorithms())
	}
	if err := oneOf("mac.form", m.Form, macForms...); err != nil {
		return err
	}
	for _, t := range m.Without {
		tx, ok := d.Transactions[t]
		if !ok {
			return fmt.Errorf("mac.without: no transaction %q", t)
		}
		// A MAC is left out by MTI, so no transaction that moves money may have this one (L5).
		for name, other := range d.Transactions {
			moves := other.Recovery == Reverse || other.Recovery == Advise || slices.Contains(other.Must, 4)
			if moves && (other.MTI == tx.MTI || other.Repeat == tx.MTI) {
				return fmt.Errorf("mac.without: %s has the MTI of %s, which moves money and goes with a MAC", t, name)
			}
		}
	}
	for _, kind := range macNeeds {
		if err := oneOf("mac.needed."+kind, m.Needed[kind], "yes", "no"); err != nil {
			return err
		}
	}
	for kind := range m.Needed {
		if err := oneOf("mac.needed", kind, macNeeds...); err != nil {
			return err
		}
	}
	if m.Needed["approve"] == "no" || m.Needed["confirm"] == "no" { // L5
		return errors.New("mac.needed: an approval and a confirmed reversal are believed only with a MAC where there is one")
	}
	return nil
}

// holds reports whether a data element can carry a value that stands in the file.
func (d *profileData) holds(at string, de int, value string) error {
	f, ok := d.Fields[de]
	if value == "" || !ok {
		return nil
	}
	check, known := charsets[f.Type]
	if !known || f.Length < 1 { // said where the field is read
		return nil
	}
	if !check(value) || len(value) > f.Length || (f.Prefix == "" && len(value) != f.Length) {
		return fmt.Errorf("%s: %q does not fit DE %d (type %s, length %d)", at, value, de, f.Type, f.Length)
	}
	return nil
}

// answerMTI reports whether this can be the MTI of an answer.
func answerMTI(m MTI, version string) bool {
	_, err := ParseMTI(string(m))
	return err == nil && string(m[0]) == version && m[2]%2 == 1
}

func (d *profileData) validateCodes() error {
	says := map[string]bool{}
	for _, c := range d.Codes {
		says[string(c.Request)], says[string(c.Reversal)] = true, true
	}
	if !says[string(Approve)] || !says[string(Confirm)] {
		return errors.New("codes: at least one must approve, and one must confirm a reversal")
	}
	for code, c := range d.Codes {
		if code == "" || !c.Request.valid() || !c.Reversal.valid() {
			return fmt.Errorf("codes.%s: request is one of approve, partial, decline, doubt; reversal is one of confirm, not-found, retry, sign-on, refuse", code)
		}
	}
	return nil
}

// Validate refuses waits and bounds of zero or less: they would park what was
// never refused, or try again without a pause. The error begins with the name of
// the timer.
func (t Timers) Validate() error {
	for _, wait := range []struct {
		name string
		d    time.Duration
	}{
		{"answerWithin", t.AnswerWithin}, {"settleWithin", t.SettleWithin}, {"completeWithin", t.CompleteWithin},
		{"overtakenWindow", t.OvertakenWindow}, {"backoffFirst", t.BackoffFirst}, {"backoffMax", t.BackoffMax},
	} {
		if wait.d <= 0 {
			return fmt.Errorf("%s: must be a time above zero, such as \"45s\"", wait.name)
		}
	}
	if t.Burst < 1 {
		return errors.New("burst: must be 1 or more")
	}
	if t.RefusalsMax < 1 {
		return errors.New("refusalsMax: must be 1 or more")
	}
	return nil
}
