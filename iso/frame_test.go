package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// writes counts the calls of Write.
type writes struct {
	bytes.Buffer
	n int
}

func (w *writes) Write(b []byte) (int, error) { w.n++; return w.Buffer.Write(b) }

func TestFrames(t *testing.T) {
	p := profile(t)
	for _, n := range []int{1, 2, 255, 256, 4096} {
		var w writes
		packed := bytes.Repeat([]byte{'x'}, n)
		if err := p.WriteFrame(&w, packed); err != nil {
			t.Fatal(err)
		}
		if w.n != 1 {
			t.Errorf("%d bytes went in %d writes; L4 wants one", n, w.n)
		}
		if got := w.Bytes(); int(got[0])<<8|int(got[1]) != n {
			t.Errorf("%d bytes are announced as %x", n, got[:2])
		}
		slow := iotest.OneByteReader(bytes.NewReader(append(w.Bytes(), 0, 1, 'y')))
		for _, want := range []string{string(packed), "y"} {
			if got, err := p.ReadFrame(slow); err != nil || string(got) != want {
				t.Fatalf("read back %d bytes, %v", len(got), err)
			}
		}
		if _, err := p.ReadFrame(slow); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestFramesRefused(t *testing.T) {
	p := profile(t)
	for name, in := range map[string]string{
		"empty":         "\x00\x00",
		"oversized":     "\x10\x01" + strings.Repeat("x", 4097),
		"lying":         "\xff\xff",
		"half a length": "\x00",
		"length only":   "\x00\x05",
		"truncated":     "\x00\x05abc",
	} {
		if got, err := p.ReadFrame(strings.NewReader(in)); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	broken := errors.New("line")
	if _, err := p.ReadFrame(io.MultiReader(strings.NewReader("\x00\x05ab"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("the reader's own error is lost: %v", err)
	}
	for _, n := range []int{0, 4097} {
		var w writes
		if err := p.WriteFrame(&w, make([]byte, n)); !errors.Is(err, ErrFrame) || w.n != 0 {
			t.Errorf("%d bytes: %v after %d writes", n, err, w.n)
		}
	}
}

// What announces 65535 bytes and sends none must not make us hold 65535 bytes.
func TestFrameAllocatesWhatItAccepts(t *testing.T) {
	p := profile(t)
	in := []byte("\xff\xff")
	if n := testing.AllocsPerRun(100, func() { _, _ = p.ReadFrame(bytes.NewReader(in)) }); n > 12 {
		t.Errorf("%v allocations for a refused frame", n)
	}
}

// A length that counts itself must be able to say so of the largest message.
func TestLargestFrameThatCountsItself(t *testing.T) {
	for length, most := range lengthsMax {
		rest := fmt.Sprintf(`"framing": {"length": %q, "countsItself": true, "bytesMax": %d}`, length, most)
		refused(t, "iso87-ascii", rest, "framing.bytesMax")
	}
}
