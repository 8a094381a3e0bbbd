package iso

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// signOn is a sign-on answer's DE 62 with all keys in clear.
type signOn struct {
	name, master, de62, pin, mac, source string
}

// publishedSignOns: worked examples from the field. None is a key of a terminal
// in use.
func publishedSignOns() []signOn {
	return []signOn{
		{
			name:   "double PIN key, single MAC key",
			master: "CA5D92598DCA48CE8A4C76361A9269E9",
			de62:   "6701EAD6A9AD51E51AA406E2C27FCFA98D0A74B8B651F9E9BACE9AE10000000000000000AB7153CA",
			pin:    "807A23AD32B36D457AE91FDF927570EA",
			mac:    "5BB5C72CD00B7338",
			source: "code456.com/article/3026509.html",
		},
		{
			name:   "the same, another host",
			master: strings.Repeat("4", 32),
			de62:   "84772DAE453EC6D67583327B0237513268D0648C90F17888566319520000000000000000" + "44B1EB7C",
			pin:    "B5DAD5B316436DCEDF86160B85469DE6",
			mac:    "85E52F31E03E5ECD",
			source: "code index id 44565186221; its text gives the master key and the MAC key",
		},
	}
}

func softKeys(t testing.TB, master string) *SoftKeys {
	t.Helper()
	keys, err := NewSoftKeys(NewSecret(master))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// usesKey asserts that MACs are made under key.
func usesKey(t testing.TB, keys *SoftKeys, key string) {
	t.Helper()
	data := []byte("0800 after sign-on")
	got, err := keys.MAC(context.Background(), MACUnionPayECB, data)
	if want := oracle(t, MACUnionPayECB, unhex(t, key), data); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the MAC key in use is not the one expected: %v", err)
	}
}

func TestPublishedSignOns(t *testing.T) {
	for _, s := range publishedSignOns() {
		t.Run(s.name, func(t *testing.T) {
			for _, de62 := range []string{s.de62, strings.ToLower(s.de62)} {
				keys := softKeys(t, s.master)
				if err := keys.Download(NewSecret(de62)); err != nil {
					t.Fatal(err)
				}
				usesKey(t, keys, s.mac)
			}
			wrapped, err := WrapKeys(NewSecret(s.master), NewSecret(s.pin), NewSecret(s.mac))
			if err != nil || wrapped.Reveal() != s.de62 {
				t.Errorf("a host of ours would send another DE 62 (%v)", err)
			}
		})
	}
}

const (
	masterA  = "CA5D92598DCA48CE8A4C76361A9269E9"
	masterB  = "31313131313131313232323232323232"
	single1  = "0123456789ABCDEF"
	single2  = "5BB5C72CD00B7338"
	double1  = "807A23AD32B36D457AE91FDF927570EA"
	double2  = "B5DAD5B316436DCEDF86160B85469DE6"
	sameHalf = single1 + single1
)

func wrapKeys(t testing.TB, master, pin, mac string) string {
	t.Helper()
	s, err := WrapKeys(NewSecret(master), NewSecret(pin), NewSecret(mac))
	if err != nil {
		t.Fatal(err)
	}
	return s.Reveal()
}

func TestWrapThenDownload(t *testing.T) {
	for _, c := range []struct {
		name, master, pin, mac string
		bytes                  int
	}{
		{"all single", masterA[:16], single1, single2, 24},
		{"single keys under a double master", masterA, single1, single2, 24},
		{"double keys", masterA, double1, double2, 40},
		{"double keys under a single master", masterA[:16], double1, double2, 40},
		{"single MAC key among double ones", masterA, double1, single2, 40},
		{"MAC key of equal halves", masterA, double1, sameHalf, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			de62 := wrapKeys(t, c.master, c.pin, c.mac)
			if len(de62) != 2*c.bytes {
				t.Errorf("DE 62 has %d hex digits, want %d", len(de62), 2*c.bytes)
			}
			for _, part := range []string{c.pin, c.mac, c.master} {
				if strings.Contains(de62, part) {
					t.Error("a key goes out in clear")
				}
			}
			keys := softKeys(t, c.master)
			if err := keys.Download(NewSecret(de62)); err != nil {
				t.Fatal(err)
			}
			usesKey(t, keys, c.mac)
		})
	}
}

