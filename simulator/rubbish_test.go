package simulator

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"uncharge/iso"
)

// Whatever comes, it costs that line at most; the host serves the next one, and
// the ledger is as it was.
func TestRubbishCostsOnlyItsLine(t *testing.T) {
	good := frame(t, profile(t), request(t, profile(t), 7))
	for name, c := range map[string]struct {
		bytes []byte
		hang  bool // the terminal stays silent instead of closing
	}{
		"half a length":        {bytes: good[:1]},
		"half a frame":         {bytes: good[:40]},
		"stall in the length":  {bytes: good[:1], hang: true},
		"stall in the frame":   {bytes: good[:40], hang: true},
		"nothing":              {hang: true},
		"empty frame":          {bytes: []byte{0, 0}, hang: true},
		"oversized frame":      {bytes: []byte{0xff, 0xff, '0'}, hang: true},
		"garbage in a frame":   {bytes: append([]byte{0, byte(len(garbage))}, garbage...), hang: true},
		"a card in the rubble": {bytes: append([]byte{0, 16}, testCards[0]...), hang: true},
		"short message":        {bytes: append([]byte{0, 30}, good[2:32]...), hang: true},
		"length off by one":    {bytes: append([]byte{good[0], good[1] + 1}, append(good[2:len(good):len(good)], '0')...), hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(s *scene, l *terminal, sale *iso.Message) {
				l.ask(sale, "00")
				bad := s.line()
				written, err := bad.conn.Write(c.bytes)
				if err != nil && written < 2 { // the host may close as soon as it has seen the length
					t.Fatal(err)
				}
				if c.hang {
					start := time.Now()
					if _, err := bad.answer(time.Hour); !errors.Is(err, io.EOF) {
						t.Errorf("got %v; want a closed line", err)
					}
					limit := ReadTimeoutDefault
					if len(c.bytes) == 0 {
						limit = IdleTimeoutDefault
					}
					if waited := time.Since(start); waited > limit {
						t.Errorf("the line was cut after %v, want at most %v", waited, limit)
					}
				}
				_ = bad.conn.Close()
				if rest := s.kinds(); c.bytes != nil && !strings.Contains(rest, "bad-frame") {
					t.Errorf("no bad frame was told: %s", rest)
				}
				next := s.line()
				defer next.conn.Close()
				next.ask(request(t, s.p, 8), "00")
				s.wantAccount(2500, 2, 0)
			})
		})
	}
}

// Any bytes on one line leave the others served and the ledger right.
func FuzzLine(f *testing.F) {
	p := profile(f)
	good := frame(f, p, request(f, p, 7))
	f.Add(good)
	f.Add(append(good[:len(good):len(good)], frame(f, p, reversalOf(f, p, request(f, p, 7), 1))...))
	f.Add(good[:50])
	f.Add([]byte("\x00\x04aaaa"))
	f.Add([]byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var events []Event
		host, err := NewHost(Options{Profile: p, Observe: func(e Event) { events = append(events, e) }})
		if err != nil {
			t.Fatal(err)
		}
		talk(t, host, b)
		if err := host.Ledger().Check(); err != nil {
			t.Error(err)
		}
		wantNoCards(t, events)
		answers := talk(t, host, frame(t, p, request(t, p, 999999)))
		packed, err := p.ReadFrame(bytes.NewReader(answers))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Unpack(packed); err != nil {
			t.Error(err)
		}
	})
}

// talk writes bytes to a line of its own, closes it when the host has
// answered all of them, and returns what the host wrote.
func talk(t *testing.T, host *Host, b []byte) []byte {
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		host.ServeConn(t.Context(), far)
	}()
	var answers bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&answers, near)
	}()
	_, _ = near.Write(b)
	_, _ = near.Write([]byte{0}) // taken once the last answer is out; half a length, so nothing more is
	_ = near.Close()
	<-served
	<-read
	return answers.Bytes()
}
