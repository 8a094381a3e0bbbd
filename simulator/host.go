package simulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"uncharge/iso"
)

// What Options means by zero.
const (
	IdleTimeoutDefault    = 5 * time.Minute
	ReadTimeoutDefault    = 10 * time.Second
	WriteTimeoutDefault   = 10 * time.Second
	ConnectionsMaxDefault = 256
)

// A listener that fails again and again is given up after acceptFailuresMax
// tries, with a pause that grows to acceptPauseMax between them.
const (
	acceptFailuresMax = 10
	acceptPauseFirst  = 5 * time.Millisecond
	acceptPauseMax    = time.Second
)

// Options says how a host behaves. All but Profile may be left zero.
type Options struct {
	Profile *iso.Profile
	Master  iso.Secret // terminals' master key, hex; a profile with a MAC needs it
	Faults  []Fault    // the first that falls on a request is the one that counts

	// Observe is told of every event, one at a time, in the order in which the
	// ledger changed. The host waits for it, so it must return soon; it may call
	// SetFaults and read the Ledger, and nothing else of the host.
	Observe func(Event)

	IdleTimeout    time.Duration // the longest silence between messages; 0 is IdleTimeoutDefault
	ReadTimeout    time.Duration // from the first byte of a frame to its last; 0 is ReadTimeoutDefault
	WriteTimeout   time.Duration // for one answer; 0 is WriteTimeoutDefault
	ConnectionsMax int           // lines that Serve keeps open at once; 0 is ConnectionsMaxDefault
}

// Validate reports what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Profile == nil:
		return errors.New("host: no profile given")
	case o.Profile.HasMAC() && o.Master.Reveal() == "":
		return fmt.Errorf("host: profile %s has a MAC; give the terminals' master key", o.Profile.Name())
	case o.IdleTimeout < 0 || o.ReadTimeout < 0 || o.WriteTimeout < 0:
		return errors.New("host: a timeout cannot be negative")
	case o.ConnectionsMax < 0:
		return errors.New("host: ConnectionsMax cannot be negative")
	}
	if o.Profile.HasMAC() {
		if _, err := iso.NewSoftKeys(o.Master); err != nil {
			return fmt.Errorf("host: %w", err)
		}
	}
	return validFaults(o.Faults, o.Profile)
}

// Host answers terminals. Its methods may be called from many goroutines.
type Host struct {
	profile        *iso.Profile
	observe        func(Event)
	idleTimeout    time.Duration
	readTimeout    time.Duration
	writeTimeout   time.Duration
	connectionsMax int

	ledger *Ledger
	keys   keyRing
	faults faultPlan
	lines  atomic.Uint64

	// order is held from the decision on a message to the delivery of its
	// events, so that an observer sees the ledger change in the order in which it
	// did.
	order sync.Mutex
}

// NewHost makes a host with an empty ledger. Errors: those of Options.Validate.
func NewHost(o Options) (*Host, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	h := &Host{
		profile: o.Profile, observe: o.Observe, ledger: &Ledger{},
		idleTimeout:    orDefault(o.IdleTimeout, IdleTimeoutDefault),
		readTimeout:    orDefault(o.ReadTimeout, ReadTimeoutDefault),
		writeTimeout:   orDefault(o.WriteTimeout, WriteTimeoutDefault),
		connectionsMax: orDefault(o.ConnectionsMax, ConnectionsMaxDefault),
	}
	h.keys.master = o.Master
	if h.observe == nil {
		h.observe = func(Event) {}
	}
	h.faults.set(o.Faults)
	return h, nil
}

func orDefault[T time.Duration | int](value, ifZero T) T {
	if value == 0 {
		return ifZero
	}
	return value
}

// Ledger returns the host's ledger, which goes on changing while the host runs.
func (h *Host) Ledger() *Ledger { return h.ledger }

// SetFaults replaces all faults, from the next request on; none makes the host
// well-behaved. Requests are counted from 1 again, and so are the refusals of
// refuse-reversal. On an error nothing changes.
func (h *Host) SetFaults(faults ...Fault) error {
	if err := validFaults(faults, h.profile); err != nil {
		return err
	}
	h.faults.set(faults)
	return nil
}

func validFaults(faults []Fault, p *iso.Profile) error {
	for _, f := range faults {
		if err := f.Validate(); err != nil {
			return err
		}
		if err := f.agrees(p); err != nil {
			return err
		}
	}
	return nil
}

// Serve accepts lines until ctx is done, then closes the listener and every
// line, waits for them and returns nil. It returns an error when the listener
// stops working; the lines are closed then too. A line more than the bound waits
// until another one ends.
func (h *Host) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var lines sync.WaitGroup
	defer lines.Wait()
	defer cancel()
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // wakes Accept
	defer stop()

	places := make(chan struct{}, h.connectionsMax)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := accept(ctx, listener)
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		lines.Go(func() {
			defer func() { <-places }()
			h.ServeConn(ctx, conn)
		})
	}
}

// accept tries again after failures that may pass, such as too many open files.
func accept(ctx context.Context, listener net.Listener) (net.Conn, error) {
	pause := acceptPauseFirst
	for failures := 1; ; failures++ {
		conn, err := listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) || failures == acceptFailuresMax {
			return conn, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// ServeConn serves one line until the terminal closes it, it stays silent or
// stalls too long, something comes that is no message, a fault says so, or ctx
// is done. It closes conn, and no goroutine of its own is left when it returns.
func (h *Host) ServeConn(ctx context.Context, conn net.Conn) {
	l := &line{host: h, conn: conn, id: h.lines.Add(1), gone: make(chan struct{}), late: make(chan struct{}, lateAnswersMax)}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	h.tell(Event{Kind: KindConnected, Connection: l.id}, noCard)
	why := l.serve(ctx)
	_ = conn.Close()
	close(l.gone)
	l.answers.Wait()
	h.tell(Event{Kind: KindClosed, Connection: l.id, Detail: why}, noCard)
}

// tell delivers an event that stands alone.
func (h *Host) tell(e Event, card iso.PAN) {
	h.order.Lock()
	defer h.order.Unlock()
	h.emit(e, card)
}

// emit completes an event and delivers it. The order lock is held.
func (h *Host) emit(e Event, card iso.PAN) {
	e.Time = time.Now()
	if e.Card != "" && e.Currency.Numeric != "" {
		e.NetMinor = h.ledger.netMinor(card, e.Currency)
	}
	h.observe(e)
}
