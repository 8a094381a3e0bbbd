package uncharge_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
	"uncharge/simulator"
)

var (
	worldSeed  = flag.Uint64("world.seed", 0, "run this seed of the world only")
	worldCount = flag.Int("world.n", 60, "how many seeds")
)

const worldSales = 25

// TestWorld joins the two halves: the real engine and journal on one side, the
// simulated host on the other, faults and crashes between them. Then the network
// heals, the queue drains, and the oracle is asked: every card is charged
// exactly what was completed, nothing was undone twice, and what the cashier was
// told is what stands.
func TestWorld(t *testing.T) {
	first := rand.Uint64() >> 1
	seeds := *worldCount
	if *worldSeed != 0 {
		first, seeds = *worldSeed, 1
	}
	for i := range seeds {
		seed := first + uint64(i)
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWorld(t, seed).live() })
		})
		if !ok {
			t.Fatalf("repeat it: go test -run TestWorld -world.seed %d .", seed)
		}
	}
}

// world is one terminal, one host, and what stands between them.
type world struct {
	*testing.T
	chance  *rand.Rand
	profile *iso.Profile
	host    *simulator.Host
	journal *journal.Journal
	engine  *reversal.Engine
	link    *reversal.Link
	dir     string
	lives   int // incarnations of the terminal
	crash   crashPoint
	told    map[journal.ID]string // what the cashier was told

	keys   *iso.SoftKeys // nil without a MAC
	mu     sync.Mutex
	signOn bool // the engine wants a new sign-on
}

// worldProfiles are the dialects that worlds speak, drawn by their seed: with and
// without a MAC, with the reversal's own trace number and with the original's.
var worldProfiles = []string{"iso87-ascii", "unionpay", "iso93"}

// worldMaster is the key that host and terminal share, for tests.
const worldMaster = "0123456789ABCDEFFEDCBA9876543210"

var worldAcceptor = iso.Acceptor{Terminal: "TERM0001", Merchant: "MERCHANT0000001"}

// crashPoint is where the next exchange kills the terminal.
type crashPoint int

const (
	noCrash crashPoint = iota
	crashBeforeSend
	crashAfterSend // the host has worked on it, the answer is lost
	crashAfterAnswer
)

// errCrash ends an exchange of a terminal that is dead.
var errCrash = errors.New("power cut")

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{T: t, chance: rand.New(rand.NewPCG(seed, 1)), told: map[journal.ID]string{}}
	var err error
	if w.profile, err = iso.LoadProfile(worldProfiles[seed%uint64(len(worldProfiles))]); err != nil {
		t.Fatal(err)
	}
	if w.host, err = simulator.NewHost(simulator.Options{Profile: w.profile, Master: iso.NewSecret(worldMaster)}); err != nil {
		t.Fatal(err)
	}
	w.link, err = reversal.NewLink(reversal.LinkOptions{Address: "host:1", Profile: w.profile, Dial: w.dial})
	if err != nil {
		t.Fatal(err)
	}
	w.dir = filepath.Join(t.TempDir(), "life-0")
	w.start()
	return w
}

func (w *world) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if w.chance.IntN(15) == 0 {
		return nil, errors.New("no route to host")
	}
	near, far := net.Pipe()
	go w.host.ServeConn(context.Background(), far)
	return near, nil
}

// start opens the journal as it stands on disk and puts an engine on it.
func (w *world) start() {
	var err error
	w.journal, err = journal.Open(journal.Options{Dir: w.dir, DeviceKey: make([]byte, journal.KeyBytes)})
	if err != nil {
		w.Fatal(err)
	}
	o := reversal.Options{Journal: w.journal, Profile: w.profile, Exchanger: &incarnation{world: w}}
	if w.signOn = w.profile.HasMAC(); w.signOn { // keys live in memory: each life signs on anew
		if w.keys, err = iso.NewSoftKeys(iso.NewSecret(worldMaster)); err != nil {
			w.Fatal(err)
		}
		o.Authenticator = w.keys
		o.Observe = func(e reversal.Event) {
			switch e.Kind {
			case reversal.EventSignOn:
				w.wants(true)
			case reversal.EventSignedOn:
				w.wants(false)
			}
		}
	}
	if w.engine, err = reversal.New(o); err != nil {
		w.Fatal(err)
	}
}

