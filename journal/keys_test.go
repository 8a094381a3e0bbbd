package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// countedKey is the bytes 0 to 31.
var countedKey = Secret("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f")

func softKeyOf(t teller, key Secret) DeviceKey {
	t.Helper()
	k, err := NewSoftKey(key)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return k
}

func unhex(t teller, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return b
}

// Key id and derived keys, worked out apart from this code: SHA-256 over "uncharge
// key id", a zero byte and the key; HKDF (RFC 5869) with SHA-256, no salt, the
// purpose as info.
func TestKeyKnownAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key                  Secret
		id, purpose, derived string
	}{
		{deviceKey, "ddbc67c2d7342a3c", "uncharge chain of steps", "0d6032109829061dd5e572c8846dab432a47b21e04f499dcc67344cbeba329f9"},
		{deviceKey, "ddbc67c2d7342a3c", "uncharge card tokens", "8f74fde9caad99c5dc0343fbe645635284fe8fcfa5af9e22325e974c3ecc1964"},
		{countedKey, "fd3877fe1e5730aa", "uncharge chain of steps", "d09efce7bd0975589d8377d90e730aab0313d48c0c2380c20c50be4ab8108688"},
	} {
		k := softKeyOf(t, c.key)
		derived, err := k.Derive(c.purpose)
		if k.ID() != c.id || err != nil || hex.EncodeToString(derived) != c.derived {
			t.Errorf("id %s, want %s; for %q %x %v, want %s", k.ID(), c.id, c.purpose, []byte(derived), err, c.derived)
		}
	}
	_, err := softKeyOf(t, deviceKey).Derive("")
	wantErr(t, "no purpose", err, ErrInvalid)
}

