package reversal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// What an answer's MAC decides (L5), and under which key a reversal's MAC is made
// (L6).

// Keys for tests, shared by terminal and host.
const (
	masterKey = "0123456789ABCDEFFEDCBA9876543210"
	pinKey    = "1C1C1C1C1C1C1C1C2F2F2F2F2F2F2F2F"
	key1      = "3131313131313131CDCDCDCDCDCDCDCD"
	key2      = "6D6D6D6D6D6D6D6D8C8C8C8C8C8C8C8C"
)

// macScene is a scene in a dialect with a MAC. The host holds every MAC that
// reaches it against the key that it believes the terminal to have.
type macScene struct {
	*scene
	keys      *iso.SoftKeys // the terminal's
	hostKey   string        // the MAC key that the host goes by
	mayDiffer bool          // a case about a terminal with another key
}

// macWords is how a dialect writes what the cases have in common.
type macWords struct {
	profile                      string
	approved, partial, declined  string // codes of a request
	confirmed, notFound, refused string // codes of a reversal
	badMAC                       string // the host says that our MAC is wrong
	accepted                     string // code of a sign-on
	reason                       int    // where a reversal says why
	wrongMAC                     string // what it says after a MAC that did not fit
	reversal, repeat             iso.MTI
}

var (
	unionpay = macWords{"unionpay", "00", "10", "51", "00", "25", "30", "A0", "00", 39, "A0", "0400", "0400"}
	iso93    = macWords{"iso93", "000", "002", "116", "400", "481", "904", "916", "800", 25, "4020", "1420", "1421"}
)

// playMAC sets the scene in both dialects: the terminal is signed on with key1.
func playMAC(t *testing.T, do func(t *testing.T, s *macScene, w macWords)) {
	t.Helper()
	for _, w := range []macWords{unionpay, iso93} {
		t.Run(w.profile, func(t *testing.T) { playIn(t, w.profile, func(t *testing.T, s *macScene) { do(t, s, w) }) })
	}
}

func playIn(t *testing.T, profile string, do func(t *testing.T, s *macScene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, err := iso.LoadProfile(profile)
		if err != nil {
			t.Fatal(err)
		}
		s := &scene{t: t, dir: filepath.Join(t.TempDir(), "journal"), key: deviceKey, profile: p, timers: p.Timers()}
		s.host = &host{s: s}
		m := &macScene{scene: s}
		m.boot(key1)
		t.Cleanup(func() {
			_ = s.journal.Close()
			m.checkRepeats()
		})
		do(t, m)
	})
}

// boot starts the terminal with a MAC key, or with none ("").
func (m *macScene) boot(key string) {
	m.t.Helper()
	var err error
	m.keys, err = iso.NewSoftKeys(iso.NewSecret(masterKey))
	m.must(err)
	if key != "" {
		m.must(m.keys.SetMACKey(iso.NewSecret(key)))
		m.hostKey = key
	}
	m.journal, err = journal.Open(journal.Options{Dir: m.dir, DeviceKey: m.key, FirstSTAN: 1})
	m.must(err)
	m.engine, err = New(m.options())
	m.must(err)
}

func (m *macScene) options() Options {
	return Options{
		Journal: m.journal, Profile: m.profile, Exchanger: provingHost{m}, Timers: &m.timers,
		Authenticator: m.keys, Observe: m.observe,
	}
}

// reboot is a power cut; keys live in memory.
func (m *macScene) reboot(key string) {
	m.t.Helper()
	m.must(m.journal.Close())
	m.boot(key)
}

// provingHost is the scripted host behind a check of every MAC.
type provingHost struct{ m *macScene }

func (p provingHost) Exchange(ctx context.Context, lane journal.Lane, packed []byte, accept func([]byte) bool) error {
	if msg, err := p.m.profile.Unpack(packed); err == nil && !msg.MTI().Network() && !p.m.mayDiffer && !p.m.provenBy(packed, p.m.hostKey) {
		p.m.t.Errorf("%s left with a MAC that is not made under the current key (L6)", msg.MTI())
	}
	return p.m.host.Exchange(ctx, lane, packed, accept)
}

// provenBy computes the MAC of a packed message from the published algorithm, and
// not by the code that made it.
func (m *macScene) provenBy(packed []byte, key string) bool {
	m.t.Helper()
	algorithm, size := iso.MACUnionPayECB, 8
	if strings.HasPrefix(m.profile.Name(), "iso93") {
		algorithm, size = iso.MACX919, 16
	}
	if len(packed) < size {
		return false
	}
	body, got := packed[:len(packed)-size], packed[len(packed)-size:]
	whole, err := iso.ComputeMAC(algorithm, iso.NewSecret(key), body)
	m.must(err)
	return bytes.Equal(got, []byte(strings.ToUpper(hex.EncodeToString(whole))[:size]))
}

