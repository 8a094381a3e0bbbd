package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"uncharge/cmd/internal/complaint"
	"uncharge/journal"
	"uncharge/reversal"
)

func newRunCommand(f *flags) *cobra.Command {
	var untilQuiet bool
	var within time.Duration
	c := &cobra.Command{
		Use:   "run",
		Short: "Reverse what is owed, and go on until stopped",
		Long: "run reverses what a crash left armed and whatever else is owed, until it is\n" +
			"stopped (SIGINT, SIGTERM) or, with --until-quiet, until nothing is owed.\n\n" + exitHelp,
		Example: "  terminal run --host 127.0.0.1:8583 --journal ./j --until-quiet --within 30s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), f, untilQuiet, within, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().BoolVar(&untilQuiet, "until-quiet", false, "end as soon as nothing is owed")
	c.Flags().DurationVar(&within, "within", 0, "with --until-quiet: give up after this `TIME` and exit 13 (0: never)")
	return c
}

func serve(ctx context.Context, f *flags, untilQuiet bool, within time.Duration, stdout, stderr io.Writer) error {
	if err := notNegative(map[string]time.Duration{"--within": within}); err != nil {
		return err
	}
	if within > 0 && !untilQuiet {
		return usage(errors.New("--within needs --until-quiet"))
	}
	d, err := f.open(stderr)
	if err != nil {
		return err
	}
	defer d.close()
	open, parked, damage := d.standing()
	if damage != nil && !errors.Is(damage, journal.ErrPartial) {
		return damage
	}
	_, _ = fmt.Fprintf(stdout, "%d to reverse\n", len(open))
	if len(open) > 0 || !untilQuiet {
		if err := d.signOn(ctx, f.acceptor(), stdout); err != nil {
			_, _ = fmt.Fprintf(stderr, "terminal: %s; the reversals wait for it, and it is tried again\n", complaint.Line(err))
		}
	}
	if !untilQuiet {
		tellParked(stdout, parked)
		return errors.Join(d.engine.Run(ctx), damage)
	}
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	err = d.engine.Drain(ctx)
	if errors.Is(err, reversal.ErrReversalOwed) {
		err = toldError{err}
	}
	for _, e := range open {
		if now, err := d.journal.Entry(e.ID); err == nil {
			tellReversal(stdout, now)
		}
	}
	_, parked, damage = d.standing()
	tellParked(stdout, parked)
	switch {
	case err == nil && damage != nil:
		return damage
	case err == nil && parked > 0:
		return toldError{errParked}
	}
	return err
}

// standing lists what is to be reversed, the oldest first, and counts the parked.
// What cannot be read does not hold up the others: it is the error beside them.
func (d *device) standing() (open []journal.Entry, parked int, damage error) {
	armed, err := d.journal.Armed()
	owed, err2 := d.journal.Owed()
	given, err3 := d.journal.Parked()
	for _, e := range []error{err, err2, err3} {
		if e != nil && (damage == nil || e.Error() != damage.Error()) { // armed and owed share an index
			damage = errors.Join(damage, e)
		}
	}
	return append(owed, armed...), len(given), damage
}
