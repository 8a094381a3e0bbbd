package iso

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// WriteFrame puts the length (two bytes, big-endian, not counting itself) in
// front of a packed message and hands both to w in one Write, so that a
// connection either saw no byte of it or must be taken to have seen all of it
// (L4).
func (p *Profile) WriteFrame(w io.Writer, packed []byte) error {
	if len(packed) == 0 || len(packed) > p.data.Framing.BytesMax {
		return fmt.Errorf("%w: a message of %d bytes; 1 to %d can be sent", ErrFrame, len(packed), p.data.Framing.BytesMax)
	}
	frame := make([]byte, 2+len(packed))
	binary.BigEndian.PutUint16(frame, uint16(len(packed)))
	copy(frame[2:], packed)
	_, err := w.Write(frame)
	return err
}

// ReadFrame reads one frame and returns the packed message in it. The length is
// checked before anything is allocated. It returns io.EOF when the stream ended
// before the first byte, and an error wrapping ErrFrame for an empty, an
// oversized or a truncated frame. An error of r itself (a deadline) is returned
// or wrapped and can be found with errors.Is.
func (p *Profile) ReadFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it ended inside its length", ErrFrame)
		}
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n == 0 || n > p.data.Framing.BytesMax {
		return nil, fmt.Errorf("%w: it announces %d bytes; 1 to %d are accepted", ErrFrame, n, p.data.Framing.BytesMax)
	}
	packed := make([]byte, n)
	if got, err := io.ReadFull(r, packed); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it announces %d bytes and ended after %d", ErrFrame, n, got)
		}
		return nil, fmt.Errorf("%w: %d of %d bytes came: %w", ErrFrame, got, n, err)
	}
	return packed, nil
}
