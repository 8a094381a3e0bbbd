package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"uncharge/iso"
	"uncharge/simulator"
)

// A line of text fits 80 columns: the table of an event takes whereWidth of
// them, and the rest is left for what happened.
const (
	lineWidth  = 80
	rowFormat  = "%-8s %-17s %-5s %-6s %-8s %s"
	whereWidth = 8 + 1 + 17 + 1 + 5 + 1 + 6 + 1 + 8 + 1
)

// output writes the ready line, the events and the ledger, as text or as one
// JSON object a line. The first failed write ends the run. Not safe for
// concurrent use: the host delivers events one at a time.
type output struct {
	w      io.Writer
	ndjson bool
	failed func() // called once, after the first write that failed
	err    error
}

func (o *output) write(s string) {
	if o.err != nil {
		return
	}
	if _, err := io.WriteString(o.w, s); err != nil {
		o.err = fmt.Errorf("cannot write the events: %w", err)
		o.failed()
	}
}

func (o *output) object(v any) {
	line, err := json.Marshal(v)
	if err != nil { // strings, numbers and times only: the program is wrong
		panic(err)
	}
	o.write(string(line) + "\n")
}

type readyJSON struct {
	V       int      `json:"v"`
	Event   string   `json:"event"`
	Address string   `json:"address"`
	TLS     bool     `json:"tls"`
	Profile string   `json:"profile"`
	Faults  []string `json:"faults"`
	Time    string   `json:"time"`
}

type ledgerJSON struct {
	V        int    `json:"v"`
	Event    string `json:"event"`
	Card     string `json:"card"`
	Last4    string `json:"last4"`
	NetMinor int64  `json:"net_minor"`
	Currency string `json:"currency"`
	Exponent int    `json:"exponent"`
	Sales    int    `json:"sales"`
	Reversed int    `json:"reversed"`
	Undone   int    `json:"undone_max"`
	Time     string `json:"time"`
}

func (o *output) ready(address string, s settings) {
	if !o.ndjson {
		o.write("host-simulator: ready on " + address + "\n")
		o.write(fmt.Sprintf(rowFormat, "TIME", "EVENT", "CARD", "STAN", "TERMINAL", "WHAT") + "\n")
		return
	}
	line := readyJSON{
		V: 1, Event: "ready", Address: address, TLS: s.tls != nil, Profile: s.profile.Name(),
		Faults: []string{}, Time: time.Now().Format(simulator.TimeLayout),
	}
	for _, f := range s.faults {
		line.Faults = append(line.Faults, f.String())
	}
	o.object(line)
}

func (o *output) event(e simulator.Event) {
	if o.ndjson {
		o.object(e)
		return
	}
	o.write(eventText(e) + "\n")
}

func (o *output) ledger(accounts []simulator.Account) {
	if o.ndjson {
		for _, a := range accounts {
			o.object(ledgerJSON{
				V: 1, Event: "ledger", Card: a.Card, Last4: a.Last4, NetMinor: a.NetMinor,
				Currency: a.Currency.Alpha, Exponent: a.Currency.Exponent, Sales: a.Sales,
				Reversed: a.Reversed, Undone: a.UndoneMax, Time: time.Now().Format(simulator.TimeLayout),
			})
		}
		return
	}
	if len(accounts) == 0 {
		o.write("\nno card was charged\n")
		return
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nCARD\tNET\tSALES\tREVERSED")
	for _, a := range accounts {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\n", a.Card, money(a.Currency, a.NetMinor), a.Sales, a.Reversed)
	}
	_ = table.Flush() // into memory
	o.write(b.String())
}

func eventText(e simulator.Event) string {
	clock := e.Time.Format(time.TimeOnly)
	switch e.Kind {
	case simulator.KindConnected, simulator.KindClosed, simulator.KindBadFrame:
		what := fmt.Sprintf("line %d", e.Connection)
		if e.Detail != "" {
			what += ": " + e.Detail
		}
		line := fmt.Sprintf("%-8s %-17s %s", clock, e.Kind, what)
		return cut(line, lineWidth)
	}
	tail, trace := "", ""
	if e.Last4 != "" {
		tail = "*" + e.Last4
	}
	if e.STAN != 0 {
		trace = e.STAN.String()
	}
	what := cut(eventWhat(e), lineWidth-whereWidth)
	return strings.TrimRight(fmt.Sprintf(rowFormat, clock, e.Kind, tail, trace, e.Terminal, what), " ")
}

// eventWhat says only what is new with this event: a sale is told before its
// booking, and both before their answer.
func eventWhat(e simulator.Event) string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	switch e.Kind {
	case simulator.KindSale, simulator.KindReversal:
		if e.Original != 0 && e.Original != e.STAN {
			add("of " + e.Original.String())
		}
		if e.Currency.Numeric != "" {
			add(money(e.Currency, e.AmountMinor))
		}
	case simulator.KindAnswered, simulator.KindDropped:
		add(e.Code)
		add(string(e.Fault))
	case simulator.KindNotDelivered:
		add(e.Detail)
	case simulator.KindNetwork, simulator.KindUnproven:
		add(e.Code)
		add(e.Detail)
	case simulator.KindUnserved:
		add(e.Code)
		add("message type " + string(e.MTI))
	default:
		add(e.Code)
		if e.Card != "" && e.Currency.Numeric != "" {
			add("net " + money(e.Currency, e.NetMinor))
		}
	}
	return strings.Join(parts, " ")
}

func money(c iso.Currency, minor int64) string { return c.Format(iso.Amount(minor)) }

// cut shortens ASCII text to n columns.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-3] + "..."
}
