package reversal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// The scene most tests play in: one journal in a directory of its own, one
// engine, one scripted host behind the Exchanger port, two lanes, virtual time.

// Test cards come from published test ranges only.
const (
	visaTest   = "4111111111111111"
	masterTest = "5555555555554444"
	visaOther  = "4242424242424242"
)

var (
	deviceKey = slices.Repeat([]byte{0x5a}, journal.KeyBytes)
	otherKey  = slices.Repeat([]byte{0xa5}, journal.KeyBytes)
	lane1     = journal.Lane{Terminal: "TERM0001", Merchant: "MERCHANT0000001"}
	lane2     = journal.Lane{Terminal: "TERM0002", Merchant: "MERCHANT0000001"}
)

type scene struct {
	t       testing.TB
	dir     string
	key     []byte
	profile *iso.Profile
	timers  iso.Timers
	host    *host
	journal *journal.Journal
	engine  *Engine

	mu     sync.Mutex
	events []Event
}

// play sets the scene in a bubble of virtual time. When the case is over the
// journal is closed and held against what the host heard.
func play(t *testing.T, do func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { do(t, newScene(t)) })
}

func newScene(t testing.TB) *scene {
	t.Helper()
	profile, err := iso.LoadProfile("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, dir: filepath.Join(t.TempDir(), "journal"), key: deviceKey, profile: profile, timers: profile.Timers()}
	s.host = &host{s: s}
	s.open()
	t.Cleanup(func() {
		_ = s.journal.Close()
		s.check()
	})
	return s
}

// open opens the journal and makes a new engine over it, as firmware does when
// it starts.
func (s *scene) open() {
	s.t.Helper()
	j, err := journal.Open(journal.Options{Dir: s.dir, DeviceKey: s.key, FirstSTAN: 1})
	if err != nil {
		s.t.Fatalf("open: %v", err)
	}
	s.journal = j
	s.engine = s.newEngine(s.host)
}

func (s *scene) newEngine(x Exchanger) *Engine {
	s.t.Helper()
	e, err := New(Options{Journal: s.journal, Profile: s.profile, Exchanger: x, Timers: &s.timers, Observe: s.observe})
	if err != nil {
		s.t.Fatalf("new engine: %v", err)
	}
	return e
}

// restart is a power cut: whatever was in memory is gone.
func (s *scene) restart() {
	s.t.Helper()
	if err := s.journal.Close(); err != nil {
		s.t.Fatalf("close: %v", err)
	}
	s.open()
}

func (s *scene) observe(ev Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, ev)
}

func (s *scene) eventsOf(kind EventKind) (list []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ev := range s.events {
		if ev.Kind == kind {
			list = append(list, ev)
		}
	}
	return list
}

// request is a sale of 12.50 USD.
func (s *scene) request(lane journal.Lane) iso.Request {
	s.t.Helper()
	pan, err := iso.ParsePAN(visaTest)
	if err != nil {
		s.t.Fatal(err)
	}
	usd, err := iso.LookupCurrency("USD")
	if err != nil {
		s.t.Fatal(err)
	}
	return iso.Request{
		Type: iso.Sale, PAN: pan, Expiry: iso.NewSecret("2912"), Amount: 1250, Currency: usd,
		Acceptor: iso.Acceptor{Terminal: lane.Terminal, Merchant: lane.Merchant, Acquirer: "123456"},
	}
}

func (s *scene) send(lane journal.Lane) (*Sale, error) {
	s.t.Helper()
	return s.engine.Send(context.Background(), s.request(lane))
}

// sell is a sale that the host approves.
func (s *scene) sell(lane journal.Lane) *Sale {
	s.t.Helper()
	sale, err := s.send(lane)
	if err != nil {
		s.t.Fatalf("the sale should have been approved: %v", err)
	}
	return sale
}

// fail is a sale that ends in doubt because the host is silent.
func (s *scene) fail(lane journal.Lane) journal.ID {
	s.t.Helper()
	s.host.onSale(silence)
	_, err := s.send(lane)
	return s.failedWith(err, iso.NoAnswer)
}

// failedWith expects "failed and being reversed" with a cause.
func (s *scene) failedWith(err error, cause iso.Cause) journal.ID {
	s.t.Helper()
	var failed *FailedError
	if !errors.As(err, &failed) || !errors.Is(err, ErrFailed) {
		s.t.Fatalf("got %v, want ErrFailed", err)
	}
	oneOf(s.t, err, ErrFailed)
	if failed.Cause != cause {
		s.t.Errorf("the cause is %q, want %q", failed.Cause, cause)
	}
	return failed.ID
}

// oneOf expects an error of Send to wrap exactly one of the four answers.
func oneOf(t testing.TB, err, want error) {
	t.Helper()
	for _, kind := range []error{ErrDeclined, ErrNotSent, ErrFailed, ErrReversalOwed} {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("error %q: wraps %q: %v; want only %q", err, kind, errors.Is(err, kind), want)
		}
	}
}

// planted makes an owed entry as an earlier life of the terminal left it.
func (s *scene) planted(lane journal.Lane) journal.ID {
	s.t.Helper()
	id := s.plantedArmed(lane)
	s.must(s.journal.Owe(id, string(iso.LineLost), journal.Answer{}))
	return id
}

func (s *scene) plantedArmed(lane journal.Lane) journal.ID {
	s.t.Helper()
	r := s.request(lane)
	r.At = time.Now()
	stan, err := s.journal.NextSTAN(lane)
	s.must(err)
	r.STAN = iso.STAN(stan)
	m, err := s.profile.Build(r)
	s.must(err)
	img, err := s.profile.ImageOf(m)
	s.must(err)
	kept, err := img.Bytes()
	s.must(err)
	return s.plantedImage(lane, stan, kept)
}

func (s *scene) plantedImage(lane journal.Lane, stan uint32, image []byte) journal.ID {
	s.t.Helper()
	id, err := s.journal.Begin(journal.Draft{
		Lane: lane, STAN: stan, Type: "sale", MTI: "0200", Last4: "1111",
		Amount: journal.Money{Minor: 1250, Currency: "USD", Exponent: 2}, Image: image,
	})
	s.must(err)
	return id
}

// damage spoils an entry's record in the store and opens the journal again.
func (s *scene) damage(id journal.ID) {
	s.t.Helper()
	e, err := s.journal.Entry(id)
	s.must(err)
	s.must(s.journal.Compact()) // into the store
	s.must(s.journal.Close())
	path := filepath.Join(s.dir, "journal.db")
	b, err := os.ReadFile(path)
	s.must(err)
	// The record's fields 3 and 4, as journal/FORMAT.md has them.
	is := append([]byte(e.Lane.Merchant+"\x20"), binary.AppendUvarint(nil, uint64(e.STAN))...)
	is = append([]byte(e.Lane.Terminal+"\x1a"+string(rune(len(e.Lane.Merchant)))), is...)
	spoilt := bytes.Clone(is)
	spoilt[0]++
	s.must(os.WriteFile(path, bytes.ReplaceAll(b, is, spoilt), 0o600))
	s.open()
	if _, err := s.journal.Entry(id); !errors.Is(err, journal.ErrDamaged) {
		s.t.Fatalf("scene: the record is not damaged: %v", err)
	}
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("scene: %v", err)
	}
}

func (s *scene) entry(id journal.ID) journal.Entry {
	s.t.Helper()
	e, err := s.journal.Entry(id)
	if err != nil {
		s.t.Fatalf("entry %d: %v", id, err)
	}
	return e
}

func (s *scene) wantStatus(id journal.ID, want journal.Status) journal.Entry {
	s.t.Helper()
	e := s.entry(id)
	if e.Status != want {
		s.t.Errorf("entry %d is %s, want %s", id, e.Status, want)
	}
	return e
}

// entries counts all there are.
func (s *scene) entries() int {
	s.t.Helper()
	n := 0
	for _, err := range s.journal.Entries(journal.Query{}) {
		s.must(err)
		n++
	}
	return n
}

// onDisk is what the journal's file says of an entry at this moment, read from a
// copy: what the next life of the terminal would find.
func (s *scene) onDisk(id journal.ID) journal.Entry {
	s.t.Helper()
	dir := s.t.TempDir()
	s.must(os.CopyFS(dir, os.DirFS(s.dir)))
	snap, err := journal.Inspect(dir, time.Second)
	s.must(err)
	defer func() { _ = snap.Close() }()
	e, err := snap.Entry(id)
	s.must(err)
	return e
}

