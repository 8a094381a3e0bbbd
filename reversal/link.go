package reversal

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// LinkOptions say where the host is and how long each step may take.
type LinkOptions struct {
	Address      string       // host:port
	Profile      *iso.Profile // its framing
	TLS          *tls.Config  // nil means plain TCP
	DialWithin   time.Duration
	WriteWithin  time.Duration
	AnswerWithin time.Duration // from the last byte written; 0 means the profile's
	// HostAsks is told what the host asks for in the header of an answer, by the
	// profile's name for it ("sign-on"); nil is told nothing.
	HostAsks func(request string)
	// Dial replaces net.Dialer, for modems and tests. A connection that buffers
	// what it sends must have SetLinger as net.TCPConn has it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Link exchanges messages with a host over TCP or TLS. Every exchange has a
// connection of its own: what comes late for one can never be read by another.
// On a lane one exchange runs at a time; lanes run side by side.
type Link struct {
	o     LinkOptions
	lanes laneLocks
}

// Bounds of a Link whose options do not say otherwise.
const (
	dialWithinDefault  = 10 * time.Second
	writeWithinDefault = 10 * time.Second
	answersMax         = 64 // messages read in one exchange before the line counts as lost
)

// NewLink checks the options and makes a link. It does not dial.
func NewLink(o LinkOptions) (*Link, error) {
	if o.Profile == nil {
		return nil, errors.New("link: no profile")
	}
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return nil, fmt.Errorf("link: host address %q: give HOST:PORT", o.Address)
	}
	if o.DialWithin <= 0 {
		o.DialWithin = dialWithinDefault
	}
	if o.WriteWithin <= 0 {
		o.WriteWithin = writeWithinDefault
	}
	if o.AnswerWithin <= 0 {
		o.AnswerWithin = o.Profile.Timers().AnswerWithin
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
		o.TLS.MinVersion = max(o.TLS.MinVersion, tls.VersionTLS12)
		if o.TLS.ServerName == "" {
			o.TLS.ServerName, _, _ = net.SplitHostPort(o.Address)
		}
	}
	return &Link{o: o}, nil
}

// Exchange keeps the promise of Exchanger.
func (l *Link) Exchange(ctx context.Context, lane journal.Lane, message []byte, accept func([]byte) bool) error {
	unlock, err := l.lanes.lock(ctx, lane)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	defer unlock()
	conn, abort, err := l.connect(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	}

	// From here on every error is a doubt: once Write was called, bytes may have
	// left whatever it says (L4). The frame is one Write.
	_ = conn.SetWriteDeadline(time.Now().Add(l.o.WriteWithin))
	if err := l.o.Profile.WriteFrame(conn, message); err != nil {
		if errors.Is(err, iso.ErrFrame) { // refused before Write was called
			return fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return fmt.Errorf("line to %s lost while sending: %w", l.o.Address, endOf(ctx, err))
	}
	_ = conn.SetReadDeadline(time.Now().Add(l.o.AnswerWithin))
	for range answersMax {
		envelope, answer, err := l.o.Profile.ReadFrameIn(conn)
		if request := l.o.Profile.HostRequest(envelope); err == nil && request != "" && l.o.HostAsks != nil {
			l.o.HostAsks(request)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("%w (%v)", ErrNoAnswer, l.o.AnswerWithin)
		case err != nil:
			return fmt.Errorf("line to %s lost while waiting for the answer: %w", l.o.Address, endOf(ctx, err))
		case accept(answer):
			abort(false) // it has arrived: part in good order
			return nil
		}
	}
	return fmt.Errorf("line to %s given up: %d messages came and none was the answer", l.o.Address, answersMax)
}

// endOf prefers the context's reason: the error of a connection that was closed
// because of it says nothing.
func endOf(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return err
}

// connect dials and, with TLS, shakes hands. No byte of any message has been
// handed to the network when it fails.
//
// The connection is set to abort: closing it, or a SIGKILL, throws away what the
// host's side has not acknowledged. Otherwise the kernel would go on trying to
// deliver a sale long after its reversal was answered "not found".
func (l *Link) connect(ctx context.Context) (conn net.Conn, abort func(bool), err error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.DialWithin)
	defer cancel()
	conn, err = l.o.Dial(ctx, "tcp", l.o.Address)
	if err != nil {
		return nil, nil, err
	}
	raw := conn
	abort = func(on bool) {
		if tcp, ok := raw.(interface{ SetLinger(seconds int) error }); ok && on {
			_ = tcp.SetLinger(0)
		} else if ok {
			_ = tcp.SetLinger(-1)
		}
	}
	abort(true)
	if l.o.TLS == nil {
		return conn, abort, nil
	}
	secure := tls.Client(conn, l.o.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("TLS with %s: %w", l.o.Address, err)
	}
	return secure, abort, nil
}
