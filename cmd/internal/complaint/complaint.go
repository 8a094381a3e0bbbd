// Package complaint turns an error into the one line that a command prints.
package complaint

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
)

// cardLike is a run of digits that may be a card number, as people type them.
// Dots count only between groups of four: an address must stay readable.
var cardLike = regexp.MustCompile(`[0-9]{4}(?:\.[0-9]{4}){2}(?:\.[0-9]+)*|[0-9](?:[ \t_/-]{0,2}[0-9]){11,}`)

// Line is the error in one line. What may be a card number, repeated by a flag
// parser from a mistyped call, is hidden (L11).
func Line(err error) string { return Mask(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// Mask hides what may be a card number in a text.
func Mask(s string) string { return cardLike.ReplaceAllString(s, "<digits>") }

// Flag says in the words of the user what a flag parser found wrong, without the
// names of the functions that found it. The value is not repeated: it may be a
// card number that lost its flag.
func Flag(err error) error {
	var value *pflag.InvalidValueError
	if !errors.As(err, &value) {
		return err
	}
	want := map[string]string{
		"duration": "a length of time such as 30s or 2m", "int": "a whole number", "uint64": "a whole number from 0",
		"bool": "true or false",
	}[value.GetFlag().Value.Type()]
	if want == "" {
		want = "of type " + value.GetFlag().Value.Type()
	}
	return fmt.Errorf("--%s: the value must be %s", value.GetFlag().Name, want)
}

// Writer remembers the first write that failed.
type Writer struct {
	W   io.Writer
	Err error
}

// Write writes to W.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.W.Write(b)
	if err != nil && w.Err == nil {
		w.Err = err
	}
	return n, err
}
