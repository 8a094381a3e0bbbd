package journal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A journal's files read by FORMAT.md alone, with bbolt and the standard library:
// nothing of the package is used to read them.

// formatFrame is a frame as FORMAT.md has it.
type formatFrame struct {
	kind                 byte
	epoch, before, sum   uint32
	index, synced, entry uint64
	payload, link        []byte
}

// readFormatRegion reads the frames of a region by the table of FORMAT.md.
func readFormatRegion(t *testing.T, b, journalID []byte) (frames []formatFrame) {
	t.Helper()
	le := binary.LittleEndian
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if string(b[:8]) != "unchgwal" || b[8] != 1 || !bytes.Equal(b[16:32], journalID) || le.Uint32(b[32:]) != 1 ||
		int(le.Uint32(b[36:])) != len(b) || le.Uint32(b[508:]) != crc32.Checksum(b[:508], castagnoli) {
		t.Fatalf("header %x", b[:64])
	}
	epoch, before := le.Uint32(b[40:]), uint32(0)
	for at := 4096; at+76 <= len(b); {
		n := int(le.Uint32(b[at:]))
		if n > 24576 || at+76+n > len(b) || b[at+4] != 1 {
			break
		}
		f := formatFrame{
			kind: b[at+5], epoch: le.Uint32(b[at+8:]), before: le.Uint32(b[at+12:]), index: le.Uint64(b[at+16:]), synced: le.Uint64(b[at+24:]),
			entry: le.Uint64(b[at+32:]), payload: b[at+40 : at+40+n], link: b[at+40+n : at+72+n], sum: le.Uint32(b[at+72+n:]),
		}
		if f.sum != crc32.Checksum(b[at:at+72+n], castagnoli) || f.epoch != epoch || f.before != before {
			break
		}
		frames, before = append(frames, f), f.sum
		at = (at + 76 + n + 7) / 8 * 8
	}
	return frames
}

// follows checks the chain from one link over frames.
func follows(t *testing.T, link []byte, frames []formatFrame) {
	t.Helper()
	chainKey, err := hkdf.Key(sha256.New, deviceKey, nil, "uncharge chain of steps", 32)
	if err != nil {
		t.Fatal(err)
	}
	keyed := false
	for _, f := range frames {
		digest := sha256.Sum256(f.payload)
		in := append(bytes.Clone(link), binary.BigEndian.AppendUint64(nil, f.index)...)
		in = append(in, f.kind)
		in = append(binary.BigEndian.AppendUint64(in, f.entry), digest[:16]...)
		sum := sha256.Sum256(in)
		link = sum[:]
		if keyed {
			h := hmac.New(sha256.New, chainKey)
			h.Write(in)
			link = h.Sum(nil)
		}
		if !bytes.Equal(link, f.link) {
			t.Errorf("frame %d: link %x, want %x", f.index, f.link, link)
		}
		keyed = keyed || f.kind == 4
	}
}

func TestTheWriteAheadFileIsAsFORMATSays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ids := []ID{s.entryAt(Begun), s.entryAt(Owed), s.entryAt(Parked), s.entryAt(Completed)}
	journalID, err := hex.DecodeString(s.j.ID())
	s.must(err)
	s.close()
	b := fileBytes(t, filepath.Join(s.opts.Dir, "journal.wal.000001"))
	frames := readFormatRegion(t, b[:len(b)/2], journalID)
	if len(readFormatRegion(t, b[len(b)/2:], journalID)) != 0 {
		t.Error("the second region is not empty")
	}
	// a key, a boot, then 1 + 2 + 3 + 2 steps
	if len(frames) != 10 || frames[0].kind != 4 || frames[1].kind != 2 || !bytes.HasPrefix(frames[1].payload, []byte(`{"boot":1,"boot_id":"`)) {
		t.Fatalf("%d frames: %+v", len(frames), frames)
	}
	for i, f := range frames {
		if f.index != uint64(i)+1 || f.synced >= f.index || f.kind != 1 && f.entry != 0 || i > 2 && f.synced != f.index-1 {
			t.Errorf("frame %d: %+v", i, f)
		}
	}
	first := sha256.Sum256(append([]byte("uncharge chain\x00"), journalID...))
	follows(t, first[:], frames)
	for _, id := range ids {
		var newest formatFrame
		for _, f := range frames {
			if f.entry == uint64(id) {
				newest = f
			}
		}
		wantRecordAsDocumented(t, id, newest.payload, journalID)
	}
	if p := frames[2].payload; readFormatTables(t).list(t, "record", p[1:len(p)-4]).number("lane_last") != 1 {
		t.Errorf("the first record: %x", p)
	}
	s.open()
}

