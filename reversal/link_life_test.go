package reversal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// Lanes, cancelling and TLS of a Link.

func TestLinkLanesFollowOneAnotherAndRunSideBySide(t *testing.T) {
	var w *wire
	wired(t, LinkOptions{}, func(_ int, c net.Conn) {
		m := w.read(c)
		time.Sleep(10 * time.Second)
		_ = w.profile.WriteFrame(c, []byte("answer to "+m))
	}, func(t *testing.T, in *wire) {
		w = in
		took := func(lanes ...journal.Lane) time.Duration {
			began := time.Now()
			var all sync.WaitGroup
			for _, lane := range lanes {
				all.Go(func() {
					if err := w.link.Exchange(t.Context(), lane, []byte("hello"), func([]byte) bool { return true }); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return time.Since(began)
		}
		if d := took(lane1, lane1, lane1); d != 30*time.Second {
			t.Errorf("three exchanges on one lane took %v, want 30s", d)
		}
		if d := took(lane1, lane2); d != 10*time.Second {
			t.Errorf("two exchanges on two lanes took %v, want 10s", d)
		}
	})
}

func TestL4WaitingForTheLaneIsNotSent(t *testing.T) {
	var w *wire
	wired(t, LinkOptions{}, func(_ int, c net.Conn) { w.read(c); time.Sleep(time.Minute) }, func(t *testing.T, in *wire) {
		w = in
		go func() { _, _, _ = w.exchange(context.Background(), "first", "") }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, took, err := w.exchange(ctx, "second", "")
		if !errors.Is(err, ErrNotSent) || took != 2*time.Second || w.dials != 1 {
			t.Errorf("after %v, %d dials: %v", took, w.dials, err)
		}
		time.Sleep(2 * time.Minute)
	})
}

func TestLinkEndsSoonAfterItsContext(t *testing.T) {
	var w *wire
	for name, serve := range map[string]func(int, net.Conn){
		"while the answer is awaited": func(_ int, c net.Conn) { w.read(c); _, _ = io.Copy(io.Discard, c) },
		"while sending":               func(_ int, c net.Conn) { time.Sleep(time.Hour) },
		"inside an answer":            func(_ int, c net.Conn) { w.read(c); _, _ = c.Write([]byte{0}); time.Sleep(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			wired(t, LinkOptions{}, serve, func(t *testing.T, in *wire) {
				w = in
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				_, took, err := w.exchange(ctx, "hello", "")
				if took != 3*time.Second || !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotSent) {
					t.Errorf("after %v: %v, want a doubt that says cancelled", took, err)
				}
			})
		})
	}
}

// authority is a test CA; times are those of the bubble.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) issue(t testing.TB, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) server(t testing.TB, name string, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}
	if change != nil {
		change(template)
	}
	cert, key := a.issue(t, template)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
}

func (a *authority) client() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool}
}

// secured runs a case over TLS on pipes. talk gets the decrypted line.
func secured(t *testing.T, server func(*authority) *tls.Config, talk func(w *wire, c net.Conn), do func(t *testing.T, w *wire, ca *authority)) {
	t.Helper()
	var w *wire
	var config *tls.Config
	wired(t, LinkOptions{DialWithin: 6 * time.Second}, func(_ int, c net.Conn) {
		secure := tls.Server(c, config)
		if secure.Handshake() == nil {
			talk(w, secure)
		}
	}, func(t *testing.T, in *wire) {
		w = in
		ca := newAuthority(t)
		config = server(ca)
		o := w.link.o
		o.TLS = ca.client()
		var err error
		if w.link, err = NewLink(o); err != nil {
			t.Fatal(err)
		}
		do(t, w, ca)
	})
}

