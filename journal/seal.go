package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// KeyBytes is the length of a device key (AES-256).
const KeyBytes = 32

// sealer seals images with AES-256-GCM. Journal id and entry id are associated
// data: an image moved to another entry or another journal does not open.
type sealer struct {
	aead      cipher.AEAD
	keyID     string
	journalID []byte
}

// newSealer returns nil for no key: such a journal can be read, and refuses to
// begin anything whose image it would have to store open (L11).
func newSealer(deviceKey, journalID []byte) (*sealer, error) {
	if len(deviceKey) == 0 {
		return nil, nil
	}
	if len(deviceKey) != KeyBytes {
		return nil, fmt.Errorf("%w: it must be %d bytes, is %d", ErrKey, KeyBytes, len(deviceKey))
	}
	block, err := aes.NewCipher(deviceKey)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(append([]byte("uncharge key id\x00"), deviceKey...))
	return &sealer{aead, hex.EncodeToString(id[:8]), journalID}, nil
}

func (s *sealer) associated(id ID) []byte {
	return append(append([]byte(nil), s.journalID...), key(id)...)
}

func (s *sealer) seal(id ID, image []byte) []byte {
	return s.aead.Seal(nil, nil, image, s.associated(id))
}

func (s *sealer) open(id ID, keyID string, sealed []byte) ([]byte, error) {
	if keyID != s.keyID {
		return nil, fmt.Errorf("entry %d: %w: sealed under key %s, this device has %s", id, ErrKey, keyID, s.keyID)
	}
	image, err := s.aead.Open(nil, nil, sealed, s.associated(id))
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w: the sealed image does not open", id, ErrDamaged)
	}
	return image, nil
}
