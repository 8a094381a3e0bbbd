package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"uncharge/iso"
	"uncharge/journal"
	"uncharge/reversal"
)

// flags are those that every command has.
type flags struct {
	host, profile, journalDir, keyFile string
	terminal, merchant, currency       string
	tlsCA, logLevel, haltAt, masterKey string
	answerWithin, settleWithin         time.Duration
	overtaken, lockWait                time.Duration
}

func (f *flags) register(root *cobra.Command) {
	set := root.PersistentFlags()
	set.StringVar(&f.host, "host", "127.0.0.1:8583", "host to send to, `ADDRESS:PORT`")
	set.StringVar(&f.profile, "profile", "iso87-ascii", "how the host speaks, by `NAME` or profile file: "+strings.Join(iso.ProfileNames(), ", "))
	set.StringVar(&f.masterKey, "master-key", "", "`FILE` with the terminal's master key, 32 hex digits; a profile with a MAC needs it")
	set.StringVar(&f.journalDir, "journal", "journal", "journal `DIR`, made if it is not there")
	set.StringVar(&f.keyFile, "key", "", "device key `FILE`, made with a new journal (default: the journal's name and .key)")
	set.StringVar(&f.terminal, "tid", "TERM0001", "terminal `ID` (DE 41)")
	set.StringVar(&f.merchant, "mid", "MERCHANT0000001", "merchant `ID` (DE 42)")
	set.StringVar(&f.currency, "currency", "USD", "ISO 4217 `CODE` of the currency")
	set.StringVar(&f.tlsCA, "tls-ca", "", "use TLS and trust the certificates in this PEM `FILE`")
	set.StringVar(&f.logLevel, "log-level", "warn", "log to standard error from this `LEVEL`: debug, info, warn, error")
	set.DurationVar(&f.answerWithin, "answer-within", 0, "wait this `TIME`, such as 30s, for an answer (0: the profile's)")
	set.DurationVar(&f.settleWithin, "settle-within", 0, "a sale may wait this `TIME` for what is owed before it is refused (0: the profile's)")
	set.DurationVar(&f.overtaken, "overtaken-window", 0, "for this `TIME` after a sale \"original not found\" may mean that the reversal overtook it (0: the profile's)")
	set.DurationVar(&f.lockWait, "lock-wait", journal.LockWaitDefault, "wait this `TIME` for another process to let go of the journal")
	set.StringVar(&f.haltAt, "halt-at", "", "for tests: stop for ever at `STEP`, to be ended there by SIGKILL: "+strings.Join(haltSteps, ", "))
}

// checkTimes refuses what is no length of time to wait.
func (f *flags) checkTimes() error {
	return notNegative(map[string]time.Duration{
		"--answer-within": f.answerWithin, "--settle-within": f.settleWithin,
		"--overtaken-window": f.overtaken, "--lock-wait": f.lockWait,
	})
}

func notNegative(times map[string]time.Duration) error {
	for name, t := range times {
		if t < 0 {
			return usage(fmt.Errorf("%s: a time to wait cannot be negative", name))
		}
	}
	return nil
}

// device is an opened terminal.
type device struct {
	journal  *journal.Journal
	profile  *iso.Profile
	engine   *reversal.Engine
	currency iso.Currency
	halt     halter
	signing  *signing // nil without a MAC
}

// open opens everything in the order in which it can be refused: what is wrong
// with the flags is said before anything is made on disk.
func (f *flags) open(stderr io.Writer) (*device, error) {
	level, err := zerolog.ParseLevel(f.logLevel)
	if err != nil || f.logLevel == "" {
		return nil, usage(fmt.Errorf("--log-level: %q is not a level; use debug, info, warn or error", f.logLevel))
	}
	d := &device{halt: halter{f.haltAt, stderr}}
	if err := errors.Join(d.halt.check(), f.checkTimes()); err != nil {
		return nil, err
	}
	if d.profile, d.currency, err = f.dialect(); err != nil {
		return nil, err
	}
	timers := d.profile.Timers()
	if f.answerWithin > 0 {
		timers.AnswerWithin = f.answerWithin
	}
	if f.settleWithin > 0 {
		timers.SettleWithin = f.settleWithin
	}
	if f.overtaken > 0 {
		timers.OvertakenWindow = f.overtaken
	}
	if d.signing, err = f.newSigning(d.profile); err != nil {
		return nil, err
	}
	link, err := f.link(d, timers)
	if err != nil {
		return nil, err
	}
	keys, err := f.deviceKeys()
	if err != nil {
		return nil, err
	}
	log := zerolog.New(stderr).Level(level).With().Timestamp().Logger()
	if d.journal, err = f.openJournal(keys, log); err != nil {
		return nil, err
	}
	d.engine, err = reversal.New(reversal.Options{
		Journal: d.journal, Profile: d.profile, Exchanger: haltingExchanger{link, d.profile, d.halt},
		Timers: &timers, Authenticators: d.signing.authenticators(),
		Observe: func(e reversal.Event) {
			logEvent(log, e)
			if e.Kind == reversal.EventSignOn {
				d.signing.ask(e.Lane)
			}
		},
	})
	if err != nil {
		_ = d.journal.Close()
		return nil, err
	}
	return d, nil
}

