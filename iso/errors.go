package iso

import (
	"errors"
	"fmt"
)

// Errors that a caller branches on. None of them, and nothing that wraps them,
// carries a field's value or a raw message (L11).
var (
	// ErrUndecodable: the bytes are not a message of this profile.
	ErrUndecodable = errors.New("message cannot be decoded")
	// ErrUnmatched: a good message, but not the answer to this request (L5).
	ErrUnmatched = errors.New("answer does not belong to this request")
	// ErrInvalid: a value cannot be part of a message (bad PAN, amount, length …).
	ErrInvalid = errors.New("invalid value")
	// ErrUnknownProfile: no profile has this name.
	ErrUnknownProfile = errors.New("unknown profile")
	// ErrProfile: a profile file is not one that can be used.
	ErrProfile = errors.New("profile")
	// ErrFrame: the length in front of a message is not one we accept, or the
	// frame ended early.
	ErrFrame = errors.New("bad frame")
)

// FieldError names the data element that is at fault, and why, never its value.
// Field 0 is the MTI, field 1 the bitmap.
type FieldError struct {
	Kind   error // ErrUndecodable, ErrUnmatched or ErrInvalid
	Field  int
	Why    string
	Offset int // with ErrUndecodable: the byte of the message where it begins
}

func (e *FieldError) Error() string {
	at := ""
	if errors.Is(e.Kind, ErrUndecodable) {
		at = fmt.Sprintf(" (at byte %d)", e.Offset)
	}
	return fmt.Sprintf("%v: %s %s%s", e.Kind, fieldLabel(e.Field), e.Why, at)
}

// Unwrap returns the kind, so that errors.Is(err, ErrUnmatched) works.
func (e *FieldError) Unwrap() error { return e.Kind }

func fieldLabel(de int) string {
	switch de {
	case 0:
		return "MTI"
	case 1:
		return "bitmap"
	}
	return fmt.Sprintf("DE %d", de)
}

func invalid(de int, format string, args ...any) error {
	return &FieldError{Kind: ErrInvalid, Field: de, Why: fmt.Sprintf(format, args...)}
}
