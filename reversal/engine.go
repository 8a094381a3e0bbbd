package reversal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// Options make an engine. Journal, Profile and Exchanger must be given.
type Options struct {
	Journal   *journal.Journal
	Profile   *iso.Profile
	Exchanger Exchanger
	Timers    *iso.Timers // nil means the profile's; an invalid one is refused
	// Authenticator makes and checks MACs; a profile with a MAC needs one. When it
	// is a KeyLoader too, SignOn gives it the keys that the host sends.
	Authenticator iso.Authenticator
	// Authenticators, where it is given, is asked for the one of each lane instead:
	// in a device with several terminals each has keys of its own.
	Authenticators func(journal.Lane) iso.Authenticator
	// Observe is called for every event, in order, one at a time; it must not
	// call the engine and should return soon.
	Observe func(Event)
}

// Engine runs transactions through the journal and reverses what is owed.
type Engine struct {
	journal   *journal.Journal
	profile   *iso.Profile
	exchanger Exchanger
	timers    iso.Timers
	auth      func(journal.Lane) iso.Authenticator
	observe   func(Event)
	observing sync.Mutex

	lanes    laneLocks
	wake     chan struct{} // tells Run to look again
	running  atomic.Bool
	draining atomic.Bool

	mu   sync.Mutex // guards what follows
	live map[journal.ID]provisional
	seen map[journal.ID]*trail
	// signOns counts the sign-ons of each lane that succeeded.
	signOns map[journal.Lane]int
	// damage is the error of the entries that cannot be read.
	damage error
}

// provisional is an approved sale that waits for Complete.
type provisional struct {
	since  time.Time
	answer journal.Answer
}

// trail is what the engine remembers of one entry until it is settled. It is not
// durable and need not be: after a restart everything is found again and tried
// at once.
type trail struct {
	sent     time.Time // when the original left, or when it was found after a restart
	tries    int       // attempts since the last trigger
	lastTry  time.Time
	spread   float64 // drawn at the last try
	notFound bool
	// keyless: the last try, on lane, failed for want of a key that the host accepts,
	// after as many sign-ons of that lane as signOn says.
	keyless bool
	lane    journal.Lane
	signOn  int
}

// New makes an engine. It neither reads the journal nor sends anything.
func New(o Options) (*Engine, error) {
	if o.Journal == nil || o.Profile == nil || o.Exchanger == nil {
		return nil, errors.New("engine: a journal, a profile and an exchanger must be given")
	}
	t := o.Profile.Timers()
	if o.Timers != nil {
		t = *o.Timers
	}
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("engine: timers.%w", err)
	}
	auth := o.Authenticators
	if auth == nil {
		auth = func(journal.Lane) iso.Authenticator { return o.Authenticator }
	}
	if o.Profile.HasMAC() && o.Authenticator == nil && o.Authenticators == nil {
		return nil, fmt.Errorf("engine: profile %s has a MAC; an authenticator must be given", o.Profile.Name())
	}
	return &Engine{
		journal: o.Journal, profile: o.Profile, exchanger: o.Exchanger, timers: t, auth: auth, observe: o.Observe,
		wake: make(chan struct{}, 1), live: map[journal.ID]provisional{}, seen: map[journal.ID]*trail{}, signOns: map[journal.Lane]int{},
	}, nil
}

// String names the engine and shows nothing of what it works on.
func (e *Engine) String() string { return "engine over " + e.journal.String() }

// Format prints String under every verb: fmt would walk into the profile, the keys
// and the clock (L11).
func (e *Engine) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, e.String()) }

// Send runs one transaction: it settles what the lane owes, records the request,
// sends it and says what became of it (see the package comment for the errors).
// The engine sets r.STAN, and r.At when it is zero.
//
// A sale of the same lane that was approved earlier and neither completed nor
// reversed is taken for forgotten: it is reversed first (L2).
//
// When ctx ends while the answer is awaited the transaction has failed and is
// reversed. Waits are bounded by the profile's timers in any case.
func (e *Engine) Send(ctx context.Context, r iso.Request) (*Sale, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	}
	now := r.At.IsZero()
	if now {
		r.At = time.Now()
	}
	if !e.profile.Reversible(r.Type) { // L16: only what can be reversed is run
		return nil, fmt.Errorf("%w: %w: profile %s does not reverse %q", ErrNotSent, iso.ErrInvalid, e.profile.Name(), r.Type)
	}
	if err := e.profile.Check(r); err != nil { // before anything is recorded
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	lane := laneOf(r.Acceptor)
	unlock, err := e.enter(ctx, lane)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if now {
		r.At = time.Now() // the gate may have taken a while
	}
	tx, err := e.record(ctx, lane, r)
	if err != nil {
		if errors.Is(err, iso.ErrNoKey) {
			e.emit(Event{Kind: EventSignOn, Lane: lane, Note: err.Error()})
		}
		// L1: what cannot be recorded is not sent.
		return nil, fmt.Errorf("%w, because it could not be recorded: %w", ErrNotSent, err)
	}
	e.emit(Event{Kind: EventArmed, ID: tx.id, Lane: lane, STAN: tx.stan})
	reply, answer, why := e.exchange(ctx, lane, tx.message, tx.packed, nil)
	// Nothing of the request leaves after the end of its exchange. When it left
	// before that is not known: TCP may have had it in hand for a while (L10).
	e.follow(tx.id, func(t *trail) { t.sent = time.Now() })
	return e.conclude(tx, r, reply, answer, why)
}