// openJournal opens the journal that this terminal was given, and remembers which
// one it is: a journal that is gone is not replaced by an empty one (L13).
func (f *flags) openJournal(keys journal.KeySource, log zerolog.Logger) (*journal.Journal, error) {
	path, err := f.idPath()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journal id: %w", err)
	}
	known := strings.TrimSpace(string(text))
	j, err := journal.Open(journal.Options{
		Dir: f.journalDir, Keys: keys, LockWait: f.lockWait, Expect: known,
		Notice: func(n journal.Notice) { log.Warn().Str("notice", string(n.Kind)).Msg(n.Text) },
	})
	if err == nil && known == "" {
		if err = durably(path, j.ID()+"\n"); err != nil {
			_ = j.Close()
			return nil, fmt.Errorf("journal id: %w", err)
		}
	}
	if errors.Is(err, journal.ErrMissing) || errors.Is(err, journal.ErrCopied) {
		return nil, fmt.Errorf("%w; put it back, or remove %s to go on with what is there (nothing was changed)", err, path)
	}
	return j, err
}

// dialect is how the host speaks and in which currency.
func (f *flags) dialect() (*iso.Profile, iso.Currency, error) {
	profile, err := iso.LoadProfile(f.profile)
	if err != nil {
		return nil, iso.Currency{}, fmt.Errorf("--profile: %w", err)
	}
	currency, err := iso.LookupCurrency(f.currency)
	if err != nil {
		return nil, currency, fmt.Errorf("--currency: %w", err)
	}
	return profile, currency, nil
}

func (d *device) close() {
	d.signing.stop()
	_ = d.journal.Close()
}

func (f *flags) acceptor() iso.Acceptor {
	return iso.Acceptor{Terminal: f.terminal, Merchant: f.merchant}
}

func (f *flags) link(d *device, t iso.Timers) (*reversal.Link, error) {
	o := reversal.LinkOptions{
		Address: f.host, Profile: d.profile, AnswerWithin: t.AnswerWithin, Dial: haltingDialer{d.profile, d.halt}.dial,
		HostAsks: func(request string) {
			if request == "sign-on" {
				d.signing.ask(laneOf(f.acceptor()))
			}
		},
	}
	if f.tlsCA != "" {
		pem, err := os.ReadFile(f.tlsCA)
		if err != nil {
			return nil, usage(fmt.Errorf("--tls-ca: %w", err))
		}
		o.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usage(fmt.Errorf("--tls-ca: %s has no certificate in PEM form", f.tlsCA))
		}
	}
	link, err := reversal.NewLink(o)
	if err != nil {
		return nil, usage(fmt.Errorf("--host: %w", err))
	}
	return link, nil
}

// logEvent writes one event as a structured line. Events hold no card data.
func logEvent(log zerolog.Logger, e reversal.Event) {
	level := zerolog.InfoLevel
	if e.Kind == reversal.EventParked || e.Kind == reversal.EventRefused || e.Kind == reversal.EventDamaged {
		level = zerolog.WarnLevel
	}
	line := log.WithLevel(level)
	if e.ID != 0 {
		line = line.Uint64("entry", uint64(e.ID)).Str("terminal", e.Lane.Terminal)
	}
	if e.Attempt > 0 {
		line = line.Int("attempt", e.Attempt)
	}
	for _, part := range [][2]string{{"code", e.Code}, {"cause", string(e.Cause)}, {"note", e.Note}} {
		if part[1] != "" {
			line = line.Str(part[0], part[1])
		}
	}
	line.Msg(string(e.Kind))
}