func (w *world) wants(signOn bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signOn = signOn
}

// sign signs on when that is wanted; a line that is down is left for the next
// time.
func (w *world) sign() {
	w.mu.Lock()
	wanted := w.signOn
	w.mu.Unlock()
	if !wanted {
		return
	}
	if _, err := w.engine.SignOn(context.Background(), iso.Request{Acceptor: worldAcceptor}); err != nil && !errors.Is(err, reversal.ErrSignOn) {
		w.Fatal(err)
	}
}

// incarnation is the line of one life of the terminal. Once dead it sends
// nothing more, whatever its engine still tries.
type incarnation struct {
	*world
	dead bool
}

func (w *incarnation) Exchange(ctx context.Context, lane journal.Lane, message []byte, accept func([]byte) bool) error {
	if w.dead {
		return errCrash
	}
	crash := w.crash
	w.crash = noCrash
	if crash == noCrash {
		return w.link.Exchange(ctx, lane, message, accept)
	}
	if crash == crashAfterSend { // the answer is lost with the terminal
		_ = w.link.Exchange(ctx, lane, message, func([]byte) bool { return true })
	}
	if crash == crashAfterAnswer { // it was read, and nothing was recorded since
		_ = w.link.Exchange(ctx, lane, message, accept)
	}
	w.dead = true
	w.freeze()
	return errCrash
}

// freeze keeps the disk as it is at this moment: every step that returned is on
// it. What the dying engine still writes goes to the old directory and counts
// for nothing.
func (w *world) freeze() {
	w.lives++
	old := w.dir
	w.dir = filepath.Join(filepath.Dir(old), fmt.Sprintf("life-%d", w.lives))
	if err := os.CopyFS(w.dir, os.DirFS(old)); err != nil {
		w.Fatal(err)
	}
}

// restart gives the frozen disk to a new terminal.
func (w *world) restart() {
	_ = w.journal.Close()
	w.start()
}

var worldFaults = []string{
	"drop-request", "drop-answer", "late-answer=50s", "late-answer=3s", "close-before-booking", "close-after-booking",
	"decline=51", "garbage-answer", "wrong-stan", "no-code",
	"refuse-reversal=2", "refuse-reversal=1:91", "drop-reversal", "drop-reversal-answer",
}

var worldCards = []string{"4111111111111111", "5555555555554444", "4242424242424242"}

func (w *world) live() {
	for range worldSales {
		w.misfortune()
		w.sell()
		if w.chance.IntN(6) == 0 { // some time passes, with the engine at work
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(w.chance.IntN(120))*time.Second)
			lives := w.lives
			if w.chance.IntN(3) == 0 {
				w.crash = crashPoint(1 + w.chance.IntN(3))
			}
			err := w.engine.Run(ctx)
			cancel()
			w.crash = noCrash
			if w.lives != lives {
				w.restart()
			} else if err != nil {
				w.Fatal(err)
			}
		}
	}
	w.heal()
	w.oracle()
}

// misfortune draws the faults of the next sale.
func (w *world) misfortune() {
	var faults []simulator.Fault
	for w.chance.IntN(2) == 0 {
		f, err := simulator.ParseFault(worldFaults[w.chance.IntN(len(worldFaults))])
		if err != nil {
			w.Fatal(err)
		}
		faults = append(faults, f)
	}
	if err := w.host.SetFaults(faults...); err != nil {
		w.Fatal(err)
	}
	if w.keys != nil && w.chance.IntN(12) == 0 { // the PIN pad lost its key
		if err := w.keys.SetMACKey(iso.NewSecret(fmt.Sprintf("%032X", w.chance.Uint64()))); err != nil {
			w.Fatal(err)
		}
	}
	if w.chance.IntN(5) == 0 {
		w.crash = crashPoint(1 + w.chance.IntN(3))
	}
}

