package simulator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
)

// misdeed is one case of misbehaviour: the faults, what the terminal does, and
// then the account, and what was told.
type misdeed struct {
	faults   []string
	steps    func(s *scene, l *terminal, sale *iso.Message)
	net      int64
	sales    int
	reversed int
	kinds    string
}

func playAll(t *testing.T, cases map[string]misdeed) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			play(t, c.faults, func(s *scene, l *terminal, sale *iso.Message) {
				c.steps(s, l, sale)
				s.wantAccount(c.net, c.sales, c.reversed)
				s.wantKinds(c.kinds)
			})
		})
	}
}

func TestFaultsThatAreSilent(t *testing.T) {
	playAll(t, map[string]misdeed{
		"drop-request": {
			[]string{"drop-request@1"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				l.silence()
				l.ask(reversalOf(s.t, s.p, sale, 1), "25")
			}, 0, 0, 0, "sale dropped reversal not-found answered",
		},
		"drop-answer": {
			[]string{"drop-answer"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				l.silence()
				s.wantAccount(1250, 1, 0)
				l.ask(reversalOf(s.t, s.p, sale, 1), "00")
			}, 0, 1, 1, "sale booked dropped reversal reversed answered",
		},
		"close-before-booking": {
			[]string{"close-before-booking"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				l.closed()
			}, 0, 0, 0, "sale dropped",
		},
		"close-after-booking": {
			[]string{"close-after-booking@1"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				l.closed()
				s.wantAccount(1250, 1, 0)
				again := s.line()
				defer again.conn.Close()
				again.ask(reversalOf(s.t, s.p, sale, 1), "00")
			}, 0, 1, 1, "sale booked dropped reversal reversed answered",
		},
	})
}

func TestFaultsThatDelay(t *testing.T) {
	playAll(t, map[string]misdeed{
		"late-answer": {
			[]string{"late-answer=60s"},
			func(s *scene, l *terminal, sale *iso.Message) {
				start := time.Now()
				l.send(sale)
				s.wantAccount(1250, 1, 0)
				if a, err := l.answer(59 * time.Second); err == nil {
					s.t.Errorf("an early answer: %v", a)
				}
				a, err := l.answer(2 * time.Second)
				if err != nil {
					s.t.Fatal(err)
				}
				if err := s.p.Match(sale, a); err != nil {
					s.t.Error(err)
				}
				if waited := time.Since(start); waited != time.Minute {
					s.t.Errorf("answered after %v", waited)
				}
			}, 1250, 1, 0, "sale booked answered",
		},
		"late-answer, reversed meanwhile on the same line": {
			[]string{"late-answer=60s"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				l.ask(reversalOf(s.t, s.p, sale, 1), "00")
				if a, err := l.answer(2 * time.Minute); err != nil || a.MTI() != "0210" {
					s.t.Errorf("got %v, %v; want the late approval", a, err)
				}
			}, 0, 1, 1, "sale booked reversal reversed answered answered",
		},
		"late-answer, longer than a line may be idle": {
			[]string{"late-answer=59m"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				if _, err := l.answer(time.Hour); err != nil {
					s.t.Error(err)
				}
			}, 1250, 1, 0, "sale booked answered",
		},
		"late-answer, nobody there any more": {
			[]string{"late-answer=60s"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				synctest.Wait()
				_ = l.conn.Close()
			}, 1250, 1, 0, "sale booked not-delivered",
		},
	})
}

func TestFaultsOnTheAnswer(t *testing.T) {
	playAll(t, map[string]misdeed{
		"decline": {
			[]string{"decline=05@2"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.ask(sale, "00")
				a := l.ask(request(s.t, s.p, 8), "05")
				if _, there := a.Field(38); there {
					s.t.Error("a declined sale has an authorization code")
				}
				l.ask(request(s.t, s.p, 9), "00")
			}, 2500, 2, 0, "sale booked answered sale declined answered sale booked answered",
		},
		"garbage-answer": {
			[]string{"garbage-answer"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				if a, err := l.answer(time.Second); !errors.Is(err, iso.ErrUndecodable) {
					s.t.Errorf("got %v, %v; want a frame that is no message", a, err)
				}
				l.ask(reversalOf(s.t, s.p, sale, 1), "00") // the line is still good
			}, 0, 1, 1, "sale booked answered reversal reversed answered",
		},
		"wrong-stan": {
			[]string{"wrong-stan"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.send(sale)
				a, err := l.answer(time.Second)
				if err != nil {
					s.t.Fatal(err)
				}
				var at *iso.FieldError
				if err := s.p.Match(sale, a); !errors.As(err, &at) || at.Field != 11 {
					s.t.Errorf("got %v; want an answer that differs in DE 11", err)
				}
				a.Set(11, "000007")
				if err := s.p.Match(sale, a); err != nil {
					s.t.Errorf("more than DE 11 differs: %v", err)
				}
			}, 1250, 1, 0, "sale booked answered",
		},
		"no-code": {
			[]string{"no-code"},
			func(s *scene, l *terminal, sale *iso.Message) {
				a := l.ask(sale, "")
				synctest.Wait()
				if told := s.events[len(s.events)-1]; told.Code != "" {
					s.t.Errorf("the event says that the answer had code %s", told.Code)
				}
				if _, there := a.Field(39); there {
					s.t.Error("the answer has a code")
				}
			}, 1250, 1, 0, "sale booked answered",
		},
	})
}

