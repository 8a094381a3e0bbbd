package iso

import (
	"context"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
)

// ErrKeyCheck: a key came out of its wrapping with another check value than the
// host sent. The master key is another one than the host's, or DE 62 was hurt.
var ErrKeyCheck = errors.New("check value of a key does not fit")

// SoftKeys holds a terminal's keys in software and is an Authenticator: for
// tests, the simulator and the reference firmware. A terminal in a shop lets its
// PIN pad do this. Of the keys that a host sends only the MAC key is kept, and
// only as set-up ciphers; the ciphers are not proof against somebody who can
// measure this machine closely.
//
// All methods may be called from many goroutines; a MAC is made wholly under the
// old key or wholly under the new one. It must not be copied, and prints as
// "<hidden>". The zero value has no master key: SetMACKey works, Download does not.
type SoftKeys struct {
	master  cipher.Block
	current atomic.Pointer[macKey]
}

// macKey is a MAC key, set up for all algorithms that it suits.
type macKey map[MACAlgorithm]macFunc

var _ Authenticator = (*SoftKeys)(nil)

// NewSoftKeys takes the terminal's master key as hex text: 32 digits (triple DES)
// or 16 (DES). There is no MAC key yet.
func NewSoftKeys(master Secret) (*SoftKeys, error) {
	b, err := masterCipher(master)
	if err != nil {
		return nil, err
	}
	return &SoftKeys{master: b}, nil
}

func masterCipher(master Secret) (cipher.Block, error) {
	key, err := keyBytes("master key", master)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := desCipher(key)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return b, nil
}

// MAC implements Authenticator. It never waits, so ctx is not looked at.
func (k *SoftKeys) MAC(_ context.Context, algorithm MACAlgorithm, data []byte) ([]byte, error) {
	current := k.current.Load()
	if current == nil {
		return nil, fmt.Errorf("%w: a sign-on brings the MAC key", ErrNoKey)
	}
	mac, ok := (*current)[algorithm]
	if !ok {
		return nil, fmt.Errorf("%w: the MAC key is not one for this algorithm", ErrInvalid)
	}
	return mac(data), nil
}

// SetMACKey loads a plain MAC key, given as hex text, in place of the current
// one: for AES and SM4, whose keys come by other ways than DE 62. A key of 16
// bytes serves every algorithm that takes one. On error the old key stays.
func (k *SoftKeys) SetMACKey(key Secret) error {
	clearKey, err := keyBytes("MAC key", key)
	if err != nil {
		return err
	}
	defer clear(clearKey)
	loaded, err := newMACKey(clearKey)
	if err != nil {
		return err
	}
	k.current.Store(loaded)
	return nil
}

func newMACKey(key []byte) (*macKey, error) {
	loaded := macKey{}
	for _, algorithm := range MACAlgorithms() {
		if mac, err := newMAC(algorithm, key); err == nil {
			loaded[algorithm] = mac
		}
	}
	if len(loaded) == 0 {
		return nil, fmt.Errorf("MAC key: %w", keySize(key))
	}
	return &loaded, nil
}

// Download takes the keys out of a sign-on answer: DE 62 as hex text, each key
// wrapped under the master key by ECB, and behind each the first 4 bytes of what
// it makes of 8 zero bytes (PIN 8 + 4, MAC 8 + 4; or PIN 16 + 4, MAC 16 + 4; or
// the same and track 16 + 4). In the longer forms a single MAC key is 8 wrapped
// bytes, 8 zero bytes that are not wrapped, and a check value by DES. Source: the
// UnionPay terminal specification's text on DE 62, as programs quote it, and the
// worked example at code456.com/article/3026509.html.
//
// The MAC key is replaced only when every key's check value fits; the PIN key and
// the track key are checked and forgotten. On error the old key stays, and the
// error names the key that is at fault and why, never a value: it wraps
// ErrInvalid, ErrKeyCheck, or ErrNoKey when there is no master key.
func (k *SoftKeys) Download(de62 Secret) error {
	if k.master == nil {
		return fmt.Errorf("%w: there is no master key to unwrap DE 62 with", ErrNoKey)
	}
	size, ok := map[int]int{2 * 24: 8, 2 * 40: 16, 2 * 60: 16}[len(de62.Reveal())]
	if !ok {
		return invalid(62, "must have 24, 40 or 60 bytes of keys")
	}
	wire, err := hex.DecodeString(de62.Reveal())
	if err != nil { // its text repeats a digit of the key
		return invalid(62, "must be hex")
	}
	var loaded *macKey
	names := []string{"PIN key", "MAC key", "track key"}
	for i, part := range slices.Collect(slices.Chunk(wire, size+checkSize)) {
		wrapped, check := part[:size], part[size:]
		isMAC := i == 1
		if isMAC && len(wrapped) == 16 && [8]byte(wrapped[8:]) == [8]byte{} {
			wrapped = wrapped[:8]
		}
		key, err := unwrap(k.master, wrapped, check)
		if err != nil {
			return fmt.Errorf("DE 62, %s: %w", names[i], err)
		}
		if isMAC {
			loaded, err = newMACKey(key)
		}
		clear(key)
		if err != nil {
			return fmt.Errorf("DE 62: %w", err)
		}
	}
	k.current.Store(loaded)
	return nil
}

