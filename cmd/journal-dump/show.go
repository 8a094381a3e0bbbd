package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"uncharge/journal"
)

func newListCommand(f *flags) *cobra.Command {
	var number int
	c := &cobra.Command{
		Use:     "list",
		Short:   "The newest entries, the newest last",
		Long:    "list shows the newest entries, one a line, the newest last.\n\n" + exitHelp,
		Example: "  journal-dump list -n 5 --journal ./j",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if number < 0 {
				return usage("-n: must be 0 (all) or more")
			}
			s, err := f.open()
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			return list(s, f, number, cmd.OutOrStdout())
		},
	}
	c.Flags().IntVarP(&number, "number", "n", 20, "this `NUMBER` of entries; 0 means all")
	return c
}

// list shows what can be read and reports what cannot.
func list(s *journal.Snapshot, f *flags, number int, stdout io.Writer) error {
	q := journal.Query{}
	if number > 0 {
		// The newest are found from the end and shown in the order of time.
		for e := range s.Entries(journal.Query{Newest: true, Limit: number}) {
			q.From = e.ID
		}
	}
	var bad error
	p := newPrinter(stdout, f.output)
	for e, err := range s.Entries(q) {
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		p.entry(e)
	}
	return errors.Join(p.end(), bad)
}

func newPendingCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "pending",
		Short: "What is armed, owed or parked, the oldest first",
		Long: "pending shows every entry whose customer may be charged for nothing: armed (no\n" +
			"outcome yet), owed (a reversal must reach the host) and parked (the host\n" +
			"refused; a person must act). Nothing else in the journal needs attention.\n\n" + exitHelp,
		Example: "  journal-dump pending --journal ./j",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.open()
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			return pending(s, f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

func pending(s *journal.Snapshot, f *flags, stdout, stderr io.Writer) error {
	var all []journal.Entry
	var bad error
	for _, read := range []func() ([]journal.Entry, error){s.Armed, s.Owed, s.Parked} {
		list, err := read()
		all = append(all, list...)
		if err != nil && (bad == nil || err.Error() != bad.Error()) { // armed and owed share an index
			bad = errors.Join(bad, err)
		}
	}
	slices.SortFunc(all, func(a, b journal.Entry) int { return int(int64(a.ID) - int64(b.ID)) })
	p := newPrinter(stdout, f.output)
	for _, e := range all {
		p.entry(e)
	}
	if len(all) == 0 && bad == nil && s.Damage() == nil {
		_, _ = fmt.Fprintln(stderr, "nothing is pending")
	}
	return errors.Join(p.end(), bad)
}

func newShowCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "All facts of one entry, step by step",
		Long:    "show gives all facts of one entry and every durable step in its life.\n\n" + exitHelp,
		Example: "  journal-dump show 3 --journal ./j",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("show needs one entry id, such as: journal-dump show 3")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := journal.ParseID(args[0])
			if err != nil {
				return usage("show: an entry id is a number from 1; \"journal-dump list\" shows them")
			}
			s, err := f.open()
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			e, err := s.Entry(id)
			if errors.Is(err, journal.ErrNoEntry) {
				return fmt.Errorf("%w; \"journal-dump list\" shows those there are", err)
			}
			if err != nil {
				return err
			}
			return errors.Join(show(e, f.output, cmd.OutOrStdout()), s.Damage())
		},
	}
}

