package journal

import (
	"fmt"
	"time"
)

// Begin records a request before it is sent and arms it (L1, L2). When it
// returns nil the entry survives a power cut. Errors: ErrInvalid, ErrKey (an
// image but no device key: it is never stored open), ErrFull, ErrPoisoned; after
// any error nothing may be sent.
func (j *Journal) Begin(d Draft) (ID, error) {
	if err := d.validate(); err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	if len(d.Image) > 0 && j.seal == nil {
		return 0, fmt.Errorf("begin: %w: the reversal image cannot be sealed", ErrKey) // L11
	}
	card := j.seal.cardToken(d.PAN) // here, not while the others wait
	var id ID
	err := j.take(func() (change, error) {
		if err := j.roomFor(j.open + 1); err != nil {
			return change{}, err
		}
		id = j.lastID + 1
		rec, err := j.armed(id, d, card)
		if err != nil {
			return change{}, err
		}
		rec.LaneLast = j.numbers.last(d.Lane, d.STAN, d.ReversalSTAN)
		return change{rec: rec, opens: 1, staged: func() {
			j.lastID = id
			j.numbers.begin(d.Lane, d.STAN, d.ReversalSTAN)
		}}, nil
	})
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	return id, nil
}

// armed is the first form of an entry.
func (j *Journal) armed(id ID, d Draft, card string) (*record, error) {
	s := j.stamp(Step{Kind: StepBegin})
	rec := &record{Entry: Entry{
		ID: id, Lane: d.Lane, STAN: d.STAN, Type: d.Type, MTI: d.MTI, Amount: d.Amount,
		Last4: d.Last4, Status: Begun, BegunAt: s.At, ReversalSTAN: d.ReversalSTAN,
	}}
	rec.addStep(s)
	rec.Card = card
	if len(d.Image) == 0 {
		return rec, nil
	}
	sealed, err := j.seal.seal(id, d.Image)
	rec.Sealed, rec.KeyID = sealed, ""
	if err == nil {
		rec.KeyID = j.seal.current.ID()
	}
	return rec, err
}

// stamp says when a step is taken, by both clocks.
func (j *Journal) stamp(s Step) Step {
	s.At, s.Boot, s.SinceBoot = wallClock(j.now), j.boot, j.uptime()
	return s
}

// wallClock is the wall clock of a step. A clock that says nonsense is left out: it
// must not keep a step from being recorded (L12).
func wallClock(now func() time.Time) time.Time {
	at := now()
	if y := at.UTC().Year(); y < 1 || y > 9999 {
		return time.Time{}
	}
	return at
}

// Complete records that the sale stands (L3). Only when it has returned nil may
// "approved" be shown. Begun → Completed.
func (j *Journal) Complete(id ID, a Answer) error {
	return j.step(id, Completed, Step{Kind: StepComplete, Note: a.Code}, a.apply)
}

// Decline records that the host said no. Begun → Declined.
func (j *Journal) Decline(id ID, a Answer) error {
	return j.step(id, Declined, Step{Kind: StepDecline, Note: a.Code}, a.apply)
}

// NotSent records that no byte of the request was handed to the network (L4).
// Begun → NotSent.
func (j *Journal) NotSent(id ID) error {
	return j.step(id, NotSent, Step{Kind: StepNotSent}, nil)
}

// Owe records that a reversal is owed, why, and what the host said if it said
// anything. The cause of the first Owe stays: every repeat of the reversal must
// be the same message. Begun → Owed; Parked → Owed, which tries it again and
// counts refusals from zero.
func (j *Journal) Owe(id ID, cause string, a Answer) error {
	return j.step(id, Owed, Step{Kind: StepOwe, Note: cause}, func(r *record) error {
		if err := text("cause", cause); err != nil {
			return err
		}
		if r.Status == Owed {
			return &MoveError{id, Owed, Owed} // Owed → Owed is Attempt's and Refuse's
		}
		if r.Status == Begun {
			r.Cause = cause
		}
		r.Refusals, r.Parking = 0, ""
		return a.apply(r)
	})
}

// Attempt counts a reversal before it leaves and returns its number, from 1
// (L6). Owed → Owed.
func (j *Journal) Attempt(id ID) (int, error) {
	n := 0
	err := j.stepNoted(id, Owed, func(r *record) (Step, error) {
		if r.Status != Owed { // an armed or parked entry is owed first, with its cause
			return Step{}, &MoveError{id, r.Status, Owed}
		}
		r.Attempts++
		n = r.Attempts
		return Step{Kind: StepAttempt, N: n}, nil
	})
	return n, err
}