// checkSize is the length of a check value in DE 62.
const checkSize = 4

// unwrap returns the clear key when its check value fits.
func unwrap(master cipher.Block, wrapped, check []byte) ([]byte, error) {
	key := make([]byte, len(wrapped))
	for i := 0; i < len(key); i += des.BlockSize {
		master.Decrypt(key[i:], wrapped[i:])
	}
	want, err := checkValue(key)
	if err == nil && subtle.ConstantTimeCompare(want, check) != 1 {
		err = ErrKeyCheck
	}
	if err != nil {
		clear(key)
		return nil, err
	}
	return key, nil
}

// checkValue is the first 4 bytes of 8 zero bytes encrypted under the key.
func checkValue(key []byte) ([]byte, error) {
	b, err := desCipher(key)
	if err != nil {
		return nil, err
	}
	var block [des.BlockSize]byte
	b.Encrypt(block[:], block[:])
	return block[:checkSize], nil
}

// WrapKeys is what a host puts into DE 62 of a sign-on answer, as hex text: see
// Download. All three keys are hex text; pin and mac have 8 bytes both, or pin
// has 16 and mac 16 or 8.
func WrapKeys(master Secret, pin, mac Secret) (Secret, error) {
	b, err := masterCipher(master)
	if err != nil {
		return Secret{}, err
	}
	pinKey, err := keyBytes("PIN key", pin)
	if err != nil {
		return Secret{}, err
	}
	defer clear(pinKey)
	clearKey, err := keyBytes("MAC key", mac)
	if err != nil {
		return Secret{}, err
	}
	defer clear(clearKey)
	if size := len(pinKey); (size != 8 && size != 16) || len(clearKey) > size {
		return Secret{}, fmt.Errorf("%w: DE 62 takes a PIN key of 8 or 16 bytes, and a MAC key no longer than that", ErrInvalid)
	}
	var wire []byte
	for _, key := range [][]byte{pinKey, clearKey} {
		check, err := checkValue(key)
		if err != nil {
			return Secret{}, err
		}
		wrapped := make([]byte, len(pinKey)) // a single MAC key among double ones: zeros behind it
		for i := 0; i < len(key); i += des.BlockSize {
			b.Encrypt(wrapped[i:], key[i:])
		}
		wire = slices.Concat(wire, wrapped, check)
	}
	return NewSecret(strings.ToUpper(hex.EncodeToString(wire))), nil
}

// keyMax is the longest key there is, in bytes: AES-256.
const keyMax = 32

// keyBytes reads a key that is written in hex. The caller clears what it gets.
func keyBytes(name string, key Secret) ([]byte, error) {
	text := key.Reveal()
	switch {
	case text == "":
		return nil, fmt.Errorf("%w: the %s is empty", ErrNoKey, name)
	case len(text) > 2*keyMax:
		return nil, fmt.Errorf("%w: the %s is longer than %d bytes", ErrInvalid, name, keyMax)
	}
	b, err := hex.DecodeString(text)
	if err != nil { // its text repeats a digit of the key
		return nil, fmt.Errorf("%w: the %s must be hex, two digits a byte", ErrInvalid, name)
	}
	return b, nil
}

// String hides the keys.
func (k *SoftKeys) String() string { return hidden }

// Format hides the keys under every verb.
func (k *SoftKeys) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, hidden) }

// MarshalText hides the keys.
func (k *SoftKeys) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides the keys for log/slog.
func (k *SoftKeys) LogValue() slog.Value { return slog.StringValue(hidden) }
