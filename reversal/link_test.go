package reversal

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// wire is the line between a Link and a host in the test: pipes in virtual time.
type wire struct {
	t       testing.TB
	profile *iso.Profile
	link    *Link

	hosts sync.WaitGroup
	mu    sync.Mutex
	dials int
	lines []*line
}

// line is the terminal's end of one connection. It counts what is written.
type line struct {
	net.Conn
	mu     sync.Mutex
	writes int
	bytes  int
	closed bool
	breaks func(l *line, b []byte) (int, error) // instead of writing
}

func (l *line) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.writes++
	l.mu.Unlock()
	if l.breaks != nil {
		return l.breaks(l, b)
	}
	n, err := l.Conn.Write(b)
	l.mu.Lock()
	l.bytes += n
	l.mu.Unlock()
	return n, err
}

func (l *line) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.Conn.Close()
}

// wired runs a case with a Link whose host is serve: it gets every connection in
// a goroutine of its own, with the connection's number from 1.
func wired(t *testing.T, o LinkOptions, serve func(n int, c net.Conn), do func(t *testing.T, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		profile, err := iso.LoadProfile("iso87-ascii")
		if err != nil {
			t.Fatal(err)
		}
		w := &wire{t: t, profile: profile}
		o.Profile = profile
		if o.Address == "" {
			o.Address = "host.test:5000"
		}
		if o.Dial == nil {
			o.Dial = w.dialer(serve, nil)
		}
		if w.link, err = NewLink(o); err != nil {
			t.Fatal(err)
		}
		do(t, w)
		w.hosts.Wait()
	})
}

func (w *wire) dialer(serve func(n int, c net.Conn), breaks func(l *line, b []byte) (int, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		l := &line{Conn: here, breaks: breaks}
		w.mu.Lock()
		w.dials++
		n := w.dials
		w.lines = append(w.lines, l)
		w.mu.Unlock()
		w.hosts.Go(func() {
			defer func() { _ = there.Close() }()
			serve(n, there)
		})
		return l, nil
	}
}

func (w *wire) line(n int) *line {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines[n-1]
}

// exchange sends text and accepts the first answer that is want; it returns all
// that came and how long it took.
func (w *wire) exchange(ctx context.Context, text, want string) (came []string, took time.Duration, err error) {
	began := time.Now()
	err = w.link.Exchange(ctx, lane1, []byte(text), func(b []byte) bool {
		came = append(came, string(b))
		return string(b) == want
	})
	return came, time.Since(began), err
}

func (w *wire) read(c net.Conn) string {
	b, err := w.profile.ReadFrame(c)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

// echo answers each message with "answer to " and the message.
func echo(w **wire) func(int, net.Conn) {
	return func(_ int, c net.Conn) { _ = (*w).profile.WriteFrame(c, []byte("answer to "+(*w).read(c))) }
}

// hold keeps a connection open without reading or writing.
func hold(d time.Duration) func(int, net.Conn) {
	return func(int, net.Conn) { time.Sleep(d) }
}

func TestLinkExchangesOneMessage(t *testing.T) {
	var w *wire
	wired(t, LinkOptions{}, echo(&w), func(t *testing.T, in *wire) {
		w = in
		came, took, err := w.exchange(t.Context(), "hello", "answer to hello")
		if err != nil || took != 0 || len(came) != 1 {
			t.Errorf("%v, %v, %v", came, took, err)
		}
		l := w.line(1)
		if l.writes != 1 || l.bytes != 2+len("hello") {
			t.Errorf("the frame left in %d writes, %d bytes; want one (L4)", l.writes, l.bytes)
		}
		if !l.closed {
			t.Error("the connection is open still")
		}
	})
}

func TestNewLinkChecksItsOptions(t *testing.T) {
	profile, err := iso.LoadProfile("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]LinkOptions{
		"nothing": {}, "no profile": {Address: "h:1"}, "no address": {Profile: profile}, "no port": {Profile: profile, Address: "host"},
	} {
		if l, err := NewLink(o); err == nil || l != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	l, err := NewLink(LinkOptions{Profile: profile, Address: "h:1"})
	if err != nil || l.o.DialWithin <= 0 || l.o.WriteWithin <= 0 || l.o.AnswerWithin != profile.Timers().AnswerWithin {
		t.Errorf("a wait has no bound: %+v, %v", l.o, err)
	}
}

func TestL4RefusedDialIsNotSent(t *testing.T) {
	refused := errors.New("connection refused")
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, refused }
	wired(t, LinkOptions{Dial: dial}, nil, func(t *testing.T, w *wire) {
		came, _, err := w.exchange(t.Context(), "hello", "")
		if !errors.Is(err, ErrNotSent) || !errors.Is(err, refused) || len(came) != 0 {
			t.Errorf("%v, %v", came, err)
		}
	})
}

func TestL4DialIsBounded(t *testing.T) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	wired(t, LinkOptions{Dial: dial, DialWithin: 7 * time.Second}, nil, func(t *testing.T, w *wire) {
		_, took, err := w.exchange(t.Context(), "hello", "")
		if !errors.Is(err, ErrNotSent) || took != 7*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, took, err = w.exchange(ctx, "hello", "")
		if !errors.Is(err, ErrNotSent) || took != time.Second {
			t.Errorf("cancelled, after %v: %v", took, err)
		}
	})
}