// checkRepeats holds what the host heard against L6, whatever the case was: all
// attempts for one sale are the same message but for MTI and MAC.
func (m *macScene) checkRepeats() {
	m.t.Helper()
	first := map[string]*iso.Message{}
	for _, x := range m.host.heardReversals() {
		bare := x.message.Clone()
		bare.Remove(64)
		key := fmt.Sprint(x.lane, x.field(11), x.field(56))
		if first[key] == nil {
			first[key] = bare
		} else if diff := differences(first[key], bare); diff != "" {
			m.t.Errorf("check: an attempt is another message: %s(L6)", diff)
		}
	}
}

// sealed is an answer with the host's MAC.
func (m *macScene) sealed(x *exchanging, code string, changes ...change) []byte {
	m.t.Helper()
	plain, err := m.profile.Unpack(x.say(code, changes...))
	m.must(err)
	host, err := iso.NewSoftKeys(iso.NewSecret(masterKey))
	m.must(err)
	m.must(host.SetMACKey(iso.NewSecret(m.hostKey)))
	packed, err := m.profile.Seal(context.Background(), plain, host)
	m.must(err)
	return packed
}

// good answers with a MAC that fits.
func (m *macScene) good(code string, changes ...change) answer {
	return raw(func(x *exchanging) []byte { return m.sealed(x, code, changes...) })
}

// wrong answers with a MAC of which one digit differs.
func (m *macScene) wrong(code string, changes ...change) answer {
	return raw(func(x *exchanging) []byte {
		packed := m.sealed(x, code, changes...)
		last := &packed[len(packed)-1]
		if *last == '0' {
			*last = '1'
		} else {
			*last = '0'
		}
		return packed
	})
}

// bare answers without a MAC.
func (m *macScene) bare(code string, changes ...change) answer { return says(code, changes...) }

// signs answers a sign-on with a new MAC key, which the host goes by from then.
func (m *macScene) signs(accepted, key string, changes ...change) answer {
	wrapped, err := iso.WrapKeys(iso.NewSecret(masterKey), iso.NewSecret(pinKey), iso.NewSecret(key))
	m.must(err)
	return func(x *exchanging) error {
		m.hostKey = key
		return says(accepted, append([]change{with(62, wrapped.Reveal())}, changes...)...)(x)
	}
}

func (m *macScene) signOn() (SignedOn, error) {
	return m.engine.SignOn(context.Background(), iso.Request{Acceptor: m.request(lane1).Acceptor})
}

func TestAProfileWithAMACNeedsAnAuthenticator(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		o := s.options()
		o.Authenticator = nil
		if e, err := New(o); e != nil || err == nil || !strings.Contains(err.Error(), "authenticator") {
			t.Errorf("New gave %v, %v", e, err)
		}
	})
}

// The four ways in which an answer can be none are told apart.
func TestL5WrongMACIsAResultOfItsOwn(t *testing.T) {
	type want struct {
		cause         iso.Cause
		is            error
		signOn, stray int
	}
	kinds := []error{iso.ErrWrongMAC, iso.ErrNoMAC, iso.ErrNoKey, ErrNoAnswer}
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		for _, c := range []struct {
			name   string
			answer answer
			want   want
		}{
			{"wrong MAC", s.wrong(w.approved), want{iso.WrongMAC, iso.ErrWrongMAC, 1, 0}},
			{"no MAC", s.bare(w.approved), want{iso.WrongMAC, iso.ErrNoMAC, 1, 0}},
			{"unmatched", s.good(w.approved, with(11, "990099")), want{iso.NoAnswer, ErrNoAnswer, 0, 1}},
			{"unmatched, wrong MAC", s.wrong(w.approved, with(41, "TERM0009")), want{iso.NoAnswer, ErrNoAnswer, 0, 1}},
			{"undecodable", rubbish, want{iso.Undecodable, ErrNoAnswer, 0, 0}},
		} {
			s.events = nil
			s.host.onSale(c.answer)
			_, err := s.send(lane1)
			id := s.failedWith(err, c.want.cause)
			for _, kind := range kinds {
				if errors.Is(err, kind) != (kind == c.want.is) {
					t.Errorf("%s: %q wraps %q: %v", c.name, err, kind, errors.Is(err, kind))
				}
			}
			if on, stray := len(s.eventsOf(EventSignOn)), len(s.eventsOf(EventStray)); on != c.want.signOn || stray != c.want.stray {
				t.Errorf("%s: %d sign-on events, %d strays", c.name, on, stray)
			}
			s.wantStatus(id, journal.Owed)
			s.host.toEveryReversal(s.good(w.confirmed))
			s.drain()
		}
	})
}

