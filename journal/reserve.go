package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

// Space is set aside in advance, so that a full disk strands nothing that is armed
// (L14). The write-ahead file has its blocks from the beginning. The store's file is
// kept longer than it needs to be, with the blocks for it, by what two full regions
// and the settling of everything open can make it grow; a sale that would eat into
// that is refused before it is sent.

// How much the store may grow, in bytes. A region of nothing but attempts leaves
// rows of less than a tenth of it behind; sixteen such regions are some ten thousand
// attempts, by which time somebody has come to see to the disk.
const (
	growthPerFrameByte = 2        // record, row, index, and pages that are rewritten
	settleEach         = 32 << 10 // pages that the steps of one open entry rewrite
	settleBase         = 256 << 10
	attemptRegions     = 16
	attemptShare       = 10 // a region of attempts leaves a tenth of it behind
)

// Where overwriting a file needs new blocks, free space is the reserve, and a
// ballast that is given up for the steps that settle.
const (
	freeFloor = 2 << 20 // below it no sale is begun
	ballast   = 512 << 10
)

// NoticeKind says what a Notice is about.
type NoticeKind string

// The kinds.
const (
	NoticeDisk       NoticeKind = "disk"        // the file system is at least 80 % full
	NoticeBallast    NoticeKind = "ballast"     // the disk is full; the ballast was given up to settle what is open
	NoticeFastCommit NoticeKind = "fast-commit" // an ext4 whose fast_commit may not survive a power cut
)

// Notice is something about the journal's disk that somebody should see to.
type Notice struct {
	Kind NoticeKind
	Text string // what happened, what is safe, what to do
}

const diskWarnPercent = 80

// notify tells whoever opened the journal. Nothing is locked meanwhile.
func (j *Journal) notify(kind NoticeKind, format string, args ...any) {
	if j.notice != nil {
		j.notice(Notice{kind, fmt.Sprintf(format, args...)})
	}
}

// watchDisk tells, once, that the disk fills up.
func (j *Journal) watchDisk() {
	if used, err := j.used(j.dir); err == nil && used >= diskWarnPercent && !j.warned.Swap(true) {
		j.notify(NoticeDisk, "the disk under %s is %d %% full; every sale is still recorded: make room, or new sales will be refused", j.dir, used)
	}
}

// settleBytes is what the store needs to settle so many open entries.
func (j *Journal) settleBytes(open int) int64 {
	return settleBase + int64(open)*settleEach + attemptRegions*j.wal.region/attemptShare
}

// needed is what the store's file must have in hand for a sale to be begun beside so
// many open entries.
func (j *Journal) needed(open int) int64 {
	return j.settleBytes(open) + 2*growthPerFrameByte*j.wal.region
}

// space is how a store's file is filled.
type space struct{ file, tree, free int64 } // its length; up to the last page there is; freed pages before that

// spare is what the store can take in without another block of the disk.
func (s space) spare() int64 { return s.file - s.tree + s.free }

// used is what the store takes.
func (s space) used() int64 { return s.tree - s.free }

func (s *store) space() (out space, err error) {
	err = s.contained(func() error {
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		return s.db.View(func(tx *bolt.Tx) error {
			stats := s.db.Stats()
			out = space{info.Size(), tx.Size(), int64(stats.FreePageN+stats.PendingPageN) * int64(s.db.Info().PageSize)}
			return nil
		})
	})
	return out, err
}

// topUp makes the store's file as long as it should be for so many open entries. A
// full disk is not an error: room is what was there before.
func (j *Journal) topUp(open int) error {
	room, err := j.store.space()
	if err != nil {
		return err
	}
	if want := j.needed(2*open + 8); room.spare() < want {
		switch err := allocate(j.store.file, room.tree+want); {
		case err == nil:
			if room, err = j.store.space(); err != nil {
				return err
			}
		case !noRoom(err):
			return err
		}
	}
	j.spare.Store(room.spare())
	return nil
}

// roomFor refuses a sale for which there is no room (L14). The caller holds mu.
func (j *Journal) roomFor(open int) error {
	if j.spare.Load() < j.needed(open) {
		if j.applying {
			return errWait // it changes the file's length, and tops up when it has ended
		}
		if err := j.topUp(open); err != nil {
			return err
		}
	}
	if short := j.needed(open) - j.spare.Load(); short > 0 {
		return fmt.Errorf("%w: %d KB are missing; nothing was recorded or sent, and what is open can still be settled: make room on the disk under %s", ErrFull, short>>10+1, j.dir)
	}
	if !j.moves {
		return nil
	}
	if free, err := j.free(j.dir); err == nil && free < freeFloor {
		return fmt.Errorf("%w: %d KB are free, %d KB must be; nothing was recorded or sent: make room on the disk under %s", ErrFull, free>>10, int64(freeFloor)>>10, j.dir)
	}
	return nil
}

// makeBallast puts a file in the directory that takes up space until it is needed.
// Random bytes: some of these file systems compress.
func (j *Journal) makeBallast() error {
	path := filepath.Join(j.dir, ballastName)
	if info, err := os.Stat(path); err == nil && info.Size() == ballast {
		return nil
	}
	if free, err := j.free(j.dir); err != nil || free < freeFloor+ballast {
		return err
	}
	b := make([]byte, ballast)
	if _, err := rand.Read(b); err != nil {
		return err
	}
	err := os.WriteFile(path, b, 0o600)
	if noRoom(err) {
		return os.Remove(path)
	}
	return err
}

// noRoom reports whether an error says that there is no space for this file.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// giveUpBallast makes room for a step that settles when there is next to none. Where
// it cannot be removed the step says for itself whether it could be written.
func (j *Journal) giveUpBallast() {
	if free, err := j.free(j.dir); err != nil || free >= ballast {
		return
	}
	if os.Remove(filepath.Join(j.dir, ballastName)) == nil {
		go j.notify(NoticeBallast, "the disk under %s is full; what is open is still settled, new sales are refused: make room", j.dir)
	}
}

// settleIn prepares the disk when a journal is opened.
func (j *Journal) settleIn() error {
	kind, err := fsKindOf(j.dir)
	if err != nil {
		return err
	}
	if j.moves = kind.movesBlocks(); j.moves {
		if err := j.makeBallast(); err != nil {
			return err
		}
	}
	var open []*record
	for _, name := range [][]byte{bucketOpen, bucketParked} {
		records, _, err := j.unsettled(name)
		if err != nil {
			return err
		}
		open = append(open, records...)
	}
	j.open = len(open) // what was under way when writing failed may not have happened
	j.numbers.useOnly(open)
	return j.topUp(j.open)
}

// count notes that an entry that may still need steps is there (1) or is not any
// more (-1), and that its trace numbers are in use. The caller holds mu, or nobody
// else has the journal yet.
func (j *Journal) count(rec *record, n int) {
	j.open += n
	j.numbers.use(rec, n)
}

// unsettledNow reports whether an entry in a status may still need steps.
func unsettledNow(s Status) bool { return s == Begun || s == Owed || s == Parked }