func TestLinkOverTLS(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			secured(t, func(ca *authority) *tls.Config {
				c := ca.server(t, "host.test", nil)
				c.MinVersion, c.MaxVersion = version, version
				return c
			}, func(w *wire, c net.Conn) {
				_ = w.profile.WriteFrame(c, []byte("answer to "+w.read(c)))
				_, _ = io.Copy(io.Discard, c)
			}, func(t *testing.T, w *wire, _ *authority) {
				if _, _, err := w.exchange(t.Context(), "hello", "answer to hello"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestL4FailedHandshakeIsNotSent(t *testing.T) {
	for name, server := range map[string]func(t *testing.T, ca *authority) *tls.Config{
		"certificate of another CA":   func(t *testing.T, _ *authority) *tls.Config { return newAuthority(t).server(t, "host.test", nil) },
		"certificate of another host": func(t *testing.T, ca *authority) *tls.Config { return ca.server(t, "other.test", nil) },
		"certificate out of date": func(t *testing.T, ca *authority) *tls.Config {
			return ca.server(t, "host.test", func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
			})
		},
		"TLS 1.1": func(t *testing.T, ca *authority) *tls.Config {
			c := ca.server(t, "host.test", nil)
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			secured(t, func(ca *authority) *tls.Config { return server(t, ca) }, func(w *wire, c net.Conn) {
				if b, _ := io.ReadAll(c); len(b) != 0 {
					t.Errorf("%d bytes of the message came", len(b))
				}
			}, func(t *testing.T, w *wire, _ *authority) {
				if _, _, err := w.exchange(t.Context(), "hello", ""); !errors.Is(err, ErrNotSent) {
					t.Errorf("got %v", err)
				}
				synctest.Wait()
			})
		})
	}
}

func TestL4HandshakeThatDoesNotComeAboutIsNotSent(t *testing.T) {
	for name, serve := range map[string]func(int, net.Conn){
		"host closes": func(_ int, c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 50)) },
		"host says other": func(_ int, c net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, c) }()
			_, _ = io.WriteString(c, "220 mail ready\r\n")
		},
		"host is silent": func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"host is stuck":  hold(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			wired(t, LinkOptions{DialWithin: 6 * time.Second, TLS: &tls.Config{}}, serve, func(t *testing.T, w *wire) {
				_, took, err := w.exchange(t.Context(), "hello", "")
				if !errors.Is(err, ErrNotSent) || took > 6*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
				if l := w.line(1); !l.closed {
					t.Error("the connection is open still")
				}
			})
		})
	}
}

func TestLinkOverTLSEndsSoonAfterItsContext(t *testing.T) {
	for name, after := range map[string]func(c net.Conn){
		"host reads on": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"host is stuck": func(net.Conn) { time.Sleep(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			secured(t, func(ca *authority) *tls.Config { return ca.server(t, "host.test", nil) }, func(w *wire, c net.Conn) {
				w.read(c)
				after(c)
			}, func(t *testing.T, w *wire, _ *authority) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				_, took, err := w.exchange(ctx, "hello", "")
				if !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotSent) || took > 9*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

func TestLinkKeepsTheCallersTLSConfig(t *testing.T) {
	profile, err := iso.LoadProfile("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	theirs := &tls.Config{}
	l, err := NewLink(LinkOptions{Address: "host.test:5000", Profile: profile, TLS: theirs})
	if err != nil || theirs.ServerName != "" || theirs.MinVersion != 0 {
		t.Errorf("the caller's configuration was changed: %v", err)
	}
	if l.o.TLS.ServerName != "host.test" || l.o.TLS.MinVersion != tls.VersionTLS12 {
		t.Errorf("name %q, version %x", l.o.TLS.ServerName, l.o.TLS.MinVersion)
	}
}

// Once over real sockets: sale and reversal through engine, Link and TCP.
func TestEngineOverLoopback(t *testing.T) {
	s := newScene(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback: %v", err)
	}
	address := listener.Addr().String()
	w := &wire{t: t, profile: s.profile}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer func() { _ = c.Close() }(); w.answerAll(c) })
		}
	})
	link, err := NewLink(LinkOptions{Address: address, Profile: s.profile})
	s.must(err)
	s.engine = s.newEngine(link)

	s.must(s.sell(lane1).Complete())
	sale := s.sell(lane1)
	s.must(sale.Reverse(iso.CardDeclined))
	ctx, cancel := timeout(20 * time.Second)
	defer cancel()
	s.must(s.engine.Drain(ctx))
	s.wantStatus(sale.ID, journal.Reversed)

	s.must(listener.Close())
	all.Wait()
	_, err = s.send(lane1)
	oneOf(t, err, ErrNotSent)
	s.wantStatus(3, journal.NotSent)
}
