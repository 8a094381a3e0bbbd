package reversal

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"uncharge/iso"
	"uncharge/journal"
)

// Sale is a transaction that the host approved. It is provisional: unless
// Complete returns nil it is reversed, whatever else happens (L2). It may be
// used from many goroutines. It holds no card data but the last four digits.
type Sale struct {
	ID       journal.ID
	Lane     journal.Lane
	STAN     uint32     // DE 11
	Code     iso.Code   // the approving code
	AuthCode string     // DE 38
	RRN      string     // DE 37
	Amount   iso.Amount // what was approved, minor units; less than asked for when Partial
	Currency iso.Currency
	Partial  bool
	Last4    string

	engine *Engine
	answer journal.Answer

	mu      sync.Mutex
	unknown error // a Complete whose write failed: nobody knows whether the sale stands
}

func newSale(e *Engine, tx recorded, r iso.Request, code iso.Code, a journal.Answer) *Sale {
	s := &Sale{
		ID: tx.id, Lane: tx.lane, STAN: tx.stan, Code: code, AuthCode: a.AuthCode, RRN: a.RRN,
		Amount: r.Amount, Currency: r.Currency, Last4: r.Last4(), engine: e, answer: a,
	}
	if a.ApprovedMinor > 0 {
		s.Amount, s.Partial = iso.Amount(a.ApprovedMinor), true
	}
	return s
}

// Complete says that the sale stands. Only when it has returned nil may
// "approved" be shown or printed (L3); from then on there is no reversal.
//
// Errors: one wrapping ErrFailed when the sale is being reversed already (it
// was forgotten for too long, or reversed by another call): show "failed". One
// wrapping journal.ErrPoisoned when the write failed: the outcome is unknown,
// show neither result, restart, and look into the journal. Calling it again after
// nil gives nil.
func (s *Sale) Complete() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.engine.journal.Complete(s.ID, s.answer)
	var move *journal.MoveError
	switch {
	case err == nil:
		s.engine.forget(s.ID)
		if s.engine.draining.Load() {
			s.engine.nudge() // it may have been the last one
		}
		s.engine.emit(Event{Kind: EventCompleted, ID: s.ID, Lane: s.Lane, STAN: s.STAN, Code: s.Code.Code})
		return nil
	case errors.As(err, &move) && move.From == journal.Completed:
		return nil
	case errors.As(err, &move):
		entry, _ := s.engine.journal.Entry(s.ID) // for the cause, which is only told
		return &FailedError{ID: s.ID, Cause: iso.Cause(entry.Cause), Err: err}
	}
	s.unknown = fmt.Errorf("entry %d: whether the sale stands is not known; show neither result, restart and look into the journal: %w", s.ID, err)
	return s.unknown
}

// Reverse says that the sale must not stand, and why: the chip declined, the
// customer left, the firmware could not store its part. When it returns nil the
// cause is durable; the reversal goes by itself. Calling it again gives nil. A
// cause that iso does not list counts as iso.NotCompleted.
//
// Errors: one wrapping journal.ErrMove when the sale was completed (undo it with
// a void); the error of a Complete before it that left the outcome unknown. After
// any other error the sale is armed or owed and will be reversed.
func (s *Sale) Reverse(cause iso.Cause) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(iso.Causes(), cause) {
		cause = iso.NotCompleted
	}
	if s.unknown != nil {
		return s.unknown
	}
	if entry, err := s.engine.journal.Entry(s.ID); err == nil && entry.Status == journal.Parked {
		return nil // it was tried as far as it may be; only an operator tries it again
	}
	err := s.engine.owe(s.ID, s.Lane, s.STAN, cause, s.answer)
	var move *journal.MoveError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &move) && (move.From == journal.Owed || move.From == journal.Reversed):
		return nil
	case errors.As(err, &move):
		return fmt.Errorf("reverse entry %d: it is %s; a finished sale is undone by a void, not by a reversal: %w", s.ID, move.From, err)
	}
	return fmt.Errorf("reverse entry %d: the cause could not be recorded; the sale will be reversed all the same: %w", s.ID, err)
}
