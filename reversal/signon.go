package reversal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// KeyLoader takes the keys that a host sends in the answer to a sign-on (DE 62).
// iso.SoftKeys is one; a PIN pad's driver is another.
type KeyLoader interface {
	Download(wrapped iso.Secret) error
}

// ErrSignOn: the host did not let the terminal sign on. Nothing else changed.
var ErrSignOn = errors.New("sign-on failed")

// SignedOn is what a host says at sign-on.
type SignedOn struct {
	Batch string // the batch to go on with, "" when the host does not say (UnionPay: part 2 of DE 60)
}

// SignOn asks the host for working keys and gives them to the Authenticator. It
// goes without what is owed being settled first: it is the cure for wrong keys
// (PROTOCOL D.3). It is no transaction and leaves no entry. Afterwards Run tries
// at once what waited for a key, with the new one.
//
// r.Type is set to iso.SignOn. Errors wrap ErrSignOn, or ErrNotSent too when no
// byte left; the old keys then stay.
func (e *Engine) SignOn(ctx context.Context, r iso.Request) (SignedOn, error) {
	r.Type = iso.SignOn
	if r.At.IsZero() {
		r.At = time.Now()
	}
	fail := func(err error) (SignedOn, error) { return SignedOn{}, fmt.Errorf("%w: %w", ErrSignOn, err) }
	lane := laneOf(r.Acceptor)
	wait, cancel := context.WithTimeout(ctx, e.timers.SettleWithin)
	defer cancel()
	unlock, err := e.lanes.lock(wait, lane)
	if err != nil {
		return fail(fmt.Errorf("%w: terminal %s is busy with another transaction: %w", ErrNotSent, lane.Terminal, err))
	}
	defer unlock()
	stan, err := e.journal.NextSTAN(lane)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrNotSent, err))
	}
	r.STAN = iso.STAN(stan)
	message, err := e.profile.Build(r)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrNotSent, err))
	}
	packed, err := e.profile.Seal(ctx, message, e.auth(lane))
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrNotSent, err))
	}
	ctx, stop := context.WithTimeout(ctx, e.timers.AnswerWithin+exchangeGrace)
	defer stop()
	var answer *iso.Message
	err = e.exchanger.Exchange(ctx, lane, packed, func(raw []byte) bool {
		m, err := e.profile.Unpack(raw)
		if err == nil && e.profile.MatchNetwork(message, m) == nil {
			answer = m
		}
		return answer != nil
	})
	if err == nil && answer == nil {
		err = errors.New("the line says that it has an answer, and has none")
	}
	if err != nil {
		return fail(err)
	}
	on, err := e.signedOn(lane, answer)
	if err != nil {
		return fail(err)
	}
	e.emit(Event{Kind: EventSignedOn, Lane: lane, STAN: stan})
	e.renewed(lane)
	return on, nil
}

// renewed lets what waited for a key be tried at once; what fails for another
// reason keeps its back-off.
func (e *Engine) renewed(lane journal.Lane) {
	e.mu.Lock()
	e.signOns[lane]++
	for _, t := range e.seen {
		if t.keyless && t.lane == lane {
			t.tries = 0
		}
	}
	e.mu.Unlock()
	e.nudge()
}

// signedOn reads the answer and loads the keys.
func (e *Engine) signedOn(lane journal.Lane, answer *iso.Message) (SignedOn, error) {
	code := e.profile.Code(answer.Text(39))
	if !e.profile.Accepts(code) {
		return SignedOn{}, fmt.Errorf("the host answered %s, %s", code.Code, code.Name)
	}
	if loader, ok := e.auth(lane).(KeyLoader); ok && e.profile.HasMAC() {
		keys, there := answer.Field(62)
		if !there {
			return SignedOn{}, errors.New("the host sent no keys (DE 62)")
		}
		if err := loader.Download(iso.NewSecret(keys)); err != nil {
			return SignedOn{}, err
		}
	}
	return SignedOn{Batch: e.profile.Batch(answer)}, nil
}
