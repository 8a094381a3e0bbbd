package reversal

import (
	"context"

	"uncharge/journal"
)

// Exchanger sends one message to the host and waits for its answer. Link is the
// one for TCP and TLS; firmware with a modem of its own writes another.
type Exchanger interface {
	// Exchange sends message (packed, without a frame) and hands every message
	// that comes back to accept until accept returns true, the time is up or the
	// line is lost. It returns nil only after accept returned true.
	//
	// The one promise (L4): an error wrapping ErrNotSent means that not one byte
	// of the message was handed to the network. Any doubt is another error:
	// ErrNoAnswer when the answer's time was up, counted from the last byte handed
	// over; anything else when the line was lost.
	//
	// When it has returned, or the process was killed, nothing more of the message
	// may leave: not a byte that a buffer still holds, or a request could reach the
	// host after its reversal. It must end soon after ctx does, and must never let
	// a message that came for one exchange answer another.
	Exchange(ctx context.Context, lane journal.Lane, message []byte, accept func(answer []byte) bool) error
}