func TestL4ContextThatEndedBeforeSendsNothing(t *testing.T) {
	wired(t, LinkOptions{}, func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) }, func(t *testing.T, w *wire) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 { // the lane is free and the context is over: either may be seen first
			if _, _, err := w.exchange(ctx, "hello", ""); !errors.Is(err, ErrNotSent) {
				t.Errorf("got %v", err)
			}
		}
		for _, l := range w.lines {
			if l.writes != 0 {
				t.Error("something was written")
			}
		}
	})
}

// A line that takes k bytes and then fails: k = 0 is a doubt as well, because
// Write was called.
func TestL4WriteErrorIsADoubtWhateverItSays(t *testing.T) {
	const text = "a message of some length"
	errs := map[string]error{"reset": errReset, "deadline": context.DeadlineExceeded, "closed": net.ErrClosed, "pretends": ErrNoAnswer, "eof": io.EOF}
	for name, broken := range errs {
		t.Run(name, func(t *testing.T) {
			for k := 0; k <= 2+len(text); k++ {
				wired(t, LinkOptions{}, nil, func(t *testing.T, w *wire) {
					w.link.o.Dial = w.dialer(func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) }, func(l *line, b []byte) (int, error) {
						_, _ = l.Conn.Write(b[:k])
						return k, broken
					})
					_, _, err := w.exchange(t.Context(), text, "")
					if err == nil || errors.Is(err, ErrNotSent) {
						t.Errorf("after %d bytes: %v, want a doubt", k, err)
					}
				})
			}
		})
	}
}

// The same through the engine: whatever k, the sale is owed and reversed.
func TestL4WriteErrorAfterAnyNumberOfBytesIsReversed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		k, sent := 0, 0
		w := &wire{t: t, profile: s.profile}
		good := w.dialer(func(_ int, c net.Conn) { w.answerAll(c) }, nil)
		bad := w.dialer(func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) }, func(l *line, b []byte) (int, error) {
			sent = len(b)
			_, _ = l.Conn.Write(b[:k])
			return k, errReset
		})
		selling := true
		link, err := NewLink(LinkOptions{Address: "h:1", Profile: s.profile, Dial: func(ctx context.Context, n, a string) (net.Conn, error) {
			if selling {
				return bad(ctx, n, a)
			}
			return good(ctx, n, a)
		}})
		s.must(err)
		s.engine = s.newEngine(link)
		for k = 0; k == 0 || k <= sent; k++ {
			selling = true
			_, err := s.send(lane1)
			id := s.failedWith(err, iso.LineLost)
			s.wantStatus(id, journal.Owed)
			selling = false
			s.drain()
			s.wantStatus(id, journal.Reversed)
		}
		if k < 100 {
			t.Errorf("scene: %d lengths were tried", k)
		}
	})
}

