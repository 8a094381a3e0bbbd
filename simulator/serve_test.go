package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
)

// pipeListener is a listener without a network, so that Serve can be tested in
// virtual time.
type pipeListener struct {
	conns    chan net.Conn
	failures chan error
	closed   chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{make(chan net.Conn), make(chan error, 100), make(chan struct{})}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case err := <-p.failures:
		return nil, err
	default:
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestServeBoundsItsLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, err := NewHost(Options{Profile: profile(t), ConnectionsMax: 2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		listener := newPipeListener()
		served := make(chan error, 1)
		go func() { served <- host.Serve(ctx, listener) }()

		accepted := make(chan net.Conn, 3)
		for range 3 {
			go func() {
				near, far := net.Pipe()
				listener.conns <- far
				accepted <- near
			}()
		}
		synctest.Wait()
		if len(accepted) != 2 {
			t.Fatalf("%d lines accepted, want 2", len(accepted))
		}
		_ = (<-accepted).Close()
		synctest.Wait()
		if len(accepted) != 2 {
			t.Fatalf("%d lines after one ended, want the third accepted", len(accepted))
		}
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		for range 2 {
			if _, err := (<-accepted).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a line is still open after Serve returned: %v", err)
			}
		}
	})
}

// Serve returns when its lines have ended, not before: here the end of a line
// takes a second, because the observer does.
func TestServeWaitsForItsLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, err := NewHost(Options{Profile: profile(t), Observe: func(e Event) {
			if e.Kind == KindClosed {
				<-time.After(time.Second)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		listener := newPipeListener()
		served := make(chan error, 1)
		go func() { served <- host.Serve(ctx, listener) }()
		near, far := net.Pipe()
		defer near.Close()
		listener.conns <- far
		synctest.Wait()
		start := time.Now()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("Serve returned %v after the end was asked for", waited)
		}
	})
}

func TestServeOutlivesAFewAcceptFailures(t *testing.T) {
	for failures, want := range map[int]bool{acceptFailuresMax - 1: true, acceptFailuresMax: false} {
		synctest.Test(t, func(t *testing.T) {
			host, err := NewHost(Options{Profile: profile(t)})
			if err != nil {
				t.Fatal(err)
			}
			listener := newPipeListener()
			broken := errors.New("too many open files")
			for range failures {
				listener.failures <- broken
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			start := time.Now()
			err = host.Serve(ctx, listener)
			if alive := err == nil; alive != want {
				t.Errorf("%d failures: %v", failures, err)
			}
			if !want && (!errors.Is(err, broken) || time.Since(start) == 0) {
				t.Errorf("gave up after %v with %v", time.Since(start), err)
			}
		})
	}
}

// Many terminals at once over TCP: every sale is booked once, half are undone.
func TestServeOverTCP(t *testing.T) {
	const terminals, each = 8, 25
	s := &scene{t: t, p: profile(t)}
	var events []Event
	host, err := NewHost(Options{Profile: s.p, Observe: func(e Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- host.Serve(ctx, listener) }()

	finished := make(chan error, terminals)
	for n := range terminals {
		go func() { finished <- sellOverTCP(s, listener.Addr().String(), fmt.Sprintf("TERM%02d", n), each) }()
	}
	for range terminals {
		if err := <-finished; err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	const undone = terminals * ((each + 1) / 2)
	wantAccount(t, host.Ledger(), coffee(t), int64(1250*(terminals*each-undone)), terminals*each, undone)
	wantNoCards(t, events)
	var net int64
	for _, e := range events { // the events alone tell the same story, in order
		switch e.Kind {
		case KindBooked:
			net += e.AmountMinor
		case KindReversed:
			net -= e.AmountMinor
		}
		if e.Card != "" && e.NetMinor != net {
			t.Fatalf("event %s says net %d, the events so far add up to %d", e.Kind, e.NetMinor, net)
		}
	}
}

func sellOverTCP(s *scene, address, id string, sales int) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	exchange := func(m *iso.Message) error {
		m.Set(41, id)
		if _, err := conn.Write(frame(s.t, s.p, m)); err != nil {
			return err
		}
		packed, err := s.p.ReadFrame(conn)
		if err != nil {
			return err
		}
		a, err := s.p.Unpack(packed)
		if err != nil {
			return err
		}
		if code, _ := a.Field(39); code != "00" {
			return fmt.Errorf("%s answered with code %q", m.MTI(), code)
		}
		return s.p.Match(m, a)
	}
	for n := range sales {
		sale := request(s.t, s.p, iso.STAN(n+1))
		if err := exchange(sale); err != nil {
			return err
		}
		if n%2 == 0 {
			if err := exchange(reversalOf(s.t, s.p, sale, 1)); err != nil {
				return err
			}
		}
	}
	return nil
}
