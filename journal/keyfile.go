package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// keyFileMax bounds a file of keys, in bytes: room for keysMax of them and spaces.
const keyFileMax = 16 << 10

// digitsPerKey is how many hex digits a key is written with.
const digitsPerKey = 2 * KeyBytes

// KeyFile reads the device's keys from a file: one a line, in 64 hex digits, the
// current one first, then the older ones; empty lines do not count. The file, or
// what a link leads to, must be an ordinary file that only its owner may read
// (mode 0600 or 0400). It is read once; after a change of keys call KeyFile again.
// Errors wrap ErrKey, and fs.ErrNotExist when there is no file.
func KeyFile(path string) (KeySource, error) {
	where := "key file " + shownName(path)
	text, err := readKeyFile(path)
	if err != nil {
		return nil, keyFault(where, err)
	}
	defer clear(text)
	lines := bytes.Split(text, []byte("\n"))
	ring, err := parseKeys("line", lines)
	if err != nil {
		return nil, keyFault(where, err)
	}
	return ring, nil
}

// KeyEnv reads the device's keys from an environment variable: each in 64 hex
// digits, the current one first, with spaces, commas or line ends between them.
// For tests and CI: every child process inherits the variable, and whoever may
// look at a process of this user can read it. Errors wrap ErrKey.
func KeyEnv(name string) (KeySource, error) {
	where := "environment variable " + shownName(name)
	text := []byte(os.Getenv(name))
	defer clear(text)
	if len(text) > keyFileMax {
		return nil, keyFault(where, keyWrong{fmt.Sprintf("it is longer than %d bytes", keyFileMax), "give the keys only"})
	}
	words := bytes.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n' })
	ring, err := parseKeys("key", words)
	if err != nil {
		return nil, keyFault(where, err)
	}
	return ring, nil
}

// readKeyFile looks at the file that it opened, not at the name: a link or a file
// put in its place meanwhile is judged like any other.
func readKeyFile(path string) ([]byte, error) {
	// Opening a pipe waits for its other end, unless told not to.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unread(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, unread(err)
	}
	mode := info.Mode()
	switch {
	case mode.IsDir():
		return nil, keyWrong{"it is a directory", "name the file in it"}
	case !mode.IsRegular():
		return nil, keyWrong{"it is not an ordinary file", "write the keys into one"}
	case mode.Perm()&0o077 != 0:
		return nil, keyWrong{
			fmt.Sprintf("its mode is %04o, so others than its owner may use it", mode.Perm()),
			"set it to 0600 (chmod 600), and if somebody may have read it put a new key in front",
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, keyFileMax+1))
	if err != nil {
		return nil, unread(err)
	}
	if len(text) > keyFileMax {
		return nil, keyWrong{fmt.Sprintf("it is longer than %d bytes", keyFileMax), "it must hold keys only, one a line"}
	}
	return text, nil
}

// parseKeys makes a ring of keys in hex. It says at which item something is wrong
// and shows nothing of it, not even one character.
func parseKeys(item string, items [][]byte) (*keyRing, error) {
	ring := &keyRing{}
	key := make([]byte, KeyBytes)
	defer clear(key)
	for n, digits := range items {
		digits = bytes.Trim(digits, " \t\r")
		if len(digits) == 0 {
			continue
		}
		if len(digits) != digitsPerKey {
			return nil, keyWrong{
				fmt.Sprintf("%s %d has %d characters", item, n+1, len(digits)),
				fmt.Sprintf("a key is %d hex digits", digitsPerKey),
			}
		}
		if _, err := hex.Decode(key, digits); err != nil {
			return nil, keyWrong{
				fmt.Sprintf("%s %d has a character that is no hex digit", item, n+1),
				fmt.Sprintf("a key is %d of 0 to 9 and a to f", digitsPerKey),
			}
		}
		if err := ring.add(key); err != nil {
			return nil, fmt.Errorf("%s %d: %w", item, n+1, err)
		}
	}
	if len(ring.keys) == 0 {
		return nil, keyWrong{"there is no key", fmt.Sprintf("put one there, %d hex digits drawn by chance", digitsPerKey)}
	}
	return ring, nil
}

// shownName is a name for an error: somebody may have given a key in its place.
func shownName(name string) string {
	run := 0
	for _, c := range name {
		if run++; !strings.ContainsRune("0123456789abcdefABCDEF", c) {
			run = 0
		}
		if run > digitsPerKey/2 {
			return "<hidden: it looks like a key>"
		}
	}
	return name
}

// unread is a file that the system does not give. The name is left out: it was
// said before, or hidden.
func unread(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Errorf("it cannot be read: %w; nothing was changed; it must be there, and readable for this user only (mode 0600)", err)
}
