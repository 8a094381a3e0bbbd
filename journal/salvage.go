package journal

import (
	"fmt"
	"io"
	"os"
)

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
	if _, err := io.ReadFull(f, b); err != nil {
		return err
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
