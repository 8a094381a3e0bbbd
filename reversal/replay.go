package reversal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// open lists what is armed or owed, sales waiting for Complete included.
func (e *Engine) open() ([]journal.Entry, error) {
	armed, err := e.readable(e.journal.Armed())
	if err != nil {
		return nil, err
	}
	owed, err := e.readable(e.journal.Owed())
	return slices.Concat(owed, armed), err
}

// readable goes on with the entries that can be read when some cannot: one bad
// record must not keep the others from being reversed (L9). It is told once as an
// event, and Drain ends with it (L13).
func (e *Engine) readable(list []journal.Entry, err error) ([]journal.Entry, error) {
	if !errors.Is(err, journal.ErrPartial) {
		return list, err
	}
	e.mu.Lock()
	told := e.damage != nil && e.damage.Error() == err.Error()
	e.damage = err
	e.mu.Unlock()
	if !told {
		e.emit(Event{Kind: EventDamaged, Note: err.Error()})
	}
	return list, nil
}

// recover makes owed what is armed on a lane and will not be completed: what a
// crash left, and what the firmware forgot. The caller holds the lane, so none
// of it is being sent. With all set, sales that still might be completed are
// taken for forgotten too.
func (e *Engine) recover(lane journal.Lane, all bool) error {
	armed, err := e.readable(e.journal.Armed())
	if err != nil {
		return err
	}
	for _, entry := range armed {
		if entry.Lane != lane {
			continue
		}
		e.mu.Lock()
		sale, live := e.live[entry.ID]
		e.mu.Unlock()
		cause := iso.Restart
		if live {
			cause = iso.NotCompleted
			if !all && time.Since(sale.since) < e.timers.CompleteWithin {
				continue
			}
		}
		err := e.owe(entry.ID, lane, entry.STAN, cause, sale.answer)
		if err != nil && !errors.Is(err, journal.ErrMove) { // completed this very moment: good
			return err
		}
	}
	return nil
}

// settle sends what the lane owes until it owes nothing or ctx ends. The caller
// holds the lane.
func (e *Engine) settle(ctx context.Context, lane journal.Lane) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := e.recover(lane, true); err != nil {
		return fmt.Errorf("%w, because the journal cannot be used: %w", ErrNotSent, err)
	}
	for trigger := true; ; trigger = false {
		owed, err := e.owedOn(lane)
		if err != nil {
			return fmt.Errorf("%w, because the journal cannot be used: %w", ErrNotSent, err)
		}
		if len(owed) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			e.nudge() // Run goes on with it
			return &OwedError{Lane: lane, Oldest: owed[0].ID, Count: len(owed)}
		}
		if trigger { // a new transaction is one
			for _, entry := range owed {
				e.follow(entry.ID, func(t *trail) { t.tries = 0 })
			}
		}
		wait, _, err := e.replay(ctx, lane)
		if err != nil {
			return fmt.Errorf("%w, because the journal cannot be used: %w", ErrNotSent, err)
		}
		if !waitFor(ctx, wait) {
			cancel()
		}
	}
}

