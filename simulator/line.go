package simulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"uncharge/iso"
)

// lateAnswersMax bounds the answers that wait on one line; with so many waiting
// the host reads no further message from it.
const lateAnswersMax = 64

// line is one connection of a terminal.
type line struct {
	host    *Host
	conn    net.Conn
	id      uint64
	writing sync.Mutex     // one answer at a time
	answers sync.WaitGroup // late ones
	late    chan struct{}  // one token for each late one
	gone    chan struct{}  // closed when the line has ended
}

// serve reads and answers messages and returns why it stopped.
func (l *line) serve(ctx context.Context) string {
	for {
		envelope, packed, why := l.read(ctx)
		if why != "" {
			return why
		}
		m, err := l.host.profile.Unpack(packed)
		if err != nil {
			return l.badFrame(err)
		}
		v := l.host.decide(l.id, m, l.host.verify(ctx, field(m, 41), m, packed))
		if v.envelope = envelope.Reply(); v.askSignOn {
			v.envelope = l.host.profile.WithHostRequest(v.envelope, "sign-on")
		}
		if why := l.act(ctx, v); why != "" {
			return why
		}
	}
}

// read returns one packed message, or why there is none. The first byte may take
// as long as the line may be idle, the rest of the frame must follow quickly.
func (l *line) read(ctx context.Context) (iso.Envelope, []byte, string) {
	var first [1]byte
	for {
		_ = l.conn.SetReadDeadline(time.Now().Add(l.host.idleTimeout))
		_, err := io.ReadFull(l.conn, first[:])
		if err == nil {
			break
		}
		if isTimeout(err) && len(l.late) > 0 {
			continue // not idle: the terminal is owed an answer
		}
		return iso.Envelope{}, nil, l.ended(ctx, err)
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(l.host.readTimeout))
	envelope, packed, err := l.host.profile.ReadFrameIn(io.MultiReader(bytes.NewReader(first[:]), l.conn))
	switch {
	case err == nil:
		return envelope, packed, ""
	case ctx.Err() != nil:
		return envelope, nil, l.ended(ctx, err)
	}
	return envelope, nil, l.badFrame(err)
}

func (l *line) badFrame(err error) string {
	l.host.tell(Event{Kind: KindBadFrame, Connection: l.id, Detail: err.Error()}, noCard)
	return "what came is no message"
}

// ended says why no message began.
func (l *line) ended(ctx context.Context, err error) string {
	switch {
	case ctx.Err() != nil:
		return "the host stopped"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed):
		return "the line was closed"
	case isTimeout(err):
		return "idle for " + l.host.idleTimeout.String()
	}
	return "the line failed: " + err.Error()
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// act does what was decided; it returns why the line is to be closed, or "".
func (l *line) act(ctx context.Context, v verdict) string {
	switch {
	case v.answer == nil:
		return v.hangUp
	case v.delay == 0:
		return l.send(v)
	}
	select {
	case l.late <- struct{}{}:
	case <-ctx.Done():
		return "the host stopped"
	}
	l.answers.Go(func() {
		defer func() { <-l.late }()
		l.sendLate(v)
	})
	return ""
}

// sendLate waits beside the reading of further messages: a real host goes on
// serving a line while one of its answers is late.
func (l *line) sendLate(v verdict) {
	timer := time.NewTimer(v.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		if l.send(v) != "" {
			_ = l.conn.Close() // wakes the reader
		}
	case <-l.gone:
		v.event.Kind, v.event.Detail = KindNotDelivered, "the line was closed before the answer was due"
		l.host.tell(v.event, v.card)
	}
}

func (l *line) send(v verdict) string {
	l.writing.Lock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.host.writeTimeout))
	err := l.host.profile.WriteFrameIn(l.conn, v.envelope, v.answer)
	l.writing.Unlock()
	if err != nil {
		v.event.Kind, v.event.Detail = KindNotDelivered, err.Error()
		l.host.tell(v.event, v.card)
		return "an answer could not be written"
	}
	v.event.Kind = KindAnswered
	l.host.tell(v.event, v.card)
	return ""
}
