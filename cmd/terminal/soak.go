package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
)

// soakCards come from published test ranges.
var soakCards = []string{
	"4111111111111111", "4242424242424242", "5555555555554444",
	"378282246310005", "6011111111111117", "3530111333300000",
}

type soak struct {
	n       int
	seed    uint64
	settle  time.Duration
	results map[string]int
}

func newSoakCommand(f *flags) *cobra.Command {
	s := &soak{results: map[string]int{}}
	c := &cobra.Command{
		Use:   "soak",
		Short: "Run many sales, some of which go wrong, then settle what is owed",
		Long: "soak runs sales with published test cards and random amounts. After an approval\n" +
			"the chip now and then declines, or the firmware forgets the sale. The faults of\n" +
			"line and host are the host's: start host-simulator with --fault. It ends with\n" +
			"exit 0 when all that was owed is settled, 13 when something still is, 15 when\n" +
			"something was parked.\n\n" + exitHelp,
		Example: "  terminal soak -n 200 --seed 7 --journal ./j --answer-within 500ms",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().IntVarP(&s.n, "number", "n", 100, "how many sales")
	c.Flags().Uint64Var(&s.seed, "seed", 0, "repeat a run (0: choose one and print it)")
	c.Flags().DurationVar(&s.settle, "drain-within", time.Minute, "at the end, try what is still owed for this `TIME`")
	return c
}

func (s *soak) run(ctx context.Context, f *flags, stdout, stderr io.Writer) error {
	if s.n < 1 || s.n > 1_000_000 {
		return usage(errors.New("-n: must be 1 to 1000000"))
	}
	if err := notNegative(map[string]time.Duration{"--drain-within": s.settle}); err != nil {
		return err
	}
	for s.seed == 0 {
		s.seed = rand.Uint64()
	}
	d, err := f.open(stderr)
	if err != nil {
		return err
	}
	defer d.close()
	_, _ = fmt.Fprintf(stdout, "soak: %d sales, seed %d\n", s.n, s.seed)
	if err := d.signOn(ctx, f.acceptor(), stdout); err != nil {
		return err
	}
	background, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.engine.Run(background) }()
	err = s.sales(ctx, f, d)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	settle, cancel := context.WithTimeout(ctx, s.settle)
	defer cancel()
	err = d.engine.Drain(settle)
	for _, r := range []string{"approved", "declined", "failed", "not sent", "refused"} {
		_, _ = fmt.Fprintf(stdout, "%-9s %d\n", r, s.results[r])
	}
	parked, perr := d.journal.Parked()
	_, _ = fmt.Fprintf(stdout, "%-9s %d\n", "parked", len(parked))
	if err == nil && perr == nil && len(parked) > 0 {
		tellParked(stdout, len(parked))
		return toldError{errParked}
	}
	return errors.Join(err, perr)
}

func (s *soak) sales(ctx context.Context, f *flags, d *device) error {
	chance := rand.New(rand.NewPCG(s.seed, 0))
	for i := 0; i < s.n && ctx.Err() == nil; i++ {
		pan, err := iso.ParsePAN(soakCards[chance.IntN(len(soakCards))])
		if err != nil {
			return err
		}
		r := iso.Request{
			Type: iso.Sale, PAN: pan, Amount: iso.Amount(1 + chance.IntN(99_999)), Currency: d.currency,
			At: time.Now(), Acceptor: f.acceptor(), Batch: d.currentBatch(),
		}
		sale, err := d.engine.Send(ctx, r)
		if err == nil {
			err = d.finishByChance(sale, chance.IntN(20))
		}
		if err := s.count(err); err != nil {
			return err
		}
	}
	return nil
}

// finishByChance completes most sales, lets the chip decline some, and forgets a
// few.
func (d *device) finishByChance(sale *reversal.Sale, dice int) error {
	switch {
	case dice == 0:
		return &reversal.FailedError{ID: sale.ID, Cause: iso.NotCompleted}
	case dice <= 2:
		if err := sale.Reverse(iso.CardDeclined); err != nil {
			return err
		}
		return &reversal.FailedError{ID: sale.ID, Cause: iso.CardDeclined}
	}
	return sale.Complete()
}

// count sorts a result; only trouble with the journal ends the soak.
func (s *soak) count(err error) error {
	switch {
	case errors.Is(err, journal.ErrPoisoned), errors.Is(err, journal.ErrKey), errors.Is(err, journal.ErrDamaged):
		return err
	case err == nil:
		s.results["approved"]++
	case errors.Is(err, reversal.ErrDeclined):
		s.results["declined"]++
	case errors.Is(err, reversal.ErrFailed):
		s.results["failed"]++
	case errors.Is(err, reversal.ErrReversalOwed):
		s.results["refused"]++
	case errors.Is(err, reversal.ErrNotSent):
		s.results["not sent"]++
	default:
		return err
	}
	return nil
}
