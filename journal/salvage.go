package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Salvaged is what could be read of a damaged journal.
type Salvaged struct {
	Journal string // its ID, "" when it could not be read: then no image opens any more
	Kept    string // directory where Quarantine kept the damaged files
	Entries int    // carried into the new journal
	// Parked are entries that were open when they were last seen and may have been
	// finished by a step that is lost: nothing may be done to them without a person.
	Parked []ID
	// Lost are entries of which nothing but the id is known; at most lostMax of them.
	Lost        []ID
	LostSteps   uint64 // steps that are known to have been taken and cannot be read
	UnreadPages int    // of the store
	// EndUnknown: what held the newest steps is gone or hurt at its end, so that steps
	// may have been taken of which there is no trace. Everything open is parked then,
	// and ids and trace numbers go on at a distance.
	EndUnknown bool

	ledger      map[ID]*found
	steps       map[uint64]ID  // every step that left a trace, and its entry
	rows        map[uint64]row // of the chain; they have no checksum of their own
	newest      uint64         // newest step of which there is a trace
	lastMissing uint64         // newest step that is lost
	lastID      ID
	lanes       map[Lane]laneSeen
	pruned      spans
	anchor      uint64
	kept        map[ID]digest // entries older than the anchor that stayed, nil when that cannot be read
	generation  uint32
	region      int64
	terminal    string
	bootCount   uint32
	journalID   []byte
	fromFormat1 bool
}

// laneSeen is a lane's last trace number, as of a step.
type laneSeen struct {
	last uint32
	at   uint64
}

// found is the newest readable form of an entry.
type found struct {
	rec   *record
	value []byte
	// reached: the store's own newest tree leads to it.
	reached bool
}

const lostMax = 1000

// lastSeq is the step that an entry's form comes from, 0 in format 1.
func lastSeq(rec *record) uint64 {
	if len(rec.Steps) == 0 {
		return 0
	}
	return rec.Steps[len(rec.Steps)-1].Seq
}

// newerThan compares two forms of one entry.
func (f *found) newerThan(other *found) bool {
	switch a, b := lastSeq(f.rec), lastSeq(other.rec); {
	case a != b:
		return a > b
	case f.reached != other.reached:
		return f.reached
	}
	return len(f.rec.Steps) > len(other.rec.Steps) || f.rec.Attempts > other.rec.Attempts
}

// Salvage reads whatever passes its checksum from a journal's files, however damaged
// they are, pages that nothing leads to any more included. It writes nothing.
func Salvage(dir string) (*Salvaged, error) {
	s := &Salvaged{ledger: map[ID]*found{}, steps: map[uint64]ID{}, rows: map[uint64]row{}, lanes: map[Lane]laneSeen{}}
	if err := s.store(filepath.Join(dir, storeName)); err != nil {
		return nil, fmt.Errorf("salvage: %w", err)
	}
	paths, generation, err := walFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("salvage: %w", err)
	}
	s.generation = max(s.generation, generation)
	for _, path := range paths {
		if err := s.frames(path); err != nil {
			return nil, fmt.Errorf("salvage: %w", err)
		}
	}
	if name := filepath.Join(dir, walName(s.generation)); !s.fromFormat1 && !slices.Contains(paths, name) {
		s.EndUnknown = true
	}
	s.judge()
	return s, nil
}

// store reads every page of the store, whether anything leads to it or not.
func (s *Salvaged) store(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the write-ahead file may be there all the same
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if p, err := openPages(f, info.Size()); err == nil {
		s.tree(&around{pages: p})
	}
	unread, err := salvagePages(context.Background(), f, info.Size(), func(k, v []byte) { s.pair(k, v, false) })
	s.UnreadPages = len(unread)
	return err
}

