package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
)

// The steps at which the kill tests stop the terminal to kill it there.
const (
	beforeSend          = "before-send"           // the sale is recorded, nothing has left
	afterSend           = "after-send"            // the sale has left, no answer was read
	afterAnswer         = "after-answer"          // the answer was read, nothing recorded since
	afterComplete       = "after-complete"        // completed, not yet shown
	beforeReversal      = "before-reversal"       // the attempt is counted, nothing has left
	afterReversalSend   = "after-reversal-send"   // the reversal has left, no answer was read
	afterReversalAnswer = "after-reversal-answer" // the answer was read, nothing recorded since
)

var haltSteps = []string{beforeSend, afterSend, afterAnswer, afterComplete, beforeReversal, afterReversalSend, afterReversalAnswer}

// halter stops the terminal for ever at one step.
type halter struct {
	step   string // "" never stops
	stderr io.Writer
}

func (h halter) check() error {
	if h.step != "" && !slices.Contains(haltSteps, h.step) {
		return usage(fmt.Errorf("--halt-at: no step %q; one of %s", h.step, strings.Join(haltSteps, ", ")))
	}
	return nil
}

func (h halter) at(step string) {
	if h.step != step {
		return
	}
	_, _ = fmt.Fprintf(h.stderr, "halted %s\n", step)
	for {
		time.Sleep(time.Hour)
	}
}

// haltingExchanger stops before and after the exchanges of a link.
type haltingExchanger struct {
	link    *reversal.Link
	profile *iso.Profile
	halt    halter
}

func (x haltingExchanger) Exchange(ctx context.Context, lane journal.Lane, message []byte, accept func([]byte) bool) error {
	before, after := beforeSend, afterAnswer
	switch m, err := x.profile.Unpack(message); {
	case err == nil && m.MTI().Reversal():
		before, after = beforeReversal, afterReversalAnswer
	case err == nil && m.MTI().Network():
		before, after = "sign-on", "sign-on" // no step of a sale
	}
	x.halt.at(before)
	return x.link.Exchange(ctx, lane, message, func(answer []byte) bool {
		x.halt.at(after)
		return accept(answer)
	})
}

// dial connects, and stops after the first frame was written.
func (x haltingDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || (x.halt.step != afterSend && x.halt.step != afterReversalSend) {
		return conn, err
	}
	return haltingConn{conn, x}, nil
}

type haltingDialer struct {
	profile *iso.Profile
	halt    halter
}

type haltingConn struct {
	net.Conn
	haltingDialer
}

// SetLinger passes on what a Link asks of a TCP connection.
func (c haltingConn) SetLinger(seconds int) error {
	return c.Conn.(*net.TCPConn).SetLinger(seconds)
}

func (c haltingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	packed, err2 := c.profile.ReadFrame(bytes.NewReader(b)) // one frame is one Write
	if err2 != nil {
		return n, err
	}
	switch m, err := c.profile.Unpack(packed); {
	case err == nil && m.MTI().Reversal():
		c.halt.at(afterReversalSend)
	case err == nil && !m.MTI().Network():
		c.halt.at(afterSend)
	}
	return n, err
}
