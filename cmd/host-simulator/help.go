package main

import (
	"fmt"
	"strings"

	"uncharge/simulator"
)

const examples = `  host-simulator
      an honest host on 127.0.0.1:8583

  host-simulator --fault drop-answer@2 --fault refuse-reversal=1
      books the second sale and does not say so, then refuses its
      reversal once

  host-simulator --listen 127.0.0.1:0 -o ndjson | tee events.ndjson
      any free port; the first line tells which`

// longHelp is the text above the flags. The table comes from the simulator, so
// that it cannot fall behind.
func longHelp() string {
	var b strings.Builder
	b.WriteString(`host-simulator is a card host for testing terminals. It books sales, undoes
them when it gets their reversal, and does wrong what it is told to. What it
does is told on standard output, one line for each event, with the last four
digits of a card at most. SIGINT or SIGTERM stops it; it then prints what each
card was charged.

A FAULT is WORD[=VALUE], followed by @N or @N-M to let it fall on the Nth (to
Mth) request of its kind only, counted from 1. DURATION is a time such as 75s,
CODE a response code (DE 39).
`)
	faultTable(&b, "On a sale", false)
	faultTable(&b, "On a reversal", true)
	b.WriteString(`
Exit codes: 0 stopped by a signal; 1 it could not go on (port in use, output
lost); 2 it was called wrongly.`)
	return b.String()
}

func faultTable(b *strings.Builder, title string, onReversal bool) {
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, row := range simulator.Faults() {
		if row.OnReversal == onReversal {
			fmt.Fprintf(b, "  %-27s %s\n", string(row.Word)+row.Value, row.Meaning)
		}
	}
}