func TestTheStoreIsAsFORMATSays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	d := s.draft(lane1)
	d.PAN = []byte(testPAN)
	begun, err := s.j.Begin(d)
	s.must(err)
	owed, parked, done := s.entryAt(Owed), s.entryAt(Parked), s.entryAt(Completed)
	s.must(s.j.flush())
	journalID, err := hex.DecodeString(s.j.ID())
	s.must(err)
	s.close()
	db, err := bolt.Open(s.path("journal.db"), 0o600, &bolt.Options{ReadOnly: true})
	s.must(err)
	s.must(db.View(func(tx *bolt.Tx) error {
		get := func(bucket string, k []byte) []byte { return tx.Bucket([]byte(bucket)).Get(k) }
		be := func(id ID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }
		if mark := get("meta", []byte("format")); string(mark) != "uncharge journal \x02" {
			t.Errorf("mark %q", mark)
		}
		if id := get("meta", []byte("id")); !bytes.Equal(id, journalID) {
			t.Errorf("journal id %x", id)
		}
		wantStateAsDocumented(t, get("meta", []byte("state")))
		if last := get("lanes", []byte("\x08TERM0001MERCHANT0000001")); len(last) != 8 || binary.BigEndian.Uint32(last) != 4 {
			t.Errorf("last trace number %x", last)
		}
		for id, in := range map[ID][2]bool{begun: {true, false}, owed: {true, false}, parked: {false, true}, done: {false, false}} {
			if got := [2]bool{get("open", be(id)) != nil, get("parked", be(id)) != nil}; got != in {
				t.Errorf("entry %d is in open, parked: %v, want %v", id, got, in)
			}
			value := get("entries", be(id))
			wantRecordAsDocumented(t, id, value, journalID)
			digest := sha256.Sum256(value)
			newest := []byte(nil)
			s.must(tx.Bucket([]byte("chain")).ForEach(func(_, row []byte) error {
				if len(row) == 33 && row[0] == 1 && binary.BigEndian.Uint64(row[1:]) == uint64(id) {
					newest = row
				}
				return nil
			}))
			if newest == nil || !bytes.Equal(newest[9:25], digest[:16]) {
				t.Errorf("entry %d: newest row %x, digest %x", id, newest, digest[:16])
			}
		}
		wantMarkAsDocumented(t, tx.Bucket([]byte("marks")), get("meta", []byte("state")))
		wantIndexAsDocumented(t, tx.Bucket([]byte("index")), done, begun)
		return nil
	}))
	s.must(db.Close())
	s.open()
}

func wantStateAsDocumented(t *testing.T, state []byte) {
	t.Helper()
	if len(state) < 5 || state[0] != 1 || crc32.Checksum(state[:len(state)-4], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(state[len(state)-4:]) {
		t.Fatalf("state %x", state)
	}
	var st struct {
		Generation, Region, Applied, Anchor, Boot int
		LastID                                    int    `json:"last_id"`
		ChainKey                                  string `json:"chain_key"`
		Chain                                     []byte
	}
	key := sha256.Sum256(append([]byte("uncharge key id\x00"), deviceKey...))
	if err := json.Unmarshal(state[1:len(state)-4], &st); err != nil || st.Generation != 1 || st.Region != 32<<10 || st.Applied != 10 || st.Anchor != 0 ||
		st.Boot != 1 || st.LastID != 4 || st.ChainKey != hex.EncodeToString(key[:8]) || len(st.Chain) != 32 {
		t.Errorf("state %s: %v", state[1:len(state)-4], err)
	}
}

func wantMarkAsDocumented(t *testing.T, marks *bolt.Bucket, state []byte) {
	t.Helper()
	var st struct {
		Applied uint64
		Chain   []byte
		Key     string `json:"chain_key"`
		Ran     uint64
	}
	if err := json.Unmarshal(state[1:len(state)-4], &st); err != nil {
		t.Fatal(err)
	}
	k := binary.BigEndian.AppendUint64(nil, st.Applied)
	want := append(append(binary.BigEndian.AppendUint64(nil, st.Ran), st.Chain...), st.Key...)
	want = binary.LittleEndian.AppendUint32(want, crc32.Checksum(slices.Concat(k, want), crc32.MakeTable(crc32.Castagnoli)))
	if got := marks.Get(k); !bytes.Equal(got, want) || st.Ran == 0 {
		t.Errorf("mark %x, want %x", got, want)
	}
}

// What a pruning frame says, and what the store then has, as FORMAT.md tells it.
func TestAPruningIsAsFORMATSays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.tight()
	owed, gone := s.entryAt(Owed), s.entryAt(Completed)
	s.must(s.j.flush())
	for range 2 {
		s.entryAt(Completed)
		s.must(s.j.flush())
	}
	s.must(second(s.j.Prune()))
	s.must(s.j.flush())
	s.must(s.j.store.db.View(func(tx *bolt.Tx) error {
		var p struct {
			Gone   [][2]uint64
			From   uint64
			Anchor uint64
			Chain  []byte
			Key    string `json:"chain_key"`
			Kept   []byte
		}
		var anchors []uint64
		s.must(tx.Bucket([]byte("notes")).ForEach(func(k, v []byte) error {
			if row := tx.Bucket([]byte("chain")).Get(k); row[0] != 3 {
				return nil
			}
			anchors = append(anchors, p.Anchor)
			return json.Unmarshal(v, &p)
		}))
		first, _ := tx.Bucket([]byte("chain")).Cursor().First()
		digest := sha256.Sum256(tx.Bucket([]byte("entries")).Get(binary.BigEndian.AppendUint64(nil, uint64(owed))))
		if p.Anchor == 0 || len(p.Chain) != 32 || p.Key == "" || binary.BigEndian.Uint64(first) != p.Anchor+1 || p.From <= uint64(gone) {
			t.Errorf("%+v after %v; the first row is %x", p, anchors, first)
		}
		if want := append(binary.BigEndian.AppendUint64(nil, uint64(owed)), digest[:16]...); !bytes.Equal(p.Kept, want) {
			t.Errorf("kept %x, want %x", p.Kept, want)
		}
		return tx.Bucket([]byte("index")).ForEach(func(k, pack []byte) error { // made anew for the few that are left
			for i := range int(binary.BigEndian.Uint16(pack[2:])) {
				width := int(pack[1])
				if id := binary.BigEndian.Uint16(pack[4+i*(width+2)+width:]); k[4] == 'x' || id == uint16(gone) {
					t.Errorf("the index has entry %d under %x", id, k)
				}
			}
			return nil
		})
	}))
}

