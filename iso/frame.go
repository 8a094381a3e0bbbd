package iso

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// lengthsMax is the largest number that each kind of length can say.
var lengthsMax = map[string]int{"binary2": 65535, "bcd2": 9999, "ascii4": 9999}

// lengthBytes is how many bytes each kind of length takes.
var lengthBytes = map[string]int{"binary2": 2, "bcd2": 2, "ascii4": 4}

// Envelope is what stands between the length and the message, as upper-case hex;
// both parts are empty where the profile has none.
type Envelope struct {
	TPDU   string // 60, destination 4, source 4
	Header string // at UnionPay: application 2, software 2, state 1, host request 1, sub-version 6
}

// Outgoing is the envelope of a request.
func (p *Profile) Outgoing() Envelope { return Envelope{p.data.Framing.TPDU, p.data.Framing.Header} }

// Reply is the envelope of the answer to e: destination and source change places,
// the rest is echoed (PROTOCOL G).
func (e Envelope) Reply() Envelope {
	if len(e.TPDU) == 10 {
		e.TPDU = e.TPDU[:2] + e.TPDU[6:] + e.TPDU[2:6]
	}
	return e
}

// HostRequest is what the host asks for in the header of its answer, by the
// profile's name for it: "sign-on", "parameters" …; "" for nothing.
func (p *Profile) HostRequest(e Envelope) string {
	f := p.data.Framing
	if f.RequestDigit == 0 || len(e.Header) < f.RequestDigit {
		return ""
	}
	return f.Requests[e.Header[f.RequestDigit-1:f.RequestDigit]]
}

// WithHostRequest puts a request of the host into a header: what a host does.
func (p *Profile) WithHostRequest(e Envelope, request string) Envelope {
	f := p.data.Framing
	for digit, name := range f.Requests {
		if name == request && f.RequestDigit > 0 && len(e.Header) >= f.RequestDigit {
			e.Header = e.Header[:f.RequestDigit-1] + digit + e.Header[f.RequestDigit:]
		}
	}
	return e
}

// WriteFrame puts the length and the profile's envelope in front of a packed
// request and hands all to w in one Write, so that a connection either saw no
// byte of it or must be taken to have seen all of it (L4).
func (p *Profile) WriteFrame(w io.Writer, packed []byte) error {
	return p.WriteFrameIn(w, p.Outgoing(), packed)
}

// WriteFrameIn is WriteFrame with an envelope of the caller's.
func (p *Profile) WriteFrameIn(w io.Writer, e Envelope, packed []byte) error {
	f := p.data.Framing
	inside, err := hex.DecodeString(e.TPDU + e.Header)
	if err != nil || len(e.TPDU) != len(f.TPDU) || len(e.Header) != len(f.Header) {
		return fmt.Errorf("%w: the envelope is not one of profile %s", ErrFrame, p.data.Name)
	}
	n := len(inside) + len(packed)
	if len(packed) == 0 || n > f.BytesMax {
		return fmt.Errorf("%w: a message of %d bytes; 1 to %d can be sent", ErrFrame, len(packed), f.BytesMax-len(inside))
	}
	frame := make([]byte, 0, lengthBytes[f.Length]+n)
	frame = append(frame, f.length(n)...)
	frame = append(frame, inside...)
	frame = append(frame, packed...)
	_, err = w.Write(frame)
	return err
}

// length writes how many bytes follow it.
func (f framingData) length(n int) []byte {
	if f.CountsItself {
		n += lengthBytes[f.Length]
	}
	switch f.Length {
	case "bcd2":
		return []byte{byte(n/1000<<4 | n/100%10), byte(n/10%10<<4 | n%10)}
	case "ascii4":
		return fmt.Appendf(nil, "%04d", n)
	}
	return binary.BigEndian.AppendUint16(nil, uint16(n))
}

// announced inverts length; -1 is no length.
func (f framingData) announced(head []byte) int {
	n := 0
	switch f.Length {
	case "binary2":
		n = int(binary.BigEndian.Uint16(head))
	case "bcd2":
		text := hex.EncodeToString(head)
		if !digits(text) {
			return -1
		}
		n, _ = strconv.Atoi(text)
	case "ascii4":
		if !digits(string(head)) {
			return -1
		}
		n, _ = strconv.Atoi(string(head))
	}
	if f.CountsItself {
		n -= lengthBytes[f.Length]
	}
	return n
}

// ReadFrame reads one frame and returns the packed message in it. The length is
// checked before anything is allocated. It returns io.EOF when the stream ended
// before the first byte, and an error wrapping ErrFrame for an empty, an
// oversized or a truncated frame, or one without the profile's envelope. An error
// of r itself (a deadline) is returned or wrapped and can be found with
// errors.Is.
func (p *Profile) ReadFrame(r io.Reader) ([]byte, error) {
	_, packed, err := p.ReadFrameIn(r)
	return packed, err
}

// ReadFrameIn is ReadFrame and tells the envelope too.
func (p *Profile) ReadFrameIn(r io.Reader) (Envelope, []byte, error) {
	f := p.data.Framing
	var room [4]byte
	head := room[:lengthBytes[f.Length]]
	if _, err := io.ReadFull(r, head); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Envelope{}, nil, fmt.Errorf("%w: it ended inside its length", ErrFrame)
		}
		return Envelope{}, nil, err
	}
	inside := (len(f.TPDU) + len(f.Header)) / 2
	n := f.announced(head)
	switch {
	case n < 0:
		return Envelope{}, nil, fmt.Errorf("%w: its length is not one", ErrFrame)
	case n <= inside || n > f.BytesMax:
		return Envelope{}, nil, fmt.Errorf("%w: it announces %d bytes; %d to %d are accepted", ErrFrame, n, inside+1, f.BytesMax)
	}
	body := make([]byte, n)
	if got, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return Envelope{}, nil, fmt.Errorf("%w: it announces %d bytes and ended after %d", ErrFrame, n, got)
		}
		return Envelope{}, nil, fmt.Errorf("%w: %d of %d bytes came: %w", ErrFrame, got, n, err)
	}
	text := strings.ToUpper(hex.EncodeToString(body[:inside]))
	e := Envelope{text[:len(f.TPDU)], text[len(f.TPDU):]}
	if f.TPDU != "" && e.TPDU[:2] != f.TPDU[:2] {
		return Envelope{}, nil, fmt.Errorf("%w: it has no TPDU", ErrFrame)
	}
	return e, body[inside:], nil
}
