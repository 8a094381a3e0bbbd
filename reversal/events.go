package reversal

import (
	"uncharge/iso"
	"uncharge/journal"
)

// EventKind names what happened.
type EventKind string

// The kinds of events.
const (
	EventArmed     EventKind = "armed"       // recorded, not yet sent
	EventApproved  EventKind = "approved"    // the host approved; provisional
	EventCompleted EventKind = "completed"   // the sale stands
	EventDeclined  EventKind = "declined"    // the host declined
	EventNotSent   EventKind = "not-sent"    // no byte left
	EventOwed      EventKind = "owed"        // a reversal is owed
	EventAttempt   EventKind = "attempt"     // a reversal is about to leave, counted
	EventNotYet    EventKind = "not-yet"     // no answer, or the host cannot now
	EventRefused   EventKind = "refused"     // the host refused the reversal
	EventConfirmed EventKind = "confirmed"   // the host confirmed the reversal
	EventParked    EventKind = "parked"      // a person must look
	EventLate      EventKind = "late-answer" // an answer after its time, kept as evidence
	EventSignOn    EventKind = "sign-on"     // a new sign-on is needed: no key, a MAC that does not fit, or the host asks for it
	EventSignedOn  EventKind = "signed-on"   // new keys are loaded
	EventStray     EventKind = "stray"       // a message that answers nothing of ours
	EventDamaged   EventKind = "damaged"     // entries of the journal cannot be read (L13)
)

// Event is one thing that happened. It holds no card data.
type Event struct {
	Kind    EventKind
	ID      journal.ID // 0 for a stray
	Lane    journal.Lane
	STAN    uint32
	Attempt int
	Code    string    // the host's code
	Cause   iso.Cause // with EventOwed
	Note    string
}

// emit tells the observer. It is called in order from whichever goroutine acts;
// an observer that panics loses the event, not the customer's money.
func (e *Engine) emit(ev Event) {
	if e.observe == nil {
		return
	}
	e.observing.Lock()
	defer e.observing.Unlock()
	defer func() { _ = recover() }()
	e.observe(ev)
}