func wantIndexAsDocumented(t *testing.T, index *bolt.Bucket, done, begun ID) {
	t.Helper()
	cards, err := hkdf.Key(sha256.New, deviceKey, nil, "uncharge card tokens", 32)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, cards)
	h.Write([]byte(testPAN))
	be := binary.BigEndian
	for name, want := range map[string]struct {
		prefix, value string
		id            ID
	}{
		"trace number": {"\x00\x00\x00\x00s", "\x00\x00\x00\x04", done},
		"RRN":          {"\x00\x00\x00\x00r", "\x0c602001000017", done},
		"amount":       {"\x00\x00\x00\x00a", string(be.AppendUint64(nil, 1250)), done},
		"card":         {"\x00\x00\x00\x00c", string(h.Sum(nil)[:8]), begun},
	} {
		key, p := index.Cursor().Seek([]byte(want.prefix))
		if len(key) != 15 || string(key[:5]) != want.prefix || len(p) < 8 {
			t.Fatalf("%s: %x is no pack: %x", name, key, p)
		}
		w, n := int(p[1]), int(be.Uint16(p[2:]))
		sum := crc32.Checksum(slices.Concat(key, p[:len(p)-4]), crc32.MakeTable(crc32.Castagnoli))
		if p[0] != 1 || len(p) != 4+n*(w+2)+4 || binary.LittleEndian.Uint32(p[len(p)-4:]) != sum {
			t.Fatalf("%s: pack %x", name, p)
		}
		place := []byte(want.value)
		place = be.AppendUint16(append(place, make([]byte, w-len(place))...), uint16(want.id))
		var places []string
		for i := range n {
			places = append(places, string(p[4+i*(w+2):][:w+2]))
		}
		if !slices.IsSorted(places) || !slices.Contains(places, string(place)) {
			t.Errorf("%s: the index has %x, not %x", name, places, place)
		}
	}
}

