// Package complaint turns an error into the one line that a command prints.
package complaint

import (
	"regexp"
	"strings"
)

// cardLike is a run of digits that may be a card number, as people type them.
var cardLike = regexp.MustCompile(`[0-9](?:[ -]?[0-9]){11,}`)

// Line is the error in one line. What may be a card number, repeated by a flag
// parser from a mistyped call, is hidden (L11).
func Line(err error) string { return Mask(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// Mask hides what may be a card number in a text.
func Mask(s string) string { return cardLike.ReplaceAllString(s, "<digits>") }