// laneOf trims what the wire fills up, so that a terminal has one lane however
// its firmware writes its id.
func laneOf(a iso.Acceptor) journal.Lane {
	return journal.Lane{Terminal: strings.TrimRight(a.Terminal, " "), Merchant: strings.TrimRight(a.Merchant, " ")}
}

// enter is the gate (L9): it waits for the lane and settles what it owes, both
// together within SettleWithin. On success the caller has the lane.
func (e *Engine) enter(ctx context.Context, lane journal.Lane) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timers.SettleWithin)
	defer cancel()
	unlock, err = e.lanes.lock(ctx, lane)
	if err != nil { // a reversal or another transaction is under way
		if owed, _ := e.owedOn(lane); len(owed) > 0 {
			return nil, &OwedError{Lane: lane, Oldest: owed[0].ID, Count: len(owed)}
		}
		return nil, fmt.Errorf("%w: terminal %s is busy with another transaction: %w", ErrNotSent, lane.Terminal, err)
	}
	if err := e.settle(ctx, lane); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// recorded is a request whose entry is durable.
type recorded struct {
	id      journal.ID
	lane    journal.Lane
	stan    uint32
	message *iso.Message
	packed  []byte
}

// record builds the request and writes its entry. When it returns nil the entry
// would survive a power cut, and only then may a byte leave (L1).
func (e *Engine) record(ctx context.Context, lane journal.Lane, r iso.Request) (tx recorded, err error) {
	tx.lane = lane
	if tx.stan, err = e.journal.NextSTAN(lane); err != nil {
		return tx, err
	}
	r.STAN = iso.STAN(tx.stan)
	if tx.message, err = e.profile.Build(r); err != nil {
		return tx, err
	}
	if tx.packed, err = e.profile.Seal(ctx, tx.message, e.auth(lane)); err != nil {
		return tx, err
	}
	var own uint32 // of the reversal
	if e.profile.NewSTAN() {
		if own, err = e.journal.NextSTAN(lane); err != nil {
			return tx, err
		}
	}
	image, err := e.profile.ImageOf(tx.message)
	if err != nil {
		return tx, err
	}
	kept, err := image.Bytes()
	if err != nil {
		return tx, err
	}
	if err := e.reversalPossible(image, own); err != nil {
		return tx, fmt.Errorf("it could not be reversed: %w", err)
	}
	tx.id, err = e.journal.Begin(journal.Draft{
		Lane: lane, STAN: tx.stan, Type: string(r.Type), MTI: string(tx.message.MTI()),
		Amount: journal.Money{Minor: int64(r.Amount), Currency: r.Currency.Alpha, Exponent: r.Currency.Exponent},
		Last4:  r.Last4(), Image: kept, ReversalSTAN: own,
	})
	return tx, err
}

// reversalPossible builds the reversal that a doubt would need: a request whose
// reversal the profile cannot express is never sent (L8).
func (e *Engine) reversalPossible(image iso.Image, own uint32) error {
	m, err := e.profile.BuildReversal(image, iso.Reversal{Attempt: 1, Cause: iso.NoAnswer, STAN: iso.STAN(own)})
	if err == nil {
		_, err = e.profile.Pack(m)
	}
	return err
}

// conclude acts on what the reply means. Declined and not sent are durable
// before the caller hears them (L3); in doubt nothing need be written, because
// the entry is armed already, but the cause is, so that it is the same in every
// repeat of the reversal.
func (e *Engine) conclude(tx recorded, r iso.Request, reply Reply, answer journal.Answer, why error) (*Sale, error) {
	outcome, cause := JudgeRequest(reply)
	switch outcome {
	case HostApproved:
		e.mu.Lock()
		e.live[tx.id] = provisional{time.Now(), answer}
		e.mu.Unlock()
		e.emit(Event{Kind: EventApproved, ID: tx.id, Lane: tx.lane, STAN: tx.stan, Code: answer.Code})
		return newSale(e, tx, r, reply.Code, answer), nil
	case HostDeclined:
		if err := e.journal.Decline(tx.id, answer); err != nil {
			return nil, e.failed(tx, iso.NotRecorded, answer, err)
		}
		e.forget(tx.id)
		e.emit(Event{Kind: EventDeclined, ID: tx.id, Lane: tx.lane, STAN: tx.stan, Code: answer.Code})
		return nil, &DeclinedError{ID: tx.id, Code: reply.Code.Code, Name: reply.Code.Name}
	case NothingWasSent:
		if err := e.journal.NotSent(tx.id); err != nil {
			return nil, e.failed(tx, iso.NotRecorded, answer, err)
		}
		e.forget(tx.id)
		e.emit(Event{Kind: EventNotSent, ID: tx.id, Lane: tx.lane, STAN: tx.stan})
		return nil, &NotSentError{ID: tx.id, Err: why}
	}
	return nil, e.failed(tx, cause, answer, why)
}