func TestL5ApprovalWithoutAGoodMACIsReversedAndNeverCompletes(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		s.host.toEveryReversal(s.good(w.confirmed))
		for name, a := range map[string]answer{
			"wrong MAC":          s.wrong(w.approved),
			"no MAC":             s.bare(w.approved),
			"partial, wrong MAC": s.wrong(w.partial, with(4, "000000000500")),
			"partial, no MAC":    s.bare(w.partial, with(4, "000000000500")),
		} {
			s.host.onSale(a)
			sale, err := s.send(lane1)
			id := s.failedWith(err, iso.WrongMAC)
			if sale != nil || len(s.eventsOf(EventApproved)) != 0 {
				t.Errorf("%s: a sale came back, or was told approved", name)
			}
			e := s.onDisk(id)
			if e.Status != journal.Owed || e.Cause != string(iso.WrongMAC) || e.AuthCode != "" || e.ApprovedMinor != 0 {
				t.Errorf("%s: on disk %+v; what it said is not the host's word", name, e)
			}
			if err := s.journal.Complete(id, journal.Answer{Code: w.approved}); !errors.Is(err, journal.ErrMove) {
				t.Errorf("%s: completing it gave %v", name, err)
			}
			heard := len(s.host.heardReversals())
			s.reboot(key1) // the reason is durable
			s.drain()
			s.wantStatus(id, journal.Reversed)
			if x := s.host.reversal(heard + 1); x.field(w.reason) != w.wrongMAC || x.field(4) != "000000001250" {
				t.Errorf("%s: reversed with reason %s for %s, want %s for the whole", name, x.field(w.reason), x.field(4), w.wrongMAC)
			}
		}
	})
}

func TestL5DeclineWithAWrongMACIsInDoubt(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		s.host.onSale(s.wrong(w.declined, without(38)))
		_, err := s.send(lane1)
		id := s.failedWith(err, iso.WrongMAC)
		s.host.toEveryReversal(s.good(w.confirmed))
		s.drain()
		s.wantStatus(id, journal.Reversed)
		if x := s.host.reversal(1); x.field(w.reason) != w.wrongMAC {
			t.Errorf("reversed with reason %s, want %s", x.field(w.reason), w.wrongMAC)
		}
	})
}

// declinesNeed is a dialect in which a decline needs a MAC, "yes", or does not, "no".
func declinesNeed(t *testing.T, base, needed string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "own.json")
	text := fmt.Sprintf(`{"schema":1,"name":"%s-own","base":"%s","mac":{"needed":{"decline":"%s"}}}`, base, base, needed)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDeclineWithoutAMACIsDeclinedWhereNoneIsNeeded(t *testing.T) {
	for _, w := range []macWords{unionpay, iso93} {
		playIn(t, declinesNeed(t, w.profile, "no"), func(t *testing.T, s *macScene) {
			for name, a := range map[string]answer{"no MAC": s.bare(w.declined, without(38)), "good MAC": s.good(w.declined, without(38))} {
				s.host.onSale(a)
				_, err := s.send(lane1)
				var declined *DeclinedError
				if !errors.As(err, &declined) || declined.Code != w.declined {
					t.Fatalf("%s: %v", name, err)
				}
				oneOf(t, err, ErrDeclined)
				s.wantStatus(declined.ID, journal.Declined)
			}
			s.must(s.runFor(time.Hour))
			if len(s.host.heardReversals()) != 0 || len(s.eventsOf(EventSignOn)) != 0 {
				t.Error("a declined sale was reversed, or a sign-on asked for")
			}
			s.host.onSale(s.wrong(w.declined, without(38))) // one that is there must fit all the same
			_, err := s.send(lane1)
			s.failedWith(err, iso.WrongMAC)
			s.host.toEveryReversal(s.good(w.confirmed))
			s.drain()
		})
	}
}

