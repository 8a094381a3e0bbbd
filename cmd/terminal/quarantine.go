package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"uncharge/journal"
)

func newQuarantineCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "quarantine",
		Short: "Put a new journal in the place of a damaged one",
		Long: "quarantine keeps the files of a damaged journal in a directory beside the new\n" +
			"one, and carries every entry that can be read into it. What was open and may\n" +
			"have been finished by a step that is lost is parked: look at it before anything\n" +
			"is done to it. A journal that is whole is left alone.\n\n" + exitHelp,
		Example: "  terminal quarantine --journal ./j",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return quarantine(f, cmd.OutOrStdout())
		},
	}
}

func quarantine(f *flags, stdout io.Writer) error {
	if err := f.checkTimes(); err != nil {
		return err
	}
	keys, err := f.deviceKeys()
	if err != nil {
		return err
	}
	s, err := journal.Quarantine(journal.Options{Dir: f.journalDir, Keys: keys, LockWait: f.lockWait})
	if errors.Is(err, journal.ErrWhole) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stdout, "%d entries carried into a new journal; the damaged files are kept in %s\n", s.Entries, s.Kept)
	for _, id := range s.Parked {
		_, _ = fmt.Fprintf(stdout, "PARKED    entry %d  it was open, and may have been finished: ask the acquirer\n", id)
	}
	for _, id := range s.Lost {
		_, _ = fmt.Fprintf(stdout, "LOST      entry %d  nothing of it can be read: ask the acquirer\n", id)
	}
	if s.LostSteps > 0 {
		_, _ = fmt.Fprintf(stdout, "%d steps were taken that cannot be read any more\n", s.LostSteps)
	}
	if s.EndUnknown {
		_, _ = fmt.Fprintln(stdout, "the newest sales may be missing without a trace: hold the acquirer's list against this journal")
	}
	if len(s.Parked) > 0 {
		return toldError{errParked}
	}
	return nil
}
