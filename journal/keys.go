package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// KeySource gives the device's keys. Hardware implements it; NewKeyRing, KeyFile
// and KeyEnv give one in software. Its methods may be called from many goroutines.
type KeySource interface {
	// Current is the key that new things are sealed under. Errors wrap ErrKey.
	Current() (DeviceKey, error)
	// ByID is the key with this id: the current one, or an older one that things on
	// disk are still sealed under. Errors wrap ErrKey when the device has no such key.
	ByID(id string) (DeviceKey, error)
}

// DeviceKey is one key of the device, or a handle to it in hardware. Its methods
// may be called from many goroutines.
type DeviceKey interface {
	// ID is 16 hex digits that tell the key from others. It is not secret.
	ID() string
	// Seal encrypts with AES-256-GCM: 12 bytes random nonce, ciphertext, 16 bytes
	// tag. What is associated is not encrypted, but must be the same to open.
	Seal(plain, associated []byte) ([]byte, error)
	// Open inverts Seal. Errors wrap ErrDamaged when this key did not seal these
	// bytes with what is associated; any other error says nothing of them.
	Open(sealed, associated []byte) ([]byte, error)
	// Derive gives a key of KeyBytes, always the same for one purpose and another for
	// each: for the chain of steps, for tokens of cards. Errors wrap ErrInvalid when
	// no purpose is named.
	Derive(purpose string) (Secret, error)
}

// softKey is a key in the process's memory. It prints as its id.
type softKey struct {
	id string
	// material is behind a function, because printers walk into fields and pointers,
	// and a cipher begins with its key (L11).
	material func() material
}

type material struct {
	key  Secret
	aead cipher.AEAD
}

// NewSoftKey makes a key of KeyBytes, which are copied. Errors wrap ErrKey.
func NewSoftKey(key Secret) (DeviceKey, error) {
	k, err := newSoftKey(key)
	if err != nil {
		return nil, keyFault("device key", err)
	}
	return k, nil
}

func newSoftKey(key Secret) (*softKey, error) {
	if len(key) != KeyBytes {
		return nil, keyWrong{
			fmt.Sprintf("it must be %d bytes, is %d", KeyBytes, len(key)),
			fmt.Sprintf("give %d bytes drawn by chance", KeyBytes),
		}
	}
	key = slices.Clone(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(append([]byte("uncharge key id\x00"), key...))
	m := material{key, aead}
	return &softKey{hex.EncodeToString(id[:8]), func() material { return m }}, nil
}

func (k softKey) ID() string { return k.id }

func (k softKey) Seal(plain, associated []byte) ([]byte, error) {
	return k.material().aead.Seal(nil, nil, plain, associated), nil
}

func (k softKey) Open(sealed, associated []byte) ([]byte, error) {
	plain, err := k.material().aead.Open(nil, nil, sealed, associated)
	if err != nil {
		return nil, fmt.Errorf("%w: it does not open under key %s", ErrDamaged, k.id)
	}
	return plain, nil
}

func (k softKey) Derive(purpose string) (Secret, error) {
	if purpose == "" {
		return nil, fmt.Errorf("%w: a key was to be derived for no purpose", ErrInvalid)
	}
	return hkdf.Key(sha256.New, k.material().key, nil, purpose, KeyBytes)
}

// String is the id; the key is hidden.
func (k softKey) String() string { return "key " + k.id }

// Format prints String under every verb.
func (k softKey) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, k.String()) }

// MarshalText is String.
func (k softKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String.
func (k softKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// keysMax bounds a ring: a new key each month for eight years.
const keysMax = 100

// keyRing holds a device's keys in memory: the current one first. It prints as
// their ids.
type keyRing struct{ keys []*softKey }

// NewKeyRing makes a source of the current key and the older ones, each of KeyBytes;
// they are copied. Things sealed under an older key open as long as it is in the
// ring. Errors wrap ErrKey: a key of another length, one that is given twice.
func NewKeyRing(current Secret, older ...Secret) (KeySource, error) {
	r := &keyRing{}
	for n, key := range append([]Secret{current}, older...) {
		if err := r.add(key); err != nil {
			return nil, keyFault(fmt.Sprintf("key ring, key %d", n+1), err)
		}
	}
	return r, nil
}

func (r *keyRing) add(key Secret) error {
	k, err := newSoftKey(key)
	if err != nil {
		return err
	}
	if len(r.keys) == keysMax {
		return keyWrong{fmt.Sprintf("there are more than %d keys", keysMax), "leave out the oldest ones under which nothing is sealed any more"}
	}
	for n, other := range r.keys {
		if other.id == k.id {
			return keyWrong{fmt.Sprintf("it is key %d once more", n+1), "give each key once, the current one first"}
		}
	}
	r.keys = append(r.keys, k)
	return nil
}

func (r keyRing) Current() (DeviceKey, error) { return r.keys[0], nil }

func (r keyRing) ByID(id string) (DeviceKey, error) {
	for _, k := range r.keys {
		if k.id == id {
			return k, nil
		}
	}
	return nil, keyFault(fmt.Sprintf("key %.20q", id), keyWrong{
		fmt.Sprintf("the device does not have it, only %s", r.ids()),
		"if it was replaced, give it too, behind the current one",
	})
}

func (r keyRing) ids() string {
	var ids []string
	for _, k := range r.keys {
		ids = append(ids, k.id)
	}
	return strings.Join(ids, ", ")
}

// String is the ids; the keys are hidden.
func (r keyRing) String() string { return "keys " + r.ids() }

// Format prints String under every verb.
func (r keyRing) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, r.String()) }

// MarshalText is String.
func (r keyRing) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// LogValue is String.
func (r keyRing) LogValue() slog.Value { return slog.StringValue(r.String()) }

// keyWrong is what is wrong with a key, without any of it, and what to do.
type keyWrong struct{ wrong, todo string }

func (w keyWrong) Error() string { return w.wrong + "; nothing was changed; " + w.todo }

// keyFault says with which key something is wrong.
func keyFault(which string, err error) error { return fmt.Errorf("%w: %s: %w", ErrKey, which, err) }
