package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"uncharge/cmd/internal/complaint"
	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
)

// toldError is a result that was printed on standard output already; only the
// exit code is left to give.
type toldError struct{ err error }

func (e toldError) Error() string { return e.err.Error() }
func (e toldError) Unwrap() error { return e.err }

// tellFailure prints what became of a sale that was not approved: two lines, the
// facts and what to do. An error that is no result of a sale comes back as it
// is.
func tellFailure(stdout io.Writer, err error, r iso.Request) error {
	what := fmt.Sprintf("%s  card %s", r.Currency.Format(r.Amount), masked(r.PAN.Last4()))
	line := func(result, facts, advice string) error {
		_, _ = fmt.Fprintf(stdout, "%-9s %s%s\n          %s\n", result, what, facts, advice)
		return toldError{err}
	}
	var declined *reversal.DeclinedError
	var failed *reversal.FailedError
	var owed *reversal.OwedError
	switch {
	case errors.As(err, &declined):
		return line("DECLINED", fmt.Sprintf("  entry %d  code %s", declined.ID, declined.Code),
			declined.Name+"; the customer is not charged")
	case errors.As(err, &failed):
		return line("FAILED", fmt.Sprintf("  entry %d  %s", failed.ID, failed.Cause),
			"do not charge again yet: the reversal is armed and goes by itself")
	case errors.As(err, &owed):
		return line("REFUSED", fmt.Sprintf("  entry %d must be reversed first", owed.Oldest),
			"nothing was sent; see to the line to the host, it is tried again by itself")
	case (errors.Is(err, reversal.ErrNotSent) || unsigned(err)) && !aboutDevice(err):
		_ = line("NOT SENT", entryOf(err), "nobody is charged; it is safe to try again")
		_, _ = fmt.Fprintf(stdout, "          %s\n", complaint.Line(err))
		return toldError{err}
	}
	return err
}

// entryOf names the entry of a sale that was recorded and not sent.
func entryOf(err error) string {
	var unsent *reversal.NotSentError
	if errors.As(err, &unsent) {
		return fmt.Sprintf("  entry %d", unsent.ID)
	}
	return ""
}

// errParked ends a run that leaves parked entries behind.
var errParked = errors.New("parked entries")

// tellParked says how many customers wait for a person.
func tellParked(w io.Writer, parked int) {
	if parked > 0 {
		_, _ = fmt.Fprintf(w, "%d parked: the host refuses to reverse; call the acquirer (journal-dump pending)\n", parked)
	}
}

// advised adds what to do to an error that leaves a person without advice.
func advised(err error) error {
	switch {
	case errors.Is(err, journal.ErrPoisoned):
		return fmt.Errorf("%w; look at the disk, then start again: what ended in doubt is reversed", err)
	case errors.Is(err, journal.ErrDamaged):
		return fmt.Errorf("%w; keep a copy of the journal and show it to support: what is owed in it must be reversed", err)
	case errors.Is(err, journal.ErrForeign), errors.Is(err, journal.ErrNewer):
		return fmt.Errorf("%w; name another directory with --journal", err)
	case errors.Is(err, journal.ErrBusy):
		return fmt.Errorf("%w; nothing was sent: stop that terminal, or wait for it", err)
	case errors.Is(err, journal.ErrKey) && errors.Is(err, reversal.ErrNotSent):
		return fmt.Errorf("%w; nothing was sent: put the device's own key back or name it with --key", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; give this user the right to it, or name another place", err)
	}
	return err
}

// aboutDevice reports whether an error is about this terminal's own disk or
// flags: trying again would not help.
func aboutDevice(err error) bool {
	for _, own := range []error{journal.ErrPoisoned, journal.ErrFull, journal.ErrKey, journal.ErrDamaged, journal.ErrClosed, journal.ErrInvalid, iso.ErrInvalid} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

func tellApproval(stdout io.Writer, s *reversal.Sale) {
	_, _ = fmt.Fprintf(stdout, "APPROVED  %s  card %s  entry %d  code %s  authorization %s\n",
		s.Currency.Format(s.Amount), masked(s.Last4), s.ID, s.Code.Code, s.AuthCode)
	if s.Partial {
		_, _ = fmt.Fprintln(stdout, "          only this part is approved; collect the rest another way")
	}
}

// tellReversal prints how far the reversal of an entry came.
func tellReversal(stdout io.Writer, e journal.Entry) {
	what := fmt.Sprintf("%s  card %s  entry %d", e.Charged(), masked(e.Last4), e.ID)
	if e.Cause != "" { // one that is still armed has none
		what += "  " + e.Cause
	}
	switch e.Status {
	case journal.Reversed:
		note := ""
		if e.NeverBooked() {
			note = "          the host says it has no such sale: nothing to undo\n"
		}
		_, _ = fmt.Fprintf(stdout, "REVERSED  %s  code %s  attempt %d\n%s", what, e.LastCode, e.Attempts, note)
	case journal.Parked:
		_, _ = fmt.Fprintf(stdout, "PARKED    %s  code %s\n          the host refuses to reverse it; call the acquirer\n", what, e.LastCode)
	case journal.Completed:
		_, _ = fmt.Fprintf(stdout, "COMPLETED %s\n", what)
	default:
		_, _ = fmt.Fprintf(stdout, "OWED      %s  attempts %d\n          not confirmed yet; it goes on with the next sale or \"terminal run\"\n", what, e.Attempts)
	}
}

func masked(last4 string) string { return "****" + last4 }
