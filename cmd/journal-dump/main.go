// Command journal-dump says what happened to a sale. It reads a journal and
// never writes: not the journal, not its lock file.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"uncharge/cmd/internal/complaint"
	usage80 "uncharge/cmd/internal/usage"
	"uncharge/journal"
)

// Exit codes.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitNothing = 3 // nothing matched
	exitDamaged = 4
	exitBusy    = 5
)

const exitHelp = `Exit codes:
  0  fine     1  error     2  wrong use of the command     3  no such entry
  4  damaged, or not a journal: what can be read was shown
  5  the journal is in use by a terminal`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole command but for the process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "journal-dump: %s\n", complaint.Line(err))
	}
	return exitCode(err)
}

// flags are those that every command has.
type flags struct {
	dir    string
	output string
	wait   time.Duration
}

func newRoot() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use:   "journal-dump",
		Short: "What happened to this sale?",
		Long: "journal-dump shows what a terminal's journal holds. It never writes, needs no\n" +
			"key, and shows the last four digits of a card at most.\n\n" + exitHelp,
		Example: `  journal-dump list --journal ./j
  journal-dump show 3 --journal ./j
  journal-dump pending --journal ./j -o ndjson`,
		SilenceUsage: true, SilenceErrors: true,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("which command? list, show or pending; --help tells more")
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%v", complaint.Flag(err)) })
	root.PersistentFlags().StringVarP(&f.dir, "journal", "j", "journal", "journal `DIR`")
	root.PersistentFlags().StringVarP(&f.output, "output", "o", "table", "`FORM` of the output: table or ndjson")
	root.PersistentFlags().DurationVar(&f.wait, "lock-wait", 2*time.Second, "wait this `TIME` while a terminal has the journal open")
	usage80.Fit(root)
	root.AddCommand(newListCommand(f), newShowCommand(f), newPendingCommand(f))
	return root
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		// The argument is not shown: it may be a card number (L11).
		return usage("an argument that is neither a command nor a flag; commands are list, show ID and pending")
	}
	return nil
}

// usageError is a wrong use of the command.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

func exitCode(err error) int {
	var wrong usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong):
		return exitUsage
	case errors.Is(err, journal.ErrNoEntry):
		return exitNothing
	case errors.Is(err, journal.ErrDamaged), errors.Is(err, journal.ErrForeign), errors.Is(err, journal.ErrNewer):
		return exitDamaged
	case errors.Is(err, journal.ErrBusy):
		return exitBusy
	}
	return exitError
}

// open checks the output format and opens the journal for looking.
func (f *flags) open() (*journal.Snapshot, error) {
	if f.output != "table" && f.output != "ndjson" {
		return nil, usage("-o: %q is not table or ndjson", f.output)
	}
	if f.wait < 0 {
		return nil, usage("--lock-wait: a time to wait cannot be negative")
	}
	s, err := journal.Inspect(f.dir, f.wait)
	switch {
	case errors.Is(err, journal.ErrBusy):
		return nil, fmt.Errorf("%w; nothing was changed: stop that terminal, or try again when its sale is over", err)
	case errors.Is(err, journal.ErrNone), errors.Is(err, journal.ErrForeign):
		return nil, fmt.Errorf("%w; name the journal's directory with --journal", err)
	case errors.Is(err, journal.ErrNewer):
		return nil, fmt.Errorf("%w; use the journal-dump of that version", err)
	case errors.Is(err, journal.ErrDamaged):
		return nil, fmt.Errorf("%w; nothing was changed: keep a copy of the directory and show it to support", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; look as the user whose journal it is", err)
	}
	return s, err
}