// Refuse records that the host answered a reversal and did not undo anything.
// Owed → Owed.
func (j *Journal) Refuse(id ID, code string) error {
	return j.step(id, Owed, Step{Kind: StepRefuse, Note: code}, func(r *record) error {
		if r.Status != Owed {
			return &MoveError{id, r.Status, Owed}
		}
		r.Refusals++
		r.LastCode = code
		return text("code", code)
	})
}

// Confirm records the host's own word that the reversal is done (L5). Owed →
// Reversed, Parked → Reversed.
func (j *Journal) Confirm(id ID, code string) error {
	return j.step(id, Reversed, Step{Kind: StepConfirm, Note: code}, func(r *record) error {
		r.LastCode = code
		return text("code", code)
	})
}

// ConfirmNotFound records the host's own word that it has no such sale, so that
// there is nothing to undo. Owed → Reversed, Parked → Reversed.
func (j *Journal) ConfirmNotFound(id ID, code string) error {
	return j.step(id, Reversed, Step{Kind: StepNotFound, Note: code}, func(r *record) error {
		r.LastCode = code
		return text("code", code)
	})
}

// Park records that the engine stops trying on its own, and why. The entry
// stays listed until it is settled (L8). Owed → Parked.
func (j *Journal) Park(id ID, why string) error {
	return j.step(id, Parked, Step{Kind: StepPark, Note: why}, func(r *record) error {
		r.Parking = why
		return text("reason", why)
	})
}

// Late keeps an answer that came after its time as evidence. It changes no
// status (L7). Allowed for what is owed, parked or reversed.
func (j *Journal) Late(id ID, a Answer) error {
	return j.stepNoted(id, 0, func(r *record) (Step, error) {
		if r.Status != Owed && r.Status != Parked && r.Status != Reversed {
			return Step{}, &MoveError{id, r.Status, Owed} // only what was owed once can be answered late
		}
		return Step{Kind: StepLate, Note: a.Code, Late: &a}, a.validate()
	})
}

// Image opens the sealed reversal image. Errors: ErrNoImage once the entry is
// settled, ErrKey, ErrDamaged, ErrNoEntry.
func (j *Journal) Image(id ID) ([]byte, error) {
	rec, err := j.record(id)
	switch {
	case err != nil:
		return nil, err
	case len(rec.Sealed) == 0:
		return nil, fmt.Errorf("entry %d: %w: it is %s", id, ErrNoImage, rec.Status)
	case j.seal == nil:
		return nil, fmt.Errorf("entry %d: %w", id, ErrKey)
	}
	return j.seal.open(id, rec.KeyID, rec.Sealed)
}

func (a Answer) apply(r *record) error {
	if err := a.validate(); err != nil {
		return err
	}
	if a != (Answer{}) {
		r.Code, r.AuthCode, r.RRN, r.ApprovedMinor = a.Code, a.AuthCode, a.RRN, a.ApprovedMinor
	}
	return nil
}

// step moves an entry to a status; apply changes its other facts first.
func (j *Journal) step(id ID, to Status, s Step, apply func(*record) error) error {
	return j.stepNoted(id, to, func(r *record) (Step, error) {
		if apply == nil {
			return s, nil
		}
		return s, apply(r)
	})
}

// stepNoted is the one way in which an entry changes. A status of 0 means that
// the step is no move.
func (j *Journal) stepNoted(id ID, to Status, apply func(*record) (Step, error)) error {
	return j.take(func() (c change, err error) {
		if j.moves {
			j.giveUpBallast()
		}
		before, err := j.newest(id)
		if err != nil {
			return change{}, err
		}
		defer func() {
			if err != nil && j.inflight[id] != nil {
				err = errWait // a refusal says where the entry stands: not before that is durable (L3)
			}
		}()
		if to != 0 && !before.Status.CanMove(to) {
			return change{}, &MoveError{id, before.Status, to}
		}
		rec := before.copied()
		s, err := apply(rec)
		if err != nil {
			return change{}, err
		}
		if to != 0 {
			rec.Status = to
		}
		rec.addStep(j.stamp(s))
		if !unsettledNow(rec.Status) {
			rec.Sealed, rec.KeyID = nil, "" // settled: nothing needs it any more (L11)
		}
		c = change{rec: rec}
		if unsettledNow(before.Status) && !unsettledNow(rec.Status) {
			c.opens = -1
		}
		return c, nil
	})
}

// usable says why no step can be taken. The caller holds mu.
func (j *Journal) usable() error {
	if j.closed {
		return ErrClosed
	}
	return j.failed
}