// answerAll is a host that says 00 to everything.
func (w *wire) answerAll(c net.Conn) {
	for {
		b, err := w.profile.ReadFrame(c)
		if err != nil {
			return
		}
		m, err := w.profile.Unpack(b)
		if err != nil {
			w.t.Errorf("the host cannot read: %v", err)
			return
		}
		h := &host{s: &scene{t: w.t, profile: w.profile}}
		x := &exchanging{heard: heard{mti: m.MTI(), message: m}, host: h}
		if w.profile.WriteFrame(c, x.say("00")) != nil {
			return
		}
	}
}

func TestL4RefusedDialThroughTheEngine(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		link, err := NewLink(LinkOptions{Address: "h:1", Profile: s.profile, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("connection refused")
		}})
		s.must(err)
		s.engine = s.newEngine(link)
		_, err = s.send(lane1)
		oneOf(t, err, ErrNotSent)
		s.wantStatus(1, journal.NotSent)
		s.drain()
		if e := s.wantStatus(1, journal.NotSent); e.Attempts != 0 {
			t.Errorf("%d reversals of what was not sent", e.Attempts)
		}
	})
}

func TestL4LineClosedAfterSendingIsADoubt(t *testing.T) {
	var w *wire
	for name, serve := range map[string]func(int, net.Conn){
		"closed at once":          func(_ int, c net.Conn) { w.read(c) },
		"closed inside a length":  func(_ int, c net.Conn) { w.read(c); _, _ = c.Write([]byte{0}) },
		"closed inside a message": func(_ int, c net.Conn) { w.read(c); _, _ = c.Write([]byte("\x00\x09half")) },
		"a length of nothing":     func(_ int, c net.Conn) { w.read(c); _, _ = c.Write([]byte{0, 0}) },
		"a length over the limit": func(_ int, c net.Conn) { w.read(c); _, _ = c.Write([]byte("\xff\xff")) },
		"another protocol":        func(_ int, c net.Conn) { w.read(c); _, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway") },
		"closed while sending":    func(_ int, c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 3)) },
		"closed before sending":   func(_ int, c net.Conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			wired(t, LinkOptions{}, serve, func(t *testing.T, in *wire) {
				w = in
				came, took, err := w.exchange(t.Context(), "hello", "")
				if err == nil || errors.Is(err, ErrNotSent) || errors.Is(err, ErrNoAnswer) {
					t.Errorf("got %v, want a lost line", err)
				}
				if len(came) != 0 || took > time.Second {
					t.Errorf("%v came, it took %v", came, took)
				}
			})
		})
	}
}

func TestL4FrameOverTheLimitIsNotSent(t *testing.T) {
	for name, message := range map[string]string{"nothing": "", "one byte too many": strings.Repeat("x", 4097), "far too many": strings.Repeat("x", 70000)} {
		t.Run(name, func(t *testing.T) {
			wired(t, LinkOptions{}, func(_ int, c net.Conn) {
				if b, _ := io.ReadAll(c); len(b) != 0 {
					t.Errorf("%d bytes came", len(b))
				}
			}, func(t *testing.T, w *wire) {
				if _, _, err := w.exchange(t.Context(), message, ""); !errors.Is(err, ErrNotSent) {
					t.Errorf("got %v", err)
				}
				synctest.Wait()
			})
		})
	}
	var w *wire
	wired(t, LinkOptions{}, echo(&w), func(t *testing.T, in *wire) {
		w = in
		if _, _, err := w.exchange(t.Context(), strings.Repeat("x", 4096), "answer to "+strings.Repeat("x", 4086)); errors.Is(err, ErrNotSent) {
			t.Errorf("the longest message: %v", err)
		}
	})
}

func TestLinkWriteIsBounded(t *testing.T) {
	wired(t, LinkOptions{WriteWithin: 4 * time.Second}, hold(time.Hour), func(t *testing.T, w *wire) {
		_, took, err := w.exchange(t.Context(), "hello", "")
		if took != 4*time.Second || err == nil || errors.Is(err, ErrNotSent) {
			t.Errorf("after %v: %v, want a doubt after 4s", took, err)
		}
	})
}