// waitFor waits, and reports false at once when ctx would end before.
func waitFor(ctx context.Context, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

func (e *Engine) owedOn(lane journal.Lane) ([]journal.Entry, error) {
	all, err := e.readable(e.journal.Owed())
	return slices.DeleteFunc(all, func(entry journal.Entry) bool { return entry.Lane != lane }), err
}

// replay looks at the owed entries of a lane, oldest first (L9), and does the one
// thing that is due. It returns how long the lane has to wait when nothing is,
// and how many entries it owes. The caller holds the lane.
//
// An entry that was tried often and waits does not hold up those behind it.
func (e *Engine) replay(ctx context.Context, lane journal.Lane) (wait time.Duration, left int, err error) {
	owed, err := e.owedOn(lane)
	if err != nil || ctx.Err() != nil {
		return 0, len(owed), err
	}
	wait = idleMax
	for _, entry := range owed {
		d := e.decide(entry)
		switch d.Do {
		case Park:
			return 0, len(owed), e.park(entry, d.Why)
		case Send:
			return 0, len(owed), e.reverse(ctx, entry)
		}
		if wait = min(wait, d.Wait); !d.Yield {
			break
		}
	}
	return wait, len(owed), nil
}

func (e *Engine) decide(entry journal.Entry) Decision {
	doubt := Doubt{Status: entry.Status, Attempts: entry.Attempts, Refusals: entry.Refusals}
	e.follow(entry.ID, func(t *trail) {
		doubt.Tries, doubt.Spread, doubt.NotFound = t.tries, t.spread, t.notFound
		doubt.SinceTry, doubt.SinceSent = time.Since(t.lastTry), time.Since(t.sent)
	})
	return Decide(doubt, e.timers)
}

// reverse makes one attempt: build, count, send, judge, record. Each effect is
// durable before the next one begins.
func (e *Engine) reverse(ctx context.Context, entry journal.Entry) error {
	img, err := e.image(entry.ID)
	if errors.Is(err, journal.ErrKey) || errors.Is(err, journal.ErrPoisoned) || errors.Is(err, journal.ErrClosed) {
		return err // not this entry's fault
	}
	var message *iso.Message
	if err == nil {
		message, err = e.build(img, entry)
	}
	if err != nil {
		return e.park(entry, "the reversal cannot be built from the record")
	}
	packed, err := e.profile.Seal(ctx, message, e.auth(entry.Lane)) // with the key of this moment (L6)
	if err != nil {
		return e.unsealed(ctx, entry, err)
	}
	n, err := e.journal.Attempt(entry.ID) // L6: counted, durable, then sent
	if err != nil {
		return err
	}
	e.follow(entry.ID, func(t *trail) { t.tries++ })
	e.emit(Event{Kind: EventAttempt, ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Attempt: n, Cause: iso.Cause(entry.Cause)})
	left := time.Now() // the host may have looked for the original right then (L10)
	reply, _, why := e.exchange(ctx, entry.Lane, message, packed, func(m *iso.Message, raw []byte) bool { return e.late(ctx, entry, img, m, raw) })
	return e.settleReply(entry, n, left, reply, why)
}

func (e *Engine) image(id journal.ID) (iso.Image, error) {
	kept, err := e.journal.Image(id)
	if err != nil {
		return iso.Image{}, err
	}
	return iso.ParseImage(kept)
}

// unsealed waits when no MAC could be made: there is no key, or the PIN pad does
// not answer. Nothing can leave, nothing is counted, and it is not the entry's
// fault: it is never parked for it.
func (e *Engine) unsealed(ctx context.Context, entry journal.Entry, why error) error {
	if ctx.Err() != nil {
		return nil
	}
	e.follow(entry.ID, func(t *trail) {
		t.tries, t.lastTry, t.spread = max(t.tries, e.timers.Burst)+1, time.Now(), rand.Float64()
		t.keyless, t.lane, t.signOn = true, entry.Lane, e.signOns[entry.Lane]
		t.notFound = false // "not found" is asked again, but not without a pause
	})
	kind := EventNotYet
	if errors.Is(why, iso.ErrNoKey) {
		kind = EventSignOn
	}
	e.emit(Event{Kind: kind, ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Note: why.Error()})
	return nil
}

// build makes the reversal, all but its MAC.
func (e *Engine) build(img iso.Image, entry journal.Entry) (*iso.Message, error) {
	message, err := e.profile.BuildReversal(img, iso.Reversal{
		Attempt: entry.Attempts + 1, Cause: iso.Cause(entry.Cause), STAN: iso.STAN(entry.ReversalSTAN),
		AuthCode: entry.AuthCode, Approved: iso.Amount(entry.ApprovedMinor),
	})
	if err == nil {
		_, err = e.profile.Pack(message)
	}
	return message, err
}

// settleReply records what the host said of a reversal.
func (e *Engine) settleReply(entry journal.Entry, n int, left time.Time, reply Reply, why error) error {
	ev := Event{ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Attempt: n, Code: reply.Code.Code}
	if why != nil {
		ev.Note = why.Error()
	}
	reply.Approved = e.approvedOnce(entry)
	var verdict Verdict
	e.follow(entry.ID, func(t *trail) {
		renew := reply.Heard == Unproven || (reply.Heard == Replied && reply.Code.Reversal == iso.Renew)
		reply.Renewed = renew && t.keyless && t.signOn < e.signOns[entry.Lane]
		t.keyless, t.lane, t.signOn = renew, entry.Lane, e.signOns[entry.Lane]
		verdict = Judge(reply, left.Sub(t.sent), e.timers)
		t.lastTry, t.spread, t.notFound = time.Now(), rand.Float64(), verdict == TooEarly
	})
	switch verdict {
	case Confirmed:
		confirm := e.journal.Confirm
		if reply.Code.Reversal == iso.NotFound {
			confirm, ev.Note = e.journal.ConfirmNotFound, "the host has no such sale"
		}
		if err := confirm(entry.ID, reply.Code.Code); err != nil {
			return err
		}
		e.forget(entry.ID)
		ev.Kind = EventConfirmed
	case Refused:
		if err := e.journal.Refuse(entry.ID, reply.Code.Code); err != nil {
			return err
		}
		ev.Kind = EventRefused
	case NotYet, TooEarly:
		ev.Kind = EventNotYet
	}
	e.emit(ev)
	return nil
}

// approvedOnce reports whether the host is known to have approved the original,
// in its answer or in a late one.
func (e *Engine) approvedOnce(entry journal.Entry) bool {
	approves := func(code string) bool {
		class := e.profile.Code(code).Request
		return class == iso.Approve || class == iso.Partial
	}
	return approves(entry.Code) || slices.ContainsFunc(entry.Steps, func(s journal.Step) bool {
		return s.Late != nil && approves(s.Late.Code)
	})
}

// park gives an entry to a person. It stays in the journal and in every list
// (L8), and no longer holds up its lane (L9).
func (e *Engine) park(entry journal.Entry, why string) error {
	if err := e.journal.Park(entry.ID, why); err != nil {
		return err
	}
	e.forget(entry.ID)
	e.emit(Event{Kind: EventParked, ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Note: why})
	return nil
}

// late keeps an answer to the original that came during its reversal. Whatever
// it says, it changes nothing: the reversal goes on (L7).
func (e *Engine) late(ctx context.Context, entry journal.Entry, img iso.Image, m *iso.Message, raw []byte) bool {
	if e.profile.Match(img.Request(), m) != nil || e.profile.Verify(ctx, m, raw, e.auth(entry.Lane)) != nil {
		return false
	}
	_, answer := e.read(img.Request(), m)
	if err := e.journal.Late(entry.ID, answer); err != nil {
		return false
	}
	e.emit(Event{Kind: EventLate, ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Code: answer.Code})
	return true
}