// withTrackKey is the form of 60 bytes.
func withTrackKey(t testing.TB) string {
	return wrapKeys(t, masterA, double1, double2) + wrapKeys(t, masterA, double2, double1)[:40]
}

func TestTrackKeyIsChecked(t *testing.T) {
	keys := softKeys(t, masterA)
	if err := keys.Download(NewSecret(withTrackKey(t))); err != nil {
		t.Fatal(err)
	}
	usesKey(t, keys, double2)
}

func TestDownloadIsAllOrNothing(t *testing.T) {
	long, short := withTrackKey(t), wrapKeys(t, masterA, single1, single2)
	for _, c := range []struct {
		name, de62 string
		want       error
		says       string
	}{
		{"empty", "", ErrInvalid, "DE 62"},
		{"a byte short", short[2:], ErrInvalid, "DE 62"},
		{"half a byte", short[1:], ErrInvalid, "DE 62"},
		{"a byte too many", short + "00", ErrInvalid, "DE 62"},
		{"endless", strings.Repeat(short, 10_000), ErrInvalid, "DE 62"},
		{"not hex", "Z" + short[1:], ErrInvalid, "hex"},
		{"PIN key hurt", flip(long, 0), ErrKeyCheck, "PIN key"},
		{"PIN check value hurt", flip(long, 2*16), ErrKeyCheck, "PIN key"},
		{"MAC key hurt", flip(long, 2*20), ErrKeyCheck, "MAC key"},
		{"MAC key's second half hurt", flip(long, 2*28), ErrKeyCheck, "MAC key"},
		{"MAC check value hurt", flip(long, 2*36+7), ErrKeyCheck, "MAC key"},
		{"track key hurt", flip(long, 2*40), ErrKeyCheck, "track key"},
		{"track check value hurt", flip(long, 2*56), ErrKeyCheck, "track key"},
		{"short form, MAC key hurt", flip(short, 2*12), ErrKeyCheck, "MAC key"},
		{"short form, PIN key hurt", flip(short, 2*8), ErrKeyCheck, "PIN key"},
		{"another master key", wrapKeys(t, masterB, double1, double2), ErrKeyCheck, "PIN key"},
		{"single PIN key among double ones", wrapKeys(t, masterA, double1, single1)[40:] + long[40:80], ErrKeyCheck, "PIN key"},
		{"all zeros", strings.Repeat("0", 80), ErrKeyCheck, "PIN key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys := softKeys(t, masterA)
			if err := keys.Download(NewSecret(wrapKeys(t, masterA, single2, single1))); err != nil {
				t.Fatal(err)
			}
			err := keys.Download(NewSecret(c.de62))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %v about %q", err, c.want, c.says)
			}
			if strings.Contains(err.Error(), "'Z'") {
				t.Fatal("the error repeats a digit of DE 62")
			}
			for i := 0; i+8 <= min(len(c.de62), 240); i++ {
				if strings.Contains(err.Error(), c.de62[i:i+8]) {
					t.Fatal("the error repeats a part of DE 62")
				}
			}
			usesKey(t, keys, single1)

			fresh := softKeys(t, masterA)
			_ = fresh.Download(NewSecret(c.de62))
			if _, err := fresh.MAC(context.Background(), MACUnionPayECB, nil); !errors.Is(err, ErrNoKey) {
				t.Errorf("a failed download left a key behind: %v", err)
			}
		})
	}
}

// flip changes one hex digit by a bit that DES does not take for parity.
func flip(s string, i int) string {
	const digits = "0123456789ABCDEF"
	return s[:i] + string(digits[strings.IndexByte(digits, s[i])^2]) + s[i+1:]
}