func show(e journal.Entry, output string, stdout io.Writer) error {
	if output == "ndjson" {
		p := newPrinter(stdout, output)
		p.entry(e)
		return p.end()
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fact := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	fact("entry", e.ID.String())
	fact("story", story(e))
	fact("customer", meaning(e))
	fact("status", e.Status.String())
	fact("terminal", e.Lane.Terminal)
	fact("merchant", e.Lane.Merchant)
	fact("type", fmt.Sprintf("%s (%s)", e.Type, e.MTI))
	fact("STAN", fmt.Sprintf("%06d", e.STAN))
	fact("amount", e.Amount.String())
	if e.ApprovedMinor > 0 {
		fact("approved", e.Charged().String())
	}
	fact("card", masked(e.Last4))
	fact("code", e.Code)
	fact("authorization", e.AuthCode)
	fact("RRN", e.RRN)
	fact("cause", e.Cause)
	if e.Attempts > 0 {
		fact("reversals", fmt.Sprintf("%s, %d refused, last code %s", attempts(e.Attempts), e.Refusals, orDash(e.LastCode)))
	}
	fact("parked", e.Parking)
	fact("begun", e.BegunAt.UTC().Format(time.RFC3339Nano))
	for _, s := range e.Steps {
		what := string(s.Kind)
		if s.N > 0 {
			what += fmt.Sprintf(" %d", s.N)
		}
		if s.Note != "" {
			what += " " + s.Note
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", s.At.UTC().Format("15:04:05.000Z"), what)
	}
	return w.Flush()
}

// story is one entry in a few words that fit a line of the table, never stronger
// than what is recorded.
func story(e journal.Entry) string {
	switch e.Status {
	case journal.Begun:
		return "no outcome yet; ARMED"
	case journal.Completed:
		return "approved (" + e.Code + "); the sale stands"
	case journal.Declined:
		return "declined (" + e.Code + "); not charged"
	case journal.NotSent:
		return "nothing was sent; not charged"
	case journal.Owed:
		return e.Cause + "; REVERSAL OWED"
	case journal.Reversed:
		if e.NeverBooked() {
			return e.Cause + "; never booked (" + e.LastCode + ")"
		}
		return e.Cause + "; reversed (" + e.LastCode + ")"
	case journal.Parked:
		return e.Cause + "; PARKED (" + orDash(e.LastCode) + ")"
	case journal.Cleared:
		return "settled by an operator"
	}
	return e.Status.String()
}

// meaning is what a story means for the customer's money, as far as it is known.
func meaning(e journal.Entry) string {
	switch e.Status {
	case journal.Begun:
		return "may be charged; it is reversed unless the sale is completed"
	case journal.Completed:
		return "charged: the sale was completed"
	case journal.Declined, journal.NotSent:
		return "not charged"
	case journal.Owed:
		return "may be charged; the reversal goes on until the host confirms"
	case journal.Reversed:
		if e.NeverBooked() {
			return "not charged, by the host's word: it has no such sale"
		}
		return "the host confirmed the reversal; a hold may show for days"
	case journal.Parked:
		return "may be charged; the host refuses to reverse: call the acquirer"
	case journal.Cleared:
		return "settled by an operator, see the steps"
	}
	return ""
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func masked(last4 string) string {
	if last4 == "" {
		return ""
	}
	return "****" + last4
}

// printer writes entries in one of the two formats.
type printer struct {
	table *tabwriter.Writer
	json  *json.Encoder
	lines int
	err   error
}

func newPrinter(stdout io.Writer, output string) *printer {
	if output == "ndjson" {
		return &printer{json: json.NewEncoder(stdout)}
	}
	return &printer{table: tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)}
}

// tableBlock is how many lines share their column widths and their headline: a
// table of a million entries must not be held in memory.
const tableBlock = 500

// line is the machine form of an entry. Version 1; it only ever grows.
type line struct {
	Version int `json:"v"`
	journal.Entry
}

func (p *printer) entry(e journal.Entry) {
	if p.err != nil {
		return
	}
	if p.json != nil {
		p.err = p.json.Encode(line{1, e})
		return
	}
	if p.lines%tableBlock == 0 {
		_, p.err = fmt.Fprintln(p.table, "ID\tTIME (UTC)\tSTAN\tAMOUNT\tCARD\tWHAT HAPPENED")
	}
	if p.lines++; p.lines%tableBlock == 0 {
		defer func() { p.err = errors.Join(p.err, p.table.Flush()) }()
	}
	_, p.err = fmt.Fprintf(p.table, "%d\t%s\t%06d\t%s\t%s\t%s\n",
		e.ID, e.BegunAt.UTC().Format("01-02 15:04"), e.STAN, e.Charged(), masked(e.Last4), story(e))
}

func (p *printer) end() error {
	if p.table != nil && p.err == nil {
		p.err = p.table.Flush()
	}
	return p.err
}