func TestL5DeclineWithoutAMACIsInDoubtWhereOneIsNeeded(t *testing.T) {
	for _, w := range []macWords{unionpay, iso93} {
		playIn(t, declinesNeed(t, w.profile, "yes"), func(t *testing.T, s *macScene) {
			s.host.onSale(s.bare(w.declined, without(38)), s.good(w.declined, without(38)))
			_, err := s.send(lane1)
			id := s.failedWith(err, iso.WrongMAC)
			s.host.toEveryReversal(s.good(w.confirmed))
			s.drain()
			s.wantStatus(id, journal.Reversed)
			if x := s.host.reversal(1); x.field(w.reason) != w.wrongMAC {
				t.Errorf("reversed with reason %s, want %s", x.field(w.reason), w.wrongMAC)
			}
			_, err = s.send(lane1)
			oneOf(t, err, ErrDeclined)
		})
	}
}

// A word about a reversal that nobody proves is no word: it goes on, unchanged
// and uncounted as a refusal, until a proven one comes.
func TestL5ReversalIsNotConfirmedWithoutAGoodMAC(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		for name, bad := range map[string]answer{
			"confirmed, wrong MAC": s.wrong(w.confirmed), "confirmed, no MAC": s.bare(w.confirmed),
			"not found, wrong MAC": s.wrong(w.notFound), "not found, no MAC": s.bare(w.notFound),
			"refused, wrong MAC": s.wrong(w.refused),
		} {
			s.events = nil
			heard := len(s.host.heardReversals())
			id := s.fail(lane1)
			s.wait(s.timers.OvertakenWindow) // "not found" would count by now
			n := 2 * s.timers.RefusalsMax
			s.host.onReversal(repeated(n, bad)...)
			s.host.onReversal(func(x *exchanging) error {
				if e := s.onDisk(id); e.Status != journal.Owed || e.Attempts != n+1 || e.Refusals != 0 {
					t.Errorf("%s: before the proven word the disk said %s, %d attempts, %d refusals", name, e.Status, e.Attempts, e.Refusals)
				}
				return s.good(w.confirmed)(x)
			})
			s.drain()
			e := s.wantStatus(id, journal.Reversed)
			if e.Attempts != n+1 || e.Cause != string(iso.NoAnswer) || e.LastCode != w.confirmed {
				t.Errorf("%s: %d attempts, cause %s, code %s", name, e.Attempts, e.Cause, e.LastCode)
			}
			list := s.host.heardReversals()[heard:]
			if len(list) != n+1 || len(s.eventsOf(EventConfirmed)) != 1 || len(s.eventsOf(EventSignOn)) != n {
				t.Errorf("%s: %d left, %d confirmed, %d sign-on events", name, len(list), len(s.eventsOf(EventConfirmed)), len(s.eventsOf(EventSignOn)))
			}
			for i, x := range list { // that they are the same message is checked at the end
				if want := map[bool]iso.MTI{true: w.reversal, false: w.repeat}[i == 0]; x.mti != want {
					t.Errorf("%s: attempt %d went as %s, want %s (L6)", name, i+1, x.mti, want)
				}
			}
		}
	})
}

func TestL6EveryAttemptHasAMACUnderTheCurrentKey(t *testing.T) {
	playMAC(t, func(t *testing.T, s *macScene, w macWords) {
		id := s.fail(lane1)
		s.host.onReversal(silence, silence, silence, s.good(w.confirmed))
		short := s.timers.AnswerWithin / 2 // one attempt
		s.must(s.runFor(short))
		s.host.onSale(s.signs(w.accepted, key2)) // in one life
		if _, err := s.signOn(); err != nil {
			t.Fatal(err)
		}
		s.must(s.runFor(short))
		s.reboot(key1) // and over a restart
		s.must(s.runFor(short))
		s.drain()
		s.wantStatus(id, journal.Reversed)
		list := s.host.heardReversals()
		if len(list) != 4 {
			t.Fatalf("%d reversals left", len(list))
		}
		for i, key := range []string{key1, key2, key1, key1} {
			x := list[i]
			other := map[string]string{key1: key2, key2: key1}[key]
			if !s.provenBy(x.packed, key) || s.provenBy(x.packed, other) {
				t.Errorf("attempt %d is not made under the key of its moment", i+1)
			}
			bare, first := x.message.Clone(), list[0].message.Clone()
			bare.Remove(64)
			first.Remove(64)
			if diff := differences(first, bare); diff != "" {
				t.Errorf("attempt %d differs in %s", i+1, diff)
			}
		}
		if a, b := list[0].field(64), list[1].field(64); a == b {
			t.Error("the MAC did not change with the key")
		}
	})
}