func TestFaultsOnReversals(t *testing.T) {
	playAll(t, map[string]misdeed{
		"refuse-reversal": {
			[]string{"refuse-reversal=2:96"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.ask(sale, "00")
				l.ask(request(s.t, s.p, 8), "00")
				l.ask(reversalOf(s.t, s.p, sale, 1), "96")
				l.ask(reversalOf(s.t, s.p, request(s.t, s.p, 8), 1), "96") // counted apart
				l.ask(reversalOf(s.t, s.p, sale, 2), "96")
				s.wantAccount(2500, 2, 0)
				l.ask(reversalOf(s.t, s.p, sale, 3), "00")
			}, 1250, 2, 1, "sale booked answered sale booked answered" +
				strings.Repeat(" reversal reversal-refused answered", 3) + " reversal reversed answered",
		},
		"drop-reversal": {
			[]string{"drop-reversal@1"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.ask(sale, "00")
				l.send(reversalOf(s.t, s.p, sale, 1))
				l.silence()
				s.wantAccount(1250, 1, 0)
				l.ask(reversalOf(s.t, s.p, sale, 2), "00")
			}, 0, 1, 1, "sale booked answered reversal dropped reversal reversed answered",
		},
		"drop-reversal-answer": {
			[]string{"drop-reversal-answer@1-2"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.ask(sale, "00")
				for attempt := 1; attempt <= 2; attempt++ {
					l.send(reversalOf(s.t, s.p, sale, attempt))
					l.silence()
					s.wantAccount(0, 1, 1)
				}
				l.ask(reversalOf(s.t, s.p, sale, 3), "00")
			}, 0, 1, 1, "sale booked answered reversal reversed dropped" +
				" reversal reversal-repeated dropped reversal reversal-repeated answered",
		},
		"the first that falls on a request counts": {
			[]string{"drop-reversal@9", "decline=61@2", "decline=05", "refuse-reversal=1", "drop-reversal-answer@2"},
			func(s *scene, l *terminal, sale *iso.Message) {
				l.ask(sale, "05")
				l.ask(request(s.t, s.p, 8), "61")
				l.ask(reversalOf(s.t, s.p, sale, 1), "05")
				l.send(reversalOf(s.t, s.p, sale, 2)) // the refusal is used up
				l.silence()
			}, 0, 0, 0, "sale declined answered sale declined answered" +
				" reversal reversal-refused answered reversal not-found dropped",
		},
	})
}

// Every word of the catalogue is named by the events of the request that it falls
// on.
func TestEventsNameTheFault(t *testing.T) {
	values := map[FaultWord]string{LateAnswer: "=1s", RefuseReversal: "=1"}
	for _, row := range Faults() {
		play(t, []string{string(row.Word) + values[row.Word]}, func(s *scene, l *terminal, sale *iso.Message) {
			l.send(sale)
			_, _ = l.answer(10 * time.Second)
			if _, err := l.conn.Write(frame(t, s.p, reversalOf(t, s.p, sale, 1))); err == nil {
				_, _ = l.answer(10 * time.Second)
			}
			synctest.Wait()
			named := 0
			for _, e := range s.events {
				if e.Fault == row.Word {
					named++
				} else if e.Fault != "" {
					t.Errorf("%s: event %s names %s", row.Word, e.Kind, e.Fault)
				}
			}
			if named < 2 {
				t.Errorf("%s: %d events name it", row.Word, named)
			}
		})
	}
}

func TestSetFaults(t *testing.T) {
	play(t, []string{"decline"}, func(s *scene, l *terminal, sale *iso.Message) {
		l.ask(sale, "51")
		if err := s.host.SetFaults(Fault{Word: Decline, Code: "05", First: 2, Last: 2}); err != nil {
			t.Fatal(err)
		}
		l.ask(request(t, s.p, 8), "00") // counted from 1 again
		l.ask(request(t, s.p, 9), "05")
		for _, bad := range []Fault{{Word: "teapot"}, {Word: Decline, Code: "11"}, {Word: Decline, Code: "10"}} {
			if err := s.host.SetFaults(bad); err == nil {
				t.Errorf("%v was accepted", bad)
			}
		}
		if err := s.host.SetFaults(Fault{Word: Decline, Code: "61"}, Fault{Word: "teapot"}); err == nil {
			t.Error("a list with one bad fault was accepted")
		}
		l.ask(request(t, s.p, 10), "00") // nothing changed
		if err := s.host.SetFaults(); err != nil {
			t.Fatal(err)
		}
		s.wantAccount(2500, 2, 0)
	})
}

// An observer may change the faults and read the ledger.
func TestObserverMayCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var host *Host
		var net int64
		host, err := NewHost(Options{Profile: profile(t), Observe: func(e Event) {
			if e.Kind != KindBooked {
				return
			}
			net = host.Ledger().Snapshot()[0].NetMinor
			if err := host.SetFaults(Fault{Word: Decline, Code: "51"}); err != nil {
				t.Error(err)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		s := &scene{t: t, p: profile(t), host: host}
		s.ctx, s.stop = context.WithCancel(t.Context())
		defer s.end()
		l := s.line()
		defer l.conn.Close()
		l.ask(request(t, s.p, 7), "00")
		l.ask(request(t, s.p, 8), "51")
		if net != 1250 {
			t.Errorf("the observer saw a net of %d", net)
		}
	})
}
