package reversal

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"uncharge/iso"
	"uncharge/journal"
)

// Law L11: no card secrets at rest, no more than the last four digits anywhere.

// The secrets of one card. The track, the PIN block and the chip data go to the
// host and nowhere else.
const (
	track2   = visaOther + "=29121017391846205738"
	pinBlock = "1A2B3C4D5E6F7081"
	chipData = "5A08" + visaOther + "9F2608C0FFEE00DDBA11AA"
)

func (s *scene) secretRequest(lane journal.Lane) iso.Request {
	s.t.Helper()
	r := s.request(lane)
	pan, err := iso.ParsePAN(visaOther)
	s.must(err)
	r.PAN, r.EntryMode = pan, "051"
	r.Track2, r.PINBlock, r.Chip = iso.NewSecret(track2), iso.NewSecret(pinBlock), iso.NewSecret(chipData)
	return r
}

// needles are the spellings in which a secret might lie on a disk.
func needles() map[string][]byte {
	list := map[string][]byte{}
	for name, secret := range map[string]string{"PAN": visaOther, "track 2": track2, "PIN block": pinBlock, "chip data": chipData} {
		for i, text := range []string{secret, strings.ReplaceAll(secret, "=", "D"), strings.ToLower(secret), strings.ToLower(strings.ReplaceAll(secret, "=", "D"))} {
			list[fmt.Sprintf("%s as text %d", name, i)] = []byte(text)
			list[fmt.Sprintf("%s as hex of text %d", name, i)] = []byte(hex.EncodeToString([]byte(text)))
			list[fmt.Sprintf("%s as HEX of text %d", name, i)] = []byte(strings.ToUpper(hex.EncodeToString([]byte(text))))
			for shift := range 3 { // base64 spells the same bytes in three ways
				b64 := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
				list[fmt.Sprintf("%s as base64 %d.%d", name, i, shift)] = []byte(b64[4 : len(b64)-4])
			}
		}
		if packed, err := hex.DecodeString(strings.ReplaceAll(secret, "=", "D") + strings.Repeat("0", len(secret)%2)); err == nil {
			list[name+" as BCD"] = packed
		}
	}
	list["track 2 after the card number"] = []byte("29121017391846205738")
	list["cryptogram"] = []byte("C0FFEE00DDBA11AA")
	return list
}

func (s *scene) wantNoSecretOnDisk(when string) {
	s.t.Helper()
	files := 0
	s.must(filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range secretsIn(b) {
			s.t.Errorf("%s: %s lies in %s", when, name, d.Name())
		}
		return nil
	}))
	if files < 2 {
		s.t.Errorf("scene: %d files were searched", files)
	}
}

// secretsIn names the secrets that lie in a file.
func secretsIn(b []byte) (found []string) {
	for name, needle := range needles() {
		if bytes.Contains(b, needle) {
			found = append(found, name)
		}
	}
	return found
}

func TestL11TheSearchWouldFindThem(t *testing.T) {
	for _, secret := range []string{visaOther, track2, pinBlock, chipData} {
		packed, err := hex.DecodeString(strings.ReplaceAll(secret, "=", "D") + strings.Repeat("0", len(secret)%2))
		if err != nil {
			t.Fatal(err)
		}
		for name, file := range map[string]string{
			"text":   "2=" + secret + " 3=000000",
			"lower":  strings.ToLower(strings.ReplaceAll(secret, "=", "D")),
			"hex":    hex.EncodeToString([]byte("x" + secret + "y")),
			"HEX":    strings.ToUpper(hex.EncodeToString([]byte("x" + secret + "y"))),
			"BCD":    "\x00\x08" + string(packed),
			"JSON 0": base64.StdEncoding.EncodeToString([]byte(`{"2":"` + secret + `"}`)),
			"JSON 1": base64.StdEncoding.EncodeToString([]byte(`{"12":"` + secret + `"}`)),
			"JSON 2": base64.StdEncoding.EncodeToString([]byte(`{"112":"` + secret + `"}`)),
		} {
			if len(secretsIn([]byte(file))) == 0 {
				t.Errorf("...%s as %s is not found", secret[len(secret)-4:], name)
			}
		}
	}
	if found := secretsIn([]byte("1111 4242 000000001250 TERM0001")); len(found) != 0 {
		t.Errorf("found in what is none: %v", found)
	}
}

func TestL11NoSecretAtRest(t *testing.T) {
	for name, then := range map[string]answer{
		"approved": approve, "declined": decline, "not sent": refusedDial, "silence": silence, "rubbish": rubbish, "partial": says("10", with(4, "000000000500")),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(func(x *exchanging) error {
					for de, want := range map[int]string{2: visaOther, 35: track2, 52: pinBlock, 55: chipData} {
						if x.field(de) != want {
							t.Errorf("scene: DE %d did not go to the host", de)
						}
					}
					s.wantNoSecretOnDisk("when the sale leaves")
					return then(x)
				})
				s.host.onReversal(says("05"), lost, func(x *exchanging) error {
					s.wantNoSecretOnDisk("when a reversal leaves")
					return confirm(x)
				})
				sale, err := s.engine.Send(context.Background(), s.secretRequest(lane1))
				s.wantNoSecretOnDisk("when Send has returned")
				if err == nil && name == "approved" {
					s.must(sale.Complete())
				}
				s.drain()
				s.must(s.journal.Close())
				s.wantNoSecretOnDisk("at the end")
				s.open()
			})
		})
	}
}

