package journal

import (
	"errors"
	"fmt"
	"time"
)

// Errors that a caller branches on.
var (
	// ErrMove: the entry's status does not allow this step. A *MoveError names
	// both states. Nothing was changed.
	ErrMove = errors.New("illegal move")
	// ErrNoEntry: no entry has this id. Nothing was changed.
	ErrNoEntry = errors.New("no such entry")
	// ErrInvalid: a fact is missing, too long or out of range. Nothing was changed.
	ErrInvalid = errors.New("invalid fact")
	// ErrPoisoned: a write failed; the outcome of the step that failed is
	// unknown, and the journal takes no further step (L13).
	ErrPoisoned = errors.New("journal refuses work after a failed write")
	// ErrFull: there is no room for a new sale. Nothing was recorded, and nothing may
	// be sent; what is open can still be settled (L14).
	ErrFull = errors.New("the disk is full")
	// ErrUnfit: no journal can be kept on a file system of this kind.
	ErrUnfit = errors.New("the file system cannot hold a journal")
	// ErrBusy: another process holds the journal. A *LockError names the lock.
	ErrBusy = errors.New("journal is in use")
	// ErrNone: there is no journal in the directory.
	ErrNone = errors.New("no journal here")
	// ErrMissing: this device was commissioned with a journal, and it is not here.
	// None was made in its place (L13).
	ErrMissing = errors.New("the journal is missing")
	// ErrCopied: the journal is not the one of this device. It was not touched.
	ErrCopied = errors.New("the journal of another device")
	// ErrForeign: the file is not a journal of ours. It was not touched.
	ErrForeign = errors.New("not a journal")
	// ErrNewer: written by a newer version. It was not touched.
	ErrNewer = errors.New("journal of a newer version")
	// ErrDamaged: a record or page cannot be read. It was not touched (L13).
	ErrDamaged = errors.New("journal is damaged")
	// ErrWhole: nothing is wrong with the journal, so Quarantine left it as it is.
	ErrWhole = errors.New("the journal is whole")
	// ErrPartial: some entries cannot be read; those that can were returned
	// beside the error, which also wraps ErrDamaged or ErrNewer.
	ErrPartial = errors.New("some entries cannot be read")
	// ErrKey: no device key was given, or the image was sealed under another.
	ErrKey = errors.New("device key missing or wrong")
	// ErrNoImage: the entry's image is gone because nothing needs it any more.
	ErrNoImage = errors.New("no reversal image")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("journal is closed")
)

// MoveError says which move was refused.
type MoveError struct {
	ID       ID
	From, To Status
}

func (e *MoveError) Error() string {
	return fmt.Sprintf("entry %d: illegal move from %s to %s", e.ID, e.From, e.To)
}

// Unwrap returns ErrMove.
func (e *MoveError) Unwrap() error { return ErrMove }

// LockError says which lock was waited for, how long, and who holds it.
type LockError struct {
	Path   string
	Waited time.Duration
	Holder string // process id as the holder wrote it, "" when unknown
}

func (e *LockError) Error() string {
	who := "another process"
	if e.Holder != "" {
		who = "process " + e.Holder
	}
	return fmt.Sprintf("%v: %s holds %s (waited %v)", ErrBusy, who, e.Path, e.Waited)
}

// Unwrap returns ErrBusy.
func (e *LockError) Unwrap() error { return ErrBusy }
