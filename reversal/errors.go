package reversal

import (
	"errors"
	"fmt"

	"uncharge/iso"
	"uncharge/journal"
)

// What Send can answer beside an approval. Each error of Send wraps exactly one.
var (
	ErrDeclined     = errors.New("declined")
	ErrNotSent      = errors.New("not sent")
	ErrFailed       = errors.New("failed and being reversed")
	ErrReversalOwed = errors.New("refused: a reversal is owed")
)

// ErrNoAnswer is how an Exchanger says that the time was up before an answer was
// accepted.
var ErrNoAnswer = errors.New("no answer in time")

// DeclinedError is the host's refusal. It was recorded before it was returned.
type DeclinedError struct {
	ID   journal.ID
	Code string // DE 39
	Name string // what the profile calls it
}

func (e *DeclinedError) Error() string {
	return fmt.Sprintf("%v by the host: code %s, %s; the customer is not charged (entry %d)", ErrDeclined, e.Code, e.Name, e.ID)
}

// Unwrap returns ErrDeclined.
func (e *DeclinedError) Unwrap() error { return ErrDeclined }

// FailedError says that the outcome at the host is not known, or is not wanted,
// and that the reversal is armed: it will go without the firmware doing
// anything. The customer is to be told "failed".
type FailedError struct {
	ID    journal.ID
	Cause iso.Cause
	Err   error // what happened, may be nil
}

func (e *FailedError) Error() string {
	s := fmt.Sprintf("%v (%s, entry %d); do not repeat it until the reversal is confirmed", ErrFailed, e.Cause, e.ID)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns ErrFailed and what happened.
func (e *FailedError) Unwrap() []error { return []error{ErrFailed, e.Err} }

// NotSentError names the entry of a request that was recorded and of which no
// byte left. A request that was not even recorded has none.
type NotSentError struct {
	ID  journal.ID
	Err error // wraps ErrNotSent and says why
}

func (e *NotSentError) Error() string { return fmt.Sprintf("%v (entry %d)", e.Err, e.ID) }

// Unwrap returns why.
func (e *NotSentError) Unwrap() error { return e.Err }

// OwedError says which reversal must reach the host first. Nothing was recorded
// and nothing was sent for the new request.
type OwedError struct {
	Lane   journal.Lane
	Oldest journal.ID
	Count  int
}

func (e *OwedError) Error() string {
	return fmt.Sprintf("%v: %d on terminal %s, the oldest is entry %d; nothing was sent; it is tried again by itself, or restore the line to the host", ErrReversalOwed, e.Count, e.Lane.Terminal, e.Oldest)
}

// Unwrap returns ErrReversalOwed.
func (e *OwedError) Unwrap() error { return ErrReversalOwed }
