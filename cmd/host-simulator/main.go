// Command host-simulator is a card host on TCP that can be told to misbehave. It
// serves sales and reversals, tells on standard output what it does, and prints
// at the end what each card was charged.
//
// Exit codes: 0 stopped by a signal, 1 it could not go on (port in use, output
// lost), 2 it was called wrongly.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"uncharge/cmd/internal/complaint"
	"uncharge/cmd/internal/profiles"
	"uncharge/iso"
	"uncharge/simulator"
)

const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() { os.Exit(command()) }

func command() int { return run(os.Args[1:], os.Stdout, os.Stderr) }

// usageError is a mistake in the call, as opposed to one in the world.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run does the work and returns the exit code. Data goes to stdout, complaints
// to stderr.
func run(args []string, stdout, stderr io.Writer) int {
	var f flags
	cmd := newCommand(&f, func(ctx context.Context) error { return serve(ctx, f, stdout, stderr) })
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "host-simulator: %s\n", complaint.Line(err))
	if usage := (usageError{}); errors.As(err, &usage) || errors.Is(err, profiles.ErrUsage) || errors.Is(err, iso.ErrUnknownProfile) || errors.Is(err, iso.ErrProfile) {
		return exitUsage
	}
	return exitError
}

// flags are the flags as they were typed.
type flags struct {
	listen   string
	profile  string
	faults   []string
	output   string
	tlsCert  string
	tlsKey   string
	master   string
	logLevel string
}

var logLevels = []string{"debug", "info", "warn", "error"}

func newCommand(f *flags, serve func(context.Context) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "host-simulator [flags]",
		Short:   "A card host that can be told to misbehave",
		Long:    longHelp(),
		Example: examples,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("takes no arguments; see host-simulator --help") // not repeated: it may be a card number (L11)
			}
			return nil
		},
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context()) },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(profiles.Command("host-simulator"))
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usagef("%w; see host-simulator --help", complaint.Flag(err))
	})
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8583", "address to listen on, `HOST:PORT`; port 0 picks\na free one")
	flags.StringVar(&f.profile, "profile", "iso87-ascii", "dialect to speak, by `NAME` or profile file; there are\n"+strings.Join(iso.ProfileNames(), ",\n")+"\n")
	flags.StringArrayVar(&f.faults, "fault", nil, "what to do wrong, `FAULT` as above; may be repeated,\nthe first that falls on a request counts")
	flags.StringVarP(&f.output, "output", "o", "text", "`FORM` of the events: text or ndjson")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "serve TLS with this PEM certificate `FILE`")
	flags.StringVar(&f.tlsKey, "tls-key", "", "the certificate's PEM key `FILE`")
	flags.StringVar(&f.master, "master-key", "", "`FILE` with the terminals' master key, 32 hex digits;\na profile with a MAC needs it")
	flags.StringVar(&f.logLevel, "log-level", "warn", "least `LEVEL` of diagnostics on stderr:\n"+strings.Join(logLevels, ", "))
	return cmd
}

// settings are the flags, understood.
type settings struct {
	listen  string
	profile *iso.Profile
	faults  []simulator.Fault
	ndjson  bool
	tls     *tls.Config // nil: plain TCP
	master  iso.Secret
	level   zerolog.Level
}

func (f flags) settings() (settings, error) {
	s := settings{listen: f.listen, ndjson: f.output == "ndjson"}
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		return s, usagef("--listen %q is not HOST:PORT; give an address such as 127.0.0.1:8583", f.listen)
	}
	if f.output != "text" && f.output != "ndjson" {
		return s, usagef("-o %q is not known; give text or ndjson", f.output)
	}
	if !slices.Contains(logLevels, f.logLevel) {
		return s, usagef("--log-level %q is not known; give one of %s", f.logLevel, strings.Join(logLevels, ", "))
	}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return s, usagef("--tls-cert and --tls-key go together; give both or neither")
	}
	var err error
	if s.level, err = zerolog.ParseLevel(f.logLevel); err != nil {
		return s, usagef("--log-level: %w", err)
	}
	if s.profile, err = iso.LoadProfile(f.profile); errors.Is(err, iso.ErrUnknownProfile) || errors.Is(err, iso.ErrProfile) {
		return s, usagef("--profile: %w", err)
	} else if err != nil {
		return s, err
	}
	for _, text := range f.faults {
		fault, err := simulator.ParseFault(text)
		if err != nil {
			return s, usagef("--fault: %w", err)
		}
		s.faults = append(s.faults, fault)
	}
	if f.master != "" {
		text, err := os.ReadFile(f.master)
		if err != nil {
			return s, usagef("--master-key: %w", err)
		}
		s.master = iso.NewSecret(strings.TrimSpace(string(text)))
	}
	if s.profile.HasMAC() && f.master == "" {
		return s, usagef("--master-key: profile %s has a MAC; name the file with the terminals' master key", s.profile.Name())
	}
	if f.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
		if err != nil {
			return s, fmt.Errorf("--tls-cert, --tls-key: %w; give a PEM certificate and the PEM key that belongs to it", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// serve runs the host until ctx is done and prints the ledger, also when
// something went wrong meanwhile.
func serve(ctx context.Context, f flags, stdout, stderr io.Writer) error {
	s, err := f.settings()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := zerolog.New(stderr).Level(s.level).With().Timestamp().Logger()
	out := &output{w: stdout, ndjson: s.ndjson, failed: cancel}
	host, err := simulator.NewHost(simulator.Options{
		Profile: s.profile, Master: s.master, Faults: s.faults,
		Observe: func(e simulator.Event) {
			out.event(e)
			diagnose(log, e)
		},
	})
	if err != nil {
		return usagef("%w", err)
	}
	listener, err := listen(ctx, s)
	if err != nil {
		return err
	}
	out.ready(listener.Addr().String(), s)
	log.Info().Stringer("address", listener.Addr()).Str("profile", s.profile.Name()).Msg("listening")
	err = host.Serve(ctx, listener)
	out.ledger(host.Ledger().Snapshot())
	log.Info().Msg("stopped")
	return errors.Join(err, out.err, host.Ledger().Check())
}

func listen(ctx context.Context, s settings) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use; stop the program that listens there, or choose another address with --listen", s.listen)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w; choose another address with --listen", s.listen, err)
	case s.tls != nil:
		return tls.NewListener(listener, s.tls), nil
	}
	return listener, nil
}

// diagnose logs what an operator should look at. An event holds no card data but
// the last four digits, and not even those go into the log.
func diagnose(log zerolog.Logger, e simulator.Event) {
	level := zerolog.DebugLevel
	if e.Kind == simulator.KindBadFrame {
		level = zerolog.WarnLevel
	}
	log.WithLevel(level).Uint64("connection", e.Connection).Str("terminal", e.Terminal).
		Stringer("stan", e.STAN).Str("detail", e.Detail).Msg(string(e.Kind))
}
