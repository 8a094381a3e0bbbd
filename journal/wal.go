package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The write-ahead file: two regions of one preallocated file, filled in turn. A
// step is one frame, one write and one fdatasync in the region being filled; the
// other is given back once the store has what stands in it. FORMAT.md gives the
// bytes.

const (
	walMagic    = "unchgwal"
	walVersion  = 1
	regionHead  = 4096 // the header has a page of its own: it is never written together with frames
	headerBytes = 512  // one sector: whole or not at all
	// RegionBytesDefault is half of the write-ahead file: some 380 sales.
	RegionBytesDefault = 256 << 10
	// RegionBytesMin leaves room for the largest entry.
	RegionBytesMin = 32 << 10
	regionBytesMax = 64 << 20
)

// dataFile is what the journal needs of an open file. Tests put a failing disk
// here.
type dataFile interface {
	io.ReaderAt
	io.WriterAt
	Datasync() error
	Close() error
}

// osFile is a file of the operating system.
type osFile struct{ *os.File }

// Datasync is fdatasync(2).
func (f osFile) Datasync() error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// wal is an open write-ahead file.
type wal struct {
	file       dataFile // frames
	headers    dataFile // the same file opened again: each open file hears of a failed sync once
	path       string
	journalID  []byte
	generation uint32
	region     int64 // bytes of one region
}

func walName(generation uint32) string { return fmt.Sprintf("journal.wal.%06d", generation) }

// walFiles lists the write-ahead files of a directory and the newest generation of
// them. What only looks like one is somebody else's.
func walFiles(dir string) (paths []string, newest uint32, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		var generation uint32
		if _, err := fmt.Sscanf(e.Name(), "journal.wal.%d", &generation); err != nil || !e.Type().IsRegular() || e.Name() != walName(generation) {
			continue
		}
		paths, newest = append(paths, filepath.Join(dir, e.Name())), max(newest, generation)
	}
	return paths, newest, nil
}