// failed records the cause of a doubt and wakes the reversal. The entry is armed
// whether that write succeeds or not (L2).
func (e *Engine) failed(tx recorded, cause iso.Cause, answer journal.Answer, why error) error {
	if err := e.owe(tx.id, tx.lane, tx.stan, cause, answer); err != nil {
		why = errors.Join(why, err)
	}
	return &FailedError{ID: tx.id, Cause: cause, Err: why}
}

func (e *Engine) owe(id journal.ID, lane journal.Lane, stan uint32, cause iso.Cause, answer journal.Answer) error {
	if err := e.journal.Owe(id, string(cause), answer); err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.live, id)
	e.mu.Unlock()
	e.emit(Event{Kind: EventOwed, ID: id, Lane: lane, STAN: stan, Cause: cause})
	e.nudge()
	return nil
}

// Wake tells the engine that the network is back: Run tries at once what is
// owed, with a new burst for each entry.
func (e *Engine) Wake() {
	e.mu.Lock()
	for _, t := range e.seen {
		t.tries = 0
	}
	e.mu.Unlock()
	e.nudge()
}

// nudge makes Run look again; what waits for its back-off goes on waiting.
func (e *Engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default: // it is awake already
	}
}

// follow lets do look at and change what is remembered of an entry.
func (e *Engine) follow(id journal.ID, do func(*trail)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.seen[id]
	if !ok {
		t = &trail{sent: time.Now()}
		e.seen[id] = t
	}
	do(t)
}

func (e *Engine) forget(id journal.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.seen, id)
	delete(e.live, id)
}

// exchangeGrace is added to the answer's time to bound a whole exchange, dialling
// and writing included, whatever the Exchanger does.
const exchangeGrace = 30 * time.Second

// exchange sends one message and says how it ended. late is asked about every
// message that does not match.
func (e *Engine) exchange(ctx context.Context, lane journal.Lane, request *iso.Message, packed []byte, late func(*iso.Message, []byte) bool) (Reply, journal.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timers.AnswerWithin+exchangeGrace)
	defer cancel()
	var reply Reply
	var answer journal.Answer
	garbled := false
	var unproven error
	err := e.exchanger.Exchange(ctx, lane, packed, func(raw []byte) bool {
		m, err := e.profile.Unpack(raw)
		if err != nil {
			garbled = true // what answers it may still come
			return false
		}
		if err := e.profile.Match(request, m); err != nil { // L5
			if late == nil || !late(m, raw) {
				e.emit(Event{Kind: EventStray, Lane: lane, Note: err.Error()})
			}
			return false
		}
		reply, answer = e.read(request, m)
		if why := e.profile.Verify(ctx, m, raw, e.auth(lane)); why != nil { // L5
			reply.Heard, unproven = Unproven, why
		}
		return true
	})
	if unproven != nil || (reply.Heard == Replied && reply.Code.Reversal == iso.Renew) {
		e.emit(Event{Kind: EventSignOn, Lane: lane, Code: reply.Code.Code, Note: noteOf(unproven)})
	}
	switch {
	case err == nil && unproven != nil:
		// Its code is kept as evidence that the host may have booked; nothing else of
		// it is the host's word.
		return reply, journal.Answer{Code: answer.Code}, unproven
	case err == nil:
		return reply, answer, nil
	case errors.Is(err, ErrNotSent):
		return Reply{Heard: Unsent}, answer, err
	case garbled:
		return Reply{Heard: Garbled}, answer, err
	case errors.Is(err, context.Canceled):
		return Reply{Heard: Dropped}, answer, err
	case errors.Is(err, ErrNoAnswer), errors.Is(err, context.DeadlineExceeded):
		return Reply{Heard: Silent}, answer, err
	}
	return Reply{Heard: Lost}, answer, err
}

func noteOf(err error) string {
	if err == nil {
		return "the host asks for it"
	}
	return err.Error()
}

// read takes the facts out of an answer that matched.
func (e *Engine) read(request, m *iso.Message) (Reply, journal.Answer) {
	code, hasCode := m.Field(39)
	auth, rrn := m.Text(38), m.Text(37)
	reply := Reply{Heard: Replied, HasCode: hasCode && code != "", Code: e.profile.Code(code)}
	answer := journal.Answer{Code: code, AuthCode: auth, RRN: rrn}
	if reply.Code.Request == iso.Partial {
		approved, there := m.Field(4)
		asked, _ := request.Field(4)
		if amount, err := iso.ParseDE4(approved); there && err == nil && amount > 0 && approved <= asked {
			reply.AmountOK, answer.ApprovedMinor = true, int64(amount)
		}
	}
	return reply, answer
}