// tree reads what the newest tree leads to.
func (s *Salvaged) tree(t *around) {
	version, _ := checkFormat(t.pages)
	s.fromFormat1 = version == 1
	if id, err := t.get(bucketMeta, keyID); err == nil && len(id) == 16 {
		s.journalID = slices.Clone(id)
	}
	if _, st, err := identify(t.pages); err == nil {
		s.generation, s.region, s.terminal, s.lastID = st.Generation, st.Region, st.Terminal, st.LastID
		s.anchor, s.newest, s.bootCount = st.Anchor, st.Applied, st.Boot
	}
	_ = t.ascend(bucketEntries, nil, func(k, v []byte) bool { s.pair(k, v, true); return true })
	_ = t.ascend(bucketNotes, nil, func(k, v []byte) bool {
		var p pruned
		if len(k) == 8 && unmarshalFrame(&frame{payload: v}, &p) == nil {
			s.prune(p)
		}
		return true
	})
	_ = t.ascend(bucketLanes, nil, func(k, v []byte) bool {
		if len(k) > 1 && int(k[0]) < len(k) {
			lane := Lane{string(k[1 : 1+k[0]]), string(k[1+k[0]:])}
			if last, err := decodeSTAN(lane, v); err == nil {
				s.lanes[lane] = laneSeen{last, s.newest}
			}
		}
		return true
	})
}

// prune notes what a frame took away.
func (s *Salvaged) prune(p pruned) {
	s.pruned = append(s.pruned, p.Gone...)
	for _, r := range p.Gone {
		s.lastID = max(s.lastID, r[1])
	}
	s.lastID = max(s.lastID, max(p.From, 1)-1) // all before From were there
	if p.Anchor != 0 && p.Anchor == s.anchor {
		s.kept = p.digests()
	}
}

// pair takes a key and its value in, if they are a record or a row.
func (s *Salvaged) pair(k, v []byte, reached bool) {
	if string(k) == string(keyState) {
		if st, err := decodeState(v); err == nil { // of any commit: no id, step or boot is counted twice
			s.lastID, s.newest, s.bootCount = max(s.lastID, st.LastID), max(s.newest, st.Applied), max(s.bootCount, st.Boot)
		}
	}
	if len(k) != 8 {
		return
	}
	if rec, err := decode(entryID(k), v); err == nil {
		s.record(rec, v, reached)
		return
	}
	if r, ok := decodeRow(v); ok && r.kind >= frameEntry && r.kind <= frameKey {
		s.rows[binary.BigEndian.Uint64(k)] = r
	}
}

func (s *Salvaged) record(rec *record, value []byte, reached bool) {
	f := &found{rec: rec, value: slices.Clone(value), reached: reached}
	if known := s.ledger[rec.ID]; known == nil || f.newerThan(known) {
		s.ledger[rec.ID] = f
	}
	for _, st := range rec.Steps {
		if st.Seq != 0 {
			s.step(st.Seq, rec.ID)
		}
	}
	if seen := s.lanes[rec.Lane]; rec.LaneLast != 0 && lastSeq(rec) > seen.at {
		s.lanes[rec.Lane] = laneSeen{rec.LaneLast, lastSeq(rec)}
	}
	s.lastID = max(s.lastID, rec.ID)
}

func (s *Salvaged) step(index uint64, entry ID) {
	s.steps[index] = entry
	s.newest = max(s.newest, index)
	s.lastID = max(s.lastID, entry)
}

// frames reads a write-ahead file.
func (s *Salvaged) frames(path string) error {
	if s.journalID == nil {
		s.journalID = headerID(path)
	}
	if !endsClean(path) {
		s.EndUnknown = true
	}
	return salvageFrames(path, func(f *frame) {
		s.newest = max(s.newest, f.synced)
		s.step(f.index, f.entry)
		if rec, err := decode(f.entry, f.payload); f.kind == frameEntry && err == nil {
			s.record(rec, f.payload, true)
		}
		var p pruned
		if f.kind == framePrune && unmarshalFrame(f, &p) == nil {
			s.prune(p)
		}
	})
}

// endsClean reports whether both regions of a write-ahead file have their headers,
// and behind the last frame of each there is nothing, or a frame of an older time.
func endsClean(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	regions, err := readRegions(f)
	if err != nil {
		return false
	}
	for n, b := range regions {
		if len(b) < regionHead {
			return false
		}
		w := &wal{journalID: b[16:32], generation: binary.LittleEndian.Uint32(b[32:]), region: int64(len(b))}
		s, err := w.scanBytes(n, b)
		if err != nil {
			return false
		}
		rest := b[s.end:]
		if _, _, err := parseFrame(rest); err != nil && len(bytes.Trim(rest[:min(len(rest), frameHead)], "\x00")) > 0 {
			return false
		}
	}
	return true
}