// wantRecordAsDocumented reads a record by FORMAT.md and opens its image.
func wantRecordAsDocumented(t *testing.T, id ID, value, journalID []byte) {
	t.Helper()
	be := binary.BigEndian.AppendUint64(nil, uint64(id))
	body, sum := value[:len(value)-4], binary.LittleEndian.Uint32(value[len(value)-4:])
	if crc32.Checksum(append(bytes.Clone(be), body...), crc32.MakeTable(crc32.Castagnoli)) != sum || value[0] != 3 {
		t.Errorf("entry %d: version %d, checksum %08x", id, value[0], sum)
	}
	doc := readFormatTables(t)
	r := doc.list(t, "record", body[1:])
	want := map[ID]string{1: "begun", 2: "owed", 3: "parked", 4: "completed"}[id]
	if got := doc.names["status"][r.number("status")]; got != want || r.number("stan") != uint64(id) || r.text("terminal") != "TERM0001" || r.text("currency") != "USD" {
		t.Errorf("entry %d: it is %s, not %s: %v", id, got, want, r)
	}
	if open := want != "completed"; (r.text("sealed") != "") != open || (r.text("key_id") != "") != open {
		t.Errorf("entry %d: %v, and it is %s", id, r, want)
	}
	if len(r["steps"]) != map[ID]int{1: 1, 2: 2, 3: 3, 4: 2}[id] {
		t.Errorf("entry %d: steps %v", id, r["steps"])
	}
	for n, step := range r["steps"] {
		s := step.(formatFields)
		at := time.Unix(int64(s.number("seconds"))-62_135_596_800, int64(s.number("nanos")))
		if s.number("seq") == 0 || s.number("boot") != 1 || s.number("since_boot") == 0 || at.UTC().Format("2006-01-02 15") != "2026-01-02 03" {
			t.Errorf("entry %d: step %v at %v", id, s, at)
		}
		if kind := doc.names["kind"][s.number("kind")]; n == 0 && kind != "begin" || n == 2 && kind != "park" {
			t.Errorf("entry %d: step %d is %s", id, n, kind)
		}
	}
	if r.text("sealed") == "" {
		return
	}
	sealed := []byte(r.text("sealed"))
	sum256 := sha256.Sum256(append([]byte("uncharge key id\x00"), deviceKey...))
	block, err1 := aes.NewCipher(deviceKey)
	gcm, err2 := cipher.NewGCM(block)
	if err1 != nil || err2 != nil || r.text("key_id") != hex.EncodeToString(sum256[:8]) {
		t.Fatalf("entry %d: key id %s: %v %v", id, r.text("key_id"), err1, err2)
	}
	image, err := gcm.Open(nil, sealed[:12], sealed[12:], append(bytes.Clone(journalID), be...))
	if err != nil || string(image) != "image of TERM0001/MERCHANT0000001 00000"+id.String() {
		t.Errorf("entry %d: image %q %v", id, image, err)
	}
}

// The fixture of format 2, decoded by the tables of FORMAT.md alone: what the store and
// the write-ahead file have of each entry, newest step first.
func TestTheFixtureIsAsFORMATSays(t *testing.T) {
	t.Parallel()
	want, dir, doc := expectationOf(t, "v2"), filepath.Join(fixturesDir, "v2"), readFormatTables(t)
	journalID, err := hex.DecodeString(want.Journal)
	if err != nil {
		t.Fatal(err)
	}
	newest := map[uint64]formatFields{}
	take := func(id uint64, record []byte) {
		sum := crc32.Checksum(slices.Concat(binary.BigEndian.AppendUint64(nil, id), record[:len(record)-4]), crc32.MakeTable(crc32.Castagnoli))
		if record[0] != 3 || binary.LittleEndian.Uint32(record[len(record)-4:]) != sum {
			t.Fatalf("entry %d: %x", id, record)
		}
		newest[id] = doc.list(t, "record", record[1:len(record)-4])
	}
	db, err := bolt.Open(filepath.Join(fixture(t, "v2"), "journal.db"), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var st struct{ Applied uint64 }
	if err := db.View(func(tx *bolt.Tx) error {
		state := tx.Bucket([]byte("meta")).Get([]byte("state"))
		if err := json.Unmarshal(state[1:len(state)-4], &st); err != nil {
			return err
		}
		return tx.Bucket([]byte("entries")).ForEach(func(k, v []byte) error {
			take(binary.BigEndian.Uint64(k), v)
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wal := fileBytes(t, filepath.Join(dir, "journal.wal.000001"))
	later := 0
	for _, region := range [][]byte{wal[:len(wal)/2], wal[len(wal)/2:]} {
		for _, f := range readFormatRegion(t, region, journalID) {
			if f.kind == 1 && f.index > st.Applied {
				later++
				take(f.entry, f.payload)
			}
		}
	}
	if len(newest) != len(want.Entries) || later == 0 {
		t.Fatalf("%d entries, want %d; %d frames behind the store", len(newest), len(want.Entries), later)
	}
	for _, text := range want.Entries {
		var e struct {
			ID, STAN uint64
			Status   string
			Lane     struct{ Terminal string }
			Amount   struct{ Minor uint64 }
			Last4    string
		}
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		r := newest[e.ID]
		if got := doc.names["status"][r.number("status")]; got != e.Status || r.number("stan") != e.STAN || r.text("terminal") != e.Lane.Terminal ||
			r.number("amount") != e.Amount.Minor || r.text("last4") != e.Last4 {
			t.Errorf("entry %d is %v, want %s", e.ID, r, text)
		}
	}
}