// header is the first sector of a region.
func (w *wal) header(epoch uint32) []byte {
	b := append(make([]byte, 0, headerBytes), walMagic...)
	b = append(b, walVersion, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, w.journalID...)
	b = binary.LittleEndian.AppendUint32(b, w.generation)
	b = binary.LittleEndian.AppendUint32(b, uint32(w.region))
	b = binary.LittleEndian.AppendUint32(b, epoch)
	b = append(b, make([]byte, headerBytes-4-len(b))...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// epochOf is the epoch that a header says, whatever else is wrong with it.
func epochOf(header string) uint32 {
	if len(header) < 44 {
		return 0
	}
	return binary.LittleEndian.Uint32([]byte(header[40:44]))
}

// parseHeader gives a region's epoch. It must be a region of this journal.
func (w *wal) parseHeader(b []byte) (uint32, error) {
	if len(b) < headerBytes {
		return 0, fmt.Errorf("%w: a region's header is cut", ErrDamaged)
	}
	b = b[:headerBytes]
	if crc32.Checksum(b[:headerBytes-4], castagnoli) != binary.LittleEndian.Uint32(b[headerBytes-4:]) || string(b[:8]) != walMagic {
		return 0, fmt.Errorf("%w: a region's header does not hold together", ErrDamaged)
	}
	if b[8] != walVersion {
		return 0, fmt.Errorf("%w: write-ahead file version %d, this program knows %d", ErrNewer, b[8], walVersion)
	}
	if string(b[16:32]) != string(w.journalID) || binary.LittleEndian.Uint32(b[32:]) != w.generation {
		return 0, fmt.Errorf("%w: the write-ahead file belongs to another journal", ErrDamaged)
	}
	if int64(binary.LittleEndian.Uint32(b[36:])) != w.region {
		return 0, fmt.Errorf("%w: the write-ahead file has regions of another size", ErrDamaged)
	}
	return binary.LittleEndian.Uint32(b[40:]), nil
}

// createWAL makes a write-ahead file, zero-filled, both regions prepared, and
// syncs it. Its name becomes durable when the caller syncs the directory. A
// leftover of that name belongs to no store and is removed.
func createWAL(dir string, journalID []byte, generation uint32, region int64, epoch uint32) (err error) {
	path := filepath.Join(dir, walName(generation))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := &wal{osFile{f}, osFile{f}, path, journalID, generation, region}
	zero := make([]byte, min(region, 1<<20))
	for at := int64(0); at < 2*region && err == nil; at += int64(len(zero)) {
		_, err = f.WriteAt(zero[:min(int64(len(zero)), 2*region-at)], at)
	}
	for n := range 2 {
		if err == nil {
			err = w.writeHeader(n, epoch+uint32(n))
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// openWAL opens the write-ahead file that the store names.
func openWAL(dir string, journalID []byte, st storeState, readOnly bool) (*wal, error) {
	path := filepath.Join(dir, walName(st.Generation))
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	var again *os.File
	if err == nil {
		if again, err = os.OpenFile(path, flag, 0); err != nil {
			_ = f.Close()
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing; the newest steps were in it", ErrDamaged, path)
	}
	if err != nil {
		return nil, err
	}
	w := &wal{osFile{f}, osFile{again}, path, journalID, st.Generation, st.Region}
	info, err := f.Stat()
	if err == nil && info.Size() != 2*st.Region {
		err = fmt.Errorf("%w: %s has %d bytes, not %d", ErrDamaged, path, info.Size(), 2*st.Region)
	}
	if err != nil {
		_ = w.close()
		return nil, err
	}
	return w, nil
}

func (w *wal) close() error { return errors.Join(w.file.Close(), w.headers.Close()) }

func (w *wal) start(region int) int64 { return int64(region) * w.region }

// writeHeader begins a region anew; the caller syncs headers.
func (w *wal) writeHeader(region int, epoch uint32) error {
	_, err := w.headers.WriteAt(w.header(epoch), w.start(region))
	return err
}

// scanned is what a region holds.
type scanned struct {
	epoch  uint32
	frames []*frame // whole, one behind the other
	end    int64    // where the next frame goes, from the region's start
	bytes  []byte   // of the region up to there
	// synced is the newest frame that any whole frame of the region, also one behind
	// a place that is torn or damaged, says was durable before it.
	synced uint64
}

// scan reads a region. Only its header can make it fail: what stands behind the
// last whole frame is judged by whoever knows both regions and the store.
func (w *wal) scan(region int) (scanned, error) {
	b := make([]byte, w.region)
	if _, err := w.file.ReadAt(b, w.start(region)); err != nil {
		return scanned{}, fmt.Errorf("%w: %s: %w", ErrDamaged, w.path, err)
	}
	return w.scanBytes(region, b)
}

func (w *wal) scanBytes(region int, b []byte) (scanned, error) {
	epoch, err := w.parseHeader(b)
	if err != nil {
		return scanned{}, fmt.Errorf("%s, region %d: %w", w.path, region, err)
	}
	s := scanned{epoch: epoch, end: regionHead}
	var before frame
	for {
		f, n, err := parseFrame(b[s.end:])
		if errors.Is(err, ErrNewer) {
			return scanned{}, fmt.Errorf("%s, region %d: %w", w.path, region, err)
		}
		if err != nil || f.epoch != epoch || f.before != before.sum || len(s.frames) > 0 && f.index != before.index+1 {
			break
		}
		s.frames, before = append(s.frames, f), *f
		s.end += n
		s.synced = max(s.synced, f.synced)
	}
	s.bytes = b[:s.end]
	for at := s.end; at+frameHead <= int64(len(b)); at += frameAlign {
		if binary.LittleEndian.Uint32(b[at+8:]) != epoch { // cheap: few places look like a frame of this epoch
			continue
		}
		if f, _, err := parseFrame(b[at:]); err == nil && f.epoch == epoch {
			s.synced = max(s.synced, f.synced)
		}
	}
	return s, nil
}

// tailOf gives the frames that the store has not got, in order, and judges what
// is behind them. A power cut may tear what was written in the last unfinished
// write, and nothing else: where a whole frame says that a missing one was durable
// before it, the file is damaged (L13).
func tailOf(regions [2]scanned, applied uint64) ([]*frame, error) {
	older, newer := regions[0], regions[1]
	if older.epoch > newer.epoch {
		older, newer = newer, older
	}
	if newer.epoch != older.epoch+1 {
		return nil, fmt.Errorf("%w: the regions of the write-ahead file do not follow each other", ErrDamaged)
	}
	last := applied
	var frames []*frame
	for _, f := range append(older.frames[:len(older.frames):len(older.frames)], newer.frames...) {
		if f.index <= applied {
			continue
		}
		if f.index != last+1 {
			break
		}
		frames, last = append(frames, f), f.index
	}
	if durable := max(older.synced, newer.synced); durable > last {
		return frames, fmt.Errorf("%w: steps %d to %d were durable and cannot be read", ErrDamaged, last+1, durable)
	}
	return frames, nil
}

// unapplied reads both regions and gives the frames that the store has not got.
func (w *wal) unapplied(st storeState) (regions [2]scanned, frames []*frame, err error) {
	for n := range regions {
		if regions[n], err = w.scan(n); err != nil {
			return regions, nil, err
		}
	}
	frames, err = tailOf(regions, st.Applied)
	if err != nil {
		return regions, nil, fmt.Errorf("%s: %w", w.path, err)
	}
	return regions, frames, nil
}

// writeBack writes again what the store has not got, and both headers, and syncs
// them: a page that a failed sync has left clean is written only then.
func (w *wal) writeBack(regions [2]scanned, applied uint64) error {
	for n, s := range regions {
		if _, err := w.file.WriteAt(s.bytes[:headerBytes], w.start(n)); err != nil {
			return err
		}
		from := int64(regionHead)
		for _, f := range s.frames {
			if f.index > applied {
				break
			}
			from += frameBytes(len(f.payload))
		}
		if from == s.end {
			continue
		}
		if _, err := w.file.WriteAt(s.bytes[from:s.end], w.start(n)+from); err != nil {
			return err
		}
	}
	return w.file.Datasync()
}
