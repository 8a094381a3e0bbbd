package simulator

import (
	"strings"
	"testing"
	"time"
)

var faultTexts = []struct {
	text   string
	want   Fault
	prints string // "" for text itself
}{
	{"drop-request", Fault{Word: DropRequest}, ""},
	{"drop-answer@3", Fault{Word: DropAnswer, First: 3, Last: 3}, ""},
	{"close-before-booking@2-4", Fault{Word: CloseBeforeBooking, First: 2, Last: 4}, ""},
	{"close-after-booking@2-2", Fault{Word: CloseAfterBooking, First: 2, Last: 2}, "close-after-booking@2"},
	{"late-answer=75s@1", Fault{Word: LateAnswer, Delay: 75 * time.Second, First: 1, Last: 1}, "late-answer=1m15s@1"},
	{"decline", Fault{Word: Decline, Code: "51"}, "decline=51"},
	{"decline=96@01", Fault{Word: Decline, Code: "96", First: 1, Last: 1}, "decline=96@1"},
	{"refuse-reversal=2", Fault{Word: RefuseReversal, Refusals: 2, Code: "05"}, "refuse-reversal=2:05"},
	{"refuse-reversal=3:96@1-9", Fault{Word: RefuseReversal, Refusals: 3, Code: "96", First: 1, Last: 9}, ""},
	{"drop-reversal@1", Fault{Word: DropReversal, First: 1, Last: 1}, ""},
	{"drop-reversal-answer", Fault{Word: DropReversalAnswer}, ""},
	{"garbage-answer", Fault{Word: GarbageAnswer}, ""},
	{"wrong-stan", Fault{Word: WrongSTAN}, ""},
	{"no-code", Fault{Word: NoCode}, ""},
}

func TestParseFault(t *testing.T) {
	seen := map[FaultWord]bool{}
	for _, c := range faultTexts {
		got, err := ParseFault(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v", c.text, got, err)
			continue
		}
		prints := c.prints
		if prints == "" {
			prints = c.text
		}
		if got.String() != prints {
			t.Errorf("%s prints %s, want %s", c.text, got, prints)
		}
		if again, err := ParseFault(got.String()); err != nil || again != got {
			t.Errorf("%s does not invert: %+v, %v", c.text, again, err)
		}
		seen[got.Word] = true
	}
	for _, row := range Faults() {
		if !seen[row.Word] {
			t.Errorf("%s is in the catalogue and in no test", row.Word)
		}
		if row.Meaning == "" {
			t.Errorf("%s has no meaning", row.Word)
		}
	}
}

func TestParseFaultRefuses(t *testing.T) {
	for _, text := range []string{
		"", "@1", "=", "teapot", "Drop-Answer", "drop-answer ", "drop-answer=1", "drop-answer=",
		"drop-answer@", "drop-answer@0", "drop-answer@-1", "drop-answer@+1", "drop-answer@2-1", "drop-answer@1-",
		"drop-answer@1-2-3", "drop-answer@1@2", "drop-answer@99999999999999999999", "drop-answer@1000000001",
		"late-answer", "late-answer=", "late-answer=5", "late-answer=-5s", "late-answer=0s", "late-answer=2h",
		"decline=", "decline=5", "decline=5111", "decline=5 ", "decline=00",
		"refuse-reversal", "refuse-reversal=0", "refuse-reversal=x", "refuse-reversal=1:", "refuse-reversal=1:00", "refuse-reversal=1:5",
		strings.Repeat("x", 1000),
	} {
		f, err := ParseFault(text)
		if err == nil {
			t.Errorf("%q was read as %+v", text, f)
			continue
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the error has more than one line", text)
		}
	}
	_, err := ParseFault("teapot")
	for _, row := range Faults() {
		if !strings.Contains(err.Error(), string(row.Word)) {
			t.Errorf("the error for an unknown word does not name %s", row.Word)
		}
	}
}

func TestValidateFault(t *testing.T) {
	for name, f := range map[string]Fault{
		"zero":            {},
		"unknown":         {Word: "teapot"},
		"first only":      {Word: DropAnswer, First: 1},
		"last only":       {Word: DropAnswer, Last: 1},
		"negative":        {Word: DropAnswer, First: -1, Last: -1},
		"backwards":       {Word: DropAnswer, First: 2, Last: 1},
		"stray delay":     {Word: DropAnswer, Delay: time.Second},
		"stray code":      {Word: DropAnswer, Code: "51"},
		"stray refusals":  {Word: DropAnswer, Refusals: 1},
		"no delay":        {Word: LateAnswer},
		"no code":         {Word: Decline},
		"no refusals":     {Word: RefuseReversal, Code: "05"},
		"refuses with 00": {Word: RefuseReversal, Refusals: 1, Code: "00"},
	} {
		if f.Validate() == nil {
			t.Errorf("%s: %+v passed", name, f)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, c := range faultTexts {
		f.Add(c.text)
	}
	f.Add("late-answer=1.5ms@2-3")
	f.Add("refuse-reversal=007:Zz")
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := ParseFault(text)
		if err != nil {
			if fault != (Fault{}) {
				t.Errorf("%q: an error, and %+v", text, fault)
			}
			return
		}
		again, err := ParseFault(fault.String())
		if err != nil || again != fault {
			t.Errorf("%q is %+v, prints %s, which is %+v, %v", text, fault, fault, again, err)
		}
	})
}
