package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// budget is a row of the table "Budgets" in the design.
type budget struct {
	what        string
	least, most float64
	format      string // of one number, with its unit
}

func atLeast(what string, least float64, format string) budget {
	return budget{what, least, math.Inf(1), format}
}

func noMoreThan(what string, most float64, format string) budget {
	return budget{what, math.Inf(-1), most, format}
}

func (b budget) String() string {
	switch {
	case math.IsInf(b.most, 1):
		return fmt.Sprintf("≥ "+b.format, b.least)
	case math.IsInf(b.least, -1):
		return fmt.Sprintf("≤ "+b.format, b.most)
	}
	return fmt.Sprintf(b.format+"–"+b.format, b.least, b.most)
}

// verdict is a budget held against what was measured.
type verdict struct {
	budget
	measured spread
	missing  string // why nothing was measured under the budget's conditions, "" when it was
}

func (v verdict) met() bool { return v.measured.median >= v.least && v.measured.median <= v.most }

func (v verdict) String() string {
	switch {
	case v.missing != "":
		return "not judged: " + v.missing
	case v.met():
		return "met"
	}
	return "NOT MET"
}

type verdicts []verdict

func (vs verdicts) print(w io.Writer, short bool) {
	fmt.Fprint(w, "\nbudgets\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tbudget\tmeasured\tlowest–highest\t")
	for _, v := range vs {
		if short && v.missing == "" {
			v.missing = "short run"
		}
		measured, between := "-", "-"
		if v.measured != (spread{}) {
			measured, between = fmt.Sprintf(v.format, v.measured.median), v.measured.between(v.format)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.what, v.budget, measured, between, v)
	}
	_ = t.Flush()
}
