package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
)

// signing keeps the terminals of a device signed on to a host that wants MACs,
// each with keys of its own. The keys live in memory only: every start signs on
// anew.
type signing struct {
	master iso.Secret
	again  chan journal.Lane // lanes that want a new sign-on
	ended  context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	keys  map[journal.Lane]*iso.SoftKeys
	batch string // as the host said it last
}

const (
	signOnPause = 2 * time.Second // the least time between two sign-ons that the host asks for
	signOnsMax  = 64              // lanes that may wait for one; the others ask again
)

// newSigning reads the master key where the profile has a MAC.
func (f *flags) newSigning(p *iso.Profile) (*signing, error) {
	if !p.HasMAC() {
		return nil, nil
	}
	if f.masterKey == "" {
		return nil, usage(fmt.Errorf("--master-key: profile %s has a MAC; name the file with the terminal's master key", p.Name()))
	}
	text, err := readSecretFile(f.masterKey)
	if err != nil {
		return nil, usage(fmt.Errorf("--master-key: %w", err))
	}
	master := iso.NewSecret(text)
	if _, err := iso.NewSoftKeys(master); err != nil {
		return nil, usage(fmt.Errorf("--master-key: %w", err))
	}
	return &signing{master: master, again: make(chan journal.Lane, signOnsMax), keys: map[journal.Lane]*iso.SoftKeys{}}, nil
}

// of returns the keys of a lane, without a MAC key before its first sign-on.
func (s *signing) of(lane journal.Lane) iso.Authenticator {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[lane] == nil {
		s.keys[lane], _ = iso.NewSoftKeys(s.master) // the master key was tried at the start
	}
	return s.keys[lane]
}

// authenticators is nil where the profile has no MAC.
func (s *signing) authenticators() func(journal.Lane) iso.Authenticator {
	if s == nil {
		return nil
	}
	return s.of
}

// readSecretFile reads a small text file that nobody else may read.
func readSecretFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others; run: chmod 600 %s", path, path)
	}
	if info.Size() > 1024 {
		return "", fmt.Errorf("%s holds more than a key", path)
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// ask wants a new sign-on of a lane; it never waits.
func (s *signing) ask(lane journal.Lane) {
	if s == nil {
		return
	}
	select {
	case s.again <- lane:
	default: // enough are waiting; the engine asks again
	}
}

func (s *signing) stop() {
	if s != nil && s.ended != nil {
		s.ended()
		s.done.Wait()
	}
}

// signOn signs the terminal on, where the profile has a MAC, and keeps it and the
// other lanes of the journal so: when the engine or the host asks for it.
func (d *device) signOn(ctx context.Context, a iso.Acceptor, stdout io.Writer) error {
	if d.signing == nil {
		return nil
	}
	err := d.signOnce(ctx, a)
	if err == nil {
		batch := ""
		if b := d.currentBatch(); b != "" {
			batch = "  batch " + b
		}
		_, _ = fmt.Fprintf(stdout, "SIGNED ON terminal %s%s\n", a.Terminal, batch)
	} else {
		d.signing.ask(laneOf(a))
	}
	ctx, d.signing.ended = context.WithCancel(context.WithoutCancel(ctx))
	d.signing.done.Go(func() { d.keepSignedOn(ctx) })
	return err
}

// keepSignedOn does one sign-on after another, those that were asked for while one
// was under way once.
func (d *device) keepSignedOn(ctx context.Context) {
	for {
		wanted := map[journal.Lane]bool{}
		select {
		case <-ctx.Done():
			return
		case lane := <-d.signing.again:
			wanted[lane] = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(signOnPause):
		}
		for more := true; more; {
			select {
			case lane := <-d.signing.again:
				wanted[lane] = true
			default:
				more = false
			}
		}
		for lane := range wanted {
			if d.signOnce(ctx, iso.Acceptor{Terminal: lane.Terminal, Merchant: lane.Merchant}) != nil {
				d.signing.ask(lane)
			}
		}
	}
}

func (d *device) signOnce(ctx context.Context, a iso.Acceptor) error {
	on, err := d.engine.SignOn(ctx, iso.Request{Acceptor: a, Currency: d.currency, Operator: "001"})
	if err != nil {
		return err
	}
	d.signing.mu.Lock()
	defer d.signing.mu.Unlock()
	d.signing.batch = on.Batch
	return nil
}

func laneOf(a iso.Acceptor) journal.Lane {
	return journal.Lane{Terminal: strings.TrimRight(a.Terminal, " "), Merchant: strings.TrimRight(a.Merchant, " ")}
}

// currentBatch is the batch of the next sale, "" where there are none.
func (d *device) currentBatch() string {
	if d.signing == nil {
		return ""
	}
	d.signing.mu.Lock()
	defer d.signing.mu.Unlock()
	return d.signing.batch
}

// unsigned reports whether a sign-on failed in a way that leaves a sale unsent.
func unsigned(err error) bool { return errors.Is(err, reversal.ErrSignOn) }
