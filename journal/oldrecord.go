package journal

import (
	"encoding/json"
)

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

// decodeJSON reads the fields of record versions 1 and 2.
func decodeJSON(body []byte) (*record, error) {
	var f recordFile
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, err
	}
	r := &record{Entry: f.Entry.Entry, Sealed: f.Sealed, KeyID: f.KeyID, Card: string(f.Card), LaneLast: f.LaneLast}
	r.Status = Status(f.Entry.Status)
	return r, nil
}