// run starts Run and returns the function that ends it and gives its result.
func (s *scene) run() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	engine := s.engine
	go func() { done <- engine.Run(ctx) }()
	synctest.Wait() // Run has looked at the journal once and waits
	return func() error { cancel(); return <-done }
}

// runFor is Run for a while: nil, or the error that ended it before.
func (s *scene) runFor(d time.Duration) error {
	ctx, cancel := timeout(d)
	defer cancel()
	return s.engine.Run(ctx)
}

// wait lets virtual time pass.
func (s *scene) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// drain lets the engine settle everything.
func (s *scene) drain() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	if err := s.engine.Drain(ctx); err != nil {
		s.t.Fatalf("drain: %v", err)
	}
}

// spoil makes every further write to the journal's file fail: its descriptor is
// replaced by a read-only one.
func (s *scene) spoil() {
	s.t.Helper()
	path, err := filepath.EvalSymlinks(filepath.Join(s.dir, "journal.wal.000001"))
	s.must(err)
	readOnly, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	s.must(err)
	defer func() { _ = syscall.Close(readOnly) }()
	found := false
	list, err := os.ReadDir("/proc/self/fd")
	s.must(err)
	for _, f := range list {
		if target, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && target == path && f.Name() != fmt.Sprint(readOnly) {
			var fd int
			_, err := fmt.Sscan(f.Name(), &fd)
			s.must(err)
			s.must(syscall.Dup3(readOnly, fd, syscall.O_CLOEXEC))
			found = true
		}
	}
	if !found {
		s.t.Fatal("scene: the journal's file is not open")
	}
}

// check holds the closed journal against what the host heard, whatever the case
// was: no sale twice, no reversal of what stands or never counted, every repeat
// the same message but for its MTI.
func (s *scene) check() {
	s.t.Helper()
	snap, err := journal.Inspect(s.dir, time.Second)
	if err != nil {
		s.t.Errorf("check: %v", err)
		return
	}
	defer func() { _ = snap.Close() }()
	sales, reversals := map[string]int{}, map[string][]heard{}
	for _, h := range s.host.all() {
		if h.mti.Reversal() {
			reversals[h.original()] = append(reversals[h.original()], h)
		} else if sales[h.original()]++; sales[h.original()] > 1 {
			s.t.Errorf("check: sale %s was sent %d times (L16)", h.original(), sales[h.original()])
		}
	}
	for e, err := range snap.Entries(journal.Query{}) {
		if err != nil {
			s.t.Logf("check: %v", err) // a case about damage
			continue
		}
		for key, list := range reversals {
			if list[0].entry.ID == e.ID {
				s.checkReversals(e, list)
				delete(reversals, key)
			}
		}
	}
	for key := range reversals {
		s.t.Errorf("check: a reversal of %s left, and no entry asks for it", key)
	}
}

func (s *scene) checkReversals(e journal.Entry, list []heard) {
	s.t.Helper()
	if e.Status != journal.Owed && e.Status != journal.Reversed && e.Status != journal.Parked {
		s.t.Errorf("check: %d reversals left for entry %d, which is %s (L3, L16)", len(list), e.ID, e.Status)
	}
	if len(list) > e.Attempts {
		s.t.Errorf("check: %d reversals left for entry %d, %d were counted (L6)", len(list), e.ID, e.Attempts)
	}
	for i, h := range list {
		if h.entry.Status != journal.Owed || h.entry.Attempts < i+1 {
			s.t.Errorf("check: when reversal %d of entry %d left the journal said %s, %d attempts (L6)", i+1, e.ID, h.entry.Status, h.entry.Attempts)
		}
		if want := map[bool]iso.MTI{true: "0400", false: "0401"}[h.entry.Attempts == 1]; h.mti != want {
			s.t.Errorf("check: attempt %d of entry %d went as %s, want %s (L6)", h.entry.Attempts, e.ID, h.mti, want)
		}
		if diff := differences(list[0].message, h.message); diff != "" {
			s.t.Errorf("check: attempt %d of entry %d is another message: %s (L6)", i+1, e.ID, diff)
		}
	}
}

// differences names the data elements that differ, the MTI aside.
func differences(a, b *iso.Message) (diff string) {
	for _, de := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.Fields(), b.Fields())))) {
		va, ina := a.Field(de)
		vb, inb := b.Field(de)
		if va != vb || ina != inb {
			diff += fmt.Sprintf("DE %d ", de)
		}
	}
	return diff
}

func timeout(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