func TestNoKeyYet(t *testing.T) {
	ctx := context.Background()
	var zero SoftKeys
	for name, keys := range map[string]*SoftKeys{"zero value": &zero, "before sign-on": softKeys(t, masterA)} {
		if mac, err := keys.MAC(ctx, MACX99, []byte("x")); mac != nil || !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := zero.Download(NewSecret(wrapKeys(t, masterA, double1, double2))); !errors.Is(err, ErrNoKey) {
		t.Errorf("download without a master key: %v", err)
	}
	if err := zero.SetMACKey(NewSecret(double1)); err != nil {
		t.Fatal(err)
	}
	usesKey(t, &zero, double1)
}

func TestKeyErrors(t *testing.T) {
	bad := map[string]error{
		"": ErrNoKey, "00": ErrInvalid, single1 + "00": ErrInvalid, double1 + single1: ErrInvalid,
		double1[1:]: ErrInvalid, "G" + double1[1:]: ErrInvalid, strings.Repeat(double1, 3): ErrInvalid,
	}
	for text, want := range bad {
		key := NewSecret(text)
		if keys, err := NewSoftKeys(key); keys != nil || !errors.Is(err, want) {
			t.Errorf("master key of %d characters: %v, want %v", len(text), err, want)
		}
		for name, args := range map[string][3]Secret{
			"master": {key, NewSecret(double1), NewSecret(double2)},
			"pin":    {NewSecret(masterA), key, NewSecret(single1)},
			"mac":    {NewSecret(masterA), NewSecret(double1), key},
		} {
			if s, err := WrapKeys(args[0], args[1], args[2]); s.Reveal() != "" || !errors.Is(err, want) {
				t.Errorf("wrapping, %s key of %d characters: %v, want %v", name, len(text), err, want)
			}
		}
	}
	if _, err := WrapKeys(NewSecret(masterA), NewSecret(single1), NewSecret(double2)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a double MAC key beside a single PIN key: %v", err)
	}
	keys := softKeys(t, masterA)
	if err := keys.SetMACKey(NewSecret(single1)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "00", "G" + single1[1:], single1 + "0011", strings.Repeat(double1, 2) + "00"} {
		if err := keys.SetMACKey(NewSecret(text)); err == nil {
			t.Errorf("a MAC key of %d characters was taken", len(text))
		}
		usesKey(t, keys, single1)
	}
	for _, algorithm := range []MACAlgorithm{MACAESCMAC, MACSM4CBC, "", "rot13"} {
		if _, err := keys.MAC(context.Background(), algorithm, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q under a DES key: %v", algorithm, err)
		}
	}
}

// L11, for keys: nothing prints them, not even from inside another struct.
func TestKeysPrintHidden(t *testing.T) {
	keys := softKeys(t, masterA)
	if err := keys.Download(NewSecret(wrapKeys(t, masterA, double1, double2))); err != nil {
		t.Fatal(err)
	}
	var bare SoftKeys
	if err := bare.SetMACKey(NewSecret(double2)); err != nil {
		t.Fatal(err)
	}
	type inside struct {
		keys *SoftKeys
		port Authenticator
		Open *SoftKeys
	}
	var secrets []string
	for _, s := range []string{masterA, double1, double2} {
		b := unhex(t, s)
		secrets = append(secrets, s[:12], string(b[:6]), strings.Trim(fmt.Sprint(b[:6]), "[]"), fmt.Sprintf("% x", b[:6]), fmt.Sprintf("% X", b[:6]),
			strings.Trim(fmt.Sprintf("%#v", b[:4]), "[]byte{}"))
	}
	for i, v := range []any{keys, &bare, inside{keys, keys, keys}, &inside{&bare, &bare, &bare}, []*SoftKeys{keys}, map[string]any{"x": keys}, Authenticator(keys)} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%T", "%p", "%5.3s", "%08b", "%!"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		} else {
			t.Errorf("value %d: %v", i, err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		for _, secret := range secrets {
			if strings.Contains(strings.ToUpper(out.String()), strings.ToUpper(secret)) {
				t.Errorf("value %d (%T) shows a key", i, v)
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(verb, keys); got != hidden {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if got := keys.String() + keys.LogValue().String(); got != hidden+hidden {
		t.Errorf("%q", got)
	}
}

// A MAC made while keys come in is one under the old key or one under the new.
func TestKeysAreSafeForConcurrentUse(t *testing.T) {
	keys := softKeys(t, masterA)
	good := []string{wrapKeys(t, masterA, double1, double2), wrapKeys(t, masterA, double1, single2), withTrackKey(t)}
	if err := keys.Download(NewSecret(good[0])); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("data"), 50)
	allowed := map[string]bool{}
	for _, key := range []string{double2, single2, sameHalf} {
		allowed[string(oracle(t, MACX919, unhex(t, key), data))] = true
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 200 {
				switch (worker + i) % 4 {
				case 0:
					if err := keys.Download(NewSecret(good[i%len(good)])); err != nil {
						t.Error(err)
					}
				case 1:
					if err := keys.SetMACKey(NewSecret(sameHalf)); err != nil {
						t.Error(err)
					}
				default:
					mac, err := keys.MAC(context.Background(), MACX919, data)
					if err != nil || !allowed[string(mac)] {
						t.Errorf("a MAC under no key that was ever loaded: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
}

// fits is the judge of FuzzDownload: DE 62 taken apart the long way round. It
// returns the MAC key, or nil when any check value is wrong.
func fits(master []byte, de62 string) []byte {
	wire, err := hex.DecodeString(de62)
	width := map[int]int{24: 12, 40: 20, 60: 20}[len(wire)]
	if err != nil || width == 0 {
		return nil
	}
	block := func(k []byte) cipher.Block {
		b, err := des.NewTripleDESCipher(bytes.Join([][]byte{k[:8], k[len(k)-8:], k[:8]}, nil))
		if err != nil {
			panic(err)
		}
		return b
	}
	var mac []byte
	for i := 0; i*width < len(wire); i++ {
		part := wire[i*width : (i+1)*width]
		key, check := bytes.Clone(part[:width-4]), part[width-4:]
		if i == 1 && width == 20 && bytes.Count(key[8:], []byte{0}) == 8 {
			key = key[:8]
		}
		for at := 0; at < len(key); at += 8 {
			block(master).Decrypt(key[at:at+8], key[at:at+8])
		}
		zeros := make([]byte, 8)
		block(key).Encrypt(zeros, zeros)
		if !bytes.Equal(zeros[:4], check) {
			return nil
		}
		if i == 1 {
			mac = key
		}
	}
	return mac
}

// FuzzDownload: whatever a host sends, nothing breaks, a wrong check value is
// never taken, and the keys stay what they were unless all are good.
func FuzzDownload(f *testing.F) {
	f.Add(masterA, "")
	f.Add(masterA, strings.Repeat("0", 80))
	f.Add(masterA, "not hex, but as long as the keys are")
	for _, s := range publishedSignOns() {
		f.Add(s.master, s.de62)
		f.Add(s.master, flip(s.de62, 41))
	}
	f.Add(masterA[:16], wrapKeys(f, masterA[:16], single1, single2))
	f.Add(masterA, wrapKeys(f, masterA, double1, double2))
	f.Add(masterA, withTrackKey(f))
	f.Add(masterA, flip(withTrackKey(f), 2*56))
	f.Fuzz(func(t *testing.T, master, de62 string) {
		keys, err := NewSoftKeys(NewSecret(master))
		if err != nil {
			return
		}
		if err := keys.SetMACKey(NewSecret(sameHalf)); err != nil {
			t.Fatal(err)
		}
		err = keys.Download(NewSecret(de62))
		want := fits(unhex(t, master), de62)
		if (err == nil) != (want != nil) {
			t.Fatalf("download: %v, but the check values say otherwise", err)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrKeyCheck) {
				t.Fatalf("an error of no kind: %v", err)
			}
			usesKey(t, keys, sameHalf)
			return
		}
		usesKey(t, keys, hex.EncodeToString(want))
	})
}