// Test case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation".
func TestKeyOpensAPublishedVector(t *testing.T) {
	t.Parallel()
	k := softKeyOf(t, unhex(t, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"))
	sealed := unhex(t, "cafebabefacedbaddecaf888"+
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"+
		"76fc6ece0f4e1768cddf8853bb2d551b")
	want := unhex(t, "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")
	plain, err := k.Open(sealed, unhex(t, "feedfacedeadbeeffeedfacedeadbeefabaddad2"))
	if err != nil || !bytes.Equal(plain, want) {
		t.Errorf("%x %v", plain, err)
	}
}

// What a journal of format 1 sealed opens under the same key: id and sealing are
// those of that format.
func TestKeyOpensWhatFormat1Sealed(t *testing.T) {
	t.Parallel()
	k, want := softKeyOf(t, deviceKey), expectationOf(t, "v1")
	db, err := bolt.Open(filepath.Join(fixture(t, "v1"), "journal.db"), 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bolt.Tx) error {
		for id, image := range want.Images {
			value := tx.Bucket([]byte("entries")).Get(key(id))
			var stored struct {
				Sealed []byte
				KeyID  string `json:"key_id"`
			}
			if err := json.Unmarshal(value[1:len(value)-4], &stored); err != nil {
				return err
			}
			plain, err := k.Open(stored.Sealed, slices.Concat(tx.Bucket([]byte("meta")).Get([]byte("id")), key(id)))
			if stored.KeyID != k.ID() || err != nil || hex.EncodeToString(plain) != image {
				t.Errorf("entry %d, under key %s: %x %v", id, stored.KeyID, plain, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Only the same key with the same associated data opens, and nothing that was
// changed in one bit.
func TestKeyOpensOnlyWhatItSealed(t *testing.T) {
	t.Parallel()
	k, plain, where := softKeyOf(t, deviceKey), []byte("an image"), []byte("its place")
	sealed, err := k.Seal(plain, where)
	if err != nil || len(sealed) != 12+len(plain)+16 {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	if got, err := k.Open(sealed, where); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%q %v", got, err)
	}
	again, err := k.Seal(plain, where)
	if err != nil || bytes.Equal(again[:12], sealed[:12]) {
		t.Errorf("sealed twice under one nonce: %x %x %v", again, sealed, err)
	}
	refused := func(what string, k DeviceKey, sealed, where []byte) {
		t.Helper()
		got, err := k.Open(sealed, where)
		wantErr(t, what, err, ErrDamaged)
		if got != nil {
			t.Errorf("%s: it opened: %q", what, got)
		}
	}
	refused("another key", softKeyOf(t, otherKey), sealed, where)
	refused("another place", k, sealed, []byte("another place"))
	for n := range len(sealed) {
		refused(fmt.Sprintf("cut after %d bytes", n), k, sealed[:n], where)
	}
	for bit := range 8 * len(sealed) {
		changed := slices.Clone(sealed)
		changed[bit/8] ^= 1 << (bit % 8)
		refused(fmt.Sprintf("bit %d", bit), k, changed, where)
	}
}

// A key that was replaced still opens what it sealed; new things are sealed under
// the new one.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	before, err := NewKeyRing(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	old, err := before.Current()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := old.Seal([]byte("an image"), nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := NewKeyRing(deviceKey, countedKey, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	current, err := after.Current()
	if err != nil || current.ID() == old.ID() || current.ID() != softKeyOf(t, deviceKey).ID() {
		t.Errorf("the current key is %s, %v", current, err)
	}
	k, err := after.ByID(old.ID())
	if err != nil {
		t.Fatal(err)
	}
	if image, err := k.Open(sealed, nil); err != nil || string(image) != "an image" {
		t.Errorf("%q %v", image, err)
	}
	if same, err := after.ByID(current.ID()); err != nil || same.ID() != current.ID() {
		t.Errorf("the current key by its id: %v %v", same, err)
	}
	k, err = before.ByID(current.ID())
	wantErr(t, "a key that the device does not have", err, ErrKey)
	if k != nil || !strings.Contains(err.Error(), current.ID()) || !strings.Contains(err.Error(), old.ID()) {
		t.Errorf("%v %v", k, err)
	}
	_, err = before.ByID(strings.Repeat("x\n", 1000))
	if wantErr(t, "an id that is none", err, ErrKey); len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}

// What the caller does with its bytes afterwards changes no key.
func TestKeysAreCopied(t *testing.T) {
	t.Parallel()
	mine := slices.Clone(countedKey)
	ring, err := NewKeyRing(mine)
	if err != nil {
		t.Fatal(err)
	}
	clear(mine)
	k, err := ring.Current()
	if err != nil || k.ID() != "fd3877fe1e5730aa" {
		t.Errorf("%v %v", k, err)
	}
	if derived, err := k.Derive("uncharge chain of steps"); err != nil || !bytes.HasPrefix(derived, unhex(t, "d09efce7")) {
		t.Errorf("%x %v", []byte(derived), err)
	}
}

func TestKeyRingRefuses(t *testing.T) {
	t.Parallel()
	many := make([]Secret, keysMax)
	for n := range many {
		many[n] = slices.Concat(countedKey[:31], []byte{byte(100 + n)})
	}
	if _, err := NewKeyRing(many[0], many[1:]...); err != nil {
		t.Errorf("%d keys: %v", keysMax, err)
	}
	for what, keys := range map[string][]Secret{
		"no key":            {nil},
		"too short":         {countedKey[:31]},
		"too long":          {append(slices.Clone(countedKey), 0)},
		"half a key":        {countedKey[:16]},
		"too short behind":  {countedKey, deviceKey[:5]},
		"the same twice":    {countedKey, countedKey},
		"twice behind":      {countedKey, deviceKey, deviceKey},
		"more than allowed": append(many, countedKey),
	} {
		ring, err := NewKeyRing(keys[0], keys[1:]...)
		wantErr(t, what, err, ErrKey)
		wantKeyError(t, what, err, countedKey, deviceKey)
		if ring != nil {
			t.Errorf("%s: a ring was made", what)
		}
	}
	k, err := NewSoftKey(countedKey[:31])
	wantErr(t, "NewSoftKey", err, ErrKey)
	wantKeyError(t, "NewSoftKey", err, countedKey)
	if k != nil {
		t.Error("a key was made of 31 bytes")
	}
}

// wantKeyError holds an error to what each must say, and must not.
func wantKeyError(t teller, what string, err error, secrets ...Secret) {
	t.Helper()
	said := err.Error()
	if wrong, todo, ok := strings.Cut(said, "; nothing was changed; "); !ok || len(todo) < 10 || strings.Count(wrong, ": ") < 2 {
		t.Errorf("%s: %q does not say what is wrong, that nothing was changed, and what to do", what, said)
	}
	for _, s := range secrets {
		for at := 0; at+4 <= len(s); at++ {
			if piece := []byte(s[at : at+4]); strings.Contains(said, string(piece)) || strings.Contains(strings.ToLower(said), hex.EncodeToString(piece)) {
				t.Errorf("%s: %q shows a piece of the key", what, said)
				return
			}
		}
	}
}

// L11: keys print as their ids, however they get into a log, deep inside other
// values too.
func TestL11KeysPrintMasked(t *testing.T) {
	t.Parallel()
	ring, err := NewKeyRing(countedKey, deviceKey)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ring.Current()
	if err != nil {
		t.Fatal(err)
	}
	derived, err := k.Derive("uncharge card tokens")
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Key    DeviceKey
		Keys   KeySource
		hidden DeviceKey
		ring   KeySource
		Copy   softKey
		deep   []softKey
	}
	h := holder{k, ring, k, ring, *k.(*softKey), []softKey{*k.(*softKey)}}
	for what, v := range map[string]any{
		"a key": k, "a copy of a key": *k.(*softKey), "a ring": ring, "a copy of a ring": *ring.(*keyRing), "what holds keys": h,
		"a pointer to it": &h, "a list": []any{k, ring}, "a map": map[string]any{"k": k}, "a derived key": derived,
	} {
		var log bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
			slog.New(handler).Info("x", "v", v)
		}
		for _, secret := range []Secret{countedKey, deviceKey, derived} {
			wantMasked(t, what, v, secret)
			list := strings.Trim(fmt.Sprint([]byte(secret[:8])), "[]")
			for _, form := range []string{string(secret), hex.EncodeToString(secret), list, strings.ReplaceAll(list, " ", ",")} {
				if strings.Contains(log.String(), form) {
					t.Errorf("%s in a log: %s", what, log.String())
				}
			}
		}
	}
	for _, verb := range printVerbs {
		if got := fmt.Sprintf(verb, k); got != "key fd3877fe1e5730aa" {
			t.Errorf("%s: %s", verb, got)
		}
		if got := fmt.Sprintf(verb, ring); got != "keys fd3877fe1e5730aa, ddbc67c2d7342a3c" {
			t.Errorf("%s: %s", verb, got)
		}
	}
	if got, err := json.Marshal([]any{k, ring}); string(got) != `["key fd3877fe1e5730aa","keys fd3877fe1e5730aa, ddbc67c2d7342a3c"]` || err != nil {
		t.Errorf("as JSON %s %v", got, err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "k", k, "r", ring)
	if want := `k="key fd3877fe1e5730aa" r="keys fd3877fe1e5730aa, ddbc67c2d7342a3c"`; !strings.Contains(log.String(), want) {
		t.Errorf("in a log %s", log.String())
	}
	for _, v := range []slog.LogValuer{*k.(*softKey), *ring.(*keyRing)} {
		if got := v.LogValue().String(); got != fmt.Sprint(v) {
			t.Errorf("%v as a log value: %s", v, got)
		}
	}
}

// Run under the race detector.
func TestKeysServeManyAtOnce(t *testing.T) {
	t.Parallel()
	ring, err := NewKeyRing(deviceKey, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	old := softKeyOf(t, otherKey).ID()
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 200 {
				k, err := ring.Current()
				if n%2 == 1 {
					k, err = ring.ByID(old)
				}
				if err != nil {
					t.Error(err)
					return
				}
				sealed, err1 := k.Seal([]byte("an image"), []byte{byte(n)})
				image, err2 := k.Open(sealed, []byte{byte(n)})
				_, err3 := k.Derive("uncharge card tokens")
				if err1 != nil || err2 != nil || err3 != nil || string(image) != "an image" {
					t.Errorf("%q %v %v %v", image, err1, err2, err3)
					return
				}
			}
		})
	}
	all.Wait()
}
