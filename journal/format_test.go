package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// A journal's file read by FORMAT.md alone, with bbolt and the standard library.
func TestTheFileIsAsFORMATSays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	begun, owed, parked, done := s.entryAt(Begun), s.entryAt(Owed), s.entryAt(Parked), s.entryAt(Completed)
	s.close()
	db, err := bolt.Open(s.path("journal.db"), 0o600, &bolt.Options{ReadOnly: true})
	s.must(err)
	s.must(db.View(func(tx *bolt.Tx) error {
		get := func(bucket string, k []byte) []byte { return tx.Bucket([]byte(bucket)).Get(k) }
		be := func(id ID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }
		if mark := get("meta", []byte("format")); string(mark) != "uncharge journal \x01" {
			t.Errorf("mark %q", mark)
		}
		journalID := get("meta", []byte("id"))
		if len(journalID) != 16 {
			t.Errorf("journal id %x", journalID)
		}
		if last := get("lanes", []byte("\x08TERM0001MERCHANT0000001")); len(last) < 4 || binary.BigEndian.Uint32(last) != 4 {
			t.Errorf("last trace number %x", last)
		}
		for id, in := range map[ID][2]bool{begun: {true, false}, owed: {true, false}, parked: {false, true}, done: {false, false}} {
			if got := [2]bool{get("open", be(id)) != nil, get("parked", be(id)) != nil}; got != in {
				t.Errorf("entry %d is in open, parked: %v, want %v", id, got, in)
			}
			v := get("entries", be(id))
			body, sum := v[:len(v)-4], binary.LittleEndian.Uint32(v[len(v)-4:])
			if crc32.Checksum(append(be(id), body...), crc32.MakeTable(crc32.Castagnoli)) != sum || v[0] != 1 {
				t.Errorf("entry %d: version %d, checksum %08x", id, v[0], sum)
			}
			wantRecordAsDocumented(t, id, body[1:], journalID)
		}
		return nil
	}))
	s.must(db.Close())
	s.open()
}

func wantRecordAsDocumented(t *testing.T, id ID, body, journalID []byte) {
	t.Helper()
	var r struct {
		E struct {
			ID     uint64
			Status int
			STAN   int
		}
		Sealed []byte
		KeyID  string `json:"key_id"`
	}
	if err := json.Unmarshal(body, &r); err != nil || r.E.ID != uint64(id) || r.E.STAN != int(id) {
		t.Fatalf("entry %d: %s %v", id, body, err)
	}
	status := map[uint64]int{1: 1, 2: 5, 3: 7, 4: 2}[r.E.ID] // begun, owed, parked, completed
	if r.E.Status != status || (r.Sealed != nil) != (status != 2) || (r.KeyID != "") != (status != 2) {
		t.Errorf("entry %d: %s, want status %d", id, body, status)
	}
	if r.Sealed == nil {
		return
	}
	sum := sha256.Sum256(append([]byte("uncharge key id\x00"), deviceKey...))
	block, err1 := aes.NewCipher(deviceKey)
	gcm, err2 := cipher.NewGCM(block)
	if err1 != nil || err2 != nil || r.KeyID != hex.EncodeToString(sum[:8]) {
		t.Fatalf("entry %d: key id %s: %v %v", id, r.KeyID, err1, err2)
	}
	aad := binary.BigEndian.AppendUint64(append([]byte(nil), journalID...), uint64(id))
	image, err := gcm.Open(nil, r.Sealed[:12], r.Sealed[12:], aad)
	if err != nil || string(image) != "image of TERM0001/MERCHANT0000001 00000"+id.String() {
		t.Errorf("entry %d: image %q %v", id, image, err)
	}
}