func TestLinkAnswerIsBounded(t *testing.T) {
	var w *wire
	for name, serve := range map[string]func(int, net.Conn){
		"silence": func(_ int, c net.Conn) { w.read(c); time.Sleep(time.Hour) },
		"a byte a second": func(_ int, c net.Conn) {
			w.read(c)
			for _, b := range []byte("\x00\xff" + strings.Repeat("x", 255)) {
				time.Sleep(time.Second)
				_, _ = c.Write([]byte{b})
			}
		},
		"strangers all the time": func(_ int, c net.Conn) {
			w.read(c)
			for w.profile.WriteFrame(c, []byte("stranger")) == nil {
				time.Sleep(2 * time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			wired(t, LinkOptions{}, serve, func(t *testing.T, in *wire) {
				w = in
				_, took, err := w.exchange(t.Context(), "hello", "never")
				if !errors.Is(err, ErrNoAnswer) || took != 45*time.Second {
					t.Errorf("after %v: %v, want ErrNoAnswer after the profile's 45s", took, err)
				}
			})
		})
	}
}

// The time for the answer starts when the last byte is written.
func TestLinkAnswerTimeStartsAfterTheWrite(t *testing.T) {
	var w *wire
	wired(t, LinkOptions{AnswerWithin: 5 * time.Second}, func(_ int, c net.Conn) {
		time.Sleep(8 * time.Second)
		m := w.read(c)
		time.Sleep(4 * time.Second)
		_ = w.profile.WriteFrame(c, []byte("answer to "+m))
	}, func(t *testing.T, in *wire) {
		w = in
		if _, took, err := w.exchange(t.Context(), "hello", "answer to hello"); err != nil || took != 12*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestLinkPassesOverWhatIsNotTheAnswer(t *testing.T) {
	var w *wire
	wired(t, LinkOptions{}, func(_ int, c net.Conn) {
		w.read(c)
		for _, m := range []string{"stranger", "late", "mine", "after"} {
			if w.profile.WriteFrame(c, []byte(m)) != nil {
				return
			}
		}
	}, func(t *testing.T, in *wire) {
		w = in
		came, _, err := w.exchange(t.Context(), "hello", "mine")
		if err != nil || strings.Join(came, " ") != "stranger late mine" {
			t.Errorf("%v, %v", came, err)
		}
	})
}

func TestLinkFloodEnds(t *testing.T) {
	var w *wire
	var sent atomic.Int32
	wired(t, LinkOptions{}, func(_ int, c net.Conn) {
		w.read(c)
		for w.profile.WriteFrame(c, []byte("stranger")) == nil {
			sent.Add(1)
		}
	}, func(t *testing.T, in *wire) {
		w = in
		came, took, err := w.exchange(t.Context(), "hello", "mine")
		if err == nil || errors.Is(err, ErrNotSent) || len(came) != answersMax || took > time.Second {
			t.Errorf("%d came in %v: %v", len(came), took, err)
		}
		synctest.Wait()
		if n := sent.Load(); n > answersMax+1 {
			t.Errorf("%d were taken", n)
		}
	})
}

// What comes late for one exchange finds its connection closed; the next one has
// its own.
func TestLinkLateAnswerCannotAnswerTheNext(t *testing.T) {
	var w *wire
	var late error
	wired(t, LinkOptions{AnswerWithin: 5 * time.Second}, func(n int, c net.Conn) {
		m := w.read(c)
		if n == 1 {
			time.Sleep(6 * time.Second) // the second exchange is under way
			late = w.profile.WriteFrame(c, []byte("answer to "+m))
			return
		}
		time.Sleep(3 * time.Second)
		_ = w.profile.WriteFrame(c, []byte("answer to "+m))
	}, func(t *testing.T, in *wire) {
		w = in
		if _, _, err := w.exchange(t.Context(), "first", "answer to first"); !errors.Is(err, ErrNoAnswer) {
			t.Fatalf("got %v", err)
		}
		came, _, err := w.exchange(t.Context(), "second", "answer to second")
		if err != nil || len(came) != 1 {
			t.Errorf("%v, %v", came, err)
		}
		synctest.Wait()
		if w.dials != 2 || late == nil {
			t.Errorf("%d connections; the late answer was taken: %v", w.dials, late == nil)
		}
	})
}
