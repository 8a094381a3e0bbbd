package journal

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// KeyBytes is the length of a device key (AES-256).
const KeyBytes = 32

// sealer seals images with AES-256-GCM. Journal id and entry id are associated
// data: an image moved to another entry or another journal does not open.
type sealer struct {
	keys      KeySource
	current   DeviceKey
	cards     Secret // derived: makes tokens of cards
	journalID []byte
}

// Purposes of keys that are derived from the device's.
const (
	purposeChain = "uncharge chain of steps"
	purposeCards = "uncharge card tokens"
)

// newSealer returns nil for no key: such a journal can be read, and refuses to
// begin anything whose image it would have to store open (L11).
func newSealer(keys KeySource, journalID []byte) (*sealer, error) {
	if keys == nil {
		return nil, nil
	}
	current, err := keys.Current()
	if err != nil {
		return nil, err
	}
	cards, err := current.Derive(purposeCards)
	if err != nil {
		return nil, err
	}
	return &sealer{keys, current, cards, journalID}, nil
}

func (s *sealer) associated(id ID) []byte {
	return append(append([]byte(nil), s.journalID...), key(id)...)
}

func (s *sealer) seal(id ID, image []byte) ([]byte, error) {
	return s.current.Seal(image, s.associated(id))
}

// open opens under the key that it was sealed with, which may be an older one.
func (s *sealer) open(id ID, keyID string, sealed []byte) ([]byte, error) {
	k := s.current
	if keyID != k.ID() {
		var err error
		if k, err = s.keys.ByID(keyID); err != nil {
			return nil, fmt.Errorf("entry %d: %w", id, err)
		}
	}
	image, err := k.Open(sealed, s.associated(id))
	if err != nil {
		return nil, fmt.Errorf("entry %d: the sealed image: %w", id, err)
	}
	return image, nil
}

// cardToken is the same for the same card on this device, and tells nobody without
// the key which card it is. A key that was replaced gives other tokens.
func (s *sealer) cardToken(pan Secret) string {
	if len(pan) == 0 || s == nil {
		return ""
	}
	h := hmac.New(sha256.New, s.cards)
	h.Write(pan)
	return string(h.Sum(nil)[:8])
}