// headerID is the journal's id as the header of a region has it.
func headerID(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, headerBytes)
	if _, err := f.ReadAt(b, 0); err != nil || string(b[:8]) != walMagic {
		return nil
	}
	return b[16:32]
}

// formSeq is the step that an entry's form comes from. One that came from format 1
// does not say, and one that was quarantined before says what it was in the journal
// before that: its row knows it again.
func (s *Salvaged) formSeq(f *found, newest uint64) uint64 {
	if r, there := s.rows[newest]; there && r.digest == digestOf(f.value) {
		return newest
	}
	return lastSeq(f.rec)
}

// judge finds what is missing.
func (s *Salvaged) judge() {
	if s.journalID != nil {
		s.Journal = hex.EncodeToString(s.journalID)
	}
	for index, r := range s.rows { // believed within what is known by checksums
		if index <= s.newest && uint64(r.entry) <= index {
			s.step(index, r.entry)
		}
	}
	if !s.fromFormat1 {
		for i := s.anchor + 1; i <= s.newest; i++ {
			if _, there := s.steps[i]; !there {
				s.LostSteps++
				s.lastMissing = i
			}
		}
	}
	newestOf := map[ID]uint64{}
	for index, id := range s.steps {
		newestOf[id] = max(newestOf[id], index)
	}
	s.pruned = s.pruned.merged()
	for id := ID(1); id <= s.lastID && len(s.Lost) < lostMax; id++ {
		_, stayed := s.kept[id]
		if s.ledger[id] == nil && !s.pruned.has(id) && (s.anchor == 0 || stayed || newestOf[id] > s.anchor) {
			s.Lost = append(s.Lost, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.ledger)) {
		f := s.ledger[id]
		if s.pruned.has(id) || s.prunedBefore(f, newestOf[id]) {
			delete(s.ledger, id)
			continue
		}
		// A later step of this very entry left a trace, or a step is lost that may have
		// been one: it may have been finished, and must not be undone unasked.
		seq := s.formSeq(f, newestOf[id])
		late := newestOf[id] > seq || s.lastMissing > seq || s.EndUnknown || s.outlived(f, newestOf[id])
		if s.fromFormat1 {
			late = !f.reached
		}
		if unsettledNow(f.rec.Status) && f.rec.Status != Parked && late {
			s.Parked = append(s.Parked, id)
		}
	}
	s.Entries = len(s.ledger)
}

// A page that was freed, and a frame that was not written over yet, may still have an
// entry that was pruned with its rows, in a form in which it was open: it must not be
// undone. Whatever was settled by the anchor is gone, and what was not is in the list
// of those that were kept.

// prunedBefore reports whether an entry was certainly pruned by the anchor.
func (s *Salvaged) prunedBefore(f *found, newest uint64) bool {
	_, stayed := s.kept[f.rec.ID]
	return s.kept != nil && newest <= s.anchor && !stayed
}

// outlived reports whether all that is known of an entry is older than the anchor, and
// this is not the form in which it was kept.
func (s *Salvaged) outlived(f *found, newest uint64) bool {
	return s.anchor != 0 && newest <= s.anchor && s.kept[f.rec.ID] != digestOf(f.value)
}

// salvageFrames gives every whole frame of a write-ahead file to visit, in the
// order in which they stand, whatever is damaged around them.
func salvageFrames(path string, visit func(*frame)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 2*regionBytesMax {
		return fmt.Errorf("%w: %s is longer than a write-ahead file can be", ErrForeign, path)
	}
	b := make([]byte, info.Size())
	if n, err := io.ReadFull(f, b); err != nil {
		b = b[:n] // what comes after a place that cannot be read is lost
	}
	for at := int64(0); at+frameHead+frameTail <= int64(len(b)); {
		if f, n, err := parseFrame(b[at:]); err == nil {
			visit(f)
			at += n
		} else {
			at += frameAlign
		}
	}
	return nil
}