// shows finds digits of the card beyond the last four.
func shows(text string) string {
	for _, secret := range []string{track2, pinBlock, chipData, visaOther} {
		for i := 0; i+6 <= len(secret); i++ {
			if strings.Contains(text, secret[i:i+6]) {
				return secret[i : i+6]
			}
		}
	}
	return ""
}

func wantNothingShown(t *testing.T, what string, v any) {
	t.Helper()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		text := fmt.Sprintf(verb, v)
		if verb == "%x" {
			if raw, err := hex.DecodeString(text); err == nil {
				text = string(raw)
			}
		}
		if part := shows(text); part != "" {
			t.Errorf("%s printed with %s shows %s", what, verb, part)
		}
	}
	if b, err := json.Marshal(v); err == nil && shows(string(b)) != "" {
		t.Errorf("%s as JSON shows %s", what, shows(string(b)))
	}
	if err, ok := v.(error); ok && err != nil {
		for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
			if shows(fmt.Sprintf("%+v %#v", inner, inner)) != "" {
				t.Errorf("%s holds an error that shows the card", what)
			}
		}
	}
}

func TestL11NothingTellsMoreThanTheLastFour(t *testing.T) {
	outcomes := map[string]answer{
		"approved": approve, "declined": decline, "not sent": refusedDial, "silence": silence, "lost": lost, "rubbish": rubbish,
		"echo":     raw(func(x *exchanging) []byte { return x.packed }),
		"tracks":   says("00", with(35, track2), with(2, visaOther)),
		"stray":    says("00", with(41, "TERM0009"), with(2, visaOther)),
		"codeless": says("00", without(39), with(2, visaOther)),
	}
	for name, then := range outcomes {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.host.onSale(then)
				s.host.onReversal(rubbish, says("05"), func(x *exchanging) error { x.accept(lateApproval(x)); return confirm(x) })
				r := s.secretRequest(lane1)
				sale, err := s.engine.Send(context.Background(), r)
				wantNothingShown(t, "the error", err)
				wantNothingShown(t, "the sale", sale)
				if sale != nil {
					if sale.Last4 != "4242" {
						t.Errorf("last four %q", sale.Last4)
					}
					s.must(sale.Reverse(iso.CardDeclined))
					wantNothingShown(t, "the error of Complete", sale.Complete())
				}
				s.host.toEveryReversal(silence)
				ctx, cancel := timeout(time.Minute)
				defer cancel()
				wantNothingShown(t, "the error of Drain", s.engine.Drain(ctx))
				for e, err := range s.journal.Entries(journal.Query{}) {
					s.must(err)
					wantNothingShown(t, "an entry", e)
					kept, err := s.journal.Image(e.ID)
					if err != nil {
						continue
					}
					img, err := iso.ParseImage(kept)
					s.must(err)
					wantNothingShown(t, "the image", img)
					wantNothingShown(t, "what is left of the request", img.Request())
				}
				s.mu.Lock()
				events := append([]Event(nil), s.events...)
				s.mu.Unlock()
				for _, ev := range events {
					wantNothingShown(t, "an event", ev)
				}
				wantNothingShown(t, "the engine", s.engine)
				s.host.toEveryReversal(confirm)
				s.drain()
			})
		})
	}
}

func TestL11RefusedRequestsAreRefusedWithoutTheirContent(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		for name, change := range map[string]func(*iso.Request){
			"track as PIN":      func(r *iso.Request) { r.PINBlock = iso.NewSecret(track2) },
			"PAN as terminal":   func(r *iso.Request) { r.Acceptor.Terminal = visaOther },
			"PAN as acquirer":   func(r *iso.Request) { r.Acceptor.Acquirer = visaOther },
			"track as merchant": func(r *iso.Request) { r.Acceptor.Merchant = track2 },
			"PAN as expiry":     func(r *iso.Request) { r.Expiry = iso.NewSecret(visaOther) },
			"PAN as chip data":  func(r *iso.Request) { r.Chip = iso.NewSecret(visaOther + "X") },
			"PAN as mode":       func(r *iso.Request) { r.EntryMode = visaOther },
			"PAN as category":   func(r *iso.Request) { r.Acceptor.Category = visaOther },
		} {
			r := s.secretRequest(lane1)
			change(&r)
			_, err := s.engine.Send(context.Background(), r)
			oneOf(t, err, ErrNotSent)
			wantNothingShown(t, name, err)
		}
		if n := s.entries(); n != 0 {
			t.Errorf("%d entries", n)
		}
		s.wantNoSecretOnDisk("after refusals")
	})
}
