package simulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"uncharge/iso"
)

// FaultWord names what the host does wrong.
type FaultWord string

// The words. Faults lists what each means.
const (
	DropRequest        FaultWord = "drop-request"
	DropAnswer         FaultWord = "drop-answer"
	LateAnswer         FaultWord = "late-answer"
	CloseBeforeBooking FaultWord = "close-before-booking"
	CloseAfterBooking  FaultWord = "close-after-booking"
	Decline            FaultWord = "decline"
	GarbageAnswer      FaultWord = "garbage-answer"
	WrongSTAN          FaultWord = "wrong-stan"
	NoCode             FaultWord = "no-code"
	RefuseReversal     FaultWord = "refuse-reversal"
	DropReversal       FaultWord = "drop-reversal"
	DropReversalAnswer FaultWord = "drop-reversal-answer"
)

// Bounds on what a fault may say.
const (
	faultTextMax    = 64
	lateAnswerMax   = time.Hour
	faultNumberMax  = 1_000_000_000 // fits an int on 32-bit machines
	declineDefault  = "51"          // not sufficient funds
	refusalDefault  = "05"          // do not honour
	responseCodeLen = 2             // DE 39, an 2
)

// Fault is one way to misbehave and the requests that it falls on. The zero
// value of First and Last means every request of the kind.
type Fault struct {
	Word     FaultWord
	Delay    time.Duration // LateAnswer: how long the answer waits
	Refusals int           // RefuseReversal: how many reversals of each original are refused
	Code     string        // Decline, RefuseReversal: DE 39
	First    int           // the first request it falls on, from 1
	Last     int           // the last one
}

// FaultHelp is one row of the catalogue, for a person.
type FaultHelp struct {
	Word       FaultWord
	Value      string // how its value is written, with the "=", "" for none
	OnReversal bool   // it falls on reversals; else on sales
	Meaning    string
}

type valueKind int

const (
	noValue valueKind = iota
	durationValue
	codeValue
	refusalsValue
)

var valueForms = map[valueKind]string{
	durationValue: "=DURATION", codeValue: "[=CODE]", refusalsValue: "=N[:CODE]",
}

// catalogue is the one place where a word is explained to the parser, to the
// host (on which kind of request it falls) and to a person.
var catalogue = []struct {
	word     FaultWord
	value    valueKind
	reversal bool // falls on reversals, else on sales
	meaning  string
}{
	{DropRequest, noValue, false, "read the sale, neither book nor answer it"},
	{DropAnswer, noValue, false, "book the sale, never answer"},
	{LateAnswer, durationValue, false, "book the sale, answer after DURATION"},
	{CloseBeforeBooking, noValue, false, "close the line, book nothing"},
	{CloseAfterBooking, noValue, false, "book the sale, close the line unanswered"},
	{Decline, codeValue, false, "answer with CODE (51), book nothing"},
	{GarbageAnswer, noValue, false, "book the sale, answer with bytes, no message"},
	{WrongSTAN, noValue, false, "book the sale, answer under another STAN"},
	{NoCode, noValue, false, "book the sale, answer without DE 39"},
	{RefuseReversal, refusalsValue, true, "refuse each reversal N times with CODE (05)"},
	{DropReversal, noValue, true, "read the reversal, neither undo nor answer"},
	{DropReversalAnswer, noValue, true, "undo the sale, never answer"},
}

// Faults lists every word that ParseFault knows.
func Faults() []FaultHelp {
	var rows []FaultHelp
	for _, c := range catalogue {
		rows = append(rows, FaultHelp{c.word, valueForms[c.value], c.reversal, c.meaning})
	}
	return rows
}

// ParseFault reads WORD[=VALUE][@N] or WORD[=VALUE][@N-M]: what to do wrong, and
// on which sale or reversal (counted from 1; without "@" on every one). An
// error says what is wrong with the text and, for an unknown word, which words
// there are.
func ParseFault(text string) (Fault, error) {
	if len(text) > faultTextMax {
		return Fault{}, fmt.Errorf("fault of %d characters; %d is the most", len(text), faultTextMax)
	}
	fail := func(format string, args ...any) (Fault, error) {
		return Fault{}, fmt.Errorf("fault %q: %s", text, fmt.Sprintf(format, args...))
	}
	body, where, placed := strings.Cut(text, "@")
	word, value, valued := strings.Cut(body, "=")
	f := Fault{Word: FaultWord(word)}
	if placed {
		from, to, ranged := strings.Cut(where, "-")
		if !ranged {
			to = from
		}
		var ok1, ok2 bool
		f.First, ok1 = parseNumber(from)
		f.Last, ok2 = parseNumber(to)
		if !ok1 || !ok2 || f.Last < f.First {
			return fail("after @ comes one number from 1, or a range such as 2-4")
		}
	}
	kind, known := f.kind()
	if !known {
		return fail("unknown word; known: %s", knownWords())
	}
	if why := f.readValue(kind, value, valued); why != "" {
		return fail("%s", why)
	}
	if err := f.Validate(); err != nil {
		return Fault{}, err
	}
	return f, nil
}

// readValue fills in what stands behind the "="; it returns what is wrong, or "".
func (f *Fault) readValue(kind valueKind, value string, valued bool) string {
	switch kind {
	case noValue:
		if valued {
			return "takes no value"
		}
	case durationValue:
		d, err := time.ParseDuration(value)
		if err != nil {
			return "needs a time, such as late-answer=75s"
		}
		f.Delay = d
	case codeValue:
		f.Code = value
		if !valued {
			f.Code = declineDefault
		}
	case refusalsValue:
		count, code, coded := strings.Cut(value, ":")
		n, ok := parseNumber(count)
		if !ok {
			return "needs a number from 1, such as refuse-reversal=2 or refuse-reversal=2:96"
		}
		f.Refusals, f.Code = n, code
		if !coded {
			f.Code = refusalDefault
		}
	}
	return ""
}

