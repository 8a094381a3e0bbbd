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

// idleMax is the longest that Run sleeps when it knows of nothing due.
const idleMax = 30 * time.Second

// Run reverses what is owed until ctx ends: first what a crash left armed, then
// whatever becomes owed, with back-off. One Run (or Drain) at a time.
//
// It returns nil when ctx ended, and an error when the journal can no longer be
// written or the device's key does not open it: then nothing is lost, and
// nothing more is done until the journal is opened again.
func (e *Engine) Run(ctx context.Context) error { return e.loop(ctx, false) }

// Drain does what Run does and returns nil as soon as nothing is armed or owed.
// When ctx ends before that the error wraps ErrReversalOwed.
func (e *Engine) Drain(ctx context.Context) error { return e.loop(ctx, true) }

func (e *Engine) loop(ctx context.Context, untilQuiet bool) error {
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("engine: Run or Drain is running already")
	}
	defer e.running.Store(false)
	e.draining.Store(untilQuiet)
	defer e.draining.Store(false)
	e.Wake() // a start is a trigger
	for {
		next, open, err := e.sweep(ctx)
		switch {
		case err != nil:
			return err
		case untilQuiet && len(open) == 0:
			return nil
		case ctx.Err() != nil && untilQuiet:
			return &OwedError{Lane: open[0].Lane, Oldest: open[0].ID, Count: len(open)}
		case ctx.Err() != nil:
			return nil
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// sweep works through every lane that is free, as far as it can without
// waiting. It returns how long until something is due, and what is open still.
func (e *Engine) sweep(ctx context.Context) (next time.Duration, open []journal.Entry, err error) {
	lanes, err := e.openLanes()
	if err != nil {
		return 0, nil, err
	}
	next = idleMax
	for _, lane := range lanes {
		if ctx.Err() != nil {
			break
		}
		unlock := e.lanes.tryLock(lane)
		if unlock == nil {
			next = min(next, e.timers.BackoffFirst) // a Send is at work there
			continue
		}
		wait, err := e.sweepLane(ctx, lane)
		unlock()
		if err != nil {
			return 0, nil, err
		}
		next = min(next, wait)
	}
	open, err = e.open()
	return next, open, err
}

func (e *Engine) sweepLane(ctx context.Context, lane journal.Lane) (time.Duration, error) {
	if err := e.recover(lane, false); err != nil {
		return 0, err
	}
	for {
		wait, left, err := e.replayOldest(ctx, lane)
		if err != nil || left == 0 || wait > 0 || ctx.Err() != nil {
			if left == 0 {
				wait = idleMax
			}
			return wait, err
		}
	}
}

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
// record must not keep the others from being reversed (L9). It is told once
// (L13).
func (e *Engine) readable(list []journal.Entry, err error) ([]journal.Entry, error) {
	if !errors.Is(err, journal.ErrPartial) {
		return list, err
	}
	e.mu.Lock()
	told := e.damage == err.Error()
	e.damage = err.Error()
	e.mu.Unlock()
	if !told {
		e.emit(Event{Kind: EventDamaged, Note: err.Error()})
	}
	return list, nil
}

func (e *Engine) openLanes() ([]journal.Lane, error) {
	open, err := e.open()
	var lanes []journal.Lane
	for _, entry := range open {
		if !slices.Contains(lanes, entry.Lane) {
			lanes = append(lanes, entry.Lane)
		}
	}
	return lanes, err
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
		wait, _, err := e.replayOldest(ctx, lane)
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

// replayOldest takes the oldest owed entry of a lane (L9), decides and acts. It
// returns how long the lane has to wait before the next try, and how many
// entries it still owes. The caller holds the lane.
func (e *Engine) replayOldest(ctx context.Context, lane journal.Lane) (wait time.Duration, left int, err error) {
	owed, err := e.owedOn(lane)
	if err != nil || len(owed) == 0 {
		return 0, 0, err
	}
	entry, left := owed[0], len(owed)
	doubt := Doubt{Status: entry.Status, Attempts: entry.Attempts, Refusals: entry.Refusals}
	e.follow(entry.ID, func(t *trail) {
		doubt.Tries, doubt.Spread, doubt.NotFound = t.tries, t.spread, t.notFound
		doubt.SinceTry, doubt.SinceSent = time.Since(t.lastTry), time.Since(t.sent)
	})
	d := Decide(doubt, e.timers)
	switch d.Do {
	case Wait:
		return d.Wait, left, nil
	case Park:
		return 0, left, e.park(entry, d.Why)
	case Send:
		if ctx.Err() != nil {
			return 0, left, nil
		}
		return 0, left, e.reverse(ctx, entry)
	}
	return 0, left, nil
}

// reverse makes one attempt: build, count, send, judge, record. Each effect is
// durable before the next one begins.
func (e *Engine) reverse(ctx context.Context, entry journal.Entry) error {
	img, err := e.image(entry.ID)
	if errors.Is(err, journal.ErrKey) || errors.Is(err, journal.ErrPoisoned) || errors.Is(err, journal.ErrClosed) {
		return err // not this entry's fault
	}
	var message *iso.Message
	var packed []byte
	if err == nil {
		message, packed, err = e.build(img, entry)
	}
	if err != nil {
		return e.park(entry, "the reversal cannot be built from the record")
	}
	n, err := e.journal.Attempt(entry.ID) // L6: counted, durable, then sent
	if err != nil {
		return err
	}
	e.follow(entry.ID, func(t *trail) { t.tries++ })
	e.emit(Event{Kind: EventAttempt, ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Attempt: n, Cause: iso.Cause(entry.Cause)})
	left := time.Now() // the host may have looked for the original right then (L10)
	reply, _, why := e.exchange(ctx, entry.Lane, message, packed, func(m *iso.Message) bool { return e.late(entry, img, m) })
	return e.settleReply(entry, n, left, reply, why)
}

func (e *Engine) image(id journal.ID) (iso.Image, error) {
	kept, err := e.journal.Image(id)
	if err != nil {
		return iso.Image{}, err
	}
	return iso.ParseImage(kept)
}

func (e *Engine) build(img iso.Image, entry journal.Entry) (*iso.Message, []byte, error) {
	message, err := e.profile.BuildReversal(img, iso.Reversal{
		Attempt: entry.Attempts + 1, Cause: iso.Cause(entry.Cause),
		AuthCode: entry.AuthCode, Approved: iso.Amount(entry.ApprovedMinor),
	})
	if err != nil {
		return nil, nil, err
	}
	packed, err := e.profile.Pack(message)
	return message, packed, err
}

// settleReply records what the host said of a reversal.
func (e *Engine) settleReply(entry journal.Entry, n int, left time.Time, reply Reply, why error) error {
	ev := Event{ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Attempt: n, Code: reply.Code.Code}
	if why != nil {
		ev.Note = why.Error()
	}
	var verdict Verdict
	e.follow(entry.ID, func(t *trail) {
		verdict = Judge(reply, left.Sub(t.sent), e.timers)
		t.lastTry, t.spread, t.notFound = time.Now(), rand.Float64(), verdict == TooEarly
	})
	switch verdict {
	case Confirmed:
		if err := e.journal.Confirm(entry.ID, reply.Code.Code); err != nil {
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
func (e *Engine) late(entry journal.Entry, img iso.Image, m *iso.Message) bool {
	if e.profile.Match(img.Request(), m) != nil {
		return false
	}
	_, answer := e.read(img.Request(), m)
	if err := e.journal.Late(entry.ID, answer); err != nil {
		return false
	}
	e.emit(Event{Kind: EventLate, ID: entry.ID, Lane: entry.Lane, STAN: entry.STAN, Code: answer.Code})
	return true
}
