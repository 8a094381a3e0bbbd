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
	"uncharge/reversal"
)

// signing keeps the terminal signed on to a host that wants MACs. The keys live
// in memory only: every start signs on anew.
type signing struct {
	keys  *iso.SoftKeys
	again chan struct{} // a new sign-on is wanted
	ended context.CancelFunc
	done  sync.WaitGroup

	mu    sync.Mutex
	batch string // as the host said it last
}

// signOnPause is the least time between two sign-ons that the host asks for.
const signOnPause = 2 * time.Second

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
	keys, err := iso.NewSoftKeys(iso.NewSecret(text))
	if err != nil {
		return nil, usage(fmt.Errorf("--master-key: %w", err))
	}
	return &signing{keys: keys, again: make(chan struct{}, 1)}, nil
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

func (s *signing) authenticator() iso.Authenticator {
	if s == nil {
		return nil
	}
	return s.keys
}

// ask wants a new sign-on; it never waits.
func (s *signing) ask() {
	if s == nil {
		return
	}
	select {
	case s.again <- struct{}{}:
	default: // one is wanted already
	}
}

func (s *signing) stop() {
	if s != nil && s.ended != nil {
		s.ended()
		s.done.Wait()
	}
}

// signOn signs the terminal on, where the profile has a MAC, and keeps it so:
// when the host asks for it again, or a MAC does not fit, it is done again.
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
	}
	ctx, d.signing.ended = context.WithCancel(context.WithoutCancel(ctx))
	d.signing.done.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.signing.again:
			}
			_ = d.signOnce(ctx, a) // told as an event when it succeeds; asked for again when not
			select {
			case <-ctx.Done():
				return
			case <-time.After(signOnPause):
			}
		}
	})
	return err
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
