package journal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	bolt "go.etcd.io/bbolt"
)

// storeState is how far the store has got, kept in the same commit as what it
// says.
type storeState struct {
	Generation uint32 `json:"generation"` // of the write-ahead file that belongs to this store
	Region     int64  `json:"region"`     // bytes of each of its two regions
	Applied    uint64 `json:"applied"`    // newest frame that the store has
	Chain      []byte `json:"chain"`      // the link there
	ChainKey   string `json:"chain_key,omitempty"`
	Anchor     uint64 `json:"anchor"` // rows up to here were pruned; the chain is followed from here
	AnchorLink []byte `json:"anchor_chain"`
	AnchorKey  string `json:"anchor_key,omitempty"`
	LastID     ID     `json:"last_id"`             // newest entry id ever given out
	PrunedTo   ID     `json:"pruned_to,omitempty"` // entries before it were looked at for pruning
	Boot       uint32 `json:"boot"`
	BootID     string `json:"boot_id,omitempty"`
	Terminal   string `json:"terminal,omitempty"` // Options.Terminal of whoever made the journal

	Ran      time.Duration `json:"ran,omitempty"` // how long the device was on, as far as steps tell
	RanBoot  uint32        `json:"ran_boot,omitempty"`
	RanSince time.Duration `json:"ran_since,omitempty"` // in that boot, at the newest step that was counted
}

const stateVersion = 1

func (s storeState) encode() ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	value := append([]byte{stateVersion}, body...)
	return binary.LittleEndian.AppendUint32(value, crc32.Checksum(value, castagnoli)), nil
}

func decodeState(value []byte) (s storeState, err error) {
	if len(value) < 6 || crc32.Checksum(value[:len(value)-4], castagnoli) != binary.LittleEndian.Uint32(value[len(value)-4:]) {
		return s, fmt.Errorf("%w: the store's state cannot be read", ErrDamaged)
	}
	if value[0] != stateVersion {
		return s, fmt.Errorf("%w: state version %d, this program knows %d", ErrNewer, value[0], stateVersion)
	}
	if err := json.Unmarshal(value[1:len(value)-4], &s); err != nil ||
		len(s.Chain) != linkBytes || len(s.AnchorLink) != linkBytes || s.Region < RegionBytesMin || s.Region > regionBytesMax || s.Anchor > s.Applied {
		return s, fmt.Errorf("%w: the store's state contradicts itself", ErrDamaged)
	}
	return s, nil
}

func (s storeState) save(tx *bolt.Tx) error {
	value, err := s.encode()
	if err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put(keyState, value)
}
