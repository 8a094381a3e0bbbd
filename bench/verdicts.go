package main

import (
	"fmt"
	"slices"
)

// The budgets of the design that this program can judge.

func (c *contest) verdicts() (list verdicts) {
	for _, want := range []struct {
		callers int
		than    string
		least   float64
		what    string
	}{
		{1, bareAppend, 0.90, "bare append and fdatasync"},
		{1, sqliteGroup, 1.05, "SQLite behind the same group commit"},
		{8, sqliteGroup, 1.1, "SQLite behind the same group commit"},
		{64, sqliteGroup, 1.1, "SQLite behind the same group commit"},
	} {
		if !slices.Contains(c.callers, want.callers) {
			continue
		}
		ours, theirs := c.rounds[cell{ourJournal, want.callers}], c.rounds[cell{want.than, want.callers}]
		list = append(list, verdict{
			budget:   atLeast(fmt.Sprintf("sales/s against %s, %s", want.what, callersText(want.callers)), want.least, "%.3f"),
			measured: ratio(ours, theirs, loaded.perSecond),
		})
	}
	if slices.Contains(c.callers, 1) {
		v := verdict{budget: budget{"syncs per sale, 1 caller", 2, 2.1, "%.3f"}, missing: c.why}
		if c.why == "" {
			n := c.syncs[cell{ourJournal, 1}].perSale()
			v.measured = spread{n, n, n}
		}
		list = append(list, v)
	}
	for _, want := range []struct {
		callers int
		most    float64
	}{{1, 12}, {64, 3}} {
		if !slices.Contains(c.callers, want.callers) {
			continue
		}
		list = append(list, verdict{
			budget:   noMoreThan("device bytes per sale, "+callersText(want.callers), want.most, "%.1f KB"),
			measured: spreadBy(c.rounds[cell{ourJournal, want.callers}], func(l loaded) float64 { return l.bytesPerSale() / 1000 }),
		})
	}
	return list
}

// storedFull is what the budgets of a long history are about.
const storedFull = 1_000_000

func (h *history) verdicts() verdicts {
	first, most := h.stored[0], h.most()
	missing := ""
	if most < storedFull {
		missing = fmt.Sprintf("the budget is for %d entries", storedFull)
	}
	memory := spreadBy(h.sales[most], func(l loaded) float64 { return float64(l.AnonMost) / 1e6 })
	memory.median = memory.high // a budget of memory is for the worst
	list := verdicts{
		{noMoreThan(fmt.Sprintf("reopen after kill -9 until the owed are listed, %d entries, warm", most), 20, "%.1f ms"),
			spreadBy(h.warm, reopened.untilListed), missing},
		{noMoreThan(fmt.Sprintf("anonymous memory, %d entries", most), 16, "%.1f MB"), memory, missing},
	}
	cost := verdict{noMoreThan(fmt.Sprintf("cost of a sale at %d entries against %d", most, first), 1.2, "%.3f"),
		ratio(h.sales[most], h.sales[first], loaded.microsPerSale), missing}
	if missing == "" && first > 1000 {
		cost.missing = "the budget is against 1000 entries"
	}
	return append(list, cost)
}

func callersText(n int) string {
	if n == 1 {
		return "1 caller"
	}
	return fmt.Sprintf("%d callers", n)
}
