package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
)

// record is the stored form of an entry: the entry and, while it is needed, its
// sealed image.
type record struct {
	Entry
	Sealed   []byte
	KeyID    string
	Card     string // keyed token of the card, "" when there was no key or no card
	LaneLast uint32 // with the step that began the entry: the lane's last trace number
	value    []byte // the stored form, once it was made or where the caller keeps it
}

// copied is a record that a step may change.
func (r *record) copied() *record {
	c := *r
	c.Steps = slices.Clone(r.Steps)
	c.LaneLast, c.value = 0, nil
	return &c
}

// recordFile is the JSON inside a stored value.
type recordFile struct {
	Entry    entryFile `json:"e"`
	Sealed   []byte    `json:"sealed,omitempty"`
	KeyID    string    `json:"key_id,omitempty"`
	Card     []byte    `json:"card,omitempty"`
	LaneLast uint32    `json:"lane_last,omitempty"`
}

// entryFile is Entry with the status as its number: names may be translated one
// day, numbers on disk never change.
type entryFile struct {
	Entry
	Status uint8 `json:"status"`
}

// recordVersion 2 differs from 1 in having more facts in the JSON.
const recordVersion = 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode gives version, JSON, CRC-32C. The checksum covers the key too, so that
// a value under a wrong key does not pass.
func (r *record) encode() ([]byte, error) {
	body, err := json.Marshal(recordFile{entryFile{r.Entry, uint8(r.Status)}, r.Sealed, r.KeyID, []byte(r.Card), r.LaneLast})
	if err != nil {
		return nil, err
	}
	value := append([]byte{recordVersion}, body...)
	return binary.LittleEndian.AppendUint32(value, checksum(r.ID, value)), nil
}

func decode(id ID, value []byte) (*record, error) {
	if len(value) < 6 {
		return nil, fmt.Errorf("entry %d: %w: record too short", id, ErrDamaged)
	}
	body, sum := value[:len(value)-4], binary.LittleEndian.Uint32(value[len(value)-4:])
	if checksum(id, body) != sum {
		return nil, fmt.Errorf("entry %d: %w: checksum does not fit", id, ErrDamaged)
	}
	if body[0] < 1 || body[0] > recordVersion {
		return nil, fmt.Errorf("entry %d: %w: record version %d, this program knows %d", id, ErrNewer, body[0], recordVersion)
	}
	var f recordFile
	if err := json.Unmarshal(body[1:], &f); err != nil {
		return nil, fmt.Errorf("entry %d: %w: record cannot be read", id, ErrDamaged)
	}
	r := &record{Entry: f.Entry.Entry, Sealed: f.Sealed, KeyID: f.KeyID, Card: string(f.Card), LaneLast: f.LaneLast}
	r.Status = Status(f.Entry.Status)
	if r.ID != id || statusNames[r.Status] == "" {
		return nil, fmt.Errorf("entry %d: %w: record contradicts itself", id, ErrDamaged)
	}
	return r, nil
}

func checksum(id ID, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key(id), castagnoli), castagnoli, body)
}

// laneKey is where a lane's last trace number stands. The length in front keeps
// A/B + C and A + B/C apart.
func laneKey(l Lane) []byte {
	return append([]byte{byte(len(l.Terminal))}, l.Terminal+l.Merchant...)
}

// encodeSTAN gives the trace number and a CRC-32C over it and its key.
func encodeSTAN(l Lane, stan uint32) []byte {
	value := binary.BigEndian.AppendUint32(nil, stan)
	sum := crc32.Update(crc32.Checksum(laneKey(l), castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(value, sum)
}

func decodeSTAN(l Lane, value []byte) (uint32, error) {
	if len(value) == 8 {
		if stan := binary.BigEndian.Uint32(value); bytes.Equal(value, encodeSTAN(l, stan)) {
			return stan, nil
		}
	}
	return 0, fmt.Errorf("lane %s: %w: its last trace number cannot be read", l, ErrDamaged)
}

// key is the id as the store sorts it: eight bytes, big-endian.
func key(id ID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }
