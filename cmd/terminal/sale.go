package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"uncharge/iso"
	"uncharge/reversal"
)

type saleFlags struct {
	amount, pan, expiry, then string
	reverseWithin             time.Duration
}

// What the reference firmware does with an approval.
const (
	thenComplete = "complete" // the chip agreed
	thenDecline  = "decline"  // the chip said no: reverse
	thenForget   = "forget"   // a bug: neither
)

func newSaleCommand(f *flags) *cobra.Command {
	s := &saleFlags{}
	c := &cobra.Command{
		Use:   "sale",
		Short: "Run one sale; if it fails, reverse it",
		Long: "sale records one sale, sends it and says what became of it. If it failed half\n" +
			"way it is reversed; what could not be reversed in time stays owed in the\n" +
			"journal and is reversed by the next sale or by \"terminal run\".\n\n" + exitHelp,
		Example: "  terminal sale --journal ./j --amount 12.50 --pan 4111111111111111",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sell(cmd.Context(), f, s, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&s.amount, "amount", "", "`AMOUNT` in major units, such as 12.50 (needed)")
	c.Flags().StringVar(&s.pan, "pan", "", "`NUMBER` of a test card (needed)")
	c.Flags().StringVar(&s.expiry, "expiry", "", "expiry `YYMM`")
	c.Flags().StringVar(&s.then, "then", thenComplete, "`WHAT` to do after an approval: complete, decline (the chip says no) or forget (a faulty firmware does neither)")
	c.Flags().DurationVar(&s.reverseWithin, "reverse-within", 5*time.Second, "after a failure, try the reversal for this `TIME` before leaving it to the next run (0: leave it at once)")
	return c
}

func (s *saleFlags) request(f *flags, currency iso.Currency) (iso.Request, error) {
	r := iso.Request{Type: iso.Sale, Expiry: iso.NewSecret(s.expiry), Currency: currency, At: time.Now(), Acceptor: f.acceptor()}
	if s.then != thenComplete && s.then != thenDecline && s.then != thenForget {
		return r, usage(fmt.Errorf("--then: %q is not complete, decline or forget", s.then))
	}
	for name, value := range map[string]string{"--amount": s.amount, "--pan": s.pan} {
		if value == "" {
			return r, usage(fmt.Errorf("%s is missing; see terminal sale --help", name))
		}
	}
	if err := notNegative(map[string]time.Duration{"--reverse-within": s.reverseWithin}); err != nil {
		return r, err
	}
	var err error
	if r.Amount, err = iso.ParseAmount(s.amount, currency); err != nil {
		return r, fmt.Errorf("--amount: %w", err)
	}
	if r.PAN, err = iso.ParsePAN(s.pan); err != nil {
		return r, fmt.Errorf("--pan: %w", err)
	}
	return r, nil
}

func sell(ctx context.Context, f *flags, s *saleFlags, stdout, stderr io.Writer) error {
	profile, currency, err := f.dialect()
	if err != nil {
		return err
	}
	r, err := s.request(f, currency)
	if err != nil {
		return err
	}
	if err := profile.Check(r); err != nil {
		return err
	}
	d, err := f.open(stderr)
	if err != nil {
		return err
	}
	defer d.close()
	if parked, err := d.journal.Parked(); err == nil {
		tellParked(stderr, len(parked))
	}
	err = d.signOn(ctx, r.Acceptor, stdout)
	var sale *reversal.Sale
	if err == nil {
		r.Batch = d.currentBatch()
		sale, err = d.engine.Send(ctx, r)
	}
	if err == nil {
		err = d.finish(sale, s.then, stdout)
	}
	if err == nil {
		return nil
	}
	told := tellFailure(stdout, err, r)
	var failed *reversal.FailedError
	if errors.As(err, &failed) && s.reverseWithin > 0 {
		ctx, cancel := context.WithTimeout(ctx, s.reverseWithin)
		defer cancel()
		_ = d.engine.Drain(ctx) // how far it came is read from the journal
		if entry, err := d.journal.Entry(failed.ID); err == nil {
			tellReversal(stdout, entry)
		}
	}
	return told
}

// finish does what the firmware does with an approval: only after Complete
// returned is it shown (L3).
func (d *device) finish(sale *reversal.Sale, then string, stdout io.Writer) error {
	switch then {
	case thenForget:
		return &reversal.FailedError{ID: sale.ID, Cause: iso.NotCompleted, Err: errors.New("approved, but never completed: it stays armed")}
	case thenDecline:
		if err := sale.Reverse(iso.CardDeclined); err != nil {
			return err
		}
		return &reversal.FailedError{ID: sale.ID, Cause: iso.CardDeclined, Err: errors.New("the host approved and the chip declined")}
	}
	if err := sale.Complete(); err != nil {
		return err
	}
	d.halt.at(afterComplete)
	tellApproval(stdout, sale)
	return nil
}