// String is the text that ParseFault reads; the two invert each other. The zero
// value is "".
func (f Fault) String() string {
	s := string(f.Word)
	switch kind, _ := f.kind(); kind {
	case durationValue:
		s += "=" + f.Delay.String()
	case codeValue:
		s += "=" + f.Code
	case refusalsValue:
		s += "=" + strconv.Itoa(f.Refusals) + ":" + f.Code
	}
	switch {
	case f.First == 0 && f.Last == 0:
		return s
	case f.First == f.Last:
		return s + "@" + strconv.Itoa(f.First)
	}
	return s + "@" + strconv.Itoa(f.First) + "-" + strconv.Itoa(f.Last)
}

// Validate reports what is wrong with a fault that was put together by hand.
func (f Fault) Validate() error {
	kind, known := f.kind()
	bad := func(why string) error { return fmt.Errorf("fault %q: %s", f, why) }
	coded := kind == codeValue || kind == refusalsValue
	switch {
	case !known:
		return bad("unknown word; known: " + knownWords())
	case (f.First != 0 || f.Last != 0) && (f.First < 1 || f.Last < f.First || f.Last > faultNumberMax):
		return bad("First and Last are both 0, or 1 and up in this order")
	case kind == durationValue && (f.Delay <= 0 || f.Delay > lateAnswerMax):
		return bad("the delay must be above zero and at most " + lateAnswerMax.String())
	case kind != durationValue && f.Delay != 0:
		return bad("takes no delay")
	case kind == refusalsValue && (f.Refusals < 1 || f.Refusals > faultNumberMax):
		return bad("must refuse at least once")
	case kind != refusalsValue && f.Refusals != 0:
		return bad("takes no number of refusals")
	case coded && !responseCode(f.Code):
		return bad("a response code has two letters or digits, such as 51, or three in ISO 8583:1993")
	case coded && f.Code == codeApproved:
		return bad("code 00 would say yes; give a code that says no")
	case !coded && f.Code != "":
		return bad("takes no response code")
	}
	return nil
}

// agrees holds a fault against a profile: a code that the terminal reads as
// "yes" would make the ledger contradict the host's own word.
func (f Fault) agrees(p *iso.Profile) error {
	kind := serviceSale
	if f.onReversal() {
		kind = serviceReversal
	}
	written := code(p, kind, f.Code)
	switch class := p.Code(written); {
	case f.Code != "" && len(written) != p.CodeLength():
		return fmt.Errorf("fault %q: codes of profile %s have %d characters", f, p.Name(), p.CodeLength())
	case f.Word == Decline && (class.Request == iso.Approve || class.Request == iso.Partial):
		return fmt.Errorf("fault %q: profile %s reads code %s as an approval; give a code that says no", f, p.Name(), f.Code)
	case f.Word == RefuseReversal && class.Reversal == iso.Confirm:
		return fmt.Errorf("fault %q: profile %s reads code %s as a confirmation; give a code that says no", f, p.Name(), f.Code)
	}
	return nil
}

func (f Fault) kind() (valueKind, bool) {
	for _, c := range catalogue {
		if c.word == f.Word {
			return c.value, true
		}
	}
	return noValue, false
}

func (f Fault) onReversal() bool {
	for _, c := range catalogue {
		if c.word == f.Word {
			return c.reversal
		}
	}
	return false
}

func (f Fault) covers(n int) bool {
	return f.First == 0 || (n >= f.First && n <= f.Last)
}

func knownWords() string {
	var words []string
	for _, c := range catalogue {
		words = append(words, string(c.word)+valueForms[c.value])
	}
	return strings.Join(words, ", ")
}

// parseNumber accepts 1 to faultNumberMax, digits only.
func parseNumber(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 1 && n <= faultNumberMax
}

func responseCode(s string) bool {
	return (len(s) == responseCodeLen || len(s) == responseCodeLen+1) && strings.IndexFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) < 0
}

// faultPlan counts requests and picks the fault for each. It has a lock of its
// own so that an observer may change the faults while it is being told of an
// event.
type faultPlan struct {
	mu        sync.Mutex
	faults    []Fault
	sales     int
	reversals int
	refused   map[saleKey]int // refusals given so far, per original
}

func (p *faultPlan) set(faults []Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.sales, p.reversals = slices.Clone(faults), 0, 0
	p.refused = make(map[saleKey]int)
}

// forSale counts a sale and returns the first fault that falls on it, or the
// zero Fault.
func (p *faultPlan) forSale() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sales++
	for _, f := range p.faults {
		if !f.onReversal() && f.covers(p.sales) {
			return f
		}
	}
	return Fault{}
}

// forReversal counts a reversal and returns the first fault that falls on it,
// or the zero Fault. A refusal that this original has used up falls on it no
// longer.
func (p *faultPlan) forReversal(original saleKey) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reversals++
	for _, f := range p.faults {
		if !f.onReversal() || !f.covers(p.reversals) {
			continue
		}
		if f.Word == RefuseReversal {
			given := p.refused[original]
			if given >= f.Refusals || (given == 0 && len(p.refused) >= salesMax) {
				continue
			}
			p.refused[original] = given + 1
		}
		return f
	}
	return Fault{}
}
