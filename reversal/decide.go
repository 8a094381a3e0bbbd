package reversal

import (
	"fmt"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// This file decides and does nothing else: no I/O, no clock, no chance, no
// goroutine. It takes values and returns what to do next.

// Doubt is all that a decision about one entry depends on.
type Doubt struct {
	Status    journal.Status
	Attempts  int           // reversals counted so far, over all restarts
	Refusals  int           // of them answered with a refusal
	Tries     int           // attempts since the last trigger
	SinceTry  time.Duration // since the last of them; means nothing when Tries is 0
	SinceSent time.Duration // since the original left, or since it was found after a restart
	NotFound  bool          // the last answer was "original not found", too early to count
	Spread    float64       // 0 to 1, drawn by chance at each try: how much of spreadMax the next wait is stretched by
}

// Action is what to do with an entry.
type Action uint8

// The actions.
const (
	Nothing Action = iota // it is not owed
	Send                  // send the reversal now
	Wait                  // not before Decision.Wait has passed
	Park                  // stop trying; a person must look
)

var actionNames = []string{"nothing", "send", "wait", "park"}

// String names the action.
func (a Action) String() string { return actionNames[a] }

// Decision is what to do next with one entry.
type Decision struct {
	Do      Action
	Attempt int           // with Send: its number; 1 goes with the reversal MTI, later ones with the repeat MTI (L6)
	Wait    time.Duration // with Wait
	Yield   bool          // with Wait: those behind it on the lane may go meanwhile (L9)
	Why     string        // with Park
}

// Decide says what to do next with an entry. It never gives up by count of
// attempts or by age (L8): only refusals, the host's own word, park an entry.
func Decide(d Doubt, t iso.Timers) Decision {
	switch {
	case d.Status != journal.Owed: // L16 and L3: nothing but what is owed is ever reversed
		return Decision{Do: Nothing}
	case d.Refusals >= t.RefusalsMax:
		return Decision{Do: Park, Why: fmt.Sprintf("refused %d times", d.Refusals)}
	case d.NotFound && d.SinceSent < t.OvertakenWindow: // L10
		return Decision{Do: Wait, Wait: t.OvertakenWindow - d.SinceSent}
	case d.NotFound || d.Tries < t.Burst:
		return Decision{Do: Send, Attempt: d.Attempts + 1}
	}
	wait := backoff(d.Tries-t.Burst, t)
	wait += time.Duration(d.Spread * spreadMax * float64(wait))
	if wait > d.SinceTry {
		return Decision{Do: Wait, Wait: wait - d.SinceTry, Yield: d.Attempts >= yieldAfter}
	}
	return Decision{Do: Send, Attempt: d.Attempts + 1}
}

// yieldAfter is how many attempts an entry may make before those behind it on
// its lane are tried while it waits: it may be one that this host can never
// answer, and must not hold them up for ever (L9).
const yieldAfter = 10

// spreadMax is the part by which chance may stretch a wait, so that a thousand
// terminals do not return in step after an outage.
const spreadMax = 0.2

// backoff doubles from the first wait to the longest.
func backoff(n int, t iso.Timers) time.Duration {
	wait := t.BackoffFirst
	for ; n > 0 && wait < t.BackoffMax; n-- {
		wait *= 2
	}
	return min(wait, t.BackoffMax)
}

// Heard is how an exchange ended.
type Heard uint8

// The ends of an exchange.
const (
	Lost     Heard = iota // the line dropped, or a write failed; first, so that what nobody filled in is a doubt
	Unsent                // provably no byte left (L4)
	Silent                // time was up
	Dropped               // the caller gave up
	Garbled               // something came that cannot be read
	Unproven              // a message that matches the request, and its MAC is wrong or missing
	Replied               // a message that matches the request
)

// Reply is what an exchange brought.
type Reply struct {
	Heard    Heard
	HasCode  bool // DE 39 is there
	Code     iso.Code
	AmountOK bool // the amount of a partial approval is known
	Approved bool // of a reversal: the host approved the original before
	Renewed  bool // of a reversal: a new sign-on since the last answer of this kind did not cure it
}

// Outcome is what a request's reply means.
type Outcome uint8

// The outcomes.
const (
	InDoubt        Outcome = iota // reverse it
	HostApproved                  // provisional until completed
	HostDeclined                  // the customer is not charged
	NothingWasSent                // the customer is not charged
)

// JudgeRequest says what the reply to a request means and, in doubt, why. Only
// an answer that says so leaves the customer uncharged; everything else is in
// doubt (L2, L4, L5).
func JudgeRequest(r Reply) (Outcome, iso.Cause) {
	switch r.Heard {
	case Unsent:
		return NothingWasSent, ""
	case Silent:
		return InDoubt, iso.NoAnswer
	case Dropped:
		return InDoubt, iso.Cancelled
	case Garbled:
		return InDoubt, iso.Undecodable
	case Unproven: // whatever it says: a forged decline would leave the customer charged
		return InDoubt, iso.WrongMAC
	case Replied:
		return judgeCode(r)
	}
	return InDoubt, iso.LineLost
}

func judgeCode(r Reply) (Outcome, iso.Cause) {
	if !r.HasCode { // L5
		return InDoubt, iso.UnknownCode
	}
	switch {
	case r.Code.Request == iso.Approve, r.Code.Request == iso.Partial && r.AmountOK:
		return HostApproved, ""
	case r.Code.Request == iso.Decline:
		return HostDeclined, ""
	}
	return InDoubt, iso.UnknownCode
}

// Verdict is what a reversal's reply means.
type Verdict uint8

// The verdicts.
const (
	NotYet    Verdict = iota // nothing was heard, or the host could not do it now
	Confirmed                // the host has undone it, or never had it
	Refused                  // the host answered and did not undo it; counted
	TooEarly                 // "not found" inside the window: ask again after it (L10)
)

// Judge says what the reply to a reversal means. Only the host's own word
// confirms: an answer that matches and whose code the profile lists as final
// (L5). An answer that says nothing (no code, unreadable, or once more "sign on"
// after a sign-on) is counted as a refusal, so that a host which can only answer
// so does not hold up the lane for ever.
func Judge(r Reply, sinceSent time.Duration, t iso.Timers) Verdict {
	switch {
	case r.Heard == Garbled, r.Heard == Replied && !r.HasCode, r.Heard == Unproven && r.Renewed:
		return Refused
	case r.Heard != Replied:
		return NotYet
	}
	switch r.Code.Reversal {
	case iso.Confirm:
		return Confirmed
	case iso.NotFound:
		switch {
		case sinceSent < t.OvertakenWindow: // L10
			return TooEarly
		case r.Approved: // it had the original: this is not its word that it is undone
			return Refused
		}
		return Confirmed
	case iso.Renew: // after a new sign-on it is asked again, with a fresh MAC
		if r.Renewed {
			return Refused
		}
		return NotYet
	case iso.Retry:
		return NotYet
	}
	return Refused
}