func (w *world) sell() {
	pan, err := iso.ParsePAN(worldCards[w.chance.IntN(len(worldCards))])
	if err != nil {
		w.Fatal(err)
	}
	usd, err := iso.LookupCurrency("USD")
	if err != nil {
		w.Fatal(err)
	}
	lives := w.lives
	if w.sign(); w.lives != lives {
		w.crash = noCrash
		w.restart() // it died at the sign-on
		return
	}
	sale, err := w.engine.Send(context.Background(), iso.Request{
		Type: iso.Sale, PAN: pan, Amount: iso.Amount(1 + w.chance.IntN(10_000)), Currency: usd, Acceptor: worldAcceptor,
	})
	w.crash = noCrash
	if w.lives != lives {
		w.restart() // it died: nobody was told anything
		return
	}
	var declined *reversal.DeclinedError
	var failed *reversal.FailedError
	switch {
	case err == nil:
		w.finish(sale)
	case errors.As(err, &declined):
		w.told[declined.ID] = "declined"
	case errors.As(err, &failed):
		w.told[failed.ID] = "failed"
	case !errors.Is(err, reversal.ErrNotSent) && !errors.Is(err, reversal.ErrReversalOwed):
		w.Fatalf("no result of a sale: %v", err)
	}
}

// finish is the firmware after an approval: it completes, reverses, forgets, or
// dies right after completing.
func (w *world) finish(sale *reversal.Sale) {
	switch dice := w.chance.IntN(10); {
	case dice == 0:
		w.told[sale.ID] = "failed" // forgotten: the cashier saw no approval
	case dice == 1:
		if err := sale.Reverse(iso.CardDeclined); err != nil {
			w.Fatal(err)
		}
		w.told[sale.ID] = "failed"
	default:
		if err := sale.Complete(); err != nil {
			w.Fatal(err)
		}
		w.told[sale.ID] = "approved"
		if dice == 2 {
			w.freeze()
			w.restart()
		}
	}
}

// heal mends the network and drains the queue.
func (w *world) heal() {
	if err := w.host.SetFaults(); err != nil {
		w.Fatal(err)
	}
	var err error
	for range 24 * 60 {
		w.sign()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = w.engine.Drain(ctx)
		cancel()
		if err == nil {
			return
		}
	}
	w.Fatalf("the queue did not drain in a day: %v", err)
}

func (w *world) oracle() {
	defer func() { _ = w.journal.Close() }()
	parked, err := w.journal.Parked()
	if err != nil {
		w.Fatal(err)
	}
	completed := map[string]int64{}
	for e, err := range w.journal.Entries(journal.Query{}) {
		if err != nil {
			w.Fatal(err)
		}
		if e.Status == journal.Completed {
			completed[e.Last4] += e.Charged().Minor
		}
		told, want := w.told[e.ID], map[string]journal.Status{"approved": journal.Completed, "declined": journal.Declined, "failed": journal.Reversed}
		if told != "" && want[told] != e.Status && e.Status != journal.Parked {
			w.Errorf("entry %d: the cashier was told %q, the journal says %s", e.ID, told, e.Status)
		}
	}
	if len(parked) > 0 { // a person's work; the host's word is not in yet
		w.Logf("%d parked", len(parked))
		return
	}
	if err := w.host.Ledger().Check(); err != nil {
		w.Error(err)
	}
	for _, a := range w.host.Ledger().Snapshot() {
		if a.NetMinor != completed[a.Last4] || a.UndoneMax > 1 {
			w.Errorf("card ****%s: charged %d, completed %d, undone at most %d times", a.Last4, a.NetMinor, completed[a.Last4], a.UndoneMax)
		}
	}
}
