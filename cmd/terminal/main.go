// Command terminal is the reference firmware: it runs sales through the engine
// against a host. The demo, the soak and the kill tests use it; it is for test
// cards only.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"uncharge/cmd/internal/complaint"
	"uncharge/cmd/internal/profiles"
	usage80 "uncharge/cmd/internal/usage"
	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
)

// Exit codes. Each result of a sale has its own, so that a script can tell them
// apart.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitDamaged  = 4  // the journal is damaged or not a journal
	exitBusy     = 5  // another process holds the journal
	exitFailed   = 10 // failed, reversal armed or sent
	exitDeclined = 11
	exitNotSent  = 12
	exitOwed     = 13 // refused: a reversal is owed first
	exitUnknown  = 14 // a write failed: the outcome is not known
	exitParked   = 15 // nothing is owed, but the host refuses to reverse some: a person must act
)

const exitHelp = `Exit codes:
  0   approved and completed (sale); nothing owed or parked (run, soak)
  1   error              2   wrong use of the command
  4   journal damaged, or not a journal
  5   journal in use by another process
  10  failed; the reversal is armed or was sent
  11  declined           12  not sent: nobody is charged, safe to try again
  13  refused: an earlier reversal must reach the host first
  14  a write to the journal failed: the outcome is not known
  15  parked (run, soak): the host refuses to reverse; a person must act`

func main() {
	signal.Ignore(syscall.SIGPIPE) // a reader that went away must not end a sale half way
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole command but for the process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	out := &complaint.Writer{W: stdout}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var told toldError
	if err != nil && !errors.As(err, &told) {
		_, _ = fmt.Fprintf(stderr, "terminal: %s\n", complaint.Line(advised(err)))
	}
	code := exitCode(err)
	if out.Err != nil {
		_, _ = fmt.Fprintf(stderr, "terminal: the result could not be shown (%v); it is in the journal: see journal-dump list\n", out.Err)
		if code == exitOK {
			return exitError // nobody was told "approved"
		}
	}
	return code
}

func newRoot() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use:   "terminal",
		Short: "Reference firmware: run card sales so that no failed one stays charged",
		Long: "terminal runs card sales through the journal and the reversal engine.\n" +
			"It is for test cards only: a PAN on a command line is seen by every user of\nthe machine.\n\n" + exitHelp,
		Example: `  terminal sale --journal ./j --amount 12.50 --pan 4111111111111111
  terminal run --host 127.0.0.1:8583 --journal ./j --until-quiet
  terminal soak --host 127.0.0.1:8583 --journal ./j -n 100`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage(errors.New("which command? sale, run, soak or profile; --help tells more"))
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(complaint.Flag(err)) })
	f.register(root)
	usage80.Fit(root)
	root.AddCommand(newSaleCommand(f), newRunCommand(f), newQuarantineCommand(f), newSoakCommand(f))
	for _, c := range root.Commands() {
		c.Args = usageArgs
	}
	root.AddCommand(profiles.Command("terminal"))
	root.Args = usageArgs
	return root
}

// usageArgs refuses arguments: everything is a flag.
func usageArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		// The argument is not shown: it may be a PAN that lost its flag (L11).
		return usage(errors.New("an argument that is neither a command nor a flag; commands are sale, run, soak and profile"))
	}
	return nil
}

// usageError is a wrong use of the command.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usage(err error) error { return usageError{err} }

func exitCode(err error) int {
	var wrong usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong):
		return exitUsage
	case errors.Is(err, errParked):
		return exitParked
	case errors.Is(err, reversal.ErrDeclined):
		return exitDeclined
	case errors.Is(err, reversal.ErrFailed):
		return exitFailed
	case errors.Is(err, reversal.ErrReversalOwed):
		return exitOwed
	case errors.Is(err, journal.ErrBusy):
		return exitBusy
	case errors.Is(err, journal.ErrDamaged), errors.Is(err, journal.ErrForeign), errors.Is(err, journal.ErrNewer),
		errors.Is(err, journal.ErrMissing), errors.Is(err, journal.ErrCopied), errors.Is(err, journal.ErrUnfit):
		return exitDamaged
	case errors.Is(err, profiles.ErrUsage), errors.Is(err, iso.ErrInvalid), errors.Is(err, iso.ErrUnknownProfile), errors.Is(err, iso.ErrProfile):
		return exitUsage
	case errors.Is(err, journal.ErrKey):
		return exitError // trying again would not help
	case errors.Is(err, reversal.ErrNotSent), unsigned(err): // of the sale nothing left
		return exitNotSent
	case errors.Is(err, journal.ErrPoisoned):
		return exitUnknown
	}
	return exitError
}
